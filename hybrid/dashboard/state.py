"""State: what one browser session has loaded, chosen and pinned; nothing of it reaches another session."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from hybrid.data.columns import Columns, RecordedColumns
from hybrid.data.dataset import build
from hybrid.data.join import join
from hybrid.data.notes import Note
from hybrid.data.read import read
from hybrid.data.split import Split, split
from hybrid.routing.engine import Policy, answered_by
from hybrid.routing.patterns import Triage
from hybrid.routing.table import Bools, Labels, Predictions, Rows, Tier
from hybrid.study.answers import AnsweredLLM
from hybrid.study.evidence import CLASSIFIER, Progress, Recording, record, with_human
from hybrid.tiers import embedders
from hybrid.tiers.embedders import Embedder, MiniLM
from hybrid.tiers.human import Human
from hybrid.tiers.rules import NO_EDITS, Edits
from hybrid.tiers.whatif import WhatIf

TIER_CONTROLS = (".tiers", ".cheap", ".strong", ".gate")  # endings of the keys of controls that name tiers
SAMPLE = Path(__file__).parents[2] / "sample_data" / "support_tickets.csv"
SAMPLE_ANSWERS = SAMPLE.with_name("recorded_answers.csv")
RECORDED_MINILM, RECORDED_LLM = "minilm", "smollm2"  # tiers of the sample whose answers come with it
MAX_ROWS_UNASKED = 5_000  # embedded without being asked to: about a minute on a slow core


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """Data that was read, fitted and can be tuned on."""

    name: str
    table: pd.DataFrame
    columns: Columns
    recording: Recording
    joined: tuple[Note, ...]  # notes of joining a second file
    edits: Edits
    seconds: float
    embedder: Embedder | None = None  # of the small-model tiers, if they were wanted
    unjoined: Recording | None = None  # as it was fitted, where answers of LLM tiers were added since
    llms: tuple[AnsweredLLM, ...] = ()

    @property
    def notes(self) -> tuple[Note, ...]:
        return (*self.joined, *self.recording.dataset.notes)

    @property
    def key(self) -> str:
        """Tell this data, with its split and rules, from any other; what caches are keyed by."""
        columns, edits = repr(self.columns), repr((sorted(self.edits.removed), self.edits.added))
        small = self.embedder and self.embedder.identity
        llms = "".join(f" {one.key}" for one in self.llms)
        return f"{self.recording.dataset.fingerprint} {columns} {edits} {small}{llms}"


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """A table that was read and can be loaded."""

    token: str  # tells uploads apart
    name: str
    table: pd.DataFrame
    notes: tuple[Note, ...] = ()  # of reading and joining
    columns: Columns | None = None  # as they were picked before a second file was joined


@dataclass(frozen=True, slots=True)
class Terms:
    """What the user assumes about production instead of what the data say.

    Parameters
    ----------
    prices, seconds
        Mean USD, and latency, per answer: (tier, value) pairs.
    mix
        Share of each class in production: (class, share) pairs; empty: as in the data.
    human
        The person who may be the last tier; None, nobody is there.
    """

    prices: tuple[tuple[str, float], ...] = ()
    seconds: tuple[tuple[str, float], ...] = ()
    mix: tuple[tuple[str, float], ...] = ()
    human: Human | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """A policy together with the what-if LLM, if any, and the terms that its numbers rest on."""

    policy: Policy
    whatif: WhatIf | None
    terms: Terms = Terms()


@dataclass(frozen=True, slots=True)
class Pin:
    """A choice that the user keeps for comparison."""

    name: str
    choice: Choice


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """The rows that a choice is measured on: one side of the split, answered by all of its tiers."""

    predictions: Predictions
    truth: Labels
    rows: Rows
    n_side: int  # rows of that side, answered or not
    n_answered: int  # rows that every tier answered, in the mix that was asked for or not
    scarce: str = ""  # the class that limits how many rows are in that mix; empty without one


def loaded() -> Loaded | None:
    """Return the session's data."""
    found: Loaded | None = st.session_state.get("loaded")
    return found


