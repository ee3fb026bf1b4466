"""Examples: the labelled texts most like a text, from the training side only, to put before it in a prompt."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from scipy.sparse import csr_matrix

from hybrid.data.texts import bare
from hybrid.routing.table import Bools, Floats, Labels
from hybrid.tiers.llm.questions import Example
from hybrid.tiers.words import CUT, check_cut, count, count_terms, inverse_document_frequency, tf_idf


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Labelled texts to choose from; likeness is the cosine of TF-IDF weights of words and word pairs.

    Parameters
    ----------
    texts, labels
        Of the training side.
    cut
        How texts are cut into words; see `hybrid.tiers.words`.

    Examples
    --------
    >>> bank = Examples(("refund please", "parcel late", "refund my card"), ("billing", "shipping", "billing"))
    >>> bank.nearest("card refund", 1)
    [('refund my card', 'billing')]
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    cut: int = CUT
    _index: dict[str, int] = field(init=False, repr=False)
    _idf: Floats = field(init=False, repr=False)
    _rows: csr_matrix = field(init=False, repr=False)
    _bare: list[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_cut(self.cut)
        counts, terms = count(self.texts, cut=self.cut)
        idf = inverse_document_frequency(counts)
        object.__setattr__(self, "_index", {term: j for j, term in enumerate(terms)})
        object.__setattr__(self, "_idf", idf)
        object.__setattr__(self, "_rows", tf_idf(counts, idf))
        object.__setattr__(self, "_bare", [_bare(t, self.cut) for t in self.texts])

    def nearest(self, text: str, k: int, *, allowed: Bools | None = None) -> list[Example]:
        """Return the `k` most similar examples, the most similar last, next to the text.

        Parameters
        ----------
        allowed
            Shape ``(n_examples,)``: which may be shown; None, all. The text itself and its near-duplicates never
            are, in production either, so that it decides as was measured.
        """
        if not k or not self.texts:
            return []
        like = np.asarray((self._rows @ tf_idf(count_terms([text], self._index, cut=self.cut), self._idf).T).todense())[
            :, 0
        ]
        if allowed is not None:
            like = np.where(allowed, like, -1.0)
        order = np.argsort(-like, kind="stable")
        own = _bare(text, self.cut)
        usable = (i for i in order if like[i] >= 0 and self._bare[i] != own)
        return [(self.texts[i], self.labels[i]) for i in islice(usable, k)][::-1]


def examples_for_rows(
    texts: Sequence[str], labels: Sequence[str], group: Labels, fold: Labels, rows: Sequence[int], k: int
) -> list[list[Example]]:
    """Return each row's examples: of tune rows alone, never of its own fold or of its own duplicates.

    Parameters
    ----------
    texts, labels, group, fold
        Of all rows; `fold` is -1 on test.
    rows
        To find examples for.
    k
        How many each.
    """
    if not k:
        return [[] for _ in rows]
    tune = np.flatnonzero(fold >= 0).tolist()
    bank = Examples(tuple(texts[i] for i in tune), tuple(labels[i] for i in tune))
    own_fold, own_group = fold[tune], group[tune]
    return [
        bank.nearest(texts[int(i)], k, allowed=(own_group != group[i]) & ((own_fold != fold[i]) | (fold[i] < 0)))
        for i in rows
    ]


def _bare(text: str, cut: int) -> str:
    """Return what near-duplicates share, as the bank that was measured took it."""
    found = bare(text) if cut > 1 else re.sub(r"[\W\d_]+", "", text.casefold())
    return found or text
