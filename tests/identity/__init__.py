"""Tests of `idiolectd.identity`."""
