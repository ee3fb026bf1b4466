"""Figures of production: a number a day in its band, and the evidence of each stream up to its alarm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from hybrid.dashboard.charts import BLUE, COLOURS, GREY, ORANGE
from hybrid.dashboard.inert import in_figure
from hybrid.production.watching import Series, Watch

HEIGHT = 240
LEAST_WEALTH = 0.1  # of the axis: less evidence than this is none


def daily_figure(found: Watch, series: Sequence[Series], *, form: str) -> go.Figure:
    """Draw numbers a day; of a single one also what was promised, its band, and the days outside in another colour."""
    figure, days = go.Figure(), list(found.days)
    one = series[0]
    if len(series) == 1 and np.isfinite(one.low).any():
        figure.add_trace(
            go.Scatter(
                x=[*days, *days[::-1]],
                y=[*one.high, *one.low[::-1]],
                fill="toself",
                fillcolor="rgba(138,143,153,0.22)",
                line={"width": 0},
                name="95 of 100 days",
                hoverinfo="skip",
            )
        )
    for k, each in enumerate(series):
        tint = BLUE if len(series) == 1 else COLOURS[k % len(COLOURS)]
        outside = (each.values < each.low) | (each.values > each.high)
        figure.add_trace(
            go.Scatter(
                x=days,
                y=each.values,
                name=in_figure(each.name),
                mode="lines+markers",
                line={"color": tint, "width": 2},
                marker={"size": np.where(outside, 8, 5), "color": np.where(outside, ORANGE, tint)},
                hovertemplate="%{x|%d %b}: %{y:" + form + "}<extra>" + in_figure(each.name) + "</extra>",
            )
        )
        if each.promised is not None:
            figure.add_hline(each.promised.value, line={"color": tint if len(series) > 1 else GREY, "dash": "dot"})
    figure.update_yaxes(rangemode="tozero", tickformat=form)
    return _laid_out(figure, legend=len(series) > 1)


def evidence_figure(found: Watch) -> go.Figure:
    """Draw the evidence of each stream as odds, on a logarithmic axis, and the line where an alarm may go off."""
    figure, bar = go.Figure(), 1 / found.bar
    most = bar * 10
    for k, stream in enumerate(found.streams):
        if not len(stream.wealth):
            continue
        odds = np.exp(np.clip(stream.wealth, np.log(LEAST_WEALTH), 700.0))
        most = max(most, float(odds.max()))
        figure.add_trace(
            go.Scatter(
                x=list(found.days),
                y=odds,
                name=stream.name,
                mode="lines+markers",
                line={"color": COLOURS[k], "width": 2, "dash": ("solid", "dash", "dot", "dashdot")[k]},
                marker={"size": 4},
                hovertemplate="%{x|%d %b}: %{y:.3g} to 1<extra>" + stream.name + "</extra>",
            )
        )
    figure.add_hline(bar, line={"color": ORANGE, "dash": "dash"}, annotation_text=f"alarm: {bar:,.0f} to 1")
    figure.update_yaxes(
        type="log", title="odds of a change", range=[np.log10(LEAST_WEALTH), min(np.log10(most) + 0.3, 12)], dtick="D1"
    )
    figure.update_yaxes(tickformat=".0e" if most > 1e6 else ",.1~f", dtick=2 if most > 1e6 else 1)
    return _laid_out(figure, legend=True)


def _laid_out(figure: go.Figure, *, legend: bool) -> go.Figure:
    figure.update_layout(
        height=HEIGHT,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        showlegend=legend,
        legend={"orientation": "h", "y": 1.18},
        hovermode="closest",
    )
    return figure
