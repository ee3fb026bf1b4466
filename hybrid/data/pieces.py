"""Pieces: files cut into parts that are read in one go, and where the work on them is done: here or on a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from hybrid.data.found import Found
from hybrid.data.opening import SUFFIXES, Form, form_of, mended_errors, suffix_of
from hybrid.data.parquet import Parquet
from hybrid.data.stream import Source
from hybrid.errors import DatasetError, TierError

# suffixes that are the same kind of file
_KINDS = {"tsv": "csv", "txt": "csv", "ndjson": "jsonl", "json": "jsonl"}

Progress = Callable[[int, int], None]  # pieces done, pieces there are
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a file that is read in one go: a row group of Parquet, else the whole file.

    Parameters
    ----------
    form
        How the file is laid out; it was found once and travels with the piece.
    """

    path: str
    form: Form
    row_group: int | None = None

    @property
    def name(self) -> str:
        """What it is called where one of its rows is named by its number within it."""
        return self.path if self.row_group is None else f"{self.path}, row group {self.row_group}"

    @property
    def source(self) -> Source:
        return Source(self.path, path=self.path)

    def batches(
        self,
        columns: Sequence[str],
        *,
        coded: Sequence[str] = (),
        numbers: Sequence[str] = (),
        kept: Sequence[str] = (),
        found: Found | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Read these columns, so many rows at a time: as strings, as the page does.

        Parameters
        ----------
        coded
            Those whose values repeat, such as labels: each value is then looked up once a batch.
        numbers
            Those that are floats where all of a file's values are plain numbers.
        kept
            Those that stay of the file's own types, where it has types.
        found
            What is met on the way is added to it.

        Raises
        ------
        DatasetError
            If a column is missing, or a line or value cannot be read.
        """
        form, source, met = self.form, self.source, found or Found()
        missing = [c for c in columns if c not in form.names and not form.may_have(c)]
        if missing:
            raise DatasetError(f"{self.path} has no column {missing[0]!r}: it has {', '.join(form.names)}.")
        with mended_errors(self.path):
            if isinstance(form, Parquet):
                yield from form.batches(
                    source, columns, coded=coded, numbers=numbers, kept=kept, group=self.row_group, found=met
                )
            else:
                yield from form.batches(source, columns, coded=coded, numbers=numbers, found=met)

    def head(self, n: int) -> pa.Table:
        """Return the first rows of the file, all columns."""
        with mended_errors(self.path):
            return self.form.head(self.source, n, Found())


def pieces(source: str | Path) -> tuple[Piece, ...]:
    """Cut a file, or a folder of files of one format, into pieces.

    Raises
    ------
    DatasetError
        If there is nothing to read, or it is of another format.
    """
    root = Path(source)
    files = sorted(p for p in root.rglob("*") if suffix_of(p.name) in SUFFIXES) if root.is_dir() else [root]
    if not files or not files[0].exists():
        raise DatasetError(f"There is nothing to read at {str(source)!r}: check the path.")
    kinds = {_KINDS.get(suffix_of(p.name), suffix_of(p.name)) for p in files}
    if len(kinds) > 1:
        raise DatasetError(f"{str(source)!r} holds {', '.join(sorted(kinds))}: one kind at a time is read.")
    cut: list[Piece] = []
    for path in files:
        form = form_of(Source(str(path), path=str(path)))
        groups = range(form.n_groups) if isinstance(form, Parquet) else [None]
        cut += [Piece(str(path), form, g) for g in groups]
    return tuple(cut)


Run = Callable[[Callable[[Piece], Any], Sequence[Piece], Progress], Iterator[Any]]


def here(work: Callable[[Piece], _T], source: Sequence[Piece], progress: Progress) -> Iterator[_T]:
    """Do the work for one piece after the other."""
    for done, piece in enumerate(source):
        progress(done, len(source))
        yield work(piece)
    progress(len(source), len(source))


def on_threads(n_threads: int | None = None) -> Run:
    """Return a way to do the work for several pieces at a time on this machine; None: one for each core."""
    if n_threads == 1:
        return here
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    def run(work: Callable[[Piece], _T], source: Sequence[Piece], progress: Progress) -> Iterator[_T]:
        progress(0, len(source))
        with ThreadPoolExecutor(n_threads or cores) as pool:  # reading and counting leave Python to the other threads
            for done, result in enumerate(pool.map(work, source), start=1):
                progress(done, len(source))
                yield result

    return run


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
            client = Client(address, timeout="10s")
        except (OSError, TimeoutError, ValueError) as error:
            raise TierError(f"No Dask scheduler answers at {address!r}: {error}") from None
        with client:
            progress(0, len(source))
            futures = client.map(work, list(source), pure=False)
            for done, future in enumerate(as_completed(futures), start=1):
                result: _T = future.result()
                future.release()
                progress(done, len(source))
                yield result

    return run
