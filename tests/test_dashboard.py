"""Page logic, without a browser: what a user clicks, and what then stands there."""

import base64
import json
import re
import zlib
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from conftest import again, labelled
from plotly.offline import get_plotlyjs
from streamlit.testing.v1 import AppTest

from hybrid.dashboard import charts, state, trying, views, wording, working
from hybrid.dashboard.data.rules_table import changed
from hybrid.dashboard.export import export, report
from hybrid.dashboard.inert import inert
from hybrid.dashboard.production import source
from hybrid.dashboard.tune import threshold_line
from hybrid.data.columns import Columns
from hybrid.errors import TierError
from hybrid.metrics.curve import with_threshold
from hybrid.routing.engine import Policy, replay
from hybrid.routing.patterns import PATTERNS, Assisted, Cascade
from hybrid.study import promises, traffic
from hybrid.study.study import Pin, Study
from hybrid.study.terms import Terms
from hybrid.tiers import embedders
from hybrid.tiers.human import Assist, Human
from hybrid.tiers.rules import NO_EDITS, Edits, Rule, Rules
from hybrid.tiers.whatif import WhatIf

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


def open_page(page="app.py", study=None, **params):
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    if study is not None:
        at.session_state["study"] = study
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
def tune(sample_fitted):
    """The Tune page with the sample loaded and the what-if LLM on, which then is the strongest tier."""
    study = again(sample_fitted)
    study.terms = Terms(whatif=WhatIf())
    return open_page("pages/1_Tune.py", study)


@pytest.fixture
def own(own_fitted):
    """The Tune page with a table of one's own loaded, which has no recorded answers."""
    study = again(own_fitted)
    study.terms = Terms(whatif=WhatIf())
    return open_page("pages/1_Tune.py", study)


@pytest.fixture
def uncached(monkeypatch):
    """Call what the pages call, but outside of a session, where its caches cannot be read."""
    for module in (export, report, trying, views):
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


@pytest.mark.parametrize("pattern", list(PATTERNS))
def test_every_pattern_draws_its_numbers(tune, pattern):
    study = tune.session_state["study"]
    study.terms = replace(study.terms, human=Human(), assist=Assist() if pattern == "assisted" else None)
    tune.segmented_control(key="pattern").set_value(pattern).run()
    assert not tune.exception
    assert set(numbers(tune)) >= {"Right answers", "Cost per month", "Waiting time"}
    assert any("simulated" in m.value for m in tune.markdown)


def test_a_router_takes_a_gate_for_each_tier_and_says_how_well_each_tells_and_why_one_is_left_out(tune):
    tune.segmented_control(key="pattern").set_value("router").run()
    tune.multiselect(key="router.tiers").set_value(["rules", "classifier", "minilm", "llm"])
    tune.session_state["gates_open"] = True
    tune.selectbox(key="router.gate").set_value("One for each tier").run()
    assert not tune.exception
    study = tune.session_state["study"]
    names = ("trained gate", "trained gate for minilm", "classifier", "minilm", "llm")
    assert study.policy.names == names
    assert any("rules is left out: no gate tells" in c.value for c in tune.caption)
    assert [tune.slider(key=f"router.thresholds.{i}").label for i in (0, 1)] == [
        "Gate score for classifier",
        "Gate score for minilm",
    ]
    worth = next(d.value for d in tune.dataframe if "Gate" in d.value)
    own = worth[(worth["Gate"] == names[1]) & (worth.iloc[:, 0] == "minilm")].iloc[0]
    assert own["Test"].startswith(f"{study.gate_auroc(names[1], 'minilm').value:.2f} (")
    assert any("heuristic gate is left out" in c.value for c in tune.caption)
    assert study.bind(study.policy) == study.policy
    tune.selectbox(key="router.gate").set_value("trained gate").run()
    assert study.policy.names == names[:1] + names[2:]


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
    study, policy = tune.session_state["study"], tune.session_state["study"].policy
    assert policy.pattern.threshold == 0.6
    from hybrid.metrics.summary import summarize

    on = study.measure(policy, "test").graded  # as on every page; the curve is of tune
    expected = summarize(replay(policy, on.predictions), on.truth)
    shown = numbers(tune)
    assert shown["Right answers"] == f"{expected.accuracy.value:.1%}"
    assert shown["Sent to what-if LLM"] == f"{expected.escalation_rate.value:.1%}"
    assert shown["Cost per month"] == wording.dollars(study.terms.month(expected.cost_per_1000.value))
    curve = study.measure(policy, "tune").curve(policy.thresholds()[0])
    for t in (0.3, 0.6, 0.91):
        moved = with_threshold(policy, "threshold", None, t)
        assert curve.accuracy[curve.at(t)] == pytest.approx(views.summary(study, moved, "tune").accuracy.value)


