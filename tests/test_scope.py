"""Out of scope: texts far from anything seen are set aside, at a threshold that promises how many of the known ones."""

import io
import json
import zipfile
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import again, labelled, study_of
from hypothesis import given
from hypothesis import strategies as st

import hybrid
from hybrid.data.columns import Columns
from hybrid.errors import BundleError, StudyError, TierError
from hybrid.metrics.scope import scope_curve, scope_numbers
from hybrid.routing.engine import Policy, Scope, replay
from hybrid.routing.patterns import Cascade, Triage
from hybrid.routing.table import NEVER, NONE, NONE_LABEL, SCOPE, UNKNOWN, Answers, Predictions, Tier
from hybrid.study.plain import from_link, link, policy_from
from hybrid.study.study import Study
from hybrid.study.terms import Terms
from hybrid.tiers import scope as scopes
from hybrid.tiers.confidence import fit_confidence
from hybrid.tiers.llm.packing import pack_llm, unpack_llm
from hybrid.tiers.llm.questions import LLMSettings
from hybrid.tiers.llm.replies import Reply
from hybrid.tiers.llm.tier import LLMTier
from hybrid.tiers.scope import fit_scope, score
from hybrid.tiers.whatif import WhatIf
from hybrid.tuning import Goal, certify

STRANGE = ("Quelle heure est-il à Paris?", "Sing me a sea shanty about whales", "")


@pytest.fixture(scope="module")
def scoped(own_fitted):
    """A study whose policy sets aside the farthest tenth."""
    study = again(own_fitted)
    study.terms = Terms(whatif=WhatIf())
    study.use(study.scoped(share=0.1))
    return study


def test_a_person_gets_what_is_set_aside_where_there_is_one_else_it_is_none_of_these():
    label, sure, free = np.array([[-1, 0, 1]] * 2), np.array([[0.99, 0.9, 0.9], [0.98, 0.9, 0.9]]), np.zeros((2, 3))
    for kind, answer, asked in (("llm", [NONE, 0], [True, False, False]), ("human", [1, 0], [True, False, True])):
        tiers = (Tier(SCOPE, SCOPE), Tier("a", "classifier"), Tier("b", kind))
        o = replay(Policy(Triage(0.5), tiers, Scope(0.99)), Predictions(tiers, ("x", "y"), label, sure, free, free))
        assert o.label.tolist() == answer
        assert o.asked.tolist() == [asked, [True, True, False]]


@pytest.mark.parametrize(
    ("kinds", "scope"),
    [(("llm", "llm", "llm"), Scope(0.9)), ((SCOPE, SCOPE, "llm"), Scope(0.9)), ((SCOPE, "llm"), None)],
)
def test_a_scope_is_scored_by_the_first_tier_alone(kinds, scope):
    with pytest.raises(TierError, match="scored by the first tier"):
        Policy(Triage(0.5), tuple(Tier(f"t{j}", kind) for j, kind in enumerate(kinds)), scope)


@given(st.lists(st.integers(0, 20), min_size=2, max_size=60))
def test_no_share_of_known_texts_scores_above_it(distances):
    known = np.sort(np.array(distances) / 20)
    n = len(known)
    # each known text as if it came next: at most a share t of n + 1 exchangeable texts scores 1 - t or more
    left_out = np.array([score(known[[i]], np.delete(known, i), farthest=1.0)[0] for i in range(n)])
    for t in (0.01, 0.05, 0.1, 0.34, 0.5):
        assert (left_out >= 1 - t - 1e-12).sum() <= t * n + 1e-9
    at = np.linspace(0, 1, 101)
    steps = 1 - (1 + (known[:, None] >= at).sum(axis=0)) / (n + 1)
    found = score(at, known, farthest=1.0)
    assert (found <= steps + 1e-9).all()  # the line is nowhere surer than the p-value
    assert (np.diff(found) >= 0).all()


def test_words_that_nobody_has_seen_make_a_text_far_and_rows_score_alone_as_in_a_batch(own_fitted):
    found = own_fitted.fitted.scope()
    texts = list(own_fitted.dataset.texts[own_fitted.split.test])
    together = found.model.answer([*texts, *STRANGE]).confidence
    np.testing.assert_array_equal(together[: len(texts)], found.answers.confidence[own_fitted.split.test])
    assert [float(found.model.answer([t]).confidence[0]) for t in (*texts[:5], *STRANGE)] == [
        *together[:5],
        *together[-3:],
    ]
    assert (together[-3:] > 0.99).all()
    again = type(found.model).from_files("scope", found.model.to_files("scope"))
    np.testing.assert_array_equal(again.answer([*texts, *STRANGE]).confidence, together)


def test_a_row_of_the_tune_side_is_not_near_itself_nor_its_fold(own_fitted):
    data, fold = own_fitted.dataset, own_fitted.split.fold
    tune = np.flatnonzero(fold >= 0)
    twice = data.texts.copy()
    odd = tune[0]
    twice[odd] = "zyx wvu tsr"  # words of its own: near to itself alone
    assert fit_scope(twice, data.truth, fold, key=data.key).answers.confidence[odd] == pytest.approx(
        1 - 1 / len(tune), abs=1e-9
    )


