"""Views: what a page and the report both show of a choice: figures and tables from cached numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from hybrid.dashboard import cached, charts, wording
from hybrid.dashboard.state import Choice, Loaded, Pin
from hybrid.dashboard.tiles import Scale, of_points, with_mistakes
from hybrid.dashboard.tune import threshold_line
from hybrid.dashboard.tune.axes import Axis
from hybrid.metrics.curve import Curve, pareto_front
from hybrid.metrics.summary import PairedDifference, Summary
from hybrid.routing.engine import Threshold

Results = Sequence[tuple[Summary, PairedDifference | None]]


def simulated(*choices: Choice) -> list[str]:
    """Return the names of the simulated tiers, in order."""
    return sorted({t.name for c in choices for t in c.policy.tiers if t.simulated})


def mix_note(data: Loaded, choice: Choice) -> str | None:
    """Return how many rows the class mix of production leaves, and which class is the scarce one; None without one."""
    if not choice.terms.mix:
        return None
    said, scarce = [], ""
    for side in ("tune", "test"):
        on = cached.evaluation(data, choice, side)
        said.append(f"{len(on.truth):,} of {on.n_answered:,} {side} rows")
        scarce = scarce or on.scarce
    return (
        f":material/balance: In the class mix that you set, {' and '.join(said)} count; the others are left out, "
        "picked by a hash of their text, so that every number is one of real rows. "
        f"{scarce} is the class with too few: label more of it to keep more rows."
    )


def threshold(data: Loaded, choice: Choice, line: Threshold, axis_name: str) -> tuple[go.Figure, Curve, Axis] | None:
    """Draw a choice over one of its thresholds; None where no tune row has every answer.

    The figure is kept for the next rerun: copy it before anything is drawn into it.
    """
    curve = cached.curve(data, choice, line)
    if curve is None:
        return None
    off = line.value is None
    drawn = choice if off else cached.held(choice, line)  # where the threshold stands is not in the picture
    key = repr((drawn, line.name, line.index, off))
    return _figure(data.key, key, axis_name, data, drawn, line), curve, Axis(axis_name, curve)


@st.cache_resource(scope="session", max_entries=20, show_spinner=False)
def _figure(key: str, drawn: str, axis_name: str, _data: Loaded, _choice: Choice, _line: Threshold) -> go.Figure:
    curve = cached.curve(_data, _choice, _line)
    assert curve is not None
    return charts.threshold_figure(
        curve,
        axis=Axis(axis_name, curve),
        off=cached.summary(_data, _choice, "tune") if _line.value is None else None,
        values=cached.gauge(_data, _choice, _line),
        references=cached.references(_data, _choice, "tune"),
        title=_line.title,
        strong=_choice.policy.names[-1],
        simulated=simulated(_choice),
    )


def along(data: Loaded, choice: Choice, line: Threshold, scale: Scale) -> tuple[Curve, dict[str, list[str]]]:
    """Return the points that a drag of a threshold stops at, and what every tile says at each."""
    fixed = cached.held(choice, line)
    return _along(data.key, repr((fixed, line.name, line.index, scale)), data, fixed, line, scale)


@st.cache_resource(scope="session", max_entries=20, show_spinner=False)
def _along(
    key: str, what: str, _data: Loaded, _choice: Choice, _line: Threshold, _scale: Scale
) -> tuple[Curve, dict[str, list[str]]]:
    curve, on_test = (cached.curve(_data, _choice, _line, side) for side in ("tune", "test"))
    assert curve is not None
    points = curve.on(threshold_line.lattice(curve))
    texts = of_points(
        points,
        _scale,
        test=on_test.on(points.threshold) if on_test else None,
        latency=cached.latencies(_data, _choice, _line, points.threshold),
    )
    return points, texts


def comparison_table(pins: Sequence[Pin], results: Results, scale: Scale) -> pd.DataFrame:
    """Put policies side by side, a column for each; differences are against the first."""
    first = pins[0].name
    rows = []
    for kept, (s, difference) in zip(pins, results, strict=True):
        cost = s.cost_per_1000
        shown = {
            "": kept.name,
            "Policy": wording.describe(kept.choice.policy) + (" (simulated)" if kept.choice.policy.simulated else ""),
            "Accuracy (95% CI)": f"{wording.percent(s.accuracy.value)} ({wording.interval_text(s.accuracy)})",
            f"Accuracy against {first}": wording.verdict(difference) if difference else "reference",
            "Per 1,000 (95% CI)": f"{wording.dollars(cost.value)} "
            f"({wording.dollars(cost.low)} to {wording.dollars(cost.high)})",
            "Exact McNemar p": f"{difference.p_value:.3g}" if difference else "reference",
            f"Cost against {first}": wording.cheaper(results[0][0], s, difference) if difference else "reference",
            "Per month": wording.dollars(cost.value / 1000 * scale.volume),
            "Per month with mistakes": wording.dollars(with_mistakes(s.accuracy.value, cost.value, scale)),
            "Escalated": wording.percent(s.escalation_rate.value),
            "Latency p50 / p95": f"{wording.seconds(s.latency_p50)} / {wording.seconds(s.latency_p95)}",
            "Macro-F1": f"{s.macro_f1:.3f}",
        }
        if not scale.wrong_cost:
            del shown["Per month with mistakes"]
        rows.append(shown)
    return pd.DataFrame(rows).set_index("").T


def trade_off(data: Loaded, pins: Sequence[Pin], results: Results, side: str, current: Choice | None) -> go.Figure:
    """Draw policies by cost and accuracy; `current` adds the curve of that policy, where it can be measured."""
    choices = [p.choice for p in pins]
    references = cached.references(data, choices[0], side)
    everyone = [(s.cost_per_1000.value, s.accuracy.value) for s, _ in results] + list(references.alone.values())
    cost, accuracy = np.array(everyone, dtype=float).T
    return charts.trade_off_figure(
        [(kept.name, s, kept.choice.policy.simulated) for kept, (s, _) in zip(pins, results, strict=True)],
        references=references,
        front=list(pareto_front(cost, accuracy)),
        curve=cached.curve(data, current, current.policy.thresholds()[0], side) if current else None,
        simulated=simulated(*choices),
    )
