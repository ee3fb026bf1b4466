"""The what-if LLM: a simulation at an accuracy, price and latency that the user sets, always labelled so."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from hybrid.errors import TierError
from hybrid.routing.table import Answers, Floats, Labels, Tier

DECIMALS = 9
SPREAD = 8.0  # pseudo-counts of the Beta law of its confidences: smaller spreads them wider


@dataclass(frozen=True, slots=True)
class WhatIf:
    """A made-up model: right with the chance that its confidence says, whatever the text.

    Its confidences follow a Beta law with mean `accuracy`, and it is right exactly that often, so it is
    calibrated by construction. Its mistakes are independent of how hard a text is, which real models' are not:
    it answers "what would an LLM of this quality be worth", not "what will the LLM say".

    Parameters
    ----------
    accuracy
        Expected share of right answers, in [0, 1].
    price
        USD per answer.
    latency
        Seconds per answer.
    seed
        The same seed gives a text the same answer, whatever rows are around it; raising the accuracy only
        turns wrong answers right.

    Raises
    ------
    TierError
        If a number is out of range.
    """

    accuracy: float = 0.95
    price: float = 0.003
    latency: float = 0.6
    seed: int = 0
    name: str = "what-if LLM"

    def __post_init__(self) -> None:
        if not 0 <= self.accuracy <= 1:
            raise TierError(f"What-if accuracy {self.accuracy} must be in [0, 1]. Percentages? Divide by 100.")
        if not (self.price >= 0 and self.latency >= 0):
            raise TierError(f"What-if price {self.price} and latency {self.latency} must be 0 or more.")

    @property
    def tier(self) -> Tier:
        return Tier(self.name, "whatif", price=self.price, simulated=True)

    def answer(self, truth: Labels, key: NDArray[np.uint64], *, n_classes: int) -> Answers:
        """Make up answers.

        Parameters
        ----------
        truth
            Class codes, shape ``(n_rows,)``.
        key
            A stable hash of each row's text; decides the row's luck together with the seed.
        """
        likely, luck, other = (uniform(key, self.seed, stream) for stream in range(3))
        if 0 < self.accuracy < 1:
            sure = betaincinv(SPREAD * self.accuracy, SPREAD * (1 - self.accuracy), likely)
        else:
            sure = np.full(len(key), self.accuracy)
        wrong = (truth + 1 + (other * (n_classes - 1)).astype(np.int64)) % n_classes
        n = len(truth)
        return Answers(
            np.where(luck < sure, truth, wrong),
            np.round(sure, DECIMALS),
            np.full(n, self.price),
            np.full(n, self.latency),
        )


def uniform(key: NDArray[np.uint64], seed: int, stream: int) -> Floats:
    """Return a number in [0, 1) for each key: splitmix64 of key, seed and stream (Steele et al. 2014)."""
    golden = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        z = key ^ (np.uint64(seed % 2**64) * golden + np.uint64(stream + 1) * np.uint64(0xD1B54A32D192ED03))
        z = z + golden
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-53
