"""Hybrid classification: cheap tiers for easy texts, an LLM for the rest, and the thresholds between them.

In production only this is needed::

    import hybrid

    pipeline = hybrid.load("support-triage.zip", models={"llm": ask_my_llm})
    decision = pipeline("I was charged twice")
"""

from typing import TYPE_CHECKING, Any

from hybrid.errors import BundleError, DatasetError, HybridError, SupportError, TierError
from hybrid.production.runtime import Answer, Decision, Runtime, Step, load

if TYPE_CHECKING:
    from hybrid.support import SupportPipeline, TicketAnalysis

__all__ = [
    "Answer",
    "BundleError",
    "DatasetError",
    "Decision",
    "HybridError",
    "Runtime",
    "Step",
    "SupportError",
    "SupportPipeline",
    "TicketAnalysis",
    "TierError",
    "load",
]


def __getattr__(name: str) -> Any:
    """Load the support pipeline when it is first named: who only classifies does without its libraries."""
    if name in ("SupportPipeline", "TicketAnalysis"):
        from hybrid import support

        return getattr(support, name)
    raise AttributeError(f"module 'hybrid' has no attribute {name!r}")
