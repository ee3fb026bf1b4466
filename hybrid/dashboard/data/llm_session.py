"""LLM session: the LLM tiers that a browser session has connected, their keys, and the recording under way."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import streamlit as st
from streamlit.errors import StreamlitSecretNotFoundError

from hybrid.dashboard import state
from hybrid.dashboard.data import local_panel
from hybrid.dashboard.inert import inert
from hybrid.errors import HybridError, TierError
from hybrid.production.binding import is_allowed, operators_key
from hybrid.store.answers import AnswerStore
from hybrid.study.answers import AnsweredLLM, answered
from hybrid.study.evidence import CLASSIFIER, Recording
from hybrid.study.study import Study
from hybrid.tiers.llm.client import LLMClient
from hybrid.tiers.llm.prices import ModelPrice, price
from hybrid.tiers.llm.questions import LLMSettings, settings_from
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


def is_operators(base_url: str) -> bool:
    """Whether a server is one that whoever runs the dashboard has set up or allowed; a visitor may name any other."""
    own = [preset.base_url for preset in presets().values()] + local_panel.urls()
    return is_allowed(base_url) or any(url.rstrip("/") == base_url.rstrip("/") for url in own)


def tiers(study: Study) -> dict[str, LLMSettings]:
    """Return the connected tiers by name; the study keeps them, without their keys."""
    return {name: settings_from(stored) for name, stored in study.form.get(TIERS, {}).items()}


def connect(study: Study, settings: LLMSettings, key: str | None, *, before: str | None) -> None:
    """Keep a tier, in the place of the one that was called `before`; the key stays in this session's memory.

    Raises
    ------
    TierError
        If another tier has the name.
    """
    others = (
        {t.name for t in study.evidence.predictions.tiers} | {n for n in tiers(study) if n != before} | {"what-if LLM"}
    )
    if settings.name in others:
        raise TierError(f"There is already a tier called {settings.name!r}: give this one another name.")
    url, typed = _keys().get(before or "", ("", ""))
    kept_key = key or (typed if url == settings.base_url else None)  # a key does not follow to another server
    if before is not None:
        forget(study, before)
    study.form.setdefault(TIERS, {})[settings.name] = asdict(settings)
    state.save()
    if kept_key:
        _keys()[settings.name] = (settings.base_url, kept_key)


def forget(study: Study, name: str) -> None:
    """Drop a tier and its key; its answers stay in the store."""
    study.form.get(TIERS, {}).pop(name, None)
    st.session_state.get(MEMO, {}).pop(name, None)
    state.save()
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


def test_call(study: Study, settings: LLMSettings, key: str | None) -> tuple[str, Reply]:
    """Ask about one row, once; returns its text and the reply, which is paid for and therefore kept.

    Raises
    ------
    CallError
        Where the call fails.
    """
    asked = asked_about(study, settings, 1)
    assert study.dataset.texts is not None

    async def go() -> Reply:
        async with LLMClient(settings, key) as client:
            return await client.call(asked.requests[0], asked.check)

    reply = asyncio.run(go())
    with AnswerStore() as store:
        cost = settings.cost(reply.prompt_tokens, reply.completion_tokens, reply.cached_tokens)
        store.settle(asked.keys[0], asked.run, reply.to_json(), cost=cost)
    return str(study.dataset.texts[asked.rows[0]]), reply


def asked_about(study: Study, settings: LLMSettings, n: int) -> Questions:
    """Return the questions about a sample of rows; written once for each number of rows."""
    return _asked(study.dataset.fingerprint, repr(settings), n, settings, study)


@st.cache_data(scope="session", max_entries=6, show_spinner="Writing the questions …")
def _asked(fingerprint: str, key: str, n: int, _settings: LLMSettings, _study: Study) -> Questions:
    return questions(_settings, _study.dataset, _study.split, n)


def rows_of(study: Study, name: str) -> int:
    """Return how many rows a tier is asked about."""
    return min(int(study.form.get(ROWS, {}).get(name, 200)), study.dataset.n_rows)


def ask_about(study: Study, name: str, n: int) -> None:
    """Remember how many rows a tier is asked about."""
    study.form.setdefault(ROWS, {})[name] = n
    state.save()


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


def sync(study: Study) -> bool:
    """Bring the study up to date with every answer that the store holds; returns whether anything changed."""
    if study.dataset.texts is None or not (tiers(study) or study.llms):
        return False
    taken = {t.name for t in study.evidence.predictions.tiers}
    found = []
    try:
        with AnswerStore() as store:
            for name, settings in tiers(study).items():
                asked = asked_about(study, settings, rows_of(study, name))
                kept = replies(asked, store)
                if name not in taken and sum(r is not None for r in kept) >= MIN_ANSWERS:
                    found.append(_calibrated(settings, study.evidence, asked, kept))
                elif name not in taken:  # the store was emptied, or lies on another machine: what the study holds stays
                    found += [one for one in study.llms if one.model.settings == settings]
    except HybridError as error:
        show_error(error)
        return False
    if [one.key for one in found] == [one.key for one in study.llms]:
        return False
    if not any(t.kind == "llm" for t in study.tiers) and any(one.tier.kind == "llm" for one in found):
        study.terms = replace(study.terms, whatif=None)  # a real LLM takes the simulated one's place
    study.add(found)
    state.save()
    return True


def _calibrated(settings: LLMSettings, base: Recording, asked: Questions, kept: list[Reply | None]) -> AnsweredLLM:
    """Return a tier's answers, calibrated anew only where the answers, the tier or the data are others than before."""
    memo: dict[str, tuple[Recording, str, list[Reply | None], AnsweredLLM]] = st.session_state.setdefault(MEMO, {})
    before = memo.get(settings.name)
    if before is not None and before[0] is base and before[1:3] == (repr(settings), kept):
        return before[3]
    found = answered(settings, base, asked.rows, kept, cheap=CLASSIFIER)
    memo[settings.name] = base, repr(settings), kept, found
    return found


def price_of(model: str, base_url: str) -> ModelPrice | None:
    """Return a model's list price at a server; None where nobody knows it."""
    return price(model, base_url) if model else None
