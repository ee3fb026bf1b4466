"""Views: what a page and the report both show of a choice: figures and tables from cached numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from hybrid.dashboard import charts, wording
from hybrid.dashboard.inert import inert
from hybrid.dashboard.tiles import Alone, Saying, of_points
from hybrid.dashboard.tune import threshold_line
from hybrid.dashboard.tune.axes import Axis
from hybrid.dashboard.tune.flow import Flow
from hybrid.dashboard.tune.flow import along as flow_along
from hybrid.dashboard.tune.flow import over as flow_over
from hybrid.metrics.curve import Curve, Surface, pareto_front
from hybrid.metrics.summary import PairedDifference, Summary
from hybrid.routing.engine import Policy, Threshold
from hybrid.routing.table import Floats, Tier
from hybrid.study.answer import is_unpriced, unpriced
from hybrid.study.graded import alone, held
from hybrid.study.study import Pin, Study
from hybrid.study.terms import Terms

_T = TypeVar("_T")


def summary(study: Study, policy: Policy, side: str) -> Summary | None:
    """Return what a policy does on one side; None where no row there has every answer."""
    found = study.measure(policy, side)
    return found.summary if found.n_rows else None


def simulated(*choices: Policy) -> list[str]:
    """Return the names of the simulated tiers, in order."""
    return sorted({t.name for c in choices for t in c.tiers if t.simulated})


def mix_note(study: Study, policy: Policy) -> str | None:
    """Return how many rows the class mix of production leaves, and which class is the scarce one; None without one."""
    if not study.terms.mix:
        return None
    said, scarce = [], ""
    for side in ("tune", "test"):
        on = study.measure(policy, side).graded
        said.append(f"{len(on.truth):,} of {on.n_answered:,} {side} rows")
        scarce = scarce or on.scarce
    return (
        f":material/balance: In the class mix that you set, {' and '.join(said)} count; the others are left out, "
        "picked by a hash of their text, so that every number is one of real rows. "
        f"{inert(scarce)} is the class with too few: label more of it to keep more rows."
    )


def once(what: str, make: Callable[[], _T]) -> _T:
    """Return what is made, made once in a session for these words: what a release leaves as it is costs nothing.

    What is drawn meanwhile, but for widgets, is drawn again as it was. Without a server no session keeps it.
    """
    return make() if get_script_run_ctx() is None else _kept(what, make)


@st.cache_resource(scope="session", max_entries=24, show_spinner=False)
def _kept(what: str, _make: Callable[[], _T]) -> _T:
    return _make()


def threshold(study: Study, policy: Policy, line: Threshold, axis_name: str) -> tuple[go.Figure, Curve, Axis] | None:
    """Draw a choice over one of its thresholds; None where no tune row has every answer.

    The figure is kept for the next rerun: copy it before anything is drawn into it.
    """
    on = study.measure(policy, "tune")
    if not on.n_rows:
        return None
    curve = on.curve(line)
    axis, dark, off = Axis(axis_name, curve), is_dark(), line.value is None
    drawn = policy if off else held(policy, line)  # where the threshold stands is not in the picture

    def draw() -> go.Figure:
        shown = study.measure(drawn, "tune")
        figure = charts.threshold_figure(
            curve,
            axis=axis,
            off=shown.summary if off else None,
            values=shown.graded.gauge(held(drawn, line), line),  # of the threshold when it is on
            references=shown.baselines,
            title=line.title,
            strong=drawn.names[-1],
            simulated=simulated(drawn),
            unpriced=unpriced(study, drawn),
            dark=dark,
        )
        return charts.renamed(figure, study.dataset.agreement_with)

    what = ("figure", study.token, drawn, line.name, line.index, off, study.dataset.agreement_with, axis_name, dark)
    return once(repr(what), draw), curve, axis


def is_dark() -> bool:
    """Whether the page is drawn dark."""
    return st.context.theme.type == "dark"


def is_untimed(study: Study, tier: Tier) -> bool:
    """Whether nobody said how long a recorded tier takes: no column, no latency that was typed."""
    said = {r.name for r in study.columns.recorded if r.latency is not None or r.default_latency > 0}
    return tier.kind == "recorded" and tier.name not in said | set(dict(study.terms.seconds))


def untimed(study: Study, policy: Policy) -> tuple[str, ...]:
    """Return the tiers of a policy whose latency nobody said."""
    return tuple(t.name for t in policy.tiers if is_untimed(study, t))


def month(study: Study, policy: Policy, cost_per_1000: float, terms: Terms | None = None) -> str:
    """Return a policy's cost in USD a month as text; unknown where the price of a tier is."""
    return "unknown" if unpriced(study, policy) else wording.dollars((terms or study.terms).month(cost_per_1000))