def test_a_shared_link_restores_the_policy_and_everything_that_is_assumed(tune, sample_fitted):
    study = tune.session_state["study"]
    names = ("rules", "classifier", "what-if LLM")
    tiers = tuple(t for t in study.tiers if t.name in names)
    study.use(Policy(Cascade((0.0, 0.4)), tiers))  # a threshold of exactly 0 is one
    study.terms = replace(study.terms, whatif=WhatIf(accuracy=0.8), prices=(("llm", 0.5),), volume=7)
    settings = state.address_of(study)
    at = open_page("pages/1_Tune.py", again(sample_fitted), set=settings)
    assert not at.exception
    found = at.session_state["study"]
    assert (found.policy, found.terms) == (study.policy, study.terms)
    assert at.slider(key="cascade.thresholds.0").value == 0.0


def test_a_damaged_link_says_so_and_changes_nothing(sample_fitted):
    at = open_page("pages/1_Tune.py", again(sample_fitted), set="nonsense")
    assert any("link is damaged" in e.value for e in at.error)
    assert not at.exception
    assert not at.session_state["study"].terms.prices


def test_pins_are_compared_and_exported(tune, monkeypatch):
    monkeypatch.setenv("HYBRID_MAX_SEARCH_SECONDS", "20")  # every pattern is found, however busy the machine
    press(tune, "Pin")
    tune.slider(key="triage.threshold").set_value(0.3).run()
    press(tune, "Pin")
    press(tune, "Pin")  # the same again is no new pin
    assert [p.name for p in tune.session_state["study"].pins] == ["A", "B"]
    tune.switch_page("pages/2_Compare.py").run()
    assert not tune.exception
    shown = list(tune.table[0].value.columns)
    titles = [kind.title for kind in PATTERNS.values() if kind is not Assisted]  # nobody picks from three answers
    assert shown == ["what-if LLM alone", "classifier alone", *titles, "A", "B"]  # filled without a click
    before = tune.session_state["study"].policy
    next(b for b in tune.button if b.key == "use_Triage").click()
    tune.run()
    assert not tune.exception
    assert any("Now at hand" in s.value for s in tune.success)
    study = tune.session_state["study"]
    assert study.policy != before
    floor = study.usual_goal().floor
    assert study.measure(side="tune").summary.accuracy.value >= floor - 1e-9
    assert "simulated" in tune.table[0].value.loc["Policy", "A"]
    tune.switch_page("pages/6_Export.py").run()
    assert not tune.exception
    assert "hybrid.load" in tune.code[0].value
    assert all(f'"{name}"' in tune.code[0].value for name in tune.session_state["study"].external())
    next(s for s in tune.selectbox if s.label == "Policy").set_value("pin B").run()
    moved = study.at_share({p.name: p.policy for p in study.pinned}["B"])
    tune.toggle(key="export_share").set_value(True).run()
    assert not tune.exception
    assert json.loads(tune.json[0].value)["parameters"]["threshold"] == moved.policy.pattern.threshold
    assert any(moved.words in c.value for c in tune.caption)


