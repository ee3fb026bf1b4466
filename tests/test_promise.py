"""Evaluation and scoring: what a bundle does on a file is what deciding row by row gives, in its order."""

import json
import sys
from importlib.metadata import PackageNotFoundError
from types import ModuleType

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import CLASSES, table

import hybrid
from hybrid.data.columns import Columns, RecordedColumns
from hybrid.data.dataset import build
from hybrid.data.pieces import pieces
from hybrid.errors import BundleError, DatasetError, TierError
from hybrid.metrics.summary import share
from hybrid.production import bundle as bundles
from hybrid.production import scoring
from hybrid.production.bundle import save_bundle
from hybrid.production.promise import Evaluation, evaluate, read_labelled
from hybrid.production.scoring import Job, load_function, load_models, score_file
from hybrid.routing.engine import Policy, Scope
from hybrid.routing.patterns import Triage
from hybrid.routing.table import NEVER, NONE, SCOPE, UNKNOWN, Tier

SMALL, LARGE = Tier("small", "recorded", 0.001), Tier("large", "recorded", 0.25)
FAR = Tier("far", SCOPE)
EVIDENCE = {"metrics": {"test": {"accuracy": {"low": 0.5}}}, "out_of_scope": {"bound": 0.1}}


def packed(path, policy=None, **evidence):
    """Write a bundle of functions: triage at 0.6 from small to large."""
    policy = policy or Policy(Triage(0.6), (SMALL, LARGE))
    recorded = table(policy.tiers, [[(0, 0.5 + 0.1 * (i % 3))] * len(policy.tiers) for i in range(6)])
    path.write_bytes(
        save_bundle(
            policy=policy,
            classes=CLASSES,
            models={},
            texts=[f"text {i}" for i in range(6)],
            recorded=recorded,
            evidence=evidence or EVIDENCE,
        )
    )
    return str(path)


def rows(n=80):
    """Draw labels, among them apples, which no bundle knows, and none of these; and what two models say of each row.

    The file knows apples first, so that its codes are not the bundle's.
    """
    rng = np.random.default_rng(1)
    words = [*CLASSES, "None of these"]
    return pd.DataFrame(
        {
            "text": [f"some text {i}" for i in range(n)],
            "label": rng.choice([*CLASSES, *CLASSES, "none of these", "apples"], n),
            "small": rng.choice([*words, "no class", "apples"], n),
            "small_sure": rng.choice(["0.3", "0.6", "0.9"], n),
            "large": rng.choice([*words, "apples", ""], n, p=[0.3, 0.2, 0.1, 0.1, 0.1, 0.2]),
            "cost": rng.choice(["0.5", "0.75"], n),
        },
        dtype=object,
    )


def of(frame, *, cost=None, text="text", names=("small", "large")):
    found = {
        "small": RecordedColumns("small", "small", confidence="small_sure", blank_is_failure=False),
        "large": RecordedColumns("large", "large", cost=cost, blank_is_failure=False),
    }
    return build(frame, Columns("label", text=text, recorded=tuple(found[n] for n in names)))


def by_hand(frame, *, price=None, aside=lambda row: False):
    """Decide row by row: whether each is right, what it costs, and whether it was set aside; None: nobody can say."""
    found = []
    for row in frame.to_dict("records"):
        sure = row["small"] not in ("no class", "apples") and float(row["small_sure"]) >= 0.6
        said = "none of these" if aside(row) else (row["small"] if sure else row["large"]).lower()
        cost = 0.0 if aside(row) else 0.001 + (0 if sure else float(row["cost"]) if price is None else price)
        right = said == row["label"] != "apples" or (row["label"] == "apples" and said == "none of these")
        found.append(None if row["large"] == "" else (right, cost, said))
    return found


