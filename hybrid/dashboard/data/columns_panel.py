"""Columns: what each column of a table is, as a chip that is changed by a click, and a card for each model."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pandas as pd
import streamlit as st

from hybrid.dashboard import state, wording
from hybrid.dashboard.inert import inert
from hybrid.data.columns import Columns, RecordedColumns, model_behind
from hybrid.data.guess import ANSWERS, PARTS, ROLES, UNUSED, guess, role_of
from hybrid.data.numbers import is_milliseconds
from hybrid.study.study import Study
from hybrid.tiers.llm import prices

NAMES = {
    "label": "The right class",
    "text": "The text",
    "id": "Id",
    "group": "Group (customer, thread)",
    "split": "Split (train, test)",
    ANSWERS: "A model's answer",
    "confidence": "Its confidence",
    "cost": "Its cost, USD",
    "prompt_tokens": "Its prompt tokens",
    "completion_tokens": "Its reply's tokens",
    "latency": "Its waiting time",
    UNUSED: "Not used",
}
WIDTH = 190  # pixels of a chip
STYLE = """<style>
[class*="st-key-chip_"]:not([class*="st-key-chip_unused"]) { border-left: 4px solid #0072b2; }
[class*="st-key-chip_label"] { border-left-color: #009e73 !important; }
</style>"""
MAX_CHIPS = 24  # columns; of a wider table those that are used, and others one by one
SEEN, LONG = 3, 44  # values that are shown of a column, and their letters
TOKENS = 4  # letters that a token has, about
REPLY = 10  # tokens of an answer, about
MAKERS = ("anthropic", "openai", "google", "mistral", "meta", "deepseek", "x-ai", "cohere")


def draw(draft: state.Draft) -> None:
    """Draw a chip for every column, over its first values; a change guesses the rest again."""
    table, columns = draft.study.table, draft.study.columns
    names = [str(c) for c in table.columns]
    shown = names
    if len(names) > MAX_CHIPS:
        used = set(columns.used())
        asked = {c for a in (draft.guess.asks if draft.guess else ()) for c in a.options}
        shown = [c for c in names if c in used or c in asked][:MAX_CHIPS]
    st.html(STYLE)
    with st.container(horizontal=True, gap="small", key="chips"):
        for column in shown:
            _chip(draft, column, names.index(column))
        if len(shown) < len(names):
            rest = [c for c in names if c not in shown]
            with st.container(border=True, width=WIDTH):
                more = st.selectbox(f"{len(rest)} more columns", rest, index=None, key=f"columns.{draft.token}.more")
            if more is not None:
                _chip(draft, more, names.index(more))


def _chip(draft: state.Draft, column: str, at: int) -> None:
    role = role_of(draft.study.columns, column)
    key = f"columns.{draft.token}.role.{at}"
    st.session_state[key] = role  # a change elsewhere may have changed this one
    with st.container(border=True, width=WIDTH, height="stretch", gap="small", key=f"chip_{role}_{at}"):
        st.selectbox(
            inert(column),
            list(NAMES),
            format_func=NAMES.__getitem__,
            key=key,
            on_change=_say,
            args=(column, key),
        )
        values = draft.study.table.iloc[:SEEN, at]
        st.caption("  \n".join(inert(_short(v)) if v else "—" for v in map(str, values)))


def _short(value: str) -> str:
    return value if len(value) <= LONG else f"{value[:LONG]}…"


def _say(column: str, key: str) -> None:
    """Take a column for what the user says it is, and guess the rest around that."""
    draft, role = state.drafted(), st.session_state[key]
    if draft is None:
        return
    before = draft.study
    said = dict(draft.said)
    if draft.guess is None:  # joined, or made: nothing but this is to change
        said = {str(c): role_of(before.columns, str(c)) for c in before.table.columns}
    if role in ROLES:
        said = {c: UNUSED if draft.guess is None and r == role else r for c, r in said.items()}
        said = {c: r for c, r in said.items() if r != role}
    said = {**{c: r for c, r in said.items() if c != column}, column: role}
    again = guess(before.table, picked=draft.picked, said=said)
    columns = replace(again.columns, fold_labels=before.columns.fold_labels)
    if columns.label == before.columns.label and before.columns.reference:
        columns = columns.taught_by(before.columns.reference)
    study = Study(before.name, before.table, columns, notes=before.joined)
    state.draft(replace(draft, study=study, guess=again, said=said))


def draw_models(draft: state.Draft) -> Columns:
    """Draw who labelled, and a card for each model: its name and what it costs; returns the columns with that."""
    columns = draft.study.columns
    reference = _ask_who_labelled(draft, columns)
    teacher = None if draft.guess is None else draft.guess.columns.teacher
    if reference == "":
        columns = columns.by_people()
    elif columns.teacher is None and teacher is not None and teacher.label == columns.label:
        columns = replace(columns, recorded=(*columns.recorded, teacher))  # people did not write them after all
    recorded: list[RecordedColumns] = []
    if columns.recorded:
        with st.container(horizontal=True, gap="small", key="models"):
            recorded = [_draw_model(draft, r) for r in columns.recorded]
    return replace(columns, recorded=tuple(recorded), reference=reference)


def _ask_who_labelled(draft: state.Draft, columns: Columns) -> str | None:
    """Ask whether people labelled, where a name says that a model did; returns the model, or "" for people."""
    guessed = None if draft.guess is None else draft.guess.columns.reference
    model = columns.reference or guessed or model_behind(columns.label)
    if model is None:
        return columns.reference
    key = f"columns.{draft.token}.people.{columns.label}"
    people = st.toggle("People wrote these labels, whatever the column is called", columns.reference == "", key=key)
    if people:
        return ""
    whose = f"These labels are {inert(model)}'s answers"
    if not guessed:
        whose = f"{inert(columns.label)} seems to hold {inert(model)}'s answers"
    st.warning(
        f"{whose}: what is measured is **agreement with {inert(model)}**, not accuracy, and every page says so.",
        icon=":material/smart_toy:",
    )
    return columns.reference or guessed


def _typed(start: str, field: str, usual: Any) -> dict[str, Any]:
    """Return the key of a field of a model's card, and the value to start with.

    The value is no entry of the session's state: a browser that misses the run which makes one shows nothing.
    """
    return {"key": f"{start}.{field}", "value": usual}


def _draw_model(draft: state.Draft, r: RecordedColumns) -> RecordedColumns:
    """Draw a model's card; returns its columns with what was typed."""
    start = f"columns.{draft.token}.model.{r.label}"
    table = draft.study.table

    with st.container(border=True, width=330, gap="small"):
        name = st.text_input("Model", **_typed(start, "name", r.name))
        parts = [f"{NAMES[p].removeprefix('Its ')} in {inert(getattr(r, p))}" for p in PARTS if getattr(r, p)]
        st.caption("; ".join([f"answers in {inert(r.label)}", *parts]))
        values: dict[str, Any] = {"name": name.strip() or r.label}
        values |= _draw_price(draft, r, start, name)
        if r.latency is None:
            usual = r.default_latency or None  # 0 stands for what nobody said
            typed = _typed(start, "seconds", usual)
            seconds = st.number_input("Seconds per answer", 0.0, 1e5, **typed, format="%g", placeholder="unknown")
            values["default_latency"] = float(seconds or 0.0)
        else:
            usual = is_milliseconds(r.latency) if r.milliseconds is None else r.milliseconds
            values["milliseconds"] = st.toggle(f"{inert(r.latency)} is in milliseconds", **_typed(start, "ms", usual))
        if (table[r.label].str.strip() == "").any():
            values["blank_is_failure"] = st.toggle(
                "A blank is a failed answer",
                **_typed(start, "blank", r.blank_is_failure),
                help="On: it was asked for and failed. Off: the model was never asked about that row.",
            )
    return replace(r, **values)


def _draw_price(draft: state.Draft, r: RecordedColumns, start: str, name: str) -> dict[str, Any]:
    """Draw what answers cost, with a picker that fills in a list price; nothing where a column says it."""
    if r.cost is not None:
        return {}
    by_tokens = bool(r.prompt_tokens or r.completion_tokens)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        if by_tokens:
            paid = st.number_input("USD per 1M tokens in", 0.0, 1e6, **_typed(start, "in", r.prompt_price), format="%g")
            got = st.number_input("out", 0.0, 1e6, **_typed(start, "out", r.completion_price), format="%g")
            values = {"prompt_price": float(paid), "completion_price": float(got)}
        else:
            usual = 1000 * r.price if r.price or r.free else None  # unknown, not nothing
            said = st.number_input(
                "USD per 1,000 answers", 0.0, 1e7, **_typed(start, "price", usual), format="%g", placeholder="unknown"
            )
            values = {"price": (said or 0.0) / 1000, "free": said == 0}
        picker = st.popover("List price", icon=":material/sell:", key=f"{start}.open", on_change="rerun")
        if picker.open:
            with picker:
                _pick_list_price(draft, start, name, by_tokens=by_tokens)
    return values


def _pick_list_price(draft: state.Draft, start: str, name: str, *, by_tokens: bool) -> None:
    listed = prices.models(MAKERS)
    like = next((m for m in listed if _parts_of(m) == _parts_of(name)), None)
    model = st.selectbox(
        "Model",
        listed,
        None if like is None else listed.index(like),
        key=f"{start}.listed",
        placeholder="Choose a model",
    )
    found = None if model is None else prices.price(model)
    if found is None:
        return
    st.caption(f"${found.input:g} per 1M tokens in, ${found.output:g} out.".replace("$", r"\$"))
    fill: dict[str, float] = {"in": found.input, "out": found.output}
    if not by_tokens:
        prompt = _prompt_tokens(draft)
        fill = {"price": float(f"{1000 * found.cost(prompt, REPLY):.3g}")}
        st.caption(
            f"About {prompt:,} tokens in (the text and the list of classes) and {REPLY} out an answer: "
            f"{inert(wording.dollars(fill['price']))} per 1,000."
        )
    filled = {f"{start}.{k}": v for k, v in fill.items()}
    st.button("Fill in", key=f"{start}.fill", on_click=_fill, args=(filled, f"{start}.open"))


def _parts_of(name: str) -> list[str]:
    """Return the words and digits of a model's name in order of the alphabet: claude45sonnet is claude-sonnet-4-5."""
    return sorted(re.findall(r"[a-z]+|\d", name.lower()))


def _prompt_tokens(draft: state.Draft) -> int:
    """Return about how many tokens a prompt has that holds the classes and one text of usual length."""
    table, columns = draft.study.table, draft.study.columns
    letters = 300.0 + sum(len(str(c)) + 2 for c in table[columns.label].unique())
    if columns.text is not None:
        letters += float(table[columns.text].str.len().mean())
    return round(letters / TOKENS)


def _fill(values: dict[str, float], popover: str) -> None:
    st.session_state[popover] = False  # it has done its work
    for key, value in values.items():
        st.session_state[key] = value


def draw_preview(table: pd.DataFrame) -> None:
    """Draw the first rows as they are."""
    with st.expander(f"First rows of {len(table):,}"):
        st.dataframe(table.head(20), hide_index=True)
