"""Labelling: which rows to label next, by what their labels would change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from hybrid.metrics.flips import known
from hybrid.metrics.intervals import LEVEL
from hybrid.routing.engine import Policy
from hybrid.routing.patterns import Triage
from hybrid.routing.table import UNKNOWN, Bools, Floats, Labels, Predictions, Rows
from hybrid.tuning.search import MIN_CLASS_ROWS

NEAR = 0.1  # of the tune rows: a confidence with fewer between it and a threshold is near it
BINS = 10  # of the confidence, in which it is counted how often only one tier is right
PRIOR = 5.0  # rows by which a bin is drawn to the mean of all


@dataclass(frozen=True, slots=True, eq=False)
class ToLabel:
    """Rows without a label, those first whose labels would change most.

    Parameters
    ----------
    rows
        Places among the unlabelled rows, ranked; shape ``(n,)``, as the others.
    apart
        Chance that exactly one of the policy's cheap and last tier is right: only such rows tell the tiers apart.
    near
        1 at a threshold of the policy, falling to 0 where a tenth of the tune rows lie between.
    rare
        How far the predicted class is from having enough rows for a threshold of its own, 0 to 1.
    differ
        Whether the two tiers gave different answers; False where the last one's is not known.
    label
        The cheap tier's answer.
    confidence
        What it says of it.
    seen
        Tune rows on which exactly one of the two is right.
    at_random
        The mean of `apart` over all unlabelled rows.
    """

    rows: Rows
    apart: Floats
    near: Floats
    rare: Floats
    differ: Bools
    label: Labels
    confidence: Floats
    seen: int
    at_random: float

    @property
    def gained(self) -> float:
        """Rows among these on which, as expected, exactly one tier is right."""
        return float(self.apart.sum())

    @property
    def widths(self) -> tuple[float, float, float]:
        """How well it is known which tier wins where only one is right: ± now, with these, with as many drawn blindly.

        Of the share that the last tier wins, were it one half.
        """
        more = (0.0, self.gained, self.at_random * len(self.rows))
        half = float(ndtri((1 + LEVEL) / 2)) / 2
        now, these, blind = (min(0.5, half / np.sqrt(max(self.seen + m, 1.0))) for m in more)
        return now, these, blind

    def why(self, i: int) -> str:
        """Say why a row is among these."""
        said = ["the tiers differ"] if self.differ[i] else []
        if self.near[i] > 0:
            said.append("near a threshold")
        if self.rare[i] > 0:
            said.append("a class with few rows")
        return ", ".join(said) or "one tier may be wrong"


def rows_to_label(
    policy: Policy, unlabelled: Predictions, tune: Predictions, truth: Labels, *, cheap: str, n: int = 50
) -> ToLabel:
    """Rank unlabelled rows by what their labels would change.

    What a label is worth is the chance that it tells the policy's tiers apart, counted on the tune rows by confidence
    and by whether the tiers differ; more where the row is near a threshold, whose place such rows decide; and something
    where the predicted class has too few rows for a threshold of its own.

    Parameters
    ----------
    unlabelled
        The policy's tiers; an answer that is not known is nan.
    tune, truth
        Labelled rows that all of these tiers answered.
    cheap
        The tier that the last one is set against.

    Notes
    -----
    Rows that were chosen are no draw from what comes in: they belong on the tune side, and a promise rests on it that
    the rows are a fair draw. On a row that both tiers answer alike neither can win: its label tells nothing of them.

    References
    ----------
    Settles 2009, Active Learning Literature Survey (uncertainty and disagreement sampling); Sawade, Landwehr & Scheffer
    2012, Active Comparison of Prediction Models.

    Examples
    --------
    >>> from hybrid.routing.patterns import Triage
    >>> from hybrid.routing.table import Tier
    >>> tiers = (Tier("classifier", "classifier"), Tier("llm", "recorded", price=0.003))
    >>> said, sure = np.array([[0, 0], [0, 1]] * 20), np.tile([0.5, 1.0], (40, 1))
    >>> tune = Predictions(tiers, ("a", "b"), said, sure, 0 * sure, 0 * sure)
    >>> found = rows_to_label(Policy(Triage(0.5), tiers), tune, tune, np.zeros(40, dtype=int), cheap="classifier", n=3)
    >>> found.rows.tolist(), found.why(0)
    ([1, 3, 5], 'the tiers differ, near a threshold, a class with few rows')
    """
    weak, strong = tune.index(cheap), tune.index(policy.names[-1])
    differ, known_strong = _differ(unlabelled, weak, strong)
    only_one = (tune.label[:, weak] == truth) != (tune.label[:, strong] == truth)
    apart = _chances(unlabelled.confidence[:, weak], differ, known_strong, tune, (weak, strong), only_one)
    near = _near(policy, unlabelled, tune)
    said = unlabelled.label[:, weak]
    have = np.bincount(tune.label[:, weak][tune.label[:, weak] >= 0], minlength=len(tune.classes) + 1)
    rare = np.where(said >= 0, np.maximum(0.0, 1 - have[said] / MIN_CLASS_ROWS), 0.0)
    value = apart * (1 + near) + 0.5 * float(apart.mean() if len(apart) else 0.0) * rare
    rows = np.argsort(-value, kind="stable")[:n]
    return ToLabel(
        rows,
        apart[rows],
        near[rows],
        rare[rows],
        differ[rows] & known_strong[rows],
        said[rows],
        unlabelled.confidence[rows, weak],
        int(only_one.sum()),
        float(apart.mean()) if len(apart) else 0.0,
    )


def _differ(table: Predictions, weak: int, strong: int) -> tuple[Bools, Bools]:
    """Return where two tiers' answers differ, and where both are known."""
    both = ~np.isnan(table.confidence[:, strong]) & (table.label[:, strong] != UNKNOWN)
    return table.label[:, weak] != table.label[:, strong], both