def test_a_bundle_is_evaluated_as_deciding_row_by_row_does(tmp_path):
    path, frame = packed(tmp_path / "b.zip"), rows()
    for cost in (None, "cost"):
        found = evaluate(path, of(frame, cost=cost))
        decided = by_hand(frame, price=None if cost else 0.25)
        kept = [d for d in decided if d is not None]
        assert (found.n_rows, found.left_out) == (len(kept), len(frame) - len(kept))
        assert 0 < found.left_out < len(frame)
        right = np.array([d[0] for d in kept])
        assert found.accuracy == share(right)
        assert found.cost_per_1000 == pytest.approx(1000 * np.mean([d[1] for d in kept]))
        labels = [row for row, d in zip(frame["label"], decided, strict=True) if d is not None]
        assert found.unknown == {"apples": labels.count("apples")}
        outside = [d for label, d in zip(labels, kept, strict=True) if label in ("apples", "none of these")]
        assert found.outside == len(outside)
        assert found.said == sum(d[2] == "none of these" for d in outside)
        assert 0 < found.said < found.outside
        assert (found.promised, found.aside, found.bound) == (0.5, None, 0.1)
    answers = dict(zip(frame["text"], frame["large"], strict=True))
    asked = []

    def large(texts):
        asked.extend(texts)
        return [hybrid.Answer(answers[t] or None, 0.9) for t in texts]

    found = evaluate(path, of(frame), models={"large": large})
    assert (found.n_rows, found.left_out) == (len(frame), 0)
    assert sorted(asked) == sorted(
        t for t, label, sure in zip(frame["text"], frame["small"], frame["small_sure"], strict=True)
        if label in ("no class", "apples") or float(sure) < 0.6
    )  # fmt: skip


def test_what_is_set_aside_is_measured_on_what_is_in_scope(tmp_path):
    policy = Policy(Triage(0.6), (SMALL, LARGE)).within(FAR, Scope(0.8, NONE))
    path, frame = packed(tmp_path / "b.zip", policy), rows()
    frame["large"] = frame["large"].replace("", "billing")
    far = {t: i % 5 == 0 for i, t in enumerate(frame["text"])}
    score = lambda texts: [hybrid.Answer(None, 0.8 if far[t] else 0.7, 0.0) for t in texts]  # noqa: E731
    found = evaluate(path, of(frame), models={"far": score})
    decided = by_hand(frame, price=0.25, aside=lambda row: far[row["text"]])
    assert found.accuracy.value == pytest.approx(np.mean([d[0] for d in decided]))
    inside = [far[t] for t, label in zip(frame["text"], frame["label"], strict=True) if label in CLASSES]
    assert found.aside == share(np.array(inside))
    as_class = Policy(Triage(0.6), (SMALL, LARGE)).within(FAR, Scope(0.8, 2))  # "technical" means out of scope
    found = evaluate(packed(tmp_path / "c.zip", as_class), of(frame), models={"far": score})
    outside = [i for i, label in enumerate(frame["label"]) if label not in CLASSES[:2]]
    said = ["technical" if far[t] else d[2] for t, d in zip(frame["text"], decided, strict=True)]
    assert found.outside == len(outside)
    assert found.said == sum(said[i] in ("technical", "none of these") for i in outside)


def test_what_nobody_said_of_an_evaluation_is_nothing():
    found = Evaluation(1, share(np.array([True])), 0.0, None)
    assert (found.unknown, found.outside, found.said, found.left_out, found.aside, found.bound) == (
        {},
        0,
        0,
        0,
        None,
        None,
    )


