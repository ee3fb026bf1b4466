"""Assisted triage: a person picks from a classifier's three likeliest answers, in production as on the screen."""

import io
import json
import zipfile

import numpy as np
import pytest
from conftest import again

import hybrid
from hybrid.errors import BundleError
from hybrid.production.archive import pack_files
from hybrid.routing.engine import Policy
from hybrid.routing.patterns import Assisted, Triage
from hybrid.routing.table import TOP, likeliest
from hybrid.study.plain import from_link, link, policy_from
from hybrid.study.study import Study
from hybrid.study.terms import Terms
from hybrid.tiers.human import Assist, Human
from hybrid.tuning import Goal

PICKER = "person (top 3 of classifier)"


@pytest.fixture(scope="module")
def assisted(own_fitted):
    """A study in which a person may pick, and the policy in which one does."""
    study = again(own_fitted)
    study.terms = Terms(human=Human(), assist=Assist())
    study.use(study.start("assisted"))
    return study


def test_a_pick_is_right_only_where_the_right_answer_is_shown_and_else_is_one_of_those_shown():
    rng = np.random.default_rng(0)
    truth, key = rng.integers(0, 6, 4000), rng.integers(0, 2**63, 4000).astype(np.uint64)
    likely = np.argsort(rng.random((4000, 6)), axis=1)[:, :TOP]
    found = Assist(accuracy=0.9).answer(truth, key, likely)
    shown = (likely == truth[:, None]).any(axis=1)
    right = found.label == truth
    assert not right[~shown].any()
    assert right[shown].mean() == pytest.approx(0.9, abs=0.02)
    assert (likely == found.label[:, None]).any(axis=1).all()
    assert set(np.round(found.confidence, 9)) == {round(0.9 * float(shown.mean()), 9)}
    half = Assist(accuracy=0.9).answer(truth[:50], key[:50], likely[:50])
    np.testing.assert_array_equal(half.label, found.label[:50])  # whatever rows are around it


def test_the_likeliest_answers_are_out_of_fold_and_the_first_of_them_is_the_answer(assisted):
    likely = assisted.evidence.likely["classifier"]
    said = assisted.column("classifier")[1].label
    np.testing.assert_array_equal(likely[:, 0], said)
    texts = [str(t) for t in assisted.dataset.texts[assisted.split.test]]
    np.testing.assert_array_equal(assisted.models["classifier"].answer_likely(texts)[1], likely[assisted.split.test])
    assert likeliest(np.array([[0.5, 0.5]])).tolist() == [[0, 1]]


def test_picking_starts_with_the_person_last_and_is_tried_by_a_search(assisted):
    assert assisted.policy.names == ("classifier", PICKER, "person")
    found = assisted.recommend(Goal("cheapest", floor=0.9), seconds=10)
    assert "assisted" in found.fronts
    picked = [c for c in found.candidates if PICKER in c.policy.names]
    assert picked, "somebody who picks is cheaper than an empty form"
    assert {type(c.policy.pattern) for c in picked} <= {Assisted, Triage}
    assert found.selection is None or found.selection.reference != PICKER


def test_without_a_person_nobody_picks(assisted):
    study = again(assisted)
    study.terms = Terms(assist=Assist())
    assert PICKER not in [t.name for t in study.tiers]
    assert study.start("assisted") is None


def test_a_link_and_a_project_bring_who_picks_back(assisted, tmp_path):
    stored, terms = from_link(link(assisted.policy, assisted.terms, assisted.classes))
    assert terms == assisted.terms
    assert policy_from(stored, assisted.every_tier(terms), assisted.classes) == assisted.policy
    assisted.save(tmp_path)
    opened = Study.open(tmp_path)
    assert opened.policy == assisted.policy
    assert opened.measure().summary == assisted.measure().summary


def test_who_picks_is_shown_the_answers_in_production_and_the_trace_holds_them(assisted):
    policy = Policy(Assisted(0.9, 0.3), assisted.policy.tiers)
    on = assisted.headline(policy)
    texts = [str(t) for t in assisted.dataset.texts[on.graded.rows]]
    said = {
        name: dict(zip(texts, assisted.column(name)[1].label[on.graded.rows], strict=True)) for name in policy.names
    }
    shown = {}

    def pick(texts, likely):
        shown.update(zip(texts, likely, strict=True))
        return [hybrid.Answer(assisted.classes[said[PICKER][t]], 0.9) for t in texts]

    def person(texts):
        return [hybrid.Answer(assisted.classes[said["person"][t]], 0.9) for t in texts]

    pipeline = hybrid.load(assisted.export(policy), models={PICKER: pick, "person": person})
    decisions = pipeline.decide(texts)
    expected = [
        (assisted.classes[c], policy.names[t]) for c, t in zip(on.outcomes.label, on.outcomes.tier, strict=True)
    ]
    assert [(d.label, d.tier) for d in decisions] == expected
    names = np.array(assisted.classes, dtype=object)
    likely = [tuple(names[row]) for row in assisted.evidence.likely["classifier"][on.graded.rows]]
    assert [d.trace[0].likely for d in decisions] == likely
    picked = {t: row for t, row, d in zip(texts, likely, decisions, strict=True) if d.tier == PICKER}
    assert picked
    assert shown == picked
    pipeline.rehearse()  # the functions are given what they are given at work


def test_a_bundle_in_which_nobody_knows_what_is_shown_is_refused(assisted):
    with zipfile.ZipFile(io.BytesIO(assisted.export())) as packed:
        files = {name: packed.read(name) for name in packed.namelist() if name != "manifest.json"}
    policy = json.loads(files["policy.json"])
    assert policy["tiers"][1]["picks_from"] == "classifier"
    policy["tiers"][0] |= {"model": "external", "files": None}
    files["policy.json"] = json.dumps(policy).encode()
    with pytest.raises(BundleError, match="picks from the likeliest answers of 'classifier'"):
        hybrid.load(pack_files(files), models={n: lambda texts: [] for n in assisted.policy.names})
