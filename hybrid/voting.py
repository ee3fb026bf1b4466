"""Voting: many tiers' answers about a row → one, the same for every pattern that votes."""

from __future__ import annotations

import numpy as np

from hybrid.predictions import UNKNOWN, Bools, Floats, Predictions, Rows
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
    label = seen.label[:, members]
    confidence = np.where(label == UNKNOWN, 0.0, np.nan_to_num(seen.confidence[:, members]))
    known = label != UNKNOWN
    weight = confidence if strategy == "confidence_weighted" else known.astype(float)
    if strategy == "cost_aware":
        dear = np.array([t.price >= cheap_below for t in seen.tiers[members]]) & known
        known = np.where(dear.any(axis=1, keepdims=True), dear, known)
        weight = known.astype(float)

    tally, support = np.zeros(label.shape), np.zeros(label.shape)  # of the label that member j gave
    for j in range(label.shape[1]):
        for other in range(label.shape[1]):
            same = (label[:, other] == label[:, j]) & known[:, other]
            tally[:, j] += np.where(same, weight[:, other], 0.0)
            support[:, j] += np.where(same, confidence[:, other], 0.0)
    winner = _first_best(np.where(known, tally, -1.0), support)
    rows = np.arange(len(label))
    summed = np.where(label == label[rows, winner][:, None], confidence, 0.0).sum(axis=1)
    first = np.argmax(label == label[rows, winner][:, None], axis=1)
    return Verdict(label[rows, winner], first + (members.start or 0), np.minimum(summed / label.shape[1], 1.0))


def agreement(seen: Predictions, members: slice, winner: Verdict) -> Floats:
    """Return the share of the members that gave the winning label, shape ``(n_rows,)``; 0 where nobody knew."""
    agree: Bools = (seen.label[:, members] == winner.label[:, None]) & (winner.label[:, None] != UNKNOWN)
    share: Floats = agree.mean(axis=1)
    return share


def _first_best(tally: Floats, support: Floats) -> Rows:
    """Return the first column with the highest tally and, among those, the highest support."""
    best = tally == tally.max(axis=1, keepdims=True)
    first: Rows = np.argmax(np.where(best, support, -1.0), axis=1)  # argmax takes the first of equals
    return first
