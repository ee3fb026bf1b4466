"""Audited: the true accuracy of tiers and policies from few labels by hand and many by a model, with intervals.

Rows to check are drawn by strata, and some at random from all. What is known of every row (whether an answer agrees
with the model's label) predicts what was seen on the checked ones (whether it is right); the checked ones, each
weighted by the inverse of its probability to be drawn, tell how far the prediction is off. However bad the model's
labels are, the estimate is not biased by them: bad labels only help less.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtrit

from hybrid.errors import DatasetError
from hybrid.metrics.groups import Groups
from hybrid.metrics.intervals import LEVEL, Interval, wilson
from hybrid.routing.table import Bools, Floats, Labels, Rows

LEAST = 2  # checked rows of a stratum, without which nothing is known of its spread
FEWEST = 5  # rows that are drawn of every stratum, or all where there are fewer
UNSEEN = 1.0  # rows that deviate and were not seen: a few that are all right do not show that all are


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """Rows to check, in an order in which any first part of them is a sample like the whole.

    Parameters
    ----------
    rows
        Places among the rows that were drawn from; shape ``(n,)``, as the others.
    stratum
        Code of each row's stratum.
    at_random
        Rows that were drawn from all alike; the others were drawn from their stratum.
    sizes
        Rows of each stratum, checked or not.
    """

    rows: Rows
    stratum: Labels
    at_random: Bools
    sizes: Floats

    @property
    def chance(self) -> Floats:
        """Probability of each row to be among these: of its stratum, so many of so many."""
        found: Floats = (np.bincount(self.stratum, minlength=len(self.sizes)) / self.sizes)[self.stratum]
        return found


def draw(stratum: Labels, n: int, *, spread: Floats, share_at_random: float = 0.5, seed: int = 0) -> Drawn:
    """Draw rows to check: a share of them from all rows alike, the rest where labels are likeliest to surprise.

    Given how many rows of a stratum were drawn, by either way, all samples of so many are equally likely: every row of
    a stratum has the same chance.

    Parameters
    ----------
    stratum
        Of every row, codes from 0 on without gaps; shape ``(n_rows,)``.
    n
        Rows to draw; all where there are fewer.
    spread
        Expected standard deviation of what is to be seen, by stratum: the rest is shared out by size times spread.
    share_at_random
        Of the rows to draw.

    References
    ----------
    Neyman 1934, On the two different aspects of the representative method (optimal allocation).

    Examples
    --------
    >>> found = draw(np.repeat([0, 1], [100, 900]), 40, spread=np.array([0.5, 0.1]))
    >>> len(found.rows), bool(found.at_random.sum() == 20), bool((found.stratum == 0).sum() > 8)
    (40, True, True)
    """
    rng = np.random.default_rng(seed)
    sizes = np.bincount(stratum, minlength=len(spread)).astype(np.float64)
    if n < 1 or not (sizes > 0).all():
        raise DatasetError(f"{n} rows of {len(sizes)} strata: at least one row is drawn, and no stratum may be empty.")
    n = min(n, len(stratum))
    order = rng.permutation(len(stratum))
    n_random = round(share_at_random * n)
    parts = [order[:n_random]]
    rest = order[n_random:]
    have = np.bincount(stratum[parts[0]], minlength=len(sizes))
    wanted = _shared_out(n - n_random, sizes - have, sizes * spread, np.minimum(FEWEST, sizes) - have)
    parts += [rest[stratum[rest] == code][: wanted[code]] for code in range(len(sizes))]
    # each part in equal steps: however many rows are checked, in this order, they are of all parts as planned
    when = np.concatenate([(np.arange(len(p)) + rng.random()) / max(len(p), 1) for p in parts])
    rows = np.concatenate(parts)[np.argsort(when, kind="stable")]
    chosen = np.zeros(len(stratum), dtype=bool)
    chosen[parts[0]] = True
    return Drawn(rows, stratum[rows], chosen[rows], sizes)


def _shared_out(n: int, room: Floats, weight: Floats, least: Floats) -> Rows:
    """Return how many rows of each stratum are drawn: some of each, the rest by weight, never more than there are."""
    found = np.clip(least, 0, room)
    found = found if found.sum() <= n else np.floor(found * n / found.sum())
    while (left := n - found.sum()) >= 1 and (open_ := (found < room) & (weight > 0)).any():
        more = np.where(open_, weight, 0.0)
        step = np.minimum(np.floor(left * more / more.sum()), room - found)
        if not step.any():
            step = np.zeros(len(room))
            step[np.argmax(np.where(open_, weight / (found + 1), -1.0))] = 1.0
        found = found + step
    return found.astype(np.intp)


@dataclass(frozen=True, slots=True, eq=False)
class Checked:
    """Rows that were checked by hand, as a sample of all.

    Parameters
    ----------
    stratum
        Of each checked row; shape ``(n,)``.
    sizes
        Rows of each stratum, checked or not.
    groups
        Codes of what belongs together, of the checked rows; None: every row is a group of its own.
    """

    stratum: Labels
    sizes: Floats
    groups: Labels | None = None

    @property
    def counts(self) -> Floats:
        """Checked rows of each stratum."""
        return np.bincount(self.stratum, minlength=len(self.sizes)).astype(np.float64)

    @property
    def wanting(self) -> int:
        """How many rows are to be checked before anything can be said: two of each stratum, or all of it."""
        return int(np.maximum(np.minimum(LEAST, self.sizes) - self.counts, 0).sum())

    @property
    def weight(self) -> Floats:
        """How many rows each checked row stands for: the inverse of its probability to be drawn."""
        return (self.sizes / np.maximum(self.counts, 1.0))[self.stratum]


def share(seen: Bools, checked: Checked, *, predicted: Floats | None = None, mean: float = 0.0) -> Interval:
    """Return a share of all rows, such as that of right answers, and its interval.

    Parameters
    ----------
    seen
        Of each checked row: whether it counts, as the label by hand says.
    predicted
        Of each checked row what was known before, in [0, 1], such as whether the answer agrees with the model's label;
        None: nothing, then the labels by hand speak alone.
    mean
        Of what was predicted of all rows, checked or not.

    Notes
    -----
    With weight λ the estimate is λ times the mean prediction of all rows, plus the weighted mean of ``seen − λ
    predicted`` over the checked ones, stratum by stratum. λ is the one in [0, 1] of least variance (power tuning); 0 is
    the estimate of the labels by hand alone. The variance is that of a sample in two phases: of all rows, which are a
    sample of what comes, and of the checked ones within their strata, fewer than all. Wilson's interval is set up with
    as many rows as would have that variance if they were independent; Student's t takes the place of the normal.

    References
    ----------
    Angelopoulos, Bates, Fannjiang, Jordan & Zrnic 2023, Prediction-powered inference; Angelopoulos, Duchi & Zrnic 2023,
    PPI++: efficient prediction-powered inference; Horvitz & Thompson 1952; Hájek 1971; Neyman 1938, Contribution to the
    theory of sampling human populations (two phases); Korn & Graubard 1998 (effective rows); Satterthwaite 1946.

    Examples
    --------
    Of 1,000 rows in one stratum 100 were checked. The answers agree with the model on 90 % of all rows and on 88 of the
    checked ones, of which 84 are right; of the 12 others 3 are right.

    >>> agree = np.repeat([1.0, 0.0], [88, 12])
    >>> right = np.concatenate([np.arange(88) < 84, np.arange(12) < 3])
    >>> checked = Checked(np.zeros(100, dtype=int), np.array([1000.0]))
    >>> alone = share(right, checked)
    >>> both = share(right, checked, predicted=agree, mean=0.9)
    >>> round(alone.value, 3), round(both.value, 3), both.half_width < alone.half_width
    (0.87, 0.884, True)
    """
    value, variance, freedom = _estimate(seen.astype(np.float64), checked, predicted, mean)
    n, n_rows = len(seen), float(checked.sizes.sum())
    value = float(np.clip(value, 0.0, 1.0))
    inside = (n * value + UNSEEN) / (n + 2 * UNSEEN)
    variance += inside * (1 - inside) / n_rows
    worth = inside * (1 - inside) / variance * float(ndtri((1 + LEVEL) / 2) / stdtrit(freedom, (1 + LEVEL) / 2)) ** 2
    low, high = wilson(value * worth, worth)
    return Interval(value, min(float(low), value), max(float(high), value))


def difference(gain: Floats, checked: Checked, apart: Bools, *, differ: float) -> Interval:
    """Return how much more often one policy is right than another, and the interval of that.

    Where both answer alike there is no difference, for certain; how often they do not is known of all rows. So only the
    checked rows on which they differ tell anything, and few of them tell little.

    Parameters
    ----------
    gain
        Of each checked row: 1 where the first alone is right, −1 where the second alone is, else 0.
    apart
        Of each checked row: whether the two answer differently.
    differ
        Share of all rows on which they do.

    References
    ----------
    Bonett & Price 2012 (one row is added to either side); Kish 1965 (effective number of weighted rows).

    Examples
    --------
    Two policies differ on 10 % of 1,000 rows; of 20 such rows that were checked the first is right on 15:

    >>> gain, checked = np.repeat([1.0, -1.0], [15, 5]), Checked(np.zeros(20, dtype=int), np.array([1000.0]))
    >>> found = difference(gain, checked, np.ones(20, dtype=bool), differ=0.1)
    >>> round(found.value, 3), round(found.low, 3), round(found.high, 3)
    (0.05, 0.005, 0.086)
    """
    weight = checked.weight[apart]
    if not len(weight):
        return Interval(float("nan"), -differ, differ)
    groups = Groups.of(None if checked.groups is None else checked.groups[apart])
    together = weight if groups is None else groups.sums(weight)
    worth = float(weight.sum()) ** 2 / float(together @ together)
    first, second = (float(weight[sign * gain[apart] > 0].sum()) / float(weight.sum()) for sign in (1, -1))
    a, b = ((x * worth + UNSEEN) / (worth + 2 * UNSEEN) for x in (first, second))
    spread = (a + b - (a - b) ** 2) / (worth + 2 * UNSEEN)
    share_off = (1 - differ) * differ / float(checked.sizes.sum()) * (a - b) ** 2  # of how often they differ
    half = float(stdtrit(max(worth - 1, 1.0), (1 + LEVEL) / 2)) * np.sqrt(differ**2 * spread + share_off)
    value, middle = differ * (first - second), differ * (a - b)
    low, high = max(middle - half, -differ), min(middle + half, differ)
    return Interval(value, float(min(low, value)), float(max(high, value)))


def _estimate(seen: Floats, checked: Checked, predicted: Floats | None, mean: float) -> tuple[float, float, float]:
    """Return an estimate, its variance in the second phase, and degrees of freedom."""
    if checked.wanting:
        raise DatasetError(f"{checked.wanting} more rows must be checked before anything can be said: two a stratum.")
    part, counts = checked.sizes / checked.sizes.sum(), checked.counts
    scale = part**2 * (1 / counts - 1 / checked.sizes)  # of a stratum's variance in the estimate's
    weight = 0.0 if predicted is None else _power(seen, predicted, checked, scale)
    rest = seen if predicted is None else seen - weight * predicted
    means = _sums(rest, checked) / counts
    value = weight * mean + float(part @ means)
    squares = _together(rest - means[checked.stratum], checked) + UNSEEN * counts / counts.sum()
    parts = scale * squares / np.maximum(counts - 1, 1.0)
    variance = float(parts.sum())
    freedom = float(np.sum(parts**2 / np.maximum(counts - 1, 1.0)))
    return value, variance, max(variance**2 / freedom if freedom > 0 else np.inf, 1.0) if variance > 0 else 1e6


def _power(seen: Floats, predicted: Floats, checked: Checked, scale: Floats) -> float:
    """Return the weight of the prediction that makes the variance least."""
    counts = checked.counts
    apart = predicted - (_sums(predicted, checked) / counts)[checked.stratum]
    own = scale / np.maximum(counts - 1, 1.0)
    with_seen, with_itself = (float(own @ _sums(apart * x, checked)) for x in (seen, apart))
    return float(np.clip(with_seen / with_itself, 0.0, 1.0)) if with_itself > 0 else 0.0


def _sums(values: Floats, checked: Checked) -> Floats:
    return np.bincount(checked.stratum, values, minlength=len(checked.sizes)).astype(np.float64)


def _together(off: Floats, checked: Checked) -> Floats:
    """Return sums of squares by stratum; rows of one group within a stratum are one."""
    groups = Groups.of(checked.groups)
    if groups is None:
        return _sums(off * off, checked)
    cell = checked.stratum * len(groups.size) + groups.code
    cells, at = np.unique(cell, return_inverse=True)
    sums = np.bincount(at, off)
    return np.bincount(cells // len(groups.size), sums * sums, minlength=len(checked.sizes)).astype(np.float64)
