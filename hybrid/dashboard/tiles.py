"""Tiles: a policy's numbers as texts, the same whether a summary or a curve says them, and their cards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import streamlit as st

from hybrid.dashboard.inert import inert
from hybrid.dashboard.wording import dollars, holds, percent, seconds, signed, signed_dollars
from hybrid.metrics.curve import Curve, Surface
from hybrid.metrics.summary import Interval, Summary
from hybrid.routing.engine import Policy
from hybrid.routing.table import Floats
from hybrid.study.naming import named
from hybrid.study.terms import Terms

METRICS = ("accuracy", "escalation", "cost", "latency")
DETAILS = (
    "accuracy_ci",
    "gained",
    "over",
    "escalation_ci",
    "saved",
    "more",
    "thousand",
    "within",
    "tune_accuracy",
    "tune_escalation",
    "tune_cost",
)
TARGETS = {name: f".st-key-tile_{name} [data-testid=stMetricValue] p" for name in METRICS} | {
    name: f"[data-live={name}]" for name in DETAILS
}
HELP = {
    "accuracy": "How often the final answer is right, kept and sent on together (system accuracy). Intervals: Wilson, "
    "95%. The large number is of test rows, which had no part in choosing; the curves are of tune rows.",
    "escalation": "Share of the texts for which the last tier is asked (escalation rate, or deferral rate; 1 − "
    "coverage).",
    "cost": "What every asked tier costs, gates and failed calls too, times your texts a month. Interval: bootstrap, "
    "95%.",
    "latency": "Half of the texts are answered within this (p50); tiers that are asked together overlap.",
}


@dataclass(frozen=True, slots=True)
class Alone:
    """A tier that answers everything, on the same rows: USD per 1,000, the share right, and p50 in seconds."""

    name: str
    cost: float
    accuracy: float
    latency: float


@dataclass(frozen=True, slots=True)
class Saying:
    """What tiles say beside the numbers themselves.

    Parameters
    ----------
    llm
        The LLM that everything could be sent to instead; None where there is none, or none that answered these rows.
    cheap
        The cheap tier; None where it is the policy itself.
    rows
        What was measured on, in words: ``455 test rows``.
    unpriced, untimed
        Tiers of the policy whose price, or whose latency, nobody knows: what rests on it is unknown, too.
    statistics
        Whether the field's own terms are used.
    agreement_with
        The model that wrote the labels; None where people did.
    """

    llm: Alone | None = None
    cheap: Alone | None = None
    rows: str = "these rows"
    unpriced: tuple[str, ...] = ()
    untimed: tuple[str, ...] = ()
    statistics: bool = False
    agreement_with: str | None = None


PLAIN = Saying()


def of_points(
    points: Curve | Surface,
    terms: Terms,
    *,
    tune: Curve | Surface | None = None,
    latency: Floats | None = None,
    saying: Saying = PLAIN,
) -> dict[str, list[str]]:
    """Return what every tile says at every point.

    Parameters
    ----------
    points
        Where policies are reported: on test.
    tune
        The same policies where the thresholds are chosen, in the same order; None where that is `points`.
    latency
        p50 and p95, shape ``(2, n_points)``; without it that tile does not move along.
    saying
        What is said beside the numbers.
    """
    (low, high), (low_escalation, high_escalation) = points.band(), points.escalation_band()
    texts = _rates(points.accuracy, points.escalation_rate, points.cost_per_1000, terms, saying)
    texts |= {"accuracy_ci": _intervals(low, high), "escalation_ci": _intervals(low_escalation, high_escalation)}
    if tune is not None:
        fresh, chosen = (zip(*map(_plain, (x.accuracy, *x.band())), strict=True) for x in (points, tune))
        texts |= {
            "tune_accuracy": [
                _tune_accuracy(Interval(*a), Interval(*b), saying) for a, b in zip(chosen, fresh, strict=True)
            ],
            "tune_escalation": [percent(e) for e in _plain(tune.escalation_rate)],
            **(
                {} if saying.unpriced else {"tune_cost": [_month(c, terms, saying) for c in _plain(tune.cost_per_1000)]}
            ),
        }
    if latency is not None:
        texts |= {
            name: [_wait(s, saying) for s in _plain(row)]
            for name, row in zip(("latency", "within"), latency, strict=True)
        }
    return texts


def of_summary(
    summary: Summary, terms: Terms, *, tune: Summary | None = None, saying: Saying = PLAIN
) -> dict[str, str]:
    """Return what every tile says about a policy."""
    s = summary
    rates = _rates([s.accuracy.value], [s.escalation_rate.value], [s.cost_per_1000.value], terms, saying)
    rates |= {
        f"{name}_ci": _intervals([i.low], [i.high])
        for name, i in (("accuracy", s.accuracy), ("escalation", s.escalation_rate))
    }
    texts = {name: said[0] for name, said in rates.items()}
    texts |= {"latency": _wait(s.latency_p50, saying), "within": _wait(s.latency_p95, saying)}
    if tune is not None:
        texts |= {
            "tune_accuracy": _tune_accuracy(tune.accuracy, s.accuracy, saying),
            "tune_escalation": percent(tune.escalation_rate.value),
            **({} if saying.unpriced else {"tune_cost": _month(tune.cost_per_1000.value, terms, saying)}),
        }
    return texts


def _rates(
    accuracy: Floats | Sequence[float],
    escalation: Floats | Sequence[float],
    cost: Floats | Sequence[float],
    terms: Terms,
    saying: Saying,
) -> dict[str, list[str]]:
    accuracy, escalation, cost = map(_plain, (accuracy, escalation, cost))
    texts = {
        "accuracy": [percent(a) for a in accuracy],
        "escalation": [percent(e) for e in escalation],
        "cost": [_month(c, terms, saying) for c in cost],
        "thousand": [_thousand(a, c, terms, saying) for a, c in zip(accuracy, cost, strict=True)],
    }
    for who, right, paid in ((saying.llm, "gained", "saved"), (saying.cheap, "over", "more")):
        if who is not None:
            texts[right] = [f"{signed(a - who.accuracy)} points vs {who.name} alone" for a in accuracy]
            if not saying.unpriced and np.isfinite(who.cost):
                change = saved if paid == "saved" else _more
                texts[paid] = [change(c, who, terms) for c in cost]
    return texts


def saved(cost: float, llm: Alone, terms: Terms) -> str:
    """Return how a cost compares with that of the LLM for everything.

    Examples
    --------
    >>> llm = Alone("llm", 100.0, 0.9, 1.0)
    >>> saved(36, llm, Terms()), saved(150, llm, Terms()), saved(100.1, llm, Terms())
    ('−64% vs llm alone', '+50% vs llm alone', 'as much as llm alone')
    """
    if llm.cost == 0:
        return _more(cost, llm, terms)
    share = round(100 * (cost / llm.cost - 1), 9)
    return (f"{share:+.0f}% vs" if abs(share) >= 0.5 else "as much as").replace("-", "−") + f" {llm.name} alone"


def _more(cost: float, who: Alone, terms: Terms) -> str:
    by = terms.month(cost) - terms.month(who.cost)
    return f"as much as {who.name} alone" if round(by, 9) == 0 else f"{signed_dollars(by)} vs {who.name} alone"


def _intervals(low: Floats | Sequence[float], high: Floats | Sequence[float]) -> list[str]:
    return [f"{percent(a)} to {percent(b)}" for a, b in zip(_plain(low), _plain(high), strict=True)]


def _plain(values: Floats | Sequence[float]) -> list[float]:
    """Return numbers as Python's own, which are rounded and written ten times as fast as NumPy's."""
    plain: list[float] = np.ravel(values).tolist()
    return plain


def _tune_accuracy(tune: Interval, fresh: Interval, saying: Saying) -> str:
    if saying.statistics:
        return f"{percent(tune.value)}, optimism {signed(tune.value - fresh.value)}"
    return f"{percent(tune.value)}; holds on fresh rows: {holds(tune, fresh)}"


def _month(cost: float, terms: Terms, saying: Saying) -> str:
    return "unknown" if saying.unpriced else dollars(terms.month(cost))


def _wait(latency: float, saying: Saying) -> str:
    return "unknown" if saying.untimed else seconds(latency)


def _untimed(saying: Saying) -> str:
    return f"nobody said how long {', '.join(saying.untimed)} takes: set it under What if"


def _thousand(accuracy: float, cost: float, terms: Terms, saying: Saying) -> str:
    if saying.unpriced:
        return f"no price of {', '.join(saying.unpriced)} is known: set it under What if"
    paid = f"{dollars(cost)} per 1,000 texts"
    mistakes = f", {dollars(terms.with_mistakes(accuracy, cost))} a month with mistakes"
    return paid + mistakes if terms.wrong_cost else paid


def draw(summary: Summary, terms: Terms, *, tune: Summary | None, policy: Policy, saying: Saying) -> None:
    """Draw the four tiles; the script of the draggable threshold moves their numbers along."""
    said = of_summary(summary, terms, tune=tune, saying=saying)
    mark = " · simulated" if policy.simulated else ""
    full, cost, model = saying.statistics, summary.cost_per_1000, saying.agreement_with
    reach = ", ".join(f"{n} {r:.0%}" for n, r in zip(policy.names, summary.reach, strict=True))
    interval = "95% CI " if full else ""
    last = inert(policy.names[-1])
    both = [who for who in (saying.llm, saying.cheap) if who is not None]
    waits = ", ".join(f"{who.name} alone {seconds(who.latency)}" for who in both if np.isfinite(who.latency))
    cards: dict[str, tuple[str, list[tuple[str, str | None, str]]]] = {
        "accuracy": (
            f"{named('Right answers', model and inert(model))}{mark}",
            [
                ("", "gained", ""),
                ("", "over", ""),
                (interval, "accuracy_ci", f" on {saying.rows}"),
                ("tune rows: ", "tune_accuracy", ""),
            ],
        ),
        "escalation": (
            f"Sent to {last}",
            [
                ("escalation rate, 95% CI " if full else "", "escalation_ci", ""),
                ("tune rows: ", "tune_escalation", ""),
                *([(f"asked: {reach}", None, "")] if full else []),
            ],
        ),
        "cost": (
            f"Cost per month{mark}",
            [
                ("", "saved", ""),
                ("", "more", ""),
                ("", "thousand", ""),
                ("tune rows: ", "tune_cost", ""),
                *([(_cost_interval(cost), None, "")] if full and not saying.unpriced else []),
            ],
        ),
        "latency": (
            f"Waiting time{mark}",
            [
                (_untimed(saying), None, "")
                if saying.untimed
                else ("p50; p95 " if full else "half of the texts; 95% within ", "within", ""),
                *([(waits, None, "")] if waits else []),
                *([("of the per-text latency; tiers asked together overlap", None, "")] if full else []),
            ],
        ),
    }
    with st.container(key="tiles", horizontal=True, gap="small"):
        for name, (label, details) in cards.items():
            with st.container(border=True, height="stretch", key=f"tile_{name}"):
                st.metric(label, said[name], help=HELP[name])
                lines = [_line(before, live, after, said) for before, live, after in details]
                shown = "<br>".join(line for line in lines if line)
                st.html(f"<div class='tile-detail'>{shown}</div>")


def _cost_interval(cost: Interval) -> str:
    if cost.low == cost.high:
        return "the same for every text"
    return f"95% CI {dollars(cost.low)} to {dollars(cost.high)} per 1,000"


def _line(before: str, live: str | None, after: str, said: Mapping[str, str]) -> str:
    if live is None:
        return f"<span class='not-live'>{escape(before)}</span>"
    if live not in said:
        return ""
    strong = " class='strong'" if live in ("saved", "gained") else ""
    return f"{escape(before)}<span data-live='{live}'{strong}>{escape(said[live])}</span>{escape(after)}"
