"""Tune: pick a pattern, drag its thresholds, and see at once what it does."""

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from hybrid.dashboard import assumptions, charts, controls, state, tiles, views
from hybrid.dashboard.inert import inert
from hybrid.dashboard.tune import axes, certify_panel, class_sliders, human_panel, suggest_panel, threshold_line
from hybrid.dashboard.tune.axes import Axis
from hybrid.routing.patterns import PATTERNS
from hybrid.routing.table import NEVER

MAP_LEVELS = 41  # of each threshold; those of the data's own confidences come on top
HEIGHT = 490  # pixels of the charts: with the tiles above they fit on one screen

place = controls.open_page("Tune")
study = controls.require_study()

shown = st.session_state.get("shown_policy") if "pattern" in st.session_state else None  # a left page forgets
if shown != study.policy and study.policy is not None:
    controls.show(study.policy, study.classes)  # it was set elsewhere: by a suggestion, a link, another page
st.session_state.setdefault("pattern", "triage")
rail, stage = st.columns([1, 3], gap="medium")
with rail:
    pattern = st.segmented_control(
        "Pattern",
        list(PATTERNS),
        required=True,
        format_func=lambda name: PATTERNS[name].title,
        key="pattern",
    )
    kind = PATTERNS[pattern]
    st.caption(kind.summary)
    if study.late or study.missing:
        controls.say_missing(study)
    if study.missing:
        assumptions.pick(study)
        st.stop()
    policy_here = st.container()  # filled after What if, which may add a tier
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        assumptions.pick(study)
        suggest_here, certify_here, pin_here = (st.container(width="content") for _ in range(3))  # filled below
    with policy_here:
        policy = controls.pick_policy(pattern, kind, study)
    statistics = st.toggle(
        "Statistics", key="statistics", help="Show the terms, tests and intervals of the field in full, on every page."
    )
if policy is None:
    st.stop()
state.use(policy)
st.session_state["shown_policy"] = study.policy
terms = study.terms

summary = views.summary(study, policy, "tune")
if summary is None:
    stage.warning(
        f"No tune row has an answer from all of {', '.join(map(inert, policy.names))}, in the class mix that you set. "
        "Pick other tiers, add a file with their answers on the Data page, or reset the mix under What if."
    )
    st.stop()
test = views.summary(study, policy, "test")
simulated = views.simulated(policy)
with suggest_here:
    suggest_panel.controls(study, policy)
with certify_here:
    certificate = certify_panel.controls(study, policy)
with pin_here:
    if st.button("Pin", icon=":material/push_pin:", help=f"Keep it for Compare; {len(study.pinned)} pinned so far"):
        fresh = study.pin(policy)
        state.save()
        st.caption(f"Pinned as {study.pins[-1].name}." if fresh else "This policy is pinned already.")
beside = views.saying(study, policy, statistics=statistics)
with stage:
    tiles.draw(summary, terms, test=test, policy=policy, saying=beside)
    chart_here = st.container()
    axes_here = st.container(horizontal=True, vertical_alignment="bottom")  # below what takes the first screen
    suggest_panel.result(study, policy)
    certify_panel.result(study, policy, certificate)
    if simulated:
        st.markdown(
            f":orange-badge[:material/science: simulated] Every number that involves "
            f"**{', '.join(map(inert, simulated))}** is made up at the accuracy, price and latency that you set under "
            "What if."
        )
    with st.container(key="verdict"):
        controls.show_gain(study, policy, simulated=bool(simulated))
    human_panel.show_load(study, policy)
    mixed = views.mix_note(study, policy)
    if mixed:
        st.caption(mixed)
    unpriced = [t.name for t in policy.tiers if t.kind == "recorded" and t.price == 0]
    if unpriced:
        st.caption(
            f":material/payments: No price is set for {', '.join(map(inert, unpriced))}: answers count $0. Set it "
            "under What if."
        )

state.write_address()
controls.draw_header(place, study)
lines = policy.thresholds()
if not lines:  # one tier alone
    st.stop()
with axes_here:
    which = 0
    if len(lines) > 1:
        titles = [line.title for line in lines]
        picked = st.segmented_control(
            "Draw the curves over",
            titles,
            default=titles[-1],
            required=True,
            format_func=inert,
            key=f"{pattern}.axis",
        )
        which = titles.index(picked)
    scale_name = st.segmented_control(
        "Horizontal axis", list(axes.NAMES), default=axes.PLAIN, required=True, key="axis"
    )
line = lines[which]
view = views.threshold(study, policy, line, scale_name)
assert view is not None  # there is a summary
figure, curve, axis = view
figure = go.Figure(certify_panel.mark(figure, axis, certificate)).update_layout(height=HEIGHT)
keys = {controls.slider_key(pattern, x): x.value for x in lines}
parts = {}
if line.value is not None:
    shown, said = views.along(study, policy, line, terms, beside)
    parts["line"] = threshold_line.line(
        shown,
        key=controls.slider_key(pattern, line),
        label=line.title,
        axis=axis,
        panels=[(y, tint) for y, tint, _ in charts.panels(shown)],
        live=said,
    )
if len(lines) > 1:
    other = next(x for x in lines if x is not line)
    pair = tuple(sorted((line, other), key=lines.index))
    curves = [study.measure(policy, "tune").curve(x) for x in pair]
    map_axes = tuple(Axis(scale_name, c) for c in curves)
    levels = tuple(np.unique([*np.arange(MAP_LEVELS) / (MAP_LEVELS - 1), *c.thin(20).threshold, NEVER]) for c in curves)
    surface = study.measure(policy, "tune").graded.surface(policy, pair, levels)
    parts["map"] = threshold_line.map_(
        surface,
        keys=tuple(controls.slider_key(pattern, x) for x in pair),
        label=" and ".join(x.title for x in pair),
        axes=map_axes,
        live=tiles.of_points(surface, terms, saying=beside),
    )
    left, right = chart_here.columns([2, 3])
    with left:
        st.plotly_chart(
            certify_panel.mark_map(
                charts.renamed(
                    charts.map_figure(surface, axes=map_axes, titles=tuple(x.title for x in pair)),
                    study.dataset.agreement_with,
                ),
                map_axes,
                certificate,
            ).update_layout(height=HEIGHT),
            key="map",
            config={"displayModeBar": False},
            alt=f"Accuracy over {pair[0].title} and {pair[1].title}, with lines of equal cost. Drag the point.",
        )
else:
    right = chart_here
with right:
    st.plotly_chart(
        figure,
        key="curves",
        config={"displayModeBar": False},
        alt=f"Accuracy, escalation rate and cost per 1,000 texts against: {line.title}. "
        f"The tiles above tell the numbers at the threshold that is set.",
    )
threshold_line.mount(keys, tiles.TARGETS, **parts)
with stage:
    if any(p.per_class for p in kind.params()):
        class_sliders.draw(study, policy, pattern)
    if line.value is None:
        st.caption(
            f"“{inert(line.title)}” is off: the curves show what it would do when on, the dotted lines the policy as "
            "set."
        )
    on = study.measure(policy, "tune").graded
    st.caption(
        f"Drag the line, or step with the arrow keys through every threshold at which something changes. Measured on "
        f"{summary.n_rows:,} of {on.n_side:,} tune rows (those that every tier answered"
        f"{', in the class mix that you set' if terms.mix else ''}); the classifier's answers are out of fold."
    )
