"""Recorded answers: columns of a table → one checked tier for each model that was asked elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hybrid.data.columns import RecordedColumns, named_apart
from hybrid.data.labels import coded, matcher, most_frequent
from hybrid.data.notes import Note, plural
from hybrid.data.numbers import LONG, Kind, Said, clipped, is_milliseconds, numbers_of, refused
from hybrid.errors import DatasetError
from hybrid.routing.table import UNKNOWN, Answers, Bools, Floats, Labels, Predictions, Tier


def read_recorded(
    table: pd.DataFrame,
    recorded: Sequence[RecordedColumns],
    classes: tuple[str, ...],
    row: NDArray[np.int64],
    truth: Labels,
    on_test: Bools,
    notes: list[Note],
) -> Predictions:
    """Read the recorded tiers of a table.

    Parameters
    ----------
    row
        Each row's number in the file, for messages.
    truth, on_test
        A tier without confidences gets its accuracy on the rows that are not test as a constant.
    notes
        Findings are added to it.

    Raises
    ------
    DatasetError
        Naming the row and the column whose value cannot be used.
    """
    if not recorded:
        return Predictions.unasked((), classes, len(table))
    columns = [_read_tier(table, r, classes, row, truth, on_test, notes) for r in recorded]
    return Predictions.from_answers([t for t, _ in columns], classes, [a for _, a in columns])


def names_noted(recorded: Sequence[RecordedColumns]) -> list[Note]:
    """Say which tiers are called otherwise here than the file or the user calls them, and why."""
    found = []
    for given, r in zip(recorded, named_apart(recorded), strict=True):
        name = given.name.strip()
        if r.name == f"{name} (recorded)":
            done = f"{name!r} is a tier that is made here: the two are told apart."
            found.append(Note(f"The file's tier {name!r} is called {r.name!r}.", done, "info"))
        elif name and r.name != name:
            done = f"The one of {r.label!r} is called {r.name!r}."
            found.append(Note(f"Two tiers have the name {name!r}.", done, "info"))
    return found


def in_doubt(recorded: Sequence[RecordedColumns], said: Predictions) -> list[RecordedColumns]:
    """Return the tiers whose latencies may be milliseconds that were read as seconds: over a minute an answer.

    Parameters
    ----------
    said
        What was read of them.
    """
    found = []
    for j, r in enumerate(recorded):
        known = r.milliseconds if r.milliseconds is not None else is_milliseconds(r.latency or "")
        seconds = said.latency[:, j]
        if r.latency and not known and said.asked[:, j].any() and float(np.nanmedian(seconds)) > LONG:
            found.append(r)
    return found


def _read_tier(
    table: pd.DataFrame,
    r: RecordedColumns,
    classes: tuple[str, ...],
    row: NDArray[np.int64],
    truth: Labels,
    on_test: Bools,
    notes: list[Note],
) -> tuple[Tier, Answers]:
    said = table[r.label].str.strip()
    blank = (said == "").to_numpy()
    one_side = bool(blank.any()) and (bool((blank == on_test).all()) or bool((blank != on_test).all()))
    failed = r.blank_is_failure and not one_side  # blank on exactly one side of the split: nobody asked there
    asked = ~blank | failed
    if not (~blank).any():
        raise DatasetError(f"Column {r.label!r} of {r.name} is blank in every row: pick another or leave the tier out.")
    label = match(said, classes)
    _note_spellings(r, said, label, classes, notes)
    _note_answers(r, said, label, blank, notes, failed=failed, one_side=one_side)
    confidence = _confidence(table, r, row, label, blank, truth, ~on_test, notes)
    cost = _cost(table, r, row, blank, notes)
    latency = np.full(len(table), r.default_latency)
    if r.latency is None and r.default_latency == 0:
        notes.append(Note(f"{r.name} has no latency.", "Its answers count 0 s: set a latency if you know it.", "info"))
    if r.latency is not None:
        latency = _latency(table, r, r.latency, row, blank, notes)
    nan = np.where(asked, 0.0, np.nan)
    answers = Answers(np.where(asked, label, UNKNOWN), confidence + nan, cost + nan, latency + nan)
    return Tier(r.name, "recorded", price=round(float(cost[asked].mean()), 12)), answers


def match(said: pd.Series, classes: tuple[str, ...]) -> Labels:
    """Return the codes of answers; see `hybrid.data.labels.Matcher`."""
    code = matcher(classes)
    codes, names = pd.factorize(said.to_numpy(dtype=object))
    found = np.array([coded(n, code) for n in names], dtype=np.int64)
    return found[codes]


def _note_spellings(
    r: RecordedColumns, said: pd.Series, label: Labels, classes: tuple[str, ...], notes: list[Note]
) -> None:
    otherwise = (label >= 0) & ~said.isin(classes).to_numpy()
    if otherwise.any():
        what = plural(int(otherwise.sum()), "answer", "answers")
        notes.append(
            Note(
                f"{what} of {r.name} spell a class in another way: {most_frequent(said[otherwise])}.",
                "Taken for the class that alone is meant.",
                "info",
            )
        )


def _note_answers(
    r: RecordedColumns,
    said: pd.Series,
    label: Labels,
    blank: Bools,
    notes: list[Note],
    *,
    failed: bool,
    one_side: bool,
) -> None:
    if blank.any():
        meaning = "Counted as failed: they escalate, and are wrong if final." if failed else "Never asked."
        if one_side:
            meaning = (
                "All of them are on the same side of the split: never asked. Thresholds are chosen on tune rows and "
                "checked on test rows: pick no split column to split the rows anew, or add answers."
            )
        level = "warning" if failed or one_side else "info"
        notes.append(Note(f"{r.name} has {plural(int(blank.sum()), 'blank answer', 'blank answers')}.", meaning, level))  # type: ignore[arg-type]
    strange = (label == UNKNOWN) & ~blank
    if strange.any():
        notes.append(
            Note(
                f"{plural(int(strange.sum()), 'answer', 'answers')} of {r.name} "
                f"{'is' if strange.sum() == 1 else 'are'} not one of the classes: {most_frequent(said[strange])}.",
                "Counted as failed: they escalate, and are wrong if final.",
                "warning",
            )
        )


def _confidence(
    table: pd.DataFrame,
    r: RecordedColumns,
    row: NDArray[np.int64],
    label: Labels,
    blank: Bools,
    truth: Labels,
    measured: Bools,
    notes: list[Note],
) -> Floats:
    if r.confidence is None:
        rows = measured & (label != UNKNOWN)
        usual = round(float((label == truth)[rows].mean()), 9) if rows.any() else 0.5
        where = "" if measured.all() else " on the rows that are not test"
        done = f"Each of its answers gets its accuracy{where}, {usual:.3f}."
        if not rows.any():
            done = f"It answered test rows only, so how often it is right is not known either: each gets {usual:g}."
        notes.append(Note(f"{r.name} has no confidences.", done, "info"))
        return np.where(label == UNKNOWN, 0.0, usual)
    said = Said()
    values = clipped(_numbers(table, r.confidence, row, blank, "confidence", said), said)
    bad = ~((values >= 0) & (values <= 1))
    if bad.any():
        raise _not_a_number(table[r.confidence], r.confidence, row, bad, "confidence")
    notes += said.notes(r.name, r.confidence)
    return np.where(label == UNKNOWN, 0.0, values)


def _cost(table: pd.DataFrame, r: RecordedColumns, row: NDArray[np.int64], blank: Bools, notes: list[Note]) -> Floats:
    if r.cost is not None:
        return _read_numbers(table, r.cost, row, blank, "cost", r.name, notes)
    if r.prompt_tokens is None and r.completion_tokens is None:
        if r.price == 0 and not r.free:
            notes.append(
                Note(
                    f"{r.name} has neither a cost column nor a price.", "Its answers count $0: set a price.", "warning"
                )
            )
        return np.full(len(table), r.price)
    cost = np.zeros(len(table))
    for column, price in ((r.prompt_tokens, r.prompt_price), (r.completion_tokens, r.completion_price)):
        if column is not None:
            cost += _read_numbers(table, column, row, blank, "tokens", r.name, notes) * price / 1e6
    return cost


def _latency(
    table: pd.DataFrame, r: RecordedColumns, column: str, row: NDArray[np.int64], blank: Bools, notes: list[Note]
) -> Floats:
    values = _read_numbers(table, column, row, blank, "latency", r.name, notes)
    if r.milliseconds if r.milliseconds is not None else is_milliseconds(column):
        notes.append(Note(f"The latencies of {r.name} are milliseconds.", "Divided by 1,000.", "info"))
        return values / 1000
    usual = float(np.median(values[~blank]))
    if usual > LONG:
        what = f"{r.name} takes {usual:,.0f} seconds an answer by {column!r}. Are these milliseconds?"
        done = f"Taken as seconds. If not, mark “Latency in ms” beside the column, or name it {column}_ms."
        notes.append(Note(what, done, "warning"))
    return values


def _read_numbers(
    table: pd.DataFrame,
    column: str,
    row: NDArray[np.int64],
    blank: Bools,
    kind: Kind,
    name: str,
    notes: list[Note],
) -> Floats:
    """Read finite numbers of 0 or more; a blank counts 0 where the tier's answer is blank too."""
    said = Said()
    values = _numbers(table, column, row, blank, kind, said)
    bad = ~(np.isfinite(values) & (values >= 0))
    if bad.any():
        raise _not_a_number(table[column], column, row, bad, kind)
    notes += said.notes(name, column)
    return values


def _numbers(table: pd.DataFrame, column: str, row: NDArray[np.int64], blank: Bools, kind: Kind, said: Said) -> Floats:
    codes, texts = pd.factorize(table[column].to_numpy(dtype=object))
    values = numbers_of(texts, np.bincount(codes, minlength=len(texts)), kind, said)[codes]
    nothing = np.array([not str(t).strip() for t in texts], dtype=bool)[codes]
    return np.where(nothing & blank, 0.0, values)


def _not_a_number(texts: pd.Series, column: str, row: NDArray[np.int64], bad: Bools, kind: Kind) -> DatasetError:
    at = int(np.flatnonzero(bad)[0])
    text = str(texts.iloc[at])
    rows = plural(int(bad.sum()), "such row", "such rows")
    return DatasetError(f"Row {row[at]}, {refused(column, text, kind)} ({rows}.)")
