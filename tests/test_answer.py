"""The answer: which verdict a policy gets, on numbers that Tune and Compare show too; and its card."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from conftest import again, study_of
from test_dashboard import open_page

from hybrid.dashboard import answer as card
from hybrid.study.answer import answer_of, better, cheaper
from hybrid.tiers.whatif import WhatIf


@pytest.fixture(scope="module")
def searched(recording):
    study = study_of(recording)
    return study, study.aside().recommend(seconds=5)


def found_for(policy, contradiction=None):
    return SimpleNamespace(policy=policy, contradiction=contradiction)


def test_the_numbers_are_those_of_the_study(searched):
    study, found = searched
    said = answer_of(study, found)
    assert said.measured == study.compare([study.llm_alone, found.policy])[1][0]
    assert said.difference == study.against(found.policy, study.llm_alone)
    assert said.llm_month == study.terms.month(study.measure(study.llm_alone).summary.cost_per_1000.value)


def test_the_llm_alone_is_kept(searched):
    study, _ = searched
    assert answer_of(study, found_for(study.llm_alone)).kind == "keep"


def test_without_a_real_llm_the_card_says_what_one_would_buy(own_fitted):
    study = again(own_fitted)
    assert answer_of(study, found_for(study.cheap_alone)).kind == "no_llm"
    study.terms = replace(study.terms, whatif=WhatIf())
    said = answer_of(study, found_for(study.cheap_alone))
    assert (said.kind, said.simulated) == ("no_llm", True)


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
