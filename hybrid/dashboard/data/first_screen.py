"""First screen: what the product finds out, how, and the two ways to begin; drawn while nothing is loaded."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from datetime import datetime

import streamlit as st

from hybrid.dashboard import controls, login
from hybrid.dashboard.inert import inert
from hybrid.errors import HybridError
from hybrid.study import keeping

PROMISE = "How much of your LLM bill you can save, at which accuracy, and whether to believe it."
STEPS = (
    (
        ":material/upload_file:",
        "Bring labelled texts",
        "A few hundred are enough; recorded answers of an LLM may be in.",
    ),
    (":material/tune:", "Drag the line", "The cheap model keeps what it is sure of; the LLM gets the rest."),
    (
        ":material/ios_share:",
        "Take it with you",
        "What you chose, as a file and a few lines of code that decide alike.",
    ),
)
ALT = "A line moves over two curves: right answers, which flatten, and cost, which rises."
LEFT, RIGHT, TOP, BOTTOM = 24, 336, 20, 150  # of the drawing's axes
STOPS = 24  # places of the line, between which it moves straight
STILL = 0.55  # where the line stands for who wants no motion


def draw_heading() -> None:
    """Draw the product's name, what it finds out, a drawing of that, and the three steps."""
    words, drawing = st.columns([9, 5], gap="large", vertical_alignment="center")
    with words:
        st.title("Hybrid tuner")
        st.markdown(f"##### {PROMISE}")
        st.markdown(
            "A cheap classifier answers what it is sure of, and an LLM the rest. This shows where to draw the line."
        )
    with drawing:
        coded = base64.b64encode(_drawing().encode()).decode()  # a picture: Streamlit takes drawings out of HTML
        st.html(f'<img alt="{ALT}" src="data:image/svg+xml;base64,{coded}" style="width: 100%; max-width: 420px">')
    for n, (column, (icon, title, how)) in enumerate(zip(st.columns(len(STEPS)), STEPS, strict=True), 1):
        column.markdown(f"{icon} **{n}. {title}**  \n{how}")


def draw_lessons() -> None:
    """Draw the link to the patterns on small examples."""
    st.page_link(
        "pages/7_Lessons.py",
        label="New to this? **The patterns on examples small enough to check by hand**",
        icon=":material/school:",
    )


def draw_recent() -> None:
    """Draw links to the user's projects that were kept, the latest first; nothing where there are none."""
    try:
        kept = keeping.recent(user=login.user())
    except HybridError as error:
        controls.show_error(error)
        return
    if not kept:
        return
    st.markdown("**Recent projects**")
    with st.container(horizontal=True):
        for one in kept:
            when = f"{datetime.fromtimestamp(one.saved):%d %b %Y, %H:%M}"
            label = f"{inert(one.name)} · {one.rows:,} rows · {when}"
            st.page_link("app.py", label=label, icon=":material/history:", query_params={"project": one.id})


def _right(x: float) -> float:
    """Height of the drawn curve of right answers: it rises fast, then flattens, and falls a little at the end."""
    return BOTTOM - (BOTTOM - TOP) * (0.35 + 0.6 * (1 - math.pow(1 - x, 2.6)) - 0.06 * x**6)


def _cost(x: float) -> float:
    """Height of the drawn curve of cost, which rises ever faster."""
    return BOTTOM - (BOTTOM - TOP) * (0.04 + 0.8 * x**2)


def _across(x: float) -> float:
    return LEFT + (RIGHT - LEFT) * x


def _style() -> str:
    """Return the motion of the line, and of its two points along their curves; still where less motion is wanted."""
    stops = [(100 * k / STOPS, 0.1 + 0.8 * k / STOPS) for k in range(STOPS + 1)]

    def moving(name: str, height: Callable[[float], float]) -> str:
        at = "".join(f"{p:.1f}% {{ transform: translate({_across(x):.1f}px, {height(x):.1f}px) }}" for p, x in stops)
        still = f"translate({_across(STILL):.1f}px, {height(STILL):.1f}px)"
        motion = f"animation: {name} 7s ease-in-out infinite alternate"
        return f"@keyframes {name} {{ {at} }} .{name} {{ transform: {still}; {motion} }}"

    parts = [moving("ht-line", lambda _: 0.0), moving("ht-right", _right), moving("ht-cost", _cost)]
    parts.append("@media (prefers-reduced-motion: reduce) { .ht-line, .ht-right, .ht-cost { animation: none } }")
    return " ".join(parts)


def _drawing() -> str:
    """Return the drawing: right answers and cost over the threshold, and the line that is moved."""
    xs = [k / 60 for k in range(61)]
    right, cost = (" ".join(f"{_across(x):.1f},{height(x):.1f}" for x in xs) for height in (_right, _cost))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 360 178" font-family="sans-serif">'
        f"<style>{_style()}</style>"
        f'<g fill="none" stroke="#78859b" stroke-width="1" opacity="0.4">'
        f'<path d="M{LEFT},{TOP - 8}V{BOTTOM}H{RIGHT}" /></g>'
        f'<polyline points="{right}" fill="none" stroke="#1e88e5" stroke-width="3" stroke-linecap="round" />'
        f'<polyline points="{cost}" fill="none" stroke="#ef6c00" stroke-width="3" stroke-linecap="round" />'
        f'<g class="ht-line"><path d="M0,{TOP - 8}V{BOTTOM}" stroke="#78859b" stroke-width="2" '
        'stroke-dasharray="5 4" opacity="0.75" /></g>'
        '<g class="ht-right"><circle r="6" fill="#1e88e5" /></g><g class="ht-cost"><circle r="6" fill="#ef6c00" /></g>'
        '<g font-size="12" fill="#78859b">'
        f'<text x="{LEFT + 8}" y="{TOP + 4}">right answers</text>'
        f'<text x="{RIGHT - 4}" y="{BOTTOM - 12}" text-anchor="end">cost</text>'
        f'<text x="{(LEFT + RIGHT) / 2}" y="{BOTTOM + 19}" text-anchor="middle">more goes to the LLM →</text></g></svg>'
    )
