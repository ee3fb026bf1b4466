"""Dataset: a table → validated, grouped data, with a note for everything that was found in it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from hybrid.data.columns import TEST_NAMES, TUNE_NAMES, Columns, named_apart
from hybrid.data.labels import Folding, clean, fold, keep_apart
from hybrid.data.leaks import leaks, perfect_tiers
from hybrid.data.limits import CLASSES, NAME
from hybrid.data.notes import Note, listed, plural
from hybrid.data.recorded import names_noted, read_recorded
from hybrid.data.several import joined_labels
from hybrid.data.texts import bare, is_spaced, script
from hybrid.errors import DatasetError
from hybrid.routing.table import Bools, Labels, Predictions

MIN_ROWS = 10
Strings = NDArray[np.object_]


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Labelled rows, ready to be split; arrays of shape ``(n_rows,)``.

    Parameters
    ----------
    texts
        None in a predictions-only dataset.
    truth
        Class codes.
    classes
        Sorted.
    given_ids
        The id column; None where there is none.
    row
        Number in the table, 1 for the first data row.
    group
        Rows with equal codes are never separated: equal normalised text, or equal value of the group column.
    key
        A stable hash of the row's text (of its id without texts), for seeding.
    given_split
        "tune" or "test" where the table's own split is honoured, else None.
    recorded
        Recorded tiers; nan where one was never asked.
    notes
        What was found and what was done about it.
    n_duplicates
        Rows whose exact text occurred before.
    near_duplicate_share
        Share of rows whose normalised text occurs in another row too.
    n_conflicts
        Rows of near-duplicate groups that carry more than one label.
    fingerprint
        SHA-256 over texts, labels and recorded answers, hex.
    folded
        By class, other spellings of it that the file holds and that were taken for it.
    agreement_with
        The model whose answers the labels are: what is measured is agreement with it, and never called accuracy; None
        where people labelled.
    teacher
        The recorded tier that is this model, always right by construction; None where it is no tier.
    """

    texts: Strings | None
    truth: Labels
    classes: tuple[str, ...]
    given_ids: Strings | None
    row: NDArray[np.int64]
    group: NDArray[np.int64]
    key: NDArray[np.uint64]
    given_split: Strings | None
    recorded: Predictions
    notes: tuple[Note, ...]
    n_duplicates: int
    near_duplicate_share: float
    n_conflicts: int
    fingerprint: str
    folded: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    agreement_with: str | None = None
    teacher: str | None = None

    @property
    def n_rows(self) -> int:
        return len(self.truth)

    @property
    def ids(self) -> Strings:
        """The id column, else each row's number in the table."""
        return self.row.astype(str).astype(object) if self.given_ids is None else self.given_ids


