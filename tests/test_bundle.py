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
from conftest import CLASSES, cases, study_of, table, table_of
from hypothesis import given, settings
from hypothesis import strategies as st

import hybrid
from hybrid.errors import BundleError, TierError
from hybrid.production import bundle as bundles
from hybrid.production.bundle import PolicyConfig, load_bundle, save_bundle
from hybrid.production.snippet import servers, snippet
from hybrid.routing.engine import Policy, defaults, parameters, replay
from hybrid.routing.patterns import PATTERNS, Cascade, Triage
from hybrid.routing.table import NEVER, NONE, UNKNOWN, Answers, Predictions, Tier
from hybrid.tiers import KINDS
from hybrid.tiers.calibration import Calibrator
from hybrid.tiers.classifier import FastClassifier
from hybrid.tiers.embedders import EndpointEmbedder
from hybrid.tiers.embedding import AveragedClassifier, EmbeddingClassifier
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


def by_functions(policy, recorded, texts, **more):
    """Return a bundle that holds no model."""
    return save_bundle(policy=policy, classes=CLASSES, models={}, texts=texts, recorded=recorded, evidence={}, **more)


@given(cases(), st.sampled_from(["best_so_far", "unknown"]))
@settings(max_examples=25)
def test_what_is_written_of_any_policy_is_read_back(case, on_failure):
    policy, recorded, _ = case
    picked = [t for t in policy.tiers if t.picks_from]
    models = {t.picks_from: Likely() for t in picked}
    content = save_bundle(
        policy=policy,
        classes=CLASSES,
        models=models,
        texts=["one"] * recorded.n_rows,
        recorded=recorded,
        evidence={},
        on_failure=on_failure,
    )
    stored = PolicyConfig.model_validate_json(part(content, "policy.json"))
    written = json.loads(part(content, "policy.json"))
    own = getattr(policy.pattern, "by_class", ())
    own = tuple(own[c] if c < len(own) else None for c in range(len(CLASSES)))
    as_read = (
        {"by_class": own if any(v is not None for v in own) else ()} if "by_class" in written["parameters"] else {}
    )
    assert stored.policy() == replace(policy, pattern=replace(policy.pattern, **as_read))
    assert stored.on_failure == on_failure
    assert [(t.name, t.kind, t.price, t.simulated, t.picks_from) for t in stored.tiers] == [
        (t.name, t.kind, t.price, t.simulated, t.picks_from) for t in policy.tiers
    ]
    assert [t.model for t in stored.tiers] == ["likely" if t.name in models else "external" for t in policy.tiers]
    for t, tier in zip(stored.tiers, policy.tiers, strict=True):
        column = recorded.answers(recorded.index(tier.name))
        said = set(column.confidence[column.label != UNKNOWN].tolist())
        assert t.default_confidence == (said.pop() if len(said) == 1 else None)
    assert ("never" in json.dumps(written["parameters"])) == (NEVER in _values_of(parameters(policy.pattern)))
    if policy.scope is not None:
        answer = None if policy.scope.label == NONE else CLASSES[policy.scope.label]
        threshold = "never" if policy.scope.threshold == NEVER else policy.scope.threshold
        assert written["scope"] == {"threshold": threshold, "answer": answer}
    if not picked:
        assert load_bundle(content).external == policy.names


class Likely:
    kind, waits, answers_alike = "likely", False, True

    def answer(self, texts):
        n = np.zeros(len(texts))
        return Answers(n.astype(int), n, n, n)

    def to_files(self, name):
        return {}


def _values_of(by_name):
    return [v for value in by_name.values() for v in (value if isinstance(value, tuple) else (value,))]


@pytest.mark.parametrize(("n", "step"), [(1700, 2), (1000, 1), (30, 1)])
def test_golden_rows_are_the_first_twenty_that_each_tier_decides_on_an_even_walk(n, step):
    rng = np.random.default_rng(0)
    tiers = tuple(Tier(f"t{j}", "recorded") for j in range(3))
    shape = (n, 3)
    label, cost = rng.integers(0, 3, shape), rng.random(shape)
    confidence = rng.choice([0.2, 0.8], shape, p=[0.1, 0.9])
    confidence[::7, 2] = np.nan  # never asked
    label[::7, 2] = UNKNOWN
    recorded = Predictions(tiers, CLASSES, label, confidence, cost, rng.random(shape))
    policy, texts = Policy(Cascade((0.5, 0.5)), tiers), [f"row {i}" for i in range(n)]
    bundle = load_bundle(by_functions(policy, recorded, texts))
    walk = [i for i in range(n) if i % 7][::step]
    shown = replay(policy, recorded.take(np.array(walk)))
    kept = sorted(k for j in range(3) for k in np.flatnonzero(shown.tier == j)[:20])
    assert [(g.text, g.label, g.tier, g.confidence, g.cost) for g in bundle.golden] == [
        (texts[walk[k]], shown.label[k], policy.names[shown.tier[k]], shown.confidence[k], shown.cost[k]) for k in kept
    ]
    columns = (recorded.label, recorded.confidence, recorded.cost, recorded.latency)
    for row, k in zip(bundle.golden, kept, strict=True):
        for j, name in enumerate(policy.names):
            assert row.answers[name] == tuple(column[walk[k], j] for column in columns)


