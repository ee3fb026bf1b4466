"""Streaming: the sums that curves and searches need, over a file of any size, batch by batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hybrid.data.columns import TEST_NAMES, Columns, RecordedColumns, from_file, named_apart
from hybrid.data.found import Found
from hybrid.data.guess import Guess
from hybrid.data.guess import guess as guess_columns
from hybrid.data.labels import clean, coded, fold, keep_apart, matcher
from hybrid.data.limits import CLASSES, NAME
from hybrid.data.notes import Note, plural
from hybrid.data.numbers import Kind, Said, clipped, numbers_of, refused
from hybrid.data.pieces import Piece, Progress, Run, on_threads
from hybrid.data.recorded import names_noted
from hybrid.data.scalars import text_of
from hybrid.errors import DatasetError
from hybrid.metrics.flips import Chain, picked
from hybrid.metrics.groups import Groups
from hybrid.metrics.intervals import Interval
from hybrid.metrics.lattice import Lattice
from hybrid.metrics.summary import share_of
from hybrid.metrics.tally import Tally, tally_by
from hybrid.routing.table import UNKNOWN, Bools, Floats, Labels, Rows

TEST_SHARE = 0.3
FINITE = float(np.finfo(np.float64).max)
HEAD = 1_000  # rows that columns are guessed from

_V = TypeVar("_V", bound=np.generic)


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
    group
        A column that says which rows belong together: the hash is then of it, so that they stand on one side.
    notes
        What was assumed in reading the file, and what was met in its labels' column.
    """

    label: str
    tiers: tuple[RecordedColumns, ...]
    classes: tuple[str, ...]
    split: str | None = None
    group: str | None = None
    lattice: Lattice = Lattice()  # noqa: RUF009 - frozen, so sharing one is safe
    notes: tuple[Note, ...] = ()

    def columns(self) -> list[str]:
        """Return the columns that are read."""
        return list(dict.fromkeys([*self.coded(), *(c for t in self.tiers for c in t.used() if c != t.latency)]))

    def numbers(self) -> list[str]:
        """Return those that hold numbers."""
        return [c for c in self.columns() if c not in self.coded()]

    def coded(self) -> list[str]:
        """Return those that hold labels."""
        sides = [column for column in (self.split, self.group) if column]
        return [self.label, *sides, *(t.label for t in self.tiers)]


def guess(source: Sequence[Piece], *, picked: Mapping[str, str | None] | None = None) -> Guess:
    """Guess what each column is from the first rows, and from the first that fill columns which are blank there.

    Parameters
    ----------
    picked
        See `hybrid.data.guess.guess`.
    """
    import pandas as pd

    head = source[0].head(HEAD)
    blank = [n for n in head.column_names if not any(head.column(n).to_pylist())]
    tables = [head, *_filling(source, head.column_names, blank)] if blank else [head]
    frame = pd.concat([pd.DataFrame({n: _strings(t.column(n)) for n in t.column_names}, dtype=object) for t in tables])
    return guess_columns(frame.reset_index(drop=True), picked=picked)


def _filling(source: Sequence[Piece], names: list[str], blank: list[str]) -> Iterator[pa.Table]:
    """Return the first rows that fill these columns, up to `HEAD` for each; those that no row fills cost a pass."""
    wanted = dict.fromkeys(blank, HEAD)
    for piece in source:
        at = 0
        here: list[int] = []
        for batch in piece.batches(blank, coded=blank):
            for name in [n for n, left in wanted.items() if left]:
                rows = np.flatnonzero(_of_values(batch.column(name), bool, False, np.bool_))[: wanted[name]]
                wanted[name] -= len(rows)
                here += (rows + at).tolist()
            at += batch.num_rows
            if not any(wanted.values()):
                break
        if here:
            yield _rows_at(piece, names, sorted(set(here)))
        if not any(wanted.values()):
            return


def _rows_at(piece: Piece, names: list[str], rows: list[int]) -> pa.Table:
    found, at = [], 0
    for batch in piece.batches(names):
        inside = [r - at for r in rows if at <= r < at + batch.num_rows]
        if inside:
            found.append(pa.table({n: _strings(batch.column(n).take(pa.array(inside))) for n in names}))
        at += batch.num_rows
        if at > rows[-1]:
            break
    return pa.concat_tables(found)


