"""Leaks: signs that a result will be too good to be true, because the answer is in the question."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hybrid.data.labels import spelling
from hybrid.data.notes import Note, listed
from hybrid.routing.table import UNKNOWN, Bools, Labels, Predictions

LOOKED_AT = 2_000  # rows, spread evenly
MOST_CLASSES = 300  # more names than these are not searched for in the texts
TOLD = 0.95  # share of rows whose text names its own class, and no other
DETERMINED = 0.999  # share of rows in which another column tells the label
FEWEST = 30  # rows that a perfect score must have to be doubted
PERFECT = 0.9995


def leaks(
    table: pd.DataFrame, label: str, used: Sequence[str], text: str | None, truth: Labels, classes: Sequence[str]
) -> list[Note]:
    """Look for columns and texts that give the label away.

    Parameters
    ----------
    table
        The rows that have a label.
    used
        Columns that are read; of the others it is said which tell the label.
    truth
        Class codes, shape ``(n_rows,)``.
    """
    rows = np.unique(np.linspace(0, len(table) - 1, min(len(table), LOOKED_AT)).astype(int))
    some, truth = table.iloc[rows], truth[rows]
    notes = []
    if text is not None:
        told = _share_told(some[text].to_list(), truth, classes)
        if told >= TOLD:
            notes.append(
                Note(
                    f"In {told:.0%} of the rows the text holds the name of its own class, and of no other.",
                    "Kept. If the texts were written when the label was known, every number here is too good: is "
                    f"{text!r} the right text column?",
                    "warning",
                )
            )
    telling = [str(c) for c in table.columns if c not in (*used, label) and _tells(some[c], truth)]
    if telling:
        who = f"Column {telling[0]!r} tells" if len(telling) == 1 else f"Columns {listed(telling)} tell"
        notes.append(
            Note(
                f"{who} the label in every row.",
                "Not read. Leave it out of the texts and out of what a model is shown, or nothing is measured.",
                "info",
            )
        )
    return notes


def perfect_tiers(recorded: Predictions, truth: Labels, *, but: str | None = None) -> list[Note]:
    """Doubt recorded tiers that are always right, but for the one whose answers are the truth."""
    notes = []
    for j, tier in enumerate(recorded.tiers):
        if tier.name == but:
            continue
        rows = recorded.asked[:, j] & (recorded.label[:, j] != UNKNOWN)
        note = too_good(tier.name, (recorded.label[:, j] == truth)[rows])
        if note is not None:
            notes.append(note)
    return notes


def too_good(name: str, right: Bools) -> Note | None:
    """Doubt a tier that is right in as good as every row; None where there is nothing to doubt.

    Parameters
    ----------
    right
        Whether it is right on rows that it was not fitted on.
    """
    if len(right) < FEWEST or right.mean() < PERFECT:
        return None
    return Note(
        f"{name} is right in {right.mean():.2%} of {len(right):,} rows.",
        "That is too good to be true for most tasks. Does a text hold the label in other words, were the texts written "
        "from it, or is the label this tier's own answer?",
        "warning",
    )


def _share_told(texts: Sequence[str], truth: Labels, classes: Sequence[str]) -> float:
    """Return the share of texts that hold the name of their own class and of no other."""
    names = {spelling(c): code for code, c in enumerate(classes)}
    if len(names) > MOST_CLASSES:
        return 0.0
    longest_first = sorted((n for n in names if n.strip()), key=len, reverse=True)
    named = re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, longest_first)) + r")(?!\w)")
    found = [{names[m] for m in named.findall(spelling(str(t)))} for t in texts]
    return float(np.mean([held == {code} for held, code in zip(found, truth.tolist(), strict=True)]))


def _tells(column: pd.Series, truth: NDArray[np.int64]) -> bool:
    """Whether a column's values repeat, and each goes with one label."""
    seen: dict[str, list[int]] = defaultdict(list)
    for value, code in zip(map(str.strip, map(str, column.to_list())), truth.tolist(), strict=True):
        if value:
            seen[value].append(code)
    filled = sum(map(len, seen.values()))
    if not 2 <= len(seen) <= filled / 3 or filled < 0.5 * len(truth):
        return False
    agreed = sum(max(map(codes.count, set(codes))) for codes in seen.values())
    return agreed >= DETERMINED * filled and len({max(set(c), key=c.count) for c in seen.values()}) > 1
