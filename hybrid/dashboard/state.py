"""State: the study that a browser session works on; kept as a project, so that a reload brings it back."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import numpy as np
import streamlit as st

from hybrid.dashboard import login
from hybrid.data.columns import Columns, RecordedColumns
from hybrid.data.guess import Guess
from hybrid.data.join import join
from hybrid.data.read import read
from hybrid.errors import HybridError
from hybrid.routing.engine import Policy
from hybrid.study import app, project, worker
from hybrid.study import keeping as projects
from hybrid.study.defaults import LLM_KINDS
from hybrid.study.evidence import Progress
from hybrid.study.plain import from_link, link, policy_from
from hybrid.study.reading import pace
from hybrid.study.study import Study
from hybrid.study.terms import Terms
from hybrid.tiers import embedders
from hybrid.tiers.embedders import Embedder, EndpointEmbedder, MiniLM, embed
from hybrid.tiers.embedding_cache import EmbeddingCache
from hybrid.tiers.gate import NO_WORDS, KeyWords
from hybrid.tiers.rules import NO_EDITS, Edits
from hybrid.tiers.servers import is_bound
from hybrid.tiers.whatif import WhatIf

SAMPLE = app.folder() / "sample_data" / "support_tickets.csv"
SAMPLE_ANSWERS = SAMPLE.with_name("recorded_answers.csv")
SAMPLE_VECTORS = SAMPLE.with_name("minilm_vectors.npz")
PROBE = 500  # one of so many texts is embedded here, to see whether this machine computes what is shipped
RECORDED_MINILM, RECORDED_LLM = "minilm", "llm"  # tiers of the sample whose answers come with it
MAX_ROWS_UNASKED = 5_000  # embedded without being asked to: about a minute on a slow core
KEEPING = "HYBRID_PROJECTS"  # the operator's word: always, ask or never
BEHIND = "HYBRID_SHARED"  # the operator's word: yes, others connect through a proxy
PROJECT, SETTINGS = "project", "set"  # parameters of the address

Keeping = Literal["always", "ask", "never"]


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """A table that was read and can be loaded; its columns are guessed once."""

    token: str  # tells uploads apart
    study: Study
    guess: Guess | None = None  # what its columns seem to be; None once that is settled otherwise
    picked: Mapping[str, str | None] = field(default_factory=dict)  # what the user answered
    said: Mapping[str, str] = field(default_factory=dict)  # what the user said single columns are


def study() -> Study | None:
    """Return the session's study, fitted; None where nothing is loaded."""
    found: Study | None = st.session_state.get("study")
    return found


def drafted() -> Draft | None:
    """Return the table that was read last."""
    found: Draft | None = st.session_state.get("draft")
    return found


def draft(table: Draft | None) -> None:
    """Keep a table, ready to be loaded; what is loaded stays until then."""
    st.session_state["draft"] = table


def fit(
    drawn: Study,
    columns: Columns,
    *,
    embedder: Embedder | None = None,
    edits: Edits | None = None,
    key_words: KeyWords | None = None,
    progress: Progress | None = None,
) -> Study:
    """Fit a table under these columns, in a process of its own; the session stays as it is, so any thread may do it.

    Raises
    ------
    HybridError
        If something cannot be used.
    """
    fresh = Study(drawn.name, drawn.table, columns, notes=drawn.joined)
    fresh.form = drawn.form
    work = partial(worker.fit, fresh, embedder=embedder, edits=edits, key_words=key_words, public=is_confined(embedder))
    found, seconds = worker.apart(work, report=progress)
    fresh.keep(found, embedder=embedder, edits=edits or NO_EDITS, key_words=key_words or NO_WORDS)
    fresh.seconds = seconds
    return fresh


def is_confined(embedder: Embedder | None) -> bool:
    """Whether the server of embeddings has to be one of the internet."""
    return isinstance(embedder, EndpointEmbedder) and is_bound(embedder.base_url)


