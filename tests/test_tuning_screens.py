"""Suggest, certify and thresholds per class on the Tune page: what a user clicks, and what then stands there."""

import json
import threading
from concurrent.futures import CancelledError
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import again
from test_dashboard import open_page, press

from hybrid.dashboard import class_table, working
from hybrid.dashboard.compare import telling_apart
from hybrid.dashboard.export import shift_panel
from hybrid.dashboard.tune import certify_panel, suggest_panel
from hybrid.data.columns import Columns, RecordedColumns
from hybrid.metrics.summary import Interval, PairedDifference, summarize
from hybrid.production.reference import watched
from hybrid.routing.engine import Policy, replay
from hybrid.routing.patterns import PATTERNS, Triage
from hybrid.study import promises, worker
from hybrid.study.study import Study
from hybrid.study.terms import Terms
from hybrid.tiers.human import Assist
from hybrid.tiers.whatif import WhatIf
from hybrid.tuning import Goal, rows_for_interval, rows_to_tell
from hybrid.tuning.search import search


@pytest.fixture
def tune(sample_fitted, monkeypatch):
    """Tune with a tier that costs something; Certify opened, and Suggest, which waits for its search."""
    monkeypatch.setattr(suggest_panel, "WAIT", True)
    study = again(sample_fitted)
    study.terms = Terms(whatif=WhatIf())
    at = open_page("pages/1_Tune.py", study)
    at.session_state["suggest_open"] = at.session_state["certify_open"] = True
    return at.run()


def click(at, key):
    next(b for b in at.button if b.key == key).click()
    return at.run()


def policy_of(at):
    return at.session_state["study"].policy


def said(at):
    return " ".join(m.value for m in (*at.markdown, *at.caption, *at.warning, *at.info))


def test_suggest_sets_the_slider_and_says_what_binds_and_how_it_was_found(tune):
    tune.number_input(key="goal_floor").set_value(92.0).run()
    at = click(tune, "suggest")
    assert not at.exception
    found = at.session_state["study"].suggested.found
    assert policy_of(at) == found.policy
    assert at.slider(key="triage.threshold").value == found.policy.pattern.threshold
    assert found.tune.accuracy.value >= 0.92
    text = said(at)
    assert "Suggested: cheapest, accuracy at least 92.0%" in text
    assert "Binding: **accuracy at least 92.0%**" in text
    assert "exact over all" in text
    assert "Holds on fresh rows" in text
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
    found = at.session_state["study"].suggested.found
    assert policy_of(at) == found.policy
    assert found.tune.cost_per_1000.value <= 1.5 * (1 + 1e-9)
    assert len(found.candidates) > 3
    at.toggle(key="suggest_stability").set_value(True).run()
    assert not at.exception
    assert any("90% of 200 resamples" in str(t.value.columns) for t in at.table)


@pytest.mark.parametrize("pattern", list(PATTERNS))
def test_every_pattern_can_be_suggested_and_set(tune, pattern):
    tune.segmented_control(key="pattern").set_value(pattern).run()
    if pattern == "assisted":  # nobody picks from three answers yet
        click(tune, "assist_here")
        tune.session_state["whatif_open"] = True
        tune.run()
        tune.number_input(key="assist_accuracy").set_value(90.0).run()
        assert tune.session_state["study"].terms.assist == Assist(accuracy=0.9)
        tune.session_state["whatif_open"] = False
    tune.selectbox(key="goal").set_value("least_total").run()
    at = click(tune, "suggest")
    assert not at.exception
    assert policy_of(at) == at.session_state["study"].suggested.found.policy


def test_a_table_of_costs_takes_the_place_of_one_figure(tune):
    tune.selectbox(key="goal").set_value("least_total").run()
    tune.toggle(key="goal_table_on").set_value(True).run()
    at = click(tune, "suggest")
    assert not at.exception
    goal = at.session_state["study"].suggested.found.goal
    assert len(goal.wrong) == len(at.session_state["study"].dataset.classes)
    assert "by a table" in said(at)
    # what was minimised stands there, on both sides
    on_tune, on_test = at.session_state["study"].suggested.found.totals
    assert f"With wrong answers ${on_tune.value:,.2f} per 1,000 on tune, ${on_test.value:,.2f}" in said(at).replace(
        "\\", ""
    )
    assert any("Per 1,000 with wrong answers (95% CI)" in t.value.index for t in at.table)