def a_month(study: Study, policy: Policy, cost_per_1000: float) -> str:
    """Return a policy's cost a month in Markdown, as every page says it."""
    said = month(study, policy, cost_per_1000)
    return "cost **unknown**" if said == "unknown" else f"**{inert(said)}** a month"


def per_1000(study: Study, policy: Policy, cost: float) -> str:
    """Return a cost per 1,000 texts as text; unknown where the price of a tier of the policy is."""
    return "unknown" if unpriced(study, policy) else wording.dollars(cost)


def waits(study: Study, policy: Policy, s: Summary) -> str:
    """Return p50 and p95 of a policy's latency as text; unknown where nobody said how long a tier takes."""
    return (
        "unknown" if untimed(study, policy) else f"{wording.seconds(s.latency_p50)} / {wording.seconds(s.latency_p95)}"
    )


def saying(study: Study, policy: Policy, *, statistics: bool) -> Saying:
    """Return what tiles say beside a policy's numbers: what the LLM for everything, and the cheap tier alone, are.

    An LLM that left some of the policy's rows unanswered is not compared with: it would be on other rows.
    """
    measured = study.headline(policy)
    on, known = measured.graded, {}
    cheap = next(t for t in policy.tiers if t.name == measured.cheap)
    for what, tier in (("llm", study.llm), ("cheap", cheap)):
        if tier is None or policy.names == (tier.name,):
            continue
        both = study.graded(tuple(dict.fromkeys((*policy.names, tier.name))), measured.side)
        if np.array_equal(both.rows, on.rows):
            point = both.summary(alone(tier))
            price = math.nan if is_unpriced(study, tier) else point.cost_per_1000.value
            wait = math.nan if is_untimed(study, tier) else point.latency_p50
            known[what] = Alone(tier.name, price, point.accuracy.value, wait)
    return Saying(
        known.get("llm"),
        known.get("cheap"),
        rows=wording.plural(measured.n_rows, f"{measured.side} row")
        + wording.in_groups(measured.n_rows, measured.summary.n_groups),
        unpriced=unpriced(study, policy),
        untimed=untimed(study, policy),
        statistics=statistics,
        agreement_with=study.dataset.agreement_with,
    )


def along(study: Study, policy: Policy, line: Threshold) -> tuple[Curve, Flow]:
    """Return the points of the tune curve that a drag stops at, and the flow there."""
    fixed = held(policy, line)

    def read() -> tuple[Curve, Flow]:
        points = study.measure(fixed, "tune").curve(line)
        points = points.on(threshold_line.settable(points))
        return points, flow_along(study.headline(fixed).graded, fixed, line, points.threshold)

    return once(repr(("along", study.token, fixed, line.name, line.index)), read)


def said_along(
    study: Study, policy: Policy, line: Threshold, points: Curve, terms: Terms, beside: Saying
) -> dict[str, list[str]]:
    """Return what every tile says at the points that a drag stops at."""
    fixed = held(policy, line)
    shown = study.headline(fixed)
    return of_points(
        shown.curve(line).on(points.threshold),
        terms,
        tune=points if shown.side == "test" else None,
        latency=shown.graded.latencies(fixed, line, points.threshold),
        saying=beside,
    )


