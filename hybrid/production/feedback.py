"""Feedback: right labels of logged decisions, from clients, users and reviewers, beside the log that they belong to."""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hybrid.errors import HybridError

FILE = "feedback.sqlite"
NONE_OF_THEM = ""  # as a right label: the text belongs to none of the classes

Source = Literal["review", "report"]
"""Why a label came: somebody worked through the decisions that were drawn, or complained. Only the first is fair."""


@dataclass(frozen=True, slots=True)
class Correction:
    """The right label of a decision; `NONE_OF_THEM` where no class is right."""

    id: str
    label: str
    source: Source
    at: float  # seconds since 1970, UTC


def new_id() -> str:
    """Return an id for a decision; ids rise with time, so that a log finds them by the bounds of its files."""
    return f"{time.time_ns():016x}{secrets.token_hex(8)}"


@contextmanager
def reading(path: Path, table: str) -> Iterator[sqlite3.Connection]:
    """Open a SQLite file that anybody may have made, for reading: its table holds rows, and computes none.

    A view, or a column that is generated, would let whoever made the file decide how long a look takes.

    Raises
    ------
    sqlite3.Error
        If it is none, or has no such table.
    """
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10.0)) as file:
        file.execute("PRAGMA trusted_schema = OFF")
        what = "SELECT count(*) FROM sqlite_master WHERE name = ? AND type = 'table' AND rootpage > 0"
        if file.execute(what, (table,)).fetchone() != (1,):
            raise sqlite3.DatabaseError(f"no such table: {table}")
        made = "SELECT count(*) FROM pragma_table_xinfo(?) WHERE hidden"
        if file.execute(made, (table,)).fetchone() != (0,):
            raise sqlite3.DatabaseError(f"columns of {table} are generated")
        yield file


class Feedback:
    """The corrections in a log's folder; the server, the command line and the page may write to it at once.

    Raises
    ------
    HybridError
        If the folder cannot be written to.
    """

    def __init__(self, folder: str | Path) -> None:
        self._path = Path(folder) / FILE

    def put(self, id: str, label: str, *, source: Source = "review") -> Literal["new", "same", "changed"]:
        """Keep a label; said again it changes nothing, said otherwise the last one counts.

        A review and a report of one decision are two things, and both are kept.
        """
        with self._open() as file:
            before = file.execute("SELECT label FROM feedback WHERE id = ? AND source = ?", (id, source)).fetchone()
            if before is not None and before[0] == label:
                return "same"
            file.execute("INSERT OR REPLACE INTO feedback VALUES (?, ?, ?, ?)", (id, label, source, time.time()))
        return "new" if before is None else "changed"

    def read(self) -> list[Correction]:
        """Return all of them, from old to new; none where nothing was ever said."""
        if not self._path.exists():
            return []
        try:
            with reading(self._path, "feedback") as file:
                rows = file.execute("SELECT id, label, source, at FROM feedback ORDER BY at").fetchall()
        except sqlite3.Error as error:
            raise HybridError(f"{str(self._path)!r} cannot be read: {error}. Copy it again.") from error
        for row in rows:
            if not all(isinstance(value, kind) for value, kind in zip(row, (str, str, str, float), strict=True)):
                raise HybridError(f"{str(self._path)!r} is damaged: a correction is {row!r:.200}. Copy it again.")
        return [Correction(*row) for row in rows]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self._path, timeout=10.0, isolation_level="IMMEDIATE")) as file, file:
                file.execute("PRAGMA journal_mode = WAL")
                file.execute("PRAGMA synchronous = NORMAL")  # a kill loses nothing; a power cut, a second
                file.execute(
                    "CREATE TABLE IF NOT EXISTS feedback "
                    "(id TEXT, label TEXT, source TEXT, at REAL, PRIMARY KEY (id, source))"
                )
                yield file
        except sqlite3.Error as error:
            raise HybridError(f"{str(self._path)!r} cannot be used: {error}.") from error
