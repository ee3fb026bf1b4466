"""Production with an LLM: the bundle asks it itself, decides as was measured, and survives what the server does."""

import asyncio
import json
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass, field, fields, replace
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from conftest import labelled, study_of, table_of
from llm_server import KEY
from test_llm_recording import POISON

import hybrid
from hybrid.data.columns import Columns
from hybrid.data.dataset import build
from hybrid.data.split import split
from hybrid.errors import BundleError, TierError
from hybrid.production import bundle as bundles
from hybrid.routing.engine import Policy, replay
from hybrid.routing.patterns.cascade import Cascade
from hybrid.routing.patterns.router import Router
from hybrid.routing.patterns.triage import Triage
from hybrid.routing.table import Predictions
from hybrid.store.answers import AnswerStore
from hybrid.study.answers import answered
from hybrid.study.evidence import CLASSIFIER, Recording, record
from hybrid.tiers.llm.questions import LLMSettings
from hybrid.tiers.llm.recording import RecordingJob, questions, replies
from hybrid.tiers.llm.replies import Reply
from hybrid.tiers.llm.tier import LLMTier

N = 120


@pytest.fixture(autouse=True)
def allowed(llm_process, monkeypatch):
    """The operator of these tests allows the server."""
    monkeypatch.setenv("HYBRID_SERVERS", f"{llm_process.url}=MOCK_API_KEY")


@dataclass(frozen=True)
class WithLLMs(Recording):
    """A recording, and the LLMs that were asked about its rows."""

    llms: dict[str, LLMTier] = field(default_factory=dict)


@pytest.fixture(scope="module")
def made(llm_process, tmp_path_factory):
    """A recording with an LLM that sees three examples, answered on a sample of the rows."""
    llm_process.reset()
    frame = labelled(240, seed=5)
    frame["text"] = [f"{t} {label if i % 3 else ''} {i}x" for i, (t, label) in enumerate(frame.values)]
    dataset = build(frame, Columns("label", text="text"))
    fitted = record(dataset, split(dataset))
    llm = LLMSettings(
        "llm",
        "mock",
        base_url=llm_process.url,
        examples=3,
        timeout=1.0,
        retries=1,
        concurrency=4,
        input_price=1.0,
        key_variable="MOCK_API_KEY",
        parameters={"seed": 7},
        query={"api-version": "1"},
    )
    path = tmp_path_factory.mktemp("store") / "answers.sqlite"
    asked = questions(llm, dataset, fitted.split, N)
    RecordingJob(asked, KEY, cap=1.0, path=path).run()
    with AnswerStore(path) as store:
        found = answered(llm, fitted, asked.rows, replies(asked, store), cheap=CLASSIFIER)
    gate = LLMSettings("LLM gate", "mock-gate", role="gate", base_url=llm_process.url, key_variable="MOCK_API_KEY")
    easy = Reply("ok", '{"tier": "cheap", "reasoning": "plain", "difficulty": 1}', latency=0.1)
    judged = answered(gate, fitted, asked.rows, [easy] * N, cheap=CLASSIFIER)
    study = study_of(fitted, llms=[found, judged], confidence=(("llm", "own"),))
    made = {f.name: getattr(fitted, f.name) for f in fields(fitted) if f.init} | {"predictions": table_of(study)}
    return WithLLMs(**made, llms=study.llm_models), asked


def policy_of(made, pattern=None):
    table = made[0].predictions
    return Policy(pattern or Triage(0.9), (table.tiers[table.index(CLASSIFIER)], table.tiers[table.index("llm")]))


def packed(made, policy=None, **more):
    recording = made[0]
    test = recording.split.test
    return bundles.save_bundle(
        policy=policy or policy_of(made),
        classes=recording.dataset.classes,
        models=recording.models,
        texts=list(recording.dataset.texts[test]),
        recorded=recording.predictions.take(test),
        evidence={},
        llms=recording.llms,
        **more,
    )


@pytest.fixture
def rows(made):
    recording, asked = made
    return np.array([i for i in recording.split.test if i in set(asked.rows.tolist())])


def texts_of(made, rows):
    return [str(t) for t in made[0].dataset.texts[rows]]


