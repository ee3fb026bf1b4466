"""Delimited text: CSV and its kin → batches of strings; columns of numbers and labels as such where that is asked."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv as pc

from hybrid.data.found import Found
from hybrid.data.limits import FIELD, TITLE, check_columns
from hybrid.data.notes import Note
from hybrid.data.scalars import strings
from hybrid.data.stream import Coding, Source, coding_of, lines_of
from hybrid.errors import DatasetError

BLOCK = 1 << 20  # bytes that are parsed at once
ROWS_AT_ONCE = 1 << 15
HEAD = 1 << 18  # bytes that the form is found from
SAMPLE = 200  # rows of them
SEPARATORS = ",;\t|"
CODED = pa.dictionary(pa.int32(), pa.string())
_END = "\0"  # a line that no text file holds: reading it back says that every quote was closed
# names that a header has and a row of data does not
_USUAL = re.compile(
    r"(\w+[_.-])*(text|message|body|question|query|utterance|ticket|subject|content|review|description|comment|input|"
    r"label|category|intent|class|target|topic|id|uid|uuid|number|split|confidence|prob|probability|score|cost|latency|"
    r"prediction|pred|answer|date|name|group)s?"
)


@dataclass(frozen=True, slots=True)
class Delimited:
    """How a delimited file is laid out; small, so that it travels to every worker.

    Parameters
    ----------
    n_skipped
        Lines before the first row of data.
    headed
        Whether the last of them holds the names.
    """

    coding: Coding
    separator: str
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
        """Read these columns; None: all.

        Fast where every row has as many fields as the header, whatever stands in them; from the first that has not,
        row by row. Both read the same.

        Parameters
        ----------
        coded
            Columns whose values repeat, such as labels: each value is then looked up once a batch.
        numbers
            Columns that are floats where all of their values are plain numbers, else strings.

        Raises
        ------
        DatasetError
            Naming the line that cannot be read.
        """
        wanted = list(self.names if columns is None else columns)
        done = 0
        if self.coding.n_quotes % 2 == 0:
            for as_numbers in (frozenset(numbers), frozenset[str]()) if numbers else (frozenset[str](),):
                try:
                    for batch in _skipping(self._fast(source, wanted, frozenset(coded), as_numbers), done):
                        yield batch
                        done += batch.num_rows
                    return
                except (pa.ArrowInvalid, UnicodeDecodeError):
                    continue
        yield from _skipping(self._exact(source, wanted, found), done)

    def _fast(
        self, source: Source, columns: list[str], coded: frozenset[str], numbers: frozenset[str]
    ) -> Iterator[pa.RecordBatch]:
        types = {c: CODED if c in coded else pa.float64() if c in numbers else pa.string() for c in columns}
        with self._opened(source) as file:
            try:
                reader = pc.open_csv(
                    file,
                    pc.ReadOptions(column_names=list(self.names), skip_rows=self.n_skipped, block_size=BLOCK),
                    pc.ParseOptions(delimiter=self.separator, newlines_in_values=self.coding.n_quotes > 0),
                    pc.ConvertOptions(
                        column_types=types, include_columns=columns, null_values=[""], strings_can_be_null=False
                    ),
                )
            except pa.ArrowInvalid as error:
                if "Empty CSV file" in str(error):  # nothing after the header
                    return
                raise
            with reader:
                yield from reader

    def _opened(self, source: Source) -> BinaryIO | pa.NativeFile:
        """Open it, by Arrow where it is plain: threads of Arrow that use a file of Python's may abort it as it ends."""
        if self.coding.packed or self.coding.encoding != "utf-8":
            return self.coding.open(source)
        return pa.BufferReader(source.content) if source.path is None else pa.OSFile(source.path)

    def _exact(self, source: Source, columns: list[str], found: Found) -> Iterator[pa.RecordBatch]:
        places = [self.names.index(c) for c in columns]
        rows = self.rows(source, found)
        while chunk := list(itertools.islice(rows, ROWS_AT_ONCE)):
            arrays = [strings([row[p] for row in chunk]) for p in places]
            found.mended += sum(n for _, n in arrays)
            yield pa.RecordBatch.from_arrays([a for a, _ in arrays], columns)

    def may_have(self, column: str) -> bool:
        """Whether a column may come that the first rows do not name."""
        return False

    def head(self, source: Source, n: int, found: Found) -> pa.Table:
        """Return the first rows, all columns."""
        rows = list(itertools.islice(self.rows(source, found), n))
        return pa.table({c: [row[p] for row in rows] for p, c in enumerate(self.names)})

    def rows(self, source: Source, found: Found) -> Iterator[list[str]]:
        """Read row by row; short rows are filled up, blank lines are no rows."""
        n = len(self.names)
        with self.coding.open(source) as file:
            lines = itertools.chain(lines_of(file, source.name), [_END])
            for _ in range(self.n_skipped):
                next(lines)
            csv.field_size_limit(FIELD.value() * FIELD.scale)
            reader = csv.reader(lines, delimiter=self.separator)
            start = self.n_skipped + 1
            try:
                for row in reader:
                    here, start = start, self.n_skipped + reader.line_num + 1
                    if row and _END in row[-1]:
                        if row == [_END]:
                            return
                        raise DatasetError(
                            f"{source.name}, line {here}: a double quote opens there or further on and is never "
                            "closed. Close it; a double quote inside a quoted text is written twice."
                        )
                    if len(row) == n:
                        yield row
                    elif any(map(str.strip, row)):
                        yield self._fitted(row, n, f"{source.name}, line {here}", found)
            except csv.Error as error:
                raise _field_error(f"{source.name}, line {self.n_skipped + reader.line_num}", error) from error

    def _fitted(self, row: list[str], n: int, where: str, found: Found) -> list[str]:
        if 1 < len(row) < n:
            found.short += 1
            return row + [""] * (n - len(row))
        if len(row) > n and not any(row[n:]):
            return row[:n]
        header = "the header has" if self.headed else "the first line has"
        raise DatasetError(
            f"{where}: {len(row)} {'field' if len(row) == 1 else 'fields'} where {header} {n}. "
            f"Put texts that contain {self.separator!r} or line breaks in double quotes."
        )


