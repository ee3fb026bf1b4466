"""Cascade: from cheap to dear, stop at the first tier that is sure enough."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hybrid.routing.engine import Pattern, Policy, Stop, arranged, param
from hybrid.routing.table import NEVER, Bools, Predictions, Tier


@dataclass(frozen=True, slots=True)
class Cascade(Pattern):
    """Ask the tiers in order; stop at the first whose confidence is at or above its threshold, or at the last.

    Over one tier it takes that tier's answer for every row: "the LLM for everything" is such a cascade.
    """

    title: ClassVar[str] = "Cascade"
    summary: ClassVar[str] = "Tiers from cheap to dear; each passes on what it is not confident about."
    min_tiers: ClassVar[int] = 1

    thresholds: tuple[float, ...] = param(
        0.85,
        label="Threshold of {tier}",
        help="This tier's answer is final when its confidence is at or above this.",
        low=0.0,
        high=NEVER,
        threshold=True,
        per_tier=True,
    )

    def wants(self, seen: Predictions) -> Bools:
        passed_on = seen.asked[:, :-1] & ~(seen.confidence[:, :-1] >= np.array(self.thresholds))
        # a tier was asked only if all before it passed the row on, so looking at the one before is enough
        return np.column_stack([np.ones(seen.n_rows, dtype=bool), passed_on])

    def stops(self, seen: Predictions) -> tuple[Stop, ...]:
        return tuple(
            Stop(seen.label[:, j], tuple((before,) for before in range(j + 1))) for j in range(len(seen.tiers))
        )

    @classmethod
    def ways(cls, tiers: Sequence[Tier]) -> Iterator[Policy]:
        """Yield every tier alone, then three and more: two are a triage."""
        for chosen in arranged(tiers, 1):
            if len(chosen) != 2:
                yield Policy(cls((cls.params()[0].default,) * (len(chosen) - 1)), chosen)