def build(table: pd.DataFrame, columns: Columns) -> Dataset:
    """Validate a table.

    Parameters
    ----------
    table
        Strings, as `hybrid.data.read.read` gives them.
    columns
        What each column is.

    Raises
    ------
    DatasetError
        Saying what is wrong, in which row or column, and how to mend it.
    """
    _check_columns(table, columns)
    notes: list[Note] = []
    _note_columns(table, columns, notes)
    notes += names_noted(columns.recorded)
    table, row = _drop_unusable(table, columns, notes)
    spelt = table[columns.label].str.strip()
    counts = Counter(spelt)
    NAME.check(f"The column {columns.label!r}", max(map(len, counts)))  # every page and message would carry it
    found = fold(counts) if columns.fold_labels else keep_apart(counts)
    if len(found.classes) < 2:
        raise DatasetError(
            f"All {len(table)} labelled rows carry the label {found.classes[0]!r}: there is nothing to classify. "
            f"Is {columns.label!r} the right label column? The columns are {listed(list(table.columns))}."
        )
    CLASSES.check(f"The column {columns.label!r}", len(found.classes))
    classes = np.array(found.classes, dtype=object)
    truth: Labels = np.array([found.code[name] for name in spelt], dtype=np.int64)
    _note_folded(found, notes)
    if columns.text is not None:
        _note_script(table[columns.text], notes)
    _note_labels(classes, truth, notes)
    texts = None if columns.text is None else table[columns.text].to_numpy(dtype=object)
    ids = table[columns.id].to_numpy(dtype=object) if columns.id else None
    near = None if texts is None else _near(texts, notes)
    group = _groups(near, table[columns.group].str.strip() if columns.group else None, len(row))
    duplicates, near_share, conflicts = _note_duplicates(texts, near, truth, classes, notes)
    given = _read_split(table, columns, row, notes)
    if given is not None:
        _note_given_split(given == "test", near, truth, classes, notes)
    on_test = np.zeros(len(row), dtype=bool) if given is None else given == "test"
    recorded = read_recorded(table, named_apart(columns.recorded), found.classes, row, truth, on_test, notes)
    notes += leaks(table, columns.label, columns.used(), columns.text, truth, found.classes)
    apart = named_apart(columns.recorded)
    teacher = next((r.name for r in apart if columns.teacher is not None and r.label == columns.label), None)
    notes += perfect_tiers(recorded, truth, but=teacher)
    keys = next(k for k in (texts, ids, row.astype(str).astype(object)) if k is not None)
    return Dataset(
        texts,
        truth,
        found.classes,
        ids,
        row,
        group,
        pd.util.hash_array(keys.astype(object), categorize=False),
        given,
        recorded,
        tuple(notes),
        duplicates,
        near_share,
        conflicts,
        _fingerprint(keys, classes[truth], recorded),
        found.folded,
        columns.agreement_with,
        teacher,
    )


def _check_columns(table: pd.DataFrame, columns: Columns) -> None:
    here = f"The columns are {listed(list(table.columns))}."
    for name in columns.used():
        if name not in table.columns:
            raise DatasetError(f"There is no column {name!r}. {here}")
    used = columns.used()
    if columns.teacher is not None:
        used.remove(columns.label)  # it is the truth, and a tier's answers
    twice = sorted({c for c in used if used.count(c) > 1})
    if twice:
        raise DatasetError(f"The column {twice[0]!r} is picked for two things: pick another for one of them. {here}")
    if columns.text is None and not any(r.confidence for r in columns.recorded):
        raise DatasetError(
            "There is neither a text column nor a recorded tier with confidences: pick the text column, "
            f"or mark a recorded tier that has confidences. {here}"
        )


def _drop_unusable(table: pd.DataFrame, columns: Columns, notes: list[Note]) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    label = table[columns.label].map({name: clean(name) for name in table[columns.label].unique()})
    unlabelled = (label == "") | (label.str.lower() == "nan")
    keep = ~unlabelled
    if unlabelled.any():
        notes.append(Note(f"{plural(int(unlabelled.sum()), 'row has', 'rows have')} no label.", "Left out.", "warning"))
    if columns.text is not None:
        empty = (table[columns.text].str.strip() == "") & keep
        keep &= ~empty
        if empty.any():
            notes.append(Note(f"{plural(int(empty.sum()), 'row has', 'rows have')} no text.", "Left out.", "warning"))
    if keep.sum() < MIN_ROWS:
        raise DatasetError(
            f"Only {int(keep.sum())} of {len(table)} rows have a label{' and a text' if columns.text else ''}; "
            f"at least {MIN_ROWS} are needed. Is {columns.label!r} the right label column?"
        )
    return table[keep].reset_index(drop=True), np.flatnonzero(keep) + 1


def _note_columns(table: pd.DataFrame, columns: Columns, notes: list[Note]) -> None:
    if columns.agreement_with is not None:
        notes.append(
            Note(
                f"The labels in {columns.label!r} are answers of a model, {columns.agreement_with}.",
                "Every number is agreement with that model, not accuracy: label some rows by hand to learn its own.",
                "warning",
            )
        )
    several = joined_labels(table, columns.label)
    if several is not None:
        notes.append(
            Note(
                f"{columns.label!r} holds several labels a row, of {plural(len(several.names), 'kind', 'kinds')}: "
                f"{listed(several.names)}.",
                "Each combination, as it stands, is taken for a class. Choose the first label, combinations in any "
                "order, or one question a label instead.",
                "warning",
            )
        )


