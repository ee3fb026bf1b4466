"""Wording: numbers, policies and differences as texts on a screen."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from math import hypot, isfinite

from hybrid.metrics.summary import Interval, PairedDifference, Summary
from hybrid.routing.engine import OUT_OF_SCOPE, Policy
from hybrid.routing.patterns import Triage
from hybrid.routing.table import NEVER

WORTH_GROUPING = 1.1  # rows a group from which on it is said how many groups there are
WORTH_KNOWING = 0.05  # loss of accuracy on fresh rows that has to be ruled out before "holds" is said


def words(name: str) -> str:
    """Return a name from code as words on a screen."""
    return name.replace("_", "-").capitalize()


def listed(names: Sequence[str], most: int = 6) -> str:
    """Return names in a row; of many the first, and how many more there are."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def plural(n: float, what: str) -> str:
    """Return a number with its unit: ``1 point``, ``2.5 points``, ``1,065 rows``."""
    return f"{f'{n:,}' if isinstance(n, int) else f'{n:g}'} {what}{'' if n == 1 else 's'}"


def labelled_rows(n: int, seen: PairedDifference) -> str:
    """Return a number of labelled rows, and in how many groups that is where many rows share one."""
    groups = seen.groups_of(n)
    return f"{n:,} labelled rows{'' if groups is None else in_groups(n, groups)}"


def in_groups(n: int, groups: int) -> str:
    """Return in how many groups so many rows are, where many share one: `` in 60 groups``, or nothing."""
    return f" in {groups:,} groups" if n >= WORTH_GROUPING * groups else ""


def percent(share: float) -> str:
    """Return a share as text; sums in another order, off in the last bit, give the same text."""
    return f"{round(share, 12):.1%}"


def interval_text(interval: Interval, form: str = ".1%", prefix: str = "") -> str:
    """Return an interval as text: ``92.7% to 94.5%``."""
    return f"{prefix}{interval.low:{form}} to {prefix}{interval.high:{form}}"


def dollars(value: float) -> str:
    """Return USD with enough digits to be told from zero, and none that mean nothing; nan is unknown.

    Examples
    --------
    >>> dollars(1234.5), dollars(53.444), dollars(0.5), dollars(0.00001234), dollars(0), dollars(float("nan"))
    ('$1,234', '$53.44', '$0.500', '$0.0000123', '$0', 'unknown')
    """
    if not isfinite(value):
        return "unknown"
    value = round(value, 12)
    if value <= 0 or round(value, 2) >= 100:
        return f"${value:,.0f}"
    if value >= 1:
        return f"${value:,.2f}"
    return f"${value:.{2 - int(f'{value:.2e}'.split('e')[1])}f}"


def money(interval: Interval) -> str:
    """Return USD with its interval, which is left out where it has no width: ``$0.534 ($0.488 to $0.580)``."""
    if interval.low == interval.high:
        return dollars(interval.value)
    return f"{dollars(interval.value)} ({dollars(interval.low)} to {dollars(interval.high)})"


def holds(tune: Interval, fresh: Interval) -> str:
    """Say whether an accuracy seen on tune holds on fresh rows: ``yes``, ``no`` or ``too few rows to tell``.

    By the interval of the loss, tune minus test: ``no`` where it is surely a loss, ``yes`` where a loss of
    `WORTH_KNOWING` or more is ruled out.

    References
    ----------
    Newcombe 1998, Interval estimation for the difference between independent proportions (method 10).

    Examples
    --------
    >>> holds(Interval(0.93, 0.91, 0.95), Interval(0.93, 0.90, 0.95))
    'yes'
    >>> holds(Interval(0.93, 0.91, 0.95), Interval(0.80, 0.75, 0.85))
    'no'
    >>> holds(Interval(0.93, 0.91, 0.95), Interval(0.90, 0.70, 0.98))
    'too few rows to tell'
    """
    lost = tune.value - fresh.value
    least = lost - hypot(tune.value - tune.low, fresh.high - fresh.value)
    most = lost + hypot(tune.high - tune.value, fresh.value - fresh.low)
    if round(least, 9) > 0:
        return "no"
    return "yes" if round(most, 9) < WORTH_KNOWING else "too few rows to tell"


def signed_dollars(value: float) -> str:
    """Return a difference of USD with its sign."""
    return f"{'−' if value < 0 else '+'}{dollars(abs(value))}"


def seconds(value: float) -> str:
    """Return a latency in the unit that reads best; nan is unknown.

    Examples
    --------
    >>> seconds(0.0012), seconds(1.5), seconds(0), seconds(float("nan"))
    ('1.2 ms', '1.50 s', '0 ms', 'unknown')
    """
    if not isfinite(value):
        return "unknown"
    if round(value, 3) >= 1:
        return f"{value:.2f} s"
    return f"{1000 * value:.3g} ms" if value >= 1e-5 or value <= 0 else "under 0.01 ms"