@pytest.mark.usefixtures("uncached")
def test_a_policy_has_the_same_numbers_wherever_they_stand(sample_fitted):
    """Header, tiles, a line of Compare, its table, Export and the report, of a policy whose LLM left rows unasked."""
    study = again(sample_fitted)
    at = open_page("pages/1_Tune.py", study)
    at.slider(key="triage.threshold").set_value(0.6).run()
    policy = study.policy
    on = study.measure(policy, "test").summary
    right = wording.percent(on.accuracy.value)
    month = wording.dollars(study.terms.month(on.cost_per_1000.value))
    assert right != wording.percent(study.measure(policy, "tune").summary.accuracy.value)  # the sides can be told
    shown = numbers(at)
    assert (shown["Right answers"], shown["Cost per month"]) == (right, month)
    assert shown["Sent to llm"] == wording.percent(on.escalation_rate.value)
    header = f"**{right}** right · **{inert(month)}** a month"
    assert sum(header in m.value for m in at.markdown) == 1
    press(at, "Pin")
    at.switch_page("pages/2_Compare.py").run()
    text = [m.value for m in at.markdown]
    assert sum(header in m for m in text) == 1
    line = next(i for i, m in enumerate(text) if m.startswith("**A**"))
    assert text[line + 1].startswith(f"**{right}** right ({wording.interval_text(on.accuracy)})")
    assert text[line + 2].startswith(f"**{inert(month)}** a month")
    column = at.table[0].value["A"]
    assert column["Accuracy (95% CI)"].startswith(inert(right))
    assert column["Per month"] == inert(month)
    at.switch_page("pages/6_Export.py").run()
    assert not at.exception
    assert any(f"**{right}** right" in m.value and f"**{inert(month)}** a month" in m.value for m in at.markdown)
    html = report.report(study, policy, [], study.terms, written=date(2026, 1, 2))
    assert f"{right} right (95% CI" in html
    assert f"{month} a month" in html


def test_bad_files_leave_the_loaded_data_alone(sample_fitted):
    at = open_page("app.py", again(sample_fitted))
    before = at.session_state["study"]
    for name, content in {
        "empty.csv": b"",
        "open.csv": b'text,label\na,"x\nb,y\n',
        "twice.csv": b"text,text\na,b\n",
        "deep.jsonl": b'{"text": ' + b"[" * 9_999,
    }.items():
        at.file_uploader(key="upload").upload(name, content).run()
        assert at.error, name
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(working, "read", None)  # what was refused is not read again
            assert at.run().error, name
        assert not at.exception
        assert at.session_state["study"] is before


def test_what_a_link_or_a_class_is_called_is_only_words(sample_fitted):
    words = {"pattern": "triage", "tiers": ["![x](http://a)", "llm"], "parameters": {"threshold": 1, "by_class": {}}}
    made = base64.urlsafe_b64encode(zlib.compress(json.dumps([words, {}]).encode())).decode()
    at = open_page("app.py", again(sample_fitted), set=made)
    assert "There is no tier" in at.error[0].value
    assert "![x](http" not in at.error[0].value

    def mix():
        from types import SimpleNamespace

        from hybrid.dashboard import assumptions
        from hybrid.study.terms import Terms

        assumptions._pick_mix(SimpleNamespace(terms=Terms(mix=(("![x](http://a)", 1.0),))))

    assert "![x]" not in AppTest.from_function(mix).run().number_input[0].label


def test_a_table_that_cannot_be_used_says_why_and_keeps_the_data(sample_fitted):
    at = open_page("app.py", again(sample_fitted))
    before = at.session_state["study"]
    rows = "\n".join(f"some text {chr(97 + i % 26) * (i + 1)},same" for i in range(30))
    at.file_uploader(key="upload").upload("one.csv", f"text,label\n{rows}\n".encode()).run()
    at = press(at, "Load and fit")
    assert "carry the label 'same'" in at.error[0].value
    assert at.session_state["study"] is before


def test_upload_load_and_tune_own_data():
    at = open_page()
    content = labelled().to_csv(index=False).encode()
    at.file_uploader(key="upload").upload("mine.csv", content).run()
    at = press(at, "Load and fit")
    assert not at.error
    assert at.session_state["study"].dataset.n_rows == 240
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
    assert at.session_state["study"].policy.names == ("a", "b")
    at.segmented_control(key="pattern").set_value("router").run()
    assert any("needs texts" in i.value for i in at.info)