def plan(source: Sequence[Piece], columns: Columns, tiers: Sequence[str], *, run: Run | None = None) -> Plan:
    """Find the classes and check the tiers.

    Parameters
    ----------
    tiers
        Names from cheap to dear, as the file or as `hybrid.data.columns.named_apart` has them; none: all in the file.

    Raises
    ------
    DatasetError
        If a tier is not there, or one that can pass rows on has no confidences.
    """
    by_name = {r.name: r for r in named_apart(columns.recorded)}
    chosen = []
    for name in map(from_file, tiers or list(by_name)):
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
    found = (run or on_threads())(partial(_labels, column=columns.label), source, lambda done, of: None)
    counts, met = Counter[str](), Found()
    for of_piece, met_there in found:
        counts += of_piece
        met.add(met_there)
    classes = (fold(counts) if columns.fold_labels else keep_apart(counts)).classes
    CLASSES.check(f"The column {columns.label!r}", len(classes))
    if len(classes) < 2:
        raise DatasetError(f"Column {columns.label!r} holds {len(classes)} labels: is it the right one?")
    notes = dict.fromkeys(note for piece in source for note in piece.form.notes)
    renamed = names_noted([r for r in columns.recorded if from_file(r.name) in [c.name for c in chosen]])
    notes = dict.fromkeys((*notes, *met.notes(), *renamed))
    return Plan(columns.label, tuple(chosen), classes, columns.split, columns.group, notes=tuple(notes))


@dataclass(frozen=True, slots=True, eq=False)
class Sides:
    """Sums over the rows that thresholds are chosen on, and over those that they are reported on.

    Parameters
    ----------
    strange
        By tier, how often it gave each answer that is not one of the classes; they count as failed.
    blank
        By tier, how often it gave none, where that counts as failed.
    written
        By tier and column, how often its numbers were written in another way than plainly.
    """

    tune: Tally
    test: Tally
    strange: dict[str, Counter[str]] = field(default_factory=dict)
    blank: Counter[str] = field(default_factory=Counter)
    written: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)

    def __add__(self, other: Sides) -> Sides:
        strange, written = _summed(self.strange, other.strange), _summed(self.written, other.written)
        return Sides(self.tune + other.tune, self.test + other.test, strange, self.blank + other.blank, written)

    def notes(self) -> list[Note]:
        """Return what was assumed of the answers, in words."""
        found = [
            Note(
                f"{name} has {plural(n, 'blank answer', 'blank answers')}.",
                "Counted as failed: they escalate, and are wrong if final.",
                "warning",
            )
            for name, n in sorted(self.blank.items())
        ]
        for (name, column), ways in sorted(self.written.items()):
            found += Said(ways).notes(name, column)
        return found


_K = TypeVar("_K")


def _summed(first: dict[_K, Counter[str]], second: dict[_K, Counter[str]]) -> dict[_K, Counter[str]]:
    if not second:
        return first
    none = Counter[str]()
    return {k: first.get(k, none) + second.get(k, none) for k in first.keys() | second.keys()}


def tally_pieces(
    source: Sequence[Piece], plan: Plan, *, run: Run | None = None, progress: Progress | None = None
) -> Sides:
    """Sum up a file.

    Parameters
    ----------
    run
        Where: `here`, `on_threads`, which is the default, or `on_dask`; the sums are the same to the last bit.

    Raises
    ------
    DatasetError
        Naming the file, the row and the column of a value that cannot be used.
    """
    sums = (run or on_threads())(partial(tally_piece, plan=plan), source, progress or (lambda done, of: None))
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
    for batch in piece.batches(plan.columns(), coded=plan.coded(), numbers=plan.numbers()):
        total = total + tally_batch(batch, plan, where=f"{piece.name}, row {{}}", first=row)
        row += batch.num_rows
    return total


