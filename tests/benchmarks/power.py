"""Power: how often certificates are given, how much they cover and how often they break, beside other procedures.

    python tests/benchmarks/power.py [RUNS]

Worlds are functions of a confidence, so that the risk at a threshold is an integral, not an estimate. All procedures
see the same labelled sets (seed 0): *plain* is Learn-then-Test from the least number of rows that can pass; *split*
starts several times with equal parts of δ, from a depth at which half of the risk would pass, and carries nothing;
*carried* are the same starts by the fallback procedure; *betting* replaces the binomial test by a mixture of bets;
*mapie* is MAPIE's default for a precision, and *mapie, starts* its fixed sequences from five starts, where MAPIE 1.x is
installed; *gate* is the lowest threshold at which enough are right as seen, as TRACER and others calibrate one: it
promises nothing, and is left out where procedures are compared.
"""

from __future__ import annotations

import sys
import time
import warnings
from functools import cache
from unittest.mock import patch

import numpy as np
from scipy.special import bdtr

from benchmarks.promises import CASCADE, TRIAGE, most_allowed, world
from hybrid.routing.table import Predictions
from hybrid.tuning import SELECTIVE, SYSTEM, certify, certify_by_class
from hybrid.tuning.certificates import Run, Start, fallback, least_trials
from hybrid.tuning.certify import _along
from hybrid.tuning.walks import Walks, legs, run_along

ALPHA = DELTA = 0.1
BETS = np.linspace(0.05, 1, 20) / (1 - ALPHA) * 0.99  # what of the capital is bet on "right"
GRID = 200_001


def _uniform(rng, shape):
    return 0.5 + 0.5 * rng.random(shape)


def _crowded(rng, shape):
    return 1 - 0.5 * rng.random(shape) ** 3


def _ties(draw):
    return lambda rng, shape: np.round(draw(rng, shape) * 20) / 20


# how confidences lie, and how likely an answer is right at each
WORLDS = {
    "uniform": (_uniform, lambda c: c),
    "uniform, over-confident": (_uniform, lambda c: np.clip(c - 0.08, 0, 1)),
    "crowded": (_crowded, lambda c: c),
    "crowded, over-confident": (_crowded, lambda c: np.clip(c - 0.05, 0, 1)),
    "U-shaped": (_uniform, lambda c: 0.92 - np.clip(np.abs(c - 0.8) - 0.12, 0, 1) * np.where(c > 0.8, 0.6, 1)),
    "wrong at the top": (_uniform, lambda c: np.where(c > 0.97, 0.6, np.clip(c + 0.08, 0, 1))),
    "a step at the top": (_uniform, lambda c: np.where(c > 0.9, 0.91, np.where(c > 0.6, 0.97, 0.6))),
    "anti-informative": (_uniform, lambda c: 1 - 0.24 * (c - 0.5)),
    "uninformative": (_uniform, lambda c: 0.93 + 0 * c),
    "uniform, ties": (_ties(_uniform), lambda c: c),
    "crowded, ties": (_ties(_crowded), lambda c: c),
}
STRONG = 0.95


def truth_of(name, risk):
    """Return a function that tells the true risk at a threshold."""
    draw, right = WORLDS[name]
    c = np.sort(draw(np.random.default_rng(5), GRID))[::-1]
    kept = np.arange(GRID + 1)
    errors = np.concatenate([[0], np.cumsum(1 - right(c))])
    along = errors / np.maximum(kept, 1) if risk == SELECTIVE else (errors + (GRID - kept) * (1 - STRONG)) / GRID

    def true(threshold):
        return along[np.searchsorted(-c, -threshold, side="right")]

    return true


def labelled(name, n, rng):
    draw, right = WORLDS[name]
    c = draw(rng, n)
    return c, rng.random(n) > right(c), rng.random(n) > STRONG


def ours(errors, trials, track, risk):
    return run_along(errors, trials, legs(risk, track, alpha=ALPHA, delta=DELTA), risk=ALPHA, delta=DELTA)


def plain(errors, trials, track, risk):
    at = 0 if risk == SYSTEM else int(np.searchsorted(trials, least_trials(ALPHA, DELTA)))
    return fallback(errors, trials, [Start(at, 1.0)] if at < len(trials) else [], risk=ALPHA, delta=DELTA)


