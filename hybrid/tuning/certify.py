"""Certify: thresholds whose risk stays below α with probability 1 − δ, or the answer that none does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from hybrid.errors import TierError
from hybrid.metrics.curve import with_threshold
from hybrid.metrics.flips import known
from hybrid.metrics.groups import Groups
from hybrid.routing.engine import Outcomes, Policy, Threshold, replay
from hybrid.routing.patterns import Triage
from hybrid.routing.table import NEVER, Bools, Floats, Labels, Predictions, Rows
from hybrid.tuning.walks import SELECTIVE, SYSTEM, Certificate, Part, Track, Walks, least_class_rows

RISKS = (SELECTIVE, SYSTEM)
RATIOS = (0.25, 1.0, 4.0)  # of 1 − threshold, from one tier of a cascade to the next
# of a cascade, fixed before any data are seen: two hundredths of 1, ever finer towards 1, where confidences crowd
PATH = np.unique([*np.round([*np.arange(201) / 200, *1 - 10 ** -np.linspace(3, 9, 25)], 12), NEVER])


def certify(
    policy: Policy,
    predictions: Predictions,
    truth: Labels,
    *,
    alpha: float,
    delta: float = 0.1,
    risk: str = SELECTIVE,
    groups: Labels | None = None,
) -> Certificate:
    """Find the cheapest thresholds of a policy that certify, along walks that were fixed beforehand.

    One threshold is walked down through every number there is; where to start is learned from rows that it does not
    keep (`hybrid.tuning.peeling`). Several (a cascade) are lowered together on a fixed
    grid, at three fixed ratios of ``1 − threshold`` between one tier and the next, each ratio with a third of δ.

    Parameters
    ----------
    predictions, truth
        Labelled rows that every tier of the policy has answered; they must not have been used to choose anything else.
    alpha, delta
        Risk at most `alpha` with probability at least ``1 − delta``.
    risk
        ``selective`` or ``system``.
    groups
        Codes of groups of rows that are not independent of each other, shape ``(n_rows,)``: of one customer, of one
        conversation, copies of one text. The promise is then over the draw of groups, and each group counts once.

    Raises
    ------
    TierError
        If `alpha`, `delta` or `risk` make no sense, or the policy has no threshold.

    References
    ----------
    Angelopoulos et al. 2021, Learn then Test; Wiens 2003 and Bretz et al. 2009 for several starts; Geifman & El-Yaniv
    2017, Selective Classification for DNNs; Clopper & Pearson 1934.
    """
    _check(alpha, delta, risk)
    if policy.scope is not None and risk == SELECTIVE:
        inside, right, codes = _in_scope(policy, predictions, truth, groups)
        return _scoped(policy, certify(policy.bare, inside, right, alpha=alpha, delta=delta, risk=risk, groups=codes))
    if isinstance(policy.pattern, Triage) and policy.pattern.by_class:
        return certify_by_class(policy, predictions, truth, alpha=alpha, delta=delta, risk=risk, groups=groups)
    lines = [line for line in policy.thresholds() if line.value is not None]
    if not lines:
        raise TierError(f"{policy.pattern.title} has no threshold that is switched on: there is nothing to certify.")
    codes = _codes(groups, len(truth))
    if len(lines) == 1:
        line, walks = lines[0], Walks(alpha, delta, risk)
        gauge, kept, passed = _sides(policy, line, predictions)
        falling, track = _along(gauge, kept.label != truth, passed.label != truth, risk, codes)
        walks.add("all", track)
        chosen = walks.cheapest()
        if chosen is None:
            return walks.certificate(None, None)
        found = with_threshold(policy, line.name, line.index, float(falling[chosen.at]))
        return walks.certificate(found, walks.part(chosen, falling))
    walks = Walks(alpha, delta, risk, of=len(RATIOS))
    paths = [[_ladder(float(t), ratio, len(lines)) for t in PATH[::-1]] for ratio in RATIOS]
    for ratio, track in zip(RATIOS, _down(policy, paths, predictions, truth, risk, codes), strict=True):
        walks.add(f"ratio {ratio:g}", track)
    chosen = walks.cheapest()
    if chosen is None:
        return walks.certificate(None, None)
    certified = paths[chosen.walk][chosen.run.first : chosen.at + 1]
    return walks.certificate(_at(policy, certified[-1]), walks.part(chosen), path=tuple(certified))


def certify_by_class(
    policy: Policy,
    predictions: Predictions,
    truth: Labels,
    *,
    alpha: float,
    delta: float = 0.1,
    risk: str = SELECTIVE,
    groups: Labels | None = None,
    min_rows: int | None = None,
) -> Certificate:
    """Certify a threshold of triage for each predicted class, with δ divided by their number.

    Every class keeps the promise by itself, and all together with probability ≥ 1 − δ. Where a class is certified down
    to its last row, its part of δ goes to the others in equal parts (Holm). Classes with fewer than `min_rows`
    predicted rows share one threshold; a class for which nothing certifies keeps nothing. The system risk has no such
    parts: certify it with one threshold.

    Parameters
    ----------
    min_rows
        None: as many as have power; see `hybrid.tuning.walks.least_class_rows`.

    Raises
    ------
    TierError
        If the policy is not triage, or the system risk is asked for.

    References
    ----------
    Holm 1979, A simple sequentially rejective multiple test procedure; Bretz et al. 2009.
    """
    _check(alpha, delta, risk)
    if not isinstance(policy.pattern, Triage):
        raise TierError(f"Only triage has a threshold for each predicted class, {policy.pattern.title} has not.")
    if risk == SYSTEM:
        raise TierError("Thresholds per class certify the selective risk; for the system risk use one threshold.")
    if policy.scope is not None:
        on, right, grouped = _in_scope(policy, predictions, truth, groups)
        found = certify_by_class(
            policy.bare, on, right, alpha=alpha, delta=delta, risk=risk, groups=grouped, min_rows=min_rows
        )
        return _scoped(policy, found)
    codes = _codes(groups, len(truth))
    policy = replace(policy, pattern=Triage())
    gauge, kept, passed = _sides(policy, policy.thresholds()[0], predictions)
    said = predictions.label[:, predictions.index(policy.own[0].name)]
    sizes = np.bincount(said[said >= 0], minlength=len(predictions.classes))
    least = least_class_rows(sizes, alpha=alpha, delta=delta) if min_rows is None else min_rows
    own = np.flatnonzero(sizes >= least)
    rest = ~np.isin(said, own)
    members: list[tuple[str, int | None, Bools]] = [(predictions.classes[c], int(c), said == c) for c in own]
    if rest.any():
        members.append((f"{int((sizes < least).sum())} classes with few rows", None, rest))
    walks, ends = Walks(alpha, delta, SELECTIVE, of=max(len(members), 1)), []
    for name, _, rows in members:
        inside = None if codes is None else codes[rows]
        falling, track = _along(gauge[rows], (kept.label != truth)[rows], (passed.label != truth)[rows], risk, inside)
        walks.add(name, track)
        ends.append(falling)
    walks.share_out()
    parts: list[Part] = []
    left_out, values = [], []
    for walk, (name, code, _) in enumerate(members):
        chosen = walks.cheapest(walk)
        values.append(NEVER if chosen is None else float(ends[walk][chosen.at]))
        if chosen is None:
            left_out.append(name)
        else:
            parts.append(replace(walks.part(chosen, ends[walk]), of=code))
    by_class: list[float | None] = [None] * len(predictions.classes)
    for c, value in zip(own, values, strict=False):
        by_class[c] = value
    pattern = Triage(values[-1] if rest.any() else NEVER, tuple(by_class))
    needed = [] if parts else [walks.rows_needed(walk, n_rows=len(truth)) for walk in range(len(members))]
    return Certificate(
        SELECTIVE,
        alpha,
        delta,
        replace(policy, pattern=pattern) if parts else None,
        tuple(parts),
        tuple(left_out),
        min((n for n in needed if n is not None), default=None),
        len(truth),
        per_class=True,
        n_groups=None if codes is None else int(np.count_nonzero(np.bincount(codes))),
    )


def _in_scope(
    policy: Policy, predictions: Predictions, truth: Labels, groups: Labels | None
) -> tuple[Predictions, Labels, Labels | None]:
    """Return what the selective risk is of: the tiers' answers about rows that are not set aside."""
    codes = _codes(groups, len(truth))
    inside = ~policy.set_aside(predictions.select(policy.names))
    return predictions.take(inside), truth[inside], None if codes is None else codes[inside]


