"""Router: gates pick the tier directly, before any of them is asked."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import combinations, takewhile
from typing import ClassVar

import numpy as np

from hybrid.errors import TierError
from hybrid.routing.engine import Pattern, Policy, Stop, answering, can_end, param, variants
from hybrid.routing.table import NEVER, Bools, Floats, Predictions, Tier


@dataclass(frozen=True, slots=True)
class Router(Pattern):
    """Send a row to the first tier whose threshold the gate's score reaches, else to the last.

    The leading tiers are gates: their confidence is the score (high: easy), they give no label, and they cost what they
    cost. There is one gate, whose score counts for every tier and which looks at every row; or one for each tier but
    the last, in the same order, each of which tells of its own tier and looks at a row that those before it passed on.
    """

    title: ClassVar[str] = "Router"
    summary: ClassVar[str] = "A gate, or one for each tier, looks at the text and picks the tier directly."
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
    def gated(cls, tiers: Sequence[Tier]) -> tuple[str, ...]:
        return tuple(t.name for t in tiers[_gates(tiers) : -1])

    def check(self, tiers: Sequence[Tier]) -> None:
        super(Router, self).check(tiers)  # a class with slots is made twice, and a bare super() is the first's
        gates = _gates(tiers)
        if gates not in (1, len(tiers) - gates - 1):
            raise TierError(
                f"A router takes one gate, or one for each tier but the last: {gates} gates before "
                f"{len(tiers) - gates} tiers are neither."
            )

    def weighs(self, n_tiers: int) -> tuple[int, ...]:
        return tuple(range(self._gates(n_tiers)))

    def gauge(self, seen: Predictions, name: str, index: int | None) -> Floats:
        several = self._gates(len(seen.tiers)) > 1
        return seen.confidence[:, (index or 0) if several else 0]

    def wants(self, seen: Predictions) -> Bools:
        gates = self._gates(len(seen.tiers))
        scores = seen.confidence[:, :gates]
        reached = scores >= np.array(self.thresholds)  # nan >= t is False: a gate that was not asked opens nothing
        looks = np.ones((seen.n_rows, gates), dtype=bool)
        looks[:, 1:] = seen.asked[:, : gates - 1] & ~reached[:, : gates - 1]
        left = seen.asked[:, gates - 1 : gates]  # of these rows every score is known; the last tier takes what is left
        open_to = np.column_stack([reached, left])
        return np.column_stack([looks, open_to & (np.cumsum(open_to, axis=1) == 1)])

    def stops(self, seen: Predictions) -> tuple[Stop, ...]:
        gates = self._gates(len(seen.tiers))
        looks = tuple((j,) for j in range(gates))
        return tuple(
            Stop(seen.label[:, gates + k], (*looks[: k + 1], (gates + k,))) for k in range(len(self.thresholds) + 1)
        )

    @classmethod
    def ways(cls, tiers: Sequence[Tier]) -> Iterator[Policy]:
        """Yield gates before two and more tiers from cheap to dear: the easier a row, the cheaper its tier.

        One gate is that of the first tier, or one that tells of no tier in particular; without either, any. Before
        three tiers and more stands also a gate for each, where there are such gates.
        """
        gates = [t for t in tiers if t.kind == "gate"]
        own = {t.guards: t for t in gates if t.guards}
        answers = answering(tiers)

        def before(chosen: tuple[Tier, ...]) -> Iterator[tuple[Tier, ...]]:
            yield from ((t,) for t in gates if t.guards in ("", chosen[0].name) or not (own.get(chosen[0].name)))

        def one() -> Iterator[Policy]:
            for k in range(2, len(answers) + 1):
                for chosen in combinations(answers, k):
                    if can_end(chosen[-1]):
                        for gate in before(chosen):
                            yield from variants(cls, (*gate, *chosen))

        def each() -> Iterator[Policy]:
            guarded = [t for t in answers if t.name in own]
            for k in range(3, len(answers) + 1):
                for chosen in combinations(guarded, k - 1):
                    after = answers[answers.index(chosen[-1]) + 1 :]
                    for last in (t for t in after if can_end(t)):
                        yield from variants(cls, (*(own[t.name] for t in chosen), *chosen, last))

        yield from merge(one(), each(), key=lambda p: len(answering(p.tiers)))

    def _gates(self, n_tiers: int) -> int:
        return n_tiers - 1 - len(self.thresholds)


def _gates(tiers: Sequence[Tier]) -> int:
    """Return how many gates lead: the first tier is one whatever its kind."""
    return 1 + len(list(takewhile(lambda t: t.kind == "gate", tiers[1:])))