def over(
    study: Study,
    policy: Policy,
    pair: tuple[Threshold, Threshold],
    levels: tuple[Floats, Floats],
    beside: Saying,
    parts: Sequence[str],
) -> tuple[Surface, dict[str, list[str]], dict[str, list[float]]]:
    """Return the tune surface over two thresholds, what every tile says at each point of it, and the flow's widths.

    Parameters
    ----------
    parts
        Of the flow that is drawn: what the map moves must be the same.
    """
    shown, tune = study.headline(policy), study.measure(policy, "tune").graded
    surface = tune.surface(policy, pair, levels)
    reported = shown.graded.surface(policy, pair, levels)
    said = of_points(reported, study.terms, tune=surface if shown.side == "test" else None, saying=beside)
    flow = flow_over(shown.graded, policy, pair, levels)
    if flow.parts != tuple(parts):
        return surface, said, {}
    return surface, said | flow.texts(), flow.widths()


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table.

    Parameters
    ----------
    pin
        What it is of.
    measured
        On the rows that its own tiers answered, as on every page.
    difference
        Against the first line, on the rows that both answered; None for the first, or where there are none.
    shared
        The first line and this one on those rows.
    """

    pin: Pin
    measured: Summary
    difference: PairedDifference | None = None
    shared: tuple[Summary, Summary] | None = None


def side_by_side(study: Study, every: Sequence[Pin], side: str) -> list[Line]:
    """Measure each on its own rows, and against the first on the rows that both answered."""
    lines: list[Line] = []
    for pin in every:
        s = summary(study, pin.policy, side)
        if s is None:
            continue
        both = study.compare([lines[0].pin.policy, pin.policy], side) if lines else []
        lines.append(Line(pin, s, both[1][1], (both[0][0], both[1][0])) if both else Line(pin, s))
    return lines


def comparison_table(study: Study, lines: Sequence[Line], terms: Terms) -> pd.DataFrame:
    """Put policies side by side, a column for each; differences are against the first."""
    first = lines[0].pin.name
    rows = []
    for line in lines:
        kept, s, difference = line.pin, line.measured, line.difference
        cost, alike = s.cost_per_1000, "reference" if line is lines[0] else "no row in common"
        shown = {
            "": kept.name,
            "Policy": wording.describe(kept.policy) + (" (simulated)" if kept.policy.simulated else ""),
            "Accuracy (95% CI)": f"{wording.percent(s.accuracy.value)} ({wording.interval_text(s.accuracy)})",
            f"Accuracy against {first}": wording.verdict(difference) if difference else alike,
            "Per 1,000 (95% CI)": wording.money(cost) if not unpriced(study, kept.policy) else "unknown",
            "Exact McNemar p": wording.p_value(difference.p_value) if difference else alike,
            f"Cost against {first}": _cheaper(study, lines[0], line) or alike,
            "Per month": month(study, kept.policy, cost.value, terms),
            "Per month with mistakes": wording.dollars(terms.with_mistakes(s.accuracy.value, cost.value)),
            "Sent to its last tier": wording.percent(s.escalation_rate.value),
            "Latency p50 / p95": waits(study, kept.policy, s),
            "Macro-F1": f"{s.macro_f1:.3f}",
        }
        if not terms.wrong_cost:
            del shown["Per month with mistakes"]
        rows.append(shown)
    return pd.DataFrame(rows).set_index("").T


def _cheaper(study: Study, first: Line, line: Line) -> str:
    if line.difference is None or line.shared is None:
        return ""
    known = not unpriced(study, first.pin.policy) and not unpriced(study, line.pin.policy)
    return wording.cheaper(*line.shared, line.difference) if known else "unknown"


def trade_off(study: Study, lines: Sequence[Line], side: str) -> go.Figure:
    """Draw policies by cost and accuracy."""
    choices = [line.pin.policy for line in lines]
    references = study.measure(choices[0], side).baselines
    everyone = [(x.measured.cost_per_1000.value, x.measured.accuracy.value) for x in lines] + list(
        references.alone.values()
    )
    cost, accuracy = np.array(everyone, dtype=float).T
    figure = charts.trade_off_figure(
        [(x.pin.name, x.measured, x.pin.policy.simulated) for x in lines],
        references=references,
        front=list(pareto_front(cost, accuracy)),
        simulated=simulated(*choices),
    )
    return charts.renamed(figure, study.dataset.agreement_with)