def _scoped(policy: Policy, found: Certificate) -> Certificate:
    """Return the certificate of a policy's thresholds with the policy's scope before them."""
    if found.policy is None or policy.scope is None:
        return found
    return replace(found, policy=found.policy.within(policy.tiers[0], policy.scope))


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


def _codes(groups: Labels | None, n_rows: int) -> Labels | None:
    """Return codes of groups; None where every row is a group of its own."""
    if groups is not None and len(groups) != n_rows:
        raise TierError(f"There are {len(groups):,} codes of groups for {n_rows:,} rows: give one for each row.")
    found = Groups.of(groups)
    return None if found is None else found.code


def _sides(policy: Policy, line: Threshold, predictions: Predictions) -> tuple[Floats, Outcomes, Outcomes]:
    """Return what a threshold is compared with, and what is decided where it keeps every row, and none."""
    kept, passed = (replay(with_threshold(policy, line.name, line.index, edge), predictions) for edge in (0.0, NEVER))
    return policy.gauge(known(predictions.select(policy.names)), line.name, line.index), kept, passed


def _along(
    gauge: Floats, wrong_kept: Bools, wrong_passed: Bools, risk: str, groups: Labels | None
) -> tuple[Floats, Track]:
    """Return every threshold at which something changes, falling, and what is tested at each."""
    rising, kept = np.unique(np.concatenate([gauge, [0.0, NEVER]]), return_counts=True)
    kept[[0, -1]] -= 1  # the ends, which are no rows
    n, row = len(gauge), np.arange(len(gauge))
    share = np.cumsum(kept[::-1]) / max(n, 1)
    at = _since(rising, gauge)
    if risk == SELECTIVE:
        changes = row, at, np.ones(n), wrong_kept.astype(np.float64)
    else:
        moved = np.flatnonzero(wrong_kept != wrong_passed)
        zero = np.zeros(len(moved))
        changes = _both(
            (row, np.zeros(n, dtype=np.intp), np.ones(n), wrong_passed.astype(np.float64)),
            (moved, at[moved], zero, wrong_kept[moved].astype(np.float64) - wrong_passed[moved]),
        )
    falling = rising[::-1]
    threshold = falling if risk == SELECTIVE else None
    return falling, Track.of(*changes, share=share, groups=groups, n_rows=n, threshold=threshold)