def _note_folded(found: Folding, notes: list[Note]) -> None:
    if not found.folded:
        return
    spellings = sum(map(len, found.folded.values()))
    some = "; ".join(f"{listed(others, at_most=3)} for {name!r}" for name, others in list(found.folded.items())[:5])
    rest = len(found.folded) - 5
    some += f"; and so for {plural(rest, 'other class', 'other classes')}" if rest > 0 else ""
    notes.append(
        Note(
            f"{plural(spellings, 'spelling differs', 'spellings differ')} from a class in case, spaces, invisible "
            f"signs or Unicode form alone: {some}.",
            "Taken for the same class. Keep the spellings apart if they mean different things.",
            "warning",
        )
    )


def _note_script(texts: pd.Series, notes: list[Note]) -> None:
    name = script(texts.to_list())
    if name is not None:
        how = "as its spaces cut it" if is_spaced(name) else "by runs of one to three characters, for it has no spaces"
        what = f"Most texts are in a script other than Latin: {name}."
        notes.append(Note(what, f"Read {how}. MiniLM was made for English: see what it is worth here.", "info"))


def _note_labels(classes: Strings, truth: Labels, notes: list[Note]) -> None:
    counts = np.bincount(truth, minlength=len(classes))
    if all(name.lstrip("-").replace(".", "", 1).isnumeric() for name in classes):
        many = len(classes) > 100 or len(classes) > len(truth) / 2
        notes.append(
            Note(
                f"The labels are numbers ({len(classes)} different ones).",
                "Taken as names of classes, not as quantities." + (" Is this the label column?" if many else ""),
                "warning" if many else "info",
            )
        )
    elif len(classes) > len(truth) / 2:
        notes.append(
            Note(f"{len(classes)} classes for {len(truth)} rows.", "Kept. Is this the label column?", "warning")
        )
    single = classes[counts == 1]
    if len(single):
        notes.append(
            Note(
                f"{plural(len(single), 'class has', 'classes have')} one row only: {listed(single)}.",
                "Kept on the tune side; the classifier cannot be checked on it. Add rows or merge classes.",
                "warning",
            )
        )


def _near(texts: Strings, notes: list[Note]) -> NDArray[np.int64]:
    """Return codes that near-duplicates share; where all texts would be ones, that equal texts share."""
    near = _codes([bare(t) or t for t in texts])
    n_kinds = int(near.max()) + 1
    if n_kinds >= MIN_ROWS or len(set(texts)) < MIN_ROWS:
        return near
    notes.append(
        Note(
            f"The texts are equal but for case, digits and punctuation: {plural(n_kinds, 'kind', 'kinds')}.",
            "Told apart by every sign, so that there is something to split: a model that reads words learns nothing "
            "of them, and rows that mean the same may be on both sides.",
            "warning",
        )
    )
    return _codes(list(texts))


def _codes(values: Sequence[str]) -> NDArray[np.int64]:
    codes: NDArray[np.int64] = pd.factorize(np.array(values, dtype=object))[0].astype(np.int64)
    return codes


def _groups(near: NDArray[np.int64] | None, given: pd.Series | None, n: int) -> NDArray[np.int64]:
    """Join rows that share a normalised text or a group, directly or through others."""
    links = [] if near is None else [near]
    if given is not None:
        alone = np.array([f"\0{i}" for i in range(n)], dtype=object)  # a row without a group is a group of its own
        links.append(_codes(list(np.where(given == "", alone, given))))
    if not links:
        return np.arange(n)
    if len(links) == 1:
        return links[0]
    a, b = links
    size = int(a.max()) + 1
    graph = coo_matrix((np.ones(n, dtype=bool), (a, b + size)), shape=(size + int(b.max()) + 1,) * 2)
    component: NDArray[np.int64] = connected_components(graph, directed=False)[1][a].astype(np.int64)
    return component