def p_value(value: float) -> str:
    """Return the p-value of a test; below 0.001 more digits say nothing."""
    return "< 0.001" if value < 0.001 else f"{value:.3g}"


def describe(policy: Policy) -> str:
    """Return a policy in a line: pattern, tiers, parameters; one tier alone by its name."""
    if len(policy.own) == 1:
        return short(policy)
    values = []
    for _, group in groupby(settings(policy), key=lambda setting: setting[0]):
        values.append(" / ".join(value for _, _, value in group))
    return f"{policy.pattern.title} · {' → '.join(policy.names)} · {', '.join(values)}"


def threshold(value: float) -> str:
    """Return a threshold, or another number of a pattern, as it is read: ``0.85``, or ``never``; never as 1e-05.

    Examples
    --------
    >>> threshold(0.85), threshold(0.823058165), threshold(0.9999912), threshold(0.00001), threshold(NEVER)
    ('0.85', '0.8231', '0.999991', '0.00001', 'never')
    """
    if value == NEVER:
        return "never"
    digits = 4 if value in (0.0, 1.0) or 5e-5 <= value < 1 - 5e-5 else 6
    return f"{value:.{digits}f}".rstrip("0").rstrip(".") or "0"


def short(policy: Policy) -> str:
    """Return a policy in a few words: ``Triage 0.85``, ``Triage 0.85 in scope``, or ``llm alone``."""
    return _short(policy) if policy.scope is None else f"{_short(policy.bare)} in scope"


def _short(policy: Policy) -> str:
    if len(policy.tiers) == 1:
        return f"{policy.names[0]} alone"
    values = [t.value for t in policy.thresholds() if t.value is not None]
    own = own_thresholds(policy)
    if own and None not in own:
        return f"{policy.pattern.title} by class"
    said = f"{policy.pattern.title} {' / '.join(threshold(v) for v in values[:4])}".strip()
    return f"{said}{f' + {len(own) - own.count(None)} classes' if own else ''}"


def own_thresholds(policy: Policy) -> tuple[float | None, ...]:
    """Return a policy's thresholds per class; empty where it has none."""
    return policy.pattern.by_class if isinstance(policy.pattern, Triage) else ()


def settings(policy: Policy) -> list[tuple[str, str, str]]:
    """Return a policy's parameters that count: name, title and value; one for each tier where it has one for each."""
    found = []
    pattern = policy.pattern
    for p in pattern.params():
        value = getattr(pattern, p.name)
        if p.per_class:
            own = [t for t in value if t is not None]
            if own:
                said = f"{len(own)} classes at {threshold(min(own))} to {threshold(max(own))}"
                found.append((p.name, "Classes with a threshold of their own", said))
            continue
        if p.threshold and own_thresholds(policy) and None not in own_thresholds(policy):
            continue  # every class has its own
        if value is None or (p.unit and getattr(pattern, "strategy", None) != "cost_aware"):
            continue
        tiers = pattern.gated(policy.own) if p.per_tier else ("",)
        for tier, each in zip(tiers, value if p.per_tier else (value,), strict=True):
            found.append((p.name, p.label.format(tier=tier), words(each) if isinstance(each, str) else threshold(each)))
    if policy.scope is not None:
        found.append((OUT_OF_SCOPE, "Set aside as out of scope from", threshold(policy.scope.threshold)))
    return found


def verdict(difference: PairedDifference) -> str:
    """Return what a paired difference says."""
    if not difference.uplift and not difference.regression:
        return "right and wrong on the same rows"
    tail = "" if difference.told_apart else ": cannot be told apart on these rows"
    return f"{points(difference.accuracy)}{tail}"


def cheaper(reference: Summary, other: Summary, difference: PairedDifference) -> str:
    """Return how much less or more another policy costs, as a share of the reference: ``31% cheaper (28% to 34%)``."""
    base, change = reference.cost_per_1000.value, difference.cost_per_1000
    if base == 0:
        return "same" if other.cost_per_1000.value == 0 else f"+{dollars(other.cost_per_1000.value)}"
    if round(change.value / base, 3) == 0:
        return "same"
    if other.cost_per_1000.value == 0:
        return "free"
    word, sign = ("dearer", 1) if change.value > 0 else ("cheaper", -1)
    low, high = sorted((sign * change.low / base, sign * change.high / base))
    high = min(high, 1.0) if change.value < 0 else high  # nothing is more than 100% cheaper
    said = f"{abs(change.value) / base:.0%} {word}"
    return f"{said} ({low:.0%} to {high:.0%})" if low > 0 else f"{said}: cannot be told apart on these rows"


def points(interval: Interval) -> str:
    """Return a difference of accuracies in points with its interval."""
    return f"{signed(interval.value)} points ({signed(interval.low)} to {signed(interval.high)})"


def signed(share: float) -> str:
    """Return a difference of shares in points, with its sign."""
    return f"{round(share * 100, 9):+.1f}".replace("-", "−")
