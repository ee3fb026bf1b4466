"""Admission: how many sessions a server takes, and how much memory; what those that left held is given back."""

from __future__ import annotations

import os
import threading
import time
import weakref
from pathlib import Path

import streamlit as st
from streamlit import runtime

from hybrid.data.limits import SERVER_MEMORY, SESSIONS
from hybrid.study.worker import trim, warm

VISITOR = "visitor"  # in the session: its place among those that were let in
STATM = Path("/proc/self/statm")
EVERY = 30.0  # seconds between looks at who has left


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
    _sweep()


@st.cache_resource(show_spinner=False)
def _sweep() -> threading.Thread:
    """Start what gives memory back, and a process for heavy work, once for a server.

    Streamlit would collect after every run of every page, which takes longer than the page.
    """
    sweeper = threading.Thread(target=_give_back, daemon=True)
    sweeper.start()
    if runtime.exists():
        warm()
    return sweeper


def _give_back() -> None:
    before = len(_VISITORS)
    while True:
        time.sleep(EVERY)
        now = len(_VISITORS)
        if now < before:
            trim()
        before = now


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
