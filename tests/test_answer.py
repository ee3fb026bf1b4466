"""The answer: which verdict a policy gets, on numbers that Tune and Compare show too; and its card."""

import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import again, study_of
from test_dashboard import open_page

from hybrid.dashboard import answer as card
from hybrid.dashboard.compare import frontier
from hybrid.data.columns import Columns, RecordedColumns
from hybrid.routing.engine import Policy
from hybrid.routing.patterns import Triage
from hybrid.routing.table import Tier
from hybrid.study.answer import answer_of, better, cheaper, unpriced
from hybrid.study.gallery import BANKING77, SETS, YELP
from hybrid.study.graded import alone
from hybrid.study.promises import Suggested
from hybrid.study.study import Study
from hybrid.tiers.whatif import WhatIf
from hybrid.tuning.search import search, search_by_class


@pytest.fixture(scope="module")
def searched(recording):
    study = study_of(recording)
    return study, study.aside().recommend(seconds=5)


def found_for(policy, contradiction=None, front=()):
    return SimpleNamespace(policy=policy, contradiction=contradiction, front=front)


@pytest.fixture(scope="module")
def gallery_studies():
    return {one.name: one.study().fit() for one in SETS}


def two_models(n, *, price, cheap=0.8, dear=0.9, **big):
    """Return a fitted study without texts, of a model that knows when it is right, and a dearer one."""
    rng = np.random.default_rng(3)
    truth, right = rng.integers(0, 2, n), rng.random((2, n)) < [[cheap], [dear]]
    names = np.array(["bad", "good"], dtype=object)
    frame = pd.DataFrame({"label": names[truth]}, dtype=object)
    frame["small"], frame["big"] = (names[np.where(r, truth, 1 - truth)] for r in right)
    frame["sure"] = np.where(right[0], "0.9", "0.6")
    models = (
        RecordedColumns("small", "small", confidence="sure", price=1e-6),
        RecordedColumns("big", "big", price=price, **big),
    )
    return Study("two models", frame, Columns("label", recorded=models)).fit()


def triage(study, threshold):
    return Policy(Triage(threshold), tuple(t for n in ("small", "big") for t in study.tiers if t.name == n))


def test_the_numbers_are_those_of_the_study(searched):
    study, found = searched
    said = answer_of(study, found)
    assert said.measured == study.compare([study.llm_alone, found.policy])[1][0]
    assert said.difference == study.against(found.policy, study.llm_alone)
    assert said.llm_month == study.terms.month(study.measure(study.llm_alone).summary.cost_per_1000.value)


def test_the_llm_alone_is_kept(searched):
    study, _ = searched
    assert answer_of(study, found_for(study.llm_alone)).kind == "keep"


def test_what_is_cheaper_and_as_good_saves_and_few_rows_say_nothing():
    many, few = (two_models(n, price=0.003) for n in (900, 60))
    said = answer_of(many, found_for(triage(many, 0.8)))
    assert said.kind == "saves"
    assert said.saving == pytest.approx(1 - said.month / said.llm_month)
    assert 0.7 < said.saving < 0.9
    assert answer_of(many, found_for(triage(many, 0.8)), triage(many, 0.0)).kind == "point"  # 10 points worse
    assert answer_of(few, found_for(triage(few, 0.8))).kind == "too_few"
    assert "label about" in card.headline(few, answer_of(few, found_for(triage(few, 0.8))))


def test_what_an_unpriced_llm_costs_is_never_said():
    study = two_models(900, price=0.0)
    said = answer_of(study, found_for(triage(study, 0.8)))
    assert (said.kind, said.unpriced) == ("unpriced", ("big",))
    words = card.headline(study, said) + card.against(said) + "".join(card.details(said))
    assert "$" not in words
    assert "price unknown" in words
    assert unpriced(study, alone(Tier("asked here", "llm"))) == ()  # its price was typed, 0 where it runs here
    free = two_models(60, price=0.0, free=True)
    assert unpriced(free, free.llm_alone) == ()
    study.terms = replace(study.terms, prices=(("big", 0.003),))
    assert answer_of(study, found_for(study.bind(said.policy))).kind == "saves"


def test_test_against_tune_is_said_of_the_recommended_policy_only():
    study = two_models(900, price=0.003)
    found = found_for(triage(study, 0.8), SimpleNamespace(words="less than tune"))
    assert answer_of(study, found).contradiction == "less than tune"
    assert answer_of(study, found, triage(study, 0.95)).contradiction is None