@pytest.fixture(scope="module")
def small():
    """A bundle of two functions; the second one decides the first row, and the first one the others."""
    tiers = (Tier("a", "recorded", 0.5), Tier("b", "recorded", 2.0))
    recorded = table(tiers, [[(0, 0.4), (NONE, 0.9)], [(1, 0.8), (2, 0.7)], [(2, 0.9), (UNKNOWN, 0.0)]])
    return by_functions(Policy(Triage(0.6), tiers), recorded, ["x", "y", "z"])


def changed(content, name, change):
    values = json.loads(part(content, name))
    change(values)
    return rewrite(content, {name: json.dumps(values).encode()})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda rows: rows[1].update(confidence=0.8 + 9e-7), None),
        (lambda rows: rows[1].update(confidence=0.8 + 2e-6), "Golden row 2 is decided differently here: 'shipping' by"),
        (lambda rows: rows[1].update(confidence=0.8 - 2e-6), "Golden row 2 is decided"),
        (lambda rows: rows[1].update(cost=0.5 * (1 + 5e-7)), None),
        (lambda rows: rows[1].update(cost=0.5 * (1 + 4e-6)), r"Golden row 2 costs \$0.5 here and cost \$0.500002 when"),
        (lambda rows: rows[0].update(label=-1), "Golden row 1 is decided differently here: unknown by b when it was"),
        (lambda rows: rows[0].update(label=0), "'billing' by b when it was exported, none of these by b now"),
        (lambda rows: rows[0].update(tier="a"), "none of these by a when"),
        (lambda rows: rows[0].update(label=-3), "Golden row 1 names tiers or classes that the policy does not have"),
        (lambda rows: rows[2].update(label=3), "Golden row 3 names tiers or classes"),
        (lambda rows: rows[2].update(tier="c"), "Golden row 3 names tiers or classes"),
        (lambda rows: rows[2]["answers"].update(c=[0, 0.5, 0.0, 0.0]), "Golden row 3 names tiers or classes"),
        (lambda rows: rows[2]["answers"].update(a=[3, 0.9, 0.5, 0.0]), "Golden row 3 names tiers or classes"),
        (lambda rows: rows[2]["answers"].pop("b"), "Golden row 3 names tiers or classes"),
        (lambda rows: rows[1]["answers"].update(b=[-2, 0.9, 0.5, 0.0]), None),  # nobody asked b
        (lambda rows: rows.clear(), "golden.json is empty"),
    ],
)
def test_each_golden_row_proves_its_label_tier_confidence_and_cost(small, change, says):
    content = changed(small, "golden.json", lambda golden: change(golden["rows"]))
    if says is None:
        assert load_bundle(content).golden
    else:
        with pytest.raises(BundleError, match=says):
            load_bundle(content)


POLICIES = [
    (lambda p: p.update(schema_version=1), None),
    (lambda p: p.update(schema_version=2), None),
    (lambda p: p.update(schema_version=3), None),
    (lambda p: p.update(schema_version=0), "schema version 0, this version reads 3"),
    (lambda p: p.update(schema_version=4), "schema version 4"),
    (lambda p: p.update(more=1), r"policy.json, more: Extra inputs"),
    (lambda p: p["tiers"][1].update(price="1"), r"policy.json, tiers.1.price: "),
    (lambda p: p.update(classes=["one"]), "policy.json, classes: List should have at least 2"),
    (lambda p: p.update(tiers=[]), "policy.json, tiers: List should have at least 1"),
    (lambda p: p.update(pattern="telepathy"), "pattern 'telepathy' is not one of"),
    (lambda p: p["parameters"].update(more=1), "triage has the parameters threshold, by_class, but the file gives"),
    (lambda p: p["parameters"].clear(), "the file gives none"),
    (lambda p: p["parameters"].update(by_class=[0.5]), r"triage's by_class = \[0.5\] is not what it takes"),
    (lambda p: p["parameters"].update(threshold=True), "triage's threshold = True is not what it takes"),
    (lambda p: p["parameters"].update(by_class={"x": 0.5}), "by_class names the class 'x'"),
    (lambda p: p["parameters"].update(by_class={"billing": 0.6}), None),
    (lambda p: p.update(pattern="cascade", parameters={"thresholds": [0.6]}), None),
    (lambda p: p.update(pattern="cascade", parameters={"thresholds": 0.6}), "cascade's thresholds = 0.6 is not what"),
    (lambda p: p["tiers"][0].update(default_confidence=0.0), None),
    (lambda p: p["tiers"][0].update(default_confidence=1.0), None),
    (lambda p: p["tiers"][0].update(default_confidence=-0.1), "greater than or equal to 0"),
    (lambda p: p["tiers"][0].update(default_confidence=1.1), "less than or equal to 1"),
    (lambda p: p["tiers"][0].update(price=0.0), None),
    (lambda p: p["tiers"][0].update(cost_factor=-0.1), "greater than or equal to 0"),
    (lambda p: p["tiers"][0].update(cost_fixed=-0.1), "greater than or equal to 0"),
    (lambda p: p["tiers"][0].update(model="magic"), "nothing here is called 'magic'"),
    (lambda p: p["tiers"][1].update(picks_from="a", kind="human"), "'b' picks from the likeliest answers of 'a'"),
    (lambda p: p.update(scope={"threshold": 0.5}), "Triage takes 2 tiers, not 1"),
    (lambda p: p.update(scope={"threshold": 0.5, "answer": "x"}), "is answered 'x', which is not among the classes"),
]


