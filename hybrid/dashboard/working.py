"""Working: long work beside the page, a few at once in the order in which it was asked for, with a way to stop it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

import streamlit as st

from hybrid.dashboard import wording
from hybrid.dashboard.inert import inert
from hybrid.data.limits import JOBS
from hybrid.errors import HybridError
from hybrid.routing.engine import Policy
from hybrid.study.evidence import Progress
from hybrid.study.study import Study
from hybrid.tuning import Goal, Recommendation
from hybrid.tuning import Progress as Searching

_T = TypeVar("_T")
POLL = 0.1  # seconds between looks at long work
CANCEL_AFTER = 1.0  # seconds; before, the button would only flash


class Turns:
    """A line for long work: the first few run, whatever else waits behind them.

    Two people's fits at once leave a page that answers; twenty would not.
    """

    def __init__(self) -> None:
        self._line: list[object] = []
        self._moved = threading.Condition()

    @contextmanager
    def turn(self, waiting: Callable[[int], None], cancelled: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Wait for a turn, and hold it.

        Parameters
        ----------
        waiting
            Called with how many are before this one, until it is its turn; what it raises gives the place up.
        cancelled
            Whether it is wanted no more.

        Raises
        ------
        CancelledError
            If it was cancelled before its turn.
        """
        me, at_once = object(), JOBS.value()
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

    def _before(self, me: object, at_once: int) -> int:
        """Return how many must end before it is one's turn, after a look at whether that changes."""
        with self._moved:
            if self._line.index(me) >= at_once:
                self._moved.wait(POLL)
            return self._line.index(me) - at_once + 1


TURNS = Turns()  # of all sessions of this server


def said_of(before: int) -> str:
    """Return what somebody reads who waits."""
    return f"Waiting for {wording.plural(before, 'job')} of others on this server"


def run_cancellable(work: Callable[[Progress], _T], *, flag: str, key: str, doing: str) -> _T:
    """Run long work under a progress bar with a button that cancels it.

    The work runs in a thread of its own, when its turn has come. A click, on Cancel or anywhere, ends this run of the
    page at its next look at the thread; the work then stops at its next report, and the session keeps what it had.

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
    place = st.empty()
    done, cancelled = 0.0, threading.Event()

    def report(share: float, what: str) -> None:
        nonlocal done, doing
        if cancelled.is_set():
            raise CancelledError
        done, doing = min(share, 1.0), what

    def in_turn() -> _T:
        with TURNS.turn(lambda before: report(0.0, said_of(before))):
            return work(report)

    pool = ThreadPoolExecutor(1)
    job = pool.submit(in_turn)
    try:
        with place.container(horizontal=True, vertical_alignment="center"):
            bar = st.progress(0.0)
            cancel = st.empty()
        started = time.monotonic()
        while not wait((job,), timeout=POLL).done:
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


class Search:
    """A search for the best policy, in a thread that works on a copy and knows no screen; stopped, it keeps its best.

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
        self.cancelled = threading.Event()
        self.progress: Searching | None = None
        self.before = 0  # jobs of others
        self.problem: str | None = None
        self.found = found
        self._thread: threading.Thread | None = None
        if found is None:
            self._thread = threading.Thread(target=self._run, args=(study.aside(), goal, policies), daemon=True)
            self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def wait(self, seconds: float | None = None) -> None:
        """Return when the search is over, or after so many seconds."""
        if self._thread is not None:
            self._thread.join(seconds)

    def draw(self, doing: str, key: str) -> None:
        """Draw how far it is, anew twice a second, with a button that takes the best so far."""
        st.fragment(self._draw, run_every=5 * POLL)(doing, key)

    def _draw(self, doing: str, key: str) -> None:
        if not self.running:
            st.rerun()
        with st.container(border=True, horizontal=True, vertical_alignment="center", key=key):
            p, said = self.progress, f"{doing} …"
            if self.before:
                said = f"{said_of(self.before)} …"
            elif p is not None:
                said = f"{said} {p.done:,} ways of routing tried"
                if p.best is not None and p.cost_per_1000 < float("inf"):
                    cost = inert(wording.dollars(p.cost_per_1000))
                    said = f"{said}; best so far {wording.percent(p.accuracy)} right at {cost} per 1,000"
            st.progress(0.0 if p is None else min(1.0, p.seconds / self.seconds), said)
            st.button("Cancel", icon=":material/close:", key=f"{key}_cancel", on_click=self.cancelled.set)

    def _run(self, study: Study, goal: Goal | None, policies: Sequence[Policy] | None) -> None:
        try:
            with TURNS.turn(self._wait, self.cancelled.is_set):
                self.before = 0
                self.found = study.recommend(
                    goal, policies=policies, progress=self._report, cancel=self.cancelled.is_set, seconds=self.seconds
                )
        except HybridError as error:
            self.problem = str(error)
        except CancelledError:
            self.problem = "The search was stopped before it began."
        except Exception as error:  # a thread's error would be seen by nobody
            self.problem = f"The search failed: {error!r}."

    def _wait(self, before: int) -> None:
        self.before = before

    def _report(self, progress: Searching) -> None:
        self.progress = progress
