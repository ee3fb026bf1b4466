"""Scope: how far a text is from anything seen, as the share of known texts that are nearer to the others than it is.

The distance is the cosine distance to the nearest known text. Of words, those that nobody has seen count in a text's
length: without them a text of strange words is judged by the few that it happens to share.
"""

from __future__ import annotations

import io
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from hybrid.errors import BundleError, TierError
from hybrid.routing.table import UNKNOWN, Answers, Bools, Floats, Labels, Rows
from hybrid.tiers.calibration import DECIMALS
from hybrid.tiers.embedders import Embedder, EndpointEmbedder, embed, embedder_from
from hybrid.tiers.words import CUT, check_cut, count, inverse_document_frequency, terms

if TYPE_CHECKING:  # production has no cache, and loads no database
    from hybrid.tiers.embedding_cache import EmbeddingCache, Vectors

LEAST_KNOWN = 20  # texts, to say what is far
MOST_NEIGHBOURS = 5_000  # texts that a text is held against; of more, as many of each class as there are
MOST_KNOWN = 20_000  # distances that a distance is set among
ROWS_AT_ONCE = 512
TIMED_TEXTS = 20
CLOSE = 1e-4  # of single precision: neighbours within it of the nearest are measured again, exactly


@dataclass(frozen=True, slots=True, eq=False)
class WordScope:
    """The distance to the nearest known text by the words of both, in TF-IDF weights.

    Parameters
    ----------
    terms
        Words of the known texts, in column order.
    idf
        Shape ``(n_terms,)``.
    unseen
        The weight of a word that no known text has.
    data, indices, indptr
        The known texts as a sparse matrix, shape ``(n_known, n_terms)``, each row at length 1.
    distances
        Of known texts to the nearest that they were not fitted with, ascending.
    latency
        Seconds for one text, the median of single calls when it was fitted.
    cut
        How texts are cut into words; see `hybrid.tiers.words`.
    """

    kind: ClassVar[str] = "scope_words"
    waits: ClassVar[bool] = False
    answers_alike: ClassVar[bool] = True

    terms: tuple[str, ...]
    idf: Floats
    unseen: float
    data: NDArray[np.float64]
    indices: NDArray[np.int32]
    indptr: NDArray[np.int32]
    distances: Floats
    latency: float = 0.0
    cut: int = CUT
    _index: dict[str, int] = field(init=False, repr=False)
    _known: csr_matrix = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_cut(self.cut)
        n, ends = len(self.terms), self.indptr
        fits = self.idf.shape == (n,) and len(ends) > 1 and ends[0] == 0 and ends[-1] == len(self.data)
        inside = len(self.indices) == len(self.data) and ((self.indices >= 0) & (self.indices < n)).all()
        if not (fits and inside and (np.diff(ends) >= 0).all()):
            raise BundleError("The known texts of the scope do not fit its words. Export the bundle again.")
        known = csr_matrix((self.data, self.indices, ends), shape=(len(ends) - 1, n))
        object.__setattr__(self, "_index", {term: j for j, term in enumerate(self.terms)})
        object.__setattr__(self, "_known", known.T.tocsr())

    def answer(self, texts: Sequence[str]) -> Answers:
        """Return how far texts are as answers without a label."""
        return _scores(score(self.distance(texts), self.distances, farthest=1.0), 0.0, self.latency)

    def distance(self, texts: Sequence[str]) -> Floats:
        """Return the distance of each text to the nearest known one, in [0, 1]; 1 of a text without words."""
        at, weight, starts, lengths = [], [], [0], []
        for text in texts:
            seen = Counter(_words(text, self.cut))
            own = sorted((self._index.get(word, -1), n) for word, n in seen.items())
            columns = np.array([j for j, _ in own], dtype=np.intp)
            weights = 1 + np.log(np.array([n for _, n in own], dtype=np.float64))
            weights *= np.where(columns >= 0, self.idf[columns], self.unseen) if len(self.idf) else self.unseen
            lengths.append(float(np.sqrt((weights * weights).sum())))
            at.append(columns[columns >= 0])
            weight.append(weights[columns >= 0])
            starts.append(starts[-1] + len(at[-1]))
        rows = csr_matrix(
            (np.concatenate([*weight, np.zeros(0)]), np.concatenate([*at, np.zeros(0, dtype=np.intp)]), starts),
            shape=(len(texts), len(self.terms)),
        )
        return _sparse_distance(rows, np.array(lengths), self._known)

    def to_files(self, name: str) -> dict[str, bytes]:
        """Return the numbers and the words as one file of arrays."""
        return {
            f"{name}.npz": _packed(
                terms=np.frombuffer("\n".join(self.terms).encode(), dtype=np.uint8),  # a word holds no line break
                idf=self.idf,
                unseen=np.array(self.unseen),
                data=self.data,
                indices=self.indices,
                indptr=self.indptr,
                distances=self.distances,
                latency=np.array(self.latency),
                cut=np.array(self.cut),
            )
        }

    @classmethod
    def from_files(cls, name: str, files: Mapping[str, bytes]) -> Self:
        """Read what `to_files` wrote."""
        stored = _unpacked(files[f"{name}.npz"])
        return cls(
            tuple(stored["terms"].tobytes().decode().split("\n")),
            stored["idf"],
            float(stored["unseen"]),
            stored["data"],
            stored["indices"],
            stored["indptr"],
            stored["distances"],
            float(stored["latency"]),
            int(stored["cut"]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingScope:
    """The distance to the nearest known text by the embeddings of both; the embedding model stays in its package.

    Parameters
    ----------
    embedder
        Turns texts into vectors.
    known
        Vectors of the known texts in half precision, shape ``(n_known, n_dimensions)``.
    distances
        Of known texts to the nearest that they were not fitted with, ascending.
    latency
        Seconds for one text, the median of single calls when it was fitted.
    """

    kind: ClassVar[str] = "scope_embeddings"
    waits: ClassVar[bool] = True  # milliseconds a text, or a call to an endpoint

    embedder: Embedder
    known: NDArray[np.float16]
    distances: Floats
    latency: float = 0.0
    _single: NDArray[np.float32] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_single", self.known.astype(np.float32))

    @property
    def answers_alike(self) -> bool:
        """Whether it is bound to answer as it did: an endpoint is not."""
        return not isinstance(self.embedder, EndpointEmbedder)

    def answer(self, texts: Sequence[str]) -> Answers:
        """Return how far texts are as answers without a label, at the embedder's price."""
        distance = _vector_distance(embed(self.embedder, texts), self._single)
        return _scores(score(distance, self.distances, farthest=2.0), self.embedder.price, self.latency)

    def to_files(self, name: str) -> dict[str, bytes]:
        """Return the numbers, and which embedder they need."""
        numbers = _packed(known=self.known, distances=self.distances, latency=np.array(self.latency))
        return {f"{name}.json": json.dumps(self.embedder.plain(), indent=1).encode(), f"{name}.npz": numbers}

    @classmethod
    def from_files(cls, name: str, files: Mapping[str, bytes]) -> Self:
        """Read what `to_files` wrote; the embedder has to be installed or reachable here."""
        embedder, stored = embedder_from(json.loads(files[f"{name}.json"])), _unpacked(files[f"{name}.npz"])
        return cls(embedder, stored["known"], stored["distances"], float(stored["latency"]))


@dataclass(frozen=True, slots=True, eq=False)
class FittedScope:
    """The score that ships, and every row's: out of fold on tune, the shipped one's on test.

    Parameters
    ----------
    known
        Which rows the scores of tune rows are set among, shape ``(n_rows,)``: those in scope.
    """

    model: WordScope | EmbeddingScope
    answers: Answers
    known: Bools


def score(distance: Floats, known: Floats, *, farthest: float) -> Floats:
    """Return one minus the conformal p-value of distances, shape as given.

    At a distance that a known text has, the p-value is the share of known texts that are at least as far, the new text
    counted among them; between two of these it falls in a straight line, so that no last bit decides, and is nowhere
    below that share. Of texts that come as the known ones did, at most a share of `t` scores ``1 - t`` or more.

    Parameters
    ----------
    known
        Distances of the known texts, ascending.
    farthest
        The largest possible distance.

    References
    ----------
    Vovk, Gammerman & Shafer 2005, Algorithmic Learning in a Random World; Laxhammar & Falkman 2010, Conformal
    prediction for distribution-independent anomaly detection.

    Examples
    --------
    Of four known texts, none is farther than the farthest but the new one itself:

    >>> score(np.array([0.1, 0.4, 0.5, 1.0]), np.array([0.1, 0.2, 0.3, 0.4]), farthest=1.0).round(3).tolist()
    [0.0, 0.6, 0.633, 0.8]
    """
    at, first = np.unique(known, return_index=True)
    beyond = (1.0 + len(known) - first) / (1 + len(known))
    if len(at) and at[-1] < farthest:
        at, beyond = np.append(at, farthest), np.append(beyond, 1 / (1 + len(known)))
    found: Floats = np.round(1 - np.interp(distance, at, beyond), DECIMALS)
    return found


def fit_scope(
    texts: NDArray[np.object_],
    truth: Labels,
    fold: Labels,
    *,
    key: NDArray[np.uint64],
    out: int | None = None,
    embedder: Embedder | None = None,
    cache: EmbeddingCache | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> FittedScope:
    """Learn what known texts look like, and score every row by a model that has not seen it.

    Parameters
    ----------
    texts, truth
        Shape ``(n_rows,)``.
    fold
        Number of the fold a row is held out in, -1 for test rows, which are never fitted on.
    key
        A hash of each row: which texts are taken of too many is as good as random, and always the same.
    out
        Code of the class whose texts are out of scope: none of them counts as known; None, there is none.
    embedder
        Measures by embeddings; None, by words.
    cache
        Where embeddings are kept; None: nowhere.
    progress
        Called with the share done and what was done; what it raises ends the work.

    Raises
    ------
    TierError
        If there are too few texts, or the embedder fails.
    """
    tune = fold >= 0
    known = tune & (truth != (UNKNOWN if out is None else out))
    if known.sum() < LEAST_KNOWN:
        raise TierError(
            f"What is far cannot be told from {int(known.sum())} texts: label {LEAST_KNOWN} tune rows in scope."
        )
    neighbours = _neighbours(np.flatnonzero(known), truth, key)
    held = [int(f) for f in np.unique(fold[tune])]
    distance = np.zeros(len(texts))
    if embedder is not None:
        vectors = embed(embedder, list(texts), cache=cache, progress=progress)
        half = vectors.astype(np.float16)
        for f in (*held, -1):
            near = half[neighbours[fold[neighbours] != f]].astype(np.float32)
            distance[fold == f] = _vector_distance(vectors[fold == f], near)
    else:
        counts, found = count(texts)
        single = np.array([" " not in term for term in found], dtype=bool)
        counts, found = counts[:, single], found[single]
        for f in (*held, -1):
            fitted = known & (fold != f)
            rows = _weighed(counts, inverse_document_frequency(counts[fitted]))
            near = neighbours[fold[neighbours] != f]
            length = _lengths(rows)
            distance[fold == f] = _sparse_distance(
                rows[fold == f], length[fold == f], _at_length_1(rows[near], length[near]).T.tocsr()
            )
    among = np.flatnonzero(known)
    among = among[np.argsort(key[among], kind="stable")[:MOST_KNOWN]]
    ascending = np.sort(distance[among])
    model: WordScope | EmbeddingScope
    if embedder is not None:
        model = EmbeddingScope(embedder, half[neighbours], ascending)
        farthest, price = 2.0, embedder.price
    else:
        own = np.flatnonzero(np.bincount(counts[known].indices, minlength=counts.shape[1]) > 0)
        near = _at_length_1(rows[neighbours], length[neighbours])[:, own]
        model = WordScope(
            tuple(found[own]),
            inverse_document_frequency(counts[known])[own],
            float(np.log(1 + known.sum()) + 1),
            near.data,
            near.indices.astype(np.int32),
            near.indptr.astype(np.int32),
            ascending,
        )
        farthest, price = 1.0, 0.0
    object.__setattr__(model, "latency", _seconds_per_text(model, texts))
    scores = score(distance, ascending, farthest=farthest)
    # a row that is among the known ones is set among the others
    beyond = len(ascending) - np.searchsorted(ascending, distance[among], side="left")
    scores[among] = np.round(1 - beyond / len(ascending), DECIMALS)
    return FittedScope(model, _scores(scores, price, model.latency), known)


def _neighbours(rows: Rows, truth: Labels, key: NDArray[np.uint64]) -> Rows:
    """Return at most `MOST_NEIGHBOURS` rows, as many of each class as there are, in ascending order."""
    if len(rows) <= MOST_NEIGHBOURS:
        return rows
    order = rows[np.lexsort((key[rows], truth[rows]))]
    _, first, code = np.unique(truth[order], return_index=True, return_inverse=True)
    rank = np.arange(len(order)) - first[code]
    return np.sort(order[np.argsort(rank, kind="stable")[:MOST_NEIGHBOURS]])


def _words(text: str, cut: int) -> list[str]:
    return [term for term in terms(text, cut) if " " not in term]


def _weighed(counts: csr_matrix, idf: Floats) -> csr_matrix:
    return csr_matrix(((1 + np.log(counts.data)) * idf[counts.indices], counts.indices, counts.indptr), counts.shape)


def _lengths(rows: csr_matrix) -> Floats:
    row = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
    found: Floats = np.sqrt(np.bincount(row, rows.data * rows.data, minlength=rows.shape[0]))
    return found


def _at_length_1(rows: csr_matrix, length: Floats) -> csr_matrix:
    row = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
    return csr_matrix((rows.data / length[row], rows.indices, rows.indptr), shape=rows.shape)


def _sparse_distance(rows: csr_matrix, length: Floats, known: csr_matrix) -> Floats:
    """Return the distance to the nearest known text; `known` has a column for each, at length 1.

    A row's products are added up word by word, alone as in a batch.
    """
    nearest = np.zeros(rows.shape[0])
    for start in range(0, rows.shape[0], ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        if known.shape[1]:
            nearest[part] = (rows[part] @ known).max(axis=1).toarray().ravel()
    nearest = np.divide(nearest, length, out=np.zeros(len(nearest)), where=length > 0)
    found: Floats = np.round(np.clip(1.0 - nearest, 0.0, 1.0), DECIMALS).astype(np.float64)
    return found


def _vector_distance(vectors: Vectors, known: NDArray[np.float32]) -> Floats:
    """Return the distance to the nearest known vector; both are of length 1.

    A product of matrices adds up in another order alone than in a batch, so it only says which are near.
    """
    nearest = np.zeros(len(vectors))
    if len(known) and len(vectors) and vectors.shape[1] != known.shape[1]:
        raise TierError(
            f"The embedder gives {vectors.shape[1]} numbers a text, and {known.shape[1]} are needed: the model behind "
            "it has changed. Fit again."
        )
    with threadpool_limits(1, user_api="blas"):
        for start in range(0, len(vectors) if len(known) else 0, ROWS_AT_ONCE):
            part = np.asarray(vectors[start : start + ROWS_AT_ONCE], dtype=np.float32)
            about = part @ known.T
            row, column = np.nonzero(about >= about.max(axis=1, keepdims=True) - CLOSE)
            exact = (part[row].astype(np.float64) * known[column].astype(np.float64)).sum(axis=1)
            np.maximum.at(nearest[start : start + len(part)], row, exact)
    found: Floats = np.round(np.clip(1.0 - nearest, 0.0, 2.0), DECIMALS).astype(np.float64)
    return found


def _scores(scores: Floats, price: float, latency: float) -> Answers:
    n = len(scores)
    return Answers(np.full(n, UNKNOWN, dtype=np.int64), scores, np.full(n, price), np.full(n, latency))


def _seconds_per_text(model: WordScope | EmbeddingScope, texts: NDArray[np.object_]) -> float:
    seconds = []
    for text in texts[:TIMED_TEXTS]:
        start = time.perf_counter()
        model.answer([str(text)])
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def _packed(**arrays: NDArray[Any]) -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)  # type: ignore[arg-type]
    return out.getvalue()


def _unpacked(content: bytes) -> dict[str, NDArray[Any]]:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:  # plain numbers: runs no code
        return dict(arrays)
