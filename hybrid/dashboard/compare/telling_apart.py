"""Telling apart: any two pinned policies, the rows that would tell them apart, and what comparing many does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st

from hybrid.dashboard import wording
from hybrid.dashboard.inert import inert
from hybrid.metrics.groups import Groups
from hybrid.metrics.intervals import holm
from hybrid.metrics.ranking import break_even_price
from hybrid.metrics.summary import PairedDifference
from hybrid.routing.engine import Outcomes
from hybrid.study.study import Pin, Study
from hybrid.tuning import rows_for_interval, rows_to_tell

LEVEL = 0.05
LEAST_PRICE = 1e-9  # USD a call; two that differ in nothing else cost the same where a call is free


def draw(study: Study, pins: Sequence[Pin], side: str) -> None:
    """Draw the comparison of any two pins, and how many more labels would help."""
    if len(pins) < 2:
        return
    st.subheader("Can they be told apart?")
    names = [p.name for p in pins]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        one = st.selectbox("Policy", names, 0, key="tell_one")
        two = st.selectbox("against", [n for n in names if n != one], 0, key="tell_two")
        delta = st.number_input("Difference worth telling, points", 0.1, 50.0, 1.0, step=0.5, key="tell_delta") / 100
        width = st.number_input("Interval wanted, ± points", 0.1, 50.0, 2.0, step=0.5, key="tell_width") / 100
    by_name = {p.name: p.policy for p in pins}
    choices = by_name[two], by_name[one]
    results = study.compare(choices, side)
    if not results:
        st.info(f"No {side} row has an answer from every tier of both.", icon=":material/balance:")
        return
    found, accuracy = results[1][1], results[1][0].accuracy.value
    assert found is not None  # the second is compared with the first
    st.markdown(verdict(found, one, two))
    st.caption(more_rows(found, delta))
    rows = study.graded(tuple(dict.fromkeys(n for c in choices for n in c.names)), side)
    together, right = Groups.of(rows.groups), rows.outcomes(choices[1]).label == rows.truth
    now = rows_for_interval(accuracy, width, design_effect=1.0 if together is None else together.effect_on(right))
    more = f"label {now - found.n_rows:,} more" if now > found.n_rows else "the rows at hand are enough"
    st.caption(f"For an accuracy of {one} within ±{wording.plural(100 * width, 'point')}: {now:,} rows, so {more}.")
    if study.llm is None:
        return
    even = same_price(rows.outcomes(choices[0]), rows.outcomes(choices[1]), (two, one), llm=study.llm.name)
    if even:
        st.caption(even)


def same_price(one: Outcomes, two: Outcomes, names: tuple[str, str], *, llm: str) -> str | None:
    """Return at which price of an LLM two policies cost the same; None where neither pays it, or at no such price."""
    if not any(t.name == llm and t.price > 0 for o in (one, two) for t in o.policy.tiers):
        return None
    said = inert(llm)
    (calls_a, rest_a), (calls_b, rest_b) = (_use(o, llm) for o in (one, two))
    price = break_even_price(rest_a, calls_a, rest_b, calls_b)
    if price is None or price < LEAST_PRICE:
        return None
    (fewer, seldom), (more, often) = sorted(zip((calls_a, calls_b), names, strict=True))
    return (
        f"Break-even: at {wording.dollars(1000 * price)} per 1,000 calls of {said} both cost the same; where it is "
        f"dearer, {seldom} costs less: it asks {said} on {wording.percent(fewer)} of the rows, {often} on "
        f"{wording.percent(more)}."
    )


def _use(o: Outcomes, name: str) -> tuple[float, float]:
    """Return how often a policy calls a tier, and what all others cost; both per row."""
    if name not in o.policy.names:
        return 0.0, float(np.mean(o.cost))
    j = o.policy.names.index(name)
    asked = o.asked[:, j]
    return float(np.mean(asked)), float(np.mean(o.cost - np.where(asked, o.seen.cost[:, j], 0.0)))


def verdict(found: PairedDifference, one: str, two: str) -> str:
    """Return what a paired comparison says, with both tests."""
    if not found.uplift and not found.regression:
        return (
            f"**{one}** and **{two}** are right and wrong on the same {found.n_rows:,} rows: "
            "**they cannot be told apart** here."
        )
    told = "told apart" if found.told_apart else "**cannot be told apart**"
    return (
        f"**{one}** against **{two}**: {wording.points(found.accuracy)} of accuracy (95% CI, paired); "
        f"{found.uplift:,} rows turn right, {found.regression:,} turn wrong; exact McNemar p "
        f"{wording.p_value(found.p_value)}. "
        f"They are {told} on these {found.n_rows:,} rows.".replace("are **cannot", "**cannot")
    )


def more_rows(found: PairedDifference, delta: float) -> str:
    """Return how many rows would tell a difference, four times in five."""
    discordant = (found.uplift + found.regression) / found.n_rows
    needed = rows_to_tell(delta, discordant, design_effect=found.design_effect)
    assert needed is not None  # the control allows no difference of 0
    many = wording.labelled_rows(needed, found)
    said = f"About {many} would tell a difference of {wording.plural(100 * delta, 'point')}"
    if not discordant:
        said += ", if one of them then never errs alone,"
    said += " in four of five cases"
    if needed > found.n_rows:
        return f"{said}: {needed - found.n_rows:,} more than there are."
    return f"{said}; there are {found.n_rows:,}."


def many(names: Sequence[str], differences: Sequence[PairedDifference], reference: str) -> str | None:
    """Return what comparing several with one reference does to the error rate; None for a single comparison.

    References
    ----------
    Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    if len(differences) < 2:
        return None
    adjusted = holm([d.p_value for d in differences])
    left = [n for n, p in zip(names, adjusted, strict=True) if p <= LEVEL]
    said = f"differ from {reference}: {', '.join(left)}" if left else f"none differs from {reference}"
    chance = min(1.0, LEVEL * len(differences))  # whatever they have in common
    return (
        f"{len(differences)} policies are compared with {reference}: were none different, one would still seem so "
        f"in up to {chance:.0%} of data sets. McNemar's p after Holm's correction: "
        + ", ".join(f"{n} {wording.p_value(p)}" for n, p in zip(names, adjusted, strict=True))
        + f". At 5% in all, {said}."
    )
