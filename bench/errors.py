"""What ends a benchmark."""


class BenchError(Exception):
    """A measurement went wrong: its figures would mean nothing. The message says what to do."""


class NotMeasured(Exception):
    """Something that this machine does not have is needed. The message says what."""


class DueTooSoon(BenchError):
    """The sessions became due while the daemon still looked at them: it has to be given more time."""
