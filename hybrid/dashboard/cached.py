"""Cached: the session's answers to "what does this choice do", so that a rerun computes only what changed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import streamlit as st

from hybrid.dashboard.state import Choice, Evaluation, Loaded, cheap_of, evaluate_on
from hybrid.metrics.curve import Curve, Surface, latency_quantiles, sweep, with_threshold
from hybrid.metrics.curve import surface as measure_surface
from hybrid.metrics.flips import Chain, chain_thresholds, flips
from hybrid.metrics.order import Order
from hybrid.metrics.quick import chain_against_one, summarize_chain
from hybrid.metrics.rows import Inspection, PredictedClass, inspect, per_predicted_class
from hybrid.metrics.summary import Baselines, PairedDifference, Summary, baselines, paired_difference, summarize
from hybrid.routing.engine import Policy, Threshold, replay
from hybrid.routing.patterns import Cascade, Triage
from hybrid.routing.table import Floats, Rows


def evaluation(data: Loaded, choice: Choice, side: str) -> Evaluation:
    """Return the rows that a choice is measured on; wherever its thresholds stand, they are the same ones."""
    return _evaluation(data.key, _rows_of(choice), side, data, choice)


@st.cache_resource(scope="session", max_entries=6, show_spinner=False)
def _evaluation(key: str, rows: str, side: str, _data: Loaded, _choice: Choice) -> Evaluation:
    (on,) = evaluate_on(_data, (_choice,), side)
    return on


def _chain(data: Loaded, choice: Choice, side: str) -> Chain | None:
    """Return the choice's columns, read and checked, if its pattern is one that can be measured straight off them."""
    if chain_thresholds(choice.policy.pattern) is None:
        return None
    return _columns(data.key, _rows_of(choice), side, data, choice)


@st.cache_resource(scope="session", max_entries=6, show_spinner=False)
def _columns(key: str, rows: str, side: str, _data: Loaded, _choice: Choice) -> Chain | None:
    on = evaluation(_data, _choice, side)
    return Chain.of(_choice.policy, on.predictions, on.truth) if len(on.truth) else None


def _rows_of(choice: Choice) -> str:
    """Tell choices apart by what decides their rows and columns: the tiers, and the terms."""
    return repr((choice.policy.tiers, choice.whatif, choice.terms))


def summary(data: Loaded, choice: Choice, side: str) -> Summary | None:
    """Measure a choice on one side; None where no row there has every answer."""
    return _summary(data.key, repr(choice), side, data, choice)


@st.cache_data(scope="session", max_entries=500, show_spinner=False)
def _summary(key: str, choice: str, side: str, _data: Loaded, _choice: Choice) -> Summary | None:
    on = evaluation(_data, _choice, side)
    chain, cuts = _chain(_data, _choice, side), chain_thresholds(_choice.policy.pattern)
    if chain is not None and cuts is not None:
        return summarize_chain(chain, cuts, on.truth)
    return summarize(replay(_choice.policy, on.predictions), on.truth) if len(on.truth) else None


def curve(data: Loaded, choice: Choice, line: Threshold, side: str = "tune") -> Curve | None:
    """Measure a choice over one of its thresholds; None where no row of that side has every answer.

    Where that threshold itself stands makes no difference, so moving it computes nothing.
    """
    fixed = held(choice, line)
    return _curve(data.key, repr(fixed), line.name, line.index, side, data, fixed)


@st.cache_resource(scope="session", max_entries=40, show_spinner=False)  # not copied at every rerun: it may be long
def _curve(
    key: str, choice: str, name: str, index: int | None, side: str, _data: Loaded, _choice: Choice
) -> Curve | None:
    on = evaluation(_data, _choice, side)
    if not len(on.truth):
        return None
    order = _order(key, _order_of(_choice), name, index, side, _data, _choice)
    return sweep(_choice.policy, on.predictions, on.truth, name=name, index=index, order=order)


def _order_of(choice: Choice) -> str:
    """Tell choices apart by what the order of their rows rests on: of chains, not the prices and the latencies."""
    free = replace(choice.whatif, price=0.0, latency=0.0) if choice.whatif else None
    steady = chain_thresholds(choice.policy.pattern) is not None
    return repr((choice.policy.pattern, choice.policy.names if steady else choice.policy.tiers, free, choice.terms.mix))


@st.cache_resource(scope="session", max_entries=12, show_spinner=False)
def _order(key: str, choice: str, name: str, index: int | None, side: str, _data: Loaded, _choice: Choice) -> Order:
    """Sort the rows once: another price or latency finds them sorted, another mix of classes leaves some out."""
    on = evaluation(_data, _choice, side)
    if not _choice.terms.mix:
        return Order.of(flips(_choice.policy, on.predictions, on.truth, name=name, index=index).gauge)
    every = replace(_choice, terms=replace(_choice.terms, mix=()))
    whole = evaluation(_data, every, side)
    kept = np.isin(whole.rows, on.rows, assume_unique=True)
    order = _order(key, _order_of(every), name, index, side, _data, every)
    return order.take(kept, flips(_choice.policy, whole.predictions, whole.truth, name=name, index=index).gauge)


def latencies(data: Loaded, choice: Choice, line: Threshold, thresholds: Floats) -> Floats | None:
    """Return p50 and p95 of the latency on tune at these thresholds, shape ``(2, n)``; None if they are too many."""
    fixed = held(choice, line)
    return _latencies(data.key, repr(fixed), line.name, line.index, data, fixed, thresholds)


