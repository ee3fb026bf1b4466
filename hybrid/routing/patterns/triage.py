"""Triage: keep the classifier's answer when it is sure, else take the LLM's."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hybrid.routing.engine import Pattern, Policy, Stop, answering, param
from hybrid.routing.table import NEVER, Bools, Floats, Labels, Predictions, Tier


@dataclass(frozen=True, slots=True)
class Triage(Pattern):
    """Keep the first tier's answer where its confidence is at or above the threshold, else ask the second.

    A class may have a threshold of its own in `by_class`; it counts where the first tier predicts that class.
    At `NEVER` nothing is kept, a confidence of 1 neither.

    Examples
    --------
    >>> Triage(0.8, by_class=(None, 0.5)).threshold_of(np.array([0, 1, 2, -1])).tolist()
    [0.8, 0.5, 0.8, 0.8]
    """

    title: ClassVar[str] = "Triage"
    summary: ClassVar[str] = "The cheap tier answers when it is confident; the rest goes to the strong tier."
    max_tiers: ClassVar[int | None] = 2
    picks: ClassVar[bool] = True

    threshold: float = param(
        0.85,
        label="Confidence threshold",
        help="Keep the cheap tier's answer when its confidence is at or above this.",
        low=0.0,
        high=NEVER,
        threshold=True,
    )
    by_class: tuple[float | None, ...] = param(
        (),
        label="Threshold where {label} is predicted",
        help="Where the cheap tier predicts this class, its answer is kept at or above this instead.",
        low=0.0,
        high=NEVER,
        per_class=True,
    )

    def threshold_of(self, label: Labels) -> Floats:
        """Return the threshold that counts for each predicted class code, shape as given."""
        own = np.array([self.threshold if t is None else t for t in (*self.by_class, None)], dtype=np.float64)
        inside = (label >= 0) & (label < len(self.by_class))
        found: Floats = own[np.where(inside, label, len(self.by_class))]
        return found

    def wants(self, seen: Predictions) -> Bools:
        kept = seen.confidence[:, 0] >= self.threshold_of(seen.label[:, 0])
        # nan >= threshold is False: a tier that was not asked yet keeps nothing, so ask it first
        return np.column_stack([np.ones_like(kept), seen.asked[:, 0] & ~kept])

    def gauge(self, seen: Predictions, name: str, index: int | None) -> Floats:
        """Return the confidence; of a class's own threshold only where the class is predicted, elsewhere nan."""
        sure: Floats = seen.confidence[:, 0]
        return sure if name != "by_class" else np.where(seen.label[:, 0] == index, sure, np.nan)

    def stops(self, seen: Predictions) -> tuple[Stop, ...] | None:
        if self.by_class:
            return None
        return Stop(seen.label[:, 0], ((0,),)), Stop(seen.label[:, 1], ((0,), (1,)))

    @classmethod
    def ways(cls, tiers: Sequence[Tier]) -> Iterator[Policy]:
        """Yield every two tiers in both orders, and each tier that a person picks from before that person."""
        yield from super(Triage, cls).ways(tiers)
        by_name = {t.name: t for t in answering(tiers)}
        for person in (t for t in tiers if t.picks_from in by_name):
            yield Policy(cls(), (by_name[person.picks_from], person))
