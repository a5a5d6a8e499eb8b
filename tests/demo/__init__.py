"""`make demo`: the main job on real traffic, on loopback.

A simulator process, 40 sessions of both kinds in a SQLite store, the daemon as its own process, and
four client processes that read the store and call the PDS all the time.
"""