def test_what_was_set_free_goes_into_the_bundle_and_along(server, made, rows):
    pipeline = hybrid.load(packed(made, policy_of(made, Triage(1.0))))
    pipeline(texts_of(made, rows)[0])
    assert server.served()["bodies"][-1]["seed"] == 7
    assert server.served()["heads"][-1]["path"].endswith("?api-version=1")


def test_what_the_model_refused_when_it_was_measured_production_does_not_try(server, made, rows):
    recording, asked = made
    model = replace(recording.llms["llm"], without=("logprobs", "messages"))
    content = packed((replace(recording, llms={"llm": model}), asked), policy_of(made, Triage(1.0)))
    hybrid.load(content)(texts_of(made, rows)[0])
    hybrid.load(packed(made, policy_of(made, Triage(1.0))))(texts_of(made, rows)[0])
    bodies = server.served()["bodies"]
    assert ["logprobs" in body for body in bodies] == [False, True]  # what a bundle says holds for that bundle
    assert all("messages" in body for body in bodies)


def test_one_bad_reply_costs_its_own_row_in_batch_and_stream(server, made, rows):
    pipeline, texts = hybrid.load(packed(made, policy_of(made, Triage(1.0)))), texts_of(made, rows)[:12]

    async def streamed():
        found = [d async for d in pipeline.stream(iter(texts), chunk=3)]
        await pipeline.close()
        return found

    for decide in (lambda: pipeline.decide(texts), lambda: asyncio.run(streamed())):
        server.control(script=[{"body": body} for body in POISON.values()])
        decisions = decide()
        asked = [d for d in decisions if len(d.trace) > 1]
        assert len(decisions) == 12
        assert sum(d.trace[1].label is None for d in asked) == 4  # two of the six name a class
        assert all(d.cost < 1 for d in decisions)


def test_a_gates_choice_and_reason_are_in_the_trace(server, made, rows):
    table = made[0].predictions
    policy = Policy(Router((0.5,)), tuple(table.tiers[table.index(n)] for n in ("LLM gate", CLASSIFIER, "llm")))
    decision = hybrid.load(packed(made, policy))(texts_of(made, rows)[0])
    said = decision.trace[0].gate
    assert (said.tier, said.difficulty, said.reasoning) in (("llm", 4, "by length"), ("cheap", 1, "by length"))
    assert all(step.gate is None for step in decision.trace[1:])


def test_production_decides_as_the_table_did(server, made, rows):
    expected = replay(policy_of(made), made[0].predictions.take(rows))
    assert 0 < expected.asked[:, 1].sum() < len(rows)
    pipeline = hybrid.load(packed(made))
    outcomes = asyncio.run(pipeline.outcomes(texts_of(made, rows)))
    assert (outcomes.label == expected.label).all()
    assert (outcomes.tier == expected.tier).all()
    assert (outcomes.confidence == expected.confidence).all()
    assert outcomes.cost == pytest.approx(expected.cost)
    assert server.served()["calls"] == expected.asked[:, 1].sum()


def test_one_by_one_in_a_batch_and_in_a_stream_the_decisions_are_the_same(server, made, rows):
    pipeline, texts = hybrid.load(packed(made)), texts_of(made, rows)

    def core(d):
        return d.label, d.confidence, d.tier, d.cost

    async def streamed():
        found = [core(d) async for d in pipeline.stream(iter(texts), chunk=5)]
        await pipeline.close()
        return found

    batch = [core(d) for d in pipeline.decide(texts)]
    assert batch == [core(pipeline(t)) for t in texts] == asyncio.run(streamed())


def test_a_stream_yields_before_its_source_ends(server, made):
    pipeline = hybrid.load(packed(made))

    def endless():
        while True:
            yield "my parcel is late"

    async def first(n):
        found = []
        async for decision in pipeline.stream(endless(), chunk=4):
            found.append(decision)
            if len(found) == n:
                break
        await pipeline.close()
        return found

    assert len(asyncio.run(first(10))) == 10