def _equal(trials, share, risk):
    """Return equal parts of δ: from where half of α passes nine times in ten, and at twice as many rows each."""
    if risk == SYSTEM:
        return [Start(min(int(np.searchsorted(share, s)), len(share) - 1), 0.25) for s in (0, 0.25, 0.5, 0.75)]
    n = int(trials[-1])
    first = least = least_trials(ALPHA, DELTA)
    while first < n // 2:
        allowed = np.arange(first + 1)
        passing = allowed[bdtr(allowed, first, ALPHA) <= DELTA]
        if passing.size and bdtr(passing[-1], first, ALPHA / 2) >= 0.9:
            break
        first = int(np.ceil(first * 1.1))
    wanted = [max(least, min(first, n // 2))]
    while 2 * wanted[-1] <= 0.75 * n:
        wanted.append(2 * wanted[-1])
    return [Start(int(np.searchsorted(trials, w)), 1 / len(wanted)) for w in wanted if w <= n]


def split(errors, trials, track, risk):
    found = [fallback(errors, trials, [s], risk=ALPHA, delta=DELTA) for s in _equal(trials, track.share, risk)]
    return [run for runs in found for run in runs]


def carried(errors, trials, track, risk):
    return fallback(errors, trials, _equal(trials, track.share, risk), risk=ALPHA, delta=DELTA)


def betting(errors, trials, track, risk):
    logs = np.log1p(-BETS[:, None] * (1 - ALPHA)) * errors + np.log1p(BETS[:, None] * ALPHA) * (trials - errors)
    passes = np.exp(logs).mean(axis=0) >= 1 / DELTA
    at = 0 if risk == SYSTEM else int(np.searchsorted(trials, _flawless()))
    passed = len(passes) - at if passes[at:].all() else int(np.argmin(passes[at:]))
    return [Run(at, at + passed - 1, DELTA)] if passed > 0 else []


def _flawless():
    """Return how many trials without an error make enough of the bets."""
    n = np.arange(1, 1000)
    return int(n[np.argmax(((1 + BETS[:, None] * ALPHA) ** n).mean(axis=0) >= 1 / DELTA)])


def gate(errors, trials, track, risk):
    passes = np.flatnonzero(errors <= ALPHA * trials)
    return [Run(int(passes[-1]), int(passes[-1]), 1.0)] if len(passes) and trials[passes[-1]] else []


METHODS = {"ours": ours, "plain": plain, "split": split, "carried": carried, "betting": betting, "gate": gate}


@cache
def _mapie():
    """Return MAPIE's controllers by name; none where it is not installed."""
    try:
        from mapie.risk_control import BinaryClassificationController, FWERFixedSequenceTesting
    except ImportError:
        return {}

    def controller(test):
        return BinaryClassificationController(
            lambda x: np.column_stack([1 - x[:, 0], x[:, 0]]),
            "precision",
            target_level=1 - ALPHA,
            confidence_level=1 - DELTA,
            fwer_method=test,
            best_predict_param_choice="recall",
        )

    tests = {"mapie": "bonferroni_holm", "mapie, starts": FWERFixedSequenceTesting(n_starts=5)}
    return {name: lambda test=test: controller(test) for name, test in tests.items()}


def by_mapie(make, c, wrong):
    """Return the threshold that MAPIE promises; None where it promises none."""
    found = make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found.calibrate(c[:, None], (~wrong).astype(int))
    best = found.best_predict_param
    return None if best is None else float(np.ravel(best)[0])


def compare(name, n, risk, *, runs, methods=METHODS, seed=0):
    """Return for each procedure the share of runs that certify, the mean share kept, and the share that break."""
    rng, true = np.random.default_rng(seed), truth_of(name, risk)
    others = _mapie() if risk == SELECTIVE and methods is METHODS else {}
    found = {m: np.zeros(3) for m in (*methods, *others)}
    for _ in range(runs):
        c, wrong, strong_wrong = labelled(name, n, rng)
        for m, make in others.items():
            t = by_mapie(make, c, wrong)
            if t is not None and (c >= t).any():
                found[m] += 1, (c >= t).mean(), true(t) > ALPHA
        falling, track = _along(c, wrong, strong_wrong, risk, None)
        errors, trials = track.counts()
        for m, method in methods.items():
            got = method(errors, trials, track, risk)
            if got:
                at = max(run.last for run in got)
                found[m] += 1, track.share[at], true(falling[at]) > ALPHA
    return {m: x / runs for m, x in found.items()}


def grouped(n_groups, size, *, runs, uneven=False, alike=0.8, seed=0):
    """Return the same for rows of which most in a group are right and wrong together.

    Rows of one customer share the luck of being right with probability `alike` each; a confidence is uniform on
    .5–1 and calibrated. *rows* takes rows for independent; *one a group* takes a random row of each; *betting* bets on
    the groups' shares of mistakes; *ours* is what ships.
    """
    rng = np.random.default_rng(seed)
    found = {m: np.zeros(3) for m in ("ours", "one a group", "betting", "rows")}
    for _ in range(runs):
        sizes = rng.geometric(1 / size, n_groups) if uneven else np.full(n_groups, size)
        group = np.repeat(np.arange(n_groups), sizes)
        n = len(group)
        c = _uniform(rng, n)
        luck = np.where(rng.random(n) < alike, rng.random(n_groups)[group], rng.random(n))
        wrong, none = luck > c, np.zeros(n, dtype=bool)
        one = rng.permutation(n)
        one = one[np.unique(group[one], return_index=True)[1]]
        tracks = {
            "ours": _along(c, wrong, none, SELECTIVE, group),
            "one a group": _along(c[one], wrong[one], none[one], SELECTIVE, None),
            "rows": _along(c, wrong, none, SELECTIVE, None),
        }
        for m, (falling, track) in tracks.items():
            got = ours(*track.counts(), track, SELECTIVE)
            if got:
                t = falling[max(run.last for run in got)]
                found[m] += 1, (c >= t).mean(), (1 - max(t, 0.5)) / 2 > ALPHA
        t = _bet_on_groups(*tracks["ours"])
        if t is not None:
            found["betting"] += 1, (c >= t).mean(), (1 - max(t, 0.5)) / 2 > ALPHA
    return {m: x / runs for m, x in found.items()}


def _bet_on_groups(falling, track):
    """Walk with bets on each group's share of mistakes (Waudby-Smith & Ramdas 2024), mixed over `BETS`."""
    order = np.lexsort((track.at, track.unit))
    unit, at, trials, errors = (x[order] for x in (track.unit, track.at, track.trials, track.errors))
    first = np.flatnonzero(np.diff(unit, prepend=-1))
    own = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(unit))))

    def within(values):
        running = np.cumsum(values)
        return running - (running[first] - values[first])[own]

    there, share = within(trials), np.clip(within(errors), 0, 1)
    capital = np.zeros(len(falling))
    for bet in BETS:
        worth = np.where(there > 0, np.log1p(bet * (ALPHA - share)), 0)
        change = np.diff(worth, prepend=0)
        change[first] = worth[first]
        capital += np.exp(np.cumsum(np.bincount(at, change, minlength=len(falling) + 1)[: len(falling)])) / len(BETS)
    passes = capital >= 1 / DELTA
    start = int(np.searchsorted(track.counts()[1], _flawless()))
    stop = len(passes) - start if passes[start:].all() else int(np.argmin(passes[start:]))
    return falling[start + stop - 1] if stop > 0 else None


