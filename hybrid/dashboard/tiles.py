"""Tiles: a policy's numbers as texts, the same whether a summary or a curve says them, and their cards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

import streamlit as st

from hybrid.dashboard.inert import inert
from hybrid.dashboard.wording import dollars, holds, percent, seconds, signed
from hybrid.metrics.curve import Curve, Surface
from hybrid.metrics.summary import Interval, Summary
from hybrid.routing.engine import Policy
from hybrid.routing.patterns import Cascade
from hybrid.routing.table import Floats
from hybrid.study.naming import named
from hybrid.study.terms import Terms

METRICS = ("accuracy", "escalation", "cost", "latency")
DETAILS = (
    "accuracy_ci",
    "gained",
    "escalation_ci",
    "flow",
    "saved",
    "thousand",
    "within",
    "test_accuracy",
    "test_escalation",
    "test_cost",
)
TARGETS = {name: f".st-key-tile_{name} [data-testid=stMetricValue] p" for name in METRICS} | {
    name: f"[data-live={name}]" for name in DETAILS
}


@dataclass(frozen=True, slots=True)
class Saying:
    """What tiles say beside the numbers themselves.

    Parameters
    ----------
    llm
        The LLM that everything could be sent to instead; empty where there is none, or none that answered these rows.
    everything
        What that would be on the same rows: USD per 1,000 and accuracy.
    flow
        The tier that keeps what is not sent on, and the one that it is sent to; empty where more than two answer.
    statistics
        Whether the field's own terms are used.
    agreement_with
        The model that wrote the labels; None where people did.
    """

    llm: str = ""
    everything: tuple[float, float] = (0.0, 0.0)
    flow: tuple[str, str] | tuple[()] = ()
    statistics: bool = False
    agreement_with: str | None = None


PLAIN = Saying()


def of_points(
    points: Curve | Surface,
    terms: Terms,
    *,
    test: Curve | None = None,
    latency: Floats | None = None,
    saying: Saying = PLAIN,
) -> dict[str, list[str]]:
    """Return what every tile says at every point.

    Parameters
    ----------
    test
        The same policy on test, at the same thresholds.
    latency
        p50 and p95, shape ``(2, n_points)``; without it that tile does not move along.
    saying
        What is said beside the numbers.
    """
    accuracy, escalation, cost = (x.ravel() for x in (points.accuracy, points.escalation_rate, points.cost_per_1000))
    ends = [points.band(), points.escalation_band()]
    (low, high), (low_escalation, high_escalation) = ((a.ravel(), b.ravel()) for a, b in ends)
    texts = _rates(accuracy, escalation, cost, terms, saying)
    texts |= {"accuracy_ci": _intervals(low, high), "escalation_ci": _intervals(low_escalation, high_escalation)}
    if test is not None:
        texts |= {
            "test_accuracy": [
                _test_accuracy(Interval(*tune), Interval(*fresh), saying)
                for tune, fresh in zip(
                    zip(accuracy, low, high, strict=True), zip(test.accuracy, *test.band(), strict=True), strict=True
                )
            ],
            "test_escalation": [percent(e) for e in test.escalation_rate],
            "test_cost": [_test_cost(c, terms) for c in test.cost_per_1000],
        }
    if latency is not None:
        texts |= {"latency": [seconds(p50) for p50 in latency[0]], "within": [seconds(p95) for p95 in latency[1]]}
    return texts


def of_summary(summary: Summary, terms: Terms, *, test: Summary | None, saying: Saying = PLAIN) -> dict[str, str]:
    """Return what every tile says about a policy."""
    s = summary
    rates = _rates([s.accuracy.value], [s.escalation_rate.value], [s.cost_per_1000.value], terms, saying)
    rates |= {
        f"{name}_ci": _intervals([i.low], [i.high])
        for name, i in (("accuracy", s.accuracy), ("escalation", s.escalation_rate))
    }
    texts = {name: said[0] for name, said in rates.items()}
    texts |= {"latency": seconds(s.latency_p50), "within": seconds(s.latency_p95)}
    if test is not None:
        texts |= {
            "test_accuracy": _test_accuracy(s.accuracy, test.accuracy, saying),
            "test_escalation": percent(test.escalation_rate.value),
            "test_cost": _test_cost(test.cost_per_1000.value, terms),
        }
    return texts


def _rates(
    accuracy: Floats | Sequence[float],
    escalation: Floats | Sequence[float],
    cost: Floats | Sequence[float],
    terms: Terms,
    saying: Saying,
) -> dict[str, list[str]]:
    texts = {
        "accuracy": [percent(a) for a in accuracy],
        "escalation": [percent(e) for e in escalation],
        "cost": [dollars(terms.month(c)) for c in cost],
        "thousand": [_thousand(a, c, terms) for a, c in zip(accuracy, cost, strict=True)],
    }
    if saying.llm:
        dear, right = saying.everything
        texts["gained"] = [f"{signed(a - right)} points against {saying.llm} for everything" for a in accuracy]
        texts["saved"] = [f"{change(c, dear)} {saying.llm} for everything" for c in cost]
    if saying.flow:
        texts["flow"] = [_flow(e, *saying.flow) for e in escalation]
    return texts


def change(cost: float, reference: float) -> str:
    """Return how a cost compares with another: ``−64% against``.

    Examples
    --------
    >>> change(36, 100), change(150, 100), change(100.1, 100), change(2, 0)
    ('−64% against', '+50% against', 'as much as', '+$2.00 per 1,000 against')
    """
    if reference == 0:
        return "as much as" if cost == 0 else f"+{dollars(cost)} per 1,000 against"
    share = round(100 * (cost / reference - 1), 9)
    return f"{share:+.0f}% against".replace("-", "−") if abs(share) >= 0.5 else "as much as"


def _flow(escalation: float, stays: str, goes: str) -> str:
    share = round(100 * escalation, 9)
    sent = f"{share:.0f}" if share in (0, 100) or 1 <= share <= 99 else f"{share:.1f}"
    kept = f"{100 - float(sent):g}"
    return f"Of 100 texts, {kept} stay with {stays}, {float(sent):g} go on to {goes}."


def _intervals(low: Floats | Sequence[float], high: Floats | Sequence[float]) -> list[str]:
    return [f"{percent(a)} to {percent(b)}" for a, b in zip(low, high, strict=True)]


def _test_accuracy(tune: Interval, test: Interval, saying: Saying) -> str:
    if not saying.statistics:
        return f"{percent(test.value)}. Holds on fresh rows: {holds(tune, test)}"
    between = f"{percent(test.low)} to {percent(test.high)}"
    return f"{percent(test.value)} ({between}), optimism {signed(tune.value - test.value)}"


def _test_cost(cost: float, terms: Terms) -> str:
    return f"{dollars(terms.month(cost))} a month"


def _thousand(accuracy: float, cost: float, terms: Terms) -> str:
    paid = f"{dollars(cost)} per 1,000 texts"
    mistakes = f", {dollars(terms.with_mistakes(accuracy, cost))} a month with mistakes"
    return paid + mistakes if terms.wrong_cost else paid


def draw(summary: Summary, terms: Terms, *, test: Summary | None, policy: Policy, saying: Saying) -> None:
    """Draw the tiles; the script of the draggable threshold moves their numbers along."""
    said = of_summary(summary, terms, test=test, saying=saying)
    mark = " · simulated" if policy.simulated else ""
    full, model = saying.statistics, saying.agreement_with
    cost = summary.cost_per_1000
    flow: tuple[str, str | None, str] = ("", "flow", "") if saying.flow else (flow_of(summary, policy), None, "")
    reach = ", ".join(f"{n} {r:.0%}" for n, r in zip(policy.names, summary.reach, strict=True))
    interval = "95% CI " if full else ""
    cards: tuple[tuple[str, str, list[tuple[str, str | None, str]], str | None], ...] = (
        (
            "accuracy",
            f"{named('Right answers', model and inert(model))}{mark}",
            [
                *([("", "gained", "")] if saying.llm else []),
                (interval, "accuracy_ci", f" on {summary.n_rows:,} tune rows"),
            ],
            "test_accuracy",
        ),
        (
            "escalation",
            f"Sent to {inert(policy.names[-1])}",
            [
                flow,
                *([("escalation rate, 95% CI ", "escalation_ci", ""), (f"asked: {reach}", None, "")] if full else []),
            ],
            "test_escalation",
        ),
        (
            "cost",
            f"Cost per month{mark}",
            [
                *([("", "saved", "")] if saying.llm else []),
                ("", "thousand", ""),
                *([(f"95% CI {dollars(cost.low)} to {dollars(cost.high)} per 1,000", None, "")] if full else []),
            ],
            "test_cost",
        ),
        (
            "latency",
            f"Waiting time{mark}",
            [
                ("p50; p95 " if full else "half of the texts; 95% within ", "within", ""),
                *([("of the per-text latency; tiers asked together overlap", None, "")] if full else []),
            ],
            None,
        ),
    )
    with st.container(key="tiles"):
        for column, (name, label, details, on_test) in zip(st.columns(len(cards), gap="small"), cards, strict=True):
            with column, st.container(border=True, height="stretch", key=f"tile_{name}"):
                st.metric(label, said[name])
                lines = [_line(before, live, after, said) for before, live, after in details]
                if on_test:
                    lines.append(
                        _line("test rows: ", on_test, "", said) if test else "test rows: none has every answer"
                    )
                elif test:
                    waits = f"{seconds(test.latency_p50)}, 95% within {seconds(test.latency_p95)}"
                    lines.append(_line(f"test rows: {waits}", None, "", said))
                st.html(f"<div class='tile-detail'>{'<br>'.join(lines)}</div>")


def flow_of(summary: Summary, policy: Policy) -> str:
    """Return where texts go, in a sentence."""
    names, reach = policy.names, [100 * r for r in summary.reach]
    if len(names) == 1:
        return f"Every text is answered by {names[0]}."
    if isinstance(policy.pattern, Cascade):
        kept = [a - b for a, b in pairwise(reach)]
        stay = ", ".join(f"{n:.0f} with {t}" for n, t in zip(kept, names, strict=False))
        return f"Of 100 texts, these stay: {stay}; {reach[-1]:.0f} go on to {names[-1]}."
    answering = [(n, r) for t, n, r in zip(policy.tiers, names, reach, strict=True) if t.kind != "gate"]
    return f"Of 100 texts, {', '.join(f'{r:.0f} are read by {n}' for n, r in answering)}."


def _line(before: str, live: str | None, after: str, said: dict[str, str]) -> str:
    if live is None:
        return f"<span class='not-live'>{escape(before)}</span>"
    strong = " class='strong'" if live == "saved" else ""
    return f"{escape(before)}<span data-live='{live}'{strong}>{escape(said[live])}</span>{escape(after)}"
