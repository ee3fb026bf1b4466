"""Learned confidence: how likely a tier's answer is right, from all that is known once it was given.

What a model says about itself is one signal among several: a model that runs here for nothing has its own opinion of
the answer, and some answers of a model are wrong more often than others. None of these signals needs another tier that
costs anything, so that they are the same in every policy, in a replay and in production.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, xlogy
from threadpoolctl import threadpool_limits

from hybrid.routing.table import CHUNK, NONE, Answers, Bools, Floats, Labels, Rows
from hybrid.tiers.calibration import DECIMALS
from hybrid.tiers.local import LocalModel

MIN_ROWS = 50  # answers on tune; with fewer nothing is learned
MIN_EACH = 10  # of them right, and wrong
MANY = 1_000  # answers from which on the signals may bend
KNOTS = (0.1, 0.25, 0.5, 0.75, 0.9)  # quantiles of a signal at which it may
OWN_LEVEL = 20  # answers of a label from which on it may be right more or less often than others
OWN_SHAPE = 400  # and from which on the signals may mean something else for it
MAX_ROWS = 20_000  # more move no weight, they only cost time
INVERSE_REGULARISATION = 10.0  # scikit-learn's C
EPSILON = 1e-6  # probabilities nearer to 0 or 1 are not told apart on the logit scale
SURE = 1e-3  # a wrong answer that claims more than 1 minus this is held against it no more than this much
BEYOND_CHANCE = 2.0  # standard errors by which the learned confidence has to be better

SIGNALS = SAID, LIKELY, RIVAL = "own score", "chance of its label", "chance of the best other label"
Chances = NDArray[np.float32]


class Reader(LocalModel, Protocol):
    """A model that runs here and has a probability for every class."""

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """Return calibrated probabilities, shape ``(n_texts, n_classes)``."""


@dataclass(frozen=True, slots=True, eq=False)
class LearnedConfidence:
    """A logistic regression over a few signals, as plain numbers.

    Each signal stands on the logit scale, with a bend at every one of its knots.

    Parameters
    ----------
    signals
        Which are read, in their order.
    knots
        Of each signal, rising; none: it counts along a straight line.
    levels, shapes
        Class codes: answers with a level of their own, and with weights of their own for every signal.
    weights
        Of the signals and their bends, the levels, and the shapes; shape ``(n_columns,)``.
    bias
        Log-odds where all of these are 0.
    reader
        Whose probabilities are read; None where none is.
    """

    kind: ClassVar[str] = "confidence"

    signals: tuple[str, ...]
    knots: tuple[tuple[float, ...], ...]
    levels: tuple[int, ...]
    shapes: tuple[int, ...]
    weights: Floats
    bias: float
    reader: Reader | None = None

    def answer(self, texts: Sequence[str], said: Answers) -> Answers:
        """Return a tier's answers about texts with the confidence that was learned.

        An unknown label gets the confidence 0; "none of these" keeps its own. What is no confidence, such as nan of one
        that was not asked, stays.
        """
        chances = None
        if self.reader is not None and len(texts):
            chances = self.reader.probabilities(texts).astype(np.float32)
        return self.apply(said, chances)

    def apply(self, said: Answers, chances: Chances | None) -> Answers:
        """Return the answers with the learned confidence; `chances` are the reader's, ``(n_rows, n_classes)``."""
        valid = (said.confidence >= 0) & (said.confidence <= 1)
        every = np.flatnonzero((said.label >= 0) & valid)
        # that it is none of the classes is right of no labelled row, so nothing is learned of it
        confidence = np.where(valid & (said.label != NONE), 0.0, said.confidence)
        for start in range(0, len(every), CHUNK):  # a hundred columns of every row at once would be most of a load
            known = every[start : start + CHUNK]
            values = _signals(self.signals, said.take(known), None if chances is None else chances[known])
            columns = _columns(values, said.label[known], self.knots, self.levels, self.shapes)
            confidence[known] = np.round(expit((columns * self.weights).sum(axis=1) + self.bias), DECIMALS)
        return replace(said, confidence=confidence)

    @property
    def n_columns(self) -> int:
        """How many numbers the weights are of."""
        smooth = sum(1 + len(own) for own in self.knots)
        return smooth + len(self.levels) + len(self.shapes) * smooth

    @property
    def rests_on(self) -> tuple[str, ...]:
        """What the confidence is computed from, for the user."""
        return (*self.signals, *(("its answer",) if self.levels else ()))

    def to_files(self, name: str) -> dict[str, bytes]:
        """Return the numbers as JSON; the reader packs itself."""
        stored = {
            "signals": self.signals,
            "knots": self.knots,
            "levels": self.levels,
            "shapes": self.shapes,
            "weights": self.weights.tolist(),
            "bias": self.bias,
        }
        return {f"{name}.json": json.dumps(stored, indent=1).encode()}

    @classmethod
    def from_files(cls, name: str, files: Mapping[str, bytes], *, reader: Reader | None) -> LearnedConfidence:
        """Read what `to_files` wrote, and give it its reader back."""
        stored = json.loads(files[f"{name}.json"])
        return cls(
            tuple(stored["signals"]),
            tuple(tuple(k) for k in stored["knots"]),
            tuple(stored["levels"]),
            tuple(stored["shapes"]),
            np.array(stored["weights"], dtype=np.float64),
            float(stored["bias"]),
            reader,
        )


