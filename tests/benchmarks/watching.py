"""Watching: false alarms and delays in simulated years of daily looks, beside tests that are repeated every day.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.watching alarms [--runs 100]
    OMP_NUM_THREADS=1 python -m tests.benchmarks.watching delays [--runs 20]
    OMP_NUM_THREADS=1 python -m tests.benchmarks.watching peeking [--runs 1000]
    OMP_NUM_THREADS=1 python -m tests.benchmarks.watching promises [--runs 1000]

Worlds are as `hybrid watch` sees them: 455 test rows as the reference, 200 texts a day, four streams, one of them the
mean of ten. Seeds are fixed.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.stats import chi2_contingency

from hybrid.metrics.sequential import asymptotic_sequence, change, evidence_above, evidence_below, places, together
from hybrid.production.watching import STREAMS, YEARLY

DAYS, A_DAY, REFERENCE = 365, 200, 455
ESCALATED = np.array([0.8, 0.2])
SURE = np.full(20, 0.05)
CLASSES = np.array([0.05, 0.08, 0.12, 0.15, 0.15, 0.2, 0.25])
TENTHS = np.full(10, 0.1)
BAR = np.log(len(STREAMS) / YEARLY)
LOOK = np.repeat(np.arange(DAYS), A_DAY)


def wealth(rng, before, after=None, since=0, days=DAYS):
    """Draw a year of a stream and return its evidence each day, and the categories that came."""
    look = LOOK[: days * A_DAY]
    codes = rng.choice(len(before), len(look), p=before)
    if after is not None:
        late = look >= since
        codes[late] = rng.choice(len(after), int(late.sum()), p=after)
    reference = rng.multinomial(REFERENCE, before)
    cuts = np.cumsum(before) if len(before) < 10 else None
    if cuts is not None:
        cuts[-1] = 1.0
    found = change(places(codes, reference, rng.random(len(codes))), look, n_looks=days, cuts=cuts)
    return found.wealth, codes, reference


def naive(codes, reference, level):
    """Whether a chi-square test, repeated at the end of every day on all there is, ever finds a difference."""
    for day in range(1, DAYS + 1):
        seen = np.bincount(codes[: day * A_DAY], minlength=len(reference))
        table = np.stack([reference, seen])[:, (reference + seen) > 0]
        if chi2_contingency(table, correction=False).pvalue < level:
            return True
    return False


def alarms(runs):
    rng = np.random.default_rng(0)
    any_alarm, each, repeated = 0, np.zeros(len(STREAMS)), 0
    for _ in range(runs):
        found, codes, reference = wealth(rng, ESCALATED)
        streams = [found, wealth(rng, SURE)[0], wealth(rng, CLASSES)[0]]
        streams.append(together(np.stack([wealth(rng, TENTHS)[0] for _ in range(10)])))
        over = np.array([s.max() >= BAR for s in streams])
        each += over
        any_alarm += over.any()
        repeated += naive(codes, reference, YEARLY / len(STREAMS))
    print(
        f"{runs} years without a change, {A_DAY} texts a day: a false alarm in {any_alarm / runs:.3f} (stated {YEARLY})"
    )
    print("  by stream " + ", ".join(f"{n} {k / runs:.3f}" for n, k in zip(STREAMS, each, strict=True)))
    print(f"  a chi-square test of escalation alone at {YEARLY / len(STREAMS)}, repeated daily: {repeated / runs:.3f}")


def moved(shares, by):
    """Return shares of which `by` went from the lower half of the categories to the upper."""
    half = len(shares) // 2
    out = shares.copy()
    out[:half] -= by * shares[:half] / shares[:half].sum()
    out[half:] += by * shares[half:] / shares[half:].sum()
    return out


def delays(runs):
    print("| stream | change | from day | found in 30 days | median days | 90 % within |\n|---|---|---|---|---|---|")
    for name, shares, sizes in (
        ("escalation", ESCALATED, (0.02, 0.03, 0.05, 0.1)),
        ("confidence", SURE, (0.05, 0.1, 0.2)),
        ("classes", CLASSES, (0.05, 0.1, 0.2)),
        ("texts", TENTHS, (0.05, 0.1, 0.2)),
    ):
        for since in (0, 100):
            for by in sizes:
                rng, waited = np.random.default_rng(1), []
                for _ in range(runs):
                    found = wealth(rng, shares, moved(shares, by), since, since + 60)[0]
                    if name == "texts":  # one of the ten numbers moves
                        still = [wealth(rng, shares, None, 0, since + 60)[0] for _ in range(9)]
                        found = together(np.stack([found, *still]))
                    over = np.flatnonzero(found >= BAR)
                    waited.append(over[0] - since + 1 if len(over) else np.inf)
                half, most = np.quantile(waited, [0.5, 0.9], method="higher")
                soon = np.mean(np.array(waited) <= 30)
                print(f"| {name} | {by:.0%} of texts | {since} | {soon:.2f} | {half:.0f} | {most:.0f} |", flush=True)


def peeking(runs, reviewed=10):
    """Two equal bundles, looked at every day of a year: how often is one called better?"""
    rng = np.random.default_rng(2)
    bar = np.log(2 / 0.05)
    wrong = np.zeros(5)
    for _ in range(runs):
        x, y = (rng.random(DAYS * reviewed) < 0.9 for _ in range(2))
        unpaired = y.astype(float) - x
        paired = np.where(rng.random(len(x)) < 0.2, unpaired, 0.0)
        cost = (rng.random(DAYS * 50) < 0.2) * rng.lognormal(0, 1, DAYS * 50)
        cost = cost - (rng.random(DAYS * 50) < 0.2) * rng.lognormal(0, 1, DAYS * 50)
        hit = np.zeros(5, dtype=bool)
        for day in range(1, DAYS + 1):
            for k, some in enumerate((unpaired[: day * reviewed], paired[: day * reviewed])):
                hit[k] |= max(evidence_above(some, 0.0, low=-1.0), evidence_below(some, 0.0)) >= bar
            paid = cost[: day * 50]
            i = asymptotic_sequence(paid)
            hit[2] |= i.low > 0 or i.high < 0
            for k, some in ((3, unpaired[: day * reviewed]), (4, paid)):
                error = some.std() / np.sqrt(len(some))
                hit[k] |= len(some) >= 100 and abs(some.mean()) > 1.96 * error
        wrong += hit
    names = ("accuracy, unpaired", "accuracy, paired", "cost", "accuracy, 95 % interval daily", "cost, likewise")
    print(f"{runs} years of two equal bundles, looked at every day; called different (stated at most 0.05):")
    print("  " + ", ".join(f"{n} {k / runs:.3f}" for n, k in zip(names, wrong, strict=True)))


def promises(runs, reviewed=10, alpha=0.1, delta=0.1):
    """A risk of exactly α, at which both "holds" and "broken" are wrong; and others, at which one of them is right."""
    bar = np.log(1 / delta)
    for risk in (alpha, 0.7 * alpha, 0.5 * alpha, 1.3 * alpha, 1.5 * alpha, 2 * alpha):
        rng, said, days = np.random.default_rng(3), np.zeros(2), [[], []]
        for _ in range(runs):
            wrong = (rng.random(DAYS * reviewed) < risk).astype(float)
            first = [None, None]
            for day in range(1, DAYS + 1):
                some = wrong[: day * reviewed]
                for k, test in enumerate((evidence_below, evidence_above)):
                    if first[k] is None and test(some, alpha) >= bar:
                        first[k] = day * reviewed
            for k in (0, 1):
                said[k] += first[k] is not None
                days[k] += [] if first[k] is None else [first[k]]
        half = [f"{np.median(d):.0f}" if d else "none" for d in days]
        print(
            f"risk {risk:.3f}, {alpha} promised, {reviewed} reviews a day: 'holds' in {said[0] / runs:.3f} of the "
            f"years (median {half[0]} reviews), 'broken' in {said[1] / runs:.3f} ({half[1]})",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("alarms", "delays", "peeking", "promises"))
    parser.add_argument("--runs", type=int)
    options = parser.parse_args()
    what = {"alarms": (alarms, 100), "delays": (delays, 20), "peeking": (peeking, 1000), "promises": (promises, 1000)}
    run, usual = what[options.what]
    run(options.runs or usual)


if __name__ == "__main__":
    main()
