"""Quick: the summary of a triage or cascade straight off its columns; equal to that of the replay, but faster."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hybrid.metrics.distinct import counted
from hybrid.metrics.flips import Chain, picked
from hybrid.metrics.groups import Groups
from hybrid.metrics.intervals import Interval
from hybrid.metrics.means import MAX_VALUES, counted_interval, mean_interval
from hybrid.metrics.paired import PairedDifference, difference
from hybrid.metrics.summary import Summary, macro_f1, share, share_of
from hybrid.routing.table import Floats, Labels, Rows

Spent = tuple[Floats | float, ...]


def summarize_chain(
    chain: Chain, cuts: Sequence[float], truth: Labels, *, groups: Labels | Groups | None = None
) -> Summary:
    """Measure a chain of tiers with these thresholds, one for each tier but the last.

    Parameters
    ----------
    groups
        As in `summarize`.

    Returns
    -------
    Summary
        What `summarize` says of the replay; means may differ in the last bits.
    """
    n, k, together = chain.n_rows, len(chain.label), Groups.of(groups)
    stop = chain.stop(cuts)
    ends = np.bincount(stop, minlength=k)
    reach = np.cumsum(ends[::-1])[::-1]
    if together is None:
        right = np.bincount(stop[picked(chain.right, stop)], minlength=k)
        accuracy, escalation = share_of(int(right.sum()), n), share_of(int(reach[-1]), n)
        selective = share_of(int(right[:-1].sum()), n - int(reach[-1]))
    else:
        hits, last = picked(chain.right, stop), stop == k - 1
        accuracy, escalation = share(hits, together), share(last, together)
        selective = share(hits[~last], together.take(~last))
    bounds = _lowest(chain), _dearest(chain, stop)
    steady = _steady(chain.cost, k)
    if steady is not None and together is None:
        cost = _of_counts(steady, ends, bounds)
    else:
        cost = mean_interval(chain.spent(chain.cost, 0, stop), groups=together, least=bounds[0], most=bounds[1])
    p50, p95 = _quantiles(chain, chain.latency, stop, ends, (0.5, 0.95))
    return Summary(
        n_rows=n,
        n_groups=n if together is None else together.n_groups,
        accuracy=accuracy,
        escalation_rate=escalation,
        reach=tuple(float(r) for r in reach / n),
        selective_accuracy=selective,
        macro_f1=macro_f1(picked(chain.label, stop), truth),
        cost_per_1000=Interval(1000 * cost.value, 1000 * cost.low, 1000 * cost.high),
        latency_p50=p50,
        latency_p95=p95,
    )


def chain_against_one(
    chain: Chain, cuts: Sequence[float], alone: int, *, groups: Labels | Groups | None = None
) -> PairedDifference:
    """Compare a chain with one of its tiers alone, on the same rows: chain minus tier."""
    k, together = len(chain.label), Groups.of(groups)
    stop = chain.stop(cuts)
    change = picked(chain.right, stop).view(np.int8) - chain.right[alone].view(np.int8)
    own = chain.cost[alone]
    bounds = -(own if isinstance(own, float) else float(own.max())), _dearest(chain, stop)
    steady = _steady(chain.cost, k)
    if steady is not None and isinstance(own, float) and together is None:
        cost = _of_counts(steady - own, np.bincount(stop, minlength=k), bounds)
    else:
        values = chain.spent(chain.cost, 0, stop) - own
        cost = mean_interval(values, groups=together, least=bounds[0], most=bounds[1])
    return difference(int((change == 1).sum()), int((change == -1).sum()), cost, change, together)


def _lowest(chain: Chain) -> float:
    first = chain.cost[0]
    return first if isinstance(first, float) else float(first.min())


def _dearest(chain: Chain, stop: NDArray[np.int8]) -> float:
    """Return what a row would cost were every tier asked, each at its price or the dearest answer that was asked."""
    total = 0.0
    for j, (paid, price) in enumerate(zip(chain.cost, chain.price, strict=True)):
        seen = paid if isinstance(paid, float) else paid[stop >= j]
        total += max(price, float(np.max(seen, initial=0.0)) if (stop >= j).any() else 0.0)
    return total


def _steady(what: Spent, k: int) -> Floats | None:
    """Return what a row costs that stops at each tier, where that is the same for all."""
    if not all(isinstance(v, float) for v in what):
        return None
    return np.cumsum(np.array(what[:k], dtype=np.float64))


def _of_counts(values: Floats, counts: Rows, bounds: tuple[float, float]) -> Interval:
    distinct, place = np.unique(values[counts > 0], return_inverse=True)
    summed = np.bincount(place, counts[counts > 0]).astype(np.intp)
    mean = float(distinct @ summed / summed.sum())
    return counted_interval(distinct, summed, mean, least=bounds[0], most=bounds[1])


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
