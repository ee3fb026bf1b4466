"""Tables: an upload → a table of strings, in which nothing was interpreted or lost, with notes of what was assumed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from hybrid.data import chat_log
from hybrid.data.calls import may_be_call
from hybrid.data.chat_log import ChatLog
from hybrid.data.columns import Columns
from hybrid.data.delimited import Delimited
from hybrid.data.found import Found
from hybrid.data.json_rows import JSONRows
from hybrid.data.limits import CELLS, FIELD, ROWS, UNPACKED, check_columns
from hybrid.data.notes import Note
from hybrid.data.opening import Form, form_of, mended_errors
from hybrid.data.sheet import Sheet
from hybrid.data.stream import Source
from hybrid.errors import DatasetError


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """What a file holds.

    Parameters
    ----------
    table
        Strings, one row per data row, in the file's order; a missing value is the empty string.
    notes
        What was assumed, and what was left out or mended.
    headed
        Whether the names were read from the file; False: its columns are called "column 1", "column 2" and so on.
    sheet, sheets
        The one that was read of a workbook, and all that it has.
    log
        Of a log of an LLM's calls, what is known of it; None: the file is a table.
    """

    table: pd.DataFrame
    notes: tuple[Note, ...] = ()
    headed: bool = True
    sheet: str | None = None
    sheets: tuple[str, ...] = ()
    log: ChatLog | None = None

    @property
    def columns(self) -> Columns | None:
        """What the columns are, where that need not be guessed: of a log."""
        return None if self.log is None or self.log.half else self.log.columns(self.table)

    def is_with(self, *, header: bool | None, sheet: str | None) -> bool:
        """Whether reading again with these, where they are not None, would give the same."""
        return header in (None, self.headed) and sheet in (None, self.sheet)


def read(name: str, content: bytes, *, header: bool | None = None, sheet: str | None = None) -> Read:
    """Read an upload.

    Parameters
    ----------
    name
        File name; its suffix says the format: csv, tsv, txt, json, jsonl, ndjson (each also with .gz), parquet or xlsx.
    content
        The file's bytes.
    header
        Whether the first line holds the names; None: it is guessed, and said.
    sheet
        Of a workbook; None: the first.

    Returns
    -------
    Read
        Labels such as "NA", "None" and "01" stay as they are; whole numbers of typed files are written without ".0".

    Raises
    ------
    DatasetError
        Saying what is wrong, in which line or column, and how to mend it; or which limit is met.
    """
    return table_of(collected(Source(name, content=content), header=header, sheet=sheet))


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """What a source holds, as Arrow has it; the fields are those of `Read`."""

    table: pa.Table
    notes: tuple[Note, ...]
    headed: bool = True
    sheet: str | None = None
    sheets: tuple[str, ...] = ()
    log: ChatLog | None = None


def collected(source: Source, *, header: bool | None = None, sheet: str | None = None) -> Contents:
    """Read all of a source at once, within the limits."""
    form = form_of(source, header=header, sheet_name=sheet)
    found = Found()
    if isinstance(form, JSONRows):
        with mended_errors(source.name):
            if chat_log.is_log(list(islice(form.rows(source), chat_log.LOOKED_AT))):
                return _log(source.name, form.rows(source), form.notes)
    with mended_errors(source.name):
        batches = list(_bounded(source, form, found))
        left_out = found.nested_only()
        names = [n for n in dict.fromkeys(n for b in batches for n in b.schema.names) if n not in left_out]
        n_rows = sum(b.num_rows for b in batches)
        if not n_rows:
            raise DatasetError(f"{source.name} has a header and no rows: export it again with its rows.")
        if not names:
            raise DatasetError(f"{source.name} holds no column of single values: give each field a column of its own.")
        check_columns(source.name, names)
        CELLS.check(source.name, n_rows * len(names))
        tables = [
            pa.Table.from_batches([b]).drop_columns([n for n in b.schema.names if n in left_out]) for b in batches
        ]
        table = pa.concat_tables(tables, promote_options="default").select(names)
        is_log = may_be_call(names) and chat_log.is_log(table.slice(0, chat_log.LOOKED_AT).to_pylist())
    if is_log:
        return _log(source.name, (row for b in table.to_batches() for row in b.to_pylist()), form.notes)
    notes = (*form.notes, *found.notes())
    if isinstance(form, Sheet):
        return Contents(table, notes, form.headed, form.sheet, form.sheets)
    return Contents(table, notes, form.headed if isinstance(form, Delimited) else True)


def _log(name: str, records: Iterable[dict[str, Any]], notes: tuple[Note, ...]) -> Contents:
    """Read a log of an LLM's calls as a table of texts and answers."""
    with mended_errors(name):
        table, log, said = chat_log.read_log(name, records)
        for column in table:
            FIELD.check(f"{name}, {column}", max(map(len, table[column])))
    return Contents(pa.Table.from_pandas(table, preserve_index=False), (*said, *notes), log=log)


def joined(first: Read, second: Read) -> Read:
    """Join the two halves of a log, requests and replies, that lie in a file each.

    Raises
    ------
    DatasetError
        If they are no two halves, or do not belong together.
    """
    if first.log is None or second.log is None:
        raise DatasetError("One of the files is a table, and no half of a log: join the two by id or text instead.")
    table, log, notes = chat_log.together((first.table, first.log), (second.table, second.log))
    return Read(table, (*notes, *first.notes, *second.notes), log=log)


def table_of(found: Contents) -> Read:
    """Make a table of Python's strings; columns without a name that hold nothing are left out."""
    columns = {}
    for name in found.table.column_names:
        values = strings(found.table.column(name))
        if not name.startswith("column ") or (values != "").any():
            columns[name] = values
    table = pd.DataFrame(columns, dtype=object)
    return Read(table, found.notes, found.headed, found.sheet, found.sheets, found.log)


def _bounded(source: Source, form: Form, found: Found) -> Iterator[pa.RecordBatch]:
    rows = cells = size = 0
    for batch in form.batches(source, found=found):
        rows += batch.num_rows
        cells += batch.num_rows * batch.num_columns
        ROWS.check(source.name, rows)
        CELLS.check(source.name, cells)
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            longest, total = _lengths(column)
            FIELD.check(f"{source.name}, {name}", longest)
            size += total
        UNPACKED.check(source.name, size)
        yield batch


def _lengths(column: pa.Array) -> tuple[int, int]:
    """Return the bytes of the longest text, and of all."""
    coded = pa.types.is_dictionary(column.type)
    lengths = pc.binary_length(column.dictionary if coded else column)
    longest = pc.max(lengths).as_py() or 0
    return longest, pc.sum(lengths.take(column.indices) if coded else lengths).as_py() or 0


def strings(column: pa.ChunkedArray) -> np.ndarray[tuple[int], np.dtype[np.object_]]:
    """Return a column as strings, of which equal ones are one object: memory follows the data."""
    values: np.ndarray[tuple[int], np.dtype[np.object_]] = np.full(len(column), "", dtype=object)
    known: dict[str, str] = {}
    at = 0
    for chunk in column.chunks:
        coded = chunk if pa.types.is_dictionary(chunk.type) else chunk.dictionary_encode()
        texts = [known.setdefault(t, t) for t in ("" if v is None else v for v in coded.dictionary.to_pylist())]
        distinct = np.empty(len(texts) + 1, dtype=object)
        distinct[:] = [*texts, ""]
        codes = pc.fill_null(coded.indices, len(texts)).to_numpy(zero_copy_only=False)
        values[at : at + len(chunk)] = distinct[codes]
        at += len(chunk)
    return values
