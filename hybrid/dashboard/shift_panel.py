"""Shift: an unlabelled file from production, beside the labelled rows that the policy was tuned on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import streamlit as st

from hybrid.dashboard import wording
from hybrid.dashboard.state import Choice, Loaded, evaluate_on
from hybrid.drift import ALARM, STEADY, WATCH, Drift, drift
from hybrid.errors import HybridError, TierError
from hybrid.predictions import UNKNOWN, Answers, Bools, Floats, Labels, Rows
from hybrid.routing import Outcomes, Policy, replay, route
from hybrid.tables import read
from hybrid.tiers import LocalModel

MAX_ROWS = 50_000
ICONS = {STEADY: ":material/check_circle:", WATCH: ":material/visibility:", ALARM: ":material/notifications_active:"}


@dataclass(frozen=True, slots=True, eq=False)
class Production:
    """What the policy would do with production texts as far as it runs here."""

    confidence: Floats  # of the first tier
    escalated: Bools
    predicted: Labels


def draw(data: Loaded, choice: Choice) -> None:
    """Draw the upload and the verdict."""
    with st.expander("Check a file from production", icon=":material/monitoring:", key="shift"):
        st.caption(
            "Texts without labels. The tiers that run here answer them; confidence, escalation and predicted classes "
            "are compared with the labelled test rows. Nothing is sent anywhere."
        )
        upload = st.file_uploader("Production texts", ["csv", "tsv", "jsonl", "parquet"], key="shift_file")
        if upload is None:
            return
        try:
            table = read(upload.name, upload.getvalue())
            column = st.selectbox("Column with the text", list(table.columns), _guess(table), key="shift_column")
            texts = [str(t) for t in table[column].head(MAX_ROWS) if str(t).strip()]
            found = check(data, choice, texts)
        except HybridError as error:
            st.error(str(error), icon=":material/error:")
            return
        _draw_verdict(data, choice, found)


def _guess(table: pd.DataFrame) -> int:
    """Return the column that most likely holds the text: the one with the longest values."""
    lengths = [float(table[c].astype(str).str.len().mean()) for c in table.columns]
    return int(np.argmax(lengths)) if lengths else 0


def check(data: Loaded, choice: Choice, texts: list[str]) -> Drift:
    """Compare production texts with the labelled rows: test, or tune where test has no answers.

    Raises
    ------
    TierError
        If the policy's first tiers do not run here, or there is no text.
    """
    policy, models = choice.policy, data.recording.models
    missing = [n for n in policy.names[:-1] if n not in models]
    if missing:
        raise TierError(
            f"{', '.join(missing)} does not run here, so its confidence in new texts is not known: choose a policy "
            "on Tune in which only the last tier is external."
        )
    labelled, production = (_side(policy, o) for o in (_labelled(data, choice), answered(policy, models, texts)))
    return drift(labelled, production, n_classes=len(data.recording.dataset.classes))


def _labelled(data: Loaded, choice: Choice) -> Outcomes:
    (on,) = evaluate_on(data, (choice,), "test")
    if not len(on.truth):
        (on,) = evaluate_on(data, (choice,), "tune")
    return replay(choice.policy, on.predictions)


def answered(policy: Policy, models: dict[str, LocalModel], texts: list[str]) -> Outcomes:
    """Decide texts with the local tiers; the last tier, where it is external, answers nothing."""

    def ask(name: str, rows: Rows) -> Answers:
        if name in models:
            return models[name].answer([texts[int(i)] for i in rows])
        none = np.zeros(len(rows))
        return Answers(np.full(len(rows), UNKNOWN, dtype=np.int64), none, none, none)

    return route(policy, ask, len(texts))


def _side(policy: Policy, o: Outcomes) -> tuple[Floats, Bools, Labels]:
    answering = 1 if policy.pattern.gate_first else 0  # a gate predicts no class
    return o.seen.confidence[:, 0], o.asked[:, -1], o.seen.label[:, answering]


def _draw_verdict(data: Loaded, choice: Choice, found: Drift) -> None:
    box = {STEADY: st.success, WATCH: st.info, ALARM: st.warning}[found.level]
    box(f"**{found.level.capitalize()}.** {found.reason}", icon=ICONS[found.level])
    d, e = found.distance, found.escalation
    st.table(
        pd.DataFrame(
            [
                ("Texts", f"{found.n_production:,} from production against {found.n_labelled:,} labelled"),
                (
                    f"Confidence of {choice.policy.names[0]}: distance (95% CI)",
                    f"{d.value:.3f} ({d.low:.3f} to {d.high:.3f}), Kolmogorov–Smirnov p = {found.p_value:.3g}",
                ),
                ("Escalation rate, production minus labelled (95% CI)", wording.points(e)),
            ],
            columns=["", " "],
        ).set_index("")
    )
    classes = data.recording.dataset.classes
    moved = sorted(zip(classes, found.predicted, strict=True), key=lambda c: -abs(c[1]))[:5]
    st.caption(
        "Predicted classes that moved most, in points: "
        + ", ".join(f"{name} {wording.signed(by)}" for name, by in moved)
        + ". The class mix of production can be set under What if."
    )
    st.caption(
        "Steady: no difference beyond chance. Watch: a difference beyond chance that may be small. Alarm: even the "
        "cautious end of an interval is far (confidence by 10% of the texts, escalation by 5 points). Accuracy cannot "
        "be seen without labels: label some of these texts when it alarms."
    )
