"""The tests, by the room that they are about, and what all of them share.

Words that mean the same everywhere:

- *clock*: `tests.clock.VirtualClock`, wall-clock time that only the test moves. Sleeps follow it where the
  event loop's clock is trio's `MockClock`.
- *House*: our own parts, put together over servers that a test controls. `tests.parts` puts them together as
  the product does; a folder's `House` has as many of them as its tests need.
- *simulator*: `tests.simulator`, an authorization server, PDS and PLC directory in one; strict: a refresh token
  that comes twice ends its session. Demo, torture and machines use it too.
- *fake server*: `tests.support.FakeServer`, a refresher without HTTP, for tests of the engine and above.
- *plant*: a bug that `tests.torture.planted` puts into a copy of the package, to see its test fail.
"""
