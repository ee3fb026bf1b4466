"""Source: which log and which bundles the Production page looks at."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from functools import partial
from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from hybrid.dashboard import admission, state
from hybrid.dashboard.inert import inert
from hybrid.dashboard.working import run_cancellable
from hybrid.data.limits import MEMORY, SECONDS, UPLOAD
from hybrid.errors import HybridError
from hybrid.production.feedback import FILE as FEEDBACK
from hybrid.production.log import CURRENT
from hybrid.production.watching import YEARLY
from hybrid.study import worker
from hybrid.study.evidence import Progress
from hybrid.study.study import Study
from hybrid.study.traffic import simulated
from hybrid.study.watching import Observed, observe

SEEN = "production.seen"
Look = Callable[[], Observed]


def pick() -> Observed | None:
    """Draw where the log is, and return what it says; None before anything was looked at, or where that failed."""
    form = _local() if state.is_local() else _uploaded()
    if form is not None:
        st.session_state.pop(SEEN, None)
        try:
            with st.spinner("Reading the log …"):
                st.session_state[SEEN] = form()
        except HybridError as error:
            st.error(inert(error), icon=":material/error:")
    found: Observed | None = st.session_state.get(SEEN)
    return found


def _alarm(place: DeltaGenerator) -> float:
    shares = [0.01, 0.02, YEARLY, 0.1, 0.2]
    return place.selectbox(
        "False alarms, at most in",
        shares,
        shares.index(YEARLY),
        format_func=lambda share: f"{share:.0%} of the years",
        key="production.alarm",
        help="The chance that any of the four streams raises an alarm within a year although nothing has changed.",
    )


def _local() -> Look | None:
    with st.form("production.form", border=True):
        left, middle, right, last = st.columns([2, 2, 2, 1])
        log = left.text_input(
            "Log folder, or a server on this machine",
            key="production.log",
            placeholder="log/ or http://127.0.0.1:8000",
        )
        first = middle.text_input("Bundle that decided", key="production.bundle", placeholder="triage.zip")
        second = right.text_input("Second bundle, to compare (optional)", key="production.second")
        alarm = _alarm(last)
        pressed = st.form_submit_button("Look", type="primary", icon=":material/monitoring:")
    if not pressed:
        return None
    if not log.strip():
        st.info("Name the folder that `hybrid serve --log` writes to, or the server's address.")
        return None
    bundles = [path.strip() for path in (first, second) if path.strip()]
    return lambda: observe(log.strip(), bundles, alpha=alarm)


def _uploaded() -> Look | None:
    with st.form("production.form", border=True):
        left, right, last = st.columns([3, 3, 1])
        files = left.file_uploader(
            f"Files of the log: {CURRENT}, decisions-….parquet, {FEEDBACK}",
            ["sqlite", "parquet"],
            accept_multiple_files=True,
            key="production.files",
        )
        zips = right.file_uploader(
            "The bundle, or two to compare", ["zip"], accept_multiple_files=True, key="production.zips"
        )
        alarm = _alarm(last)
        pressed = st.form_submit_button("Look", type="primary", icon=":material/monitoring:")
    if not pressed:
        return None
    if len(st.session_state["production.files"]) > len(files) or len(st.session_state["production.zips"]) > len(zips):
        most = admission.AT_ONCE * UPLOAD.value()
        st.error(
            f"These are more than {most:,} MB, so the first were let go: send fewer files of the log. Whoever runs "
            f"this can raise the limit with {UPLOAD.variable}.",
            icon=":material/error:",
        )
        return None
    if not files or not zips:
        st.info("Upload the log's files and the bundle that decided.")
        return None

    def look() -> Observed:
        with tempfile.TemporaryDirectory() as folder:
            for number, file in enumerate(files):
                known = file.name in (CURRENT, FEEDBACK)
                (Path(folder) / (file.name if known else f"decisions-{number:09}.parquet")).write_bytes(file.getvalue())
            bundles = []
            for number, file in enumerate(zips[:2]):
                path = Path(folder) / f"{'AB'[number]}.zip"
                path.write_bytes(file.getvalue())
                bundles.append(str(path))
            ends = time.monotonic() + SECONDS.value()
            work = partial(worker.look, folder, bundles, alpha=alarm, megabytes=MEMORY.value())

            def apart(report: Progress) -> Observed:
                return worker.apart(work, report=report, stopped=lambda: time.monotonic() > ends)

            try:
                return run_cancellable(apart, flag="looking", key="cancel_look", doing="Reading the log")
            except CancelledError:
                raise HybridError(
                    f"The log and its bundles take more than {SECONDS.value():,} seconds to read: send fewer of its "
                    f"files. Whoever runs this can raise the limit with {SECONDS.variable}."
                ) from None

    return look


def explain(study: Study | None) -> None:
    """Say what is to be seen here, and how to get there."""
    st.markdown(
        "A served bundle keeps a log of its decisions. This page lays it beside the promise: escalation, cost and "
        "waiting time of each day, an alarm when confidence, classes or texts change, and, from the labels of a few "
        "reviewed decisions, whether the promise still holds and which threshold would keep it."
    )
    st.code(
        "hybrid serve triage.zip --log log/ --log-texts full --review-share 0.02\n"
        "hybrid watch log/ --bundle triage.zip",
        language="bash",
    )
    if study is None or study.policy is None:
        return
    if st.button("Show it on simulated traffic", icon=":material/science:", key="production.simulate"):
        try:
            with st.spinner("Making up sixty days …"):
                st.session_state[SEEN] = simulated(study, study.policy)
        except HybridError as error:
            st.error(inert(error), icon=":material/error:")
            return
        st.rerun()
