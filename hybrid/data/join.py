"""Joins: a second file's answers, or more rows, added to a first; what joined, was left or repeats is counted."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hybrid.data.columns import Columns
from hybrid.data.guess import guess_columns, guess_second
from hybrid.data.notes import Note, listed, plural
from hybrid.errors import DatasetError
from hybrid.routing.table import Bools

_ROLES = ("text", "label", "id", "group", "split")
_NONE = -1
Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """Two files as one.

    Parameters
    ----------
    table
        The first's rows in their order, then those that the second adds.
    columns
        The first's, as they were picked, with the recorded tiers that the second brings.
    notes
        How many rows joined, were left, repeat or disagree.
    """

    table: pd.DataFrame
    columns: Columns
    notes: tuple[Note, ...]


def join(
    first: pd.DataFrame, second: pd.DataFrame, *, first_columns: Columns, second_columns: Columns | None = None
) -> Joined:
    """Add a second table to the first: recorded answers for some of its rows, more rows, or both.

    Rows join by id where both tables have one, else by text. An id that several rows of the first carry with different
    texts says nothing about which of them is meant: such rows are not joined, or joined by text where both have one. A
    joined row takes the second's new columns; a column that both have only fills blanks. Labelled rows of the second
    that join nothing are added below.

    Parameters
    ----------
    second_columns
        What the second's columns are; None: a column that is named as in the first, but for case and signs between
        words, is the same; the others are guessed.

    Raises
    ------
    DatasetError
        If nothing joins and the second has no labelled rows to add, or there is nothing to join by.
    """
    if second_columns is None:
        second = _named_alike(second, list(first.columns))
        second_columns = guess_second(second, first_columns)
    second = _in_words_of_first(second, first_columns, second_columns)
    notes: list[Note] = []
    by = _column_to_join_by(first, second, first_columns, second_columns, notes)
    by_text = by == first_columns.text
    usable, left = _usable(second, by, by_text, notes)
    ours = _keys(first[by], by_text)
    place, spelt = _found(ours, _keys(usable[by], by_text), by_text)
    place, n_unclear = (place, 0) if by_text else _without_unclear(first, first_columns, ours, place)
    hit = place != _NONE
    matched = usable.iloc[place[hit]]
    unused = np.ones(len(usable), dtype=bool)
    unused[np.unique(place[hit])] = False
    if n_unclear:
        unused &= ~np.isin(_keys(usable[by], by_text), ours)
    added, n_left = _to_add(usable[unused], first_columns)
    if not hit.any() and (n_unclear or not len(added)):
        raise _nothing_joins(first, second, by, n_unclear, first_columns)
    table = _fill(first, matched, hit, by)
    table = pd.concat([table, added.reindex(columns=table.columns, fill_value="")], ignore_index=True).fillna("")
    n_used = len(np.unique(place[hit]))
    notes.insert(0, _counted(hit, n_used, len(added), n_left + left, by))
    notes += _spelling_notes(spelt & hit, ours, usable, place, by)
    if n_unclear:
        what = f"{plural(n_unclear, 'row', 'rows')} of the first file share {by!r} with rows of other texts."
        notes.append(Note(what, "Not joined: it is not known which of them the second file means.", "warning"))
    notes += _differences(first, matched, hit, by, first_columns.label)
    return Joined(table, _columns(first, table, first_columns), tuple(notes))


def _named_alike(second: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Name the second's columns as the first's where they differ in case and signs between words only."""
    ours = _unique({name: _name_key(name) for name in names})
    renames = {}
    for theirs, key in _unique({str(c): _name_key(str(c)) for c in second.columns}).items():
        if theirs in ours and second.columns.isin([ours[theirs]]).sum() == 0:
            renames[key] = ours[theirs]
    return second.rename(columns=renames)


def _name_key(name: str) -> str:
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name).casefold())


def _unique(keys: dict[str, str]) -> dict[str, str]:
    """Return the name of each key that one name has."""
    names: dict[str, list[str]] = {}
    for name, key in keys.items():
        names.setdefault(key, []).append(name)
    return {key: found[0] for key, found in names.items() if key and len(found) == 1}


def _in_words_of_first(second: pd.DataFrame, first: Columns, theirs: Columns) -> pd.DataFrame:
    """Name what both have as the first names it."""
    renames = {
        own: ours
        for role in _ROLES
        if (own := getattr(theirs, role)) and (ours := getattr(first, role)) and own != ours
    }
    clash = [ours for ours in renames.values() if ours in second.columns and ours not in renames]
    return second.drop(columns=clash).rename(columns=renames)


