"""Log: every decision of a server, appended off the request's path, in files that rotate."""

from __future__ import annotations

import hashlib
import json
import logging
import queue
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import IO, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hybrid.data.foreign import encodable, shown
from hybrid.data.limits import ROWS, UNPACKED
from hybrid.errors import HybridError
from hybrid.production.feedback import reading
from hybrid.production.reference import Reference
from hybrid.production.runtime import Decision
from hybrid.routing.table import CHUNK

Texts = Literal["hash", "full"]
"""What of a text is kept: a hash with a secret salt, which only tells equal texts from others, or the text too."""
Redact = Callable[[str], str]
"""What a text is turned into before it is kept: names, numbers and addresses taken out."""

QUEUE = 10_000  # decisions that wait to be written; a kill loses no more than these
AT_ONCE = 500  # decisions in one transaction
ROWS_PER_FILE = 200_000
RETRY, LAST_TRIES = 0.5, 4  # seconds between attempts to write, and how many there are once the server stops
PATIENCE = 1.0  # seconds that a decision waits for room in the queue
SECOND = "-b"  # ends the id of what a second bundle decided about the same text in shadow mode
CURRENT, SALT = "current.sqlite", "salt"
log = logging.getLogger("hybrid")


@dataclass(frozen=True, slots=True)
class Entry:
    """A decision as it is kept.

    Parameters
    ----------
    at
        Seconds since 1970, UTC.
    id
        Of the answer, as the client got it.
    bundle
        First digits of its SHA-256.
    mode
        ``live``: the client got the policy's answer. ``shadow``: it got the LLM's.
    text_hash, text
        As `Texts` says.
    label, confidence, tier, cost, latency, fallback
        What the policy decided; `label` is None where no tier knew.
    trace
        JSON: every tier that was asked.
    llm_label
        What the LLM said in shadow mode; None where it was not asked.
    review
        The chance with which this decision was to be drawn for a review, where it was drawn; 0 where it was not, None
        in logs of before there were reviews.
    features
        What `hybrid.production.reference.Reference.digits` says of the text; None where the bundle has no reference.
    """

    at: float
    id: str
    bundle: str
    mode: str
    text_hash: str
    text: str | None
    label: str | None
    confidence: float
    tier: str
    cost: float
    latency: float
    fallback: bool
    trace: str
    llm_label: str | None = None
    review: float | None = None
    features: str | None = None


@dataclass(frozen=True, slots=True)
class Pending:
    """A decision that waits to be written; what is kept of its text is made of it by the thread that writes."""

    at: float
    id: str
    bundle: str
    mode: str
    text: str
    decision: Decision
    llm: str | None
    review: float
    reference: Reference | None


COLUMNS = tuple(f.name for f in fields(Entry))
SCHEMA = pa.schema(
    [
        (name, pa.float64() if name in ("at", "confidence", "cost", "latency", "review") else pa.string())
        if name != "fallback"
        else (name, pa.bool_())
        for name in COLUMNS
    ]
)