def test_picks_stay_when_the_page_is_left_and_what_was_assumed_can_be_undone():
    rows = "\n".join(
        f"r{i},g{i % 9},{'Yes' if i % 4 == 0 else ('yes', 'no')[i % 2]},{('yes', 'no')[i % 3 % 2]},0.{5 + i % 5},900"
        for i in range(60)
    )
    at = open_page()
    at.file_uploader(key="upload").upload("p.csv", f"id,x,gold,a_label,a_conf,a_latency\n{rows}\n".encode()).run()
    next(s for s in at.selectbox if s.label == "x").set_value("group").run()
    at.switch_page("pages/1_Tune.py").run()
    at.switch_page("app.py").run()
    assert next(s for s in at.selectbox if s.label == "x").value == "group"
    at = press(at, "Load and fit")
    assert at.session_state["study"].columns.group == "x"
    at = press(at, "milliseconds")
    at = press(at, "Keep spellings apart")
    assert not at.exception
    study = at.session_state["study"]
    assert study.column("a")[1].latency.max() == 0.9
    assert study.classes == ("Yes", "no", "yes")
    assert at.session_state["draft"].study.columns == study.columns  # the next load starts from what was answered


def test_numbers_rest_on_the_rows_that_every_tier_answered():
    frame = labelled()
    frame["llm"] = [label if i % 4 == 0 else "" for i, label in enumerate(frame["label"])]
    at = open_page()
    at.file_uploader(key="upload").upload("partly.csv", frame.to_csv(index=False).encode()).run()
    press(at, "Load and fit")
    at.switch_page("pages/1_Tune.py").run()
    assert not at.exception
    study, policy = at.session_state["study"], at.session_state["study"].policy
    on = study.measure(policy, "tune").graded
    assert 30 < len(on.truth) < 55
    assert on.n_side == len(study.evidence.split.tune)
    assert f"Curves are of {len(on.truth)} of {on.n_side} tune rows" in " ".join(c.value for c in at.caption)
    assert any("No price is known for llm" in c.value for c in at.caption)
    assert numbers(at)["Cost per month"] == "unknown"


def test_other_data_start_from_their_own_tiers(own):
    """A file with recorded answers switches the what-if LLM off; the next without them has it again."""
    tune = own
    assert tune.session_state["study"].policy.names == ("classifier", "what-if LLM")
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
        assert tune.session_state["study"].policy.names == expected


@pytest.mark.parametrize("pattern", [name for name in PATTERNS if name != "assisted"])
def test_without_an_llm_no_policy_escalates_to_rules(own, pattern):
    own.session_state["study"].terms = Terms()
    own.session_state["pattern"] = pattern
    own.run()
    assert not own.exception
    policy = own.session_state["study"].policy
    assert policy.names == ("rules", "classifier")
    assert isinstance(policy.pattern, Cascade)
    for page in PAGES[2:]:
        own.switch_page(page).run()
        assert not own.exception


def test_answers_on_test_rows_only_are_named_and_the_rows_can_be_split_again():
    frame = labelled()
    frame["split"] = ["tune"] * 120 + ["test"] * 120
    frame["llm"] = [""] * 120 + list(frame["label"][120:])
    study = Study("late.csv", frame).fit()
    at = open_page("pages/1_Tune.py", study)
    assert any("llm answered no tune row" in w.value for w in at.warning)
    assert "llm" not in at.session_state["study"].policy.names
    at.button(key="split_again").click().run()
    assert not at.exception
    assert at.session_state["study"].policy.names == ("classifier", "llm")


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
    study, policy = tune.session_state["study"], tune.session_state["study"].policy
    monkeypatch.chdir(tmp_path)
    for kind in ("triage", "local"):
        if kind == "local":
            tiers = study.evidence.predictions.select(["rules", "classifier"]).tiers
            policy = Policy(Cascade((0.8,)), tiers)
        content = export.bundle(study, policy)
        name = export.file_name(policy)
        Path(name).write_bytes(content)
        lines = export.snippet(name, study, policy)
        exec(compile(lines, name, "exec"), {})


@pytest.mark.usefixtures("uncached")
def test_evidence_names_what_is_simulated(tune):
    evidence = promises.evidence(tune.session_state["study"], tune.session_state["study"].policy)
    assert evidence["simulated"] == ["what-if LLM"]
    assert evidence["metrics"]["test"]["accuracy"]["low"] < evidence["metrics"]["test"]["accuracy"]["value"]


