"""Tallied: curves, surfaces and bootstrap bands from a tally, at a cost that does not grow with the rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybrid.errors import TierError
from hybrid.metrics.curve import Curve, Surface
from hybrid.metrics.flips import Chain, chain_thresholds, require_rows
from hybrid.metrics.lattice import Lattice
from hybrid.metrics.tally import Tally, below, tally
from hybrid.routing.engine import Policy
from hybrid.routing.table import Floats, Labels, Predictions

LATTICE = Lattice()
LEVEL = 0.95


def tally_of(
    policy: Policy, predictions: Predictions, truth: Labels, *, lattice: Lattice = LATTICE, classes: bool = False
) -> Tally:
    """Sum up a table of answers for a triage or a cascade.

    Parameters
    ----------
    predictions, truth
        Rows that every tier of the policy has answered.
    classes
        Whether to count classes too, for the macro-F1 of a triage.

    Raises
    ------
    TierError
        If the pattern is another one, there is no row, or an answer is missing or out of range.
    """
    require_rows(truth)
    if chain_thresholds(policy.pattern) is None:
        raise TierError(f"{policy.pattern.title} cannot be tallied: triage and cascades can. Use `sweep`.")
    chain = Chain.of(policy, predictions, truth)
    if chain is None:
        raise TierError(
            "An answer is missing or out of range: tally the rows that every tier of the policy has answered, with "
            "confidences in [0, 1] and costs and latencies of 0 or more."
        )
    n_classes = max(len(predictions.classes), int(truth.max()) + 1) if classes else None
    return tally(chain, truth, lattice=lattice, n_classes=n_classes)


def curve(sums: Tally) -> Curve:
    """Return the curve over the threshold of a triage, at the edges of the lattice, where it is exact.

    Between two edges it is off by no more than `Tally.slack` of the bin.
    """
    _require(sums, 2)
    n = sums.n_rows
    escalated = sums.reached(1)
    return Curve(
        sums.lattice.edges,
        sums.correct() / n,
        escalated / n,
        1000 * sums.cost_grid() / n,
        sums.latency_grid() / n,
        1 - escalated / n,
        n,
    )


def surface(sums: Tally) -> Surface:
    """Return the metrics of a cascade of three tiers at all pairs of edges, where they are exact."""
    _require(sums, 3)
    n, edges = sums.n_rows, sums.lattice.edges
    return Surface(
        edges,
        edges,
        sums.correct().T / n,
        sums.reached(2).T / n,
        1000 * sums.cost_grid().T / n,
        n,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Bands:
    """Bootstrap intervals at every edge, shape ``(2, n_bins)`` each: low and high."""

    accuracy: Floats
    escalation_rate: Floats


def resample(sums: Tally, *, replicates: int = 2_000, seed: int = 0) -> tuple[Floats, Floats]:
    """Draw whole curves of a triage as if its rows were drawn again with replacement.

    Returns
    -------
    accuracy, escalation_rate
        At every edge, shape ``(replicates, n_bins)``.

    Notes
    -----
    Drawing n rows with replacement is one multinomial draw over the cells (bin, which tiers are right), with the
    cells' shares as probabilities; all that the curve reads of a row is its cell. So this follows the law of the row
    bootstrap exactly, at a cost that depends on the cells alone.

    References
    ----------
    Efron 1979, Bootstrap Methods: Another Look at the Jackknife.
    """
    _require(sums, 2)
    n = sums.n_rows
    filled = np.flatnonzero(sums.right)
    draws = np.zeros((replicates, sums.right.size), dtype=np.int64)
    draws[:, filled] = np.random.default_rng(seed).multinomial(n, sums.right.ravel()[filled] / n, size=replicates)
    cells = draws.reshape(replicates, *sums.right.shape)
    first = cells[:, 0b01] + cells[:, 0b11]
    gained = cells[:, 0b10] - cells[:, 0b01]
    accuracy = (first.sum(axis=1, keepdims=True) + below(gained, axes=(1,))) / n
    return accuracy, below(cells.sum(axis=1), axes=(1,)) / n


def bands(sums: Tally, *, replicates: int = 2_000, seed: int = 0) -> Bands:
    """Return bootstrap intervals, 95 % at each edge."""
    ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    accuracy, escalation = resample(sums, replicates=replicates, seed=seed)
    return Bands(np.quantile(accuracy, ends, axis=0), np.quantile(escalation, ends, axis=0))


def _require(sums: Tally, n_tiers: int) -> None:
    if sums.n_tiers != n_tiers:
        raise TierError(f"This takes a tally of {n_tiers} tiers, not of {sums.n_tiers}.")
