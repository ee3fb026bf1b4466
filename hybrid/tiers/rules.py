"""Rules: a word or word pair → a label, as sure as it proved on rows that it was not mined from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from hybrid.errors import TierError
from hybrid.metrics.intervals import wilson
from hybrid.routing.table import UNKNOWN, Answers, Bools, Floats, Labels
from hybrid.tiers.calibration import DECIMALS, GRADERS, Again
from hybrid.tiers.words import CUT, as_term, check_cut, count, count_terms, smaller

MIN_HITS = 5  # rows that a mined phrase must occur in
MIN_PRECISION = 0.6  # lower bound of the precision that a phrase needs to be mined
MIN_CONFIDENCE = 0.5  # and that it must keep on rows that it was not mined from


@dataclass(frozen=True, slots=True)
class Rule:
    """A phrase that gives a label away.

    Parameters
    ----------
    phrase
        One word or two neighbouring words, lower case; up to three characters of a script without spaces.
    label
        Class code.
    hits, correct
        Rows it fired on and rows it was right on, out of fold.
    confidence
        Lower end of the 95 % Wilson interval of ``correct / hits``.
    """

    phrase: str
    label: int
    hits: int = 0
    correct: int = 0
    confidence: float = 0.0


class Edits(NamedTuple):
    """What a user changed about the mined rules: pairs of phrase and class code."""

    removed: frozenset[tuple[str, int]] = frozenset()
    added: tuple[tuple[str, int], ...] = ()


NO_EDITS = Edits()


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules from the surest to the least sure; the first that matches a text answers it."""

    kind: ClassVar[str] = "rules"
    waits: ClassVar[bool] = False
    answers_alike: ClassVar[bool] = True

    rules: tuple[Rule, ...]
    latency: float = 0.0  # seconds per text
    cut: int = CUT  # how texts were cut into words when they were mined
    _index: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_cut(self.cut)
        phrases = dict.fromkeys(r.phrase for r in self.rules)
        object.__setattr__(self, "_index", {phrase: j for j, phrase in enumerate(phrases)})

    def answer(self, texts: Sequence[str]) -> Answers:
        """Answer texts; a text that no rule matches gets UNKNOWN with confidence 0."""
        return _first_match(count_terms(texts, self._index, cut=self.cut), self._index, self.rules, self.latency)

    def to_files(self, name: str) -> dict[str, bytes]:
        """Return the rules as JSON."""
        stored = {"rules": [asdict(r) for r in self.rules], "latency": self.latency, "cut": self.cut}
        return {f"{name}.json": json.dumps(stored, indent=1).encode()}

    @classmethod
    def from_files(cls, name: str, files: Mapping[str, bytes]) -> Self:
        """Read what `to_files` wrote."""
        stored = json.loads(files[f"{name}.json"])
        return cls(tuple(Rule(**r) for r in stored["rules"]), stored["latency"], stored.get("cut", 1))


@dataclass(frozen=True, slots=True, eq=False)
class FittedRules:
    """The rules that ship, and every row's answer: out of fold on tune, the shipped rules' on test.

    `again` is what some of the folds' rules say of the test rows.
    """

    model: Rules
    answers: Answers
    again: tuple[Again, ...] = ()


def check_phrase(text: str) -> str:
    """Return a phrase as rules store it.

    Raises
    ------
    TierError
        If it is not one or two words, or in a script without spaces one to three characters.
    """
    phrase = as_term(text)
    if phrase is None:
        raise TierError(
            f"Rule {text!r}: a rule is one word or two neighbouring words, such as 'refund' or 'charged twice'; where "
            "words are written without spaces, it is up to three characters."
        )
    return phrase


