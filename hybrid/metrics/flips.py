"""Flips: what one threshold decides about each row: its outcome when kept, and what passing it on changes.

A pattern meets a threshold in one comparison only: ``gauge >= threshold`` keeps a row at a tier, else it is passed on.
So two outcomes a row tell everything: at 0, where every row is kept, and at `NEVER`, where every row is passed on.
Any pattern gives them by two replays. Triage and cascades, whose rule is "stop at the first tier that is sure
enough", are read off the columns directly, several times faster; tests hold that to the replays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from hybrid.errors import TierError
from hybrid.routing.engine import OUT_OF_SCOPE, Policy, known_labels, parameters, replay
from hybrid.routing.patterns import Cascade, Triage
from hybrid.routing.table import NEVER, NONE, UNKNOWN, Bools, Floats, Labels, Predictions, Rows

_T = TypeVar("_T", bound=np.generic)
Change = NDArray[np.int8] | Floats | float  # per row, or one number where it is the same for all


@dataclass(frozen=True, slots=True, eq=False)
class Sum:
    """A metric's value on each row when kept, and what passing the row on adds to it."""

    kept: Floats | Bools | float
    change: Change

    def at_0(self, n_rows: int) -> float:
        """Return the sum over the rows with all of them kept."""
        return self.kept * n_rows if isinstance(self.kept, float) else float(self.kept.sum())


@dataclass(frozen=True, slots=True, eq=False)
class Flips:
    """What a threshold is compared with, and what it decides; arrays of shape ``(n_rows,)``.

    Parameters
    ----------
    gauge
        A row is kept at thresholds up to this, and passed on above.
    kept, passed
        The final label of each row, kept and passed on.
    right, last, cost, latency
        Right answers, rows for which the last tier is asked, USD, and seconds.
    """

    gauge: Floats
    kept: Labels
    passed: Labels
    right: Sum
    last: Sum
    cost: Sum
    latency: Sum


def with_threshold(policy: Policy, name: str, index: int | None, value: float) -> Policy:
    """Return the policy with one threshold moved.

    Parameters
    ----------
    name
        The parameter's name, or `OUT_OF_SCOPE`.
    index
        Which of its values, for a parameter per tier; else None.
    """
    if name == OUT_OF_SCOPE:
        assert policy.scope is not None
        return replace(policy, scope=replace(policy.scope, threshold=value))
    changed: float | tuple[float, ...] = value
    if index is not None:
        values = list(parameters(policy.pattern)[name])
        values[index] = value
        changed = tuple(values)
    return replace(policy, pattern=replace(policy.pattern, **{name: changed}))


def flips(policy: Policy, predictions: Predictions, truth: Labels, *, name: str, index: int | None) -> Flips:
    """Measure both outcomes of every row at one threshold, the others held.

    Raises
    ------
    TierError
        If there is not a single row.
    """
    require_rows(truth)
    cuts = None if name == OUT_OF_SCOPE else chain_thresholds(policy)
    chain = None if cuts is None else Chain.of(policy, predictions, truth)
    if cuts is not None and chain is not None:
        return _chain_flips(chain, cuts, index or 0)
    at_0, at_1 = (with_threshold(policy, name, index, edge) for edge in (0.0, NEVER))
    kept, passed = replay(at_0, predictions), replay(at_1, predictions)
    gauge = at_0.gauge(known(predictions.select(policy.names)), name, index)
    gauge = np.nan_to_num(gauge, nan=0.0)  # a row that the threshold is not for: kept or passed on, it is the same

    def both(a: Floats | Bools, b: Floats | Bools) -> Sum:
        return Sum(a, b.astype(float) - a)

    return Flips(
        gauge,
        kept.label,
        passed.label,
        both(kept.label == truth, passed.label == truth),
        both(kept.asked[:, -1], passed.asked[:, -1]),
        both(kept.cost, passed.cost),
        both(kept.latency, passed.latency),
    )


def require_rows(truth: Labels) -> None:
    """Raise `TierError` where there is nothing to draw a curve from."""
    if not len(truth):
        raise TierError("There is no row to draw a curve from: no row has an answer from every tier of this policy.")


def known(table: Predictions) -> Predictions:
    """Return the table as the engine sees it: an unknown label has confidence 0, whatever its tier says of itself."""
    scoring = np.array([t.scores for t in table.tiers])
    unsure = (table.label < 0) & (table.label != NONE) & ~scoring & (table.confidence > 0)
    return replace(table, confidence=np.where(unsure, 0.0, table.confidence)) if unsure.any() else table


