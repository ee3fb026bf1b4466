"""Fields: what can stand in a ticket, where it was found, and in which one form its value is written."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

RULES, LLM = "rules", "llm"  # who found a field

FIELDS: Final = {
    "amount": "money with its currency, as 49.99 USD",
    "date": "a day as 2025-01-15, without a year as --01-15, a month as 2025-01",
    "order": "number of an order",
    "tracking": "number of a shipment",
    "reference": "number of an invoice, case, complaint, return or repair",
    "account": "number of a customer or a membership, name of a user",
    "email": "e-mail address",
    "phone": "telephone number, as +4205550143 or without the country's prefix 5550142",
    "product": "model designation, as KX-200",
}

_MONTH_NAMES: Final = (
    ("jan", "january"),
    ("feb", "february"),
    ("mar", "march"),
    ("apr", "april"),
    ("may",),
    ("jun", "june"),
    ("jul", "july"),
    ("aug", "august"),
    ("sep", "sept", "september"),
    ("oct", "october"),
    ("nov", "november"),
    ("dec", "december"),
)
MONTHS: Final = {name: number for number, names in enumerate(_MONTH_NAMES, 1) for name in names}


@dataclass(frozen=True, slots=True)
class Field:
    """One value in a ticket.

    Parameters
    ----------
    name
        One of `FIELDS`, or the name of a pattern of the user's.
    value
        In the one form that `FIELDS` describes, so that conditions can compare it.
    text, start, end
        What the ticket says, and between which characters of it.
    source
        ``rules``, ``llm``, or the user's pattern that found it.
    """

    name: str
    value: str
    text: str
    start: int
    end: int
    source: str = RULES


def iso_date(year: int | None, month: int, day: int | None) -> str | None:
    """Return a date in ISO 8601; None where there is no such day.

    What a ticket does not say is not guessed: without a year the date is ``--MM-DD``, without a day ``YYYY-MM``.

    Examples
    --------
    >>> iso_date(2025, 1, 15), iso_date(None, 2, 29), iso_date(2025, 2, 29), iso_date(2024, 11, None)
    ('2025-01-15', '--02-29', None, '2024-11')
    """
    if year is not None and year < 100:
        year += 2000
    try:
        found = datetime.date(2000 if year is None else year, month, 1 if day is None else day)
    except ValueError:
        return None
    if day is None:
        return f"{found:%Y-%m}"
    return f"{found:--%m-%d}" if year is None else found.isoformat()


def compact(text: str) -> str:
    """Return an identifier as it is compared: without a leading ``#`` and without white space."""
    return re.sub(r"\s+", "", text).lstrip("#")


def without_overlaps(found: Sequence[Field]) -> tuple[Field, ...]:
    """Return fields in the order of the text; where two overlap, the one that stands first in the list wins."""
    kept: list[Field] = []
    for field in found:
        if all(field.end <= other.start or other.end <= field.start for other in kept):
            kept.append(field)
    return tuple(sorted(kept, key=lambda f: f.start))
