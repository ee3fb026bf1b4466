"""Drift: do unlabelled texts of production still look like the labelled ones that a policy was tuned on?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import ks_2samp

from hybrid.errors import TierError
from hybrid.metrics.intervals import LEVEL, wilson
from hybrid.metrics.summary import Interval
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


def drift(labelled: tuple[Floats, Bools, Labels], production: tuple[Floats, Bools, Labels], *, n_classes: int) -> Drift:
    """Compare confidence, escalation and predicted classes of labelled rows and of production.

    The alarm goes off where even the cautious end of an interval is far: the distributions of confidence differ by
    more than `FAR`, or the escalation rate by more than `POINTS`. A difference that is real but may be
    small is to be watched.

    Parameters
    ----------
    labelled, production
        Confidence of the cheap tier, whether the row is escalated, and the predicted class; each ``(n_rows,)``.

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
    test = ks_2samp(labelled[0], production[0])
    distance = float(test.statistic)
    slack = float(np.sqrt(np.log(2 / ((1 - LEVEL) / 2)) / 2) * (n**-0.5 + m**-0.5))  # half of the error to each side
    gap = Interval(distance, max(0.0, distance - slack), min(1.0, distance + slack))
    escalation = difference_of_shares(int(production[1].sum()), m, int(labelled[1].sum()), n)
    share = [np.bincount(x[2][x[2] >= 0], minlength=n_classes) / len(x[2]) for x in (labelled, production)]
    level, reason = _judge(gap, float(test.pvalue), escalation)
    return Drift(n, m, gap, float(test.pvalue), escalation, tuple((share[1] - share[0]).tolist()), level, reason)


def difference_of_shares(hits_a: int, n_a: int, hits_b: int, n_b: int) -> Interval:
    """Return share A minus share B of independent rows, with Newcombe's hybrid score interval.

    Examples
    --------
    Newcombe's example (a): 56/70 against 48/80.

    >>> found = difference_of_shares(56, 70, 48, 80)
    >>> round(found.low, 4), round(found.high, 4)
    (0.0524, 0.3339)
    """
    a, b = hits_a / n_a, hits_b / n_b
    (low_a, high_a), (low_b, high_b) = ((float(x) for x in wilson(*each)) for each in ((hits_a, n_a), (hits_b, n_b)))
    below = float(np.hypot(a - low_a, high_b - b))
    above = float(np.hypot(high_a - a, b - low_b))
    return Interval(a - b, a - b - below, a - b + above)


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
