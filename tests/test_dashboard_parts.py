"""The parts that pages are made of, without a page: tiles, axes, the thresholds of the line, wording, filters."""

import gzip
import json
import threading
import time
from concurrent.futures import CancelledError
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import LEVELS, again, apart, cases, groupings, picked_from, study_of, table, table_of, tiers_of
from hypothesis import given
from hypothesis import strategies as st
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.uploaded_file_manager import UploadedFile, UploadedFileRec
from streamlit.testing.v1 import AppTest

from hybrid.dashboard import admission, charts, controls, lessons, tiles, wording, working
from hybrid.dashboard.data import asking
from hybrid.dashboard.inert import downloaded
from hybrid.dashboard.inspect.rows import Filters, frame_of, matching
from hybrid.dashboard.tiles import Alone, Saying, of_points, of_summary
from hybrid.dashboard.tune import axes, class_sliders, flow, threshold_line
from hybrid.dashboard.tune.axes import Axis
from hybrid.data.columns import Columns
from hybrid.data.read import read
from hybrid.errors import StudyError
from hybrid.metrics.curve import latency_quantiles, surface, sweep, with_threshold
from hybrid.metrics.rows import BY_CONFIDENCE, KINDS, confusion, inspect, per_class, per_predicted_class
from hybrid.metrics.summary import Interval, paired_difference, summarize
from hybrid.routing.engine import Policy, replay
from hybrid.routing.patterns import PATTERNS, Triage
from hybrid.routing.table import NEVER, NONE, UNKNOWN
from hybrid.routing.voting import STRATEGIES
from hybrid.study import worker
from hybrid.study.graded import Graded
from hybrid.study.study import Study
from hybrid.study.terms import Terms
from hybrid.tiers.gate import KeyWords
from hybrid.tiers.rules import Edits

SAYINGS = st.sampled_from(
    (
        Saying(),
        Saying(Alone("big", 2.0, 0.9, 1.0), Alone("small", 0.0, 0.5, 0.1), statistics=True),
        Saying(Alone("big", 0.0, 0.5, 1.0), unpriced=("big",), untimed=("big",)),
    )
)
SCALES = st.sampled_from((Terms(), Terms(volume=7_000, wrong_cost=0.25), Terms(volume=0, wrong_cost=0.0)))


