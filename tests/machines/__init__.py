"""Machines that try what nobody thought of: stores against a model, the house against a strict server, parsers.

``TORTURE=1`` makes every one of them run long, with new examples each time.
"""
