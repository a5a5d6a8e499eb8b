"""The bugs that `tests.torture.planted` plants, by where they are."""

from tests.torture.plants import (
    arriving,
    borders,
    copies,
    disk,
    identity,
    judging,
    locks,
    losing,
    network,
    places,
    scheduling,
    secrecy,
    sending,
    shared,
    silence,
    verdicts,
)
from tests.torture.plants.plant import Edit, MisfitError, Plant, plant_into, take_out

PLANTS: tuple[Plant, ...] = (
    *disk.PLANTS,
    *locks.PLANTS,
    *sending.PLANTS,
    *arriving.PLANTS,
    *copies.PLANTS,
    *losing.PLANTS,
    *judging.PLANTS,
    *network.PLANTS,
    *identity.PLANTS,
    *scheduling.PLANTS,
    *secrecy.PLANTS,
    *shared.PLANTS,
    *silence.PLANTS,
    *places.PLANTS,
    *borders.PLANTS,
    *verdicts.PLANTS,
)

__all__ = ["PLANTS", "Edit", "MisfitError", "Plant", "plant_into", "take_out"]