@given(cases(min_rows=2), st.data(), SCALES, SAYINGS, st.sampled_from((*LEVELS, 0.1, 0.123, 0.777, 0.999)))
def test_the_tiles_of_a_drag_are_those_of_a_summary_to_the_letter(case, data, scale, saying, threshold):
    """What the page shows while the line moves is what Python draws when it is let go there."""
    policy, predictions, truth = case
    other = predictions.take(np.arange(len(truth))[::-1][: max(1, len(truth) // 2)])
    other_truth = truth[::-1][: max(1, len(truth) // 2)]
    groups = data.draw(groupings(len(truth)))
    other_groups = None if groups is None else groups[::-1][: len(other_truth)]
    line = data.draw(st.sampled_from(policy.thresholds()))
    where = {"name": line.name, "index": line.index}
    curve = sweep(policy, predictions, truth, **where, groups=groups)
    at = threshold_line.settable(curve)
    texts = of_points(
        curve.on(at),
        scale,
        tune=sweep(policy, other, other_truth, **where, groups=other_groups).on(at),
        latency=latency_quantiles(policy, predictions, truth, **where, thresholds=at, q=(0.5, 0.95)),
        saying=saying,
    )
    moved = with_threshold(policy, line.name, line.index, threshold)
    said = of_summary(
        summarize(replay(moved, predictions), truth, groups=groups),
        scale,
        tune=summarize(replay(moved, other), other_truth, groups=other_groups),
        saying=saying,
    )
    # as the script looks a threshold up: the first of the lattice that is at or above it
    point = int(np.searchsorted(at, threshold))
    assert {name: column[point] for name, column in texts.items()} == said


@given(cases(names=("cascade", "router")), st.data(), SCALES)
def test_the_tiles_of_the_map_are_those_of_a_summary_to_the_letter(case, data, scale):
    policy, predictions, truth = case
    groups = data.draw(groupings(len(truth)))
    if len(policy.thresholds()) < 2:
        return
    one, two = policy.thresholds()[:2]
    first = second = np.arange(11) / 10  # so fine that small groups are counted pair by pair, large ones one by one
    at = {"axes": (one, two), "first": first, "second": second}
    texts = of_points(surface(policy, predictions, truth, **at, groups=groups), scale)
    moved = with_threshold(with_threshold(policy, one.name, one.index, 0.5), two.name, two.index, 0.8)
    said = of_summary(summarize(replay(moved, predictions), truth, groups=groups), scale)
    place = 8 * len(first) + 5  # row of the second, column of the first
    assert {name: column[place] for name, column in texts.items()} == {name: said[name] for name in texts}


@given(cases(), st.data())
def test_where_texts_end_is_what_replay_says_wherever_thresholds_stand(case, data):
    policy, predictions, truth = case
    rows = np.arange(len(truth))
    on = Graded(predictions, truth, rows, rows, len(rows), len(rows))
    at = np.array([0.0, 0.25, 0.3, 0.75, 0.9, 1.0, NEVER])
    line = data.draw(st.sampled_from(policy.thresholds()))
    moving = flow.along(on, policy, line, at)
    for i, t in enumerate(at):
        check_flow(moving, i, flow.flow_of(on, with_threshold(policy, line.name, line.index, t)))
    assert all(
        sum(float(w.split(" ")[0].replace("fewer", "0")) for w in ws) == 100
        for ws in zip(*moving.texts().values(), strict=True)
    )
    if len(policy.thresholds()) > 1:
        one, two = policy.thresholds()[:2]
        both = flow.over(on, policy, (one, two), (at, at[:4]))
        for i, (t, u) in enumerate((t, u) for u in at[:4] for t in at):
            moved = with_threshold(with_threshold(policy, one.name, one.index, t), two.name, two.index, u)
            check_flow(both, i, flow.flow_of(on, moved))


@given(cases(names=("triage",)), st.sampled_from((*LEVELS, 0.1)))
def test_the_threshold_of_a_class_is_measured_as_replay_says(case, threshold):
    policy, predictions, truth = case
    for line in class_sliders.lines(policy, predictions.classes):
        curve = sweep(policy, predictions, truth, name=line.name, index=line.index)
        o = replay(with_threshold(policy, line.name, line.index, threshold), predictions)
        at = curve.at(threshold)
        found = (curve.accuracy[at], curve.escalation_rate[at], curve.cost_per_1000[at])
        assert found == pytest.approx(((o.label == truth).mean(), o.asked[:, -1].mean(), 1000 * o.cost.mean()))


def check_flow(moving, point, expected):
    found = {part: s for part, s in zip(moving.parts, moving.share[:, point], strict=True) if s > 1e-12}
    assert found == pytest.approx(dict(zip(expected.parts, expected.share[:, 0], strict=True)))


def test_it_is_said_in_how_many_groups_rows_are_where_many_share_one():
    assert (wording.in_groups(184, 46), wording.in_groups(184, 180)) == (" in 46 groups", "")


def test_a_wrong_answer_costs_what_was_said():
    tiers = tiers_of(2)
    predictions = table(tiers, [[(0, 0.9), (0, 1.0)], [(1, 0.9), (0, 1.0)]])
    s = summarize(replay(Policy(Triage(0.5), tiers), predictions), np.array([0, 0]))
    assert (
        of_summary(s, Terms(volume=1000, wrong_cost=2.0))["thousand"]
        == "$0 per 1,000 texts, $1,000 a month with mistakes"
    )
    assert of_summary(s, Terms(volume=1000, wrong_cost=0.0))["thousand"] == "$0 per 1,000 texts"


def curve_of(confidences):
    tiers = tiers_of(2)
    rows = [[(0, c), (1, 1.0)] for c in confidences]
    return sweep(Policy(Triage(0.5), tiers), table(tiers, rows), np.zeros(len(rows), dtype=int), name="threshold")


CONFIDENCES = st.lists(st.sampled_from((0.0, 0.3, 0.5, 0.9, 0.99, 0.99999, 1.0)), min_size=1, max_size=20)


@pytest.mark.parametrize("name", axes.NAMES)
@given(confidences=CONFIDENCES)
def test_every_axis_ascends_within_its_range(name, confidences):
    curve = curve_of(confidences)
    axis = Axis(name, curve)
    x = axis.position(threshold_line.settable(curve))
    low, high = axis.range
    assert (np.diff(x) >= 0).all()
    assert x.min() >= low - 1e-12
    assert x.max() <= high + 1e-12
    assert low < high
    ticks = axis.ticks()
    if ticks:
        assert len(ticks["tickvals"]) == len(ticks["ticktext"])
        assert min(ticks["tickvals"]) >= low - 1e-9
        assert max(ticks["tickvals"]) <= high + 1e-9


def test_what_the_axes_say():
    curve = curve_of([0.2, 0.4, 0.9, 0.99])
    assert Axis(axes.PLAIN, curve).position([0.25]).tolist() == [0.25]
    assert Axis(axes.STRETCHED, curve).position([0.9, 0.99]) == pytest.approx([1, 2])
    # at 0.5, two of four rows are kept, so the line stands after the half that is not
    assert Axis(axes.KEPT, curve).position([0.5]).tolist() == [0.5]


def test_the_lattice_has_every_thousandth_and_every_threshold_that_matters():
    curve = curve_of([0.12345, 0.999999])
    at = threshold_line.settable(curve)
    assert {0.12345, 0.999999, 0.001, 0.5, 0.999, 0.0, 1.0} <= set(at.tolist())
    assert (np.diff(at) > 0).all()
    many = curve_of(np.random.default_rng(0).random(5_000))
    assert 1_001 <= len(threshold_line.settable(many)) <= 2_001


def test_what_the_script_gets_is_json_and_fits_together():
    curve = curve_of([0.2, 0.4, 0.9, 0.99])
    at = threshold_line.settable(curve)
    shown = curve.on(at)
    live = of_points(shown, Terms())
    axis = Axis(axes.STRETCHED, curve)
    panels = [(y, tint) for y, tint, _ in charts.panels(shown)]
    name, packed = threshold_line.line(shown, key="k", label="Threshold", axis=axis, panels=panels, live=live)
    assert packed[:16].decode() == name
    part = json.loads(gzip.decompress(packed[16:]))
    assert {len(v) for v in part["live"].values()} == {len(at)} == {len(part["x"])} == {len(part["at"])}
    assert [p["axis"] for p in part["panels"]] == ["yaxis", "yaxis2", "yaxis3"]
    assert part["bottom"] == "yaxis4"
    assert set(live) <= set(tiles.TARGETS)


@given(cases(min_rows=1))
def test_kinds_of_rows_are_what_they_say(case):
    policy, predictions, truth = case
    outcomes = replay(policy, predictions)
    cheap = next(t.name for t in policy.tiers if not t.scores)
    found = inspect(outcomes, predictions.select(policy.names), truth, cheap=cheap)
    alone = predictions.label[:, predictions.index(cheap)] == truth
    right = outcomes.label == truth
    sets = {kind: set(found.order(kind).tolist()) for kind in KINDS}
    for one in per_predicted_class(found, len(predictions.classes)):
        mine = predictions.label[:, predictions.index(cheap)] == one.code
        kept = mine & ~found.escalated
        assert (one.n_rows, one.kept) == (mine.sum(), kept.sum() / mine.sum())
        assert not kept.any() or one.right == right[kept].mean()
    assert sets["All"] == set(range(len(truth)))
    assert sets["Mistakes"] == set(np.flatnonzero(~right))
    assert sets["Fixed"] == set(np.flatnonzero(right & ~alone))
    assert sets["Broken"] == set(np.flatnonzero(~right & alone))
    assert sets["Escalated"] == set(np.flatnonzero(outcomes.asked[:, -1]))
    assert sets["Confident mistakes"] == sets["Mistakes"] - sets["Escalated"]
    for kind in BY_CONFIDENCE:
        assert (np.diff(outcomes.confidence[found.order(kind)]) <= 0).all()
    k = len(predictions.classes)
    counts = confusion(found, k)
    assert counts.sum() == len(truth)
    assert np.trace(counts[:, :k]) == right.sum()
    assert counts[:, k:].sum(axis=0).tolist() == [(outcomes.label == NONE).sum(), (outcomes.label == UNKNOWN).sum()]
    numbers = per_class(found, k)
    assert sum(c.n_rows for c in numbers) == len(truth)
    assert sum(c.n_rows * c.accuracy.value for c in numbers) == pytest.approx(right.sum())
    assert sum(c.n_rows * c.cost_per_1000 for c in numbers) == pytest.approx(1000 * outcomes.cost.sum())
    assert sum(c.n_rows * c.escalation_rate for c in numbers) == pytest.approx(outcomes.asked[:, -1].sum())


@pytest.fixture
def inspected(recording):
    tiers = [t for t in recording.predictions.tiers if t.name in ("classifier", "llm")]
    policy = Policy(Triage(0.8), tuple(tiers))
    measured = recording.split.test
    on = recording.predictions.take(measured)
    truth = recording.dataset.truth[measured]
    return study_of(recording), inspect(replay(policy, on), on, truth, cheap="classifier"), measured, policy


def test_filters_narrow_what_is_shown(inspected):
    data, found, measured, policy = inspected
    everything = found.order("All")
    texts = data.dataset.texts

    def left(**filters):
        return matching(data, found, measured, everything, Filters(**filters))

    assert left().tolist() == everything.tolist()
    assert set(left(truth=1)) == set(np.flatnonzero(found.truth == 1))
    assert set(left(label=2)) == set(np.flatnonzero(found.label == 2))
    assert set(left(cell=(1, 1))) == set(np.flatnonzero((found.truth == 1) & (found.label == 1)))
    sure = found.cheap_confidence
    assert set(left(spans=((0.5, 0.7), (0.9, 1.0)))) == set(
        np.flatnonzero(((sure >= 0.5) & (sure < 0.7)) | (sure >= 0.9))
    )
    word = texts[measured[3]].split()[0]
    hits = left(search=f" {word.upper()} ")
    assert 3 in hits
    assert all(word in texts[measured[i]] for i in hits)
    assert not len(left(search="(no such [word"))
    frame = frame_of(data, found, measured, left(truth=1), policy=policy, cheap="classifier")
    assert set(frame["truth"]) == {data.dataset.classes[1]}
    assert frame["text"].tolist() == [texts[measured[i]] for i in left(truth=1)]


def test_a_row_without_an_answer_is_found_and_shown_as_such(inspected):
    data, found, measured, policy = inspected
    found.label[5] = UNKNOWN
    rows = matching(data, found, measured, found.order("All"), Filters(label=len(data.dataset.classes) + 1))
    assert rows.tolist() == [5]
    frame = frame_of(data, found, measured, rows, policy=policy, cheap="classifier")
    assert frame["final label"].tolist() == [""]


def compared(second):
    """Compare two policies, always asking the first or the second tier."""
    tiers = tiers_of(2)
    predictions = table(tiers, [[(0, 0.5), (label, 1.0)] for label in second])
    truth = np.zeros(len(second), dtype=int)
    a, b = (replay(Policy(Triage(t), tiers), predictions) for t in (0.0, 1.0))
    return summarize(a, truth), summarize(b, truth), paired_difference(a, b, truth)


def test_differences_are_said_with_their_interval():
    a, b, difference = compared([0] * 99 + [1])
    assert wording.verdict(difference).startswith("−1.0 points (−4.3 to +2.3): cannot be told apart")
    assert wording.cheaper(a, b, difference) == "+$0.500"  # from nothing there is no share
    a, b, difference = compared([1] * 100)
    assert wording.verdict(difference) == "−100.0 points (−100.0 to −94.2)"
    assert wording.cheaper(b, a, paired_difference_of_cost(-0.5, -0.6, -0.4, difference)) == "free"
    half = replace(a, cost_per_1000=Interval(0.25, 0.2, 0.3))
    saved = paired_difference_of_cost(-0.25, -0.6, -0.1, difference)
    assert wording.cheaper(b, half, saved) == "50% cheaper (20% to 100%)"
    assert (
        wording.cheaper(b, half, paired_difference_of_cost(0.1, -0.1, 0.3, difference))
        == "20% dearer: cannot be told apart on these rows"
    )
    assert wording.cheaper(b, b, paired_difference_of_cost(0, 0, 0, difference)) == "same"
    _, _, same = compared([0] * 10)
    assert wording.verdict(same) == "right and wrong on the same rows"


def paired_difference_of_cost(value, low, high, like):
    return replace(like, cost_per_1000=Interval(value, low, high))


@pytest.mark.parametrize("pattern", list(PATTERNS))
def test_every_setting_of_a_pattern_is_described(pattern):
    kind = PATTERNS[pattern]
    n = max(3, kind.min_tiers) if not kind.max_tiers else kind.max_tiers
    tiers = picked_from(kind, tiers_of(n, gate=kind.gate_first))
    from hybrid.routing.engine import defaults

    policy = Policy(defaults(kind, tiers), tiers)
    titles = [title for _, title, _ in wording.settings(policy)]
    assert {t.title for t in policy.thresholds() if t.value is not None} <= set(titles)
    assert "{" not in "".join(titles)
    for _, _, value in wording.settings(policy):
        assert value in wording.describe(policy)


def test_terms_scale_what_rows_cost(recording):
    before = recording.predictions
    prices, seconds = (("llm", 0.006), ("classifier", 0.001)), (("llm", 2.0),)
    after = table_of(study_of(recording, prices=prices, seconds=seconds))
    j = after.index("llm")
    np.testing.assert_allclose(after.cost[:, j], 2 * before.cost[:, before.index("llm")])
    assert after.tiers[j].price == 0.006
    np.testing.assert_allclose(after.cost[:, after.index("classifier")], 0.001)  # it cost nothing
    np.testing.assert_allclose(after.latency[:, j], 2.0)
    np.testing.assert_array_equal(before.cost[:, before.index("classifier")], 0)  # the recorded table stays
    study = study_of(recording)
    assert all(np.shares_memory(study.column(t.name)[1].cost, before.cost) for t in before.tiers)  # nothing is copied


def test_what_words_add_sums_up_to_the_score(recording):
    model = recording.models["classifier"]
    text = str(recording.dataset.texts[3])
    scores = model._scores(model.features([text]))[0]
    for label in range(len(recording.dataset.classes)):
        assert sum(model.contributions(text, label).values()) + model.bias[label] == pytest.approx(
            scores[label], abs=1e-6
        )
    assert model.contributions("zzz", 0) == {}


@pytest.mark.parametrize("axis_name", axes.NAMES)
def test_the_figure_stays_the_same_wherever_the_threshold_stands(axis_name):
    tiers = tiers_of(2)
    rng = np.random.default_rng(0)
    predictions = table(tiers, [[(int(rng.integers(0, 3)), c), (0, 1.0)] for c in rng.random(200).round(4)])
    truth = np.zeros(200, dtype=int)
    from hybrid.metrics.summary import baselines

    figures = []
    for threshold in (0.2, 0.9):
        policy = Policy(Triage(threshold), tiers)
        curve = sweep(policy, predictions, truth, name="threshold")
        figures.append(
            charts.threshold_figure(
                curve,
                axis=Axis(axis_name, curve),
                off=None,
                values=predictions.confidence[:, 0],
                references=baselines(predictions, truth, cheap="t0", strong="t1"),
                title="Threshold",
                strong="t1",
                simulated=["t1"],
            ).to_json()
        )
    assert figures[0] == figures[1]
    assert "t1 alone (simulated)" in figures[0]


def test_rows_with_several_labels_become_one_question_of_yes_or_no():
    def page():
        import pandas as pd
        import streamlit as st

        from hybrid.dashboard import state
        from hybrid.dashboard.data import asking
        from hybrid.data.guess import guess
        from hybrid.study.study import Study

        if state.drafted() is None:
            label = ["a|b", "a", "b|c", "c", "a|c", "b"] * 5
            texts, llm = [f"word {i}" for i in range(30)], ["none", "a|b", "", "c", "a", "b"] * 5
            table = pd.DataFrame({"text": texts, "label": label, "llm_label": llm}, dtype=object)
            found = guess(table)
            state.draft(state.Draft("t", Study("t", table, found.columns), found))
        asking.offer_one_label(state.drafted())
        now = state.drafted().study
        st.code(f"{now.columns.label} {now.table[now.columns.label].tolist()[:3]}")

    at = AppTest.from_function(page).run()
    at.radio[0].set_value(asking.QUESTION).run()
    assert at.code[0].value.startswith("label ")  # which label is not said yet
    at.selectbox[0].set_value("b").run()
    assert at.code[0].value == "b? ['yes', 'no', 'yes']"
    assert at.session_state["draft"].study.table["llm_label"][:3].tolist() == ["no", "yes", ""]


def test_all_labels_are_fitted_at_once_and_one_of_them_is_opened(monkeypatch):
    def page():
        from test_questions import two_models

        from hybrid.dashboard import state
        from hybrid.dashboard.data import asking, questions_panel
        from hybrid.data.guess import Guess
        from hybrid.data.several import joined_labels

        if state.drafted() is None:
            drawn = two_models()
            found = Guess(drawn.columns, (), joined_labels(drawn.table, "label"))
            state.draft(state.Draft("t", drawn, found))
        draft = state.drafted()
        every = asking.offer_one_label(draft)
        if every and not questions_panel.is_of(draft):
            questions_panel.fit(draft, every, draft.study.columns, None)
        if questions_panel.is_of(draft):
            questions_panel.draw()

    went = []
    monkeypatch.setattr("streamlit.switch_page", went.append)
    monkeypatch.setenv("HYBRID_PROJECTS", "never")
    at = AppTest.from_function(page, default_timeout=60).run()
    at.radio[0].set_value(asking.EVERY).run()
    assert not at.exception
    shown = at.dataframe[0].value
    assert set(shown["Label"]) == {"a", "b", "c"}
    assert any("a text is paid for once" in m.value for m in at.markdown)
    second = shown["Label"][1]
    next(b for b in at.button if b.label == f"Open {second}").click().run()
    assert went
    assert at.session_state["study"].columns.label == f"{second}?"


def test_the_small_examples_are_decided_as_their_sentences_say():
    fitted = lessons.fit()
    assert fitted.seen == 1.0
    assert fitted.unseen < 1 / len(lessons.CLASSES)  # worse than guessing
    asked = [lessons.triage(m, lessons.MESSAGES, 0.85).tier.tolist() for m in (fitted.raw, fitted.calibrated)]
    assert asked == [[0, 1, 0, 1], [1, 1, 1, 1]]
    alike = [(n, "billing", c, p) for n, c, p in lessons.VOTES]
    parted = [(n, "billing" if n != "GPT-4o mini" else "general", c, p) for n, c, p in lessons.VOTES]
    for said, answers in ((alike, ["billing"] * 3), (parted, ["billing", "billing", "general"])):
        found = [lessons.votes(said, s) for s in STRATEGIES]
        assert [lessons.CLASSES[o.label[0]] for o in found] == answers
    assert round(100 * (found[0].cost[0] / 0.003 - 1)) == 17
    assert lessons.cascade(fitted.raw, lessons.BILLS, (0.9, 0.85)).tier.tolist() == [0, 2, 2]
    routed = lessons.router(fitted.raw, lessons.REQUESTS, 0.85)
    assert routed.tier.tolist() == [1, 1, 2, 2]
    assert routed.cost.tolist() == pytest.approx([0.00031, 0.00031, 0.0033, 0.0033])
    assert lessons.with_router(0.1, price=0.0003, llm=0.003) == pytest.approx((3.0, 0.1))
    read = lessons.tickets(lessons.TICKETS, 0.85)
    assert [(t.category, t.reader) for t in read] == [("billing", "rules"), ("shipping", "rules"), ("general", "LLM")]
    assert dict(read[0].fields) == {"amount": "49.99 USD", "date": "2025-01-15"}


def test_the_page_of_small_examples_draws_each():
    at = AppTest.from_file(str(Path(__file__).parents[1] / "app.py"), default_timeout=60)
    at.switch_page("pages/7_Lessons.py").run()
    for part in ("Vote", "Cascade", "Router", "Tickets"):
        assert not at.exception
        assert len(at.info) == 1
        at.segmented_control(key="lesson").set_value(part).run()
    assert "wrong medical advice" in at.dataframe[0].value["Ticket"].iloc[-1]


def test_fitting_again_keeps_all_that_is_not_named(own_fitted, monkeypatch):
    study, taken = again(own_fitted), {}
    study.key_words = KeyWords(hard=("chargeback",))
    monkeypatch.setattr(controls, "load_with_progress", lambda work: work(None) is None)
    monkeypatch.setattr(
        controls.state, "fit", lambda _, columns, *, progress, **kept: taken.update(kept, columns=columns)
    )
    edits = Edits(frozenset(), (("refund", 0),))
    assert controls.fit_again(study, edits=edits)
    assert taken == {"columns": study.columns, "embedder": None, "edits": edits, "key_words": study.key_words}


def test_long_work_waits_for_its_turn_in_the_order_of_asking(monkeypatch):
    monkeypatch.setenv("HYBRID_MAX_JOBS", "1")
    turns, ended, first, order = working.Turns(), threading.Event(), threading.Event(), []

    def work(name, waiting=lambda before: None):
        with turns.turn(name, waiting):
            order.append(name)
            if name == "a":
                first.set()
                ended.wait(10)

    told = []
    threads = [threading.Thread(target=work, args=("a",))]
    threads[0].start()
    assert first.wait(10)
    threads.append(threading.Thread(target=work, args=("b", told.append)))
    threads[1].start()
    wait_for(lambda: told)
    with pytest.raises(CancelledError), turns.turn("c", told.append, lambda: True):
        pass  # given up: it holds nobody back
    ended.set()
    for thread in threads:
        thread.join(10)
    assert order == ["a", "b"]
    assert set(told) == {1}
    assert working.said_of(1) == "Waiting for 1 job on this server"


def test_of_one_users_work_only_one_is_under_way(monkeypatch):
    monkeypatch.setenv("HYBRID_MAX_JOBS", "2")
    turns, told, never = working.Turns(), [], lambda before: pytest.fail("it waited")
    with turns.turn("a", never):
        with pytest.raises(CancelledError), turns.turn("a", told.append, lambda: bool(told)):
            pass  # a turn is free, but not for a second piece of the same user's
        with turns.turn("b", never), pytest.raises(CancelledError), turns.turn("c", told.append, lambda: len(told) > 1):
            pass
    assert told == [1, 1]


def test_a_worker_comes_to_an_end_as_it_is_told_and_another_takes_its_place():
    no_end, reports = partial(worker._example, 0), []
    unfitted = Study("none", pd.DataFrame({"text": [""], "label": [""]}), Columns("label", text="text"))

    def given_up(doing):
        raise CancelledError

    assert apart(no_end, report=reports.append, stopped=lambda: bool(reports)) == 0  # the best so far
    with pytest.raises(CancelledError):
        apart(no_end, report=given_up)
    assert not worker._IDLE  # its process was ended, whatever it was at
    with pytest.raises(StudyError, match="The work failed: TypeError"):
        apart(partial(len, ""))
    (idle,) = worker._IDLE
    with pytest.raises(StudyError, match="Nothing is fitted yet"):
        apart(partial(worker._search, unfitted, goal=None, policies=None, seconds=1.0))
    assert [idle] == worker._IDLE  # what failed did it no harm
    idle._process.kill()
    idle._process.wait()
    assert apart(partial(worker._example, 20)) == 40


def test_a_session_holds_so_many_bytes_of_uploads_and_lets_go_of_those_that_were_read(monkeypatch):
    monkeypatch.setenv("HYBRID_MAX_UPLOAD_MB", "1")
    held = MemoryUploadedFileManager("/upload")
    admission.bound_uploads(held)
    for name in "abcdefg":
        held.add_file("me", UploadedFileRec(name, name, "", b"x" * 1_000_000))
    held.add_file("other", UploadedFileRec("h", "h", "", b"x"))
    assert [f.name for f in held.get_files("me", "abcdefg")] == list("defg")
    monkeypatch.setattr(working, "get_script_run_ctx", lambda: SimpleNamespace(session_id="me", uploaded_file_mgr=held))
    working.let_go(UploadedFile(held.get_files("me", "e")[0], None))
    assert [(f.name, len(f.data)) for f in held.get_files("me", "de")] == [("d", 1_000_000), ("e", 0)]
    for number in range(5_000):
        held.add_file("me", UploadedFileRec(f"{number}", "", "", b""))
    assert len(held.file_storage["me"]) < 4_300


def test_who_left_is_ended_once_and_who_came_back_is_not(monkeypatch):
    here, ended = {"stays"}, []
    server = SimpleNamespace(is_active_session=here.__contains__, clear_user_info_for_session=ended.append)
    visitors = {name: admission._Visitor() for name in ("stays", "leaves", "reloads")}
    for name, visitor in visitors.items():
        visitor.session = name
    monkeypatch.setattr(admission, "_VISITORS", set(visitors.values()))
    assert admission.end_those_who_left(server, 0.0) == 0
    here.add("reloads")
    assert admission.end_those_who_left(server, 10.0) == 0
    here.remove("reloads")
    assert [admission.end_those_who_left(server, now) for now in (20.0, 59.0, 61.0, 79.0)] == [0, 0, 1, 0]
    assert ended == ["leaves"]
    visitors["reloads"].is_kept = True  # it comes back from the disk, however late
    visitors["reloads"].left = 75.0
    assert [admission.end_those_who_left(server, now) for now in (94.0, 96.0)] == [0, 1]
    monkeypatch.setenv("HYBRID_MAX_SESSIONS", "2")
    assert not admission._full()  # who was ended takes no place
    monkeypatch.setenv("HYBRID_MAX_SESSIONS", "1")
    assert "1 sessions are open" in admission._full()


def wait_for(what):
    until = time.monotonic() + 10
    while not what():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_no_download_holds_a_formula_wherever_its_lines_are_split():
    frame = pd.DataFrame(
        {"=1+1": ["a;=1+1", "b\t@x", "=1", None], "n": [0.5, -1.0, float("nan"), 2.0], "k": [True] * 4}
    )
    lines = downloaded(frame).decode("utf-8-sig").splitlines()
    assert lines == [
        '"\'=1+1","n","k"',
        '"a;=1+1",0.5,True',
        '"b\t@x",-1.0,True',
        '"\'=1","",True',
        '"",2.0,True',
    ]
    again = read("rows.csv", downloaded(frame)).table
    assert again["'=1+1"].tolist() == ["a;=1+1", "b\t@x", "'=1", ""]