@dataclass(frozen=True, slots=True, eq=False)
class FittedConfidence:
    """What was learned about a tier's confidence, beside what the tier says itself.

    Parameters
    ----------
    model
        What ships, fitted on all tune answers; None where there were too few.
    answers
        The tier's with the learned confidence, out of fold on tune; as they were said where there is no model.
    better
        Whether, out of fold on tune, it predicts rightness better than the tier does, beyond chance.
    reason
        Why, or why not, in a sentence for the screen.
    """

    model: LearnedConfidence | None
    answers: Answers
    better: bool
    reason: str


def fit_confidence(
    said: Answers,
    truth: Labels,
    fold: Labels,
    *,
    reader: Reader | None = None,
    chances: Chances | None = None,
    group: Labels | None = None,
) -> FittedConfidence:
    """Learn how likely a tier's answers are right, and say it of every answer by rows other than its own.

    Parameters
    ----------
    said
        The tier's answers about all rows, shape ``(n_rows,)``; nan where it was not asked.
    truth
        Class codes, shape ``(n_rows,)``.
    fold
        Fold in which a row is held out, -1 for test rows, which are never fitted on.
    reader
        A model that runs here at no charge.
    chances
        Its probabilities of every class, shape ``(n_rows, n_classes)``: out of fold on tune, the reader's own on test.
    group
        Rows of one group are one draw when gain is told from chance; None: each row is its own.

    References
    ----------
    Wolpert 1992, Stacked generalization; Platt 1999; Hastie & Tibshirani 1986, Generalized additive models.

    Examples
    --------
    A model without a score of its own, whose answers are right where a second opinion agrees:

    >>> n = 200
    >>> agrees = np.arange(n) % 4 > 0
    >>> said = Answers(np.zeros(n, dtype=np.int64), np.full(n, 0.75), np.zeros(n), np.zeros(n))
    >>> chances = np.where(agrees[:, None], [0.8, 0.2], [0.3, 0.7]).astype(np.float32)
    >>> found = fit_confidence(said, np.where(agrees, 0, 1), np.arange(n) % 5, chances=chances)
    >>> found.better, found.model.signals
    (True, ('chance of its label', 'chance of the best other label'))
    >>> bool(found.answers.confidence[agrees].min() > 0.9), bool(found.answers.confidence[~agrees].max() < 0.1)
    (True, True)
    """
    known = np.flatnonzero((said.label >= 0) & ~np.isnan(said.confidence))
    right = said.label == truth
    tune = known[fold[known] >= 0]
    n_right = int(right[tune].sum())
    if len(tune) < MIN_ROWS or min(n_right, len(tune) - n_right) < MIN_EACH:
        reason = (
            f"Its own score: {len(tune)} answers on tune, {n_right} of them right, are too few to learn from. It "
            f"takes {MIN_ROWS}, {MIN_EACH} of them right and {MIN_EACH} wrong."
        )
        return FittedConfidence(None, said, False, reason)

    own = [SAID] if np.ptp(said.confidence[tune]) > 0 else []
    if not own and chances is None and np.bincount(said.label[tune]).max() < OWN_LEVEL:
        reason = "Its own score: every answer claims the same, and there are no texts to learn more from."
        return FittedConfidence(None, said, False, reason)
    names = (*own, *((LIKELY, RIVAL) if chances is not None else ()))
    values = _signals(names, said.take(known), None if chances is None else chances[known])
    place = np.full(len(truth), -1)
    place[known] = np.arange(len(known))

    def fit_on(rows: Rows) -> LearnedConfidence:
        rows = rows[:: -(-len(rows) // MAX_ROWS)]
        return _fit(names, values[place[rows]], said.label[rows], right[rows])

    shipped = replace(fit_on(tune), reader=reader if chances is not None else None)
    confidence = shipped.apply(said, chances).confidence
    for held_out in np.unique(fold[tune]):
        rows, others = tune[fold[tune] == held_out], tune[fold[tune] != held_out]
        if right[others].any() and not right[others].all():
            part = None if chances is None else chances[rows]
            confidence[rows] = fit_on(others).apply(said.take(rows), part).confidence
        else:
            confidence[rows] = said.confidence[rows]  # nothing to learn from without them
    gain, error = _gain(said.confidence[tune], confidence[tune], right[tune], None if group is None else group[tune])
    better = gain > BEYOND_CHANCE * error
    reason = (
        f"{'Learned' if better else 'Its own score'}: out of fold the log loss of the learned confidence is "
        f"{abs(gain):.3f} ± {1.96 * error:.3f} {'lower' if gain > 0 else 'higher'} than that of its own score."
    )
    return FittedConfidence(shipped, replace(said, confidence=confidence), better, reason)


def _signals(names: Sequence[str], said: Answers, chances: Chances | None) -> Floats:
    """Return the signals of answers with a known label, shape ``(n_rows, n_signals)``."""
    columns: list[NDArray[Any]] = []
    if SAID in names:
        columns.append(said.confidence)
    if LIKELY in names:
        if chances is None:
            raise ValueError("the reader's probabilities are needed")
        at = np.arange(len(said.label))
        others = chances.copy()
        others[at, said.label] = 0.0
        columns += [chances[at, said.label], others.max(axis=1)]
    if not columns:
        return np.zeros((len(said.label), 0))
    stacked = np.clip(np.column_stack(columns).astype(np.float64), EPSILON, 1 - EPSILON)
    return np.asarray(logit(stacked), dtype=np.float64)


def _columns(
    values: Floats, label: Labels, knots: Sequence[Sequence[float]], levels: Sequence[int], shapes: Sequence[int]
) -> Floats:
    """Return what the weights are of, shape ``(n_rows, n_columns)``."""
    bent = [np.maximum(values[:, j] - k, 0.0) for j, own in enumerate(knots) for k in own]
    smooth = np.column_stack([values, *bent])
    level = label[:, None] == np.array(levels, dtype=np.int64)
    return np.hstack([smooth, level, *((label == code)[:, None] * smooth for code in shapes)])


def _fit(names: tuple[str, ...], values: Floats, label: Labels, right: Bools) -> LearnedConfidence:
    from sklearn.linear_model import LogisticRegression  # imports pandas, which production must not load

    knots: tuple[tuple[float, ...], ...] = ((),) * len(names)
    if len(label) >= MANY:
        knots = tuple(tuple(np.unique(np.quantile(column, KNOTS)).tolist()) for column in values.T)
    codes, count = np.unique(label, return_counts=True)
    levels, shapes = tuple(codes[count >= OWN_LEVEL].tolist()), tuple(codes[count >= OWN_SHAPE].tolist())
    columns = _columns(values, label, knots, levels, shapes)
    mean, scale = columns.mean(axis=0), columns.std(axis=0)
    scale[scale == 0] = 1.0
    model = LogisticRegression(C=INVERSE_REGULARISATION, max_iter=1_000)
    with threadpool_limits(1, user_api="blas"):  # the same sums, whatever the machine has to spare
        model.fit((columns - mean) / scale, right)
    weights = model.coef_[0] / scale
    return LearnedConfidence(names, knots, levels, shapes, weights, float(model.intercept_[0] - weights @ mean))


def _gain(said: Floats, learned: Floats, right: Bools, group: Labels | None) -> tuple[float, float]:
    """Return by how much the learned confidence has the smaller mean log loss, and its standard error by groups."""
    loss = [-(xlogy(right, p) + xlogy(~right, 1 - p)) for p in (np.clip(c, SURE, 1 - SURE) for c in (said, learned))]
    less = loss[0] - loss[1]
    code = np.arange(len(less)) if group is None else np.unique(group, return_inverse=True)[1]
    sums = np.bincount(code, less - less.mean())
    return float(less.mean()), float(np.sqrt((sums**2).sum()) / len(less))