@pytest.mark.usefixtures("uncached")
def test_the_report_stands_alone_and_says_what_the_screen_says(tune):
    study, policy = tune.session_state["study"], tune.session_state["study"].policy
    other = with_threshold(policy, "threshold", None, 0.3)
    study.name = "<script>alert(1)</script>"
    html = report.report(
        study, policy, [Pin("A", other)], Terms(volume=50_000, wrong_cost=2.0), written=date(2026, 1, 2)
    )
    test = views.summary(study, policy, "test")
    assert f"{test.accuracy.value:.1%} right" in html
    assert wording.dollars(test.cost_per_1000.value) in html
    assert "50,000 texts" in html
    assert "with mistakes at $2.00 each" in html
    assert study.dataset.fingerprint in html
    assert "Simulated:</strong> what-if LLM" in html
    assert "2026-01-02" in html
    assert "hybrid.load" in html
    assert "This policy" in html  # beside the pinned one
    assert "<script>alert" not in html
    outside = html.replace(get_plotlyjs(), "")
    assert not re.search(r"(src|href)=|url\(|@import", outside)
    assert "default-src 'none'" in html
    study.terms = replace(study.terms, prices=(("classifier", 0.001),), mix=(("billing", 0.5), ("shipping", 0.5)))
    assumed = report.report(study, policy, [], study.terms, written=date(2026, 1, 2))
    assert "Assumed instead of measured" in assumed
    alone = report.report(study, policy, [], Terms(), written=date(2026, 1, 2))
    assert "other policies" not in alone


@pytest.mark.usefixtures("uncached")
def test_a_tried_text_is_decided_as_the_bundle_decides_it(tune):
    study, policy = tune.session_state["study"], tune.session_state["study"].policy
    dataset = study.dataset
    on = study.measure(policy, "test").graded
    expected = replay(policy, on.predictions)
    texts = [str(dataset.texts[i]) for i in on.rows[:40]]
    decisions = trying.decide(study, policy, [*texts, "zzz qqq"])
    assert [d.label for d in decisions[:-1]] == [dataset.classes[c] for c in expected.label[:40]]
    assert [d.cost for d in decisions[:-1]] == pytest.approx(expected.cost[:40].tolist())
    unseen = decisions[-1]  # no tier here knows it: it is sent on, and stays unanswered at the list price
    assert (unseen.label, unseen.tier, unseen.cost) == (None, "what-if LLM", 0.003)
    assert trying.known(study, texts[0])
    assert not trying.known(study, "zzz qqq")
    words = trying.words_for(study, "refund my invoice", "billing")
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
    assert tune.segmented_control(key="inspect_rows").value == "test"  # the side of the numbers on every page
    tune.segmented_control(key="inspect_rows").set_value("tune").run()
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
    tune.session_state["whatif_open"] = True
    tune.run()
    tune.number_input(key="volume").set_value(1_000_000).run()
    tune.number_input(key="wrong_cost").set_value(1.0).run()
    before = numbers(tune)["Cost per month"]
    assert tune.session_state["study"].terms == Terms(whatif=WhatIf(), volume=1_000_000, wrong_cost=1.0)
    tune.number_input(key="whatif_price").set_value(6.0).run()
    after = numbers(tune)["Cost per month"]
    said = [float(x.strip("$").replace(",", "")) for x in (before, after)]
    assert said[1] == pytest.approx(2 * said[0], rel=0.01)
    tune.number_input(key="price.classifier").set_value(1.0).run()
    assert dict(tune.session_state["study"].terms.prices) == {"classifier": 0.001}
    assert not tune.exception
    said = " ".join(h.proto.body for h in tune.get("html"))
    assert "with mistakes" in said


