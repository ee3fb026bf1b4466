"""Sizes: how many labelled rows an interval needs."""

from __future__ import annotations

from collections.abc import Callable

from hybrid.errors import TierError
from hybrid.metrics.intervals import wilson

MOST = 10**9  # rows beyond which the answer is "no number that anybody labels"


def rows_for_interval(share: float, half_width: float, *, level: float = 0.95, design_effect: float = 1.0) -> int:
    """Return how many rows give a share a Wilson interval of at most this half width.

    Parameters
    ----------
    design_effect
        How many rows are worth one independent row; see `hybrid.metrics.groups.Groups`.

    Examples
    --------
    >>> rows_for_interval(0.5, 0.05)
    381
    """
    _check("half_width", half_width)

    def enough(n: int) -> bool:
        worth = n / design_effect
        low, high = wilson(share * worth, worth, level=level)
        return bool((high - low) / 2 <= half_width)

    found = least(enough)
    assert found is not None  # intervals shrink to nothing
    return found


def least(enough: Callable[[int], bool], *, most: int = MOST) -> int | None:
    """Return the least n that is enough, given that more is; None where it is beyond what is looked at."""
    high = 1
    while not enough(high):
        high *= 2
        if high > most:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _check(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise TierError(f"{name} = {value}: must be between 0 and 1. Percentages? Divide by 100.")
