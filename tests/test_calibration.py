import json

import numpy as np
import pytest
from scipy.special import expit, logit, softmax

from hybrid.metrics.summary import expected_calibration_error
from hybrid.tiers.calibration import (
    Calibrator,
    ConfidenceCalibrator,
    _fit_venn_abers,
    cross_calibrated,
    cross_fitted,
    fit_confidence_calibrator,
)


def draw(n, shape, seed=0):
    rng = np.random.default_rng(seed)
    said = rng.uniform(0.02, 0.999, n)
    return said, rng.random(n) < shape(said)


def halved(said):
    return expit(logit(said) / 2 + 0.7)


def stepped(said):
    return np.where(said < 0.6, 0.3, 0.95)


def test_a_tilted_logit_is_straightened_by_temperature():
    said, right = draw(4000, halved)
    fitted = fit_confidence_calibrator(said, right)
    assert fitted.method == "temperature"
    assert fitted.informative
    assert fitted.temperature == pytest.approx(2, rel=0.15)
    assert fitted.shift == pytest.approx(0.7, abs=0.15)
    fresh, fresh_right = draw(20_000, halved, seed=1)  # few rows have a calibration error by chance alone
    before = expected_calibration_error(fresh, fresh_right)
    after = expected_calibration_error(fitted.apply(fresh), fresh_right)
    assert after < 0.03 < before


def test_steps_are_followed_by_isotonic_and_the_reason_names_both_losses():
    said, right = draw(4000, stepped)
    fitted = fit_confidence_calibrator(said, right)
    assert fitted.method == "isotonic"
    losses = dict(fitted.log_loss)
    assert losses["isotonic"] < losses["temperature"] < losses["constant"]
    assert f"{losses['isotonic']:.3f}" in fitted.reason
    assert f"{losses['temperature']:.3f}" in fitted.reason
    assert fitted.apply(np.array([0.2, 0.9])) == pytest.approx([0.3, 0.95], abs=0.05)


def lopsided(said):
    """Beta, with the powers 0.5 and 2: no temperature bends the two ends so differently."""
    return expit(0.5 * np.log(said) - 2.0 * np.log1p(-said) - 1.0)


def test_ends_that_bend_differently_are_straightened_by_beta():
    said, right = draw(8000, lopsided)
    fitted = fit_confidence_calibrator(said, right)
    assert fitted.method == "beta"
    assert (*fitted.powers, fitted.shift) == pytest.approx((0.5, 2.0, -1.0), abs=0.25)
    assert "beta" in fitted.reason


def test_venn_abers_is_what_one_more_answer_right_or_wrong_would_make_of_the_steps():
    """Vovk & Petej 2014: p = p1 / (1 - p0 + p1), each from isotonic regression with the row added."""
    said, right = np.array([0.2, 0.4, 0.6, 0.8]), np.array([0.0, 1.0, 0.0, 1.0])
    found = _fit_venn_abers(said, right).apply(said)
    # at 0.4 a wrong one more makes the block 1, 0, 0 of 0.4 and 0.6, a right one 1, 1, 0
    assert found[1] == pytest.approx((2 / 3) / (1 - 1 / 3 + 2 / 3))
    # at 0.8 a wrong one leaves 1, 0 there, a right one 1, 1
    assert found[3] == pytest.approx(1 / (1 - 1 / 2 + 1))


def test_a_classifiers_answer_gets_a_line_only_where_one_is_surely_better():
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 2, (3000, 3))
    fold = np.arange(3000) % 5
    fold[::7] = -1
    honest = (np.cumsum(softmax(logits, axis=1), axis=1) < rng.random((3000, 1))).sum(axis=1)
    calibrator, probabilities, confidence, _ = cross_calibrated(logits, honest, fold)
    assert calibrator.top is None
    assert np.array_equal(confidence, probabilities.max(axis=1))
    top = logits.argmax(axis=1)
    hit = rng.random(3000) < np.where(softmax(logits, axis=1).max(axis=1) > 0.7, 0.98, 0.4)
    cliff = np.where(hit, top, (top + 1) % 3)
    calibrator, probabilities, confidence, _ = cross_calibrated(logits, cliff, fold)
    assert calibrator.top is not None
    bent = expected_calibration_error(confidence, top == cliff)
    assert bent < 0.5 * expected_calibration_error(probabilities.max(axis=1), top == cliff)
    again = Calibrator.from_plain(json.loads(json.dumps(calibrator.plain())))
    assert np.array_equal(again.confidence(probabilities), calibrator.confidence(probabilities))
    other = np.where(fold == 2, (cliff + 1) % 3, cliff)  # a fold's rows have no part in their own line
    if (moved := cross_calibrated(logits, other, fold))[0].top.method == calibrator.top.method:
        assert np.array_equal(moved[2][fold == 2], confidence[fold == 2])


