"""Notes: what was found in the data and what was done about it, in words for the user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Note:
    """A finding and what was done about it; a warning needs the user's eye."""

    what: str
    done: str
    level: Literal["info", "warning"]


def plural(n: int, one: str, many: str) -> str:
    """Return a count with the right words: ``1 row has``, ``2,000 rows have``."""
    return f"{n:,} {one if n == 1 else many}"


def listed(names: Sequence[Any] | NDArray[Any], *, at_most: int = 5) -> str:
    """Return names as one would say them, the tail as a number."""
    shown = ", ".join(repr(str(n)) for n in names[:at_most])
    return shown if len(names) <= at_most else f"{shown} and {len(names) - at_most} more"
