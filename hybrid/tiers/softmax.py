"""Softmax: many-class logistic regression on sparse rows, in single precision, by a few passes of Adagrad."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from hybrid.routing.table import Labels, Rows

BATCH = 64  # rows a step; with four times as many, few rows make too few steps
RATE = 2.0  # of the steps
START = 1.0  # of each weight's sum of squared gradients; a larger one makes the first steps smaller
PASSES = 6  # over the rows; more rows than MANY need fewer of them
FEWEST_PASSES = 2
MANY = 50_000

Weights = NDArray[np.float32]


class StoppedError(Exception):
    """Nobody waits for this fit any more."""


def fit_softmax(
    features: csr_matrix,
    truth: Labels,
    n_classes: int,
    *,
    seed: int = 0,
    stopped: Callable[[], bool] = lambda: False,
) -> tuple[Weights, Weights]:
    """Fit a linear model whose softmax is the probability of each class.

    Parameters
    ----------
    features
        Shape ``(n_rows, n_features)``; rows of about unit length.
    truth
        Codes below `n_classes`, shape ``(n_rows,)``; or ``(n_rows, n_questions)``: models that learn other things from
        the same rows are fitted together, each as it would be alone, in much less than the sum of their times.
    seed
        Of the order in which rows are visited.
    stopped
        Asked between passes; once it says so, `StoppedError` is raised.

    Returns
    -------
    weights
        Shape ``(n_features, n_classes)``; of several questions side by side, ``(n_features, n_questions * n_classes)``.
    bias
        Shape ``(n_classes,)``, or ``(n_questions * n_classes,)``; -inf for what no row is.

    Notes
    -----
    Rows are dealt into batches once. A batch touches the weights of its own features only, which are few. Nothing is
    penalised: the number of passes is fixed, and stopping early is what keeps the weights small. One thread and a
    seeded order: the same rows give the same bits.

    References
    ----------
    Duchi, Hazan & Singer 2011, Adaptive Subgradient Methods for Online Learning and Stochastic Optimization.

    Examples
    --------
    >>> rows = csr_matrix(np.array([[1.0, 0.0], [0.0, 1.0]] * 20))
    >>> weights, bias = fit_softmax(rows, np.array([0, 1] * 20), 2)
    >>> (rows @ weights + bias).argmax(axis=1)[:4].tolist()
    [0, 1, 0, 1]
    """
    rng = np.random.default_rng(seed)
    truth = truth.reshape(len(truth), -1)
    n_questions = truth.shape[1]
    truth = truth + n_classes * np.arange(n_questions)  # the column of the right class
    weights = np.zeros((features.shape[1], n_questions * n_classes), dtype=np.float32)
    squares = np.full_like(weights, START)
    bias = np.zeros(n_questions * n_classes, dtype=np.float32)
    bias[np.bincount(truth.ravel(), minlength=len(bias)) == 0] = -np.inf  # what is never right has no chance
    bias_squares = np.full_like(bias, START)
    rate = np.float32(RATE)
    batches = _deal(features, truth, rng)
    for _ in range(passes(len(truth))):
        if stopped():
            raise StoppedError
        for number in rng.permutation(len(batches)):
            columns, rows, rows_by_column, right = batches[number]
            own = weights.take(columns, axis=0)
            error = _probabilities(rows @ own + bias, n_questions)
            error[np.arange(len(right))[:, None], right] -= 1
            step = rows_by_column @ error
            seen = squares.take(columns, axis=0)
            seen += step * step
            _whole(squares)[columns] = _whole(seen)
            step /= np.sqrt(seen, out=seen)
            step *= rate
            own -= step
            _whole(weights)[columns] = _whole(own)
            gradient = error.sum(axis=0)
            bias_squares += gradient * gradient
            bias -= rate * gradient / np.sqrt(bias_squares)
    return weights, bias


def passes(n_rows: int) -> int:
    """Return how many passes over the rows are made."""
    return max(FEWEST_PASSES, min(PASSES, PASSES * MANY // max(n_rows, 1)))


def _deal(
    features: csr_matrix, truth: Labels, rng: np.random.Generator
) -> list[tuple[Rows, csr_matrix, csr_matrix, Labels]]:
    """Cut the rows into batches: the columns each touches, its rows over those columns alone, and the truth."""
    order = rng.permutation(features.shape[0])
    shuffled = features[order].astype(np.float32)
    dealt = []
    place = np.zeros(features.shape[1], dtype=np.int32)
    for start in range(0, len(order), BATCH):
        part = shuffled[start : start + BATCH]
        touched = np.zeros(features.shape[1], dtype=bool)
        touched[part.indices] = True
        columns = np.flatnonzero(touched)
        place[columns] = np.arange(len(columns), dtype=np.int32)
        rows = csr_matrix((part.data, place[part.indices], part.indptr), shape=(part.shape[0], len(columns)))
        dealt.append((columns, rows, rows.T.tocsr(), truth[order[start : start + BATCH]]))
    return dealt


def _whole(matrix: Weights) -> NDArray[np.void]:
    """See each row as one item, which numpy writes in one go: four times as fast as number by number."""
    return matrix.view(np.dtype((np.void, matrix.strides[0])))[:, 0]


def _probabilities(scores: Weights, n_questions: int) -> Weights:
    each = scores.reshape(len(scores), n_questions, -1)
    each -= each.max(axis=-1, keepdims=True)
    np.exp(each, out=each)
    each /= each.sum(axis=-1, keepdims=True)
    return scores
