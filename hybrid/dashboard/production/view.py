"""Production: is it as promised, has anything changed, and do corrections still bear the promise out?"""

from __future__ import annotations

import datetime
from collections.abc import Callable

import numpy as np
import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from hybrid.dashboard import state, wording
from hybrid.dashboard.inert import in_table, inert
from hybrid.dashboard.production.figures import daily_figure, evidence_figure
from hybrid.errors import HybridError
from hybrid.metrics.drift import ALARM, STEADY, WATCH
from hybrid.production.bundle import load_bundle
from hybrid.production.feedback import NONE_OF_THEM, Feedback
from hybrid.production.trial import Trial
from hybrid.production.watching import Series
from hybrid.routing.table import NONE, NONE_LABEL
from hybrid.study import corrections
from hybrid.study.corrections import BROKEN, HOLDS
from hybrid.study.watching import Observed, Watched

ICONS = {STEADY: ":material/check_circle:", WATCH: ":material/visibility:", ALARM: ":material/notifications_active:"}
NO_CLASS = "none of the classes"
PLAIN = {"displayModeBar": False}


def draw(found: Observed) -> None:
    """Draw all of it."""
    if found.trial is not None:
        draw_trial(found.trial)
    one = found.bundles[0]
    if len(found.bundles) > 1:
        titles = [w.watch.title for w in found.bundles]
        picked = st.segmented_control("Bundle", titles, default=titles[0], format_func=inert, key="production.which")
        one = found.bundles[titles.index(picked or titles[0])]
    draw_verdict(one)
    draw_tiles(one)
    draw_days(one)
    draw_streams(one)
    draw_corrections(found, one)
    if found.others:
        others = ", ".join(f"{n:,} of {name}" for name, n in found.others.items())
        st.caption(f"The log also holds decisions of other bundles, which are not looked at: {inert(others)}.")


def draw_verdict(one: Watched) -> None:
    """Say in a box whether something has changed, and in another whether the promise holds."""
    level, w = one.watch.level, one.watch
    box = {STEADY: st.success, WATCH: st.info, ALARM: st.warning}[level]
    moved = [s for s in w.streams if s.level == level] if level != STEADY else []
    why = " ".join(f"{s.name.capitalize()}: {s.reason}" for s in moved)
    blind = [s.name for s in w.streams if not len(s.wealth)]
    if not moved:
        why = "No change that chance does not explain."
    if blind:
        why += f" Not tested, for there is no reference: {', '.join(blind)}."
    box(f"**{level.capitalize()}.** {inert(why)}", icon=ICONS[level])
    r = one.review
    box = {HOLDS: st.success, BROKEN: st.error}.get(r.level, st.info)
    box(f"**Corrections.** {inert(r.words)}", icon=":material/fact_check:")


def draw_tiles(one: Watched) -> None:
    """Draw the large numbers, each beside what was promised."""
    w, r = one.watch, one.review
    by_name = {s.name: s for s in w.series}
    tiles = st.columns(4)
    days = f"{w.days[0]:%d %b %Y} to {w.days[-1]:%d %b %Y}" if len(w.days) > 1 else f"{w.days[0]:%d %b %Y}"
    tiles[0].metric("Decisions", f"{w.n:,}", border=True)
    tiles[0].caption(f"{days}{'' if not w.fallbacks else f'; {w.fallbacks:.1%} fell back'}")
    _tile(tiles[1], "Sent to the last tier", by_name["escalation"], wording.percent)
    _tile(tiles[2], "Cost per 1,000", by_name["cost per 1,000"], wording.dollars)
    known = np.isfinite(r.accuracy.value)
    tiles[3].metric("Right answers", wording.percent(r.accuracy.value) if known else "not known", border=True)
    tiles[3].caption(
        f"{wording.interval_text(r.accuracy)} at all times, {r.labelled:,} of {r.drawn:,} drawn reviewed"
        if known
        else f"{r.drawn:,} drawn for a review, none reviewed"
    )


def _tile(place: DeltaGenerator, name: str, series: Series, form: Callable[[float], str]) -> None:
    place.metric(name, inert(form(series.total)), border=True)
    told = series.promised
    if told is None:
        place.caption("the bundle promised nothing")
    else:
        place.caption(inert(f"promised {form(told.value)} ({form(told.low)} to {form(told.high)})"))


def draw_days(one: Watched) -> None:
    """Draw each number day by day."""
    w = one.watch
    by_name = {s.name: s for s in w.series}
    asked = [s for s in w.series if s.name.startswith("asked ")]
    waits = [by_name["latency p50"], by_name["latency p95"]]
    charts = (
        ("Sent to the last tier", [by_name["escalation"]], ".0%"),
        ("Cost per 1,000 texts, USD", [by_name["cost per 1,000"]], ".3~g"),
        ("Tiers that were asked, share of the texts", asked, ".0%"),
        ("Waiting time in seconds, median and 95 %", waits, ".3~g"),
    )
    for row in (charts[:2], charts[2:]):
        for place, (title, series, form) in zip(st.columns(2, gap="medium"), row, strict=True):
            with place:
                st.markdown(f"**{title}**")
                st.plotly_chart(
                    daily_figure(w, series, form=form),
                    key=f"production.{title}",
                    config=PLAIN,
                    alt=f"{title}: one point a day, with what the bundle promised as a dotted line.",
                )
    st.caption(
        "Dotted: what the bundle measured. Grey: where 95 of 100 days with as many texts lie if production is so; days "
        "outside are orange. Waiting times were measured on another machine."
    )


