"""Several labels a row: ``a|b``, lists and columns of yes and no are recognised, and made into one question each."""

from __future__ import annotations

import ast
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

from hybrid.data.labels import clean, most_frequent, spelling
from hybrid.data.notes import Note, listed, plural
from hybrid.errors import DatasetError
from hybrid.routing.table import NONE_LABEL

SEPARATORS = ("|", ";", ",")
JOINED_IN = 0.05  # least share of rows with several labels joined by a sign
SHARED = 0.8  # least share of the joined parts that occur in other combinations too, as names with a comma do not
MOST_NAMES = 1_000  # different labels that are looked at
FEWEST_INDICATORS = 3
NONE = "(none)"  # what a row without any label is called
YES, NO = "yes", "no"
FIRST, COMBINATIONS, QUESTION = "first", "combinations", "question"
_NOTHING = frozenset({spelling(NONE), "none", spelling(NONE_LABEL)})
_TRUE, _FALSE = ("1", "true", "yes", "x", "ja"), ("0", "false", "no", "", "nein")


@dataclass(frozen=True, slots=True)
class SeveralLabels:
    """How the labels of a row are several.

    Parameters
    ----------
    kind
        ``joined`` by a sign; ``list``, as JSON or Python writes one; ``indicators``: a column for each label.
    columns
        The one column of labels, or those of the indicators.
    names
        Of the labels that occur, the most frequent first.
    separator
        Of the joined ones.
    """

    kind: Literal["joined", "list", "indicators"]
    columns: tuple[str, ...]
    names: tuple[str, ...]
    separator: str | None = None

    def labels(self, table: pd.DataFrame) -> list[tuple[str, ...]]:
        """Return the labels of each row, each once, in the order in which they stand."""
        if self.kind == "indicators":
            marked = [[v.strip().lower() in _TRUE for v in table[c]] for c in self.columns]
            return [
                tuple(n for n, yes in zip(self.columns, row, strict=True) if yes) for row in zip(*marked, strict=True)
            ]
        cut = {v: self._cut(v) for v in table[self.columns[0]].unique()}
        return [cut[v] for v in table[self.columns[0]]]

    def told(self, value: str) -> frozenset[str] | None:
        """Return which of the labels a model's answer names, as they are spelt alike; None where it answers nothing.

        An empty list, or *none*, says that there is none of them.
        """
        parts = frozenset(map(spelling, self._cut(value)))
        known = parts & frozenset(map(spelling, self.names))
        if not known and (parts & _NOTHING or (not parts and str(value).strip())):
            return frozenset()
        return known or None

    def _cut(self, value: str) -> tuple[str, ...]:
        parts = _listed_in(value) if self.kind == "list" else str(value).split(self.separator)
        return _distinct(parts if parts is not None else [str(value)])


@dataclass(frozen=True, slots=True, eq=False)
class Relabelled:
    """A table with one label a row.

    Parameters
    ----------
    label
        The column of them, which is new.
    notes
        What was done.
    """

    table: pd.DataFrame
    label: str
    notes: tuple[Note, ...]


def joined_labels(table: pd.DataFrame, column: str) -> SeveralLabels | None:
    """Recognise a column whose values are lists, or several labels joined by a sign; None where it holds one each."""
    values = [str(v).strip() for v in table[column]]
    return _in_lists(column, values) or _joined(column, values)


def indicators(table: pd.DataFrame, columns: Sequence[str]) -> SeveralLabels | None:
    """Recognise three or more columns of yes and no, one a label; None where there are fewer."""
    marked = {}
    for column in columns:
        values = [str(v).strip().lower() for v in table[column]]
        seen = set(values)
        if seen <= {*_TRUE, *_FALSE} and seen & {*_TRUE} and seen & {*_FALSE}:
            marked[column] = sum(v in _TRUE for v in values)
    if len(marked) < FEWEST_INDICATORS:
        return None
    return SeveralLabels("indicators", tuple(marked), tuple(sorted(marked, key=lambda c: -marked[c])))


def first_label(table: pd.DataFrame, several: SeveralLabels, *, column: str = "first label") -> Relabelled:
    """Take the first label of each row; a row without any is left unlabelled."""
    rows = several.labels(table)
    more = sum(len(row) > 1 for row in rows)
    note = Note(
        f"{plural(more, 'row has', 'rows have')} several labels.",
        "The first of each counts, and the others are dropped: an answer that names one of those counts as wrong.",
        "warning",
    )
    return _with(table, column, [row[0] if row else "" for row in rows], note)


def as_combinations(table: pd.DataFrame, several: SeveralLabels, *, column: str = "all labels") -> Relabelled:
    """Take each combination of labels, in any order, for a class of its own."""
    sign = several.separator or "|"
    names = [f" {sign} ".join(sorted(row, key=spelling)) or NONE for row in several.labels(table)]
    counts = Counter(names)
    rare = sum(k < 5 for k in counts.values())
    note = Note(
        f"Rows have several labels, in {plural(len(counts), 'combination', 'combinations')}: {most_frequent(counts)}.",
        "Each combination is a class, and an answer is right only if it names all of it."
        + (f" {plural(rare, 'combination has', 'combinations have')} fewer than 5 rows." if rare else ""),
        "warning",
    )
    return _with(table, column, names, note)


