"""Cached: the session's answers to "what does this choice do", so that a rerun computes only what changed."""

from __future__ import annotations

import streamlit as st

from hybrid.curves import Curve, sweep
from hybrid.dashboard.state import Choice, Evaluation, Loaded, cheap_of, evaluate_on
from hybrid.metrics import Baselines, PairedDifference, Summary, baselines, paired_difference, summarize
from hybrid.patterns import Triage
from hybrid.routing import Policy, replay


def summary(data: Loaded, choice: Choice, side: str) -> Summary | None:
    """Measure a choice on one side; None where no row there has every answer."""
    return _summary(data.key, repr(choice), side, data, choice)


@st.cache_data(scope="session", max_entries=500, show_spinner=False)
def _summary(key: str, choice: str, side: str, _data: Loaded, _choice: Choice) -> Summary | None:
    (on,) = evaluate_on(_data, (_choice,), side)
    return summarize(replay(_choice.policy, on.predictions), on.truth) if len(on.truth) else None


def curve(data: Loaded, choice: Choice, name: str, index: int | None) -> Curve:
    """Measure a choice on tune over one of its thresholds."""
    return _curve(data.key, repr(choice), name, index, data, choice)


@st.cache_data(scope="session", max_entries=100, show_spinner="Replaying the thresholds …")
def _curve(key: str, choice: str, name: str, index: int | None, _data: Loaded, _choice: Choice) -> Curve:
    (on,) = evaluate_on(_data, (_choice,), "tune")
    return sweep(_choice.policy, on.predictions, on.truth, name=name, index=index)


def references(data: Loaded, choice: Choice, side: str) -> Baselines:
    """Measure the choice's tiers alone, and the oracle between its cheap and its dearest tier."""
    return _references(data.key, repr(choice), side, data, choice)


@st.cache_data(scope="session", max_entries=100, show_spinner=False)
def _references(key: str, choice: str, side: str, _data: Loaded, _choice: Choice) -> Baselines:
    (on,) = evaluate_on(_data, (_choice,), side)
    tiers = _choice.policy.tiers
    table = on.predictions.select(_choice.policy.names)
    return baselines(table, on.truth, cheap=cheap_of(tiers).name, strong=tiers[-1].name)


def gain_over_cheap(data: Loaded, choice: Choice, side: str) -> PairedDifference:
    """Compare a choice with its cheap tier alone, on the same rows."""
    return _gain(data.key, repr(choice), side, data, choice)


@st.cache_data(scope="session", max_entries=500, show_spinner=False)
def _gain(key: str, choice: str, side: str, _data: Loaded, _choice: Choice) -> PairedDifference:
    (on,) = evaluate_on(_data, (_choice,), side)
    cheap = cheap_of(_choice.policy.tiers)
    alone = Policy(Triage(threshold=0.0), (cheap, _choice.policy.tiers[-1]))  # at 0 every answer is kept
    return paired_difference(replay(alone, on.predictions), replay(_choice.policy, on.predictions), on.truth)


def compare(data: Loaded, choices: tuple[Choice, ...], side: str) -> list[tuple[Summary, PairedDifference | None]]:
    """Measure choices on the rows that all of their tiers answered; each also against the first."""
    return _compare(data.key, repr(choices), side, data, choices)


@st.cache_data(scope="session", max_entries=50, show_spinner="Comparing …")
def _compare(
    key: str, choices: str, side: str, _data: Loaded, _choices: tuple[Choice, ...]
) -> list[tuple[Summary, PairedDifference | None]]:
    parts: tuple[Evaluation, ...] = evaluate_on(_data, _choices, side)
    if not len(parts[0].truth):
        return []
    outcomes = [replay(c.policy, on.predictions) for c, on in zip(_choices, parts, strict=True)]
    truth = parts[0].truth
    return [
        (summarize(o, truth), paired_difference(outcomes[0], o, truth) if i else None) for i, o in enumerate(outcomes)
    ]