@pytest.mark.parametrize("shape", [halved, stepped, lopsided])
def test_calibration_keeps_the_order_of_rows(shape):
    said, right = draw(500, shape)
    calibrated = fit_confidence_calibrator(said, right).apply(np.sort(said))
    assert (np.diff(calibrated) >= 0).all()
    assert ((calibrated > 0) & (calibrated < 1)).all()


@pytest.mark.parametrize(
    ("said", "right", "why"),
    [
        (np.full(200, 1.0), np.arange(200) % 5 > 0, "same confidence"),
        (np.linspace(0.1, 0.9, 200), np.ones(200, dtype=bool), "Every answer is right"),
        (np.linspace(0.1, 0.9, 5), np.array([0, 1, 0, 1, 1], dtype=bool), "Only 5 answers"),
        (np.tile([0.2, 0.9], 200), np.repeat([True, False], 200), "no information"),
    ],
)
def test_a_confidence_without_information_becomes_a_constant_and_says_so(said, right, why):
    fitted = fit_confidence_calibrator(said, right)
    assert (fitted.method, fitted.informative) == ("constant", False)
    assert why in fitted.reason
    assert np.unique(fitted.apply(said)) == pytest.approx([(right.sum() + 1) / (len(right) + 2)])


def test_failed_and_unasked_answers_are_left_out_and_left_alone():
    said, right = draw(300, halved)
    padded = np.concatenate([said, np.zeros(100), np.full(100, np.nan)])
    fitted = fit_confidence_calibrator(padded, np.concatenate([right, np.zeros(200, dtype=bool)]))
    assert fitted == fit_confidence_calibrator(said, right)
    for other in (
        fitted,
        ConfidenceCalibrator("constant"),
        ConfidenceCalibrator("isotonic", said=(0.5,), meant=(0.4,)),
    ):
        assert other.apply(np.array([0.0]))[0] == 0
        assert np.isnan(other.apply(np.array([np.nan]))[0])


def test_plain_numbers_round_trip_through_json_to_the_last_digit():
    for shape in (halved, stepped, lopsided):
        said, right = draw(700, shape)
        fitted = fit_confidence_calibrator(said, right)
        again = ConfidenceCalibrator.from_plain(json.loads(json.dumps(fitted.plain())))
        assert again == fitted
        assert np.array_equal(again.apply(said), fitted.apply(said))


def test_a_row_is_calibrated_by_the_other_folds():
    said, right = draw(400, halved)
    fold = np.arange(400) % 4
    calibrated = cross_fitted(said, right, fold)
    flipped = np.where(fold == 2, ~right, right)  # its own truth must not matter to a row
    assert np.array_equal(cross_fitted(said, flipped, fold)[fold == 2], calibrated[fold == 2])
    assert not np.array_equal(cross_fitted(said, flipped, fold)[fold == 1], calibrated[fold == 1])
    assert np.array_equal(cross_fitted(said, right, np.zeros(400, dtype=int)), said)


def test_the_order_of_the_rows_hardly_matters():
    said, right = draw(2000, halved)
    shuffled = np.random.default_rng(3).permutation(2000)
    a, b = fit_confidence_calibrator(said, right), fit_confidence_calibrator(said[shuffled], right[shuffled])
    assert a.method == b.method
    assert a.apply(said) == pytest.approx(b.apply(said), abs=1e-3)


@pytest.mark.parametrize("n", [12, 200])
def test_temperature_and_beta_stop_where_no_step_is_better(n):
    from hybrid.tiers.calibration import _fit_beta, _fit_temperature

    rng = np.random.default_rng(0)
    said = rng.uniform(0.5, 0.999, n)
    hit = (rng.random(n) < said**1.5).astype(float)
    sure, unsure = np.log(said), np.log1p(-said)

    def temperature(of):  # the losses in full, with their pull towards the start
        z = np.exp(of[0]) * (sure - unsure) + of[1]
        return np.sum(np.logaddexp(0, z) - hit * z) + 0.5 * (of @ of)

    def beta(of):
        z = of[0] * sure - of[1] * unsure + of[2]
        off = of - np.array([1.0, 1.0, 0.0])
        return np.sum(np.logaddexp(0, z) - hit * z) + 0.5 * (off @ off)

    one, two = _fit_temperature(said, hit), _fit_beta(said, hit)
    found = [(temperature, np.array([-np.log(one.temperature), one.shift])), (beta, np.array([*two.powers, two.shift]))]
    for loss, at in found:
        steps = np.vstack([np.eye(len(at)), -np.eye(len(at))]) * 0.02
        assert all(loss(at + step) > loss(at) for step in steps)
