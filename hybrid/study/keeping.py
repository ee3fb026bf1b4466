"""Keeping: where a dashboard's projects lie, and whose they are: folders of one user, or the store of a team.

With a store, a project belongs to who signed in when it was first kept; without sign-in, to whoever has its id. Folders
know no owners. What was kept in a folder before there was a store still opens.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

from hybrid.errors import StudyError
from hybrid.store.database import is_shared
from hybrid.store.projects import ProjectStore, Row
from hybrid.study import project
from hybrid.study.project import Kept
from hybrid.study.study import Study

OTHERS = "This project belongs to somebody else, who has not shared it: ask for that, or sign in as its owner."


def keep(study: Study, name: str, *, user: str | None = None) -> None:
    """Keep a study; what did not change since is not written again.

    Parameters
    ----------
    name
        Of the project, by `project.new_id`.
    user
        Who signed in.

    Raises
    ------
    HybridError
        If it belongs to somebody else, or cannot be written.
    """
    if not is_shared():
        project.save(study, project.folder_of(name))
        return
    with ProjectStore() as store:
        before = store.find(project.checked(name))
        if before is not None and before.owner not in (None, user):
            raise StudyError(OTHERS)
        data = project.data_name(study)
        state = json.dumps(project.plain_study(study, data))
        if before is not None and before.state == state:
            return
        row = Row(name, user, False, study.name, len(study.table), time.time(), state)
        known = before is not None and json.loads(before.state).get("data") == data
        store.write(row, None if known else _contents(study, data))


def _contents(study: Study, data: str) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory(prefix="hybrid-project-") as folder:
        project.write_data(study, Path(folder), data)
        return {path.name: path.read_bytes() for path in (Path(folder) / data).iterdir()}


def bring(name: str, *, user: str | None = None) -> tuple[Study, bool]:
    """Return a kept study, and whether it is the user's own to change: one that others shared is not.

    Raises
    ------
    HybridError
        If there is none, it belongs to somebody else and is not shared, or cannot be read.
    """
    project.checked(name)
    if not is_shared():
        return project.open_folder(project.folder_of(name)), True
    with ProjectStore() as store:
        found = store.find(name)
        if found is None:
            return project.open_folder(project.folder_of(name)), True
        own = found.owner in (None, user)
        if not own and not (found.shared and user is not None):
            raise StudyError(OTHERS)
        read = store.read(name)
    if read is None:
        raise StudyError(project.NONE)
    state = _state(read[0])
    with tempfile.TemporaryDirectory(prefix="hybrid-project-") as folder:
        for file, content in read[1].items():
            (Path(folder) / Path(file).name).write_bytes(content)
        return project.opened(state, Path(folder)), own


def _state(row: Row) -> dict[str, Any]:
    try:
        found = json.loads(row.state)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise StudyError(f"The project {row.name!r} is damaged: load its file again.")
    return found


def recent(most: int = 8, *, user: str | None = None) -> list[Kept]:
    """Return a user's projects, the latest first; without sign-in those of nobody."""
    if not is_shared():
        return project.recent(most)
    with ProjectStore() as store:
        return [Kept(r.id, r.name, r.rows, r.saved) for r in store.of(user, most)]


def forget(name: str, *, user: str | None = None) -> None:
    """Delete a project of the user's own and everything in it; no error where it is gone already.

    Raises
    ------
    StudyError
        If it belongs to somebody else.
    """
    if is_shared():
        with ProjectStore() as store:
            found = store.find(project.checked(name))
            if found is not None and found.owner not in (None, user):
                raise StudyError(OTHERS)
            store.drop(name)
    project.forget(name)


def is_open(name: str) -> bool:
    """Whether others who have the link may read a project."""
    with ProjectStore() as store:
        found = store.find(project.checked(name))
    return found is not None and found.shared


def share(name: str, *, user: str | None, shared: bool) -> None:
    """Let others who sign in and have the link read a project of the user's own, or no longer.

    Raises
    ------
    StudyError
        If it belongs to somebody else.
    """
    with ProjectStore() as store:
        found = store.find(project.checked(name))
        if found is None or found.owner != user:
            raise StudyError(OTHERS)
        store.share(name, shared=shared)
