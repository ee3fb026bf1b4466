"""Audits: what few labels by hand say of a model's log, of tiers and of policies, and how the page asks for them."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from conftest import again
from test_dashboard import open_page

from hybrid.errors import DatasetError, StudyError
from hybrid.metrics.audited import Checked, difference, draw, share
from hybrid.metrics.intervals import upper_bound, wilson
from hybrid.routing.engine import Policy, replay
from hybrid.routing.patterns import Triage
from hybrid.study.audit import (
    NONE,
    audit_of,
    bound,
    choices,
    drawn_audit,
    findings,
    laid_out,
    plain_findings,
    policies_of,
)
from hybrid.study.graded import alone
from hybrid.study.study import Study
from hybrid.study.terms import Terms
from hybrid.tiers.whatif import WhatIf


def test_a_share_is_what_the_formulas_say_by_hand():
    """Two strata of 600 and 400 rows, 4 and 6 of them checked; worked with the formulas of the references."""
    stratum = np.repeat([0, 1], [4, 6])
    seen = np.array([1, 1, 1, 0, 1, 0, 0, 1, 0, 0], dtype=bool)
    agrees = np.array([1, 1, 1, 1, 1, 0, 0, 1, 1, 0], dtype=float)
    checked = Checked(stratum, np.array([600.0, 400.0]))
    assert checked.weight.tolist() == [150.0] * 4 + [400 / 6] * 6
    alone_value = 0.6 * 3 / 4 + 0.4 * 2 / 6  # Horvitz and Thompson
    assert share(seen, checked).value == pytest.approx(alone_value)
    scale = np.array([0.36 * (1 / 4 - 1 / 600), 0.16 * (1 / 6 - 1 / 400)])
    # within the first stratum the prediction does not vary; in the second its variance is .3, its covariance .2
    weight = scale[1] * 0.2 / (scale[1] * 0.3)
    value = weight * 0.7 + 0.6 * (3 / 4 - weight) + 0.4 * (2 / 6 - weight * 3 / 6)
    assert share(seen, checked, predicted=agrees, mean=0.7).value == pytest.approx(value)
    with pytest.raises(DatasetError, match="1 more rows must be checked"):
        share(seen[:5], Checked(stratum[:5], checked.sizes))


def test_without_strata_and_prediction_it_is_wilsons_interval_or_a_little_wider():
    for hits in (100, 97, 60):
        found = share(np.arange(100) < hits, Checked(np.zeros(100, dtype=int), np.array([1e7])))
        low, high = wilson(hits, 100)
        assert found.low <= float(low) + 1e-3
        assert found.half_width == pytest.approx(float(high - low) / 2, rel=0.15)


def test_what_all_rows_say_is_exact_but_for_what_may_come():
    rng = np.random.default_rng(0)
    seen = rng.random(400) < 0.8
    stratum = np.arange(400) % 2
    found = share(seen, Checked(stratum, np.array([200.0, 200.0])), predicted=seen * 1.0, mean=float(seen.mean()))
    assert found.value == pytest.approx(seen.mean())
    assert found.half_width == pytest.approx(1.96 * np.sqrt(0.16 / 400), rel=0.1)


def test_rows_of_one_group_are_one():
    stratum, sizes = np.zeros(80, dtype=int), np.array([4000.0])
    seen = np.repeat(np.arange(20) < 16, 4)
    apart = share(seen, Checked(stratum, sizes))
    together = share(seen, Checked(stratum, sizes, np.repeat(np.arange(20), 4)))
    assert together.value == apart.value
    assert together.half_width > 1.7 * apart.half_width


def test_every_row_of_a_stratum_is_drawn_alike_and_any_first_part_is_a_sample():
    stratum = np.repeat([0, 1, 2], [10, 30, 60])
    spread = np.array([0.5, 0.4, 0.1])
    whole, first, at_random = np.zeros(100), np.zeros(100), np.zeros(100)
    for seed in range(600):
        found = draw(stratum, 30, spread=spread, seed=seed)
        assert len(set(found.rows.tolist())) == 30
        whole[found.rows] += 1
        first[found.rows[:12]] += 1
        at_random[found.rows[found.at_random]] += 1
    assert np.allclose(at_random / 600, 0.15, atol=0.07)  # of all rows alike
    for counts in (whole, first):
        for code in range(3):
            mine = counts[stratum == code] / 600
            assert np.ptp(mine) < 0.13  # the same chance within a stratum
    assert whole[stratum == 0].mean() > 2 * whole[stratum == 2].mean()
    assert draw(stratum, 500, spread=spread).rows.shape == (100,)
    assert Counter(found.stratum.tolist())[0] >= 5


@pytest.mark.parametrize("right", [0.97, 0.75])
def test_the_intervals_hold_however_wrong_the_model_is_and_by_class(right):
    """In worlds like those of the benchmark, with fewer runs: the benchmark has the numbers."""
    n, runs = 2_000, 300
    held, width, plain = 0, 0.0, 0.0
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        kind = rng.integers(0, 10, n)
        good = rng.random(n) < np.where(kind < 2, right - 0.5, min(1.0, right + 0.02))
        agrees = rng.random(n) < np.where(good, 0.9, 0.4)
        stratum = np.where(agrees, 1, 0)
        found = draw(stratum, 100, spread=np.array([0.5, 0.25]), seed=seed)
        checked = Checked(found.stratum, found.sizes)
        got = share(good[found.rows], checked, predicted=agrees[found.rows] * 1.0, mean=float(agrees.mean()))
        truth = 0.2 * (right - 0.5) + 0.8 * min(1.0, right + 0.02)
        held += got.low <= truth <= got.high
        width += got.half_width / runs
        low, high = wilson(good[:100].sum(), 100)
        plain += float(high - low) / 2 / runs
    assert held / runs >= 0.92
    assert width < plain


def test_a_difference_rests_on_the_rows_that_differ():
    checked = Checked(np.zeros(50, dtype=int), np.array([1000.0]))
    none = difference(np.zeros(50), checked, np.zeros(50, dtype=bool), differ=0.03)
    assert np.isnan(none.value)
    assert (none.low, none.high) == (-0.03, 0.03)
    apart = np.arange(50) < 10
    gain = np.where(apart, -1.0, 0.0)
    found = difference(gain, checked, apart, differ=0.2)
    assert found.value == pytest.approx(-0.2)
    assert -0.2 <= found.low < found.high < 0


@pytest.fixture
def log(own_fitted):
    """A study whose labels a model wrote; `hand` says how often it is right."""
    study = Study(own_fitted.name, own_fitted.table, own_fitted.columns)
    study.keep(replace(own_fitted.evidence, dataset=replace(own_fitted.dataset, agreement_with="gpt4")))
    study.terms = Terms(whatif=WhatIf())
    return study


def policy_of(study, threshold=0.6):
    return Policy(Triage(threshold), tuple(study.column(n)[0] for n in ("classifier", "what-if LLM")))


def judged(study, audit, wrong):
    """Give every drawn row a label: another class where `wrong` says so."""
    rows, classes = study.side("test"), study.classes
    labels = {}
    for place in map(int, audit.drawn.rows):
        code = int(study.dataset.truth[rows[place]])
        labels[place] = classes[(code + 1) % len(classes)] if wrong[place] else classes[code]
    return replace(audit, labels=labels)


def test_with_every_row_checked_it_is_what_counting_says(log):
    policy = policy_of(log)
    rows = log.side("test")
    wrong = np.arange(len(rows)) % 5 == 0
    audit = judged(log, drawn_audit(log, policy, 10_000), wrong)
    truth = log.dataset.truth[rows]
    hand = np.where(wrong, (truth + 1) % len(log.classes), truth)
    found = findings(log, audit, {"p": policy, "c": alone(log.column("classifier")[0])})
    assert found.model.right.value == pytest.approx((truth == hand).mean())
    for one in found.others:
        said = replay(one.policy, log.table_of(one.policy.names, rows)).label
        assert one.right.value == pytest.approx((said == hand).mean())
        assert one.agreement == pytest.approx((said == truth).mean())
        if (said != truth).any():
            assert one.gain.value == pytest.approx((said == hand).mean() - (truth == hand).mean())
    most = bound(log, audit, policy)
    said = replay(policy, log.table_of(policy.names, rows)).label[audit.at_random]
    mistakes = (said != hand[audit.at_random]).sum()
    assert most.wrong == pytest.approx(mistakes)
    assert most.most == pytest.approx(upper_bound(mistakes, len(said), 0.1))


def test_only_a_finished_part_of_the_rows_at_random_counts_as_one(log):
    audit = drawn_audit(log, policy_of(log), 30)
    at_random = [int(r) for r in audit.drawn.rows[audit.drawn.at_random]]
    done = dict.fromkeys((*at_random[:3], *at_random[4:]), log.classes[0])
    assert replace(audit, labels=done).at_random.tolist() == at_random[:3]
    skipped = replace(audit, labels=done, skipped=frozenset(at_random[3:4]))
    assert skipped.at_random.tolist() == at_random[:3] + at_random[4:]


def test_an_audit_lives_with_its_project_and_with_its_rows_only(log, tmp_path):
    policy = policy_of(log)
    audit = drawn_audit(log, policy, 40)
    labels = {int(p): NONE if k % 7 == 0 else log.classes[0] for k, p in enumerate(audit.drawn.rows)}
    log.form["audit"] = replace(audit, labels=labels).plain()
    log.save(tmp_path / "kept")
    opened = Study.open(tmp_path / "kept")
    assert opened.form == log.form
    assert audit_of(log).labels == labels
    said = plain_findings(log, policy)
    assert said["checked_by_hand"] == 40
    assert "By 40 rows checked by hand gpt4 is right on" in said["words"]
    table = laid_out(log, audit_of(log))
    assert table["probability"].between(0, 1).all()
    assert (table["by hand"] == NONE).sum() == 6
    moved = Study(log.name, log.table, log.columns)
    moved.keep(replace(log.evidence, split=replace(log.split, test=log.split.test[:-1])))
    moved.form = log.form
    assert audit_of(moved) is None  # it is of other rows
    kept = log.form["audit"]
    damages = {"strata": ("xyz", "0", "9" * len(kept["strata"])), "names": ([],), "n": (0, None), "seed": (-1, 1e999)}
    for name, values in damages.items():
        for value in values:
            log.form["audit"] = {**kept, name: value}
            with pytest.raises(StudyError, match="draw rows again"):
                audit_of(log)
    assert plain_findings(log, policy) is None  # an export does without


def test_labels_by_people_are_not_audited(own_fitted):
    with pytest.raises(StudyError, match="People wrote the labels"):
        drawn_audit(own_fitted, policy_of_two(own_fitted), 20)


def policy_of_two(study):
    return Policy(Triage(0.6), tuple(study.column(n)[0] for n in ("rules", "classifier")))


def test_a_row_is_judged_by_a_click_or_a_key_and_a_reload_goes_on(log, own_fitted):
    at = open_page("pages/8_Audit.py", again(own_fitted))
    assert any("accuracy already" in i.value for i in at.info)
    log.use(policy_of(log))
    at = open_page("pages/8_Audit.py", log)
    at.number_input(key="audit_rows").set_value(20).run()
    at.button(key="audit_draw").click().run()
    assert not at.exception
    audit = audit_of(log)
    first = audit.next
    offered = choices(log, first)
    assert offered[0] == log.dataset.truth[log.side("test")[first]]
    assert "that is right" in at.button(key="audit_right").label
    at.button(key="audit_right").click().run()
    assert audit_of(log).labels == {first: log.classes[offered[0]]}
    second = audit_of(log).next
    at.button(key="audit_1").click().run()  # the likeliest other class
    assert audit_of(log).labels[second] == log.classes[choices(log, second)[1]]
    at.button(key="audit_back").click().run()
    assert audit_of(log).next == second
    at.button(key="audit_skip").click().run()
    assert audit_of(log).skipped == {second}
    at.toggle(key="audit_blind").set_value(True).run()
    assert not [b for b in at.button if b.key == "audit_right"]
    log.form["audit"] = judged(log, audit, np.zeros(len(log.side("test")), dtype=bool)).plain()
    at = open_page("pages/8_Audit.py", log)  # as after a reload
    assert not at.exception
    shown = {m.label: m.value for m in at.metric}
    assert shown["gpt4 is right on"] == "100.0%"
    assert "The policy at hand is right on" in shown
    assert set(policies_of(log)) == {"the policy at hand", "classifier alone"}
    at.button(key="audit_more").click().run()
    assert audit_of(log).n == 60
