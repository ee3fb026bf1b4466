"""Before and after: what was once measured of promises, intervals and verdicts, and what the same measures say now.

    python tests/benchmarks/before_after.py [RUNS] [PATH]

The figures before were measured from outside, with other code, and stand here as they were reported. Every world and
its seed is in this file or in the ones that it calls (`power`, `promises`, `intervals`). PATH holds `headlines4.csv`
and `banking77.csv`; without it only the sample in `sample_data` is fitted.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks import power
from benchmarks.everything import uneven
from benchmarks.intervals import clustered, holds
from benchmarks.promises import TRIAGE, most_allowed
from hybrid.data.columns import Columns
from hybrid.data.dataset import build
from hybrid.data.read import read
from hybrid.data.split import split
from hybrid.metrics.auroc import auroc
from hybrid.metrics.confidence import reliability
from hybrid.metrics.drift import difference_of_shares
from hybrid.metrics.means import mean_interval
from hybrid.metrics.paired import paired_difference, rows_to_tell, sign_flip
from hybrid.metrics.ranking import gap_intervals, macro_f1_interval
from hybrid.metrics.summary import macro_f1, share, summarize
from hybrid.routing.engine import Policy, replay
from hybrid.routing.patterns import Triage
from hybrid.routing.table import Predictions, Tier
from hybrid.routing.voting import vote
from hybrid.tiers.classifier import fit_classifier
from hybrid.tuning import SELECTIVE, SYSTEM, Goal, recommend
from hybrid.tuning.search import search, search_by_class

SAMPLE = Path(__file__).parents[2] / "sample_data" / "support_tickets.csv"


def row(fault, before, after):
    """Print a line of the table."""
    print(f"| {fault} | {before} | {after} |", flush=True)


def dependent(runs):
    """Print what rows of one customer do to promises and intervals."""
    ours = {(n, m): power.grouped(n, m, runs=runs)["ours"] for n, m in ((100, 10), (50, 20))}
    row(
        "rows of one customer, 100 x 10 / 50 x 20: promises broken",
        "17-27 % / 31 %",
        " / ".join(f"{x[2]:.1%}" for x in ours.values())
        + f" (certified {', '.join(format(x[0], '.2f') for x in ours.values())})",
    )
    held = []
    for n, m in ((100, 10), (50, 20)):
        groups = np.repeat(np.arange(n), m)
        for icc in (0.3, 1.0):
            rng = np.random.default_rng(1)
            held.append(np.mean([holds(share(clustered(groups, 0.9, icc, rng), groups), 0.9) for _ in range(runs)]))
    row("the same: accuracy interval holds, correlation .3 / 1", "76-33 %", " / ".join(f"{h:.3f}" for h in held))
    held = []
    for n, m in ((100, 10), (50, 20)):
        groups, rng = np.repeat(np.arange(n), np.random.default_rng(0).geometric(1 / m, n)), np.random.default_rng(1)
        for icc in (0.3, 1.0):
            held.append(np.mean([holds(share(clustered(groups, 0.9, icc, rng), groups), 0.9) for _ in range(runs)]))
    row(
        "groups of uneven size, 100 of about 10, 50 of about 20: the same",
        ".92-.94",
        " / ".join(f"{h:.3f}" for h in held),
    )


def certificates(runs):
    """Print how often certificates are given, how much they keep, and how often they break."""
    row("class without a certificate: rows of confidence 1 kept", "all, 40 % wrong", f"{power.never_kept(runs=20):.0f}")
    only = {m: power.METHODS[m] for m in ("ours", "plain")}
    found = {n: power.compare("uniform", n, SELECTIVE, runs=runs, methods=only) for n in (200, 500, 1000)}
    row(
        "uniform .5-1, n = 200 / 500 / 1,000: certified (plain walk)",
        "1 / 6 / 74 % (50 / 80 / 89 %)",
        " / ".join(f"{f['ours'][0]:.0%}" for f in found.values())
        + f" ({' / '.join(format(f['plain'][0], '.0%') for f in found.values())})"
        + f"; broken {' / '.join(format(f['ours'][2], '.1%') for f in found.values())}",
    )
    for name, n, before in (("crowded", 120, ".498 of .668"), ("crowded", 500, ".827 of .867")):
        f = power.compare(name, n, SYSTEM, runs=runs, methods=only)
        row(
            f"system risk, confidences near 1, n = {n}: kept (plain walk); before: ten classes",
            before,
            f"{f['ours'][1]:.3f} ({f['plain'][1]:.3f}); broken {f['ours'][2]:.1%}",
        )
    f = power.compare("anti-informative", 500, SELECTIVE, runs=runs, methods=only)["ours"]
    row("anti-informative, n = 500: kept of 1.00", ".135", f"{f[1]:.3f}; broken {f[2]:.1%}")
    kept = {n: power.by_class(77, n, runs=max(runs // 40, 10))[0] for n in (2000, 8000)}
    said = " / ".join(f"{k:.2f}" for k in kept.values())
    row("77 classes, each with its promise: kept of 2,000 / 8,000 rows", ".61 / .45", said)
    for name, n in (("uniform", 60), ("uniform", 200), ("crowded", 40)):
        said, fresh, none = power.estimates(name, n, runs=max(runs // 10, 20))
        after = f"{fresh:.0%} (N = {said:,.0f}; none named in {none:.0%})"
        row(f"about N rows would certify, {name}, n = {n}: fresh data do", "3-54 %", after)


def unseen():
    """Print what is said where nothing was seen."""
    tiers, n = TRIAGE.tiers, 100
    truth = np.arange(n) % 2
    table = Predictions(
        tiers,
        ("a", "b"),
        np.repeat(truth[:, None], 2, axis=1),
        np.tile([0.999, 1.0], (n, 1)),
        np.tile([0.0, 0.01], (n, 1)),
        np.zeros((n, 2)),
    )
    total = recommend(table, truth, Goal("least_total", wrong=50.0), ways=[TRIAGE]).totals[0]
    cost = summarize(replay(replace(TRIAGE, pattern=Triage(0.0)), table), truth).cost_per_1000
    ece = reliability(table.confidence[:, 0], np.ones(n, dtype=bool)).ece
    row("no mistake in 100 at $50: total cost per 1,000, 95 %", "[0, 0]", f"[{total.low:.0f}, {total.high:,.0f}]")
    row("nothing escalated of 100: cost per 1,000", "[0, 0]", f"[{cost.low:.0f}, {cost.high:.2f}]")
    row("ECE of .001 where no mistake was seen", "[0, 0]", f"[{ece.low:.3f}, {ece.high:.3f}]")


def null_worlds(runs):
    """Print how often a policy looks better than its cheap tier where both are as good whatever is asked."""
    rng, green = np.random.default_rng(5), {}
    for classes, per_class in ((2, False), (7, True)):
        for _ in range(runs):
            n = 2000
            truth = rng.integers(0, classes, n)
            label = np.column_stack([np.where(rng.random(n) < 0.8, truth, (truth + 1) % classes) for _ in range(2)])
            sure = np.column_stack([rng.random(n), np.ones(n)])
            table = Predictions(TRIAGE.tiers, tuple(map(str, range(classes))), label, sure, 0 * sure, 0 * sure)
            tune = np.arange(n) < n // 2
            find = search_by_class if per_class else search
            policy = find(TRIAGE, table.take(tune), truth[tune], Goal("most_accurate")).policy
            for side, rows in (("tune", tune), ("test", ~tune)):
                alone, chosen = (replay(p, table.take(rows)) for p in (replace(TRIAGE, pattern=Triage(0.0)), policy))
                d = paired_difference(alone, chosen, truth[rows])
                key = per_class, side
                green[key] = green.get(key, 0) + (d.told_apart and d.accuracy.value > 0)
    for what, key, before in (("one threshold", False, "4-12 %"), ("per class, 7 classes, n = 1,000", True, "15-91 %")):
        after = f"{green[key, 'test'] / runs:.1%} (on tune {green[key, 'tune'] / runs:.0%})"
        row(f"green where nothing is gained, {what}", f"{before} (on tune)", after)


def per_class(runs):
    """Print what thresholds per class cost on fresh rows, beside one threshold."""
    goal, lost = Goal("least_total", wrong=0.012), []
    for run in range(runs):
        rng = np.random.default_rng((run, 1000))
        (table, truth), (fresh, theirs) = (uneven(m, rng, n_classes=10, spread=0.0) for m in (1000, 20_000))
        policy = Policy(Triage(), table.tiers)
        cost = [
            goal.total_cost(replay(p, fresh), theirs).mean()
            for p in (search(policy, table, truth, goal).policy, recommend(table, truth, goal, ways=[policy]).policy)
        ]
        lost.append(cost[1] / cost[0] - 1)
    after = f"{np.mean(lost):+.2%} (worst {np.max(lost):+.1%})"
    row("per class against one threshold, fresh rows, ten classes alike, n = 1,000: cost", "+5-7 %", after)


def tests(runs):
    """Print whether rows that are said to tell do tell, and how intervals of gaps, means and macro-F1 fare."""
    rng, told = np.random.default_rng(4), []
    for gain, loss in ((0.06, 0.03), (0.04, 0.01), (0.1, 0.06)):
        n = rows_to_tell(gain - loss, gain + loss)
        flips = (rng.choice([1, -1, 0], n, p=[gain, loss, 1 - gain - loss]) for _ in range(runs))
        told.append(np.mean([sign_flip(x) <= 0.05 for x in flips]))
    row("about N labelled rows would tell: told apart", "38-52 %", " / ".join(f"{t:.0%}" for t in told))
    rng, widest = np.random.default_rng(3), 0.0
    for _ in range(runs):
        c = rng.random(200)
        weak, strong = rng.random(200) < 0.55 + c / 2, rng.random(200) < 0.9
        found = gap_intervals(c, weak, strong, np.where(c >= 0.5, weak, strong))
        widest = max(widest, found[0].high - found[0].low) if found else widest
    row("PGR: widest interval shown, n = 200", "1e13", f"{widest:.1f}")
    held = []
    for sigma in (1.0, 1.5):
        for n in (50, 200, 1000):
            rng, mean = np.random.default_rng(2), np.exp(sigma**2 / 2)
            held.append(np.mean([holds(mean_interval(rng.lognormal(0, sigma, n)), mean) for _ in range(runs)]))
    after = " / ".join(f"{h:.3f}" for h in held)
    row("mean of heavy-tailed prices holds (log-normal 1, 1.5; n = 50, 200, 1,000)", ".86-.92", after)
    rng, held = np.random.default_rng(7), []
    for n, wrong in ((50, 2), (200, 4), (1000, 12)):
        held.append(np.mean([holds(auroc(rng.random(n), np.arange(n) >= wrong), 0.5) for _ in range(runs)]))
    after = " / ".join(f"{h:.3f}" for h in held)
    row("AUROC of 2 mistakes in 50 / 4 in 200 / 12 in 1,000: interval holds", ".73 / .86 / .92", after)
    shares = np.array([0.3, 0.2, 0.15, 0.1, 0.08, 0.07, 0.05, 0.03, 0.01, 0.01])
    rng, held = np.random.default_rng(3), []

    def draw(n):
        truth = rng.choice(10, n, p=shares)
        return np.where(rng.random(n) < np.linspace(0.95, 0.6, 10)[truth], truth, rng.choice(10, n, p=shares)), truth

    true = macro_f1(*draw(1_000_000))
    for n in (50, 200, 1000):
        held.append(np.mean([holds(macro_f1_interval(*draw(n)), true) for _ in range(runs)]))
    row("macro-F1 with rare classes holds, n = 50 / 200 / 1,000", ".71", " / ".join(f"{h:.3f}" for h in held))


def ties():
    """Print what becomes of a vote in which .7 + .1 stand against .8."""
    tiers = tuple(Tier(f"t{j}", "recorded", 0.001 * j) for j in range(3))
    label, sure = np.array([[0, 0, 1], [1, 1, 0], [0, 1, 1]]), np.array([[0.7, 0.1, 0.8]] * 2 + [[0.8, 0.7, 0.1]])
    table = Predictions(tiers, ("a", "b"), label, sure, 0 * sure, 0 * sure)
    said = int((vote(table, slice(None), "confidence_weighted", 0.0).label == label[:, 0]).sum())
    row("a tie of sums, .7 + .1 against .8: the cheaper tier's answer", "by the last bit", f"{said} of 3")


def fitted(path):
    """Print what ships beside what graded, and how calibrated it is."""
    files = {"sample": SAMPLE} | ({} if path is None else {n: path / f"{n}.csv" for n in ("headlines4", "banking77")})
    for name, file in files.items():
        table = read(file.name, file.read_bytes()).table
        text = "text" if "text" in table else next(c for c in table if c.lower() in ("ticket", "message", "body"))
        for n in (450, 1000, 2150):
            if n <= len(table):
                shipped(name, table, Columns("label", text=text), n)
        calibration(name, build(table, Columns("label", text=text, split="split" if "split" in table else None)))


def shipped(name, table, columns, n):
    """Print how many more rows the shipped classifier keeps at .8 than those that graded it."""
    found = []
    for seed in range(8):
        dataset = build(table.sample(n, random_state=seed).reset_index(drop=True), columns)
        cut = split(dataset, seed=seed)
        fit = fit_classifier(dataset.texts, dataset.truth, cut.fold, n_classes=len(dataset.classes))
        right, kept, truth = fit.answers.label == dataset.truth, fit.answers.confidence >= 0.8, dataset.truth[cut.test]
        again = [(np.mean(a.confidence >= 0.8), np.mean(a.label == truth)) for a in fit.again]
        graded = np.mean(again, axis=0)
        on_test = cut.test
        promised, met = (share(kept[rows], dataset.group[rows]) for rows in (cut.tune, cut.test))
        gap = difference_of_shares(met, promised)
        found.append(
            (
                100 * (kept[on_test].mean() - graded[0]),
                100 * (right[on_test].mean() - graded[1]),
                100 * (promised.value - graded[0]),
                holds(gap, 0.0),
            )
        )
    more, better, luck, inside = np.mean(found, axis=0)
    row(
        f"{name}, {round(0.7 * n)} tune rows, 8 draws: the shipped model keeps more at .8 / is more often right",
        "3-6 / 1-4 points",
        f"{more:+.1f} / {better:+.1f} points, said on the page; tune less the same models on test {luck:+.1f}; share "
        f"kept on test is as promised on tune, within the interval of their difference, in {inside:.0%}",
    )


def calibration(name, dataset):
    """Print ECE with its interval and what a perfectly calibrated classifier would show."""
    cut = split(dataset)
    fit = fit_classifier(dataset.texts, dataset.truth, cut.fold, n_classes=len(dataset.classes))
    right = fit.answers.label == dataset.truth
    for side, rows in (("tune", cut.tune), ("test", cut.test)):
        raw, r = (
            reliability(c[rows], right[rows], groups=dataset.group[rows])
            for c in (fit.raw_confidence, fit.answers.confidence)
        )
        row(
            f"calibration, {name}, {side} ({len(rows):,} rows): ECE",
            {"sample": ".055-.062"}.get(name, "-"),
            f"{r.ece.value:.4f} ({r.ece.low:.4f} to {r.ece.high:.4f}); a perfect one {r.chance.value:.4f}, up to "
            f"{r.chance.high:.4f}; uncalibrated {raw.ece.value:.4f}",
        )


def main(runs, path):
    """Print the table."""
    start = time.perf_counter()
    allowed = most_allowed(runs, 0.1) / runs
    print(f"{runs} runs each where it is not said otherwise; of 10 %, up to {allowed:.1%} may break")
    print("| fault | before | after |\n|---|---|---|")
    dependent(runs)
    certificates(runs)
    unseen()
    null_worlds(max(runs // 5, 20))
    per_class(max(runs // 50, 5))
    tests(runs)
    ties()
    fitted(path)
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000, Path(sys.argv[2]) if len(sys.argv) > 2 else None)