@st.cache_data(scope="session", max_entries=20, show_spinner=False)
def _latencies(
    key: str, choice: str, name: str, index: int | None, _data: Loaded, _choice: Choice, _thresholds: Floats
) -> Floats | None:
    on = evaluation(_data, _choice, "tune")
    return latency_quantiles(
        _choice.policy, on.predictions, on.truth, name=name, index=index, thresholds=_thresholds, q=(0.5, 0.95)
    )


def gauge(data: Loaded, choice: Choice, line: Threshold) -> Floats:
    """Return what a threshold is compared with on every tune row."""
    on = evaluation(data, choice, "tune")
    return choice.policy.pattern.gauge(on.predictions.select(choice.policy.names), line.name, line.index)


def surface(data: Loaded, choice: Choice, axes: tuple[Threshold, Threshold], levels: tuple[Floats, Floats]) -> Surface:
    """Measure a choice on tune over two of its thresholds."""
    fixed = held(held(choice, axes[0]), axes[1])
    which = repr([(a.name, a.index) for a in axes])
    return _surface(data.key, repr(fixed), which, repr([x.tobytes() for x in levels]), data, fixed, axes, levels)


@st.cache_data(scope="session", max_entries=20, show_spinner=False)
def _surface(
    key: str,
    choice: str,
    which: str,
    grid: str,
    _data: Loaded,
    _choice: Choice,
    _axes: tuple[Threshold, Threshold],
    _levels: tuple[Floats, Floats],
) -> Surface:
    on = evaluation(_data, _choice, "tune")
    return measure_surface(_choice.policy, on.predictions, on.truth, axes=_axes, first=_levels[0], second=_levels[1])


def held(choice: Choice, line: Threshold) -> Choice:
    """Return the choice with one threshold at 0: what all choices that differ only in it share."""
    return replace(choice, policy=with_threshold(choice.policy, line.name, line.index, 0.0))


def references(data: Loaded, choice: Choice, side: str) -> Baselines:
    """Measure the choice's tiers alone, and the oracle between its cheap and its dearest tier."""
    return _references(data.key, _rows_of(choice), side, data, choice)


@st.cache_data(scope="session", max_entries=100, show_spinner=False)
def _references(key: str, rows: str, side: str, _data: Loaded, _choice: Choice) -> Baselines:
    on = evaluation(_data, _choice, side)
    tiers = _choice.policy.tiers
    table = on.predictions.select(_choice.policy.names)
    return baselines(table, on.truth, cheap=cheap_of(tiers).name, strong=tiers[-1].name)


def gain_over_cheap(data: Loaded, choice: Choice, side: str) -> PairedDifference:
    """Compare a choice with its cheap tier alone, on the same rows."""
    return _gain(data.key, repr(choice), side, data, choice)


@st.cache_data(scope="session", max_entries=500, show_spinner=False)
def _gain(key: str, choice: str, side: str, _data: Loaded, _choice: Choice) -> PairedDifference:
    on = evaluation(_data, _choice, side)
    cheap = cheap_of(_choice.policy.tiers)
    chain, cuts = _chain(_data, _choice, side), chain_thresholds(_choice.policy.pattern)
    if chain is not None and cuts is not None:
        return chain_against_one(chain, cuts, _choice.policy.tiers.index(cheap))
    alone = Policy(Triage(threshold=0.0), (cheap, _choice.policy.tiers[-1]))  # at 0 every answer is kept
    return paired_difference(replay(alone, on.predictions), replay(_choice.policy, on.predictions), on.truth)


def gain_of_last(data: Loaded, choice: Choice, side: str) -> PairedDifference | None:
    """Compare a cascade of three tiers or more with the same that stops before its last; None for other policies."""
    if not isinstance(choice.policy.pattern, Cascade) or len(choice.policy.tiers) < 3:
        return None
    return _gain_of_last(data.key, repr(choice), side, data, choice)


@st.cache_data(scope="session", max_entries=500, show_spinner=False)
def _gain_of_last(key: str, choice: str, side: str, _data: Loaded, _choice: Choice) -> PairedDifference:
    (on,) = evaluate_on(_data, (_choice,), side)
    last = _choice.policy.thresholds()[-1]
    stops = with_threshold(_choice.policy, last.name, last.index, 0.0)  # at 0 every answer is kept
    return paired_difference(replay(stops, on.predictions), replay(_choice.policy, on.predictions), on.truth)


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


def inspection(data: Loaded, choice: Choice, side: str) -> Inspection:
    """Lay a choice's decisions beside the truth."""
    return _inspection(data.key, repr(choice), side, data, choice)


@st.cache_data(scope="session", max_entries=8, show_spinner=False)
def _inspection(key: str, choice: str, side: str, _data: Loaded, _choice: Choice) -> Inspection:
    on = evaluation(_data, _choice, side)
    outcomes = replay(_choice.policy, on.predictions)
    return inspect(outcomes, on.predictions, on.truth, cheap=cheap_of(_choice.policy.tiers).name)


def by_predicted_class(data: Loaded, choice: Choice) -> list[PredictedClass]:
    """Measure the classes that a choice's first tier predicts, on tune."""
    (on,) = evaluate_on(data, (choice,), "tune")
    outcomes = replay(choice.policy, on.predictions)
    found = inspect(outcomes, on.predictions, on.truth, cheap=choice.policy.names[0])
    return per_predicted_class(found, len(on.predictions.classes))


def rows(data: Loaded, choice: Choice, side: str) -> Rows:
    """Return the dataset's row of every row that a choice is measured on."""
    return evaluation(data, choice, side).rows
