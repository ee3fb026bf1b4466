"""Checking: one text after the other, judged by a key: the model's answer is right, or this class is, or none."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from hybrid.dashboard import controls, state, wording
from hybrid.dashboard.inert import inert
from hybrid.errors import HybridError
from hybrid.routing.engine import Policy
from hybrid.study.audit import CHOICES, KEY, NONE, Audit, audit_of, choices, drawn_audit
from hybrid.study.study import Study

USUAL, MORE = 60, 40  # rows to check at first, and when more are drawn
BLIND = "audit_blind"


def offer_draw(study: Study, policy: Policy) -> None:
    """Draw how many rows are to be checked, and the button that draws them."""
    n_rows = len(study.side("test"))
    most = min(n_rows, 5_000)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        n = st.number_input(
            "Rows to check by hand", min(10, most), most, min(USUAL, most), step=10, key="audit_rows", width=220
        )
        if st.button("Draw them", type="primary", icon=":material/casino:", key="audit_draw"):
            try:
                keep(study, drawn_audit(study, policy, int(n)))
            except HybridError as error:
                controls.show_error(error)
            else:
                st.rerun()
    st.caption(
        f"Of the {n_rows:,} test rows. Half are drawn at random from all of them; the other half where the log is "
        "likelier wrong: where the policy or a tier that runs here answers otherwise, and where they are not sure. "
        "Each row's probability to be drawn is known, and its label counts by the inverse of it."
    )


def keep(study: Study, audit: Audit) -> None:
    """Keep an audit with the study, and with its project."""
    study.form[KEY] = audit.plain()
    state.save()


def draw(study: Study, audit: Audit) -> None:
    """Draw the next row to check and its keys, or that all are done."""
    done, n = len(audit.labels) + len(audit.skipped), len(audit.drawn.rows)
    st.progress(min(1.0, done / n), f"{done:,} of {wording.plural(n, 'row')} done")
    place = audit.next
    if place is None:
        _draw_done(study, audit)
        return
    with st.container(border=True, key="audit_card"):
        _draw_row(study, place)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Back", icon=":material/undo:", shortcut="Left", key="audit_back", on_click=_back, disabled=not done)
        st.button(
            "Cannot say", icon=":material/skip_next:", shortcut="Right", key="audit_skip", on_click=_skip, args=(place,)
        )
        st.toggle("Hide what the model says", key=BLIND, help="Who sees an answer tends to agree with it.")


def _draw_row(study: Study, place: int) -> None:
    dataset = study.dataset
    row = int(study.side("test")[place])
    assert dataset.texts is not None
    st.subheader(inert(dataset.texts[row]), anchor=False)
    offered = choices(study, place)
    said, blind = int(dataset.truth[row]), bool(st.session_state.get(BLIND))
    if not blind:
        st.button(
            f"{inert(dataset.agreement_with)} says {inert(study.classes[said])}: that is right",
            type="primary",
            shortcut="Enter",
            key="audit_right",
            on_click=_give,
            args=(place, study.classes[said]),
        )
    others = sorted(offered) if blind else [code for code in offered if code != said]
    with st.container(horizontal=True, gap="small", key="audit_classes"):
        for key, code in enumerate(others[:CHOICES], start=1):
            name = study.classes[code]
            st.button(inert(name), shortcut=str(key), key=f"audit_{key}", on_click=_give, args=(place, name))
        st.button("None of the classes", shortcut="0", key="audit_none", on_click=_give, args=(place, NONE))
    if len(study.classes) > len(offered):
        box = f"audit_other_{place}"
        st.selectbox(
            "Another class",
            study.classes,
            index=None,
            placeholder=f"one of {len(study.classes):,}; type to find it",
            key=box,
            on_change=_give_other,
            args=(place, box),
        )


def _draw_done(study: Study, audit: Audit) -> None:
    with st.container(border=True, horizontal=True, vertical_alignment="center", key="audit_done"):
        st.markdown(
            f":material/task_alt: **All {len(audit.drawn.rows):,} rows are done.** More make the intervals narrower."
        )
        more = min(MORE, len(study.side("test")) - len(audit.drawn.rows))
        if more > 0:
            label, grown = f"Draw {more} more", replace(audit, n=audit.n + more)
            st.button(label, icon=":material/add:", key="audit_more", on_click=keep, args=(study, grown))
        st.button("Back", icon=":material/undo:", shortcut="Left", key="audit_back", on_click=_back)


def _now() -> tuple[Study, Audit] | None:
    study = state.study()
    audit = None if study is None else audit_of(study)
    return None if study is None or audit is None else (study, audit)


def _give(place: int, name: str) -> None:
    now = _now()
    if now is not None:
        study, audit = now
        keep(study, replace(audit, labels={**audit.labels, place: name}, skipped=audit.skipped - {place}))


def _give_other(place: int, box: str) -> None:
    if st.session_state.get(box) is not None:
        _give(place, st.session_state[box])


def _skip(place: int) -> None:
    now = _now()
    if now is not None:
        study, audit = now
        keep(study, replace(audit, skipped=audit.skipped | {place}))


def _back() -> None:
    """Take the last row that was done back, to judge it again."""
    now = _now()
    if now is None:
        return
    study, audit = now
    done = [int(row) for row in audit.drawn.rows if int(row) in audit.labels or int(row) in audit.skipped]
    if done:
        labels = {row: name for row, name in audit.labels.items() if row != done[-1]}
        keep(study, replace(audit, labels=labels, skipped=audit.skipped - {done[-1]}))
