"""Promises: simulate labelled sets from worlds whose truth is known, and count how often a promise breaks.

    python tests/benchmarks/promises.py [RUNS]

A world is a table over (predicted class, confidence): how likely it is, and how likely the answer is right. So the risk
of any thresholds is a sum, not an estimate. The suite runs the same functions with fewer runs.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from unittest.mock import patch

import numpy as np
from scipy.stats import binom

from hybrid.metrics.confidence import reliability
from hybrid.metrics.drift import difference_of_shares
from hybrid.metrics.ranking import gap_intervals, macro_f1_interval, risk_coverage, routing_gain
from hybrid.metrics.summary import mean_interval, paired_difference, share, share_of
from hybrid.routing.engine import Policy, replay
from hybrid.routing.patterns import Cascade, Triage
from hybrid.routing.table import Predictions, Tier
from hybrid.tuning import Goal, Labelled, certify, certify_by_class, per_class_thresholds
from hybrid.tuning.search import search, search_by_class
from hybrid.tuning.walks import Walks

CHEAP, MIDDLE, STRONG = Tier("cheap", "classifier"), Tier("middle", "recorded", 0.001), Tier("strong", "recorded", 0.01)
TRIAGE, CASCADE = Policy(Triage(), (CHEAP, STRONG)), Policy(Cascade((0.5, 0.5)), (CHEAP, MIDDLE, STRONG))


@dataclass(frozen=True)
class World:
    """Cells of (class, confidence) with their probability and their chance to be right; the strong tier's accuracy."""

    confidence: np.ndarray  # (n_cells,)
    mass: np.ndarray  # (n_classes, n_cells), sums to 1
    right: np.ndarray  # (n_classes, n_cells)
    strong: float

    def draw(self, n, rng):
        """Draw n labelled rows of a triage, or of a cascade whose middle tier is another draw of the same world."""
        k = len(self.mass)
        columns, confidences = [], []
        cell = rng.choice(self.mass.size, n, p=self.mass.ravel())
        predicted = cell // len(self.confidence)
        truth = np.where(rng.random(n) < self.right.ravel()[cell], predicted, (predicted + rng.integers(1, k, n)) % k)
        columns.append(predicted)
        confidences.append(self.confidence[cell % len(self.confidence)])
        cell = rng.choice(self.mass.size, n, p=self.mass.ravel())
        hit = rng.random(n) < 1 - (1 - self.right.ravel()[cell]) / 2  # half as often wrong
        columns.append(np.where(hit, truth, (truth + 1) % k))
        confidences.append(self.confidence[cell % len(self.confidence)])
        columns.append(np.where(rng.random(n) < self.strong, truth, (truth + 1) % k))
        confidences.append(np.ones(n))
        tiers = (CHEAP, MIDDLE, STRONG)
        cost = np.tile([t.price for t in tiers], (n, 1))
        names = tuple(f"c{i}" for i in range(k))
        return Predictions(tiers, names, np.column_stack(columns), np.column_stack(confidences), cost, cost * 0), truth

    def kept(self, pattern):
        """Return which cells triage keeps, shape (n_classes, n_cells)."""
        limits = pattern.threshold_of(np.arange(len(self.mass)))
        return self.confidence[None, :] >= limits[:, None]

    def selective_risk(self, pattern, classes=slice(None)):
        kept = self.kept(pattern)[classes]
        mass = (self.mass[classes] * kept).sum()
        return ((self.mass * (1 - self.right))[classes] * kept).sum() / mass if mass > 0 else 0.0

    def system_risk(self, pattern):
        kept = self.kept(pattern)
        return (self.mass * np.where(kept, 1 - self.right, 1 - self.strong)).sum()

    def cascade_risk(self, pattern, *, of_all):
        """Return the risk of a cascade's answers, or of those that its last tier does not give."""
        mass, wrong = self.mass.sum(axis=0), (self.mass * (1 - self.right)).sum(axis=0)
        first, second = (self.confidence >= t for t in pattern.thresholds)
        kept, wrong_kept = mass[first].sum(), wrong[first].sum()
        then = (1 - kept) * mass[second].sum()
        wrong_then = (1 - kept) * wrong[second].sum() / 2
        if of_all:
            return wrong_kept + wrong_then + (1 - kept - then) * (1 - self.strong)
        return (wrong_kept + wrong_then) / (kept + then) if kept + then > 0 else 0.0


