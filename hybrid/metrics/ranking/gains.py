"""Gains: what routing between a weak and a strong tier recovers of the gap between them, and what it saves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from hybrid.metrics.groups import Groups
from hybrid.metrics.intervals import LEVEL, Interval
from hybrid.routing.table import Bools, Floats, Labels


def performance_gap_recovered(accuracy: Floats, *, weak: float, strong: float) -> Floats | None:
    """Return PGR = (accuracy − weak) / (strong − weak); None where the strong tier is not more accurate.

    References
    ----------
    Ong et al. 2024, RouteLLM.
    """
    if strong <= weak:
        return None
    found: Floats = (np.asarray(accuracy, dtype=np.float64) - weak) / (strong - weak)
    return found


@dataclass(frozen=True, slots=True)
class RoutingGain:
    """A curve of policies between a weak and a strong tier, in the numbers of the field.

    Parameters
    ----------
    apgr
        Mean PGR over the share of strong calls, 0 to 1; random routing has 0.5. None where PGR is undefined.
    cpt
        (x, share) pairs: the least share of strong calls of a policy on the curve that recovers x of the gap.
        Empty where PGR is undefined.
    cost_save
        The largest relative cut of cost that keeps the best single tier's accuracy; None where no policy keeps it
        or that tier costs nothing.
    """

    apgr: float | None
    cpt: tuple[tuple[float, float], ...]
    cost_save: float | None


CPT_LEVELS = (0.5, 0.8, 0.95)


def routing_gain(
    share: Floats, accuracy: Floats, cost: Floats, *, weak: tuple[float, float], strong: tuple[float, float]
) -> RoutingGain:
    """Measure a curve of policies from the weak tier alone to the strong tier alone.

    Parameters
    ----------
    share, accuracy, cost
        Of strong calls, of right answers, and any unit of cost; shape ``(n_points,)``.
    weak, strong
        (cost, accuracy) of each tier alone.

    References
    ----------
    Ong et al. 2024, RouteLLM (PGR, APGR, CPT); LLMRouterBench (CostSave).

    Examples
    --------
    Two policies: at 20 % of strong calls four fifths of the gap are recovered.

    >>> routing_gain(np.array([0.0, 0.2]), np.array([0.8, 0.88]), np.array([0.0, 0.6]),
    ...              weak=(0.0, 0.8), strong=(3.0, 0.9)).cpt
    ((0.5, 0.2), (0.8, 0.2), (0.95, 1.0))
    """
    # the strong tier alone is always to be had
    share, accuracy = np.append(share, 1.0), np.append(accuracy, strong[1])
    cost = np.append(cost, strong[0])
    best_cost, best_accuracy = max((weak, strong), key=lambda t: (t[1], -t[0]))
    keeps = accuracy >= best_accuracy - 1e-12
    save = float(1 - cost[keeps].min() / best_cost) if best_cost > 0 and keeps.any() else None
    gap = performance_gap_recovered(accuracy, weak=weak[1], strong=strong[1])
    if gap is None:
        return RoutingGain(None, (), save)
    cpt = tuple((x, float(share[gap >= x - 1e-12].min())) for x in CPT_LEVELS)  # never read between two points
    order = np.argsort(share, kind="stable")
    x, y = np.concatenate([[0.0], share[order]]), np.concatenate([[0.0], gap[order]])
    return RoutingGain(float(np.trapezoid(y, x)), cpt, save)


def break_even_price(rest_a: float, calls_a: float, rest_b: float, calls_b: float) -> float | None:
    """Return the price of a call at which two policies cost the same, per row.

    Parameters
    ----------
    rest_a, rest_b
        USD per row that the other tiers cost.
    calls_a, calls_b
        Calls per row of the tier whose price is asked for.

    Returns
    -------
    float or None
        None where no price does: both call as often, or one is dearer at any price.
    """
    if calls_a == calls_b:
        return None
    price = (rest_b - rest_a) / (calls_a - calls_b)
    return price if price >= 0 else None


SURELY = 0.25  # of the gap's square that must be beyond chance; just above 0 a ratio may be anything


def gap_intervals(
    confidence: Floats, weak: Bools, strong: Bools, policy: Bools, *, groups: Labels | None = None
) -> tuple[Interval, Interval] | None:
    """Return PGR of a policy and APGR of triage between two tiers, with their intervals.

    Both are ratios over the gap between the tiers. Fieller's interval holds every ratio that the rows do not rule out;
    it is bounded where the gap is surely positive, and where it is not there is no interval. CPT and CostSave get none:
    they are the best of all thresholds on the very rows, and such a best is luck in part.

    Parameters
    ----------
    confidence
        Of the weak tier, shape ``(n_rows,)``.
    weak, strong, policy
        Whether each tier alone, and the policy whose PGR is asked for, is right; same shape.
    groups
        Codes of what belongs together, same shape; None: every row is a group of its own.

    Returns
    -------
    pgr, apgr
        None where the gap cannot be told from 0.

    References
    ----------
    Fieller 1954, Some Problems in Interval Estimation; Franz 2007, Ratios: A short guide to confidence limits.

    Examples
    --------
    The weak tier is right in 60 of 100 rows, the strong one in 90, a policy in 75:

    >>> rows = np.arange(100)
    >>> pgr, _ = gap_intervals(rows / 100, rows < 60, rows < 90, rows < 75)
    >>> round(pgr.value, 3), round(pgr.low, 2), round(pgr.high, 2)
    (0.5, 0.29, 0.72)
    """
    n, together = len(weak), Groups.of(groups)
    gap = strong.astype(np.float64) - weak
    differ = int(np.count_nonzero(gap))
    if differ < 2:
        return None
    freedom = differ - 1.0 if together is None else min(differ - 1.0, together.freedom)
    t2 = float(stdtrit(max(freedom, 1.0), (1 + LEVEL) / 2)) ** 2
    pull = gap - gap.mean()
    found = []
    for value, above in (
        ((policy.astype(np.float64) - weak).mean(), policy.astype(np.float64) - weak),
        _area(confidence, gap),
    ):
        ratio = _ratio(float(value), above - above.mean(), float(gap.mean()), pull, t2, n, together)
        if ratio is None:
            return None
        found.append(ratio)
    return found[0], found[1]


def _area(confidence: Floats, gap: Floats) -> tuple[float, Floats]:
    """Return the area under what the strong tier gains, over the share of rows sent to it, and each row's pull on it.

    Rows of equal confidence are sent in no order. A row adds to the area what it gains on all rows sent after it, and
    lets count for longer what was gained before it.
    """
    n = len(gap)
    values, step, size = np.unique(confidence, return_inverse=True, return_counts=True)
    gained = np.bincount(step, gap, minlength=len(values))
    before, after = np.cumsum(gained) - gained / 2, n - np.cumsum(size) + size / 2
    area = float(gained @ after) / n**2
    pull: Floats = (gap * after[step] + before[step]) / n
    return area, pull


def _ratio(
    top: float, pull_top: Floats, bottom: float, pull: Floats, t2: float, n: int, groups: Groups | None
) -> Interval | None:
    """Return a ratio of two means with Fieller's interval; None where the lower one is not surely above 0.

    Parameters
    ----------
    pull_top, pull
        What each row adds to either, less the mean.
    t2
        Square of Student's quantile.
    """
    a, b = (x if groups is None else groups.sums(x) for x in (pull_top, pull))
    units = n if groups is None else groups.n_groups
    scale = units / max(units - 1, 1) / n**2
    # one row more that differs and one that does not, as none seen is not none there is
    var_top, var, both = float(a @ a) * scale + 1 / n**2, float(b @ b) * scale + 1 / n**2, float(a @ b) * scale
    sure = bottom**2 - t2 * var
    if bottom <= 0 or sure < bottom**2 * SURELY:
        return None
    middle = (top * bottom - t2 * both) / sure
    half = np.sqrt(max(middle**2 - (top**2 - t2 * var_top) / sure, 0.0))
    value = top / bottom
    return Interval(value, min(middle - float(half), value), max(middle + float(half), value))
