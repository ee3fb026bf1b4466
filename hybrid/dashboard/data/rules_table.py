"""Rules table: the mined rules, to switch off, relabel and add to."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from hybrid.dashboard import controls
from hybrid.dashboard.inert import inert
from hybrid.errors import HybridError, TierError
from hybrid.study.evidence import RULES
from hybrid.study.study import Study
from hybrid.tiers.rules import Edits, Rules, check_phrase


def edit_rules(study: Study) -> None:
    """Draw the rules in a table; "Apply" measures them again with what was changed."""
    model = study.models[RULES]
    assert isinstance(model, Rules)
    classes = study.dataset.classes
    with st.expander(f"Rules ({len(model.rules)} mined or added)"):
        st.caption(
            "A text that holds the phrase gets the label. Hits and precision are measured out of fold; the confidence "
            "is the lower end of the precision's 95% interval. Delete, relabel or add rows, then apply."
        )
        frame = pd.DataFrame(
            {
                "Phrase": [r.phrase for r in model.rules],
                "Label": [classes[r.label] for r in model.rules],
                "Hits": [r.hits for r in model.rules],
                "Precision": [r.correct / r.hits if r.hits else None for r in model.rules],
                "Confidence": [r.confidence for r in model.rules],
            }
        )
        edited = st.data_editor(
            frame.astype({"Phrase": object, "Label": object, "Precision": float, "Confidence": float}),
            num_rows="dynamic",
            hide_index=True,
            key=f"rules.{hash(study.token)}",
            column_config={
                "Phrase": st.column_config.TextColumn(required=True, help="One word or two neighbouring words."),
                "Label": st.column_config.SelectboxColumn(options=list(classes), required=True),
                "Hits": st.column_config.NumberColumn(disabled=True),
                "Precision": st.column_config.NumberColumn(disabled=True, format="percent"),
                "Confidence": st.column_config.NumberColumn(disabled=True, format="%.3f"),
            },
        )
        if st.button("Apply the rules", icon=":material/check:"):
            try:
                edits = changed(study.edits, model, edited, classes)
            except HybridError as error:
                st.error(inert(error), icon=":material/error:")
                return
            if controls.fit_again(study, edits=edits):
                st.rerun()


def changed(before: Edits, model: Rules, edited: pd.DataFrame, classes: tuple[str, ...]) -> Edits:
    """Return the edits that lead from the mined rules to the edited table.

    Raises
    ------
    TierError
        If a phrase is not one or two words, or has two labels.
    """
    codes = {c: i for i, c in enumerate(classes)}
    wanted: dict[str, int] = {}
    for phrase, label in zip(edited["Phrase"], edited["Label"], strict=True):
        if not isinstance(phrase, str) or label not in codes:
            continue
        phrase = check_phrase(phrase)
        if wanted.get(phrase, codes[label]) != codes[label]:
            raise TierError(f"The rule {phrase!r} has two labels: delete one of its rows.")
        wanted[phrase] = codes[label]
    old = {(r.phrase, r.label) for r in model.rules}
    new = set(wanted.items())
    removed = (before.removed | (old - new)) - new
    added = {*before.added, *(new - old)} & new
    return Edits(frozenset(removed), tuple(sorted(added)))
