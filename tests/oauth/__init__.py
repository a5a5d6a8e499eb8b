"""Tests of `idiolectd.oauth`."""
