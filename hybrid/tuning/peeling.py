"""Peeling: where a walk along one threshold starts, learned from rows that it will not keep.

Rows are looked at from the least sure one upwards, confidence and label alike, until what they tell makes a start among
the rows above them promising. Of those nothing was seen but how many they are.

That is valid. Rows are drawn independently. Given all rows at or below a confidence, and that they are all, the others
are as many independent draws of what lies above it. Where to stop is decided by the rows below alone, so that given
them *any* test of thresholds that keep only rows above, from starts at counts of those, keeps its share of δ (a
fallback procedure does), whatever the risk does along the thresholds: no order, no calibration, no model needs to hold.
What is predicted decides about power alone. Three things would break it, and are not done: to look at the confidences
of the rows above, since which of them were drawn tells of the risk seen there; to walk on below the place where peeling
stopped, into rows that had a say in it; and to add what the walk carries to starts among all rows. So the latter have a
share of δ of their own, and both hold together by the union bound.

What is predicted: the chance of a mistake is linear in 1 − confidence, its two numbers normal around those of a
calibrated tier, rows near the place counting more; and 1 − confidence falls as a power of the rank.

References
----------
The strong Markov property of empirical processes, as in Shorack & Wellner 1986; data splitting by order, as in Lei &
Fithian 2018, AdaPT: An interactive procedure for multiple testing with side information.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.special import bdtrik, ndtr

from hybrid.routing.table import Floats, Rows
from hybrid.tuning.certificates import least_trials

LOOKS, FIRST = 50, 3  # places at which peeling may stop, evenly over the rows, and the first of them
DEPTHS = np.array([0.06, 0.1, 0.15, 0.2, 0.27, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.92, 1.0])  # of the rows above
FAR = 0.3  # of the rows above: peeling stops when the most promising start keeps so many, and not fewer
AS_GOOD = 0.005  # a difference of power at which the start that keeps more is taken
BIAS, SLOPE = 1.0, 0.8  # prior standard deviations: of the risk of sure rows, in α, and of its rise with 1 − confidence
SPREAD = 0.15  # variance of a mistake, where it is learned from
NEAR, LEAST_NEAR = 0.3, 20  # of all rows, and rows: beyond, what was seen counts less by e
KNOWN = 5  # rows as which the prior of the power of the rank counts
NORMAL = np.array([-1.2816, -0.5244, 0.0, 0.5244, 1.2816])  # of five equally likely parts, the middles


class Peeled(NamedTuple):
    """How many rows were left when peeling stopped, and how many of those the start keeps."""

    left: int
    start: int


def peel(errors: Floats, trials: Floats, threshold: Floats, *, alpha: float, level: float) -> Peeled | None:
    """Return where to stop peeling, and where to start among the rows above; None where there are too few rows.

    Parameters
    ----------
    errors, trials
        Counts of rows at or above each threshold, which fall.
    alpha, level
        What the start is to certify: a risk of at most `alpha` at a share `level` of the chance to be wrong.

    Examples
    --------
    A tier that is right in 97 % whatever its confidence: few rows are peeled, and most are kept at the start.

    >>> right, sure = np.random.default_rng(0).random(400) < 0.97, np.linspace(1, 0.5, 400)
    >>> peel(np.cumsum(~right), np.arange(1, 401), sure, alpha=0.1, level=0.05)
    Peeled(left=376, start=345)

    One that is calibrated: the start is among the surest.

    >>> right = np.random.default_rng(0).random(400) < sure
    >>> peel(np.cumsum(~right), np.arange(1, 401), sure, alpha=0.1, level=0.05)
    Peeled(left=104, start=46)
    """
    rows = np.diff(trials, prepend=0)
    some = rows > 0  # the ends keep no rows of their own
    rows, trials, mistakes = rows[some], trials[some], np.diff(errors[some], prepend=0)
    unsure, n, least = np.maximum(1 - threshold[some], 1e-4), float(rows.sum()), least_trials(alpha, level)
    wanted = n * (1 - np.arange(FIRST, LOOKS) / LOOKS)
    look = np.unique(np.searchsorted(trials, wanted, side="right") - 1)[::-1]  # the first are the deepest
    look = look[look >= 0]
    look = look[trials[look] >= least]
    if not len(look):
        return None
    left = trials[look]
    bias, slope, cov = _learned(rows, mistakes, unsure, trials, look, alpha)
    start = np.maximum((left[:, None] * DEPTHS).astype(np.intp), least)
    power = _power_of_rank(rows, unsure, trials, look)[:, None]
    rise = unsure[look + 1][:, None] * np.minimum(start / left[:, None], 1) ** power / (1 + power)
    risk = bias[:, None] + slope[:, None] * rise
    spread = np.sqrt(cov[0][:, None] + 2 * cov[1][:, None] * rise + cov[2][:, None] * rise**2)
    passing = _passing(start, np.clip(risk[..., None] + spread[..., None] * NORMAL, 1e-3, 0.95), alpha, level)
    good = (passing >= passing.max(axis=1, keepdims=True) - AS_GOOD) & (start <= left[:, None])
    deepest = np.where(good, start, 0).max(axis=1)
    far = deepest >= FAR * left
    at = int(np.argmax(far)) if far.any() else len(look) - 1
    return Peeled(int(left[at]), int(deepest[at]))


def _learned(
    rows: Floats, mistakes: Floats, unsure: Floats, trials: Floats, look: Rows, alpha: float
) -> tuple[Floats, Floats, tuple[Floats, Floats, Floats]]:
    """Return the risk's two numbers as of each look, and their variances and covariance."""
    scale = NEAR * trials[-1] + LEAST_NEAR
    weight = np.exp(-trials / scale)

    def below(x: Floats) -> Floats:
        sums = np.cumsum((weight * x)[::-1])[::-1]
        found: Floats = sums[look + 1] * np.exp(trials[look] / scale) / SPREAD
        return found

    a = below(rows) + 1 / (BIAS * alpha) ** 2
    b, c = below(rows * unsure), below(rows * unsure**2) + 1 / SLOPE**2
    y, z = below(mistakes), below(mistakes * unsure) + 1 / SLOPE**2
    det = a * c - b**2
    return (c * y - b * z) / det, (a * z - b * y) / det, (c / det, -b / det, a / det)


