"""Tiers: fitted on one side, honest on the other, and the same alone as in a batch."""

import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import labelled
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline

from hybrid.data.columns import Columns, RecordedColumns
from hybrid.data.dataset import build
from hybrid.data.split import split
from hybrid.errors import TierError
from hybrid.metrics.summary import expected_calibration_error
from hybrid.routing.table import UNKNOWN
from hybrid.study.evidence import gate_auroc, record
from hybrid.tiers import classifier
from hybrid.tiers.calibration import fit_calibrator
from hybrid.tiers.classifier import FastClassifier, fit_classifier
from hybrid.tiers.gate import HeuristicGate, KeyWords, check_enough, fit_gates
from hybrid.tiers.rules import Edits, Rules, check_phrase, fit_rules
from hybrid.tiers.softmax import StoppedError, fit_softmax, passes
from hybrid.tiers.whatif import WhatIf
from hybrid.tiers.words import count, count_terms, inverse_document_frequency, terms, tf_idf


@pytest.fixture(scope="module")
def data():
    frame = labelled(300)
    classes, truth = np.unique(frame["label"].to_numpy(dtype=str), return_inverse=True)
    fold = np.arange(300) % 5
    fold[200:] = -1
    return frame["text"].to_numpy(dtype=object), truth, fold, len(classes)


def test_tf_idf_is_scikit_learns():
    texts = ["The app crashed, twice!", "a refund a REFUND please", "", "straße 12 ümläut"]
    counts, terms = count(texts)
    reference = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    expected = reference.fit_transform(texts)
    assert terms.tolist() == reference.get_feature_names_out().tolist()
    np.testing.assert_allclose(tf_idf(counts, inverse_document_frequency(counts)).toarray(), expected.toarray())


def test_counting_known_terms_ignores_the_others():
    counts = count_terms(["app app crash", "nothing"], {"app": 0, "app crash": 1})
    assert counts.toarray().tolist() == [[2, 1], [0, 0]]


def test_the_classifier_answers_alone_as_in_a_batch(data):
    texts, truth, fold, k = data
    model = fit_classifier(texts, truth, fold, n_classes=k).model
    batch = model.answer(list(texts))
    for i in range(0, len(texts), 17):
        alone = model.answer([texts[i]])
        assert (alone.label[0], alone.confidence[0]) == (batch.label[i], batch.confidence[i])


def test_test_rows_are_answered_by_the_model_that_ships(data):
    texts, truth, fold, k = data
    fitted = fit_classifier(texts, truth, fold, n_classes=k)
    test = fold < 0
    shipped = fitted.model.answer(list(texts[test]))
    np.testing.assert_array_equal(shipped.label, fitted.answers.label[test])
    np.testing.assert_array_equal(shipped.confidence, fitted.answers.confidence[test])


def test_fitting_twice_gives_the_same_bits(data):
    texts, truth, fold, k = data
    first, *others = (fit_classifier(texts, truth, fold, n_classes=k) for _ in range(4))
    for other in others:
        np.testing.assert_array_equal(other.model.weights, first.model.weights)
        np.testing.assert_array_equal(other.answers.confidence, first.answers.confidence)


def test_the_last_bits_of_a_confidence_never_decide(data):
    texts, truth, fold, k = data
    fitted = fit_classifier(texts, truth, fold, n_classes=k)
    noisy = fitted.probabilities * (1 + 1e-14)
    np.testing.assert_array_equal(fitted.model.decide(noisy).confidence, fitted.answers.confidence)
    np.testing.assert_allclose(fitted.answers.confidence, fitted.probabilities.max(axis=1), atol=5.1e-10)


def test_no_row_grades_itself(data):
    texts, truth, fold, k = data
    before = fit_classifier(texts, truth, fold, n_classes=k).answers
    lie = truth.copy()
    mine = fold == 2
    lie[mine] = (truth[mine] + 1) % k  # a fold's own labels must not move its own raw answers
    after = fit_classifier(texts, lie, fold, n_classes=k).answers
    np.testing.assert_array_equal(before.label[mine], after.label[mine])
    test = fold < 0
    untouched = truth.copy()
    untouched[test] = 0
    same = fit_classifier(texts, untouched, fold, n_classes=k).answers
    np.testing.assert_array_equal(same.confidence, before.confidence)


