"""Worker: a process that does what is heavy for a server, so that the server's own threads answer at once.

A fit or a search holds Python's lock for seconds, and every thread beside it waits. A worker has a lock of its own and
the lower priority. It is given one piece of work after the other, with all that it needs, and ends with its server.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from hybrid.data.apart import NICE, environment
from hybrid.data.limits import MEMORY
from hybrid.errors import HybridError, StudyError
from hybrid.logs import structure

if TYPE_CHECKING:
    from hybrid.data.several import SeveralLabels
    from hybrid.routing.engine import Policy
    from hybrid.study.evidence import Recording
    from hybrid.study.questions import Questions
    from hybrid.study.study import Study
    from hybrid.study.watching import Observed
    from hybrid.tiers.embedders import Embedder
    from hybrid.tiers.gate import KeyWords
    from hybrid.tiers.rules import Edits
    from hybrid.tuning import Goal, Recommendation

_T = TypeVar("_T")
Report = Callable[..., None]
Stopped = Callable[[], bool]
Work = Callable[[Report, Stopped], _T]

EVERY = 0.1  # seconds between two reports of a worker, and between two looks at whether its work is still wanted
GRACE = 10.0  # seconds that a worker has to come to its best so far
_DONE, _REFUSED, _FAILED, _SAID = range(4)
_LOG = logging.getLogger(__name__)


def apart(
    work: Work[_T], *, report: Report | None = None, stopped: Stopped = lambda: False, grace: float = GRACE
) -> _T:
    """Do work in a process of its own.

    Parameters
    ----------
    work
        What can be pickled, as a `functools.partial` of a module's function; called there with a function that reports
        and one that says whether to come to an end.
    report
        Called here with what the work reported last, time and again; what it raises ends the process.
    stopped
        Whether the work should come to an end with what it has.
    grace
        Seconds that it has for that before its process is ended; 0 for work that has nothing to show until it is done.

    Raises
    ------
    HybridError
        What the work raised; or `StudyError` where its process failed.
    CancelledError
        If it did not come to an end.

    Examples
    --------
    >>> from functools import partial
    >>> said = []
    >>> apart(partial(_example, 20), report=said.append), said[-1]
    (40, 'doubling')
    """
    worker = _taken()
    try:
        kind, found = worker.do(work, report or (lambda *_: None), stopped, grace)
    except BaseException:
        worker.end()
        raise
    _put_back(worker)
    if kind == _REFUSED:
        raise found
    if kind == _FAILED:
        raise StudyError(f"The work failed: {found}. Whoever runs this finds more in its log.")
    result: _T = found
    return result


def _example(number: int, report: Report, stopped: Stopped) -> int:
    while not stopped() and number < 40:
        report("doubling")
        time.sleep(2 * EVERY)
        number *= 2
    return number


class _Worker:
    """The process, as its server sees it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hybrid.study.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
        )

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def do(self, work: Work[_T], report: Report, stopped: Stopped, grace: float) -> tuple[int, Any]:
        """Have work done; returns how it ended, and what came of it."""
        heard: queue.SimpleQueue[tuple[int, Any] | None] = queue.SimpleQueue()
        threading.Thread(target=self._listen, args=(heard,), daemon=True).start()
        self._say(work)
        news: tuple[Any, ...] | None = None
        asked: float | None = None  # when it was asked to come to an end
        while True:
            try:
                said = heard.get(timeout=EVERY)
            except queue.Empty:
                said = (_SAID, news)
            if said is None:
                self._process.wait(GRACE)
                raise StudyError(
                    f"The process that did this ended by itself ({self._process.returncode}), perhaps for want of "
                    "memory. Try again, or with fewer rows."
                )
            kind, found = said
            if kind != _SAID:
                return kind, found
            news = found
            if news is not None:
                report(*news)
            if asked is None and stopped():
                asked = time.monotonic()
                self._say(None)
            if asked is not None and time.monotonic() - asked > grace:
                raise CancelledError

    def end(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):  # what was on its way is lost
                    pipe.close()

    def _say(self, what: Any) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # who listens hears that it has ended
            _put(self._process.stdin, what)

    def _listen(self, heard: queue.SimpleQueue[tuple[int, Any] | None]) -> None:
        assert self._process.stdout is not None
        try:
            while True:
                said = pickle.load(self._process.stdout)
                heard.put(said)
                if said[0] != _SAID:
                    return
        except (EOFError, OSError, ValueError, pickle.UnpicklingError):
            heard.put(None)


def _put(pipe: Any, what: Any) -> None:
    pickle.dump(what, pipe, protocol=5)
    pipe.flush()


_IDLE: list[_Worker] = []  # one at most: the next work need not wait for its imports
_LOCK = threading.Lock()


def warm() -> None:
    """Have a worker ready for the first work."""
    _put_back(_taken())


def _taken() -> _Worker:
    with _LOCK:
        while _IDLE:
            worker = _IDLE.pop()
            if worker.alive:
                return worker
            worker.end()
    return _Worker()


def _put_back(worker: _Worker) -> None:
    with _LOCK:
        if not _IDLE:
            _IDLE.append(worker)
            return
    worker.end()


