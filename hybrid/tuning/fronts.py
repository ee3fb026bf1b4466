"""Fronts: thresholds of groups of rows that add up, put together to the best whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from hybrid.routing.table import Floats, Rows
from hybrid.tuning.goals import TOLERANCE, best, violation

MAX_PAIRS = 4_000_000  # of points that one step may put together; beyond, the front's corners only


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Rows with a threshold of their own: every distinct threshold, and the sums at it, ``(n_terms, n_points)``.

    A threshold is chosen by `totals`; `real` are the sums that count for the limits, where these differ.
    """

    thresholds: Floats
    totals: Floats
    real: Floats | None = None

    @property
    def counted(self) -> Floats:
        """The sums that count for the limits."""
        return self.totals if self.real is None else self.real


@dataclass(frozen=True, slots=True, eq=False)
class Merged:
    """Which point of each group was picked, the sums over all groups, and how."""

    picked: list[int]
    totals: Floats
    method: str
    exact: bool


def merge_groups(groups: Sequence[Group], caps: Floats, *, exact: bool) -> Merged:
    """Pick one point of each group so that the sums are best.

    Without limits every group is optimised on its own. With one limit the groups' Pareto fronts (aim against
    limit) are added up one by one and pruned, which is exact. Where that grows too large, or `exact` is False, a price
    λ is put on the limit: for each λ every group is optimised on its own, and all λ together give the corners of the
    front. With more than one limit each is tried alone first: what keeps the others too is best of all.
    """
    if not len(caps):
        picked = [best(g.totals, caps) for g in groups]
        return Merged(picked, _sum(groups, picked), "exact: each class on its own,", True)
    found = [_with_limit(groups, caps, 2 + k, exact=exact) for k in range(len(caps))]
    for merged in found:
        if merged.exact and len(found) > 1 and not _over(merged, caps):
            return merged
    if len(found) > 1:
        chosen = found[best(np.stack([m.totals for m in found], axis=1), caps)]
        return Merged(chosen.picked, chosen.totals, "the best that keeps one limit at a time", False)
    return found[0]


def _over(merged: Merged, caps: Floats) -> bool:
    return bool(violation(merged.totals[:, None], caps)[0] > 0)


def _with_limit(groups: Sequence[Group], caps: Floats, limit: int, *, exact: bool) -> Merged:
    cap = float(caps[limit - 2])
    fronts = [pareto(g.totals[0], g.totals[limit]) for g in groups]
    if exact:
        added = _add_up(groups, fronts, cap, limit)
        if added is not None:
            return Merged(added, _sum(groups, added), "exact", True)
    picked = _by_price(groups, fronts, cap, limit)
    return Merged(picked, _sum(groups, picked), "by a price on the limit", False)


def _sum(groups: Sequence[Group], picked: Sequence[int]) -> Floats:
    total: Floats = np.sum([g.counted[:, i] for g, i in zip(groups, picked, strict=True)], axis=0)
    return total


def pareto(aim: Floats, limit: Floats) -> Rows:
    """Return the points that no other beats in both, by rising aim and falling limit.

    Examples
    --------
    >>> pareto(np.array([3.0, 1.0, 2.0, 2.0]), np.array([0.0, 5.0, 5.0, 4.0])).tolist()
    [1, 3, 0]
    """
    order = np.lexsort((limit, aim))
    least_before = np.minimum.accumulate(np.concatenate([[np.inf], limit[order][:-1]]))
    found: Rows = order[limit[order] < least_before]
    return found


