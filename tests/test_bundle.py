"""Bundle and runtime: what was exported decides as the dashboard showed, or does not load."""

import asyncio
import io
import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import study_of, table_of

import hybrid
from hybrid.errors import BundleError, TierError
from hybrid.production.bundle import PolicyConfig, load_bundle, save_bundle
from hybrid.production.snippet import snippet
from hybrid.routing.engine import Policy, defaults, replay
from hybrid.routing.patterns import PATTERNS, Cascade, Triage
from hybrid.routing.table import NEVER, UNKNOWN, Predictions, Tier
from hybrid.tiers import KINDS
from hybrid.tiers.calibration import Calibrator
from hybrid.tiers.llm.questions import LLMSettings
from hybrid.tiers.llm.tier import LLMTier

OLD = Path(__file__).parent / "old_bundles"


def policy_of(recording, name, **chosen):
    kind = PATTERNS[name]
    names = {
        "triage": ["classifier", "llm"],
        "router": ["trained gate", "classifier", "llm"],
    }.get(name, ["rules", "classifier", "llm"])
    tiers = recording.predictions.select(names).tiers
    return Policy(defaults(kind, tiers, **chosen), tiers)


def export(recording, policy, rows=None):
    rows = recording.split.test if rows is None else rows
    return save_bundle(
        policy=policy,
        classes=recording.dataset.classes,
        models=recording.models,
        texts=list(recording.dataset.texts[rows]),
        recorded=recording.predictions.take(rows),
        evidence={"note": "test"},
    )


def llm_of(recording):
    """Return a function that gives the recorded answers of the LLM again."""
    column = recording.predictions.answers(recording.predictions.index("llm"))
    said = {
        text: hybrid.Answer(
            None if label == UNKNOWN else recording.dataset.classes[label], confidence=float(c), cost=float(cost)
        )
        for text, label, c, cost in zip(
            recording.dataset.texts, column.label, column.confidence, column.cost, strict=True
        )
    }
    return lambda texts: [said[t] for t in texts]


SETTINGS = [
    ("triage", {"threshold": 0.8}),
    ("triage", {"threshold": 0.8, "by_class": (0.3, None, 0.97)}),
    ("triage", {"threshold": 0.0}),
    ("triage", {"threshold": 0.4, "by_class": (NEVER, None, 0.5)}),
    ("cascade", {"thresholds": (0.7, 0.9)}),
    *(("ensemble", {"strategy": s}) for s in ("majority", "confidence_weighted", "cost_aware")),
    ("ensemble", {"strategy": "majority", "agreement": 0.75}),
    ("triage_ensemble", {"threshold": 0.6}),
    ("router", {"thresholds": (0.8,)}),
]


@pytest.mark.parametrize(("name", "chosen"), SETTINGS)
def test_the_loaded_bundle_decides_as_the_dashboard_row_by_row(recording, name, chosen):
    policy = policy_of(recording, name, **chosen)
    test = recording.split.test
    shown = replay(policy, recording.predictions.take(test))
    pipeline = hybrid.load(export(recording, policy), models={"llm": llm_of(recording)})
    texts = list(recording.dataset.texts[test])
    classes = recording.dataset.classes
    decisions = pipeline.decide(texts)
    for i, d in enumerate(decisions):
        assert d.label == (None if shown.label[i] == UNKNOWN else classes[shown.label[i]])
        assert d.tier == policy.names[shown.tier[i]]
        assert d.confidence == shown.confidence[i]
        assert d.cost == pytest.approx(shown.cost[i])
        assert [s.tier for s in d.trace] == [policy.names[j] for j in np.flatnonzero(shown.asked[i])]
        assert d.latency >= 0
    for i in range(0, len(texts), 13):  # one by one, the same
        one = pipeline(texts[i])
        assert (one.label, one.tier, one.confidence) == (decisions[i].label, decisions[i].tier, decisions[i].confidence)