def test_tuning_starts_at_the_star_and_another_pattern_takes_over_what_was_set(sample_fitted):
    study = again(sample_fitted)
    at = open_page("pages/1_Tune.py", study)
    assert study.measure(side="tune").summary.accuracy.value >= study.usual_goal().floor - 1e-9
    best = study.policy
    assert at.button(key="to_star").disabled
    (chart,) = at.get("plotly_chart")
    assert "recommended" in chart.proto.spec
    cascade = at.segmented_control(key="pattern").set_value("cascade").run()
    assert cascade.button(key="to_star").disabled  # nothing was set by hand: it starts at its own star
    at.segmented_control(key="pattern").set_value("triage").run()
    assert policy_of(at) == best
    at.selectbox(key="triage.cheap").set_value("minilm").run()
    at.slider(key="triage.threshold").set_value(0.432).run()
    at.segmented_control(key="pattern").set_value("cascade").run()
    assert (policy_of(at).names, policy_of(at).pattern.thresholds) == (("minilm", "llm"), (0.432,))
    at.segmented_control(key="pattern").set_value("triage_ensemble").run()
    assert (policy_of(at).names, policy_of(at).pattern.threshold) == (("minilm", "llm"), 0.432)
    at.segmented_control(key="pattern").set_value("router").run()
    assert policy_of(at).names == ("trained gate for minilm", "minilm", "llm")
    assert not at.exception
    at.segmented_control(key="pattern").set_value("triage").run()
    assert (policy_of(at).names, policy_of(at).pattern.threshold) == (("minilm", "llm"), 0.432)
    at = click(at, "to_star")
    assert not at.exception
    assert at.button(key="to_star").disabled


def test_the_floor_starts_where_the_best_tier_alone_is(tune):
    at = tune
    best = max(s.accuracy.value for s in alone(at).values())
    assert at.number_input(key="goal_floor").value == int(100 * best)
    at = click(at, "suggest")
    assert at.session_state["study"].suggested.found.feasible


def alone(at):
    study, policy = at.session_state["study"], at.session_state["study"].policy
    on = study.measure(policy, "tune").graded
    one, two = policy.tiers
    pairs = {one.name: Policy(Triage(0.0), (one, two)), two.name: Policy(Triage(0.0), (two, one))}
    return {name: summarize(replay(p, on.predictions), on.truth) for name, p in pairs.items()}


def test_a_goal_out_of_reach_is_said_to_be(tune):
    tune.number_input(key="goal_floor").set_value(100.0).run()
    at = click(tune, "suggest")
    assert "Out of reach" in said(at)


def test_thresholds_of_classes_are_sliders_in_a_table_and_show_their_gain(tune, monkeypatch):
    monkeypatch.setattr("hybrid.tuning.choosing.LEAST", 10**9)  # nothing is held out, where they would not pay
    tune.toggle(key="goal_by_class").set_value(True).run()
    at = click(tune, "suggest")
    own = at.session_state["study"].suggested.found.policy.pattern.by_class
    assert any(v is not None for v in own)
    classes = at.session_state["study"].dataset.classes
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
    at.slider(key="triage.threshold").set_value((found.lowest + found.highest) / 2).run()
    assert "the policy as set has this promise" in said(at)  # anywhere in the range that is drawn
    at.session_state["certify_open"] = False  # closed, it stays on
    at.slider(key="triage.threshold").set_value(0.001).run()
    assert "has no such promise" in said(at)
    assert "too low" in said(at)


def test_classes_are_certified_by_themselves_and_a_cascade_on_its_map(tune):
    tune.toggle(key="certify_on").set_value(True).run()
    tune.number_input(key="certify_alpha").set_value(20.0).run()
    at = tune.toggle(key="certify_classes").set_value(True).run()
    assert not at.exception
    assert "each predicted class by itself" in said(at)
    (parts,) = (d.value for d in at.dataframe if "Holds at thresholds" in d.value.columns)
    assert len(parts) == len(promised_of(at).parts)
    at = click(at, "certify_use")
    assert "the policy as set has this promise" in said(at)
    at.segmented_control(key="pattern").set_value("cascade").run()
    at.multiselect(key="cascade.tiers").set_value(["rules", "classifier", "what-if LLM"]).run()
    assert not at.exception
    found = promised_of(at)
    assert len(found.path) > 1
    assert "green line on the map" in said(at)
    assert "before the last tier" in said(at)
    click(at, "certify_use")
    assert policy_of(at).pattern.thresholds == found.path[-1]
    assert "the policy as set has this promise" in said(at)


