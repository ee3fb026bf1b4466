"""Calibration and reliability: what a tier's confidence means, how well it ranks, and what any router could gain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from hybrid.dashboard import wording
from hybrid.dashboard.charts import BLUE, GREY, ORANGE, thresholds
from hybrid.dashboard.inert import inert
from hybrid.metrics.confidence import Reliability, reliability
from hybrid.metrics.curve import sweep
from hybrid.metrics.ranking import (
    RiskCoverage,
    error_overlap,
    gap_intervals,
    macro_f1_interval,
    performance_gap_recovered,
    risk_coverage,
    routing_gain,
)
from hybrid.metrics.summary import Interval, break_even_share, share
from hybrid.routing.engine import Outcomes, Policy, answering, replay
from hybrid.routing.patterns import Triage
from hybrid.routing.table import Bools, Tier
from hybrid.study.defaults import cheap_of
from hybrid.study.evidence import CLASSIFIER
from hybrid.study.graded import Graded
from hybrid.study.study import Study
from hybrid.tiers.calibration import ConfidenceCalibrator, cross_fitted, fit_confidence_calibrator

POINTS = 500  # drawn of a risk–coverage curve


@dataclass(frozen=True, slots=True, eq=False)
class TierReliability:
    """A tier's confidence before and after calibration, and why it was calibrated that way."""

    before: Reliability
    after: Reliability
    method: str
    reason: str
    informative: bool
    risk_before: RiskCoverage
    risk: RiskCoverage


def draw(study: Study, policy: Policy, side: str) -> None:
    """Draw the section: reliability per tier, risk–coverage, and the numbers of the field."""
    st.subheader("Calibration and reliability")
    names = [t.name for t in policy.tiers if not t.scores]
    name = st.segmented_control(
        "Tier", names, default=names[0], required=True, format_func=inert, key="reliability_tier"
    )
    found = _measure(study.token, repr(policy), side, name, study, policy)
    if not found.informative:
        st.warning(
            f"The confidence of {inert(name)} carries no information. {found.reason} A threshold on it keeps rows "
            "no better than chance would.",
            icon=":material/warning:",
        )
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown(
            f"**Does {inert(name)}'s confidence come true?** · {side} rows, {len(found.after.rows)} bins of equal mass"
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
            f"**Selective risk of {inert(name)} by coverage** · AURC {found.risk.aurc.value:.4f}, "
            f"E-AURC {found.risk.e_aurc.value:.4f}"
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
                    "ECE of a calibrated tier on as many rows": f"{_with_interval(r.chance)}"
                    + ("" if r.ordinary else ", this one is worse"),
                    "Brier score (95% CI)": _with_interval(r.brier),
                    "AURC (95% CI)": _with_interval(risk.aurc),
                    "E-AURC (95% CI)": _with_interval(risk.e_aurc),
                    "Rows": f"{r.n_rows:,}",
                }
                for when, r, risk in (
                    ("before", found.before, found.risk_before),
                    ("after", found.after, found.risk),
                )
            }
        )
    )
    st.caption(
        f"Calibrated by {found.method}. {found.reason} ECE overstates at few rows: compare it with what a perfectly "
        "calibrated tier shows there. "
        "AURC is the mean selective risk over all coverages, E-AURC what it exceeds that of the best order by: only "
        "the order of the rows counts."
    )
    if len(names) > 1:
        _draw_numbers(study, policy, side)


@st.cache_data(scope="session", max_entries=30, show_spinner=False)
def _measure(key: str, policy: str, side: str, name: str, _study: Study, _policy: Policy) -> TierReliability:
    on = _study.measure(_policy, side).graded
    column = on.predictions.index(name)
    said, right = on.predictions.confidence[:, column], on.predictions.label[:, column] == on.truth
    raw = _study.evidence.raw_confidence
    model = _study.models.get(CLASSIFIER)
    tune = _study.measure(_policy, "tune").graded
    tune_said = tune.predictions.confidence[:, column]
    tune_right = tune.predictions.label[:, column] == tune.truth
    fitted = fit_confidence_calibrator(tune_said, tune_right)
    method, reason = fitted.method, fitted.reason
    if name == CLASSIFIER and raw is not None and model is not None:
        before, after = raw[on.rows], said
        method = "one temperature on its logits, fitted out of fold"
        reason = f"On the confidence as it is now: {_again(fitted)}"
    elif side == "tune":
        fold = _study.split.fold[on.rows]
        before, after = said, cross_fitted(said, right, fold) if len(np.unique(fold)) > 1 else fitted.apply(said)
    else:
        before, after = said, fitted.apply(said)
    risks = [risk_coverage(c, right, groups=on.groups) for c in (before, after)]
    was, now = (reliability(c, right, groups=on.groups) for c in (before, after))
    return TierReliability(was, now, method, reason, fitted.informative, *risks)


