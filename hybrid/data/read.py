"""Tables: a file → a table of strings, in which nothing was interpreted and nothing lost."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hybrid.data.columns import Columns
from hybrid.data.notes import Note, listed, plural
from hybrid.errors import DatasetError
from hybrid.routing.table import Bools

MAX_BYTES = 200 * 1024 * 1024
SUFFIXES = ("csv", "tsv", "jsonl", "ndjson", "parquet")


def read(name: str, content: bytes) -> pd.DataFrame:
    """Read a file into a table of strings; a missing value is the empty string.

    Parameters
    ----------
    name
        File name; its suffix says the format: csv, tsv, jsonl, ndjson (each also with .gz) or parquet.
    content
        The file's bytes.

    Returns
    -------
    pandas.DataFrame
        One row per data row, in the file's order. Labels such as "NA", "None" and "01" stay as they are.

    Raises
    ------
    DatasetError
        Saying what is wrong, in which line or column, and how to mend it.
    """
    if not content:
        raise DatasetError(f"{name} is empty (0 bytes): export it again and check that the export finished.")
    stem = name.lower()
    if stem.endswith(".gz"):
        content, stem = _gunzip(name, content), stem[: -len(".gz")]
    if len(content) > MAX_BYTES:
        raise DatasetError(
            f"{name} has {len(content) / 2**20:,.0f} MB, the limit is {MAX_BYTES // 2**20} MB: "
            "take a random sample of its rows; 100,000 are plenty to tune thresholds."
        )
    suffix = stem.rsplit(".", 1)[-1]
    if suffix == "parquet":
        table = _read_parquet(name, content)
    elif suffix in ("jsonl", "ndjson"):
        table = _read_jsonl(name, _decode(name, content))
    elif suffix in ("csv", "tsv"):
        table = _read_delimited(name, _decode(name, content), "\t" if suffix == "tsv" else None)
    else:
        raise DatasetError(
            f"{name}: files end in {', '.join('.' + s for s in SUFFIXES)} (or .gz): save it as one of them."
        )
    if not len(table):
        raise DatasetError(f"{name} has a header and no rows: export it again with its rows.")
    return table


def _gunzip(name: str, content: bytes) -> bytes:
    try:
        with gzip.open(io.BytesIO(content)) as stream:
            return stream.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{name} is damaged: it does not unpack ({error}). Compress it again.") from error


def _decode(name: str, content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    else:
        encoding = "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DatasetError(
            f"{name} is not UTF-8: line {line} has the byte 0x{content[error.start]:02X}. Save it as UTF-8 "
            "(in Excel: “CSV UTF-8”; in a terminal: iconv -f WINDOWS-1252 -t UTF-8)."
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DatasetError(f"{name} is not a text file: line {line} has a zero byte. Save it as CSV with UTF-8.")
    return text


def _read_delimited(name: str, text: str, separator: str | None) -> pd.DataFrame:
    head = text.lstrip().split("\n", 1)[0]
    if separator is None:
        separator = max(",;\t", key=head.count)
    csv.field_size_limit(MAX_BYTES)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        header = _check_header(name, next(row for row in reader if row))
        rows = []
        for row in reader:
            if len(row) != len(header) and row:
                raise DatasetError(
                    f"{name}, line {reader.line_num}: {len(row)} fields where the header has {len(header)}. "
                    f"Put texts that contain {separator!r} in double quotes."
                )
            if row:  # a blank line is no row
                rows.append(row)
    except StopIteration:
        raise DatasetError(f"{name} is blank: it has neither header nor rows.") from None
    except csv.Error as error:
        raise DatasetError(
            f"{name}, line {reader.line_num}: {error}. A double quote inside a quoted text is written twice."
        ) from error
    return _drop_nameless(name, pd.DataFrame(rows, columns=pd.Index(header, dtype=object), dtype=object))


def _check_header(name: str, header: list[str]) -> list[str]:
    header = [h.strip() for h in header]
    twice = sorted({h for h in header if h and header.count(h) > 1})
    if twice:
        raise DatasetError(
            f"{name}: the header names {', '.join(map(repr, twice))} more than once. Rename the columns."
        )
    if header and not header[0]:
        header[0] = "row" if "row" not in header else "row number"  # the index that pandas writes
    return header


def _drop_nameless(name: str, table: pd.DataFrame) -> pd.DataFrame:
    nameless = np.array([not h for h in table.columns])
    if nameless.any():
        if (table.loc[:, nameless] != "").to_numpy().any():
            place = int(np.flatnonzero(nameless)[0]) + 1
            raise DatasetError(f"{name}: column {place} has values and no name. Give it a name in the header line.")
        table = table.loc[:, ~nameless]
    return table


def _read_jsonl(name: str, text: str) -> pd.DataFrame:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DatasetError(f"{name}, line {number}: not JSON ({error.msg}). Each line is one object.") from error
        if not isinstance(row, dict):
            raise DatasetError(f"{name}, line {number}: {type(row).__name__} where an object is needed, {{…}}.")
        rows.append({str(k): _text(v, f"{name}, line {number}, {k}") for k, v in row.items()})
    return pd.DataFrame(rows, dtype=object).fillna("")


def _read_parquet(name: str, content: bytes) -> pd.DataFrame:
    try:
        table = pq.read_table(io.BytesIO(content))
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{name} is not a Parquet file or is damaged: {error}. Write it again.") from error
    header = _check_header(name, list(table.column_names))
    columns = [
        [_text(v, f"{name}, {column}, row {i + 1}") for i, v in enumerate(values.to_pylist())]
        for column, values in zip(header, table.columns, strict=True)
    ]
    return pd.DataFrame(dict(zip(header, columns, strict=True)), dtype=object)


def _text(value: Any, where: str) -> str:
    """Return the shortest exact text of a scalar."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, dict | list | bytes):
        raise DatasetError(f"{where}: a nested value ({type(value).__name__}). Give each field a column of its own.")
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))  # an integer column with gaps arrives as floats
    return str(value)


