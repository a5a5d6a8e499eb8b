"""Logs in by the browser: opens it, waits for the authorization response, and shows a page at the end.

Works with terminals, sockets and HTML. `idiolectd.oauth` makes the request and reads the response.
"""