def test_too_few_texts_say_nothing_of_what_is_far(own_fitted):
    data = own_fitted.dataset
    with pytest.raises(TierError, match="cannot be told from 12 texts"):
        fit_scope(data.texts[:12], data.truth[:12], np.arange(12) % 3, key=data.key[:12])


def test_of_many_texts_every_class_keeps_some(monkeypatch):
    monkeypatch.setattr(scopes, "MOST_NEIGHBOURS", 10)
    truth = np.array([0] * 90 + [1] * 8 + [2] * 2)
    kept = scopes._neighbours(np.arange(100), truth, np.arange(100, dtype=np.uint64)[::-1].copy())
    assert np.bincount(truth[kept]).tolist() == [4, 4, 2]


def test_the_curve_is_what_counting_row_by_row_says():
    rng = np.random.default_rng(0)
    far, right, out = rng.choice([0.1, 0.5, 0.9, 1.0], 60), rng.random(60) < 0.8, rng.random(60) < 0.2
    curve = scope_curve(far, right, out)
    for i, t in enumerate(curve.threshold):
        aside = far >= t
        counted = [aside[~out].mean(), aside[out].mean(), right[~aside].mean() if (~aside).any() else np.nan]
        assert [curve.aside[i], curve.out[i], curve.rest[i]] == pytest.approx(counted, nan_ok=True)
        assert curve.caught[i] == pytest.approx(aside[~right].mean())
    assert curve.aside[-1] == 0


def test_the_bound_on_what_is_set_aside_holds_as_often_as_it_says():
    """The k farthest of n tune rows set the threshold; the share of fresh rows beyond it is Beta(k, n - k + 1)."""
    rng = np.random.default_rng(0)
    aside = np.arange(500) < 10
    found = scope_numbers(aside, ~aside, np.zeros(500, dtype=bool))
    assert 0.88 < (rng.beta(10, 491, 4000) <= found.bound).mean() <= 0.97


def test_rows_that_are_labelled_as_out_of_scope_are_right_when_set_aside():
    frame = labelled(240)
    rng = np.random.default_rng(5)
    strange = [" ".join("".join(rng.choice(list("aeioukzvx"), 7)) for _ in range(8)) for _ in range(60)]
    data = pd.concat([frame, pd.DataFrame({"text": strange, "label": "oos"}, dtype=object)], ignore_index=True)
    study = Study("oos.csv", data, Columns("label", text="text")).fit()
    assert study.out_class == "oos"
    assert study.classes[study.scoped(study.cheap_alone).scope.label] == "oos"
    policy = study.scoped(study.cheap_alone, share=0.05)
    on = study.measure(policy, "test")
    far = on.outcomes.tier == 0
    out = on.graded.truth == study.classes.index("oos")
    assert far[out].mean() > 0.9  # none of them counted as known, so they are far from what is
    assert (on.outcomes.label[out & far] == on.graded.truth[out & far]).all()
    study.terms = Terms(out_of_scope="")  # the user says that there is no such class
    assert study.scoped(study.cheap_alone).scope.label == NONE


def test_a_suggestion_keeps_the_scope_before_every_way_and_counts_what_it_costs(scoped):
    found = scoped.aside().recommend(Goal("cheapest", floor=0.5), seconds=5)  # as the page searches
    assert found.policy.scope == scoped.policy.scope
    assert all(c.policy.scope == scoped.policy.scope for c in found.candidates)
    on = scoped.measure(found.policy, "tune")
    assert found.tune == on.summary
    aside = on.outcomes.tier == 0
    assert 0 < aside.mean() <= 0.1
    assert not (on.outcomes.label[aside] == on.graded.truth[aside]).any()  # nobody labelled such rows: all are mistakes


def test_the_selective_risk_is_of_answers_about_what_is_not_set_aside(scoped):
    policy = scoped.policy
    on = scoped.graded(policy.names, "tune")
    inside = ~policy.set_aside(on.predictions)
    found = certify(policy, on.predictions, on.truth, alpha=0.2)
    bare = certify(policy.bare, on.predictions.take(inside), on.truth[inside], alpha=0.2)
    assert found.n_rows == inside.sum() < len(on)
    assert (found.policy.scope, found.policy.bare) == (policy.scope, bare.policy)


def test_a_link_and_a_project_bring_the_scope_back_and_old_ones_open_without(scoped, tmp_path):
    policy = scoped.policy
    stored, terms = from_link(link(policy, scoped.terms, scoped.classes))
    assert policy_from(stored, scoped.every_tier(terms), scoped.classes) == policy
    del stored["scope"]
    stored["tiers"].pop(0)
    assert policy_from(stored, scoped.tiers, scoped.classes) == policy.bare
    scoped.save(tmp_path)
    opened = Study.open(tmp_path)
    assert opened.policy == policy
    assert opened.measure().summary == scoped.measure().summary


