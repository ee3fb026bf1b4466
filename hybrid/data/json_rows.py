"""JSON: one object a line, or an array of objects → batches of strings."""

from __future__ import annotations

import io
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from hybrid.data.columns import is_label
from hybrid.data.found import Found, nested_error
from hybrid.data.limits import CELLS, COLUMNS, DEPTH, ROWS, UNPACKED, check_columns
from hybrid.data.notes import Note
from hybrid.data.scalars import EXACT, mended, strings, text_of
from hybrid.data.stream import Coding, Source, coding_of
from hybrid.errors import DatasetError

BLOCK = 1 << 20  # bytes that are parsed at once
CHUNK = 1 << 20  # characters that are read at once
LARGE = 1 << 24  # characters of one value, whose parts are counted before it is parsed: an empty one takes fifty bytes
ROWS_AT_ONCE = 1 << 14
HEAD = 1_000  # rows that names and types are found from
_GAP = re.compile(r"[\s,]*")
_TYPES = {
    frozenset({str}): pa.string(),
    frozenset({int}): pa.int64(),
    frozenset({float}): pa.float64(),
    frozenset({int, float}): pa.float64(),
    frozenset({bool}): pa.bool_(),
}


class _OtherTypesError(Exception):
    """A column holds other values than the first rows did, or numbers that are not exact as floats."""


@dataclass(frozen=True, slots=True)
class JSONRows:
    """How a JSON file is laid out.

    Parameters
    ----------
    names
        Of the first rows; later ones may bring more.
    types
        What each column holds in the first rows; None where it is several things.
    array
        Whether it is one array of objects.
    key
        The key that such an array lies under; None: there is none.
    turned
        Whether it is one object that holds a column under each key.
    more
        Whether there are more rows than those that the names are of.
    """

    coding: Coding
    names: tuple[str, ...]
    types: tuple[pa.DataType | None, ...] = ()
    array: bool = False
    key: str | None = None
    turned: bool = False
    more: bool = False
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
        """Read these columns, `numbers` as floats where they are numbers; None: every column of each batch's rows.

        Raises
        ------
        DatasetError
            Naming the line or the row that cannot be read.
        """
        done = 0
        schema = self._schema(columns or (), numbers)
        if schema is not None:
            try:
                for batch in self._fast(source, schema, numbers):
                    yield batch
                    done += batch.num_rows
                return
            except (pa.ArrowInvalid, UnicodeDecodeError, _OtherTypesError):
                pass
        rows = itertools.islice(self.rows(source), done, None)
        row = done
        while chunk := list(itertools.islice(rows, ROWS_AT_ONCE)):
            yield _batch(source.name, chunk, columns, row, found)
            row += len(chunk)
            if source.path is None:
                ROWS.check(source.name, row)  # rows without a value, too, which no batch has

    def _schema(self, columns: Sequence[str], numbers: Sequence[str]) -> pa.Schema | None:
        """Return the types to read quickly; None where that cannot be."""
        if self.array or self.turned or self.key is not None or not columns:
            return None
        types = dict(zip(self.names, self.types, strict=True))
        usual = {c: pa.float64() if c in numbers else pa.string() for c in columns}
        fields = [(c, types.get(c, usual[c])) for c in columns]
        if any(t is None for _, t in fields):
            return None
        return pa.schema([(c, pa.float64() if c in numbers and pa.types.is_integer(t) else t) for c, t in fields])

    def _fast(self, source: Source, schema: pa.Schema, numbers: Sequence[str]) -> Iterator[pa.RecordBatch]:
        with self.coding.open(source) as file:
            try:
                reader = pj.open_json(
                    file,
                    pj.ReadOptions(block_size=BLOCK),
                    pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
                )
            except pa.ArrowInvalid as error:
                if "Empty JSON" in str(error):
                    return
                raise
            with reader:
                for batch in reader:
                    columns = [
                        column if field.name in numbers and pa.types.is_floating(field.type) else _texts(column)
                        for field, column in zip(schema, batch.columns, strict=True)
                    ]
                    yield pa.RecordBatch.from_arrays(columns, schema.names)

    def may_have(self, column: str) -> bool:
        """Whether a column may come that the first rows do not name: any, unless they are all the rows."""
        return self.more

    def head(self, source: Source, n: int, found: Found) -> pa.Table:
        """Return the first rows, all columns but those with nested values."""
        rows = list(itertools.islice(self.rows(source), n))
        table = pa.Table.from_batches([_batch(source.name, rows, None, 0, found)])
        return table.drop_columns(found.nested_only())

    def rows(self, source: Source) -> Iterator[dict[str, Any]]:
        """Read row by row."""
        with self.coding.open(source) as file:
            if self.turned or self.key is not None:
                (whole,) = _values(source.name, file)
                yield from _turned(source.name, whole) if self.turned else whole[self.key]
                return
            yield from _values(source.name, file, array=self.array)


