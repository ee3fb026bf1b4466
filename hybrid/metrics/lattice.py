"""Lattice: confidences → a few hundred bins, fine near 1, exact at their edges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hybrid.routing.table import CHUNK, NEVER, Floats

_MANTISSA = 52  # bits of a double after the point


@dataclass(frozen=True, slots=True)
class Lattice:
    """Bins whose width halves with every halving of the distance to 1, where confidences crowd.

    Each octave ``(2^-(k+1), 2^-k]`` of the distance ``1 - confidence`` is cut into `parts` bins of equal width; after
    `octaves` of them one bin holds what is closer, and one more holds exactly 1. Every edge is a sum of two powers of
    two, so no rounding moves a confidence across one: ``confidence >= edges[b]`` is ``bin(confidence) >= b``. Above
    them is `NEVER`, whose bin is empty.

    Parameters
    ----------
    octaves, parts
        How many; `parts` is a power of two, `octaves` at most 40.

    Examples
    --------
    >>> Lattice(octaves=2, parts=2).edges.tolist()
    [0.0, 0.25, 0.5, 0.625, 0.75, 1.0, 1.001]
    >>> Lattice(octaves=2, parts=2).bin(np.array([0.3, 0.5, 0.9, 1.0])).tolist()
    [1, 2, 4, 5]
    """

    octaves: int = 16
    parts: int = 16

    def __post_init__(self) -> None:
        if self.parts < 1 or self.parts & (self.parts - 1) or not 1 <= self.octaves <= 40:
            raise ValueError("parts is a power of two, and there are 1 to 40 octaves")

    @property
    def n_bins(self) -> int:
        return self.octaves * self.parts + 3

    @property
    def edges(self) -> Floats:
        """The least confidence of each bin, ascending from 0 to 1, and `NEVER`; shape ``(n_bins,)``."""
        octave, part = np.divmod(np.arange(self.octaves * self.parts), self.parts)
        distance = np.ldexp(1.0, -octave - 1) * (2 - part / self.parts)
        return np.concatenate([1 - distance, [1 - np.ldexp(1.0, -self.octaves), 1.0, NEVER]])

    def bin(self, confidence: Floats) -> NDArray[np.int16]:
        """Return the bin of each confidence in [0, 1], shape as given."""
        out = np.empty(len(confidence), dtype=np.int16)
        for start in range(0, len(confidence), CHUNK):
            out[start : start + CHUNK] = self._bin(np.ascontiguousarray(confidence[start : start + CHUNK]))
        return out

    def _bin(self, confidence: Floats) -> NDArray[np.int32]:
        # Nine bits less move no confidence below an edge, and what is left has an exact distance wherever edges lie.
        bits = confidence.view(np.int64) & -512
        distance = bits.view(np.float64)
        np.subtract(1.0, distance, out=distance)
        bits -= 1  # bins are closed where the distance is greatest
        at = bits.view(np.int32)[1::2] >> _MANTISSA - 32 - self.parts.bit_length() + 1  # of the high halves
        is_one = at < 0
        np.subtract(1023 * self.parts - 1, at, out=at)
        np.minimum(at, self.octaves * self.parts, out=at)
        at += is_one
        return at


_FINE = Lattice(octaves=30, parts=256)  # cells in which few edges lie
_FINE_EDGES = _FINE.edges


def locate(edges: Floats, values: Floats) -> NDArray[np.int32]:
    """Return ``np.searchsorted(edges, values, side="right")`` for values in [0, 1], several times faster.

    A table over fine bins tells where to start; what is left is a comparison or two.

    Parameters
    ----------
    edges
        Ascending, in [0, 1], or above.
    """
    cell = _FINE.bin(np.minimum(edges, 1))  # what is above 1 is above all values
    on = cell[edges == _FINE_EDGES[cell]]  # these are at or below all values of their cell
    n_edges, n_on = (np.bincount(x, minlength=_FINE.n_bins) for x in (cell, on))
    starts = np.cumsum(n_edges) - n_edges + n_on
    most = int((n_edges - n_on).max())
    if most > 8 or len(values) < len(starts):
        return np.searchsorted(edges, values, side="right").astype(np.int32)
    padded = np.append(edges, np.inf)
    starts = starts.astype(np.int32)
    at = np.empty(len(values), dtype=np.int32)
    for start in range(0, len(values), CHUNK):
        part = np.ascontiguousarray(values[start : start + CHUNK])
        found = starts[_FINE._bin(part)]
        for _ in range(most):
            found += padded[found] <= part
        at[start : start + CHUNK] = found
    return at