def _column_to_join_by(
    first: pd.DataFrame, second: pd.DataFrame, ours: Columns, theirs: Columns, notes: list[Note]
) -> str:
    by_id = ours.id if ours.id and theirs.id and ours.id in second.columns else None
    by_text = ours.text if ours.text and ours.text in second.columns else None
    if by_id and by_text:
        ids = first[by_id].str.strip()
        texts = pd.Series(_keys(first[by_text], True))
        several = texts.groupby(ids.to_numpy()).nunique()
        shared = int((several[several.index != ""] > 1).sum())
        if shared > len(several) / 2:
            what = f"{plural(shared, f'value of {by_id!r} stands', f'values of {by_id!r} stand')} on several texts."
            notes.append(Note(what, "Joined by text instead.", "warning"))
            return by_text
    by = by_id or by_text
    if by is None:
        raise DatasetError(
            "The second file cannot be joined: both need an id column, or both a text column. "
            f"Its columns are {listed(list(second.columns))}."
        )
    return by


def _usable(second: pd.DataFrame, by: str, by_text: bool, notes: list[Note]) -> tuple[pd.DataFrame, int]:
    """Return the first row of each key, and those without one; and how many repeat an earlier one."""
    theirs = pd.Series(_keys(second[by], by_text), index=second.index)
    repeated = theirs.duplicated() & (theirs != "")
    if repeated.any():
        rest = second.assign(**{by: theirs})
        differ = int((repeated & ~rest.duplicated()).sum())
        more = f"; {differ:,} of them say something else" if differ else ""
        what = f"{plural(int(repeated.sum()), 'row', 'rows')} of the second file repeat an earlier {by}{more}."
        notes.append(Note(what, "The first of each counts.", "warning" if differ else "info"))
    return second[~repeated], int(repeated.sum())


def _keys(column: pd.Series, by_text: bool) -> NDArray[np.object_]:
    """Return what rows join by: ids without blanks around them, texts with one kind of line end."""
    trimmed = column.str.replace(r"\r\n?", "\n", regex=True).str.strip() if by_text else column.str.strip()
    return trimmed.to_numpy(dtype=object)


def _loose(key: str, by_text: bool) -> str:
    """Return what is left of a key where it is written differently."""
    key = unicodedata.normalize("NFC", key)
    if by_text:
        return " ".join(key.split())
    whole = re.fullmatch(r"0*([0-9]+)(?:\.0+)?", key)
    return whole[1] if whole else key.casefold()


def _found(ours: NDArray[np.object_], theirs: NDArray[np.object_], by_text: bool) -> tuple[Places, Bools]:
    """Return the second's row of each row of the first, -1 where there is none; and whether it is spelt otherwise.

    Exactly first; then, such as ``7`` for ``007``, where only one key of either file would do.
    """
    exact = {key: i for i, key in enumerate(theirs) if key}
    place = np.array([exact.get(key, _NONE) for key in ours], dtype=np.int64)
    spelt = np.zeros(len(ours), dtype=bool)
    used = {ours[i] for i in np.flatnonzero(place != _NONE)}
    missing = {str(key) for key in ours[place == _NONE] if key}
    if missing:
        free = _unique({key: _loose(key, by_text) for key in exact if key not in used})
        taken = {_loose(str(key), by_text) for key in used}
        for loose, key in _unique({key: _loose(key, by_text) for key in missing}).items():
            if loose in free and loose not in taken:
                exact[key] = exact[free[loose]]
        again = np.array([exact.get(key, _NONE) for key in ours], dtype=np.int64)
        spelt = (place == _NONE) & (again != _NONE)
        place = again
    return place, spelt


def _without_unclear(
    first: pd.DataFrame, columns: Columns, ours: NDArray[np.object_], place: Places
) -> tuple[Places, int]:
    """Leave out rows whose id others share that have another text; returns how many of them would have joined."""
    what = _keys(first[columns.text], True) if columns.text else np.arange(len(first)).astype(object)
    several = pd.Series(what).groupby(ours).transform("nunique").to_numpy() > 1
    unclear = several & (place != _NONE)
    return np.where(unclear, _NONE, place), int(unclear.sum())