def test_the_class_mix_of_production_leaves_rows_out_and_says_how_many(sample_fitted):
    study = again(sample_fitted)
    policy, classes = study.policy, study.classes
    all_rows = study.measure(policy, "tune").graded
    assert views.mix_note(study, policy) is None
    study.terms = Terms(mix=tuple((c, 0.5 if c in classes[:2] else 0.0) for c in classes))
    on = study.measure(policy, "tune").graded
    counts = np.bincount(on.truth, minlength=len(classes))
    assert abs(counts[0] - counts[1]) <= 1
    assert not counts[2:].any()
    before = np.bincount(all_rows.truth, minlength=len(classes))
    assert counts[:2].max() == before[:2].min()  # as many as the scarcer class allows
    assert set(on.rows) < set(all_rows.rows)
    other = again(sample_fitted)
    other.terms = study.terms
    np.testing.assert_array_equal(on.rows, other.measure(policy, "tune").graded.rows)
    assert (on.n_answered, on.n_side) == (len(all_rows.rows), all_rows.n_side)
    assert on.scarce == classes[:2][int(before[:2].argmin())]
    said = views.mix_note(study, policy)
    assert f"{len(on.truth):,} of {len(all_rows.truth):,} tune rows" in said
    assert f"{on.scarce} is the class with too few" in said


def test_loading_that_is_left_says_so_and_keeps_the_data(tune):
    before = tune.session_state["study"]
    tune.session_state["loading"] = True  # as a run that was ended in the middle leaves it
    tune.run()
    assert any("stopped before it was done" in i.value for i in tune.info)
    assert tune.session_state["study"] is before
    tune.run()
    assert not any("stopped before it was done" in i.value for i in tune.info)


def test_sessions_do_not_share_what_they_loaded():
    first = press(open_page(), "Use the sample data")
    second = open_page()
    assert "study" in first.session_state
    assert "study" not in second.session_state


def test_a_load_replaces_pins_of_other_data(tune):
    press(tune, "Pin")
    tune.switch_page("app.py").run()
    tune.file_uploader(key="upload").upload("mine.csv", labelled().to_csv(index=False).encode()).run()
    press(tune, "Load and fit")
    assert tune.session_state["study"].pins == []


def test_columns_of_the_sample_are_read_as_they_are():
    assert state.SAMPLE.exists()
    assert Columns("label", text="text", id="id").used() == ["label", "text", "id"]


def test_what_is_drawn_into_the_chart_does_not_stay_there(tune):
    def drawn(at):
        (chart,) = at.get("plotly_chart")
        return chart.proto.spec

    before = json.loads(drawn(tune))
    tune.session_state["certify_open"] = True
    tune.run().toggle(key="certify_on").set_value(True).run()
    certified = drawn(tune.number_input(key="certify_alpha").set_value(20.0).run())
    assert "certified" in certified
    assert drawn(tune.run()) == certified  # the browser builds a chart anew whose text differs
    assert json.loads(drawn(tune.toggle(key="certify_on").set_value(False).run())) == before


@pytest.mark.usefixtures("uncached")
def test_the_report_leaves_the_chart_of_the_page_as_it_is(tune, monkeypatch):
    study, policy = tune.session_state["study"], tune.session_state["study"].policy
    (line,) = policy.thresholds()
    view = views.threshold(study, policy, line, "Confidence")
    before = json.loads(view[0].to_json())
    monkeypatch.setattr(views, "threshold", lambda *_: view)
    assert report._threshold_charts(study, policy)  # the threshold stands in it as a line
    assert json.loads(view[0].to_json()) == before


def test_moving_a_threshold_draws_no_chart_and_writes_no_tile_of_the_drag_again(tune, monkeypatch):
    monkeypatch.setattr(charts, "threshold_figure", None)  # would fail if it were called
    monkeypatch.setattr(views, "of_points", None)
    monkeypatch.setattr(charts, "add_star", None)
    monkeypatch.setattr(threshold_line, "line", None)
    (slider,) = (s for s in tune.slider if s.label == "Confidence threshold")
    moved = slider.set_value(0.5).run()
    assert not moved.exception
    moved.segmented_control(key="axis").set_value("Share kept").run()
    assert moved.exception  # another axis is another picture


def test_nothing_is_loaded_until_the_truth_is_named():
    frame = labelled().rename(columns={"label": "impact"})
    frame["urgency"] = frame["impact"].to_numpy()[::-1]
    at = open_page()
    at.file_uploader(key="upload").upload("two.csv", frame.to_csv(index=False).encode()).run()
    assert "Load and fit" not in [b.label for b in at.button]
    next(s for s in at.selectbox if s.label.startswith("The right class")).set_value("impact").run()
    assert not at.exception
    assert at.session_state["draft"].study.columns.label == "impact"
    assert "Load and fit" in [b.label for b in at.button]


