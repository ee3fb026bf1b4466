"""Charts: numbers → Plotly figures; nothing here computes a metric or touches the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from hybrid.dashboard.inert import in_figure
from hybrid.dashboard.tune.axes import KEPT, PLAIN, Axis
from hybrid.dashboard.wording import dollars, threshold
from hybrid.metrics.curve import Curve, Surface
from hybrid.metrics.summary import Baselines, Summary
from hybrid.routing.table import NONE_LABEL, Bools, Floats
from hybrid.study.naming import named

BLUE, ORANGE, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"  # Okabe & Ito
SKY, YELLOW = "#56B4E9", "#E69F00"
GREY = "#8A8F99"
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "star", "x", "hexagon")
COLOURS = (BLUE, ORANGE, GREEN, PINK, YELLOW, SKY)
POINTS = 1_000  # drawn of an exact curve
BEST, ALONE, PINNED = "best ", "alone", "pinned"  # what a click on a chart of fronts has hit
BINS = 40


def colour(i: int, *, dark: bool = False) -> str:
    """Return the colour of the i-th of several things; on a dark page the two blues change places."""
    return _on(COLOURS[i % len(COLOURS)], dark)


def _on(tint: str, dark: bool) -> str:
    return {BLUE: SKY, SKY: BLUE}.get(tint, tint) if dark else tint


def threshold_figure(
    curve: Curve,
    *,
    axis: Axis,
    off: Summary | None,
    values: Floats,
    references: Baselines,
    title: str,
    strong: str,
    simulated: Sequence[str],
    unpriced: Sequence[str] = (),
    dark: bool = False,
) -> go.Figure:
    """Draw accuracy, escalation rate, cost and a histogram over one threshold, on one x axis.

    Nothing in it depends on where the threshold stands, so that it stays as it is while the line above it moves.

    Parameters
    ----------
    off
        Of the policy, where its threshold is switched off: its numbers become dotted lines.
    values
        What the threshold is compared with on every row.
    title
        Of the threshold.
    simulated
        Names of simulated tiers, marked in the references.
    unpriced
        Names of tiers whose price nobody knows: their answers count $0, and the panel says so.
    dark
        Whether the page is dark: the deep blue is hard to see there.
    """
    by_share = axis.name == KEPT
    title = in_figure(title)
    figure = make_subplots(
        rows=4,
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.07,
        row_heights=[0.42, 0.2, 0.2, 0.18],
        subplot_titles=(
            "Accuracy",
            f"Escalation rate: sent to {in_figure(strong)}",
            "Cost per 1,000 texts" + (f": unknown; {in_figure(', '.join(unpriced))} counts $0" if unpriced else ""),
            "Threshold at that share" if by_share else "Where the texts fall",
        ),
    )
    thin = curve.thin(POINTS)
    low, high = thin.band()
    left, right = axis.range
    # the first point holds from the left edge on; the threshold of each point is its hover text
    x = np.concatenate([[left], axis.position(thin.threshold)])
    at = np.concatenate([[0.0], thin.threshold])

    def drawn(values: Floats) -> Floats:
        return np.concatenate([values[:1], values])

    figure.add_trace(_line(x, drawn(high), GREY, width=0), row=1, col=1)
    band = _line(x, drawn(low), GREY, width=0) | {
        "fill": "tonexty",
        "fillcolor": "rgba(86,180,233,0.25)" if dark else "rgba(0,114,178,0.18)",
    }
    figure.add_trace(band, row=1, col=1)
    read = thresholds(at)
    for row, (y, tint, form) in enumerate(panels(thin, dark=dark), 1):
        hover = {
            "customdata": read,
            "hoverinfo": None,
            "hovertemplate": f"threshold %{{customdata}}<br>%{{y:{form}}}<extra></extra>",
        }
        figure.add_trace(_line(x, drawn(y), tint) | hover, row=row, col=1)
    if by_share:
        figure.add_trace(_line(x, at, "#B4BAC4"), row=4, col=1)
    else:
        counts, edges = np.histogram(axis.position(values[np.isfinite(values)]), bins=BINS, range=(left, right))
        bars = go.Bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=counts,
            width=np.diff(edges) * 0.92,
            marker={"color": "#B4BAC4"},
            hovertemplate="%{y:,} texts<extra></extra>",
        )
        figure.add_trace(bars, row=4, col=1)
    _draw_references(figure, references, simulated, (left, right))
    if off is not None:  # the policy has no place on the x axis: a line at its height
        heights = (off.accuracy.value, off.escalation_rate.value, off.cost_per_1000.value)
        for row, (height, (_, tint, _form)) in enumerate(zip(heights, panels(thin, dark=dark), strict=True), 1):
            figure.add_hline(y=height, line={"color": tint, "width": 2, "dash": "dot"}, row=row, col=1)
        note = {"text": f"as set, switched off: {heights[0]:.1%}", "font": {"size": 11, "color": _on(BLUE, dark)}}
        figure.add_annotation(
            x=(left + right) / 2, y=heights[0], yanchor="bottom", row=1, col=1, showarrow=False, **note
        )
    # the whole curve; of the band, what few thresholds have, at which hardly anything is answered, may be cut off
    bottom = min(float(np.quantile(low, 0.1)), float(thin.accuracy.min()), references.alone[references.cheap][1])
    top = max(float(high.max()), *(a for _, a in references.alone.values()))
    figure.update_yaxes(tickformat=".0%", range=[max(-0.01, bottom - 0.03), min(1.0, top) + 0.04], row=1, col=1)
    figure.update_yaxes(tickformat=".0%", range=[-0.05, 1.05], row=2, col=1)
    most = float(curve.cost_per_1000.max())
    figure.update_yaxes(range=[0, 1.05 * most if most else 1], **money_ticks(most, n=2), row=3, col=1)
    figure.update_yaxes(showticklabels=by_share, row=4, col=1)
    figure.update_xaxes(range=[left, right], **axis.ticks())
    terms = {KEPT: "share of texts kept, by ", PLAIN: ""}.get(axis.name, "stretched near 1: ")
    figure.update_xaxes(title=terms + (title[0].lower() + title[1:] if terms else title), row=4, col=1)
    figure.update_layout(height=640, showlegend=False, margin={"l": 10, "r": 10, "t": 44, "b": 10}, bargap=0)
    figure.update_annotations(selector={"xanchor": "center"}, x=0, xanchor="left", font={"size": 14})
    return figure


def add_star(figure: go.Figure, x: float, ends: tuple[float, float]) -> None:
    """Mark the recommended threshold: a star on the axis, and a dotted line through every panel."""
    dots = {"color": YELLOW, "width": 1.5, "dash": "dot"}
    lines = [
        {"type": "line", **_across("y", row), "xref": _ref("x", row), "x0": x, "x1": x, "line": dots, "layer": "below"}
        for row in range(1, 5)
    ]
    at = {"x": x, "xref": "x4", "yref": "y4 domain", "showarrow": False}
    star = {**at, "y": 0, "yanchor": "middle", "text": "★", "font": {"size": 20, "color": YELLOW}}
    right = x < (ends[0] + ends[1]) / 2
    side = {"xanchor": "left", "xshift": 5} if right else {"xanchor": "right", "xshift": -5}
    _draw(figure, lines, [star, {**at, "y": 1, "yanchor": "top", "text": "recommended", **side}])


def add_star_to_map(figure: go.Figure, place: Sequence[float]) -> None:
    """Mark the recommended pair of thresholds on their map."""
    mark = {"symbol": "star", "size": 15, "color": YELLOW, "line": {"color": "black", "width": 1}}
    figure.add_scatter(
        x=[place[0]], y=[place[1]], mode="markers", marker=mark, showlegend=False,
        hovertemplate="recommended<extra></extra>",
    )  # fmt: skip


def panels(curve: Curve, *, dark: bool = False) -> tuple[tuple[Floats, str, str], ...]:
    """Return what the upper panels show of a curve: heights, colour and number format, from top to bottom."""
    return (
        (curve.accuracy, _on(BLUE, dark), ".1%"),
        (curve.escalation_rate, ORANGE, ".1%"),
        (curve.cost_per_1000, GREEN, "$,.4r"),
    )


def thresholds(values: Floats) -> npt.NDArray[np.object_]:
    """Return thresholds as they are read, for what a figure shows of a point; shape ``(n_points,)``.

    Examples
    --------
    >>> thresholds(np.array([0.85, 1.001])).tolist()
    ['0.85', 'never']
    """
    return np.array([threshold(v) for v in values.tolist()], dtype=object)


def map_figure(surface: Surface, *, axes: tuple[Axis, Axis], titles: tuple[str, str]) -> go.Figure:
    """Draw accuracy over two thresholds as a map, with lines of equal cost."""
    x, y = (axis.position(at) for axis, at in zip(axes, (surface.first, surface.second), strict=True))
    low = float(np.quantile(surface.accuracy, 0.05))
    titles = (in_figure(titles[0]), in_figure(titles[1]))
    names = [f"{title.lower()} %{{customdata[{i}]}}<br>" for i, title in enumerate(titles)]
    figure = go.Figure(
        go.Heatmap(
            x=x,
            y=y,
            z=surface.accuracy,
            zmin=min(low, float(surface.accuracy.max()) - 1e-6),
            zmax=float(surface.accuracy.max()),
            colorscale="Cividis",
            colorbar={
                **_share_ticks(low, float(surface.accuracy.max())),
                "title": {"text": "accuracy", "side": "right"},
                "thickness": 12,
            },
            customdata=np.dstack(
                [*np.meshgrid(*map(thresholds, (surface.first, surface.second))), surface.cost_per_1000]
            ),
            hovertemplate=f"{''.join(names)}%{{z:.1%}} at $%{{customdata[2]:,.3r}}<extra></extra>",
        )
    )
    figure.add_trace(
        go.Contour(
            x=x,
            y=y,
            z=surface.cost_per_1000,
            contours={
                "coloring": "none",
                "showlabels": True,
                "labelformat": f"$,.{money_digits(float(surface.cost_per_1000.max()))}f",
                "labelfont": {"size": 11, "color": "white"},
            },
            line={"color": "white", "width": 1.5, "dash": "dot"},
            ncontours=8,
            showscale=False,
            showlegend=False,
            hoverinfo="skip",
        )
    )
    for update, axis, title in zip((figure.update_xaxes, figure.update_yaxes), axes, titles, strict=True):
        update(title=title, range=list(axis.range), **axis.ticks())
    figure.update_layout(height=640, margin={"l": 10, "r": 10, "t": 44, "b": 10})
    return figure


def _line(x: Floats, y: Floats, tint: str, *, width: float = 2.5) -> dict[str, Any]:
    return {
        "type": "scatter",
        "x": x,
        "y": y,
        "mode": "lines",
        "line": {"color": tint, "width": width, "shape": "vh"},  # a point holds up to and at its threshold
        "hoverinfo": "skip",
    }


def _draw_references(
    figure: go.Figure, references: Baselines, simulated: Sequence[str], ends: tuple[float, float]
) -> None:
    inset = 0.002 * (ends[1] - ends[0])
    by_accuracy = sorted(references.alone.items(), key=lambda item: item[1][1])
    dash = {"color": GREY, "width": 1, "dash": "dash"}
    lines, notes = [], []
    for i, (name, (cost, accuracy)) in enumerate(by_accuracy):
        mark = " (simulated)" if name in simulated else ""
        side = "right" if i % 2 else "left"
        for row, y in ((1, accuracy), (3, cost)):
            lines.append({"type": "line", **_across("x", row), "yref": _ref("y", row), "y0": y, "y1": y, "line": dash})
        notes.append(
            {
                "x": ends[0] + inset if side == "left" else ends[1] - inset,
                "y": accuracy,
                "xref": "x",
                "yref": "y",
                "text": f"{in_figure(name)} alone{mark} {accuracy:.1%}",
                "showarrow": False,
                "xanchor": side,
                "yanchor": "bottom",
                "font": {"size": 11, "color": GREY},
            }
        )
    _draw(figure, lines, notes)


def _ref(letter: str, row: int) -> str:
    """Return how a figure calls an axis of a row."""
    return letter if row == 1 else f"{letter}{row}"


def _across(letter: str, row: int) -> dict[str, Any]:
    """Return that a shape goes all the way along an axis of a row."""
    return {f"{letter}ref": f"{_ref(letter, row)} domain", f"{letter}0": 0, f"{letter}1": 1}


def _draw(figure: go.Figure, lines: Sequence[dict[str, Any]], notes: Sequence[dict[str, Any]]) -> None:
    """Add shapes and annotations at once: one after the other, each makes Plotly look at all before it."""
    was = figure.layout
    was.shapes = [*(s.to_plotly_json() for s in was.shapes), *lines]
    was.annotations = [*(a.to_plotly_json() for a in was.annotations), *notes]


def trade_off_figure(
    points: Sequence[tuple[str, Summary, bool]],
    *,
    references: Baselines,
    front: Sequence[bool],
    simulated: Sequence[str],
) -> go.Figure:
    """Draw policies by cost and accuracy, with the Pareto front and the baselines.

    Parameters
    ----------
    points
        Name, summary and whether it rests on a simulated tier.
    front
        Which of the points, then of ``references.alone``, lie on the Pareto front.
    """
    figure = go.Figure()
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
                textposition="middle left" if i % 2 else "middle right",  # beside the bar of the interval
                marker={"size": 14, "symbol": SYMBOLS[i % len(SYMBOLS)], "color": colour(i)},
                name=f"{name}{' (simulated)' if is_simulated else ''}",
                hovertemplate=f"{name}<br>%{{y:.1%}} at {dollars(c.value)} per 1,000<extra></extra>",
            )
        )
    # a tier that hardly ever answers, such as rules alone, must not flatten the rest
    shown = [s.accuracy.low for _, s, _ in points] + [
        references.alone[n][1] for n in (references.cheap, references.strong)
    ]
    top = max([s.accuracy.high for _, s, _ in points] + [references.oracle[1]])
    costs = [s.cost_per_1000.value for _, s, _ in points] + [cost for cost, _ in references.alone.values()]
    most = max(costs) or 1.0
    # a little room on the left, for the marks of what is free
    figure.update_xaxes(title="cost per 1,000 texts", range=[-0.03 * most, 1.06 * most], **money_ticks(most))
    figure.update_yaxes(title="accuracy", tickformat=".1%", range=[min(shown) - 0.03, min(top, 1.0) + 0.02])
    legend = {"orientation": "h", "yanchor": "top", "y": -0.18, "x": 0}
    figure.update_layout(height=520, margin={"l": 10, "r": 10, "t": 30, "b": 10}, legend=legend)
    return figure


def _share_ticks(low: float, high: float) -> dict[str, Any]:
    """Return the format of shares between two ends so that no two ticks read alike."""
    return {"tickformat": ".0%" if high - low > 0.05 else ".1%" if high - low > 0.005 else ".2%"}


def money_digits(most: float) -> int:
    """Return the decimals that tell tenths of an amount of USD apart."""
    return int(np.clip(1 - np.floor(np.log10(most)), 0, 9)) if most > 0 else 0


def money_ticks(most: float, *, n: int = 5) -> dict[str, Any]:
    """Return about `n` ticks of an axis of USD from 0 on, written out: 0.0002, never 2e-4 or 200µ."""
    if not most > 0:  # nothing costs anything: no ticks of billionths
        return {"tickvals": [0], "ticktext": ["$0"]}
    power = 10.0 ** np.floor(np.log10(most / n))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= most / n * (1 - 1e-9))
    digits = max(0, -int(np.floor(np.log10(step) + 1e-9)))
    at = step * np.arange(int(most * 1.05 / step) + 1)
    digits = 2 if digits == 1 else digits
    return {"tickvals": at, "ticktext": ["$0", *(f"${v:,.{digits}f}" for v in at[1:])]}


@dataclass(frozen=True, slots=True)
class Mark:
    """A policy on a chart of cost and accuracy: a name in plain words, USD per 1,000, and the share right."""

    name: str
    cost: float
    accuracy: float


def frontier_figure(
    fronts: Mapping[str, Sequence[Mark]],
    *,
    best: Mapping[str, Mark],
    references: Baselines | None,
    alone: Sequence[Mark],
    pins: Sequence[Mark],
    at_hand: Mark | None,
    dark: bool = False,
) -> go.Figure:
    """Draw the whole front of cost and accuracy of every pattern; each point knows its trace and its place in it.

    Parameters
    ----------
    fronts
        By the pattern's title, by rising cost.
    best
        By the pattern's title: the best for the goal, drawn large.
    references
        For random and oracle escalation; None leaves both out.
    alone
        Tiers that answer everything.
    dark
        Whether the page is dark.
    """
    figure = go.Figure()
    for i, (title, marks) in enumerate(fronts.items()):
        tint = colour(i, dark=dark)
        figure.add_trace(
            _policies(marks, [(title, j) for j in range(len(marks))], tint, "circle", 5).update(
                mode="lines+markers", name=title, showlegend=True, line={"color": tint, "width": 2, "shape": "hv"}
            )
        )
    if references is not None:
        _add_escalation(figure, references)
    for i, title in enumerate(fronts):
        if title in best:
            tint = colour(i, dark=dark)
            trace = _policies([best[title]], [(BEST + title, 0)], tint, SYMBOLS[i % len(SYMBOLS)], 13)
            figure.add_trace(
                trace.update(name=f"best {title}", showlegend=False, marker_line={"color": "white", "width": 1})
            )
    dearest = max((m.cost for m in alone), default=0.0)
    for j, m in enumerate(alone):
        trace = _policies([m], [(ALONE, j)], GREY, "circle-open", 10)
        trace.update(mode="markers+text", text=[in_figure(m.name)], textfont={"color": GREY, "size": 11})
        figure.add_trace(trace.update(textposition="bottom left" if m.cost > dearest / 2 else "bottom right"))
    for j, m in enumerate(pins):
        trace = _policies([m], [(PINNED, j)], GREY, "square-open", 11)
        figure.add_trace(trace.update(mode="markers+text", text=[in_figure(m.name)], textposition="top center"))
    if at_hand is not None:
        trace = _policies([at_hand], None, PINK, "star", 16)
        figure.add_trace(trace.update(name="policy at hand", showlegend=True))
    every = [*(m for marks in fronts.values() for m in marks), *alone, *pins, *([at_hand] if at_hand else [])]
    most = max((m.cost for m in every), default=0.0)
    low = min((m.accuracy for m in every), default=0.0)
    top = max([m.accuracy for m in every] + ([references.oracle[1]] if references else []))
    room = 0.06 * (top - low) + 0.004
    edge = most or 1.0
    figure.update_xaxes(title="cost per 1,000 texts", range=[-0.03 * edge, 1.06 * edge], **money_ticks(most))
    figure.update_yaxes(title="right answers", tickformat=".0%", range=[low - 2 * room, top + room])
    figure.update_layout(
        height=470,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        legend={"orientation": "h", "yanchor": "top", "y": -0.16, "x": 0},
        dragmode=False,
        hovermode="closest",
    )
    return figure


def _policies(
    marks: Sequence[Mark], places: Sequence[tuple[str, int]] | None, tint: str, symbol: str, size: int
) -> go.Scatter:
    said = [f"{in_figure(m.name)}<br>{m.accuracy:.1%} right at {dollars(m.cost)} per 1,000" for m in marks]
    return go.Scatter(
        x=[m.cost for m in marks],
        y=[m.accuracy for m in marks],
        mode="markers",
        marker={"color": tint, "symbol": symbol, "size": size},
        hovertext=said,
        hovertemplate="%{hovertext}<extra></extra>",
        customdata=places,
        showlegend=False if len(marks) == 1 else None,
    )


def _add_baselines(figure: go.Figure, references: Baselines, simulated: Sequence[str]) -> None:
    dearest = max(cost for cost, _ in references.alone.values())
    for name, (cost, accuracy) in references.alone.items():
        mark = " (simulated)" if name in simulated else ""
        figure.add_trace(
            go.Scatter(
                x=[cost],
                y=[accuracy],
                mode="markers+text",
                text=[f"{in_figure(name)} alone{mark}"],
                textposition="bottom left" if cost > dearest / 2 else "bottom right",
                textfont={"color": GREY, "size": 11},
                marker={"size": 9, "color": GREY, "symbol": "circle-open", "line": {"width": 2}},
                showlegend=False,
                hovertemplate=f"{in_figure(name)} alone{mark}<br>%{{y:.1%}} at {dollars(cost)}<extra></extra>",
            )
        )
    _add_escalation(figure, references)


def _add_escalation(figure: go.Figure, references: Baselines) -> None:
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
            hovertemplate=f"oracle escalation<br>%{{y:.1%}} at {dollars(references.oracle[0])}<extra></extra>",
        )
    )


def class_balance_figure(counts: Mapping[str, int]) -> go.Figure:
    """Draw how many rows each class has, the largest on top."""
    ordered = sorted(counts.items(), key=lambda item: item[1])
    figure = go.Figure(
        go.Bar(
            x=[n for _, n in ordered],
            y=[in_figure(name) for name, _ in ordered],
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


def confusion_figure(counts: np.ndarray, classes: Sequence[str]) -> go.Figure:
    """Draw rows by truth and final label; each cell can be clicked and knows its codes."""
    truth, label = np.nonzero(counts)
    n = counts[truth, label]
    share = n / counts.sum(axis=1)[truth]
    names = [*map(in_figure, classes), NONE_LABEL, "no answer"]
    few = len(classes) <= 20
    size = max(6, min(34, 440 // len(classes)))
    figure = go.Figure(
        go.Scatter(
            x=[names[j] for j in label],
            y=[names[i] for i in truth],
            mode="markers+text" if few else "markers",
            text=[f"{v:,}" for v in n] if few else None,
            textfont={"size": 11, "color": ["white" if s > 0.5 else "#1b1f27" for s in share]},
            marker={
                "symbol": "square",
                "size": size,
                "color": share,
                "colorscale": [[0, "#d7e6f5"], [1, BLUE]],
                "cmin": 0,
                "cmax": 1,
            },
            customdata=np.column_stack([truth, label, n]),
            hovertemplate="truth %{y}<br>final label %{x}<br>%{customdata[2]:,} rows<extra></extra>",
        )
    )
    shown = [*names[:-2], *(name for name, n in zip(names[-2:], counts[:, -2:].sum(axis=0), strict=True) if n)]
    ticks = {"tickfont": {"size": 12 if few else 8}}
    figure.update_xaxes(categoryorder="array", categoryarray=shown, title="final label", tickangle=-45, **ticks)
    figure.update_yaxes(categoryorder="array", categoryarray=names[:-2][::-1], title="truth", **ticks)
    figure.update_layout(
        height=420 if few else 760, margin={"l": 10, "r": 10, "t": 10, "b": 10}, clickmode="event+select"
    )
    return figure


def confidence_figure(confidence: Floats, right: Bools) -> go.Figure:
    """Draw how many final answers are right and wrong over a confidence; each bar can be clicked."""
    figure = go.Figure()
    for name, rows, tint, pattern in (("wrong", ~right, ORANGE, "/"), ("right", right, BLUE, "")):
        counts, edges = np.histogram(confidence[rows], bins=20, range=(0, 1))
        figure.add_trace(
            go.Bar(
                x=(edges[:-1] + edges[1:]) / 2,
                y=counts,
                name=name,
                customdata=np.column_stack([edges[:-1], edges[1:]]),
                marker={"color": tint, "pattern": {"shape": pattern}},
                hovertemplate=f"%{{y:,}} {name}<br>confidence %{{customdata[0]:.2f}} to %{{customdata[1]:.2f}}"
                "<extra></extra>",
            )
        )
    figure.update_layout(
        barmode="stack",
        height=420,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        clickmode="event+select",
        legend={"orientation": "h", "y": 1.08, "x": 0},
    )
    figure.update_xaxes(title="confidence", range=[0, 1])
    figure.update_yaxes(title="rows")
    return figure


def renamed(figure: go.Figure, model: str | None) -> go.Figure:
    """Return a figure whose titles speak of agreement where a model wrote the labels."""
    if model is None:
        return figure
    name = in_figure(model)
    figure.for_each_annotation(lambda note: note.update(text=named(note.text, name)))
    figure.for_each_yaxis(lambda axis: axis.update(title_text=named(axis.title.text or "", name)))
    figure.for_each_trace(
        lambda trace: trace.update(colorbar_title_text=named(trace.colorbar.title.text or "", name)),
        selector={"type": "heatmap"},
    )
    return figure
