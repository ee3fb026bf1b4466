"""Report: a choice as one HTML file that stands alone, for the person who must approve it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from math import isnan
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
from hybrid.study.answer import unpriced
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
    cheap, unknown = cheap_of(policy.tiers).name, unpriced(study, policy)
    model = study.dataset.agreement_with
    right = named(f"{wording.percent(best.accuracy.value)} right", model)
    lead = (
        f"{mark}{right} (95% CI {wording.interval_text(best.accuracy)}), "
        f"{wording.percent(best.escalation_rate.value)} sent to {policy.names[-1]}, "
        f"{views.month(study, policy, best.cost_per_1000.value, given)} a month at {given.volume:,} texts "
        f"({views.per_1000(study, policy, best.cost_per_1000.value)} per 1,000), "
        f"measured on {wording.plural(best.n_rows, f'{side} row')}."
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
                    "Per 1,000 answers": "unknown" if t.name in unknown else wording.dollars(1000 * t.price),
                    f"Asked on {side}": wording.percent(reach),
                }
                for t, reach in zip(policy.tiers, best.reach, strict=True)
            ]
        ),
        settings=pd.DataFrame([(t, v) for _, t, v in wording.settings(policy)], columns=["Setting", "Value"]),
        agreement_with=model,
        numbers=_numbers(study, policy, tune, test, given).rename(index=lambda what: named(what, model)),
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


def _numbers(study: Study, policy: Policy, tune: Summary, test: Summary | None, terms: Terms) -> pd.DataFrame:
    def share(i: Interval) -> str:
        if isnan(i.value):
            return "no row is kept"
        return f"{wording.percent(i.value)} ({wording.interval_text(i)})"

    def column(s: Summary) -> dict[str, str]:
        cost = s.cost_per_1000
        rows = {
            "Rows": f"{s.n_rows:,}",
            "Right answers (95% CI)": share(s.accuracy),
            "Macro-F1": f"{s.macro_f1:.3f}",
            f"Sent to {policy.names[-1]}: escalation rate (95% CI)": share(s.escalation_rate),
            "Selective accuracy (95% CI)": share(s.selective_accuracy),
            "Cost per 1,000 (95% CI)": "unknown" if unknown else wording.money(cost),
            f"Per month at {terms.volume:,} texts": views.month(study, policy, cost.value, terms),
            "Latency p50 / p95": views.waits(study, policy, s),
        }
        if terms.wrong_cost and not unknown:
            month = wording.dollars(terms.with_mistakes(s.accuracy.value, cost.value))
            rows[f"Per month with mistakes at {wording.dollars(terms.wrong_cost)} each"] = month
        return rows

    unknown = unpriced(study, policy)
    columns = {"tune": column(tune)} | ({"test": column(test)} if test else {})
    frame = pd.DataFrame(columns)
    if test:
        frame["optimism"] = ""
        gap = tune.accuracy.value - test.accuracy.value
        frame.loc["Right answers (95% CI)", "optimism"] = f"{wording.signed(gap)} points"
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
        lines = views.side_by_side(study, pins, side)
        if len(lines) > 1:
            chart = _chart(views.trade_off(study, lines, side), "Accuracy against cost of the policies considered")
            return {
                "side": side,
                "first": lines[0].pin.name,
                "table": views.comparison_table(study, lines, terms).rename(
                    index=lambda what: named(what, study.dataset.agreement_with)
                ),
                "chart": chart,
            }
    return None


def _chart(figure: go.Figure, alt: str) -> dict[str, str]:
    figure.update_layout(template="plotly_white", font={"family": "system-ui, sans-serif"})
    html = plotly.io.to_html(figure, full_html=False, include_plotlyjs=False, config={"displayModeBar": False})
    return {"html": html, "alt": alt}