def test_a_folds_models_say_of_a_test_row_what_they_said_of_its_copy_on_tune(data):
    texts, truth, fold, k = data
    held = [np.flatnonzero(fold == f)[:20] for f in range(3)]
    tune = np.flatnonzero(fold >= 0)
    rows = np.concatenate([tune, *held])  # the test side: copies of rows of the first three folds
    where, n = np.append(fold[tune], np.full(60, -1)), len(tune)
    right = np.arange(300) % 3 > 0
    for fitted in (
        fit_classifier(texts[rows], truth[rows], where, n_classes=k),
        fit_rules(texts[rows], truth[rows], where, n_classes=k),
        fit_gates(texts[rows], right[rows, None], where)[0],
    ):
        assert len(fitted.again) == 3
        for f, again in enumerate(fitted.again):
            copies, on_tune = slice(20 * f, 20 * f + 20), np.searchsorted(tune, held[f])
            np.testing.assert_array_equal(again.label[copies], fitted.answers.label[on_tune])
            np.testing.assert_array_equal(again.confidence[copies], fitted.answers.confidence[on_tune])
        assert (fitted.again[0].confidence != fitted.answers.confidence[n:]).any()


def test_calibration_brings_confidence_to_accuracy(data):
    texts, truth, fold, k = data
    fitted = fit_classifier(texts, truth, fold, n_classes=k)
    tune = fold >= 0
    right = fitted.answers.label == truth
    gap = abs(fitted.answers.confidence[tune].mean() - right[tune].mean())
    assert gap < abs(fitted.raw_confidence[tune].mean() - right[tune].mean()) + 0.01
    assert gap < 0.06


def test_a_class_missing_from_a_fold_gets_no_probability_there(data):
    texts, truth, fold, k = data
    rare = truth.copy()
    rare[0] = k  # one row of a new class, held out in fold 0
    fitted = fit_classifier(texts, rare, fold, n_classes=k + 1)
    assert fitted.probabilities[0, k] == 0
    assert np.isfinite(fitted.answers.confidence).all()


def test_texts_without_words_are_an_error():
    with pytest.raises(TierError, match="no words"):
        fit_classifier(np.array(["!!", "??"] * 5, dtype=object), np.array([0, 1] * 5), np.arange(10) % 2, n_classes=2)


def test_temperature_ignores_rows_of_an_unseen_class():
    logits = np.array([[np.log(3), 0.0, -np.inf]] * 4 + [[5.0, 0.0, -np.inf]])
    truth = np.array([0, 0, 0, 1, 2])
    assert fit_calibrator(logits, truth).temperature == pytest.approx(1.0, abs=1e-3)
    assert fit_calibrator(logits[4:], truth[4:]).temperature == 1.0


def test_rules_are_mined_on_tune_and_measured_out_of_fold(data):
    texts, truth, fold, k = data
    fitted = fit_rules(texts, truth, fold, n_classes=k)
    assert fitted.model.rules
    for rule in fitted.model.rules:
        held = np.array([rule.phrase in f" {t} " for t in texts]) & (fold >= 0)
        assert rule.correct <= rule.hits <= held.sum()
        assert rule.confidence >= 0.5
    confident = fitted.answers.label != UNKNOWN
    assert (fitted.answers.label[confident] == truth[confident]).mean() > 0.7
    flipped = truth.copy()
    flipped[fold < 0] = 0
    assert fit_rules(texts, flipped, fold, n_classes=k).model == fitted.model


def test_chance_finds_hardly_a_rule():
    """Among thousands of words some look precise by luck; measured where they were not mined, they do not."""
    rng = np.random.default_rng(0)
    texts = np.array([" ".join(f"w{i}" for i in rng.integers(0, 6000, 10)) for _ in range(2000)], dtype=object)
    luck = rng.integers(0, 2, 2000)
    fitted = fit_rules(texts, luck, np.arange(2000) % 5, n_classes=2)
    assert len(fitted.model.rules) <= 2


def test_no_row_speaks_for_its_own_rule(data):
    texts, truth, fold, k = data
    before = fit_rules(texts, truth, fold, n_classes=k).answers
    for f in range(5):
        mine = fold == f
        lie = np.where(mine, (truth + 1) % k, truth)
        after = fit_rules(texts, lie, fold, n_classes=k).answers
        np.testing.assert_array_equal(after.label[mine], before.label[mine])
        np.testing.assert_array_equal(after.confidence[mine], before.confidence[mine])


