"""Quick: the summary of a triage or cascade straight off its columns; equal to that of the replay, but faster."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hybrid.metrics.distinct import counted
from hybrid.metrics.flips import Chain, picked
from hybrid.metrics.summary import (
    MAX_VALUES,
    Interval,
    PairedDifference,
    Summary,
    counted_interval,
    difference,
    macro_f1,
    mean_interval,
    share_of,
)
from hybrid.routing.table import Floats, Labels, Rows

Spent = tuple[Floats | float, ...]


def summarize_chain(chain: Chain, cuts: Sequence[float], truth: Labels, *, seed: int = 0) -> Summary:
    """Measure a chain of tiers with these thresholds, one for each tier but the last.

    Returns
    -------
    Summary
        What `summarize` says of the replay; means may differ in the last bits.
    """
    n, k = chain.n_rows, len(chain.label)
    stop = chain.stop(cuts)
    ends = np.bincount(stop, minlength=k)
    right = np.bincount(stop[picked(chain.right, stop)], minlength=k)
    reach = np.cumsum(ends[::-1])[::-1]
    cost = _interval(chain, chain.cost, stop, ends, seed)
    p50, p95 = _quantiles(chain, chain.latency, stop, ends, (0.5, 0.95))
    return Summary(
        n_rows=n,
        accuracy=share_of(int(right.sum()), n),
        escalation_rate=share_of(int(reach[-1]), n),
        reach=tuple(float(r) for r in reach / n),
        selective_accuracy=share_of(int(right[:-1].sum()), n - int(reach[-1])),
        macro_f1=macro_f1(picked(chain.label, stop), truth),
        cost_per_1000=Interval(1000 * cost.value, 1000 * cost.low, 1000 * cost.high),
        latency_p50=p50,
        latency_p95=p95,
    )


def chain_against_one(chain: Chain, cuts: Sequence[float], alone: int, *, seed: int = 0) -> PairedDifference:
    """Compare a chain with one of its tiers alone, on the same rows: chain minus tier."""
    n, k = chain.n_rows, len(chain.label)
    stop = chain.stop(cuts)
    change = picked(chain.right, stop).view(np.int8) - chain.right[alone].view(np.int8)
    uplift, regression = int((change == 1).sum()), int((change == -1).sum())
    found = np.array([-1.0, 0.0, 1.0]), np.array([regression, n - uplift - regression, uplift])
    seen = found[1] > 0
    gain = counted_interval(found[0][seen], found[1][seen], (uplift - regression) / n, seed=seed)
    own = chain.cost[alone]
    steady = _steady(chain.cost, k)
    if steady is not None and isinstance(own, float):
        cost = _of_counts(steady - own, np.bincount(stop, minlength=k), seed)
    else:
        cost = mean_interval(chain.spent(chain.cost, 0, stop) - own, seed=seed)
    return difference(n, uplift, regression, gain, cost)


def _steady(what: Spent, k: int) -> Floats | None:
    """Return what a row costs that stops at each tier, where that is the same for all."""
    if not all(isinstance(v, float) for v in what):
        return None
    return np.cumsum(np.array(what[:k], dtype=np.float64))


def _of_counts(values: Floats, counts: Rows, seed: int) -> Interval:
    distinct, place = np.unique(values[counts > 0], return_inverse=True)
    summed = np.bincount(place, counts[counts > 0]).astype(np.intp)
    return counted_interval(distinct, summed, float(distinct @ summed / summed.sum()), seed=seed)


def _interval(chain: Chain, what: Spent, stop: NDArray[np.int8], ends: Rows, seed: int) -> Interval:
    steady = _steady(what, len(ends))
    if steady is not None:
        return _of_counts(steady, ends, seed)
    return mean_interval(chain.spent(what, 0, stop), seed=seed)


def _quantiles(
    chain: Chain, what: Spent, stop: NDArray[np.int8], ends: Rows, q: tuple[float, float]
) -> tuple[float, float]:
    steady = _steady(what, len(ends))
    if steady is None:
        values = chain.spent(what, 0, stop)
        few = counted(values, most=MAX_VALUES)
        if few is None:
            low, high = np.quantile(values, q)
            return float(low), float(high)
        steady, ends = few
    order = np.argsort(steady, kind="stable")
    ranks = np.cumsum(ends[order])
    found = []
    for one in q:  # as numpy interpolates
        at = one * (int(ranks[-1]) - 1)
        below, above = (
            float(steady[order[np.searchsorted(ranks, r, side="right")]]) for r in (np.floor(at), np.ceil(at))
        )
        found.append(below + (above - below) * (at - np.floor(at)))
    return found[0], found[1]
