"""Class table: one threshold per predicted class, set by sliders in a table or by a suggestion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st


def switch_key(pattern: str) -> str:
    """Return the key of the switch that turns thresholds per class on."""
    return f"{pattern}.by_class.on"


def slider_key(pattern: str, label: str) -> str:
    """Return the key of one class's slider."""
    return f"{pattern}.by_class.{label}"


def kept(pattern: str) -> dict[str, float]:
    """Return the session's own thresholds by class name; a class that shares the common one is not in it."""
    found: dict[str, float] = st.session_state.setdefault(f"{pattern}.by_class", {})
    return found


def put(pattern: str, own: Mapping[str, float]) -> None:
    """Replace all of them, and show them; call it before the page draws its controls."""
    kept(pattern).clear()
    kept(pattern).update(own)
    st.session_state[switch_key(pattern)] = bool(own)
    for label, value in own.items():
        st.session_state[slider_key(pattern, label)] = value


def own(pattern: str, classes: Sequence[str]) -> dict[str, float]:
    """Return the thresholds by class name that count: none where the switch is off."""
    on = st.session_state.get(switch_key(pattern))
    return {c: t for c, t in kept(pattern).items() if c in classes} if on else {}


def values(pattern: str, name: str, classes: Sequence[str]) -> tuple[float | None, ...]:
    """Return the thresholds by class code; empty where the switch is off or no class has its own."""
    found = own(pattern, classes)
    return tuple(found.get(c) for c in classes) if found else ()
