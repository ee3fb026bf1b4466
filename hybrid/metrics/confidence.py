"""Reliability: does a stated confidence come true; the diagram, ECE and Brier with their intervals."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from hybrid.metrics.groups import Groups
from hybrid.metrics.intervals import LEVEL, Interval, wilson
from hybrid.metrics.means import mean_interval
from hybrid.metrics.summary import BINS, evened, expected_calibration_error, share
from hybrid.routing.table import Bools, Floats, Labels, Rows

SCALES = np.linspace(0, 2, 41)  # of the gaps seen, tried as truths
DRAWS = 400  # of each
SLACK_ABOVE = 0.01  # of the 5 %: the lower end, which allows for honest confidence, is the more cautious one anyhow


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """A reliability diagram with bins of equal mass, and two numbers.

    Parameters
    ----------
    confidence, accuracy, low, high
        Of each bin: mean confidence, share right and its Wilson interval; shape ``(n_bins,)``.
    rows
        In each bin.
    ece
        Expected calibration error over these bins.
    brier
        Mean squared gap between confidence and being right.
    chance
        ECE that a perfectly calibrated tier with these confidences shows at this n: its mean, and where 95 % lie.
    """

    confidence: Floats
    accuracy: Floats
    low: Floats
    high: Floats
    rows: Floats
    ece: Interval
    brier: Interval
    chance: Interval

    @property
    def ordinary(self) -> bool:
        """Whether a perfectly calibrated tier shows an ECE as large as this one often enough."""
        return self.ece.value <= self.chance.high

    @property
    def n_rows(self) -> int:
        return int(self.rows.sum())


def reliability(
    confidence: Floats, right: Bools, *, groups: Labels | None = None, n_bins: int = BINS, seed: int = 0
) -> Reliability:
    """Measure how far confidences are from the share of right answers.

    ECE overstates: even an honest confidence has one by chance. Its interval takes that back: it holds the errors of
    all those truths, between honest and twice as far off as seen, under which an ECE like the one seen lies within 95 %
    of the draws. It may end below the number itself. It reaches up at least as far as the accuracy of all rows may be
    from their mean confidence: where no mistake was seen, some may still come. Where some confidences are further off
    than others, how many of either kind came is chance as well, and widens it.

    Parameters
    ----------
    confidence, right
        Shape ``(n_rows,)``; rows with nan (not asked) are left out.
    groups
        Codes of what belongs together, same shape; None: every row is a group of its own.
    n_bins
        Of equal mass; fewer where there are fewer rows.

    References
    ----------
    Naeini, Cooper & Hauskrecht 2015; Brier 1950.

    Examples
    --------
    >>> found = reliability(np.array([0.9, 0.9, 0.9, 0.9]), np.array([True, True, True, False]), n_bins=1)
    >>> round(found.ece.value, 3), round(found.brier.value, 3)
    (0.15, 0.21)
    """
    asked = ~np.isnan(confidence)
    together = None if groups is None else Groups.of(groups[asked])
    confidence, right = confidence[asked], right[asked]
    n = len(right)
    if not n:
        none, empty = Interval(float("nan"), float("nan"), float("nan")), np.zeros(0)
        return Reliability(empty, empty, empty, empty, empty, none, none, none)
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, min(n_bins, n))
    rows = np.array([p.size for p in parts], dtype=np.float64)
    said = np.array([confidence[p].mean() for p in parts])
    even = evened(confidence, right)
    hits = np.array([even[p].sum() for p in parts])
    off = right - confidence
    worth = rows if together is None else np.maximum(rows * _worth(together, parts, off - off.mean()), 1.0)
    low, high = wilson(hits / rows * worth, worth)
    draws = _Draws(rows / n, np.rint(worth).astype(np.int64), said, hits / rows, seed)
    overall = share(right, together)
    ece = draws.around(
        expected_calibration_error(confidence, right, n_bins=n_bins),
        max(abs(float(confidence.mean()) - end) for end in (overall.low, overall.high)),
    )
    gaps = np.empty(n)
    for part, gap in zip(parts, np.abs(hits / rows - said), strict=True):
        gaps[part] = gap
    spread = _of_mean(gaps - gaps.mean(), together)
    return Reliability(
        said,
        hits / rows,
        low,
        high,
        rows,
        Interval(
            ece.value,
            max(ece.value - float(np.hypot(ece.value - ece.low, spread)), 0.0),
            min(ece.value + float(np.hypot(ece.high - ece.value, spread)), 1.0),
        ),
        mean_interval((confidence - right) ** 2, groups=together, least=0.0, most=1.0),
        draws.chance(),
    )


def _worth(groups: Groups, parts: list[Rows], off: Floats) -> float:
    """Return how many independent rows a row is worth to the shares of the bins: a group counts within each alone."""
    bin_of = np.empty(len(off), dtype=np.int64)
    for number, rows in enumerate(parts):
        bin_of[rows] = number
    within = Groups.of(np.unique(groups.code * len(parts) + bin_of, return_inverse=True)[1])
    return 1.0 if within is None else within.worth(off) / len(off)


def _of_mean(off: Floats, groups: Groups | None) -> float:
    """Return how far a mean may be from the truth, whose values are so far off it."""
    worth = len(off) if groups is None else groups.worth(off)
    return float(ndtri((1 + LEVEL) / 2) * off.std() / np.sqrt(max(worth, 1.0)))


@dataclass(frozen=True, slots=True, eq=False)
class _Draws:
    """Calibration errors that bins show by chance, when the truth is so many times as far off as what was seen.

    Parameters
    ----------
    weight, n
        Of each bin: its share of the rows, and how many independent ones it is worth.
    said, found
        Mean confidence and share right.
    """

    weight: Floats
    n: Rows
    said: Floats
    found: Floats
    seed: int

    def right_at(self, k: int) -> Floats:
        """Return the share right of each bin at one of the scales."""
        right: Floats = np.clip(self.said + SCALES[k] * (self.found - self.said), 0.0, 1.0)
        return right

    def errors_at(self, k: int) -> Floats:
        """Return the errors that are drawn there, shape ``(DRAWS,)``."""
        rng = np.random.default_rng((self.seed, k))
        drawn = rng.binomial(self.n, self.right_at(k), size=(DRAWS, len(self.n))) / self.n
        errors: Floats = np.abs(drawn - self.said) @ self.weight
        return errors

    def ends_at(self, k: int) -> Floats:
        """Return the ends of what is ordinary there."""
        ends: Floats = np.quantile(self.errors_at(k), [SLACK_ABOVE, LEVEL + SLACK_ABOVE])
        return ends

    def chance(self) -> Interval:
        """Return what honest confidences show."""
        errors = self.errors_at(0)
        low, high = np.quantile(errors, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Interval(float(errors.mean()), float(low), float(high))

    def around(self, ece: float, least: float) -> Interval:
        """Return the interval of an error; its upper end is at `least` this."""
        # the further off the truth, the larger the errors that are ordinary: both ends of the scales are bisected
        last = len(SCALES) - 1
        lowest = bisect_left(range(last), True, key=lambda k: bool(self.ends_at(k)[1] >= ece))
        highest = bisect_left(range(last + 1), True, key=lambda k: bool(self.ends_at(k)[0] > ece)) - 1
        if lowest > highest:  # so many rows that the range lies between two scales
            lowest, highest = max(highest, 0), lowest
        else:
            lowest, highest = max(lowest - 1, 0), min(highest + 1, last)
        low, high = (float(np.abs(self.right_at(k) - self.said) @ self.weight) for k in (lowest, highest))
        return Interval(ece, min(low, ece), max(high, low, least))
