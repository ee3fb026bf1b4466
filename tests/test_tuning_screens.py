"""Suggest, certify and thresholds per class on the Tune page: what a user clicks, and what then stands there."""

import json

import pytest
from test_dashboard import open_page, press

from hybrid.dashboard import certify_panel, class_table, export, promised, report, suggest_panel
from hybrid.dashboard.state import Choice
from hybrid.patterns import PATTERNS, Triage
from hybrid.routing import Policy, defaults
from hybrid.tuning import Goal


@pytest.fixture
def tune():
    return press(open_page("pages/1_Tune.py"), "Use the sample data")


def click(at, key):
    next(b for b in at.button if b.key == key).click()
    return at.run()


def policy_of(at):
    return at.session_state["choice"].policy


def said(at):
    return " ".join(m.value for m in (*at.markdown, *at.caption, *at.warning, *at.info))


def test_suggest_sets_the_slider_and_says_what_binds_and_how_it_was_found(tune):
    tune.number_input(key="goal_floor").set_value(92.0).run()
    at = click(tune, "suggest")
    assert not at.exception
    found = at.session_state["suggested"].found
    assert policy_of(at) == found.policy
    assert at.slider(key="triage.threshold").value == found.policy.pattern.threshold
    assert found.tune.accuracy.value >= 0.92
    text = said(at)
    assert "Suggested: cheapest, accuracy at least 92.0%" in text
    assert "Binding: **accuracy at least 92.0%**" in text
    assert "exact over all" in text
    assert "Optimism" in text
    at.slider(key="triage.threshold").set_value(0.123).run()
    assert "You moved away from the suggestion" in said(at)
    at = click(at, "suggest_again")
    assert policy_of(at) == found.policy


def test_suggest_over_all_patterns_moves_to_the_best_one(tune):
    tune.selectbox(key="goal").set_value("most_accurate").run()
    tune.number_input(key="goal_budget").set_value(1.5).run()
    tune.segmented_control(key="goal_over").set_value("all patterns").run()
    tune.toggle(key="goal_by_class").set_value(True).run()
    at = click(tune, "suggest")
    assert not at.exception
    found = at.session_state["suggested"].found
    assert policy_of(at) == found.policy
    assert found.tune.cost_per_1000.value <= 1.5 * (1 + 1e-9)
    assert len(found.candidates) > 3
    at.toggle(key="suggest_stability").set_value(True).run()
    assert not at.exception
    assert any("90% of 200 resamples" in str(t.value.columns) for t in at.table)


@pytest.mark.parametrize("pattern", list(PATTERNS))
def test_every_pattern_can_be_suggested_and_set(tune, pattern):
    tune.segmented_control(key="pattern").set_value(pattern).run()
    tune.selectbox(key="goal").set_value("least_total").run()
    at = click(tune, "suggest")
    assert not at.exception
    assert policy_of(at) == at.session_state["suggested"].found.policy


def test_a_table_of_costs_takes_the_place_of_one_figure(tune):
    tune.selectbox(key="goal").set_value("least_total").run()
    tune.toggle(key="goal_table_on").set_value(True).run()
    at = click(tune, "suggest")
    assert not at.exception
    goal = at.session_state["suggested"].found.goal
    assert len(goal.wrong) == len(at.session_state["loaded"].recording.dataset.classes)
    assert "by a table" in said(at)


def test_a_goal_out_of_reach_is_said_to_be(tune):
    tune.number_input(key="goal_floor").set_value(100.0).run()
    at = click(tune, "suggest")
    assert "Out of reach" in said(at)


