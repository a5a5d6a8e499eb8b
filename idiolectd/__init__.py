"""Keeps every stored ATProto session of a host alive."""

__version__ = "0.1.0"
