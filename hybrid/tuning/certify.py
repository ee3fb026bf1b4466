"""Certify: thresholds whose risk stays below α with probability 1 − δ, or the answer that none does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hybrid.curves import with_threshold
from hybrid.errors import TierError
from hybrid.patterns import Triage
from hybrid.predictions import Bools, Floats, Labels, Predictions, Rows
from hybrid.routing import Outcomes, Policy, replay
from hybrid.tuning.search import MIN_CLASS_ROWS
from hybrid.tuning.walks import GRID, SELECTIVE, SYSTEM, Certificate, Walks

RISKS = (SELECTIVE, SYSTEM)
RATIOS = (0.25, 1.0, 4.0)  # of 1 − threshold, from one tier of a cascade to the next
PATH = GRID[::5]


def certify(
    policy: Policy,
    predictions: Predictions,
    truth: Labels,
    *,
    alpha: float,
    delta: float = 0.1,
    risk: str = SELECTIVE,
) -> Certificate:
    """Find the cheapest thresholds of a policy that certify, along walks that were fixed beforehand.

    One threshold is walked down a fixed grid. Several (a cascade) are lowered together, at three fixed ratios of
    ``1 − threshold`` between one tier and the next, each ratio with a third of δ.

    Parameters
    ----------
    predictions, truth
        Labelled rows that every tier of the policy has answered; they must not have been used to choose anything else.
    alpha, delta
        Risk at most `alpha` with probability at least ``1 − delta``.
    risk
        ``selective`` or ``system``.

    Raises
    ------
    TierError
        If `alpha`, `delta` or `risk` make no sense, or the policy has no threshold.

    References
    ----------
    Angelopoulos et al. 2021, Learn then Test; Geifman & El-Yaniv 2017, Selective Classification for DNNs;
    Clopper & Pearson 1934.
    """
    _check(alpha, delta, risk)
    if isinstance(policy.pattern, Triage) and policy.pattern.by_class:
        return certify_by_class(policy, predictions, truth, alpha=alpha, delta=delta, risk=risk)
    lines = [line for line in policy.thresholds() if line.value is not None]
    if not lines:
        raise TierError(f"{policy.pattern.title} has no threshold that is switched on: there is nothing to certify.")
    walks = Walks(alpha, delta, risk, len(truth))
    if len(lines) == 1:
        gauge = policy.pattern.gauge(predictions.select(policy.names), lines[0].name, lines[0].index)
        kept, passed = (
            replay(with_threshold(policy, lines[0].name, lines[0].index, edge), predictions) for edge in (0.0, 1.0)
        )
        counts = _along(gauge, kept, passed, truth, risk, GRID[::-1])
        walks.add("all", *counts)
        chosen = walks.cheapest()
        if chosen is None:
            return walks.certificate(None, None, ends=None)
        ends = float(GRID[::-1][chosen.at]), float(GRID[::-1][chosen.start])
        return walks.certificate(with_threshold(policy, lines[0].name, lines[0].index, ends[0]), chosen, ends=ends)
    for ratio in RATIOS:
        path = [_ladder(policy, t, ratio) for t in PATH[::-1]]
        counts = _down_two(path, predictions, truth, risk) if len(lines) == 2 else _down(path, predictions, truth, risk)
        walks.add(f"ratio {ratio:g}", *counts, of=len(RATIOS))
    chosen = walks.cheapest()
    if chosen is None:
        return walks.certificate(None, None, ends=None)
    ratio = RATIOS[chosen.walk]
    return walks.certificate(_ladder(policy, float(PATH[::-1][chosen.at]), ratio), chosen, ends=None)


def certify_by_class(
    policy: Policy,
    predictions: Predictions,
    truth: Labels,
    *,
    alpha: float,
    delta: float = 0.1,
    risk: str = SELECTIVE,
    min_rows: int = MIN_CLASS_ROWS,
) -> Certificate:
    """Certify a threshold of triage for each predicted class, with δ divided by their number.

    Every class keeps the promise by itself, and all together with probability ≥ 1 − δ. Classes with fewer than
    `min_rows` predicted rows share one threshold. The system risk has no such parts: certify it with one threshold.

    Raises
    ------
    TierError
        If the policy is not triage, or the system risk is asked for.
    """
    _check(alpha, delta, risk)
    if not isinstance(policy.pattern, Triage):
        raise TierError(f"Only triage has a threshold for each predicted class, {policy.pattern.title} has not.")
    if risk == SYSTEM:
        raise TierError("Thresholds per class certify the selective risk; for the system risk use one threshold.")
    weak = predictions.answers(predictions.index(policy.names[0]))
    sizes = np.bincount(weak.label[weak.label >= 0], minlength=len(predictions.classes))
    own = np.flatnonzero(sizes >= min_rows)
    rest = ~np.isin(weak.label, own)
    groups: list[tuple[str, Bools]] = [(predictions.classes[c], weak.label == c) for c in own]
    if rest.any():
        groups.append((f"{int((sizes < min_rows).sum())} classes with few rows", rest))
    each = delta / max(len(groups), 1)
    parts, left_out, needed, values = [], [], [], []
    kept, passed = (replay(replace(policy, pattern=Triage(edge)), predictions) for edge in (0.0, 1.0))
    for name, rows in groups:
        walks = Walks(alpha, each, SELECTIVE, int(rows.sum()))
        counts = _along(
            weak.confidence[rows], _take(kept, rows), _take(passed, rows), truth[rows], SELECTIVE, GRID[::-1]
        )
        walks.add(name, *counts)
        chosen = walks.cheapest()
        values.append(1.0 if chosen is None else float(GRID[::-1][chosen.at]))
        if chosen is None:
            left_out.append(name)
            more = walks.rows_needed()
            if more is not None:
                needed.append(int(np.ceil(more * len(truth) / max(int(rows.sum()), 1))))
        else:
            parts.append(walks.part(chosen))
    by_class: list[float | None] = [None] * len(predictions.classes)
    for c, value in zip(own, values, strict=False):
        by_class[c] = value
    pattern = Triage(values[-1] if rest.any() else 1.0, tuple(by_class))
    found = replace(policy, pattern=pattern) if parts else None
    return Certificate(
        SELECTIVE,
        alpha,
        delta,
        found,
        tuple(parts),
        tuple(left_out),
        None,
        None,
        min(needed) if needed and found is None else None,
        len(truth),
    )


def _along(
    gauge: Floats, kept: Outcomes, passed: Outcomes, truth: Labels, risk: str, falling: Floats
) -> tuple[Rows, Rows, Floats]:
    """Return rows tested, mistakes, and the share kept at each threshold of a falling grid."""
    order = np.argsort(gauge, kind="stable")
    ascending = gauge[order]
    below = np.searchsorted(ascending, falling, side="left")
    n_kept = len(gauge) - below

    def mistakes(o: Outcomes) -> Rows:
        found: Rows = np.concatenate([[0], np.cumsum((o.label != truth)[order])]).astype(np.intp)
        return found

    of_kept, of_passed = mistakes(kept), mistakes(passed)
    wrong_kept = of_kept[-1] - of_kept[below]
    share = n_kept / max(len(gauge), 1)
    if risk == SELECTIVE:
        return n_kept, wrong_kept, share
    return np.full(len(falling), len(gauge)), wrong_kept + of_passed[below], share


def _down(path: list[Policy], predictions: Predictions, truth: Labels, risk: str) -> tuple[Rows, Rows, Floats]:
    """Return rows tested, mistakes, and the share kept for each policy of a path."""
    found = [_counts(replay(p, predictions), truth, risk).sum(axis=1) for p in path]
    kept, tested, wrong = np.array(found).T
    return tested.astype(np.intp), wrong.astype(np.intp), kept / len(truth)


def _down_two(path: list[Policy], predictions: Predictions, truth: Labels, risk: str) -> tuple[Rows, Rows, Floats]:
    """Return the same for policies that differ in two thresholds, both falling along the path, by four replays."""
    lines = path[0].thresholds()
    seen = predictions.select(path[0].names)
    steps_down = []
    for k, line in enumerate(lines):
        rising = np.array([p.thresholds()[k].value for p in path])[::-1]
        gauge = path[0].pattern.gauge(seen, line.name, line.index)
        steps_down.append(len(path) - np.searchsorted(rising, gauge, side="right"))  # policies that pass the row on
    first, second = steps_down

    def corner(a: float, b: float) -> Floats:
        policy = with_threshold(path[0], lines[0].name, lines[0].index, a)
        policy = with_threshold(policy, lines[1].name, lines[1].index, b)
        return _counts(replay(policy, predictions), truth, risk)

    corners = [[corner(a, b) for b in (0.0, 1.0)] for a in (0.0, 1.0)]
    until, since = np.minimum(first, second), np.maximum(first, second)
    middle_way = np.where(first > second, corners[1][0], corners[0][1])
    steps = len(path) + 1

    def at(places: Rows, values: Floats) -> Floats:
        found: Floats = np.cumsum(np.bincount(places, values, minlength=steps))[:-1].astype(np.float64)
        return found

    totals = [
        both.sum() + at(until, middle - both) + at(since, neither - middle)
        for both, middle, neither in zip(corners[1][1], middle_way, corners[0][0], strict=True)
    ]
    kept, tested, wrong = (np.round(t).astype(np.intp) for t in totals)
    return tested, wrong, kept / len(truth)


def _counts(o: Outcomes, truth: Labels, risk: str) -> Floats:
    """Return for each row whether it is kept, tested, and a mistake, shape ``(3, n_rows)``."""
    kept = ~o.asked[:, -1]
    tested = np.ones(len(truth), dtype=bool) if risk == SYSTEM else kept
    return np.stack([kept, tested, tested & (o.label != truth)]).astype(np.float64)


def _ladder(policy: Policy, threshold: float, ratio: float) -> Policy:
    for i, line in enumerate(x for x in policy.thresholds() if x.value is not None):
        policy = with_threshold(policy, line.name, line.index, max(0.0, 1 - (1 - threshold) * ratio**i))
    return policy


def _take(o: Outcomes, rows: Bools) -> Outcomes:
    return replace(o, label=o.label[rows])


def _check(alpha: float, delta: float, risk: str) -> None:
    for name, value in (("alpha", alpha), ("delta", delta)):
        if not 0 < value < 1:
            raise TierError(f"{name} = {value}: must be between 0 and 1. Percentages? Divide by 100.")
    if risk not in RISKS:
        raise TierError(f"The risk is one of {', '.join(RISKS)}, not {risk!r}.")
