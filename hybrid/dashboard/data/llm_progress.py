"""LLM progress: how many rows an LLM is asked about, at what cost, and how far its recording is."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from hybrid.dashboard import wording
from hybrid.dashboard.data import llm_session
from hybrid.dashboard.inert import inert
from hybrid.errors import HybridError
from hybrid.study.study import Study
from hybrid.tiers.llm import batch
from hybrid.tiers.llm.batch import SHARE_OF_PRICE
from hybrid.tiers.llm.client import MEANING
from hybrid.tiers.llm.questions import LLMSettings
from hybrid.tiers.llm.recording import PAUSED, RUNNING, Estimate, JobProgress, Questions

EVERY = 0.5  # seconds between looks at a recording
STATES = {
    "running": "Recording",
    "paused": "Paused",
    "stopping": "Waiting for the calls in flight",
    "done": "Done",
    "stopped": "Stopped",
    "cancelled": "Cancelled",
}


def draw_recording(study: Study, tier: LLMSettings, edited: LLMSettings | None) -> None:
    """Draw how many rows to ask about, what it will cost, the cap, and the recording under way."""
    job = llm_session.job()
    if job is not None and job.alive:
        st.fragment(_watch, run_every=EVERY)()
        return
    if edited is not None and edited != tier:
        st.info("Keep the changes above to record with them.", icon=":material/info:")
        return
    n_rows = study.dataset.n_rows
    left, middle, right = st.columns([1, 1, 2], vertical_alignment="bottom")
    n = left.number_input(
        "Rows to ask about",
        1,
        n_rows,
        llm_session.rows_of(study, tier.name),
        step=50,
        key=f"llm.n.{tier.name}",
        help="A sample, stratified by label and side of the split; a larger one holds the smaller.",
    )
    if n != llm_session.rows_of(study, tier.name):
        llm_session.ask_about(study, tier.name, int(n))
        if llm_session.sync(study):
            st.rerun()
    try:
        asked = llm_session.asked_about(study, tier, int(n))
        will, spent = llm_session.expected(asked)
    except HybridError as error:
        llm_session.show_error(error)
        return
    _draw_damaged(asked, will)
    cap = middle.number_input(
        "Cap, USD",
        0.0,
        1e6,
        1.0,
        key=f"llm.cap.{tier.name}",
        format="%g",
        help="For this tier on this data, earlier recordings included. Not exceeded by more than the calls in flight.",
    )
    basis = "from the answers so far" if will.measured else "at most, by the lengths of the prompts"
    right.caption(
        (
            f"**{will.answered:,}** answered, **{will.to_ask:,}** to ask: about **{wording.dollars(will.cost)}** "
            f"({basis}); {wording.dollars(spent)} spent so far."
        ).replace("$", r"\$")
    )
    if job is not None and job.questions.settings.name == tier.name:
        _show_progress(job.progress())
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button(
            "Record" if not will.answered else "Record the rest",
            icon=":material/fiber_manual_record:",
            key="llm.record",
            disabled=not will.to_ask,
        ):
            llm_session.start(asked, llm_session.key_of(tier), float(cap))
            st.rerun()
        with st.popover("As a batch", icon=":material/schedule:"):
            _draw_batch(asked, tier, float(cap), will)


def _draw_damaged(asked: Questions, will: Estimate) -> None:
    """Say how many kept answers cannot be read, and how many questions failed; offer to ask again."""
    if will.failed:
        st.caption(f"{will.failed:,} questions got no answer and count as failed, as they would in production.")
    if not will.damaged:
        return
    st.warning(
        f"{will.damaged:,} kept answers cannot be read: they are damaged, or a newer version wrote them. They count as "
        "failed. Update this program, or ask them again, which is paid for again.",
        icon=":material/warning:",
    )
    if st.button("Ask them again", key="llm.forget"):
        llm_session.forget_damaged_of(asked)
        st.rerun()


def _draw_batch(asked: Questions, tier: LLMSettings, cap: float, will: Estimate) -> None:
    """Draw the way through the server's Batch API: send, look, cancel; what it says stays until the next press."""
    st.caption(
        f"OpenAI and some others answer a batch within a day at {SHARE_OF_PRICE:.0%} of the price. One question is "
        "asked at once, to learn what the server takes. You may close the page: the batch is found again, and what was "
        "sent is not asked otherwise meanwhile. Its answers get the median latency of the others."
    )
    waiting = batch.under_way(asked)
    key, said = llm_session.key_of(tier), f"llm.batch.{tier.name}"
    st.write(f"{waiting} {'batch' if waiting == 1 else 'batches'} under way")
    send = st.button(
        f"Send {will.to_ask:,} questions, about {wording.dollars(SHARE_OF_PRICE * will.cost)}".replace("$", r"\$"),
        key="llm.batch.send",
        disabled=not will.to_ask,
    )
    look = st.button("Look, and fetch what is answered", key="llm.batch.look", disabled=not waiting)
    stop = st.button("Cancel", key="llm.batch.cancel", disabled=not waiting)
    if not (send or look or stop):
        if said in st.session_state:
            st.info(inert(st.session_state[said]))
        return
    try:
        with st.spinner("Asking the server …"):
            if send:
                st.session_state[said] = f"{batch.submit(asked, key, cap=cap):,} questions sent."
            else:
                found = (batch.cancel if stop else batch.look)(asked, key)
                st.session_state[said] = " ".join(
                    f"{b.status}: {b.done:,} of {b.total:,} answered, {b.kept:,} fetched now. {b.message}"
                    for b in found
                )
    except HybridError as error:
        llm_session.show_error(error)
        return
    st.rerun()


