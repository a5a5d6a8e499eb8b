"""Keeps every stored ATProto session of a host alive."""
