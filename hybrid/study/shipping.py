"""Shipping: what the models that ship do otherwise than those that graded them, fitted on fewer rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hybrid.metrics.curve import with_threshold
from hybrid.metrics.means import mean_interval
from hybrid.metrics.order import above
from hybrid.metrics.summary import Interval, share
from hybrid.routing.engine import Policy, replay
from hybrid.routing.patterns import Triage
from hybrid.routing.table import Bools, Floats
from hybrid.study.graded import Graded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hybrid.routing.table import Rows
    from hybrid.tiers.calibration import Again

LEAST_ROWS = 50  # below which a threshold stays where it was chosen
LITTLE = 0.005  # of the texts, or of the answers: less is not worth a line


@dataclass(frozen=True, slots=True)
class Shipping:
    """What changes on the way from the models that answered the tune rows to those that ship.

    A tune row is answered by a model that was fitted on the other folds; what ships is fitted on all of them, and is a
    little surer and more often right. Both answer the same test rows here, which neither was fitted on.

    Parameters
    ----------
    n_rows
        Test rows.
    escalation, accuracy, cost_per_1000
        Shipped minus graded, paired on these rows: shares, and USD.
    graded_accuracy
        Accuracy on these rows with the models that graded.

    Notes
    -----
    What `Recommendation.optimism` is the sum of: accuracy on tune minus `graded_accuracy`, which is the luck of
    choosing and of the draw, and minus `accuracy`, which is the learning curve.
    """

    n_rows: int
    escalation: Interval
    accuracy: Interval
    cost_per_1000: Interval
    graded_accuracy: float

    @property
    def matters(self) -> bool:
        """Whether it is surely something, and not little."""
        return any((i.low > 0 or i.high < 0) and abs(i.value) >= LITTLE for i in (self.escalation, self.accuracy))

    @property
    def words(self) -> str:
        """Say it in a line."""
        return (
            "The models that ship are fitted on all tune rows, those that answered the tune rows on a part of them. On "
            f"the same {self.n_rows:,} test rows they send on {_points(self.escalation, 'texts')} and give "
            f"{_points(self.accuracy, 'right answers')}."
        )


def _points(i: Interval, what: str) -> str:
    """Return a change of a share, ``2.1 points fewer texts (0.9 to 3.4)``."""
    if i.low <= 0 <= i.high:
        return f"as many {what}, as far as can be told ({_signed(i.low)} to {_signed(i.high)} points)"
    low, high = sorted((abs(i.low), abs(i.high)))
    which = "fewer" if i.value < 0 else "more"
    return f"{100 * abs(i.value):.1f} points {which} {what} ({100 * low:.1f} to {100 * high:.1f})"


def _signed(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")


def shipping(policy: Policy, on: Graded, again: Mapping[str, tuple[Again, ...]], test: Rows) -> Shipping | None:
    """Compare what a policy does with the models that ship and with those that graded.

    Parameters
    ----------
    on
        Test rows with the answers of the policy's tiers.
    again
        By tier name, what the folds' models say of all test rows; see `hybrid.study.evidence.Recording`.
    test
        These rows' numbers in the data set, ascending.

    Returns
    -------
    Shipping or None
        None where no tier of the policy was fitted here, or there is no row. The learned confidence of other tiers,
        and gates that were trained after the fit, are as they ship on both sides.
    """
    own = {j: again[name] for j, name in enumerate(policy.names) if again.get(name)}
    if not own or not len(on) or len(policy.tiers) < 2:
        return None
    at, times = np.searchsorted(test, on.rows), min(map(len, own.values()))
    sums = np.zeros((3, len(on)))
    for k in range(times):
        label, confidence = on.predictions.label.copy(), on.predictions.confidence.copy()
        for j, said in own.items():
            label[:, j], confidence[:, j] = said[k].label[at], said[k].confidence[at]
        graded = replay(policy, replace(on.predictions, label=label, confidence=confidence))
        sums += graded.asked[:, -1], graded.label == on.truth, graded.cost
    mean, shipped = sums / times, on.outcomes(policy)
    sent, right = (
        mean_interval(after - before, groups=on.groups, least=-1.0, most=1.0)  # what was not seen may still come
        for after, before in ((shipped.asked[:, -1], mean[0]), (shipped.label == on.truth, mean[1]))
    )
    cost: Floats = 1000 * (shipped.cost - mean[2])
    return Shipping(len(on), sent, right, mean_interval(cost, groups=on.groups), float(mean[1].mean()))


@dataclass(frozen=True, slots=True)
class AtShare:
    """A policy with thresholds at which the models that ship keep the share of texts that was promised on tune.

    Parameters
    ----------
    policy
        What is to ship.
    chosen
        As it was chosen on tune, by the models that graded.
    n_rows
        Test rows that the thresholds were read off, without their labels.
    promised
        Share of the tune rows for which the last tier is asked.
    before, after
        The same share of the test rows, with the models that ship: at the thresholds that were chosen, and at these.
    """

    policy: Policy
    chosen: Policy
    n_rows: int
    promised: float
    before: Interval
    after: Interval

    @property
    def words(self) -> str:
        """Say it in a line."""
        return (
            f"Chosen on tune rows, of which {self.promised:.1%} are sent on to {self.policy.names[-1]}. At the same "
            f"thresholds the models that ship send on {self.before.value:.1%} of {self.n_rows:,} test rows; at those "
            f"that are set for them {self.after.value:.1%} ({self.after.low:.1%} to {self.after.high:.1%}). The labels "
            "of the test rows had no part in that."
        )


def at_share(policy: Policy, tune: Graded, test: Graded) -> AtShare | None:
    """Move each threshold to where the models that ship keep the share of the texts that reach it as on tune.

    Parameters
    ----------
    tune, test
        Rows that every tier of the policy answered: out of fold, and by the models that ship.

    Returns
    -------
    AtShare or None
        None where nothing moves: there are too few test rows, no threshold, or the shares are the same already; and
        where the share that is sent on comes no nearer, because few rows reach a later threshold.
    """
    if min(len(tune), len(test)) < LEAST_ROWS:
        return None
    moved = policy
    reach = [np.ones(len(on), dtype=bool) for on in (tune, test)]
    for line in policy.thresholds():
        if line.value is None:
            continue
        gauges = [np.nan_to_num(on.gauge(policy, line), nan=0.0) for on in (tune, test)]
        mine = [r & _common(policy, on) for r, on in zip(reach, (tune, test), strict=True)]
        value = _as_kept(line.value, *(g[m] for g, m in zip(gauges, mine, strict=True)))
        moved = with_threshold(moved, line.name, line.index, value)
        reach = [r & (g < v) for r, g, v in zip(reach, gauges, (line.value, value), strict=True)]
    moved = _by_class(moved, policy, tune, test)
    if moved == policy:
        return None
    sent = [on.outcomes(p).asked[:, -1] for on, p in ((tune, policy), (test, policy), (test, moved))]
    promised, (before, after) = float(sent[0].mean()), (share(s, test.groups) for s in sent[1:])
    if abs(after.value - promised) >= abs(before.value - promised):
        return None
    return AtShare(moved, policy, len(test), promised, before, after)


def _common(policy: Policy, on: Graded) -> Bools:
    """Return the rows that a policy's common thresholds decide about: those of no class with its own."""
    if not isinstance(policy.pattern, Triage) or not policy.pattern.by_class:
        return np.ones(len(on), dtype=bool)
    own = [c for c, value in enumerate(policy.pattern.by_class) if value is not None]
    return ~np.isin(on.predictions.label[:, on.predictions.index(policy.names[0])], own)