def test_a_chip_changes_what_a_column_is_and_a_card_prices_a_model():
    frame = labelled()
    frame["gpt4"], frame["urgent"] = frame["label"], frame["label"].to_numpy()[::-1]
    at = open_page()
    at.file_uploader(key="upload").upload("two.csv", frame.to_csv(index=False).encode()).run()
    token = at.session_state["draft"].token
    at.selectbox(key=f"columns.{token}.role.3").set_value("label").run()
    columns = at.session_state["draft"].study.columns
    assert columns.label == "urgent"
    assert [r.label for r in columns.recorded] == ["label", "gpt4"]  # what was the truth is an answer among others
    at.number_input(key=f"columns.{token}.model.gpt4.price").set_value(2.5)
    at.selectbox(key=f"columns.{token}.role.1").set_value("unused").run()
    assert not at.exception
    columns = at.session_state["draft"].study.columns
    assert [(r.name, r.price) for r in columns.recorded] == [("gpt4", 0.0025)]


def test_labels_of_a_model_are_agreement_on_the_pages(own_fitted):
    study = Study("mine.csv", own_fitted.table, Columns("label", text="text", reference="gpt4"))
    study.keep(replace(own_fitted.evidence, dataset=replace(own_fitted.dataset, agreement_with="gpt4")))
    study.terms = Terms(whatif=WhatIf())
    at = open_page("pages/1_Tune.py", study)
    assert not at.exception
    assert any("agreement with gpt4, not accuracy" in m.value for m in at.markdown)
    assert any(m.label.startswith("Agreement with gpt4") for m in at.metric)
    chart = next(c.proto.spec for c in at.get("plotly_chart") if "Escalation rate" in c.proto.spec)
    assert '"text":"Agreement with gpt4"' in chart.replace(": ", ":")
    assert "Accuracy" not in chart


def test_what_a_project_kept_is_gone_when_it_is_forgotten(monkeypatch, tmp_path, own_fitted):
    monkeypatch.setenv("HYBRID_PROJECTS", "ask")
    monkeypatch.setenv("HYBRID_PROJECTS_DIR", str(tmp_path))
    at = open_page(study=again(own_fitted))
    at.toggle(key="privacy.keep").set_value(True).run()
    assert len(list(tmp_path.iterdir())) == 1
    at.switch_page("pages/1_Tune.py").run()
    at.switch_page("app.py").run()
    assert at.toggle(key="privacy.keep").value  # another page does not switch it off
    at.button(key="forget").click().run()
    assert list(tmp_path.iterdir()) == []
    assert at.title[0].value == "Hybrid tuner"


def test_production_shows_a_change_and_a_promise_that_no_longer_holds_on_simulated_traffic(sample_fitted):
    study = again(sample_fitted)
    study.use(study.start("triage"))
    at = open_page("pages/9_Production.py", study)
    assert not at.exception
    at.button(key="production.simulate").click().run()
    assert not at.exception
    one = at.session_state[source.SEEN].bundles[0]
    assert one.watch.title.startswith("simulated@")
    assert one.watch.level == "alarm"
    changed = [s.since for s in one.watch.streams if s.level == "alarm"]
    assert all(abs((day - one.watch.days[traffic.CHANGES_ON]).days) <= 5 for day in changed)
    assert any(w.value.startswith("**Alarm.**") for w in at.warning)
    assert numbers(at)["Decisions"] == f"{traffic.DAYS * traffic.A_DAY:,}"
    assert any(c.value.startswith("Reviews are kept beside the log") for c in at.caption)


@pytest.mark.parametrize(
    ("variable", "says"), [("HYBRID_MAX_SESSIONS", "sessions are open"), ("HYBRID_MAX_SERVER_MB", "MB of memory")]
)
def test_a_full_server_says_so_to_newcomers_and_keeps_who_is_in(variable, says, monkeypatch):
    inside = open_page()
    monkeypatch.setenv(variable, "1")
    at = open_page()
    assert [says in e.value and variable in e.value for e in at.error] == [True]
    assert not at.file_uploader
    assert not inside.run().error
    monkeypatch.delenv(variable)
    assert not at.button(key="admit_again").click().run().error