def chain_thresholds(policy: Policy) -> tuple[float, ...] | None:
    """Return the thresholds of a policy that stops at the first tier that is sure enough; None of any other."""
    if policy.scope is not None:
        return None
    pattern = policy.pattern
    values = dict(parameters(pattern))
    if type(pattern) is Triage:
        cuts: tuple[float, ...] = (values.pop("threshold"),)
    elif type(pattern) is Cascade:
        cuts = values.pop("thresholds")
    else:
        return None
    return None if any(values.values()) else cuts  # a further parameter that is set makes it another rule


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """The columns of a chain of tiers, checked: every answer is there and in range.

    `cost` and `latency` hold one number where a tier's is the same on all rows; `price` is what each tier's answer is
    known to cost.
    """

    label: tuple[Labels, ...]
    right: tuple[Bools, ...]
    confidence: tuple[Floats, ...]
    cost: tuple[Floats | float, ...]
    latency: tuple[Floats | float, ...]
    price: tuple[float, ...] = ()

    @classmethod
    def of(cls, policy: Policy, predictions: Predictions, truth: Labels) -> Chain | None:
        """Read a policy's tiers, from first to last; None where an answer is missing or out of range."""
        label: list[Labels] = []
        confidence: list[Floats] = []
        cost: list[Floats | float] = []
        latency: list[Floats | float] = []
        for tier in policy.tiers:
            j = predictions.index(tier.name)
            said: Labels = np.ascontiguousarray(predictions.label[:, j])
            sure: Floats = np.ascontiguousarray(predictions.confidence[:, j])
            paid, waited = _steady(predictions.cost[:, j]), _steady(predictions.latency[:, j])
            # nan makes this False
            if not (sure.min() >= 0 and sure.max() <= 1) or paid is None or waited is None:
                return None
            if said.min() < 0:
                said = known_labels(said)
                sure = sure if tier.scores else np.where(said == UNKNOWN, 0.0, sure)
            label.append(said)
            confidence.append(sure)
            cost.append(paid)
            latency.append(waited)
        right = tuple(one == truth for one in label)
        prices = tuple(t.price for t in policy.tiers)
        return cls(tuple(label), right, tuple(confidence), tuple(cost), tuple(latency), prices)

    @property
    def n_rows(self) -> int:
        return len(self.label[0])

    def take(self, rows: slice) -> Chain:
        """Return a part of the rows."""
        return Chain(
            tuple(x[rows] for x in self.label),
            tuple(x[rows] for x in self.right),
            tuple(x[rows] for x in self.confidence),
            tuple(x if isinstance(x, float) else x[rows] for x in self.cost),
            tuple(x if isinstance(x, float) else x[rows] for x in self.latency),
            self.price,
        )

    def stop(self, cuts: Sequence[float], *, start: int = 0) -> NDArray[np.int8]:
        """Return the tier that each row stops at when it enters the chain at tier `start`, shape ``(n_rows,)``."""
        at = np.full(self.n_rows, len(self.label) - 1, dtype=np.int8)
        for j in range(len(cuts) - 1, start - 1, -1):
            at[self.confidence[j] >= cuts[j]] = j
        return at

    def spent(self, what: tuple[Floats | float, ...], first: int, stop: NDArray[np.int8]) -> Floats:
        """Return the sum of a column over the tiers from `first` to each row's stop, both counted."""
        total = np.zeros(self.n_rows)
        for j in range(first, len(what)):
            reached = stop >= j
            total[reached] += _at(what[j], reached)
        return total


def chain_of_three(policy: Policy, predictions: Predictions, truth: Labels) -> Chain | None:
    """Read the columns of a cascade of three tiers; None of another policy, or where an answer is missing."""
    cuts = chain_thresholds(policy)
    return Chain.of(policy, predictions, truth) if cuts is not None and len(cuts) == 2 else None


def picked(columns: tuple[NDArray[_T], ...], stop: NDArray[np.int8]) -> NDArray[_T]:
    """Return each row's value in the column of its stop."""
    out = columns[-1]
    for j in range(len(columns) - 2, -1, -1):
        out = np.where(stop == j, columns[j], out)
    return out


def _steady(column: Floats) -> Floats | float | None:
    values = np.ascontiguousarray(column)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high < np.inf):
        return None
    return low if low == high else values


def _at(value: Floats | float, rows: Bools | Rows) -> Floats | float:
    return value if isinstance(value, float) else value[rows]


def _chain_flips(chain: Chain, cuts: Sequence[float], i: int) -> Flips:
    k = len(chain.label)
    after = chain.stop(cuts, start=i + 1)  # where a row that tier i passes on ends
    if i == 0:
        ends = after
        kept_label, kept_right = chain.label[0], chain.right[0]
    else:
        before = chain.stop(cuts[:i])
        reach = before == k - 1  # nobody before tier i kept it
        first = np.where(reach, np.int8(i), before)
        ends = np.where(reach, after, before)
        kept_label, kept_right = picked(chain.label, first), picked(chain.right, first)
    passed_right = picked(chain.right, ends)
    right = passed_right.view(np.int8) - kept_right.view(np.int8)

    def spent(what: tuple[Floats | float, ...]) -> Sum:
        kept = what[0] if i == 0 else chain.spent(what, 0, first)
        return Sum(kept, what[1] if k == 2 else chain.spent(what, i + 1, ends))

    return Flips(
        chain.confidence[i],
        kept_label,
        picked(chain.label, ends),
        Sum(kept_right, right),
        Sum(0.0, 1.0 if k == 2 else (ends == k - 1).astype(np.int8)),
        spent(chain.cost),
        spent(chain.latency),
    )
