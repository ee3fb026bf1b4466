"""Database: one store on SQLite or PostgreSQL; refused where it cannot be trusted, and never begun anew unasked.

SQLAlchemy Core writes the tables and the statements for both, once each, and pools connections; the drivers run them,
because Core's own results would cost four times the driver's.
"""

from __future__ import annotations

import os
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Dialect, Engine, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateTable

from hybrid.errors import StoreError
from hybrid.store.cache_folder import VARIABLE as FOLDER_VARIABLE
from hybrid.store.cache_folder import folder

VARIABLE = "HYBRID_STORE"  # the URL of a team's store; unset: a SQLite file of this user
FILE = "answers.sqlite"
VERSION = 3  # of the tables; 1 had no failures and is not numbered in the file, 2 had no projects
CLAIMING, KEEPING = 0x48594252, 0x48594253  # names of the locks on PostgreSQL: who asks, and who keeps projects
_PATIENCE = 30  # seconds to wait for another process that writes

_HOW = f"{VARIABLE} is sqlite:////folder/store.sqlite or postgresql://user:password@host/database"
_Self = TypeVar("_Self", bound="Database")

TABLES = sa.MetaData()
_key = ("key", sa.Text)
answers = sa.Table(
    "answers",
    TABLES,
    sa.Column(*_key, primary_key=True),
    sa.Column("run", sa.Text, nullable=False),
    sa.Column("reply", sa.Text, nullable=False),
    sa.Column("cost", sa.Double, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sqlite_with_rowid=False,
)
claims = sa.Table(
    "claims",
    TABLES,
    sa.Column(*_key, primary_key=True),
    sa.Column("run", sa.Text, nullable=False),
    sa.Column("cost", sa.Double, nullable=False),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("pid", sa.BigInteger, nullable=False),
    sa.Column("until", sa.Double, nullable=False),
    sqlite_with_rowid=False,
)
batches = sa.Table(
    "batches",
    TABLES,
    sa.Column("token", sa.Text, primary_key=True),
    sa.Column("run", sa.Text, nullable=False),
    sa.Column("id", sa.Text),
    sa.Column("at", sa.Double, nullable=False),
    sqlite_with_rowid=False,
)
failures = sa.Table(
    "failures",
    TABLES,
    sa.Column(*_key, primary_key=True),
    sa.Column("run", sa.Text, nullable=False),
    sa.Column("reply", sa.Text, nullable=False),
    sa.Column("tries", sa.BigInteger, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sqlite_with_rowid=False,
)
runs = sa.Table(
    "runs",
    TABLES,
    sa.Column("run", sa.Text, primary_key=True),
    sa.Column("paid", sa.Double, nullable=False),
    sa.Column("lost", sa.Double, nullable=False),
    sqlite_with_rowid=False,
)
projects = sa.Table(
    "projects",
    TABLES,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text),  # who signed in; null: whoever has the link
    sa.Column("shared", sa.BigInteger, nullable=False),  # 1: whoever signs in and has the link may open it
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("saved", sa.Double, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)
files = sa.Table(
    "files",
    TABLES,
    sa.Column("project", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("part", sa.BigInteger, primary_key=True),
    sa.Column("piece", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)
pieces = sa.Table(
    "pieces",
    TABLES,
    sa.Column("hash", sa.Text, primary_key=True),
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
)
_version = sa.Table("hybrid_store", sa.MetaData(), sa.Column("version", sa.BigInteger, nullable=False))

_FIRST = {"answers", "claims", "runs"}  # tables of every version
INSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_BEGIN = {"sqlite": "BEGIN IMMEDIATE", "postgresql": "BEGIN"}
_BEGIN_READING = {"sqlite": "BEGIN", "postgresql": "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"}


def default_path() -> Path:
    """Return where the embedded store lies: in the cache folder."""
    return folder() / FILE


def default_place() -> str | Path:
    """Return the operator's store, or else this user's own.

    Raises
    ------
    StoreError
        If what the operator says is no URL.
    """
    said = os.environ.get(VARIABLE, "").strip()
    if said and "://" not in said:
        raise StoreError(f"The address of the store is no URL: {_HOW}.")
    return said or default_path()


def is_shared() -> bool:
    """Whether the operator has named a store of a team."""
    return bool(os.environ.get(VARIABLE, "").strip())


def named(place: str | Path | None = None) -> URL:
    """Return the address of a store: a file, a URL, or None for the operator's or else this user's own.

    Raises
    ------
    StoreError
        If the URL is none, or of a database that is not supported.
    """
    place = default_place() if place is None else place
    if isinstance(place, Path) or "://" not in place:
        return URL.create("sqlite", database=str(place))
    try:
        url = make_url(place)
    except (ArgumentError, ValueError):
        raise StoreError(f"The address of the store cannot be read: {_HOW}.") from None  # it may hold a password
    backend = {"postgres": "postgresql"}.get(url.get_backend_name(), url.get_backend_name())
    if backend not in _BEGIN or (backend == "sqlite" and (url.host or not url.database)):
        raise StoreError(f"The store cannot be on {url.get_backend_name()!r}: {_HOW}.")
    return url.set(drivername={"postgresql": "postgresql+psycopg"}.get(backend, backend))


@lru_cache(maxsize=64)
def _engine(url: URL, pid: int) -> Engine:
    """Return a process's own connections to a store: those of its parent are not for it."""
    if url.get_backend_name() == "sqlite":
        given = {"timeout": _PATIENCE, "isolation_level": None}
        return sa.create_engine(url, poolclass=NullPool, connect_args=given)  # so that a file that is replaced is seen
    try:
        return sa.create_engine(url, isolation_level="AUTOCOMMIT", pool_pre_ping=True, pool_size=4, max_overflow=60)
    except ModuleNotFoundError as error:
        raise StoreError(
            f'A store on PostgreSQL needs the driver {error.name!r}: pip install "hybrid-tuner[postgres]".'
        ) from error


@lru_cache(maxsize=2000)
def _compiled(statement: sa.sql.ClauseElement, dialect: Dialect) -> tuple[str, tuple[str, ...] | None, dict[str, Any]]:
    """Return a statement in a driver's words, the order of its values where they have no names, and its constants."""
    done: Any = statement.compile(dialect=dialect)
    order, constants = getattr(done, "positiontup", None), getattr(done, "params", None) or {}
    fixed = {name: value for name, value in constants.items() if value is not None}
    return str(done), None if order is None else tuple(order), fixed


class Database:
    """A store, opened; use it in the thread that opened it, and close it, or use it in a ``with``.

    Parameters
    ----------
    place
        A file, a URL, or None: see `named`.

    Raises
    ------
    StoreError
        If it cannot be opened, or is not a store that this version knows.
    """

    def __init__(self, place: str | Path | None = None) -> None:
        self.url = named(place)
        self.place = self.url.render_as_string(hide_password=True)
        self.kind = self.url.get_backend_name()
        engine = _engine(self.url, os.getpid())
        self._dialect = engine.dialect
        self._failures = (sqlite3.Error, OSError, SQLAlchemyError, engine.dialect.loaded_dbapi.Error)
        try:
            if self.kind == "sqlite":
                self._find_file()
            self._pooled = engine.raw_connection()
            driver: Any = self._pooled.driver_connection
            self._db = driver
            self._check()
            if self.kind == "sqlite":
                self._db.execute("PRAGMA synchronous=NORMAL")  # survives a killed process; a power cut: perhaps not
        except self._failures as error:
            raise self.unusable(_first_line(error)) from error

    @property
    def path(self) -> Path:
        """Of the file of an embedded store."""
        return Path(self.url.database or "")

    def _find_file(self) -> None:
        """Make a new store where there is no file; a file of length zero is damage, never a beginning."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self.path.exists():
            _begin(self.path)
        if not self.path.stat().st_size:
            raise self.unusable("it is empty, which no store ever is")

    def _check(self) -> None:
        """Bring an older store up to date; refuse one that is newer, or none."""
        version = self._version()
        if version == VERSION:
            return
        if self.kind == "sqlite":
            self._refuse(version)
            self._write_ahead()
        with self.alone(CLAIMING):  # whoever was first has done it
            version = self._version()
            if version != VERSION:
                self._refuse(version)
                _make(self)

    def _version(self) -> int | None:
        """Return the version of the tables; 0 where it is not numbered, None where there are none."""
        if self.kind == "sqlite":
            (found,) = self._db.execute("PRAGMA user_version").fetchone()
            return int(found)
        there = self._tables()
        if _version.name not in there:
            return 0 if there & set(TABLES.tables) else None
        row = self._db.execute("SELECT max(version) FROM hybrid_store").fetchone()
        return int(row[0] or 0)

    def _tables(self) -> set[str]:
        told = {
            "sqlite": "SELECT name FROM sqlite_master WHERE type = 'table'",
            "postgresql": "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()",
        }
        return {name for (name,) in self._db.execute(told[self.kind]).fetchall()}

    def _refuse(self, version: int | None) -> None:
        if version is None:
            return  # a database of PostgreSQL without tables is where one begins
        if version > VERSION:
            raise self.unusable(f"a newer version wrote it (tables {version}; this one knows {VERSION})")
        if not self._tables() >= _FIRST or (self.kind == "postgresql" and not version):
            raise self.unusable("it is a database of another kind, or part of its tables are gone")

    def unusable(self, why: str) -> StoreError:
        """Return the error that says what is wrong with the store, and the ways out."""
        if self.kind == "postgresql":
            return StoreError(
                # a query may hold a password too
                f"The team's store at {self.place.partition('?')[0]} cannot be used: {why}. Nothing in it was changed. "
                f"See that the server runs and that {VARIABLE} names it; update this program, restore the database "
                "from a copy, or name an empty database to begin anew, where every question is paid for again."
            )
        other = f"another file in {VARIABLE}" if is_shared() else f"another folder in the variable {FOLDER_VARIABLE}"
        return StoreError(
            f"The answers that were paid for are kept in {str(self.path)!r}, which cannot be used: {why}. Nothing in "
            "it was changed. Update this program, restore the file from a copy, or move it away to begin anew, where "
            f"every question is paid for again; or name {other}."
        )

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
        self._pooled.close()

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def run(self, statement: sa.sql.ClauseElement, **values: Any) -> Any:
        """Run a statement, and return the driver's cursor.

        Raises
        ------
        StoreError
            If the store does not do it: damaged pages, a full disk, a server that is gone.
        """
        text, order, fixed = _compiled(statement, self._dialect)
        if fixed:
            values = fixed | values
        try:
            return self._db.execute(text, values if order is None else [values[name] for name in order])
        except self._failures as error:
            raise self.unusable(_first_line(error)) from error

    def run_many(self, statement: sa.sql.ClauseElement, rows: Iterable[Mapping[str, Any]]) -> None:
        """Run a statement on each row of values."""
        text, order, _ = _compiled(statement, self._dialect)
        given = [row if order is None else [row[name] for name in order] for row in rows]
        try:
            self._db.cursor().executemany(text, given)
        except self._failures as error:
            raise self.unusable(_first_line(error)) from error

    def reading(self) -> AbstractContextManager[None]:
        """Read all of it as it is at one moment."""
        return self._transaction(_BEGIN_READING[self.kind])

    def writing(self) -> AbstractContextManager[None]:
        """Do all of it or nothing."""
        return self._transaction(_BEGIN[self.kind])

    def alone(self, lock: int) -> AbstractContextManager[None]:
        """Do all of it or nothing, while no other does something alone under the same lock."""
        return self._transaction(_BEGIN[self.kind], lock)

    @contextmanager
    def _transaction(self, begin: str, lock: int | None = None) -> Iterator[None]:
        self._say(begin)
        try:
            if lock is not None and self.kind == "postgresql":  # SQLite has one writer at a time anyway
                self._say(f"SELECT pg_advisory_xact_lock({lock})")
            yield
        except BaseException:
            with suppress(*self._failures):  # a full disk, or a server that is gone, has ended it already
                self._db.execute("ROLLBACK")
            raise
        try:
            self._say("COMMIT")
        except StoreError:
            with suppress(*self._failures):
                self._db.execute("ROLLBACK")
            raise

    def _say(self, words: str) -> None:
        try:
            self._db.execute(words)
        except self._failures as error:
            raise self.unusable(_first_line(error)) from error


def _make(store: Database) -> None:
    """Make the tables that are not there yet, and number them."""
    for table in TABLES.sorted_tables:
        store.run(CreateTable(table, if_not_exists=True))
    if store.kind == "sqlite":
        store.run(sa.text(f"PRAGMA user_version = {VERSION}"))
        return
    store.run(CreateTable(_version, if_not_exists=True))
    store.run(sa.delete(_version))
    store.run(sa.insert(_version), version=VERSION)


def _begin(path: Path) -> None:
    """Make a new store whole before it has its name: a file of length zero is then always damage, never a beginning."""
    made = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        db = sqlite3.connect(made)
        db.execute("PRAGMA journal_mode=WAL")
        for table in TABLES.sorted_tables:
            db.execute(str(CreateTable(table).compile(dialect=sqlite.dialect())))
        db.execute(f"PRAGMA user_version = {VERSION}")
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


def _first_line(error: BaseException) -> str:
    """Return what a driver says, without the statement that SQLAlchemy adds."""
    said = str(getattr(error, "orig", None) or error).strip()
    return said.splitlines()[0].rstrip(".") if said else type(error).__name__


_MANY = 512  # keys in one query
_NAMES = tuple(f"k{i}" for i in range(_MANY))


def in_parts(keys: Sequence[str]) -> Iterator[dict[str, str]]:
    """Yield keys as the values of `among`, the last repeated, so that there are few statements to write."""
    for start in range(0, len(keys), _MANY):
        part = list(keys[start : start + _MANY])
        size = 1 << (len(part) - 1).bit_length()
        yield dict(zip(_NAMES[:size], part + part[-1:] * (size - len(part)), strict=True))


@lru_cache(maxsize=64)
def among(column: sa.ColumnElement[str], size: int) -> sa.ColumnElement[bool]:
    """Return whether a column is among that many keys."""
    return column.in_([sa.bindparam(name) for name in _NAMES[:size]])
