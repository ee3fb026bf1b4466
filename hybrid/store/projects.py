"""Project store: a project as a row, and its data in pieces by content, so that what is the same is kept once."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from hybrid.errors import StoreError
from hybrid.store.database import INSERT, KEEPING, Database, files, pieces, projects

PIECE = 8 * 2**20  # bytes, at most


@dataclass(frozen=True, slots=True)
class Row:
    """A project without its data.

    Parameters
    ----------
    owner
        Who it belongs to; None: to whoever has its id.
    shared
        Whether others who have its id may read it.
    saved
        Seconds since 1970.
    state
        JSON.
    """

    id: str
    owner: str | None
    shared: bool
    name: str
    rows: int
    saved: float
    state: str


class ProjectStore(Database):
    """The projects of a store, opened."""

    def find(self, project: str) -> Row | None:
        """Return a project; None where there is none."""
        row = self.run(_FIND, which=project).fetchone()
        return None if row is None else _row(row)

    def of(self, owner: str | None, most: int) -> list[Row]:
        """Return the projects of an owner, or those of none, the latest first, without what they hold."""
        found = self.run(_OF_NONE, most=most) if owner is None else self.run(_OF, whose=owner, most=most)
        return [_row((*row, "")) for row in found.fetchall()]

    def read(self, project: str) -> tuple[Row, dict[str, bytes]] | None:
        """Return a project and its files as they belong together; None where there is none.

        Raises
        ------
        StoreError
            If part of it is gone.
        """
        with self.reading():
            row = self.find(project)
            if row is None:
                return None
            contents: dict[str, list[bytes]] = {}
            for name, piece in self.run(_FILES, which=project).fetchall():
                found = self.run(_PIECE, which=piece).fetchone()
                if found is None or _hash(found[0]) != piece:
                    raise StoreError(f"Part of the project {row.name!r} is damaged in the store: load its file again.")
                contents.setdefault(name, []).append(bytes(found[0]))
        return row, {name: b"".join(parts) for name, parts in contents.items()}

    def write(self, row: Row, contents: Mapping[str, bytes] | None = None) -> None:
        """Keep a project; its owner, and whether it is shared, stay as they are where it is kept already.

        Parameters
        ----------
        contents
            Its files; None leaves them as they are.
        """
        with self.alone(KEEPING):
            values = {"owner": row.owner, "shared": int(row.shared), "name": row.name, "rows": row.rows}
            self.run(_keep(self.kind), id=row.id, **values, saved=row.saved, state=row.state)
            if contents is None:
                return
            before = self._drop_files(row.id)
            named = []
            for name, content in contents.items():
                for part, piece in enumerate(_parts(content)):
                    hashed = _hash(piece)
                    if self.run(_HAS, which=hashed).fetchone() is None:
                        self.run(_ADD_PIECE, hash=hashed, content=piece, at=time.time())
                    named.append({"project": row.id, "name": name, "part": part, "piece": hashed})
            self.run_many(_ADD_FILE, named)
            self._drop_pieces(before)

    def share(self, project: str, *, shared: bool) -> None:
        """Let others who have a project's id read it, or no longer."""
        with self.writing():
            self.run(_SHARE, which=project, now=int(shared))

    def drop(self, project: str) -> None:
        """Delete a project and everything that no other needs; no error where it is gone already."""
        with self.alone(KEEPING):
            before = self._drop_files(project)
            self.run(_DROP, which=project)
            self._drop_pieces(before)

    def _drop_files(self, project: str) -> set[str]:
        """Delete the names of a project's files; returns the pieces that they named."""
        before = {piece for _, piece in self.run(_FILES, which=project).fetchall()}
        self.run(_DROP_FILES, which=project)
        return before

    def _drop_pieces(self, hashes: set[str]) -> None:
        """Delete those pieces that no file names."""
        for one in sorted(hashes):
            self.run(_DROP_PIECE, which=one)


def _parts(content: bytes) -> Iterator[bytes]:
    for start in range(0, max(1, len(content)), PIECE):
        yield content[start : start + PIECE]


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _row(row: Sequence[Any]) -> Row:
    project, owner, shared, name, rows, saved, state = row
    return Row(project, owner, bool(shared), name, rows, saved, state)


def _is(column: sa.Column[Any], name: str) -> sa.ColumnElement[bool]:
    return column == sa.bindparam(name, type_=column.type)


_FIND = sa.select(projects).where(_is(projects.c.id, "which"))
_LISTED = sa.select(*(c for c in projects.c if c.name != "state")).order_by(projects.c.saved.desc())
_LATEST = _LISTED.limit(sa.bindparam("most", type_=sa.BigInteger))
_OF, _OF_NONE = _LATEST.where(_is(projects.c.owner, "whose")), _LATEST.where(projects.c.owner.is_(None))
_FILES = (
    sa.select(files.c.name, files.c.piece).where(_is(files.c.project, "which")).order_by(files.c.name, files.c.part)
)
_PIECE = sa.select(pieces.c.content).where(_is(pieces.c.hash, "which"))
_ADD_FILE = sa.insert(files)
_DROP_FILES = sa.delete(files).where(_is(files.c.project, "which"))
_DROP = sa.delete(projects).where(_is(projects.c.id, "which"))
_SHARE = sa.update(projects).where(_is(projects.c.id, "which")).values(shared=sa.bindparam("now", type_=sa.BigInteger))
_HAS = sa.select(pieces.c.hash).where(_is(pieces.c.hash, "which"))
_ADD_PIECE = sa.insert(pieces)
_DROP_PIECE = sa.delete(pieces).where(_is(pieces.c.hash, "which"), ~sa.exists().where(files.c.piece == pieces.c.hash))


@lru_cache
def _keep(kind: str) -> Any:
    project = INSERT[kind](projects)
    fresh = {name: project.excluded[name] for name in ("name", "rows", "saved", "state")}
    return project.on_conflict_do_update(index_elements=["id"], set_=fresh)
