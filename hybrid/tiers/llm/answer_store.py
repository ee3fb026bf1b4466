"""Answer store: what was paid for is kept on disk, so that no answer is paid for twice.

One SQLite file for all sessions and processes of a user. Each answer is one transaction. A question in flight is
claimed first, with the most that it may cost: two processes do not ask the same question at once, and a killed one
leaves a trace of what it may have spent. No key and no text is in it: a question is known by its hash.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from hybrid.errors import TierError
from hybrid.tiers.cache_folder import VARIABLE, folder

FILE = "answers.sqlite"
ASK, ANSWERED, BUSY, SPENT = "ask", "answered", "busy", "spent"
VERSION = 2  # of the tables; 1 had no failures, and is not numbered in the file
MOST_TRIES = 3  # runs in which a question may fail before it is no longer asked
_MANY = 500  # keys in one query
_PATIENCE = 30  # seconds to wait for another process that writes

_TABLES = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, run TEXT NOT NULL, reply TEXT NOT NULL, cost REAL NOT NULL, at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS claims (
    key TEXT PRIMARY KEY, run TEXT NOT NULL, cost REAL NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL,
    until REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batches (token TEXT PRIMARY KEY, run TEXT NOT NULL, id TEXT, at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS failures (
    key TEXT PRIMARY KEY, run TEXT NOT NULL, reply TEXT NOT NULL, tries INTEGER NOT NULL, at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS runs (run TEXT PRIMARY KEY, paid REAL NOT NULL, lost REAL NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Spending:
    """What a run has cost so far, in USD.

    Parameters
    ----------
    paid
        For answers.
    lost
        The most that calls without an answer may have cost: timeouts, broken connections, killed processes.
    in_flight
        The most that the calls under way may cost.
    """

    paid: float = 0.0
    lost: float = 0.0
    in_flight: float = 0.0

    @property
    def total(self) -> float:
        return self.paid + self.lost + self.in_flight


def default_path() -> Path:
    """Return where the store lies unless told otherwise: in the cache folder."""
    return folder() / FILE


class AnswerStore:
    """The store, opened; use it in the thread that opened it, and close it, or use it in a ``with``.

    Parameters
    ----------
    holder
        Who claims questions: this process, unless a batch does, which outlives it.

    Raises
    ------
    TierError
        If the file cannot be opened or is not a store.
    """

    def __init__(self, path: str | Path | None = None, *, holder: str | None = None) -> None:
        self.path = Path(path) if path is not None else default_path()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not self.path.exists():
                _begin(self.path)
            if not self.path.stat().st_size:
                raise self._unusable("it is empty, which no store ever is")
            self._db = sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)
            self._check()
            self._db.execute("PRAGMA synchronous=NORMAL")  # survives a killed process; a power cut may cost the last
        except (sqlite3.Error, OSError) as error:
            raise self._unusable(str(error)) from error
        self._host, self._pid = (socket.gethostname(), os.getpid()) if holder is None else (holder, 0)

    def _check(self) -> None:
        """Bring an older store up to date; refuse one that is newer, or none."""
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise self._unusable(f"a newer version wrote it (tables {version}; this one knows {VERSION})")
        names = {name for (name,) in self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {"answers", "claims", "runs"} <= names:
            raise self._unusable("it is a database of another kind")
        if version < VERSION:
            self._write_ahead()
            self._db.executescript(f"{_TABLES}PRAGMA user_version = {VERSION};")

    def _unusable(self, why: str) -> TierError:
        return TierError(
            f"The answers that were paid for are kept in {str(self.path)!r}, which cannot be used: {why}. Nothing in "
            "it was changed. Update this program, restore the file from a copy, or move it away to begin anew, where "
            f"every question is paid for again; or name another folder in the environment variable {VARIABLE}."
        )

    def _run(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        try:
            return self._db.execute(statement, values)
        except sqlite3.Error as error:  # damaged pages, a full disk
            raise self._unusable(str(error)) from error

    def _write_ahead(self) -> None:
        """Switch to the write-ahead log; wait for others that open the same new file, as SQLite here does not."""
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
            time.sleep(0.01)

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> AnswerStore:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def get(self, keys: Sequence[str]) -> dict[str, str]:
        """Return the replies that are kept, by key."""
        found: dict[str, str] = {}
        for start in range(0, len(keys), _MANY):
            part = keys[start : start + _MANY]
            marks = ",".join("?" * len(part))
            found |= dict(self._run(f"SELECT key, reply FROM answers WHERE key IN ({marks})", part).fetchall())
        return found

    def failed(self, keys: Sequence[str]) -> dict[str, tuple[str, int]]:
        """Return the questions that were asked and got no answer: why, as a reply, and in how many runs."""
        found: dict[str, tuple[str, int]] = {}
        for start in range(0, len(keys), _MANY):
            part = keys[start : start + _MANY]
            marks = ",".join("?" * len(part))
            rows = self._run(f"SELECT key, reply, tries FROM failures WHERE key IN ({marks})", part).fetchall()
            found |= {key: (reply, tries) for key, reply, tries in rows}
        return found

    def fail(self, key: str, run: str, reply: str) -> None:
        """Note that a question was asked and got no answer; an answer at a later run takes its place."""
        with self._transaction():
            self._run(
                "INSERT INTO failures VALUES (?, ?, ?, 1, ?) "
                "ON CONFLICT (key) DO UPDATE SET reply = excluded.reply, tries = tries + 1, at = excluded.at",
                (key, run, reply, time.time()),
            )

    def forget(self, keys: Sequence[str]) -> None:
        """Drop what is kept of some questions, so that they can be asked, and paid for, again."""
        with self._transaction():
            for key in keys:
                self._run("DELETE FROM answers WHERE key = ?", (key,))
                self._run("DELETE FROM failures WHERE key = ?", (key,))

    def claim(self, key: str, run: str, *, cost: float, cap: float, lease: float) -> str:
        """Take a question on, unless somebody has, or the money is spent.

        Parameters
        ----------
        cost
            The most that the call may cost, USD.
        cap
            USD for the whole run: what is paid, lost, and in flight, in every process.
        lease
            Seconds after which a claim that was not settled counts as lost, whoever holds it.

        Returns
        -------
        str
            ``ask``: it is yours, `settle` or `release` it. ``answered``, ``busy``, ``spent``: do not ask.
        """
        now = time.time()
        with self._transaction():
            if self._run("SELECT 1 FROM answers WHERE key = ?", (key,)).fetchone():
                return ANSWERED
            self._drop_dead(now)
            if self._run("SELECT 1 FROM claims WHERE key = ?", (key,)).fetchone():
                return BUSY
            if self.spending(run).total + cost > cap:
                return SPENT
            self._run(
                "INSERT INTO claims VALUES (?, ?, ?, ?, ?, ?)", (key, run, cost, self._host, self._pid, now + lease)
            )
        return ASK

    def settle(self, key: str, run: str, reply: str, *, cost: float) -> None:
        """Keep the answer of a claimed question and what it cost."""
        with self._transaction():
            # another process may have asked after the lease ended: both are paid, the first answer stays
            self._run("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?)", (key, run, reply, cost, time.time()))
            self._run("DELETE FROM failures WHERE key = ?", (key,))
            self._run("DELETE FROM claims WHERE key = ? AND pid = ? AND host = ?", (key, self._pid, self._host))
            self._spend(run, paid=cost)

    def release(self, key: str, run: str, *, lost: float) -> None:
        """Give a claimed question back unanswered; `lost` is the most that the failed calls may have cost."""
        with self._transaction():
            self._run("DELETE FROM claims WHERE key = ? AND pid = ? AND host = ?", (key, self._pid, self._host))
            self._spend(run, lost=lost)

    def lose(self, run: str, cost: float) -> None:
        """Count a failed call that may have been charged, while its question stays claimed."""
        with self._transaction():
            self._spend(run, lost=cost)

    def spending(self, run: str) -> Spending:
        """Return what a run has cost so far."""
        row = self._run("SELECT CAST(paid AS REAL), CAST(lost AS REAL) FROM runs WHERE run = ?", (run,)).fetchone() or (
            0.0,
            0.0,
        )
        (flying,) = self._run("SELECT TOTAL(cost) FROM claims WHERE run = ?", (run,)).fetchone()
        return Spending(row[0], row[1], flying)

    def begin_batch(self, token: str, run: str) -> None:
        """Note that a batch is about to be sent: a kill between sending and `name_batch` does not lose it."""
        with self._transaction():
            self._run("INSERT INTO batches VALUES (?, ?, NULL, ?)", (token, run, time.time()))

    def name_batch(self, token: str, name: str) -> None:
        """Note the server's name of a batch."""
        with self._transaction():
            self._run("UPDATE batches SET id = ? WHERE token = ?", (name, token))

    def end_batch(self, token: str) -> None:
        """Forget a batch, and give back the questions that it claimed and did not answer."""
        with self._transaction():
            self._run("DELETE FROM batches WHERE token = ?", (token,))
            self._run("DELETE FROM claims WHERE host = ?", (self._host,))

    def batches(self, run: str) -> list[tuple[str, str | None]]:
        """Return the batches of a run that are under way: token, and the server's name for it if it is known."""
        return self._run("SELECT token, id FROM batches WHERE run = ? ORDER BY at", (run,)).fetchall()

    def _spend(self, run: str, *, paid: float = 0.0, lost: float = 0.0) -> None:
        self._run(
            "INSERT INTO runs VALUES (?, ?, ?) "
            "ON CONFLICT (run) DO UPDATE SET paid = paid + excluded.paid, lost = lost + excluded.lost",
            (run, paid, lost),
        )

    def _drop_dead(self, now: float) -> None:
        """Turn the claims of processes that are gone, and those that are overdue, into losses."""
        rows = self._run("SELECT key, run, cost, host, pid, until FROM claims").fetchall()
        for key, run, cost, host, pid, until in rows:
            if until < now or (host == self._host and not _alive(pid)):
                self._run("DELETE FROM claims WHERE key = ?", (key,))
                self._spend(run, lost=cost)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._run("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        self._run("COMMIT")


def _begin(path: Path) -> None:
    """Make a new store whole before it has its name: a file of length zero is then always damage, never a beginning."""
    made = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        db = sqlite3.connect(made)
        db.execute("PRAGMA journal_mode=WAL")
        db.executescript(f"{_TABLES}PRAGMA user_version = {VERSION};")
        db.close()
        try:
            os.link(made, path)
        except FileExistsError:
            return  # another process was first
        except OSError:  # a file system without links
            if not path.exists():
                made.replace(path)
    finally:
        made.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    """Whether a process of this machine runs; where that cannot be told, it is taken to run until its lease ends."""
    if os.name != "posix" or not pid:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
