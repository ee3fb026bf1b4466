"""The fast classifier: TF-IDF of words and word pairs, many-class logistic regression, one temperature."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from hybrid.errors import TierError
from hybrid.routing.table import Answers, Floats, Labels, Rows, likeliest
from hybrid.tiers.calibration import DECIMALS, GRADERS, Again, Calibrator, cross_calibrated
from hybrid.tiers.softmax import StoppedError, fit_softmax
from hybrid.tiers.words import CUT, check_cut, count, count_terms, inverse_document_frequency, tf_idf

MAX_TERMS = 20_000

Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True, eq=False)
class FastClassifier:
    """A fitted classifier as plain numbers: it needs no unpickling, and gives the same answer alone or in a batch.

    Parameters
    ----------
    terms
        Words and word pairs, in column order.
    idf
        Shape ``(n_terms,)``.
    weights
        float32, shape ``(n_terms, n_classes)``.
    bias
        float32, shape ``(n_classes,)``; -inf for a class that it never saw.
    calibrator
        Applied to the logits.
    latency
        Seconds for one text, the median of single calls when it was fitted.
    cut
        How its texts were cut into words when it was fitted; see `hybrid.tiers.words`.
    """

    kind: ClassVar[str] = "classifier"
    waits: ClassVar[bool] = False
    answers_alike: ClassVar[bool] = True

    terms: tuple[str, ...]
    idf: Floats
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    calibrator: Calibrator = Calibrator()  # noqa: RUF009 - frozen, so sharing one is safe
    latency: float = 0.0
    cut: int = CUT
    _index: dict[str, int] = field(init=False, repr=False)
    _weights: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_cut(self.cut)
        object.__setattr__(self, "_index", {term: j for j, term in enumerate(self.terms)})
        object.__setattr__(self, "_weights", self.weights.astype(np.float64))

    def features(self, texts: Sequence[str]) -> csr_matrix:
        """Return TF-IDF rows, shape ``(n_texts, n_terms)``."""
        return tf_idf(count_terms(texts, self._index, cut=self.cut), self.idf)

    def logits(self, texts: Sequence[str]) -> Floats:
        """Return uncalibrated scores, shape ``(n_texts, n_classes)``."""
        return self._scores(self.features(texts))

    def answer(self, texts: Sequence[str]) -> Answers:
        """Answer texts; free of charge, at the latency that was measured."""
        return self.decide(self.probabilities(texts))

    def answer_likely(self, texts: Sequence[str]) -> tuple[Answers, Labels]:
        """Answer texts, and return the likeliest classes of each as well; see `hybrid.routing.table.likeliest`."""
        found = self.probabilities(texts)
        return self.decide(found), likeliest(found)

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """Return calibrated probabilities, shape ``(n_texts, n_classes)``."""
        return self.calibrator.probabilities(self.logits(texts))

    def decide(self, probabilities: Floats) -> Answers:
        """Turn probabilities, ``(n_rows, n_classes)``, into answers: the most probable class, and how probable."""
        n = len(probabilities)
        confidence = np.round(self.calibrator.confidence(probabilities), DECIMALS)
        return Answers(probabilities.argmax(axis=1), confidence, np.zeros(n), np.full(n, self.latency))

    def contributions(self, text: str, label: int) -> dict[str, float]:
        """Return what each known word and word pair of a text adds to a class's score, before calibration.

        Exact, as the score is their sum and the class's bias. Positive speaks for the class.
        """
        row = self.features([text])
        added = row.data * self._weights[row.indices, label]
        return {self.terms[j]: float(v) for j, v in zip(row.indices, added, strict=True)}

    def to_files(self, name: str) -> dict[str, bytes]:
        """Return the numbers and the terms as one file of arrays."""
        out = io.BytesIO()
        np.savez_compressed(
            out,
            terms=np.frombuffer("\n".join(self.terms).encode(), dtype=np.uint8),  # a term holds no line break
            idf=self.idf,
            weights=self.weights,
            bias=self.bias,
            temperature=np.array(self.calibrator.temperature),
            line=np.frombuffer(json.dumps(self.calibrator.plain()["top"]).encode(), dtype=np.uint8),
            latency=np.array(self.latency),
            cut=np.array(self.cut),
        )
        return {f"{name}.npz": out.getvalue()}

    @classmethod
    def from_files(cls, name: str, files: Mapping[str, bytes]) -> Self:
        """Read what `to_files` wrote."""
        with np.load(io.BytesIO(files[f"{name}.npz"]), allow_pickle=False) as arrays:  # plain numbers: runs no code
            stored: dict[str, NDArray[Any]] = dict(arrays)
        return cls(
            tuple(stored["terms"].tobytes().decode().split("\n")),
            stored["idf"],
            stored["weights"],
            stored["bias"],
            stored_calibrator(stored),
            float(stored["latency"]),
            int(stored.get("cut", 1)),
        )

    def _scores(self, features: csr_matrix) -> Floats:
        scores: Floats = np.asarray(features @ self._weights) + self.bias.astype(np.float64)
        return scores


def stored_calibrator(stored: Mapping[str, NDArray[Any]]) -> Calibrator:
    """Read the calibrator among a model's arrays; bundles of 0.1 hold a temperature alone."""
    line = json.loads(stored["line"].tobytes()) if "line" in stored else None
    return Calibrator.from_plain({"temperature": float(stored["temperature"]), "top": line})


