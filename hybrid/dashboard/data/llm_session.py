"""LLM session: the LLM tiers that a browser session has connected, their keys, and the recording under way."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import streamlit as st
from streamlit.errors import StreamlitSecretNotFoundError

from hybrid.dashboard.inert import inert
from hybrid.dashboard.state import Loaded
from hybrid.errors import HybridError, TierError
from hybrid.production.binding import operators_key
from hybrid.study.answers import AnsweredLLM, answered, joined
from hybrid.study.evidence import CLASSIFIER, Recording
from hybrid.tiers.llm.answer_store import AnswerStore
from hybrid.tiers.llm.client import LLMClient
from hybrid.tiers.llm.prices import ModelPrice, price
from hybrid.tiers.llm.questions import LLMSettings
from hybrid.tiers.llm.recording import Estimate, Questions, RecordingJob, estimate, forget_damaged, questions, replies
from hybrid.tiers.llm.replies import Reply
from hybrid.tiers.servers import KEY_VARIABLE, OPENAI_URL, URL_VARIABLE

MIN_ANSWERS = 10  # with fewer, as after a test call, nothing can be tuned

TIERS, KEYS, ROWS, JOB, MEMO = "llm.tiers", "llm.keys", "llm.rows", "llm.job", "llm.memo"


def show_error(error: HybridError) -> None:
    """Say what is wrong, a server's own words among it as words alone."""
    st.error(inert(str(error)), icon=":material/error:")


@dataclass(frozen=True, slots=True)
class Preset:
    """A server that whoever runs the dashboard has set up; its key goes nowhere else."""

    name: str
    base_url: str
    model: str
    key: str | None


def presets() -> dict[str, Preset]:
    """Return the servers that the environment and the secrets file set up: ``[llm.NAME]`` with base_url, model, key."""
    found = {}
    if os.environ.get(KEY_VARIABLE):
        url = os.environ.get(URL_VARIABLE, OPENAI_URL)
        found[KEY_VARIABLE] = Preset("llm", url, os.environ.get("OPENAI_MODEL", ""), None)
    try:
        tables: Mapping[str, Any] = st.secrets.get("llm", {})
    except StreamlitSecretNotFoundError:
        return found
    for name, table in tables.items():
        if isinstance(table, Mapping):
            url, model = str(table.get("base_url", OPENAI_URL)), str(table.get("model", ""))
            found[name] = Preset(name, url, model, str(table["key"]) if "key" in table else None)
    return found


def tiers() -> dict[str, LLMSettings]:
    """Return the connected tiers by name."""
    found: dict[str, LLMSettings] = st.session_state.setdefault(TIERS, {})
    return found


def connect(data: Loaded, settings: LLMSettings, key: str | None, *, before: str | None) -> None:
    """Keep a tier, in the place of the one that was called `before`; the key stays in this session's memory.

    Raises
    ------
    TierError
        If another tier has the name.
    """
    base = data.unjoined or data.recording
    others = {t.name for t in base.predictions.tiers} | {n for n in tiers() if n != before} | {"what-if LLM"}
    if settings.name in others:
        raise TierError(f"There is already a tier called {settings.name!r}: give this one another name.")
    url, typed = _keys().get(before or "", ("", ""))
    kept_key = key or (typed if url == settings.base_url else None)  # a key does not follow to another server
    if before is not None:
        forget(before)
    tiers()[settings.name] = settings
    if kept_key:
        _keys()[settings.name] = (settings.base_url, kept_key)


def forget(name: str) -> None:
    """Drop a tier and its key; its answers stay in the store."""
    tiers().pop(name, None)
    st.session_state.get(MEMO, {}).pop(name, None)
    _keys().pop(name, None)


def key_of(settings: LLMSettings) -> str | None:
    """Return the key for a tier: the one typed, else the one set up for this very server; None where there is none."""
    url, typed = _keys().get(settings.name, ("", ""))
    if typed and url == settings.base_url:  # a key goes to the server that it was typed for
        return typed
    for preset in presets().values():
        if preset.key and preset.base_url.rstrip("/") == settings.base_url.rstrip("/"):
            return preset.key
    return operators_key(settings.base_url)


def _keys() -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = st.session_state.setdefault(KEYS, {})
    return found


