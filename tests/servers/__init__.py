"""Servers that misbehave, and the whole house before them.

``python -m tests.servers`` prints a table: one line for each kind of misbehaviour.
"""
