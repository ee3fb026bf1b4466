"""Parquet: typed columns → batches of their exact texts, or as they are where that is asked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hybrid.data.found import Found, nested_error
from hybrid.data.limits import CELLS, ROWS, UNPACKED, check_columns
from hybrid.data.notes import Note, listed
from hybrid.data.scalars import text_of
from hybrid.data.stream import Source
from hybrid.errors import DatasetError

BATCH = 1 << 17  # rows in memory at a time


@dataclass(frozen=True, slots=True)
class Parquet:
    """How a Parquet file is laid out.

    Parameters
    ----------
    names
        Of the columns that hold one value a row.
    classes
        Columns of codes with the names that the codes stand for, as Hugging Face writes them.
    left_out
        Columns that hold nested or binary values.
    n_groups
        Row groups.
    """

    names: tuple[str, ...]
    classes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    left_out: tuple[str, ...] = ()
    n_groups: int = 0
    notes: tuple[Note, ...] = ()

    def batches(
        self,
        source: Source,
        columns: Sequence[str] | None = None,
        *,
        coded: Sequence[str] = (),
        numbers: Sequence[str] = (),
        kept: Sequence[str] = (),
        group: int | None = None,
        rows: int = BATCH,
        found: Found,
    ) -> Iterator[pa.RecordBatch]:
        """Read these columns, `numbers` as floats where they are numbers, `kept` as they are; None: all as texts.

        Parameters
        ----------
        group
            The one row group to read; None: all.
        rows
            At most, in memory at a time.

        Raises
        ------
        DatasetError
            Naming the column that cannot be read.
        """
        wanted = list(self.names if columns is None else columns)
        for column in wanted:
            if column in self.left_out:
                raise nested_error(source.name, column, 1)
        names = dict(self.classes)
        with source.open() as file:
            about = pq.read_metadata(file)
            schema = about.schema.to_arrow_schema()
            repeating = wanted if columns is None else coded
            texts = [c for c in repeating if _is_text(schema.field(c).type)]
            groups = range(about.num_row_groups) if group is None else [group]
            # threads are worth more on pieces than inside one
            with pq.ParquetFile(file, metadata=about, read_dictionary=texts, pre_buffer=False) as opened:
                first = 0
                for batch in opened.iter_batches(rows, row_groups=list(groups), columns=wanted, use_threads=False):
                    arrays = []
                    for name in wanted:
                        column = batch.column(batch.schema.get_field_index(name))
                        if name in names:
                            column = _named(column, names[name], found)
                        elif name in numbers and _is_number(column.type):
                            column = column.cast(pa.float64())
                        elif name not in kept:
                            column = _texts(column, name, source.name, first, found)
                        arrays.append(column)
                    first += batch.num_rows
                    yield pa.RecordBatch.from_arrays(arrays, wanted)

    def may_have(self, column: str) -> bool:
        """Whether a column may come that the first rows do not name."""
        return False

    def head(self, source: Source, n: int, found: Found) -> pa.Table:
        """Return the first rows, all columns."""
        for batch in self.batches(source, rows=n, found=found):
            return pa.Table.from_batches([batch])
        return pa.table({c: pa.array([], pa.string()) for c in self.names})


def parquet(source: Source) -> Parquet:
    """Find how a Parquet file is laid out, from what it says of itself at its end.

    Raises
    ------
    DatasetError
        If it is no Parquet file, is damaged, or holds more than is read.
    """
    with source.open() as file:
        about = pq.read_metadata(file)
        schema = about.schema.to_arrow_schema()
    names = [str(n) for n in schema.names]
    check_columns(source.name, names)
    twice = sorted({n for n in names if names.count(n) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise DatasetError(f"{source.name} names {listed(twice)} more than once. Rename the columns.")
    if source.path is None:
        ROWS.check(source.name, about.num_rows)
        CELLS.check(source.name, about.num_rows * len(names))
        UNPACKED.check(source.name, sum(about.row_group(g).total_byte_size for g in range(about.num_row_groups)))
    left_out = [n for n, t in zip(names, schema.types, strict=True) if not _is_scalar(t)]
    notes: list[Note] = []
    if left_out:
        found = Found(nested=dict.fromkeys(left_out, 1))
        notes += found.notes()
    classes = _class_names(schema)
    for column, known in classes:
        what = f"{column!r} holds codes of the {len(known)} class names that the file brings: {listed(known)}."
        notes.append(Note(what, "Read as those names.", "info"))
    kept = tuple(n for n in names if n not in left_out)
    if not kept:
        raise DatasetError(f"{source.name} holds only nested or binary columns. Give each field a column of its own.")
    return Parquet(kept, classes, tuple(left_out), about.num_row_groups, tuple(notes))


def _class_names(schema: pa.Schema) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the class names that Hugging Face's data sets keep beside the columns."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        named = {str(k): v["names"] for k, v in features.items() if v.get("_type") == "ClassLabel"}
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
        return ()
    return tuple(
        (column, tuple(map(str, names)))
        for column, names in named.items()
        if column in schema.names and isinstance(names, list) and pa.types.is_integer(schema.field(column).type)
    )


def _named(column: pa.Array, names: tuple[str, ...], found: Found) -> pa.Array:
    codes = pc.fill_null(column.cast(pa.int64()), -1)
    known = pc.and_(pc.greater_equal(codes, 0), pc.less(codes, len(names)))
    found.strange += len(column) - column.null_count - (pc.sum(known).as_py() or 0)
    return pa.array([*names, ""], pa.string()).take(pc.if_else(known, codes, len(names)))


def _texts(column: pa.Array, name: str, file: str, first: int, found: Found) -> pa.Array:
    """Return a column's exact texts, each distinct value made a text once; strings stay coded as they are."""
    kind = column.type
    if pa.types.is_null(kind):
        return pa.array([""] * len(column), pa.string())
    if pa.types.is_integer(kind):
        return pc.fill_null(column.cast(pa.string()), "")
    coded = column if pa.types.is_dictionary(kind) else column.dictionary_encode()
    inner = coded.dictionary
    if _is_text(inner.type):
        values = inner.cast(pa.string()) if not pa.types.is_string(inner.type) else inner
        try:
            values.validate(full=True)
        except pa.ArrowInvalid:  # not all of it is UTF-8
            raw = [v.as_py() for v in values.cast(pa.binary())]
            fixed = ["" if v is None else v.decode("utf-8", "replace") for v in raw]
            found.mended += sum(v is not None and v != t.encode() for v, t in zip(raw, fixed, strict=True))
            values = pa.array(fixed, pa.string())
    else:
        try:
            values = pa.array([text_of(v) for v in inner.to_pylist()], pa.string())
        except (OverflowError, ValueError) as error:
            row = first + 1 + _first_bad(column)
            raise DatasetError(
                f"{file}, row {row}, {name}: a {kind} that cannot be written as text ({error}). Write the column "
                "as text, or leave it out."
            ) from error
    return pa.DictionaryArray.from_arrays(coded.indices, values)


def _first_bad(column: pa.Array) -> int:
    for i in range(len(column)):
        try:
            column[i].as_py()
        except (OverflowError, ValueError):
            return i
    return 0


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_scalar(kind: pa.DataType) -> bool:
    inner: Any = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(
        pa.types.is_null(inner)
        or pa.types.is_boolean(inner)
        or pa.types.is_temporal(inner)
        or _is_number(inner)
        or _is_text(inner)
    )
