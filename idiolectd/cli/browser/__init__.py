"""A login by way of the browser: opening it, waiting for its answer, and the pages it shows at the end.

Knows terminals, sockets and HTML. What is asked for and what an answer means, the room `oauth` knows.
"""
