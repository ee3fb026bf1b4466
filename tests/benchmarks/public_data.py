"""Public data: what exact thresholds, thresholds per class, certificates and calibration do on published sets.

    python tests/benchmarks/public_data.py PATH [SEEDS]

PATH holds `frugalml/` (YELP and IMDB: answers of commercial APIs, published by FrugalML), `headlines4.csv` (FrugalGPT's
gold headlines in its own split) and `banking77.csv`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from hybrid.data.columns import Columns
from hybrid.data.dataset import build
from hybrid.data.read import read
from hybrid.data.split import split
from hybrid.data.texts import bare
from hybrid.metrics.confidence import reliability
from hybrid.metrics.curve import sweep
from hybrid.metrics.summary import share
from hybrid.routing.engine import Policy, replay
from hybrid.routing.patterns import Triage
from hybrid.routing.table import Predictions, Tier
from hybrid.study.evidence import record
from hybrid.tuning import SYSTEM, Goal, certify
from hybrid.tuning.search import search, search_by_class

PAIRS = {"YELP": ("Amazon", "Google"), "IMDB": ("Amazon", "Google")}  # the best API, and the best cheaper one
FLOOR, RUNS = 0.85, 400


def frugal(path, name):
    """Read one of FrugalML's sets as predictions and truth."""
    frame = pd.read_csv(path / "frugalml" / f"{name}.csv.gz")
    meta = pd.read_csv(path / "frugalml" / f"{name}_meta.csv")
    price = meta["Cost per 10k texts"].to_numpy() / 10_000
    short = [n.split("(")[0] for n in meta["MLaaS(API)"]]
    tiers = tuple(Tier(n, "recorded", p) for n, p in zip(short, price, strict=True))
    label, confidence = (
        frame[[f"{what}_{i}" for i in meta["Index"]]].to_numpy(dtype)
        for what, dtype in (("pred", np.int64), ("conf", np.float64))
    )
    shape = label.shape
    cost = np.broadcast_to(price, shape).copy()
    return Predictions(tiers, ("negative", "positive"), label, confidence, cost, np.zeros(shape)), frame[
        "gold"
    ].to_numpy()


def uniform_grid(policy, predictions, truth, floor):
    """Return the cheapest of 100 evenly spaced thresholds that keeps the floor."""
    curve = sweep(policy, predictions, truth, name="threshold")
    grid = np.linspace(0, 1, 100)
    at = curve.at(grid)
    keeps = np.flatnonzero(curve.accuracy[at] >= floor - 1e-12)
    best = keeps[np.argmin(curve.cost_per_1000[at][keeps])] if keeps.size else len(grid) - 1
    return Policy(Triage(float(grid[best])), policy.tiers)


