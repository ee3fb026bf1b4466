"""Streaming: the same sums over a file of any size, batch by batch here, or piece by piece on a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from hybrid.columns import TEST_NAMES, Columns, RecordedColumns, guess_columns
from hybrid.errors import DatasetError, TierError
from hybrid.lattice import Lattice
from hybrid.predictions import UNKNOWN, Bools, Floats, Labels
from hybrid.recorded_answers import match
from hybrid.tally import Tally, tally

BATCH = 1 << 17  # rows in memory at a time
TEST_SHARE = 0.3
HEAD = 1_000  # rows that columns are guessed from
FORMATS = {"parquet": "parquet", "csv": "csv", "jsonl": "json", "ndjson": "json"}

Progress = Callable[[int, int], None]  # pieces done, pieces there are
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a file that is read in one go: a row group of Parquet, else the whole file."""

    path: str
    format: str
    row_group: int | None = None

    def batches(self, columns: Sequence[str], *, coded: Sequence[str] = ()) -> Iterator[pa.RecordBatch]:
        """Read these columns, at most `BATCH` rows at a time.

        Parameters
        ----------
        coded
            Those whose values repeat, such as labels: each value is then looked up once a batch.
        """
        source = ds.dataset(self.path, format=self.format)
        missing = [c for c in columns if c not in source.schema.names]
        if missing:
            raise DatasetError(f"{self.path} has no column {missing[0]!r}: it has {', '.join(source.schema.names)}.")
        if self.format == "parquet":
            kinds = {c: source.schema.field(c).type for c in coded}
            texts = {c for c, kind in kinds.items() if pa.types.is_string(kind) or pa.types.is_large_string(kind)}
            source = ds.dataset(self.path, format=ds.ParquetFileFormat(dictionary_columns=texts))
        for fragment in source.get_fragments():
            part = fragment if self.row_group is None else fragment.subset(row_group_ids=[self.row_group])
            yield from part.to_batches(schema=source.schema, columns=list(columns), batch_size=BATCH)


