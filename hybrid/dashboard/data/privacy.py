"""Privacy: what is kept of the data, where, and the buttons that keep it or delete it."""

from __future__ import annotations

import streamlit as st

from hybrid.dashboard import controls, login, state
from hybrid.dashboard.data import llm_panel, small_model
from hybrid.dashboard.inert import inert
from hybrid.errors import HybridError
from hybrid.store.database import is_shared
from hybrid.study import keeping, project

_TOGGLE, _SHARING = "privacy.keep", "privacy.share"


def draw(n_rows: int) -> None:
    """Draw one line on what is kept where, and what can be done about it.

    Parameters
    ----------
    n_rows
        Of the table that would be loaded, which decides whether the small model is on unasked.
    """
    st.caption(
        f":material/lock: {_kept()} {small_model.where_texts_go(n_rows)}",
        help=f"{_where()} {small_model.what_is_cached(n_rows)} {llm_panel.WHERE_TEXTS_GO}",
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        if state.keeping() == "ask":
            st.session_state[_TOGGLE] = state.is_kept()  # the widget's own state is gone once another page was open
            st.toggle(
                "Keep this project on the server",
                key=_TOGGLE,
                on_change=_keep_clicked,
                help=f"Then a reload or a link brings it back, {_for_whom()}. Off again: it is deleted.",
            )
        if st.session_state.get(state.PROJECT):
            st.button(
                "Forget this project",
                icon=":material/delete:",
                key="forget",
                on_click=_forget,
                help="Deletes what is kept of it, and ends the session's work on it.",
            )

        if st.session_state.get(state.PROJECT) and login.user() is not None and state.is_kept():
            _draw_sharing(st.session_state[state.PROJECT])


def _for_whom() -> str:
    return "for whoever has the link" if login.user() is None else "for you"


def _draw_sharing(name: str) -> None:
    """Draw the switch that lets others open a copy."""
    try:
        st.session_state[_SHARING] = keeping.is_open(name)
    except HybridError as error:
        controls.show_error(error)
        return
    st.toggle(
        "Share by link",
        key=_SHARING,
        on_change=_sharing_clicked,
        args=(name,),
        help="Whoever signs in and has the link gets a copy of their own; yours stays as you leave it.",
    )


def _sharing_clicked(name: str) -> None:
    try:
        keeping.share(name, user=login.user(), shared=st.session_state[_SHARING])
    except HybridError as error:
        st.session_state["save_problem"] = str(error)


def _kept() -> str:
    """Return whether what is loaded is kept, in words."""
    if state.is_kept():
        where = "on this machine" if state.is_local() else "on this server"
        return f"What you load is **kept {where}** until you forget it."
    unless = ", unless you keep the project" if state.keeping() == "ask" else ""
    return f"What you load stays in this server's memory and is dropped when you leave{unless}."


def _where() -> str:
    """Return where projects are kept; empty where they are not, or where the folder is nobody's business."""
    if not state.is_kept():
        return ""
    where = f" in the folder {inert(project.projects_folder())}" if state.is_local() and not is_shared() else ""
    return f"A project is kept{where}, so that a reload brings it back."


def _keep_clicked() -> None:
    """Keep what is loaded from now on, or delete what was kept of it; what is loaded stays."""
    st.session_state["keep_project"] = st.session_state[_TOGGLE]
    if st.session_state["keep_project"]:
        state.save()
    else:
        state.forget()


def _forget() -> None:
    """Delete the project, and end the work on it, which would be kept again at the next change."""
    state.forget()
    state.draft(None)
    for key in ("study", "upload.drafted"):
        st.session_state.pop(key, None)
    st.query_params.clear()
