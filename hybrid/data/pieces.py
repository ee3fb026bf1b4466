"""Pieces: files cut into parts that are read in one go, and where the work on them is done: here or on a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from hybrid.errors import DatasetError, TierError

BATCH = 1 << 17  # rows in memory at a time
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
        if self.format != "parquet":
            source = ds.dataset(self.path, format=self.format)
            self._check(columns, source.schema)
            yield from source.to_batches(columns=list(columns), batch_size=BATCH)
            return
        about = pq.read_metadata(self.path)
        schema = about.schema.to_arrow_schema()
        self._check(columns, schema)
        texts = [c for c in coded if _is_text(schema.field(c).type)]
        groups = range(about.num_row_groups) if self.row_group is None else [self.row_group]
        with pq.ParquetFile(self.path, metadata=about, read_dictionary=texts, pre_buffer=False) as file:
            # threads are worth more on pieces than inside one
            yield from file.iter_batches(BATCH, row_groups=list(groups), columns=list(columns), use_threads=False)

    def _check(self, columns: Sequence[str], schema: pa.Schema) -> None:
        missing = [c for c in columns if c not in schema.names]
        if missing:
            raise DatasetError(f"{self.path} has no column {missing[0]!r}: it has {', '.join(schema.names)}.")


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


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