@pytest.mark.parametrize(
    ("fault", "why"), [("500", "server"), ("hang", "timeout"), ("not_json", "bad_reply"), ("401", "auth")]
)
def test_a_failed_call_falls_back_to_the_surest_answer_and_says_so(server, made, rows, fault, why):
    pipeline = hybrid.load(packed(made, policy_of(made, Triage(1.0))))
    text = texts_of(made, rows)[0]
    server.control(always=fault)
    decision = pipeline(text)
    assert decision.fallback
    assert decision.tier == CLASSIFIER
    assert decision.label is not None
    assert decision.trace[1].failure == why
    assert decision.trace[1].label is None
    assert (decision.cost > 0) == (why in ("timeout", "bad_reply"))  # they may have been charged


def test_a_policy_may_rather_have_no_answer_than_an_unsure_one(server, made, rows):
    pipeline = hybrid.load(packed(made, policy_of(made, Triage(1.0)), on_failure="unknown"))
    server.control(always="500")
    decision = pipeline(texts_of(made, rows)[0])
    assert (decision.label, decision.fallback, decision.tier) == (None, False, "llm")


def test_one_bad_row_takes_no_other_with_it(server, made, rows):
    pipeline = hybrid.load(packed(made, policy_of(made, Triage(1.0))))
    texts = texts_of(made, rows)[:8]
    server.control(script=["400"])
    decisions = pipeline.decide(texts)
    assert [d.fallback for d in decisions].count(True) == 1
    assert all(d.label is not None for d in decisions)


def test_a_reply_without_a_class_is_no_failure_and_stays_unknown(server, made, rows):
    pipeline = hybrid.load(packed(made, policy_of(made, Triage(1.0))))
    server.control(always="wrong_label")
    decision = pipeline(texts_of(made, rows)[0])
    assert (decision.label, decision.fallback, decision.trace[1].failure) == (None, False, None)  # as in the table


def test_the_next_tier_takes_over_from_one_that_fails(server, made, rows):
    recording = made[0]
    table = recording.predictions
    other = replace(table.tiers[table.index("llm")], name="large", kind="recorded")
    column = table.answers(table.index("llm"))
    wide = Predictions.from_answers(
        [table.tiers[1], table.tiers[2], other], table.classes, [table.answers(1), table.answers(2), column]
    )
    assert [t.name for t in wide.tiers] == [CLASSIFIER, "llm", "large"]
    policy = Policy(Cascade((1.0, 0.01)), wide.tiers)
    test = recording.split.test
    content = bundles.save_bundle(
        policy=policy,
        classes=recording.dataset.classes,
        models=recording.models,
        texts=list(recording.dataset.texts[test]),
        recorded=wide.take(test),
        evidence={},
        llms=recording.llms,
    )
    pipeline = hybrid.load(content, models={"large": lambda texts: [hybrid.Answer("billing", 0.5, 0.1) for _ in texts]})
    server.control(always="500")
    decision = pipeline(texts_of(made, rows)[0])
    assert (decision.tier, decision.label, decision.fallback) == ("large", "billing", False)
    assert decision.trace[1].failure == "server"


def test_the_deadline_ends_what_retries_would_prolong(server, made, rows):
    pipeline = hybrid.load(packed(made, policy_of(made, Triage(1.0))), deadline=0.4)
    server.control(delay=0.9)
    start = time.monotonic()
    decisions = pipeline.decide(texts_of(made, rows)[:6])
    assert time.monotonic() - start < 3.0
    assert all(d.fallback and d.trace[1].failure == "deadline" for d in decisions)


def test_calls_at_a_time_are_bounded(server, made, rows):
    pipeline = hybrid.load(packed(made, policy_of(made, Triage(1.0))))
    server.control(delay=0.03)
    pipeline.decide(texts_of(made, rows))
    assert server.served()["most_at_once"] <= 4


def test_the_key_comes_from_the_environment_and_is_not_in_the_bundle(server, made, rows, monkeypatch):
    server.control(key=KEY)
    content = packed(made, policy_of(made, Triage(1.0)))
    text = texts_of(made, rows)[0]
    assert hybrid.load(content)(text).trace[1].failure == "auth"
    monkeypatch.setenv("MOCK_API_KEY", KEY)
    assert hybrid.load(content)(text).trace[1].failure is None
    with zipfile.ZipFile(BytesIO(packed(made))) as archive:
        for name in archive.namelist():
            assert KEY.encode() not in archive.read(name)
        stored = json.loads(archive.read("policy.json"))
    assert stored["tiers"][1]["llm"]["settings"]["key_variable"] == "MOCK_API_KEY"


