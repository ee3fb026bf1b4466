"""Small model: sentence embeddings and logistic regression, alone and averaged with the fast classifier."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from hybrid.errors import TierError
from hybrid.routing.table import Answers, Floats, Labels, likeliest
from hybrid.tiers.calibration import DECIMALS, Again, Calibrator, cross_calibrated
from hybrid.tiers.classifier import FastClassifier, FittedClassifier, Progress, stored_calibrator
from hybrid.tiers.embedders import Embedder, EndpointEmbedder, embed, embedder_from

if TYPE_CHECKING:  # production has no cache, and loads no database
    from hybrid.tiers.embedding_cache import EmbeddingCache, Vectors

INVERSE_REGULARISATION = 10.0  # scikit-learn's C
MAX_ITERATIONS = 300
ROWS_AT_ONCE = 1_000  # scored together, to bound memory
TIMED_TEXTS = 20  # asked one by one to measure the latency
TIMED_CALLS = 3  # of an endpoint, where every one may cost money
EMBEDDING_SHARE = 0.8  # of the time, for the progress bar


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingClassifier:
    """A logistic regression over embeddings, as plain numbers; the embedding model stays in its package.

    Parameters
    ----------
    embedder
        Turns texts into vectors.
    weights
        float32, shape ``(n_dimensions, n_classes)``.
    bias
        float32, shape ``(n_classes,)``; -inf for a class that it never saw.
    calibrator
        Applied to the logits.
    latency
        Seconds for one text, the median of single calls when it was fitted.
    """

    kind: ClassVar[str] = "embedding"
    waits: ClassVar[bool] = True  # milliseconds a text, or a call to an endpoint

    embedder: Embedder
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    calibrator: Calibrator = Calibrator()  # noqa: RUF009 - frozen, so sharing one is safe
    latency: float = 0.0
    _columns: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_columns", np.ascontiguousarray(self.weights.T, dtype=np.float64))

    @property
    def answers_alike(self) -> bool:
        """Whether it is bound to answer as it did: an endpoint is not."""
        return not isinstance(self.embedder, EndpointEmbedder)

    def answer(self, texts: Sequence[str]) -> Answers:
        """Answer texts at the embedder's price and at the latency that was measured."""
        return _decide(self.probabilities(texts), self.calibrator, self.embedder.price, self.latency)

    def answer_likely(self, texts: Sequence[str]) -> tuple[Answers, Labels]:
        """Answer texts, and return the likeliest classes of each as well; see `hybrid.routing.table.likeliest`."""
        found = self.probabilities(texts)
        return _decide(found, self.calibrator, self.embedder.price, self.latency), likeliest(found)

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """Return calibrated probabilities, shape ``(n_texts, n_classes)``."""
        return self.calibrator.probabilities(self.logits(embed(self.embedder, texts)))

    def logits(self, vectors: Vectors) -> Floats:
        """Return uncalibrated scores of embeddings, shape ``(n_texts, n_classes)``.

        A row's sum runs in the same order alone and in a batch, which a matrix product does not promise.
        """
        if not len(vectors):
            return np.zeros((0, len(self.bias)))
        if vectors.shape[1] != self._columns.shape[1]:
            raise TierError(
                f"{self.embedder.name} gives {vectors.shape[1]} numbers a text, and {self._columns.shape[1]} are "
                "needed: the model behind it has changed. Fit again."
            )
        scores = np.empty((len(vectors), len(self.bias)))
        for start in range(0, len(vectors), ROWS_AT_ONCE):
            part = vectors[start : start + ROWS_AT_ONCE].astype(np.float64)
            for c, column in enumerate(self._columns):
                scores[start : start + ROWS_AT_ONCE, c] = (part * column).sum(axis=1)
        return np.asarray(scores + self.bias.astype(np.float64), dtype=np.float64)

    def to_files(self, name: str) -> dict[str, bytes]:
        """Return the numbers, and which embedder they need; the embedding model itself stays where it is."""
        out = io.BytesIO()
        np.savez_compressed(
            out,
            weights=self.weights,
            bias=self.bias,
            temperature=np.array(self.calibrator.temperature),
            line=np.frombuffer(json.dumps(self.calibrator.plain()["top"]).encode(), dtype=np.uint8),
            latency=np.array(self.latency),
        )
        return {
            f"{name}.json": json.dumps(self.embedder.plain(), indent=1).encode(),
            f"{name}.npz": out.getvalue(),
        }

    @classmethod
    def from_files(cls, name: str, files: Mapping[str, bytes]) -> Self:
        """Read what `to_files` wrote; the embedder has to be installed or reachable here."""
        embedder = embedder_from(json.loads(files[f"{name}.json"]))
        with np.load(io.BytesIO(files[f"{name}.npz"]), allow_pickle=False) as arrays:
            stored: dict[str, NDArray[Any]] = dict(arrays)
        return cls(embedder, stored["weights"], stored["bias"], stored_calibrator(stored), float(stored["latency"]))


