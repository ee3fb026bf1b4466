"""Recorded answers: columns of a table → one checked tier for each model that was asked elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hybrid.data.columns import RecordedColumns
from hybrid.data.labels import matcher, most_frequent
from hybrid.data.notes import Note, plural
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
    asked = ~blank | r.blank_is_failure
    if not (~blank).any():
        raise DatasetError(f"Column {r.label!r} of {r.name} is blank in every row: pick another or leave the tier out.")
    label = match(said, classes)
    _note_spellings(r, said, label, classes, notes)
    _note_answers(r, said, label, blank, notes)
    confidence = _confidence(table, r, row, label, blank, truth, ~on_test, notes)
    cost = _cost(table, r, row, blank, notes)
    latency = np.full(len(table), r.default_latency)
    if r.latency is None and r.default_latency == 0:
        notes.append(Note(f"{r.name} has no latency.", "Its answers count 0 s: set a latency if you know it.", "info"))
    if r.latency is not None:
        latency = _numbers(table, r.latency, row, blank, name=r.name)
    nan = np.where(asked, 0.0, np.nan)
    answers = Answers(np.where(asked, label, UNKNOWN), confidence + nan, cost + nan, latency + nan)
    return Tier(r.name, "recorded", price=round(float(cost[asked].mean()), 12)), answers


def match(said: pd.Series, classes: tuple[str, ...]) -> Labels:
    """Return the codes of answers; see `hybrid.data.labels.Matcher`."""
    code = matcher(classes)
    names, inverse = np.unique(said.to_numpy(dtype=str), return_inverse=True)
    found = np.array([code(n) for n in names], dtype=np.int64)
    return found[inverse]


def _note_spellings(
    r: RecordedColumns, said: pd.Series, label: Labels, classes: tuple[str, ...], notes: list[Note]
) -> None:
    otherwise = (label != UNKNOWN) & ~said.isin(classes).to_numpy()
    if otherwise.any():
        what = plural(int(otherwise.sum()), "answer", "answers")
        notes.append(
            Note(
                f"{what} of {r.name} spell a class in another way: {most_frequent(said[otherwise])}.",
                "Taken for the class that alone is meant.",
                "info",
            )
        )


def _note_answers(r: RecordedColumns, said: pd.Series, label: Labels, blank: Bools, notes: list[Note]) -> None:
    if blank.any():
        meaning = "Counted as failed: they escalate, and are wrong if final." if r.blank_is_failure else "Never asked."
        level = "warning" if r.blank_is_failure else "info"
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
        notes.append(Note(f"{r.name} has no confidences.", done, "info"))
        return np.where(label == UNKNOWN, 0.0, usual)
    values = _numbers(table, r.confidence, row, blank, name=r.name)
    bad = values > 1
    if bad.any():
        at = int(np.flatnonzero(bad)[0])
        raise DatasetError(
            f"Row {row[at]}, {r.confidence} = {table[r.confidence].iloc[at]}: must be in [0, 1]. "
            "Percentages? Divide by 100."
        )
    return np.where(label == UNKNOWN, 0.0, values)


def _cost(table: pd.DataFrame, r: RecordedColumns, row: NDArray[np.int64], blank: Bools, notes: list[Note]) -> Floats:
    if r.cost is not None:
        return _numbers(table, r.cost, row, blank, name=r.name)
    if r.prompt_tokens is None and r.completion_tokens is None:
        if r.price == 0:
            notes.append(
                Note(
                    f"{r.name} has neither a cost column nor a price.", "Its answers count $0: set a price.", "warning"
                )
            )
        return np.full(len(table), r.price)
    cost = np.zeros(len(table))
    for column, price in ((r.prompt_tokens, r.prompt_price), (r.completion_tokens, r.completion_price)):
        if column is not None:
            cost += _numbers(table, column, row, blank, name=r.name) * price / 1e6
    return cost


def _numbers(table: pd.DataFrame, column: str, row: NDArray[np.int64], blank: Bools, *, name: str) -> Floats:
    """Read numbers of 0 or more; a blank counts 0 where the tier's answer is blank too."""
    texts = table[column].str.strip().to_numpy(dtype=object)
    values = np.empty(len(texts))
    for i, text in enumerate(texts):
        if text == "" and blank[i]:
            values[i] = 0.0
            continue
        try:
            values[i] = float(text)
        except ValueError:
            values[i] = np.nan
    bad = ~(np.isfinite(values) & (values >= 0))
    if bad.any():
        at = int(np.flatnonzero(bad)[0])
        raise DatasetError(
            f"Row {row[at]}, {column} = {texts[at]!r}: {name} answered there, so a finite number of 0 or more is "
            f"needed ({plural(int(bad.sum()), 'such row', 'such rows')}). Write decimals with a point; leave the "
            "column out if it holds something else."
        )
    return values