def test_shipped_rules_answer_test_rows_as_recorded(data):
    texts, truth, fold, k = data
    fitted = fit_rules(texts, truth, fold, n_classes=k)
    test = fold < 0
    again = fitted.model.answer(list(texts[test]))
    np.testing.assert_array_equal(again.label, fitted.answers.label[test])
    np.testing.assert_array_equal(again.confidence, fitted.answers.confidence[test])


def test_edited_rules_are_measured_too(data):
    texts, truth, fold, k = data
    first = fit_rules(texts, truth, fold, n_classes=k).model.rules[0]
    edits = Edits(frozenset({(first.phrase, first.label)}), (("courier", 1),))
    rules = {(r.phrase, r.label): r for r in fit_rules(texts, truth, fold, n_classes=k, edits=edits).model.rules}
    assert (first.phrase, first.label) not in rules
    assert rules["courier", 1].hits == sum("courier" in t.split() for t in texts[:200])


def test_a_rule_is_one_or_two_words():
    assert check_phrase("  Charged,  TWICE ") == "charged twice"
    for bad in ("", "one two three", "!!"):
        with pytest.raises(TierError, match="one word or two"):
            check_phrase(bad)


def test_a_gate_needs_rows_of_both_kinds(data):
    texts, _, fold, _ = data
    with pytest.raises(TierError, match="cannot be trained"):
        check_enough(np.ones(len(texts), dtype=bool), fold, "the cheap tier")


def test_a_gate_learns_what_the_cheap_tier_gets_right(data):
    texts, truth, fold, _ = data
    gate = fit_gates(texts, (truth == 0)[:, None], fold)[0]
    score = gate.answers.confidence
    assert score[truth == 0].mean() > score[truth != 0].mean() + 0.3
    assert (gate.answers.label == UNKNOWN).all()
    test = fold < 0
    np.testing.assert_array_equal(gate.model.answer(list(texts[test])).confidence, score[test])


def test_gates_that_are_fitted_together_are_those_that_are_fitted_alone(data):
    texts, truth, fold, _ = data
    rare = (fold != 2) | (np.arange(len(texts)) % 3 > 0)  # all that is wrong stands in one fold: its model saw none
    right = np.column_stack([truth == 0, rare, np.arange(len(texts)) % 5 > 0])
    for j, one in enumerate(fit_gates(texts, right, fold)):
        alone = fit_gates(texts, right[:, [j]], fold)[0]
        assert one.answers.confidence.tobytes() == alone.answers.confidence.tobytes()
        assert [a.confidence.tobytes() for a in one.again] == [a.confidence.tobytes() for a in alone.again]
        for numbers in ("weights", "bias"):
            ours, theirs = getattr(one.model.model, numbers), getattr(alone.model.model, numbers)
            assert ours.tobytes() == theirs.tobytes()


def test_the_heuristic_gate_finds_long_and_tangled_texts_harder():
    easy, *hard = HeuristicGate().score(
        ["Where is my parcel?", "Where is it? And who pays?", "it does not work", "word " * 40, "this, and also that"]
    )
    assert easy == 1
    assert all(h < easy for h in hard)


def test_the_what_if_llm_is_right_as_often_as_it_says():
    truth = np.random.default_rng(0).integers(0, 5, 20_000)
    key = np.arange(20_000, dtype=np.uint64)
    a = WhatIf(accuracy=0.9).answer(truth, key, n_classes=5)
    right = a.label == truth
    assert right.mean() == pytest.approx(0.9, abs=0.01)
    sure = a.confidence > np.median(a.confidence)
    for half in (sure, ~sure):
        assert right[half].mean() == pytest.approx(a.confidence[half].mean(), abs=0.015)
    better = WhatIf(accuracy=0.95).answer(truth, key, n_classes=5).label == truth
    assert (better >= right).all()  # raising the accuracy only turns wrong answers right
    some = np.array([5, 17, 400])
    alone = WhatIf(accuracy=0.9).answer(truth[some], key[some], n_classes=5)
    np.testing.assert_array_equal(alone.label, a.label[some])
    assert WhatIf().tier.simulated


@pytest.mark.parametrize("bad", [{"accuracy": 95.0}, {"price": -1.0}, {"latency": float("nan")}])
def test_an_impossible_what_if_is_refused(bad):
    with pytest.raises(TierError):
        WhatIf(**bad)