def _again(fitted: ConfidenceCalibrator) -> str:
    reason = fitted.reason[:1].lower() + fitted.reason[1:]
    return f"{fitted.method} would be chosen next ({reason.rstrip('.')})."


def _with_interval(i: Interval) -> str:
    return f"{i.value:.4f} ({i.low:.4f} to {i.high:.4f})"


def _draw_numbers(study: Study, policy: Policy, side: str) -> None:
    frame = numbers(study.token, repr(policy), side, study, policy)
    cheap, strong = cheap_of(policy.tiers).name, policy.names[-1]
    st.markdown(f"**Routing between {inert(cheap)} and {inert(strong)}** · {side} rows, every threshold of triage")
    st.dataframe(frame, hide_index=True, height="content")
    st.caption(
        "CPT and CostSave belong to the best of all thresholds on these very rows: that choice is partly luck, so they "
        "have no interval. Set the threshold on Tune and see what it does on test."
    )


@st.cache_data(scope="session", max_entries=30, show_spinner=False)
def numbers(key: str, policy: str, side: str, _study: Study, _policy: Policy) -> pd.DataFrame:
    """Return the numbers of the field with what they mean, for the choice and for triage between its ends."""
    on = _study.measure(_policy, side).graded
    cheap, strong = cheap_of(_policy.tiers), _policy.tiers[-1]
    outcomes = replay(_policy, on.predictions)
    rows = [
        *_of_policy(_policy, outcomes, on, strong.name),
        *_of_triage(on, outcomes, cheap, strong),
        *_of_overlap(on, outcomes, cheap.name, strong.name),
    ]
    return pd.DataFrame(rows, columns=["Number", "Value", "95% CI", "Meaning"])


_Row = tuple[str, str, str, str]
NONE, UNDEFINED = "–", "undefined"


def _of_policy(policy: Policy, outcomes: Outcomes, on: Graded, strong: str) -> list[_Row]:
    right, sent, groups = outcomes.label == on.truth, outcomes.asked[:, -1], on.groups
    f1, selective = macro_f1_interval(outcomes.label, on.truth, groups=groups), share(right[~sent], groups[~sent])
    rows = [
        _share("System accuracy of the policy", share(right, groups), "right final answers"),
        _share("Escalation rate of the policy", share(sent, groups), f"share sent to {strong}; coverage is the rest"),
        _share("Selective accuracy of the policy", selective, "right among the rows that are not sent"),
        _number("Macro-F1 of the policy", f1, "mean F1 of the classes"),
    ]
    if policy.pattern.gate_first:
        kept = answering(policy.tiers)[0]
        gates = policy.names[: policy.tiers.index(kept)]
        price = float(np.nansum(outcomes.seen.cost[:, : len(gates)], axis=1).mean())
        least = break_even_share(price, kept.price, policy.tiers[-1].price)
        said, what = "never" if least is None else wording.percent(least), " and ".join(gates)
        rows.append(("Break-even of the gate", said, NONE, f"share that must go to {kept.name} to pay for {what}"))
    return rows


