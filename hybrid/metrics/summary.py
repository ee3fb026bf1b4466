"""Metrics: outcomes and truth → numbers with intervals, named as the field names them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import binomtest

from hybrid.errors import TierError
from hybrid.metrics.distinct import counted
from hybrid.metrics.intervals import expanded_tail, wilson
from hybrid.routing.engine import Outcomes
from hybrid.routing.table import Bools, Floats, Labels, Predictions, Rows

REPLICATES = 2_000  # of the bootstrap
LEVEL = 0.95
MAX_VALUES = 512  # distinct values that the bootstrap of a mean keeps apart
LEAST_ROWS = 5  # that the expansion of an interval counts on; with fewer it would know nothing
BINS = 15  # of the calibration error, equal mass


@dataclass(frozen=True, slots=True)
class Interval:
    """A number and its 95 % interval; all nan where there is nothing to measure it on."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


@dataclass(frozen=True, slots=True)
class Summary:
    """What a policy does on some labelled rows.

    Parameters
    ----------
    n_rows
        Rows it was measured on.
    accuracy
        Share of final answers that are right (system accuracy).
    escalation_rate
        Share of rows for which the last tier was asked; for triage ``1 − coverage``.
    reach
        Share of rows for which each tier of the policy was asked, in their order.
    selective_accuracy
        Accuracy among the rows for which the last tier was not asked.
    macro_f1
        Unweighted mean of the classes' F1; a class with no row and no prediction is left out.
    cost_per_1000
        USD; every asked tier counted.
    latency_p50, latency_p95
        Seconds; quantiles of the per-row latency.
    """

    n_rows: int
    accuracy: Interval
    escalation_rate: Interval
    reach: tuple[float, ...]
    selective_accuracy: Interval
    macro_f1: float
    cost_per_1000: Interval
    latency_p50: float
    latency_p95: float


def share(hits: Bools) -> Interval:
    """Return the share of True with its Wilson interval."""
    return share_of(int(hits.sum()), hits.size)


def share_of(hits: int, n: int) -> Interval:
    """Return a share that was counted with its Wilson interval."""
    low, high = wilson(hits, n)
    return Interval(hits / n if n else float("nan"), float(low), float(high))


def summarize(outcomes: Outcomes, truth: Labels, *, seed: int = 0) -> Summary:
    """Measure a policy's outcomes against the truth.

    Parameters
    ----------
    truth
        Class codes, shape ``(n_rows,)``; an UNKNOWN answer is wrong.
    seed
        Of the bootstrap.

    Raises
    ------
    TierError
        If there is not a single row.
    """
    if not len(truth):
        raise TierError("There is no row to measure on: no row has an answer from every tier of this policy.")
    right = outcomes.label == truth
    escalated = outcomes.asked[:, -1]
    cost = mean_interval(outcomes.cost, seed=seed)
    p50, p95 = np.quantile(outcomes.latency, [0.5, 0.95])
    return Summary(
        n_rows=len(truth),
        accuracy=share(right),
        escalation_rate=share(escalated),
        reach=tuple(float(s) for s in outcomes.asked.mean(axis=0)),
        selective_accuracy=share(right[~escalated]),
        macro_f1=macro_f1(outcomes.label, truth),
        cost_per_1000=Interval(1000 * cost.value, 1000 * cost.low, 1000 * cost.high),
        latency_p50=float(p50),
        latency_p95=float(p95),
    )


def mean_interval(values: Floats, *, seed: int = 0) -> Interval:
    """Return a mean with its bootstrap interval.

    A resample of rows is a multinomial draw over the distinct values, so the work does not grow with the rows.
    More than `MAX_VALUES` distinct values are first grouped into as many groups of equal mass, each standing for
    its mean.
    """
    found = counted(values, most=MAX_VALUES)
    if found is None:
        parts = np.array_split(np.sort(values), MAX_VALUES)
        found = np.array([p.mean() for p in parts]), np.array([p.size for p in parts])
    return counted_interval(*found, float(values.mean()), seed=seed)


def counted_interval(distinct: Floats, counts: Rows, mean: float, *, seed: int = 0) -> Interval:
    """Return a mean with its bootstrap interval, from the values that occur and how often each does."""
    n = int(counts.sum())
    draws = np.random.default_rng(seed).multinomial(n, counts / n, size=REPLICATES)
    tail = (1 - LEVEL) / 2
    others = n - int(counts.max())  # rows unlike most: where few are, few tell how much all vary
    if others:
        tail = expanded_tail(n, max(others, LEAST_ROWS), level=LEVEL)
    low, high = np.quantile(draws @ distinct / n, [tail, 1 - tail])
    return Interval(mean, float(low), float(high))


