"""Models as something that answers texts, one file a kind; `KINDS` is the list of those that run here."""

from hybrid.tiers.classifier import FastClassifier
from hybrid.tiers.embedding import AveragedClassifier, EmbeddingClassifier
from hybrid.tiers.gate import HeuristicGate, TrainedGate
from hybrid.tiers.local import LocalModel
from hybrid.tiers.rules import Rules
from hybrid.tiers.scope import EmbeddingScope, WordScope

KINDS: dict[str, type[LocalModel]] = {
    kind.kind: kind
    for kind in (
        Rules,
        FastClassifier,
        EmbeddingClassifier,
        AveragedClassifier,
        TrainedGate,
        HeuristicGate,
        WordScope,
        EmbeddingScope,
    )
}

__all__ = ["KINDS", "LocalModel"]