def drafted() -> Draft | None:
    """Return the table that was read last."""
    found: Draft | None = st.session_state.get("draft")
    return found


def draft(table: Draft) -> None:
    """Keep a table, ready to be loaded; what is loaded stays until then."""
    st.session_state["draft"] = table


def fit(
    name: str,
    table: pd.DataFrame,
    columns: Columns,
    *,
    notes: tuple[Note, ...] = (),
    edits: Edits = NO_EDITS,
    embedder: Embedder | None = None,
    progress: Progress | None = None,
) -> Loaded:
    """Validate, split and fit; the session stays as it is, so this may run in another thread.

    Raises
    ------
    HybridError
        If something cannot be used.
    """
    start = time.perf_counter()
    dataset = build(table, columns)
    recording = record(dataset, split(dataset), edits=edits, embedder=embedder, progress=progress)
    return Loaded(name, table, columns, recording, notes, edits, time.perf_counter() - start, embedder)


def keep(now: Loaded) -> None:
    """Replace what the session had.

    Pins and the choice stay while the table, its columns and the small model are the same, as after an edit of the
    rules.
    """
    before = loaded()
    st.session_state["loaded"] = now
    other_tiers = before is not None and (before.table is not now.table or before.embedder != now.embedder)
    if before is None or other_tiers or before.columns != now.columns:
        st.session_state["pins"] = []
        st.session_state.pop("choice", None)
    if other_tiers:  # start from their defaults
        for key in [k for k in st.session_state if k == "whatif" or str(k).endswith(TIER_CONTROLS)]:
            del st.session_state[key]


def sample() -> Draft:
    """Read the support tickets that come with the product, with the answers recorded for them, as one table."""
    tickets, answers = (read(path.name, path.read_bytes()).table for path in (SAMPLE, SAMPLE_ANSWERS))
    by_id = Columns("label", text="text", id="id")
    joined = join(tickets, answers, first_columns=by_id, second_columns=Columns("", id="id"))
    read_now = Draft("sample", "Sample: support tickets", joined.table)
    draft(read_now)
    return read_now


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


def has_recorded(data: Loaded) -> bool:
    """Whether another model's answers came with the data, or were recorded here."""
    return any(t.kind in ("recorded", "llm") for t in data.recording.predictions.tiers)


def choice(data: Loaded) -> Choice:
    """Return the choice made on the Tune page, or triage from the cheap to the strongest tier."""
    chosen: Choice | None = st.session_state.get("choice")
    if chosen is not None:
        return chosen
    whatif = None if has_recorded(data) else WhatIf()
    table = data.recording.with_whatif(whatif)
    tiers = answering(table)
    cheap = cheap_of(tiers)
    strong = strongest(data, table, [t.name for t in tiers if t != cheap])
    return Choice(Policy(Triage(), (cheap, tiers[table.index(strong)])), whatif)


def table_of(data: Loaded, whatif: WhatIf | None, terms: Terms) -> Predictions:
    """Return every tier's answers, at the prices and latencies of the terms."""
    table = data.recording.with_whatif(whatif)
    if terms.human is not None:
        table = with_human(table, terms.human, data.recording.dataset)
    names = {t.name for t in table.tiers}
    prices, seconds = ({k: v for k, v in pairs if k in names} for pairs in (terms.prices, terms.seconds))
    return table.on_terms(prices, seconds)


def choose(chosen: Choice) -> None:
    """Remember the choice for the other pages."""
    st.session_state["choice"] = chosen


def pins() -> list[Pin]:
    """Return the session's pinned choices, in the order they were pinned."""
    kept: list[Pin] = st.session_state.setdefault("pins", [])
    return kept