def macro_f1(label: Labels, truth: Labels) -> float:
    """Return the unweighted mean of F1 over the classes that occur in truth or answers."""
    n_classes = int(max(truth.max(), label.max())) + 1
    rows = np.bincount(truth, minlength=n_classes)
    said = np.bincount(label[label >= 0], minlength=n_classes)
    both = np.bincount(truth[label == truth], minlength=n_classes)
    present = rows + said > 0
    return float(np.mean(2 * both[present] / (rows + said)[present]))


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Policy B minus policy A on the same rows.

    Parameters
    ----------
    accuracy, cost_per_1000
        Differences with their paired bootstrap intervals.
    uplift, regression
        Rows that B turns right, and wrong.
    p_value
        Exact McNemar test that both are equally accurate.
    rows_to_tell
        About how many labelled rows would tell the difference seen, were it real; None where none was seen.
    """

    n_rows: int
    accuracy: Interval
    cost_per_1000: Interval
    uplift: int
    regression: int
    p_value: float
    rows_to_tell: int | None

    @property
    def told_apart(self) -> bool:
        """Whether the interval of the accuracy difference excludes 0."""
        return not self.accuracy.low <= 0 <= self.accuracy.high


def paired_difference(a: Outcomes, b: Outcomes, truth: Labels, *, seed: int = 0) -> PairedDifference:
    """Compare two policies on the same rows: B minus A.

    References
    ----------
    McNemar 1947; Dietterich 1998, Approximate Statistical Tests for Comparing Supervised Classification Learning.
    """
    right_a, right_b = a.label == truth, b.label == truth
    uplift, regression = int((right_b & ~right_a).sum()), int((right_a & ~right_b).sum())
    gain = mean_interval(right_b.astype(float) - right_a, seed=seed)
    cost = mean_interval(b.cost - a.cost, seed=seed)
    return difference(len(truth), uplift, regression, gain, cost)


def difference(n: int, uplift: int, regression: int, gain: Interval, cost: Interval) -> PairedDifference:
    """Return the comparison of two policies on n rows whose counts and intervals are known; `cost` is per row.

    Resampling cannot draw what was not seen: where few rows differ the bootstrap is too sure, and where none does, it
    is certain. So the interval of the accuracy reaches at least as far as that of Bonett and Price, which counts one
    more row to each side.

    References
    ----------
    Bonett & Price 2012, Adjusted Wald Confidence Interval for a Difference of Binomial Proportions Based on Paired
    Data.
    """
    discordant = uplift + regression
    low, high = _adjusted(n, uplift, regression)
    gain = Interval(gain.value, min(gain.low, low), max(gain.high, high))
    p_value = float(binomtest(uplift, discordant).pvalue) if discordant else 1.0
    rows = None
    if uplift != regression:
        rate, delta = discordant / n, (uplift - regression) / n
        rows = int(np.ceil(1.96**2 * max(rate - delta**2, 0) / delta**2))
    return PairedDifference(
        n, gain, Interval(1000 * cost.value, 1000 * cost.low, 1000 * cost.high), uplift, regression, p_value, rows
    )


def _adjusted(n: int, uplift: int, regression: int) -> tuple[float, float]:
    more, less = (uplift + 1) / (n + 2), (regression + 1) / (n + 2)
    half = ndtri((1 + LEVEL) / 2) * np.sqrt((more + less - (more - less) ** 2) / (n + 2))
    return max(-1.0, float(more - less - half)), min(1.0, float(more - less + half))


def expected_calibration_error(confidence: Floats, right: Bools, *, n_bins: int = BINS) -> float:
    """Return Σ (n_b / n) · |accuracy_b − confidence_b| over bins of equal mass.

    References
    ----------
    Naeini, Cooper & Hauskrecht 2015.

    Examples
    --------
    >>> expected_calibration_error(np.array([0.75] * 4), np.array([True, True, True, False]), n_bins=1)
    0.0
    """
    order = np.argsort(confidence, kind="stable")
    gaps = [
        part.size * abs(right[part].mean() - confidence[part].mean())
        for part in np.array_split(order, min(n_bins, max(1, confidence.size)))
    ]
    return float(np.sum(gaps) / confidence.size)


@dataclass(frozen=True, slots=True)
class Baselines:
    """What every trade-off chart shows beside the policies: (cost per 1,000, accuracy) points.

    `alone` gives each tier's by name; `oracle` sends exactly those rows from `cheap` to `strong` on which the
    strong tier is right and the cheap one is not. Random escalation is the straight line between the two.
    """

    alone: dict[str, tuple[float, float]]
    cheap: str
    strong: str
    oracle: tuple[float, float]


def baselines(predictions: Predictions, truth: Labels, *, cheap: str, strong: str) -> Baselines:
    """Measure each tier alone and the oracle between two of them.

    Parameters
    ----------
    predictions
        Rows that all of its tiers have answered; gates are left out.
    """
    right = predictions.label == truth[:, None]
    alone = {
        t.name: (1000 * float(predictions.cost[:, j].mean()), float(right[:, j].mean()))
        for j, t in enumerate(predictions.tiers)
        if t.kind != "gate"
    }
    w, s = predictions.index(cheap), predictions.index(strong)
    sent: NDArray[np.bool_] = right[:, s] & ~right[:, w]
    cost = predictions.cost[:, w] + np.where(sent, predictions.cost[:, s], 0.0)
    return Baselines(alone, cheap, strong, (1000 * float(cost.mean()), float((right[:, w] | sent).mean())))


def break_even_share(gate: float, cheap: float, strong: float) -> float | None:
    """Return the share of rows that a router must send to the cheap tier before its gate pays for itself.

    Parameters
    ----------
    gate, cheap, strong
        USD per answer.

    Returns
    -------
    float or None
        None where no share is enough.

    Examples
    --------
    A gate at a tenth of what the cheap tier saves pays from a tenth of the rows on:

    >>> break_even_share(0.0003, 0.0, 0.003), break_even_share(0.01, 0.0, 0.003)
    (0.1, None)
    """
    if gate <= 0:
        return 0.0
    share = gate / (strong - cheap) if strong > cheap else np.inf
    return round(float(share), 12) if share <= 1 else None
