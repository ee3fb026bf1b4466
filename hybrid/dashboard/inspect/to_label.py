"""To label: the rows of the file without a label, those first whose labels would change most."""

from __future__ import annotations

import numpy as np
import streamlit as st

from hybrid.dashboard import controls, state, wording
from hybrid.dashboard.inert import downloaded
from hybrid.routing.engine import Policy
from hybrid.study.study import Study
from hybrid.study.unlabelled import NextLabels, with_labels

SHOWN = 200  # rows on the page; the download has all that were asked for
FIRST = ("row", "why")  # columns


def draw(study: Study, policy: Policy) -> None:
    """Draw the ranked rows, what their labels would narrow, and the download."""
    with st.expander("Which rows to label next", icon=":material/edit_note:", key="to_label"):
        st.caption(
            "Rows of the file with a text and an empty label, by what their labels would change for this policy."
        )
        if not st.toggle("Rank them", key="to_label_on"):  # it takes seconds where there are many
            return
        n = int(st.number_input("Rows you can label", 5, 5_000, 50, step=5, key="to_label_rows", width=180))
        found = _ranked(study.token, repr(policy), n, study, policy)
        if found is None:
            st.caption(
                "The file has no row with a text and an empty label. Add such rows to it, and they are ranked here."
            )
            return
        told, narrowed = _expected(found)
        st.markdown(f"**{told}**")
        st.caption(
            f"{narrowed}{wording.plural(found.n_unlabelled, 'row')} without a label, near-copies left out"
            + (f"; {found.n_looked_at:,} of them, drawn blindly, were ranked. " if _some(found) else ". ")
            + "First those on which the policy's tiers most likely differ in being right, more so near a threshold, "
            "and those of classes with few rows. They are chosen, not drawn: labelled here they go to the tune side; "
            "make promises before they are in, or on other rows."
        )
        _label_in_place(study, policy, found)
        st.download_button(
            "Download these rows",
            lambda: downloaded(found.table),
            "rows_to_label.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
            key="to_label_download",
        )


def _label_in_place(study: Study, policy: Policy, found: NextLabels) -> None:
    """Draw the rows with a box for each label, and take the labels over when told to."""
    name, shown = study.columns.label, found.table.head(SHOWN).copy()
    shown[name] = None
    columns = [str(c) for c in shown]
    numbers = [c for c in columns if shown[c].dtype.kind == "f"]
    edited = st.data_editor(
        shown,
        hide_index=True,
        height=320,
        key=f"to_label_table_{study.token}_{policy!r}_{len(found.table)}",
        disabled=[c for c in columns if c != name],
        column_order=[*FIRST, name, *(c for c in columns if c not in (*FIRST, name))],
        column_config={
            **{c: st.column_config.NumberColumn(format="%.3f") for c in numbers},
            name: st.column_config.SelectboxColumn(options=list(study.classes), help="Pick the right label."),
        },
    )
    given = edited[name].fillna("").astype(str).str.strip()
    labels = {int(found.places[i]): given.iloc[i] for i in np.flatnonzero(given.to_numpy() != "")}
    if study.llms:
        st.caption("LLM tiers that were asked here are to be asked again then: what was paid for comes from the cache.")
    said = wording.plural(len(labels), "label") if labels else "the labels"
    if st.button(f"Take over {said} and fit again", icon=":material/check:", disabled=not labels, key="to_label_take"):
        _take_over(study, policy, labels, found.found.widths[0])


def _take_over(study: Study, policy: Policy, labels: dict[int, str], known_before: float) -> None:
    """Fit with the labels; what is assumed, pinned and chosen stays."""
    more = with_labels(study, labels, known_before=known_before)
    if controls.fit_again(more, embedder=study.embedder, edits=study.edits, key_words=study.key_words):
        now = state.study()
        assert now is not None
        now.terms, now.pins = study.terms, study.pins
        if now.bind(policy) is not None:
            now.restore(policy)
        state.save()
        st.rerun()


def _some(found: NextLabels) -> bool:
    return found.n_looked_at < found.n_unlabelled


def _expected(found: NextLabels) -> tuple[str, str]:
    """Say what labelling these rows would tell, beside as many drawn blindly."""
    ranked = found.found
    now, these, blind = (f"± {100 * w:.1f}" for w in ranked.widths)
    n, gained = len(ranked.rows), ranked.gained
    return (
        f"About {gained:.0f} of these {n:,} rows tell the tiers apart: exactly one is right. Of {n:,} drawn blindly, "
        f"{ranked.at_random * n:.0f} do."
    ), (
        f"Which tier wins where only one is right is known to {now} points now, to {these} with these labels, to "
        f"{blind} with as many drawn blindly. "
    )


@st.cache_data(scope="session", max_entries=10, show_spinner="Ranking rows without a label …")
def _ranked(key: str, policy: str, n: int, _study: Study, _policy: Policy) -> NextLabels | None:
    return _study.rows_to_label(_policy, n)