def _chances(
    confidence: Floats, differ: Bools, known_strong: Bools, tune: Predictions, tiers: tuple[int, int], only_one: Bools
) -> Floats:
    """Return how likely exactly one tier is right, as often as on tune rows of that confidence that differ alike."""
    weak, strong = tiers
    seen = tune.confidence[:, weak]
    ends = np.unique(np.quantile(seen, np.arange(1, BINS) / BINS)) if len(seen) else np.zeros(0)
    tune_bin, bin_of = np.searchsorted(ends, seen, side="right"), np.searchsorted(ends, confidence, side="right")
    mean = float(only_one.mean()) if len(only_one) else 0.0

    def share(rows: Bools, mean: float) -> Floats:
        counts, hits = (np.bincount(tune_bin[rows], w, minlength=len(ends) + 1) for w in (None, only_one[rows]))
        found: Floats = (hits + PRIOR * mean) / (counts + PRIOR)
        return found

    tune_differ = tune.label[:, weak] != tune.label[:, strong]
    apart = tune_differ.sum()
    where_they_differ = share(tune_differ, float(only_one[tune_differ].mean()) if apart else mean)
    chance = share(np.ones(len(seen), dtype=bool), mean)[bin_of]
    chance = np.where(known_strong, np.where(differ, where_they_differ[bin_of], 0.0), chance)
    return np.where(np.isnan(confidence), 0.0, chance)


def _near(policy: Policy, table: Predictions, tune: Predictions) -> Floats:
    """Return how near rows are to a threshold of the policy, by how many tune rows lie between."""
    found, first = np.zeros(table.n_rows), table.index(policy.own[0].name)
    for line in policy.thresholds():
        if line.value is None or not tune.n_rows:
            continue
        mine, seen = (policy.gauge(known(t.select(policy.names)), line.name, line.index) for t in (table, tune))
        triage = policy.pattern if isinstance(policy.pattern, Triage) else None
        limit = (
            line.value if triage is None else triage.threshold_of(table.label[:, first])
        )  # it may be the class's own
        seen = np.sort(seen)
        at, here = np.searchsorted(seen, limit), np.searchsorted(seen, mine)
        found = np.maximum(found, np.clip(1 - np.abs(here - at) / (NEAR * len(seen)), 0.0, 1.0))
    return found
