"""Trying: a few typed texts through the very bundle that Export hands out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st

from hybrid.dashboard.export import export
from hybrid.production.runtime import Answer, Decision, Model, Runtime, load
from hybrid.routing.engine import Policy
from hybrid.routing.table import NONE_LABEL
from hybrid.study.study import Study
from hybrid.tiers.classifier import FastClassifier
from hybrid.tiers.llm.replies import GateSaid

ENGLISH = frozenset({"the", "my", "is", "to", "and", "of", "i", "you"})
SEEN = 300  # texts that tell the language


@st.cache_resource(scope="session", max_entries=4, show_spinner="Loading the bundle …")
def _runtime(key: str, policy: str, _study: Study, _policy: Policy) -> Runtime:
    models = {name: _recorded(name, _study, _policy) for name in _policy.names if name not in _study.models}
    return load(export.bundle(_study, _policy), models=models, servers=export.endpoints(_study, _policy))


def runtime(study: Study, policy: Policy) -> Runtime:
    """Return the loaded bundle; a tier that cannot be asked here repeats what it said in the data."""
    return _runtime(study.token, repr(policy), study, policy)


def decide(study: Study, policy: Policy, texts: Sequence[str]) -> list[Decision]:
    """Decide texts as production would.

    A tier that cannot be asked here says what it said about the same text in the data, else nothing: no label,
    confidence 0, at its list price.
    """
    return runtime(study, policy).decide(texts)


def known(study: Study, text: str) -> bool:
    """Whether the data hold this very text."""
    texts = study.dataset.texts
    return texts is not None and bool((texts == text).any())


def gate_said(study: Study, name: str, text: str) -> GateSaid | None:
    """Return what an LLM gate gave as its choice and reason for a text of the data; None where it gave none."""
    texts, one = study.dataset.texts, next((a for a in study.llms if a.tier.name == name), None)
    if one is None or texts is None:
        return None
    return next((said for row in np.flatnonzero(texts == text) if (said := one.gate_said(int(row)))), None)


def words_for(study: Study, text: str, label: str) -> dict[str, float]:
    """Return what each word adds to the classifier's score of a label, the strongest first."""
    model = study.models["classifier"]
    assert isinstance(model, FastClassifier)
    added = model.contributions(text, study.dataset.classes.index(label))
    return dict(sorted(added.items(), key=lambda item: -abs(item[1])))


def is_english(study: Study) -> bool:
    """Whether the data's texts seem to be English; where there are none, English is as good as anything."""
    texts = study.dataset.texts
    if texts is None:
        return True
    seen = [set(str(t).lower().split()) for t in texts[:SEEN]]
    return bool(np.mean([not words.isdisjoint(ENGLISH) for words in seen]) > 0.3)


def examples(study: Study, most: int) -> list[str]:
    """Return short test texts of the data, each of another class: in the data's own language."""
    texts, truth = study.dataset.texts, study.dataset.truth
    found: dict[int, str] = {}
    if texts is None:
        return []
    for i in sorted(study.split.test, key=lambda i: (len(str(texts[i])), int(i))):
        line = " ".join(str(texts[i]).split())
        if len(line) > 20:
            found.setdefault(int(truth[i]), line)
        if len(found) == most:
            break
    return list(found.values())


def _recorded(name: str, study: Study, policy: Policy) -> Model:
    column = study.column(name)[1]
    dataset = study.dataset
    names = (*dataset.classes, NONE_LABEL, None)  # read from the end: NONE, UNKNOWN
    row_of = {text: i for i, text in enumerate(dataset.texts)} if dataset.texts is not None else {}

    def ask(texts: Sequence[str], likely: Sequence[tuple[str, ...]] = ()) -> list[Answer]:
        said = []
        for text in texts:
            i = row_of.get(text)
            if i is None or column.confidence[i] != column.confidence[i]:
                said.append(Answer(None, confidence=0.0))
            else:
                said.append(Answer(names[column.label[i]], float(column.confidence[i]), float(column.cost[i])))
        return said

    return ask
