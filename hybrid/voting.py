"""Voting: many tiers' answers about a row → one, the same for every pattern that votes."""

from __future__ import annotations

import numpy as np

from hybrid.lattice import CHUNK
from hybrid.predictions import UNKNOWN, Bools, Floats, Labels, Predictions, Rows
from hybrid.routing import Verdict

STRATEGIES = ("majority", "confidence_weighted", "cost_aware")


def vote(seen: Predictions, members: slice, strategy: str, cheap_below: float) -> Verdict:
    """Return the members' joint answer on every row.

    Ties go to the label with the higher summed confidence, then to the one that the cheaper (earlier) tier
    gave. A member that does not know abstains. The confidence of the result is the winning label's summed
    confidence over the number of members; its tier is the first member that gave the label.

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
    said, tier, support = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.intp), np.empty(n)
    for start in range(0, n, CHUNK):  # a part at a time, which stays in the processor's cache
        rows = slice(start, start + CHUNK)
        label = np.ascontiguousarray(seen.label[rows, members].T)
        sure = np.nan_to_num(seen.confidence[rows, members].T)
        said[rows], tier[rows], support[rows] = _vote(label, sure, strategy, dear)
    return Verdict(said, tier + (members.start or 0), np.minimum(support / size, 1.0))


def _vote(label: Labels, sure: Floats, strategy: str, dear: Bools) -> tuple[Labels, Rows, Floats]:
    """Return the winning label, the first member that gave it and its summed confidence.

    `label` and `sure` are of shape ``(n_members, n_rows)``.
    """
    known = label != UNKNOWN
    confidence = np.where(known, sure, 0.0)
    voting = known
    if strategy == "cost_aware":
        known_and_dear = dear[:, None] & known
        voting = np.where(known_and_dear.any(axis=0), known_and_dear, known)
    weight = confidence if strategy == "confidence_weighted" else voting.astype(float)
    counted = np.where(voting, confidence, 0.0)

    # of the label that member j gave: votes, and summed confidence of those that vote; always added up from the first
    # member to the last, so that members that gave one label agree on it to the last bit
    tally, support = np.zeros(label.shape), np.zeros(label.shape)
    for j in range(len(label)):
        for other in range(len(label)):
            same = voting[other] if other == j else (label[other] == label[j]) & voting[other]
            tally[j] += weight[other] * same
            support[j] += counted[other] * same
    winner = _first_best(np.where(voting, tally, -1.0), support)
    chosen = np.take_along_axis(label, winner[None, :], axis=0)[0]
    gave = label == chosen
    return chosen, gave.argmax(axis=0), np.where(gave, confidence, 0.0).sum(axis=0)


def agreement(seen: Predictions, members: slice, winner: Verdict) -> Floats:
    """Return the share of the members that gave the winning label, shape ``(n_rows,)``; 0 where nobody knew."""
    agree: Bools = (seen.label[:, members] == winner.label[:, None]) & (winner.label[:, None] != UNKNOWN)
    share: Floats = agree.mean(axis=1)
    return share


def _first_best(tally: Floats, support: Floats) -> Rows:
    """Return the first line with the highest tally and, among those, the highest support."""
    best = tally == tally.max(axis=0)
    first: Rows = np.argmax(np.where(best, support, -1.0), axis=0)  # argmax takes the first of equals
    return first
