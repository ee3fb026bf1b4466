"""Hybrid classification: cheap tiers for easy texts, an LLM for the rest, and the thresholds between them.

In production only this is needed::

    import hybrid

    pipeline = hybrid.load("support-triage.zip", models={"llm": ask_my_llm})
    decision = pipeline("I was charged twice")

From labelled data to that bundle::

    study = hybrid.Study.read("tickets.csv").fit()
    best = study.recommend(hybrid.Goal("cheapest", floor=0.9))
    study.export(best.policy, "support-triage.zip")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hybrid.errors import BundleError, DatasetError, HybridError, StoreError, StudyError, SupportError, TierError
from hybrid.routing.engine import Policy
from hybrid.routing.patterns import Cascade, Ensemble, Router, Triage, TriageEnsemble

if TYPE_CHECKING:
    from hybrid.production.binding import Server
    from hybrid.production.runtime import Answer, Decision, Runtime, Step, load
    from hybrid.study.study import Study
    from hybrid.study.terms import Terms
    from hybrid.support import SupportPipeline, TicketAnalysis
    from hybrid.tuning import Goal

__all__ = [
    "Answer",
    "BundleError",
    "Cascade",
    "DatasetError",
    "Decision",
    "Ensemble",
    "Goal",
    "HybridError",
    "Policy",
    "Router",
    "Runtime",
    "Server",
    "Step",
    "StoreError",
    "Study",
    "StudyError",
    "SupportError",
    "SupportPipeline",
    "Terms",
    "TicketAnalysis",
    "TierError",
    "Triage",
    "TriageEnsemble",
    "load",
]

_LATER = {  # loaded when they are first named: who only classifies, or reads a file, does without their libraries
    **dict.fromkeys(("Answer", "Decision", "Runtime", "Step", "load"), "hybrid.production.runtime"),
    "Goal": "hybrid.tuning",
    "Server": "hybrid.production.binding",
    "Study": "hybrid.study.study",
    "SupportPipeline": "hybrid.support",
    "Terms": "hybrid.study.terms",
    "TicketAnalysis": "hybrid.support",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module 'hybrid' has no attribute {name!r}")
