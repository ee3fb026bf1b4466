"""Benchmarks: every fast path beside a named alternative in the same run; prints a table in Markdown.

    python -m tests.benchmarks --rows 10000 100000 1000000
    python -m tests.benchmarks --only fitting

Each figure is a median of processor times (by the clock where it says so) of interleaved runs (OMP_NUM_THREADS=1); slow
alternatives run once, and where they are measured on fewer rows or points they are scaled up. Trust the ratios:
machines differ, and may be busy.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from hybrid.tuning.pair_search import Goal, best_pair

from hybrid.metrics.curve import curve_of
from hybrid.metrics.flips import Chain, chain_of_three, flips
from hybrid.metrics.lattice import Lattice
from hybrid.metrics.order import Order
from hybrid.metrics.summary import expected_calibration_error
from hybrid.metrics.surface import surface_of
from hybrid.routing.engine import Policy
from hybrid.routing.patterns import Cascade, Triage
from hybrid.routing.table import Answers, Predictions, Tier
from hybrid.routing.voting import vote

CLASSES = 77


def timed(work: Callable[[], object], clock: Callable[[], float] = time.process_time) -> float:
    start = clock()  # mostly processor time: a busy machine stretches the wall clock
    work()
    return clock() - start


def beside(
    ours: Callable[[], object],
    other: Callable[[], object],
    *,
    runs: int = 7,
    slow: bool = False,
    clock: Callable[[], float] = time.process_time,
):
    """Return medians of both, run in turn; a slow alternative runs once, in the middle."""
    mine, theirs = [], []
    ours()  # once before the clock starts
    for i in range(runs):
        mine.append(timed(ours, clock))
        if not slow or i == runs // 2:
            theirs.append(timed(other, clock))
    return float(np.median(mine)), float(np.median(theirs))


def made(n: int, k: int, *, seed: int = 0) -> tuple[Predictions, np.ndarray]:
    """Make up answers of k tiers, each surer and dearer than the one before."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, CLASSES, n)
    confidence, label = np.empty((n, k)), np.empty((n, k), dtype=np.int64)
    for j in range(k):
        confidence[:, j] = np.round(1 - rng.beta(0.5, 2 + 2 * j, n) ** 1.3, 9)
        right = rng.random(n) < 0.25 + 0.75 * confidence[:, j]
        label[:, j] = np.where(right, truth, rng.integers(0, CLASSES, n))
    price = np.array([0.0, 0.0004, 0.003, 0.01])[:k]
    tiers = tuple(Tier(f"t{j}", "recorded", float(price[j])) for j in range(k))
    answers = [
        Answers(label[:, j], confidence[:, j], np.full(n, price[j]), np.full(n, 100 * price[j])) for j in range(k)
    ]
    return Predictions.from_answers(tiers, tuple(map(str, range(CLASSES))), answers), truth


def sorting(n: int) -> float:
    values = np.random.default_rng(0).random(n).astype(np.float32)
    return float(np.median([timed(lambda: np.sort(values)) for _ in range(7)]))


def pandas_loop(table: Predictions, truth: np.ndarray, points: int) -> None:
    frame = pd.DataFrame(
        {"c": table.confidence[:, 0], "a": table.label[:, 0], "b": table.label[:, 1], "t": truth,
         "c0": table.cost[:, 0], "c1": table.cost[:, 1], "l0": table.latency[:, 0], "l1": table.latency[:, 1]}
    )  # fmt: skip
    for threshold in np.linspace(0, 1, points):
        kept = frame["c"] >= threshold
        final = frame["a"].where(kept, frame["b"])
        (final == frame["t"]).mean(), (~kept).mean()
        (frame["c0"] + frame["c1"].where(~kept, 0)).mean(), (frame["l0"] + frame["l1"].where(~kept, 0)).mean()


def triage(n: int):
    table, truth = made(n, 2)
    policy = Policy(Triage(0.8), table.tiers)

    def exact():
        rows = flips(policy, table, truth, name="threshold", index=None)
        order = Order.of(rows.gauge)
        return curve_of(rows, order)

    points = 100 if n <= 10_000 else 10
    mine, theirs = beside(exact, lambda: pandas_loop(table, truth, points), slow=True)
    yield "triage, every distinct threshold", "pandas loop, 100 thresholds", mine, theirs * 100 / points