def test_what_cannot_be_evaluated_is_said(tmp_path):
    path, frame = packed(tmp_path / "b.zip"), rows()
    with pytest.raises(DatasetError, match="None of the file's labels is a class of the bundle"):
        evaluate(path, of(frame.assign(label=["x", "y"] * 40)))
    with pytest.raises(DatasetError, match=r"asks 'large', .*large_label, large_confidence"):
        evaluate(path, of(frame, names=("small",)))
    with pytest.raises(DatasetError, match="No row has an answer of every external tier"):
        evaluate(path, of(frame.assign(small=["", "billing"] * 40, large=["billing", ""] * 40)))
    with pytest.raises(DatasetError, match="No column looks like texts"):
        evaluate(path, of(frame, text=None, names=("small",)), models={"large": lambda texts: []})
    assert evaluate(path, of(frame, text=None)).n_rows > 0  # nobody is asked
    for evidence, promised in (
        ({"metrics": {"test": {"accuracy": {"low": 1}}}}, 1.0),
        ({"metrics": {"test": {"accuracy": {"low": 0}}}}, 0.0),
        ({"metrics": {"test": {"accuracy": {"low": 1.1}}}}, None),
        ({"metrics": {"test": {"accuracy": {"low": -0.1}}}}, None),
        ({"metrics": {"test": {"accuracy": {"low": "0.5"}}}}, None),
        ({"metrics": {"test": 0.5}}, None),
    ):
        assert evaluate(packed(tmp_path / "e.zip", **evidence), of(frame)).promised == promised


