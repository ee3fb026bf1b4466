"""Voting: many tiers' answers about a row → one, the same for every pattern that votes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hybrid.routing.engine import Verdict, param
from hybrid.routing.table import CHUNK, UNKNOWN, Bools, Floats, Labels, Predictions, Tier

_T = TypeVar("_T", bound=np.generic)
STRATEGIES = ("majority", "confidence_weighted", "cost_aware")
CHEAP_BELOW = 0.001  # USD per answer, unless set otherwise


def cheap_below_param() -> Any:
    """Declare the price that divides cheap members from dear ones."""
    return param(
        CHEAP_BELOW,
        label="A member is cheap below",
        help="Price per answer in USD below which a member counts as cheap in the cost-aware vote.",
        low=0.0,
        high=1.0,
        unit="USD",
    )


def vote(seen: Predictions, members: slice, strategy: str, cheap_below: float) -> Verdict:
    """Return the members' joint answer on every row.

    Ties go to the label with the higher summed confidence, to nine decimals, then to the one that the cheaper
    (earlier) tier gave. A member that does not know abstains. The confidence of the result is the winning label's
    summed confidence over the number of members; its tier is the first member that gave the label.

    Parameters
    ----------
    members
        The columns that vote.
    strategy
        ``majority``: one member, one vote. ``confidence_weighted``: votes count by confidence.
        ``cost_aware``: members whose `Tier.price` is below `cheap_below` are cheap, the others dear;
        the dear members' majority wins, the cheap ones' where no dear member knows an answer.
    """
    dear = np.array([t.price >= cheap_below for t in seen.tiers[members]])
    n, size = len(seen.label), len(dear)
    said, tier, sure = np.empty((3, n), dtype=np.int64)
    support = sure.view(np.float64)
    for start in range(0, n, CHUNK):  # a part at a time, which stays in the processor's cache
        rows = slice(start, start + CHUNK)
        label, confidence = _lines(seen.label[rows, members]), _lines(seen.confidence[rows, members])
        known = label != UNKNOWN
        if not known.all():
            confidence = np.where(known, confidence, 0.0)
        voting = known
        if strategy == "cost_aware":
            known_and_dear = dear[:, None] & known
            voting = np.where(known_and_dear.any(axis=0), known_and_dear, known)
        if strategy == "confidence_weighted":
            winner = np.where(voting, _support(label, confidence), -1.0).argmax(axis=0)
        else:
            winner = _majority(label, confidence, voting)
        chosen = said[rows]
        chosen[...] = label[0]
        for j in range(1, size):
            np.copyto(chosen, label[j], where=winner == j)
        gave = label == chosen
        tier[rows] = _first(gave.view(np.int8))
        tier[rows] += members.start or 0
        _sum_where(gave, confidence, out=support[rows])
        support[rows] /= size
        np.minimum(support[rows], 1.0, out=support[rows])
    return Verdict(said, tier, support)


def _lines(columns: NDArray[_T]) -> NDArray[_T]:
    """Return the transpose, each line in one piece: mostly so already."""
    lines = columns.T
    return lines if lines.strides[1] == lines.itemsize else np.ascontiguousarray(lines)


def _majority(label: Labels, confidence: Floats, voting: Bools) -> NDArray[np.int16]:
    """Return a member that gave the label with most votes and, of those, the highest confidence of those that vote.

    Of several labels that are equal in both, the one that the first of the members gave that vote. All arrays are of
    shape ``(n_members, n_rows)``.
    """
    vote = voting.view(np.int8)
    votes = vote.copy()
    for j, other in combinations(range(len(label)), 2):
        same = (label[j] == label[other]).view(np.int8)
        votes[j] += same & vote[other]
        votes[other] += same & vote[j]
    winner = _first(votes)
    most = votes.max(axis=0)
    best = (votes == most) & voting
    # those that vote for a label are as many as its votes: if more have most votes, they gave several labels
    tied = np.flatnonzero(best.sum(axis=0, dtype=np.int8) > most)
    if len(tied):
        support = _support(label[:, tied], np.where(voting[:, tied], confidence[:, tied], 0.0))
        winner[tied] = np.where(best[:, tied], support, -1.0).argmax(axis=0)  # the first of equals
    return winner


def _first(values: NDArray[np.int8]) -> NDArray[np.int16]:
    """Return the first of the members with the highest value, shape ``(n_rows,)``."""
    # as one number: the value, then the members from last to first
    best: NDArray[np.int16] = (values[0].astype(np.int16) << 8) + 255
    for j, own in enumerate(values[1:], start=1):
        np.maximum(best, (own.astype(np.int16) << 8) + (255 - j), out=best)
    best &= 255
    np.subtract(255, best, out=best)
    return best


def _support(label: Labels, confidence: Floats) -> Floats:
    """Return the summed confidence of all that gave a member's label, in billionths, shape ``(n_members, n_rows)``.

    Whole numbers, as confidences have nine decimals: else the last bit of a sum would decide between .7 + .1 and .8.
    """
    support = np.empty(label.shape)
    for one, out in zip(label, support, strict=True):
        _sum_where(label == one, confidence, out=out)
        out *= 1e9
        np.rint(out, out=out)
    return support


def _sum_where(which: Bools, values: Floats, *, out: Floats) -> None:
    """Write the sum of some values over the members, shape ``(n_rows,)``, from the first to the last."""
    mask = np.negative(which.view(np.int8)).astype(np.int64)  # all bits, or none
    mask &= values.view(np.int64)
    mask.view(np.float64).sum(axis=0, out=out)


def strategies_for(members: Sequence[Tier], cheap_below: float) -> tuple[str, ...]:
    """Return the strategies that can give different answers for these members.

    Two members' majority is the more confident one, so weighing says the same; and the cost-aware vote takes both cheap
    and dear ones.
    """
    dear = sum(t.price >= cheap_below for t in members)
    found = STRATEGIES[1:2] if len(members) == 2 else STRATEGIES[:2]
    return (*found, STRATEGIES[2]) if 0 < dear < len(members) else found


def agreement(seen: Predictions, members: slice, winner: Verdict) -> Floats:
    """Return the share of the members that gave the winning label, shape ``(n_rows,)``; 0 where nobody knew."""
    agree: Bools = (seen.label[:, members] == winner.label[:, None]) & (winner.label[:, None] != UNKNOWN)
    share: Floats = agree.mean(axis=1)
    return share