def test_a_certificate_that_takes_long_is_looked_for_beside_the_page_and_can_be_stopped(tune, monkeypatch):
    looked = threading.Event()

    def slow(work, *, report, stopped, grace):
        while not looked.wait(0.01):
            if stopped() and grace == 0.0:  # there is no best so far
                raise CancelledError
        return work(report, stopped)

    def job(at):
        return at.session_state[certify_panel.JOB][1]

    monkeypatch.setattr(worker, "apart", slow)
    monkeypatch.setattr(certify_panel, "MANY", 0)
    monkeypatch.setattr(certify_panel, "AT_ONCE", 0.0)
    tune.session_state["certify_alpha"] = 20.0
    at = tune.toggle(key="certify_on").set_value(True).run()
    assert "With probability" not in said(at)
    at = click(at, "certify_search_cancel")
    job(at).wait()
    assert "was stopped before it had found anything" in said(at.run())
    looked.set()
    at = at.number_input(key="certify_alpha").set_value(21.0).run()
    job(at).wait()
    assert "With probability at least 90%" in said(at.run())
    assert promised_of(at).alpha == 0.21
    at = at.slider(key="triage.threshold").set_value(0.5).run()
    assert promised_of(at) is job(at).found  # a drag asks for no other


def promised_of(at):
    return at.session_state["study"].certified.found


def test_where_nothing_certifies_the_page_says_how_many_rows_would(tune):
    tune.toggle(key="certify_on").set_value(True).run()
    at = tune.number_input(key="certify_alpha").set_value(0.1).run()
    assert "No threshold certifies" in said(at)
    at.toggle(key="certify_on").set_value(False).run()
    assert "No threshold certifies" not in said(at)


def test_what_was_aimed_at_and_promised_stands_in_the_evidence_and_in_the_report(tune):
    at = tune.toggle(key="certify_on").set_value(True).run()
    at = at.number_input(key="certify_alpha").set_value(25.0).run()
    at = click(at, "certify_use")
    study, policy = at.session_state["study"], at.session_state["study"].policy
    kept = at.session_state["study"].certified
    shown = promises.evidence(study, policy)
    assert json.loads(json.dumps(shown, allow_nan=False))["certificate"]["alpha"] == 0.25
    assert shown["suggestion"] is None
    assert "Certified. With probability at least 90%" in promises.lines(study, policy)[0]
    other = Policy(Triage(1.0), policy.tiers)  # so high that too few rows are kept to test it
    assert promises.certificate_for(study, other) is None
    stricter = Policy(Triage(kept.found.highest), policy.tiers)
    assert promises.certificate_for(study, stricter) is kept.found
    at.switch_page("pages/6_Export.py").run()
    assert not at.exception
    assert any("With probability at least 90%" in j.value for j in at.json)


def test_the_goal_goes_along_into_the_bundle(tune):
    tune.number_input(key="goal_floor").set_value(91.5).run()
    at = click(tune, "suggest")
    at.switch_page("pages/6_Export.py").run()
    assert not at.exception
    evidence = json.loads(at.json[-1].value)
    assert evidence["suggestion"]["goal"] == "cheapest, accuracy at least 91.5%"
    assert evidence["certificate"] is None


def pin_at(at, threshold):
    at.slider(key="triage.threshold").set_value(threshold).run()
    return press(at, "Pin")


def test_any_two_pins_can_be_told_apart_or_the_rows_that_would_are_named(tune):
    at = tune
    for threshold in (0.5, 0.52, 0.95):
        at = pin_at(at, threshold)
    at.switch_page("pages/2_Compare.py").run()
    assert not at.exception
    assert "2 policies are compared with A" in said(at)
    assert "Holm" in said(at)
    assert "exact McNemar p" in said(at)
    at.selectbox(key="tell_one").set_value("C").run()
    at.selectbox(key="tell_two").set_value("B").run()
    at.number_input(key="tell_delta").set_value(2.0).run()
    assert not at.exception
    text = said(at)
    assert "**C** against **B**" in text
    assert "would tell a difference of 2 points" in text
    accuracy = cached_accuracy(at, "C")
    wanted, n = rows_for_interval(accuracy, 0.01), rows_at_hand(text)
    assert "within ±2 points" in text
    at.number_input(key="tell_width").set_value(1.0).run()
    assert f"within ±1 point: {wanted:,} rows, so label {wanted - n:,} more." in said(at)


def rows_at_hand(text):
    return int(text.split("on these ")[1].split(" rows")[0].replace(",", ""))


def cached_accuracy(at, name):
    study = at.session_state["study"]
    pins = {p.name: p.policy for p in study.pinned}
    return study.compare([pins["B"], pins[name]])[1][0].accuracy.value


