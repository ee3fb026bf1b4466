"""Admission: how many sessions a server takes, and how much memory; what those that left held is given back."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from pathlib import Path

import streamlit as st
from streamlit import config, runtime
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.uploaded_file_manager import UploadedFileRec

from hybrid.dashboard import state
from hybrid.data.limits import SERVER_MEMORY, SESSIONS, UPLOAD
from hybrid.study.worker import trim, warm

VISITOR = "visitor"  # in the session: its place among those that were let in
STATM = Path("/proc/self/statm")
AT_ONCE = 4  # uploads of the largest size that a session may hold unread, such as the files of a log
EVERY = 5.0  # seconds between looks at who has left
AWAY = 60.0  # seconds that a session whose tab is gone is kept, in case it comes back
AWAY_KEPT = 20.0  # where its project is on disk, which brings it back whenever it comes


class _Visitor:
    """A session that was let in; it is gone when the session's state is."""

    def __init__(self) -> None:
        ctx = get_script_run_ctx()
        self.session = "" if ctx is None else ctx.session_id
        self.is_kept = False  # its project
        self.left: float | None = None  # when it was first seen without a tab
        self.ended = False


_VISITORS: weakref.WeakSet[_Visitor] = weakref.WeakSet()


def admit() -> None:
    """Let a session in once, or say that the server is full and end the page; who is in stays in."""
    if VISITOR in st.session_state:
        st.session_state[VISITOR].is_kept = state.is_kept() and state.PROJECT in st.session_state
        return
    full = _full()
    if full:
        st.title("This server is full")
        st.error(f"{full} Nothing of yours is lost: try again in a minute.", icon=":material/groups:")
        st.button("Try again", icon=":material/refresh:", key="admit_again")
        st.stop()
    st.session_state[VISITOR] = visitor = _Visitor()
    _VISITORS.add(visitor)
    _sweep()


@st.cache_resource(show_spinner=False)
def _sweep() -> threading.Thread:
    """Start what gives memory back, and a process for heavy work, once for a server.

    Streamlit would collect after every run of every page, which takes longer than the page. What is there by now stays,
    and need not be looked at by any collection.
    """
    gc.collect()
    gc.freeze()
    sweeper = threading.Thread(target=_give_back, daemon=True)
    sweeper.start()
    ctx = get_script_run_ctx()
    if runtime.exists() and ctx is not None:
        config.set_option("server.maxUploadSize", UPLOAD.value())  # what the browser sends is refused as it comes
        if isinstance(ctx.uploaded_file_mgr, MemoryUploadedFileManager):
            bound_uploads(ctx.uploaded_file_mgr)
        warm()
    return sweeper


def bound_uploads(held: MemoryUploadedFileManager) -> None:
    """Let a session hold so many uploads' worth of bytes: of more the oldest go. Streamlit takes any number."""
    add = held.add_file

    def add_and_forget(session_id: str, file: UploadedFileRec) -> None:
        add(session_id, file)
        files = list(held.file_storage.get(session_id, {}).values())
        over = sum(map(_weight, files)) - AT_ONCE * UPLOAD.value() * UPLOAD.scale
        for old in files[:-1]:
            if over <= 0:
                break
            held.remove_file(session_id, old.file_id)
            over -= _weight(old)

    held.add_file = add_and_forget  # type: ignore[method-assign]


def _weight(file: UploadedFileRec) -> int:
    return len(file.data) + len(file.name) + len(file.type) + 1_000


def _give_back() -> None:
    while True:
        time.sleep(EVERY)
        if runtime.exists() and end_those_who_left(runtime.get_instance(), time.monotonic()):
            time.sleep(1.0)  # the server's own thread ends them
            trim()


def end_those_who_left(server: runtime.Runtime, now: float) -> int:
    """End the sessions whose tab has been gone for long; returns how many.

    Streamlit would let go of one when the next leaves, which may be tomorrow.
    """
    ended = 0
    for visitor in list(_VISITORS):
        if server.is_active_session(visitor.session):
            visitor.left = None
        elif visitor.left is None:
            visitor.left = now
        elif now - visitor.left >= (AWAY_KEPT if visitor.is_kept else AWAY) and not visitor.ended:
            visitor.ended = True
            server.clear_user_info_for_session(visitor.session)  # closes it, as after signing out
            ended += 1
    return ended


def _full() -> str:
    """Return which limit is reached, and who can raise it; empty where none is."""
    if sum(not v.ended for v in list(_VISITORS)) >= (most := SESSIONS.value()):
        return f"{most:,} sessions are open, which is its limit; whoever runs it can raise {SESSIONS.variable}."
    used = memory()
    if used is not None and used >= (most := SERVER_MEMORY.value()) * SERVER_MEMORY.scale:
        return f"It uses {most:,} MB of memory, which is its limit; whoever runs it can raise {SERVER_MEMORY.variable}."
    return ""


def memory() -> int | None:
    """Return the bytes that this process holds; None where the system does not say."""
    try:
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        return None
