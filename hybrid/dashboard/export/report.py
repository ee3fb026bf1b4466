"""Report: a choice as one HTML file that stands alone, for the person who must approve it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import plotly.io
import streamlit as st
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from hybrid.dashboard import views, wording
from hybrid.dashboard.export import export
from hybrid.dashboard.tune.axes import PLAIN
from hybrid.metrics.summary import Interval, Summary
from hybrid.routing.engine import Policy
from hybrid.study import promises
from hybrid.study.defaults import cheap_of
from hybrid.study.naming import named
from hybrid.study.study import Pin, Study
from hybrid.study.terms import Terms

TEMPLATE = Path(__file__).with_name("report.html")


def report(study: Study, policy: Policy, pins: Sequence[Pin], terms: Terms, *, written: date) -> str:
    """Write the report.

    Parameters
    ----------
    pins
        What the choice is compared with; it joins them where it is not pinned itself.
    written
        The day that stands on it.
    """
    rest = repr((policy, pins, terms, written, promises.lines(study, policy)))
    return _report(study.token, rest, study, policy, pins, terms, written)


@st.cache_data(scope="session", max_entries=2, show_spinner="Writing the report …")
def _report(key: str, rest: str, _study: Study, _policy: Policy, _pins: Sequence[Pin], _terms: Terms, _on: date) -> str:
    study, policy, pins, given = _study, _policy, _pins, _terms
    evidence = promises.evidence(study, policy)
    tune, test = (views.summary(study, policy, side) for side in ("tune", "test"))
    assert tune is not None  # the page offers no report otherwise
    best, side = (test, "test") if test else (tune, "tune")
    gain = study.measure(policy, side).gain
    mark = "Simulated: " if policy.simulated else ""
    cheap = cheap_of(policy.tiers).name
    right = named("accuracy", study.dataset.agreement_with)
    lead = (
        f"{mark}{wording.percent(best.accuracy.value)} {right} (95% CI {wording.interval_text(best.accuracy)}), "
        f"{wording.percent(best.escalation_rate.value)} sent to {policy.names[-1]}, "
        f"{wording.dollars(best.cost_per_1000.value)} per 1,000 texts: "
        f"{wording.dollars(given.month(best.cost_per_1000.value))} a month at {given.volume:,} texts, "
        f"measured on {best.n_rows:,} {side} rows."
    )
    told = "" if gain.told_apart else " The two cannot be told apart on these rows."
    changed = [(t, "USD per 1,000 answers", f"{1000 * p:g}") for t, p in study.terms.prices]
    changed += [(t, "seconds per answer", f"{s:g}") for t, s in study.terms.seconds]
    changed += [(c, "share of production", wording.percent(s)) for c, s in study.terms.mix]
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(
        TEMPLATE.read_text(encoding="utf-8")
    )
    return page.render(
        table=_table,
        plotly_js=get_plotlyjs(),
        title=f"Hybrid policy for {study.name}",
        policy=wording.describe(policy),
        written=_on.isoformat(),
        version=version("hybrid-tuner"),
        simulated=views.simulated(policy),
        whatif=_whatif(study),
        lead=lead,
        promised=promises.lines(study, policy),
        gain=f"Against {cheap} alone, on the same rows: {wording.points(gain.accuracy)}; {gain.uplift:,} rows turn "
        f"right, {gain.regression:,} turn wrong.{told}",
        pattern=policy.pattern.title,
        summary=policy.pattern.summary.rstrip("."),
        tiers=pd.DataFrame(
            [
                {
                    "Tier": t.name,
                    "Kind": f"{t.kind}{' (simulated)' if t.simulated else ''}",
                    "USD per 1,000 answers": f"{1000 * t.price:g}",
                    f"Asked on {side}": wording.percent(reach),
                }
                for t, reach in zip(policy.tiers, best.reach, strict=True)
            ]
        ),
        settings=pd.DataFrame([(t, v) for _, t, v in wording.settings(policy)], columns=["Setting", "Value"]),
        agreement_with=study.dataset.agreement_with,
        numbers=_numbers(tune, test, given).rename(index=lambda what: named(what, study.dataset.agreement_with)),
        charts=_threshold_charts(study, policy),
        comparison=_comparison(study, policy, pins, given),
        data=pd.DataFrame(
            [(k.replace("_", " ").capitalize(), _shown(v)) for k, v in evidence["data"].items()], columns=["", " "]
        ),
        notes=evidence["notes"],
        assumed=pd.DataFrame(changed, columns=["For", "What", "Value"]) if changed else None,
        bundle=export.file_name(policy),
        snippet=export.snippet(export.file_name(policy), study, policy),
    )


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _whatif(study: Study) -> str:
    w = study.terms.whatif
    return f"{w.accuracy:.1%} right, {wording.dollars(1000 * w.price)} per 1,000, {w.latency:g} s" if w else ""


def _table(frame: pd.DataFrame) -> Markup:
    """Return a frame as an HTML table; pandas escapes what stands in it."""
    named = frame.index.dtype == object or isinstance(frame.index.dtype, pd.StringDtype)
    return Markup(f"<div class='scroll'>{frame.to_html(index=named, border=0, na_rep='', justify='left')}</div>")


def _numbers(tune: Summary, test: Summary | None, terms: Terms) -> pd.DataFrame:
    def share(i: Interval) -> str:
        return f"{wording.percent(i.value)} ({wording.interval_text(i)})"

    def column(s: Summary) -> dict[str, str]:
        cost = s.cost_per_1000
        rows = {
            "Rows": f"{s.n_rows:,}",
            "Accuracy (95% CI)": share(s.accuracy),
            "Macro-F1": f"{s.macro_f1:.3f}",
            "Escalation rate (95% CI)": share(s.escalation_rate),
            "Selective accuracy (95% CI)": share(s.selective_accuracy),
            "Cost per 1,000 (95% CI)": f"{wording.dollars(cost.value)} ({wording.dollars(cost.low)} to "
            f"{wording.dollars(cost.high)})",
            f"Per month at {terms.volume:,} texts": wording.dollars(terms.month(cost.value)),
            "Latency p50 / p95": f"{wording.seconds(s.latency_p50)} / {wording.seconds(s.latency_p95)}",
        }
        if terms.wrong_cost:
            month = wording.dollars(terms.with_mistakes(s.accuracy.value, cost.value))
            rows[f"Per month with mistakes at {wording.dollars(terms.wrong_cost)} each"] = month
        return rows

    columns = {"tune": column(tune)} | ({"test": column(test)} if test else {})
    frame = pd.DataFrame(columns)
    if test:
        frame["optimism"] = ""
        gap = tune.accuracy.value - test.accuracy.value
        frame.loc["Accuracy (95% CI)", "optimism"] = f"{wording.signed(gap)} points"
    return frame


def _threshold_charts(study: Study, policy: Policy) -> list[dict[str, str]]:
    charts = []
    for line in policy.thresholds():
        view = views.threshold(study, policy, line, PLAIN)
        assert view is not None
        kept, _, axis = view
        figure = go.Figure(kept)
        if line.value is not None:
            figure.add_vline(
                x=float(axis.position([line.value])[0]), line={"color": "#1565c0", "width": 2}, row="all", col=1
            )
        charts.append(_chart(figure, f"Accuracy, escalation rate and cost against: {line.title}"))
    return charts


def _comparison(study: Study, policy: Policy, pins: Sequence[Pin], terms: Terms) -> dict[str, Any] | None:
    pins = list(pins)
    if all(p.policy != policy for p in pins):
        pins.insert(0, Pin("This policy", policy))
    if len(pins) < 2:
        return None
    for side in ("test", "tune"):
        results = study.compare([p.policy for p in pins], side)
        if results:
            chart = _chart(
                views.trade_off(study, pins, results, side), "Accuracy against cost of the policies considered"
            )
            return {
                "side": side,
                "n_rows": f"{results[0][0].n_rows:,}",
                "first": pins[0].name,
                "table": views.comparison_table(pins, results, terms).rename(
                    index=lambda what: named(what, study.dataset.agreement_with)
                ),
                "chart": chart,
            }
    return None


def _chart(figure: go.Figure, alt: str) -> dict[str, str]:
    figure.update_layout(template="plotly_white", font={"family": "system-ui, sans-serif"})
    html = plotly.io.to_html(figure, full_html=False, include_plotlyjs=False, config={"displayModeBar": False})
    return {"html": html, "alt": alt}
