"""Reading: files → a study that is not fitted yet; halves of a log are joined, its model gets a list price."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from hybrid.data.chat_log import REPLIES, REQUESTS, TIME, ChatLog
from hybrid.data.columns import Columns
from hybrid.data.guess import Guess, guess
from hybrid.data.notes import Note, listed
from hybrid.data.read import Read, joined, read
from hybrid.data.several import COMBINATIONS, FIRST, QUESTION, one_label
from hybrid.errors import DatasetError
from hybrid.study.study import Study
from hybrid.tiers.llm.batch import SHARE_OF_PRICE
from hybrid.tiers.llm.prices import price

MONTH = 365.25 / 12 * 86_400  # seconds
LEAST_SPAN = 2 * 86_400.0  # seconds of a log that tell its pace


def read_path(path: str | Path) -> Read:
    """Read a file on disk.

    Raises
    ------
    DatasetError
        If it cannot be read.
    """
    try:
        return read(Path(path).name, Path(path).read_bytes())
    except OSError as error:
        raise DatasetError(f"{str(path)!r} cannot be read: {error.strerror}.") from error


def guessed(found: Read, *, picked: Mapping[str, str | None] | None = None) -> Guess:
    """Return what the columns of a file are: of a log as they were made, priced; of a table as they seem to be."""
    if found.columns is None or picked:
        return guess(found.table, picked=picked)
    assert found.log is not None
    return Guess(priced(found.columns, found.log))


def studied(name: str, found: Read, columns: Columns) -> Study:
    """Return the study of a file, with what was assumed of its price among the notes."""
    return Study(name, found.table, columns, notes=(*found.notes, *_price_notes(columns, found.log)))


def open_files(
    paths: Sequence[str | Path],
    *,
    picked: Mapping[str, str | None],
    needed: Sequence[str],
    several: str | None = None,
) -> Study:
    """Return the study of one file, or of several that belong together: halves of a log, or further answers.

    Parameters
    ----------
    picked
        Roles that were named, as `hybrid.data.guess.guess` takes them.
    needed
        Roles that must not be in doubt.
    several
        What is told apart where rows have several labels: "first", "combinations", or the name of the label whose
        question of yes or no is asked; None: the label column as it stands.

    Raises
    ------
    DatasetError
        If one cannot be used, or they do not belong together; where a page would ask, it says what to name.
    """
    name, found, others = open_halves(paths)
    guess = guessed(found, picked=picked)
    if guess.several is not None and guess.several.kind == "indicators" and several is None and "label" in needed:
        columns = listed(guess.several.columns)
        raise DatasetError(
            f"{columns} say yes or no: these may be several labels a row. Say what is to be told apart with --several "
            f"first, --several combinations or --several {guess.several.names[0]!r}; or name one column with --label."
        )
    study = _one_label(name, found, guess, several, needed) if several else studied(name, found, guess.settled(*needed))
    for path in others:
        study = study.join(path)
    return study


def _one_label(name: str, found: Read, guess: Guess, several: str, needed: Sequence[str]) -> Study:
    """Return the study of a file whose rows have several labels, made one."""
    labels, columns = guess.several, replace(guess, asks=tuple(a for a in guess.asks if a.about != "label"))
    if labels is None:
        raise DatasetError(f"--several: {guess.columns.label!r} holds one label a row.")
    settled = columns.settled(*needed)
    how = several if several in (FIRST, COMBINATIONS) else QUESTION
    answers = [r.label for r in settled.recorded]
    one = one_label(found.table, labels, how, name=several, answers=answers)
    return Study(name, one.table, replace(settled, label=one.label), notes=(*found.notes, *one.notes))


def open_halves(paths: Sequence[str | Path]) -> tuple[str, Read, list[str | Path]]:
    """Read the first file, with the other half of it where it is half of a log; returns the files that are left.

    Raises
    ------
    DatasetError
        If a half is missing, or the two do not belong together.
    """
    first, *others = paths
    found, name = read_path(first), Path(first).name
    if found.log is None or found.log.half is None:
        return name, found, others
    if not others:
        other = REPLIES if found.log.half == REQUESTS else REQUESTS
        raise DatasetError(f"{name} holds the {found.log.half} of a batch: name the file with its {other} as well.")
    return f"{name} + {Path(others[0]).name}", joined(found, read_path(others[0])), others[1:]


def priced(columns: Columns, log: ChatLog) -> Columns:
    """Return a log's columns with its model's list price where the log says tokens and no cost."""
    known = price(log.asked) or price(log.asked.rpartition("/")[2]) if log.asked else None
    if known is None:
        return columns
    share = SHARE_OF_PRICE if log.batch else 1.0
    tiers = tuple(
        replace(r, prompt_price=share * known.input, completion_price=share * known.output)
        if r.cost is None and (r.prompt_tokens or r.completion_tokens)
        else r
        for r in columns.recorded
    )
    return replace(columns, recorded=tiers)


def _price_notes(columns: Columns, log: ChatLog | None) -> list[Note]:
    tiers = [r for r in columns.recorded if r.prompt_price or r.completion_price]
    if log is None or not tiers:
        return []
    what = f"The log says tokens of {log.model}, and no cost."
    half = ", half of it as in a batch" if log.batch else ""
    done = f"Its list price{half} counts: ${tiers[0].prompt_price:g} a million in, ${tiers[0].completion_price:g} out."
    return [Note(what, done, "info")]


def pace(table: pd.DataFrame) -> int | None:
    """Return how many texts a month a log holds; None where it does not say when they came, or only of a short time.

    Examples
    --------
    >>> pace(pd.DataFrame({TIME: [f"{86_400 * day}" for day in range(61)]}))
    30
    """
    if TIME not in table:
        return None
    times = pd.to_numeric(table[TIME], errors="coerce").dropna()
    span = float(times.max() - times.min()) if len(times) > 1 else 0.0
    return round((len(times) - 1) / span * MONTH) if span >= LEAST_SPAN else None
