"""The study: one measure for everything, one column a tier, one policy at hand, and a project that keeps it all."""

from __future__ import annotations

import base64
import gc
import json
import os
import select
import signal
import time
import weakref
import zlib
from dataclasses import replace

import numpy as np
import pytest
from conftest import again, labelled, study_of

from hybrid.data.columns import Columns, RecordedColumns
from hybrid.errors import StudyError
from hybrid.production.bundle import load_bundle
from hybrid.production.promise import evaluate, read_labelled
from hybrid.routing.engine import Policy
from hybrid.routing.patterns import Ensemble, Triage
from hybrid.routing.table import NEVER, Answers, Tier
from hybrid.study import evidence, project, promises
from hybrid.study.answers import answered
from hybrid.study.defaults import members
from hybrid.study.evidence import CLASSIFIER
from hybrid.study.plain import from_link, link, plain, policy_from
from hybrid.study.study import Study
from hybrid.study.terms import Terms
from hybrid.tiers.human import Human
from hybrid.tiers.llm.questions import LLMSettings
from hybrid.tiers.llm.replies import Reply
from hybrid.tiers.rules import Edits
from hybrid.tiers.whatif import WhatIf
from hybrid.tuning import CHEAPEST, Goal


def fitted(*, both=0.5):
    """Two recorded LLMs of which each answered some rows, and `both` the share that both did."""
    frame = labelled(200, seed=3)
    at = np.arange(len(frame))
    large, small = at % 10 < 5 + 5 * both, at % 10 >= 5 - 5 * both
    frame["large"] = np.where(large, np.where(at % 13 == 0, "billing", frame["label"]), "")
    frame["small"] = np.where(small, np.where(at % 7 == 0, "billing", frame["label"]), "")
    llms = tuple(RecordedColumns(n, n, price=p, blank_is_failure=False) for n, p in (("small", 0.001), ("large", 0.01)))
    return Study("two", frame, Columns("label", text="text", recorded=llms)).fit()


@pytest.fixture(scope="module")
def overlap():
    return fitted()


@pytest.fixture(scope="module")
def disjoint():
    return fitted(both=0)


def triage(study, strong, threshold=0.8):
    return study.bind(Policy(Triage(threshold), (study.column(CLASSIFIER)[0], study.column(strong)[0])))


MIX = (("billing", 2.0), ("shipping", 1.0), ("technical", 1.0))


@pytest.mark.parametrize(("which", "mix"), [("overlap", ()), ("overlap", MIX), ("disjoint", ())])
def test_every_way_to_a_number_is_the_same_number(which, mix, request):
    study = again(request.getfixturevalue(which))
    study.terms = Terms(mix=mix)
    best = study.recommend(Goal(CHEAPEST, floor=0.85), seconds=5)
    for side, said in (("tune", best.tune), ("test", best.test)):
        assert said == study.measure(best.policy, side).summary
        assert said == study.compare([best.policy], side)[0][0]
        alone = [study.column(n)[1].confidence[study.side(side)] for n in best.policy.names]
        assert mix or said.n_rows == int((~np.isnan(alone)).all(axis=0).sum())


def test_pairs_are_compared_on_the_rows_that_both_answered(overlap, disjoint):
    pair = [triage(overlap, "large"), triage(overlap, "small")]
    rows = overlap.side("test")
    n = int((~np.isnan([overlap.column(x)[1].confidence[rows] for x in ("large", "small")])).all(axis=0).sum())
    (first, _), (_, difference) = overlap.compare(pair)
    assert 0 < first.n_rows == n < overlap.measure(pair[0]).n_rows
    assert overlap.against(pair[1], pair[0]).accuracy.value == pytest.approx(-overlap.against(*pair).accuracy.value)
    assert difference is not None
    apart = [triage(disjoint, "large"), triage(disjoint, "small")]
    assert disjoint.compare(apart) == []
    assert disjoint.against(*apart) is None


def test_terms_replace_a_column_and_copy_no_other(recording):
    study = study_of(recording, prices=(("llm", 0.01),), whatif=WhatIf(), human=Human())
    own, table = study.column(CLASSIFIER)[1], recording.predictions
    assert np.shares_memory(own.label, table.label)
    assert np.shares_memory(own.latency, table.latency)
    tier, answers = study.column("llm")
    assert tier.price == pytest.approx(np.nanmean(answers.cost)) == 0.01
    assert np.shares_memory(answers.label, table.label)
    assert np.nanmean(table.cost[:, table.index("llm")]) == pytest.approx(0.003)  # what was recorded stays


def test_a_bundle_of_a_router_that_sends_everything_on_is_read(own_fitted):
    study = again(own_fitted)
    study.terms = Terms(whatif=WhatIf())
    router = study.start("router")
    bundle = load_bundle(study.export(replace(router, pattern=replace(router.pattern, thresholds=(NEVER,)))))
    assert bundle.reference.confidence.counts == [0]  # nobody asked the tier whose confidence is watched


