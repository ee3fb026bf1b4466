"""Login: who works here, where the operator has set up sign-in (OpenID Connect); else nobody needs a name."""

from __future__ import annotations

import streamlit as st
from streamlit.errors import StreamlitSecretNotFoundError

from hybrid.dashboard.inert import inert
from hybrid.store.database import VARIABLE, is_shared

SECTION = "auth"  # of Streamlit's secrets file; where it is, sign-in is on


def is_on() -> bool:
    """Whether the operator has set up sign-in."""
    try:
        return SECTION in st.secrets
    except StreamlitSecretNotFoundError:
        return False


def user() -> str | None:
    """Return who signed in, as no other is called: the server that says so, and its name for them; None without."""
    if not is_on() or not st.user.is_logged_in:
        return None
    return f"{st.user.get('iss', '')} {st.user.get('sub', '')}"


def called() -> str:
    """Return what the user is called, in words."""
    return str(st.user.get("name") or st.user.get("email") or st.user.get("sub") or "somebody")


def require(*, is_keeping: bool) -> None:
    """End the page at a sign-in screen unless somebody signed in, or nobody has to.

    Parameters
    ----------
    is_keeping
        Whether projects may be kept: they then need a store that knows whose they are.
    """
    if not is_on():
        return
    if is_keeping and not is_shared():
        st.error(
            "Sign-in is set up, and folders of projects cannot be told apart by user. Whoever runs this: name a store, "
            f"as in {VARIABLE}=sqlite:////var/lib/hybrid/store.sqlite, or set HYBRID_PROJECTS=never.",
            icon=":material/error:",
        )
        st.stop()
    if not st.user.is_logged_in:
        st.title("Hybrid tuner")
        st.markdown("Sign in to work with your team's projects. Yours are seen by others only if you share them.")
        st.button("Sign in", type="primary", icon=":material/login:", key="sign_in", on_click=st.login)
        st.stop()


def draw() -> None:
    """Draw who signed in, with a way out; nothing without sign-in."""
    if user() is None:
        return
    with st.popover(inert(called()), icon=":material/person:", type="tertiary", key="user"):
        st.caption("Signed in. What you keep is yours; sharing it is a switch on the Data page.")
        st.button("Sign out", icon=":material/logout:", key="sign_out", on_click=st.logout)