def draw_streams(one: Watched) -> None:
    """Draw what is tested for a change, and how far the evidence is."""
    w = one.watch
    st.subheader("Has anything changed?")
    left, right = st.columns(2, gap="medium")
    with left:
        rows = [(s.name, s.level, s.reason) for s in w.streams]
        st.table(in_table(pd.DataFrame(rows, columns=["Stream", "Level", "Why"]).set_index("Stream")))
    with right:
        st.plotly_chart(
            evidence_figure(w),
            key="production.evidence",
            config=PLAIN,
            alt="Evidence of a change by stream and day, on a logarithmic axis, with the line where an alarm goes off.",
        )
    st.caption(inert(w.explained) + " Each look counts: the level holds for daily looks, and for any other.")
    if one.cost:
        st.warning(inert(one.cost), icon=":material/payments:")


def draw_corrections(found: Observed, one: Watched) -> None:
    """Draw the reviews: those to do next, what users reported, and the bundle that they lead to."""
    r, d = one.review, one.decisions
    st.subheader("Corrections")
    if r.reported:
        st.caption(
            f"{r.reported:,} decisions were reported by users, {r.reported_wrong:,} of them wrong. Complaints are no "
            "fair draw, so they are not among the numbers above."
        )
    if r.new is not None:
        draw_new(one)
    if not found.folder.exists():
        st.caption("Reviews are kept beside the log: open the dashboard on the server's machine to do them here.")
        return
    if not r.drawn:
        st.caption(
            "No decision was drawn for a review: start the server with `--review-share 0.02`, and one in fifty is."
        )
    elif not len(r.rows):
        st.caption("All decisions that were drawn and that the promise is about are reviewed.")
    else:
        draw_next(found, one)
    with st.expander("Correct any decision by its id", icon=":material/edit:"):
        id = st.text_input("Id of the decision", key="production.id").strip().removeprefix("chatcmpl-")
        if id and id not in d.ids:
            st.warning("No decision of this bundle has that id in the log.")
        elif id:
            _ask(found, one, d.ids.index(id), source="report", key="by_id")


def draw_next(found: Observed, one: Watched) -> None:
    """Draw the oldest decision that waits for a review."""
    r = one.review
    with st.container(border=True):
        st.markdown(f"**Review the next of {len(r.rows):,}** that were drawn at random, the oldest first")
        _ask(found, one, int(r.rows[0]), source="review", key="next")


def _ask(found: Observed, one: Watched, row: int, *, source: str, key: str) -> None:
    d, classes = one.decisions, one.bundle.config.classes
    text = d.text(row)
    if text is None:
        st.info(f"The log keeps no texts (--log-texts full does): look up the decision {inert(d.ids[row])} in yours.")
    else:
        st.text(text)
    decided = classes[d.label[row]] if d.label[row] >= 0 else None
    tier = one.bundle.policy.names[d.tier[row]]
    on = datetime.datetime.fromtimestamp(d.at[row], datetime.UTC)
    none = NONE_LABEL if d.label[row] == NONE else "no label"
    answer = none if decided is None else f"**{inert(decided)}**"
    st.markdown(f"Decided: {answer}, by {inert(tier)}, on {on:%d %b %Y at %H:%M} UTC")
    options = [*classes, NO_CLASS]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        picked = st.selectbox(
            "The right label",
            range(len(options)),
            None if decided is None else classes.index(decided),
            format_func=lambda k: options[k],
            key=f"production.label.{key}.{d.ids[row]}",
        )
        if st.button("Save", type="primary", key=f"production.save.{key}", disabled=picked is None):
            label = NONE_OF_THEM if picked in (None, len(classes)) else classes[picked]
            try:
                Feedback(found.folder).put(d.ids[row], label, source=source)  # type: ignore[arg-type]
            except HybridError as error:
                st.error(inert(error), icon=":material/error:")
                return
            st.session_state["production.seen"] = found.reviewed_again()
            st.rerun()


def draw_new(one: Watched) -> None:
    """Draw the bundle that keeps the promise, and what tells it from the old one."""
    with st.container(border=True):
        try:
            content = one.new_bundle(on=datetime.datetime.now(datetime.UTC).date())
            changes = corrections.differences(one.bundle, load_bundle(content))
        except HybridError as error:
            st.error(inert(error), icon=":material/error:")
            return
        st.markdown("**A bundle that keeps the promise**, as far as the reviewed decisions prove; the old one stays.")
        rows = [(what, before, after) for what, before, after in changes]
        st.table(in_table(pd.DataFrame(rows, columns=["", "Now", "New"]).set_index("")))
        name = f"{one.watch.title.split('@')[0]}-corrected.zip"
        st.download_button(
            "Download the new bundle",
            content,
            name,
            "application/zip",
            type="primary",
            icon=":material/download:",
            on_click="ignore",
        )
        if state.is_local():
            st.caption("Put it where the server's bundle lies and send SIGHUP, or try it first with `--against`.")


def draw_trial(trial: Trial) -> None:
    """Draw the comparison of two bundles."""
    st.subheader("B against A")
    st.info(inert(trial.words), icon=":material/compare_arrows:")
    rows = [
        ("Right answers", wording.points(trial.accuracy)) if min(trial.n_reviewed) else ("Right answers", "no reviews"),
        ("Sent to the last tier", wording.points(trial.escalation)),
        ("Cost per 1,000", _dollars(trial)),
    ]
    st.table(in_table(pd.DataFrame(rows, columns=["", "B minus A (95 % at all times)"]).set_index("")))
    st.caption("The intervals hold at all times at once: looking every day, and stopping when it is decided, is fine.")


def _dollars(trial: Trial) -> str:
    i = trial.cost_per_1000
    if not np.isfinite(i.low):
        return "too few texts"
    low, high = (wording.signed_dollars(v) for v in (i.low, i.high))
    return f"{wording.signed_dollars(i.value)} ({low} to {high})"