def _by_class(moved: Policy, policy: Policy, tune: Graded, test: Graded) -> Policy:
    """Move the thresholds of predicted classes, each by the rows of its own."""
    pattern = moved.pattern
    if not isinstance(pattern, Triage) or not pattern.by_class:
        return moved
    sides = [on.predictions.answers(on.predictions.index(policy.names[0])) for on in (tune, test)]
    values = tuple(
        value if value is None else _as_kept(value, *(a.confidence[a.label == c] for a in sides))
        for c, value in enumerate(pattern.by_class)
    )
    return replace(moved, pattern=replace(pattern, by_class=values))


def _as_kept(value: float, before: Floats, now: Floats) -> float:
    """Return the threshold that keeps the share of one sample that another keeps at a value; where few rows, that."""
    if min(len(before), len(now)) < LEAST_ROWS:
        return value
    wanted = float(np.mean(before >= value))
    options = np.append(np.unique(now), above(float(now.max())))
    kept = 1 - np.searchsorted(np.sort(now), options, side="left") / len(now)
    if abs(float(np.mean(now >= value)) - wanted) <= np.abs(kept - wanted).min() + 1e-12:
        return value
    off = np.abs(kept - wanted)
    best = np.flatnonzero(off <= off.min() + 1e-12)
    return float(options[best[np.abs(options[best] - value).argmin()]])
