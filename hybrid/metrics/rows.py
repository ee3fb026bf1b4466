"""Inspection: which rows stand behind a policy's numbers, and which of them are likely to be labelled wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hybrid.metrics.summary import Interval, share
from hybrid.routing.engine import Outcomes
from hybrid.routing.table import Bools, Floats, Labels, Predictions, Rows


@dataclass(frozen=True, slots=True, eq=False)
class Inspection:
    """A policy's decisions beside the truth and its cheap tier's answers; arrays of shape ``(n_rows,)``."""

    truth: Labels
    label: Labels
    tier: Rows
    confidence: Floats
    cost: Floats
    escalated: Bools  # the last tier was asked
    cheap_label: Labels
    cheap_confidence: Floats
    aside: Bools  # out of scope

    @property
    def right(self) -> Bools:
        found: Bools = self.label == self.truth
        return found

    @property
    def cheap_right(self) -> Bools:
        found: Bools = self.cheap_label == self.truth
        return found

    def order(self, kind: str) -> Rows:
        """Return the rows of a kind, those worth looking at first on top.

        Mistakes come by falling confidence, the rest as in the data. A confident mistake is often a wrong label
        (confident learning: Northcutt, Jiang & Chuang 2021).
        """
        rows = np.flatnonzero(KINDS[kind](self))
        if kind in BY_CONFIDENCE:
            rows = rows[np.argsort(-self.confidence[rows], kind="stable")]
        return rows


KINDS: dict[str, Callable[[Inspection], Bools]] = {
    "All": lambda i: np.ones(len(i.truth), dtype=bool),
    "Mistakes": lambda i: ~i.right,
    "Confident mistakes": lambda i: ~i.right & ~i.escalated,
    "Escalated": lambda i: i.escalated,
    "Fixed": lambda i: i.right & ~i.cheap_right,
    "Broken": lambda i: ~i.right & i.cheap_right,
    "Set aside": lambda i: i.aside,
}
BY_CONFIDENCE = ("Mistakes", "Confident mistakes", "Broken")


def inspect(outcomes: Outcomes, predictions: Predictions, truth: Labels, *, cheap: str) -> Inspection:
    """Lay a policy's decisions beside the truth.

    Parameters
    ----------
    predictions, truth
        The rows that were decided.
    cheap
        The tier that "fixed" and "broken" are measured against.
    """
    alone = predictions.answers(predictions.index(cheap))
    return Inspection(
        truth,
        outcomes.label,
        outcomes.tier,
        outcomes.confidence,
        outcomes.cost,
        outcomes.asked[:, -1],
        alone.label,
        alone.confidence,
        outcomes.policy.set_aside(outcomes.seen),
    )


def confusion(found: Inspection, n_classes: int) -> np.ndarray:
    """Count rows by truth and final label, shape ``(n_classes, n_classes + 2)``; the last columns are NONE and UNKNOWN.

    Examples
    --------
    >>> none = np.zeros(3)
    >>> one = Inspection(np.array([0, 0, 1]), np.array([0, 1, -1]), *[none] * 7)
    >>> confusion(one, 2).tolist()
    [[1, 1, 0, 0], [0, 0, 0, 1]]
    """
    width = n_classes + 2
    counts = np.bincount(found.truth * width + columns_of(found.label, n_classes), minlength=n_classes * width)
    return counts.reshape(n_classes, width)


def columns_of(label: Labels, n_classes: int) -> Labels:
    """Return labels as columns of a table that holds NONE and UNKNOWN behind the classes."""
    return np.where(label < 0, label + n_classes + 2, label)


@dataclass(frozen=True, slots=True)
class PredictedClass:
    """Rows on which the cheap tier predicts one class: how many, the share kept, and the share right of those."""

    code: int
    n_rows: int
    kept: float
    right: float  # nan where none is kept


def per_predicted_class(found: Inspection, n_classes: int) -> list[PredictedClass]:
    """Measure every class that the cheap tier predicts."""
    numbers = []
    for code in range(n_classes):
        mine = found.cheap_label == code
        if mine.any():
            kept = mine & ~found.escalated
            right = float(found.right[kept].mean()) if kept.any() else float("nan")
            numbers.append(PredictedClass(code, int(mine.sum()), float(kept.sum() / mine.sum()), right))
    return numbers


@dataclass(frozen=True, slots=True)
class ClassNumbers:
    """What a policy does on the rows of one true class."""

    code: int
    n_rows: int
    accuracy: Interval  # of the rows of this class: recall
    precision: float  # of the answers that name it; nan where none does
    escalation_rate: float
    cost_per_1000: float


def per_class(found: Inspection, n_classes: int, *, groups: Labels | None = None) -> list[ClassNumbers]:
    """Measure every class that has rows; `groups`: codes of what belongs together, shape ``(n_rows,)``."""
    numbers = []
    for code in range(n_classes):
        mine = found.truth == code
        if mine.any():
            named = found.label == code
            numbers.append(
                ClassNumbers(
                    code,
                    int(mine.sum()),
                    share(found.right[mine], None if groups is None else groups[mine]),
                    float(found.right[named].mean()) if named.any() else float("nan"),
                    float(found.escalated[mine].mean()),
                    1000 * float(found.cost[mine].mean()),
                )
            )
    return numbers
