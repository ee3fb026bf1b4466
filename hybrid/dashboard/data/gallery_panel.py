"""Gallery: public sets that are one click away on the first screen, each with what it teaches."""

from __future__ import annotations

import streamlit as st

from hybrid.dashboard import controls, state
from hybrid.study import gallery
from hybrid.study.gallery import PublicSet
from hybrid.study.study import Study


def draw_words(name: str, shows: str, holds: str) -> None:
    """Draw what an example is about."""
    with st.container():
        st.markdown(f"**{name}**  \n{shows}.")
        st.caption(holds)


def draw(one: PublicSet) -> None:
    """Draw a card's inside: what the set shows, and the button that loads it."""
    draw_words(one.name, one.shows, one.holds)
    short = one.name.split(":")[0]
    if st.button(f"Use {short}", icon=":material/play_arrow:", key=f"gallery_{short}", help=one.source):
        with st.spinner("Reading …"):
            drawn = one.study()
        small = state.wanted_embedder(len(drawn.table))
        if controls.load_with_progress(lambda report: state.fit(drawn, one.columns, embedder=small, progress=report)):
            state.draft(None)  # a table that waits to be loaded would stand above what was asked for
            st.rerun()


def draw_lesson(study: Study) -> None:
    """Draw what a public set teaches, above what is found about it; nothing for other data."""
    one = gallery.lesson_of(study)
    if one is not None:
        st.markdown(f":material/school: **{one.shows}.** {one.lesson}", help=one.source)