def json_rows(source: Source) -> JSONRows:
    """Find how a JSON file is laid out.

    Raises
    ------
    DatasetError
        Naming the line that is not JSON, or is no object.
    """
    coding = coding_of(source)
    with coding.open(source) as file:
        start = file.read(1 << 16).decode("utf-8", "ignore").lstrip().removeprefix("\ufeff").lstrip()
    if not start:
        raise DatasetError(f"{source.name} is blank: it has no rows.")
    array = start.startswith("[") and re.match(r"\[\s*[{\]]", start) is not None
    form = JSONRows(coding, (), array=array, notes=coding.notes)
    head = list(itertools.islice(form.rows(source), HEAD + 1))
    if len(head) == 1 and not array:
        form, head = _one_object(form, head[0]), head
        head = list(itertools.islice(form.rows(source), HEAD)) if form.key or form.turned else head
    names = list(dict.fromkeys(name for row in head for name in row))
    COLUMNS.check(source.name, len(names))  # how long names may be is asked of a table alone: those of a log go nowhere
    notes = form.notes
    if array:
        notes += (Note("The file is one array.", "Each object in it is a row.", "info"),)
    kinds = ({type(v) for row in head if (v := row.get(name)) is not None} for name in names)
    types = tuple(_TYPES.get(frozenset(k), pa.string() if not k else None) for k in kinds)
    return JSONRows(coding, tuple(names), types, array, form.key, form.turned, len(head) > HEAD, notes)


def _one_object(form: JSONRows, row: dict[str, Any]) -> JSONRows:
    """Return how one object holds rows, if it does: an array of objects under a key, or a column under each key."""
    tables = [k for k, v in row.items() if isinstance(v, list) and v and all(isinstance(r, dict) for r in v)]
    if len(tables) == 1:
        note = Note(f"The rows lie under {tables[0]!r}.", "Read from there.", "info")
        return JSONRows(form.coding, (), key=tables[0], notes=(*form.notes, note))
    if row and all(isinstance(v, list | dict) and len(v) for v in row.values()):
        note = Note("The file holds one column after the other.", "Turned into rows.", "info")
        return JSONRows(form.coding, (), turned=True, notes=(*form.notes, note))
    return form


def _turned(file: str, whole: dict[str, Any]) -> Iterator[dict[str, Any]]:
    lengths = {k: len(v) for k, v in whole.items()}
    if len(set(lengths.values())) > 1:
        raise DatasetError(f"{file}: its columns have different lengths ({lengths}). Write it as rows, one a line.")
    columns = [list(v.values()) if isinstance(v, dict) else v for v in whole.values()]
    for values in zip(*columns, strict=True):
        yield dict(zip(whole, values, strict=True))


