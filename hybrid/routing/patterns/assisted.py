"""Assisted triage: sure texts stay, a middle band goes to a person who picks from three answers, the rest goes on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hybrid.errors import TierError
from hybrid.routing.engine import Pattern, Policy, Stop, answering, can_end, param
from hybrid.routing.table import NEVER, Bools, Floats, Predictions, Tier


@dataclass(frozen=True, slots=True)
class Assisted(Pattern):
    """Keep the first tier's answer at or above one threshold; between both, a person picks; below, ask the last tier.

    The second tier is the person who is shown the first tier's likeliest answers. Where `pick` is above `keep`, nobody
    picks.
    """

    title: ClassVar[str] = "Assisted triage"
    summary: ClassVar[str] = (
        "Sure texts stay with the cheap tier; in a band below, a person picks from its three likeliest answers; the "
        "rest goes to the last tier."
    )
    min_tiers: ClassVar[int] = 3
    max_tiers: ClassVar[int | None] = 3
    picks: ClassVar[bool] = True

    keep: float = param(
        0.85,
        label="Confidence to keep the answer",
        help="Keep the cheap tier's answer when its confidence is at or above this.",
        low=0.0,
        high=NEVER,
        threshold=True,
    )
    pick: float = param(
        0.5,
        label="Confidence to pick from three",
        help="Below the other threshold and at or above this, a person picks from the cheap tier's three likeliest "
        "answers; below this the last tier answers.",
        low=0.0,
        high=NEVER,
        threshold=True,
    )

    def check(self, tiers: Sequence[Tier]) -> None:
        super(Assisted, self).check(tiers)  # a class with slots is made twice, and a bare super() is the first's
        if tiers[1].picks_from != tiers[0].name or tiers[2].picks_from:
            raise TierError(
                f"{self.title} takes a tier, the person who picks from its answers, and the tier that the rest goes "
                f"to; not {', '.join(t.name for t in tiers)}."
            )

    @classmethod
    def gated(cls, tiers: Sequence[Tier]) -> tuple[str, ...]:
        return (tiers[0].name,)

    def weighs(self, n_tiers: int) -> tuple[int, ...]:
        return (0,)

    def gauge(self, seen: Predictions, name: str, index: int | None) -> Floats:
        return seen.confidence[:, 0]

    def wants(self, seen: Predictions) -> Bools:
        sure = seen.confidence[:, 0]
        left = seen.asked[:, 0] & ~(sure >= self.keep)
        picked = left & (sure >= self.pick)
        return np.column_stack([np.ones(seen.n_rows, dtype=bool), picked, left & ~picked])

    def stops(self, seen: Predictions) -> tuple[Stop, ...]:
        return Stop(seen.label[:, 0], ((0,),)), *(Stop(seen.label[:, j], ((0,), (j,))) for j in (1, 2))

    @classmethod
    def ways(cls, tiers: Sequence[Tier]) -> Iterator[Policy]:
        """Yield each tier that somebody picks from, before each other tier that can end."""
        by_name = {t.name: t for t in answering(tiers)}
        for person in (t for t in tiers if t.picks_from in by_name):
            first = by_name[person.picks_from]
            for last in by_name.values():
                if last != first and can_end(last):
                    yield Policy(cls(), (first, person, last))
