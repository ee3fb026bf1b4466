"""Spreadsheets: rows as a CSV file of which no cell is a formula, however whoever opens it splits its lines."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

_FORMULA = re.compile(r"^\s*[=+\-@|%\uff0b\uff0d\uff1d\uff20\t\r\n]")
_NUMBER = re.compile(r"-(\d[\d,.]*|\.\d+)(e[+\-]?\d+)?%?", re.IGNORECASE)


def cell(value: Any) -> Any:
    """Return a cell that no spreadsheet reads as a formula: an apostrophe is put before text that looks like one.

    Examples
    --------
    >>> cell("=HYPERLINK(1)"), cell("-5.2"), cell("refund")
    ("'=HYPERLINK(1)", '-5.2', 'refund')
    """
    if isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value


def to_csv(names: Sequence[str], rows: Iterable[Iterable[Any]]) -> bytes:
    """Return a CSV file for a spreadsheet: every text in quotes, as some split lines at semicolons or tabs.

    Examples
    --------
    >>> to_csv(["text"], [["a;=1+1"], ["=1"]]).decode("utf-8-sig").splitlines()
    ['"text"', '"a;=1+1"', '"\\'=1"']
    """
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow([cell(n) for n in names])
    writer.writerows([cell(value) for value in row] for row in rows)
    return out.getvalue().encode("utf-8-sig")  # the mark tells spreadsheets that it is UTF-8
