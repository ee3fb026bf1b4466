"""Models as something that answers texts, one file a kind; `LocalModel` is any that runs here."""

from hybrid.tiers.classifier import FastClassifier
from hybrid.tiers.embedding import AveragedClassifier, EmbeddingClassifier
from hybrid.tiers.gate import HeuristicGate, TrainedGate
from hybrid.tiers.rules import Rules

LocalModel = Rules | FastClassifier | EmbeddingClassifier | AveragedClassifier | TrainedGate | HeuristicGate