def test_use_undo_and_pins(own_fitted):
    study = again(own_fitted)
    assert study.policy is None or study.policy.tiers[-1].kind != "rules"  # rules never decide what is left over
    study.terms = Terms(whatif=WhatIf())
    before, mine = study.policy, triage(study, WhatIf().tier.name, 0.0)
    study.use(mine)
    assert study.policy == mine
    assert study.pin()
    assert not study.pin()
    study.undo()
    assert study.policy == before
    study.terms = Terms()
    assert study.pinned == []  # its tier is switched off
    with pytest.raises(StudyError, match="no tier called"):
        study.use(mine)


def test_a_pattern_starts_with_as_many_tiers_as_it_takes_the_strongest_at_the_end():
    class Three(Ensemble):
        min_tiers = max_tiers = 3

    kinds = ("rules", "classifier", "recorded", "recorded", "recorded")
    tiers = [Tier(name, kind) for name, kind in zip("abcde", kinds, strict=True)]
    accuracy = dict(zip("abcde", (0.1, 0.7, 0.8, 0.95, 0.9), strict=True))
    assert [t.name for t in members(Three, tiers, accuracy)] == ["b", "c", "d"]
    assert [t.name for t in members(Ensemble, tiers, accuracy)] == ["b", "c", "d", "e"]


@pytest.mark.parametrize("pattern", [Triage(0.0), Triage(NEVER), Triage(0.5, by_class=(0.25, None, NEVER))])
def test_a_link_says_all_of_it(recording, pattern):
    terms = Terms(prices=(("llm", 0.0),), mix=(("billing", 1.0), ("shipping", 2.0)), human=Human(cost=1.0))
    study = study_of(recording)
    study.terms = terms
    policy = Policy(pattern, (study.column(CLASSIFIER)[0], study.column("llm")[0]))
    said, found = from_link(link(policy, terms, study.classes))
    assert found == terms
    assert policy_from(said, study.tiers, study.classes) == policy
    made = (base64.urlsafe_b64encode(zlib.compress(what)).decode() for what in (b"1", b"[{}]", b"[" * 9_000))
    for wrong in ("", "x", link(policy, terms, study.classes)[:-9], *made):
        with pytest.raises(StudyError, match="damaged"):
            from_link(wrong)
    for wrong in ({"order": None}, {"confidence": 0.0}, {"order": 1}):
        with pytest.raises(StudyError, match="terms cannot be read"):
            Terms.from_plain(wrong)


@pytest.fixture
def kept(overlap, tmp_path):
    overlap.terms = Terms(prices=(("large", 0.02),), mix=(("billing", 1.0), ("shipping", 1.0)), volume=7)
    overlap.form = {"prompt": "Say which."}
    found = overlap.recommend(Goal(CHEAPEST, floor=0.5), policies=[triage(overlap, "large")])
    overlap.use(found.policy)
    overlap.certify(alpha=0.4)
    overlap.pin()
    overlap.save(tmp_path / "kept")
    yield tmp_path / "kept"
    overlap.terms = Terms()
    overlap.pins.clear()


def test_a_project_brings_everything_back(overlap, kept):
    found = Study.open(kept)
    for what in ("name", "columns", "edits", "terms", "policy", "pinned", "form", "key", "seconds", "notes", "tiers"):
        assert getattr(found, what) == getattr(overlap, what), what
    assert found.table.values.tolist() == overlap.table.values.tolist()
    labels = found.table["label"].tolist()
    assert len(set(map(id, labels))) == len(set(labels))  # equal strings are one: sessions hold many tables
    assert found.measure().summary == overlap.measure().summary
    back, left = promises.suggestion_for(found, found.policy), overlap.suggested.found
    assert plain(back, found.classes) == plain(left, overlap.classes)  # where nan is None, which equals itself
    assert promises.certificate_for(found, overlap.certified.found.policy) == overlap.certified.found
    found.terms = Terms()  # what was promised on other terms is not promised now, and comes back with them
    assert promises.certificate_for(found, found.bind(overlap.certified.found.policy)) is None
    found.save(kept)
    found = Study.open(kept)
    found.terms = overlap.terms
    assert promises.certificate_for(found, overlap.certified.found.policy) is not None


def test_sessions_of_the_same_data_hold_them_once_and_nothing_else_in_common(overlap, kept):
    one, other = Study.open(kept), Study.open(kept)
    assert (one.table is other.table, one.evidence is other.evidence) == (True, True)
    one.terms = Terms()
    one.undo()
    one.unpin(one.pins[0].name)
    one.add([])
    assert (other.terms, other.pinned, other.policy) == (overlap.terms, overlap.pinned, overlap.policy)
    held = weakref.ref(one.shared)
    del one, other
    gc.collect()
    assert held() is None  # with the last of them
    (data,) = kept.glob("data-*")
    one = Study.open(kept)
    with np.load(data / project.ANSWERS) as packed:
        arrays = dict(packed)
    np.savez(data / project.ANSWERS, **{**arrays, "cost": arrays["cost"] + 1})
    assert Study.open(kept).evidence is not one.evidence  # of the same name and rows, and other answers


