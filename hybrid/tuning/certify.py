"""Certify: thresholds whose risk stays below α with probability 1 − δ, or the answer that none does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hybrid.errors import TierError
from hybrid.metrics.curve import with_threshold
from hybrid.routing.engine import Outcomes, Policy, replay
from hybrid.routing.patterns import Triage
from hybrid.routing.table import NEVER, Bools, Floats, Labels, Predictions, Rows
from hybrid.tuning.search import MIN_CLASS_ROWS
from hybrid.tuning.walks import SELECTIVE, SYSTEM, Certificate, Part, Walks

RISKS = (SELECTIVE, SYSTEM)
RATIOS = (0.25, 1.0, 4.0)  # of 1 − threshold, from one tier of a cascade to the next
# of a cascade, fixed before any data are seen: two hundredths of 1, and ever finer towards 1, where confidences crowd
PATH = np.unique(np.round(np.concatenate([np.arange(201) / 200, 1 - 10 ** -np.linspace(3, 9, 25)]), 12))


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

    One threshold is walked down through every number there is. Several (a cascade) are lowered together on a fixed
    grid, at three fixed ratios of ``1 − threshold`` between one tier and the next, each ratio with a third of δ.

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
            replay(with_threshold(policy, lines[0].name, lines[0].index, edge), predictions) for edge in (0.0, NEVER)
        )
        falling, n, wrong, share = _along(gauge, kept, passed, truth, risk)
        walks.add("all", n, wrong, share)
        chosen = walks.cheapest()
        if chosen is None:
            return walks.certificate(None, None)
        lowest = float(falling[chosen.at])
        found = with_threshold(policy, lines[0].name, lines[0].index, lowest)
        return walks.certificate(found, walks.part(chosen, falling))
    for ratio in RATIOS:
        path = [_ladder(policy, t, ratio) for t in PATH[::-1]]
        counts = _down_two(path, predictions, truth, risk) if len(lines) == 2 else _down(path, predictions, truth, risk)
        walks.add(f"ratio {ratio:g}", *counts, of=len(RATIOS))
    chosen = walks.cheapest()
    if chosen is None:
        return walks.certificate(None, None)
    certified = [_ladder(policy, float(t), RATIOS[chosen.walk]) for t in PATH[::-1][chosen.start : chosen.at + 1]]
    return walks.certificate(certified[-1], walks.part(chosen), path=tuple(_values(p) for p in certified))


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
    groups: list[tuple[str, int | None, Bools]] = [(predictions.classes[c], int(c), weak.label == c) for c in own]
    if rest.any():
        groups.append((f"{int((sizes < min_rows).sum())} classes with few rows", None, rest))
    each = delta / max(len(groups), 1)
    parts: list[Part] = []
    left_out, needed, values = [], [], []
    kept, passed = (replay(replace(policy, pattern=Triage(edge)), predictions) for edge in (0.0, NEVER))
    for name, code, rows in groups:
        walks = Walks(alpha, each, SELECTIVE, int(rows.sum()))
        falling, n, wrong, share = _along(
            weak.confidence[rows], _take(kept, rows), _take(passed, rows), truth[rows], SELECTIVE
        )
        walks.add(name, n, wrong, share)
        chosen = walks.cheapest()
        values.append(NEVER if chosen is None else float(falling[chosen.at]))
        if chosen is None:
            left_out.append(name)
            more = walks.rows_needed()
            if more is not None:
                needed.append(int(np.ceil(more * len(truth) / max(int(rows.sum()), 1))))
        else:
            parts.append(replace(walks.part(chosen, falling), of=code))
    by_class: list[float | None] = [None] * len(predictions.classes)
    for c, value in zip(own, values, strict=False):
        by_class[c] = value
    pattern = Triage(values[-1] if rest.any() else NEVER, tuple(by_class))
    return Certificate(
        SELECTIVE,
        alpha,
        delta,
        replace(policy, pattern=pattern) if parts else None,
        tuple(parts),
        tuple(left_out),
        min(needed) if needed and not parts else None,
        len(truth),
        per_class=True,
    )


def covers(certificate: Certificate, policy: Policy) -> bool:
    """Whether a certificate holds for a policy: the one that it names, or one within what was certified along with it.

    Of one threshold, and of one for each predicted class, that is every threshold within its range; of several that
    were lowered together, those on the path.

    Examples
    --------
    Tested at every threshold from the surest rows down to the first mistakes, so it holds at all of these:

    >>> from hybrid.routing.table import Tier
    >>> tiers = (Tier("classifier", "classifier"), Tier("llm", "recorded", price=0.003))
    >>> table = Predictions(
    ...     tiers, ("a", "b"), np.zeros((100, 2), dtype=int), np.linspace([0.3, 1], [0.9, 1], 100),
    ...     np.zeros((100, 2)), np.zeros((100, 2)))
    >>> found = certify(Policy(Triage(0.5), tiers), table, (np.arange(100) < 20).astype(int), alpha=0.1)
    >>> [covers(found, Policy(Triage(t), tiers)) for t in (0.2, found.lowest, 0.6, 1.0)]
    [False, True, True, False]
    """
    promised = certificate.policy
    if promised is None:
        return False
    if policy == promised:
        return True
    if policy.tiers != promised.tiers or type(policy.pattern) is not type(promised.pattern):
        return False
    if certificate.per_class:
        return _covers_classes(certificate, policy, promised)
    lined_up = policy
    for line in promised.thresholds():
        if line.value is not None:
            lined_up = with_threshold(lined_up, line.name, line.index, line.value)
    if lined_up != promised:  # they differ in more than thresholds
        return False
    values = _values(policy)
    return values in certificate.path or (len(values) == 1 and certificate.parts[0].covers(values[0]))


def _covers_classes(certificate: Certificate, policy: Policy, promised: Policy) -> bool:
    pattern, held = policy.pattern, promised.pattern
    assert isinstance(pattern, Triage)
    assert isinstance(held, Triage)
    own = pattern.by_class or (None,) * len(held.by_class)
    parts = {p.of: p for p in certificate.parts}

    def holds(code: int | None, mine: float, theirs: float) -> bool:
        return mine == theirs or (code in parts and parts[code].covers(mine))

    if None in held.by_class and not holds(None, pattern.threshold, held.threshold):
        return False
    return all(
        mine is None if theirs is None else holds(code, pattern.threshold if mine is None else mine, theirs)
        for code, (mine, theirs) in enumerate(zip(own, held.by_class, strict=True))
    )


def _values(policy: Policy) -> tuple[float, ...]:
    return tuple(float(x.value) for x in policy.thresholds() if x.value is not None)


def _along(
    gauge: Floats, kept: Outcomes, passed: Outcomes, truth: Labels, risk: str
) -> tuple[Floats, Rows, Rows, Floats]:
    """Return every threshold at which something changes, falling, with rows tested, mistakes and the share kept."""
    order = np.argsort(gauge, kind="stable")
    ascending = gauge[order]
    falling = np.union1d(ascending, [0.0, 1.0])[::-1]
    below = np.searchsorted(ascending, falling, side="left")
    n_kept = len(gauge) - below

    def mistakes(o: Outcomes) -> Rows:
        found: Rows = np.concatenate([[0], np.cumsum((o.label != truth)[order])]).astype(np.intp)
        return found

    of_kept, of_passed = mistakes(kept), mistakes(passed)
    wrong_kept = of_kept[-1] - of_kept[below]
    share = n_kept / max(len(gauge), 1)
    if risk == SELECTIVE:
        return falling, n_kept, wrong_kept, share
    return falling, np.full(len(falling), len(gauge)), wrong_kept + of_passed[below], share


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

    corners = [[corner(a, b) for b in (0.0, NEVER)] for a in (0.0, NEVER)]
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
