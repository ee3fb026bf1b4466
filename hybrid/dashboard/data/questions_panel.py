"""Questions: all labels of rows that have several, each a study of its own, in a table with what they cost together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import isfinite

import pandas as pd
import streamlit as st

from hybrid.dashboard import controls, state, wording
from hybrid.dashboard.inert import inert
from hybrid.dashboard.working import run_cancellable
from hybrid.data.columns import Columns
from hybrid.data.notes import plural
from hybrid.errors import HybridError
from hybrid.metrics.summary import Interval
from hybrid.study import worker
from hybrid.study.answer import unpriced
from hybrid.study.evidence import Progress
from hybrid.study.naming import named
from hybrid.study.questions import Question, Questions
from hybrid.study.study import Study
from hybrid.tiers.embedders import Embedder

FOUND = "questions"  # of the session: what was found of the table that was read last


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    token: str  # of the draft that it was found of
    questions: Questions
    packed: bytes  # a bundle each
    problem: str  # why there are none


def is_of(draft: state.Draft) -> bool:
    """Whether all questions of this table were fitted."""
    found: _Found | None = st.session_state.get(FOUND)
    return found is not None and found.token == draft.token


def fit(draft: state.Draft, names: Sequence[str], columns: Columns, embedder: Embedder | None) -> bool:
    """Fit a study for each of these labels, with progress and a button that cancels; returns whether that was done."""
    several = None if draft.guess is None else draft.guess.several
    drawn = Study(draft.study.name, draft.study.table, columns, notes=draft.study.joined)

    def work(report: Progress) -> _Found:
        ask = partial(
            worker.ask, drawn, several=several, names=names, embedder=embedder, public=state.is_confined(embedder)
        )
        return _Found(draft.token, *worker.apart(ask, report=report))

    try:
        st.session_state[FOUND] = run_cancellable(work, flag="loading", key="cancel_load", doing="Reading")
    except HybridError as error:
        controls.show_error(error)
        return False
    return True


def draw() -> None:
    """Draw what was found: the totals in words, a row for each label, buttons that open one, and the bundles."""
    found: _Found = st.session_state[FOUND]
    questions = found.questions
    model = questions.asked[0].study.dataset.agreement_with
    model = None if model is None else inert(model)
    with st.container(border=True, key="questions"):
        st.markdown(f"#### :material/checklist: {plural(len(questions.asked), 'label', 'labels')}, one question each")
        st.markdown(named(_totals(questions), model))
        if (whole := questions.whole) is not None:
            said = (
                f"{inert(whole.model)} for everything, once a text: all labels right in "
                f"{wording.percent(whole.exact.value)} ({wording.interval_text(whole.exact)}); micro-averaged F1 "
                f"{wording.percent(whole.micro_f1.value)}; {_price(whole.cost_per_1000)} a thousand."
            )
            st.markdown(named(said, model))
        rows = [_row(q) for q in questions.asked]
        st.dataframe(pd.DataFrame(rows), hide_index=True, width="stretch")
        st.caption(
            "Of a rare label almost every no is right: F1 of yes tells whether it is found. Opened, a label's question "
            "is the study at hand: Tune, Compare and Export work on it, the others stay here. The zip holds what is "
            "in this table; what is changed afterwards is in the bundle that Export makes."
        )
        with st.container(horizontal=True, gap="small"):
            for i, q in enumerate(questions.asked):
                if st.button(f"Open {inert(q.label)}", icon=":material/tune:", key=f"questions_open_{i}"):
                    state.keep(q.study)
                    alone = len(q.on.policy.tiers) == 1
                    st.switch_page("pages/2_Compare.py" if alone else "pages/1_Tune.py")
        if found.problem:
            st.warning(f"The bundles cannot be packed: {inert(found.problem)}", icon=":material/warning:")
        else:
            st.download_button(
                f"Download {plural(len(questions.asked), 'bundle', 'bundles')} in one zip",
                found.packed,
                "questions.zip",
                "application/zip",
                icon=":material/download:",
                on_click="ignore",
                key="questions_download",
            )
        for why in dict.fromkeys(why for _, why in questions.left_out):
            names = inert(wording.listed([name for name, reason in questions.left_out if reason == why], most=100))
            st.caption(f":material/block: Left out: **{names}**. {inert(why)}")
        for note in questions.notes:
            st.caption(inert(f"{note.what} {note.done}"))


def _totals(found: Questions) -> str:
    """Return what all questions together do to a text."""
    right = (
        f"On {plural(found.n_rows, 'test row', 'test rows')} all labels are right in "
        f"**{wording.percent(found.exact.value)}** ({wording.interval_text(found.exact)}); micro-averaged F1 "
        f"**{wording.percent(found.micro_f1.value)}** ({wording.interval_text(found.micro_f1)})."
    )
    if not isfinite(found.cost_per_1000.value):
        unknown = dict.fromkeys(name for q in found.asked for name in unpriced(q.study, q.on.policy))
        who = " and ".join(map(inert, unknown))
        return (
            f"{right} What a thousand texts cost is not known: type what {who} costs on its card below, and fit again."
        )
    cost = f"A thousand texts cost **{wording.money(found.cost_per_1000)}**"
    if found.at_once is None:
        asks = any(q.escalated.value for q in found.asked)
        more = ", every question added up. An LLM that answers all labels in one call would cost less."
        return f"{right} {_money(cost + (more if asks else ': no LLM is asked.'))}"
    who = " and ".join(map(inert, found.models))
    said = (
        f"{right} {_money(cost)}: one answer of {who} tells all labels, so a text is paid for once if any question asks"
    )
    if found.added_up.value == found.at_once.value:
        return f"{said}."
    return f"{said}; each question paid for by itself, it would be {_money(wording.dollars(found.added_up.value))}."


def _price(cost: Interval) -> str:
    return _money(wording.money(cost)) if isfinite(cost.value) else "at an unknown price"


def _money(words: str) -> str:
    """Return words whose dollars are no formula."""
    return words.replace("$", r"\$")


def _row(q: Question) -> dict[str, object]:
    return {
        "Label": q.label,
        "Rows with it": q.n_yes,
        named("Right answers", q.study.dataset.agreement_with): wording.percent(q.accuracy.value),
        "95% CI": wording.interval_text(q.accuracy),
        "F1 of yes": wording.percent(q.f1.value) if isfinite(q.f1.value) else "unknown",
        "To the LLM": wording.percent(q.escalated.value),
        "USD per 1,000": wording.dollars(q.cost_per_1000.value),
        "Policy": wording.describe(q.on.policy),
    }