def tally_batch(batch: pa.RecordBatch, plan: Plan, *, where: str = "Row {}", first: int = 0) -> Sides:
    """Sum up the rows of a batch that have a label and an answer of every tier."""
    rows, truth, chain, strange, blank = _read(batch, plan, where, first)
    test = rows.taken(_on_test(batch, plan, first)).view(np.uint8)
    tune_side, test_side = tally_by(test, 2, chain, truth, lattice=plan.lattice)
    return Sides(tune_side, test_side, strange, blank, rows.written)


def _read(
    batch: pa.RecordBatch, plan: Plan, where: str, first: int
) -> tuple[_Rows, Labels, Chain, dict[str, Counter[str]], Counter[str]]:
    """Return the rows that count, their truth, what each tier said of them, and what else it said."""
    truth = _codes(batch.column(plan.label), plan.classes)
    rows = _Rows.of(batch, plan, truth, where, first)
    truth = rows.taken(truth)
    label, confidence, cost = [], [], []
    strange: dict[str, Counter[str]] = {}
    blank = Counter[str]()
    for j, r in enumerate(plan.tiers):
        answers = _dictionary(batch.column(r.label))
        said = rows.taken(_codes(answers, plan.classes))
        if other := rows.strange(answers, plan.classes):
            strange[r.name] = other
        if r.blank_is_failure and (nothing := rows.blank(r.label)) is not None and nothing.any():
            blank[r.name] = int(nothing.sum())
        if j < len(plan.tiers) - 1:
            assert r.confidence is not None
            sure = rows.numbers(r.confidence, r, "confidence")
            unknown = said == UNKNOWN
            confidence.append(np.where(unknown, 0.0, sure) if unknown.any() else sure)
        label.append(said)
        cost.append(_spent(r, rows))
    right = tuple(one == truth for one in label)
    chain = Chain(tuple(label), right, tuple(confidence), tuple(cost), (0.0,) * len(label))  # no sum is of latencies
    return rows, truth, chain, strange, blank


@dataclass(frozen=True, slots=True, eq=False)
class GroupSums:
    """Test rows by the group that they belong to: a hash of its name, its rows, and those that were right.

    All arrays of shape ``(n_groups,)``; a row whose group is blank is a group of its own.
    """

    key: NDArray[np.uint64]
    size: Floats
    right: Floats

    @classmethod
    def of(cls, key: NDArray[np.uint64], size: Floats, right: Floats) -> GroupSums:
        """Add up what has the same key."""
        found, at = np.unique(key, return_inverse=True)
        sums = (np.bincount(at, values, len(found)).astype(np.float64) for values in (size, right))
        return cls(found, *sums)

    def __add__(self, other: GroupSums) -> GroupSums:
        both = ((getattr(self, name), getattr(other, name)) for name in ("key", "size", "right"))
        return GroupSums.of(*(np.concatenate(pair) for pair in both))

    @property
    def accuracy(self) -> Interval:
        """Share right, with an interval that allows for rows of a group varying together."""
        n, hits, groups = int(self.size.sum()), int(self.right.sum()), Groups.of_sizes(self.size)
        if groups is None:
            return share_of(hits, n)
        squares = self.right * self.right
        sums = float(squares.sum()), float(self.right @ self.size), groups.over_size(squares)
        worth = groups.worth_of_share(hits, *sums)
        return share_of(hits, n, float(worth))


def groups_of_test(
    source: Sequence[Piece],
    plan: Plan,
    thresholds: Sequence[float],
    *,
    run: Run | None = None,
    progress: Progress | None = None,
) -> GroupSums:
    """Read a file again and sum up its test rows by group, at the thresholds that were found.

    Memory grows with the number of groups, 24 bytes each.
    """
    work = partial(_groups_of_piece, plan=plan, thresholds=tuple(thresholds))
    none = np.zeros(0)
    total = GroupSums(none.astype(np.uint64), none, none)
    for one in (run or on_threads())(work, source, progress or (lambda done, of: None)):
        total = total + one
    return total


