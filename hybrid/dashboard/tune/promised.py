"""Promised: the suggestion and the certificate that a session keeps, and whether a choice still rests on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import streamlit as st

from hybrid.dashboard.state import Choice, Loaded, Terms
from hybrid.tiers.whatif import WhatIf
from hybrid.tuning import Certificate, Recommendation, covers


@dataclass(frozen=True, slots=True)
class Suggested:
    """A recommendation, and the data and assumptions that it was made on."""

    key: str
    terms: Terms
    whatif: WhatIf | None
    found: Recommendation


@dataclass(frozen=True, slots=True)
class Certified:
    """A certificate, and the data and the choice that it was made for."""

    key: str
    choice: Choice
    found: Certificate


def keep_suggestion(data: Loaded, choice: Choice, found: Recommendation) -> None:
    """Remember what was suggested last; `choice` tells the assumptions."""
    st.session_state["suggested"] = Suggested(data.key, choice.terms, choice.whatif, found)


def suggestion(data: Loaded) -> Suggested | None:
    """Return what was suggested last for this data."""
    kept: Suggested | None = st.session_state.get("suggested")
    return kept if kept is not None and kept.key == data.key else None


def suggestion_for(data: Loaded, choice: Choice) -> Recommendation | None:
    """Return the suggestion that a choice is, under the same assumptions; None where it is not."""
    kept = suggestion(data)
    same = kept is not None and kept.found.policy == choice.policy and kept.terms == choice.terms
    return kept.found if kept is not None and same and _whatif(choice, kept.whatif) else None


def keep_certificate(data: Loaded, choice: Choice, found: Certificate) -> None:
    """Remember the certificate that is shown; `choice` tells pattern, tiers and assumptions."""
    st.session_state["certified"] = Certified(data.key, choice, found)


def drop_certificate() -> None:
    """Forget it."""
    st.session_state.pop("certified", None)


def certificate_for(data: Loaded, choice: Choice) -> Certificate | None:
    """Return the certificate that covers a choice, under the same assumptions; None where none does."""
    kept: Certified | None = st.session_state.get("certified")
    if kept is None or kept.key != data.key or kept.choice.terms != choice.terms:
        return None
    return kept.found if covers(kept.found, choice.policy) and _whatif(choice, kept.choice.whatif) else None


def _whatif(choice: Choice, other: WhatIf | None) -> bool:
    return not choice.policy.simulated or choice.whatif == other


def evidence(data: Loaded, choice: Choice) -> dict[str, Any]:
    """Return what was aimed at and what is promised, as JSON values; None where nothing is."""
    found, certificate = suggestion_for(data, choice), certificate_for(data, choice)
    return {
        "suggestion": None
        if found is None
        else {
            "goal": found.goal.words,
            "kept_on_tune": found.feasible,
            "binding": list(found.binding),
            "method": found.method,
            "exact": found.exact,
            "optimism": found.optimism,
        },
        "certificate": None
        if certificate is None
        else {
            "promise": certificate.words,
            "risk": certificate.risk,
            "alpha": certificate.alpha,
            "delta": certificate.delta,
            "labelled_rows": certificate.n_rows,
            "groups": certificate.n_groups,
            "lowest_threshold": certificate.lowest,
            "parts": [
                {"name": p.name, "rows": p.n, "wrong": p.wrong, "bound": p.bound, "lowest_threshold": p.lowest}
                for p in certificate.parts
            ],
            "not_certified": list(certificate.left_out),
        },
    }


def lines(data: Loaded, choice: Choice) -> list[str]:
    """Return the same in sentences, for the report."""
    said = []
    found, certificate = suggestion_for(data, choice), certificate_for(data, choice)
    if found is not None:
        kept = "" if found.feasible else " No policy kept this on tune."
        said.append(f"Suggested for the goal: {found.goal.words}. Found {found.method}.{kept}")
    if certificate is not None:
        said.append(f"Certified. {certificate.words}")
    return said
