"""Page logic, without a browser: what a user clicks, and what then stands there."""

import json
import re
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from conftest import labelled
from plotly.offline import get_plotlyjs
from streamlit.testing.v1 import AppTest

from hybrid.dashboard import cached, charts, state, trying, views, wording
from hybrid.dashboard.data.rules_table import changed
from hybrid.dashboard.export import export, report
from hybrid.dashboard.state import Choice, Pin, Terms
from hybrid.dashboard.tiles import Scale
from hybrid.data.columns import Columns
from hybrid.errors import TierError
from hybrid.metrics.curve import with_threshold
from hybrid.routing.engine import replay
from hybrid.routing.patterns import PATTERNS
from hybrid.tiers import embedders
from hybrid.tiers.rules import NO_EDITS, Edits, Rule, Rules

ROOT = Path(__file__).parent.parent
PAGES = [
    "app.py",
    "pages/1_Tune.py",
    "pages/2_Compare.py",
    "pages/3_Inspect.py",
    "pages/4_Try.py",
    "pages/5_Support.py",
    "pages/6_Export.py",
]


def open_page(page="app.py", **params):
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    if page != "app.py":
        at.switch_page(page)
    for key, value in params.items():
        at.query_params[key] = value
    return at.run()


def press(at, label):
    next(b for b in at.button if b.label == label).click()
    return at.run()


@pytest.fixture(autouse=True)
def no_small_model(monkeypatch):
    """Leave MiniLM out, as on a machine without it; the tests of the small model's controls bring it back."""
    monkeypatch.setattr(embedders, "is_installed", lambda: False)


@pytest.fixture
def tune():
    """The Tune page with the sample loaded and the what-if LLM on, which then is the strongest tier."""
    return press(open_page("pages/1_Tune.py", whatif="true"), "Use the sample data")


@pytest.fixture
def own():
    """The Tune page with a table of one's own loaded, which has no recorded answers."""
    at = open_page()
    at.file_uploader(key="upload").upload("mine.csv", labelled().to_csv(index=False).encode()).run()
    press(at, "Load and fit")
    return at.switch_page("pages/1_Tune.py").run()


@pytest.fixture
def uncached(tune, monkeypatch):
    """Call what the pages call, but outside of a session, where its caches cannot be read."""
    for module in (cached, export, report, trying, views):
        for name, value in vars(module).copy().items():
            if hasattr(value, "__wrapped__"):
                monkeypatch.setattr(module, name, value.__wrapped__)


def numbers(at):
    return {m.label.split(" · ")[0]: m.value for m in at.metric}


@pytest.mark.parametrize("page", PAGES)
def test_every_page_opens_on_its_own_and_offers_the_sample(page):
    at = open_page(page)
    assert not at.exception
    assert "Use the sample data" in [b.label for b in at.button]
    at = press(at, "Use the sample data")
    assert not at.exception
    assert not at.error


@pytest.mark.parametrize("pattern", list(PATTERNS))
def test_every_pattern_draws_its_numbers(tune, pattern):
    tune.segmented_control(key="pattern").set_value(pattern).run()
    assert not tune.exception
    assert set(numbers(tune)) >= {"Accuracy", "Cost per 1,000", "Latency p50 / p95"}
    assert any("simulated" in m.value for m in tune.markdown)


@pytest.mark.parametrize("strategy", ["majority", "cost_aware"])
def test_the_ensembles_strategies_can_be_chosen(tune, strategy):
    tune.segmented_control(key="pattern").set_value("ensemble").run()
    tune.selectbox(key="ensemble.strategy").set_value(strategy).run()
    assert not tune.exception
    tune.toggle(key="ensemble.agreement.on").set_value(True).run()
    assert not tune.exception


@pytest.mark.usefixtures("uncached")
def test_the_tiles_are_what_replay_says_at_the_slider(tune):
    tune.slider(key="triage.threshold").set_value(0.6).run()
    data, choice = tune.session_state["loaded"], tune.session_state["choice"]
    assert choice.policy.pattern.threshold == 0.6
    from hybrid.metrics.summary import summarize

    (on,) = state.evaluate_on(data, (choice,), "tune")
    expected = summarize(replay(choice.policy, on.predictions), on.truth)
    shown = numbers(tune)
    assert shown["Accuracy"] == f"{expected.accuracy.value:.1%}"
    assert shown["Escalation rate: sent to what-if LLM"] == f"{expected.escalation_rate.value:.1%}"
    assert shown["Cost per 1,000"] == wording.dollars(expected.cost_per_1000.value)
    curve = cached.curve(data, choice, choice.policy.thresholds()[0])
    for t in (0.3, 0.6, 0.91):
        moved = Choice(with_threshold(choice.policy, "threshold", None, t), choice.whatif)
        assert curve.accuracy[curve.at(t)] == pytest.approx(cached.summary(data, moved, "tune").accuracy.value)