def pin(chosen: Choice) -> bool:
    """Pin a choice unless it is pinned already; returns whether it was new."""
    if any(p.choice == chosen for p in pins()):
        return False
    used = {p.name for p in pins()}
    letters = (f"{chr(65 + i % 26)}{i // 26 or ''}" for i in range(10_000))
    pins().append(Pin(next(name for name in letters if name not in used), chosen))
    return True


def answering(predictions: Predictions) -> tuple[Tier, ...]:
    """Return the tiers that give labels, from cheap to dear: all but the gates."""
    return tuple(t for t in predictions.tiers if t.kind != "gate")


def cheap_of(tiers: tuple[Tier, ...]) -> Tier:
    """Return the cheap tier that others are measured against.

    The classifier; where that is the dearest or not there, the first tier that is not rules; else the rules.
    """
    cheaper = [t for t in tiers if t.kind != "gate"][:-1]
    named = [t for t in cheaper if t.name == CLASSIFIER]
    return (named or [t for t in cheaper if t.kind != "rules"] or cheaper)[0]


def strongest(data: Loaded, table: Predictions, names: Sequence[str]) -> str:
    """Return the tier of these that escalation goes to unless the user says otherwise.

    A what-if LLM where it is on, for then it is what the user wants to see; else the tier that is right most often on
    the tune rows it answered, which need not be the dearest; of equals, the dearer.
    """
    made_up = [n for n in names if table.tiers[table.index(n)].simulated]
    if made_up:
        return made_up[-1]
    tune = data.recording.split.tune
    label, asked = table.label[tune], table.asked[tune]
    right = label == data.recording.dataset.truth[tune, None]

    def accuracy(name: str) -> float:
        j = table.index(name)
        return float(right[asked[:, j], j].mean()) if asked[:, j].any() else 0.0

    return max(reversed(names), key=accuracy)


def evaluate_on(data: Loaded, choices: tuple[Choice, ...], side: str) -> tuple[Evaluation, ...]:
    """Return for each choice the rows of one side that every tier of *all* the choices answered.

    Where the first choice assumes a mix of classes, rows of the classes that are too many are left out, always the
    same ones, so that what is measured is real rows in that mix.

    Parameters
    ----------
    side
        "tune" or "test".
    """
    parts: Split = data.recording.split
    rows = parts.tune if side == "tune" else parts.test
    tables = [table_of(data, c.whatif, c.terms).take(rows) for c in choices]
    answered = np.ones(len(rows), dtype=bool)
    for c, table in zip(choices, tables, strict=True):
        answered &= answered_by(table, c.policy.names)
    n_answered, scarce = int(answered.sum()), ""
    if choices[0].terms.mix:
        answered, scarce = _in_mix(data, rows, answered, dict(choices[0].terms.mix))
    kept = rows[answered]
    truth = data.recording.dataset.truth[kept]
    return tuple(Evaluation(table.take(answered), truth, kept, len(rows), n_answered, scarce) for table in tables)


def _in_mix(data: Loaded, rows: Rows, answered: Bools, mix: dict[str, float]) -> tuple[Bools, str]:
    """Return the largest part of the answered rows whose classes are mixed as asked, and the class that limits it."""
    dataset = data.recording.dataset
    truth = dataset.truth[rows]
    share = np.array([mix.get(c, 0.0) for c in dataset.classes])
    counts = np.bincount(truth[answered], minlength=len(share))
    room = np.divide(counts, share, out=np.full(len(share), np.inf), where=share > 0)
    scarce = int(room.argmin())
    quota = np.floor(float(room[scarce]) * share + 1e-9).astype(np.intp)
    kept = np.zeros(len(rows), dtype=bool)
    order = np.argsort(dataset.key[rows], kind="stable")  # by a hash of the text: as good as random, always the same
    for c in np.flatnonzero(quota):
        mine = order[answered[order] & (truth[order] == c)]
        kept[mine[: quota[c]]] = True
    return kept, dataset.classes[scarce]
