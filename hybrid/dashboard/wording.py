"""Wording: numbers, policies and differences as texts on a screen."""

from __future__ import annotations

from hybrid.metrics import Interval, PairedDifference, Summary
from hybrid.routing import Policy


def words(name: str) -> str:
    """Return a name from code as words on a screen."""
    return name.replace("_", "-").capitalize()


def percent(share: float) -> str:
    """Return a share as text; sums in another order, off in the last bit, give the same text."""
    return f"{round(share, 12):.1%}"


def interval_text(interval: Interval, form: str = ".1%", prefix: str = "") -> str:
    """Return an interval as text: ``92.7% to 94.5%``."""
    return f"{prefix}{interval.low:{form}} to {prefix}{interval.high:{form}}"


def dollars(value: float) -> str:
    """Return USD with enough digits to be told from zero."""
    value = round(value, 12)
    return f"${value:,.2f}" if value >= 1 or value == 0 else f"${value:#.3g}"


def seconds(value: float) -> str:
    """Return a latency in the unit that reads best."""
    value = round(value, 12)
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.2f} s"


def describe(policy: Policy) -> str:
    """Return a policy in a line: pattern, tiers, parameters."""
    values = []
    for p in policy.pattern.params():
        value = getattr(policy.pattern, p.name)
        if value is None or (p.unit and getattr(policy.pattern, "strategy", None) != "cost_aware"):
            continue
        each = value if p.per_tier else (value,)
        values.append(" / ".join(words(v) if isinstance(v, str) else f"{v:.4g}" for v in each))
    return f"{policy.pattern.title} · {' → '.join(policy.names)} · {', '.join(values)}"


def verdict(difference: PairedDifference) -> str:
    """Return what a paired difference says."""
    if not difference.uplift and not difference.regression:
        return "right and wrong on the same rows"
    tail = "" if difference.told_apart else f", cannot be told apart on these {difference.n_rows:,} rows"
    return f"{points(difference.accuracy)}{tail}"


def cheaper(reference: Summary, other: Summary) -> str:
    """Return how much less or more another policy costs."""
    base, cost = reference.cost_per_1000.value, other.cost_per_1000.value
    if base == 0:
        return "same" if cost == 0 else f"+{dollars(cost)}"
    change = cost / base - 1
    return f"{abs(change):.0%} {'cheaper' if change < 0 else 'dearer'}" if round(change, 3) else "same"


def points(interval: Interval) -> str:
    """Return a difference of accuracies in points with its interval."""
    return f"{interval.value * 100:+.1f} points ({interval.low * 100:+.1f} to {interval.high * 100:+.1f})"