def keep(now: Study) -> None:
    """Replace what the session had.

    What is assumed, chosen and pinned stays while the table is the same, as after an edit of the rules. Where no LLM
    was asked, a simulated one stands in, so that there is something to see.
    """
    before = study()
    if before is not None and before.table is now.table:
        now.terms, now.pins = before.terms, before.pins
        if before.columns == now.columns:
            now.add(before.llms)
        policy = before.policy if before.chosen else None
        if policy is not None and now.bind(policy) is not None:
            now.restore(policy)
    else:
        st.session_state.pop(PROJECT, None)
        texts = pace(now.table)
        if texts is not None:
            now.terms = replace(now.terms, volume=texts)
        if not any(t.kind in LLM_KINDS for t in now.tiers):
            now.terms = replace(now.terms, whatif=WhatIf())
    st.session_state["study"] = now
    save()
    write_address()  # else the next run would open the project that the address still names


# what is kept, and where


def keeping() -> Keeping:
    """Return whether projects are kept: the operator's word, else always where only this machine can connect."""
    said = os.environ.get(KEEPING, "").strip().lower()
    if said in ("always", "ask", "never"):
        return said  # type: ignore[return-value]
    return "always" if is_local() else "ask"


def is_local() -> bool:
    """Whether this machine's user alone can connect: on the loopback address, and no proxy or sign-in before it."""
    if login.is_on() or os.environ.get(BEHIND, "").strip().lower() in ("1", "yes", "on", "true"):
        return False
    address = str(st.get_option("server.address") or "")
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def is_kept() -> bool:
    """Whether this session's study is kept on the server."""
    return keeping() == "always" or (keeping() == "ask" and bool(st.session_state.get("keep_project")))


def save() -> None:
    """Keep the study as it is now, where it is to be kept; a full disk is said, and nothing in memory is lost."""
    now = study()
    if now is None or not is_kept():
        return
    name = st.session_state.setdefault(PROJECT, project.new_id())
    try:
        projects.keep(now, name, user=login.user())
        st.session_state.pop("save_problem", None)
    except HybridError as error:
        st.session_state["save_problem"] = str(error)


def forget() -> None:
    """Delete the session's project from the server; what is in memory stays."""
    name = st.session_state.pop(PROJECT, None)
    st.session_state["keep_project"] = False
    if name is not None:
        try:
            projects.forget(name, user=login.user())
        except HybridError as error:
            st.session_state["save_problem"] = str(error)


def use(policy: Policy) -> None:
    """Make a policy the one at hand, everywhere."""
    now = study()
    if now is not None:
        now.use(policy)
        save()


def assume(terms: Terms) -> None:
    """Set what is assumed about production, everywhere."""
    now = study()
    if now is not None and terms != now.terms:
        now.terms = terms
        save()


# the address


def read_address() -> str | None:
    """Bring back what the page's address names: a project, a policy and its terms; returns what is wrong with it."""
    name, settings = st.query_params.get(PROJECT), st.query_params.get(SETTINGS)
    problem = None
    if name and name != st.session_state.get(PROJECT):
        try:
            opened, own = projects.bring(name, user=login.user())
            st.session_state["study"] = opened
            draft(Draft(name, _unfitted(opened)))  # so that its columns can be changed as after an upload
            st.session_state[PROJECT] = name if own else project.new_id()  # of what others shared, a copy of one's own
            st.session_state["keep_project"] = True
            if not own:
                save()
            st.session_state[SETTINGS] = address_of(st.session_state["study"])
            if settings == st.session_state[SETTINGS]:
                settings = None
        except HybridError as error:
            problem = str(error)
            del st.query_params[PROJECT]
    now = study()
    if now is not None and settings and settings != st.session_state.get(SETTINGS):
        try:
            _apply(now, settings)
        except HybridError as error:
            problem = str(error)
        st.session_state[SETTINGS] = settings
    return problem