@pytest.mark.parametrize("number", range(len(POLICIES)))
def test_each_value_of_a_policy_is_checked(small, number):
    change, says = POLICIES[number]
    content = changed(small, "policy.json", change)
    if says is None:
        assert load_bundle(content).golden
    else:
        with pytest.raises(BundleError, match=says):
            load_bundle(content)


def test_a_policy_and_its_proof_are_bounded(small):
    policy, golden = (json.loads(part(small, name)) for name in ("policy.json", "golden.json"))
    for model, values, name, most in (
        (PolicyConfig, policy, "classes", 20_000),
        (PolicyConfig, policy, "tiers", 100),
        (bundles._Golden, golden, "rows", 10_000),
    ):
        one = values[name][0]
        model(**values | {name: [one] * most})
        with pytest.raises(ValueError, match=f"at most {most}"):
            model(**values | {name: [one] * (most + 1)})


def test_a_price_of_what_if_is_a_factor_or_where_nothing_was_paid_a_fixed_cost():
    tiers = (Tier("a", "recorded"), Tier("b", "recorded"))
    recorded = table(tiers, [[(0, 0.5), (1, 0.5)]] * 4)

    def terms(before, now, name="a", held=True):
        found = replace(recorded, cost=np.column_stack([now, now]))
        measured = None if before is None else {"a": np.array(before)}
        return bundles._terms(found, measured, name, held=held)

    nan = np.nan
    assert terms([1.0, 2.0, 4.0, nan], [3.0, 6.0, 12.0, 9.0]) == {"cost_factor": 3.0}
    assert terms([4.0, 2.0, 0.0, 1.0], [2.0, 1.0, 0.0, nan]) == {"cost_factor": 0.5}  # by the dearest: the most digits
    assert terms([0.0, 0.0, 0.0, nan], [0.25] * 4) == {"cost_fixed": 0.25}
    assert terms([1.0, 2.0, nan, 4.0], [1.0, 2.0, 8.0, nan]) == {}
    assert terms([nan] * 4, [1.0] * 4) == {}
    assert terms([nan, 2.0, nan, nan], [1.0, 4.0, 1.0, 1.0]) == {"cost_factor": 2.0}
    assert terms(None, [1.0] * 4) == terms([1.0] * 4, [2.0] * 4, "b") == terms([1.0] * 4, [2.0] * 4, held=False) == {}
    said = Answers(np.zeros(2, int), np.ones(2), np.array([1.0, 3.0]), np.ones(2))
    tier = bundles.TierConfig(name="a", kind="llm", price=0.0, simulated=False, model="external")
    for update, costs in (
        ({}, [1.0, 3.0]),
        ({"cost_factor": 0.0}, [0.0, 0.0]),
        ({"cost_factor": 2.0}, [2.0, 6.0]),
        ({"cost_fixed": 0.0}, [0.0, 0.0]),
        ({"cost_fixed": 7.0, "cost_factor": 2.0}, [7.0, 7.0]),
    ):
        assert tier.model_copy(update=update).priced(said).cost.tolist() == costs
    assert bundles._constant(recorded, "gone") is None


def test_each_model_lies_in_a_bundle_once_under_a_name_of_its_own():
    shelf = bundles._Shelf()
    one, two, three = Likely(), Likely(), Likely()
    assert [shelf.put(m) for m in (one, two, one, three, two)] == [
        "likely",
        "likely-1",
        "likely",
        "likely-2",
        "likely-1",
    ]
    with pytest.raises(BundleError, match="'rules' has no probabilities"):
        bundles._reader(bundles.ReaderConfig(model="rules", files="x"), {}, {("rules", "x"): one})