def join(
    first: pd.DataFrame, second: pd.DataFrame, *, first_columns: Columns, second_columns: Columns
) -> tuple[pd.DataFrame, tuple[Note, ...]]:
    """Add a second table to the first: recorded answers for some of its rows, more rows, or both.

    Rows join by id where both tables have one, else by text. A joined row takes the second's new columns; a column
    that both have only fills blanks. Rows of the second that join nothing are added below.

    Returns
    -------
    table
        With the first's column names for text, label, id, group and split.
    notes
        How many rows joined, were added, or disagree.

    Raises
    ------
    DatasetError
        If nothing joins and the second has no labels to add rows with, or there is nothing to join by.
    """
    roles = ("text", "label", "id", "group", "split")
    renames = {
        theirs: ours
        for role in roles
        if (theirs := getattr(second_columns, role)) and (ours := getattr(first_columns, role))
    }
    clash = [
        ours for theirs, ours in renames.items() if ours != theirs and ours in second.columns and ours not in renames
    ]
    second = second.drop(columns=clash).rename(columns=renames)
    by_id = bool(first_columns.id and second_columns.id)
    by = first_columns.id if by_id else first_columns.text
    if by is None or by not in second.columns:
        raise DatasetError(
            "The second file cannot be joined: both need an id column, or both a text column. "
            f"Its columns are {listed(list(second.columns))}."
        )
    notes: list[Note] = []
    theirs = second[by].str.strip()
    repeated = theirs.duplicated() & (theirs != "")
    usable = second[~repeated]
    if repeated.any():
        notes.append(
            Note(
                f"{plural(int(repeated.sum()), 'row', 'rows')} of the second file repeat an earlier {by}.",
                "The first of each counts.",
                "warning",
            )
        )
    at = pd.Series(np.arange(len(usable)), index=usable[by].str.strip())
    at = at[at.index != ""]
    found = first[by].str.strip().map(at)
    hit = found.notna().to_numpy()
    matched = usable.iloc[found[hit].astype(int).to_numpy()]
    added = usable[~usable[by].str.strip().isin(set(first[by].str.strip())) | (usable[by].str.strip() == "")]
    if not hit.any() and first_columns.label not in second.columns:
        raise DatasetError(
            f"No row of the second file joins the first by {by!r}, and it has no labels to add rows with. "
            f"First file: {listed(list(first[by].head(2)))}; second: {listed(list(second[by].head(2)))}."
        )
    table = _fill(first, matched, hit, by)
    labels = first_columns.label
    if labels in matched:
        ours, theirs = first.loc[hit, labels].to_numpy(), matched[labels].to_numpy()
        differ = int(((ours != "") & (theirs != "") & (ours != theirs)).sum())
        if differ:
            what = f"{plural(differ, 'label differs', 'labels differ')} between the files."
            notes.append(Note(what, "The first file's stay.", "warning"))
    table = pd.concat([table, added.reindex(columns=table.columns, fill_value="")], ignore_index=True).fillna("")
    notes.insert(
        0,
        Note(
            f"{plural(int(hit.sum()), 'row', 'rows')} joined by {by}, {plural(len(added), 'row', 'rows')} added.",
            "Columns that only the second file has are blank in the rows that did not join.",
            "info",
        ),
    )
    return table, tuple(notes)


def _fill(first: pd.DataFrame, matched: pd.DataFrame, hit: Bools, by: str) -> pd.DataFrame:
    """Give the rows that joined the second's columns; a column that both have only fills blanks."""
    table = first.copy()
    for column in matched.columns.drop(by):
        theirs = np.full(len(first), "", dtype=object)
        theirs[hit] = matched[column].to_numpy(dtype=object)
        ours = table[column].to_numpy(dtype=object) if column in table else np.full(len(first), "", dtype=object)
        table[column] = np.where(ours == "", theirs, ours)
    return table