class EnoughError(Exception):
    pass


def test_a_fit_can_be_cancelled_from_its_progress(data):
    texts, truth, fold, k = data
    seen = []

    def progress(share, done):
        seen.append(share)
        if share > 0.3:
            raise EnoughError

    with pytest.raises(EnoughError):
        fit_classifier(texts, truth, fold, n_classes=k, progress=progress)
    assert seen == sorted(seen)
    assert seen[-1] < 1


def test_a_fit_that_nobody_waits_for_ends_between_two_passes():
    rows = csr_matrix(np.eye(4))
    asked = []
    with pytest.raises(StoppedError):
        fit_softmax(rows, np.arange(4), 4, stopped=lambda: len(asked) > 2 or asked.append(1))
    assert len(asked) == 3


def test_the_number_of_threads_changes_no_bit(data, monkeypatch):
    texts, truth, fold, k = data
    two = fit_classifier(texts, truth, fold, n_classes=k)
    monkeypatch.setattr(classifier, "ThreadPoolExecutor", lambda n: ThreadPoolExecutor(1))
    one = fit_classifier(texts, truth, fold, n_classes=k)
    np.testing.assert_array_equal(one.model.weights, two.model.weights)
    np.testing.assert_array_equal(one.probabilities, two.probabilities)


def test_many_rows_need_fewer_passes():
    assert passes(1_000) == passes(50_000) == 6
    assert passes(100_000) == 3
    assert passes(10_000_000) == 2


def test_folds_answer_at_least_as_well_as_the_plain_pipeline():
    """On the sample data: out of fold, TF-IDF and logistic regression as scikit-learn sets them by default."""
    frame = pd.read_csv("sample_data/support_tickets.csv")
    texts = frame["text"].to_numpy(dtype=object)
    truth = pd.factorize(frame["label"], sort=True)[0].astype(np.int64)
    splits = list(StratifiedKFold(5, shuffle=True, random_state=0).split(texts, truth))
    fold = np.empty(len(texts), dtype=np.int64)
    for f, (_, held) in enumerate(splits):
        fold[held] = f
    plain = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression())
    other = cross_val_predict(plain, texts, truth, cv=splits, method="predict_proba")
    ours = fit_classifier(texts, truth, fold, n_classes=7)
    gain = (ours.answers.label == truth).astype(float) - (other.argmax(axis=1) == truth)
    low = gain.mean() - 1.96 * gain.std() / np.sqrt(len(gain))
    assert low > -0.01
    right = ours.answers.label == truth
    error = expected_calibration_error(ours.answers.confidence, right)
    assert error < 0.5 * expected_calibration_error(other.max(axis=1), other.argmax(axis=1) == truth)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("दिन में", ["दिन", "में", "दिन में"]),
        ("re\u0301clamation", ["réclamation"]),
        ("退款了", ["退", "款", "了", "退款", "款了", "退款了"]),
        ("My iPhone壊 now", ["my", "iphone", "now", "my iphone", "壊"]),
        ("ที่นี่"[:4], ["ท", "ี", "่", "น", "ที", "ี่", "่น", "ที่", "ี่น"]),
        ("ＡＢ１", ["ab1"]),
    ],
)
def test_words_are_those_of_the_script(text, found):
    assert terms(text) == found


def test_a_model_keeps_the_cut_that_it_was_fitted_with():
    """Bundles of before know no cut, and go on to end a word of Hindi at its vowel sign."""
    texts = ["दिन 退款 app", "app"]
    bits = ["द", "न", "退款", "app", "द न", "न 退款", "退款 app"]
    assert terms(texts[0], 1) == bits
    old = FastClassifier(tuple(bits), np.ones(7), np.eye(7, 2, dtype=np.float32), np.zeros(2, dtype=np.float32), cut=1)
    assert old.features(texts).nnz == 8
    files = old.to_files("classifier")
    assert FastClassifier.from_files("classifier", files).cut == 1
    with np.load(io.BytesIO(files["classifier.npz"])) as arrays:
        before = {name: values for name, values in arrays.items() if name != "cut"}
    out = io.BytesIO()
    np.savez_compressed(out, **before)
    again = FastClassifier.from_files("classifier", {"classifier.npz": out.getvalue()})
    np.testing.assert_array_equal(again.logits(texts), old.logits(texts))
    assert Rules.from_files("rules", {"rules.json": b'{"rules": [], "latency": 0}'}).cut == 1
    with pytest.raises(TierError, match="upgrade hybrid-tuner"):
        Rules((), cut=99)


