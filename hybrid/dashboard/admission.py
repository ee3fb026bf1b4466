"""Admission: how many sessions a server takes, and how much memory; a newcomer at the limit reads why."""

from __future__ import annotations

import os
import weakref
from pathlib import Path

import streamlit as st

from hybrid.data.limits import SERVER_MEMORY, SESSIONS

VISITOR = "visitor"  # in the session: its place among those that were let in
STATM = Path("/proc/self/statm")


class _Visitor:
    """A session that was let in; it is gone when the session's state is."""


_VISITORS: weakref.WeakSet[_Visitor] = weakref.WeakSet()


def admit() -> None:
    """Let a session in once, or say that the server is full and end the page; who is in stays in."""
    if VISITOR in st.session_state:
        return
    full = _full()
    if full:
        st.title("This server is full")
        st.error(f"{full} Nothing of yours is lost: try again in a minute.", icon=":material/groups:")
        st.button("Try again", icon=":material/refresh:", key="admit_again")
        st.stop()
    st.session_state[VISITOR] = visitor = _Visitor()
    _VISITORS.add(visitor)


def _full() -> str:
    """Return which limit is reached, and who can raise it; empty where none is."""
    if len(_VISITORS) >= (most := SESSIONS.value()):
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