@dataclass(frozen=True, slots=True, eq=False)
class FittedClassifier:
    """The classifier that ships and its answers about rows that it was not fitted on.

    Parameters
    ----------
    model
        Fitted on all tune rows.
    answers
        About every row: out of fold on tune, the shipped model's on test.
    probabilities
        The same as calibrated probabilities, shape ``(n_rows, n_classes)``.
    raw_confidence
        The top probability before calibration, shape ``(n_rows,)``.
    again
        What some of the folds' models, which answered tune rows, say of the test rows.
    """

    model: FastClassifier
    answers: Answers
    probabilities: Floats
    raw_confidence: Floats
    again: tuple[Again, ...] = ()


def fit_classifier(
    texts: NDArray[np.object_],
    truth: Labels,
    fold: Labels,
    *,
    n_classes: int,
    progress: Progress | None = None,
) -> FittedClassifier:
    """Fit the classifier, and answer every row by a model that has not seen it; see `fit_classifiers`."""
    return fit_classifiers(texts, truth[:, None], fold, n_classes=n_classes, progress=progress)[0]


def fit_classifiers(
    texts: NDArray[np.object_],
    truth: Labels,
    fold: Labels,
    *,
    n_classes: int,
    progress: Progress | None = None,
) -> list[FittedClassifier]:
    """Fit a classifier for each question, and answer every row by models that have not seen it.

    Parameters
    ----------
    texts
        Shape ``(n_rows,)``.
    truth
        The right class of each row in each question, shape ``(n_rows, n_questions)``.
    fold
        Number of the fold a row is held out in, -1 for test rows, which are never fitted on.
    n_classes
        How many class codes there are; a class may be missing from the tune rows.
    progress
        Called with the share done and what was done, from the calling thread; what it raises ends the fit.

    Raises
    ------
    TierError
        If the tune rows hold no words at all.

    Notes
    -----
    Words are counted once; terms and idf are chosen from the fitted rows of each fold, as a pipeline inside a
    cross-validation would. Each question gets the model that it would get alone, to the bit; what all read of the
    words is made once. The temperature that a fold's rows are calibrated with comes from the other folds.
    """
    tune, test = np.flatnonzero(fold >= 0), np.flatnonzero(fold < 0)
    folds = np.unique(fold[tune])
    report = progress or (lambda share, done: None)
    report(0.0, "Counting words")
    counts, terms = count(texts)
    if not counts[tune].nnz:
        raise TierError("The texts on the tune side hold no words: is the right column picked as the text?")

    jobs = {int(f): tune[fold[tune] != f] for f in folds} | {-1: tune}
    report(1 / (2 * len(jobs)), f"Fitting {len(jobs)} models")
    models: dict[int, list[FastClassifier]] = {}
    columns: dict[int, Rows] = {}
    stop = threading.Event()
    # one BLAS thread each: its own threads spin against the pool's, at more than twice the time
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(2) as pool:
        running: dict[Future[tuple[list[FastClassifier], Rows]], int] = {
            pool.submit(_fit, counts, terms, truth, rows, n_classes, stop.is_set): f for f, rows in jobs.items()
        }
        try:
            for done in as_completed(running):
                models[running[done]], columns[running[done]] = done.result()
                report(len(models) / (len(jobs) + 1), f"Fitted {len(models)} of {len(jobs)} models")
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)  # `report` raises when nobody waits for the rest
            raise

    def scores(f: int, rows: Rows) -> list[Floats]:
        features = tf_idf(counts[rows][:, columns[f]], models[f][0].idf)
        return [model._scores(features) for model in models[f]]

    logits = np.full((truth.shape[1], len(texts), n_classes), -np.inf)
    for f in (*(int(f) for f in folds), -1):
        logits[:, fold == f] = scores(f, np.flatnonzero(fold == f))
    graded = {f: scores(f, test) for f in map(int, folds[:GRADERS])}
    fitted = [
        _calibrated(texts, truth[:, q], fold, logits[q], models[-1][q], {f: said[q] for f, said in graded.items()})
        for q in range(truth.shape[1])
    ]
    report(1.0, "Fitted")
    return fitted