def cascade(n: int):
    table, truth = made(n, 3)
    policy = Policy(Cascade((0.8, 0.7)), table.tiers)
    chain = Chain.of(policy, table, truth)
    fine = Lattice(octaves=16, parts=32)

    def masks(points: int):
        a, b = chain.confidence[:2]
        one, two, three = chain.right
        for s in np.linspace(0, 1, points):
            keep = a >= s
            for t in np.linspace(0, 1, points):
                np.where(keep, one, np.where(b >= t, two, three)).mean()

    share = 10 if n > 10_000 else 40
    mine, theirs = beside(lambda: surface_of(chain, fine.edges, fine.edges), lambda: masks(share), runs=9, slow=True)
    yield "cascade, 514 × 514 thresholds, columns read", "grid of masks, 100 × 100", mine, theirs * (100 / share) ** 2
    goal = Goal(max_cost_per_1000=1.0)

    def brute(points: int):
        best = 0.0
        a, b = chain.confidence[:2]
        one, two, three = chain.right
        for s in np.linspace(0, 1, points):
            keep = a >= s
            for t in np.linspace(0, 1, points):
                sure = b >= t
                cost = 0.0004 * (~keep) + 0.003 * (~keep & ~sure)
                if 1000 * cost.mean() <= 1.0:
                    best = max(best, np.where(keep, one, np.where(sure, two, three)).mean())
        return best

    def exact():
        return best_pair(policy, chain_of_three(policy, table, truth), goal)

    assert exact().accuracy >= brute(8)
    share = 8 if n > 10_000 else 40
    mine, theirs = beside(exact, lambda: brute(share), slow=True)
    name = "brute search of 40 × 40 pairs, no more accurate"
    yield "exact optimum under a budget, all pairs", name, mine, theirs * (40 / share) ** 2


def votes(n: int):
    table, _ = made(n, 4)
    some = min(n, 100_000)

    def by_row():
        for row in table.label[:some].tolist():
            Counter(row).most_common(1)

    mine, theirs = beside(lambda: vote(table, slice(None), "majority", 0.001), by_row, slow=True)
    yield "majority vote of 4", "Counter, row by row", mine, theirs * n / some


def synthetic(n: int, classes: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Make up texts: common words, and a few of the class's own, some of which other classes use as well."""
    rng = np.random.default_rng(seed)
    words = np.array([f"w{i}" for i in range(8_000)], dtype=object)
    own = rng.integers(200, 8_000, (classes, 30))
    common = np.minimum(rng.zipf(1.3, (n, 8)), 8_000) - 1
    truth = rng.integers(0, classes, n)
    mine = own[truth[:, None], rng.integers(0, 30, (n, 3))]
    mine[:, 2] = np.where(rng.random(n) < 0.4, rng.integers(200, 8_000, n), mine[:, 2])
    return np.array([" ".join(row) for row in words[np.column_stack([common, mine])]], dtype=object), truth


def fitting(name: str, texts: np.ndarray, truth: np.ndarray):
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    from hybrid.tiers.classifier import fit_classifier

    n_classes = int(truth.max()) + 1
    splits = list(StratifiedKFold(5, shuffle=True, random_state=0).split(texts, truth))
    fold = np.empty(len(texts), dtype=np.int64)
    for f, (_, held) in enumerate(splits):
        fold[held] = f
    start = time.process_time()
    ours = fit_classifier(texts, truth, fold, n_classes=n_classes)
    mine = time.process_time() - start
    pipeline = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression())
    some = splits if len(texts) <= 30_000 and n_classes <= 10 else splits[:1]
    start = time.process_time()
    if len(some) == 5:
        plain = cross_val_predict(pipeline, texts, truth, cv=splits, method="predict_proba").argmax(axis=1)
        rows = np.arange(len(texts))
        theirs = time.process_time() - start
    else:
        rows = some[0][1]
        plain = pipeline.fit(texts[some[0][0]], truth[some[0][0]]).predict(texts[rows])
        theirs = 5 * (time.process_time() - start)
    right, other = ours.answers.label == truth, plain == truth[rows]
    gap = right[rows].astype(float) - other
    half = 1.96 * gap.std() / np.sqrt(len(rows))
    ece = expected_calibration_error(ours.answers.confidence, right)
    print(
        f"- {name}: {right.mean():.4f} accurate (plain pipeline {other.mean():.4f}; difference {gap.mean():+.4f} ± "
        f"{half:.4f} on {len(rows):,} rows), ECE {ece:.4f}; CPU seconds",
        flush=True,
    )
    yield (
        f"fit + out of fold + calibration: {name}",
        f"cross_val_predict ({len(some)} of 5 folds measured)",
        mine,
        theirs,
    )


