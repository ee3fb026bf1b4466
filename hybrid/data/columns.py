"""Columns: what each column of a table is, guessed from its name and its values."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pandas as pd

BLANK_IS_FAILURE_UP_TO = 0.2  # share of blank answers beyond which blank is taken as "never asked"

_TEXT = r"text|message|body|question|query|utterance|ticket|content|review|sentence|description|comment|input"
_LABEL = r"label|category|intent|class|target|gold|truth|true|topic|y"
_ID = r"id|ticket_?id|row_?id|example_?id|uid|uuid|key"
_GROUP = r"group|customer(_?id)?|conversation(_?id)?|user(_?id)?|thread(_?id)?|session(_?id)?|account(_?id)?"
_SPLIT = r"split|fold|subset|partition|set"
TEST_NAMES = frozenset({"test", "holdout", "eval"})
TUNE_NAMES = frozenset({"train", "tune", "valid", "validation", "val", "dev", "training"})
_PARTS = {
    "confidence": r"confidence|conf|prob|probability|score",
    "cost": r"cost|cost_usd|usd",
    "prompt_tokens": r"prompt_tokens|input_tokens",
    "completion_tokens": r"completion_tokens|output_tokens",
    "latency": r"latency|latency_s|seconds|latency_ms|ms|milliseconds",
}
_ANSWER = r"label|pred|prediction|answer|predicted|output"


@dataclass(frozen=True, slots=True)
class RecordedColumns:
    """The columns that hold another model's recorded answers.

    Parameters
    ----------
    name
        The tier's name.
    label, confidence, cost, prompt_tokens, completion_tokens, latency
        Column names; cost in USD and latency in seconds per row.
    price
        USD per answer where neither a cost nor a token column is given.
    prompt_price, completion_price
        USD per million tokens.
    default_latency
        Seconds where there is no latency column.
    blank_is_failure
        What a blank answer means: True, asked and failed; False, never asked.
    milliseconds
        Whether the latencies are in milliseconds; None: where the column's name says so. Seconds otherwise.
    """

    name: str
    label: str
    confidence: str | None = None
    cost: str | None = None
    prompt_tokens: str | None = None
    completion_tokens: str | None = None
    latency: str | None = None
    price: float = 0.0
    prompt_price: float = 0.0
    completion_price: float = 0.0
    default_latency: float = 0.0
    blank_is_failure: bool = True
    milliseconds: bool | None = None

    def used(self) -> list[str]:
        """Return the columns that this reads."""
        parts = (self.label, self.confidence, self.cost, self.prompt_tokens, self.completion_tokens, self.latency)
        return [c for c in parts if c]


@dataclass(frozen=True, slots=True)
class Columns:
    """What each column of a table is; a column that is not named is not read.

    Only a second file, to be joined to a first, may have an empty `label`.

    Parameters
    ----------
    fold_labels
        Whether spellings of a label that differ in case, spaces, invisible signs or Unicode form alone are one class.
    """

    label: str
    text: str | None = None
    id: str | None = None
    group: str | None = None
    split: str | None = None
    recorded: tuple[RecordedColumns, ...] = ()
    fold_labels: bool = True

    def used(self) -> list[str]:
        """Return every column that is read, with repetitions."""
        own = [c for c in (self.label, self.text, self.id, self.group, self.split) if c]
        return own + [c for r in self.recorded for c in r.used()]


def guess_second(table: pd.DataFrame, first: Columns) -> Columns:
    """Guess what the columns of a second file are, to add it to a first.

    A column that is named as in the first file is the same thing; labels are only taken by name, for the second
    file may hold nothing but a model's answers. `label` is empty where it has none.
    """
    names = [str(c) for c in table.columns]
    guess = guess_columns(table)

    def role(ours: str | None, pattern: str, guessed: str | None) -> str | None:
        return ours if ours in names else next(iter(_named(names, pattern)), guessed)

    return Columns(
        role(first.label, _LABEL, None) or "",
        text=role(first.text, _TEXT, guess.text),
        id=role(first.id, _ID, None),
        group=role(first.group, _GROUP, None),
        split=first.split if first.split in names else guess.split,
    )


def guess_columns(table: pd.DataFrame) -> Columns:
    """Guess what each column is, by name first and by content then; the user can change it.

    Parameters
    ----------
    table
        Strings, as `hybrid.data.read.read` gives them.
    """
    names = [str(c) for c in table.columns]
    split = next((c for c in _named(names, _SPLIT) if _is_split(table[c])), None)
    free = [c for c in names if c != split]
    label = next(iter(_named(free, _LABEL)), None) or _fewest_values(table, free)
    free.remove(label)
    row_id = next(iter(_named(free, _ID)), None)
    group = next(iter(_named(free, _GROUP)), None)
    free = [c for c in free if c not in (row_id, group)]
    classes = {v.strip().casefold() for v in table[label].unique()} - {""}
    # answers such as "late delivery" are several words, and still no texts
    wordy = [c for c in free if not table[c].str.strip().str.casefold().isin(classes).mean() > 0.5]
    text = next(iter(_named(free, _TEXT)), None) or _prose(table, wordy)
    free = [c for c in free if c != text]
    return Columns(label, text, row_id, group, split, _guess_recorded(table, label, free))


def _named(names: list[str], pattern: str) -> list[str]:
    """Return the columns whose name is one of the alternatives, in the alternatives' order."""
    return [c for alternative in pattern.split("|") for c in names if re.fullmatch(alternative, c.strip().lower())]