def lines_of(*tiers, models=(), llms=(), **more):
    """Return the lines that run a cascade over these tiers, up to its first decision."""
    policy = Policy(Cascade((0.5,) * (len(tiers) - 1)), tiers)
    asked = {n: LLMTier(LLMSettings(n, "m", base_url=url, key_variable=key), CLASSES) for n, url, key in llms}
    return snippet("b.zip", policy, classes=CLASSES, models=dict.fromkeys(models), llms=asked, then="…", **more)


def test_the_lines_that_run_a_bundle_are_these():
    rules, llm = Tier("rules", "rules"), Tier("llm", "llm")
    own, openai = ("llm", "http://a/v1", "A_API_KEY"), ("llm", "https://api.openai.com/v1", "OPENAI_API_KEY")
    assert lines_of(rules, models=["rules"]) == 'import hybrid\n\npipeline = hybrid.load("b.zip")\n…'
    assert lines_of(rules, llm, models=["rules"], llms=[own]) == (
        "import hybrid\n\n# keys are read from the environment where a server needs one: A_API_KEY\n"
        'pipeline = hybrid.load("b.zip", servers={"llm": hybrid.Server("http://a/v1", "A_API_KEY")})\n…'
    )
    also = {"reader": hybrid.Server("http://z/v1", "B_API_KEY")}
    both = lines_of(rules, llm, models=["rules"], llms=[openai], also=also, load="support.load")
    assert "needs one: B_API_KEY, OPENAI_API_KEY\n" in both
    assert both.endswith(
        'pipeline = support.load(\n    "b.zip",\n    servers={"reader": hybrid.Server("http://z/v1", "B_API_KEY"), '
        '"llm": hybrid.Server("https://api.openai.com/v1")},\n)\n…'
    )
    rehearse = "\npipeline.rehearse()  # asks your functions about one text each: better refused now than at work\n…"
    told = "as sure as it was when the policy was tuned\n    return [hybrid.Answer("
    for name, loaded in (
        ("a" * 48, f'pipeline = hybrid.load("b.zip", models={{"{"a" * 48}": ask_model}})'),
        ("a" * 49, f'pipeline = hybrid.load(\n    "b.zip",\n    models={{"{"a" * 49}": ask_model}},\n)'),
    ):
        assert lines_of(rules, Tier(name, "llm"), models=["rules"]) == (
            "import hybrid\n\n\ndef ask_model(texts):  # may be async\n"
            f'    # ask "{name}" here, and return what it says, {told}'
            f'"billing", confidence=0.9, cost=0.003) for text in texts]\n\n\n{loaded}{rehearse}'
        )
    assert "rehearse" not in lines_of(rules, llm, models=["rules"], load="support.load")
    with_both = lines_of(rules, Tier("other", "llm"), llm, models=["rules"], llms=[own])
    assert (
        'load(\n    "b.zip",\n    models={"other": ask_model},\n'
        '    servers={"llm": hybrid.Server("http://a/v1", "A_API_KEY")},\n)'
    ) in with_both
    gates = Policy(PATTERNS["router"]((0.5,)), (Tier("gate", "gate"), rules, llm))
    routed = snippet("b.zip", gates, classes=CLASSES, models={}, then="…")
    assert f'ask "gate" here, and return how easy each text is, from 0 to 1, {told}None, confidence=0.5) for' in routed
    assert 'models={"gate": ask_model, "rules": ask_model_2, "llm": ask_model_3}' in routed
    picker = Policy(Triage(0.5), (rules, Tier("person", "human", picks_from="rules")))
    assert (
        "\ndef ask_model(texts, likely):  # may be async; likely: the answers to pick from, a tuple for each text\n"
        "    # show each text with its answers to a person, and return what was picked\n"
        "    return [hybrid.Answer(answers[0], confidence=0.9, cost=1.0) for answers in likely]\n"
    ) in snippet("b.zip", picker, classes=CLASSES, models={"rules": None})
    assert snippet("b.zip", picker, classes=CLASSES, models={"rules": None}).endswith('"The app crashes"])\n')
    endpoint = EmbeddingClassifier(
        EndpointEmbedder("m", "http://e/v1", key_variable="E_API_KEY"), np.zeros((2, 3)), np.zeros(3)
    )
    fast = FastClassifier(("a",), np.ones(1), np.zeros((1, 3)), np.zeros(3))
    models = {"rules": fast, "small": endpoint, "mean": AveragedClassifier(fast, endpoint)}
    three = Policy(Cascade((0.5, 0.5)), (rules, Tier("small", "embedding"), Tier("mean", "embedding_average")))
    assert servers(three, models=models) == dict.fromkeys(("small", "mean"), hybrid.Server("http://e/v1", "E_API_KEY"))
