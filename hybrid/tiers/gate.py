"""Gates: a text → how likely the cheap tier gets it right, before any tier is asked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from hybrid.errors import TierError
from hybrid.routing.table import UNKNOWN, Answers, Bools, Floats, Labels
from hybrid.tiers.classifier import DECIMALS, FastClassifier, fit_classifier

WRONG, RIGHT = 0, 1
MIN_EACH = 10  # rows that the cheap tier got right, and wrong, to learn the difference from

_CLAUSE = re.compile(r"[,;:]|\b(?:and|but|or|because|although|while|which|when|if)\b", re.IGNORECASE)
_NEGATION = re.compile(r"\b(?:not|no|never|none|cannot|without)\b|n't\b", re.IGNORECASE)
_SEVERAL = re.compile(r"\b(?:also|another|both|besides|however|instead|except|unless|second|secondly)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class HeuristicGate:
    """Score a text by its looks: short, one question, few clauses and no negation is easy.

    The score is ``exp(-difficulty / 4)``; difficulty adds 0.05 for each word beyond 10, 0.5 for each question
    beyond the first, 0.2 a clause, 0.3 a negation and 0.5 a word that announces a second matter. The weights are
    a rule of thumb and are not fitted: use the trained gate where there are enough labelled rows.

    Examples
    --------
    >>> scores = HeuristicGate().score(["Where is my parcel?", "I never got it, and also: why was I not told?"])
    >>> bool(scores[0] > scores[1])
    True
    """

    kind: ClassVar[str] = "heuristic_gate"
    waits: ClassVar[bool] = False
    answers_alike: ClassVar[bool] = True

    latency: float = 0.0

    def score(self, texts: Sequence[str]) -> Floats:
        """Return scores in [0, 1], shape ``(n_texts,)``; high is easy."""
        difficulty = [
            0.05 * max(0, len(t.split()) - 10)
            + 0.5 * max(0, t.count("?") - 1)
            + 0.2 * len(_CLAUSE.findall(t))
            + 0.3 * len(_NEGATION.findall(t))
            + 0.5 * len(_SEVERAL.findall(t))
            for t in texts
        ]
        scores = np.exp(-np.array(difficulty, dtype=np.float64) / 4)
        return np.asarray(np.round(scores, DECIMALS), dtype=np.float64)

    def answer(self, texts: Sequence[str]) -> Answers:
        """Return the scores as answers without a label."""
        return _scores(self.score(texts), self.latency)

    def to_files(self, name: str) -> dict[str, bytes]:
        """Return nothing: there are no numbers."""
        return {}

    @classmethod
    def from_files(cls, name: str, files: Mapping[str, bytes]) -> Self:
        """Return the gate."""
        return cls()


@dataclass(frozen=True, slots=True, eq=False)
class TrainedGate:
    """The probability that the cheap tier is right, read from the words alone."""

    kind: ClassVar[str] = "trained_gate"
    waits: ClassVar[bool] = False
    answers_alike: ClassVar[bool] = True

    model: FastClassifier  # over the classes WRONG and RIGHT

    def answer(self, texts: Sequence[str]) -> Answers:
        """Return the probabilities as answers without a label."""
        return _chance_of_right(self.model.probabilities(texts), self.model.latency)

    def to_files(self, name: str) -> dict[str, bytes]:
        """Return the model's file."""
        return self.model.to_files(name)

    @classmethod
    def from_files(cls, name: str, files: Mapping[str, bytes]) -> Self:
        """Read what `to_files` wrote."""
        return cls(FastClassifier.from_files(name, files))


@dataclass(frozen=True, slots=True, eq=False)
class FittedGate:
    """The gate that ships, and every row's score: out of fold on tune, the shipped gate's on test."""

    model: TrainedGate
    answers: Answers


def fit_gate(texts: NDArray[np.object_], right: Bools, fold: Labels) -> FittedGate:
    """Learn from the words whether the cheap tier is right.

    Parameters
    ----------
    texts
        Shape ``(n_rows,)``.
    right
        Whether the cheap tier's out-of-fold answer is right, shape ``(n_rows,)``.
    fold
        Fold in which a row is held out, -1 for test rows, which are never fitted on.

    Raises
    ------
    TierError
        If the cheap tier got too few tune rows right or wrong to learn the difference.
    """
    tune = fold >= 0
    fewest = min(int(right[tune].sum()), int((~right[tune]).sum()))
    if fewest < MIN_EACH:
        raise TierError(
            f"A gate cannot be trained: it needs {MIN_EACH} tune rows that the cheap tier gets right and {MIN_EACH} "
            f"that it gets wrong, and there are only {fewest} of one kind. Use the heuristic gate or add rows."
        )
    fitted = fit_classifier(texts, right.astype(np.int64), fold, n_classes=2)
    return FittedGate(TrainedGate(fitted.model), _chance_of_right(fitted.probabilities, fitted.model.latency))


def _chance_of_right(probabilities: Floats, latency: float) -> Answers:
    return _scores(np.round(probabilities[:, RIGHT], DECIMALS), latency)


def _scores(score: Floats, latency: float) -> Answers:
    n = len(score)
    return Answers(np.full(n, UNKNOWN, dtype=np.int64), score, np.zeros(n), np.full(n, latency))