def test_a_shared_link_restores_its_settings():
    at = press(
        open_page(
            "pages/1_Tune.py",
            **{"pattern": "Cascade", "cascade.thresholds.1": "0.4", "whatif": "true", "whatif_accuracy": "80"},
        ),
        "Use the sample data",
    )
    assert not at.exception
    choice = at.session_state["choice"]
    assert choice.policy.pattern.thresholds == (0.85, 0.4, 0.85, 0.85)
    assert choice.whatif.accuracy == 0.8


def test_pins_are_compared_and_exported(tune):
    press(tune, "Pin to compare")
    tune.slider(key="triage.threshold").set_value(0.3).run()
    press(tune, "Pin to compare")
    press(tune, "Pin to compare")  # the same again is no new pin
    assert [p.name for p in tune.session_state["pins"]] == ["A", "B"]
    tune.switch_page("pages/2_Compare.py").run()
    assert not tune.exception
    assert list(tune.table[0].value.columns) == ["A", "B"]
    assert "simulated" in tune.table[0].value.loc["Policy", "A"]
    tune.switch_page("pages/6_Export.py").run()
    assert not tune.exception
    assert "hybrid.load" in tune.code[0].value
    assert 'models={"what-if LLM": ask_model}' in tune.code[0].value


def test_bad_files_leave_the_loaded_data_alone():
    at = press(open_page(), "Use the sample data")
    before = at.session_state["loaded"]
    for name, content in {
        "empty.csv": b"",
        "open.csv": b'text,label\na,"x\nb,y\n',
        "twice.csv": b"text,text\na,b\n",
        "deep.jsonl": b'{"text": ' + b"[" * 9_999,
    }.items():
        at.file_uploader(key="upload").upload(name, content).run()
        assert at.error, name
        assert not at.exception
        assert at.session_state["loaded"] is before


def test_a_table_that_cannot_be_used_says_why_and_keeps_the_data():
    at = press(open_page(), "Use the sample data")
    before = at.session_state["loaded"]
    rows = "\n".join(f"some text {chr(97 + i % 26) * (i + 1)},same" for i in range(30))
    at.file_uploader(key="upload").upload("one.csv", f"text,label\n{rows}\n".encode()).run()
    at = press(at, "Load and fit")
    assert "carry the label 'same'" in at.error[0].value
    assert at.session_state["loaded"] is before


def test_upload_load_and_tune_own_data():
    at = open_page()
    content = labelled().to_csv(index=False).encode()
    at.file_uploader(key="upload").upload("mine.csv", content).run()
    at = press(at, "Load and fit")
    assert not at.error
    assert at.session_state["loaded"].recording.dataset.n_rows == 240
    assert not at.exception


def test_predictions_without_texts_can_be_tuned():
    rows = "\n".join(
        f"r{i},{i % 2},{i % 2 if i % 5 else 1 - i % 2},{0.5 + i % 50 / 100},{i % 2},0.9" for i in range(200)
    )
    at = open_page()
    at.file_uploader(key="upload").upload("p.csv", f"id,gold,pred_a,conf_a,pred_b,conf_b\n{rows}\n".encode()).run()
    at = press(at, "Load and fit")
    assert not at.error
    at.switch_page("pages/1_Tune.py").run()
    assert not at.exception
    assert at.session_state["choice"].policy.names == ("a", "b")
    at.segmented_control(key="pattern").set_value("router").run()
    assert any("needs texts" in i.value for i in at.info)


