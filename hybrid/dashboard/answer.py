"""Answer: the card that says what the best policy saves; it is searched for beside the page, which does not wait."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import streamlit as st

from hybrid.dashboard import state, wording
from hybrid.dashboard.inert import inert
from hybrid.dashboard.tune import start
from hybrid.dashboard.working import Search
from hybrid.data.limits import SEARCH
from hybrid.errors import HybridError
from hybrid.routing.engine import Policy
from hybrid.study import answer as answers
from hybrid.study import promises
from hybrid.study.answer import Answer, answer_of
from hybrid.study.naming import named
from hybrid.study.scan import Scan, scan
from hybrid.study.study import Study

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


def draw(study: Study) -> None:
    """Draw the answer for a study, or how far the search for it is."""
    if study.policy is None:
        return
    job: Search | None = st.session_state.get(JOB)
    if job is None or job.token != study.token:
        if job is not None:
            job.cancelled.set()
        job = st.session_state[JOB] = begin(study)
        st.session_state.pop(AT, None)
    if WAIT:
        job.wait()
    if job.running:
        job.draw("Looking for the cheapest way that is as good as your LLM", "answer_search")
        return
    if job.found is None:
        if job.problem is not None:
            st.info(inert(job.problem), icon=":material/search_off:")
        return
    if promises.suggestion(study) is None:
        study.suggested = promises.Suggested(job.terms, job.found)
        start.begin(study)
        state.save()  # a reload does not search again
    try:
        said = answer_of(study, job.found, st.session_state.get(AT))
    except HybridError as error:
        st.info(inert(error), icon=":material/search_off:")
        return
    _draw_card(study, job, said)


def begin(study: Study) -> Search:
    """Begin to look for the best policy for the usual goal; what is known already is not looked for again."""
    return Search(study, seconds=SEARCH.value(), found=promises.suggestion(study, study.usual_goal()))


def _draw_card(study: Study, job: Search, said: Answer) -> None:
    assert job.found is not None
    with st.container(border=True, key="answer"):
        words, numbers = st.columns([3, 2], gap="large", vertical_alignment="center")
        with words:
            mark = " :orange-badge[simulated]" if said.simulated else ""
            model = study.dataset.agreement_with
            model = None if model is None else inert(model)
            st.markdown(named(f"#### {ICONS[said.kind]} {headline(study, said)}{mark}", model))
            st.markdown(named(against(said), model))
            st.caption(named(" · ".join((flow(said.policy, said.measured.reach), *details(said))), model))
            if study.dataset.teacher is not None:
                certified = _certified(study.token, study)
                st.caption(f":material/verified: {inert(certified if isinstance(certified, str) else certified.words)}")
        with numbers:
            _draw_numbers(said, model)
        if said_of_search := unfinished(job):
            st.caption(said_of_search)
        if said.contradiction is not None:
            wish = "agree with the LLM as often as asked for" if study.dataset.teacher else "be as right as the LLM"
            chosen = f"Thresholds were chosen to {wish} on the tune rows, and test says less"
            st.warning(f"{chosen}: {inert(said.contradiction)}", icon=":material/warning:")
        if said.kind == answers.UNPRICED:
            _ask_prices(study, said)
        with st.container(horizontal=True, vertical_alignment="center"):
            if st.button("Show me", type="primary", icon=":material/tune:", key="answer_show"):
                state.use(said.policy)
                # one tier alone has nothing to tune: what shows that it is best is all the others beside it
                st.switch_page("pages/2_Compare.py" if len(said.policy.tiers) == 1 else "pages/1_Tune.py")
            steps = (
                ("Cheaper", ":material/south:", answers.cheaper(job.found, said.policy)),
                ("More accurate", ":material/north:", answers.better(job.found, said.policy)),
            )
            for label, icon, point in steps:
                st.button(
                    label,
                    icon=icon,
                    key=f"answer_{label}",
                    disabled=point is None or bool(said.unpriced),
                    on_click=_go,
                    args=(None if point is None else point.policy,),
                    help="To the next point of the best that is possible between cost and accuracy.",
                )
            if study.dataset.teacher is not None:
                _draw_promise(certified, said)
            if AT in st.session_state:
                st.button("Back to the best", icon=":material/undo:", key="answer_back", on_click=_back)


def unfinished(job: Search) -> str:
    """Return that a search left ways untried, so that another one may find better; empty where it did not."""
    effort = None if job.found is None else job.found.effort
    if job.cancelled.is_set():
        return "The search was stopped: this is the best that it had found."
    if effort is None or not effort.left:
        return ""
    return f"{effort.left:,} of {effort.ways:,} ways of routing were not tried: Suggest on Tune looks for longer."


def _draw_numbers(said: Answer, model: str | None) -> None:
    """Draw cost and right answers large, each against the LLM for everything."""
    m, llm = said.measured, said.llm_measured
    left, right = st.columns(2)
    change = None
    if math.isfinite(said.saving) and said.policy != said.llm_alone:
        sign = "-" if said.saving > 0 else "+"  # a plain minus turns the arrow
        change = f"{sign}{_share(abs(said.saving))} against the LLM"
    left.metric("Cost a month", inert(_month(said.month)), change, delta_color="inverse")
    points = None
    if llm is not None and said.difference is not None and said.policy != said.llm_alone:
        points = f"{wording.signed(said.difference.accuracy.value)} points".replace("−", "-")
    colour = "normal" if said.difference is not None and said.difference.told_apart else "off"
    right.metric(named("Right answers", model), wording.percent(m.accuracy.value), points, delta_color=colour)  # type: ignore[arg-type]


def _ask_prices(study: Study, said: Answer) -> None:
    """Ask what the LLMs cost that nobody has priced; once it is said, what can be saved is looked for again."""
    with st.form("answer_prices", border=False, enter_to_submit=True):
        st.markdown("**What do they cost?** USD per 1,000 texts; then this says what can be saved.")
        with st.container(horizontal=True, vertical_alignment="bottom"):
            typed = {
                name: st.number_input(inert(name), 0.0, 1e7, None, format="%.6g", key=f"answer_price.{name}", width=180)
                for name in said.unpriced
            }
            if st.form_submit_button("Set", icon=":material/sell:"):
                prices = {n: v / 1000 for n, v in typed.items() if v is not None}
                state.assume(replace(study.terms, prices=tuple({**dict(study.terms.prices), **prices}.items())))
                st.rerun()


def _back() -> None:
    st.session_state.pop(AT, None)


def _go(policy: Policy) -> None:
    st.session_state[AT] = policy
    state.use(policy)


def headline(study: Study, said: Answer) -> str:
    """Return the verdict in a sentence, in Markdown."""
    ours = said.measured.accuracy.value
    now, before = inert(_month(said.month)), inert(_month(said.llm_month))
    right = f"{wording.percent(ours)} right"
    teacher = study.dataset.teacher
    if said.kind == answers.SAVES and teacher is not None:
        without = 1 - dict(zip(said.policy.names, said.measured.reach, strict=True)).get(teacher, 0.0)
        return f"{_share(without)} of this log can be answered without {inert(teacher)}: {before} → {now} a month"
    if said.kind == answers.SAVES:
        return f"Cut the bill by {_share(said.saving)}: {before} → {now} a month"
    if said.kind == answers.KEEP:
        return f"Keep your LLM: nothing cheaper is as good ({before} a month)"
    if said.kind == answers.DROP:
        assert said.difference is not None
        more = wording.plural(round(100 * said.difference.accuracy.value, 1), "point")
        return f"Drop your LLM: {inert(_name(said.policy))} beats it by {more}, and pays no LLM"
    if said.kind == answers.TOO_FEW:
        return f"Too few rows to say: label about {said.more_rows:,} more"
    if said.kind == answers.UNPRICED:
        return f"What {inert(wording.listed(said.unpriced))} costs is not known, so nobody can say what you save"
    if said.kind == answers.POINT:
        return f"{before} → {now} a month at {right}"
    if said.llm_alone is None or said.llm_measured is None:
        return f"You have no LLM yet: what runs here is {right}"
    price = inert(wording.dollars(said.llm_measured.cost_per_1000.value))
    if not answers.asks_llm(said.policy):
        theirs = wording.percent(said.llm_measured.accuracy.value)
        return f"You have no LLM, and one that is {theirs} right would buy nothing: what runs here is {right}"
    return (
        f"You have no LLM yet: one that is {wording.percent(said.llm_measured.accuracy.value)} right at {price} per "
        f"1,000 would buy {right} for {now} a month"
    )


def against(said: Answer) -> str:
    """Return what is right with the policy and with the LLM for everything, and on how many rows, in Markdown."""
    ours = f"**{wording.percent(said.measured.accuracy.value)} right** on {said.n_rows:,} {said.side} rows"
    if said.llm_measured is None or said.llm_alone is None:
        return f"{ours}."
    paid = f"{inert(_month(said.llm_month))} a month" if math.isfinite(said.llm_month) else "price unknown"
    llm = (
        f"{inert(said.llm_alone.names[0])} for everything: {wording.percent(said.llm_measured.accuracy.value)}, {paid}"
    )
    return f"{ours} ({llm})."


def flow(policy: Policy, reach: Sequence[float]) -> str:
    """Return who is asked how often, in words."""
    asked = [f"{inert(name)} {100 * share:.0f}" for name, share in zip(policy.names, reach, strict=True)]
    return f"Of 100 texts it asks {', '.join(asked)}"


def details(said: Answer) -> list[str]:
    """Return what the verdict rests on: the interval, the difference on the same rows, and what may be luck."""
    lines = [f"right 95% CI {wording.interval_text(said.measured.accuracy)}"]
    if said.difference is not None and said.policy != said.llm_alone:
        lines.append(f"against the LLM on the same rows: {wording.verdict(said.difference)}")
    if said.side == "tune":
        lines.append("thresholds were chosen on these very rows: part of this may be luck")
    return lines


@st.cache_data(scope="session", max_entries=5, show_spinner="Looking what can be promised …")
def _certified(key: str, _study: Study) -> Scan | str:
    """Return how much of an LLM's log can be answered without it, as it can be promised; else why that is not known."""
    try:
        return scan(_study)
    except HybridError as error:
        return str(error)


def _draw_promise(found: Scan | str, said: Answer) -> None:
    """Draw the way to the policy that is certified, and to the page that checks what an LLM's log says."""
    if isinstance(found, Scan) and found.policy is not None:
        st.button(
            "Use the certified",
            icon=":material/verified:",
            key="answer_certified",
            disabled=said.policy == found.policy,
            on_click=_go,
            args=(found.policy,),
        )
    st.page_link("pages/8_Audit.py", label="Check some answers by hand", icon=":material/fact_check:")


def _month(value: float) -> str:
    return wording.dollars(value) if math.isfinite(value) else "unknown"


def _share(saving: float) -> str:
    """Return a saving as text; what still costs something is never said to save all."""
    return f"{saving:.1%}" if 0.995 <= saving < 1 or saving < 0.01 else f"{saving:.0%}"


def _name(policy: Policy) -> str:
    return policy.names[0] if len(policy.names) == 1 else "what runs here"