def test_texts_without_spaces_are_learned():
    rng = np.random.default_rng(0)
    core = {0: "退款费用", 1: "快递物流", 2: "修改邮箱"}
    filler = list("你好请问一下客服在吗急麻烦看今天能解决谢拜托等了")
    truth = np.arange(150) % 3
    texts = ["".join([*rng.choice(filler, 5), core[c], *rng.choice(filler, 4)]) for c in truth]
    fitted = fit_classifier(np.array(texts, dtype=object), truth, np.arange(150) % 5, n_classes=3)
    assert (fitted.answers.label == truth).mean() > 0.9
    rules = fit_rules(np.array(texts, dtype=object), truth, np.arange(150) % 5, n_classes=3).model
    assert rules.rules
    assert all(len(rule.phrase) <= 3 for rule in rules.rules)
    assert check_phrase("退款") == "退款"
    with pytest.raises(TierError, match="up to three characters"):
        check_phrase("你好请问")


def test_each_tier_has_a_gate_that_learned_whether_that_very_tier_is_right(gated):
    """Two LLMs that fail on different words: the gate of one says nothing about the other."""
    table = gated.predictions
    for name, other in (("left", "right"), ("right", "left")):
        gate, wrong_gate = (table.answers(table.index(f"trained gate for {n}")) for n in (name, other))
        answers = table.answers(table.index(name))
        for rows in (gated.split.tune, gated.split.test):
            own, others = (
                gate_auroc(gated.dataset, rows, g, answers, fold=gated.split.fold) for g in (gate, wrong_gate)
            )
            assert own.low > max(0.5, others.high)


def test_a_gate_that_knows_nothing_is_at_chance_and_not_below_it_because_each_fold_is_scored_by_the_others(gated):
    left, fold = gated.predictions.answers(gated.predictions.index("left")), gated.split.fold
    right, score = left.label == gated.dataset.truth, np.full(len(fold), 0.5)
    for k in np.unique(fold[fold >= 0]):
        score[fold == k] = right[
            (fold >= 0) & (fold != k)
        ].mean()  # all that it knows is how often the others are right
    found = gate_auroc(gated.dataset, gated.split.tune, replace(left, confidence=score), left, fold=fold)
    assert found.value == 0.5


@pytest.fixture(scope="module")
def gated():
    frame = labelled(300, seed=8)
    rng = np.random.default_rng(9)
    for name, word in (("left", "amber"), ("right", "cobalt")):
        hard = rng.random(len(frame)) < 0.4
        frame["text"] = [f"{word} {t}" if h else t for t, h in zip(frame["text"], hard, strict=True)]
        wrong = hard & (rng.random(len(frame)) < 0.9)
        frame[name] = np.where(wrong, "none of these", frame["label"])
    tiers = tuple(RecordedColumns(n, n, price=0.001) for n in ("left", "right"))
    dataset = build(frame, Columns("label", text="text", recorded=tiers))
    words = KeyWords(hard=("Amber ", "cobalt"))
    return record(dataset, split(dataset), key_words=words)


def test_the_heuristic_gate_knows_the_users_words_and_is_left_out_where_it_knows_nothing(gated, recording):
    table = gated.predictions
    rated = table.answers(table.index("heuristic gate"))
    left = table.answers(table.index("left"))
    assert gate_auroc(gated.dataset, gated.split.test, rated, left, fold=gated.split.fold).low > 0.5
    again = HeuristicGate.from_files("x", gated.models["heuristic gate"].to_files("x"))
    texts = list(gated.dataset.texts)
    assert (again.score(texts) == rated.confidence).all()
    assert (HeuristicGate().score(texts) != rated.confidence).any()
    assert "heuristic gate" not in [t.name for t in recording.predictions.tiers]
    assert any("heuristic gate is left out" in p for p in recording.left_out)


def test_a_key_word_is_one_or_two_words_and_not_both_hard_and_easy():
    with pytest.raises(TierError, match="one word or two"):
        KeyWords(hard=("as a last resort",)).checked()
    with pytest.raises(TierError, match="both hard and easy"):
        KeyWords(("refund",), ("Refund",)).checked()
