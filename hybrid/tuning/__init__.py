"""Tuning: many policies → the one to recommend, and what can be promised about it."""

from hybrid.metrics.paired import rows_to_tell
from hybrid.tuning.certify import certify, certify_by_class, covers
from hybrid.tuning.explore import Effort, every_way, one_way
from hybrid.tuning.goals import CHEAPEST, LEAST_TOTAL, MOST_ACCURATE, Goal
from hybrid.tuning.recommend import (
    Candidate,
    Labelled,
    Point,
    Progress,
    Recommendation,
    Selection,
    contradiction,
    recommend,
)
from hybrid.tuning.sizes import rows_for_interval
from hybrid.tuning.stability import Stability, per_class_thresholds, stability
from hybrid.tuning.walks import SELECTIVE, SYSTEM, Certificate

__all__ = [
    "CHEAPEST",
    "LEAST_TOTAL",
    "MOST_ACCURATE",
    "SELECTIVE",
    "SYSTEM",
    "Candidate",
    "Certificate",
    "Effort",
    "Goal",
    "Labelled",
    "Point",
    "Progress",
    "Recommendation",
    "Selection",
    "Stability",
    "certify",
    "certify_by_class",
    "contradiction",
    "covers",
    "every_way",
    "one_way",
    "per_class_thresholds",
    "recommend",
    "rows_for_interval",
    "rows_to_tell",
    "stability",
]
