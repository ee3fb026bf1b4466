"""Terms: what the user assumes about production instead of what the data say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from hybrid.errors import StudyError
from hybrid.tiers.human import Assist, Human
from hybrid.tiers.whatif import WhatIf

Pairs = tuple[tuple[str, float], ...]
OWN, LEARNED = "own", "learned"


@dataclass(frozen=True, slots=True)
class Terms:
    """Prices, latencies, class mix, volume, and the tiers that nobody has asked yet.

    Parameters
    ----------
    prices, seconds
        Mean USD, and latency in seconds, per answer: (tier, value) pairs. What rows cost is scaled to it.
    mix
        Share of each class in production: (class, share) pairs; empty: as in the data.
    human
        The person who may be the last tier; None, nobody is there. Simulated.
    whatif
        A simulated LLM; None, there is none.
    volume
        Texts per month.
    wrong_cost
        USD that a wrong answer costs.
    order
        Tiers from cheap to dear as the user has put them; those that are not named stand by their price.
    confidence
        Whose confidence counts: (tier, "own" or "learned") pairs; of a tier that is not named, the better one.
    out_of_scope
        The class whose texts are out of scope; empty, there is none; None, the one whose name says so.
    assist
        How the person picks from a tier's three likeliest answers; None, nobody is shown any. Simulated; counts only
        where there is a person.

    Raises
    ------
    StudyError
        If a number makes no sense.

    Examples
    --------
    >>> terms = Terms(prices=(("llm", 0.003),), volume=20_000)
    >>> Terms.from_plain(terms.plain()) == terms
    True
    """

    prices: Pairs = ()
    seconds: Pairs = ()
    mix: Pairs = ()
    human: Human | None = None
    whatif: WhatIf | None = None
    volume: int = 100_000
    wrong_cost: float = 0.0
    order: tuple[str, ...] = ()
    confidence: tuple[tuple[str, str], ...] = ()
    out_of_scope: str | None = None
    assist: Assist | None = None

    def __post_init__(self) -> None:
        for what, pairs in (("price", self.prices), ("latency", self.seconds), ("share", self.mix)):
            for name, value in pairs:
                if not (np.isfinite(value) and value >= 0):
                    raise StudyError(f"The {what} of {name} is {value}: must be 0 or more.")
        for name, whose in self.confidence:
            if whose not in (OWN, LEARNED):
                raise StudyError(f"The confidence of {name} is {whose!r}: it is {OWN!r} or {LEARNED!r}.")
        if self.volume < 0 or not (np.isfinite(self.wrong_cost) and self.wrong_cost >= 0):
            raise StudyError(
                f"{self.volume} texts a month and USD {self.wrong_cost} a wrong answer: both must be 0 or more."
            )
        if self.mix and not sum(value for _, value in self.mix) > 0:
            raise StudyError("Every class has the share 0 in the mix of production: give at least one a weight.")

    @property
    def routing(self) -> Terms:
        """Return what decides about rows and their prices: without the volume and the cost of mistakes."""
        return replace(self, volume=0, wrong_cost=0.0)

    def month(self, cost_per_1000: float) -> float:
        """Return USD per month of a cost in USD per 1,000 texts."""
        return cost_per_1000 / 1000 * self.volume

    def with_mistakes(self, accuracy: float, cost_per_1000: float) -> float:
        """Return USD per month, wrong answers included."""
        return self.volume * (cost_per_1000 / 1000 + (1 - accuracy) * self.wrong_cost)

    def plain(self) -> dict[str, Any]:
        """Return the terms as JSON values; what is as it starts is left out."""
        start = asdict(Terms())
        return {k: v for k, v in asdict(self).items() if v != start[k]}

    @classmethod
    def from_plain(cls, stored: Mapping[str, Any]) -> Terms:
        """Return the terms that `plain` wrote.

        Raises
        ------
        StudyError
            If something in it is not known or not possible here.
        """
        try:
            found = dict(stored)
            for name in ("prices", "seconds", "mix"):
                if name in found:
                    found[name] = tuple((str(k), float(v)) for k, v in found[name])
            if "order" in found:
                found["order"] = tuple(str(name) for name in found["order"])
            if "confidence" in found:
                found["confidence"] = tuple((str(k), str(v)) for k, v in found["confidence"])
            for name, kind in (("human", Human), ("whatif", WhatIf), ("assist", Assist)):
                if found.get(name) is not None:
                    found[name] = kind(**found[name])
            return cls(**found)
        except (TypeError, ValueError) as error:
            raise StudyError(f"The stored terms cannot be read: {error}.") from error
