"""Intervals: how often each holds the truth of a made-up world, with the textbook's way beside it.

    python tests/benchmarks/intervals.py [RUNS]

Every run draws fresh rows; seeds are fixed.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from scipy.special import stdtrit

from hybrid.metrics.means import mean_interval
from hybrid.metrics.paired import rows_to_tell, sign_flip
from hybrid.metrics.ranking import gap_intervals, macro_f1_interval
from hybrid.metrics.summary import macro_f1, share
from hybrid.metrics.surprise import ALARM, surprise


def holds(interval, truth):
    return interval.low <= truth <= interval.high


def clustered(groups, p, icc, rng):
    """Draw rows of which a share follows its group."""
    own = rng.random(groups.max() + 1) < p
    return np.where(rng.random(len(groups)) < np.sqrt(icc), own[groups], rng.random(len(groups)) < p)


def of_groups(runs):
    even = [(n, str(size), np.full(n, size)) for n, size in ((100, 10), (50, 20), (50, 4), (20, 10))]
    uneven = [(n, f"about {m}", np.random.default_rng(0).geometric(1 / m, n)) for n, m in ((100, 10), (50, 20))]
    for n_groups, size, sizes in (*even, *uneven):
        groups = np.repeat(np.arange(n_groups), sizes)
        for icc in (0.0, 0.3, 1.0):
            rng, held, alarms = np.random.default_rng(1), np.zeros(2), np.zeros(2)
            for _ in range(runs):
                right = clustered(groups, 0.9, icc, rng)
                held += [holds(share(right, g), 0.9) for g in (None, groups)]
                alarms += [surprise(right, 0.9, groups=g) <= ALARM for g in (None, groups)]
            print(
                f"accuracy .9, {n_groups} groups x {size}, correlation {icc}: rows {held[0] / runs:.3f}, groups "
                f"{held[1] / runs:.3f}; a kept floor called missed: rows {alarms[0] / runs:.3f}, groups "
                f"{alarms[1] / runs:.3f}"
            )


def of_means(runs):
    worlds = {
        "exponential": (lambda r, n: r.exponential(size=n), 1.0),
        "log-normal 1": (lambda r, n: r.lognormal(0, 1, n), np.exp(0.5)),
        "log-normal 1.5": (lambda r, n: r.lognormal(0, 1.5, n), np.exp(1.125)),
        "30 % escalated, log-normal": (lambda r, n: (r.random(n) < 0.3) * r.lognormal(0, 1, n), 0.3 * np.exp(0.5)),
        "5 % escalated at one price": (lambda r, n: (r.random(n) < 0.05) * 1.0, 0.05),
    }
    for name, (draw, mean) in worlds.items():
        for n in (50, 200, 1000):
            rng, held = np.random.default_rng(2), np.zeros(2)
            for _ in range(runs):
                x = draw(rng, n)
                half = stdtrit(n - 1, 0.975) * x.std(ddof=1) / np.sqrt(n)
                unseen = None if x.any() else 1.0  # what a row may cost where none cost anything
                held += [abs(x.mean() - mean) <= half, holds(mean_interval(x, most=unseen), mean)]
            print(f"mean cost, {name}, n = {n}: Student {held[0] / runs:.3f}, here {held[1] / runs:.3f}")


def of_f1_and_gaps(runs):
    shares = np.array([0.3, 0.2, 0.15, 0.1, 0.08, 0.07, 0.05, 0.03, 0.01, 0.01])
    rng = np.random.default_rng(3)

    def draw(n):
        truth = rng.choice(10, n, p=shares)
        return truth, np.where(rng.random(n) < np.linspace(0.95, 0.6, 10)[truth], truth, rng.choice(10, n, p=shares))

    true = macro_f1(*draw(1_000_000)[::-1])
    for n in (50, 200, 1000):
        held = np.mean(
            [holds(macro_f1_interval(label, truth), true) for truth, label in (draw(n) for _ in range(runs))]
        )
        print(f"macro-F1, ten classes down to 1 % of rows, n = {n}: {held:.3f}")
    for n in (50, 200, 1000):
        found = []
        for _ in range(runs):
            c = rng.random(n)
            weak, strong = rng.random(n) < 0.55 + c / 2, rng.random(n) < 0.9
            found.append(gap_intervals(c, weak, strong, np.where(c >= 0.5, weak, strong)))
        shown = [f[0] for f in found if f]
        true_pgr = (0.5 * 0.9 + 0.5 * 0.9245 - 0.7987) / (0.9 - 0.7987)  # the weak tier is right in min(1, .55 + c/2)
        print(
            f"PGR of a gap of 10 points, n = {n}: shown {len(shown) / runs:.3f}, holds "
            f"{np.mean([holds(i, true_pgr) for i in shown]):.3f}, widest {max(i.high - i.low for i in shown):.2f}"
        )


def of_tests(runs):
    rng = np.random.default_rng(4)
    for n in (200, 500, 1000):
        missed = np.mean([surprise(rng.random(n) < 0.87, 0.9) <= ALARM for _ in range(runs)])
        print(f"a floor of .9 missed by 3 points, n = {n}: found in {missed:.3f}")
    for gain, loss in ((0.06, 0.03), (0.04, 0.01), (0.1, 0.06)):
        n = rows_to_tell(gain - loss, gain + loss)
        told = np.mean(
            [sign_flip(rng.choice([1, -1, 0], n, p=[gain, loss, 1 - gain - loss])) <= 0.05 for _ in range(runs)]
        )
        print(f"rows to tell +{gain} -{loss}: {n:,}, told apart in {told:.3f}")


def of_speed():
    for n in (10_000, 1_000_000):
        rng = np.random.default_rng(5)
        right, groups = rng.random(n) < 0.9, rng.integers(0, n // 5, n)
        for name, work in (
            ("accuracy, rows", lambda r=right: share(r)),
            ("accuracy, groups", lambda r=right, g=groups: share(r, g)),
            ("mean cost", lambda r=right: mean_interval(np.where(r, 0.0, 0.01))),
        ):
            start = time.perf_counter()
            work()
            print(f"{name}, {n:,} rows: {1000 * (time.perf_counter() - start):.1f} ms")


if __name__ == "__main__":
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    of_groups(runs)
    of_means(runs)
    of_f1_and_gaps(runs)
    of_tests(runs)
    of_speed()
