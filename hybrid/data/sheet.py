"""Sheets: a workbook's first sheet, or the one that is named → rows of texts."""

from __future__ import annotations

import itertools
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from hybrid.data.delimited import found_header
from hybrid.data.found import Found
from hybrid.data.limits import CELLS, COLUMNS, FIELD, ROWS, TITLE
from hybrid.data.notes import Note, listed
from hybrid.data.scalars import strings, text_of
from hybrid.data.stream import Source, check_zip
from hybrid.errors import DatasetError

ROWS_AT_ONCE = 1 << 14
SAMPLE = 200  # rows that the header is found from


@dataclass(frozen=True, slots=True)
class Sheet:
    """How a sheet is laid out.

    Parameters
    ----------
    sheet
        Its name.
    sheets
        Those of the workbook.
    n_skipped
        Rows before the first row of data.
    """

    sheet: str
    sheets: tuple[str, ...]
    names: tuple[str, ...]
    n_skipped: int
    headed: bool
    notes: tuple[Note, ...] = ()

    def batches(
        self,
        source: Source,
        columns: Sequence[str] | None = None,
        *,
        coded: Sequence[str] = (),
        numbers: Sequence[str] = (),
        found: Found,
    ) -> Iterator[pa.RecordBatch]:
        """Read these columns as texts; None: all."""
        wanted = list(self.names if columns is None else columns)
        places = [self.names.index(c) for c in wanted]
        rows = self._rows(source)
        while chunk := list(itertools.islice(rows, ROWS_AT_ONCE)):
            arrays = [strings([row[p] for row in chunk]) for p in places]
            found.mended += sum(n for _, n in arrays)
            yield pa.RecordBatch.from_arrays([a for a, _ in arrays], wanted)

    def may_have(self, column: str) -> bool:
        """Whether a column may come that the first rows do not name."""
        return False

    def head(self, source: Source, n: int, found: Found) -> pa.Table:
        """Return the first rows, all columns."""
        rows = list(itertools.islice(self._rows(source), n))
        return pa.table({c: strings([row[p] for row in rows])[0] for p, c in enumerate(self.names)})

    def _rows(self, source: Source) -> Iterator[list[str]]:
        n = len(self.names)
        for number, row in enumerate(itertools.islice(_cells(source, self.sheet), self.n_skipped, None), 1):
            if not any(row):  # a blank line is no row
                continue
            if any(row[n:]):
                raise DatasetError(
                    f"{source.name}, sheet {self.sheet!r}, row {self.n_skipped + number}: a value in column "
                    f"{len(row)}, where the header has {n} names. Name it, or clear it."
                )
            yield row[:n] + [""] * (n - len(row))


def sheet(source: Source, *, name: str | None = None, header: bool | None = None) -> Sheet:
    """Find how a workbook's sheet is laid out.

    Parameters
    ----------
    name
        Of the sheet; None: the first.
    header
        Whether the first row holds the names; None: it is guessed, and said.

    Raises
    ------
    DatasetError
        If it is damaged, larger than is read, or holds no such sheet.
    """
    with _workbook(source) as book:
        sheets = tuple(ws.title for ws in book.worksheets)
    if not sheets:
        raise DatasetError(f"{source.name} has no sheet with cells.")
    TITLE.check(source.name, max(map(len, sheets)))
    if name is not None and name not in sheets:
        raise DatasetError(f"{source.name} has no sheet {name!r}: it has {listed(sheets)}.")
    chosen = sheets[0] if name is None else name
    first = list(itertools.islice(_cells(source, chosen), SAMPLE))
    if not any(any(row) for row in first):
        raise DatasetError(f"{source.name}: the sheet {chosen!r} is blank. It has the sheets {listed(sheets)}.")
    width = max(len(row) for row in first)
    filled = [row + [""] * (width - len(row)) for row in first]
    notes = []
    if len(sheets) > 1 and name is None:
        notes.append(Note(f"It has {len(sheets)} sheets: {listed(sheets)}.", "The first is read.", "info"))
    at = [i for i, row in enumerate(filled) if any(row)]
    names, skipped, headed, said = found_header(source.name, [filled[i] for i in at], header)
    n_skipped = at[skipped] if skipped < len(at) else len(first)
    return Sheet(chosen, sheets, names, n_skipped, headed, (*notes, *said))


def _cells(source: Source, name: str) -> Iterator[list[str]]:
    """Return the texts of each row up to its last cell; gaps and what is beyond the limits are dealt with at once."""
    most, cells = ROWS.value(), 0
    with _workbook(source) as book:
        ws = book[name]
        ws.reset_dimensions()  # what the file says of its size need not be so
        for number, row in enumerate(ws.iter_rows(values_only=True), 1):
            cells += len(row)
            if number > most:
                ROWS.check(source.name, number)
            CELLS.check(source.name, cells)
            texts = [text_of(value) for value in row]
            while texts and not texts[-1]:
                texts.pop()
            COLUMNS.check(f"{source.name}, row {number}", len(texts))
            for text in texts:
                if len(text) > FIELD.scale:
                    FIELD.check(f"{source.name}, row {number}", len(text))
            yield texts


@contextmanager
def _workbook(source: Source) -> Iterator[Any]:
    """Open a workbook, whose parts' sizes are known before any is unpacked."""
    from openpyxl import load_workbook

    with source.open() as file:
        if not zipfile.is_zipfile(file):
            raise DatasetError(
                f"{source.name} is no .xlsx workbook, or has a password. Save it as .xlsx without one, or as CSV."
            )
        with zipfile.ZipFile(file) as packed:
            source.bound(sum(part.file_size for part in packed.infolist()))
            check_zip(packed)
        file.seek(0)
        book = load_workbook(file, read_only=True, data_only=True, keep_links=False)
        try:
            yield book
        finally:
            book.close()