def fit_rules(
    texts: NDArray[np.object_], truth: Labels, fold: Labels, *, n_classes: int, edits: Edits = NO_EDITS
) -> FittedRules:
    """Mine rules on the tune rows and measure each on rows that it was not mined from.

    Parameters
    ----------
    texts, truth
        Shape ``(n_rows,)``.
    fold
        Fold in which a row is held out, -1 for test rows, from which nothing is mined.
    edits
        Rules to leave out and to add; they apply in every fold.

    Notes
    -----
    For each fold, phrases are mined from the other folds; how often such a rule fired and was right in the
    held-out fold adds up to its `hits` and `correct`. The answers of a fold come from rules that were mined, and
    measured in the same way, on the remaining folds alone, so that no row's own label speaks for it.
    """
    counts, terms = count(texts)
    present = (counts > 0).astype(np.int64).tocsr()
    tune = np.flatnonzero(fold >= 0)
    folds = [int(f) for f in np.unique(fold[tune])]
    one_hot = csr_matrix((np.ones(len(truth), dtype=np.int64), (np.arange(len(truth)), truth)), (len(truth), n_classes))
    frequent = np.flatnonzero(np.asarray(present[tune].sum(axis=0)).ravel() >= MIN_HITS)
    wanted = np.flatnonzero(np.isin(terms, [p for p, _ in edits.added]))
    columns = np.union1d(frequent, wanted)
    present, terms = present[:, columns].tocsr(), terms[columns]
    held_out = {f: (present[fold == f].T @ one_hot[fold == f]).toarray() for f in folds}
    total = sum(held_out.values(), np.zeros((len(terms), n_classes), dtype=np.int64))
    column = {term: j for j, term in enumerate(terms)}
    label = np.full(len(texts), UNKNOWN, dtype=np.int64)
    confidence = np.zeros(len(texts))
    again: list[Again] = []
    for f in folds:
        rows = fold == f
        others = {g: table for g, table in held_out.items() if g != f}
        mined = _fit(total - held_out[f], others, terms, edits)
        part = _first_match(present[rows], column, mined, 0.0)
        label[rows], confidence[rows] = part.label, part.confidence
        if len(again) < GRADERS:
            on_test = _first_match(present[fold < 0], column, mined, 0.0)
            again.append(Again(on_test.label, on_test.confidence))
    shipped = Rules(_fit(total, held_out, terms, edits))
    rows = fold < 0
    if rows.any():
        part = _first_match(present[rows], column, shipped.rules, 0.0)
        label[rows], confidence[rows] = part.label, part.confidence
    return FittedRules(shipped, Answers(label, confidence, np.zeros(len(texts)), np.zeros(len(texts))), tuple(again))


def _mine(table: NDArray[np.int64], terms: NDArray[np.object_], edits: Edits) -> NDArray[np.int64]:
    """Return each term's label where it is a rule, else UNKNOWN; `table` counts rows by term and class."""
    hits, correct, label = table.sum(axis=1), table.max(axis=1, initial=0), table.argmax(axis=1)
    good = (hits >= MIN_HITS) & (wilson(correct, hits)[0] >= MIN_PRECISION)
    chosen = np.where(good, label, UNKNOWN)
    by_phrase = dict(zip(terms[good], label[good], strict=True))
    for j in np.flatnonzero(good):
        # a pair adds nothing to a word of its own that already says the same
        if any(by_phrase.get(part) == label[j] for part in smaller(terms[j])):
            chosen[j] = UNKNOWN
    where = {term: j for j, term in enumerate(terms)}
    for text, code in edits.removed:
        if text in where and chosen[where[text]] == code:
            chosen[where[text]] = UNKNOWN
    for text, code in edits.added:
        if text in where:
            chosen[where[text]] = code
    return chosen


def _fit(
    total: NDArray[np.int64], held_out: Mapping[int, NDArray[np.int64]], terms: NDArray[np.object_], edits: Edits
) -> tuple[Rule, ...]:
    """Mine rules from the sum of some folds; measure each in those folds in which, unseen, it is found as well."""
    chosen = _mine(total, terms, edits)
    js = np.flatnonzero(chosen != UNKNOWN)
    hits, correct = np.zeros(len(js), dtype=np.int64), np.zeros(len(js), dtype=np.int64)
    for table in held_out.values():
        same = _mine(total - table, terms, edits)[js] == chosen[js]
        hits += np.where(same, table[js].sum(axis=1), 0)
        correct += np.where(same, table[js, chosen[js]], 0)
    confidence = np.round(wilson(correct, hits)[0], DECIMALS)
    rules = [
        Rule(str(terms[j]), int(chosen[j]), int(h), int(c), float(p))
        for j, h, c, p in zip(js, hits, correct, confidence, strict=True)
        if p >= MIN_CONFIDENCE
    ]
    return tuple(sorted(rules, key=lambda r: (-r.confidence, r.phrase)))


def _first_match(present: csr_matrix, column: Mapping[str, int], rules: Sequence[Rule], latency: float) -> Answers:
    """Answer rows by the first rule that matches; `column` finds a phrase in `present`."""
    n = present.shape[0]
    if not rules:
        return Answers(np.full(n, UNKNOWN, dtype=np.int64), np.zeros(n), np.zeros(n), np.full(n, latency))
    fired = (present[:, [column[r.phrase] for r in rules]] > 0).tocsr()
    fired.sort_indices()
    matched: Bools = np.diff(fired.indptr) > 0
    first = np.zeros(n, dtype=np.int64)
    first[matched] = fired.indices[fired.indptr[:-1][matched]]
    label = np.array([r.label for r in rules])
    confidence: Floats = np.array([r.confidence for r in rules])
    return Answers(
        np.where(matched, label[first], UNKNOWN),
        np.where(matched, confidence[first], 0.0),
        np.zeros(n),
        np.full(n, latency),
    )
