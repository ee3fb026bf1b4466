"""Assumptions: what is assumed instead of measured: volume, prices, latencies, class mix, a simulated LLM, a person."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import streamlit as st

from hybrid.dashboard import state, views, wording
from hybrid.dashboard.inert import inert
from hybrid.study.answer import is_unpriced
from hybrid.study.study import Study
from hybrid.study.terms import LEARNED, OWN, Pairs, Terms
from hybrid.tiers.human import Assist, Human
from hybrid.tiers.whatif import WhatIf

WIDTH = 420  # pixels of the popover
BETTER = "better"  # of a tier's own confidence and the one that was learned
SHOWN = "assumptions.shown"  # the terms that the controls were set to


def pick(study: Study) -> None:
    """Draw the popover; what is changed in it counts at once, everywhere."""
    panel = st.popover("What if", icon=":material/science:", width="content", key="whatif_open", on_change="rerun")
    if not panel.open:  # closed, it costs nothing
        st.session_state.pop(SHOWN, None)
        return
    if st.session_state.get(SHOWN) != study.terms:
        _show(study)
    with panel, st.container(width=WIDTH):
        terms = _draw(study)
    state.assume(terms)
    st.session_state[SHOWN] = study.terms


def _show(study: Study) -> None:
    """Set every control to the terms."""
    terms, session = study.terms, st.session_state
    whatif, human = terms.whatif or WhatIf(), terms.human or Human()
    session["volume"], session["wrong_cost"] = terms.volume, terms.wrong_cost
    session["whatif"], session["human"] = terms.whatif is not None, terms.human is not None
    session["whatif_accuracy"], session["whatif_price"] = 100 * whatif.accuracy, 1000 * whatif.price
    session["whatif_latency"] = whatif.latency
    session["human_accuracy"], session["human_cost"] = 100 * human.accuracy, human.cost
    session["human_minutes"], session["human_capacity"] = human.minutes, human.capacity
    assist = terms.assist or Assist()
    session["assist"], session["assist_accuracy"] = terms.assist is not None, 100 * assist.accuracy
    session["assist_cost"], session["assist_minutes"] = assist.cost, assist.minutes
    for tier in _measured(study):
        session[f"price.{tier}"], session[f"latency.{tier}"] = _typed(study, tier)
        session[f"confidence.{tier}"] = dict(terms.confidence).get(tier, BETTER)
    for name, weight in _weights(study).items():
        session[f"mix.{name}"] = weight


def _draw(study: Study) -> Terms:
    before = study.terms
    left, right = st.columns(2)
    volume = left.number_input("Texts per month", 0, 10**12, step=10_000, key="volume")
    wrong = right.number_input(
        "A wrong answer costs, USD",
        0.0,
        1e6,
        step=0.1,
        key="wrong_cost",
        help="What a wrong label costs you downstream; the cost tile adds it to the month.",
    )
    whatif, human = _pick_llm(before), _pick_human(before)
    assist = _pick_assist(study) if human is not None and study.evidence.likely else before.assist
    prices, seconds = _pick_prices(study)
    confidence = _pick_confidence(study)
    with st.expander("Class mix of production"):
        mix = _pick_mix(study)
    return replace(
        before,
        volume=int(volume),
        wrong_cost=float(wrong),
        whatif=whatif,
        human=human,
        assist=assist,
        prices=prices,
        seconds=seconds,
        mix=mix,
        confidence=confidence,
    )


def _pick_llm(before: Terms) -> WhatIf | None:
    on = st.toggle(
        "What-if LLM (simulated)",
        key="whatif",
        help="A made-up model, right as often as you say whatever the text. Use it to see what an LLM of that "
        "quality would be worth; real recorded answers come from columns of your file.",
    )
    if not on:
        return None
    start = before.whatif or WhatIf()
    left, middle, right = st.columns(3)
    accuracy = left.number_input("Accuracy, %", 0.0, 100.0, step=0.5, key="whatif_accuracy")
    price = middle.number_input("USD per 1,000", 0.0, 100_000.0, step=0.5, key="whatif_price")
    latency = right.number_input("Seconds", 0.0, 600.0, step=0.1, key="whatif_latency")
    return replace(start, accuracy=accuracy / 100, price=price / 1000, latency=float(latency))


def _pick_human(before: Terms) -> Human | None:
    on = st.toggle(
        "Person as the last tier (simulated)",
        key="human",
        help="People who answer what machines should not. Nobody is asked here: the answers are made up at the "
        "accuracy that you set, and say so. Pick the person as a pattern's last tier once it is on.",
    )
    if not on:
        return None
    start = before.human or Human()
    left, right = st.columns(2)
    accuracy = left.number_input("A person's accuracy, %", 0.0, 100.0, step=0.5, key="human_accuracy")
    cost = right.number_input("USD per case", 0.0, 1e6, step=0.1, key="human_cost")
    minutes = left.number_input("Minutes per case", 0.0, 1e5, step=0.5, key="human_minutes")
    capacity = right.number_input("Cases per day", 0, 10**7, step=10, key="human_capacity")
    return replace(start, accuracy=accuracy / 100, cost=float(cost), minutes=float(minutes), capacity=int(capacity))


def _pick_assist(study: Study) -> Assist | None:
    """Draw how a person picks from three answers, which is cheaper than an empty form."""
    on = st.toggle(
        "They may pick from the three likeliest answers",
        key="assist",
        help="For texts on which a classifier is fairly sure: the person is shown its three likeliest answers. Whether "
        "the right one is among them is measured; how often it is then picked, and at what price, is what you set. "
        "Where it is not among them the pick counts as wrong.",
    )
    if not on:
        return None
    start = study.terms.assist or Assist()
    left, middle, right = st.columns(3)
    accuracy = left.number_input("Picks right, %", 0.0, 100.0, step=0.5, key="assist_accuracy")
    cost = middle.number_input("USD per pick", 0.0, 1e6, step=0.1, key="assist_cost")
    minutes = right.number_input("Minutes", 0.0, 1e5, step=0.5, key="assist_minutes")
    shown = {name: _among(study, name) for name in study.evidence.likely}
    said = ", ".join(f"{inert(name)} {wording.percent(hit)}" for name, hit in shown.items())
    st.caption(f"Right answer among the three, all tune rows: {said}. Times “picks right”, no person gets above that.")
    return replace(start, accuracy=accuracy / 100, cost=float(cost), minutes=float(minutes))


def _among(study: Study, name: str) -> float:
    rows, truth = study.split.tune, study.dataset.truth
    return float((study.evidence.likely[name][rows] == truth[rows, None]).any(axis=1).mean())


def _measured(study: Study) -> list[str]:
    """Return the tiers whose prices and latencies were measured, and may be other ones in production."""
    return [t.name for t in study.tiers if t.kind not in ("whatif", "human")]


def _means(study: Study, tier: str) -> tuple[float, float]:
    """Return the mean USD and seconds of an answer under the terms, as four digits show them."""
    answers = study.column(tier)[1]
    cost, latency = (x[np.isfinite(x)] for x in (answers.cost, answers.latency))
    return tuple(float(f"{x.mean():.4g}") if x.size else 0.0 for x in (cost, latency))  # type: ignore[return-value]


def _typed(study: Study, name: str) -> tuple[float | None, float | None]:
    """Return what stands in the boxes: USD per 1,000 and seconds; None where nobody said."""
    tier = next(t for t in study.tiers if t.name == name)
    cost, latency = _means(study, name)
    return None if is_unpriced(study, tier) else 1000 * cost, None if views.is_untimed(study, tier) else latency


def _form(value: float | None) -> str:
    """Return a format that writes a small number out: 0.000206, never 2.06e-4."""
    digits = 2 if not value else int(np.clip(3 - np.floor(np.log10(value)), 2, 12))
    return f"%.{digits}f"


def _pick_prices(study: Study) -> tuple[Pairs, Pairs]:
    """Draw a price and a latency for each tier; what is not touched stays as measured."""
    st.caption("Prices and latencies: as measured, until you type another. Empty: nobody said, so it is unknown.")
    prices, seconds = dict(study.terms.prices), dict(study.terms.seconds)
    for tier in _measured(study):
        cost, latency = _typed(study, tier)
        left, right = st.columns(2)
        typed, waited = (
            place.number_input(
                f"{inert(tier)}, {unit}", 0.0, most, step=0.1, format=_form(now), key=key, placeholder="unknown"
            )
            for place, unit, most, now, key in (
                (left, "USD per 1,000", 1e7, cost, f"price.{tier}"),
                (right, "seconds", 1e5, latency, f"latency.{tier}"),
            )
        )
        if typed is not None and typed != cost:
            prices[tier] = typed / 1000
        if waited is not None and waited != latency:
            seconds[tier] = float(waited)
    if (prices or seconds) and st.button("As measured again", key="prices_reset"):
        st.session_state.pop(SHOWN, None)
        return (), ()
    return tuple(prices.items()), tuple(seconds.items())


def _pick_confidence(study: Study) -> tuple[tuple[str, str], ...]:
    """Draw whose confidence counts, for each tier that one was learned for."""
    said = dict(study.terms.confidence)
    for tier in _measured(study):
        found = study.confidence(tier)
        if found is None:
            continue
        better = "learned" if found.fitted.better else "its own"
        names = {BETTER: f"the better one: {better}", OWN: "its own", LEARNED: "learned from labels"}
        picked = st.selectbox(
            f"Confidence of {inert(tier)}",
            list(names),
            format_func=names.__getitem__,
            key=f"confidence.{tier}",
            help=inert(found.fitted.reason),
        )
        said.pop(tier, None)
        if picked != BETTER:
            said[tier] = picked
    return tuple(said.items())


def _weights(study: Study) -> dict[str, float]:
    """Return each class's share in percent, as the terms or the data have it."""
    if study.terms.mix:
        return {c: 100 * w for c, w in study.terms.mix}
    counts = np.bincount(study.dataset.truth, minlength=len(study.classes))
    return {c: float(100 * n / counts.sum()) for c, n in zip(study.classes, counts, strict=True)}


def _pick_mix(study: Study) -> Pairs:
    st.caption("Shares as in the data; rows are left out to reach another mix.")
    before = _weights(study)
    with st.container(height=260 if len(before) > 8 else "content", border=False):
        typed = {
            name: float(st.number_input(f"{inert(name)}, %", 0.0, 1e6, step=1.0, format="%.4g", key=f"mix.{name}"))
            for name in before
        }
    if study.terms.mix and st.button("As in the data again", key="mix_reset"):
        st.session_state.pop(SHOWN, None)
        return ()
    total = sum(typed.values())
    if typed == before or total <= 0:
        return study.terms.mix
    return tuple((name, value / total) for name, value in typed.items())
