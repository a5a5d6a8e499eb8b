"""Benchmarks: what a refresh, a start and a command cost, beside peers and limits measured in the same run.

    python -m bench                  everything, and writes docs/benchmarks.md
    python -m bench NAME... --quick  some measures, small, as a table on standard output

The way of a measure: `endpoint` is the server that is never the limit, `seeding` writes the sessions
of a store, `daemon` runs ``idiolectd run`` on it (`peers` runs what it is compared with), `processes`
reads what they used, `measuring` collects the figures of some rounds and `report` writes them down.
Only the command line, the configuration and the names at the top of the package are used of
idiolectd, so that its inside may change below a measure that stays the same.
"""
