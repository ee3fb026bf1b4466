"""The house rules: format, lint, types, layers; and the README's code runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import labelled, study_of, table_of

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "format", "--check", "."],
        ["ruff", "check", "."],
        ["mypy"],
        ["lint-imports"],
    ],
    ids=" ".join,
)
def test_the_house_rules_hold(command):
    tool = Path(sys.executable).with_name(command[0])
    done = subprocess.run([str(tool), *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_the_readme_code_runs(tmp_path, monkeypatch):
    from hybrid.data.columns import Columns
    from hybrid.data.dataset import build
    from hybrid.data.split import split
    from hybrid.production.bundle import save
    from hybrid.routing.engine import Policy
    from hybrid.routing.patterns import Triage
    from hybrid.study.evidence import record
    from hybrid.tiers.whatif import WhatIf

    dataset = build(labelled(), Columns("label", text="text"))
    recording = record(dataset, split(dataset))
    table = table_of(study_of(recording, whatif=WhatIf()))
    test = recording.split.test
    policy = Policy(Triage(0.5), table.select(["classifier", "what-if LLM"]).tiers)
    monkeypatch.chdir(tmp_path)
    Path("triage.zip").write_bytes(
        save(
            policy=policy,
            classes=dataset.classes,
            models=recording.models,
            texts=list(dataset.texts[test]),
            recorded=table.take(test),
            evidence={},
        )
    )
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 5
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def test_the_sample_is_what_its_readme_says():
    from hybrid.data.dataset import build
    from hybrid.data.guess import guess_columns
    from hybrid.data.read import read
    from hybrid.data.texts import bare

    folder = ROOT / "sample_data"
    table = read("support_tickets.csv", (folder / "support_tickets.csv").read_bytes()).table
    dataset = build(table, guess_columns(table))
    assert dataset.n_rows == 1520
    assert len(dataset.classes) == 7
    assert len(set(map(bare, dataset.texts))) == 1520  # nothing recurs with only numbers changed
    second = read("recorded_predictions.csv", (folder / "recorded_predictions.csv").read_bytes()).table
    assert [r.name for r in guess_columns(second).recorded] == ["naive_bayes", "minilm"]
