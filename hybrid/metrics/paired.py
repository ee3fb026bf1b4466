"""Paired: two policies on the same rows, whether they can be told apart, and how many rows would tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import binom, binomtest

from hybrid.metrics.groups import Groups
from hybrid.metrics.intervals import LEVEL, Interval
from hybrid.metrics.means import mean_interval
from hybrid.routing.engine import Outcomes
from hybrid.routing.table import Floats, Labels

POWER = 0.8
MOST_SUMS = 20_000  # of the exact test; beyond, the normal distribution is as good


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Policy B minus policy A on the same rows.

    Parameters
    ----------
    accuracy, cost_per_1000
        Differences with their paired intervals.
    uplift, regression
        Rows that B turns right, and wrong.
    p_value
        Exact McNemar test that both are equally accurate; where rows belong together, its like for groups.
    rows_to_tell
        About how many labelled rows would tell the difference seen in four of five cases, were it real; None where
        none was seen.
    n_groups
        Groups that the rows are in; None where each is its own.
    design_effect
        How many rows are worth one independent row.
    """

    n_rows: int
    accuracy: Interval
    cost_per_1000: Interval
    uplift: int
    regression: int
    p_value: float
    rows_to_tell: int | None
    n_groups: int | None = None
    design_effect: float = 1.0

    @property
    def told_apart(self) -> bool:
        """Whether the interval of the accuracy difference excludes 0."""
        return not self.accuracy.low <= 0 <= self.accuracy.high

    def groups_of(self, rows: int) -> int | None:
        """Return about how many groups of the sizes seen hold so many rows; None where each row is its own."""
        return None if self.n_groups is None else int(np.ceil(rows * self.n_groups / self.n_rows))


def paired_difference(
    a: Outcomes, b: Outcomes, truth: Labels, *, groups: Labels | Groups | None = None
) -> PairedDifference:
    """Compare two policies on the same rows: B minus A.

    Parameters
    ----------
    groups
        Codes of what belongs together, shape ``(n_rows,)``; None: every row is a group of its own.

    References
    ----------
    McNemar 1947; Dietterich 1998, Approximate Statistical Tests for Comparing Supervised Classification Learning.
    """
    change = (b.label == truth).view(np.int8) - (a.label == truth).view(np.int8)
    together = Groups.of(groups)
    # what a row of A was never seen to cost is not counted on, what one of B may cost is
    cost = mean_interval(b.cost - a.cost, groups=together, least=-float(a.cost.max()), most=dearest(b))
    return difference(int((change == 1).sum()), int((change == -1).sum()), cost, change, together)


def dearest(o: Outcomes) -> float:
    """Return what a row would cost, in USD, were every tier asked, each at its price or the dearest answer seen."""
    seen = np.where(o.asked, o.seen.cost, 0.0).max(axis=0, initial=0.0)
    return float(np.maximum(seen, [t.price for t in o.policy.tiers]).sum())


def difference(
    uplift: int, regression: int, cost: Interval, change: NDArray[np.int8], groups: Groups | None
) -> PairedDifference:
    """Return the comparison of two policies whose counts are known.

    Resampling cannot draw what was not seen: where few rows differ the bootstrap is too sure, and where none does, it
    is certain. So the interval of the accuracy is that of Bonett and Price, which counts one more row to each side.

    Parameters
    ----------
    cost
        Difference, USD per row.
    change
        1 where B turns a row right, −1 where it turns it wrong, else 0; shape ``(n_rows,)``.

    References
    ----------
    Bonett & Price 2012, Adjusted Wald Confidence Interval for a Difference of Binomial Proportions Based on Paired
    Data.
    """
    n, discordant, delta = len(change), uplift + regression, (uplift - regression) / len(change)
    if groups is None:
        worth, p_value = float(n), float(binomtest(uplift, discordant).pvalue) if discordant else 1.0
    else:
        worth, p_value = groups.worth(change.astype(np.float64) - delta), sign_flip(groups.sums(change))
    low, high = _adjusted(n, worth, uplift, regression)
    return PairedDifference(
        n,
        Interval(delta, min(low, delta), max(high, delta)),
        Interval(1000 * cost.value, 1000 * cost.low, 1000 * cost.high),
        uplift,
        regression,
        p_value,
        rows_to_tell(delta, discordant / n, design_effect=n / worth),
        None if groups is None else groups.n_groups,
        n / worth,
    )


def _adjusted(n: int, worth: float, uplift: int, regression: int) -> tuple[float, float]:
    more, less = ((rows * worth / n + 1) / (worth + 2) for rows in (uplift, regression))
    half = ndtri((1 + LEVEL) / 2) * np.sqrt((more + less - (more - less) ** 2) / (worth + 2))
    return max(-1.0, float(more - less - half)), min(1.0, float(more - less + half))


def sign_flip(sums: Floats) -> float:
    """Return how surprising sums of groups are if each could as well have had the other sign: the two-sided p-value.

    Where a group is a row this is the exact McNemar test.

    Parameters
    ----------
    sums
        Whole numbers: of each group, rows that turn right less rows that turn wrong.

    References
    ----------
    Fisher 1935, The Design of Experiments (the randomisation test); Winkler et al. 2015, Multi-level block
    permutation (flipping the signs of whole blocks).

    Examples
    --------
    Three groups on one side: two of the eight ways to flip are as far out.

    >>> round(sign_flip(np.array([2.0, 1.0, 5.0, 0.0])), 6)
    0.25
    """
    size, times = np.unique(np.abs(sums[sums != 0]).astype(np.int64), return_counts=True)
    if not len(size):
        return 1.0
    seen, most = abs(int(sums.sum())), int(size @ times)
    if most > MOST_SUMS:
        return float(2 * ndtr(-max(seen - 0.5, 0.0) / np.sqrt(size**2 @ times)))
    chances = np.ones(1)
    for step, n in zip(size, times, strict=True):  # of every sum, from all negative to all positive
        own = np.zeros(2 * step * n + 1)
        own[:: 2 * step] = binom.pmf(np.arange(n + 1), n, 0.5)
        chances = np.convolve(chances, own)
    far = np.abs(np.arange(-most, most + 1)) >= seen
    return min(1.0, float(chances[far].sum()))


def rows_to_tell(
    difference: float, discordant: float, *, design_effect: float = 1.0, power: float = POWER, level: float = LEVEL
) -> int | None:
    """Return how many rows tell two policies apart by McNemar's test with this power.

    Parameters
    ----------
    difference
        Of their accuracies.
    discordant
        Share of rows on which one is right and the other wrong; at least the size of the difference.
    design_effect
        How many rows are worth one independent row; see `PairedDifference`.

    Returns
    -------
    int or None
        None where there is no difference to tell.

    References
    ----------
    Connor 1987, Sample size for testing differences in proportions for the paired-sample design.

    Examples
    --------
    >>> rows_to_tell(0.01, 0.08)
    6277
    """
    delta = abs(difference)
    if not delta:
        return None
    psi = max(discordant, delta)
    z_level, z_power = float(ndtri(0.5 + level / 2)), float(ndtri(power))
    independent = ((z_level * np.sqrt(psi) + z_power * np.sqrt(max(psi - delta**2, 0.0))) / delta) ** 2
    return int(np.ceil(design_effect * independent))
