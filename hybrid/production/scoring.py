"""Scoring: a bundle decides a file of any size, piece by piece, here or on a Dask cluster; a broken run goes on."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hybrid.data.pieces import Piece, Progress, Run, here
from hybrid.errors import DatasetError, TierError
from hybrid.production.runtime import Model, Runtime, load
from hybrid.routing.table import NONE_LABEL


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker needs to decide a piece: small, and the same for all of them.

    Parameters
    ----------
    bundle
        Path of the zip or folder.
    models
        ``module:name`` of a mapping from tier to function; None where the bundle holds every tier.
    text
        The column of the texts.
    keep
        Columns that are copied beside the decisions.
    """

    bundle: str
    models: str | None
    text: str
    keep: tuple[str, ...] = ()


def score_file(
    job: Job,
    source: Sequence[Piece],
    out: str | Path,
    *,
    run: Run | None = None,
    progress: Progress | None = None,
) -> int:
    """Decide every text of a file and write the decisions as one Parquet file, in the order of the texts.

    Each piece is written whole, beside `out`; a run that was broken off goes on where it stopped, and `out` appears
    only when it is complete. A column for each of: decision (null where no tier knew), tier, confidence, cost; not
    the latency, which is never the same twice.

    Parameters
    ----------
    run
        Where: `hybrid.data.pieces.here`, or ``on_dask(address)``, whose workers must be able to write beside `out`.

    Returns
    -------
    n_rows
        How many were decided.

    Raises
    ------
    HybridError
        If the bundle, the file or the models cannot be used, or parts of another job lie beside `out`.
    """
    target = Path(out)
    _runtime(job).rehearse()  # says at once what is missing
    parts = target.with_name(target.name + ".parts")
    parts.mkdir(parents=True, exist_ok=True)
    _check_same_job(parts, job, source)
    numbered = [_Numbered(i, piece) for i, piece in enumerate(source)]
    work = partial(_score_piece, job=job, parts=str(parts))
    for _ in (run or here)(work, numbered, progress or (lambda done, of: None)):  # type: ignore[arg-type]
        pass
    unfinished = target.with_name(target.name + ".tmp")
    n_rows = 0
    writer: pq.ParquetWriter | None = None
    for one in numbered:
        table = pq.read_table(parts / one.name)
        writer = writer or pq.ParquetWriter(unfinished, table.schema)
        writer.write_table(table)
        n_rows += table.num_rows
    if writer is None:
        raise DatasetError("There is no text to decide.")
    writer.close()
    os.replace(unfinished, target)
    shutil.rmtree(parts)
    return n_rows


@dataclass(frozen=True, slots=True)
class _Numbered:
    number: int
    piece: Piece

    @property
    def name(self) -> str:
        return f"part-{self.number:06}.parquet"


def _score_piece(one: _Numbered, *, job: Job, parts: str) -> None:
    done = Path(parts) / one.name
    if done.exists():
        return
    runtime = _runtime(job)
    tables = []
    for batch in one.piece.batches([job.text, *job.keep], kept=job.keep):
        texts = ["" if t is None else str(t) for t in batch.column(job.text).to_pylist()]
        tables.append(_decide(runtime, texts, {c: batch.column(c) for c in job.keep}))
    table = pa.concat_tables(tables) if tables else _decide(runtime, [], {})
    unfinished = done.with_suffix(f".{os.getpid()}.tmp")
    pq.write_table(table, unfinished)
    os.replace(unfinished, done)  # whole or not there, even if two workers were given the piece


def _decide(runtime: Runtime, texts: Sequence[str], kept: Mapping[str, pa.Array]) -> pa.Table:
    outcomes = asyncio.run(runtime.outcomes(texts))
    classes = np.array([*runtime.classes, NONE_LABEL, None], dtype=object)  # read from the end: NONE, UNKNOWN
    names = np.array(runtime.policy.names, dtype=object)
    return pa.table(
        {
            **kept,
            "decision": pa.array(classes[outcomes.label], pa.string()),
            "tier": pa.array(names[outcomes.tier], pa.string()),
            "confidence": outcomes.confidence,
            "cost": outcomes.cost,
        }
    )


@lru_cache(maxsize=4)
def _runtime(job: Job) -> Runtime:
    return load(job.bundle, models=load_models(job.models))


def load_models(spec: str | None) -> Mapping[str, Model] | None:
    """Import the functions of external tiers, named as ``module:name``, from the working folder or a package.

    Raises
    ------
    TierError
        If there is no such mapping.
    """
    if spec is None:
        return None
    found = _imported(spec, "models", "a dict from a tier's name to a function")
    if not isinstance(found, Mapping):
        raise TierError(f"{spec!r} is {type(found).__name__}, not a dict from a tier's name to a function.")
    return found


def load_function(spec: str) -> Callable[[str], str]:
    """Import a function from texts to texts, named as ``module:name``.

    Raises
    ------
    TierError
        If there is none.
    """
    found = _imported(spec, "redact", "a function from a text to a text")
    if not callable(found):
        raise TierError(f"{spec!r} is {type(found).__name__}, not a function from a text to a text.")
    made: Callable[[str], str] = found
    return made


def _imported(spec: str, usual: str, what: str) -> Any:
    module, _, name = spec.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return getattr(importlib.import_module(module), name or usual)
    except (ImportError, AttributeError, ValueError) as error:
        raise TierError(f"{spec!r} cannot be imported ({error}): write module:name of {what}.") from error


def _check_same_job(parts: Path, job: Job, source: Sequence[Piece]) -> None:
    stat = [(p.path, p.row_group, Path(p.path).stat().st_size, Path(p.path).stat().st_mtime_ns) for p in source]
    bundle = Path(job.bundle)
    content = bundle.read_bytes() if bundle.is_file() else (bundle / "manifest.json").read_bytes()
    what = json.dumps([asdict(job), hashlib.sha256(content).hexdigest(), stat])
    digest = hashlib.sha256(what.encode()).hexdigest()
    marker = parts / "job.txt"
    if marker.exists() and marker.read_text() != digest:
        raise TierError(
            f"{str(parts)!r} holds parts of another run (another bundle, file or setting): "
            "delete the folder to start anew."
        )
    marker.write_text(digest)
