"""Certify: what can be promised about the risk, drawn on the chart as the certified range of thresholds."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from hybrid.curves import with_threshold
from hybrid.dashboard import promised, suggest_panel
from hybrid.dashboard.axes import Axis
from hybrid.dashboard.charts import GREEN
from hybrid.dashboard.state import Choice, Loaded, evaluate_on
from hybrid.errors import HybridError
from hybrid.patterns import Triage
from hybrid.routing import Policy
from hybrid.tuning import SELECTIVE, SYSTEM, Certificate, certify, certify_by_class
from hybrid.tuning.search import with_classes

RISKS = {SELECTIVE: "what the cheap tier answers", SYSTEM: "the whole system"}


def controls(data: Loaded, choice: Choice) -> Certificate | None:
    """Draw the popover; returns the certificate while it is switched on."""
    with st.popover("Certify", icon=":material/verified:", width="content"):
        on = st.toggle("Show what can be promised", value=False, key="certify_on")
        alpha = st.number_input(
            "Risk at most (α), %",
            0.1,
            99.0,
            10.0,
            step=0.5,
            key="certify_alpha",
            help="The share of wrong answers that you can live with.",
        )
        delta = st.number_input(
            "The promise may fail with probability (δ), %",
            0.1,
            50.0,
            10.0,
            step=1.0,
            key="certify_delta",
            help="Over the draw of the labelled rows. It is divided by the number of things that are chosen together.",
        )
        risk = st.radio("Risk of", list(RISKS), format_func=RISKS.__getitem__, key="certify_risk")
        per_class = False
        if isinstance(choice.policy.pattern, Triage) and risk == SELECTIVE:
            per_class = st.toggle("For each predicted class by itself", value=False, key="certify_classes")
        st.caption(
            "Learn-then-Test: thresholds are tested from the strictest down by exact binomial bounds; the first that "
            "fails ends it. Labels decide nothing else. On tune rows, which the classifier answered out of fold."
        )
    if not on:
        promised.drop_certificate()
        return None
    held = replace(choice, policy=_held(choice))
    found = _certify(data.key, repr((held, alpha, delta, risk, per_class)), data, held, alpha, delta, risk, per_class)
    if isinstance(found, str):
        promised.drop_certificate()
        st.session_state["certify_problem"] = found
        return None
    st.session_state.pop("certify_problem", None)
    promised.keep_certificate(data, choice, found)
    return found


def _held(choice: Choice) -> Policy:
    """Return the policy with every threshold at 0: what all share that a certificate chooses from."""
    policy = with_classes(choice.policy, ())
    for line in policy.thresholds():
        if line.value is not None:
            policy = with_threshold(policy, line.name, line.index, 0.0)
    return policy


@st.cache_data(scope="session", max_entries=50, show_spinner="Testing thresholds …")
def _certify(
    key: str, rest: str, _data: Loaded, _choice: Choice, alpha: float, delta: float, risk: str, per_class: bool
) -> Certificate | str:
    (on,) = evaluate_on(_data, (_choice,), "tune")
    find = certify_by_class if per_class else certify
    try:
        return find(_choice.policy, on.predictions, on.truth, alpha=alpha / 100, delta=delta / 100, risk=risk)
    except HybridError as error:
        return str(error)


def result(data: Loaded, choice: Choice, found: Certificate | None) -> None:
    """Say what is promised, whether the policy as set has the promise, or how many rows are wanting."""
    problem = st.session_state.get("certify_problem")
    if found is None:
        if problem and st.session_state.get("certify_on"):
            st.info(problem, icon=":material/verified:")
        return
    with st.container(border=True, key="certificate"):
        if found.policy is None:
            st.warning(found.words, icon=":material/gpp_maybe:")
            return
        covered = promised.certificate_for(data, choice) is not None
        place = ""
        if found.lowest is not None and found.highest is not None:
            place = f" Certified thresholds: **{found.lowest:.4g} to {found.highest:.4g}**."
        if len(found.parts) == 1:
            (part,) = found.parts
            place += f" At the lowest {part.wrong:,} of {part.n:,} are wrong: at most {part.bound:.1%}."
        mark = ":orange-badge[simulated] " if choice.policy.simulated and found.risk == SYSTEM else ""
        st.markdown(f"{mark}:material/verified: {found.words}{place}")
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(
                ":green-badge[the policy as set has this promise]"
                if covered
                else ":gray-badge[the policy as set has no such promise]"
            )
            st.button(
                "Set the cheapest certified",
                key="certify_use",
                on_click=suggest_panel.put,
                args=(found.policy, data.recording.dataset.classes),
                disabled=choice.policy == found.policy,
            )
        if found.left_out:
            st.caption(f"Nothing certifies for {', '.join(found.left_out)}: there all goes to the strong tier.")
        if len(found.parts) > 1:
            with st.expander(f"{len(found.parts)} classes, δ divided among them", key="certificate_details"):
                st.dataframe(_parts(found), hide_index=True)


def _parts(found: Certificate) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "For": p.name,
            "Rows tested": f"{p.n:,}",
            "Mistakes": f"{p.wrong:,}",
            "Risk seen": f"{p.wrong / max(p.n, 1):.1%}",
            "Risk at most": f"{p.bound:.1%}",
            "Its share of δ": f"{p.delta:.2%}",
        }
        for p in found.parts
    )


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