def test_numbers_rest_on_the_rows_that_every_tier_answered():
    frame = labelled()
    frame["llm"] = [label if i % 4 == 0 else "" for i, label in enumerate(frame["label"])]
    at = open_page()
    at.file_uploader(key="upload").upload("partly.csv", frame.to_csv(index=False).encode()).run()
    press(at, "Load and fit")
    at.switch_page("pages/1_Tune.py").run()
    assert not at.exception
    data, choice = at.session_state["loaded"], at.session_state["choice"]
    (on,) = state.evaluate_on(data, (choice,), "tune")
    assert 30 < len(on.truth) < 55
    assert on.n_side == len(data.recording.split.tune)
    assert f"Measured on {len(on.truth)} of {on.n_side} tune rows" in " ".join(c.value for c in at.caption)
    assert any("count $0" in c.value for c in at.caption)


def test_other_data_start_from_their_own_tiers(own):
    """A file with recorded answers switches the what-if LLM off; the next without them has it again."""
    tune = own
    assert tune.session_state["choice"].policy.names == ("classifier", "what-if LLM")
    frame = labelled()
    frame["llm"] = frame["label"]
    for name, table, expected in (
        ("with.csv", frame, ("classifier", "llm")),
        ("without.csv", labelled(seed=5), ("classifier", "what-if LLM")),
    ):
        tune.switch_page("app.py").run()
        tune.file_uploader(key="upload").upload(name, table.to_csv(index=False).encode()).run()
        press(tune, "Load and fit")
        tune.switch_page("pages/1_Tune.py").run()
        assert not tune.exception
        assert tune.session_state["choice"].policy.names == expected


@pytest.mark.parametrize("pattern", ["triage", "cascade", "ensemble", "triage_ensemble"])
def test_local_tiers_alone_can_be_tuned(own, pattern):
    own.toggle(key="whatif").set_value(False).run()
    own.segmented_control(key="pattern").set_value(pattern).run()
    assert not own.exception
    assert set(own.session_state["choice"].policy.names) == {"rules", "classifier"}
    assert not own.session_state["choice"].policy.simulated
    for page in PAGES[2:]:
        own.switch_page(page).run()
        assert not own.exception


def test_the_router_says_what_it_lacks(own):
    own.toggle(key="whatif").set_value(False).run()
    own.segmented_control(key="pattern").set_value("router").run()
    assert not own.exception
    assert own.session_state["choice"].policy.names == ("trained gate", "rules", "classifier")


def test_rule_edits_lead_to_the_edited_table():
    import pandas as pd

    model = Rules((Rule("refund", 0), Rule("parcel", 1)))
    edited = pd.DataFrame({"Phrase": ["refund", "My  APP"], "Label": ["b", "c"]})
    edits = changed(NO_EDITS, model, edited, ("a", "b", "c"))
    assert edits == Edits(frozenset({("refund", 0), ("parcel", 1)}), (("my app", 2), ("refund", 1)))
    again = changed(edits, Rules((Rule("my app", 2), Rule("refund", 1))), edited, ("a", "b", "c"))
    assert again == edits
    with pytest.raises(TierError, match="two labels"):
        changed(NO_EDITS, model, pd.DataFrame({"Phrase": ["x", "X"], "Label": ["a", "b"]}), ("a", "b", "c"))


@pytest.mark.usefixtures("uncached")
def test_the_exported_lines_run(tune, tmp_path, monkeypatch):
    data, choice = tune.session_state["loaded"], tune.session_state["choice"]
    monkeypatch.chdir(tmp_path)
    for kind in ("triage", "local"):
        if kind == "local":
            from hybrid.routing.engine import Policy
            from hybrid.routing.patterns import Cascade

            tiers = data.recording.predictions.select(["rules", "classifier"]).tiers
            choice = Choice(Policy(Cascade((0.8,)), tiers), None)
        content = export.bundle(data, choice)
        name = export.file_name(choice.policy)
        Path(name).write_bytes(content)
        lines = export.snippet(name, data, choice.policy)
        exec(compile(lines, name, "exec"), {})


@pytest.mark.usefixtures("uncached")
def test_evidence_names_what_is_simulated(tune):
    evidence = export.evidence(tune.session_state["loaded"], tune.session_state["choice"])
    assert evidence["simulated"] == ["what-if LLM"]
    assert evidence["metrics"]["test"]["accuracy"]["low"] < evidence["metrics"]["test"]["accuracy"]["value"]


