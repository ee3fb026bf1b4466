"""Working: long work beside the page, a few at once in the order in which it was asked for, with a way to stop it.

What is heavy is done by a process of its own, see `hybrid.study.worker`; a thread here waits for it.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import streamlit as st
from streamlit import runtime
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.uploaded_file_manager import UploadedFile, UploadedFileRec

from hybrid.dashboard import login, wording
from hybrid.dashboard.inert import inert
from hybrid.data.apart import read_apart
from hybrid.data.limits import JOBS
from hybrid.data.read import Read
from hybrid.errors import HybridError
from hybrid.routing.engine import Policy
from hybrid.study import worker
from hybrid.study.evidence import Progress
from hybrid.study.study import Study
from hybrid.tuning import Goal, Recommendation
from hybrid.tuning import Progress as Searching

_T = TypeVar("_T")
POLL = 0.1  # seconds between looks at long work
GONE_AFTER = 15.0  # seconds without a connection after which a tab counts as closed; a reload takes less
CANCEL_AFTER = 1.0  # seconds; before, the button would only flash


class Turns:
    """A line for long work: the first few run, whatever else waits behind them; one at a time of each user's.

    Two people's fits at once leave a page that answers; twenty would not.
    """

    def __init__(self) -> None:
        self._line: list[tuple[object, str]] = []  # each with whose it is
        self._moved = threading.Condition()

    @contextmanager
    def turn(
        self, whose: str, waiting: Callable[[int], None], cancelled: Callable[[], bool] = lambda: False
    ) -> Iterator[None]:
        """Wait for a turn, and hold it.

        Parameters
        ----------
        whose
            Tells users apart: who has work under way waits for its end, whatever turns are free.
        waiting
            Called with how many are before this one, until it is its turn; what it raises gives the place up.
        cancelled
            Whether it is wanted no more.

        Raises
        ------
        CancelledError
            If it was cancelled before its turn.
        """
        me, at_once = (object(), whose), JOBS.value()
        with self._moved:
            self._line.append(me)
        try:
            while (before := self._before(me, at_once)) > 0:
                if cancelled():
                    raise CancelledError
                waiting(before)
            yield
        finally:
            with self._moved:
                self._line.remove(me)
                self._moved.notify_all()

    def _before(self, me: tuple[object, str], at_once: int) -> int:
        """Return how many must end before it is one's turn, after a look at whether that changes."""
        with self._moved:
            if self._ahead(me, at_once):
                self._moved.wait(POLL)
            return self._ahead(me, at_once)

    def _ahead(self, me: tuple[object, str], at_once: int) -> int:
        """Of each user the first is in the line proper; one's own second has to see its first end."""
        before = self._line[: self._line.index(me)]
        others = len({whose for _, whose in before} - {me[1]}) - at_once + 1
        mine = sum(whose == me[1] for _, whose in before)
        return max(others, 0) + mine


TURNS = Turns()  # of all sessions of this server


def said_of(before: int) -> str:
    """Return what somebody reads who waits."""
    return f"Waiting for {wording.plural(before, 'job')} on this server"


def whose() -> str:
    """Return what tells users apart: who signed in, else the session."""
    ctx = get_script_run_ctx()
    return login.user() or ("" if ctx is None else ctx.session_id)


class Tab:
    """The browser's tab of a session, and whether it was closed: what works for it then stops."""

    def __init__(self) -> None:
        ctx = get_script_run_ctx()
        self.session = None if ctx is None or not runtime.exists() else ctx.session_id
        self._seen = time.monotonic()

    @property
    def gone(self) -> bool:
        """Whether it has not been connected for a while."""
        here = self.session is None or not runtime.exists()  # without a server nobody leaves
        if here or runtime.get_instance().is_active_session(str(self.session)):
            self._seen = time.monotonic()
        return time.monotonic() - self._seen > GONE_AFTER