def _watch() -> None:
    """Draw the recording under way, again and again; when it ends, the page is drawn with its answers."""
    job = llm_session.job()
    if job is None:
        return
    progress = job.progress()
    if not job.alive:
        st.rerun()
    _show_progress(progress)
    with st.container(horizontal=True):
        if progress.state == RUNNING and st.button("Pause", icon=":material/pause:", key="llm.pause"):
            job.pause()
            st.rerun(scope="fragment")
        if progress.state == PAUSED and st.button("Resume", icon=":material/play_arrow:", key="llm.resume"):
            job.resume()
            st.rerun(scope="fragment")
        if progress.state in (RUNNING, PAUSED) and st.button("Cancel", icon=":material/close:", key="llm.cancel"):
            job.cancel()
            st.rerun(scope="fragment")
    st.caption("It goes on if you leave the page, up to the cap.")


def _show_progress(progress: JobProgress) -> None:
    left = progress.seconds_left
    time_left = "" if left is None or progress.state != RUNNING else f", {wording_time(left)} left"
    spent = progress.spending
    st.progress(
        progress.done / progress.total if progress.total else 1.0,
        f"{STATES[progress.state]}: {progress.done:,} of {progress.total:,} answered, "
        f"{wording.dollars(spent.paid)} paid{f', {wording.dollars(spent.lost)} perhaps lost' if spent.lost else ''}, "
        f"{progress.rate:.1f} answers/s{time_left}".replace("$", r"\$"),
    )
    if progress.message:
        place = st.error if progress.state == "stopped" else st.info
        place(inert(progress.message), icon=":material/info:")
    if progress.given_up and progress.state == RUNNING:  # in the end the message says so
        st.caption(f"{wording.plural(progress.given_up, 'question')} got no answer so far, after all tries.")
    if progress.without:
        st.info(
            f"The model refuses {', '.join(map(inert, progress.without))}: it is asked without.",
            icon=":material/info:",
        )
    if progress.failed or progress.unusable:
        rows = [
            {"What": "Failed calls", "Kind": k, "Count": n, "Meaning": MEANING[k]} for k, n in progress.failed.items()
        ]
        rows += [
            {"What": "Unusable answers", "Kind": k, "Count": n, "Meaning": MEANING[k]}
            for k, n in progress.unusable.items()
        ]
        st.dataframe(pd.DataFrame(rows), hide_index=True, width="stretch")


def wording_time(seconds: float) -> str:
    """Return a stretch of time as a person says it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