@dataclass(frozen=True, slots=True, eq=False)
class AveragedClassifier:
    """The mean of the fast classifier's and the embedding classifier's probabilities, with a temperature of its own."""

    kind: ClassVar[str] = "embedding_average"
    waits: ClassVar[bool] = True

    fast: FastClassifier
    embedding: EmbeddingClassifier
    calibrator: Calibrator = Calibrator()  # noqa: RUF009
    latency: float = 0.0

    def answer(self, texts: Sequence[str]) -> Answers:
        """Answer texts at the embedder's price and at the latency that was measured."""
        return _decide(self.probabilities(texts), self.calibrator, self.embedding.embedder.price, self.latency)

    def answer_likely(self, texts: Sequence[str]) -> tuple[Answers, Labels]:
        """Answer texts, and return the likeliest classes of each as well; see `hybrid.routing.table.likeliest`."""
        found = self.probabilities(texts)
        return _decide(found, self.calibrator, self.embedding.embedder.price, self.latency), likeliest(found)

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """Return calibrated probabilities, shape ``(n_texts, n_classes)``."""
        logits = average(self.fast.probabilities(texts), self.embedding.probabilities(texts))
        return self.calibrator.probabilities(logits)

    @property
    def answers_alike(self) -> bool:
        """Whether it is bound to answer as it did: an endpoint is not."""
        return self.embedding.answers_alike

    def to_files(self, name: str) -> dict[str, bytes]:
        """Return the files of both classifiers, and the calibration of their mean."""
        own = {**self.calibrator.plain(), "latency": self.latency}
        return {
            f"{name}.json": json.dumps(own, indent=1).encode(),
            **self.fast.to_files(f"{name}_classifier"),
            **self.embedding.to_files(f"{name}_embedding"),
        }

    @classmethod
    def from_files(cls, name: str, files: Mapping[str, bytes]) -> Self:
        """Read what `to_files` wrote."""
        own = json.loads(files[f"{name}.json"])
        fast = FastClassifier.from_files(f"{name}_classifier", files)
        embedding = EmbeddingClassifier.from_files(f"{name}_embedding", files)
        return cls(fast, embedding, Calibrator.from_plain(own), float(own["latency"]))


@dataclass(frozen=True, slots=True, eq=False)
class FittedEmbedding:
    """The two classifiers that ship and their answers about rows that they were not fitted on.

    Parameters
    ----------
    model, averaged
        Fitted on all tune rows.
    answers, averaged_answers
        About every row: out of fold on tune, the shipped model's on test.
    probabilities, averaged_probabilities
        The same as calibrated probabilities, shape ``(n_rows, n_classes)``.
    again, averaged_again
        Of the test rows by some of the folds' models; see `hybrid.tiers.classifier.FittedClassifier`.
    """

    model: EmbeddingClassifier
    answers: Answers
    probabilities: Floats
    averaged: AveragedClassifier
    averaged_answers: Answers
    averaged_probabilities: Floats
    again: tuple[Again, ...] = ()
    averaged_again: tuple[Again, ...] = ()


def average(one: Floats, other: Floats) -> Floats:
    """Return the logarithm of the mean of two tables of probabilities; -inf where both are 0.

    Examples
    --------
    >>> np.exp(average(np.array([[0.9, 0.1]]), np.array([[0.5, 0.5]]))).round(9).tolist()
    [[0.7, 0.3]]
    """
    with np.errstate(divide="ignore"):
        return np.asarray(np.log((one + other) / 2), dtype=np.float64)


