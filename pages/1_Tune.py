"""Tune: pick a pattern, drag its thresholds, and see at once what it does."""

import numpy as np
import streamlit as st

from hybrid.dashboard import cached, charts, controls, state, tiles, views
from hybrid.dashboard.state import Choice
from hybrid.dashboard.tune import axes, certify_panel, class_sliders, human_panel, suggest_panel, threshold_line
from hybrid.dashboard.tune.axes import Axis
from hybrid.routing.patterns import PATTERNS
from hybrid.routing.table import NEVER

MAP_LEVELS = 41  # of each threshold; those of the data's own confidences come on top

controls.open_page("Tune")
data = controls.require_data()

st.session_state.setdefault("pattern", "triage")  # not `default=`: a suggestion writes this key, too
with st.container(horizontal=True, vertical_alignment="bottom"):
    pattern = st.segmented_control(
        "Pattern",
        list(PATTERNS),
        required=True,
        format_func=lambda name: PATTERNS[name].title,
        key="pattern",
        bind="query-params",
    )
    whatif, terms, scale = controls.pick_whatif(data)
    suggest_here, certify_here = (st.container(width="content") for _ in range(2))  # filled below
    pin_here = st.container(horizontal=True, width="content", vertical_alignment="center")
kind = PATTERNS[pattern]
st.caption(kind.summary)
policy = controls.pick_policy(pattern, kind, state.table_of(data, whatif, terms), data)
if policy is None:
    st.stop()
choice = Choice(policy, whatif if policy.simulated else None, terms)
state.choose(choice)

summary = cached.summary(data, choice, "tune")
if summary is None:
    st.warning(
        f"No tune row has an answer from all of {', '.join(policy.names)}, in the class mix that you set. Pick other "
        "tiers, add a file with their answers on the Data page, or reset the mix under What if."
    )
    st.stop()
test = cached.summary(data, choice, "test")
simulated = views.simulated(choice)
with suggest_here:
    suggest_panel.controls(data, choice, scale)
with certify_here:
    certificate = certify_panel.controls(data, choice)
with pin_here:
    if st.button("Pin to compare", icon=":material/push_pin:", help=f"{len(state.pins())} pinned so far"):
        fresh = state.pin(choice)
        st.caption(f"Pinned as {state.pins()[-1].name}." if fresh else "This policy is pinned already.")
if simulated:
    st.markdown(
        f":orange-badge[:material/science: simulated] Every number that involves **{', '.join(simulated)}** is made up "
        "at the accuracy, price and latency that you set under What if."
    )
tiles.draw(summary, scale, test=test, names=policy.names, mark=" · simulated" if simulated else "")
human_panel.show_load(data, choice, scale)
mixed = views.mix_note(data, choice)
if mixed:
    st.caption(mixed)

unpriced = [t.name for t in policy.tiers if t.kind == "recorded" and t.price == 0]
if unpriced:
    st.caption(
        f":material/payments: No price is set for {', '.join(unpriced)}: answers count $0. Set it under What if."
    )
with st.container(key="verdict"):
    controls.show_gain(data, choice, simulated=bool(simulated))

suggest_panel.result(data, choice, scale)
certify_panel.result(data, choice, certificate)

lines = policy.thresholds()
chart_here = st.container()
with st.container(horizontal=True, vertical_alignment="bottom"):  # below the charts, which take the first screen
    which = 0
    if len(lines) > 1:
        titles = [line.title for line in lines]
        picked = st.segmented_control(
            "Draw the curves over", titles, default=titles[-1], required=True, key=f"{pattern}.axis"
        )
        which = titles.index(picked)
    scale_name = st.segmented_control(
        "Horizontal axis", list(axes.NAMES), default=axes.PLAIN, required=True, key="axis", bind="query-params"
    )
line = lines[which]
view = views.threshold(data, choice, line, scale_name)
assert view is not None  # there is a summary
figure, curve, axis = view
figure = certify_panel.mark(figure, axis, certificate)
keys = {controls.slider_key(pattern, x): x.value for x in lines}
parts = {}
if line.value is not None:
    shown, said = views.along(data, choice, line, scale)
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
    curves = [cached.curve(data, choice, x) for x in pair]
    map_axes = tuple(Axis(scale_name, c) for c in curves)
    levels = tuple(np.unique([*np.arange(MAP_LEVELS) / (MAP_LEVELS - 1), *c.thin(20).threshold, NEVER]) for c in curves)
    surface = cached.surface(data, choice, pair, levels)
    parts["map"] = threshold_line.map_(
        surface,
        keys=tuple(controls.slider_key(pattern, x) for x in pair),
        label=" and ".join(x.title for x in pair),
        axes=map_axes,
        live=tiles.of_points(surface, scale),
    )
    left, right = chart_here.columns([2, 3])
    with left:
        st.plotly_chart(
            certify_panel.mark_map(
                charts.map_figure(surface, axes=map_axes, titles=tuple(x.title for x in pair)), map_axes, certificate
            ),
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
if any(p.per_class for p in kind.params()):
    class_sliders.draw(data, choice, pattern)
if line.value is None:
    st.caption(f"“{line.title}” is off: the curves show what it would do when on, the dotted lines the policy as set.")
on = cached.evaluation(data, choice, "tune")
st.caption(
    f"Drag the line, or step with the arrow keys through every threshold at which something changes. Measured on "
    f"{summary.n_rows:,} of {on.n_side:,} tune rows (those that every tier answered"
    f"{', in the class mix that you set' if terms.mix else ''}); the classifier's answers are out of fold."
)