def test_the_price_at_which_two_policies_cost_the_same_is_found_and_who_gains_above_it(tune):
    study, policy = tune.session_state["study"], tune.session_state["study"].policy
    on = study.measure(policy, "tune").graded
    cheap, strong = policy.tiers
    dear = replace(on.predictions, cost=on.predictions.cost + 0.001)  # the cheap tier costs something, too
    one, two = (replay(Policy(Triage(t), (cheap, strong)), dear) for t in (0.5, 0.9))
    text = telling_apart.same_price(one, two, ("one", "two"), llm=strong.name)
    assert text is None  # both ask the cheap tier on every row: with more calls, two is dearer at any price
    swapped = replay(Policy(Triage(0.9), (strong, cheap)), dear)
    text = telling_apart.same_price(one, swapped, ("one", "two"), llm=strong.name)
    assert "one costs less" in text
    price = float(text.split("$")[1].split(" ")[0]) / 1000
    column = on.predictions.index(strong.name)
    cost = dear.cost.copy()
    cost[:, column] = price
    even = [replay(o.policy, replace(dear, cost=cost)).cost.mean() for o in (one, swapped)]
    assert even[0] == pytest.approx(even[1], rel=0.01)
    free = [replace(t, price=0.0) for t in (cheap, strong)]
    unpaid = [replace(o, policy=Policy(Triage(0.5), tuple(free))) for o in (one, swapped)]
    assert telling_apart.same_price(*unpaid, ("a", "b"), llm=strong.name) is None
    assert telling_apart.same_price(one, swapped, ("one", "two"), llm="an LLM that neither asks") is None


def test_rows_that_would_tell_are_counted_less_those_at_hand():
    some = PairedDifference(300, Interval(0.01, -0.01, 0.03), Interval(0, 0, 0), 15, 9, 0.3, 900)
    needed = rows_to_tell(0.01, 24 / 300)
    assert f"About {needed:,} labelled rows" in telling_apart.more_rows(some, 0.01)
    assert f": {needed - 300:,} more than there are." in telling_apart.more_rows(some, 0.01)
    assert telling_apart.more_rows(some, 0.4).endswith("; there are 300.")
    grouped = replace(some, design_effect=4.0)  # four rows are worth one
    more = rows_to_tell(0.01, 24 / 300, design_effect=4.0)
    assert more > 2 * needed
    assert f"About {more:,} labelled rows" in telling_apart.more_rows(grouped, 0.01)
    # the worst of two: 5 % is no longer 5 %, and Holm's p-values say so
    strong = replace(some, p_value=0.03)
    text = telling_apart.many(["B", "C"], [strong, strong], "A")
    assert "in up to 10% of data sets" in text
    assert "B 0.06, C 0.06" in text
    assert "none differs from A" in text
    assert telling_apart.many(["B"], [strong], "A") is None


def test_policies_that_err_alike_are_said_to(tune):
    at = pin_at(pin_at(tune, 0.9), 0.9001)
    at.switch_page("pages/2_Compare.py").run()
    assert "are right and wrong on the same" in said(at)
    assert "would tell a difference of 1 point, if one of them" in said(at)


def test_inspect_shows_reliability_before_and_after_and_the_numbers_of_the_field(tune):
    tune.session_state["study"].terms = Terms(whatif=WhatIf(accuracy=1.0))  # then it claims the same about every text
    at = tune.switch_page("pages/3_Inspect.py").run()
    assert not at.exception
    (table,) = (t.value for t in at.table if "before" in t.value.columns)
    assert list(table.columns) == ["before", "after"]
    assert "ECE, 15 equal-mass bins (95% CI)" in table.index
    (numbers,) = (d.value for d in at.dataframe if "Number" in d.value.columns)
    for name in (
        "APGR",
        "CostSave",
        "CPT(50%)",
        "Ceiling of any router",
        "PGR of the policy",
        "Random escalation",
        "Selective accuracy of the policy",
    ):
        assert name in set(numbers["Number"])
    assert "AURC" in said(at)
    at.segmented_control(key="reliability_tier").set_value("what-if LLM").run()
    assert not at.exception
    assert "carries no information" in said(at)