def world(*, n_classes=2, ties=False, bias=0.0, strong=0.93, seed=0):
    """Make a world: confidences crowd near 1; `bias` makes them claim more than is true."""
    rng = np.random.default_rng(seed)
    confidence = np.arange(1, 20) / 20 if ties else (np.arange(4000) + 0.5) / 4000
    shape = confidence**3 * (1 - confidence) ** 0.2 + 0.05
    tilt = rng.uniform(0.5, 2.0, (n_classes, 1))
    mass = np.tile(shape, (n_classes, 1)) * rng.uniform(0.5, 2.0, (n_classes, 1))
    right = np.clip(confidence[None, :] ** tilt - bias, 0, 1)
    return World(confidence, mass / mass.sum(), right, strong)


@patch.object(Walks, "rows_needed", lambda *_, **__: None)  # it takes longer than the walk, and is tried elsewhere
def promises(kind, world_, n, *, alpha, delta, runs, seed=0):
    """Return how often a certificate was given, and how often it was broken, in `runs` labelled sets.

    Parameters
    ----------
    kind
        ``selective``, ``system``, ``by_class``, ``cascade_selective`` or ``cascade_system``.
    """
    rng = np.random.default_rng(seed)
    given = broken = 0
    for _ in range(runs):
        predictions, truth = world_.draw(n, rng)
        if kind == "by_class":
            found = certify_by_class(TRIAGE, predictions, truth, alpha=alpha, delta=delta, min_rows=30)
        else:
            policy = CASCADE if kind.startswith("cascade") else TRIAGE
            found = certify(policy, predictions, truth, alpha=alpha, delta=delta, risk=kind.split("_")[-1])
        if found.policy is None:
            continue
        given += 1
        pattern = found.policy.pattern
        if kind == "by_class":
            sure = [i for i, name in enumerate(predictions.classes) if name in {p.name for p in found.parts}]
            broken += any(world_.selective_risk(pattern, [i]) > alpha for i in sure)
        elif kind.startswith("cascade"):
            broken += world_.cascade_risk(pattern, of_all=kind.endswith("system")) > alpha
        elif kind == "system":
            broken += world_.system_risk(pattern) > alpha
        else:
            broken += world_.selective_risk(pattern) > alpha
    return given, broken


def point_estimates(world_, n, *, alpha, runs, by_class, seed=0):
    """Return how often the cheapest policy with accuracy ≥ 1 − α on tune misses it in truth."""
    rng = np.random.default_rng(seed)
    find = search_by_class if by_class else search
    goal = Goal("cheapest", floor=1 - alpha)
    broken = 0
    for _ in range(runs):
        predictions, truth = world_.draw(n, rng)
        pattern = find(TRIAGE, predictions, truth, goal).policy.pattern
        broken += world_.system_risk(pattern) > alpha
    return broken


@dataclass
class Held:
    """How often an interval held the truth: as it is, and were it 20 % narrower."""

    runs: int = 0
    held: int = 0
    held_narrower: int = 0

    def count(self, i, truth):
        self.runs += 1
        for name, keep in (("held", 1.0), ("held_narrower", 0.8)):
            low, high = (i.value + keep * (end - i.value) for end in (i.low, i.high))
            setattr(self, name, getattr(self, name) + bool(low - 1e-12 <= truth <= high + 1e-12))


QUICK = ("accuracy", "escalation", "selective accuracy", "cost", "difference", "cost difference", "Brier", "drift")
SLOW = ("macro-F1", "ECE", "AURC", "E-AURC", "PGR", "APGR")
GAINS = ("gain per class", "gain of Suggest")  # of what was chosen on tune, measured on test


