"""Certify: what can be promised about the risk, drawn on the chart as the certified range of thresholds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from hybrid.dashboard import state, wording
from hybrid.dashboard.charts import GREEN
from hybrid.dashboard.inert import inert
from hybrid.dashboard.tune.axes import Axis
from hybrid.dashboard.working import Beside
from hybrid.errors import HybridError
from hybrid.metrics.curve import with_threshold
from hybrid.routing.engine import Policy
from hybrid.routing.patterns import Triage
from hybrid.study import promises, worker
from hybrid.study.study import Study
from hybrid.tuning import SELECTIVE, SYSTEM, Certificate, certify, certify_by_class
from hybrid.tuning.search import with_classes

RISKS = {SELECTIVE: "what the cheap tier answers", SYSTEM: "the whole system"}
WIDTH = 340  # pixels of the popover
MANY = 400_000  # rows, times thresholds that go down together: about a second; more is tested beside the page
AT_ONCE = 1.0  # seconds that a page waits for that
JOB = "certify.job"  # in the session: what is tested beside the page, and the tests
ASKED = "certify.asked"  # in the session: of which data, and what the popover was set to by the keys of its controls


def controls(study: Study, policy: Policy) -> Certificate | None:
    """Draw the popover; returns the certificate while it is switched on."""
    panel = st.popover("Certify", icon=":material/verified:", width="content", key="certify_open", on_change="rerun")
    of, asked = st.session_state.get(ASKED, (None, {}))
    if of != study.dataset.fingerprint:
        asked = _asked(study.certified)
    if panel.open:  # closed, it costs nothing
        with panel, st.container(width=WIDTH):
            asked = _draw(policy, asked)
        st.session_state[ASKED] = (study.dataset.fingerprint, asked)
    if not asked["certify_on"]:
        _stop()
        st.session_state.pop("certify_problem", None)
        _remember(study, None)
        return None
    held, alpha, delta, risk = _held(policy), asked["certify_alpha"], asked["certify_delta"], asked["certify_risk"]
    per_class = asked["certify_classes"] and _may_split(policy, risk)
    found = _find(study, held, alpha, delta, risk, per_class)
    if found is None:  # what was promised before stays until then
        return None
    if isinstance(found, str):
        _remember(study, None)
        st.session_state["certify_problem"] = found
        return None
    st.session_state.pop("certify_problem", None)
    _remember(study, promises.Certified(study.terms, found))
    return found


def progress() -> None:
    """Draw that thresholds are being tested, where that takes its time."""
    _, job = st.session_state.get(JOB, ("", None))
    if job is not None and job.running:
        job.draw("Testing thresholds", "certify_search")


def _find(
    study: Study, held: Policy, alpha: float, delta: float, risk: str, per_class: bool
) -> Certificate | str | None:
    """Return the certificate, why there is none, or None while a process beside the page looks for it."""
    wanted = study.token, repr((held, alpha, delta, risk, per_class))
    lines = 1 if isinstance(held.pattern, Triage) else len(held.thresholds())
    if lines * study.measure(held, "tune").n_rows < MANY:
        _stop()
        return _certify(*wanted, study, held, alpha, delta, risk, per_class)
    of, job = st.session_state.get(JOB, (None, None))
    if of != wanted:
        _stop()
        call = _asking(study, held, alpha, delta, risk, per_class)
        job = Beside(worker.whole(call), what="test of thresholds", grace=0.0)
        st.session_state[JOB] = wanted, job
        job.wait(AT_ONCE)
    return None if job.running else job.found or job.problem


def _stop() -> None:
    _, job = st.session_state.pop(JOB, (None, None))
    if job is not None:
        job.cancelled.set()


def _may_split(policy: Policy, risk: str) -> bool:
    return isinstance(policy.pattern, Triage) and risk == SELECTIVE


def _draw(policy: Policy, asked: dict[str, Any]) -> dict[str, Any]:
    """Draw what is asked for; returns what is now."""
    for key, value in asked.items():
        st.session_state.setdefault(key, value)
    found = {
        "certify_on": st.toggle("Show what can be promised", key="certify_on"),
        "certify_alpha": st.number_input(
            "Risk at most (α), %",
            0.1,
            99.0,
            step=0.5,
            key="certify_alpha",
            help="The share of wrong answers that you can live with.",
        ),
        "certify_delta": st.number_input(
            "The promise may fail with probability (δ), %",
            0.1,
            50.0,
            step=1.0,
            key="certify_delta",
            help="Over the draw of the labelled rows. It is divided by the number of things that are chosen together.",
        ),
        "certify_risk": (risk := st.radio("Risk of", list(RISKS), format_func=RISKS.__getitem__, key="certify_risk")),
    }
    if _may_split(policy, risk):
        found["certify_classes"] = st.toggle("For each predicted class by itself", key="certify_classes")
    st.caption(
        "Learn-then-Test from several starts: thresholds are tested from the strictest down by exact binomial bounds. "
        "Where to start is learned from rows that are too unsure to be kept; labels decide nothing else. Rows that "
        "belong together count as one. On tune rows, which models that are fitted here answer out of fold. It holds "
        "while production looks like these rows: Export checks a file for drift."
    )
    return asked | found


def _remember(study: Study, found: promises.Certified | None) -> None:
    if found != study.certified:
        study.certified = found
        state.save()


def _asked(kept: promises.Certified | None) -> dict[str, Any]:
    """Return what is asked for to begin with: what the certificate was that a project brought back, else the usual."""
    found = None if kept is None else kept.found
    return {
        "certify_on": found is not None,
        "certify_alpha": 10.0 if found is None else 100 * found.alpha,
        "certify_delta": 10.0 if found is None else 100 * found.delta,
        "certify_risk": SELECTIVE if found is None else found.risk,
        "certify_classes": found is not None and found.per_class,
    }


def _held(policy: Policy) -> Policy:
    """Return the policy with every threshold at 0: what all share that a certificate chooses from."""
    policy = with_classes(policy, ())
    for line in policy.thresholds():
        if line.value is not None:
            policy = with_threshold(policy, line.name, line.index, 0.0)
    return policy


@st.cache_data(scope="session", max_entries=50, show_spinner="Testing thresholds …")
def _certify(
    key: str, rest: str, _study: Study, _policy: Policy, alpha: float, delta: float, risk: str, per_class: bool
) -> Certificate | str:
    try:
        return _asking(_study, _policy, alpha, delta, risk, per_class)()
    except HybridError as error:
        return str(error)


def _asking(
    study: Study, policy: Policy, alpha: float, delta: float, risk: str, per_class: bool
) -> Callable[[], Certificate]:
    on = study.measure(policy, "tune").graded
    find = certify_by_class if per_class else certify
    return partial(
        find, policy, on.predictions, on.truth, alpha=alpha / 100, delta=delta / 100, risk=risk, groups=on.groups
    )


def result(study: Study, policy: Policy, found: Certificate | None) -> None:
    """Say what is promised, whether the policy as set has the promise, or how many rows are wanting."""
    problem = st.session_state.get("certify_problem")
    if found is None:
        if problem:
            st.info(inert(problem), icon=":material/verified:")
        return
    with st.container(border=True, key="certificate"):
        if found.policy is None:
            st.warning(found.words, icon=":material/gpp_maybe:")
            return
        covered = promises.certificate_for(study, policy) is not None
        mark = ":orange-badge[simulated] " if policy.simulated and found.risk == SYSTEM else ""
        st.markdown(f"{mark}:material/verified: {found.words}{_place(found)}")
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(
                ":green-badge[:material/check: the policy as set has this promise]"
                if covered
                else f":orange-badge[:material/close: the policy as set has no such promise] {_why_not(policy, found)}",
                width="content",
            )
            st.button(
                "Set the cheapest certified",
                key="certify_use",
                on_click=state.use,
                args=(found.policy,),
                disabled=policy == found.policy,
            )
        shipped = study.shipping(found.policy)
        if shipped is not None and shipped.matters:
            st.caption(f"Certified as graded. {shipped.words}")
        against = promises.contradicted(study, policy, found) if covered else None
        if against is not None:
            st.warning(inert(against.words), icon=":material/report:")
        if found.left_out:
            st.caption(
                f"Nothing certifies for {inert(wording.listed(found.left_out))}: there everything goes to "
                f"{inert(found.policy.names[-1])}."
            )
        if found.per_class:
            with st.expander(_count(found), key="certificate_details"):
                st.dataframe(_parts(found), hide_index=True, height="content" if len(found.parts) < 12 else 400)


def _place(found: Certificate) -> str:
    """Return where on the thresholds the promise holds, and what it rests on."""
    if found.per_class:
        return ""
    (part,) = found.parts
    seen = f"{part.wrong:,} of {part.n:,} tune rows are wrong, so at most {part.bound:.1%} are"
    if part.groups is not None:
        seen += f" (they form {part.groups:,} groups; as many independent rows would tell {part.bound_of_rows:.1%})"
    if part.lowest is not None and part.highest is not None:
        ends = f"**{wording.threshold(part.lowest)} to {wording.threshold(part.highest)}**, drawn in green"
        return f" It holds at thresholds from {ends}; at the lowest {seen}."
    drawn = " (the green line on the map)" if len(found.path[0]) == 2 else ""
    return f" It holds at {len(found.path):,} tested settings{drawn}; at the cheapest {seen}."


def _why_not(policy: Policy, found: Certificate) -> str:
    """Return which way a single threshold would have to move; nothing where that is not to be said in a word."""
    lines = policy.thresholds()
    if found.lowest is None or found.highest is None or len(lines) != 1 or lines[0].value is None:
        return ""
    if lines[0].value < found.lowest:
        return "It is too low."
    return "It is above where the tests began." if lines[0].value > found.highest else ""


def _count(found: Certificate) -> str:
    own = sum(p.of is not None for p in found.parts)
    return f"{own} {'class' if own == 1 else 'classes'} with a promise of {'its' if own == 1 else 'their'} own"


def _parts(found: Certificate) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "For": p.name,
            "Holds at thresholds": f"{wording.threshold(p.lowest or 0.0)} to {wording.threshold(p.highest or 0.0)}",
            "Rows tested": f"{p.n:,}",
            "Mistakes": f"{p.wrong:,}",
            "Risk seen": f"{p.wrong / max(p.n, 1):.1%}",
            "Risk at most": f"{p.bound:.1%}",
            "Its share of δ": f"{p.delta:.2%}",
        }
        for p in found.parts
    )


def mark_map(figure: go.Figure, axes: Sequence[Axis], found: Certificate | None) -> go.Figure:
    """Draw the certified settings of two thresholds as a line on their map."""
    if found is None or not found.path or len(found.path[0]) != 2:
        return figure
    x, y = (axis.position([float(p[k]) for p in found.path]) for k, axis in enumerate(axes))
    for tint, width in (("white", 7), (GREEN, 4)):
        figure.add_scatter(
            x=x, y=y, mode="lines", line={"color": tint, "width": width}, hoverinfo="skip", showlegend=False
        )
    at = len(x) // 2
    figure.add_annotation(
        x=float(x[at]),
        y=float(y[at]),
        text="certified",
        font={"size": 11, "color": "white"},
        bgcolor=GREEN,
        ax=40,
        ay=-30,
    )
    return figure


def mark(figure: go.Figure, axis: Axis, found: Certificate | None) -> go.Figure:
    """Draw the certified range behind every panel; it does not move while the line is dragged."""
    if found is None or found.lowest is None or found.highest is None:
        return figure
    figure = go.Figure(figure)  # the one without the mark is kept
    left, right = (float(x) for x in axis.position([found.lowest, found.highest]))
    figure.add_vrect(x0=left, x1=right, fillcolor=GREEN, opacity=0.12, line_width=0, layer="below", row="all", col=1)
    figure.add_annotation(
        x=(left + right) / 2,
        y=1,
        xref="x",
        yref="y domain",
        yanchor="bottom",
        text="certified",
        showarrow=False,
        font={"size": 11, "color": GREEN},
    )
    return figure
