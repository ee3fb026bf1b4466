"""Words: a text → counts of its words and word pairs, and their TF-IDF weights, for every tier that reads words.

Where a script writes no spaces between words, runs of one to three characters stand in for them.

On texts of ASCII letters it equals scikit-learn's `TfidfVectorizer` (tested). It exists because importing scikit-learn
imports pandas, which production must not load, because one text through its vectorizer takes several times as long,
and because that one ends a word of Hindi at every vowel sign.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from hybrid.data.texts import UNSPACED, composed, marks
from hybrid.errors import TierError
from hybrid.routing.table import Floats

# How a text is cut; a model says with which cut it was fitted, and keeps it. 1: at whatever Python's \\w is not, which
# ended words at combining marks and took a Chinese sentence for one word. 2: as above.
CUT = 2
GRAMS = (1, 2, 3)  # characters of a run without spaces

_WORD = re.compile(r"\w+")
_RUN = re.compile(f"[{UNSPACED}]+")


def words(text: str) -> list[str]:
    """Return the words of a text, lower case; a run of a script without spaces is one.

    Examples
    --------
    >>> words("My iPhone坏了!"), words("दिन में")
    (['my', 'iphone', '坏了'], ['दिन', 'में'])
    """
    if text.isascii():
        return _WORD.findall(text.lower())
    found = _word_with_marks().findall(composed(text).lower())
    return [part for word in found for part in (_parts(word) if _RUN.search(word) else (word,))]


@lru_cache(maxsize=1)
def _word_with_marks() -> re.Pattern[str]:
    return re.compile(rf"[\w{marks()}]+")


def _parts(word: str) -> list[str]:
    """Cut a word where a script with spaces meets one without."""
    at = [edge for run in _RUN.finditer(word) for edge in run.span()]
    return [word[a:b] for a, b in pairwise([0, *at, len(word)]) if a < b]


def terms(text: str, cut: int = CUT) -> list[str]:
    """Return what is counted of a text: its words and pairs of neighbouring words, with repetitions."""
    if cut == 1 or text.isascii():
        found = _WORD.findall(text.lower())
        return [*found, *map(" ".join, pairwise(found))]
    found = words(text)
    unspaced = [bool(_RUN.match(word)) for word in found]
    if not any(unspaced):
        return [*found, *map(" ".join, pairwise(found))]
    counted = [word for word, run in zip(found, unspaced, strict=True) if not run]
    both = zip(pairwise(found), pairwise(unspaced), strict=True)
    counted += [f"{a} {b}" for (a, b), (first, second) in both if not (first or second)]
    for word, run in zip(found, unspaced, strict=True):
        if run:
            counted += [word[i : i + n] for n in GRAMS for i in range(len(word) - n + 1)]
    return counted


def as_term(text: str) -> str | None:
    """Return the one term that a text is; None where it is none, or several.

    Examples
    --------
    >>> as_term("Charged  twice"), as_term("退款"), as_term("I was charged")
    ('charged twice', '退款', None)
    """
    whole = " ".join(words(text))
    return whole if whole in terms(text) else None


def smaller(term: str) -> list[str]:
    """Return the terms within a term."""
    return [t for t in terms(term) if t != term]


def check_cut(cut: int) -> None:
    """Refuse a way to cut texts that is not known here.

    Raises
    ------
    TierError
        If it comes from a newer version.
    """
    if not 1 <= cut <= CUT:
        raise TierError(f"Texts are cut in way {cut}, and this version knows {CUT} ways: upgrade hybrid-tuner.")


def count(texts: Iterable[str], *, cut: int = CUT) -> tuple[csr_matrix, NDArray[np.object_]]:
    """Count the words and word pairs of a corpus.

    Returns
    -------
    counts
        Shape ``(n_texts, n_terms)``.
    terms
        In column order, which is alphabetical.
    """
    index: dict[str, int] = {}
    counts = _count(texts, lambda term: index.setdefault(term, len(index)), lambda: len(index), cut)
    found = np.array(list(index), dtype=object)
    order = np.argsort(found, kind="stable")
    return counts[:, order], found[order]


def count_terms(texts: Iterable[str], index: Mapping[str, int], *, cut: int = CUT) -> csr_matrix:
    """Count only the terms of an index from term to column; shape ``(n_texts, len(index))``."""
    return _count(texts, index.get, lambda: len(index), cut)


def _count(
    texts: Iterable[str], column: Callable[[str], int | None], n_columns: Callable[[], int], cut: int
) -> csr_matrix:
    indices, starts = array("q"), array("q", [0])
    for text in texts:
        for term in terms(text, cut):
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
