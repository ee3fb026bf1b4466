"""Words: a text → counts of its words and word pairs, and their TF-IDF weights, for every tier that reads words.

It equals scikit-learn's `TfidfVectorizer` (tested), and exists because importing scikit-learn imports pandas, which
production must not load, and because one text through its vectorizer takes several times as long.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from hybrid.routing.table import Floats

_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """Return the words of a text, lower case."""
    return _WORD.findall(text.lower())


def count(texts: Iterable[str]) -> tuple[csr_matrix, NDArray[np.object_]]:
    """Count the words and word pairs of a corpus.

    Returns
    -------
    counts
        Shape ``(n_texts, n_terms)``.
    terms
        In column order, which is alphabetical.
    """
    index: dict[str, int] = {}
    counts = _count(texts, lambda term: index.setdefault(term, len(index)), lambda: len(index))
    terms = np.array(list(index), dtype=object)
    order = np.argsort(terms, kind="stable")
    return counts[:, order], terms[order]


def count_terms(texts: Iterable[str], index: Mapping[str, int]) -> csr_matrix:
    """Count only the terms of an index from term to column; shape ``(n_texts, len(index))``."""
    return _count(texts, index.get, lambda: len(index))


def _count(texts: Iterable[str], column: Callable[[str], int | None], n_columns: Callable[[], int]) -> csr_matrix:
    indices, starts = array("q"), array("q", [0])
    for text in texts:
        found = words(text)
        for term in (*found, *map(" ".join, pairwise(found))):
            j = column(term)
            if j is not None:
                indices.append(j)
        starts.append(len(indices))
    at = np.frombuffer(indices, dtype=np.int64) if indices else np.zeros(0, dtype=np.int64)
    counts = csr_matrix(
        (np.ones(len(at)), at, np.frombuffer(starts, dtype=np.int64)), shape=(len(starts) - 1, n_columns())
    )
    counts.sum_duplicates()  # also sorts, so that a row's weights add up in the same order alone and in a batch
    return counts


def inverse_document_frequency(counts: csr_matrix) -> Floats:
    """Return ``ln((1 + n) / (1 + df)) + 1`` of each term, shape ``(n_terms,)``."""
    df = np.bincount(counts.indices, minlength=counts.shape[1])
    idf: Floats = np.log((1 + counts.shape[0]) / (1 + df)) + 1
    return idf


def tf_idf(counts: csr_matrix, idf: Floats) -> csr_matrix:
    """Weigh counts: ``(1 + ln tf) · idf``, each row at length 1; a row without terms stays 0."""
    weights = (1 + np.log(counts.data)) * idf[counts.indices]
    row = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    length = np.sqrt(np.bincount(row, weights * weights, minlength=counts.shape[0]))
    return csr_matrix((weights / length[row], counts.indices, counts.indptr), shape=counts.shape)
