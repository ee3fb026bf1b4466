"""Found: what the checked rows say of the log's model, of every tier and policy, and what can be promised."""

from __future__ import annotations

import math

import pandas as pd
import streamlit as st

from hybrid.dashboard import wording
from hybrid.dashboard.inert import downloaded, inert
from hybrid.metrics.intervals import Interval
from hybrid.routing.engine import Policy
from hybrid.study.audit import Audit, Audited, Findings, bound, findings, laid_out, policies_of
from hybrid.study.study import Study


def draw(study: Study, policy: Policy, audit: Audit) -> None:
    """Draw what is known by now."""
    found = findings(study, audit, policies_of(study))
    if found.model is None:
        if found.n:
            st.caption(
                f"Check about {wording.plural(found.wanting, 'more row')} and this says how often answers are right."
            )
        return
    st.subheader("How often answers are right")
    _draw_large(found)
    rows = [_row(one, found) for one in (found.model, *found.others)]
    st.dataframe(pd.DataFrame(rows), hide_index=True, width="content", height="content")
    st.caption(
        f"By hand alone: only the {found.n_random:,} checked rows drawn at random from all. With the log: all "
        f"{found.n:,} checked rows, each by the inverse of its probability to be drawn, and what is known of all "
        f"{found.n_rows:,} test rows (prediction-powered inference). In brackets: 95% intervals. A difference rests on "
        "the checked rows on which the two answer differently alone, so it is not that of the two shares to the digit."
    )
    most = bound(study, audit, policy)
    if most is not None:
        st.markdown(f":material/verified: **{inert(wording.short(policy))}**: {inert(most.words)}")
        st.caption(
            "Exact, for a policy that was not chosen by these labels: thresholds are set on tune rows, by what the log "
            "says. The larger promise, of agreement with the log, is under Certify on Tune: it rests on all tune rows."
        )


def draw_rows(study: Study, audit: Audit) -> None:
    """Draw the drawn rows as a table, and the download."""
    with st.expander("The rows, what was said of each, and their probabilities", icon=":material/table_rows:"):
        table = laid_out(study, audit)
        numbers = st.column_config.NumberColumn(format="%.4f")
        st.dataframe(table, hide_index=True, height=320, column_config={"probability": numbers})
        st.download_button(
            "Download them",
            lambda: downloaded(table),
            "audited_rows.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
            key="audit_download",
        )


def _draw_large(found: Findings) -> None:
    """Draw the log's model and the policy at hand large."""
    assert found.model is not None
    for column, one in zip(st.columns(3), [found.model, *found.others[:1]], strict=False):
        change = None
        if one.gain is not None and not math.isnan(one.gain.value):
            points = wording.signed(one.gain.value).replace("−", "-")  # a plain minus turns the arrow
            change = f"{points} points against {inert(found.model.name)}"
        told = one.gain is not None and not one.gain.low <= 0 <= one.gain.high
        name = inert(one.name[:1].upper() + one.name[1:] if one.gain is not None else one.name)
        with column:
            colour = "normal" if told else "off"
            st.metric(f"{name} is right on", wording.percent(one.right.value), change, delta_color=colour)  # type: ignore[arg-type]
            st.caption(f"95%: {wording.interval_text(one.right)}")


def _row(one: Audited, found: Findings) -> dict[str, str]:
    assert found.model is not None
    return {
        "Who": one.name,
        f"As {found.model.name} says": wording.percent(one.agreement),
        "Right, by hand alone": _said(one.by_hand),
        "Right, with the log": _said(one.right),
        f"Against {found.model.name}, points": "" if one.gain is None else _points(one.gain),
    }


def _said(interval: Interval) -> str:
    if math.isnan(interval.value):
        return "too few rows"
    return f"{wording.percent(interval.value)} ({wording.interval_text(interval)})"


def _points(gain: Interval) -> str:
    ends = f"({wording.signed(gain.low)} to {wording.signed(gain.high)})"
    return f"none of these rows checked {ends}" if math.isnan(gain.value) else f"{wording.signed(gain.value)} {ends}"
