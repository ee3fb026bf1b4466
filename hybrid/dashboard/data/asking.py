"""Asking: what a guess is not sure of, before anything is loaded; what was assumed of it, afterwards."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from hybrid.dashboard import controls, state
from hybrid.dashboard.inert import inert
from hybrid.data.columns import Columns
from hybrid.data.guess import Ask, guess
from hybrid.data.notes import listed, plural
from hybrid.data.recorded import in_doubt
from hybrid.data.several import COMBINATIONS, FIRST, QUESTION, one_label
from hybrid.errors import HybridError
from hybrid.study.questions import MOST
from hybrid.study.study import Study

WHAT = {
    "label": "The right class of each row is in",
    "text": "The texts are in",
    "group": "Rows that belong together share",
}
ALONE = "Nothing: every row stands for itself"
SURE = "latency_sure"  # of a study's form: answers' columns whose latencies are seconds, as somebody said
EVERY = "every"
OFFERS = {
    FIRST: "The first label of each row",
    COMBINATIONS: "Each combination as a class of its own",
    QUESTION: "Whether a row has one certain label: yes or no",
    EVERY: "All labels, one yes/no question each",
}


def settle(draft: state.Draft, *, every: bool = False) -> bool:
    """Draw what is to be asked about a table; returns whether it may be loaded.

    Where every label is a question of its own, which column holds the right class is not asked.

    Once everything is answered, the rest is guessed again around the answers, and the page is drawn anew.
    """
    found = draft.guess
    asks = () if found is None else tuple(ask for ask in found.asks if not (every and ask.about == "label"))
    if not asks:
        return True
    with st.container(border=True, key="asking"):
        answers: dict[str, str | None] = {ask.about: _answer(ask, draft) for ask in asks}
    if None in answers.values():
        return False
    picked = {**draft.picked, **{about: None if a == ALONE else a for about, a in answers.items()}}
    again = guess(draft.study.table, picked=picked, said=draft.said)
    columns = replace(again.columns, fold_labels=draft.study.columns.fold_labels)
    study = Study(draft.study.name, draft.study.table, columns, notes=draft.study.joined)
    state.draft(replace(draft, study=study, guess=again, picked=picked))
    st.rerun()


def offer_one_label(draft: state.Draft) -> tuple[str, ...]:
    """Where rows have several labels, offer to make them one; the table then has a column more.

    Returns the labels that are all to be asked about, each by a study of its own; empty where it is one study.
    """
    found = draft.guess
    if found is None or found.several is None:
        return ()
    with st.container(border=True, key="several"):
        names = ", ".join(map(inert, found.several.names[:5]))
        st.markdown(f":material/help: **Some rows have several labels** ({names}). What is to be told apart?")
        how = st.radio(
            "Labels",
            OFFERS,
            index=None,
            format_func=OFFERS.get,
            key=f"several.{draft.token}",
            label_visibility="collapsed",
        )
        which = None
        if how == QUESTION:
            which = st.selectbox("Label", found.several.names, index=None, key=f"several.{draft.token}.which")
        every = found.several.names if how == EVERY else ()
        if len(every) > MOST:
            label = f"Labels, at most {MOST} at once"
            every = tuple(
                st.multiselect(label, every, every[:MOST], max_selections=MOST, key=f"several.{draft.token}.all")
            )
    if every or how in (None, EVERY) or (how == QUESTION and which is None):
        return every
    try:
        answers = [r.label for r in draft.study.columns.recorded]
        one = one_label(draft.study.table, found.several, how, name=which, answers=answers)
    except HybridError as error:
        st.error(inert(error), icon=":material/error:")
        return ()
    columns = replace(draft.study.columns, label=one.label)
    study = Study(draft.study.name, one.table, columns, notes=(*draft.study.joined, *one.notes))
    state.draft(replace(draft, study=study, guess=None))
    st.rerun()
    return ()


def offer_mending(study: Study) -> None:
    """Ask about what was assumed and would change every number: latencies that may be milliseconds, folded labels."""
    columns, sure = study.columns, study.form.setdefault(SURE, [])
    for r in in_doubt(columns.recorded, study.dataset.recorded):
        if r.label in sure:
            continue
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f":material/help: **{inert(r.name)} takes over a minute an answer. Is {inert(r.latency)} in**")
            if st.button("milliseconds", key=f"ms.{r.label}"):
                mended = tuple(replace(own, milliseconds=True) if own == r else own for own in columns.recorded)
                _fit_again(study, replace(columns, recorded=mended))
            if st.button("seconds", key=f"s.{r.label}"):
                sure.append(r.label)
                state.save()
                st.rerun()
    folded = study.dataset.folded
    if not folded and columns.fold_labels:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        say, do = "Labels that differ in case, spaces or signs alone are classes of their own.", "Make them one class"
        if columns.fold_labels:
            name, others = next(iter(folded.items()))
            more = f", and so for {plural(len(folded) - 1, 'other class', 'other classes')}" if len(folded) > 1 else ""
            are = "is" if len(others) == 1 else "are"
            say = f"{listed(others, at_most=3)} {are} taken for {name!r}{more}: case, spaces or hidden signs differ."
            do = "Keep spellings apart"
        st.markdown(f":material/help: {inert(say)}")
        if st.button(do, key="fold_labels"):
            _fit_again(study, replace(columns, fold_labels=not columns.fold_labels))


def _fit_again(study: Study, columns: Columns) -> None:
    """Fit the study's table under other columns, as everything else was."""
    draft = state.drafted()
    if controls.fit_again(study, columns=columns):
        if draft is not None and draft.study.table is study.table:
            draft.study.columns = columns
            for key in [k for k in st.session_state if str(k).startswith(f"columns.{draft.token}.")]:
                del st.session_state[key]  # the picks start from these columns again
        st.rerun()


def _answer(ask: Ask, draft: state.Draft) -> str | None:
    """Draw a question, with the likely columns first and no answer picked; returns the answer."""
    others = [str(c) for c in draft.study.table.columns if str(c) not in ask.options]
    options = [*ask.options, ALONE, *others] if ask.about == "group" else [*ask.options, *others]
    st.markdown(f":material/help: **{inert(ask.question)}**")
    chosen: str | None = st.selectbox(
        WHAT[ask.about],
        options,
        index=None,
        placeholder="Choose a column",
        key=f"ask.{draft.token}.{ask.about}",
    )
    return chosen