def test_call(data: Loaded, settings: LLMSettings, key: str | None) -> tuple[str, Reply]:
    """Ask about one row, once; returns its text and the reply, which is paid for and therefore kept.

    Raises
    ------
    CallError
        Where the call fails.
    """
    asked = asked_about(data, settings, 1)
    assert data.recording.dataset.texts is not None

    async def go() -> Reply:
        async with LLMClient(settings, key) as client:
            return await client.call(asked.requests[0], asked.check)

    reply = asyncio.run(go())
    with AnswerStore() as store:
        cost = settings.cost(reply.prompt_tokens, reply.completion_tokens, reply.cached_tokens)
        store.settle(asked.keys[0], asked.run, reply.to_json(), cost=cost)
    return str(data.recording.dataset.texts[asked.rows[0]]), reply


def asked_about(data: Loaded, settings: LLMSettings, n: int) -> Questions:
    """Return the questions about a sample of rows; written once for each number of rows."""
    return _asked(data.recording.dataset.fingerprint, repr(settings), n, settings, data)


@st.cache_data(scope="session", max_entries=6, show_spinner="Writing the questions …")
def _asked(fingerprint: str, key: str, n: int, _settings: LLMSettings, _data: Loaded) -> Questions:
    return questions(_settings, _data.recording.dataset, _data.recording.split, n)


def rows_of(name: str, n_rows: int) -> int:
    """Return how many rows a tier is asked about."""
    wanted: dict[str, int] = st.session_state.setdefault(ROWS, {})
    return min(wanted.get(name, 200), n_rows)


def ask_about(name: str, n: int) -> None:
    """Remember how many rows a tier is asked about."""
    st.session_state.setdefault(ROWS, {})[name] = n


def expected(asked: Questions) -> tuple[Estimate, float]:
    """Return what asking will cost, and what this tier has cost on this data so far."""
    with AnswerStore() as store:
        return estimate(asked, store), store.spending(asked.run).total


def forget_damaged_of(asked: Questions) -> None:
    """Drop the kept answers that cannot be read."""
    with AnswerStore() as store:
        forget_damaged(asked, store)


def job() -> RecordingJob | None:
    """Return the session's recording, running or ended."""
    found: RecordingJob | None = st.session_state.get(JOB)
    return found


def start(asked: Questions, key: str | None, cap: float) -> None:
    """Start a recording."""
    started = RecordingJob(asked, key, cap=cap)
    st.session_state[JOB] = started
    started.start()


def with_answers(data: Loaded) -> Loaded:
    """Return the data with every answer that the store holds of the connected tiers; the same where nothing changed."""
    if data.recording.dataset.texts is None or not (tiers() or data.llms):
        return data
    base = data.unjoined or data.recording
    taken = {t.name for t in base.predictions.tiers}
    found = []
    with AnswerStore() as store:
        for name, settings in tiers().items():
            asked = asked_about(data, settings, rows_of(name, data.recording.dataset.n_rows))
            kept = replies(asked, store)
            if name not in taken and sum(r is not None for r in kept) >= MIN_ANSWERS:
                found.append(_calibrated(settings, base, asked, kept))
    if [one.key for one in found] == [one.key for one in data.llms]:
        return data
    return replace(data, recording=joined(base, found), unjoined=base, llms=tuple(found))


def _calibrated(settings: LLMSettings, base: Recording, asked: Questions, kept: list[Reply | None]) -> AnsweredLLM:
    """Return a tier's answers, calibrated anew only where the answers, the tier or the data are others than before."""
    memo: dict[str, tuple[Recording, str, list[Reply | None], AnsweredLLM]] = st.session_state.setdefault(MEMO, {})
    before = memo.get(settings.name)
    if before is not None and before[0] is base and before[1:3] == (repr(settings), kept):
        return before[3]
    found = answered(settings, base, asked.rows, kept, cheap=CLASSIFIER)
    memo[settings.name] = base, repr(settings), kept, found
    return found


def sync(data: Loaded) -> bool:
    """Bring the session's data up to date with the store; returns whether they changed."""
    try:
        now = with_answers(data)
    except HybridError as error:
        show_error(error)
        return False
    if now is data:
        return False
    st.session_state["loaded"] = now
    before = {t.name for t in data.recording.predictions.tiers}
    if before != {t.name for t in now.recording.predictions.tiers}:  # a choice may name a tier that is gone
        st.session_state.pop("choice", None)
        if not before >= {one.tier.name for one in now.llms}:
            st.session_state.pop("whatif", None)  # a real LLM takes the simulated one's place
    return True


def price_of(model: str, base_url: str) -> ModelPrice | None:
    """Return a model's list price at a server; None where nobody knows it."""
    return price(model, base_url) if model else None
