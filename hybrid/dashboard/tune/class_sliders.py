"""Class sliders: the table of thresholds, one for each predicted class, and what they gain over one for all."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from hybrid.dashboard import class_table, wording
from hybrid.dashboard.inert import inert
from hybrid.dashboard.tune import suggest_panel
from hybrid.metrics.rows import PredictedClass
from hybrid.routing.engine import Policy, Threshold
from hybrid.routing.patterns import Triage
from hybrid.routing.table import NEVER
from hybrid.study.study import Study


def lines(policy: Policy, classes: Sequence[str]) -> list[Threshold]:
    """Return the thresholds that classes have of their own, each as one that a curve can be drawn over."""
    own = policy.pattern.by_class if isinstance(policy.pattern, Triage) else ()
    return [
        Threshold("by_class", code, f"Threshold of “{name}”", value)
        for code, (name, value) in enumerate(zip(classes, own, strict=False))
        if value is not None
    ]


def put(pattern: str, label: str, value: float) -> None:
    """Set the threshold of a class, as its slider does."""
    st.session_state[class_table.slider_key(pattern, label)] = value
    class_table.kept(pattern)[label] = value


def draw(study: Study, policy: Policy, pattern: str) -> None:
    """Draw the switch, a slider for each predicted class, and what the classes gain over one threshold on test."""
    triage = policy.pattern
    assert isinstance(triage, Triage)
    classes = study.dataset.classes
    opened = bool(triage.by_class)
    title = "One threshold for each predicted class"
    with st.expander(title, expanded=opened, icon=":material/view_list:", key="by_class"):
        on = st.toggle(
            "Classes have thresholds of their own",
            key=class_table.switch_key(pattern),
            help="The threshold above then counts for the classes that share it.",
        )
        if not on:
            st.caption("Suggest can find them: “Triage may have a threshold per predicted class”.")
            return
        gain = suggest_panel.gain_by_class(study, policy)
        if gain is not None:
            found, one = gain
            cost = found.cost_per_1000
            st.markdown(
                f"Against {one}, on the same {found.n_rows:,} test rows: **{wording.verdict(found)}**; cost per 1,000 "
                f"{wording.signed_dollars(cost.value)} ({wording.signed_dollars(cost.low)} to "
                f"{wording.signed_dollars(cost.high)}).".replace("$", r"\$")
            )
        if all(c in class_table.kept(pattern) for c in classes):
            st.caption("Every class has its own: the line on the chart moves none of them.")
        counts = study.measure(policy, "tune").graded.by_predicted_class(policy)
        st.button("Share the threshold above again", key=f"{pattern}.by_class.reset", on_click=_share, args=(pattern,))
        with st.container(height=420 if len(classes) > 8 else "content", border=False):
            columns = st.columns(2)
            for i, row in enumerate(sorted(counts, key=lambda r: -r.n_rows)):
                name = classes[row.code]
                key = class_table.slider_key(pattern, name)
                st.session_state.setdefault(key, class_table.kept(pattern).get(name, triage.threshold))
                if name not in class_table.kept(pattern):
                    st.session_state[key] = triage.threshold
                with columns[i % 2]:
                    st.slider(
                        f"{inert(name)} · {'own' if name in class_table.kept(pattern) else 'shared'} · {_does(row)}",
                        0.0,
                        NEVER,
                        step=0.001,
                        format="%.3f",
                        key=key,
                        on_change=_moved,
                        args=(pattern, name),
                    )


def _does(row: PredictedClass) -> str:
    kept = f"{row.kept:.0%} kept, {row.right:.0%} of these right" if row.kept > 0 else "none kept"
    return f"{row.n_rows:,} rows, {kept}"


def _moved(pattern: str, label: str) -> None:
    class_table.kept(pattern)[label] = float(st.session_state[class_table.slider_key(pattern, label)])


def _share(pattern: str) -> None:
    class_table.kept(pattern).clear()
