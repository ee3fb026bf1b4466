"""To label: the rows of the file without a label, those first whose labels would change most."""

from __future__ import annotations

import streamlit as st

from hybrid.dashboard import wording
from hybrid.dashboard.inert import inert
from hybrid.dashboard.inert import table as table_of
from hybrid.routing.engine import Policy
from hybrid.study.study import Study
from hybrid.study.unlabelled import NextLabels

SHOWN = 200  # rows on the page; the download has all that were asked for


def draw(study: Study, policy: Policy) -> None:
    """Draw the ranked rows, what their labels would narrow, and the download."""
    with st.expander("Which rows to label next", icon=":material/edit_note:", key="to_label"):
        n = int(st.number_input("Rows you can label", 5, 5_000, 50, step=5, key="to_label_rows", width=180))
        found = _ranked(study.token, repr(policy), n, study, policy)
        if found is None:
            st.caption(
                "The file has no row with a text and an empty label. Add such rows to it: they are ranked here, for "
                "this policy, by what their labels would change."
            )
            return
        told, narrowed = _expected(found)
        st.markdown(f"**{told}**")
        st.caption(
            f"{narrowed}{wording.plural(found.n_unlabelled, 'row')} without a label, near-copies left out"
            + (f"; {found.n_looked_at:,} of them, drawn blindly, were ranked. " if _some(found) else ". ")
            + "First those on which the policy's tiers most likely differ in being right, more so near a threshold, "
            "and those of classes with few rows. They are chosen, not drawn: keep them on the tune side (a column "
            "`split`), and make promises before they are in, or on other rows."
        )
        st.dataframe(
            table_of(found.table.head(SHOWN)),
            hide_index=True,
            height=320,
            column_config={
                f"{inert(name)}": st.column_config.NumberColumn(format="%.3f")
                for name in found.table.columns
                if name == "tells the tiers apart" or name.endswith(" confidence")
            },
        )
        st.download_button(
            "Download these rows",
            lambda: table_of(found.table).to_csv(index=False).encode(),
            "rows_to_label.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
            key="to_label_download",
        )


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
