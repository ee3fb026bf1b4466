"""Overlap: where two tiers are right, and what no router between them can exceed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybrid.routing.table import Labels, Predictions


@dataclass(frozen=True, slots=True)
class ErrorOverlap:
    """On which rows two tiers are right; shares of all rows, summing to 1. No router is right where neither is."""

    both: float
    only_weak: float
    only_strong: float
    neither: float

    @property
    def shared_errors(self) -> float:
        """Share of the rows on which one errs on which both do; nan where neither ever errs."""
        errors = 1 - self.both
        return self.neither / errors if errors > 0 else float("nan")


def error_overlap(predictions: Predictions, truth: Labels, *, weak: str, strong: str) -> ErrorOverlap:
    """Count on which rows two tiers are right."""
    w, s = (predictions.label[:, predictions.index(name)] == truth for name in (weak, strong))
    return ErrorOverlap(float(np.mean(w & s)), float(np.mean(w & ~s)), float(np.mean(~w & s)), float(np.mean(~w & ~s)))
