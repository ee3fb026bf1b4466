"""Ranking: how well a confidence tells right from wrong, and what any router between two tiers could gain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybrid.errors import TierError
from hybrid.metrics import LEVEL, REPLICATES, Interval, macro_f1
from hybrid.predictions import UNKNOWN, Bools, Floats, Labels, Predictions


@dataclass(frozen=True, slots=True, eq=False)
class RiskCoverage:
    """Selective risk against coverage, and its area.

    Parameters
    ----------
    threshold, coverage, risk
        At each distinct confidence, from the most confident rows to all; shape ``(n_points,)``.
    aurc
        Mean selective risk over all coverage levels 1/n, 2/n, …, 1; rows of equal confidence come in no order.
    e_aurc
        What the area exceeds that of the best order of the same rows by, in the approximation of the reference.
    """

    threshold: Floats
    coverage: Floats
    risk: Floats
    aurc: float
    e_aurc: float


def risk_coverage(confidence: Floats, right: Bools) -> RiskCoverage:
    """Measure the selective risk at every coverage.

    Parameters
    ----------
    confidence, right
        Shape ``(n_rows,)``.

    Raises
    ------
    TierError
        If there is not a single row.

    References
    ----------
    Geifman & El-Yaniv 2017; Geifman, Uziel & El-Yaniv 2019, Bias-Reduced Uncertainty Estimation.

    Examples
    --------
    Right, wrong, right by falling confidence: the risk is 0, 1/2, 1/3.

    >>> found = risk_coverage(np.array([0.9, 0.8, 0.7]), np.array([True, False, True]))
    >>> found.risk.round(3).tolist(), round(found.aurc, 3)
    ([0.0, 0.5, 0.333], 0.278)
    """
    n = len(right)
    if not n:
        raise TierError("There is no row to measure on.")
    values, group, size = np.unique(-confidence, return_inverse=True, return_counts=True)
    wrong = np.bincount(group, ~right, minlength=len(values))
    kept = np.cumsum(size)
    mistakes = np.cumsum(wrong)
    # within rows of equal confidence, mistakes are spread evenly: the mean over all orders of them
    levels = np.arange(1, n + 1)
    expected = np.interp(levels, np.concatenate([[0], kept]), np.concatenate([[0.0], mistakes]))
    aurc = float(np.mean(expected / levels))
    error = float(np.mean(~right))
    best = error + (1 - error) * float(np.log1p(-error)) if error < 1 else 1.0
    return RiskCoverage(-values, kept / n, mistakes / kept, aurc, aurc - best)


def performance_gap_recovered(accuracy: Floats, *, weak: float, strong: float) -> Floats | None:
    """Return PGR = (accuracy − weak) / (strong − weak); None where the strong tier is not more accurate.

    References
    ----------
    Ong et al. 2024, RouteLLM.
    """
    if strong <= weak:
        return None
    found: Floats = (np.asarray(accuracy, dtype=np.float64) - weak) / (strong - weak)
    return found


@dataclass(frozen=True, slots=True)
class RoutingGain:
    """A curve of policies between a weak and a strong tier, in the numbers of the field.

    Parameters
    ----------
    apgr
        Mean PGR over the share of strong calls, 0 to 1; random routing has 0.5. None where PGR is undefined.
    cpt
        (x, share) pairs: the least share of strong calls of a policy on the curve that recovers x of the gap.
        Empty where PGR is undefined.
    cost_save
        The largest relative cut of cost that keeps the best single tier's accuracy; None where no policy keeps it
        or that tier costs nothing.
    """

    apgr: float | None
    cpt: tuple[tuple[float, float], ...]
    cost_save: float | None


CPT_LEVELS = (0.5, 0.8, 0.95)


def routing_gain(
    share: Floats, accuracy: Floats, cost: Floats, *, weak: tuple[float, float], strong: tuple[float, float]
) -> RoutingGain:
    """Measure a curve of policies from the weak tier alone to the strong tier alone.

    Parameters
    ----------
    share, accuracy, cost
        Of strong calls, of right answers, and any unit of cost; shape ``(n_points,)``.
    weak, strong
        (cost, accuracy) of each tier alone.

    References
    ----------
    Ong et al. 2024, RouteLLM (PGR, APGR, CPT); LLMRouterBench (CostSave).

    Examples
    --------
    Two policies: at 20 % of strong calls four fifths of the gap are recovered.

    >>> routing_gain(np.array([0.0, 0.2]), np.array([0.8, 0.88]), np.array([0.0, 0.6]),
    ...              weak=(0.0, 0.8), strong=(3.0, 0.9)).cpt
    ((0.5, 0.2), (0.8, 0.2), (0.95, 1.0))
    """
    # the strong tier alone is always to be had
    share, accuracy = np.append(share, 1.0), np.append(accuracy, strong[1])
    cost = np.append(cost, strong[0])
    best_cost, best_accuracy = max((weak, strong), key=lambda t: (t[1], -t[0]))
    keeps = accuracy >= best_accuracy - 1e-12
    save = float(1 - cost[keeps].min() / best_cost) if best_cost > 0 and keeps.any() else None
    gap = performance_gap_recovered(accuracy, weak=weak[1], strong=strong[1])
    if gap is None:
        return RoutingGain(None, (), save)
    cpt = tuple((x, float(share[gap >= x - 1e-12].min())) for x in CPT_LEVELS)  # never read between two points
    order = np.argsort(share, kind="stable")
    x, y = np.concatenate([[0.0], share[order]]), np.concatenate([[0.0], gap[order]])
    return RoutingGain(float(np.trapezoid(y, x)), cpt, save)


@dataclass(frozen=True, slots=True)
class ErrorOverlap:
    """On which rows two tiers are right; shares of all rows, summing to 1.

    `ceiling` is the accuracy that no router between the two can exceed.
    """

    both: float
    only_weak: float
    only_strong: float
    neither: float

    @property
    def ceiling(self) -> float:
        return self.both + self.only_weak + self.only_strong

    @property
    def shared_errors(self) -> float:
        """Share of the rows on which one errs on which both do; nan where neither ever errs."""
        errors = 1 - self.both
        return self.neither / errors if errors > 0 else float("nan")


def error_overlap(predictions: Predictions, truth: Labels, *, weak: str, strong: str) -> ErrorOverlap:
    """Count on which rows two tiers are right."""
    w, s = (predictions.label[:, predictions.index(name)] == truth for name in (weak, strong))
    return ErrorOverlap(float(np.mean(w & s)), float(np.mean(w & ~s)), float(np.mean(~w & s)), float(np.mean(~w & ~s)))


def macro_f1_interval(label: Labels, truth: Labels, *, n: int = REPLICATES, seed: int = 0) -> Interval:
    """Return macro-F1 with its bootstrap interval.

    A resample of rows is a multinomial draw over the pairs of truth and answer that occur.

    Parameters
    ----------
    label, truth
        Class codes, shape ``(n_rows,)``; `UNKNOWN` as an answer is wrong.
    n
        Replicates.
    """
    n_classes = int(max(truth.max(), label.max())) + 1
    code = truth * (n_classes + 1) + np.where(label == UNKNOWN, n_classes, label)
    pairs, counts = np.unique(code, return_counts=True)
    rows, said = np.divmod(pairs, n_classes + 1)
    draws = np.random.default_rng(seed).multinomial(len(truth), counts / len(truth), size=n)
    of_truth, of_answer = (np.equal.outer(side, np.arange(n_classes)).astype(np.float64) for side in (rows, said))
    either = draws @ (of_truth + of_answer)
    both = draws @ (of_truth * of_answer)
    with np.errstate(invalid="ignore"):
        scores = np.nanmean(2 * both / either, axis=1)  # a class that is not drawn at all is left out
    low, high = np.quantile(scores, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(macro_f1(label, truth), float(low), float(high))


def break_even_share(gate_cost: float, *, cheap: float, strong: float) -> float | None:
    """Return the share of rows that a router must send to the cheap tier before its own cost pays.

    None where no share does: the strong tier is not dearer.

    Examples
    --------
    >>> break_even_share(0.0003, cheap=0.0, strong=0.003)
    0.1
    """
    return None if strong <= cheap else round(gate_cost / (strong - cheap), 12)


def break_even_price(rest_a: float, calls_a: float, rest_b: float, calls_b: float) -> float | None:
    """Return the price of a call at which two policies cost the same, per row.

    Parameters
    ----------
    rest_a, rest_b
        USD per row that the other tiers cost.
    calls_a, calls_b
        Calls per row of the tier whose price is asked for.

    Returns
    -------
    float or None
        None where no price does: both call as often, or one is dearer at any price.
    """
    if calls_a == calls_b:
        return None
    price = (rest_b - rest_a) / (calls_a - calls_b)
    return price if price >= 0 else None
