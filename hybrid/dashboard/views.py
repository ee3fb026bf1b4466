"""Views: what a page and the report both show of a choice: figures and tables from cached numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from hybrid.dashboard import charts, wording
from hybrid.dashboard.inert import inert
from hybrid.dashboard.tiles import Saying, of_points
from hybrid.dashboard.tune import threshold_line
from hybrid.dashboard.tune.axes import Axis
from hybrid.metrics.curve import Curve, pareto_front
from hybrid.metrics.summary import PairedDifference, Summary
from hybrid.routing.engine import Policy, Threshold
from hybrid.routing.patterns import PATTERNS
from hybrid.study.graded import alone, held
from hybrid.study.study import Pin, Study
from hybrid.study.terms import Terms

Results = Sequence[tuple[Summary, PairedDifference | None]]


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


def threshold(study: Study, policy: Policy, line: Threshold, axis_name: str) -> tuple[go.Figure, Curve, Axis] | None:
    """Draw a choice over one of its thresholds; None where no tune row has every answer.

    The figure is kept for the next rerun: copy it before anything is drawn into it.
    """
    on = study.measure(policy, "tune")
    if not on.n_rows:
        return None
    curve = on.curve(line)
    off = line.value is None
    drawn = policy if off else held(policy, line)  # where the threshold stands is not in the picture
    key = repr((drawn, line.name, line.index, off))
    return _figure(study.token, key, axis_name, study, drawn, line), curve, Axis(axis_name, curve)


@st.cache_resource(scope="session", max_entries=20, show_spinner=False)
def _figure(key: str, drawn: str, axis_name: str, _study: Study, _policy: Policy, _line: Threshold) -> go.Figure:
    on = _study.measure(_policy, "tune")
    curve = on.curve(_line)
    figure = charts.threshold_figure(
        curve,
        axis=Axis(axis_name, curve),
        off=on.summary if _line.value is None else None,
        values=on.graded.gauge(_policy, _line),
        references=on.baselines,
        title=_line.title,
        strong=_policy.names[-1],
        simulated=simulated(_policy),
    )
    return charts.renamed(figure, _study.dataset.agreement_with)


def saying(study: Study, policy: Policy, *, statistics: bool) -> Saying:
    """Return what tiles say beside a policy's numbers: what the LLM for everything is on its tune rows, and the flow.

    An LLM that left some of these rows unanswered is not compared with: it would be on other rows.
    """
    llm, on = study.llm, study.measure(policy, "tune").graded
    beside = Saying(statistics=statistics, agreement_with=study.dataset.agreement_with)
    if llm is not None and policy.names != (llm.name,):
        both = study.graded(tuple(dict.fromkeys((*policy.names, llm.name))), "tune")
        if np.array_equal(both.rows, on.rows):
            point = both.summary(alone(llm))
            beside = replace(beside, llm=llm.name, everything=(point.cost_per_1000.value, point.accuracy.value))
    answering = [t.name for t in policy.tiers if t.kind != "gate"]
    if len(answering) == 2 and not isinstance(policy.pattern, PATTERNS["ensemble"]):
        beside = replace(beside, flow=(answering[0], answering[1]))
    return beside


def along(
    study: Study, policy: Policy, line: Threshold, terms: Terms, beside: Saying
) -> tuple[Curve, dict[str, list[str]]]:
    """Return the points that a drag of a threshold stops at, and what every tile says at each."""
    fixed = held(policy, line)
    return _along(study.token, repr((fixed, line.name, line.index, terms, beside)), study, fixed, line, terms, beside)


@st.cache_resource(scope="session", max_entries=20, show_spinner=False)
def _along(
    key: str, what: str, _study: Study, _policy: Policy, _line: Threshold, _terms: Terms, _beside: Saying
) -> tuple[Curve, dict[str, list[str]]]:
    tune, test = (_study.measure(_policy, side) for side in ("tune", "test"))
    curve = tune.curve(_line)
    points = curve.on(threshold_line.settable(curve))
    texts = of_points(
        points,
        _terms,
        test=test.curve(_line).on(points.threshold) if test.n_rows else None,
        latency=tune.graded.latencies(_policy, _line, points.threshold),
        saying=_beside,
    )
    return points, texts


def comparison_table(pins: Sequence[Pin], results: Results, terms: Terms) -> pd.DataFrame:
    """Put policies side by side, a column for each; differences are against the first."""
    first = pins[0].name
    rows = []
    for kept, (s, difference) in zip(pins, results, strict=True):
        cost = s.cost_per_1000
        shown = {
            "": kept.name,
            "Policy": wording.describe(kept.policy) + (" (simulated)" if kept.policy.simulated else ""),
            "Accuracy (95% CI)": f"{wording.percent(s.accuracy.value)} ({wording.interval_text(s.accuracy)})",
            f"Accuracy against {first}": wording.verdict(difference) if difference else "reference",
            "Per 1,000 (95% CI)": f"{wording.dollars(cost.value)} "
            f"({wording.dollars(cost.low)} to {wording.dollars(cost.high)})",
            "Exact McNemar p": f"{difference.p_value:.3g}" if difference else "reference",
            f"Cost against {first}": wording.cheaper(results[0][0], s, difference) if difference else "reference",
            "Per month": wording.dollars(terms.month(cost.value)),
            "Per month with mistakes": wording.dollars(terms.with_mistakes(s.accuracy.value, cost.value)),
            "Escalated": wording.percent(s.escalation_rate.value),
            "Latency p50 / p95": f"{wording.seconds(s.latency_p50)} / {wording.seconds(s.latency_p95)}",
            "Macro-F1": f"{s.macro_f1:.3f}",
        }
        if not terms.wrong_cost:
            del shown["Per month with mistakes"]
        rows.append(shown)
    return pd.DataFrame(rows).set_index("").T


def trade_off(study: Study, pins: Sequence[Pin], results: Results, side: str) -> go.Figure:
    """Draw policies by cost and accuracy."""
    choices = [p.policy for p in pins]
    references = study.measure(choices[0], side).baselines
    everyone = [(s.cost_per_1000.value, s.accuracy.value) for s, _ in results] + list(references.alone.values())
    cost, accuracy = np.array(everyone, dtype=float).T
    figure = charts.trade_off_figure(
        [(kept.name, s, kept.policy.simulated) for kept, (s, _) in zip(pins, results, strict=True)],
        references=references,
        front=list(pareto_front(cost, accuracy)),
        simulated=simulated(*choices),
    )
    return charts.renamed(figure, study.dataset.agreement_with)
