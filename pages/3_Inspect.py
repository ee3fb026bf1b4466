"""Inspect: the rows behind the numbers; what escalation fixed, what it broke, and which labels look wrong."""

import pandas as pd
import streamlit as st

from hybrid.dashboard import charts, controls, views, wording
from hybrid.dashboard.inert import downloaded, inert
from hybrid.dashboard.inspect import calibration_panel, to_label
from hybrid.dashboard.inspect.rows import Filters, frame_of, matching
from hybrid.metrics.rows import KINDS, confusion, per_class
from hybrid.routing.table import NONE_LABEL
from hybrid.study.answer import unpriced
from hybrid.study.defaults import cheap_of
from hybrid.study.naming import named

HELP = {
    "All": "every measured row",
    "Mistakes": "the final answer is wrong; the most confident first",
    "Confident mistakes": "kept by a cheap tier and wrong, the most confident first: likely wrong labels",
    "Escalated": "the last tier was asked",
    "Fixed": "the cheap tier alone was wrong, the final answer is right",
    "Broken": "the cheap tier alone was right, the final answer is wrong",
    "Set aside": "out of scope: farther from anything seen than the policy allows",
}
ANY = "any"

place = controls.open_page("Inspect")
study = controls.require_study()
st.title("Inspect")
policy = controls.require_policy(study, place)
with st.container(horizontal=True, vertical_alignment="bottom"):
    usual = study.headline(policy).side  # the side of the numbers on every page
    side = st.segmented_control("Rows", ["tune", "test"], default=usual, required=True, key="inspect_rows")
if views.summary(study, policy, side) is None:
    st.warning(f"No {side} row has an answer from every tier of this policy. Pick the other side, or other tiers.")
    st.stop()
mixed = views.mix_note(study, policy)
if mixed:
    st.caption(mixed)
found = study.measure(policy, side).inspection
classes = study.dataset.classes
cheap = cheap_of(policy.tiers).name

counts = {kind: len(found.order(kind)) for kind in KINDS if kind != "Set aside" or policy.scope is not None}


def said_of(kind: str) -> str:
    """Return what a kind of rows is called: to whom texts are sent is said by name."""
    return f"Sent to {policy.names[-1]}" if kind == "Escalated" else kind


kind = st.segmented_control(
    "Show",
    list(counts),
    default="Confident mistakes",
    required=True,
    format_func=lambda name: f"{inert(said_of(name))} ({counts[name]:,})",
    key="inspect_kind",
)
st.caption(f"{inert(said_of(kind))}: {HELP[kind]}.".replace("the cheap tier", inert(cheap)))

left, right = st.columns([3, 2], gap="large")
with left:
    st.markdown("**Truth against final label** · click a cell to see its rows")
    cells = st.plotly_chart(
        charts.confusion_figure(confusion(found, len(classes)), classes),
        key="confusion",
        on_select="rerun",
        selection_mode="points",
        config={"displayModeBar": False},
        alt="Rows by truth and final label. The two boxes Truth and Final label below filter likewise.",
    )
with right:
    st.markdown(f"**Right and wrong by the confidence of {inert(cheap)}** · click a bar to see its rows")
    bars = st.plotly_chart(
        charts.confidence_figure(found.cheap_confidence, found.right),
        key="confidences",
        on_select="rerun",
        selection_mode="points",
        config={"displayModeBar": False},
        alt=f"How many final answers are right and wrong by the confidence of {cheap}.",
    )
cell = next((p["customdata"] for p in cells["selection"]["points"]), None)
spans = [p["customdata"] for p in bars["selection"]["points"]]

names = (*classes, NONE_LABEL, "no answer")
with st.container(horizontal=True, vertical_alignment="bottom"):
    truth = st.selectbox("Truth", [ANY, *classes], key="inspect_truth")
    label = st.selectbox("Final label", [ANY, *names], key="inspect_label")
    search = st.text_input("Search the texts", key="inspect_search", placeholder="a word or part of one")
filters = Filters(
    truth=names.index(truth) if truth != ANY else None,
    label=names.index(label) if label != ANY else None,
    cell=(int(cell[0]), int(cell[1])) if cell is not None else None,
    spans=tuple((float(a), float(b)) for a, b, *_ in spans),
    search=search,
)
rows = matching(study, found, study.measure(policy, side).graded.rows, found.order(kind), filters)
frame = frame_of(study, found, study.measure(policy, side).graded.rows, rows, policy=policy, cheap=cheap)
said = f"{len(rows):,} of {wording.plural(counts[kind], 'row')}"
if filters.cell:
    said += f" · truth {names[filters.cell[0]]}, final label {names[filters.cell[1]]}"
if filters.spans:
    said += f" · {cheap} confidence " + ", ".join(f"{a:.2f} to {b:.2f}" for a, b in filters.spans)
with st.container(horizontal=True, vertical_alignment="center"):
    st.markdown(f"**{inert(said)}**")
    st.download_button(
        "Download these rows",
        lambda: downloaded(frame),
        f"{kind.lower().replace(' ', '_')}_{side}.csv",
        "text/csv",
        icon=":material/download:",
        on_click="ignore",
        disabled=not len(frame),
    )
if filters.cell or filters.spans:
    st.caption("Double-click the chart to drop what was clicked.")
if len(frame):
    percent = st.column_config.NumberColumn(format="%.3f")
    st.dataframe(
        frame,
        hide_index=True,
        height=420 if len(frame) > 10 else "content",
        column_config={"confidence": percent, f"{cheap} confidence": percent},
    )
else:
    st.info("No row is left. Drop a filter, or show another kind.")

to_label.draw(study, policy)
st.subheader("Per class")
right = named("Accuracy", study.dataset.agreement_with)
sent = f"Sent to {policy.names[-1]}"
table = pd.DataFrame(
    {
        "Class": classes[c.code],
        "Rows": c.n_rows,
        right: c.accuracy.value,
        "95% CI": wording.interval_text(c.accuracy),
        "Precision": c.precision,
        sent: c.escalation_rate,
        **({} if unpriced(study, policy) else {"USD per 1,000": c.cost_per_1000}),
    }
    for c in per_class(found, len(classes), groups=study.measure(policy, side).graded.groups)
)
share = st.column_config.NumberColumn(format="percent")
st.dataframe(
    table.sort_values(right),
    hide_index=True,
    column_config={
        right: share,
        "Precision": share,
        sent: share,
        "USD per 1,000": st.column_config.NumberColumn(format="$%.3f"),
    },
)
calibration_panel.draw(study, policy, side)
