"""Tallies: sums that add up in any order."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from conftest import table, tiers_of
from hypothesis import given
from hypothesis import strategies as st

from hybrid.errors import TierError
from hybrid.metrics.flips import Chain
from hybrid.metrics.lattice import Lattice
from hybrid.metrics.tally import tally_by, total
from hybrid.routing.engine import Policy, replay
from hybrid.routing.patterns import Cascade, Triage

FINE = Lattice()


def many(n, k, seed=0):
    """Make up predictions of k tiers with rough confidences that mean something."""
    rng = np.random.default_rng(seed)
    confidence = np.round(rng.beta(2, 0.5, (n, k)), 4)
    truth = rng.integers(0, 3, n)
    label = np.where(rng.random((n, k)) < confidence, truth[:, None], rng.integers(-1, 3, (n, k)))
    tiers = tiers_of(k)
    made = table(tiers, [[(0, 0.5)] * k] * n)
    confidence = np.where(label < 0, 0.0, confidence)
    return replace(made, label=label, confidence=confidence, cost=np.round(rng.random((n, k)), 6)), truth


def tally_of(policy, predictions, truth, *, lattice=FINE):
    """Sum up a table of answers, all of them in one group."""
    chain = Chain.of(policy, predictions, truth)
    (all_rows,) = tally_by(np.zeros(len(truth), dtype=np.uint8), 1, chain, truth, lattice=lattice)
    return all_rows


@pytest.mark.parametrize("k", [2, 3, 4])
def test_a_tallied_cascade_is_replay_at_every_corner(k):
    predictions, truth = many(300, k)
    predictions.cost[:, 1] = 0.25  # the same in all rows is summed up by how many there are
    lattice = Lattice(octaves=2, parts=2)
    policy = Policy(Cascade((0.5,) * (k - 1)), predictions.tiers)
    sums = tally_of(policy, predictions, truth, lattice=lattice)
    correct, cost = sums.correct(), sums.cost_grid()
    for at in np.ndindex(correct.shape):
        there = replace(policy, pattern=Cascade(tuple(lattice.edges[i] for i in at)))
        outcomes = replay(there, predictions)
        assert correct[at] == (outcomes.label == truth).sum()
        assert cost[at] == pytest.approx(outcomes.cost.sum(), abs=1e-6)


def test_groups_of_rows_are_tallied_apart():
    predictions, truth = many(120, 3)
    policy, group = Policy(Cascade((0.5, 0.5)), predictions.tiers), np.arange(120, dtype=np.uint8) % 5
    chain = Chain.of(policy, predictions, truth)
    for k, apart in enumerate(tally_by(group, 5, chain, truth, lattice=FINE)):
        alone = tally_of(policy, predictions.take(group == k), truth[group == k])
        np.testing.assert_array_equal(apart.right, alone.right)
        for a, b in zip(apart.cost, alone.cost, strict=True):
            np.testing.assert_array_equal(a, b)


@given(st.lists(st.integers(1, 199), max_size=6), st.randoms())
def test_batches_add_up_to_the_same_bits_in_any_order(cuts, random):
    predictions, truth = many(200, 2)
    policy = Policy(Triage(0.5), predictions.tiers)
    whole = tally_of(policy, predictions, truth)
    edges = [0, *sorted(set(cuts)), 200]
    parts = [np.arange(a, b) for a, b in pairwise(edges)]
    random.shuffle(parts)
    summed = total([tally_of(policy, predictions.take(r), truth[r]) for r in parts])
    np.testing.assert_array_equal(summed.right, whole.right)
    for a, b in zip(summed.cost, whole.cost, strict=True):
        np.testing.assert_array_equal(a, b)


def test_tallies_of_other_tiers_do_not_add_up():
    predictions, truth = many(20, 3)
    three = tally_of(Policy(Cascade((0.5, 0.5)), predictions.tiers), predictions, truth)
    two = tally_of(Policy(Triage(0.5), predictions.tiers[:2]), predictions, truth)
    with pytest.raises(TierError, match="same tiers"):
        two + three