def test_a_bundle_sets_aside_what_the_dashboard_did_and_says_so(scoped):
    content = scoped.export()
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        assert json.loads(packed.read("policy.json"))["scope"] == {"threshold": 0.9, "answer": None}
    on = scoped.headline()
    outcomes = on.outcomes
    texts = [str(t) for t in scoped.dataset.texts[on.graded.rows]]
    whatif = scoped.policy.names[-1]
    column = dict(zip(texts, scoped.column(whatif)[1].label[on.graded.rows], strict=True))
    pipeline = hybrid.load(
        content, models={whatif: lambda ts: [hybrid.Answer(scoped.classes[column[t]], 0.9) for t in ts]}
    )
    names = [*scoped.classes, NONE_LABEL, None]
    decisions = pipeline.decide(texts)
    assert [(d.label, d.tier) for d in decisions] == [
        (names[c], scoped.policy.names[t]) for c, t in zip(outcomes.label, outcomes.tier, strict=True)
    ]
    aside = next(d for d in decisions if d.tier == SCOPE)
    assert [s.tier for s in aside.trace] == [SCOPE]
    assert pipeline(STRANGE[1]).label == NONE_LABEL


def test_known_texts_of_a_bundle_that_do_not_fit_are_refused(own_fitted):
    m = own_fitted.fitted.scope().model
    with pytest.raises(BundleError, match="do not fit its words"):
        type(m)(m.terms, m.idf, m.unseen, m.data, m.indices + 10_000, m.indptr, m.distances)


def test_without_texts_there_is_nothing_to_be_far_from(recording):
    study = study_of(recording)
    with pytest.raises(StudyError, match=r"must be in \[0, 1\]"):
        study.scoped(study.cheap_alone, share=5)
    assert study.scoped(study.cheap_alone, share=0).scope.threshold == NEVER


def test_an_llm_may_say_none_of_these_only_where_it_is_let(own_fitted):
    classes = own_fitted.classes
    plain = LLMSettings("llm", "m")
    let = replace(plain, none_of_these=True)
    enum = [
        s.request("hi", classes)["response_format"]["json_schema"]["schema"]["properties"]["label"]["enum"]
        for s in (plain, let)
    ]
    assert enum == [list(classes), [*classes, NONE_LABEL]]
    assert NONE_LABEL in let.request("hi", classes)["messages"][0]["content"]
    assert let.offered(classes, [("a", classes[0])]) == [*classes, NONE_LABEL]
    assert replace(let, examples=1, near_classes_only=True).offered(classes, [("a", classes[0])]) == [
        classes[0],
        NONE_LABEL,
    ]
    named = (*classes, "None of These")  # a class of the data stands for itself
    assert [s.read('{"label": "none of these"}', c) for s, c in ((plain, classes), (let, classes), (let, named))] == [
        UNKNOWN,
        NONE,
        len(classes),
    ]
    assert (plain.check("none of these", classes), let.check("none of these", classes)) == ("unknown_label", "ok")
    answers = LLMTier(let, classes, usual=0.9).answers([Reply("ok", '{"label": "none of these"}', 0.8)])
    assert (answers.label.tolist(), answers.confidence.tolist()) == ([NONE], [0.8])
    packed, files = pack_llm(LLMTier(let, classes), "examples.json")
    assert unpack_llm(packed, classes, files).settings == let
    del packed["settings"]["none_of_these"]  # as bundles had it before
    assert unpack_llm(packed, classes, files).settings == plain


def test_none_of_these_ends_a_text_and_is_learned_nothing_of(own_fitted):
    tiers = (Tier("a", "llm"), Tier("b", "llm"))
    sure = np.array([[0.8, 1.0], [0.3, 1.0]])
    o = replay(
        Policy(Triage(0.5), tiers), Predictions(tiers, ("x", "y"), np.array([[NONE, 1]] * 2), sure, 0 * sure, 0 * sure)
    )
    assert o.label.tolist() == [NONE, 1]
    said = Answers(np.where(np.arange(200) % 10 == 0, NONE, 0), np.full(200, 0.75), np.zeros(200), np.zeros(200))
    chances = np.tile(np.array([0.6, 0.4], dtype=np.float32), (200, 1))
    learned = fit_confidence(said, np.arange(200) % 2, np.arange(200) % 5, chances=chances).model.apply(said, chances)
    assert (learned.confidence[said.label == NONE] == 0.75).all()
    assert (learned.confidence[said.label == 0] != 0.75).all()


def test_a_function_and_a_column_may_say_none_of_these(recording):
    policy = Policy(Cascade(()), (recording.predictions.tiers[recording.predictions.index("llm")],))
    content = study_of(recording).export(policy)
    said = ("None of these", "billing", "no class")
    decisions = hybrid.load(content, models={"llm": lambda ts: [hybrid.Answer(s, 0.9) for s in said]}).decide(["?"] * 3)
    assert [d.label for d in decisions] == [NONE_LABEL, "billing", None]