def _of_triage(on: Graded, outcomes: Outcomes, cheap: Tier, strong: Tier) -> list[_Row]:
    """Return PGR, APGR, CPT and CostSave of triage between two tiers at all thresholds."""
    table, truth = on.predictions.select((cheap.name, strong.name)), on.truth
    right = table.label == truth[:, None]
    weak, best = ((1000 * float(table.cost[:, j].mean()), float(right[:, j].mean())) for j in (0, 1))
    curve = sweep(Policy(Triage(), (cheap, strong)), table, truth, name="threshold")
    gain = routing_gain(curve.escalation_rate, curve.accuracy, curve.cost_per_1000, weak=weak, strong=best)
    policy_right = outcomes.label == truth
    about = gap_intervals(table.confidence[:, 0], right[:, 0], right[:, 1], policy_right, groups=on.groups)
    rows = [("CostSave", UNDEFINED, NONE, "the best single tier costs nothing")]
    if gain.cost_save is not None:
        rows = [
            (
                "CostSave",
                wording.percent(gain.cost_save),
                NONE,
                "largest cut of cost at the best single tier's accuracy",
            )
        ]
    of_policy, of_curve = "share of the gap that the policy recovers", "mean PGR over strong calls; random has 0.5"
    if gain.apgr is None:
        said = f"{strong.name} is not more accurate than {cheap.name}: no gap to recover"
        return [*((name, UNDEFINED, NONE, said) for name in ("PGR of the policy", "APGR", "CPT")), *rows]
    if about is None:
        pgr = performance_gap_recovered(np.mean(policy_right), weak=weak[1], strong=best[1])
        unsure = "the gap cannot be told from 0"
        pair = [("PGR of the policy", f"{pgr:.3f}", unsure, of_policy), ("APGR", f"{gain.apgr:.3f}", unsure, of_curve)]
    else:
        pair = [_number("PGR of the policy", about[0], of_policy), _number("APGR", about[1], of_curve)]
    cpt = [
        (f"CPT({x:.0%})", wording.percent(s), NONE, f"least share of strong calls that gains {x:.0%} of the gap")
        for x, s in gain.cpt
    ]
    return [*pair, *cpt, *rows]


def _of_overlap(on: Graded, outcomes: Outcomes, cheap: str, strong: str) -> list[_Row]:
    """Return who is right where, the ceiling, and the two baselines: random and oracle escalation."""
    o = error_overlap(on.predictions, on.truth, weak=cheap, strong=strong)
    w, s = (on.predictions.label[:, on.predictions.index(name)] == on.truth for name in (cheap, strong))

    def row(name: str, rows: Bools, meaning: str) -> _Row:
        return _share(name, share(rows, on.groups), meaning)

    sent = float(np.mean(outcomes.asked[:, -1]))
    straight = (1 - sent) * (o.both + o.only_weak) + sent * (o.both + o.only_strong)
    return [
        row("Both right", w & s, "no routing needed"),
        row(f"Only {inert(cheap)} right", w & ~s, "escalation breaks these"),
        row(f"Only {inert(strong)} right", ~w & s, "escalation fixes these; the oracle sends exactly these"),
        row("Both wrong", ~w & ~s, "no routing between the two helps"),
        row("Ceiling of any router", w | s, "accuracy of oracle escalation"),
        (
            "Shared errors",
            wording.percent(o.shared_errors) if o.neither + o.only_weak + o.only_strong > 0 else NONE,
            NONE,
            "of the rows on which one errs, the share on which both do",
        ),
        (
            "Random escalation",
            wording.percent(straight),
            NONE,
            f"accuracy of sending as many as the policy, {wording.percent(sent)}, picked blindly",
        ),
    ]


def _share(name: str, i: Interval, meaning: str) -> _Row:
    if np.isnan(i.value):
        return (name, NONE, NONE, meaning)
    return (name, wording.percent(i.value), wording.interval_text(i), meaning)


def _number(name: str, i: Interval, meaning: str) -> _Row:
    if np.isnan(i.low):
        return (name, f"{i.value:.3f}", "too few rows a class", meaning)
    return (name, f"{i.value:.3f}", wording.interval_text(i, ".3f"), meaning)


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
            customdata=thresholds(found.threshold[points]),
            mode="lines",
            line={"color": BLUE, "width": 2.5},
            hovertemplate="keeps %{x:.1%}<br>wrong %{y:.1%}<br>threshold %{customdata}<extra></extra>",
        )
    )
    figure.add_hline(y=float(found.risk[-1]), line={"color": GREY, "dash": "dash", "width": 1})
    figure.update_xaxes(title="coverage: share kept", range=[0, 1], tickformat=".0%")
    figure.update_yaxes(title="selective risk", rangemode="tozero", tickformat=".0%")
    figure.update_layout(height=380, margin={"l": 10, "r": 10, "t": 10, "b": 10}, showlegend=False)
    return figure