def _groups_of_piece(piece: Piece, *, plan: Plan, thresholds: tuple[float, ...]) -> GroupSums:
    assert plan.group is not None
    none = np.zeros(0)
    total, row, own = GroupSums(none.astype(np.uint64), none, none), 0, _hash(piece.name)
    for batch in piece.batches(plan.columns(), coded=plan.coded(), numbers=plan.numbers()):
        rows, _, chain, *_ = _read(batch, plan, f"{piece.name}, row {{}}", row)
        key = _of_values(batch.column(plan.group), _hash, 0, np.uint64)
        alone = own + np.arange(row, row + batch.num_rows, dtype=np.uint64)
        key = rows.taken(np.where(key == 0, alone, key))
        test = rows.taken(_on_test(batch, plan, row))
        right = picked(chain.right, chain.stop(thresholds))[test].astype(np.float64)
        total = total + GroupSums.of(key[test], np.ones(len(right)), right)
        row += batch.num_rows
    return total


def _hash(name: str) -> np.uint64:
    """Return a number that a name always has; 0 for none."""
    return np.uint64(int.from_bytes(blake2b(name.encode(), digest_size=8).digest()) if name else 0)


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """The rows of a batch that are counted.

    Parameters
    ----------
    where, first
        What an error calls the row, with its number put in, and the number of rows before the batch.
    kept
        Their places in the batch; None: all.
    written
        See `Sides`; added to by `numbers`.
    """

    batch: pa.RecordBatch
    where: str
    first: int
    kept: Rows | None = None
    written: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, batch: pa.RecordBatch, plan: Plan, truth: Labels, where: str, first: int) -> _Rows:
        """Take the rows that have a label and an answer of every tier."""
        every = cls(batch, where, first)
        left_out = truth == UNKNOWN
        for r in plan.tiers:
            blank = None if r.blank_is_failure else every.blank(r.label)
            if blank is not None:
                left_out |= blank
        return cls(batch, where, first, np.flatnonzero(~left_out)) if left_out.any() else every

    def taken(self, values: NDArray[_V]) -> NDArray[_V]:
        return values if self.kept is None else values[self.kept]

    def blank(self, column: str) -> Bools | None:
        """Return where a column is blank; None where it is nowhere."""
        coded = _dictionary(self.batch.column(column))
        if not coded.null_count and all(_names(coded)):
            return None
        return self.taken(_of_values(coded, lambda name: not name, True, np.bool_))

    def strange(self, answers: pa.DictionaryArray, classes: tuple[str, ...]) -> Counter[str]:
        """Count the answers that are not one of the classes, nor blank."""
        of, names = matcher(classes), _names(answers)
        odd = [bool(name) and coded(name, of) == UNKNOWN for name in names]
        if not any(odd):
            return Counter()
        at = self.taken(pc.fill_null(answers.indices, len(names)).to_numpy(zero_copy_only=False))
        times = np.bincount(at, minlength=len(names) + 1)
        return Counter({n: int(k) for n, k, told in zip(names, times, odd, strict=False) if k and told})

    def numbers(self, column: str, r: RecordedColumns, kind: Kind) -> Floats:
        """Return a column of numbers from 0, of confidences up to 1; nothing counts 0 where the answer is blank."""
        high = 1.0 if kind == "confidence" else FINITE
        given, said = self.batch.column(column), Said()
        if pa.types.is_floating(given.type):
            values = self.taken(given.to_numpy(zero_copy_only=False))
        else:
            coded = _dictionary(given)
            names = _names(coded)
            codes = self.taken(pc.fill_null(coded.indices, len(names)).to_numpy(zero_copy_only=False))
            read = numbers_of(names, np.bincount(codes, minlength=len(names) + 1)[: len(names)], kind, said)
            values = np.append(read, np.nan)[codes]
        if kind == "confidence" and not _within(values, high):
            values = clipped(values, said)
        if said.counts:
            self.written[r.name, column] = said.counts
        if _within(values, high):
            return values
        blank = self.blank(r.label)
        if blank is not None:
            values = np.where(np.isnan(values) & blank, 0.0, values)
        if not _within(values, high):
            at = int(np.argmin((values >= 0) & (values <= high)))
            place = at if self.kept is None else int(self.kept[at])
            wrong = refused(column, text_of(given[place].as_py()), kind)
            raise DatasetError(f"{self.where.format(self.first + 1 + place)}, {wrong}")
        return values