def test_a_server_that_needs_a_key_is_named_when_there_is_none(made, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    recording, _ = made
    model = recording.llms["llm"]
    far = replace(
        model, settings=replace(model.settings, base_url="https://api.openai.com/v1", key_variable="OPENAI_API_KEY")
    )
    content = packed((replace(recording, llms={"llm": far}), None), policy_of(made))
    with pytest.raises(BundleError, match="OPENAI_API_KEY"):
        hybrid.load(content)
    hybrid.load(content, models={"llm": lambda texts: []})  # a function of yours needs none


def test_a_function_takes_the_place_of_the_llm(server, made, rows):
    pipeline = hybrid.load(
        packed(made, policy_of(made, Triage(1.0))),
        models={"llm": lambda texts: [hybrid.Answer("billing") for _ in texts]},
    )
    assert pipeline(texts_of(made, rows)[0]).label == "billing"
    assert server.served()["calls"] == 0


def test_a_bundle_with_an_llm_is_evaluated_by_asking_it_or_by_its_recorded_answers(server, made, rows, tmp_path):
    from hybrid.data.columns import RecordedColumns
    from hybrid.production.promise import evaluate

    path = tmp_path / "llm.zip"
    path.write_bytes(packed(made))
    truth = [made[0].dataset.classes[c] for c in made[0].dataset.truth[rows]]
    frame = pd.DataFrame({"text": texts_of(made, rows), "label": truth}, dtype=object)
    asked = evaluate(str(path), build(frame, Columns("label", text="text")))
    assert server.served()["calls"] > 0
    outcomes = asyncio.run(hybrid.load(path).outcomes(texts_of(made, rows)))
    labels = [made[0].dataset.classes[c] for c in outcomes.label]
    assert asked.accuracy.value == np.mean([a == b for a, b in zip(labels, truth, strict=True)])
    server.reset()
    frame["llm"], frame["sure"] = "billing", "1.0"
    recorded = Columns("label", text="text", recorded=(RecordedColumns("llm", "llm", confidence="sure"),))
    read = evaluate(str(path), build(frame, recorded))
    assert server.served()["calls"] == 0
    assert read.accuracy.value < asked.accuracy.value


def test_the_llm_comes_back_as_it_was(made):
    before, after = made[0].llms["llm"], bundles.load_bundle(packed(made)).llms["llm"]
    assert after.settings == before.settings
    assert (after.calibrator, after.usual, after.classes) == (before.calibrator, before.usual, before.classes)
    assert after.request("my parcel is late") == before.request("my parcel is late")


@pytest.mark.parametrize(
    "damage",
    [
        lambda llm: llm["settings"].update(wattage=3),
        lambda llm: llm["settings"].update(key_variable="HOME"),
        lambda llm: llm.pop("usual"),
        lambda llm: llm.update(examples="gone.json"),
    ],
)
def test_a_damaged_llm_tier_is_refused(made, damage):
    import hashlib

    with zipfile.ZipFile(BytesIO(packed(made))) as archive:
        files = {n: archive.read(n) for n in archive.namelist()}
    policy = json.loads(files["policy.json"])
    damage(policy["tiers"][1]["llm"])
    files["policy.json"] = json.dumps(policy).encode()
    manifest = json.loads(files["manifest.json"])
    manifest["sha256"]["policy.json"] = hashlib.sha256(files["policy.json"]).hexdigest()
    files["manifest.json"] = json.dumps(manifest).encode()
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    with pytest.raises(BundleError):
        bundles.load_bundle(out.getvalue())


def test_a_stream_of_one_string_is_refused(made):
    pipeline = hybrid.load(packed(made))

    async def go():
        async for _ in pipeline.stream("my parcel"):
            pass

    with pytest.raises(TierError):
        asyncio.run(go())


def test_loading_a_bundle_with_an_llm_loads_no_client_before_it_is_asked(made, tmp_path):
    (tmp_path / "b.zip").write_bytes(packed(made))
    code = (
        "import sys, hybrid; hybrid.load(sys.argv[1]); "
        "print([m for m in ('openai', 'streamlit', 'plotly', 'pandas', 'sklearn', 'sqlite3') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "b.zip")], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