def read(name: str, content: bytes, *, header: bool | None = None, sheet: str | None = None) -> Read:
    """Read an upload, as `hybrid.data.apart.read_apart` does; what is read for a tab that is closed is given up."""
    tab = Tab()
    try:
        return read_apart(name, content, header=header, sheet=sheet, stopped=lambda: tab.gone)
    except CancelledError:
        st.stop()


def read_once(file: UploadedFile, key: str, *, header: bool | None = None, sheet: str | None = None) -> Read:
    """Read an upload as `read` does, and not again when the page runs again; nor is what was refused.

    Parameters
    ----------
    key
        Where in the session what came of it is held.

    Raises
    ------
    HybridError
        Why it was refused.
    """
    wanted = (file.file_id, header, sheet)
    before, found = st.session_state.get(key, (None, None))
    is_known = isinstance(found, Read) and before[0] == file.file_id and found.is_with(header=header, sheet=sheet)
    if not is_known and before != wanted:
        try:
            with st.spinner(f"Reading {inert(file.name)} …"):
                found = read(file.name, file.getvalue(), header=header, sheet=sheet)
            if found.headed and header is None and len(found.sheets) < 2:
                let_go(file)
        except HybridError as error:
            found = error.with_traceback(None)
        st.session_state[key] = wanted, found
    if isinstance(found, HybridError):
        raise found
    assert isinstance(found, Read)
    return found


def let_go(file: UploadedFile) -> None:
    """Let go of the bytes of an upload that need not be read again: Streamlit holds them until the session ends."""
    ctx = get_script_run_ctx()
    if ctx is not None and isinstance(ctx.uploaded_file_mgr, MemoryUploadedFileManager):
        ctx.uploaded_file_mgr.add_file(ctx.session_id, UploadedFileRec(file.file_id, file.name, file.type, b""))


def run_cancellable(work: Callable[[Progress], _T], *, flag: str, key: str, doing: str) -> _T:
    """Run long work under a progress bar with a button that cancels it.

    The work runs in a thread of its own, when its turn has come. A click, on Cancel or anywhere, ends this run of the
    page at its next look at the thread; the work then stops at its next report, and the session keeps what it had. So
    it does when the tab is closed.

    Parameters
    ----------
    flag
        Stands in the session's state while the work runs; still there in the next run of a page, it was stopped.
    key
        Of the button.
    doing
        What the bar says until the first report.

    Raises
    ------
    HybridError
        What the work raised.
    """
    st.session_state[flag] = True
    place, tab, user = st.empty(), Tab(), whose()
    done, cancelled = 0.0, threading.Event()

    def report(share: float, what: str) -> None:
        nonlocal done, doing
        if cancelled.is_set():
            raise CancelledError
        done, doing = min(share, 1.0), what

    first = doing

    def in_turn() -> _T:
        with TURNS.turn(user, lambda before: report(0.0, said_of(before))):
            report(0.0, first)  # it waits no more
            return work(report)

    pool = ThreadPoolExecutor(1)
    job = pool.submit(in_turn)
    try:
        with place.container(horizontal=True, vertical_alignment="center"):
            bar = st.progress(0.0)
            cancel = st.empty()
        started = time.monotonic()
        while not wait((job,), timeout=POLL).done:
            if tab.gone:
                st.stop()
            bar.progress(done, f"{inert(doing)} …")
            if time.monotonic() - started > CANCEL_AFTER:
                with cancel:
                    st.button("Cancel", icon=":material/close:", key=key)
                started = float("inf")
    finally:
        cancelled.set()
        pool.shutdown(wait=False)
    del st.session_state[flag]  # where this is not reached, the next run says so
    place.empty()
    return job.result()


def stop_all() -> None:
    """Let what goes on beside this session's page end with what it has: it loads other data, and would wait for it."""
    here = Tab().session
    for one in list(_BESIDE):
        if one.tab.session == here:
            one.cancelled.set()