def _within(values: Floats, high: float) -> bool:
    return not len(values) or bool(values.min() >= 0 and values.max() <= high)  # False for nan


def _on_test(batch: pa.RecordBatch, plan: Plan, first: int) -> Bools:
    if plan.split is not None:
        column = batch.column(plan.split)
        return _of_values(column, lambda name: name.lower() in TEST_NAMES, False, np.bool_)
    if plan.group is not None:
        key = _of_values(batch.column(plan.group), _hash, 0, np.uint64)
        return np.where(key == 0, _by_number(batch, first), key < np.uint64(round(TEST_SHARE * (1 << 64))))
    return _by_number(batch, first)


def _by_number(batch: pa.RecordBatch, first: int) -> Bools:
    number = np.arange(batch.num_rows, dtype=np.uint32)
    number += np.uint32((first + 1) % (1 << 32))
    number *= np.uint32(2654435761)  # modulo 2³²
    return number < np.uint32(round(TEST_SHARE * (1 << 32)))


def _empty(plan: Plan) -> Sides:
    none: Labels = np.zeros(0, dtype=np.int64)
    k = len(plan.tiers)
    chain = Chain((none,) * k, (none == none,) * k, (np.zeros(0),) * (k - 1), (0.0,) * k, (0.0,) * k)
    tune_side, test_side = tally_by(np.zeros(0, dtype=np.uint8), 2, chain, none, lattice=plan.lattice)
    return Sides(tune_side, test_side)


def _dictionary(column: pa.Array) -> pa.DictionaryArray:
    return column if pa.types.is_dictionary(column.type) else column.dictionary_encode()


def _labels(piece: Piece, *, column: str) -> tuple[Counter[str], Found]:
    found: Counter[str] = Counter()
    met = Found()
    for batch in piece.batches([column], coded=[column], found=met):
        for one in pc.value_counts(batch.column(column)).to_pylist():
            if one["values"] is not None and clean(str(one["values"])):
                found[str(one["values"]).strip()] += one["counts"]
        NAME.check(f"The column {column!r}", max(map(len, found), default=0))
        CLASSES.check(f"{piece.path}, column {column!r}", len(found) // 8)  # folded, they may still be few enough
    return found, met


def _strings(column: pa.Array | pa.ChunkedArray) -> list[str]:
    return ["" if v is None else v for v in column.to_pylist()]


def _of_values(column: pa.Array, what: Callable[[str], Any], null: Any, dtype: type[_V]) -> NDArray[_V]:
    """Return something that depends on each row's text alone; it is asked once for each distinct one."""
    coded = _dictionary(column)
    of = np.array([*map(what, _names(coded)), null], dtype=dtype)
    at = pc.fill_null(coded.indices, len(of) - 1) if coded.null_count else coded.indices
    found: NDArray[_V] = of[at.to_numpy(zero_copy_only=False)]
    return found


def _codes(column: pa.Array, classes: tuple[str, ...]) -> Labels:
    """Return class codes, as small numbers, which are read faster, where there are few classes."""
    small: Any = np.int16 if len(classes) < 1 << 15 else np.int64
    of = matcher(classes)
    return _of_values(column, lambda name: coded(name, of), UNKNOWN, small)


def _names(column: pa.DictionaryArray) -> list[str]:
    return ["" if v is None else str(v).strip() for v in column.dictionary.to_pylist()]


def _steady(values: Floats) -> Floats | float:
    """Return one number where it is the same in all rows."""
    return float(values[0]) if len(values) and values.min() == values.max() else values


def _spent(r: RecordedColumns, rows: _Rows) -> Floats | float:
    if r.cost is not None:
        return _steady(rows.numbers(r.cost, r, "cost"))
    tokens = [(c, p) for c, p in ((r.prompt_tokens, r.prompt_price), (r.completion_tokens, r.completion_price)) if c]
    if not tokens:
        return float(r.price)
    paid: Floats = np.sum([rows.numbers(c, r, "tokens") * (p / 1e6) for c, p in tokens], axis=0)
    return paid
