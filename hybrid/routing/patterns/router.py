"""Router: a gate picks the tier directly, before any of them is asked."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import numpy as np

from hybrid.routing.engine import Pattern, Policy, Stop, answering, can_end, param, variants
from hybrid.routing.table import NEVER, Bools, Floats, Predictions, Tier


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

    def stops(self, seen: Predictions) -> tuple[Stop, ...]:
        return tuple(Stop(seen.label[:, j], ((0,), (j,))) for j in range(1, len(seen.tiers)))

    @classmethod
    def ways(cls, tiers: Sequence[Tier]) -> Iterator[Policy]:
        """Yield every gate before two and more tiers from cheap to dear: the easier a row, the cheaper its tier."""
        answers = answering(tiers)
        for k in range(2, len(answers) + 1):
            for chosen in combinations(answers, k):
                if can_end(chosen[-1]):
                    for gate in (t for t in tiers if t.kind == "gate"):
                        yield from variants(cls, (gate, *chosen))