def estimates(name, n, *, runs, seed=0):
    """Return the rows that were said to certify (median), and how often fresh data of that size do."""
    rng, said, certifies = np.random.default_rng(seed), [], []
    while len(said) < runs:
        c, wrong, strong = labelled(name, n, rng)
        _, track = _along(c, wrong, strong, SELECTIVE, None)
        walks = Walks(ALPHA, DELTA, SELECTIVE)
        walks.add("all", track)
        if walks.cheapest() is not None:
            continue
        more = walks.rows_needed(seed=len(said))
        said.append(np.inf if more is None else more)
        if more is not None:
            c, wrong, strong = labelled(name, more, rng)
            _, track = _along(c, wrong, strong, SELECTIVE, None)
            certifies.append(bool(ours(*track.counts(), track, SELECTIVE)))
    return float(np.median(said)), float(np.mean(certifies or [np.nan])), float(np.mean(np.isinf(said)))


@patch.object(Walks, "rows_needed", lambda *_, **__: None)
def by_class(n_classes, n, *, runs, seed=0, **how):
    """Return certified share and broken share of thresholds per class; ``how`` may set `min_rows`."""
    rng, w = np.random.default_rng(seed), world(n_classes=n_classes)
    covered = broken = 0.0
    for _ in range(runs):
        predictions, truth = w.draw(n, rng)
        found = certify_by_class(TRIAGE, predictions, truth, alpha=0.15, delta=DELTA, **how)
        if found.policy is not None:
            pattern = found.policy.pattern
            covered += (w.mass * w.kept(pattern)).sum()
            broken += any(w.selective_risk(pattern, [p.of]) > 0.15 for p in found.parts if p.of is not None)
    return covered / runs, broken / runs


