"""Tests of `idiolectd.xrpc`."""
