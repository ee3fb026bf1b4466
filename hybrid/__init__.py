"""Hybrid classification: cheap tiers for easy texts, an LLM for the rest, and the thresholds between them.

In production only this is needed::

    import hybrid

    pipeline = hybrid.load("support-triage.zip", models={"llm": ask_my_llm})
    decision = pipeline("I was charged twice")
"""

from hybrid.errors import BundleError, DatasetError, HybridError, TierError
from hybrid.runtime import Answer, Decision, Runtime, Step, load

__all__ = [
    "Answer",
    "BundleError",
    "DatasetError",
    "Decision",
    "HybridError",
    "Runtime",
    "Step",
    "TierError",
    "load",
]
