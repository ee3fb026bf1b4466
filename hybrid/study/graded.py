"""Graded: the rows of one side that a policy's own tiers answered, and everything that can be measured on them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hybrid.errors import StudyError
from hybrid.metrics.curve import Curve, Surface, latency_quantiles, sweep, with_threshold
from hybrid.metrics.curve import surface as measure_surface
from hybrid.metrics.flips import Chain, chain_thresholds
from hybrid.metrics.quick import chain_against_one, summarize_chain
from hybrid.metrics.rows import Inspection, PredictedClass, inspect, per_predicted_class
from hybrid.metrics.summary import Baselines, PairedDifference, Summary, baselines, paired_difference, summarize
from hybrid.routing.engine import Outcomes, Policy, Threshold, replay
from hybrid.routing.patterns import Cascade
from hybrid.routing.table import Bools, Floats, Labels, Predictions, Rows, Tier

_T = TypeVar("_T")


class Memo:
    """The latest results of something slow, the oldest of which are dropped."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """Return what is kept under a key; where nothing is, make it."""
        if key in self._kept:
            self._kept.move_to_end(key)
        else:
            self._kept[key] = make()
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        found: _T = self._kept[key]
        return found

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()


def held(policy: Policy, *lines: Threshold) -> Policy:
    """Return the policy with these thresholds at 0: what all policies that differ only in them share."""
    for line in lines:
        policy = with_threshold(policy, line.name, line.index, 0.0)
    return policy


@dataclass(frozen=True, slots=True, eq=False)
class Graded:
    """Labelled rows of one side, with the answers of some tiers that all answered them.

    Parameters
    ----------
    predictions
        Of these tiers only, in the policy's order; shape ``(n_rows, n_tiers)``.
    truth
        Class codes, shape ``(n_rows,)``.
    rows
        Each row's number in the data set.
    groups
        Rows with equal codes are not independent of each other.
    n_side
        Rows of that side, answered or not.
    n_answered
        Rows that every tier answered, in the class mix that was asked for or not.
    scarce
        The class that limits how many rows are in that mix; empty without one.
    """

    predictions: Predictions
    truth: Labels
    rows: Rows
    groups: Rows
    n_side: int
    n_answered: int
    scarce: str = ""
    _memo: Memo = field(default_factory=lambda: Memo(300), repr=False)
    _heavy: Memo = field(default_factory=lambda: Memo(24), repr=False)  # arrays as long as the data

    def __len__(self) -> int:
        return len(self.truth)

    def remember(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """Return what is kept under a key; where nothing is, make it."""
        return self._memo.get(key, make)

    def outcomes(self, policy: Policy) -> Outcomes:
        """Return what a policy decides about every row."""
        self._require()
        return self._heavy.get(("outcomes", repr(policy)), lambda: replay(policy, self.predictions))

    def summary(self, policy: Policy) -> Summary:
        """Measure a policy.

        Raises
        ------
        StudyError
            If there is not a single row.
        """
        self._require()

        def make() -> Summary:
            chain, cuts = self._chain(policy), chain_thresholds(policy)
            if chain is not None and cuts is not None:
                return summarize_chain(chain, cuts, self.truth, groups=self.groups)
            return summarize(replay(policy, self.predictions), self.truth, groups=self.groups)

        return self._memo.get(("summary", repr(policy)), make)

    def _chain(self, policy: Policy) -> Chain | None:
        """Return the policy's columns, read and checked, where its pattern can be measured straight off them."""
        if chain_thresholds(policy) is None:
            return None
        return self._heavy.get(("chain", policy.names), lambda: Chain.of(policy, self.predictions, self.truth))

    def curve(self, policy: Policy, line: Threshold) -> Curve:
        """Measure a policy over one of its thresholds; where that one stands makes no difference."""
        self._require()
        fixed = held(policy, line)
        return self._heavy.get(
            ("curve", repr(fixed), line.name, line.index),
            lambda: sweep(
                fixed,
                self.predictions,
                self.truth,
                name=line.name,
                index=line.index,
                groups=self.groups,
            ),
        )

    def surface(self, policy: Policy, axes: tuple[Threshold, Threshold], levels: tuple[Floats, Floats]) -> Surface:
        """Measure a policy over two of its thresholds, at these levels of each."""
        self._require()
        fixed = held(policy, *axes)
        key = ("surface", repr(fixed), tuple((a.name, a.index) for a in axes), *(x.tobytes() for x in levels))
        return self._heavy.get(
            key,
            lambda: measure_surface(
                fixed, self.predictions, self.truth, axes=axes, first=levels[0], second=levels[1], groups=self.groups
            ),
        )

    def latencies(self, policy: Policy, line: Threshold, thresholds: Floats) -> Floats | None:
        """Return p50 and p95 of the latency, seconds, shape ``(2, n_thresholds)``; None where they are too many."""
        fixed = held(policy, line)
        return self._memo.get(
            ("latencies", repr(fixed), line.name, line.index, thresholds.tobytes()),
            lambda: latency_quantiles(
                fixed,
                self.predictions,
                self.truth,
                name=line.name,
                index=line.index,
                thresholds=thresholds,
                q=(0.5, 0.95),
            ),
        )

    def gauge(self, policy: Policy, line: Threshold) -> Floats:
        """Return what a threshold is compared with on every row."""
        return policy.gauge(self.predictions.select(policy.names), line.name, line.index)

    def baselines(self, policy: Policy, *, cheap: str, strong: str) -> Baselines:
        """Measure the policy's tiers alone, and the oracle between two of them."""
        return self._memo.get(
            ("baselines", policy.names, cheap, strong),
            lambda: baselines(self.predictions.select(policy.names), self.truth, cheap=cheap, strong=strong),
        )

    def gain(self, policy: Policy, other: Policy) -> PairedDifference:
        """Compare a policy with another one over tiers that are here, on the same rows: policy minus other."""
        self._require()

        def make() -> PairedDifference:
            cuts = chain_thresholds(policy)
            one = other.names[0] if len(other.tiers) == 1 else ""
            chain = self._chain(policy) if one in policy.names else None
            if chain is not None and cuts is not None:
                return chain_against_one(chain, cuts, policy.names.index(one), groups=self.groups)
            a, b = (replay(p, self.predictions) for p in (other, policy))
            return paired_difference(a, b, self.truth, groups=self.groups)

        return self._memo.get(("gain", repr(policy), repr(other)), make)

    def inspection(self, policy: Policy, *, cheap: str) -> Inspection:
        """Lay a policy's decisions beside the truth."""
        self._require()
        return self._heavy.get(
            ("inspection", repr(policy), cheap),
            lambda: inspect(self.outcomes(policy), self.predictions, self.truth, cheap=cheap),
        )

    def by_predicted_class(self, policy: Policy) -> list[PredictedClass]:
        """Measure the classes that a policy's first tier predicts."""
        found = self.inspection(policy, cheap=policy.own[0].name)
        return per_predicted_class(found, len(self.predictions.classes))

    def _require(self) -> None:
        if not len(self.truth):
            names = ", ".join(t.name for t in self.predictions.tiers)
            raise StudyError(
                f"None of the {self.n_side:,} rows here has an answer from all of {names}. Pick other tiers, add a "
                "file with their answers, split the rows again, or reset the class mix."
            )


def alone(tier: Tier) -> Policy:
    """Return the policy that takes one tier's answer for every row."""
    return Policy(Cascade(()), (tier,))


def in_mix(truth: Labels, key: NDArray[np.uint64], answered: Bools, share: Floats) -> tuple[Bools, int]:
    """Return the largest part of the answered rows whose classes are mixed as asked, and the class that limits it.

    Parameters
    ----------
    truth
        Class codes, shape ``(n_rows,)``.
    key
        A hash of each row's text: which rows are left out is as good as random, and always the same.
    answered
        Shape ``(n_rows,)``: the rows to choose from.
    share
        Of each class in production, shape ``(n_classes,)``.
    """
    counts = np.bincount(truth[answered], minlength=len(share))
    room = np.divide(counts, share, out=np.full(len(share), np.inf), where=share > 0)
    scarce = int(room.argmin())
    quota = np.floor(float(room[scarce]) * share + 1e-9).astype(np.intp)
    kept = np.zeros(len(truth), dtype=bool)
    order = np.argsort(key, kind="stable")
    for c in np.flatnonzero(quota):
        mine = order[answered[order] & (truth[order] == c)]
        kept[mine[: quota[c]]] = True
    return kept, scarce
