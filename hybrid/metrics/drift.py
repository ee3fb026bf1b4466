"""Drift: do unlabelled texts of production still look like the labelled ones that a policy was tuned on?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import kolmogorov
from scipy.stats import ks_2samp

from hybrid.errors import TierError
from hybrid.metrics.groups import Groups
from hybrid.metrics.intervals import LEVEL, Interval
from hybrid.metrics.summary import share
from hybrid.routing.table import Bools, Floats, Labels

STEADY, WATCH, ALARM = "steady", "watch", "alarm"
FAR = 0.1  # distance of two confidence distributions that is sure to matter
POINTS = 0.05  # change of the escalation rate that is sure to matter
SURPRISE = 0.01  # p-value below which a difference is not chance


@dataclass(frozen=True, slots=True)
class Drift:
    """How production differs from the labelled rows.

    Parameters
    ----------
    distance
        Largest gap between the two distribution functions of the cheap tier's confidence (Kolmogorov–Smirnov), with an
        interval by the inequality of Dvoretzky, Kiefer and Wolfowitz.
    p_value
        That both confidences come from one distribution.
    escalation
        Escalation rate in production minus that on the labelled rows, with Newcombe's interval.
    predicted
        For each class code, how much more often it is predicted in production (share minus share).
    level
        ``steady``, ``watch`` or ``alarm``.
    reason
        Why this level, in a sentence.
    """

    n_labelled: int
    n_production: int
    distance: Interval
    p_value: float
    escalation: Interval
    predicted: tuple[float, ...]
    level: str
    reason: str


Side = tuple[Floats, Bools, Labels]


def drift(
    labelled: Side,
    production: Side,
    *,
    n_classes: int,
    groups: tuple[Labels | None, Labels | None] = (None, None),
) -> Drift:
    """Compare confidence, escalation and predicted classes of labelled rows and of production.

    The alarm goes off where even the cautious end of an interval is far: the distributions of confidence differ by
    more than `FAR`, or the escalation rate by more than `POINTS`. A difference that is real but may be
    small is to be watched.

    Parameters
    ----------
    labelled, production
        Confidence of the cheap tier, whether the row is escalated, and the predicted class; each ``(n_rows,)``.
    groups
        Codes of what belongs together on either side; None: every row is a group of its own.

    Raises
    ------
    TierError
        If one side has no row.

    References
    ----------
    Massart 1990 (the constant of the DKW inequality); Newcombe 1998, Interval estimation for the difference between
    independent proportions, method 10; Rabanser, Günnemann & Lipton 2019, Failing Loudly.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> a, b = rng.random(800), rng.random(800) * 0.5
    >>> none = np.zeros(800, dtype=int)
    >>> drift((a, a < 0.2, none), (b, b < 0.2, none), n_classes=1).level
    'alarm'
    """
    n, m = len(labelled[0]), len(production[0])
    if not n or not m:
        raise TierError("There is no row to compare: the production file, or the labelled side, is empty.")
    worth = [_worth(side[0], Groups.of(codes)) for side, codes in zip((labelled, production), groups, strict=True)]
    test = ks_2samp(labelled[0], production[0])
    distance, p_value = float(test.statistic), float(test.pvalue)
    if worth != [n, m]:
        p_value = float(kolmogorov(distance * np.sqrt(worth[0] * worth[1] / sum(worth))))
    # half of the error to each side
    slack = float(np.sqrt(np.log(2 / ((1 - LEVEL) / 2)) / 2) * (worth[0] ** -0.5 + worth[1] ** -0.5))
    gap = Interval(distance, max(0.0, distance - slack), min(1.0, distance + slack))
    before, now = (share(side[1], codes) for side, codes in zip((labelled, production), groups, strict=True))
    escalation = difference_of_shares(now, before)
    predicted = [np.bincount(x[2][x[2] >= 0], minlength=n_classes) / len(x[2]) for x in (labelled, production)]
    level, reason = _judge(gap, p_value, escalation)
    more = tuple((predicted[1] - predicted[0]).tolist())
    return Drift(n, m, gap, p_value, escalation, more, level, reason)


def _worth(confidence: Floats, groups: Groups | None) -> float:
    """Return how many independent rows the rows are worth to a distribution: the least of nine shares below a value."""
    if groups is None:
        return float(len(confidence))
    levels = np.quantile(confidence, np.arange(1, 10) / 10)
    return min(groups.worth_of_flags(confidence <= level) for level in levels)


def difference_of_shares(a: Interval, b: Interval) -> Interval:
    """Return share A minus share B of independent rows, with Newcombe's hybrid score interval.

    Examples
    --------
    Newcombe's example (a): 56/70 against 48/80.

    >>> from hybrid.metrics.summary import share_of
    >>> found = difference_of_shares(share_of(56, 70), share_of(48, 80))
    >>> round(found.low, 4), round(found.high, 4)
    (0.0524, 0.3339)
    """
    below = float(np.hypot(a.value - a.low, b.high - b.value))
    above = float(np.hypot(a.high - a.value, b.value - b.low))
    return Interval(a.value - b.value, a.value - b.value - below, a.value - b.value + above)


def _judge(gap: Interval, p_value: float, escalation: Interval) -> tuple[str, str]:
    least_change = max(escalation.low, -escalation.high, 0.0)
    if gap.low > FAR:
        return ALARM, f"The confidences differ by at least {gap.low:.0%} of the texts (alarm above {FAR:.0%})."
    if least_change > POINTS:
        return ALARM, (
            f"The escalation rate changed by at least {100 * least_change:.1f} points (alarm above {100 * POINTS:.0f})."
        )
    if p_value < SURPRISE or least_change > 0:
        return WATCH, "The difference is more than chance, but it may be small: label some of these texts to be sure."
    return STEADY, "No difference that chance does not explain."
