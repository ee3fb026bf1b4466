"""Answer: the card that says what the best policy saves; it is searched for beside the page, which does not wait."""

from __future__ import annotations

import math
import threading

import streamlit as st

from hybrid.dashboard import state, wording
from hybrid.dashboard.inert import inert
from hybrid.errors import HybridError
from hybrid.routing.engine import Policy
from hybrid.study import answer as answers
from hybrid.study.answer import Answer, answer_of
from hybrid.study.promises import Suggested
from hybrid.study.study import Study
from hybrid.tuning import Progress, Recommendation

SECONDS = 10.0  # after which the search tries no further way
POLL = 0.5  # seconds
WAIT = False  # whether a page waits for the search, as tests do
JOB, AT = "answer.job", "answer.at"  # the search, and the policy of the front that the card shows

ICONS = {
    answers.SAVES: ":material/savings:",
    answers.KEEP: ":material/verified:",
    answers.DROP: ":material/money_off:",
    answers.NO_LLM: ":material/experiment:",
    answers.TOO_FEW: ":material/hourglass_empty:",
    answers.UNPRICED: ":material/sell:",
    answers.POINT: ":material/timeline:",
}


class Job:
    """A search for the best policy, in a thread that works on a copy and knows no screen."""

    def __init__(self, study: Study) -> None:
        self.token = study.token
        self.terms = study.terms
        self.cancelled = threading.Event()
        self.progress: Progress | None = None
        self.found: Recommendation | None = None
        self.problem: str | None = None
        self._thread = threading.Thread(target=self._run, args=(study.aside(),), daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def wait(self) -> None:
        """Return when the search is over."""
        self._thread.join()

    def _run(self, study: Study) -> None:
        try:
            self.found = study.recommend(progress=self._report, cancel=self.cancelled.is_set, seconds=SECONDS)
        except HybridError as error:
            self.problem = str(error)
        except Exception as error:  # a thread's error would be seen by nobody
            self.problem = f"The search failed: {error!r}."

    def _report(self, progress: Progress) -> None:
        self.progress = progress


def draw(study: Study) -> None:
    """Draw the answer for a study, or how far the search for it is."""
    if study.policy is None:
        return
    job: Job | None = st.session_state.get(JOB)
    if job is None or job.token != study.token:
        if job is not None:
            job.cancelled.set()
        job = st.session_state[JOB] = Job(study)
        st.session_state.pop(AT, None)
    if WAIT:
        job.wait()
    if job.running:
        st.fragment(_draw_progress, run_every=POLL)(job)
        return
    if job.found is None:
        if job.problem is not None:
            st.info(inert(job.problem), icon=":material/search_off:")
        return
    if study.suggested is None or study.suggested.terms.routing != job.terms.routing:
        study.suggested = Suggested(job.terms, job.found)
    try:
        said = answer_of(study, job.found, st.session_state.get(AT))
    except HybridError as error:
        st.info(inert(error), icon=":material/search_off:")
        return
    _draw_card(study, job, said)


def _draw_progress(job: Job) -> None:
    if not job.running:
        st.rerun()
    with st.container(border=True, horizontal=True, vertical_alignment="center", key="answer_search"):
        p = job.progress
        said = "Looking for the cheapest way that is as good as your LLM …"
        if p is not None:
            said = f"{said} {p.done:,} ways of routing tried"
            if p.best is not None and math.isfinite(p.cost_per_1000):
                cost = inert(wording.dollars(p.cost_per_1000))
                said = f"{said}; best so far {wording.percent(p.accuracy)} right at {cost} per 1,000"
        st.progress(0.0 if p is None else min(1.0, p.seconds / SECONDS), said)
        st.button("Cancel", icon=":material/close:", key="answer_cancel", on_click=job.cancelled.set)


def _draw_card(study: Study, job: Job, said: Answer) -> None:
    assert job.found is not None
    with st.container(border=True, key="answer"):
        mark = " :orange-badge[simulated]" if said.simulated else ""
        st.markdown(f"#### {ICONS[said.kind]} {headline(study, said)}{mark}")
        st.markdown(details(said))
        if job.cancelled.is_set():
            st.caption("The search was stopped: this is the best that it had found.")
        if said.contradiction is not None:
            st.warning(f"Test speaks against it: {inert(said.contradiction)}", icon=":material/warning:")
        with st.container(horizontal=True, vertical_alignment="center"):
            if st.button("Show me", type="primary", icon=":material/tune:", key="answer_show"):
                state.use(said.policy)
                st.switch_page("pages/1_Tune.py")
            steps = (
                ("Cheaper", ":material/south:", answers.cheaper(job.found, said.policy)),
                ("More accurate", ":material/north:", answers.better(job.found, said.policy)),
            )
            for label, icon, point in steps:
                st.button(
                    label,
                    icon=icon,
                    key=f"answer_{label}",
                    disabled=point is None,
                    on_click=_go,
                    args=(None if point is None else point.policy,),
                    help="To the next point of the best that is possible between cost and accuracy.",
                )
            st.caption(inert(wording.describe(said.policy)))


def _go(policy: Policy) -> None:
    st.session_state[AT] = policy
    state.use(policy)


def headline(study: Study, said: Answer) -> str:
    """Return the verdict in a sentence, in Markdown."""
    ours = said.measured.accuracy.value
    now, before = (inert(wording.dollars(x)) if math.isfinite(x) else "" for x in (said.month, said.llm_month))
    right = f"{wording.percent(ours)} right"
    if said.kind == answers.SAVES:
        return f"Cut the bill by {_share(said.saving)}: {before} → {now} a month at {right}"
    if said.kind == answers.KEEP:
        return f"Keep your LLM: nothing cheaper is as good ({before} a month)"
    if said.kind == answers.DROP:
        assert said.difference is not None
        more = wording.plural(round(100 * said.difference.accuracy.value, 1), "point")
        return f"Drop your LLM: {inert(_name(said.policy))} beats it by {more}, and costs nothing a call"
    if said.kind == answers.TOO_FEW:
        return f"Too few rows to say: label about {said.more_rows:,} more"
    if said.kind == answers.UNPRICED:
        return "What your LLM costs is not known: say its price under What if, and see what can be saved"
    if said.kind == answers.POINT:
        return f"{before} → {now} a month at {right}"
    if said.llm_alone is None or said.llm_measured is None:
        return f"You have no LLM yet: what runs here is {right}, and costs {now} a month"
    price = inert(wording.dollars(said.llm_measured.cost_per_1000.value))
    return (
        f"You have no LLM yet: one that is {wording.percent(said.llm_measured.accuracy.value)} right at {price} per "
        f"1,000 would buy {right} for {now} a month"
    )


def details(said: Answer) -> str:
    """Return what the verdict rests on: interval, rows, the LLM for everything, and the difference."""
    m = said.measured
    lines = [
        f"**{wording.percent(m.accuracy.value)}** right (95% CI {wording.interval_text(m.accuracy)}) on "
        f"{wording.plural(said.n_rows, f'{said.side} row')}, for {inert(wording.dollars(said.month))} a month"
    ]
    if said.llm_measured is not None and said.llm_alone is not None:
        llm = said.llm_measured
        name = inert(said.llm_alone.names[0])
        lines.append(
            f"{name} for everything: **{wording.percent(llm.accuracy.value)}** right, "
            f"{inert(wording.dollars(said.llm_month))} a month"
        )
    if said.difference is not None and said.policy != said.llm_alone:
        lines.append(f"difference on the same rows: {wording.verdict(said.difference)}")
    if said.side == "tune":
        lines.append("thresholds were chosen on these very rows: part of this may be luck")
    return " · ".join(lines)


def _share(saving: float) -> str:
    """Return a saving as text; what still costs something is never said to save all."""
    return f"{saving:.1%}" if 0.995 <= saving < 1 or saving < 0.01 else f"{saving:.0%}"


def _name(policy: Policy) -> str:
    return policy.names[0] if len(policy.names) == 1 else "what runs here"
