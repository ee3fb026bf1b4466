"""Triage + ensemble: easy rows end at the classifier, the uncertain ones go to a vote."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hybrid.routing.engine import Pattern, Verdict, param, pick
from hybrid.routing.table import NEVER, Bools, Predictions
from hybrid.routing.voting import STRATEGIES, vote


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
    cheap_below: float = param(
        0.001,
        label="A member is cheap below",
        help="Price per answer in USD below which a member counts as cheap in the cost-aware vote.",
        low=0.0,
        high=1.0,
        unit="USD",
    )

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

    def _kept(self, seen: Predictions) -> Bools:
        kept: Bools = seen.confidence[:, 0] >= self.threshold
        return kept
