"""Asking: what a guess is not sure of is answered by the user before anything is loaded."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from hybrid.dashboard import state
from hybrid.dashboard.inert import inert
from hybrid.data.guess import Ask, guess
from hybrid.data.several import Relabelled, SeveralLabels, as_combinations, as_question, first_label
from hybrid.errors import HybridError
from hybrid.study.study import Study

WHAT = {"label": "The right class of each row is in", "text": "The texts are in"}
FIRST, COMBINED = "The first label of each row", "Each combination as a class of its own"
QUESTION = "Whether a row has one certain label: yes or no"


def settle(draft: state.Draft) -> bool:
    """Draw what is to be asked about a table; returns whether it may be loaded.

    Once everything is answered, the rest is guessed again around the answers, and the page is drawn anew.
    """
    found = draft.guess
    if found is None or not found.asks:
        return True
    with st.container(border=True, key="asking"):
        answers: dict[str, str | None] = {ask.about: _answer(ask, draft) for ask in found.asks}
    if None in answers.values():
        return False
    picked = {**draft.picked, **answers}
    again = guess(draft.study.table, picked=picked)
    study = Study(draft.study.name, draft.study.table, again.columns, notes=draft.study.joined)
    state.draft(replace(draft, study=study, guess=again, picked=picked))
    st.rerun()


def offer_one_label(draft: state.Draft) -> None:
    """Where rows have several labels, offer to make them one; the table then has a column more."""
    found = draft.guess
    if found is None or found.several is None:
        return
    with st.container(border=True, key="several"):
        names = ", ".join(map(inert, found.several.names[:5]))
        st.markdown(f":material/help: **Some rows have several labels** ({names}). What is to be told apart?")
        how = st.radio(
            "Labels",
            (FIRST, COMBINED, QUESTION),
            index=None,
            key=f"several.{draft.token}",
            label_visibility="collapsed",
        )
        which = None
        if how == QUESTION:
            which = st.selectbox("Label", found.several.names, index=None, key=f"several.{draft.token}.which")
            st.caption("One study a label: load the file again for the next. What they cost adds up.")
    if how is None or (how == QUESTION and which is None):
        return
    try:
        one = _one_label(draft, found.several, how, which)
    except HybridError as error:
        st.error(inert(error), icon=":material/error:")
        return
    columns = replace(draft.study.columns, label=one.label)
    study = Study(draft.study.name, one.table, columns, notes=(*draft.study.joined, *one.notes))
    state.draft(replace(draft, study=study, guess=None))
    st.rerun()


def _one_label(draft: state.Draft, several: SeveralLabels, how: str, which: str | None) -> Relabelled:
    if which is not None:
        return as_question(draft.study.table, several, which)
    return (first_label if how == FIRST else as_combinations)(draft.study.table, several)


def _answer(ask: Ask, draft: state.Draft) -> str | None:
    """Draw a question, with the likely columns first and no answer picked; returns the answer."""
    others = [str(c) for c in draft.study.table.columns if str(c) not in ask.options]
    st.markdown(f":material/help: **{inert(ask.question)}**")
    chosen: str | None = st.selectbox(
        WHAT[ask.about],
        [*ask.options, *others],
        index=None,
        placeholder="Choose a column",
        key=f"ask.{draft.token}.{ask.about}",
    )
    return chosen