def test_each_public_set_shows_what_is_said_of_it(gallery_studies):
    bank, yelp = gallery_studies.values()
    right = bank.accuracy("test")
    assert "about 20 points" in BANKING77.lesson
    assert 0.18 < right["classifier"] - max(v for k, v in right.items() if k[0].isupper()) < 0.24
    # whatever policy is recommended while the LLMs' prices are unknown
    said = answer_of(bank, found_for(bank.policy))
    assert (said.kind, said.policy) == ("drop", bank.cheap_alone)
    assert "Drop your LLM: classifier beats it by 20." in card.headline(bank, said)

    tiers = {t.name: t for t in yelp.tiers}
    assert max(yelp.tiers, key=lambda t: t.price).name == "Baidu"
    assert yelp.accuracy("test")["Baidu"] == pytest.approx(0.5, abs=0.03)
    pair = Policy(Triage(), (tiers["Amazon"], tiers["Google"]))
    on = yelp.graded(pair.names, "tune")
    for find, saved in ((search, 23), (search_by_class, 26)):
        said = answer_of(yelp, found_for(find(pair, on.predictions, on.truth, yelp.usual_goal()).policy))
        assert f"{saved}%" in YELP.lesson
        assert round(100 * said.saving) == saved
        assert not said.difference.told_apart
        assert (said.side, said.n_rows) == ("test", 6000)


def test_what_a_search_left_untried_is_said():
    job = SimpleNamespace(cancelled=threading.Event(), found=SimpleNamespace(effort=SimpleNamespace(left=3, ways=40)))
    assert card.unfinished(job).startswith("3 of 40 ways")
    job.found.effort.left = 0
    assert not card.unfinished(job)
    job.cancelled.set()
    assert "stopped" in card.unfinished(job)


def test_a_search_is_stopped_by_cancel(monkeypatch):
    monkeypatch.setattr("hybrid.study.worker.apart", lambda work, *, report, stopped, grace: work(report, stopped))

    def recommend(goal, *, policies, progress, cancel, seconds):
        while not cancel():
            time.sleep(0.01)
        return "the best so far"

    study = SimpleNamespace(
        token="t",
        terms=None,
        suggested=None,
        usual_goal=lambda: None,
        aside=lambda: SimpleNamespace(recommend=recommend, table=pd.DataFrame()),
    )
    job = card.begin(study)
    assert job.running
    job.cancelled.set()
    job.wait()
    assert job.found == "the best so far"


def test_without_a_real_llm_the_card_says_what_one_would_buy(own_fitted):
    study = again(own_fitted)
    assert answer_of(study, found_for(study.cheap_alone)).kind == "no_llm"
    study.terms = replace(study.terms, whatif=WhatIf())
    said = answer_of(study, found_for(study.cheap_alone))
    assert (said.kind, said.simulated) == ("no_llm", True)
    assert "would buy nothing" in card.headline(study, said)
    said = answer_of(study, found_for(study.start("triage")))
    assert "would buy" in card.headline(study, said)
    assert "nothing" not in card.headline(study, said)


def test_steps_along_the_front_cost_less_and_are_right_more_often(searched):
    _, found = searched
    first = found.front[0]
    down, up = cheaper(found, found.front[-1].policy), better(found, first.policy)
    assert down is None or down.cost_per_1000 < found.front[-1].cost_per_1000
    assert up is None or up.accuracy > first.accuracy


def test_the_card_says_what_the_study_says(sample_fitted, monkeypatch):
    monkeypatch.setattr(card, "WAIT", True)
    study = again(sample_fitted)
    at = open_page("app.py", study)
    assert not at.exception
    said = answer_of(study, study.suggested.found)
    assert said.kind == "saves"
    assert any(card.headline(study, said) in m.value for m in at.markdown)
    step = next(b for b in at.button if b.key in ("answer_Cheaper", "answer_More accurate") and not b.disabled)
    step.click().run()
    assert study.chosen
    assert study.policy != said.policy
    at.button(key="answer_back").click().run()
    assert any(card.headline(study, said) in m.value for m in at.markdown)
    at.button(key="answer_show").click().run()
    assert not at.exception
    assert study.policy == said.policy


def test_one_tier_alone_that_is_recommended_is_at_hand_and_tune_offers_what_can_be_dragged():
    study = two_models(900, price=0.003)
    found = study.aside().recommend(seconds=2)
    study.suggested = Suggested(study.terms, replace(found, policy=study.llm_alone))
    at = open_page("pages/1_Tune.py", study)
    assert not at.exception
    assert study.policy == study.llm_alone
    at.button(key="try").click().run()
    assert not at.exception
    assert study.policy.names == ("small", "big")
    assert not study.policy.simulated


def test_compare_takes_over_what_the_card_has_found(searched):
    study, found = searched
    study.suggested = Suggested(study.terms, found)
    assert not found.effort.left
    assert frontier.found_for(study, found.goal) is found


def test_what_a_project_keeps_is_not_searched_for_again(searched):
    study, found = searched
    study.suggested = Suggested(study.terms, found)
    job = card.begin(study)
    assert not job.running
    assert job.found is found
    study.suggested = Suggested(replace(study.terms, prices=(("llm", 9.0),)), found)  # under other prices it is
    job = card.begin(study)
    job.cancelled.set()
    assert job.found is not found
    job.wait()