def as_question(table: pd.DataFrame, several: SeveralLabels, name: str) -> Relabelled:
    """Ask of each row whether it has a label: yes or no. One such table a label makes up the whole.

    Raises
    ------
    DatasetError
        If no row has it, or every row.
    """
    wanted = spelling(name)
    answers = [YES if any(spelling(own) == wanted for own in row) else NO for row in several.labels(table)]
    yes = answers.count(YES)
    if yes in (0, len(answers)):
        which = "no row" if not yes else "every row"
        raise DatasetError(
            f"{name!r} is a label of {which}: there is nothing to ask. The labels are {listed(several.names)}."
        )
    note = Note(
        f"{plural(yes, 'row has', 'rows have')} the label {name!r}, {len(answers) - yes:,} have not.",
        f"The question is “{name}: yes or no?”, one of {plural(len(several.names), 'question', 'questions')} whose "
        "costs add up. Recorded answers of models count as answers to it.",
        "info",
    )
    return _with(table, f"{name}?", answers, note)


def one_label(
    table: pd.DataFrame, several: SeveralLabels, how: str, *, name: str | None = None, answers: Sequence[str] = ()
) -> Relabelled:
    """Make the labels of each row one.

    Parameters
    ----------
    how
        `FIRST`, `COMBINATIONS`, or `QUESTION`.
    name
        The label that is asked about.
    answers
        Columns of models' answers, which become answers to the question.

    Raises
    ------
    DatasetError
        If there is nothing to ask.
    """
    if how != QUESTION:
        return (first_label if how == FIRST else as_combinations)(table, several)
    one = as_question(table, several, name or "")
    about = filter(None, (answers_about(table, several, column) for column in answers))
    return replace(
        one, table=one.table.assign(**{a.columns[0]: answered_question(table, a, name or "") for a in about})
    )


def answers_about(table: pd.DataFrame, several: SeveralLabels, column: str) -> SeveralLabels | None:
    """Recognise how a column of a model's answers holds these labels; None where fewer than half of them name one."""
    own = joined_labels(table, column)
    if own is None:
        kind: Literal["joined", "list"] = "list" if several.kind == "list" else "joined"
        own = SeveralLabels(kind, (column,), (), several.separator or SEPARATORS[0])
    own = replace(own, names=several.names)
    said = Counter(v for v in table[column] if str(v).strip())
    told = sum(k for v, k in said.items() if own.told(v) is not None)
    return own if said and 2 * told >= sum(said.values()) else None


def answered_question(table: pd.DataFrame, about: SeveralLabels, name: str) -> pd.Series:
    """Make a model's answers, which may name several labels, into its answers to one question: yes or no.

    Parameters
    ----------
    about
        How its column holds them; see `answers_about`.

    Returns
    -------
    pandas.Series
        A blank stays blank, and an answer that names no label at all stays what it is, in quotes: it is no answer.
    """
    wanted = spelling(name)
    told = {v: about.told(v) for v in table[about.columns[0]].unique()}
    said = {
        v: "" if not str(v).strip() else f"“{v}”" if own is None else YES if wanted in own else NO
        for v, own in told.items()
    }
    return table[about.columns[0]].map(said)


def _with(table: pd.DataFrame, column: str, values: Sequence[str], note: Note) -> Relabelled:
    while column in table.columns:
        column += "'"
    return Relabelled(table.assign(**{column: pd.Series(values, index=table.index, dtype=object)}), column, (note,))


def _distinct(parts: Sequence[object]) -> tuple[str, ...]:
    """Return names, trimmed, each once: ``billing|Billing`` is one label."""
    kept: dict[str, str] = {}
    for part in parts:
        name = clean(str(part))
        if name:
            kept.setdefault(spelling(name), name)
    return tuple(kept.values())


def _listed_in(value: str) -> list[object] | None:
    """Return the names in a list as JSON or Python writes it; None where it is none."""
    value = value.strip()
    if not (value.startswith("[") and value.endswith("]")):
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(found, list) and all(isinstance(v, str | int | float) for v in found):
            return found
    return None


def _in_lists(label: str, values: Sequence[str]) -> SeveralLabels | None:
    some = [v for v in values if v]
    lists = [_listed_in(v) for v in some]
    if not some or sum(one is not None for one in lists) < 0.9 * len(some):
        return None
    return SeveralLabels("list", (label,), _by_frequency(_distinct(one) for one in lists if one is not None))


def _joined(label: str, values: Sequence[str]) -> SeveralLabels | None:
    some = [v for v in values if v]
    whole = Counter(some)
    if len(whole) > MOST_NAMES:
        return None
    for sign in SEPARATORS:
        rows = sum(k for v, k in whole.items() if len([p for p in v.split(sign) if p.strip()]) > 1)
        if rows < max(2, JOINED_IN * len(some)):
            continue
        cut = {v: _distinct(v.split(sign)) for v in whole}
        within = Counter(spelling(name) for parts in cut.values() for name in parts)  # combinations that it occurs in
        parts = [spelling(n) for v, names in cut.items() if len(v.split(sign)) > 1 for n in names]
        if sum(within[p] > 1 for p in parts) >= SHARED * len(parts):
            names = _by_frequency(cut[v] for v in some)
            return SeveralLabels("joined", (label,), names, sign)
    return None


def _by_frequency(rows: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    counts: Counter[str] = Counter()
    shown: dict[str, str] = {}
    for row in rows:
        for name in row:
            shown.setdefault(spelling(name), name)
            counts[spelling(name)] += 1
    return tuple(shown[key] for key, _ in counts.most_common())