class Beside(Generic[_T]):
    """Work that goes on beside the page, in a process of its own, when its turn has come.

    Parameters
    ----------
    work
        See `hybrid.study.worker`; None: what is found is known already.
    what
        What it is called where it is stopped or fails.
    grace
        Seconds that it has for its best so far once it is stopped.
    """

    def __init__(
        self, work: worker.Work[_T] | None, *, what: str, grace: float = worker.GRACE, found: _T | None = None
    ) -> None:
        self.tab, self.cancelled = Tab(), threading.Event()
        self.before = 0  # jobs that have to end first
        self.problem: str | None = None
        self.found = found
        self._what, self._grace = what, grace
        self._thread: threading.Thread | None = None
        if work is not None:
            _BESIDE.add(self)
            self._thread = threading.Thread(target=self._run, args=(work, whose()), daemon=True)
            self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def wait(self, seconds: float | None = None) -> None:
        """Return when it is over, or after so many seconds."""
        if self._thread is not None:
            self._thread.join(seconds)

    def draw(self, doing: str, key: str) -> None:
        """Draw how far it is, anew twice a second, with a button that stops it."""
        st.fragment(self._draw, run_every=5 * POLL)(doing, key)

    def _draw(self, doing: str, key: str) -> None:
        if not self.running:
            st.rerun()
        with st.container(border=True, horizontal=True, vertical_alignment="center", key=key):
            done, said = self._far(f"{doing} …")
            st.progress(done, f"{said_of(self.before)} …" if self.before else said)
            st.button("Cancel", icon=":material/close:", key=f"{key}_cancel", on_click=self.cancelled.set)

    def _far(self, said: str) -> tuple[float, str]:
        """Return the share that is done, and what is said of it."""
        return 0.0, said

    def _run(self, work: worker.Work[_T], user: str) -> None:
        def stopped() -> bool:
            return self.cancelled.is_set() or self.tab.gone

        try:
            with TURNS.turn(user, self._wait, stopped):
                self.before = 0
                self.found = worker.apart(work, report=self._report, stopped=stopped, grace=self._grace)
        except HybridError as error:
            self.problem = str(error)
        except CancelledError:
            self.problem = f"The {self._what} was stopped before it had found anything."
        except Exception as error:  # a thread's error would be seen by nobody
            self.problem = f"The {self._what} failed: {error!r}."

    def _wait(self, before: int) -> None:
        self.before = before

    def _report(self, *news: Any) -> None:
        """Take what the work says of itself."""


class Search(Beside[Recommendation]):
    """A search for the best policy, which works on a copy; stopped, it keeps its best.

    Parameters
    ----------
    goal, policies
        As `Study.recommend` takes them.
    seconds
        That it may take.
    found
        What is known already; then nothing is searched for.
    """

    def __init__(
        self,
        study: Study,
        goal: Goal | None = None,
        *,
        policies: Sequence[Policy] | None = None,
        seconds: float,
        found: Recommendation | None = None,
    ) -> None:
        self.token, self.terms = study.token, study.terms
        self.seconds = seconds
        self.progress: Searching | None = None
        work = None if found is not None else worker.searching(study, goal, policies=policies, seconds=seconds)
        super().__init__(work, what="search", found=found)

    def _far(self, said: str) -> tuple[float, str]:
        p = self.progress
        if p is None:
            return 0.0, said
        said = f"{said} {p.done:,} ways of routing tried"
        if p.best is not None and p.cost_per_1000 < float("inf"):
            cost = inert(wording.dollars(p.cost_per_1000))
            said = f"{said}; best so far {wording.percent(p.accuracy)} right at {cost} per 1,000"
        return min(1.0, p.seconds / self.seconds), said

    def _report(self, *news: Any) -> None:
        (self.progress,) = news


_BESIDE: weakref.WeakSet[Beside[Any]] = weakref.WeakSet()  # of all sessions
