"""Gates: a text → how likely a tier gets it right, before any tier is asked."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from hybrid.errors import TierError
from hybrid.routing.table import UNKNOWN, Answers, Bools, Floats, Labels
from hybrid.tiers.calibration import DECIMALS, Again
from hybrid.tiers.classifier import FastClassifier, Progress, fit_classifiers
from hybrid.tiers.rules import check_phrase
from hybrid.tiers.words import terms

WRONG, RIGHT = 0, 1
MIN_EACH = 10  # rows that the tier got right, and wrong, to learn the difference from
KEY_WORD = 1.0  # difficulty that a key word of the user's adds or takes away

_CLAUSE = re.compile(r"[,;:]|\b(?:and|but|or|because|although|while|which|when|if)\b", re.IGNORECASE)
_NEGATION = re.compile(r"\b(?:not|no|never|none|cannot|without)\b|n't\b", re.IGNORECASE)
_SEVERAL = re.compile(r"\b(?:also|another|both|besides|however|instead|except|unless|second|secondly)\b", re.IGNORECASE)


class KeyWords(NamedTuple):
    """Words and pairs of neighbouring words that make a text hard, or easy, as the user knows them."""

    hard: tuple[str, ...] = ()
    easy: tuple[str, ...] = ()

    @classmethod
    def of(cls, hard: str, easy: str) -> KeyWords:
        """Read them as they are typed: with commas between them."""
        return cls(*(tuple(w.strip() for w in said.split(",") if w.strip()) for said in (hard, easy)))

    def checked(self) -> KeyWords:
        """Return them as they are looked for: lower case, and each once.

        Raises
        ------
        TierError
            If one is not one or two words.
        """
        hard, easy = (tuple(dict.fromkeys(check_phrase(w) for w in side)) for side in self)
        both = [w for w in hard if w in easy]
        if both:
            raise TierError(f"Key word {both[0]!r} cannot be both hard and easy: leave it out of one list.")
        return KeyWords(hard, easy)


NO_WORDS = KeyWords()


@dataclass(frozen=True, slots=True)
class HeuristicGate:
    """Score a text by its looks: short, one question, few clauses and no negation is easy.

    The score is ``exp(-difficulty / 4)``; difficulty adds 0.05 for each word beyond 10, 0.5 for each question
    beyond the first, 0.2 a clause, 0.3 a negation and 0.5 a word that announces a second matter. Each key word of the
    user's that occurs adds 1, or takes 1 away. The weights are a rule of thumb and are not fitted: use a trained gate
    where there are enough labelled rows.

    Parameters
    ----------
    latency
        Seconds for one text.
    key_words
        Lower case, as `KeyWords.checked` returns them.

    Examples
    --------
    >>> scores = HeuristicGate().score(["Where is my parcel?", "I never got it, and also: why was I not told?"])
    >>> bool(scores[0] > scores[1])
    True
    >>> HeuristicGate(key_words=KeyWords(hard=("chargeback",))).score(["A chargeback", "A parcel"]).round(2).tolist()
    [0.78, 1.0]
    """

    kind: ClassVar[str] = "heuristic_gate"
    waits: ClassVar[bool] = False
    answers_alike: ClassVar[bool] = True

    latency: float = 0.0
    key_words: KeyWords = NO_WORDS
    _weight: dict[str, float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        weight = dict.fromkeys(self.key_words.hard, KEY_WORD) | dict.fromkeys(self.key_words.easy, -KEY_WORD)
        object.__setattr__(self, "_weight", weight)

    def score(self, texts: Sequence[str]) -> Floats:
        """Return scores in [0, 1], shape ``(n_texts,)``; high is easy."""
        difficulty = [
            0.05 * max(0, len(t.split()) - 10)
            + 0.5 * max(0, t.count("?") - 1)
            + 0.2 * len(_CLAUSE.findall(t))
            + 0.3 * len(_NEGATION.findall(t))
            + 0.5 * len(_SEVERAL.findall(t))
            + self._known(t)
            for t in texts
        ]
        scores = np.exp(-np.maximum(np.array(difficulty, dtype=np.float64), 0.0) / 4)
        return np.asarray(np.round(scores, DECIMALS), dtype=np.float64)

    def answer(self, texts: Sequence[str]) -> Answers:
        """Return the scores as answers without a label."""
        return _scores(self.score(texts), self.latency)

    def to_files(self, name: str) -> dict[str, bytes]:
        """Return the key words as JSON; nothing without any."""
        if self.key_words == NO_WORDS:
            return {}
        return {f"{name}.json": json.dumps(self.key_words._asdict(), indent=1).encode()}

    @classmethod
    def from_files(cls, name: str, files: Mapping[str, bytes]) -> Self:
        """Read what `to_files` wrote."""
        if f"{name}.json" not in files:
            return cls()
        stored = json.loads(files[f"{name}.json"])
        return cls(key_words=KeyWords(tuple(stored["hard"]), tuple(stored["easy"])).checked())

    def _known(self, text: str) -> float:
        if not self._weight:
            return 0.0
        return sum(self._weight.get(term, 0.0) for term in sorted(set(terms(text))))


@dataclass(frozen=True, slots=True, eq=False)
class TrainedGate:
    """The probability that a tier is right, read from the words alone."""

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
    """The gate that ships, and every row's score: out of fold on tune, the shipped gate's on test.

    `again` is what some of the folds' gates say of the test rows.
    """

    model: TrainedGate
    answers: Answers
    again: tuple[Again, ...] = ()


def check_enough(right: Bools, fold: Labels, tier: str) -> None:
    """Raise `TierError` if a tier got too few tune rows right, or wrong, to learn the difference."""
    tune = fold >= 0
    fewest = min(int(right[tune].sum()), int((~right[tune]).sum()))
    if fewest < MIN_EACH:
        raise TierError(
            f"A gate cannot be trained: it needs {MIN_EACH} tune rows that {tier} gets right and {MIN_EACH} "
            f"that it gets wrong, and there are only {fewest} of one kind. Use the heuristic gate or add rows."
        )


def fit_gates(
    texts: NDArray[np.object_], right: Bools, fold: Labels, *, progress: Progress | None = None
) -> list[FittedGate]:
    """Learn from the words whether tiers are right; of several that were asked about the same rows in less time.

    Parameters
    ----------
    texts
        Shape ``(n_rows,)``.
    right
        Whether each tier's answer, out of fold where it was fitted here, is right, shape ``(n_rows, n_tiers)``; see
        `check_enough`.
    fold
        Fold in which a row is held out, -1 for test rows, which are never fitted on.
    progress
        Called with the share done and what was done.

    Raises
    ------
    TierError
        If the tune rows hold no words at all.
    """
    gates = []
    for fitted in fit_classifiers(texts, right.astype(np.int64), fold, n_classes=2, progress=progress):
        answers, *again = (
            _chance_of_right(p, fitted.model.latency)
            for p in (fitted.probabilities, *(a.probabilities for a in fitted.again))
            if p is not None
        )
        said_again = tuple(Again(a.label, a.confidence) for a in again)
        gates.append(FittedGate(TrainedGate(fitted.model), answers, said_again))
    return gates


def _chance_of_right(probabilities: Floats, latency: float) -> Answers:
    return _scores(np.round(probabilities[:, RIGHT], DECIMALS), latency)


def _scores(score: Floats, latency: float) -> Answers:
    n = len(score)
    return Answers(np.full(n, UNKNOWN, dtype=np.int64), score, np.zeros(n), np.full(n, latency))
