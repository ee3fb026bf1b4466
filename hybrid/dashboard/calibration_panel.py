"""Calibration and reliability: what a tier's confidence means, how well it ranks, and what any router could gain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from hybrid.calibration import ConfidenceCalibrator, cross_fitted, fit_confidence_calibrator
from hybrid.curves import sweep
from hybrid.dashboard import wording
from hybrid.dashboard.charts import BLUE, GREY, ORANGE
from hybrid.dashboard.state import Choice, Loaded, cheap_of, evaluate_on
from hybrid.metrics import Interval, share
from hybrid.patterns import Triage
from hybrid.ranking import RiskCoverage, error_overlap, macro_f1_interval, risk_coverage, routing_gain
from hybrid.recording import CLASSIFIER
from hybrid.reliability import Reliability, reliability
from hybrid.routing import Policy, replay

POINTS = 500  # drawn of a risk–coverage curve


@dataclass(frozen=True, slots=True, eq=False)
class TierReliability:
    """A tier's confidence before and after calibration, and why it was calibrated that way."""

    before: Reliability
    after: Reliability
    method: str
    reason: str
    informative: bool
    risk: RiskCoverage


def draw(data: Loaded, choice: Choice, side: str) -> None:
    """Draw the section: reliability per tier, risk–coverage, and the numbers of the field."""
    st.subheader("Calibration and reliability")
    names = [t.name for t in choice.policy.tiers if t.kind != "gate"]
    name = st.segmented_control("Tier", names, default=names[0], required=True, key="reliability_tier")
    found = _measure(data.key, repr(choice), side, name, data, choice)
    if not found.informative:
        st.warning(
            f"The confidence of {name} carries no information. {found.reason} A threshold on it keeps rows "
            "no better than chance would.",
            icon=":material/warning:",
        )
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown(
            f"**Does {name}'s confidence come true?** · {side} rows, {len(found.after.rows)} bins of equal mass"
        )
        st.plotly_chart(
            reliability_figure(found),
            key="reliability",
            config={"displayModeBar": False},
            alt=f"Share right against stated confidence of {name}, before and after calibration. The table tells ECE "
            "and Brier.",
        )
    with right:
        st.markdown(
            f"**Selective risk of {name} by coverage** · AURC {found.risk.aurc:.4f}, E-AURC {found.risk.e_aurc:.4f}"
        )
        st.plotly_chart(
            risk_figure(found.risk),
            key="risk_coverage",
            config={"displayModeBar": False},
            alt=f"Share wrong among the texts that {name} keeps, against the share that it keeps.",
        )
    st.table(
        pd.DataFrame(
            {
                when: {
                    "ECE, 15 equal-mass bins (95% CI)": _with_interval(r.ece),
                    "Brier score (95% CI)": _with_interval(r.brier),
                    "Rows": f"{r.n_rows:,}",
                }
                for when, r in (("before", found.before), ("after", found.after))
            }
        )
    )
    st.caption(
        f"Calibrated by {found.method}. {found.reason} ECE overstates at few rows; its interval allows for that."
    )
    _draw_numbers(data, choice, side)


@st.cache_data(scope="session", max_entries=30, show_spinner=False)
def _measure(key: str, choice: str, side: str, name: str, _data: Loaded, _choice: Choice) -> TierReliability:
    (on,) = evaluate_on(_data, (_choice,), side)
    column = on.predictions.index(name)
    said, right = on.predictions.confidence[:, column], on.predictions.label[:, column] == on.truth
    risk = risk_coverage(said, right)
    raw = _data.recording.raw_confidence
    model = _data.recording.models.get(CLASSIFIER)
    (tune,) = evaluate_on(_data, (_choice,), "tune")
    tune_said = tune.predictions.confidence[:, column]
    tune_right = tune.predictions.label[:, column] == tune.truth
    fitted = fit_confidence_calibrator(tune_said, tune_right)
    if name == CLASSIFIER and raw is not None and model is not None:
        return TierReliability(
            reliability(raw[on.rows], right),
            reliability(said, right),
            "one temperature on its logits, fitted out of fold",
            f"On the confidence as it is now: {_again(fitted)}",
            fitted.informative,
            risk,
        )
    if side == "tune":
        fold = _data.recording.split.fold[on.rows]
        after = cross_fitted(said, right, fold) if len(np.unique(fold)) > 1 else fitted.apply(said)
    else:
        after = fitted.apply(said)
    return TierReliability(
        reliability(said, right), reliability(after, right), fitted.method, fitted.reason, fitted.informative, risk
    )


def _again(fitted: ConfidenceCalibrator) -> str:
    reason = fitted.reason[:1].lower() + fitted.reason[1:]
    return f"{fitted.method} would be chosen next ({reason.rstrip('.')})."


def _with_interval(i: Interval) -> str:
    return f"{i.value:.4f} ({i.low:.4f} to {i.high:.4f})"


def _draw_numbers(data: Loaded, choice: Choice, side: str) -> None:
    frame = numbers(data.key, repr(choice), side, data, choice)
    cheap, strong = cheap_of(choice.policy.tiers).name, choice.policy.names[-1]
    st.markdown(f"**Routing between {cheap} and {strong}** · {side} rows, every threshold of triage")
    st.dataframe(frame, hide_index=True, height="content")