class DecisionLog:
    """Appends decisions to a folder: to SQLite, transaction by transaction, and to Parquet once a file is full.

    A request only puts its decisions into a queue; a thread of its own writes. `close` writes what is left; a kill
    loses at most what was in the queue. Where the queue is full for longer than a second, decisions are dropped and
    counted in `dropped`, since a disk that is slow must not stop answers.

    Parameters
    ----------
    folder
        Made where it is not there. One process writes to it.
    texts, redact
        What of a text is kept.
    rows_per_file
        Decisions in one Parquet file.

    Raises
    ------
    HybridError
        If the folder cannot be written, or another process writes to it.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        texts: Texts = "hash",
        redact: Redact | None = None,
        rows_per_file: int = ROWS_PER_FILE,
    ) -> None:
        self.folder = Path(folder)
        self.dropped = self.written = 0
        self.problem: str | None = None  # what the last attempt to write failed at
        self._full = texts == "full"
        self._redact = redact
        self._rows_per_file = rows_per_file
        self._queue: queue.Queue[Pending | None] = queue.Queue(QUEUE)
        self._waiting: set[str] = set()  # ids that are not in the file yet
        self._closing = threading.Event()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(self.folder / "lock")
            self._salt = _salt(self.folder)
            self._file = _open(self.folder / CURRENT)
            (self._in_file,) = self._file.execute("SELECT count(*) FROM decisions").fetchone()
        except (OSError, sqlite3.Error) as error:
            raise HybridError(f"The log folder {str(self.folder)!r} cannot be written to: {error}.") from error
        self._thread = threading.Thread(target=self._write_all, name="decision log", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many decisions are not written yet."""
        return self._queue.qsize()

    def entry(
        self,
        text: str,
        decision: Decision,
        *,
        id: str,
        bundle: str,
        mode: str,
        llm: str | None = None,
        review: float = 0.0,
        reference: Reference | None = None,
    ) -> Pending:
        """Return a decision as `put` takes it."""
        return Pending(time.time(), id, bundle, mode, text, decision, llm, review, reference)

    def _kept(self, one: Pending) -> Entry:
        """Return a decision as it is kept."""
        said: str | None = None
        if self._full:
            try:
                said = encodable(one.text if self._redact is None else self._redact(one.text))
            except Exception:  # a function of anyone's: what it could not clean is not kept
                log.exception("a text was not kept, as the redaction failed")
        d = one.decision
        return Entry(
            one.at,
            one.id,
            one.bundle,
            one.mode,
            hashlib.blake2b(one.text.encode(errors="replace"), key=self._salt, digest_size=16).hexdigest(),
            said,
            d.label,
            d.confidence,
            d.tier,
            d.cost,
            d.latency,
            d.fallback,
            encodable(json.dumps([asdict(step) for step in d.trace], ensure_ascii=False)),
            one.llm,
            one.review,
            one.reference.digits([one.text])[0] if one.reference is not None and one.reference.texts else None,
        )

    def holds(self, id: str) -> bool:
        """Whether a decision was logged, or waits to be; it reads files, so it does not belong on the event loop."""
        return id in self._waiting or self._is_written(id)

    def _is_written(self, id: str) -> bool:
        with reading(self.folder / CURRENT, "decisions") as file:
            if file.execute("SELECT 1 FROM decisions WHERE id = ?", (id,)).fetchone():
                return True
        only = [("id", "=", id)]  # ids rise with time, so most files are passed over by their bounds
        return any(len(pq.read_table(p, columns=["id"], filters=only)) for p in _rotated(self.folder))

    def put(self, entries: Sequence[Pending]) -> bool:
        """Put decisions into the queue if there is room now; returns whether there was."""
        if self._queue.qsize() + len(entries) > QUEUE:
            return False
        for entry in entries:
            self._waiting.add(entry.id)
            self._queue.put_nowait(entry)
        return True

    def put_patiently(self, entries: Sequence[Pending]) -> None:
        """Put decisions into the queue, waiting a moment for room; what finds none is dropped and counted."""
        until = time.monotonic() + PATIENCE
        for number, entry in enumerate(entries):
            self._waiting.add(entry.id)
            try:
                self._queue.put(entry, timeout=max(0.0, until - time.monotonic()))
            except queue.Full:
                self._waiting.discard(entry.id)
                self.dropped += len(entries) - number
                return

    def close(self) -> None:
        """Write what is left, and let another process write to the folder."""
        self._closing.set()
        self._queue.put(None)
        self._thread.join()
        self._lock.close()

    def _write_all(self) -> None:
        going = True
        while going:
            batch = [self._queue.get()]
            while len(batch) < AT_ONCE and batch[-1] is not None and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            going = batch[-1] is not None
            rows = list(filter(None, map(self._row, batch)))
            tries = 0
            while not self._write(rows):  # a full disk: said by the server, and tried again while the queue has room
                tries += 1
                if self._closing.is_set() and tries >= LAST_TRIES:
                    self.dropped += len(rows)
                    break
                time.sleep(RETRY)
            self._waiting.difference_update(e.id for e in batch if e is not None)
        self._file.close()

    def _row(self, one: Pending | None) -> tuple[object, ...] | None:
        """Return a decision as it is written; one that cannot be is dropped and counted, and costs no other."""
        try:
            return None if one is None else astuple(self._kept(one))
        except Exception:
            log.exception("a decision could not be kept")
            self.dropped += 1
            return None

    def _write(self, rows: list[tuple[object, ...]]) -> bool:
        try:
            with self._file:
                self._file.executemany(_INSERT, rows)
            self._in_file += len(rows)
            self.written += len(rows)
        except (sqlite3.Error, OSError) as error:
            self.problem = f"{type(error).__name__}: {error}"
            return False
        try:
            if self._in_file >= self._rows_per_file:
                self._rotate()
            self.problem = None
        except (sqlite3.Error, OSError, pa.ArrowException) as error:  # the rows are safe where they are
            self.problem = f"{type(error).__name__}: {error}"
        return True

    def _rotate(self) -> None:
        """Move what is in SQLite into a Parquet file: whole or not at all."""
        table = _table(self._file)
        ids = self._file.execute("SELECT max(rowid) FROM decisions").fetchone()
        target = self.folder / f"decisions-{time.time_ns()}.parquet"
        unfinished = target.with_suffix(".tmp")
        pq.write_table(table, unfinished, compression="zstd")
        unfinished.rename(target)
        with self._file:
            self._file.execute("DELETE FROM decisions WHERE rowid <= ?", ids)
        self._in_file = 0


