"""Gold: how much of what stands in tickets was found, and how much of what was found stands there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hybrid.errors import SupportError
from hybrid.metrics.intervals import wilson
from hybrid.metrics.summary import Interval
from hybrid.support.fields import Field

REPLICATES = 2000
ALL = "all fields"


@dataclass(frozen=True, slots=True)
class GoldTicket:
    """A ticket's id, the part it belongs to (``dev`` or ``test``), and the fields that a reader found in it."""

    ticket_id: str
    part: str
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class FieldScore:
    """How well a field is found.

    Parameters
    ----------
    name
        The field's.
    gold, found, right
        How many there are, how many were found, and how many of those are there.
    precision, recall
        With Wilson intervals; the whole of [0, 1] and nan where nothing was found, or nothing is there.
    f1
        With the wider of two intervals: a bootstrap over tickets, whose fields stand or fall together, and Wilson's for
        `right` of the mean of `gold` and `found`, since a bootstrap of no mistake has no width.
    """

    name: str
    gold: int
    found: int
    right: int
    precision: Interval
    recall: Interval
    f1: Interval


def read_gold(content: bytes) -> list[GoldTicket]:
    """Read JSON lines with ``id``, ``part`` and ``fields``; each field has ``field, text, start, end, value``.

    Raises
    ------
    SupportError
        If a line is something else; the message says which.
    """
    gold = []
    for number, line in enumerate(content.decode("utf-8", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            fields = tuple(
                Field(f["field"], f["value"], f["text"], f["start"], f["end"], "gold") for f in row["fields"]
            )
            gold.append(GoldTicket(str(row["id"]), str(row["part"]), fields))
        except (ValueError, KeyError, TypeError) as error:
            raise SupportError(
                f"Line {number} of the gold fields cannot be read ({error}): each is a JSON object with id, part and "
                "fields, a list of objects with field, text, start, end and value."
            ) from error
    return gold


def right_of(gold: Sequence[Field], found: Sequence[Field]) -> list[Field]:
    """Return those of the found fields that are right: same name and value, at the same place of the text.

    Places need only overlap, since how much of ``#7718800,`` is the number is a matter of taste; each gold field is
    matched once.
    """
    left = list(gold)
    right = []
    for field in found:
        for other in left:
            same = (field.name, field.value.lower()) == (other.name, other.value.lower())
            if same and field.start < other.end and other.start < field.end:
                left.remove(other)
                right.append(field)
                break
    return right


def score(
    gold: Sequence[Sequence[Field]], found: Sequence[Sequence[Field]], names: Sequence[str], *, seed: int = 0
) -> list[FieldScore]:
    """Score what was found in tickets, field by field, and all fields together first.

    Parameters
    ----------
    gold, found
        One list of fields for each ticket.
    names
        Of the fields to score; others are left out.
    seed
        Of the bootstrap.

    Examples
    --------
    >>> gold = [[Field("amount", "5.00 EUR", "5 €", 0, 3)], [Field("amount", "7.00 EUR", "7 €", 4, 7)]]
    >>> found = [[Field("amount", "5.00 EUR", "5 €", 0, 3), Field("amount", "9.00 EUR", "9 €", 8, 11)], []]
    >>> both = score(gold, found, ["amount"])[0]
    >>> both.precision.value, both.recall.value, both.f1.value
    (0.5, 0.5, 0.5)
    """
    counts = np.zeros((len(gold), len(names), 3), dtype=np.int64)  # gold, found, right
    for i, (there, seen) in enumerate(zip(gold, found, strict=True)):
        right = right_of(there, seen)
        for j, name in enumerate(names):
            counts[i, j] = [sum(f.name == name for f in fields) for fields in (there, seen, right)]
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(gold), np.full(len(gold), 1 / len(gold)), REPLICATES) if len(gold) else None
    columns = [(ALL, counts.sum(axis=1)), *((name, counts[:, j]) for j, name in enumerate(names))]
    return [_score(name, column, weights) for name, column in columns]


def _score(name: str, counts: NDArray[np.int64], weights: NDArray[np.int64] | None) -> FieldScore:
    gold, found, right = (int(n) for n in counts.sum(axis=0))
    f1 = _f1(counts.sum(axis=0)[None])[0]
    low, high = (float(end) for end in wilson(right, (gold + found) / 2))
    if weights is not None:
        replicates = _f1(weights @ counts)
        replicates = replicates[~np.isnan(replicates)]
        if len(replicates):
            ends = np.quantile(replicates, (0.025, 0.975))
            low, high = min(low, float(ends[0])), max(high, float(ends[1]))
    return FieldScore(
        name, gold, found, right, _share(right, found), _share(right, gold), Interval(float(f1), low, high)
    )


def _f1(sums: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return F1 = 2 right / (gold + found); nan where there is nothing and nothing was found."""
    total = sums[:, 0] + sums[:, 1]
    return np.where(total > 0, 2 * sums[:, 2] / np.maximum(total, 1), np.nan)


def _share(k: int, n: int) -> Interval:
    low, high = wilson(k, n)
    return Interval(k / n if n else float("nan"), float(low), float(high))