def fit_embedding(
    texts: NDArray[np.object_],
    truth: Labels,
    fold: Labels,
    *,
    n_classes: int,
    embedder: Embedder,
    fast: FittedClassifier,
    cache: EmbeddingCache | None = None,
    progress: Progress | None = None,
) -> FittedEmbedding:
    """Embed the texts, fit both classifiers, and answer every row by models that have not seen it.

    Parameters
    ----------
    texts, truth
        Shape ``(n_rows,)``.
    fold
        Number of the fold a row is held out in, -1 for test rows, which are never fitted on.
    n_classes
        How many class codes there are; a class may be missing from the tune rows.
    fast
        The fast classifier, fitted on the same folds.
    cache
        Where embeddings are kept; None: nowhere.
    progress
        Called with the share done and what was done; what it raises ends the work.

    Raises
    ------
    TierError
        If the embedder is not there or fails.

    Notes
    -----
    As with the fast classifier, the temperature that a fold's rows are calibrated with comes from the other folds.
    """
    report = progress or (lambda share, done: None)
    vectors = embed(
        embedder, list(texts), cache=cache, progress=lambda share, done: report(EMBEDDING_SHARE * share, done)
    )
    held = [int(f) for f in np.unique(fold[fold >= 0])]
    logits = np.full((len(texts), n_classes), -np.inf)
    on_test = []
    shipped = EmbeddingClassifier(embedder, np.zeros((0, n_classes), np.float32), np.zeros(n_classes, np.float32))
    with threadpool_limits(1, user_api="blas"):  # the same sums, whatever the machine has to spare
        for n, f in enumerate((*held, -1)):
            report(EMBEDDING_SHARE + (0.95 - EMBEDDING_SHARE) * n / len(held), f"Fitting on embeddings, {n + 1}")
            rows = (fold >= 0) & (fold != f)
            shipped = _fit(vectors[rows], truth[rows], n_classes, embedder)
            logits[fold == f] = shipped.logits(vectors[fold == f])
            if n < len(fast.again) and f >= 0:
                on_test.append(shipped.logits(vectors[fold < 0]))
    temperatures, probabilities, confidence, by_fold = cross_calibrated(logits, truth, fold)
    again = tuple(Again.of(own, by_fold[f]) for own, f in zip(on_test, held, strict=False))
    shipped = replace(shipped, calibrator=temperatures)
    shipped = replace(shipped, latency=_seconds_per_text(shipped, texts))
    temperature, both, sure, by_fold = cross_calibrated(average(fast.probabilities, probabilities), truth, fold)
    averaged_again = tuple(
        Again.of(average(a.probabilities, b.probabilities), by_fold[f])
        for a, b, f in zip(fast.again, again, held, strict=False)
        if a.probabilities is not None and b.probabilities is not None
    )
    averaged = AveragedClassifier(fast.model, shipped, temperature, fast.model.latency + shipped.latency)
    report(1.0, "Fitted on embeddings")
    return FittedEmbedding(
        shipped,
        replace(
            _decide(probabilities, temperatures, embedder.price, shipped.latency),
            confidence=np.round(confidence, DECIMALS),
        ),
        probabilities,
        averaged,
        replace(_decide(both, temperature, embedder.price, averaged.latency), confidence=np.round(sure, DECIMALS)),
        both,
        again,
        averaged_again,
    )


def _fit(vectors: Vectors, truth: Labels, n_classes: int, embedder: Embedder) -> EmbeddingClassifier:
    from sklearn.linear_model import LogisticRegression  # imports pandas, which production must not load

    weights = np.zeros((vectors.shape[1], n_classes), dtype=np.float32)
    bias = np.full(n_classes, -np.inf, dtype=np.float32)
    present = np.unique(truth)
    if len(present) == 1:
        bias[present] = 0.0
        return EmbeddingClassifier(embedder, weights, bias)
    model = LogisticRegression(C=INVERSE_REGULARISATION, tol=1e-3, max_iter=MAX_ITERATIONS)
    model.fit(vectors.astype(np.float64), truth)
    if len(present) == 2:  # one column of coefficients, of the second class against the first
        weights[:, present[1]], bias[present] = model.coef_[0], (0.0, model.intercept_[0])
    else:
        weights[:, present], bias[present] = model.coef_.T, model.intercept_
    return EmbeddingClassifier(embedder, weights, bias)


def _decide(probabilities: Floats, calibrator: Calibrator, price: float, latency: float) -> Answers:
    n = len(probabilities)
    if not n:
        return Answers(np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0), np.zeros(0))
    confidence = np.round(calibrator.confidence(probabilities), DECIMALS)
    return Answers(probabilities.argmax(axis=1), confidence, np.full(n, price), np.full(n, latency))


def _seconds_per_text(model: EmbeddingClassifier, texts: NDArray[np.object_]) -> float:
    seconds = []
    for text in texts[: TIMED_CALLS if isinstance(model.embedder, EndpointEmbedder) else TIMED_TEXTS]:
        start = time.perf_counter()
        model.answer([str(text)])
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))