def _add_up(groups: Sequence[Group], fronts: Sequence[Rows], cap: float, limit: int) -> list[int] | None:
    """Add the groups' fronts one by one; None where a step grows too large."""
    aims = [g.totals[0][f] for g, f in zip(groups, fronts, strict=True)]
    limits = [g.totals[limit][f] for g, f in zip(groups, fronts, strict=True)]
    least_left = np.concatenate([np.cumsum([x.min() for x in limits][::-1])[::-1][1:], [0.0]])
    reachable = max(cap, float(np.sum([x.min() for x in limits])) * (1 + TOLERANCE) + TOLERANCE)
    aim = spent = np.zeros(1)
    steps: list[tuple[Rows, Rows]] = []
    for own_aim, own_limit, rest in zip(aims, limits, least_left, strict=True):
        if aim.size * own_aim.size > MAX_PAIRS:
            return None
        both = (spent[:, None] + own_limit).ravel()
        open_ = np.flatnonzero(both + rest <= reachable)
        total = (aim[:, None] + own_aim).ravel()[open_]
        kept = open_[pareto(total, both[open_])]
        steps.append((kept // own_aim.size, kept % own_aim.size))
        aim, spent = (aim[:, None] + own_aim).ravel()[kept], both[kept]
    at = 0  # the front starts with the best aim, and only what can keep the limit is on it
    picked = []
    for (before, own), front in zip(reversed(steps), reversed(fronts), strict=True):
        picked.append(int(front[own[at]]))
        at = int(before[at])
    return picked[::-1]


def _by_price(groups: Sequence[Group], fronts: Sequence[Rows], cap: float, limit: int) -> list[int]:
    """Walk the corners of the common front: from the best aim on, buy back the limit where it costs least."""
    picked = [int(f[0]) for f in fronts]
    swaps: list[tuple[float, int, int]] = []  # price, group, point
    for k, (g, f) in enumerate(zip(groups, fronts, strict=True)):
        aim, spent = g.totals[0][f], g.totals[limit][f]
        for a, b in pairwise(hull(aim, spent)):
            price = (aim[b] - aim[a]) / (spent[a] - spent[b])
            swaps.append((float(price), k, int(f[b])))
    total = sum(float(g.counted[limit][i]) for g, i in zip(groups, picked, strict=True))
    for _, k, point in sorted(swaps):
        if total <= cap:
            break
        total += float(groups[k].counted[limit][point] - groups[k].counted[limit][picked[k]])
        picked[k] = point
    return picked


def hull(aim: Floats, limit: Floats) -> list[int]:
    """Return the corners of the lower convex hull of a front, by rising aim."""
    found: list[int] = []
    for i in range(len(aim)):
        while len(found) > 1:
            a, b = found[-2], found[-1]
            if (aim[b] - aim[a]) * (limit[a] - limit[i]) < (aim[i] - aim[a]) * (limit[a] - limit[b]):
                break
            found.pop()
        found.append(i)
    return found


NONE: Floats = np.zeros(0)


@dataclass(slots=True, eq=False)
class Front:
    """The points that no other beats in cost and in wrong answers, of many owners; of equal points the first stays.

    Examples
    --------
    >>> front = Front()
    >>> front.add(np.array([1.0, 2.0]), np.array([0.2, 0.1]), "a", np.array([[0.5], [0.9]]))
    >>> front.add(np.array([1.0, 1.5]), np.array([0.2, 0.05]), "b", np.array([[0.1], [0.2]]))
    >>> [(owner, values.tolist()) for _, _, owner, values in front.points()]
    [('a', [0.5]), ('b', [0.2])]
    """

    cost: Floats = field(default_factory=lambda: NONE)  # by rising cost
    wrong: Floats = field(default_factory=lambda: NONE)  # falling
    _owner: Rows = field(default_factory=lambda: np.zeros(0, dtype=np.intp))
    _point: Rows = field(default_factory=lambda: np.zeros(0, dtype=np.intp))
    _owners: list[tuple[Any, Floats]] = field(default_factory=list)

    def add(self, cost: Floats, wrong: Floats, owner: Any, values: Floats) -> None:
        """Add points of one owner; `values`, shape ``(n_points, n_thresholds)``, are where it has them."""
        slack = TOLERANCE * np.maximum(1e-9, np.abs(cost))  # sums in another order are the same point
        costs = np.concatenate([self.cost, cost + slack])
        wrongs = np.concatenate([self.wrong, wrong])
        kept = pareto(costs, wrongs)
        who = np.concatenate([self._owner, np.full(len(cost), len(self._owners), dtype=np.intp)])
        at = np.concatenate([self._point, np.arange(len(cost), dtype=np.intp)])
        costs[len(self.cost) :] = cost
        kept = kept[np.diff(costs[kept], append=np.inf) > 0]  # what costs as much as the next is wrong more often
        if (kept >= len(self.cost)).any():
            self._owners.append((owner, values))
        self.cost, self.wrong, self._owner, self._point = costs[kept], wrongs[kept], who[kept], at[kept]

    def owners(self) -> list[Any]:
        """Return whose points are on the front."""
        return [self._owners[k][0] for k in np.unique(self._owner)]

    def points(self) -> list[tuple[float, float, Any, Floats]]:
        """Return cost, share of wrong answers, owner and thresholds of each point, by rising cost."""
        return [
            (float(c), float(w), self._owners[k][0], self._owners[k][1][i])
            for c, w, k, i in zip(self.cost, self.wrong, self._owner, self._point, strict=True)
        ]

    def may_take(self, cost: float, right: float, price: float, most: float) -> bool:
        """Whether a point may lie before the front on a line that none of its owner's points can pass.

        Parameters
        ----------
        cost, right
            Where the line starts: the least cost, and the share right without paying more.
        price
            What each further right answer costs at least.
        most
            The share right at which it ends.
        """
        if not len(self.cost) or cost < self.cost[0]:
            return True
        after = np.append(self.cost[1:], np.inf)  # up to where each point of the front holds
        spare = after - cost
        gained = np.full(len(spare), np.inf) if price <= 0 else spare / price
        reached = np.minimum(most, right + np.maximum(gained, 0.0))
        return bool(((spare > 0) & (reached > 1 - self.wrong + TOLERANCE)).any())
