"""Export: a choice → a bundle with its evidence, and the lines that run it."""

from __future__ import annotations

import io
import zipfile
from dataclasses import asdict, replace
from typing import Any

import streamlit as st

from hybrid.dashboard import cached
from hybrid.dashboard.state import Choice, Loaded, table_of
from hybrid.dashboard.tune import promised
from hybrid.production import bundle as bundles
from hybrid.production.binding import Server
from hybrid.production.bundle import OnFailure
from hybrid.production.snippet import servers
from hybrid.production.snippet import snippet as run_lines
from hybrid.routing.engine import Policy
from hybrid.tiers.llm.questions import LLMSettings

ON_FAILURE: dict[OnFailure, str] = {
    "best_so_far": "Take the surest answer so far, marked as fallback",
    "unknown": "Decide nothing: your code sees no label",
}


def bundle(data: Loaded, choice: Choice, *, on_failure: OnFailure = "best_so_far") -> bytes:
    """Pack a choice."""
    return _bundle(data.key, repr((choice, promised.evidence(data, choice))), on_failure, data, choice)


@st.cache_data(scope="session", max_entries=20, show_spinner="Packing …")
def _bundle(key: str, choice: str, on_failure: OnFailure, _data: Loaded, _choice: Choice) -> bytes:
    dataset, split = _data.recording.dataset, _data.recording.split
    predictions = table_of(_data, _choice.whatif, _choice.terms)
    # golden rows come from test, which the shipped models were not fitted on; from tune where test has no answers
    rows = split.test if cached.summary(_data, _choice, "test") else split.tune
    texts = dataset.texts if dataset.texts is not None else dataset.ids
    before = table_of(_data, _choice.whatif, replace(_choice.terms, prices=()))
    return bundles.save(
        policy=replace(_choice.policy, tiers=predictions.select(_choice.policy.names).tiers),
        classes=dataset.classes,
        models=_data.recording.models,
        texts=[str(t) for t in texts[rows]],
        recorded=predictions.take(rows),
        evidence=evidence(_data, _choice),
        llms=_data.recording.llms,
        on_failure=on_failure,
        measured={t.name: before.cost[rows, j] for j, t in enumerate(before.tiers)},
    )


def evidence(data: Loaded, choice: Choice) -> dict[str, Any]:
    """Return what a choice rests on, as JSON values: data, split, numbers with intervals, what is simulated."""
    dataset, split = data.recording.dataset, data.recording.split
    sides = {side: cached.summary(data, choice, side) for side in ("tune", "test")}
    return {
        "data": {
            "name": data.name,
            "fingerprint": dataset.fingerprint,
            "rows": dataset.n_rows,
            "classes": len(dataset.classes),
            "tune_rows": len(split.tune),
            "test_rows": len(split.test),
            "split": "given in the file" if split.given else "by the product, seed 0",
        },
        "simulated": [t.name for t in choice.policy.tiers if t.simulated],
        "whatif": asdict(choice.whatif) if choice.whatif else None,
        "assumed": asdict(choice.terms),
        "metrics": {side: _json(asdict(s)) if s else None for side, s in sides.items()},
        **promised.evidence(data, choice),
        "notes": [f"{n.what} {n.done}" for n in data.notes],
    }


def _json(value: Any) -> Any:
    """Return nested values with nan, which JSON has not, as None."""
    if isinstance(value, dict):
        return {k: _json(v) for k, v in value.items()}
    if isinstance(value, float) and value != value:
        return None
    return value


def external(data: Loaded, policy: Policy) -> list[str]:
    """Return the tiers that the bundle can neither hold nor ask."""
    return [n for n in policy.names if n not in data.recording.models and n not in data.recording.llms]


def asked(data: Loaded, policy: Policy) -> list[LLMSettings]:
    """Return the LLM tiers that the bundle asks itself."""
    return [data.recording.llms[n].settings for n in policy.names if n in data.recording.llms]


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


def endpoints(data: Loaded, policy: Policy) -> dict[str, Server]:
    """Return the servers of embeddings that the bundle asks: this session's user has set them."""
    return servers(policy, models=data.recording.models)


def snippet(name: str, data: Loaded, policy: Policy) -> str:
    """Return the lines of Python that run a bundle."""
    recording = data.recording
    return run_lines(name, policy, classes=recording.dataset.classes, models=recording.models, llms=recording.llms)
