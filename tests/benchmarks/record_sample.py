"""Record what MiniLM and a small local LLM say about the sample tickets: ``sample_data/recorded_answers.csv``.

    python tests/benchmarks/record_sample.py ask answers.jsonl     # an hour or two; may be stopped and started again
    python tests/benchmarks/record_sample.py write answers.jsonl   # with what was answered so far

Needs the extras ``embedding`` and ``local`` and the package that ships the LLM (see the README).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import local_llm
import numpy as np
import pandas as pd

from hybrid.data.columns import Columns
from hybrid.data.dataset import Dataset, build
from hybrid.data.read import read
from hybrid.data.split import Split, split
from hybrid.tiers.classifier import fit_classifier
from hybrid.tiers.embedders import MiniLM
from hybrid.tiers.embedding import fit_embedding
from hybrid.tiers.embedding_cache import EmbeddingCache
from hybrid.tiers.llm.local_server import small_model

ROOT = Path(__file__).parents[2]
TICKETS = ROOT / "sample_data" / "support_tickets.csv"
ANSWERS = TICKETS.with_name("recorded_answers.csv")


def load() -> tuple[Dataset, Split]:
    """Read the tickets and split them as the product does, into fewer folds: embedding and fitting take their time."""
    dataset = build(read(TICKETS.name, TICKETS.read_bytes()).table, Columns("label", text="text", id="id"))
    return dataset, split(dataset, n_folds=5)


def ask(answers: Path) -> None:
    """Ask the LLM, in an order in which every part is a fair part of tune and of test."""
    dataset, parts = load()
    rows = np.random.default_rng(0).permutation(dataset.n_rows)
    on_test = parts.fold[rows] < 0
    rank = np.where(on_test, np.cumsum(on_test) / on_test.sum(), np.cumsum(~on_test) / (~on_test).sum())
    rows = rows[np.argsort(rank, kind="stable")]
    local_llm.ask(dataset, parts, rows, answers, model=small_model(), what="customer's message to a shop", narrow=False)


def write(answers: Path) -> None:
    """Fit MiniLM, calibrate the LLM, and write a row for each ticket; blank where the LLM was not asked."""
    dataset, parts = load()
    names = np.array(dataset.classes)
    minilm = MiniLM.installed()
    fast = fit_classifier(dataset.texts, dataset.truth, parts.fold, n_classes=len(names))
    fitted = fit_embedding(
        dataset.texts,
        dataset.truth,
        parts.fold,
        n_classes=len(names),
        embedder=minilm,
        fast=fast,
        cache=EmbeddingCache(minilm.identity),
    )
    seconds = single_call_seconds(lambda text: fitted.model.answer([text]), list(dataset.texts[:200]))
    table = pd.DataFrame({"id": dataset.ids, "split": np.where(parts.fold < 0, "test", "tune")})
    table["minilm_label"] = names[fitted.answers.label]
    table["minilm_confidence"] = fitted.answers.confidence
    table["minilm_latency"] = round(seconds, 4)
    table["minilm_cost"] = local_llm.usd(table["minilm_latency"])
    said = pd.DataFrame([vars(a) for a in local_llm.read(answers)]).set_index("row").sort_index()
    rows = said.index.to_numpy()
    right = said["label"].to_numpy() == names[dataset.truth[rows]]
    said["confidence"] = local_llm.calibrated(said["confidence"].to_numpy(), right, parts.fold[rows])
    said["cost"] = local_llm.usd(said["cpu_seconds"])
    fields = {"label": "label", "confidence": "confidence", "cpu_seconds": "latency", "cost": "cost"}
    for theirs, ours in (fields | {"prompt_tokens": "prompt_tokens", "completion_tokens": "completion_tokens"}).items():
        table[f"smollm2_{ours}"] = (
            said[theirs].reindex(range(dataset.n_rows)).astype(said[theirs].dtype, errors="ignore")
        )
    whole = {f"smollm2_{c}": "Int64" for c in ("prompt_tokens", "completion_tokens")}
    table.astype(whole).to_csv(ANSWERS, index=False, lineterminator="\n")
    test = parts.fold[rows] < 0
    print(
        f"LLM: {len(rows)} of {dataset.n_rows} rows, right on {right.mean():.1%}, on test rows {right[test].mean():.1%}"
    )
    print(f"MiniLM: right on {(fitted.answers.label == dataset.truth).mean():.1%} of all rows")
    print(f"seconds a call on one core: MiniLM {seconds:.4f}, LLM {said['cpu_seconds'].median():.2f} (median)")


def single_call_seconds(call, texts: list[str]) -> float:
    """Return the median processor time of a call about one text, which other programs do not lengthen."""
    seconds = []
    for text in texts:
        start = time.process_time()
        call(text)
        seconds.append(time.process_time() - start)
    return float(np.median(seconds))


if __name__ == "__main__":
    {"ask": ask, "write": write}[sys.argv[1]](Path(sys.argv[2]))