def _field_error(where: str, error: csv.Error) -> DatasetError:
    if "field limit" in str(error):
        try:
            FIELD.check(where, FIELD.value() * FIELD.scale + 1)
        except DatasetError as refused:
            return refused
    return DatasetError(f"{where}: {error}. A double quote inside a quoted text is written twice.")


def _skipping(batches: Iterator[pa.RecordBatch], n: int) -> Iterator[pa.RecordBatch]:
    """Leave out the first n rows."""
    for batch in batches:
        if n >= batch.num_rows:
            n -= batch.num_rows
        else:
            yield batch.slice(n) if n else batch
            n = 0


def delimited(source: Source, *, separator: str | None = None, header: bool | None = None) -> Delimited:
    """Find how a delimited file is laid out.

    Parameters
    ----------
    separator
        The one that its suffix promises; None: it is found.
    header
        Whether the first line holds the names; None: it is guessed, and said.

    Raises
    ------
    DatasetError
        If it is blank, or its names cannot be used.
    """
    coding = coding_of(source, quote=b'"')
    with coding.open(source) as file:
        content = file.read(HEAD)
        cut = bool(file.read(1))
    text = content.decode("utf-8", "ignore").removeprefix("\ufeff")
    notes = list(coding.notes)
    skipped = 0
    told = re.match(r'"?sep=(.)"?[ ,;\t]*(\r\n|\r|\n)', text, re.IGNORECASE)
    if told:
        separator, skipped, text = told[1], 1, text[told.end() :]
        notes.append(Note(f"The first line says that {separator!r} separates the fields.", "Read so.", "info"))
    if not text.strip():
        raise DatasetError(f"{source.name} is blank: it has neither header nor rows.")
    separator = _separator(text, separator, cut)
    rows, ends = _sampled(text, separator, cut)
    if cut and len(rows) == 1:
        raise DatasetError(
            f"{source.name}: its first row is longer than {HEAD >> 10} KB. Begin with a line of the columns' names."
        )
    names, first, headed, said = found_header(source.name, rows, header)
    skipped += ends[first - 1] if first else 0
    return Delimited(coding, separator, names, skipped, headed, (*notes, *said))


