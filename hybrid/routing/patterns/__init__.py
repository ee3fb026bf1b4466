"""The routing rules, one a file; `PATTERNS` is the registry that screens, tuner, bundle and tests read."""

from hybrid.routing.engine import Pattern
from hybrid.routing.patterns.assisted import Assisted
from hybrid.routing.patterns.cascade import Cascade
from hybrid.routing.patterns.ensemble import Ensemble
from hybrid.routing.patterns.router import Router
from hybrid.routing.patterns.triage import Triage
from hybrid.routing.patterns.triage_ensemble import TriageEnsemble

PATTERNS: dict[str, type[Pattern]] = {
    "triage": Triage,
    "cascade": Cascade,
    "ensemble": Ensemble,
    "triage_ensemble": TriageEnsemble,
    "router": Router,
    "assisted": Assisted,
}

__all__ = ["PATTERNS", "Assisted", "Cascade", "Ensemble", "Router", "Triage", "TriageEnsemble"]
