"""The routing rules, one a file; `PATTERNS` is the registry that screens, tuner, bundle and tests read."""

from hybrid.patterns.cascade import Cascade
from hybrid.patterns.ensemble import Ensemble
from hybrid.patterns.router import Router
from hybrid.patterns.triage import Triage
from hybrid.patterns.triage_ensemble import TriageEnsemble
from hybrid.routing import Pattern

PATTERNS: dict[str, type[Pattern]] = {
    "triage": Triage,
    "cascade": Cascade,
    "ensemble": Ensemble,
    "triage_ensemble": TriageEnsemble,
    "router": Router,
}

__all__ = ["PATTERNS", "Cascade", "Ensemble", "Router", "Triage", "TriageEnsemble"]