def test_what_was_learned_comes_back_with_a_project_and_is_not_learned_again(overlap, tmp_path, monkeypatch):
    study = again(overlap)
    truth, rng = study.dataset.truth, np.random.default_rng(0)
    for name, right in (("told by its texts", truth > 0), ("at random", rng.random(len(truth)) < 0.5)):
        named = [study.classes[t if r else t - 1] for t, r in zip(truth, right, strict=True)]
        said = [Reply("ok", json.dumps({"label": c})) for c in named]
        asked = answered(LLMSettings(name, "m"), study.evidence, np.arange(len(truth)), said, cheap=CLASSIFIER)
        study.add([*study.llms, asked])
    assert (list(study.answers.gates), list(study.no_gate)) == (["trained gate for told by its texts"], ["at random"])
    study.save(tmp_path)

    def everything(of):
        columns = [of.column(t.name) for t in of.tiers]
        known = [of.confidence(t.name) for t in of.tiers]
        models = [k and (k.said, k.learned, k.fitted.better, k.fitted.reason, k.fitted.model) for k in known]
        files = [m and (*m[:-1], m[-1] and (m[-1].to_files("x"), m[-1].reader is not None)) for m in models]
        return [(tier, [getattr(a, x).tobytes() for x in Answers.__slots__]) for tier, a in columns], files, of.no_gate

    before = everything(study)
    with monkeypatch.context() as without:
        for learns in ("fit_confidence", "fit_gates"):
            without.setattr(evidence, learns, lambda *_, **__: pytest.fail("learned again"))
        assert everything(Study.open(tmp_path)) == before
    (data,) = tmp_path.glob("data-*")
    with np.load(data / project.ANSWERS) as packed:
        arrays = dict(packed)
    arrays["fold"] = np.roll(arrays["fold"], 1)  # of other folds: what rests on the old ones is not taken
    np.savez(data / project.ANSWERS, **arrays)
    monkeypatch.setattr(evidence, "fit_confidence", lambda *_, **__: pytest.fail("learned again"))
    with pytest.raises(pytest.fail.Exception):
        everything(Study.open(tmp_path))


def test_a_bundle_costs_on_the_same_rows_what_the_study_says(overlap, kept, tmp_path):
    overlap.terms = Terms(prices=(("large", 0.02),))  # of a file that does not say what its answers cost
    policy = triage(overlap, "large")
    on = overlap.measure(policy)
    overlap.export(policy, tmp_path / "policy.zip")
    overlap.table.iloc[on.graded.rows].drop(columns="small").to_csv(tmp_path / "test.csv", index=False)
    found = evaluate(str(tmp_path / "policy.zip"), read_labelled(str(tmp_path / "test.csv")))
    assert (found.n_rows, found.accuracy.value) == (on.n_rows, on.summary.accuracy.value)
    assert found.cost_per_1000 == pytest.approx(on.summary.cost_per_1000.value, rel=1e-12)


def test_a_project_that_cannot_be_read_is_said(kept):
    said = json.loads((kept / "project.json").read_text())
    for wrong, words in (({"format": 99}, "format 99"), ({"data": "data-0"}, "damaged"), ({"terms": 3}, "cannot be")):
        (kept / "project.json").write_text(json.dumps(said | wrong))
        with pytest.raises(StudyError, match=words):
            Study.open(kept)
    said["suggested"]["found"]["candidates"] = [{"of": "another version"}]
    (kept / "project.json").write_text(json.dumps(said))
    assert Study.open(kept).suggested is None  # it can be searched again
    (kept / "project.json").write_text("{")
    with pytest.raises(StudyError, match="no such project"):
        Study.open(kept)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process")
def test_a_kill_in_the_middle_leaves_the_old_or_the_new_state(tmp_path, monkeypatch):
    frame = labelled(60).assign(llm=lambda t: t["label"], sure="0.9")
    llm = RecordedColumns("llm", "llm", confidence="sure")
    study = Study("soon opened", frame, Columns("label", recorded=(llm,))).fit()  # without texts nothing is fitted
    study.save(tmp_path)
    rng, seen = np.random.default_rng(0), set()
    for saves, wait in zip(rng.integers(0, 3, 30), rng.uniform(0, 0.03, 30), strict=True):
        told, tell = os.pipe()
        child = os.fork()
        if child == 0:
            while True:
                study.name = f"{time.time_ns()}"
                study.edits = Edits(frozenset(), ((f"word{study.name}", 0),))  # other data each time
                study.save(tmp_path)
                os.write(tell, b".")
        for _ in range(saves):  # however slow the machine is
            assert select.select([told], [], [], 30)[0]
            os.read(told, 1)
        time.sleep(wait)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(told)
        os.close(tell)
        found = Study.open(tmp_path)
        assert not found.edits.added or found.edits.added[0][0] == f"word{found.name}"
        seen.add(found.name)
    assert len(seen) > 10
    monkeypatch.setattr(project, "YOUNG", -1.0)
    found.save(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2  # what the killed left half-written is gone
