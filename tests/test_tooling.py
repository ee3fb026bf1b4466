"""The house rules: format, lint, types, layers; and the documents' code runs."""

import ast
import json
import logging
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import numpy as np
import pytest
from conftest import labelled
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from hybrid import Policy, Study, Triage, logs

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


def test_all_that_the_code_and_its_tests_import_is_installed_by_the_two_commands():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert Requirement(extras["test"][0]).extras == extras.keys() - {"test", "bench"}
    left = [Requirement(r) for r in sum(extras.values(), project["dependencies"]) if r not in extras["bench"]]
    installed = {project["name"]}
    while left:
        wanted = left.pop()
        if str(wanted) not in installed:
            installed |= {str(wanted), canonicalize_name(wanted.name)}
            needs = map(Requirement, requires(wanted.name) or [])
            extras = ["", *wanted.extras]
            left += [n for n in needs if not n.marker or any(n.marker.evaluate({"extra": e}) for e in extras)]
    made_by = {module: {canonicalize_name(n) for n in names} for module, names in packages_distributions().items()}
    files = [path for folder in ("hybrid", "pages") for path in (ROOT / folder).rglob("*.py")]
    for path in (ROOT / "app.py", *files, *(ROOT / "tests").glob("*.py")):
        for line in ast.parse(path.read_text()).body:  # what is imported in a function may be missing, and says so
            names = [a.name for a in line.names] if isinstance(line, ast.Import) else []
            names += [line.module] if isinstance(line, ast.ImportFrom) and line.module and not line.level else []
            for makers in (made_by.get(name.split(".")[0], set()) for name in names):
                assert not makers or makers & installed, f"{path.name} imports {makers}"


DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.fixture(scope="module")
def documented(tmp_path_factory):
    """Return a folder with what the documents' code reads: labelled texts with an LLM's answers, and a bundle."""
    folder = tmp_path_factory.mktemp("documented")
    table = labelled().assign(llm_confidence="0.95", llm_cost="0.003")
    classes = sorted(table["label"].unique())
    right = np.random.default_rng(0).random(len(table)) < 0.95
    table["llm_label"] = np.where(right, table["label"], classes[0])
    table.to_csv(folder / "tickets.csv", index=False)
    calls = (
        {"model": "gpt-x", "messages": [{"role": "user", "content": t}], "choices": [{"message": {"content": a}}]}
        for t, a in zip(table["text"], table["label"], strict=True)
    )
    (folder / "log.jsonl").write_text("\n".join(map(json.dumps, calls)))
    study = Study.read(folder / "tickets.csv").fit()
    tiers = {tier.name: tier for tier in study.tiers}
    study.export(Policy(Triage(0.5), (tiers["classifier"], tiers["llm"])), folder / "triage.zip")
    return folder


@pytest.mark.parametrize(
    "path",
    [path for path in DOCUMENTS if "```python" in path.read_text()],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_the_documents_code_runs(path, documented, monkeypatch):
    monkeypatch.chdir(documented)
    monkeypatch.delenv("EXAMPLE_API_KEY", raising=False)
    blocks = re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, path.name, "exec"), {"__name__": "__main__"})


def test_the_documents_can_be_followed():
    readme = (ROOT / "README.md").read_text()
    assert "```python" in readme
    assert len(readme.split()) <= 900
    for path in (*DOCUMENTS, ROOT / ".github" / "CONTRIBUTING.md", ROOT / "sample_data" / "README.md"):
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


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


def test_the_operators_guide_names_every_variable_that_the_code_reads_and_no_other():
    table = re.findall(r"^\| `((?:HYBRID|OPENAI)_[A-Z_]+)` \|", (ROOT / "docs" / "deploy.md").read_text(), re.MULTILINE)
    assert len(table) == len(set(table))
    read = set()
    for path in (*(ROOT / "hybrid").rglob("*.py"), *(ROOT / "pages").glob("*.py"), ROOT / "app.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                read |= set(re.findall(r"^(?:HYBRID|OPENAI)_[A-Z_]+$", node.value))
    assert set(table) == read


def test_the_log_in_lines_names_errors_without_their_words(monkeypatch, capsys):
    one = logging.getLogger("hybrid.told")
    before = logging.getLogger("hybrid").handlers[:]
    monkeypatch.setenv("HYBRID_LOG", "json")
    try:
        assert logs.structure()
        logging.getLogger("hybrid").handlers[-1].setStream(sys.stderr)
        try:
            raise KeyError("a customer's text")
        except KeyError:
            one.exception("It ended by a fault")
    finally:
        logging.getLogger("hybrid").handlers[:] = before
        logging.getLogger("hybrid").propagate = True
    said = json.loads(capsys.readouterr().err)
    assert (said["level"], said["logger"], said["message"], said["error"]) == (
        "error",
        "hybrid.told",
        "It ended by a fault",
        "KeyError",
    )
    assert "customer" not in json.dumps(said)
    assert "test_tooling.py" in said["at"][0]
