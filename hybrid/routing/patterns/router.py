"""Router: a gate picks the tier directly, before any of them is asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hybrid.routing.engine import Pattern, param
from hybrid.routing.table import NEVER, Bools, Floats, Predictions


@dataclass(frozen=True, slots=True)
class Router(Pattern):
    """Send a row to the first tier whose threshold the gate's score reaches, else to the last.

    The first tier is the gate: its confidence is the score (high: easy), it gives no label, and its cost
    counts on every row.
    """

    title: ClassVar[str] = "Router"
    summary: ClassVar[str] = "A gate looks at the text and picks the tier directly; its own cost counts on every row."
    min_tiers: ClassVar[int] = 3
    gate_first: ClassVar[bool] = True

    thresholds: tuple[float, ...] = param(
        0.85,
        label="Gate score for {tier}",
        help="Texts whose score is at or above this go to this tier, unless an earlier one took them.",
        low=0.0,
        high=NEVER,
        threshold=True,
        per_tier=True,
    )

    @classmethod
    def gated(cls, tiers: Sequence[str]) -> tuple[str, ...]:
        return tuple(tiers[1:-1])

    def weighs(self, n_tiers: int) -> tuple[int, ...]:
        return (0,)

    def gauge(self, seen: Predictions, name: str, index: int | None) -> Floats:
        return seen.confidence[:, 0]

    def wants(self, seen: Predictions) -> Bools:
        scored = seen.asked[:, :1]
        reached = seen.confidence[:, :1] >= np.array(self.thresholds)
        open_to = np.column_stack([reached, np.ones(seen.n_rows, dtype=bool)])  # the last tier takes what is left
        first = open_to & (np.cumsum(open_to, axis=1) == 1)
        return np.column_stack([np.ones(seen.n_rows, dtype=bool), first & scored])
