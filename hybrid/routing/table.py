"""The one table that every pattern reads: what each tier said about each row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from hybrid.errors import TierError

UNKNOWN = -1  # the code of "no label": not asked, failed, or not one of the classes
NONE = -2  # the code of an answer that is known and is no class
NONE_LABEL = "none of these"  # what that answer is called
SCOPE = "scope"  # the kind of tier that tells how far a text is from anything seen
SCORING = ("gate", SCOPE)  # kinds of tiers that give a score and no label
# a threshold that keeps nothing, a confidence of 1 neither: one step of a slider above 1, "never" where it is written
NEVER = 1.001
TOP = 3  # likeliest answers that a person picks from
CHUNK = 1 << 14  # rows at a time: what is computed of them stays in the processor's cache

Labels = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Rows = NDArray[np.intp]


def likeliest(probabilities: Floats) -> Labels:
    """Return the codes of the likeliest classes, the likeliest first, shape ``(n_rows, TOP)`` or as many as there are.

    Examples
    --------
    >>> likeliest(np.array([[0.1, 0.2, 0.6, 0.1]])).tolist()
    [[2, 1, 0]]
    """
    return np.argsort(-probabilities, axis=1, kind="stable")[:, :TOP].astype(np.int64)


@dataclass(frozen=True, slots=True)
class Tier:
    """A model as the routing sees it.

    Parameters
    ----------
    name
        Unique among the tiers of a table, and what the user reads.
    kind
        ``rules``, ``classifier``, ``llm``, ``recorded``, ``whatif``, ``human``, ``gate`` or ``scope``.
    price
        List price in USD per answer; decides who is "cheap" in a cost-aware vote.
        What a row really cost stands in `Predictions.cost`.
    simulated
        True where the answers were made up from the truth; shown wherever the numbers appear.
    guards
        Of a gate: the tier whose rightness its score tells; empty where it tells of no tier in particular. It decides
        nothing: it says which gate stands before which tier when a router is put together.
    picks_from
        Of a person who is shown the likeliest answers of another tier and picks one: that tier, which has to be asked
        before.
    """

    name: str
    kind: str
    price: float = 0.0
    simulated: bool = False
    guards: str = field(default="", compare=False)
    picks_from: str = ""

    @property
    def scores(self) -> bool:
        """Whether its answers are scores without a label."""
        return self.kind in SCORING


@dataclass(frozen=True, slots=True)
class Answers:
    """What one tier said about some rows; all arrays of shape ``(n_rows,)``.

    A failed or out-of-vocabulary answer is label `UNKNOWN` with confidence 0: it still costs what it cost.
    """

    label: Labels  # class codes, UNKNOWN or NONE
    confidence: Floats  # in [0, 1]
    cost: Floats  # USD per row
    latency: Floats  # seconds per row

    def take(self, rows: Rows | Bools) -> Answers:
        """Return the answers of these rows only."""
        return Answers(self.label[rows], self.confidence[rows], self.cost[rows], self.latency[rows])


@dataclass(frozen=True, slots=True)
class Predictions:
    """Every tier's answer about every row; all arrays of shape ``(n_rows, n_tiers)``.

    Everything reads a tier's column, so columns lie in one piece in memory: a row of the transpose. Tables that are
    laid out otherwise mean the same and are read more slowly.

    A cell that was not asked has label `UNKNOWN` and `nan` everywhere else, so that any comparison
    with it is False and a condition on it simply waits.
    """

    tiers: tuple[Tier, ...]
    classes: tuple[str, ...]
    label: Labels
    confidence: Floats
    cost: Floats
    latency: Floats

    @classmethod
    def unasked(cls, tiers: Sequence[Tier], classes: Sequence[str], n_rows: int) -> Predictions:
        """Return a table in which nobody was asked anything yet."""
        shape = (n_rows, len(tiers))
        label = np.full(shape, UNKNOWN, dtype=np.int64, order="F")
        nan = [np.full(shape, np.nan, order="F") for _ in range(3)]
        return cls(tuple(tiers), tuple(classes), label, *nan)

    @classmethod
    def from_answers(cls, tiers: Sequence[Tier], classes: Sequence[str], answers: Sequence[Answers]) -> Predictions:
        """Put one column of answers per tier side by side."""
        columns = [
            np.stack([getattr(a, field) for a in answers]).T for field in ("label", "confidence", "cost", "latency")
        ]
        return cls(tuple(tiers), tuple(classes), *columns)

    @property
    def n_rows(self) -> int:
        return len(self.label)

    @property
    def asked(self) -> Bools:
        """Which cells hold an answer, shape ``(n_rows, n_tiers)``; a failed answer is an answer."""
        return ~np.isnan(self.confidence)

    def index(self, name: str) -> int:
        """Return the column of the tier with this name.

        Raises
        ------
        TierError
            If there is no such tier; the message lists those that there are.
        """
        names = [t.name for t in self.tiers]
        if name not in names:
            raise TierError(f"There is no tier called {name!r}. The tiers here are: {', '.join(names)}.")
        return names.index(name)

    def answers(self, tier: int) -> Answers:
        """Return one tier's column."""
        return Answers(self.label[:, tier], self.confidence[:, tier], self.cost[:, tier], self.latency[:, tier])

    def take(self, rows: Rows | Bools) -> Predictions:
        """Return the table of these rows only."""
        at = np.flatnonzero(rows) if rows.dtype == bool else rows
        return replace(
            self,
            label=self.label.T.take(at, axis=1).T,
            confidence=self.confidence.T.take(at, axis=1).T,
            cost=self.cost.T.take(at, axis=1).T,
            latency=self.latency.T.take(at, axis=1).T,
        )

    def select(self, names: Sequence[str]) -> Predictions:
        """Return the table of these tiers only, in this order."""
        columns = [self.index(name) for name in names]
        return Predictions(
            tuple(self.tiers[j] for j in columns),
            self.classes,
            self.label[:, columns],
            self.confidence[:, columns],
            self.cost[:, columns],
            self.latency[:, columns],
        )
