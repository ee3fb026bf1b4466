"""The lattice: exact at its edges, wherever a confidence lies."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.metrics.lattice import Lattice, locate
from hybrid.routing.table import NEVER

SIZES = (Lattice(), Lattice(2, 2), Lattice(1, 1), Lattice(30, 64), Lattice(40, 4))


def near(values):
    """Return values with their neighbours among the doubles, within [0, 1]."""
    around = np.concatenate([values, np.nextafter(values, 0), np.nextafter(values, 1)])
    return np.clip(around, 0, 1)


@pytest.mark.parametrize("lattice", SIZES)
def test_a_bin_is_what_lies_at_or_above_its_edge_to_the_last_bit(lattice):
    edges = lattice.edges
    assert len(edges) == lattice.n_bins
    assert (np.diff(edges) > 0).all()
    assert (edges[0], *edges[-2:]) == (0, 1, NEVER)
    values = np.concatenate([near(edges), near(np.arange(1001) / 1000), np.random.default_rng(0).random(1000)])
    expected = np.searchsorted(edges, values, side="right") - 1
    np.testing.assert_array_equal(lattice.bin(values), expected)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_any_confidence_is_binned_as_by_comparison(values):
    values = np.array(values)
    for lattice in SIZES:
        np.testing.assert_array_equal(lattice.bin(values), np.searchsorted(lattice.edges, values, side="right") - 1)


@pytest.mark.parametrize("edges", [np.arange(1001) / 1000, Lattice().edges, np.array([1.0]), np.arange(9) / 1e12])
def test_locating_is_searching(edges):
    rng = np.random.default_rng(0)
    values = np.concatenate([near(edges), 1 - rng.random(30_000) ** 5, rng.choice(edges, 1000)])
    np.testing.assert_array_equal(locate(edges, values), np.searchsorted(edges, values, side="right"))


def test_bins_near_1_are_narrower():
    widths = np.diff(Lattice().edges)
    assert widths[0] == 1 / 32
    assert widths[-2] == 2.0**-16


@pytest.mark.parametrize(("octaves", "parts"), [(16, 3), (16, 0), (0, 16), (41, 16)])
def test_an_impossible_lattice_is_refused(octaves, parts):
    with pytest.raises(ValueError, match="power of two"):
        Lattice(octaves, parts)