def pieces(source: str | Path) -> tuple[Piece, ...]:
    """Cut a file, or a folder of files of one format, into pieces.

    Raises
    ------
    DatasetError
        If there is nothing to read, or it is of another format.
    """
    root = Path(source)
    files = sorted(p for p in root.rglob("*") if p.suffix[1:] in FORMATS) if root.is_dir() else [root]
    if not files or not files[0].exists():
        raise DatasetError(f"There is nothing to read at {str(source)!r}: check the path.")
    formats = {p.suffix[1:].lower() for p in files}
    if len(formats) > 1 or not formats <= set(FORMATS):
        raise DatasetError(f"{str(source)!r} holds {', '.join(sorted(formats))}: one of {', '.join(FORMATS)} is read.")
    kind = FORMATS[formats.pop()]
    cut: list[Piece] = []
    try:
        for path in files:
            if kind != "parquet":
                cut.append(Piece(str(path), kind))
                continue
            with path.open("rb") as file:
                n = pq.ParquetFile(file).num_row_groups
            cut += [Piece(str(path), kind, g) for g in range(n)]
    except (pa.ArrowInvalid, OSError) as error:
        raise DatasetError(f"{str(source)!r} cannot be read as {kind}: {error}.") from error
    return tuple(cut)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to read of each row, and the classes; small, so that it travels to every worker.

    Parameters
    ----------
    label
        The column of the truth.
    tiers
        From cheap to dear; each but the last with a confidence column.
    classes
        Sorted.
    split
        A column that says which rows are test; None: three rows in ten are, by a hash of the row's number.
    classes_too
        Whether to count classes, for macro-F1.
    """

    label: str
    tiers: tuple[RecordedColumns, ...]
    classes: tuple[str, ...]
    split: str | None = None
    classes_too: bool = False
    lattice: Lattice = Lattice()  # noqa: RUF009 - frozen, so sharing one is safe

    def columns(self) -> list[str]:
        """Return the columns that are read."""
        return list(dict.fromkeys([*self.coded(), *(c for t in self.tiers for c in t.used())]))

    def n_classes(self) -> int | None:
        """Return how many classes to count; None where they are not asked for."""
        return len(self.classes) if self.classes_too else None

    def coded(self) -> list[str]:
        """Return those that hold labels."""
        return [self.label, *([self.split] if self.split else []), *(t.label for t in self.tiers)]


def guess(source: Sequence[Piece]) -> Columns:
    """Guess from the first rows what each column is."""
    import pandas as pd

    first = source[0]
    names = ds.dataset(first.path, format=first.format).schema.names
    head = next(first.batches(names)).slice(0, HEAD)
    frame = pd.DataFrame({n: _strings(head.column(n)).to_pylist() for n in names}, dtype=object)
    return guess_columns(frame)


def plan(source: Sequence[Piece], columns: Columns, tiers: Sequence[str], *, run: Run | None = None) -> Plan:
    """Find the classes and check the tiers.

    Raises
    ------
    DatasetError
        If a tier is not there, or one that can pass rows on has no confidences.
    """
    by_name = {r.name: r for r in columns.recorded}
    chosen = []
    for name in tiers or list(by_name):
        if name not in by_name:
            raise DatasetError(f"There is no tier {name!r}. The file holds answers of: {', '.join(by_name) or 'none'}.")
        chosen.append(by_name[name])
    if len(chosen) < 2:
        raise DatasetError(
            f"Thresholds lie between tiers, and the file holds answers of {len(chosen)}: add columns such as "
            "classifier_label, classifier_confidence, llm_label and llm_cost."
        )
    for r in chosen[:-1]:
        if r.confidence is None:
            raise DatasetError(f"{r.name} can pass rows on, so it needs a column {r.name}_confidence.")
    found = (run or here)(partial(_labels, column=columns.label), source, lambda done, of: None)
    classes = sorted(set().union(*found) - {""})
    if len(classes) < 2:
        raise DatasetError(f"Column {columns.label!r} holds {len(classes)} labels: is it the right one?")
    return Plan(columns.label, tuple(chosen), tuple(classes), columns.split)


@dataclass(frozen=True, slots=True, eq=False)
class Sides:
    """Sums over the rows that thresholds are chosen on, and over those that they are reported on."""

    tune: Tally
    test: Tally

    def __add__(self, other: Sides) -> Sides:
        return Sides(self.tune + other.tune, self.test + other.test)


def tally_pieces(
    source: Sequence[Piece], plan: Plan, *, run: Run | None = None, progress: Progress | None = None
) -> Sides:
    """Sum up a file.

    Parameters
    ----------
    run
        Where: `here`, or `on_dask`; the sums are the same to the last bit.

    Raises
    ------
    DatasetError
        Naming the file, the row and the column of a value that cannot be used.
    """
    sums = (run or here)(partial(tally_piece, plan=plan), source, progress or (lambda done, of: None))
    total = _empty(plan)
    for one in sums:
        total = total + one
    if not total.tune.n_rows:
        raise DatasetError("No row has a label and an answer of every tier.")
    return total


def tally_piece(piece: Piece, *, plan: Plan) -> Sides:
    """Sum up one piece: what each worker does."""
    total = _empty(plan)
    row = 0
    for batch in piece.batches(plan.columns(), coded=plan.coded()):
        total = total + tally_batch(batch, plan, where=f"{piece.path}, row {{}}", first=row)
        row += batch.num_rows
    return total


def tally_batch(batch: pa.RecordBatch, plan: Plan, *, where: str = "Row {}", first: int = 0) -> Sides:
    """Sum up the rows of a batch that have a label and an answer of every tier."""
    truth = _codes(batch.column(plan.label), plan.classes, exact=True)
    kept = truth != UNKNOWN
    blanks = []
    for r in plan.tiers:
        blank = _blank(batch.column(r.label))
        blanks.append(blank)
        if not r.blank_is_failure:
            kept &= ~blank
    label, confidence, cost, latency = [], [], [], []
    for j, (r, blank) in enumerate(zip(plan.tiers, blanks, strict=True)):
        said = _codes(batch.column(r.label), plan.classes, exact=False)
        read = partial(_numbers, batch, kept=kept, blank=blank, where=where, first=first)
        if j < len(plan.tiers) - 1:
            assert r.confidence is not None
            confidence.append(np.where(said == UNKNOWN, 0.0, read(r.confidence, high=1.0))[kept])
        label.append(said[kept])
        cost.append(_spent(r, read, kept))
        latency.append(float(r.default_latency) if r.latency is None else read(r.latency)[kept])
    true = truth[kept]
    right = [one == true for one in label]
    test = _on_test(batch, plan, first)[kept]

    def side(rows: Bools) -> Tally:
        paid, waited = ([v if isinstance(v, float) else v[rows] for v in values] for values in (cost, latency))
        return tally(
            [c[rows] for c in label],
            [c[rows] for c in right],
            true[rows],
            [c[rows] for c in confidence],
            paid,
            waited,
            lattice=plan.lattice,
            n_classes=plan.n_classes(),
        )

    return Sides(side(~test), side(test))


def _on_test(batch: pa.RecordBatch, plan: Plan, first: int) -> Bools:
    if plan.split is not None:
        coded = _dictionary(batch.column(plan.split))
        names = [str(v).strip().lower() in TEST_NAMES for v in coded.dictionary.to_pylist()]
        at = pc.fill_null(coded.indices, len(names)).to_numpy(zero_copy_only=False)
        found: Bools = np.append(np.array(names, dtype=bool), False)[at]
        return found
    number = np.arange(first + 1, first + 1 + batch.num_rows, dtype=np.uint64)
    return (number * np.uint64(2654435761)) % np.uint64(1 << 32) < np.uint64(round(TEST_SHARE * (1 << 32)))


Run = Callable[[Callable[[Piece], Any], Sequence[Piece], Progress], Iterator[Any]]


def here(work: Callable[[Piece], _T], source: Sequence[Piece], progress: Progress) -> Iterator[_T]:
    """Do the work for one piece after the other."""
    for done, piece in enumerate(source):
        progress(done, len(source))
        yield work(piece)
    progress(len(source), len(source))


def on_dask(address: str) -> Run:
    """Return a way to spread the work over a Dask cluster; every worker must be able to read the file.

    A piece whose worker dies is done again by another.

    Raises
    ------
    TierError
        If Dask is not installed or nothing answers at the address.
    """

    def run(work: Callable[[Piece], _T], source: Sequence[Piece], progress: Progress) -> Iterator[_T]:
        try:
            from distributed import Client, as_completed
        except ImportError:
            raise TierError('A cluster needs Dask: pip install "hybrid-tuner[dask]".') from None
        try:
            client: Any = Client(  # type: ignore[no-untyped-call]
                address, timeout="10s"
            )
        except (OSError, TimeoutError, ValueError) as error:
            raise TierError(f"No Dask scheduler answers at {address!r}: {error}") from None
        with client:
            progress(0, len(source))
            done_first: Any = as_completed
            futures = client.map(work, list(source), pure=False)
            for done, future in enumerate(done_first(futures), start=1):
                result: _T = future.result()
                future.release()
                progress(done, len(source))
                yield result

    return run


def _empty(plan: Plan) -> Sides:
    none: Labels = np.zeros(0, dtype=np.int64)
    nothing: Floats = np.zeros(0)
    k = len(plan.tiers)
    label, right, confidence, spent = [none] * k, [none == none] * k, [nothing] * (k - 1), [0.0] * k
    zero = tally(label, right, none, confidence, spent, spent, lattice=plan.lattice, n_classes=plan.n_classes())
    return Sides(zero, zero)


def _dictionary(column: pa.Array) -> pa.DictionaryArray:
    return column if pa.types.is_dictionary(column.type) else column.dictionary_encode()


def _labels(piece: Piece, *, column: str) -> set[str]:
    found: set[str] = set()
    for batch in piece.batches([column], coded=[column]):
        found |= {str(v).strip() for v in pc.unique(batch.column(column)).to_pylist() if v is not None}
    return found


def _strings(column: pa.Array) -> pa.Array:
    plain = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    return pc.fill_null(pc.cast(plain, pa.string()), "")


def _codes(column: pa.Array, classes: tuple[str, ...], *, exact: bool) -> Labels:
    """Return class codes, of answers also in another case where that is unique; UNKNOWN for anything else."""
    import pandas as pd

    coded = _dictionary(column)
    names = [str(v).strip() for v in coded.dictionary.to_pylist()]
    if exact:
        place = {c: i for i, c in enumerate(classes)}
        codes = np.array([place.get(n, UNKNOWN) for n in names], dtype=np.int64)
    else:
        codes = match(pd.Series(names, dtype=object), classes) if names else np.zeros(0, dtype=np.int64)
    at = pc.fill_null(coded.indices, len(names)).to_numpy(zero_copy_only=False)
    found: Labels = np.append(codes, UNKNOWN)[at]
    return found


def _blank(column: pa.Array) -> Bools:
    coded = _dictionary(column)
    empty = [v is None or not str(v).strip() for v in coded.dictionary.to_pylist()]
    at = pc.fill_null(coded.indices, len(empty)).to_numpy(zero_copy_only=False)
    found: Bools = np.append(np.array(empty, dtype=bool), True)[at]
    return found


def _numbers(
    batch: pa.RecordBatch,
    column: str,
    *,
    kept: Bools,
    blank: Bools,
    where: str,
    first: int,
    high: float = np.inf,
) -> Floats:
    try:
        values = pc.cast(batch.column(column), pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid as error:
        raise DatasetError(f"{where.format(first + 1)} ff., {column}: {error}. It must hold numbers.") from None
    values = np.where(np.isnan(values) & blank, 0.0, values)
    bad = ~((values >= 0) & (values <= high) & (values < np.inf)) & kept
    if bad.any():
        at = int(np.argmax(bad))
        needed = "in [0, 1]. Percentages? Divide by 100." if high == 1 else "a number of 0 or more."
        raise DatasetError(f"{where.format(first + at + 1)}, {column} = {values[at]}: must be {needed}")
    return values


def _spent(r: RecordedColumns, read: Callable[[str], Floats], kept: Bools) -> Floats | float:
    if r.cost is not None:
        paid: Floats = read(r.cost)[kept]
        return paid
    tokens = [(c, p) for c, p in ((r.prompt_tokens, r.prompt_price), (r.completion_tokens, r.completion_price)) if c]
    if not tokens:
        return float(r.price)
    paid = np.sum([read(c) * (p / 1e6) for c, p in tokens], axis=0)[kept]
    return paid