def trim() -> None:
    """Hand free memory back to the system, where its C library can be asked to; else it does so when it likes."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError, TypeError):
        return


# what is heavy


def fit(
    study: Study,
    report: Report,
    stopped: Stopped,
    *,
    embedder: Embedder | None,
    edits: Edits | None,
    key_words: KeyWords | None,
    public: bool,
) -> tuple[Recording, float]:
    """Fit a study; returns what `Study.keep` takes, and the seconds that it took.

    Parameters
    ----------
    public
        Whether servers of the internet alone may be asked for embeddings.
    """
    _go_out(public)
    study.fit(embedder=embedder, edits=edits, key_words=key_words, progress=report)
    return study.evidence, study.seconds


def searching(
    study: Study, goal: Goal | None, *, policies: Sequence[Policy] | None, seconds: float
) -> Work[Recommendation]:
    """Return the search for the best policy of a fitted study, as it is now, as work."""
    aside = study.aside()
    aside.table = aside.table.iloc[:0]  # which a search does not read
    return partial(_search, aside, goal=goal, policies=policies, seconds=seconds)


def _search(
    study: Study,
    report: Report,
    stopped: Stopped,
    *,
    goal: Goal | None,
    policies: Sequence[Policy] | None,
    seconds: float,
) -> Recommendation:
    return study.recommend(goal, policies=policies, progress=report, cancel=stopped, seconds=seconds)


def whole(call: Callable[[], _T]) -> Work[_T]:
    """Return a call as work: it says nothing of itself, and has nothing to show until it is done."""
    return partial(_whole, call)


def _whole(call: Callable[[], _T], report: Report, stopped: Stopped) -> _T:
    return call()


def ask(
    study: Study,
    report: Report,
    stopped: Stopped,
    *,
    several: SeveralLabels | None,
    names: Sequence[str],
    embedder: Embedder | None,
    public: bool,
) -> tuple[Questions, bytes, str]:
    """Fit a study for each label; returns them, their bundles, and why these cannot be packed."""
    from hybrid.study.questions import ask_all

    _go_out(public)
    found = ask_all(study, several, names=names, embedder=embedder, progress=report)
    report(1.0, "Packing the bundles")
    try:
        return found, found.export(), ""
    except HybridError as error:
        return found, b"", str(error)


def look(
    folder: str, bundles: Sequence[str], report: Report, stopped: Stopped, *, alpha: float, megabytes: int
) -> Observed:
    """Read a log and bundles that a stranger sent, see `hybrid.study.watching.observe`, within so much memory."""
    from hybrid.study.watching import observe

    with _at_most(megabytes << 20):
        try:
            return observe(folder, bundles, alpha=alpha, strange=True)
        except MemoryError:
            raise StudyError(
                f"The log and its bundles take more than {megabytes:,} MB of memory: send fewer of its files. Whoever "
                f"runs this can raise the limit with {MEMORY.variable}."
            ) from None


@contextmanager
def _at_most(size: int) -> Iterator[None]:
    """Bound the memory of this process for a while, where the system can."""
    try:
        import resource
    except ImportError:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _go_out(public: bool) -> None:
    from hybrid.tiers.servers import only_public

    only_public((lambda url: False) if public else None)


# the process itself


def _main() -> None:
    structure()
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as out:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints does not come between
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: the server ends, and this with it
        if hasattr(os, "nice"):
            os.nice(NICE)
        given: queue.SimpleQueue[tuple[Work[Any], threading.Event]] = queue.SimpleQueue()
        threading.Thread(target=_hear, args=(given,), daemon=True).start()
        if given.empty():
            import hybrid.study.study  # noqa: F401  (ready before it is asked for)
        while True:
            work, stop = given.get()
            _put(out, _done(work, _Reporting(out), stop.is_set))
            del work, stop
            trim()


def _hear(given: queue.SimpleQueue[tuple[Work[Any], threading.Event]]) -> None:
    """Take what the server says: work, or None to come to an end with it; without a server the process ends."""
    stop = threading.Event()
    while True:
        try:
            said = pickle.load(sys.stdin.buffer)
        except EOFError:
            os._exit(0)
        except Exception:
            _LOG.exception("Work cannot be taken.")
            os._exit(1)
        if said is None:
            stop.set()
        else:
            stop = threading.Event()
            given.put((said, stop))


class _Reporting:
    """Tells the server what is reported, but not more often than it looks; from any thread."""

    def __init__(self, out: BinaryIO) -> None:
        self._out, self._last, self._one = out, 0.0, threading.Lock()

    def __call__(self, *news: Any) -> None:
        with self._one:
            if time.monotonic() - self._last > EVERY:
                self._last = time.monotonic()
                _put(self._out, (_SAID, news))


def _done(work: Work[Any], report: Report, stopped: Stopped) -> tuple[int, Any]:
    try:
        return _DONE, work(report, stopped)
    except HybridError as error:
        return _REFUSED, error.with_traceback(None)
    except Exception as error:
        _LOG.exception("Work failed.")
        return _FAILED, type(error).__name__


if __name__ == "__main__":
    _main()