def found_header(
    file: str, rows: list[list[str]], header: bool | None
) -> tuple[tuple[str, ...], int, bool, tuple[Note, ...]]:
    """Find the header among the first rows that are not blank.

    Returns
    -------
    names
        Of every column.
    first
        Which of the rows is the first row of data.
    headed
        Whether the one before holds the names.
    notes
        What was assumed.
    """
    notes = []
    first = _first(rows)
    titles = ", ".join(repr(" ".join(filter(None, row))[:60]) for row in rows[:first] if any(row))
    if titles:
        notes.append(Note(f"{titles} stands above the header.", "Left out.", "info"))
    names = [n.strip() for n in rows[first]]
    headed = _is_header(rows[first], rows[first + 1 :]) if header is None else header
    if not headed:
        if header is None:
            example = f"“{' '.join(rows[first])[:60]}”"
            done = "Its columns are called “column 1”, “column 2” …; no row is lost. Say so if it holds names."
            notes.append(Note(f"The first line looks like a row, not like names: {example}.", done, "warning"))
        names = [""] * max(len(row) for row in rows[first:])
    check_columns(file, names)
    return _named(file, names, headed), first + headed, headed, tuple(notes)


def _named(file: str, names: list[str], headed: bool) -> tuple[str, ...]:
    if headed:
        while len(names) > 1 and not names[-1]:  # separators at the ends of lines
            names.pop()
        twice = sorted(n for n, times in Counter(names).items() if n and times > 1)
        if twice:
            raise DatasetError(
                f"{file}: the header names {', '.join(map(repr, twice[:5]))} more than once. Rename the columns."
            )
        if not names[0]:
            names[0] = "row" if "row" not in names else "row number"  # the index that pandas writes
    taken = set(names)
    for i, name in enumerate(names):
        if not name:
            number = i + 1
            while (spare := f"column {number}") in taken:
                number += len(names)
            names[i] = spare
            taken.add(spare)
    return tuple(names)


def _sampled(text: str, separator: str, cut: bool) -> tuple[list[list[str]], list[int]]:
    """Return the first rows that are not blank, and the line that each ends in."""
    csv.field_size_limit(max(HEAD, FIELD.value() * FIELD.scale))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    rows, ends = [], []
    for row in itertools.islice(reader, SAMPLE):
        if row:
            rows.append(row)
            ends.append(reader.line_num)
    if cut and len(rows) > 1 and len(rows) + 1 < SAMPLE:
        del rows[-1], ends[-1]  # the head may end within it
    return rows, ends


def _separator(text: str, usual: str | None, cut: bool) -> str:
    """Return what separates the fields: where most rows have equally many, and more than one."""
    header = text.lstrip().split("\n", 1)[0]
    if text.strip().count("\n") < 2:  # too little to agree on
        return usual or max(SEPARATORS, key=header.count)
    agreed = {}
    for separator in SEPARATORS:
        widths = Counter(len(row) for row in _sampled(text, separator, cut)[0])
        width, rows = widths.most_common(1)[0]
        agreed[separator] = (round(rows / widths.total(), 1) if width > 1 else 0.0, separator == usual, width)
    best = max(agreed, key=lambda s: (agreed[s], header.count(s)))
    return best if agreed[best][0] else usual or max(SEPARATORS, key=header.count)


def _first(rows: list[list[str]]) -> int:
    """Return the number of rows above the header: titles, of one field where the rows have several."""
    below = Counter(len(row) for row in rows[1:])
    if not below or max(below.values()) < 2 or below.most_common(1)[0][0] < 2:
        return 0
    first = 0
    while first < len(rows) - 2 and (
        len(rows[first]) == 1
        or (_filled(rows[first]) <= 1 < _filled(rows[first + 1]) and any(map(_is_usual, rows[first + 1])))
    ):
        first += 1
    return first


def _filled(row: list[str]) -> int:
    return sum(bool(field.strip()) for field in row)


def _is_usual(field: str) -> bool:
    return _USUAL.fullmatch(field.strip().lower()) is not None


def _is_header(row: list[str], below: list[list[str]]) -> bool:
    """Whether a row holds names; not if one of its values comes again below, or is a number among numbers."""
    fields = [f.strip() for f in row]
    if any(len(f) > TITLE.value() for f in fields):
        return False
    numbered = [str(i) for i in range(len(fields))]  # what pandas writes for columns without names
    if not below or any(map(_is_usual, fields)) or fields in (numbered, ["", *numbered[:-1]]):
        return True
    for place, value in enumerate(fields):
        others = [r[place].strip() for r in below if len(r) > place and r[place].strip()]
        if value and value in others:
            return False
        if _is_number(value) and others and sum(map(_is_number, others)) > 0.9 * len(others):
            return False
    return True


def _is_number(value: str) -> bool:
    return re.fullmatch(r"[-+]?[\d.,]*\d%?", value, re.ASCII) is not None