def coverage(world_, n, *, runs, names=(*QUICK, *SLOW, *GAINS), seed=0):
    """Return for each 95 % interval how often it holds the truth of the world."""
    rng = np.random.default_rng(seed)
    cheap, other = TRIAGE, replace(TRIAGE, pattern=Triage(0.7))
    truths = _truths(world_, cheap, other, f1="macro-F1" in names, seed=seed)
    found = {name: Held() for name in names}
    for run in range(runs):
        predictions, truth = world_.draw(n, rng)
        a, b = (replay(p, predictions) for p in (cheap, other))
        intervals = _intervals(predictions, truth, a, b, run)
        for name in names:
            if name in intervals:
                found[name].count(intervals[name](), truths[name])
        if "PGR" in names:
            right = predictions.label == truth[:, None]
            gap = gap_intervals(predictions.confidence[:, 0], right[:, 0], right[:, 2], b.label == truth)
            for name, i in zip(("PGR", "APGR"), gap or (), strict=False):
                found[name].count(i, truths[name])
        if set(names) & set(GAINS):
            for name, i, value in _gains(world_, predictions, truth, rng):
                if name in names:
                    found[name].count(i, value)
    return found


def _intervals(predictions, truth, a, b, run):
    said, right = predictions.confidence[:, 0], predictions.label[:, 0] == truth
    kept, right_b, n = ~b.asked[:, -1], b.label == truth, len(truth)
    others = int(np.random.default_rng(run).binomial(2 * n, 0.6))  # of as many rows again from elsewhere
    return {
        "accuracy": lambda: share(right_b),
        "escalation": lambda: share(~kept),
        "selective accuracy": lambda: share(right_b[kept]),
        "cost": lambda: mean_interval(b.cost),
        "difference": lambda: paired_difference(a, b, truth).accuracy,
        "cost difference": lambda: paired_difference(a, b, truth).cost_per_1000,
        "Brier": lambda: mean_interval((said - right) ** 2),
        "drift": lambda: difference_of_shares(share(right_b), share_of(others, 2 * n)),
        "macro-F1": lambda: macro_f1_interval(b.label, truth),
        "ECE": lambda: reliability(said, right, n_bins=BINS, seed=run).ece,
        "AURC": lambda: risk_coverage(said, right).aurc,
        "E-AURC": lambda: risk_coverage(said, right).e_aurc,
    }


def _truths(world_, cheap, other, *, f1, seed):
    mass, wrong = world_.mass.sum(axis=0), (world_.mass * (1 - world_.right)).sum(axis=0)
    accuracy, weak = 1 - world_.system_risk(other.pattern), 1 - wrong.sum()
    passed = 1 - (world_.mass * world_.kept(other.pattern)).sum()
    before = 1 - (world_.mass * world_.kept(cheap.pattern)).sum()
    brier = (mass * world_.confidence**2 - 2 * world_.confidence * (mass - wrong) + (mass - wrong)).sum()
    steps = np.concatenate([[0.0], np.cumsum(mass)])
    along = weak + np.concatenate([[0.0], np.cumsum(wrong)]) - (1 - world_.strong) * steps
    gains = routing_gain(steps, along, steps, weak=(0.0, weak), strong=(1.0, world_.strong))
    area = _true_area(mass[::-1], wrong[::-1])
    found = {
        "accuracy": accuracy,
        "escalation": passed,
        "selective accuracy": 1 - world_.selective_risk(other.pattern),
        "cost": 0.01 * passed,
        "difference": accuracy - (1 - world_.system_risk(cheap.pattern)),
        "cost difference": 10 * (passed - before),
        "Brier": brier,
        "drift": accuracy - 0.6,
        "ECE": _true_ece(world_.confidence, mass, mass - wrong),
        "AURC": area,
        "E-AURC": area - (1 - weak + weak * np.log(weak)),
        "PGR": (accuracy - weak) / (world_.strong - weak),
        "APGR": gains.apgr,
    }
    if f1:
        big, big_truth = world_.draw(400_000, np.random.default_rng(10_000 + seed))
        found["macro-F1"] = macro_f1_interval(replay(other, big).label, big_truth).value
    return found