def _to_add(rows: pd.DataFrame, columns: Columns) -> tuple[pd.DataFrame, int]:
    """Return the rows that can stand alone, and how many cannot."""
    whole = np.ones(len(rows), dtype=bool)
    for needed in filter(None, (columns.label, columns.text)):
        whole &= (rows[needed].str.strip() != "").to_numpy() if needed in rows else False
    return rows[whole], int((~whole).sum())


def _nothing_joins(
    first: pd.DataFrame, second: pd.DataFrame, by: str, n_unclear: int, columns: Columns
) -> DatasetError:
    if n_unclear:
        example = first[by][first[by].duplicated(keep=False)].iloc[0]
        return DatasetError(
            f"{by!r} does not name rows: in the first file {example!r} stands on {int((first[by] == example).sum())} "
            "rows, and an answer belongs to one. Pick a column that names each row once, or none to join by text."
        )
    return DatasetError(
        f"No row of the second file joins the first by {by!r}, and it has no labels to add rows with. "
        f"First file: {listed(list(first[by].head(2)))}; second: {listed(list(second[by].head(2)))}."
    )


def _counted(hit: Bools, n_used: int, n_added: int, n_left: int, by: str) -> Note:
    joined = int(hit.sum())
    what = f"{plural(joined, 'row', 'rows')} joined by {by}, {plural(n_added, 'row', 'rows')} added"
    if n_used != joined:
        what += f"; {plural(n_used, 'row', 'rows')} of the second file stand on {joined:,} with equal {by}"
    done = "Columns that only the second file has are blank in the rows that did not join."
    if (~hit).any():
        what += f"; {plural(int((~hit).sum()), 'row', 'rows')} of the first found no partner"
    if n_left:
        what += f"; {plural(n_left, 'row', 'rows')} of the second left out"
        done += " Rows of the second without partner, label and text, and repeated ones, are left out."
    return Note(f"{what}.", done, "info")


def _spelling_notes(
    spelt: Bools, ours: NDArray[np.object_], usable: pd.DataFrame, place: Places, by: str
) -> list[Note]:
    if not spelt.any():
        return []
    at = int(np.flatnonzero(spelt)[0])
    pair = f"{str(usable[by].iloc[place[at]])[:40]!r} for {str(ours[at])[:40]!r}"
    n = int(spelt.sum())
    what = f"{n:,} of them are written differently, such as {pair}."
    return [Note(what, "Joined, for no other row would do.", "info")]


def _differences(first: pd.DataFrame, matched: pd.DataFrame, hit: Bools, by: str, label: str) -> list[Note]:
    notes = []
    for column in matched.columns.intersection(first.columns).drop(by, errors="ignore"):
        ours, theirs = first.loc[hit, column].str.strip().to_numpy(), matched[column].str.strip().to_numpy()
        differ = int(((ours != "") & (theirs != "") & (ours != theirs)).sum())
        if differ and column == label:
            what = f"{plural(differ, 'label differs', 'labels differ')} between the files."
            notes.append(Note(what, "The first file's stay.", "warning"))
        elif differ:
            what = f"{plural(differ, 'value', 'values')} of {str(column)!r} differ between the files."
            notes.append(Note(what, "The first file's stay.", "warning"))
    return notes


def _fill(first: pd.DataFrame, matched: pd.DataFrame, hit: Bools, by: str) -> pd.DataFrame:
    """Give the rows that joined the second's columns; a column that both have only fills blanks."""
    new = {}
    for column in matched.columns.drop(by):
        theirs = np.full(len(first), "", dtype=object)
        theirs[hit] = matched[column].to_numpy(dtype=object)
        ours = first[column].to_numpy(dtype=object) if column in first else np.full(len(first), "", dtype=object)
        new[column] = np.where(ours == "", theirs, ours)
    return pd.DataFrame({c: new.get(c, first.get(c)) for c in [*first.columns, *(c for c in new if c not in first)]})


def _columns(first: pd.DataFrame, table: pd.DataFrame, picked: Columns) -> Columns:
    """Return the picks of the first, with the recorded tiers among the columns that are new."""
    fresh = [c for c in table.columns if c not in first.columns]
    if not fresh or not picked.label:
        return picked
    guessed = guess_columns(table[[picked.label, *fresh]].rename(columns={picked.label: "label"}))
    names = {r.name for r in picked.recorded}
    brought = tuple(
        r if r.name not in names else replace(r, name=f"{r.name} 2")
        for r in guessed.recorded
        if guessed.label == "label" and set(r.used()) <= set(fresh)
    )
    return replace(picked, recorded=(*picked.recorded, *brought))
