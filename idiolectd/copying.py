"""Makes and copies frozen dataclasses, at a tenth of what `dataclasses` needs for it.

The `__init__` of a frozen dataclass sets each field by a call of its own. A session and its refresh state have
dozens of fields, and are copied some twenty times a refresh.

For plain dataclasses only: frozen, without slots and without `__post_init__`.
"""

from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

T = TypeVar("T")

if TYPE_CHECKING:
    from dataclasses import replace as replace  # so that fields and their types are checked
else:

    def replace(record: T, /, **changes: Any) -> T:
        """As `dataclasses.replace`. A cached property stays if what it comes from (`derived_from`) does."""
        made = object.__new__(type(record))
        values = made.__dict__
        values.update(record.__dict__)
        for name, source in _derived(type(record)).items():
            if source is None or source in changes:
                values.pop(name, None)
        values.update(changes)
        return made


def built(kind: type[T], values: Mapping[str, Any]) -> T:
    """An instance with these values, which must be those of all fields."""
    made = object.__new__(kind)
    made.__dict__.update(values)
    return made


@lru_cache
def _derived(kind: type) -> Mapping[str, str | None]:
    """The cached properties of a class, each with the one field that it comes from; None: not said."""
    sources: Mapping[str, str] = getattr(kind, "derived_from", {})
    return {
        name: sources.get(name)
        for each in kind.__mro__
        for name, value in vars(each).items()
        if isinstance(value, cached_property)
    }