def cost_saved(path, name, seeds):
    """Print the cost saved at the best API's accuracy, tuned on half and tested on the other half."""
    predictions, truth = frugal(path, name)
    cheap, best = (predictions.index(n) for n in PAIRS[name])
    policy = Policy(Triage(), (predictions.tiers[cheap], predictions.tiers[best]))
    found = {"uniform grid": [], "one exact": [], "per class exact": []}
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(truth))
        tune, test = order[: len(order) // 2], order[len(order) // 2 :]
        on, y = predictions.take(tune), truth[tune]
        floor = float(np.mean(on.label[:, best] == y))
        goal = Goal("cheapest", floor=floor)
        chosen = {
            "uniform grid": uniform_grid(policy, on, y, floor),
            "one exact": search(policy, on, y, goal).policy,
            "per class exact": search_by_class(policy, on, y, goal).policy,
        }
        for way, p in chosen.items():
            o = replay(p, predictions.take(test))
            alone = predictions.label[test, best] == truth[test]
            saved = 1 - o.cost.mean() / predictions.cost[test, best].mean()
            found[way].append((saved, np.mean(o.label == truth[test]) - alone.mean()))
    print(
        f"{name}: {PAIRS[name][0]} → {PAIRS[name][1]}, {seeds} seeds, tuned on {len(tune):,}, tested on {len(test):,}"
    )
    for way, rows in found.items():
        saved, gap = np.array(rows).T
        print(
            f"  {way:16s} saved {saved.mean():7.1%} (median {np.median(saved):.1%}, {saved.min():.1%} to "
            f"{saved.max():.1%}); accuracy against the best API {100 * gap.mean():+.2f} points"
        )


def floor_broken(path):
    """Print how often "accuracy ≥ 85 %" is broken on IMDB by a point estimate and by a certificate."""
    predictions, truth = frugal(path, "IMDB")
    policy = Policy(Triage(), tuple(predictions.tiers[predictions.index(n)] for n in PAIRS["IMDB"]))
    curve = sweep(policy, predictions, truth, name="threshold")  # all 25,000 rows stand for the truth
    print(f"IMDB, accuracy ≥ {FLOOR:.0%}, {RUNS} draws; the truth is that of all {len(truth):,} rows")
    for n in (50, 100, 200, 2000):
        point = broken = given = 0
        saved = []
        rng = np.random.default_rng(n)
        for _ in range(RUNS):
            rows = rng.choice(len(truth), n, replace=False)
            on, y = predictions.take(rows), truth[rows]
            t = search(policy, on, y, Goal("cheapest", floor=FLOOR)).policy.pattern.threshold
            point += curve.accuracy[curve.at(t)] < FLOOR
            certified = certify(policy, on, y, alpha=1 - FLOOR, delta=0.1, risk=SYSTEM)
            if certified.policy is not None:
                given += 1
                at = curve.at(certified.policy.pattern.threshold)
                broken += curve.accuracy[at] < FLOOR
                saved.append(1 - curve.escalation_rate[at])
        kept = f", keeps {np.mean(saved):.0%} at the cheap tier" if saved else ""
        print(
            f"  n = {n:5d}: point estimate broken {point / RUNS:.1%}; certified (δ = 10 %) broken {broken / RUNS:.1%}, "
            f"given in {given / RUNS:.1%}{kept}"
        )


def loaded(path, name):
    """Fit the fast classifier on a set in its own split."""
    table = read(name, (path / name).read_bytes()).table
    dataset = build(table, Columns("label", text="text", split="split"))
    return record(dataset, split(dataset))


def headlines(recording):
    """Print the classifier's accuracy on FrugalGPT's test rows, with and without near-duplicates."""
    data, test = recording.dataset, recording.split.test
    column = recording.predictions.index("classifier")
    right = recording.predictions.label[test, column] == data.truth[test]
    seen = set(map(bare, data.texts[recording.split.tune]))
    fresh = np.array([t not in seen for t in map(bare, data.texts[test])])
    for what, rows in (("all test rows", np.ones(len(test), bool)), ("without near-duplicates", fresh)):
        i = share(right[rows])
        print(
            f"HEADLINES, TF-IDF + LR, {what}: {i.value:.4f} ({i.low:.4f} to {i.high:.4f}) on {rows.sum():,}; "
            "FrugalGPT published 0.8746 to 0.8780"
        )


def calibration(name, recording):
    """Print ECE on test before and after calibration."""
    test = recording.split.test
    column = recording.predictions.index("classifier")
    right = recording.predictions.label[test, column] == recording.dataset.truth[test]
    for what, said in (
        ("before", recording.raw_confidence[test]),
        ("after", recording.predictions.confidence[test, column]),
    ):
        e = reliability(said, right).ece
        print(f"{name}: ECE {what} {e.value:.4f} ({e.low:.4f} to {e.high:.4f}) on {len(test):,} test rows")


def main(path, seeds):
    """Print all figures."""
    for name in PAIRS:
        cost_saved(path, name, seeds)
    floor_broken(path)
    for name in ("headlines4.csv", "banking77.csv"):
        recording = loaded(path, name)
        if name.startswith("headlines"):
            headlines(recording)
        calibration(name.split(".")[0].upper(), recording)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 10)
