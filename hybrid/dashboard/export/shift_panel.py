"""Shift: an unlabelled file from production, beside the labelled rows that the policy was tuned on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from hybrid.dashboard import wording, working
from hybrid.dashboard.charts import BLUE, GREY
from hybrid.dashboard.inert import inert
from hybrid.data.limits import UPLOAD
from hybrid.data.opening import SUFFIXES
from hybrid.errors import HybridError, TierError
from hybrid.metrics.drift import ALARM, STEADY, WATCH, Drift, drift
from hybrid.production.reference import watched
from hybrid.routing.engine import Outcomes, Policy, replay, route
from hybrid.routing.table import UNKNOWN, Answers, Bools, Floats, Labels, Rows
from hybrid.study.study import Study
from hybrid.tiers import LocalModel

MAX_ROWS = 50_000
SECONDS = 15.0  # that answering may take; of more texts a random part is checked
LEAST_ROWS = 500  # are checked however slow the tiers are
BINS = 20  # of the histogram
READ = "shift_file.read"
ICONS = {STEADY: ":material/check_circle:", WATCH: ":material/visibility:", ALARM: ":material/notifications_active:"}


@dataclass(frozen=True, slots=True, eq=False)
class Checked:
    """What came of a check: the drift, and the confidences that it rests on."""

    drift: Drift
    labelled: Floats
    production: Floats


def draw(study: Study, policy: Policy) -> None:
    """Draw the upload and the verdict."""
    with st.expander("Check a file from production", icon=":material/monitoring:", key="shift"):
        st.caption(
            "Texts without labels. The tiers that run here answer them; confidence, escalation and predicted classes "
            "are compared with the labelled test rows. Nothing is sent anywhere."
        )
        upload = st.file_uploader(
            "Production texts", [*SUFFIXES, "gz"], key="shift_file", max_upload_size=UPLOAD.value()
        )
        if upload is None:
            st.session_state.pop(READ, None)
            return
        try:
            table = working.read_once(upload, READ).table
            column = st.selectbox("Column with the text", list(table.columns), _guess(table), key="shift_column")
            texts = [t for t in table[column].dropna().astype(str) if t.strip()]
            part = sampled(texts, most_rows(study, policy))
            file = f"{upload.file_id} {column} {len(part)}"
            found = _check(study.token, repr(policy), file, study, policy, part)
        except HybridError as error:
            st.error(inert(error), icon=":material/error:")
            return
        said = []
        if len(part) < len(texts):
            said.append(f"A random {len(part):,} of {len(texts):,} texts were checked, so as not to take long.")
        if len(texts) < len(table):
            said.append(f"{len(table) - len(texts):,} rows without a text are left out.")
        if said:
            st.caption(" ".join(said))
        _draw_verdict(study, policy, found)


def most_rows(study: Study, policy: Policy) -> int:
    """Return how many texts the tiers of a policy that run here answer in a bearable time."""
    local = [n for n in policy.names[:-1] if n in study.models]
    each = sum(float(np.nanmean(study.column(n)[1].latency)) for n in local)
    return MAX_ROWS if each <= 0 else int(np.clip(round(SECONDS / each), LEAST_ROWS, MAX_ROWS))


def sampled(texts: list[str], most: int) -> list[str]:
    """Return the texts, or a random part of them, always the same."""
    if len(texts) <= most:
        return texts
    rows = np.sort(np.random.default_rng(0).choice(len(texts), most, replace=False))
    return [texts[i] for i in rows]


@st.cache_data(scope="session", max_entries=8, show_spinner="Answering the production texts …")
def _check(key: str, policy: str, file: str, _study: Study, _policy: Policy, _texts: list[str]) -> Checked:
    return check(_study, _policy, _texts)


def _guess(table: pd.DataFrame) -> int:
    """Return the column that most likely holds the text: the one with the longest values."""
    lengths = [float(table[c].astype(str).str.len().mean()) for c in table.columns]
    return int(np.argmax(lengths)) if lengths else 0


def check(study: Study, policy: Policy, texts: list[str]) -> Checked:
    """Compare production texts with the labelled rows: test, or tune where test has no answers.

    Raises
    ------
    TierError
        If the policy's first tiers do not run here, or there is no text.
    """
    policy, models = policy, study.models
    missing = [n for n in policy.names[:-1] if n not in models]
    if missing:
        raise TierError(
            f"{', '.join(missing)} does not run here, so its confidence in new texts is not known: choose a policy "
            "on Tune in which only the last tier is external."
        )
    labelled, groups = _labelled(study, policy)
    production = _side(answered(policy, models, texts), models[watched(policy)].answer(texts))
    # a flood of copies is what is to be seen, so production's texts are not grouped
    found = drift(labelled, production, n_classes=len(study.dataset.classes), groups=(groups, None))
    return Checked(found, labelled[0], production[0])


def _labelled(study: Study, policy: Policy) -> tuple[tuple[Floats, Bools, Labels], Rows]:
    """Return the labelled side, and which of its rows belong together."""
    on = study.measure(policy, "test").graded
    if not len(on.truth):
        on = study.measure(policy, "tune").graded
    told = on.predictions.answers(on.predictions.index(watched(policy)))
    return _side(replay(policy, on.predictions), told), on.groups


def answered(policy: Policy, models: Mapping[str, LocalModel], texts: list[str]) -> Outcomes:
    """Decide texts with all tiers but the last: that it would be asked is all that is compared, so it is not."""

    def ask(name: str, rows: Rows) -> Answers:
        if name != policy.names[-1]:
            return models[name].answer([texts[int(i)] for i in rows])
        none = np.zeros(len(rows))
        return Answers(np.full(len(rows), UNKNOWN, dtype=np.int64), none, none, none)

    return route(policy, ask, len(texts))


def _side(o: Outcomes, told: Answers) -> tuple[Floats, Bools, Labels]:
    return told.confidence, o.asked[:, -1], told.label


def _draw_verdict(study: Study, policy: Policy, checked: Checked) -> None:
    found, first = checked.drift, watched(policy)
    box = {STEADY: st.success, WATCH: st.info, ALARM: st.warning}[found.level]
    box(f"**{found.level.capitalize()}.** {inert(found.reason)}", icon=ICONS[found.level])
    d, e = found.distance, found.escalation
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.table(
            pd.DataFrame(
                [
                    ("Texts", f"{found.n_production:,} from production against {found.n_labelled:,} labelled"),
                    ("Escalation rate, production minus labelled (95% CI)", wording.points(e)),
                    (
                        f"Confidence of {inert(first)}: distance (95% CI)",
                        f"{d.value:.3f} ({d.low:.3f} to {d.high:.3f}), "
                        f"Kolmogorov–Smirnov p {'< 0.001' if found.p_value < 0.001 else f'= {found.p_value:.3f}'}",
                    ),
                ],
                columns=["", " "],
            ).set_index("")
        )
        classes = study.dataset.classes
        moved = sorted(zip(classes, found.predicted, strict=True), key=lambda c: -abs(c[1]))[:5]
        st.caption(
            "Predicted classes that moved most, in points: "
            + ", ".join(f"{inert(name)} {wording.signed(by)}" for name, by in moved)
            + ". The class mix of production can be set under What if on Tune."
        )
        st.caption(
            "Steady: no difference beyond chance. Watch: a difference beyond chance that may be small. Alarm: even the "
            "cautious end of an interval is far (confidence by 10% of the texts, escalation by 5 points). Accuracy "
            "cannot be seen without labels: label some of these texts when it alarms. A certificate holds only "
            "while production looks like the labelled rows."
        )
    with right:
        st.markdown(f"**Where the texts fall** · confidence of {inert(first)}")
        st.plotly_chart(
            drift_figure(checked.labelled, checked.production),
            key="shift_chart",
            config={"displayModeBar": False},
            alt=f"Share of the texts by the confidence of {first}, labelled rows beside production.",
        )


def drift_figure(labelled: Floats, production: Floats) -> go.Figure:
    """Draw the share of texts by confidence, labelled rows beside production."""
    edges = np.linspace(0, 1, BINS + 1)
    figure = go.Figure()
    for values, name, tint, dash in ((labelled, "labelled", GREY, "dot"), (production, "production", BLUE, "solid")):
        share = np.histogram(values, edges)[0] / len(values)
        figure.add_trace(
            go.Scatter(
                x=edges,
                y=np.append(share, share[-1]),
                name=name,
                mode="lines",
                line={"color": tint, "width": 2.5, "shape": "hv", "dash": dash},
                fill="tozeroy" if values is production else None,
                hovertemplate="from %{x:.2f}: %{y:.1%}<extra>" + name + "</extra>",
            )
        )
    figure.update_xaxes(title="confidence", range=[0, 1])
    figure.update_yaxes(title="share of the texts", rangemode="tozero", tickformat=".0%")
    figure.update_layout(
        height=300, margin={"l": 10, "r": 10, "t": 10, "b": 10}, legend={"orientation": "h", "y": 1.15}
    )
    return figure