def _since(rising: Floats, gauge: Floats) -> Rows:
    """Return from which of the thresholds on, when they fall, each row is kept."""
    found: Rows = len(rising) - np.searchsorted(rising, gauge, side="right")
    return found


_Changes = tuple[Rows, Rows, Floats, Floats]  # row, point of the walk, tested, wrong


def _both(*parts: _Changes) -> _Changes:
    row, at, tested, wrong = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return row, at, tested, wrong


def _down(
    policy: Policy,
    paths: Sequence[Sequence[tuple[float, ...]]],
    predictions: Predictions,
    truth: Labels,
    risk: str,
    groups: Labels | None,
) -> Iterator[Track]:
    """Yield what is tested where a policy's thresholds go down along each of some paths.

    What is decided about a row hangs on which thresholds it has passed by then: that is read off a replay for each set
    of them that a row comes through, instead of one for each point.
    """
    seen = known(predictions.select(policy.names))
    lines = [x for x in policy.thresholds() if x.value is not None]
    gauges = [policy.gauge(seen, line.name, line.index) for line in lines]

    def counts(code: int, rows: Bools | None = None) -> Floats:
        at = _at(policy, [0.0 if code >> k & 1 else NEVER for k in range(len(lines))])
        if rows is None:
            return _counts(replay(at, predictions), truth, risk)
        return _counts(replay(at, predictions.take(rows)), truth[rows], risk)

    none, all_of_them = counts(0), counts((1 << len(lines)) - 1)
    for path in paths:
        since = np.stack([_since(np.array([v[k] for v in path])[::-1], gauge) for k, gauge in enumerate(gauges)])
        order = np.argsort(since, axis=0, kind="stable")
        passed = np.cumsum(1 << order, axis=0)  # after each of its thresholds, as bits
        now, kept = none, np.bincount([0], [none[0].sum()], minlength=len(path))
        rows = np.flatnonzero(now[1:].any(axis=0))
        changes = [(rows, np.zeros_like(rows), now[1, rows], now[2, rows])]
        for k, (at, some) in enumerate(zip(np.take_along_axis(since, order, axis=0), passed, strict=True), 1):
            before, now = now, all_of_them if k == len(lines) else np.empty_like(now)
            for code in np.unique(some) if k < len(lines) else ():
                mine = some == code
                now[:, mine] = counts(int(code), mine)
            step = now - before
            kept += np.bincount(at, step[0], minlength=len(path) + 1)[: len(path)]
            rows = np.flatnonzero(step[1:].any(axis=0) & (at < len(path)))
            changes.append((rows, at[rows], step[1, rows], step[2, rows]))
        share = np.round(np.cumsum(kept)) / len(truth)
        yield Track.of(*_both(*changes), share=share, groups=groups, n_rows=len(truth))


def _counts(o: Outcomes, truth: Labels, risk: str) -> Floats:
    """Return for each row whether it is kept, tested, and a mistake, shape ``(3, n_rows)``."""
    kept = ~o.asked[:, -1]
    tested = np.ones(len(truth), dtype=bool) if risk == SYSTEM else kept
    return np.stack([kept, tested, tested & (o.label != truth)]).astype(np.float64)


def _ladder(threshold: float, ratio: float, n_tiers: int) -> tuple[float, ...]:
    """Return the threshold of each tier where the first has this one."""
    if threshold > 1:
        return (NEVER,) * n_tiers
    return tuple(max(0.0, 1 - (1 - threshold) * ratio**i) for i in range(n_tiers))


def _at(policy: Policy, values: Sequence[float]) -> Policy:
    """Return the policy with these values of all thresholds that are switched on."""
    lines = [x for x in policy.thresholds() if x.value is not None]
    for line, value in zip(lines, values, strict=True):
        policy = with_threshold(policy, line.name, line.index, value)
    return policy


def _check(alpha: float, delta: float, risk: str) -> None:
    for name, value in (("alpha", alpha), ("delta", delta)):
        if not 0 < value < 1:
            raise TierError(f"{name} = {value}: must be between 0 and 1. Percentages? Divide by 100.")
    if risk not in RISKS:
        raise TierError(f"The risk is one of {', '.join(RISKS)}, not {risk!r}.")