def test_thresholds_of_classes_are_sliders_in_a_table_and_show_their_gain(tune):
    tune.toggle(key="goal_by_class").set_value(True).run()
    at = click(tune, "suggest")
    own = at.session_state["suggested"].found.policy.pattern.by_class
    assert any(v is not None for v in own)
    classes = at.session_state["loaded"].recording.dataset.classes
    for name, value in zip(classes, own, strict=True):
        if value is not None:
            assert at.slider(key=class_table.slider_key("triage", name)).value == value
    assert "test rows" in said(at)
    assert "best single threshold for the same goal" in said(at)
    name = next(c for c, v in zip(classes, own, strict=True) if v is not None)
    at.slider(key=class_table.slider_key("triage", name)).set_value(0.432).run()
    assert policy_of(at).pattern.by_class[classes.index(name)] == 0.432
    at.run()
    assert policy_of(at).pattern.by_class[classes.index(name)] == 0.432
    at = click(at, "triage.by_class.reset")
    assert policy_of(at).pattern.by_class == ()
    at.toggle(key=class_table.switch_key("triage")).set_value(False).run()
    assert policy_of(at).pattern.by_class == ()


@pytest.mark.parametrize("risk", ["selective", "system"])
def test_certify_says_what_is_promised_and_sets_it(tune, risk):
    tune.toggle(key="certify_on").set_value(True).run()
    tune.radio(key="certify_risk").set_value(risk).run()
    at = tune.number_input(key="certify_alpha").set_value(20.0).run()
    assert not at.exception
    assert "With probability at least 90%" in said(at)
    at = click(at, "certify_use")
    assert "the policy as set has this promise" in said(at)
    found = promised_of(at)
    assert policy_of(at).pattern.threshold == found.lowest
    at.slider(key="triage.threshold").set_value(0.001).run()
    assert "has no such promise" in said(at)


def promised_of(at):
    return at.session_state["certified"].found


def test_where_nothing_certifies_the_page_says_how_many_rows_would(tune):
    tune.toggle(key="certify_on").set_value(True).run()
    at = tune.number_input(key="certify_alpha").set_value(0.1).run()
    assert "No threshold certifies" in said(at)
    at.toggle(key="certify_on").set_value(False).run()
    assert "No threshold certifies" not in said(at)


def test_what_was_aimed_at_and_promised_stands_in_the_evidence_and_in_the_report(tune, monkeypatch):
    at = tune.toggle(key="certify_on").set_value(True).run()
    at = at.number_input(key="certify_alpha").set_value(25.0).run()
    at = click(at, "certify_use")
    data, choice = at.session_state["loaded"], at.session_state["choice"]
    kept = at.session_state["certified"]
    monkeypatch.setattr(promised.st, "session_state", {"certified": kept})
    shown = promised.evidence(data, choice)
    assert json.loads(json.dumps(shown, allow_nan=False))["certificate"]["alpha"] == 0.25
    assert shown["suggestion"] is None
    assert "Certified. With probability at least 90%" in promised.lines(data, choice)[0]
    other = Choice(Policy(Triage(0.0001), choice.policy.tiers), choice.whatif, choice.terms)
    assert promised.certificate_for(data, other) is None
    stricter = Choice(Policy(Triage(kept.found.highest), choice.policy.tiers), choice.whatif, choice.terms)
    assert promised.certificate_for(data, stricter) is kept.found
    assert export.promised is report.promised is promised
    monkeypatch.undo()
    at.switch_page("pages/6_Export.py").run()
    assert not at.exception
    assert any("With probability at least 90%" in j.value for j in at.json)


def test_the_goal_goes_along_into_the_bundle(tune):
    at = click(tune, "suggest")
    at.switch_page("pages/6_Export.py").run()
    assert not at.exception
    evidence = json.loads(at.json[-1].value)
    assert evidence["suggestion"]["goal"] == "cheapest, accuracy at least 90.0%"
    assert evidence["certificate"] is None


def test_candidates_cover_every_pattern_that_the_tiers_allow(tune):
    data, choice = tune.session_state["loaded"], tune.session_state["choice"]
    found = suggest_panel.candidates(data, choice)
    assert {type(p.pattern) for p in found} == set(PATTERNS.values())
    assert all(p.pattern == defaults(type(p.pattern), p.names) for p in found)
    assert Goal("cheapest").words == "cheapest"
    assert certify_panel.RISKS.keys() == {"selective", "system"}
