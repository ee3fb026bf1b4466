"""Telling apart: any two pinned policies, the rows that would tell them apart, and what comparing many does."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from hybrid.dashboard import cached, wording
from hybrid.dashboard.state import Loaded, Pin
from hybrid.intervals import holm
from hybrid.metrics import PairedDifference
from hybrid.tuning import rows_for_interval, rows_to_tell

LEVEL = 0.05


def draw(data: Loaded, pins: Sequence[Pin], side: str) -> None:
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
    choices = tuple(next(p.choice for p in pins if p.name == n) for n in (two, one))
    results = cached.compare(data, choices, side)
    if not results:
        st.info(f"No {side} row has an answer from every tier of both.", icon=":material/balance:")
        return
    found, accuracy = results[1][1], results[1][0].accuracy.value
    assert found is not None  # the second is compared with the first
    st.markdown(verdict(found, one, two))
    st.caption(more_rows(found, delta))
    now = rows_for_interval(accuracy, width)
    more = f"label {now - found.n_rows:,} more" if now > found.n_rows else "the rows at hand are enough"
    st.caption(f"For an accuracy of {one} within ±{100 * width:g} points: {now:,} rows, so {more}.")


def verdict(found: PairedDifference, one: str, two: str) -> str:
    """Return what a paired comparison says, with both tests."""
    told = "told apart" if found.told_apart else "**cannot be told apart**"
    return (
        f"**{one}** against **{two}**: {wording.points(found.accuracy)} of accuracy (95% CI, paired bootstrap); "
        f"{found.uplift:,} rows turn right, {found.regression:,} turn wrong; exact McNemar p = {found.p_value:.3g}. "
        f"They are {told} on these {found.n_rows:,} rows.".replace("are **cannot", "**cannot")
    )


def more_rows(found: PairedDifference, delta: float) -> str:
    """Return how many rows would tell a difference, four times in five."""
    discordant = (found.uplift + found.regression) / found.n_rows
    needed = rows_to_tell(delta, discordant)
    assert needed is not None  # the control allows no difference of 0
    said = f"About {needed:,} labelled rows would tell a difference of {100 * delta:g} points in four of five cases"
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
    chance = 1 - (1 - LEVEL) ** len(differences)
    return (
        f"{len(differences)} policies are compared with {reference}: were none different, one would still seem so "
        f"in up to {chance:.0%} of data sets. McNemar's p after Holm's correction: "
        + ", ".join(f"{n} {p:.3g}" for n, p in zip(names, adjusted, strict=True))
        + f". At 5% in all, {said}."
    )