@pytest.mark.usefixtures("uncached")
def test_the_report_stands_alone_and_says_what_the_screen_says(tune):
    data, choice = tune.session_state["loaded"], tune.session_state["choice"]
    other = Choice(with_threshold(choice.policy, "threshold", None, 0.3), choice.whatif)
    data = replace(data, name="<script>alert(1)</script>")
    html = report.report(data, choice, [Pin("A", other)], Scale(50_000, 2.0), written=date(2026, 1, 2))
    test = cached.summary(data, choice, "test")
    assert f"{test.accuracy.value:.1%} accuracy" in html
    assert wording.dollars(test.cost_per_1000.value) in html
    assert "50,000 texts" in html
    assert "with mistakes at $2.00 each" in html
    assert data.recording.dataset.fingerprint in html
    assert "Simulated:</strong> what-if LLM" in html
    assert "2026-01-02" in html
    assert "hybrid.load" in html
    assert "This policy" in html  # beside the pinned one
    assert "<script>alert" not in html
    outside = html.replace(get_plotlyjs(), "")
    assert not re.search(r"(src|href)=|url\(|@import", outside)
    assert "default-src 'none'" in html
    alone = report.report(data, choice, [], Scale(), written=date(2026, 1, 2))
    assert "other policies" not in alone


@pytest.mark.usefixtures("uncached")
def test_a_tried_text_is_decided_as_the_bundle_decides_it(tune):
    data, choice = tune.session_state["loaded"], tune.session_state["choice"]
    dataset = data.recording.dataset
    on = state.evaluate_on(data, (choice,), "test")[0]
    expected = replay(choice.policy, on.predictions)
    texts = [str(dataset.texts[i]) for i in on.rows[:40]]
    decisions = trying.decide(data, choice, [*texts, "zzz qqq"])
    assert [d.label for d in decisions[:-1]] == [dataset.classes[c] for c in expected.label[:40]]
    assert [d.cost for d in decisions[:-1]] == pytest.approx(expected.cost[:40].tolist())
    unseen = decisions[-1]  # no tier here knows it: it is sent on, and stays unanswered at the list price
    assert (unseen.label, unseen.tier, unseen.cost) == (None, "what-if LLM", 0.003)
    assert trying.known(data, texts[0])
    assert not trying.known(data, "zzz qqq")
    words = trying.words_for(data, "refund my invoice", "billing")
    assert list(words) == sorted(words, key=lambda w: -abs(words[w]))


def test_typed_texts_show_their_route(tune):
    tune.switch_page("pages/4_Try.py").run()
    tune.text_area(key="try_texts").set_value("Where is my parcel?\n\n  my card was charged twice ").run()
    assert not tune.exception
    shown = [t.value for t in tune.text]
    assert shown[0] == "Where is my parcel?"
    assert "my card was charged twice" in shown
    assert len(tune.dataframe) == 2
    assert tune.dataframe[0].value["Asked"].iloc[0] == "classifier"
    tune.text_area(key="try_texts").set_value(" \n").run()
    assert any("at least one" in i.value for i in tune.info)


def test_inspect_shows_and_filters_rows(tune):
    tune.switch_page("pages/3_Inspect.py").run()
    tune.segmented_control(key="inspect_kind").set_value("Mistakes").run()
    mistakes = tune.dataframe[0].value
    assert (mistakes["truth"] != mistakes["final label"]).all()
    assert (mistakes["confidence"].diff().dropna() <= 0).all()
    tune.selectbox(key="inspect_truth").set_value("billing").run()
    assert set(tune.dataframe[0].value["truth"]) == {"billing"}
    tune.text_input(key="inspect_search").set_value("no such text anywhere").run()
    assert any("No row is left" in i.value for i in tune.info)
    assert not tune.exception


def test_what_if_prices_and_volume_reach_every_number(tune):
    before = numbers(tune)["Cost per 1,000"]
    tune.number_input(key="volume").set_value(1_000_000).run()
    tune.number_input(key="wrong_cost").set_value(1.0).run()
    assert numbers(tune)["Cost per 1,000"] == before
    assert tune.session_state["scale"] == Scale(1_000_000, 1.0)
    tune.number_input(key="whatif_price").set_value(6.0).run()
    after = numbers(tune)["Cost per 1,000"]
    assert float(after.strip("$")) == pytest.approx(2 * float(before.strip("$")), abs=0.02)
    assert not tune.exception
    said = " ".join(h.proto.body for h in tune.get("html"))
    assert "with mistakes" in said