def _calibrated(
    texts: NDArray[np.object_],
    truth: Labels,
    fold: Labels,
    logits: Floats,
    model: FastClassifier,
    graded: Mapping[int, Floats],
) -> FittedClassifier:
    """Return the model as it ships, and its answers: by the logits of all rows, and of the test rows by folds."""
    test = np.flatnonzero(fold < 0)
    calibrator, probabilities, confidence, by_fold = cross_calibrated(logits, truth, fold)
    again = tuple(Again.of(said, by_fold[f]) for f, said in graded.items())
    shipped = replace(model, calibrator=calibrator)
    shipped = replace(shipped, latency=_seconds_per_text(shipped, texts))
    raw = Calibrator().probabilities(logits).max(axis=1)
    answers = replace(shipped.decide(probabilities), confidence=np.round(confidence, DECIMALS))
    if len(test):  # the words of a text are cut alike in a corpus and alone; say so loudly should that ever change
        sample = test[:: max(1, len(test) // 20)]
        assert (shipped.answer(list(texts[sample])).label == answers.label[sample]).all()
    return FittedClassifier(shipped, answers, probabilities, raw, again)


def _fit(
    counts: csr_matrix,
    terms: NDArray[np.object_],
    truth: Labels,
    rows: Rows,
    n_classes: int,
    stopped: Callable[[], bool],
) -> tuple[list[FastClassifier], Rows]:
    """Fit on these rows; returns the model of each question, and the columns of `counts` that they read."""
    if stopped():
        raise StoppedError
    counts, truth = counts[rows], truth[rows]
    total = np.bincount(counts.indices, counts.data, minlength=counts.shape[1])
    # the most frequent terms, in column order; the stable sort keeps ties the same on every machine
    columns = np.sort(np.argsort(-total, kind="stable")[: min(MAX_TERMS, int((total > 0).sum()))])
    counts = counts[:, columns]
    idf = inverse_document_frequency(counts)
    present, code = np.unique(truth, return_inverse=True)
    code = code.reshape(truth.shape)
    found, found_bias = fit_softmax(tf_idf(counts, idf), code, len(present), stopped=stopped)
    models = []
    for q in range(truth.shape[1]):
        own = slice(q * len(present), (q + 1) * len(present))
        weights = np.zeros((len(columns), n_classes), dtype=np.float32)
        bias = np.full(n_classes, -np.inf, dtype=np.float32)
        weights[:, present], bias[present] = found[:, own], found_bias[own]
        models.append(FastClassifier(tuple(terms[columns]), idf, weights, bias))
    return models, columns


def _seconds_per_text(model: FastClassifier, texts: NDArray[np.object_]) -> float:
    seconds = []
    for text in texts[:20]:
        start = time.perf_counter()
        model.answer([text])
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))
