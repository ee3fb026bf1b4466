"""Choosing: which of several ways is best on rows that had no part in setting its thresholds.

The best of many on the rows that they were tuned on owes some of that to luck, the more so the more there were. So the
tune rows are cut into folds; each finalist is tuned on all folds but one and measured on that one, and what it does
there decides. A missing right answer is priced at what one costs on the front of all ways where the goal binds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hybrid.metrics.groups import Groups
from hybrid.routing.table import Floats, Rows
from hybrid.tuning.explore import RowSet, Try
from hybrid.tuning.fronts import hull
from hybrid.tuning.goals import CHEAPEST, COST, MOST_ACCURATE, SLOW_SHARE, WRONG, Goal
from hybrid.tuning.search import MIN_CLASS_ROWS, best_of, by_class, key_of, of_classes, search, with_classes
from hybrid.tuning.states import of_replay, states_of

FOLDS = 5
SURE = 1.5  # standard errors by which thresholds per class must be better than one
FEW = 1_000  # rows of a predicted class up to which they must; of twice as many half of that will do, and so on
WORTH = 0.05  # share of the cost that a tier must save, if it does not make more answers right
LEAST = 100  # rows, or groups, below which nothing is held out
PULLS = (0.0, 20.0, 80.0, 320.0)  # rows of the pool that a class is drawn by, tried beside one threshold for all


@dataclass(slots=True, eq=False)
class Finalist:
    """A way that may be chosen, and what it does on rows that had no part in setting its thresholds.

    Parameters
    ----------
    tried
        With its thresholds chosen on all tune rows.
    pull
        None: one threshold for all predicted classes; else one for each, drawn to the pool by this many rows.
    held_out
        The goal's measures of each of its rows, shape ``(n_measures, n_rows)``; None where nothing was held out.
    """

    tried: Try
    pull: float | None = None
    held_out: Floats | None = None

    @property
    def on(self) -> RowSet:
        return self.tried.on


def folds_of(n_rows: int, groups: Rows | None, *, seed: int) -> Rows | None:
    """Return the fold of each row, groups kept together; None where there are too few to hold any out."""
    units, of = (n_rows, np.arange(n_rows)) if groups is None else _numbered(groups)
    if units < LEAST:
        return None
    places: Rows = np.random.default_rng(seed).permutation(units) % FOLDS
    return places[of]


def _numbered(groups: Rows) -> tuple[int, Rows]:
    found, of = np.unique(groups, return_inverse=True)
    return len(found), of


def hold_out(finalist: Finalist, fold: Rows, goal: Goal) -> None:
    """Tune a finalist on all folds but one and measure it on that one, each in turn."""
    on = finalist.on
    mine = fold[on.rows]
    way = with_classes(finalist.tried.policy, ())
    states = states_of(way, on.predictions, on.truth, goal)
    predicted = on.predictions.label[:, on.predictions.index(way.own[0].name)]
    measured: Floats | None = None
    for f in range(FOLDS):
        held = mine == f
        if not held.any() or held.all():
            continue
        left = np.flatnonzero(~held)
        caps = goal.caps(len(left))
        if states is None:
            policy = search(way, on.predictions.take(left), on.truth[left], goal).policy
            found = of_replay(policy, on.predictions.take(held), on.truth[held], goal)
        elif finalist.pull is None:
            policy = best_of(states.take(left), goal, caps, refine=False, starts=(0.5,)).policy
            found = states.take(held).rows_at([line.value for line in policy.thresholds() if line.value is not None])
        else:
            policy = by_class(
                states.take(left),
                predicted[left],
                len(on.predictions.classes),
                goal,
                caps,
                exact=False,
                min_rows=least_rows(finalist.pull),
                pull=finalist.pull,
            ).policy
            found = of_classes(states.take(held), policy, predicted[held])
        if measured is None:
            measured = np.full((len(found), len(on)), np.nan)
        measured[:, held] = found
    finalist.held_out = measured


def least_rows(pull: float) -> int:
    """Return the rows from which on a class has a threshold of its own: fewer where it is drawn to the pool."""
    return MIN_CLASS_ROWS if not pull else 10


def tune_by_class(tried: Try, goal: Goal, pull: float) -> Try | None:
    """Return a triage that was tried with a threshold for each predicted class, chosen on the same rows."""
    on = tried.on
    states = states_of(with_classes(tried.policy, ()), on.predictions, on.truth, goal)
    if states is None:
        return None
    predicted = on.predictions.label[:, on.predictions.index(tried.policy.own[0].name)]
    caps = goal.caps(len(on))
    n_classes = len(on.predictions.classes)
    found = by_class(states, predicted, n_classes, goal, caps, min_rows=least_rows(pull), pull=pull)
    key = key_of(found.totals / len(on), caps / len(on))
    return Try(found.policy, tried.pattern, on, found, key, len(on), True)


def price_of_wrong(goal: Goal, cost: Floats, wrong: Floats) -> float:
    """Return what a wrong answer is worth where a goal binds, USD: the slope there of the front's hull.

    Parameters
    ----------
    cost, wrong
        Of a front by rising cost, USD and share of wrong answers a row.

    Examples
    --------
    A floor of 85 % lies between the second and the third point, where a tenth more right answers cost $0.002 a row:

    >>> front = np.array([0.0, 0.001, 0.003]), np.array([0.5, 0.2, 0.1])
    >>> round(price_of_wrong(Goal("cheapest", floor=0.85), *front), 6)
    0.02
    """
    if goal.kind == MOST_ACCURATE and goal.budget is None:
        return 1e6 * max(float(cost.max(initial=0.0)), 1.0)
    if goal.own_aim or (goal.kind == CHEAPEST and goal.floor is None):
        return 0.0
    corners = hull(cost, wrong)
    if goal.kind == CHEAPEST:
        assert goal.floor is not None
        reached = np.flatnonzero(wrong[corners] <= 1 - goal.floor + 1e-12)
    else:
        assert goal.budget is not None
        reached = np.flatnonzero(cost[corners] > goal.budget / 1000 + 1e-15)
    at = int(reached[0]) if len(reached) else len(corners) - 1
    if len(corners) < 2 or (at == 0 and goal.kind == CHEAPEST):
        return 0.0 if goal.kind == CHEAPEST and len(reached) else 1e6 * max(float(cost.max(initial=0.0)), 1.0)
    a, b = corners[max(at, 1) - 1], corners[max(at, 1)]
    return float((cost[b] - cost[a]) / (wrong[a] - wrong[b]))


@dataclass(frozen=True, slots=True)
class Judge:
    """Compares finalists on the rows that they have in common.

    Parameters
    ----------
    price
        What a wrong answer is worth, USD.
    groups
        Codes of what belongs together, of every row of the whole table; None: every row is a group of its own.
    """

    goal: Goal
    price: float
    groups: Rows | None = None

    def value(self, measures: Floats) -> Floats:
        """Return what is compared of each row, less is better, shape ``(n_rows,)``."""
        if self.goal.own_aim:
            own: Floats = measures[2]
            return own
        value: Floats = measures[COST] + self.price * measures[WRONG]
        return value

    def slow(self, measures: Floats) -> bool:
        """Whether a latency cap is missed beyond chance."""
        if self.goal.seconds is None:
            return False
        late = measures[-1]
        return bool(late.mean() > SLOW_SHARE + 2 * np.sqrt(SLOW_SHARE * (1 - SLOW_SHARE) / len(late)))

    def better(self, new: Finalist, old: Finalist, rows: Rows | None = None, *, sure: float = 0.0) -> bool:
        """Whether a finalist does better on held-out rows.

        Parameters
        ----------
        rows
            Whether each row of the whole table may be looked at; None: all.
        sure
            By how many standard errors it must.
        """
        a, b, places = common(new, old, rows)
        if not a.shape[1]:
            return False
        if self.slow(a) != self.slow(b):
            return self.slow(b)
        gain = self.value(b) - self.value(a)
        mean = float(gain.mean())
        off = gain - mean
        if sure and self.groups is not None:
            together = Groups.of(self.groups[places])
            off = off if together is None else together.sums(off)
        return bool(mean > sure * np.sqrt(off @ off) / len(gain) + 1e-15)

    def as_good(self, chosen: Finalist, others: Sequence[Finalist]) -> Finalist | None:
        """Return the best of the others that the chosen one is neither better than beyond chance, nor cheaper.

        None where there is none. Cheaper by less than `WORTH` does not count.
        """
        best: Finalist | None = None
        for f in others:
            if f.held_out is None or chosen.held_out is None:
                continue
            mine, theirs, _ = common(chosen, f)
            as_cheap = mine.shape[1] and theirs[COST].mean() <= (1 + WORTH) * mine[COST].mean() + 1e-15
            if as_cheap and not self.better(chosen, f, sure=SURE) and (best is None or self.better(f, best)):
                best = f
        return best

    def champion(self, finalists: Sequence[Finalist], rows: Rows | None = None) -> Finalist:
        """Return the best of them on held-out rows; the first stays where no other does better.

        Thresholds per class take part only where they are better than one threshold, the surer the fewer rows a class
        has.
        """
        alone = {(f.tried.pattern, f.tried.policy.names): f for f in finalists if f.pull is None}
        chosen: Finalist | None = None
        for f in finalists:
            if f.held_out is None:
                continue
            one = alone.get((f.tried.pattern, f.tried.policy.names)) if f.pull is not None else None
            if one is not None and one.held_out is not None and not self.better(f, one, rows, sure=_sure_of(f)):
                continue
            if chosen is None or self.better(f, chosen, rows):
                chosen = f
        return finalists[0] if chosen is None else chosen


def _sure_of(finalist: Finalist) -> float:
    """Return by how many standard errors thresholds per class must be better than one.

    Where classes are alike, what is lost by a threshold for each falls with the rows of a class; `SURE` keeps it small
    from the fewest rows on, and would be more caution than it takes where there are many.
    """
    on = finalist.on
    predicted = on.predictions.label[:, on.predictions.index(finalist.tried.policy.own[0].name)]
    return SURE * min(1.0, FEW * len(np.unique(predicted)) / len(on))


def common(a: Finalist, b: Finalist, rows: Rows | None = None) -> tuple[Floats, Floats, Rows]:
    """Return both finalists' measures of the rows that both were measured on, and these rows' places in the table."""
    assert a.held_out is not None
    assert b.held_out is not None
    if a.on is b.on:
        kept = ~np.isnan(a.held_out[0]) & ~np.isnan(b.held_out[0])
        if rows is not None:
            kept &= rows[a.on.rows].astype(bool)
        return a.held_out[:, kept], b.held_out[:, kept], a.on.rows[kept]
    both, in_a, in_b = np.intersect1d(a.on.rows, b.on.rows, assume_unique=True, return_indices=True)
    kept = ~np.isnan(a.held_out[0, in_a]) & ~np.isnan(b.held_out[0, in_b])
    if rows is not None:
        kept &= rows[both].astype(bool)
    return a.held_out[:, in_a[kept]], b.held_out[:, in_b[kept]], both[kept]


def held_out_of_choosing(
    finalists: Sequence[Finalist], judge: Judge, fold: Rows, on: RowSet
) -> tuple[Floats, Rows] | None:
    """Return what choosing does on rows that had no part in it, and the rows: measures, and places in the whole table.

    For each fold the champion is the best on the other folds, with the thresholds of all rows but that fold.
    """
    measures, rows = [], []
    for f in range(FOLDS):
        best = judge.champion(finalists, fold != f)
        if best.held_out is None:
            return None
        at = np.flatnonzero((fold[best.on.rows] == f) & ~np.isnan(best.held_out[0]))
        at = at[np.isin(best.on.rows[at], on.rows)]
        measures.append(best.held_out[:, at])
        rows.append(best.on.rows[at])
    together = np.concatenate(measures, axis=1)
    return (together, np.concatenate(rows)) if together.shape[1] else None
