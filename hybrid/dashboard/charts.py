"""Charts: numbers → Plotly figures; nothing here computes a metric or touches the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from hybrid.curves import Curve
from hybrid.metrics import Baselines, Summary
from hybrid.predictions import Floats

BLUE, ORANGE, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"  # Okabe & Ito
SKY, YELLOW = "#56B4E9", "#E69F00"
GREY = "#8A8F99"
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "star", "x", "hexagon")
COLOURS = (BLUE, ORANGE, GREEN, PINK, YELLOW, SKY)
POINTS = 1_000  # drawn of an exact curve
BINS = 40


def colour(i: int) -> str:
    """Return the colour of the i-th pinned policy."""
    return COLOURS[i % len(COLOURS)]


def threshold_figure(
    curve: Curve,
    *,
    summary: Summary,
    threshold: float | None,
    values: Floats,
    references: Baselines,
    axis: str,
    strong: str,
    simulated: Sequence[str],
) -> go.Figure:
    """Draw accuracy, escalation rate, cost and a histogram over one threshold, on one x axis.

    Parameters
    ----------
    summary
        Of the policy as it is set; its numbers are the dots.
    threshold
        As it is set; None where it is off.
    values
        What the threshold is compared with on every row; nan where it was never compared.
    axis
        Title of the x axis.
    simulated
        Names of simulated tiers, marked in the references.
    """
    figure = make_subplots(
        rows=4,
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.07,
        row_heights=[0.42, 0.2, 0.2, 0.18],
        subplot_titles=(
            "Accuracy",
            f"Escalation rate: sent to {strong}",
            "Cost per 1,000 texts",
            "Where the texts fall",
        ),
    )
    shape = "vh" if curve.exact else "linear"
    x, (accuracy, escalation, cost, low, high) = _drawn(curve)
    figure.add_trace(_line(x, high, GREY, shape, width=0), row=1, col=1)
    band = _line(x, low, GREY, shape, width=0) | {"fill": "tonexty", "fillcolor": "rgba(0,114,178,0.18)"}
    figure.add_trace(band, row=1, col=1)
    series = ((accuracy, BLUE, ".1%"), (escalation, ORANGE, ".1%"), (cost, GREEN, "$.4~g"))
    for row, (drawn, tint, form) in enumerate(series, 1):
        hover = f"threshold %{{x:.3f}}<br>%{{y:{form}}}<extra></extra>"
        figure.add_trace(_line(x, drawn, tint, shape) | {"hoverinfo": None, "hovertemplate": hover}, row=row, col=1)
    shown = values[np.isfinite(values)]
    counts, edges = np.histogram(shown, bins=BINS, range=(0, 1))
    bars = go.Bar(
        x=(edges[:-1] + edges[1:]) / 2,
        y=counts,
        width=np.diff(edges) * 0.92,
        marker={"color": "#B4BAC4"},
        hovertemplate="%{x:.3f} ± 0.0125<br>%{y:,} texts<extra></extra>",
    )
    figure.add_trace(bars, row=4, col=1)
    _draw_references(figure, references, simulated)
    dots = (summary.accuracy.value, summary.escalation_rate.value, summary.cost_per_1000.value)
    for row, (y, (_, tint, _form)) in enumerate(zip(dots, series, strict=True), 1):
        if threshold is None:  # the policy has no place on the x axis: a line at its height
            figure.add_hline(y=y, line={"color": tint, "width": 2, "dash": "dot"}, row=row, col=1)
        else:
            marker = {"size": 11, "color": tint, "line": {"color": "white", "width": 2}}
            dot = go.Scatter(x=[threshold], y=[y], mode="markers", marker=marker, hoverinfo="skip")
            figure.add_trace(dot, row=row, col=1)
    if threshold is None:
        note = {"text": f"as set, switched off: {dots[0]:.1%}", "font": {"size": 11, "color": BLUE}, "showarrow": False}
        figure.add_annotation(x=0.5, y=dots[0], yanchor="bottom", row=1, col=1, **note)
    else:
        line = {"color": "#2F7DE1", "width": 2}
        figure.add_shape(type="line", x0=threshold, x1=threshold, xref="x", y0=0, y1=1, yref="paper", line=line)
    # a few thresholds at which hardly anything is answered must not flatten the rest of the curve
    shown_low = [float(np.quantile(low, 0.1)), summary.accuracy.low, references.alone[references.cheap][1]]
    top = max(float(high.max()), *(a for _, a in references.alone.values()))
    figure.update_yaxes(tickformat=".0%", range=[max(0.0, min(shown_low) - 0.03), min(1.0, top) + 0.04], row=1, col=1)
    figure.update_yaxes(tickformat=".0%", range=[-0.05, 1.05], row=2, col=1)
    figure.update_yaxes(tickprefix="$", rangemode="tozero", row=3, col=1)
    figure.update_yaxes(showticklabels=False, row=4, col=1)
    figure.update_xaxes(range=[0, 1.0])
    figure.update_xaxes(title=axis, row=4, col=1)
    figure.update_layout(height=640, showlegend=False, margin={"l": 10, "r": 10, "t": 30, "b": 10}, bargap=0)
    figure.update_annotations(selector={"xanchor": "center"}, x=0, xanchor="left", font={"size": 14})
    return figure


def _drawn(curve: Curve) -> tuple[Floats, tuple[Floats, ...]]:
    """Return what is drawn of a curve: thinned, from threshold 0 to 1."""
    thin = curve.thin(POINTS)
    low, high = thin.band()
    columns = (thin.accuracy, thin.escalation_rate, thin.cost_per_1000, low, high)
    x = thin.threshold
    keep = x <= 1
    drawn = [c[keep] for c in columns]
    if not curve.exact:
        return x[keep], tuple(drawn)
    # below the least confidence all is kept; above the greatest the last point that is drawn goes on to 1
    return np.concatenate([[0.0], x[keep], [1.0]]), tuple(np.concatenate([c[:1], c, c[-1:]]) for c in drawn)


def _line(x: Floats, y: Floats, tint: str, shape: str, *, width: float = 2.5) -> dict[str, Any]:
    return {
        "type": "scatter",
        "x": x,
        "y": y,
        "mode": "lines",
        "line": {"color": tint, "width": width, "shape": shape},
        "hoverinfo": "skip",
    }


def _draw_references(figure: go.Figure, references: Baselines, simulated: Sequence[str]) -> None:
    by_accuracy = sorted(references.alone.items(), key=lambda item: item[1][1])
    for i, (name, (cost, accuracy)) in enumerate(by_accuracy):
        mark = " (simulated)" if name in simulated else ""
        side = "right" if i % 2 else "left"
        for row, y, text in ((1, accuracy, f"{name} alone{mark} {accuracy:.1%}"), (3, cost, None)):
            figure.add_hline(y=y, line={"color": GREY, "width": 1, "dash": "dash"}, row=row, col=1)
            if text:
                figure.add_annotation(
                    x=0.002 if side == "left" else 0.998,
                    y=y,
                    text=text,
                    showarrow=False,
                    xanchor=side,
                    yanchor="bottom",
                    font={"size": 11, "color": GREY},
                    row=row,
                    col=1,
                )


def trade_off_figure(
    points: Sequence[tuple[str, Summary, bool]],
    *,
    references: Baselines,
    front: Sequence[bool],
    curve: Curve | None,
    simulated: Sequence[str],
) -> go.Figure:
    """Draw policies by cost and accuracy, with the Pareto front and the baselines.

    Parameters
    ----------
    points
        Name, summary and whether it rests on a simulated tier.
    front
        Which of the points, then of ``references.alone``, lie on the Pareto front.
    curve
        Of the policy set on the Tune page, as a thin line; None leaves it out.
    """
    figure = go.Figure()
    if curve is not None:
        thin = curve.thin(POINTS)
        trace = go.Scatter(
            x=thin.cost_per_1000,
            y=thin.accuracy,
            mode="lines",
            line={"color": "#B4BAC4", "width": 2},
            name="every threshold of the policy on Tune (tune rows)",
            hoverinfo="skip",
        )
        figure.add_trace(trace)
    _add_baselines(figure, references, simulated)
    named = [(s.cost_per_1000.value, s.accuracy.value) for _, s, _ in points] + list(references.alone.values())
    on_front = sorted(xy for xy, on in zip(named, front, strict=True) if on)
    figure.add_trace(
        go.Scatter(
            x=[x for x, _ in on_front],
            y=[y for _, y in on_front],
            mode="lines",
            line={"color": PINK, "width": 2, "shape": "hv"},
            name="Pareto front",
            hoverinfo="skip",
        )
    )
    for i, (name, s, is_simulated) in enumerate(points):
        a, c = s.accuracy, s.cost_per_1000
        figure.add_trace(
            go.Scatter(
                x=[c.value],
                y=[a.value],
                error_y={"type": "data", "array": [a.high - a.value], "arrayminus": [a.value - a.low], "width": 4},
                mode="markers+text",
                text=[name],
                textposition="top center",
                marker={"size": 14, "symbol": SYMBOLS[i % len(SYMBOLS)], "color": colour(i)},
                name=f"{name}{' (simulated)' if is_simulated else ''}",
                hovertemplate=f"{name}<br>%{{y:.1%}} at $%{{x:.4~g}} per 1,000<extra></extra>",
            )
        )
    # a tier that hardly ever answers, such as rules alone, must not flatten the rest
    shown = [s.accuracy.low for _, s, _ in points] + [
        references.alone[n][1] for n in (references.cheap, references.strong)
    ]
    top = max([s.accuracy.high for _, s, _ in points] + [references.oracle[1]])
    figure.update_xaxes(title="cost per 1,000 texts", tickprefix="$", rangemode="tozero")
    figure.update_yaxes(title="accuracy", tickformat=".1%", range=[min(shown) - 0.03, min(top, 1.0) + 0.02])
    legend = {"orientation": "h", "yanchor": "top", "y": -0.18, "x": 0}
    figure.update_layout(height=520, margin={"l": 10, "r": 10, "t": 30, "b": 10}, legend=legend)
    return figure


def _add_baselines(figure: go.Figure, references: Baselines, simulated: Sequence[str]) -> None:
    dearest = max(cost for cost, _ in references.alone.values())
    for name, (cost, accuracy) in references.alone.items():
        mark = " (simulated)" if name in simulated else ""
        figure.add_trace(
            go.Scatter(
                x=[cost],
                y=[accuracy],
                mode="markers+text",
                text=[f"{name} alone{mark}"],
                textposition="bottom left" if cost > dearest / 2 else "bottom right",
                textfont={"color": GREY, "size": 11},
                marker={"size": 9, "color": GREY, "symbol": "circle-open", "line": {"width": 2}},
                showlegend=False,
                hovertemplate=f"{name} alone{mark}<br>%{{y:.1%}} at $%{{x:.4~g}}<extra></extra>",
            )
        )
    ends = [references.alone[references.cheap], references.alone[references.strong]]
    figure.add_trace(
        go.Scatter(
            x=[x for x, _ in ends],
            y=[y for _, y in ends],
            mode="lines",
            line={"color": GREY, "width": 1, "dash": "dot"},
            name="random escalation",
            hoverinfo="skip",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=[references.oracle[0]],
            y=[references.oracle[1]],
            mode="markers",
            marker={"size": 12, "color": GREY, "symbol": "star-open", "line": {"width": 2}},
            name="oracle escalation",
            hovertemplate="oracle escalation<br>%{y:.1%} at $%{x:.4~g}<extra></extra>",
        )
    )


def class_balance_figure(counts: Mapping[str, int]) -> go.Figure:
    """Draw how many rows each class has, the largest on top."""
    ordered = sorted(counts.items(), key=lambda item: item[1])
    figure = go.Figure(
        go.Bar(
            x=[n for _, n in ordered],
            y=[name for name, _ in ordered],
            orientation="h",
            marker={"color": BLUE},
            text=[f"{n:,}" for _, n in ordered] if len(ordered) <= 30 else None,
            hovertemplate="%{y}: %{x:,} rows<extra></extra>",
        )
    )
    height = 90 + 26 * min(len(ordered), 30) if len(ordered) <= 30 else 90 + 12 * len(ordered)
    figure.update_layout(height=min(height, 1_100), margin={"l": 10, "r": 10, "t": 10, "b": 10}, showlegend=False)
    figure.update_xaxes(title="rows")
    figure.update_yaxes(type="category")
    return figure
