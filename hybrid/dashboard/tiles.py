"""Tiles: a policy's numbers as texts, the same whether a summary or a curve says them, and their cards."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import streamlit as st

from hybrid.dashboard.inert import inert
from hybrid.dashboard.wording import dollars, percent, seconds, signed
from hybrid.metrics.curve import Curve, Surface
from hybrid.metrics.summary import Summary
from hybrid.routing.table import Floats
from hybrid.study.terms import Terms

METRICS = ("accuracy", "escalation", "cost", "latency")
DETAILS = ("accuracy_ci", "escalation_ci", "month", "test_accuracy", "test_escalation", "test_cost")
TARGETS = {name: f".st-key-tile_{name} [data-testid=stMetricValue] p" for name in METRICS} | {
    name: f"[data-live={name}]" for name in DETAILS
}


def of_points(
    points: Curve | Surface, terms: Terms, *, test: Curve | None = None, latency: Floats | None = None
) -> dict[str, list[str]]:
    """Return what every tile says at every point.

    Parameters
    ----------
    test
        The same policy on test, at the same thresholds.
    latency
        p50 and p95, shape ``(2, n_points)``; without it that tile does not move along.
    """
    accuracy, escalation, cost = (x.ravel() for x in (points.accuracy, points.escalation_rate, points.cost_per_1000))
    ends = [points.band(), points.escalation_band()]
    (low, high), (low_escalation, high_escalation) = ((a.ravel(), b.ravel()) for a, b in ends)
    texts = _rates(accuracy, escalation, cost, terms)
    texts |= {"accuracy_ci": _intervals(low, high), "escalation_ci": _intervals(low_escalation, high_escalation)}
    if test is not None:
        texts |= {
            "test_accuracy": [
                _test_accuracy(a, b, low, high)
                for a, b, low, high in zip(accuracy, test.accuracy, *test.band(), strict=True)
            ],
            "test_escalation": [percent(e) for e in test.escalation_rate],
            "test_cost": [dollars(c) for c in test.cost_per_1000],
        }
    if latency is not None:
        texts["latency"] = [_latency(p50, p95) for p50, p95 in latency.T]
    return texts


def of_summary(summary: Summary, terms: Terms, *, test: Summary | None) -> dict[str, str]:
    """Return what every tile says about a policy."""
    s = summary
    rates = _rates([s.accuracy.value], [s.escalation_rate.value], [s.cost_per_1000.value], terms)
    rates |= {
        f"{name}_ci": _intervals([i.low], [i.high])
        for name, i in (("accuracy", s.accuracy), ("escalation", s.escalation_rate))
    }
    texts = {name: said[0] for name, said in rates.items()}
    texts["latency"] = _latency(s.latency_p50, s.latency_p95)
    if test is not None:
        texts |= {
            "test_accuracy": _test_accuracy(
                s.accuracy.value, test.accuracy.value, test.accuracy.low, test.accuracy.high
            ),
            "test_escalation": percent(test.escalation_rate.value),
            "test_cost": dollars(test.cost_per_1000.value),
        }
    return texts


def _rates(
    accuracy: Floats | Sequence[float],
    escalation: Floats | Sequence[float],
    cost: Floats | Sequence[float],
    terms: Terms,
) -> dict[str, list[str]]:
    return {
        "accuracy": [percent(a) for a in accuracy],
        "escalation": [percent(e) for e in escalation],
        "cost": [dollars(c) for c in cost],
        "month": [_month(a, c, terms) for a, c in zip(accuracy, cost, strict=True)],
    }


def _intervals(low: Floats | Sequence[float], high: Floats | Sequence[float]) -> list[str]:
    return [f"{percent(a)} to {percent(b)}" for a, b in zip(low, high, strict=True)]


def _test_accuracy(tune: float, test: float, low: float, high: float) -> str:
    return f"{percent(test)} ({percent(low)} to {percent(high)}), optimism {signed(tune - test)}"


def _month(accuracy: float, cost: float, terms: Terms) -> str:
    paid = f"{dollars(terms.month(cost))} per month"
    return f"{paid}, {dollars(terms.with_mistakes(accuracy, cost))} with mistakes" if terms.wrong_cost else paid


def _latency(p50: float, p95: float) -> str:
    return f"{seconds(p50)} / {seconds(p95)}"


def draw(summary: Summary, terms: Terms, *, test: Summary | None, names: Sequence[str], mark: str) -> None:
    """Draw the four tiles; the script of the draggable threshold moves their numbers along."""
    said = of_summary(summary, terms, test=test)
    cost = summary.cost_per_1000
    reach = " → ".join(f"{n} {r:.0%}" for n, r in zip(names, summary.reach, strict=True))
    cards: tuple[tuple[str, str, list[tuple[str, str | None, str]], str | None], ...] = (
        (
            "accuracy",
            f"Accuracy{mark}",
            [("95% CI ", "accuracy_ci", f" on {summary.n_rows:,} tune rows")],
            "test_accuracy",
        ),
        (
            "escalation",
            f"Escalation rate: sent to {inert(names[-1])}",
            [("95% CI ", "escalation_ci", ""), (f"asked: {reach}", None, "")],
            "test_escalation",
        ),
        (
            "cost",
            f"Cost per 1,000{mark}",
            [(f"95% CI {dollars(cost.low)} to {dollars(cost.high)}", None, ""), ("", "month", "")],
            "test_cost",
        ),
        (
            "latency",
            f"Latency p50 / p95{mark}",
            [("of the per-text latency; tiers asked together overlap", None, "")],
            None,
        ),
    )
    with st.container(key="tiles"):
        for column, (name, label, details, on_test) in zip(st.columns(4), cards, strict=True):
            with column, st.container(border=True, height="stretch", key=f"tile_{name}"):
                st.metric(label, said[name])
                lines = [_line(before, live, after, said) for before, live, after in details]
                if on_test:
                    lines.append(_line("on test: ", on_test, "", said) if test else "on test: no row has every answer")
                elif test:
                    lines.append(_line(f"on test: {_latency(test.latency_p50, test.latency_p95)}", None, "", said))
                st.html(f"<div class='tile-detail'>{'<br>'.join(lines)}</div>")


def _line(before: str, live: str | None, after: str, said: dict[str, str]) -> str:
    if live is None:
        return f"<span class='not-live'>{escape(before)}</span>"
    strong = " class='strong'" if live == "month" else ""
    return f"{escape(before)}<span data-live='{live}'{strong}>{escape(said[live])}</span>{escape(after)}"
