"""Export: a choice → a bundle with its evidence, and the lines that run it."""

from __future__ import annotations

import io
import zipfile

import streamlit as st

from hybrid.production import bundle as bundles
from hybrid.production.binding import Server
from hybrid.production.bundle import OnFailure
from hybrid.production.snippet import servers
from hybrid.production.snippet import snippet as run_lines
from hybrid.routing.engine import Policy
from hybrid.study import promises
from hybrid.study.study import Study
from hybrid.tiers.llm.questions import LLMSettings

ON_FAILURE: dict[OnFailure, str] = {
    "best_so_far": "Take the surest answer so far, marked as fallback",
    "unknown": "Decide nothing: your code sees no label",
}


def bundle(
    study: Study, policy: Policy, *, on_failure: OnFailure = "best_so_far", chosen: Policy | None = None
) -> bytes:
    """Pack a policy; `chosen` is what it was chosen as where its thresholds were moved, see `Study.at_share`."""
    what = repr((policy, promises.evidence(study, policy, chosen=chosen)))
    return _bundle(study.token, what, on_failure, study, policy, chosen)


@st.cache_data(scope="session", max_entries=20, show_spinner="Packing …")
def _bundle(
    key: str, policy: str, on_failure: OnFailure, _study: Study, _policy: Policy, _chosen: Policy | None
) -> bytes:
    return _study.export(_policy, on_failure=on_failure, chosen=_chosen)


def asked(study: Study, policy: Policy) -> list[LLMSettings]:
    """Return the LLM tiers that the bundle asks itself."""
    return [study.llm_models[n].settings for n in policy.names if n in study.llm_models]


def file_name(policy: Policy) -> str:
    """Return a file name for a policy's bundle."""
    return f"{bundles.pattern_name(policy.pattern)}.zip"


def member(content: bytes, name: str) -> str:
    """Return one file of a bundle."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return archive.read(name).decode()


def policy_json(content: bytes) -> str:
    """Return the reviewable part of a bundle."""
    return member(content, "policy.json")


def endpoints(study: Study, policy: Policy) -> dict[str, Server]:
    """Return the servers of embeddings that the bundle asks: this session's user has set them."""
    return servers(policy, models=study.models)


def snippet(name: str, study: Study, policy: Policy) -> str:
    """Return the lines of Python that run a bundle."""
    return run_lines(name, policy, classes=study.classes, models=study.models, llms=study.llm_models)
