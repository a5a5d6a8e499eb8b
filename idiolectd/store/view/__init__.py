"""What client programs read in place of the store: every session without its refresh token.

No client library can end a session with what is in it, no reader can hold up a writer, and a sealed store needs
no key in client programs. A view is derived: the daemon writes it after each durable change and anew at its start,
never reads it back, and loses nothing with it.
"""
