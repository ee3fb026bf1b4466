"""Promises: simulate labelled sets from worlds whose truth is known, and count how often a promise breaks.

    python tests/benchmarks/promises.py [RUNS]

A world is a table over (predicted class, confidence): how likely it is, and how likely the answer is right. So the risk
of any thresholds is a sum, not an estimate. The suite runs the same functions with fewer runs.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import binom

from hybrid.metrics import mean_interval, paired_difference, share
from hybrid.patterns import Cascade, Triage
from hybrid.predictions import Predictions, Tier
from hybrid.ranking import macro_f1_interval
from hybrid.reliability import reliability
from hybrid.routing import Policy, replay
from hybrid.tuning import Goal, certify, certify_by_class
from hybrid.tuning.search import search, search_by_class

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


def coverage(world_, n, *, runs, seed=0):
    """Return how often each 95 % interval holds the truth, by name."""
    rng = np.random.default_rng(seed)
    cheap, other = TRIAGE, replace(TRIAGE, pattern=Triage(0.7))
    big, big_truth = world_.draw(400_000, np.random.default_rng(10_000 + seed))
    a, b = (replay(p, big) for p in (cheap, other))
    f1 = macro_f1_interval(b.label, big_truth, n=2).value
    truth_accuracy = 1 - world_.system_risk(other.pattern)
    gain = truth_accuracy - (1 - world_.system_risk(cheap.pattern))
    cost_truth = 0.01 * (1 - (world_.mass * world_.kept(other.pattern)).sum())
    bins = [world_.confidence, world_.mass.sum(axis=0), (world_.mass * world_.right).sum(axis=0)]
    brier = float((bins[1] * bins[0] ** 2 - 2 * bins[0] * bins[2] + bins[2]).sum())
    hits = dict.fromkeys(("accuracy", "cost", "difference", "macro-F1", "ECE", "Brier"), 0)
    for run in range(runs):
        predictions, truth = world_.draw(n, rng)
        a, b = (replay(p, predictions) for p in (cheap, other))
        right = predictions.label[:, 0] == truth
        found = reliability(predictions.confidence[:, 0], right, n_bins=BINS, seed=run)
        intervals = {
            "accuracy": (share(b.label == truth), truth_accuracy),
            "cost": (mean_interval(b.cost, seed=run), cost_truth),
            "difference": (paired_difference(a, b, truth, seed=run).accuracy, gain),
            "macro-F1": (macro_f1_interval(b.label, truth, n=500, seed=run), f1),
            "ECE": (found.ece, _true_ece(*bins)),
            "Brier": (found.brier, brier),
        }
        for name, (i, value) in intervals.items():
            hits[name] += i.low - 1e-12 <= value <= i.high + 1e-12
    return {name: count / runs for name, count in hits.items()}


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
                if kind.startswith("cascade") and (n == 100 or "77" in name):
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
    for n in (50, 100, 500, 2000):
        found = coverage(world(n_classes=4), n, runs=runs)
        print(f"coverage n={n:5d}: " + ", ".join(f"{k} {v:.1%}" for k, v in found.items()), flush=True)
    print("every promise held" if not failed else f"{failed} PROMISES BROKEN")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
