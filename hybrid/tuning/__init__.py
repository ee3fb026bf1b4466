"""Tuning: many policies → the one to recommend, and what can be promised about it."""

from hybrid.metrics.paired import rows_to_tell
from hybrid.tuning.certify import certify, certify_by_class, covers
from hybrid.tuning.goals import CHEAPEST, LEAST_TOTAL, MOST_ACCURATE, Goal
from hybrid.tuning.recommend import Labelled, Recommendation, Stability, per_class_thresholds, recommend, stability
from hybrid.tuning.sizes import rows_for_interval, rows_to_certify
from hybrid.tuning.walks import SELECTIVE, SYSTEM, Certificate

__all__ = [
    "CHEAPEST",
    "LEAST_TOTAL",
    "MOST_ACCURATE",
    "SELECTIVE",
    "SYSTEM",
    "Certificate",
    "Goal",
    "Labelled",
    "Recommendation",
    "Stability",
    "certify",
    "certify_by_class",
    "covers",
    "per_class_thresholds",
    "recommend",
    "rows_for_interval",
    "rows_to_certify",
    "rows_to_tell",
    "stability",
]
