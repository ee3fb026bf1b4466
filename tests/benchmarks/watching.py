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
from scipy.special import logsumexp
from scipy.stats import chi2_contingency

from hybrid.metrics.sequential import FROM, STAKES, asymptotic_radius, change, places, together
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


def wealth_of(counts, values, mean, low):
    """Return `evidence_above` of many samples at once, from how often each value occurs in each: (..., n_values)."""
    gains = np.log1p(np.multiply.outer(STAKES / (mean - low), np.asarray(values) - mean))
    return logsumexp(counts @ gains.T, axis=-1) - np.log(len(STAKES))


def running(hits):
    """Return how many there are by the end of each day, of hits of shape (n_days, n_a_day)."""
    return hits.sum(axis=-1).cumsum(axis=-1)


def peeking(runs, reviewed=10, paid=50):
    """Two equal bundles, looked at every day of a year: how often is one called better?"""
    rng, bar = np.random.default_rng(2), np.log(2 / 0.05)
    wrong = np.zeros(5)
    some = np.array([-1.0, 0.0, 1.0])
    n, n_paid = (np.arange(1, DAYS + 1) * each for each in (reviewed, paid))
    for _ in range(runs):
        x, y = (rng.random((DAYS, reviewed)) < 0.9 for _ in range(2))
        unpaired = y.astype(int) - x
        paired = np.where(rng.random(x.shape) < 0.2, unpaired, 0)
        for k, gain in enumerate((unpaired, paired)):
            counts = np.stack([running(gain == v) for v in some], axis=-1)
            both = np.maximum(wealth_of(counts, some, 0.0, -1.0), wealth_of(counts, -some, 0.0, -1.0))
            wrong[k] += both.max() >= bar
        mean, error = _moments(unpaired, n)
        wrong[3] += (np.abs(mean) > 1.96 * error / np.sqrt(n))[n >= 100].any()
        cost = np.zeros((DAYS, paid))
        for sign in (1, -1):
            cost += sign * (rng.random(cost.shape) < 0.2) * rng.lognormal(0, 1, cost.shape)
        mean, error = _moments(cost, n_paid)
        wrong[2] += (np.abs(mean) > error * asymptotic_radius(n_paid, alpha=0.05, best_at=2_000))[n_paid >= FROM].any()
        wrong[4] += (np.abs(mean) > 1.96 * error / np.sqrt(n_paid))[n_paid >= FROM].any()
    names = ("accuracy, unpaired", "accuracy, paired", "cost", "accuracy, 95 % interval daily", "cost, likewise")
    print(f"{runs} years of two equal bundles, looked at every day; called different (stated at most 0.05):")
    print("  " + ", ".join(f"{n} {k / runs:.3f}" for n, k in zip(names, wrong, strict=True)))


def _moments(values, n):
    mean = running(values) / n
    return mean, np.sqrt(running(values**2) / n - mean**2)


def promises(runs, reviewed=10, alpha=0.1, delta=0.1):
    """A risk of exactly α, at which both "holds" and "broken" are wrong; and others, at which one of them is right."""
    n, bar = np.arange(1, DAYS + 1) * reviewed, np.log(1 / delta)
    for risk in (alpha, 0.5 * alpha, 0.7 * alpha, 1.3 * alpha, 1.5 * alpha, 2 * alpha):
        hits = running(np.random.default_rng(3).random((runs, DAYS, reviewed)) < risk)
        counts = np.stack([hits, n - hits], axis=-1)
        said = []
        for values, mean, low in (([-1.0, 0.0], -alpha, -1.0), ([1.0, 0.0], alpha, 0.0)):
            over = wealth_of(counts, values, mean, low) >= bar
            said += [over.any(axis=1), np.where(over.any(axis=1), n[over.argmax(axis=1)], np.inf)]
        half = [np.median(said[k][said[k - 1]]) if said[k - 1].any() else np.nan for k in (1, 3)]
        print(
            f"risk {risk:.3f}, {alpha} promised, {reviewed} reviews a day: 'holds' in {said[0].mean():.3f} of years "
            f"(median {half[0]:.0f} reviews), 'broken' in {said[2].mean():.3f} ({half[1]:.0f})",
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
