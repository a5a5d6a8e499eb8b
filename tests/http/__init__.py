"""Tests of `idiolectd.http`."""
