"""`SessionAuth` for HTTP libraries, each in a module of its library's name, and the ``atproto`` SDK's client.

A module imports its library; nothing else here does, so a program needs only the one that it uses. What is
decided about a request is decided in `idiolectd.auth`; the adapters send, and read bodies.
"""