def never_kept(*, runs, seed=0):
    """Return of a class without a certificate, wrong at a confidence of 1 in 40 %, how many rows stay kept."""
    rng, kept = np.random.default_rng(seed), 0
    for _ in range(runs):
        truth = rng.integers(0, 2, 600)
        said = np.where((truth == 1) & (rng.random(600) < 0.4), 0, truth)
        column = np.column_stack([said, truth])
        sure = np.ones((600, 2))
        table = Predictions(TRIAGE.tiers, ("a", "b"), column, sure, 0 * sure, 0 * sure)
        found = certify_by_class(TRIAGE, table, truth, alpha=ALPHA)
        kept += int((said == 0).sum()) if found.policy is not None and found.policy.pattern.by_class[0] <= 1 else 0
    return kept / runs


def _row(found):
    return "  ".join(f"{m} {x[0]:.3f} / {x[1]:.3f} / {x[2]:.3f}" for m, x in found.items())


def main(runs):
    start = time.perf_counter()
    allowed = most_allowed(runs, DELTA)
    print(f"alpha = delta = {ALPHA}; certified / share kept / broken, of {runs} runs; broken in {allowed} allowed")
    for n in (200, 500, 1000):
        print(f"uniform, selective, n = {n}: {_row(compare('uniform', n, SELECTIVE, runs=runs))}", flush=True)
    for n, size, uneven in ((100, 10, False), (50, 20, False), (400, 3, True), (200, 10, True)):
        found = grouped(n, size, runs=runs, uneven=uneven)
        print(f"{n} groups of {'about ' if uneven else ''}{size}: {_row(found)}", flush=True)
    print(f"rows kept of a class that nothing certifies, all at a confidence of 1: {never_kept(runs=20):.0f}")
    for name, n in (("uniform", 60), ("uniform", 200), ("crowded", 40), ("uniform, over-confident", 200)):
        said, certify_, none = estimates(name, n, runs=max(runs // 10, 20))
        print(f"about N rows, {name}, n = {n}: N = {said:,.0f} (median), fresh certify {certify_:.2f}; none {none:.2f}")
    for n_classes, n in ((10, 4000), (77, 2000), (77, 8000)):
        few = max(runs // 20, 20)
        own, old = by_class(n_classes, n, runs=few), by_class(n_classes, n, runs=few, min_rows=50)
        print(f"{n_classes} classes, n = {n}: kept {own[0]:.3f}, broken {own[1]:.3f}; least 50 rows {old[0]:.3f}")
    some, worst = max(runs // 5, 20), {}
    for risk in (SELECTIVE, SYSTEM):
        for name in WORLDS:
            for n in (60, 120, 250, 500, 1000):
                found = compare(name, n, risk, runs=some)
                best = max(x[1] for m, x in found.items() if m != "gate")
                for m, x in found.items():
                    worst.setdefault(m, []).append(best - x[1])
                mark = "  TOO OFTEN" if found["ours"][2] * some > most_allowed(some, DELTA) else ""
                print(f"{risk:9s} {name:24s} n = {n:4d}: {_row(found)}{mark}", flush=True)
    for m, lost in worst.items():
        print(f"{m}: below the best by {np.mean(lost):.3f} on average, {max(lost):.3f} at worst")
    print(f"{time.perf_counter() - start:.0f} s")


def seconds():
    """Print how many CPU seconds a certificate takes."""
    for n in (600, 10_000, 1_000_000):
        predictions, truth = world(n_classes=10).draw(n, np.random.default_rng(0))
        for policy, risk, groups, per_class in (
            (TRIAGE, SELECTIVE, None, False),
            (TRIAGE, SYSTEM, None, False),
            (TRIAGE, SELECTIVE, np.arange(n) // 10, False),
            (TRIAGE, SELECTIVE, None, True),
            (CASCADE, SYSTEM, None, False),
        ):
            find, how = (certify_by_class, {}) if per_class else (certify, {"risk": risk})
            start = time.process_time()
            find(policy, predictions, truth, alpha=0.2, groups=groups, **how)
            took = time.process_time() - start
            what = "per class" if per_class else risk + (", groups of 10" if groups is not None else "")
            print(f"{n:,} rows: {policy.pattern.title}, {what}: {took:.2f} s", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
    seconds()