def _unfitted(opened: Study) -> Study:
    """Return a study of the same table, for another choice of columns."""
    fresh = Study(opened.name, opened.table, opened.columns, notes=opened.joined)
    fresh.form = opened.form
    return fresh


def _apply(now: Study, settings: str) -> None:
    plain, terms = from_link(settings)
    now.terms = terms
    now.use(policy_from(plain, now.every_tier(), now.classes))
    save()


def address_of(now: Study) -> str | None:
    """Return what the address says of the policy at hand and its terms."""
    policy = now.policy
    return None if policy is None else link(policy, now.terms, now.classes)


def parameters() -> dict[str, str]:
    """Return the address's parameters for the study as it is now; links between pages carry them."""
    found = {}
    if is_kept() and st.session_state.get(PROJECT):
        found[PROJECT] = st.session_state[PROJECT]
    now = study()
    if now is not None:
        settings = address_of(now)
        if settings is not None and (now.chosen or now.terms != Terms()):
            found[SETTINGS] = settings
    return found


def write_address() -> None:
    """Let the address name the study as it is now."""
    found = parameters()
    st.session_state[SETTINGS] = found.get(SETTINGS)
    for name in (PROJECT, SETTINGS):
        if name in found and st.query_params.get(name) != found[name]:
            st.query_params[name] = found[name]
        elif name not in found and name in st.query_params and study() is not None:
            del st.query_params[name]


# what comes with the product


def sample() -> Study:
    """Read the support tickets that come with the product, with the answers recorded for them, as one table."""
    tickets, answers = (read(path.name, path.read_bytes()).table for path in (SAMPLE, SAMPLE_ANSWERS))
    by_id = Columns("label", text="text", id="id")
    both = join(tickets, answers, first_columns=by_id, second_columns=Columns("", id="id"))
    return Study("Sample: support tickets", both.table, sample_columns(None))


def lend_vectors(study: Study, embedder: Embedder | None) -> bool:
    """Keep MiniLM's vectors that come with the sample as if embedded here, where this machine computes the very same.

    It saves a quarter of a minute. Another model, or a processor whose sums differ, is left to do its own work.
    """
    if not isinstance(embedder, MiniLM) or study.columns.text is None:
        return False
    with np.load(SAMPLE_VECTORS) as shipped:
        if str(shipped["identity"]) != embedder.identity:
            return False
        vectors = shipped["vectors"]
    texts = study.table[study.columns.text].astype(str).tolist()
    if len(texts) != len(vectors) or not np.array_equal(embed(embedder, texts[::PROBE]), vectors[::PROBE]):
        return False
    EmbeddingCache(embedder.identity).put(texts, vectors)
    return True


def sample_columns(embedder: Embedder | None) -> Columns:
    """Return what the sample's columns are; where MiniLM runs here, its recorded answers are not shown beside it."""
    recorded = [] if isinstance(embedder, MiniLM) else [RECORDED_MINILM]
    tiers = tuple(
        RecordedColumns(
            name,
            f"{name}_label",
            confidence=f"{name}_confidence",
            cost=f"{name}_cost",
            latency=f"{name}_latency",
            blank_is_failure=False,  # a row that is blank was not asked about
        )
        for name in (*recorded, RECORDED_LLM)
    )
    # the split that they were recorded for: by models, and with examples, of the tune side only
    return Columns("label", text="text", id="id", split="split", recorded=tiers)


def wanted_embedder(n_rows: int) -> Embedder | None:
    """Return the small model that a load should fit: as set on the Data page, else MiniLM where it is installed.

    Many rows are embedded only if that was asked for, because it takes minutes.
    """
    if "embedder" in st.session_state:
        chosen: Embedder | None = st.session_state["embedder"]
        return chosen
    return MiniLM.installed() if embedders.is_installed() and n_rows <= MAX_ROWS_UNASKED else None


def want_embedder(embedder: Embedder | None) -> None:
    """Remember which small model the user wants."""
    st.session_state["embedder"] = embedder