def _true_area(mass, wrong, within=200):
    """Return the mean selective risk over all coverages; rows of one cell come in no order."""
    part = (np.arange(within) + 0.5) / within
    kept, lost = np.cumsum(mass) - mass, np.cumsum(wrong) - wrong
    risk = (lost[:, None] + wrong[:, None] * part) / (kept[:, None] + mass[:, None] * part)
    return float((mass * risk.mean(axis=1)).sum())


def _gains(world_, predictions, truth, rng):
    """Yield what the page reports of a choice made on tune: its gain on test, and the true one."""
    tune, test = (Labelled(*x) for x in ((predictions, truth), world_.draw(len(truth), rng)))
    goal = Goal("cheapest", floor=0.9)
    chosen = per_class_thresholds(TRIAGE, tune, goal, report_on=test)
    risk_one, risk_many = (world_.system_risk(p.pattern) for p in (chosen.one, chosen.by_class))
    yield "gain per class", chosen.gain.accuracy, risk_one - risk_many
    outcomes = [replay(p, test.predictions) for p in (replace(TRIAGE, pattern=Triage(0.0)), chosen.one)]
    gain = paired_difference(*outcomes, test.truth).accuracy
    yield "gain of Suggest", gain, world_.system_risk(Triage(0.0)) - risk_one


BINS = 15


def _true_ece(confidence, mass, right):
    """Return Σ |accuracy − confidence| · mass over bins of equal mass of the world."""
    part = np.minimum((np.cumsum(mass) - mass / 2) / mass.sum() * BINS, BINS - 1).astype(int)
    return float(np.abs(np.bincount(part, right - mass * confidence)).sum())


def most_allowed(runs, rate, level=0.999):
    """Return how many of `runs` may break where each breaks with probability `rate`, allowing for chance."""
    return int(binom.ppf(level, runs, rate))


SETTINGS = {
    "2 classes": {},
    "2 classes, ties": {"ties": True},
    "2 classes, overconfident": {"bias": 0.1},
    "77 classes": {"n_classes": 77},
}
KINDS = ("selective", "system", "by_class", "cascade_selective", "cascade_system")


def main(runs):
    """Print every promise at full size."""
    delta, failed = 0.1, 0
    print(f"{runs} labelled sets each; delta = {delta}; allowed {most_allowed(runs, delta)}")
    for name, settings in SETTINGS.items():
        w = world(**settings)
        for kind in KINDS:
            for n in (50, 100, 1000):
                if kind.startswith("cascade") and n == 100:
                    continue
                alpha = 0.12 if kind.endswith("system") else 0.1
                start = time.perf_counter()
                given, broken = promises(kind, w, n, alpha=alpha, delta=delta, runs=runs)
                bad = broken > most_allowed(runs, delta)
                failed += bad
                print(
                    f"{name:26s} {kind:18s} n={n:5d} risk ≤ {alpha}: certified {given / runs:6.1%}, "
                    f"broken {broken / runs:6.2%}{'  TOO OFTEN' if bad else ''} ({time.perf_counter() - start:.0f} s)",
                    flush=True,
                )
        for by_class in (False, True):
            for n in (50, 100, 1000):
                broken = point_estimates(w, n, alpha=0.12, runs=runs, by_class=by_class)
                print(f"{name:26s} point estimate{' by class' if by_class else '':10s} n={n:5d}: {broken / runs:.1%}")
    for name, settings in (("4 classes", {"n_classes": 4}), ("4 classes, ties", {"n_classes": 4, "ties": True})):
        for n in (50, 100, 500, 2000):
            found = coverage(world(**settings), n, runs=runs)
            print(
                f"{name}, n={n}: " + ", ".join(f"{k} {h.held / max(h.runs, 1):.1%}" for k, h in found.items()),
                flush=True,
            )
    print("every promise held" if not failed else f"{failed} PROMISES BROKEN")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