def test_labelled_rows_are_read_by_the_columns_that_are_named_or_guessed(tmp_path):
    path = tmp_path / "rows.csv"
    frame = pd.DataFrame({"text": [f"my words {i} are long" for i in range(40)], "label": ["a", "b"] * 20})
    frame["body"], frame["queue"] = frame["text"].str.upper(), ["x", "x", "y", "y"] * 10
    frame["split"] = ["train", "test"] * 20
    frame.to_csv(path, index=False)
    found = read_labelled(str(path))
    assert (found.classes, found.texts[0], found.given_split) == (("a", "b"), "my words 0 are long", None)
    named = read_labelled(str(path), label="queue", text="body")
    assert (named.classes, named.texts[0]) == (("x", "y"), "MY WORDS 0 ARE LONG")
    with pytest.raises(DatasetError, match=r"nowhere\.csv' cannot be read: No such file"):
        read_labelled(str(tmp_path / "nowhere.csv"))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A module that answers, a bundle and a file in two pieces, in a folder of their own."""
    module, asked = ModuleType("replying"), []

    def say(texts):
        asked.extend(texts)
        codes = [int(t.split()[1]) if t else 9 for t in texts]
        names = [*CLASSES, "none of these", None]
        return [hybrid.Answer(names[c % 5], 0.5 if c % 2 else 0.7, c / 8) for c in codes]

    module.models = module.others = {"small": say, "large": say}
    module.redact, module.number = str.upper, 7
    monkeypatch.setitem(sys.modules, "replying", module)
    scoring._runtime.cache_clear()
    texts = [f"row {i}" for i in range(7)]
    frame = pd.DataFrame({"id": range(8), "body": [*texts, None]}, dtype=object)
    frame.to_parquet(tmp_path / "in.parquet", row_group_size=5, index=False)
    yield tmp_path, packed(tmp_path / "b.zip"), [*texts, ""], asked
    scoring._runtime.cache_clear()


def test_a_file_is_scored_piece_by_piece_in_its_order(here):
    folder, bundle, texts, _asked = here
    job = Job(bundle, "replying", "body", ("id",))
    told = []
    out = folder / "out.parquet"
    n = score_file(job, pieces(folder / "in.parquet"), out, progress=lambda done, of: told.append((done, of)))
    assert n == 8
    assert told == [(0, 2), (1, 2), (2, 2)]
    found = pq.read_table(out).to_pydict()
    assert found["id"] == list(range(8))
    decisions = hybrid.load(bundle, models=sys.modules["replying"].models).decide(texts)
    assert [*found] == ["id", "decision", "tier", "confidence", "cost"]
    assert {None, "none of these", *CLASSES} == set(found["decision"])
    for name, wanted in (("decision", "label"), ("tier", "tier"), ("confidence", "confidence"), ("cost", "cost")):
        assert found[name] == [getattr(d, wanted) for d in decisions]
    assert sorted(p.name for p in folder.iterdir()) == ["b.zip", "in.parquet", "out.parquet"]
    pd.DataFrame({"body": []}, dtype=object).to_parquet(folder / "empty.parquet", index=False)
    with pytest.raises(DatasetError, match="no text to decide"):
        score_file(job, (), folder / "no.parquet")


def test_parts_belong_to_one_bundle_file_and_setting(here):
    folder, bundle, _, _ = here
    source, parts = pieces(folder / "in.parquet"), folder / "parts"
    job = Job(bundle, "replying", "body")
    parts.mkdir()
    scoring._check_same_job(parts, job, source)
    scoring._check_same_job(parts, job, pieces(folder / "in.parquet"))
    for other, of in ((Job(bundle, None, "body"), source), (Job(bundle, "replying", "body", ("id",)), source),
                      (job, source[:1])):  # fmt: skip
        with pytest.raises(TierError, match="holds parts of another run"):
            scoring._check_same_job(parts, other, of)
    scoring._check_same_job(parts, job, source)
    packed(folder / "b.zip", Policy(Triage(NEVER), (SMALL, LARGE)))
    with pytest.raises(TierError, match="holds parts of another run"):
        scoring._check_same_job(parts, job, source)
    done = folder / "part-000001.parquet"
    done.write_bytes(b"as it is")
    scoring._score_piece(scoring._Numbered(1, source[0]), job=job, parts=str(folder))
    assert done.read_bytes() == b"as it is"  # a piece that is there is not decided again


def test_functions_are_imported_by_module_and_name(here, monkeypatch):
    folder, *_ = here
    module = sys.modules["replying"]
    assert load_models(None) is None
    assert load_models("replying") is module.models
    assert load_models("replying:others") is module.others
    assert load_function("replying")("a") == "A"
    (folder / "mine_of_the_test.py").write_text("models = {'small': len}")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != str(folder)])
    assert load_models("mine_of_the_test") == {"small": len}
    assert sys.path.count(str(folder)) == 1
    del sys.modules["mine_of_the_test"]
    for load, spec, says in (
        (load_models, "replying:number", "'replying:number' is int, not a dict"),
        (load_models, "replying:none", r"'replying:none' cannot be imported \(.*a dict from a tier's name"),
        (load_models, "nowhere_at_all", "cannot be imported"),
        (load_models, "", "cannot be imported"),
        (load_function, "replying:number", "is int, not a function"),
        (load_function, "replying:none", "of a function from a text to a text"),
    ):
        with pytest.raises(TierError, match=says):
            load(spec)


def test_a_bundle_says_what_its_evidence_rests_on(tmp_path, monkeypatch):
    def only_numpy(package):
        if package != "numpy":
            raise PackageNotFoundError(package)
        return "1.2"

    with monkeypatch.context() as patch:
        patch.setattr(bundles, "version", only_numpy)
        found = bundles._versions()
    assert (found.pop("python"), found.pop("numpy")) == (sys.version.split()[0], "1.2")
    assert set(found.values()) == {"not installed as a package"}
    bundle = hybrid.load(packed(tmp_path / "b.zip"), models={"small": len, "large": len}).bundle
    assert set(bundle.evidence["versions"]) >= {"python", "numpy", "scipy", "hybrid-tuner"}
    assert bundle.evidence["versions"]["numpy"] == np.__version__
    assert bundle.evidence["versions"]["python"] == sys.version.split()[0]
    with pytest.raises(ValueError, match="not JSON compliant"):
        packed(tmp_path / "n.zip", note=float("nan"))
    assert json.loads(json.dumps(bundle.evidence)) == bundle.evidence
    policy, none = Policy(Triage(0.6), (SMALL, LARGE)), table((SMALL, LARGE), [[(UNKNOWN, np.nan), (0, 0.5)]])
    with pytest.raises(BundleError, match="No row was answered by all of small, large: nothing would prove"):
        save_bundle(policy=policy, classes=CLASSES, models={}, texts=["a"], recorded=none, evidence={})