def _is_split(column: pd.Series) -> bool:
    values = {v.strip().lower() for v in column.unique()}
    return bool(values) and values <= TEST_NAMES | TUNE_NAMES


def _fewest_values(table: pd.DataFrame, names: list[str]) -> str:
    """Return the last column that has at least two values and at most half as many as rows, else the last."""
    likely = [c for c in names if 2 <= table[c].nunique() <= max(2, len(table) // 2)]
    return (likely or names or [str(table.columns[-1])])[-1]


def _prose(table: pd.DataFrame, names: list[str]) -> str | None:
    """Return the column with the longest values, if they look like texts: several words on average."""
    spaces = {c: table[c].str.count(" ").mean() for c in names}
    best = max(spaces, key=lambda c: spaces[c], default=None)
    return best if best is not None and spaces[best] >= 1.0 else None


def _guess_recorded(table: pd.DataFrame, label: str, names: list[str]) -> tuple[RecordedColumns, ...]:
    classes = {v.strip().casefold() for v in table[label].unique()} - {""}
    found = []
    taken: set[str] = set()
    for column in names:
        values = table[column].str.strip()
        answered = values[values != ""].str.casefold()
        if not len(answered) or answered.isin(classes).mean() < 0.6 or column in taken or _part_of(column):
            continue
        stem = _stem(column)
        parts = {part: _sibling(names, stem, column, pattern) for part, pattern in _PARTS.items()}
        taken |= {c for c in parts.values() if c}
        blank = 1 - len(answered) / len(table)
        name = column if stem.isdigit() else stem
        found.append(RecordedColumns(name, column, **parts, blank_is_failure=blank <= BLANK_IS_FAILURE_UP_TO))  # type: ignore[arg-type]
    return tuple(found)


def _part_of(column: str) -> bool:
    """Whether a column's name says that it holds a confidence, a cost or the like."""
    lower = column.lower()
    return any(re.fullmatch(rf"(?:.+_)?(?:{p})|(?:{p})_.+", lower) for p in _PARTS.values())


def _stem(column: str) -> str:
    """Return the model's name in the name of the column that holds its answers."""
    found = re.fullmatch(rf"(?:(?:{_ANSWER})_(.+))|(?:(.+)_(?:{_ANSWER}))", column, re.IGNORECASE)
    return next(g for g in found.groups() if g) if found else column


def _sibling(names: list[str], stem: str, column: str, pattern: str) -> str | None:
    stems = {re.escape(stem.lower()), re.escape(column.lower())}
    either = "|".join(stems)
    for c in names:
        if c != column and re.fullmatch(rf"(?:{either})_(?:{pattern})|(?:{pattern})_(?:{either})", c.lower()):
            return c
    return None
