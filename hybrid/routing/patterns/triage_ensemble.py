"""Triage + ensemble: easy rows end at the classifier, the uncertain ones go to a vote."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import numpy as np

from hybrid.routing.engine import ALL_ORDERS, Pattern, Policy, Stop, Verdict, answering, param, pick, variants
from hybrid.routing.table import NEVER, Bools, Predictions, Tier
from hybrid.routing.voting import CHEAP_BELOW, STRATEGIES, cheap_below_param, strategies_for, vote


@dataclass(frozen=True, slots=True)
class TriageEnsemble(Pattern):
    """Keep the first tier's answer at or above the threshold; else ask all others, and all of them vote."""

    title: ClassVar[str] = "Triage + ensemble"
    summary: ClassVar[str] = "The cheap tier answers when it is confident; otherwise all tiers vote."

    threshold: float = param(
        0.85,
        label="Confidence threshold",
        help="Keep the cheap tier's answer when its confidence is at or above this; else all tiers vote.",
        low=0.0,
        high=NEVER,
        threshold=True,
    )
    strategy: str = param(
        "confidence_weighted",
        label="Strategy",
        help="How the votes on the uncertain rows are counted; see the ensemble.",
        choices=STRATEGIES,
    )
    cheap_below: float = cheap_below_param()

    def wants(self, seen: Predictions) -> Bools:
        wanted = np.ones((seen.n_rows, len(seen.tiers)), dtype=bool)
        wanted[:, 1:] = (seen.asked[:, 0] & ~self._kept(seen))[:, None]
        return wanted

    def answer(self, seen: Predictions) -> Verdict:
        voted = vote(seen, slice(None), self.strategy, self.cheap_below)
        first = pick(seen, np.zeros(seen.n_rows, dtype=np.intp))
        return Verdict(*(np.where(self._kept(seen), f, v) for f, v in zip(first, voted, strict=True)))

    def weighs(self, n_tiers: int) -> tuple[int, ...]:
        return tuple(range(n_tiers))

    def stops(self, seen: Predictions) -> tuple[Stop, ...]:
        others = tuple(range(1, len(seen.tiers)))
        voted = vote(seen, slice(None), self.strategy, self.cheap_below).label
        return Stop(seen.label[:, 0], ((0,),)), Stop(voted, ((0,), others))

    @classmethod
    def ways(cls, tiers: Sequence[Tier]) -> Iterator[Policy]:
        """Yield all tiers from cheap to dear, of few of them each as the first."""
        answers = answering(tiers)
        for k in range(cls.min_tiers, len(answers) + 1):
            for chosen in combinations(answers, k):
                for first in chosen if k <= ALL_ORDERS else chosen[:1]:
                    others = tuple(t for t in chosen if t is not first)
                    for strategy in strategies_for(chosen, CHEAP_BELOW):
                        yield from variants(cls, (first, *others), strategy=strategy)

    def _kept(self, seen: Predictions) -> Bools:
        kept: Bools = seen.confidence[:, 0] >= self.threshold
        return kept
