"""Rows with several labels: one study a label, on the same rows, and what all of them cost together."""

import io
import zipfile

import numpy as np
import pandas as pd
import pytest

from hybrid.data.columns import Columns, RecordedColumns
from hybrid.data.several import answers_about, joined_labels
from hybrid.errors import StudyError
from hybrid.study.questions import ask_all, same_sides
from hybrid.study.study import Study

NAMES, N = ("a", "b", "c"), 150
PRICES = {"small": 0.0001, "large": 0.003}


def two_models():
    """Make up the answers of two models about several labels a row: no texts, so that nothing is fitted."""
    rng = np.random.default_rng(4)
    due = rng.random((N, 3)) < (0.5, 0.35, 0.2)
    sure = rng.choice([0.5, 0.95], N, p=[0.3, 0.7])
    small = due ^ (rng.random(due.shape) < np.where(sure < 0.9, 0.4, 0.02)[:, None])
    large = due ^ (rng.random(due.shape) < 0.03)
    joined = [["|".join(rng.permutation(np.array(NAMES)[row])) for row in each] for each in (due, small, large)]
    told = pd.DataFrame({"label": joined[0], "small": joined[1], "large": joined[2]}, dtype=object)
    told[["small", "large"]] = told[["small", "large"]].replace("", "none")
    told["small_sure"], told["large_sure"] = sure.astype(str).astype(object), "0.9"
    told.loc[0, "large"] = "no idea"
    tiers = tuple(RecordedColumns(n, n, confidence=f"{n}_sure", price=p) for n, p in PRICES.items())
    return Study("two.csv", told, Columns("label", recorded=tiers))


@pytest.fixture(scope="module")
def found():
    return ask_all(two_models(), seconds=30)


def test_every_label_is_a_question_on_the_same_rows(found):
    assert {q.label for q in found.asked} == set(NAMES)
    assert not found.left_out
    sides = [q.study.split.test.tolist() for q in found.asked]
    assert sides[0] == sides[1] == sides[2]
    for q in found.asked:
        given = two_models().table
        due = np.array(["yes" if q.label in row.split("|") else "no" for row in given["label"]])
        assert (np.array(q.study.classes)[q.study.dataset.truth] == due).all()
        assert abs((due[sides[0]] == "yes").mean() - (due == "yes").mean()) < 0.03
        said = q.study.table["large"]
        assert said[0] == "“no idea”"  # no answer to any question, rather than a no to each
        assert said[1:].tolist() == ["yes" if q.label in row.split("|") else "no" for row in given["large"][1:]]
        assert q.study.policy == q.on.policy


def test_an_answer_about_all_labels_is_paid_once_a_text(found):
    rows, yes = found.asked[0].on.graded.rows, 1
    assert found.n_rows == len(rows)
    asked = {n: np.zeros(len(rows), dtype=bool) for n in PRICES}
    added, hits, marks, exact = 0.0, 0, 0, np.ones(len(rows), dtype=bool)
    for q in found.asked:
        o, truth = q.on.outcomes, q.study.dataset.truth[rows]
        for j, tier in enumerate(o.policy.tiers):
            asked[tier.name] |= o.asked[:, j]
            added += 1000 * PRICES[tier.name] * o.asked[:, j].mean()
        exact &= o.label == truth
        hits += 2 * int(((o.label == yes) & (truth == yes)).sum())
        marks += int((o.label == yes).sum() + (truth == yes).sum())
    once = sum(1000 * PRICES[n] * asked[n].mean() for n in PRICES)
    assert found.added_up.value == pytest.approx(added)
    assert found.cost_per_1000.value == found.at_once.value == pytest.approx(once)
    assert 0 < once < added
    assert found.at_once.low <= once <= found.at_once.high
    assert found.exact.value == pytest.approx(exact.mean())
    assert found.micro_f1.value == pytest.approx(hits / marks)
    told = [set(row.split("|")) - {"none"} for row in two_models().table["large"][rows]]
    due = [set(filter(None, row.split("|"))) for row in two_models().table["label"][rows]]
    assert found.whole.exact.value == pytest.approx(np.mean([a == b for a, b in zip(told, due, strict=True)]))
    assert found.whole.cost_per_1000.value == pytest.approx(1000 * PRICES["large"])


def test_the_readme_runs_all_bundles(found, tmp_path, monkeypatch):
    with zipfile.ZipFile(io.BytesIO(found.export())) as packed:
        packed.extractall(tmp_path)
    monkeypatch.chdir(tmp_path)
    blocks = (tmp_path / "README.md").read_text().split("```python\n")[1:]
    names = {"text": "my parcel"}
    exec("\n".join(block.split("```")[0] for block in blocks), names)
    assert names["labels"] == [found.asked[0].label]  # what the function that stands there answers


def test_what_cannot_be_asked_about_is_named():
    given = two_models()
    one = ask_all(given, names=["a", "never"], seconds=30)
    assert [q.label for q in one.asked] == ["a"]
    assert {n for n, _ in one.left_out} == {"never", "b", "c"}
    several = joined_labels(given.table, "label")
    assert answers_about(given.table, several, "large_sure") is None
    with pytest.raises(StudyError, match="one label each"):
        ask_all(Study("t", given.table.assign(label="a"), given.columns))


def test_the_sides_tear_no_group_and_leave_every_label_on_both():
    rng = np.random.default_rng(0)
    marks, group = rng.random((300, 4)) < (0.5, 0.2, 0.05, 0.02), rng.integers(0, 150, 300)
    test = same_sides(marks, group)
    assert not np.intersect1d(group[test], group[~test]).size
    assert marks[test].any(axis=0).all()
    assert marks[~test].any(axis=0).all()