def _values(file: str, stream: Any, *, array: bool = False) -> Iterator[Any]:
    """Return the values that follow one another in a stream, or in the array that it is."""
    text = io.TextIOWrapper(stream, "utf-8", errors="replace", newline="")
    decode = json.JSONDecoder().raw_decode
    most = UNPACKED.value() * UNPACKED.scale
    buffer, at, line, ended = text.read(CHUNK).lstrip("\ufeff"), 0, 1, False
    opened = not array
    while True:
        gap = _GAP.match(buffer, at)
        at = gap.end() if gap else at
        if at < len(buffer) and not opened:
            opened, at = True, at + 1
            continue
        end, refused = at, ""
        if at < len(buffer):
            if array and buffer[at] == "]":
                return
            if len(buffer) - at > LARGE:
                CELLS.check(f"{file}, line {line}", sum(buffer.count(sign, at) for sign in ",[{"))
            try:
                value, end = decode(buffer, at)
            except json.JSONDecodeError as error:
                refused = f"not JSON ({error.msg}). Each line is one object."
            except RecursionError:
                refused = f"brackets within brackets, too deep to be read. {DEPTH.mend.capitalize()}."
                ended = True
            except ValueError:
                refused = "a number of very many digits. Write it as text, in quotes."
                ended = True
        if (refused or end >= len(buffer)) and not ended and len(buffer) - at <= most:
            more = text.read(max(CHUNK, len(buffer) - at))
            ended = not more
            line += buffer.count("\n", 0, at)
            buffer, at = buffer[at:] + more, 0
            continue
        if end == at:
            if not refused and array:
                refused = "the array ends without its closing bracket: export it again"
            if not refused:
                return
            raise DatasetError(f"{file}, line {line + buffer.count(chr(10), 0, at)}: {refused}")
        if not isinstance(value, dict):
            number = line + buffer.count("\n", 0, at)
            raise DatasetError(
                f"{file}, line {number}: {type(value).__name__} where an object is needed, {{…}}, with a name for each "
                "value."
            )
        yield value
        at = end


def _batch(
    file: str, rows: list[dict[str, Any]], columns: Sequence[str] | None, first: int, found: Found
) -> pa.RecordBatch:
    names = list(dict.fromkeys(k for row in rows for k in row)) if columns is None else list(columns)
    if columns is None:
        check_columns(file, names)
        CELLS.check(file, len(rows) * len(names))
    arrays = []
    for name in names:
        values = [row.get(name) for row in rows]
        if is_label(name):
            values = [json.dumps(v, ensure_ascii=False) if _is_list_of_names(v) else v for v in values]
        kinds = set(map(type, values))
        if kinds & {list, dict}:
            values = _plain(file, name, values, columns is not None, first, found)
        if kinds - {list, dict, type(None)}:
            found.plain.add(name)
        texts: list[Any] = values if kinds == {str} else [text_of(v) for v in values]
        array, n = strings(texts)
        found.mended += n
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, [mended(n) for n in names])


def _is_list_of_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, str | int | float) for v in value)


def _plain(file: str, name: str, values: list[Any], needed: bool, first: int, found: Found) -> list[Any]:
    """Return values with the nested ones, which are noted, as JSON beside others, and blank where all are nested.

    Raises
    ------
    DatasetError
        If a column that is needed holds nothing else.
    """
    mixed = name in found.plain or any(v is not None and not isinstance(v, list | dict) for v in values)
    plain = []
    for i, value in enumerate(values):
        if isinstance(value, list | dict):
            row = first + i + 1
            if needed and not mixed:
                raise nested_error(file, name, row)
            DEPTH.check(f"{file}, row {row}, {name}", _depth(value))
            found.nested.setdefault(name, row)
            value = json.dumps(value, ensure_ascii=False) if mixed else None
        plain.append(value)
    return plain


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [
            inner
            for v in level
            for inner in (v.values() if isinstance(v, dict) else v)
            if isinstance(inner, list | dict)
        ]
    return depth


def _texts(column: pa.Array) -> pa.Array:
    """Return a column as its exact texts."""
    if pa.types.is_string(column.type):
        return pc.fill_null(column, "")
    coded = column.dictionary_encode()
    values = coded.dictionary.to_pylist()
    if pa.types.is_floating(column.type) and any(v is not None and abs(v) >= EXACT for v in values):
        raise _OtherTypesError  # not exact as a float
    texts = pa.array([*map(text_of, values), ""], pa.string())
    return texts.take(pc.fill_null(coded.indices, len(values)))
