"""The runtime beside scikit-learn's bare ``predict_proba`` on the same texts: in one batch, and text by text.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.runtime [--texts FILE.csv]

Every row ends at the classifier. The bare pipeline (word pairs, as many terms) returns probabilities; the runtime
returns decisions with their traces. Processor times, medians of interleaved runs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import hybrid
from hybrid.data.dataset import build
from hybrid.data.guess import guess_columns
from hybrid.data.split import split
from hybrid.production.bundle import save_bundle
from hybrid.routing.engine import Policy
from hybrid.routing.patterns import Cascade
from hybrid.study.evidence import record
from hybrid.tiers.classifier import MAX_TERMS

SAMPLE = Path(__file__).parents[2] / "sample_data" / "support_tickets.csv"
SINGLE = 200  # texts decided one by one
RUNS = 7


def beside(works: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the median processor time of each, run in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(RUNS):
        for name, work in works.items():
            start = time.process_time()
            work()
            seconds[name].append(time.process_time() - start)
    return {name: float(np.median(s)) for name, s in seconds.items()}


def main(path: Path) -> None:
    """Fit both, and print microseconds a text."""
    frame = pd.read_csv(path, dtype=str, keep_default_na=False).astype(object)
    dataset = build(frame, guess_columns(frame))
    recording = record(dataset, split(dataset))
    assert dataset.texts is not None
    rows = recording.split.test
    texts = [str(t) for t in dataset.texts[rows]]
    names = ["classifier", "rules"]  # a chain that the classifier ends, whatever it says
    policy = Policy(Cascade((0.0,)), recording.predictions.select(names).tiers)
    pipeline = hybrid.load(
        save_bundle(
            policy=policy,
            classes=dataset.classes,
            models=recording.models,
            texts=texts,
            recorded=recording.predictions.take(rows),
            evidence={},
        )
    )
    bare = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), max_features=MAX_TERMS), LogisticRegression())
    tune = recording.split.tune
    bare.fit(dataset.texts[tune], dataset.truth[tune])
    few = texts[:SINGLE]
    found = beside(
        {
            "decide, one batch": lambda: pipeline.decide(texts),
            "predict_proba, one batch": lambda: bare.predict_proba(texts),
            "decide, text by text": lambda: [pipeline(t) for t in few],
            "predict_proba, text by text": lambda: [bare.predict_proba([t]) for t in few],
        }
    )
    print(f"{path.stem}: {len(texts):,} texts, {len(dataset.classes)} classes; microseconds of processor time a text")
    for name, seconds in found.items():
        print(f"- {name}: {1e6 * seconds / (len(texts) if 'batch' in name else len(few)):,.0f}")
    batch = found["predict_proba, one batch"] / found["decide, one batch"]
    single = found["decide, text by text"] / found["predict_proba, text by text"]
    loop = (found["decide, text by text"] / len(few)) / (found["decide, one batch"] / len(texts))
    print(f"In a batch {batch:.0%} of its speed; a single text {single:.2f} of its time; a batch {loop:.0f}× a loop")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--texts", type=Path, default=SAMPLE, help="a CSV with text and label")
    main(parser.parse_args().texts)