def streaming(n: int):
    import duckdb

    from hybrid.data import pieces
    from hybrid.tuning import streaming as stream

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.parquet"
        table, truth = made(min(n, 1_000_000), 2)
        names = np.array([f"class {i}" for i in range(CLASSES)], dtype=object)
        frame = pd.DataFrame(
            {"label": names[truth], "fast_label": names[table.label[:, 0]], "fast_confidence": table.confidence[:, 0],
             "llm_label": names[table.label[:, 1]], "llm_cost": table.cost[:, 1]}
        )  # fmt: skip
        frame.to_parquet(path, row_group_size=1 << 17, index=False)
        del frame, table
        source = pieces.pieces(path)
        plan = stream.plan(source, stream.guess(source).columns, ["fast", "llm"])
        source = source * max(1, n // 1_000_000)  # the same million again and again
        listed = ", ".join([f"'{path}'"] * max(1, n // 1_000_000))
        query = f"""select least(floor(-log2(greatest(1 - fast_confidence, 1e-9)) * 16), 257) as bin,
            fast_label = label as a, llm_label = label as b, count(*), sum(llm_cost)
            from read_parquet([{listed}]) group by all"""

        def sql(threads):
            with duckdb.connect(config={"threads": threads}) as connection:
                connection.execute(query).fetchall()

        for threads in (1, 2):
            clock = time.process_time if threads == 1 else time.perf_counter
            mine, theirs = beside(
                lambda: stream.tally_pieces(source, plan, run=pieces.on_threads(threads)),  # noqa: B023
                lambda: sql(threads),  # noqa: B023
                runs=5 if n <= 10_000_000 else 3,
                clock=clock,
            )
            name = "1 thread" if threads == 1 else "2 threads, by the clock"
            yield f"Parquet streamed, {name}", f"DuckDB group-by, {name}", mine, theirs


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--only", choices=("triage", "cascade", "votes", "fitting", "streaming"))
    parser.add_argument("--texts", type=Path, help="a CSV with text and label, fitted beside the made-up texts")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        name, n = options.child
        for what, other, mine, theirs in {"triage": triage, "cascade": cascade, "votes": votes, "streaming": streaming}[
            name
        ](int(n)):
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            limit = sorting(int(n))
            ratio = f"{theirs / mine:,.{0 if theirs > 9.5 * mine else 1}f}×" if theirs == theirs else ""
            beside_it = f"{1000 * theirs:,.0f} ms" if theirs == theirs else ""
            print(
                f"| {int(n):,} | {what} | {1000 * mine:,.1f} ms | {other} | {beside_it} | {ratio} | "
                f"{mine / limit:,.1f} | {peak:,.0f} MB |",
                flush=True,
            )
        return
    print("| rows | what | ours | alternative | its time | ratio | in float32 `np.sort`s | peak memory |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for name in ("triage", "cascade", "votes", "streaming"):
        if options.only in (None, name):
            for n in options.rows:  # a process each, so that its peak memory is its own
                subprocess.run([sys.executable, "-m", "tests.benchmarks", "--child", name, str(n)], check=True)
    if options.only in (None, "fitting"):
        sets = [("22,500 made-up texts × 150 classes", *synthetic(22_500, 150))]
        if options.texts:
            frame = pd.read_csv(options.texts)
            codes = pd.factorize(frame["label"], sort=True)[0].astype(np.int64)
            sets = [(f"{options.texts.stem}, {len(frame):,} texts", frame["text"].to_numpy(dtype=object), codes)]
        for name, texts, truth in sets:
            for what, other, mine, theirs in fitting(name, texts, truth):
                print(
                    f"| {len(texts):,} | {what} | {mine:.1f} s | {other} | {theirs:.1f} s | {theirs / mine:.0f}× | | |"
                )


if __name__ == "__main__":
    main()