def _note_duplicates(
    texts: Strings | None,
    near: NDArray[np.int64] | None,
    truth: Labels,
    classes: Strings,
    notes: list[Note],
) -> tuple[int, float, int]:
    if texts is None or near is None:
        return 0, 0.0, 0
    duplicates = int(pd.Series(texts).duplicated().sum())
    if duplicates:
        notes.append(
            Note(f"{plural(duplicates, 'row repeats', 'rows repeat')} an earlier text.", "Kept, never split.", "info")
        )
    size = np.bincount(near)
    share = float((size[near] > 1).mean())
    if share:
        notes.append(
            Note(
                f"{share:.1%} of the rows have a near-duplicate (equal but for case, digits, punctuation and spaces).",
                "Kept on the same side of every split.",
                "info",
            )
        )
    frame = pd.DataFrame({"near": near, "truth": truth})
    mixed = (frame.groupby("near")["truth"].transform("nunique") > 1).to_numpy()
    if mixed.any():
        first = texts[np.flatnonzero(mixed)[0]]
        same = np.flatnonzero(near == near[np.flatnonzero(mixed)[0]])
        names = listed(np.unique(classes[truth[same]]))
        notes.append(
            Note(
                f"{plural(int(mixed.sum()), 'row carries', 'rows carry')} another label than a near-duplicate, such as "
                f"“{str(first)[:60]}”: {names}.",
                "Kept: they bound what any model can reach. Correct the labels where they are wrong.",
                "warning",
            )
        )
    return duplicates, share, int(mixed.sum())


def _read_split(table: pd.DataFrame, columns: Columns, row: NDArray[np.int64], notes: list[Note]) -> Strings | None:
    if columns.split is None:
        return None
    values = table[columns.split].str.strip().str.lower()
    test, tune = values.isin(TEST_NAMES), values.isin(TUNE_NAMES)
    odd = ~(test | tune)
    if odd.any():
        at = int(np.flatnonzero(odd)[0])
        raise DatasetError(
            f"Row {row[at]}, {columns.split} = {table[columns.split].iloc[at]!r}: a split column holds train, tune, "
            "validation, dev or test. Correct it, or pick no split column."
        )
    if test.all() or tune.all():
        notes.append(
            Note(f"The split column holds only {values.iloc[0]!r}.", "Not used: the rows are split here.", "warning")
        )
        return None
    return np.where(test, "test", "tune").astype(object)


def _note_given_split(
    test: Bools, near: NDArray[np.int64] | None, truth: Labels, classes: Strings, notes: list[Note]
) -> None:
    unseen = np.setdiff1d(truth[test], truth[~test])
    if len(unseen):
        notes.append(
            Note(
                f"{plural(len(unseen), 'label occurs', 'labels occur')} only on the test side: "
                f"{listed(classes[unseen])} ({plural(int(np.isin(truth[test], unseen).sum()), 'row', 'rows')}).",
                "Kept: no model fitted here can answer them, so they count as wrong. Add such rows to the tune side.",
                "warning",
            )
        )
    if near is not None:
        both = np.isin(near[test], near[~test])
        if both.any():
            notes.append(
                Note(
                    f"{int(both.sum())} test rows ({both.mean():.1%}) have a near-duplicate on the given tune side.",
                    "Left where the file puts them; test numbers are that much too good.",
                    "warning",
                )
            )


def _fingerprint(keys: Strings, labels: Strings, recorded: Predictions) -> str:
    digest = hashlib.sha256("\0".join([*keys, "", *labels]).encode("utf-8", "surrogatepass"))
    for values in (recorded.label, recorded.confidence, recorded.cost, recorded.latency):
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
