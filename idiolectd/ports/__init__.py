"""What the rooms above and below agree on: the protocols of a store and of a refresher."""

from idiolectd.ports.refresher import (
    Answer,
    Arrived,
    Doubtful,
    NotRevoked,
    Prepared,
    Probe,
    Refresher,
    SplitRefresher,
    Taken,
)
from idiolectd.ports.store import (
    FULL_BATCH,
    NOWHERE,
    Committed,
    Due,
    Entry,
    OAuthTokenStore,
    SharedStore,
    Spill,
    Spilled,
    Survey,
    Watch,
)

__all__ = [
    "FULL_BATCH",
    "NOWHERE",
    "Answer",
    "Arrived",
    "Committed",
    "Doubtful",
    "Due",
    "Entry",
    "NotRevoked",
    "OAuthTokenStore",
    "Prepared",
    "Probe",
    "Refresher",
    "SharedStore",
    "Spill",
    "Spilled",
    "SplitRefresher",
    "Survey",
    "Taken",
    "Watch",
]
