"""Builds what an operator installs: the environment, the Debian package, its manual pages."""
