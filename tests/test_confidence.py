"""Learned confidence: how likely an answer is right; the same on every screen, in a bundle and in production."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import labelled, tiers_of
from scipy.special import ndtri, stdtrit
from test_bundle import part, rewrite

import hybrid
from hybrid.data.columns import Columns, RecordedColumns
from hybrid.errors import BundleError
from hybrid.metrics.auroc import auroc
from hybrid.metrics.confidence import _Draws, reliability
from hybrid.metrics.intervals import Interval, wilson
from hybrid.production.bundle import load_bundle
from hybrid.routing.engine import Policy
from hybrid.routing.patterns import Cascade
from hybrid.routing.table import UNKNOWN, Answers, Predictions
from hybrid.study.graded import Graded
from hybrid.study.shipping import at_share
from hybrid.study.study import Study
from hybrid.study.terms import Terms
from hybrid.tiers.confidence import MANY, fit_confidence

SIDES = ("tune", "test")


def table(n=400):
    """Two LLMs: "mute" says labels alone, sometimes no class at all; "proud" claims .99 whatever it says."""
    frame, rng = labelled(n, seed=3), np.random.default_rng(5)
    wrong = rng.permutation(frame["label"].to_numpy())
    frame["mute"] = np.where(rng.random(n) < 0.7, frame["label"], wrong)
    frame.loc[::17, "mute"] = "no idea"
    frame["proud"] = np.where(rng.random(n) < 0.8, frame["label"], "billing")
    frame["proud_confidence"] = np.where(rng.random(n) < 0.5, "0.99", "0.98")
    return frame


@pytest.fixture(scope="module")
def study():
    tiers = (
        RecordedColumns("mute", "mute", price=0.001),
        RecordedColumns("proud", "proud", confidence="proud_confidence", price=0.01),
    )
    return Study("made up", table(), Columns("label", text="text", recorded=tiers)).fit()


def functions(study):
    """Return what the two LLMs are in production: they say what the file says, and nothing of being right."""
    rows = {t: i for i, t in enumerate(study.table["text"])}
    said = study.table

    def mute(texts):
        return [hybrid.Answer(said["mute"][rows[t]], cost=0.001) for t in texts]

    async def proud(texts):
        at = [rows[t] for t in texts]
        return [hybrid.Answer(said["proud"][i], float(said["proud_confidence"][i]), cost=0.01) for i in at]

    return {"mute": mute, "proud": proud}


def test_an_error_that_is_less_than_honest_confidence_shows_is_bounded_by_what_it_is_at_least():
    bins = _Draws(np.ones(1), np.array([50]), np.array([0.705]), np.array([0.8]), seed=0)
    assert bins.ends_at(0)[0] > 0
    assert bins.around(0.0, 0.03) == Interval(0.0, 0.0, 0.03)


def test_a_model_that_says_labels_alone_is_sure_where_it_is_right(study):
    found = study.confidence("mute")
    assert found.fitted.better
    for side in SIDES:
        assert found.said[side].auroc.value == 0.5
        assert found.learned[side].auroc.low > 0.85
        assert found.learned[side].ece.value < 0.12
    assert study.confidence("classifier") is None


def test_the_exported_bundle_is_as_sure_as_the_table_on_every_test_row(study):
    tiers = tuple(study.column(n)[0] for n in ("mute", "proud", "classifier"))
    policy = Policy(Cascade((0.9, 0.8)), tiers)
    shown = study.measure(policy, "test").outcomes
    assert set(np.unique(shown.tier)) == {0, 1, 2}  # each decides some rows
    rows = study.measure(policy, "test").graded.rows
    pipeline = hybrid.load(study.export(policy), models=functions(study))
    texts = list(study.dataset.texts[rows])
    decisions = pipeline.decide(texts)
    for i, d in enumerate(decisions):
        assert d.label == (None if shown.label[i] == UNKNOWN else study.classes[shown.label[i]])
        assert (d.tier, d.confidence) == (policy.names[shown.tier[i]], shown.confidence[i])
    one = pipeline(texts[7])  # alone as in a batch
    assert (one.label, one.tier, one.confidence) == (decisions[7].label, decisions[7].tier, decisions[7].confidence)


def test_the_reader_lies_in_a_bundle_once_and_what_a_confidence_rests_on_is_written_down(study):
    tiers = tuple(study.column(n)[0] for n in ("classifier", "mute", "proud"))
    bundle = load_bundle(study.export(Policy(Cascade((0.9, 0.8)), tiers)))
    readers = {id(c.reader) for c in bundle.confidences.values()} | {id(bundle.models["classifier"])}
    assert len(readers) == 1
    assert bundle.config.tiers[1].confidence.rests_on[:2] == ["chance of its label", "chance of the best other label"]
    assert "own score" in bundle.config.tiers[2].confidence.rests_on


def test_an_edited_confidence_is_found_out(study):
    tiers = tuple(study.column(n)[0] for n in ("mute", "classifier"))
    content = study.export(Policy(Cascade((0.9,)), tiers))
    numbers = json.loads(part(content, "confidence-0.json"))
    numbers["bias"] += 3.0
    with pytest.raises(BundleError, match="decided differently"):
        load_bundle(rewrite(content, {"confidence-0.json": json.dumps(numbers).encode()}))


def test_the_own_score_stays_selectable_and_is_what_the_bundle_then_holds(study):
    learned = study.column("proud")[1].confidence
    before = study.terms
    study.terms = Terms(confidence=(("proud", "own"),))
    try:
        own = study.column("proud")[1].confidence
        assert set(np.unique(own)) == {0.98, 0.99}
        assert len(np.unique(learned)) > 20
        tiers = tuple(study.column(n)[0] for n in ("proud", "classifier"))
        assert not load_bundle(study.export(Policy(Cascade((0.985,)), tiers))).confidences
    finally:
        study.terms = before
    assert (study.column("proud")[1].confidence == learned).all()


def test_a_project_that_is_opened_again_is_as_sure(study, tmp_path):
    study.save(tmp_path / "p")
    again = Study.open(tmp_path / "p")
    for name in ("mute", "proud"):
        assert (again.column(name)[1].confidence == study.column(name)[1].confidence).all()
    shipped = study.shipping()
    assert again.shipping() == shipped is not None
    on_test = study.measure(side="test").summary.accuracy.value
    assert shipped.graded_accuracy + shipped.accuracy.value == pytest.approx(on_test)
    assert shipped.escalation.low < shipped.escalation.value < shipped.escalation.high
    assert "models that ship" in shipped.words


@pytest.mark.parametrize("cuts", [(0.8,), (0.95, 0.6)])
def test_what_ships_may_send_on_the_share_that_was_promised_whatever_the_labels_of_test(study, cuts):
    names = ("classifier", "mute", "proud")[: len(cuts) + 1]
    policy = Policy(Cascade(cuts), tuple(study.column(n)[0] for n in names))
    moved = study.at_share(policy)
    assert moved.policy != policy
    sent = {s: study.measure(moved.policy, s).outcomes.asked.mean(axis=0) for s in ("tune", "test")}
    wanted = study.measure(policy, "tune").outcomes.asked.mean(axis=0)
    off, before = sent["test"] - wanted, study.measure(policy, "test").outcomes.asked.mean(axis=0) - wanted
    assert moved.after.value == sent["test"][-1]
    assert np.abs(off).max() < min(0.02, np.abs(before).max())
    content = study.export(moved.policy, chosen=policy)
    assert load_bundle(content).policy == moved.policy
    said = json.loads(part(content, "evidence.json"))["set_for_share"]
    assert said["chosen"]["parameters"]["thresholds"] == list(cuts)
    assert said["words"] == moved.words
    tune, test = (study.graded(names, s) for s in ("tune", "test"))
    assert at_share(policy, tune, replace(test, truth=test.truth[::-1])).policy == moved.policy


def test_a_share_that_would_come_no_nearer_is_left_alone():
    tiers, truth, rows = tiers_of(3), np.zeros(100, dtype=int), np.arange(100)
    policy = Policy(Cascade((0.1, 0.5)), tiers)

    def on(sure, second):  # the least sure rows first
        confidence = np.column_stack([sure, second, np.ones(100)])
        made = Predictions(tiers, ("a", "b"), np.zeros((100, 3), dtype=int), confidence, 0 * confidence, 0 * confidence)
        return Graded(made, truth, rows, rows, 100, 100)

    half_of_ten = np.where(rows % 2 == 0, 0.9, 0.2)
    tune = on(rows / 100, half_of_ten)
    # as many are sent on: half as many reach the second tier, and it is sure of none; too few to move its threshold
    test = on(np.minimum(rows / 100 + 0.05, 1.0), np.full(100, 0.2))
    assert [o.outcomes(policy).asked[:, 2].mean() for o in (tune, test)] == [0.05, 0.05]
    assert at_share(policy, tune, test) is None
    assert at_share(policy, tune, on(np.minimum(rows / 100 + 0.05, 1.0), half_of_ten)).after.value == 0.05


def test_no_rows_own_label_speaks_for_it():
    """Confidences of noise are noise: on rows that learning did not see, they tell nothing."""
    rng = np.random.default_rng(0)
    n = 600
    said = Answers(rng.integers(0, 15, n), np.full(n, 0.5), np.zeros(n), np.zeros(n))
    truth = np.where(rng.random(n) < 0.5, said.label, 15)
    chances = rng.dirichlet(np.ones(16), n).astype(np.float32)
    found = fit_confidence(said, truth, np.arange(n) % 6 - 1, chances=chances)
    assert not found.better
    tune = np.arange(n) % 6 > 0
    assert auroc(found.answers.confidence[tune], (said.label == truth)[tune]).value < 0.56


def test_what_was_not_asked_stays_unasked_and_what_is_unknown_is_not_sure():
    n = 200
    right = np.arange(n) % 3 > 0
    said = Answers(np.zeros(n, dtype=np.int64), np.full(n, 0.5), np.zeros(n), np.zeros(n))
    said.label[:5], said.confidence[5:9] = UNKNOWN, np.nan
    chances = np.column_stack([np.where(right, 0.9, 0.2), np.where(right, 0.1, 0.8)]).astype(np.float32)
    found = fit_confidence(said, np.where(right, 0, 1), np.arange(n) % 5, chances=chances).answers.confidence
    assert (found[:5] == 0).all()
    assert np.isnan(found[5:9]).all()
    assert not np.isnan(found[9:]).any()


def test_a_score_that_means_something_else_for_each_answer_is_straightened():
    """Two answers, one overconfident and one too modest: one threshold then does what two would."""
    rng = np.random.default_rng(1)
    n = 4 * MANY
    label, score = rng.integers(0, 2, n), rng.uniform(0.5, 1, n)
    chance = np.where(label == 0, score**4, 0.9 + 0.1 * score)
    truth = np.where(rng.random(n) < chance, label, 1 - label)
    said = Answers(label, score, np.zeros(n), np.zeros(n))
    found = fit_confidence(said, truth, np.arange(n) % 5)
    right = label == truth
    assert auroc(found.answers.confidence, right).low > auroc(score, right).high
    assert np.abs(found.answers.confidence - chance).mean() < 0.03


def test_too_few_answers_or_nothing_to_tell_them_by_leave_the_own_score_and_say_why():
    said = Answers(np.arange(60) % 30, np.full(60, 0.7), np.zeros(60), np.zeros(60))
    truth = np.where(np.arange(60) % 2, said.label, 31)
    nothing = fit_confidence(said, truth, np.arange(60) % 5)
    few = fit_confidence(said, said.label.copy(), np.arange(60) % 5)
    assert nothing.model is None
    assert few.model is None
    assert (nothing.answers.confidence == 0.7).all()
    assert "no texts" in nothing.reason
    assert "too few" in few.reason


def test_the_interval_of_an_auroc_holds_it_in_about_95_of_100_draws_of_groups():
    rng, held = np.random.default_rng(2), 0
    for _ in range(300):
        mood = rng.normal(size=60).repeat(5)  # rows of a group share their luck
        right = (rng.random(60) < 0.6).repeat(5)
        score = mood + right + 0.3 * rng.normal(size=300)
        found = auroc(score, right, group=np.arange(60).repeat(5))
        held += found.low <= 0.7509 <= found.high  # Φ(1 / (√2 · √1.09))
    assert 276 <= held <= 295


def test_the_interval_of_an_auroc_by_hand_and_of_one_mistake():
    score, right = np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array([True, True, False, True, False])
    # right rows are ordered rightly against 2, 2 and 1 of two wrong ones, these against 2 and 3 of three right ones
    value, most = 5 / 6, (2 * 5 / 6 + 0.5) / 3 * (1 - (2 * 5 / 6 + 0.5) / 3)
    variance = (2 / 36 + 1 / 9 + most) / 9 + (2 / 36 + most) / 4
    worth = most / variance * (ndtri(0.975) / stdtrit(2, 0.975)) ** 2
    found = auroc(score, right)
    assert found.value == pytest.approx(value)
    assert (found.low, found.high) == pytest.approx([float(end) for end in wilson(value * worth, worth)])
    lone = auroc(np.arange(200) / 200, np.arange(200) > 20)  # the wrong rows are the least sure
    one = auroc(np.arange(200) / 200, np.arange(200) != 20)
    assert lone.low > 0.8
    assert one.low < 0.1  # one mistake says next to nothing, however many rows are right


def test_the_interval_of_an_auroc_holds_where_mistakes_are_few():
    rng, held = np.random.default_rng(4), 0
    for _ in range(300):
        right = np.arange(60) >= 3
        found = auroc(rng.random(60), right)
        held += found.low <= 0.5 <= found.high
    assert held / 300 >= 0.94  # .78 by the variance seen alone


def test_auroc_equals_the_share_of_ordered_pairs():
    rng = np.random.default_rng(3)
    score, right = rng.integers(0, 6, 50) / 5, rng.random(50) < 0.5
    pairs = [(a > b) + 0.5 * (a == b) for a in score[right] for b in score[~right]]
    assert auroc(score, right).value == pytest.approx(np.mean(pairs))
    assert pd.isna(auroc(score, np.ones(50, dtype=bool)).value)


def test_the_order_of_the_file_changes_no_calibration_error():
    """Confidences that repeat, in a file sorted by its label: bins end among equal ones."""
    rng = np.random.default_rng(4)
    score = rng.choice([0.6, 0.7, 0.9], 3_000)
    right = rng.random(3_000) < score
    by_label = np.argsort(~right, kind="stable")
    mixed, ordered = (reliability(score[at], right[at]) for at in (np.arange(3_000), by_label))
    assert ordered.ece.value == pytest.approx(mixed.ece.value)
    assert ordered.ece.high == pytest.approx(mixed.ece.high)
    assert ordered.ece.value < 0.03