def read_log(folder: str | Path, *, strange: bool = False) -> pa.Table:
    """Return every decision in a folder, from old to new; each once, even after a kill between two steps of a rotation.

    Parameters
    ----------
    strange
        Whether a stranger sent the files, so that the limits on uploads hold.

    Raises
    ------
    HybridError
        If there is no log, it cannot be read, or is beyond a limit.
    """
    folder = Path(folder)
    current = []
    # first what is not rotated yet: a rotation meanwhile shows rows twice, which are then dropped, and loses none
    try:
        if (folder / CURRENT).exists():
            with reading(folder / CURRENT, "decisions") as file:
                current = [_table(file)]
    except (OSError, sqlite3.Error, pa.ArrowException, TypeError) as error:
        raise _unreadable(folder, error) from error
    if strange:
        _check_size(_rotated(folder))
    try:
        tables = [*(_as_now(pq.read_table(p)) for p in _rotated(folder)), *current]
    except (OSError, pa.ArrowException, KeyError) as error:
        raise _unreadable(folder, error) from error
    if not tables:
        raise HybridError(f"There is no log in {str(folder)!r}: name the folder that was given as --log.")
    whole = pa.concat_tables(tables)
    return whole.filter(pa.array(list(_new(whole["id"].to_pylist())), pa.bool_()))


def _unreadable(folder: Path, error: Exception) -> HybridError:
    why = shown(str(error))
    return HybridError(f"The log in {str(folder)!r} cannot be read: {why}. Copy the files of hybrid serve --log again.")


def _check_size(paths: Sequence[Path]) -> None:
    """Refuse Parquet files that become more than an upload may, however small they are; values that repeat count."""
    rows = size = 0
    try:
        for path in paths:
            about = pq.read_metadata(path)
            rows += about.num_rows
            ROWS.check("The log", rows)
            UNPACKED.check("The log", sum(about.row_group(g).total_byte_size for g in range(about.num_row_groups)))
            schema = about.schema.to_arrow_schema()
            texts = [f.name for f in schema if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]
            with pq.ParquetFile(path, metadata=about, read_dictionary=texts) as opened:
                for batch in opened.iter_batches(CHUNK, columns=texts):
                    for column in batch.columns:
                        size += column.nbytes
                        if pa.types.is_dictionary(column.type):
                            lengths = pc.take(pc.binary_length(column.dictionary), column.indices)
                            size += pc.sum(lengths).as_py() or 0
                    UNPACKED.check("The log", size)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(paths[0].parent, error) from error


def _rotated(folder: Path) -> list[Path]:
    return sorted(folder.glob("decisions-*.parquet"))


def _as_now(table: pa.Table) -> pa.Table:
    """Return a table of an older version with the columns of today; those that it lacks are null."""
    none = pa.nulls(len(table))
    return pa.table({f.name: table[f.name] if f.name in table.column_names else none for f in SCHEMA}).cast(SCHEMA)


def _new(ids: Iterable[str]) -> Iterator[bool]:
    seen: set[str] = set()
    for one in ids:
        yield one not in seen
        seen.add(one)


def _table(file: sqlite3.Connection) -> pa.Table:
    known = _columns(file)
    rows = file.execute(f"SELECT {', '.join(known)} FROM decisions ORDER BY rowid").fetchall()
    columns = zip(*rows, strict=True) if rows else ([] for _ in known)
    arrays = {
        name: pa.array([bool(v) for v in values] if name == "fallback" else list(values), SCHEMA.field(name).type)
        for name, values in zip(known, columns, strict=True)
    }
    return _as_now(pa.table(arrays))


def _columns(file: sqlite3.Connection) -> list[str]:
    """Return the columns that a file has; one of an older version lacks some."""
    found = {row[1] for row in file.execute("PRAGMA table_info(decisions)")}
    return [c for c in COLUMNS if c in found]


_INSERT = f"INSERT INTO decisions ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"


def _open(path: Path) -> sqlite3.Connection:
    file = sqlite3.connect(path, check_same_thread=False, timeout=1.0)
    file.execute("PRAGMA journal_mode = WAL")
    file.execute("PRAGMA synchronous = NORMAL")  # a kill loses nothing; a power cut, a second
    with file:
        file.execute(f"CREATE TABLE IF NOT EXISTS decisions ({', '.join(COLUMNS)})")
        for name in [c for c in COLUMNS if c not in _columns(file)]:
            file.execute(f"ALTER TABLE decisions ADD COLUMN {name}")
        file.execute("CREATE INDEX IF NOT EXISTS by_id ON decisions (id)")
    return file


def _locked(path: Path) -> IO[bytes]:
    """Return a file that this process has locked; the lock ends with the process, however that ends."""
    file = open(path, "wb")  # noqa: SIM115 - open as long as the log is
    try:
        import fcntl
    except ImportError:  # Windows: one process is not kept from writing beside another
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise OSError("another process writes its log there; give each its own folder") from None
    return file


def _salt(folder: Path) -> bytes:
    path = folder / SALT
    if not path.exists():
        unfinished = path.with_suffix(".tmp")
        unfinished.touch(mode=0o600)
        unfinished.write_bytes(secrets.token_bytes(32))
        unfinished.rename(path)
    return path.read_bytes()