@pytest.mark.usefixtures("uncached")
def test_the_class_mix_of_production_leaves_rows_out_and_says_how_many(tune, monkeypatch):
    data, choice = tune.session_state["loaded"], tune.session_state["choice"]
    classes = data.recording.dataset.classes
    mix = tuple((c, 0.5 if c in classes[:2] else 0.0) for c in classes)
    (on,) = state.evaluate_on(data, (replace(choice, terms=Terms(mix=mix)),), "tune")
    counts = np.bincount(on.truth, minlength=len(classes))
    assert abs(counts[0] - counts[1]) <= 1
    assert not counts[2:].any()
    (all_rows,) = state.evaluate_on(data, (choice,), "tune")
    before = np.bincount(all_rows.truth, minlength=len(classes))
    assert counts[:2].max() == before[:2].min()  # as many as the scarcer class allows
    assert set(on.rows) < set(all_rows.rows)
    (again,) = state.evaluate_on(data, (replace(choice, terms=Terms(mix=mix)),), "tune")
    np.testing.assert_array_equal(on.rows, again.rows)
    assert (on.n_answered, on.n_side) == (len(all_rows.rows), all_rows.n_side)
    assert on.scarce == classes[:2][int(before[:2].argmin())]
    monkeypatch.setattr(views.cached, "evaluation", lambda *a: state.evaluate_on(a[0], a[1:2], a[2])[0])
    said = views.mix_note(data, replace(choice, terms=Terms(mix=mix)))
    assert f"{len(on.truth):,} of {len(all_rows.truth):,} tune rows" in said
    assert f"{on.scarce} is the class with too few" in said
    assert views.mix_note(data, choice) is None


def test_loading_that_is_left_says_so_and_keeps_the_data(tune):
    before = tune.session_state["loaded"]
    tune.session_state["loading"] = True  # as a run that was ended in the middle leaves it
    tune.run()
    assert any("stopped before it was done" in i.value for i in tune.info)
    assert tune.session_state["loaded"] is before
    tune.run()
    assert not any("stopped before it was done" in i.value for i in tune.info)


def test_sessions_do_not_share_what_they_loaded():
    first = press(open_page(), "Use the sample data")
    second = open_page()
    assert "loaded" in first.session_state
    assert "loaded" not in second.session_state


def test_a_load_replaces_pins_of_other_data(tune):
    press(tune, "Pin to compare")
    tune.switch_page("app.py").run()
    tune.file_uploader(key="upload").upload("mine.csv", labelled().to_csv(index=False).encode()).run()
    press(tune, "Load and fit")
    assert tune.session_state["pins"] == []


def test_columns_of_the_sample_are_read_as_they_are():
    assert state.SAMPLE.exists()
    assert Columns("label", text="text", id="id").used() == ["label", "text", "id"]


def test_what_is_drawn_into_the_chart_does_not_stay_there(tune):
    def drawn(at):
        (chart,) = at.get("plotly_chart")
        return chart.proto.spec

    before = json.loads(drawn(tune))
    certified = drawn(tune.toggle(key="certify_on").set_value(True).run())
    assert "certified" in certified
    assert drawn(tune.run()) == certified  # the browser builds a chart anew whose text differs
    assert json.loads(drawn(tune.toggle(key="certify_on").set_value(False).run())) == before


@pytest.mark.usefixtures("uncached")
def test_the_report_leaves_the_chart_of_the_page_as_it_is(tune, monkeypatch):
    data, choice = tune.session_state["loaded"], tune.session_state["choice"]
    (line,) = choice.policy.thresholds()
    view = views.threshold(data, choice, line, "Confidence")
    before = json.loads(view[0].to_json())
    monkeypatch.setattr(views, "threshold", lambda *_: view)
    assert report._threshold_charts(data, choice)  # the threshold stands in it as a line
    assert json.loads(view[0].to_json()) == before


def test_moving_a_threshold_draws_no_chart_and_writes_no_tile_of_the_drag_again(tune, monkeypatch):
    monkeypatch.setattr(charts, "threshold_figure", None)  # would fail if it were called
    monkeypatch.setattr(views, "of_points", None)
    (slider,) = (s for s in tune.slider if s.label == "Confidence threshold")
    moved = slider.set_value(0.5).run()
    assert not moved.exception
    moved.segmented_control(key="axis").set_value("Share kept").run()
    assert moved.exception  # another axis is another picture