def test_a_production_file_like_the_labelled_one_is_steady_and_another_alarms(tune):
    at = tune.switch_page("pages/6_Export.py").run()
    recording = at.session_state["study"].evidence
    unseen = recording.dataset.texts[recording.split.test]  # of rows that the models were fitted on they are too sure
    same = "id,text\n" + "\n".join(f'{i},"{t}"' for i, t in enumerate(t.replace('"', "") for t in unseen))
    at.file_uploader(key="shift_file").upload("july.csv", same.encode())
    at.run()
    assert not at.exception
    assert any("Steady" in m.value or "Watch" in m.value for m in (*at.success, *at.info))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(working, "read", None)  # once is enough
        assert not at.run().exception
    other = "id,text\n" + "\n".join(f"{i},zyx wvu {i}" for i in range(300))
    at.file_uploader(key="shift_file").upload("august.csv", other.encode())
    at.run()
    assert any("Alarm" in m.value for m in at.warning)
    assert "rows without a text" not in said(at)
    at.file_uploader(key="shift_file").upload("gaps.csv", b"text\nhello there\n \nwhere is it\n")
    at.run()
    assert "1 rows without a text are left out" in said(at)
    at.file_uploader(key="shift_file").upload("none.csv", b"id,text\n")
    at.run()
    assert not at.exception
    assert at.error
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(working, "read", None)  # nor is what was refused read again
        assert at.run().error
    assert not at.exception


def test_slow_tiers_check_a_random_part_of_a_production_file_and_the_last_tier_is_never_asked(tune):
    study, policy = tune.session_state["study"], tune.session_state["study"].policy
    cheap = policy.names[0]
    for seconds, most in ((1e-6, shift_panel.MAX_ROWS), (0.01, 1500), (1.0, shift_panel.LEAST_ROWS)):
        study.terms = replace(study.terms, seconds=((cheap, seconds),))
        assert shift_panel.most_rows(study, policy) == most
    texts = [f"text {i}" for i in range(4000)]
    part = shift_panel.sampled(texts, 1500)
    assert len(set(part)) == 1500
    assert part == shift_panel.sampled(texts, 1500) != texts[:1500]
    assert shift_panel.sampled(texts, 4000) == texts
    other = next(n for n in study.evidence.models if n != cheap)
    both = Policy(Triage(0.99), tuple(study.evidence.predictions.select((cheap, other)).tiers))
    asked = {}

    class Counting:
        def __init__(self, name):
            self.name = name

        def answer(self, texts):
            asked[self.name] = asked.get(self.name, 0) + len(texts)
            return study.evidence.models[self.name].answer(texts)

    o = shift_panel.answered(both, {n: Counting(n) for n in study.evidence.models}, ["hello", "refund please"])
    assert asked == {cheap: 2}
    assert o.asked[:, -1].any()


def test_a_router_is_checked_by_the_confidence_of_the_tier_behind_its_gate(tune):
    at = tune.segmented_control(key="pattern").set_value("router").run()
    study, policy = at.session_state["study"], at.session_state["study"].policy
    assert watched(policy) == policy.names[1]
    texts = [study.dataset.texts[i] for i in study.evidence.split.test]
    same = shift_panel.check(study, policy, texts)
    told = study.evidence.models[policy.names[1]].answer(texts)
    assert (same.production == told.confidence).all()
    assert len(same.labelled) == len(texts)
    assert same.drift.level == "steady"
    other = shift_panel.check(study, policy, [f"zyx wvu {i}" for i in range(300)])
    assert other.drift.level == "alarm"


def test_what_test_says_against_is_said_on_compare_and_a_tier_at_chance_on_data_and_tune():
    rng = np.random.default_rng(0)
    n, labels = 1000, np.array(["a", "b", "c", "d"])
    truth, tune = rng.integers(0, 4, n), np.arange(n) < 600
    good = np.where(rng.random(n) < np.where(tune, 0.9, 0.7), truth, (truth + 1) % 4)
    frame = pd.DataFrame({"label": labels[truth], "split": np.where(tune, "tune", "test")}, dtype=object)
    sure = np.round(rng.random(n), 2)
    for name, answers in (("guesser", rng.integers(0, 4, n)), ("llm", good)):
        frame[name], frame[f"{name}_confidence"] = labels[answers], sure.astype(str)
    llms = tuple(
        RecordedColumns(m, m, confidence=f"{m}_confidence", price=p) for m, p in (("guesser", 0.0), ("llm", 0.01))
    )
    study = Study("shifted", frame, Columns("label", split="split", recorded=llms)).fit()
    goal = Goal("cheapest", floor=0.8)
    on = study.measure(triage := study.start("triage"), "tune").graded
    chosen = search(triage, on.predictions, on.truth, goal).policy
    found = promises.misses(study, chosen, goal)
    assert found.shifted
    assert promises.misses(study, chosen, Goal("cheapest", floor=0.99)) is None  # it did not keep that on tune either
    assert study.at_chance("llm") is None
    at = open_page("pages/2_Compare.py", study)
    assert not at.exception
    assert "below the floor of" in said(at)
    for page in ("app.py", "pages/1_Tune.py"):
        at = at.switch_page(page).run()
        assert not at.exception
        assert any("guesser is right about" in w.value for w in at.warning)
