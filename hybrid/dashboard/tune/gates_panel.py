"""Gates panel: which tier each gate tells of, and how well, on tune and on test."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from hybrid.dashboard import wording
from hybrid.dashboard.inert import inert
from hybrid.metrics.summary import Interval
from hybrid.routing.engine import answering
from hybrid.study.evidence import CLASSIFIER
from hybrid.study.study import Study

EACH = "One for each tier"
HELP = (
    "One gate's score decides about all tiers; or a trained gate for each tier but the last tells whether that tier is "
    "right, and a text goes to the first whose score reaches its threshold."
)


def own_gates(study: Study) -> dict[str, str]:
    """Return the gate that tells whether a tier is right, by that tier's name."""
    return {t.guards: t.name for t in study.tiers if t.guards}


def say_left_out(study: Study, tier: str) -> None:
    """Say that no gate tells whether a tier is right, and why."""
    known = [study.no_gate.get(tier, ""), *(said for said in study.evidence.left_out if f"for {tier} " in said)]
    why = next((f" {inert(said)}" for said in known if said), "")
    st.caption(f":material/info: {inert(tier)} is left out: no gate tells whether it is right.{why}")


def draw(study: Study) -> None:
    """Draw the button that shows how well each gate tells right from wrong, of each tier."""
    panel = st.popover("How well they tell", icon=":material/query_stats:", key="gates_open", on_change="rerun")
    if not panel.open:
        return
    with panel:
        st.caption(
            "Of a text that a tier gets right and one that it gets wrong, how often the gate scores the right one "
            "higher (AUROC; 0.5 is chance, 95% interval). Tune out of fold; test by the gate that ships."
        )
        st.dataframe(table(study.token, study), hide_index=True, height="content")
        for said in (*study.evidence.left_out, *study.no_gate.values()):
            st.caption(inert(said))


@st.cache_data(scope="session", max_entries=10, show_spinner=False)
def table(key: str, _study: Study) -> pd.DataFrame:
    """Return for each tier what its own gate's scores are worth, and those of the gates that tell of no LLM."""
    rows = []
    gates = [t for t in _study.tiers if t.kind == "gate"]
    for tier in (t for t in answering(_study.tiers) if t.kind != "rules"):
        before = [g for g in gates if g.guards in ("", tier.name, CLASSIFIER)]
        for gate in sorted(before, key=lambda g: g.guards != tier.name):
            tune, test = (_study.gate_auroc(gate.name, tier.name, side) for side in ("tune", "test"))
            rows.append((tier.name, gate.name, _said(tune), _said(test)))
    return pd.DataFrame(rows, columns=["Is this tier right?", "Gate", "Tune", "Test"])


def _said(found: Interval) -> str:
    return "–" if found.value != found.value else f"{found.value:.2f} ({wording.interval_text(found, '.2f')})"
