"""Triage: keep the classifier's answer when it is sure, else take the LLM's."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hybrid.predictions import Bools, Predictions
from hybrid.routing import Pattern, param


@dataclass(frozen=True, slots=True)
class Triage(Pattern):
    """Keep the first tier's answer where its confidence is at or above the threshold, else ask the second."""

    title: ClassVar[str] = "Triage"
    summary: ClassVar[str] = "The cheap tier answers when it is confident; the rest goes to the strong tier."
    max_tiers: ClassVar[int | None] = 2

    threshold: float = param(
        0.85,
        label="Confidence threshold",
        help="Keep the cheap tier's answer when its confidence is at or above this.",
        low=0.0,
        high=1.0,
        threshold=True,
    )

    def wants(self, seen: Predictions) -> Bools:
        kept = seen.confidence[:, 0] >= self.threshold
        # nan >= threshold is False: a tier that was not asked yet keeps nothing, so ask it first
        return np.column_stack([np.ones_like(kept), seen.asked[:, 0] & ~kept])
