"""Metrics: outcomes and truth → numbers with intervals, named as the field names them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hybrid.errors import TierError
from hybrid.metrics.groups import Groups
from hybrid.metrics.intervals import Interval, wilson_of
from hybrid.metrics.means import mean_interval
from hybrid.metrics.paired import PairedDifference, dearest, paired_difference
from hybrid.routing.engine import Outcomes
from hybrid.routing.table import Bools, Floats, Labels, Predictions

__all__ = [
    "Baselines",
    "Interval",
    "PairedDifference",
    "Summary",
    "baselines",
    "break_even_share",
    "expected_calibration_error",
    "macro_f1",
    "mean_interval",
    "paired_difference",
    "share",
    "share_of",
    "summarize",
]

BINS = 15  # of the calibration error, equal mass


@dataclass(frozen=True, slots=True)
class Summary:
    """What a policy does on some labelled rows.

    Parameters
    ----------
    n_rows, n_groups
        Rows it was measured on, and groups that they are in: as many, where each row is its own.
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
    n_groups: int
    accuracy: Interval
    escalation_rate: Interval
    reach: tuple[float, ...]
    selective_accuracy: Interval
    macro_f1: float
    cost_per_1000: Interval
    latency_p50: float
    latency_p95: float


def share(hits: Bools, groups: Labels | Groups | None = None) -> Interval:
    """Return the share of True with its Wilson interval.

    Parameters
    ----------
    groups
        Codes of what belongs together, shape of `hits`; None: every row is a group of its own.
    """
    together, n, count = Groups.of(groups), hits.size, int(hits.sum())
    return share_of(count, n, None if together is None else together.worth_of_flags(hits))


def share_of(hits: int, n: int, worth: float | None = None) -> Interval:
    """Return a share that was counted with its Wilson interval; `worth`: independent rows that the rows are worth."""
    value = hits / n if n else float("nan")
    low, high = wilson_of(np.array(value if n else 0.0), n, worth)
    return Interval(value, float(low), float(high))


def summarize(outcomes: Outcomes, truth: Labels, *, groups: Labels | Groups | None = None) -> Summary:
    """Measure a policy's outcomes against the truth.

    Parameters
    ----------
    truth
        Class codes, shape ``(n_rows,)``; an UNKNOWN answer is wrong.
    groups
        Codes of what belongs together (a customer, a conversation, a repeated text), same shape: intervals then allow
        for rows that vary together. None: every row is a group of its own.

    Raises
    ------
    TierError
        If there is not a single row.
    """
    if not len(truth):
        raise TierError("There is no row to measure on: no row has an answer from every tier of this policy.")
    right = outcomes.label == truth
    escalated, together = outcomes.asked[:, -1], Groups.of(groups)
    cost = mean_interval(outcomes.cost, groups=together, least=cheapest(outcomes), most=dearest(outcomes))
    p50, p95 = np.quantile(outcomes.latency, [0.5, 0.95])
    return Summary(
        n_rows=len(truth),
        n_groups=len(truth) if together is None else together.n_groups,
        accuracy=share(right, together),
        escalation_rate=share(escalated, together),
        reach=tuple(float(s) for s in outcomes.asked.mean(axis=0)),
        selective_accuracy=share(right[~escalated], None if together is None else together.take(~escalated)),
        macro_f1=macro_f1(outcomes.label, truth),
        cost_per_1000=Interval(1000 * cost.value, 1000 * cost.low, 1000 * cost.high),
        latency_p50=float(p50),
        latency_p95=float(p95),
    )


def cheapest(o: Outcomes) -> float:
    """Return what a row costs at least, in USD: the tiers that are asked before anything is known, at their lowest."""
    first = o.policy.wants(Predictions.unasked(o.policy.tiers, (), 1))[0]
    return float(o.seen.cost[:, first].min(axis=0).sum())


def macro_f1(label: Labels, truth: Labels) -> float:
    """Return the unweighted mean of F1 over the classes that occur in truth or answers."""
    n_classes = int(max(truth.max(), label.max())) + 1
    rows = np.bincount(truth, minlength=n_classes)
    said = np.bincount(label[label >= 0], minlength=n_classes)
    both = np.bincount(truth[label == truth], minlength=n_classes)
    present = rows + said > 0
    return float(np.mean(2 * both[present] / (rows + said)[present]))


def evened(confidence: Floats, right: Bools) -> Floats:
    """Return the share of right answers among the rows of equal confidence, for each row.

    A bin may end among equal confidences. Which of them fall into it is then up to the order of the file, and in a file
    that is sorted by its label these are the right ones.
    """
    _, code, count = np.unique(confidence, return_inverse=True, return_counts=True)
    shares: Floats = (np.bincount(code, right) / count)[code]
    return shares


def expected_calibration_error(confidence: Floats, right: Bools, *, n_bins: int = BINS) -> float:
    """Return Σ (n_b / n) · |accuracy_b − confidence_b| over bins of equal mass; the order of the rows changes nothing.

    References
    ----------
    Naeini, Cooper & Hauskrecht 2015.

    Examples
    --------
    >>> expected_calibration_error(np.array([0.75] * 4), np.array([True, True, True, False]), n_bins=1)
    0.0
    """
    order, even = np.argsort(confidence, kind="stable"), evened(confidence, right)
    gaps = [
        part.size * abs(even[part].mean() - confidence[part].mean())
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
        if not t.scores
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