def test_a_threshold_at_a_confidence_that_occurs_keeps_its_row_in_production(recording):
    test = recording.split.test
    confidence = recording.predictions.confidence[test, recording.predictions.index("classifier")]
    threshold = float(np.sort(confidence)[len(confidence) // 2])
    policy = policy_of(recording, "triage", threshold=threshold)
    pipeline = hybrid.load(export(recording, policy), models={"llm": llm_of(recording)})
    row = int(test[np.flatnonzero(confidence == threshold)[0]])
    assert pipeline(recording.dataset.texts[row]).tier == "classifier"


def test_never_is_a_word_in_the_bundle_and_escalates_a_confidence_of_1(recording):
    policy = policy_of(recording, "triage", threshold=NEVER, by_class=(NEVER, 0.5))
    content = export(recording, policy)
    written = json.loads(part(content, "policy.json"))["parameters"]
    assert (written["threshold"], list(written["by_class"].values())) == ("never", ["never", 0.5])
    assert load_bundle(content).policy.pattern == Triage(NEVER, (NEVER, 0.5, None))
    table = Predictions(
        policy.tiers, ("a", "b", "c"), np.zeros((1, 2), int), np.ones((1, 2)), np.zeros((1, 2)), np.zeros((1, 2))
    )
    assert replay(policy, table).tier.tolist() == [1]


def test_async_decides_as_sync_and_members_of_a_round_overlap(recording):
    policy = policy_of(recording, "ensemble")
    answer = llm_of(recording)

    async def slow(texts):
        await asyncio.sleep(0.01)
        return answer(texts)

    content = export(recording, policy)
    texts = list(recording.dataset.texts[recording.split.test])
    plain = hybrid.load(content, models={"llm": answer}).decide(texts)
    waited = asyncio.run(hybrid.load(content, models={"llm": slow}).batch(texts))
    assert [(d.label, d.tier, d.confidence) for d in plain] == [(d.label, d.tier, d.confidence) for d in waited]


def test_a_notebook_with_a_running_loop_can_decide(recording):
    tiers = recording.predictions.select(["rules", "classifier"]).tiers
    pipeline = hybrid.load(export(recording, Policy(Cascade((0.8,)), tiers)))

    async def cell():
        return pipeline("the courier lost my parcel")

    assert asyncio.run(cell()).label == "shipping"


def test_a_bundle_round_trips_at_full_precision(recording):
    policy = policy_of(recording, "triage", threshold=0.1 + 0.2)
    loaded = load_bundle(export(recording, policy))
    assert loaded.policy == policy
    assert loaded.config.classes == list(recording.dataset.classes)
    assert loaded.evidence["note"] == "test"
    assert 0 < len(loaded.golden) <= 60


def test_a_bundle_of_local_tiers_runs_without_any_model(recording, tmp_path):
    tiers = recording.predictions.select(["rules", "classifier"]).tiers
    content = export(recording, Policy(Cascade((0.8,)), tiers))
    path = tmp_path / "cascade.zip"
    path.write_bytes(content)
    decision = hybrid.load(path)("the courier lost my parcel")
    assert decision.label == "shipping"
    folder = tmp_path / "unpacked"
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    assert hybrid.load(folder)("the courier lost my parcel").label == "shipping"


def test_a_missing_model_is_named_with_the_line_that_mends_it(recording):
    content = export(recording, policy_of(recording, "triage"))
    with pytest.raises(BundleError, match=r"models=\{'llm': function\}"):
        hybrid.load(content)
    with pytest.raises(BundleError, match="external tiers of this bundle are: llm"):
        hybrid.load(content, models={"llm": len, "gpt": len})


def test_what_a_model_says_is_checked(recording, caplog):
    content = export(recording, policy_of(recording, "triage", threshold=1.0))
    said = {}

    def model(texts):
        return said["answers"] * len(texts)

    pipeline = hybrid.load(content, models={"llm": model})
    said["answers"] = [hybrid.Answer("no such class", 0.9)]
    assert pipeline("hello").label is None
    said["answers"] = [hybrid.Answer(None)]
    assert pipeline("hello").label is None
    said["answers"] = [hybrid.Answer("billing")]
    decision = pipeline("hello")
    assert (decision.label, decision.confidence, decision.cost) == ("billing", 1.0, 0.003)
    said["answers"] = [hybrid.Answer("billing", 1.0000001)]
    assert pipeline("hello").trace[1].confidence == 1.0
    for answers, why in {
        (hybrid.Answer("billing", 95.0),): r"llm.confidence = 95.0: must be in [0, 1]. Percentages? Divide by 100.",
        (hybrid.Answer("billing", 0.5, cost=float("nan")),): "llm.cost = nan: must be 0 or more.",
        (None,): "llm gave NoneType, not a hybrid.Answer.",
        (): "TierError: llm was asked about 1 texts and answered 0.",
    }.items():
        said["answers"] = list(answers)
        decision = pipeline("hello")
        assert decision.trace[1].failure == why
        assert (decision.fallback, decision.tier) == (True, "classifier")
        assert why in caplog.text


def test_one_bad_answer_of_a_function_costs_no_other_row(recording, caplog):
    content = export(recording, policy_of(recording, "triage", threshold=1.0))
    texts = [f"hello {i}" for i in range(40)]
    calls = []

    def model(asked):
        calls.append(len(asked))
        if "hello 17" in asked:
            raise OSError("no: hello 17")
        return [
            None if t == "hello 3" else hybrid.Answer("billing", 7.0 if t == "hello 5" else 0.9, cost=0.25)
            for t in asked
        ]

    async def waiting(asked):
        return model(asked)

    for function in (model, waiting):
        calls.clear()
        decisions = hybrid.load(content, models={"llm": function}).decide(texts)
        assert [i for i, d in enumerate(decisions) if d.fallback] == [3, 5, 17]
        assert decisions[17].trace[1].failure == "OSError: no: hello 17"
        assert "hello 17" not in caplog.text  # an error's words may hold the text
        assert all((d.label, d.cost) == ("billing", 0.25) for i, d in enumerate(decisions) if i not in (3, 5, 17))
        assert len(calls) <= 13

    def down(asked):
        calls.append(len(asked))
        raise OSError("down")

    calls.clear()
    assert all(d.fallback for d in hybrid.load(content, models={"llm": down}).decide(texts * 5))
    assert len(calls) <= 32  # and not two for every text


def test_half_an_emoji_is_read_as_where_it_was_tuned(recording):
    seen = []

    def model(texts):
        seen.extend(texts)
        return [hybrid.Answer("billing", 0.9) for _ in texts]

    content = export(recording, policy_of(recording, "triage", threshold=1.0))
    assert hybrid.load(content, models={"llm": model})("hello \ud83d").label == "billing"
    assert seen == ["hello \ufffd"]


@pytest.mark.parametrize(("name", "chosen"), SETTINGS)
def test_a_missing_confidence_is_no_answer_wherever_it_decides(recording, name, chosen):
    """The LLM stands first; in production its function forgets the confidence."""
    names = {"router": ["trained gate", "llm", "classifier"], "triage": ["llm", "classifier"]}
    tiers = recording.predictions.select(names.get(name, ["llm", "rules", "classifier"])).tiers
    policy = Policy(defaults(PATTERNS[name], tiers, **chosen), tiers)
    table = recording.predictions
    column = table.index("llm")
    varied = replace(table, confidence=table.confidence.copy())
    varied.confidence[::2, column] *= 0.9  # so that there is no usual one
    content = export(replace(recording, predictions=varied), policy)
    pipeline = hybrid.load(content, models={"llm": lambda texts: [hybrid.Answer("billing") for _ in texts]})
    if name == "router":
        pipeline.rehearse()
    else:
        with pytest.raises(BundleError, match=r"models\['llm'\].*gave no confidence"):
            pipeline.rehearse()
    decisions = pipeline.decide(list(recording.dataset.texts[:20]))
    steps = [s for d in decisions for s in d.trace if s.tier == "llm"]
    if name == "router":  # the gate alone decides there
        assert all(s.confidence == 1.0 and s.failure is None for s in steps)
    else:
        assert steps
        assert all("gave no confidence" in s.failure and s.label is None for s in steps)


def test_prices_of_what_if_hold_in_production(recording):
    """Which members count as cheap, and what a decision costs, are as shown."""
    prices = {"classifier": 0.02, "rules": 0.0005, "llm": 0.0001}
    own = (("llm", "own"),)
    table = table_of(study_of(recording, prices=tuple(prices.items()), confidence=own))
    test = recording.split.test
    for strategy in ("cost_aware", "majority"):
        tiers = table.select(["rules", "classifier", "llm"]).tiers
        policy = Policy(defaults(PATTERNS["ensemble"], tiers, strategy=strategy), tiers)
        shown = replay(policy, table.take(test))
        content = save_bundle(
            policy=policy,
            classes=recording.dataset.classes,
            models=recording.models,
            texts=list(recording.dataset.texts[test]),
            recorded=table.take(test),
            evidence={},
            measured={n: recording.predictions.take(test).cost[:, recording.predictions.index(n)] for n in prices},
        )
        pipeline = hybrid.load(content, models={"llm": llm_of(replace(recording, predictions=table))})
        outcomes = asyncio.run(pipeline.outcomes(list(recording.dataset.texts[test])))
        assert (outcomes.label == shown.label).all()
        assert outcomes.cost == pytest.approx(shown.cost)
        assert outcomes.cost.mean() == pytest.approx(0.0206)


def test_what_is_not_a_text_is_refused(recording):
    pipeline = hybrid.load(export(recording, policy_of(recording, "triage")), models={"llm": llm_of(recording)})
    with pytest.raises(TierError, match="list of texts"):
        pipeline.decide("one text")
    with pytest.raises(TierError, match="Text 2 is float"):
        pipeline.decide(["a", 1.0])
    assert pipeline.decide([]) == []


def rewrite(content, changes, *, sums=True):
    """Return a bundle with files changed (None: removed) and, if asked for, checksums that fit."""
    import hashlib

    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {n: archive.read(n) for n in archive.namelist()}
    files = {n: c for n, c in (files | changes).items() if c is not None}
    if sums:
        digests = {n: hashlib.sha256(c).hexdigest() for n, c in files.items() if n != "manifest.json"}
        files["manifest.json"] = json.dumps({"sha256": digests}).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for n, c in files.items():
            archive.writestr(n, c)
    return out.getvalue()


def part(content, name):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return archive.read(name)


def test_a_damaged_or_edited_bundle_is_refused(recording):
    content = export(recording, policy_of(recording, "triage", threshold=0.5))
    policy = json.loads(part(content, "policy.json"))
    edited = json.dumps(policy | {"parameters": {"threshold": 0.99}}).encode()
    cases = {
        "not a zip or is damaged": content[: len(content) // 2],
        "policy.json was changed after the export": rewrite(content, {"policy.json": edited}, sums=False),
        "Golden row .* is decided differently": rewrite(content, {"policy.json": edited}),
        "lacks classifier.npz": rewrite(content, {"classifier.npz": None}, sums=False),
        "no manifest.json": rewrite(content, {"manifest.json": None}, sums=False),
        "schema version 99": rewrite(content, {"policy.json": json.dumps(policy | {"schema_version": 99}).encode()}),
        "'telepathy' is not one of": rewrite(
            content, {"policy.json": json.dumps(policy | {"pattern": "telepathy"}).encode()}
        ),
        "has the parameters threshold": rewrite(
            content, {"policy.json": json.dumps(policy | {"parameters": {}}).encode()}
        ),
        "policy.json, classes": rewrite(content, {"policy.json": json.dumps(policy | {"classes": []}).encode()}),
        "damaged": rewrite(content, {"classifier.npz": b"not arrays"}),
        r"between 0.0 and 1 \(or": rewrite(
            content, {"policy.json": json.dumps(policy | {"parameters": {"threshold": 7}}).encode()}
        ),
    }
    golden = json.loads(part(content, "golden.json"))
    golden["rows"][3]["label"] = (golden["rows"][3]["label"] + 1) % 3  # same tier, same confidence
    cases["Golden row 4 is decided differently"] = rewrite(content, {"golden.json": json.dumps(golden).encode()})
    for says, broken in cases.items():
        with pytest.raises(BundleError, match=says):
            load_bundle(broken)
    assert load_bundle(rewrite(content, {})).policy.pattern == Triage(0.5)


def test_a_bundle_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(BundleError, match="no bundle at"):
        hybrid.load(tmp_path / "nowhere.zip")
    with pytest.raises(BundleError, match="no manifest"):
        hybrid.load(tmp_path)


def test_loading_runs_no_pickle(recording):
    content = export(recording, policy_of(recording, "triage"))
    with zipfile.ZipFile(io.BytesIO(part(content, "classifier.npz"))) as arrays:
        assert all(not arrays.read(n)[:200].count(b"'O'") for n in arrays.namelist())  # no object arrays
    evil = io.BytesIO()
    np.savez(evil, terms=np.array([object()], dtype=object))
    with pytest.raises(BundleError, match="damaged"):
        load_bundle(rewrite(content, {"classifier.npz": evil.getvalue()}))


def test_production_loads_no_dashboard_library(recording, tmp_path):
    tiers = recording.predictions.select(["rules", "classifier"]).tiers
    path = tmp_path / "b.zip"
    path.write_bytes(export(recording, Policy(Cascade((0.8,)), tiers)))
    code = (
        f"import hybrid, sys; hybrid.load({str(path)!r})('parcel'); "
        "print([m for m in ('pandas', 'streamlit', 'plotly', 'sklearn', 'hybrid.metrics.curve', "
        "'hybrid.metrics.summary') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_thresholds_of_classes_stand_in_the_bundle_by_name(recording):
    policy = policy_of(recording, "triage", by_class=(0.25, None, 0.75))
    content = export(recording, policy)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        stored = json.loads(archive.read("policy.json"))
    classes = recording.dataset.classes
    assert stored["parameters"]["by_class"] == {classes[0]: 0.25, classes[2]: 0.75}
    assert load_bundle(content).policy == policy
    del stored["parameters"]["by_class"]  # as it was before classes could have their own
    assert PolicyConfig(**stored).policy().pattern == Triage(policy.pattern.threshold)
    stored["parameters"]["by_class"] = {"astrology": 0.5}
    with pytest.raises(BundleError, match="astrology"):
        PolicyConfig(**stored).policy()


@pytest.mark.parametrize("name", ["trained_gate", "heuristic_gate", "embedding"])
def test_a_bundle_exported_by_the_first_version_loads_and_decides_its_golden_rows_alike(name):
    """They were written by 0.1.0, before tiers packed themselves; loading proves every golden row."""
    bundle = load_bundle(OLD / f"{name}.zip")
    assert len(bundle.golden) >= 20
    assert {KINDS[t.model] for t in bundle.config.tiers if t.model in KINDS} == {
        type(m) for m in bundle.models.values()
    }
    for tier in bundle.config.tiers:
        if tier.name in bundle.models:  # what is written now is what was written then, to the last number
            again = KINDS[tier.model].from_files(tier.model, bundle.models[tier.name].to_files(tier.model))
            assert numbers_of(again) == numbers_of(bundle.models[tier.name])


def numbers_of(model):
    """Return a model's files with their arrays read, since a zip holds the time of its writing."""
    found = {}
    for name, content in model.to_files("x").items():
        if name.endswith(".npz"):
            with np.load(io.BytesIO(content)) as arrays:
                found[name] = {k: v.tolist() for k, v in arrays.items()}
        else:
            found[name] = content
    return found


def test_two_tiers_of_a_kind_keep_files_of_their_own(recording):
    one = recording.models["classifier"]
    other = replace(one, calibrator=Calibrator(5.0))
    table = recording.predictions
    tiers = (Tier("classifier", "classifier"), Tier("unsure", "classifier"))
    content = save_bundle(
        policy=Policy(Cascade((0.99,)), tiers),
        classes=table.classes,
        models={"classifier": one, "unsure": other},
        texts=list(recording.dataset.texts),
        recorded=table,
        evidence={},
    )
    models = load_bundle(content).models
    assert models["unsure"].calibrator.temperature == 5.0
    assert models["classifier"].calibrator == one.calibrator


HOSTILE = ('llm": __import__("os")._exit(3) #', "l\nm\\", "what's \u202e up", "{x} % {y}")


def test_the_lines_that_run_a_bundle_stand_as_they_are(recording, tmp_path):
    """Every pattern, in one fresh process; names that would end a quote, and servers that need no key."""
    table = recording.predictions
    named = replace(table, tiers=tuple(replace(t, name=HOSTILE[0]) if t.name == "llm" else t for t in table.tiers))
    gate = replace(
        named, tiers=tuple(replace(t, name=HOSTILE[1], kind="gate") if t.kind == "gate" else t for t in named.tiers)
    )
    classes = (HOSTILE[2], *recording.dataset.classes[1:])
    settings = LLMSettings(HOSTILE[0], "m", base_url="http://127.0.0.1:9/v1", key_variable="X_API_KEY", retries=0)
    asked = {HOSTILE[0]: LLMTier(settings, classes)}
    cheap = ["rules", "classifier", HOSTILE[0]]
    cases = [
        ("triage", named, cheap[1:], {}),
        ("cascade", named, cheap, asked),
        ("ensemble", named, cheap, {}),
        ("triage_ensemble", named, cheap, {}),
        ("router", gate, [HOSTILE[1], *cheap[1:]], {}),
        ("cascade", named, cheap[:2], {}),
    ]
    test = recording.split.test
    lines = []
    for number, (name, predictions, tiers, llms) in enumerate(cases):
        picked = predictions.select(tiers).tiers
        policy = Policy(defaults(PATTERNS[name], picked), picked)
        content = save_bundle(
            policy=policy,
            classes=classes,
            models=recording.models,
            texts=list(recording.dataset.texts[test]),
            recorded=predictions.take(test),
            evidence={},
            llms=llms,
        )
        file = f"{number}{HOSTILE[3]}.zip"
        (tmp_path / file).write_bytes(content)
        lines.append(snippet(file, policy, classes=classes, models=recording.models, llms=llms))
    assert (
        'servers={\'llm": __import__("os")._exit(3) #\': hybrid.Server("http://127.0.0.1:9/v1", "X_API_KEY")}'
        in lines[1]
    )
    code = (
        "import sys\nfor lines in " + repr(lines) + ":\n    exec(compile(lines, 'snippet', 'exec'), {})\nprint('done')"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert out.stdout.endswith("done\n"), out.stderr
    assert "failed" not in out.stderr