@st.cache_data(scope="session", max_entries=30, show_spinner=False)
def numbers(key: str, choice: str, side: str, _data: Loaded, _choice: Choice) -> pd.DataFrame:
    """Return the numbers of the field with what they mean, for the choice and for triage between its ends."""
    (on,) = evaluate_on(_data, (_choice,), side)
    tiers = _choice.policy.tiers
    cheap, strong = cheap_of(tiers), tiers[-1]
    overlap = error_overlap(on.predictions, on.truth, weak=cheap.name, strong=strong.name)
    curve = sweep(Policy(Triage(), (cheap, strong)), on.predictions, on.truth, name="threshold")
    alone = {t.name: on.predictions.answers(on.predictions.index(t.name)) for t in (cheap, strong)}
    weak, best = (
        (1000 * float(alone[t.name].cost.mean()), float((alone[t.name].label == on.truth).mean()))
        for t in (cheap, strong)
    )
    gain = routing_gain(curve.escalation_rate, curve.accuracy, curve.cost_per_1000, weak=weak, strong=best)
    outcomes = replay(_choice.policy, on.predictions)
    f1 = macro_f1_interval(outcomes.label, on.truth)
    accuracy = share(outcomes.label == on.truth)
    undefined = f"undefined: {strong.name} is not more accurate than {cheap.name}"
    gap = best[1] - weak[1]
    rows = [
        (
            "Macro-F1 of the policy (95% CI)",
            f"{f1.value:.3f} ({f1.low:.3f} to {f1.high:.3f})",
            "mean F1 of the classes",
        ),
        (
            "PGR of the policy",
            f"{(accuracy.value - weak[1]) / gap:.3f}" if gap > 0 else undefined,
            "share of the gap gained",
        ),
        ("APGR", undefined if gain.apgr is None else f"{gain.apgr:.3f}", "mean PGR over strong calls; random has 0.5"),
        *[
            (f"CPT({x:.0%})", wording.percent(s), f"least share of strong calls that gains {x:.0%} of the gap")
            for x, s in gain.cpt
        ],
        (
            "CostSave",
            "undefined: the best tier costs nothing" if gain.cost_save is None else wording.percent(gain.cost_save),
            "largest cut of cost at the best single tier's accuracy",
        ),
        ("Both right", wording.percent(overlap.both), "no routing needed"),
        (f"Only {cheap.name} right", wording.percent(overlap.only_weak), "escalation breaks these"),
        (f"Only {strong.name} right", wording.percent(overlap.only_strong), "escalation fixes these"),
        ("Both wrong", wording.percent(overlap.neither), "no routing helps"),
        ("Ceiling of any router", wording.percent(overlap.ceiling), "oracle escalation reaches it"),
    ]
    return pd.DataFrame(rows, columns=["Number", "Value", "Meaning"])


def reliability_figure(found: TierReliability) -> go.Figure:
    """Draw share right against stated confidence, before and after."""
    figure = go.Figure()
    figure.add_trace(
        go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line={"color": GREY, "dash": "dash", "width": 1}, name="honest")
    )
    for r, name, tint, symbol in ((found.before, "before", ORANGE, "square"), (found.after, "after", BLUE, "circle")):
        figure.add_trace(
            go.Scatter(
                x=r.confidence,
                y=r.accuracy,
                error_y={"type": "data", "array": r.high - r.accuracy, "arrayminus": r.accuracy - r.low, "width": 3},
                mode="markers+lines",
                line={"color": tint, "width": 1},
                marker={"color": tint, "size": 8, "symbol": symbol},
                name=name,
                hovertemplate="said %{x:.1%}<br>right %{y:.1%}<extra></extra>",
            )
        )
    figure.update_xaxes(title="confidence", range=[0, 1.02], tickformat=".0%")
    figure.update_yaxes(title="share right (95% CI)", range=[0, 1.02], tickformat=".0%")
    figure.update_layout(height=380, margin={"l": 10, "r": 10, "t": 10, "b": 10}, legend={"orientation": "h", "y": 1.1})
    return figure


def risk_figure(found: RiskCoverage) -> go.Figure:
    """Draw selective risk against coverage."""
    points = np.unique(np.linspace(0, len(found.coverage) - 1, POINTS).astype(np.intp))
    figure = go.Figure(
        go.Scatter(
            x=found.coverage[points],
            y=found.risk[points],
            customdata=found.threshold[points],
            mode="lines",
            line={"color": BLUE, "width": 2.5},
            hovertemplate="keeps %{x:.1%}<br>wrong %{y:.1%}<br>threshold %{customdata:.4f}<extra></extra>",
        )
    )
    figure.add_hline(y=float(found.risk[-1]), line={"color": GREY, "dash": "dash", "width": 1})
    figure.update_xaxes(title="coverage: share kept", range=[0, 1], tickformat=".0%")
    figure.update_yaxes(title="selective risk", rangemode="tozero", tickformat=".0%")
    figure.update_layout(height=380, margin={"l": 10, "r": 10, "t": 10, "b": 10}, showlegend=False)
    return figure
