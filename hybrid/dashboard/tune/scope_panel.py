"""Scope panel: texts far from anything seen are set aside; what that costs, catches and promises."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from hybrid.dashboard import charts, state, views, wording
from hybrid.dashboard.inert import in_figure, inert
from hybrid.errors import HybridError
from hybrid.routing.engine import Policy
from hybrid.routing.table import NONE_LABEL
from hybrid.study.study import Study

WIDTH = 360  # pixels of the popover
SHOWN = "scope.shown"  # what the controls were set to
USUAL = 1.0  # percent of the texts in scope
NOBODY = "no class of these data"
MOST = 0.2  # of the texts in scope: what is drawn


def pick(study: Study, policy: Policy) -> Policy:
    """Draw the popover; returns the policy with what is set aside before it."""
    tier, now = study.scope_tier, None if study.policy is None else study.policy.scope
    if tier is None:
        return policy
    panel = st.popover(
        "Out of scope", icon=":material/travel_explore:", width="content", key="scope_open", on_change="rerun"
    )
    session = st.session_state
    if not panel.open:  # closed, it costs nothing
        session.pop(SHOWN, None)
        return policy if now is None else policy.within(tier, now)
    if session.get(SHOWN) != (now, study.out_class):
        session["scope_on"] = now is not None
        session["scope_share"] = USUAL if now is None else round(max(0.0, 100 * (1 - now.threshold)), 7)
        session["scope_class"] = study.out_class or NOBODY
    with panel, st.container(width=WIDTH):
        on = st.toggle(
            "Set aside texts far from anything seen",
            key="scope_on",
            help="Before anybody is asked. They go to the person where the policy ends with one; else the answer is "
            "“none of these”, and no tier is paid for.",
        )
        share = st.number_input(
            "Of texts like yours, set aside at most, %",
            0.0,
            50.0,
            step=0.5,
            key="scope_share",
            disabled=not on,
            help="A text is set aside when fewer than this share of the known texts are as far from the others as it "
            "is (a conformal p-value). The more you can spare, the more strange texts are caught.",
        )
        said = st.selectbox(
            "Texts that are out of scope are labelled",
            [NOBODY, *study.classes],
            key="scope_class",
            format_func=inert,
            help="A class such as oos or none: none of its texts counts as known, and setting them aside is right.",
        )
        out = None if said == NOBODY else said
        if out != study.out_class:
            state.assume(replace(study.terms, out_of_scope=out or ""))
        st.caption(_how(study))
    found = policy.bare
    if on:
        try:
            with st.spinner("Measuring what is far …"):
                found = study.scoped(policy, share=share / 100)
        except HybridError as error:
            panel.error(inert(error), icon=":material/error:")
    session[SHOWN] = (found.scope, study.out_class)
    return found


def _how(study: Study) -> str:
    """Say how the distance is measured."""
    small = any(t.kind == "embedding" for t in study.tiers)
    what = "MiniLM's embeddings" if small else "the words, those that nobody has seen counted too"
    return (
        f"Distance: to the nearest tune text, by {what}. It tells strange texts, not hard ones: what is new but close "
        "to a class stays in."
    )


def result(study: Study, policy: Policy) -> None:
    """Draw what is set aside, what that costs and catches, and what can be promised; nothing without a scope."""
    if policy.scope is None:
        return
    side, tune = study.headline(policy).side, study.scope_numbers(policy, "tune")
    found = study.scope_numbers(policy, side)
    with st.container(border=True, key="scope_result"):
        goes = f"go to {inert(policy.names[-1])}" if policy.to_person else f"are answered “{inert(_answer(study))}”"
        st.markdown(f"**Out of scope: texts farther than {_reach(policy)} of the known ones {goes}**")
        tiles = st.container(horizontal=True)
        tiles.metric("Of texts in scope, set aside", wording.percent(found.aside.value), border=True)
        rest, change = found.rest.value, found.rest.value - found.before.value
        tiles.metric(
            "Right among the rest",
            wording.percent(rest),
            f"{wording.signed(change)} points" if round(100 * change, 1) else None,
            border=True,
        )
        tiles.metric(
            "Mistakes caught",
            "no mistakes" if np.isnan(found.caught.value) else wording.percent(found.caught.value),
            border=True,
            help="Of the mistakes that the policy makes without it, those on texts that are set aside.",
        )
        if found.n_out:
            tiles.metric(f"Of {inert(study.out_class)}, set aside", wording.percent(found.out.value), border=True)
        st.caption(_words(study, found.n_rows, side, wording.interval_text(found.aside)))
        if not found.n_out:
            st.caption(
                ":material/info: No row here is labelled as out of scope, so how many strange texts it catches is not "
                "known: these numbers say what it costs texts that are in scope."
                + ("" if policy.to_person else " Each of them counts as a mistake.")
            )
        share = 1 - policy.scope.threshold
        if share * study.n_known < 1:
            st.warning(
                f"Nothing is set aside: among {study.n_known:,} known texts none can be farther than all but "
                f"{wording.percent(share)} of them. Allow {wording.percent(1 / study.n_known)} or more, or label more.",
                icon=":material/warning:",
            )
        st.markdown(
            f":material/verified: With {tune.level:.0%} confidence at most **{wording.percent(tune.bound)}** of texts "
            f"that come as these did are set aside: exact, from {wording.plural(tune.n_rows - tune.n_out, 'tune row')}"
            ", one draw a group. Certify promises what is answered about the others."
        )
        if st.toggle("Every threshold", key="scope_curve"):
            st.plotly_chart(
                figure(study, policy),
                key="scope_chart",
                config={"displayModeBar": False},
                alt="Right answers among the rest, and mistakes caught, against the share of texts that is set aside.",
            )


def _answer(study: Study) -> str:
    return study.out_class or NONE_LABEL


def _reach(policy: Policy) -> str:
    assert policy.scope is not None
    return wording.percent(min(1.0, policy.scope.threshold))


def _words(study: Study, n_rows: int, side: str, interval: str) -> str:
    return f"On {wording.plural(n_rows, f'{side} row')}; of texts in scope {interval} (95%) are set aside."


def figure(study: Study, policy: Policy) -> go.Figure:
    """Draw what every threshold does on tune, over the share of texts in scope that it sets aside."""
    curve = study.scope_curve(policy, "tune")
    drawn, dark = curve.aside <= MOST, views.is_dark()
    found = go.Figure()
    lines = (
        ("right among the rest", curve.rest, charts.colour(0, dark=dark), "solid"),
        ("mistakes caught", curve.caught, charts.colour(1, dark=dark), "dash"),
        (f"{study.out_class} set aside", curve.out, charts.colour(2, dark=dark), "dot"),
    )
    for name, values, tint, dash in lines:
        if np.isfinite(values).any():
            found.add_trace(
                go.Scatter(
                    x=curve.aside[drawn],
                    y=values[drawn],
                    customdata=charts.thresholds(curve.threshold[drawn]),
                    mode="lines",
                    name=in_figure(name),
                    line={"color": tint, "dash": dash, "width": 2, "shape": "vh"},
                    hovertemplate="threshold %{customdata}<br>%{x:.2%} set aside<br>%{y:.1%}<extra></extra>",
                )
            )
    now = study.scope_numbers(policy, "tune").aside.value
    found.add_vline(x=min(now, MOST), line={"color": charts.GREY, "width": 1, "dash": "dot"})
    found.update_xaxes(title="of tune texts in scope, set aside", tickformat=".0%", range=[0, MOST])
    found.update_yaxes(tickformat=".0%", range=[-0.02, 1.02])
    found.update_layout(
        height=300,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        legend={"orientation": "h", "y": 1.12},
    )
    return found
