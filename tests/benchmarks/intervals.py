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
from hybrid.metrics.summary import share
from hybrid.metrics.surprise import ALARM, surprise


def holds(interval, truth):
    return interval.low <= truth <= interval.high


def clustered(groups, p, icc, rng):
    """Draw rows of which a share follows its group."""
    own = rng.random(groups.max() + 1) < p
    return np.where(rng.random(len(groups)) < np.sqrt(icc), own[groups], rng.random(len(groups)) < p)


def beta(groups, p, icc, rng):
    """Draw rows of groups whose accuracies differ, by a beta distribution of this correlation."""
    a = (1 - icc) / icc
    return rng.random(len(groups)) < rng.beta(p * a, (1 - p) * a, groups.max() + 1)[groups]


def sizes_of_groups():
    """Return worlds of groups; methods were chosen on the first seven, and the rest looked at afterwards."""
    rng = np.random.default_rng(0)
    even = {f"{n} groups x {size}": np.full(n, size) for n, size in ((100, 10), (50, 20), (50, 4), (20, 10))}
    about = {f"{n} groups of about {m}": np.random.default_rng(0).geometric(1 / m, n) for n, m in ((100, 10), (50, 20))}
    return {
        **even,
        **about,
        "200 groups of about 5": rng.geometric(1 / 5, 200),
        "60 groups, log-normal sizes": np.ceil(rng.lognormal(1.5, 1, 60)).astype(int),
        "150 groups of 100, 50, 33 ... rows": np.ceil(100 / np.arange(1, 151)).astype(int),
        "100 rows alone and 10 groups x 10": np.repeat([1, 10], [100, 10]),
    }


def of_groups(runs):
    for name, sizes in sizes_of_groups().items():
        groups = np.repeat(np.arange(len(sizes)), sizes)
        for how, icc in ((clustered, 0.0), (clustered, 0.3), (clustered, 1.0), (beta, 0.2)):
            rng, held, alarms, widths = np.random.default_rng(1), np.zeros(2), np.zeros(2), []
            for _ in range(runs):
                right = how(groups, 0.9, icc, rng)
                both = [share(right, g) for g in (None, groups)]
                held += [holds(i, 0.9) for i in both]
                widths.append([i.half_width for i in both])
                alarms += [surprise(right, 0.9, groups=g) <= ALARM for g in (None, groups)]
            rows, grouped = np.median(widths, axis=0)
            print(
                f"accuracy .9, {name}, correlation {icc}{' (beta)' if how is beta else ''}: rows {held[0] / runs:.3f}, "
                f"groups {held[1] / runs:.3f}, {grouped / rows:.2f} times as wide; a kept floor called missed: rows "
                f"{alarms[0] / runs:.3f}, groups {alarms[1] / runs:.3f}"
            )


def of_means(runs):
    worlds = {
        "exponential": (lambda r, n: r.exponential(size=n), 1.0),
        "log-normal 1": (lambda r, n: r.lognormal(0, 1, n), np.exp(0.5)),
        "log-normal 1.5": (lambda r, n: r.lognormal(0, 1.5, n), np.exp(1.125)),
        "30 % escalated, log-normal": (lambda r, n: (r.random(n) < 0.3) * r.lognormal(0, 1, n), 0.3 * np.exp(0.5)),
        "5 % escalated at one price": (lambda r, n: (r.random(n) < 0.05) * 1.0, 0.05),
        # looked at afterwards
        "normal": (lambda r, n: r.normal(5, 1, n), 5.0),
        "Weibull .5": (lambda r, n: r.weibull(0.5, n), 2.0),
        "Pareto 3": (lambda r, n: r.pareto(3, n), 0.5),
        "inverse Gaussian": (lambda r, n: r.wald(1, 0.3, n), 1.0),
        "log-normal 2": (lambda r, n: r.lognormal(0, 2, n), np.exp(2.0)),
        "10 % escalated, log-normal": (lambda r, n: (r.random(n) < 0.1) * r.lognormal(0, 1, n), 0.1 * np.exp(0.5)),
    }
    for name, (draw, mean) in worlds.items():
        for n in (50, 200, 1000):
            rng, held, widths = np.random.default_rng(2), np.zeros(2), []
            for _ in range(runs):
                x = draw(rng, n)
                half = stdtrit(n - 1, 0.975) * x.std(ddof=1) / np.sqrt(n)
                unseen = None if x.any() else 1.0  # what a row may cost where none cost anything
                found = mean_interval(x, most=unseen)
                held += [abs(x.mean() - mean) <= half, holds(found, mean)]
                widths.append((half, found.half_width))
            student, ours = np.median(widths, axis=0)
            print(
                f"mean cost, {name}, n = {n}: Student {held[0] / runs:.3f}, here {held[1] / runs:.3f}, "
                f"{ours / student if student else 1:.2f} times as wide"
            )


def labelled():
    """Return worlds of classes, as how often each is called which; methods were chosen on the first three."""
    rare = np.array([0.3, 0.2, 0.15, 0.1, 0.08, 0.07, 0.05, 0.03, 0.01, 0.01])

    def of(shares, accuracy):
        return np.outer(shares * (1 - accuracy), shares) + np.diag(shares * accuracy)

    even, falling = np.full(10, 0.1), 0.6 ** np.arange(7)
    fifteen = 0.8 ** np.arange(15)
    return {
        "ten classes down to 1 % of rows": of(rare, np.linspace(0.95, 0.6, 10)),
        "ten even classes, half right": of(even, np.full(10, 0.45)),
        "three even classes": of(np.full(3, 1 / 3), np.full(3, 0.7)),
        "seven classes, each .6 of the one before": of(falling / falling.sum(), np.full(7, 0.8)),
        "fifteen, each .8 of the one before": of(fifteen / fifteen.sum(), np.full(15, 0.75)),
        "four, one never said": of(np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.9, 0.85, 0.8, 0.0])),
        "thirty even classes": of(np.full(30, 1 / 30), np.full(30, 0.8)),
    }


def of_f1_and_gaps(runs):
    for name, joint in labelled().items():
        size, true = len(joint), np.mean(2 * np.diag(joint) / (joint.sum(0) + joint.sum(1)))
        for n in (50, 200, 1000):
            rng, found = np.random.default_rng(3), []
            for cells in rng.choice(size * size, (runs, n), p=joint.ravel()):
                i = macro_f1_interval(cells % size, cells // size)
                found += [] if np.isnan(i.low) else [(holds(i, true), i.half_width)]
            if len(found) > runs / 2:
                held, half = np.mean(found, axis=0)
                print(f"macro-F1, {name}, n = {n}: {held:.3f}, ± {half:.3f}")
    rng = np.random.default_rng(3)
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
