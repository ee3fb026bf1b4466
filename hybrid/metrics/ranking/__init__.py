"""Ranking: how well a confidence tells right from wrong, and what any router between two tiers could gain."""

from hybrid.metrics.ranking.f1 import macro_f1_interval
from hybrid.metrics.ranking.gains import (
    CPT_LEVELS,
    RoutingGain,
    break_even_price,
    gap_intervals,
    performance_gap_recovered,
    routing_gain,
)
from hybrid.metrics.ranking.overlap import ErrorOverlap, error_overlap
from hybrid.metrics.ranking.selective import RiskCoverage, risk_coverage

__all__ = [
    "CPT_LEVELS",
    "ErrorOverlap",
    "RiskCoverage",
    "RoutingGain",
    "break_even_price",
    "error_overlap",
    "gap_intervals",
    "macro_f1_interval",
    "performance_gap_recovered",
    "risk_coverage",
    "routing_gain",
]
