"""Ensemble: all members vote on every row."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import numpy as np

from hybrid.routing.engine import ALL_ORDERS, Pattern, Policy, Stop, Verdict, answering, can_end, param, pick, variants
from hybrid.routing.table import NEVER, Bools, Floats, Predictions, Tier
from hybrid.routing.voting import CHEAP_BELOW, STRATEGIES, agreement, cheap_below_param, strategies_for, vote


@dataclass(frozen=True, slots=True)
class Ensemble(Pattern):
    """Let the members vote; where they agree too little, the last tier decides as the judge.

    With `agreement` None there is no judge and every tier is a member.
    """

    title: ClassVar[str] = "Ensemble"
    summary: ClassVar[str] = "Every member answers every text and they vote; a judge can settle disagreement."

    strategy: str = param(
        "confidence_weighted",
        label="Strategy",
        help="Majority: one member, one vote. Confidence-weighted: votes count by confidence. "
        "Cost-aware: where the cheap and the dear members' majorities differ, the dear ones win.",
        choices=STRATEGIES,
    )
    agreement: float | None = param(
        None,
        label="Agreement below which the last tier decides",
        help="Share of the members that must give the winning label. Below it the last tier is asked as the judge; "
        "off: every tier is a member and there is no judge.",
        low=0.0,
        high=NEVER,
        threshold=True,
        optional=True,
    )
    cheap_below: float = cheap_below_param()

    def wants(self, seen: Predictions) -> Bools:
        wanted = np.ones((seen.n_rows, len(seen.tiers)), dtype=bool)
        if self.agreement is not None:
            wanted[:, -1] = seen.asked[:, :-1].all(axis=1) & ~self._agreed(seen)
        return wanted

    def answer(self, seen: Predictions) -> Verdict:
        winner = self._vote(seen)
        if self.agreement is None:
            return winner
        judge = pick(seen, np.full(seen.n_rows, len(seen.tiers) - 1))
        return Verdict(*(np.where(seen.asked[:, -1], j, w) for j, w in zip(judge, winner, strict=True)))

    def weighs(self, n_tiers: int) -> tuple[int, ...]:
        return tuple(range(n_tiers if self.agreement is None else n_tiers - 1))  # a majority's ties, too

    def gauge(self, seen: Predictions, name: str, index: int | None) -> Floats:
        members = self._members(seen)
        return agreement(seen, members, vote(seen, members, self.strategy, self.cheap_below))

    def stops(self, seen: Predictions) -> tuple[Stop, ...]:
        columns = tuple(range(len(seen.tiers)))
        voted = self._vote(seen).label
        if self.agreement is None:
            return (Stop(voted, (columns,)),)
        return Stop(voted, (columns[:-1],)), Stop(seen.label[:, -1], (columns[:-1], columns[-1:]))

    @classmethod
    def ways(cls, tiers: Sequence[Tier]) -> Iterator[Policy]:
        """Yield all members from cheap to dear, and with each other tier as the judge; of many, with dearer ones."""
        answers = answering(tiers)
        for k in range(2, len(answers) + 1):
            for members in combinations(answers, k):
                for strategy in strategies_for(members, CHEAP_BELOW):
                    yield from variants(cls, members, strategy=strategy)
            for members in combinations(answers, k - 1) if k > 2 else ():
                after = 0 if k <= ALL_ORDERS else answers.index(members[-1]) + 1
                judges = [t for t in answers[after:] if t not in members and can_end(t)]
                for judge in judges:
                    for strategy in strategies_for(members, CHEAP_BELOW):
                        yield from variants(cls, (*members, judge), strategy=strategy, agreement=1.0)

    def _members(self, seen: Predictions) -> slice:
        return slice(None) if self.agreement is None else slice(0, -1)

    def _vote(self, seen: Predictions) -> Verdict:
        return vote(seen, self._members(seen), self.strategy, self.cheap_below)

    def _agreed(self, seen: Predictions) -> Bools:
        assert self.agreement is not None
        return agreement(seen, self._members(seen), self._vote(seen)) >= self.agreement