def _power_of_rank(rows: Floats, unsure: Floats, trials: Floats, look: Rows) -> Floats:
    """Return, as of each look, the power of the rank that 1 − confidence rises with among the rows below."""
    middle, next_ = trials - rows / 2, look + 1
    several = middle[next_] < middle[-1]
    seen = np.where(several, trials[-1] - trials[look] - rows[next_], 0)
    steepness = np.log(unsure[-1] / unsure[next_])
    found = np.divide(steepness, np.log(middle[-1] / middle[next_]), out=np.ones(len(look)), where=several)
    power: Floats = np.clip((seen * found + KNOWN) / (seen + KNOWN), 0.2, 8)
    return power


def _passing(start: Rows, risk: Floats, alpha: float, level: float) -> Floats:
    """Return how likely the test at each start passes, over equally likely risks: shape ``(…, n_risks)``."""
    n = start[..., None]
    allowed = _allowed(1 << int(start.max()).bit_length(), alpha, level)[n]
    found: Floats = ndtr((allowed + 0.5 - n * risk) / np.sqrt(n * risk * (1 - risk))).mean(axis=-1)
    return found


@lru_cache(16)
def _allowed(size: int, alpha: float, level: float) -> Floats:
    """Return how many mistakes the test allows among each number of rows below `size`, as `most_errors` does."""
    found: Floats = np.floor(bdtrik(level, np.arange(size, dtype=np.float64), alpha) + 1e-9)
    return found
