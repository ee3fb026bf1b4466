"""LLM form: the fields of an LLM tier: server, prices, prompt, parameters; what was typed stays with the project."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from hybrid.dashboard import state
from hybrid.dashboard.data import llm_session
from hybrid.dashboard.inert import inert
from hybrid.study.study import Study
from hybrid.tiers.llm.prices import ModelPrice
from hybrid.tiers.llm.questions import CLASSIFIER as NAMES_CLASS
from hybrid.tiers.llm.questions import (
    GATE,
    GATE_PROMPT,
    PROMPT,
    TIERS_OF_GATE,
    TIERS_PROMPT,
    LLMSettings,
    parameters_from,
)

FORM = "llm_form"  # of a study's form: by tier and field, plain JSON: what was typed, never a key


class Form:
    """What was typed into the fields of a tier: it stays when the page is left or drawn anew, with the study.

    The session forgets a widget that another page does not draw; `remember` copies what they hold.
    """

    def __init__(self, study: Study, key: str) -> None:
        self.key = key
        self._study = study
        self._kept: dict[str, Any] = dict(study.form.get(FORM, {}).get(key, {}))
        self._drawn: list[str] = []
        self.preset = ""

    def field(self, name: str, usual: Any) -> dict[str, Any]:
        """Return the key of a field's widget, and its value to start with: what was typed before, else the usual.

        The value is no entry of the session's state: a browser that misses the run which makes one shows nothing.
        """
        self._drawn.append(name)
        return {"key": f"{self.key}.{name}", "value": self._kept.get(name, usual)}

    def pick(self, name: str, options: Sequence[str], usual: str) -> dict[str, Any]:
        """Return the key of a box to pick from, its options, and which of them to start with."""
        at = self.field(name, usual)
        value = at["value"] if at["value"] in options else usual
        return {"key": at["key"], "options": options, "index": options.index(value)}

    def get(self, name: str, usual: Any) -> Any:
        return self._kept.get(name, usual)

    def put(self, name: str, value: Any) -> None:
        self._kept[name] = value

    def remember(self) -> None:
        """Keep what the fields hold, with the project where there is one."""
        for name in self._drawn:
            if f"{self.key}.{name}" in st.session_state:
                self._kept[name] = st.session_state[f"{self.key}.{name}"]
        every = self._study.form.setdefault(FORM, {})
        if every.get(self.key) != self._kept:
            every[self.key] = self._kept
            state.save()

    def forget(self) -> None:
        """Drop what was typed: it is part of the tier now, or is wanted no more."""
        self._study.form.get(FORM, {}).pop(self.key, None)


def preset(form: Form) -> LLMSettings:
    """Return what a new tier starts with, as set up by whoever runs the dashboard."""
    found = llm_session.presets()
    if not found:
        return LLMSettings("llm", "?")
    picked = st.selectbox("Set up here", **form.pick("preset", [*found, "Another server"], next(iter(found))))
    if picked not in found:
        return LLMSettings("llm", "?")
    here = found[picked]
    form.preset = f".{picked}"  # what is typed about one is not said of another
    return LLMSettings(here.name, here.model or "?", base_url=here.base_url)


def draw_prices(place: Any, form: Form, model: str, url: str, before: LLMSettings | None) -> dict[str, Any] | None:
    """Draw the prices per million tokens: the list prices where they are known, else they are asked for."""
    listed = llm_session.price_of(model, url)
    known = _Prices(before) if before and before.model == model else _Prices(listed)
    with place:
        left, middle, right = st.columns(3)
        box = f"price.{model}.{url}"
        paid = left.number_input("USD per 1M in", 0.0, 1e6, **form.field(f"{box}.in", known.input), format="%g")
        got = middle.number_input("out", 0.0, 1e6, **form.field(f"{box}.out", known.output), format="%g")
        cached = right.number_input(
            "in, cached",
            0.0,
            1e6,
            **form.field(f"{box}.cached", known.cached),
            format="%g",
            help="For the part of a prompt that the server has read before, as it counts it; empty: as the rest.",
        )
    if model and listed is None and before is None:
        st.caption(
            f"No list price is known for {inert(model)} at this server: type what it costs; 0 where it runs here."
        )
    if listed is not None and listed.note:
        st.caption(inert(listed.note))
    if paid is None or got is None:
        return None
    as_listed = listed is not None and (paid, got) == (listed.input, listed.output)
    steps = listed.steps if listed is not None and as_listed else ()
    return {"input_price": paid, "output_price": got, "cached_price": cached, "steps": steps}


class _Prices:
    """The prices of a tier, or of a list; None where there are none."""

    def __init__(self, known: LLMSettings | ModelPrice | None) -> None:
        self.input = self.output = self.cached = None
        if isinstance(known, LLMSettings):
            self.input, self.output, self.cached = known.input_price, known.output_price, known.cached_price
        elif known is not None:
            self.input, self.output, self.cached = known.input, known.output, known.cached


def draw_prompt(study: Study, form: Form, role: str, start: LLMSettings) -> dict[str, Any]:
    """Draw what the model is asked, editable, and how."""
    st.write("**What it is asked**")
    tiers: tuple[str, ...] = ()
    usual, key = PROMPT, f"prompt.{role}"
    if role == GATE:
        named = st.text_input(
            "Tiers that it picks from, cheap to dear",
            **form.field("tiers", ", ".join(start.gate_tiers)),
            help="As the prompt names them: cheap, llm; or regex, classifier, small_llm, large_llm; or tiers of yours.",
        )
        tiers = tuple(t.strip() for t in named.split(",") if t.strip())
        usual = GATE_PROMPT
        if tiers != TIERS_OF_GATE:
            usual, key = TIERS_PROMPT, f"{key}.tiers"
    own = start.role == role and start.prompt not in (PROMPT, GATE_PROMPT, TIERS_PROMPT)
    prompt = st.text_area(
        "Prompt",
        **form.field(key, start.prompt if own else usual),
        height=230,
        help="{classes} stands for the classes with their descriptions, {tiers} for a gate's tiers. The text itself "
        "follows in a message of its own, between <text> and </text>.",
    )
    told = _draw_descriptions(study, form, start)
    columns = st.columns(5)
    examples = columns[0].number_input(
        "Examples",
        0,
        50,
        **form.field("examples", start.examples),
        help="Labelled texts most like the one asked about, from the training side, never from its own duplicates.",
    )
    longest = columns[1].number_input(
        "Longest reply, tokens",
        1,
        100_000,
        **form.field(
            f"max_tokens.{role}", start.max_tokens if start.role == role else (100 if role == NAMES_CLASS else 250)
        ),
        help="A model that thinks aloud needs more.",
    )
    timeout = columns[2].number_input("Timeout, s", 1.0, 3600.0, **form.field("timeout", start.timeout))
    retries = columns[3].number_input("Retries", 0, 20, **form.field("retries", start.retries))
    at_once = columns[4].number_input("Calls at a time", 1, 64, **form.field("concurrency", start.concurrency))
    with st.container(horizontal=True):
        schema = st.checkbox(
            "Allow only the classes (JSON schema)",
            **form.field("schema", start.json_schema),
            help="A server that cannot is asked without; replies are checked either way.",
        )
        near = st.checkbox(
            "Offer only classes of the examples",
            **form.field("near", start.near_classes_only),
            disabled=not examples,
            help="For small models and many classes.",
        )
        none = st.checkbox(
            "May answer “none of these”",
            **form.field("none", start.none_of_these),
            disabled=role == GATE or study.out_class is not None,
            help="For texts about something else: the answer then ends the text as out of scope. It is right of no row "
            "whose label is a class, and off where a class of your data says the same.",
        )
    return {
        "prompt": prompt,
        "descriptions": told,
        "examples": int(examples),
        "max_tokens": int(longest),
        "timeout": float(timeout),
        "retries": int(retries),
        "concurrency": int(at_once),
        "json_schema": schema,
        "near_classes_only": near and bool(examples),
        "none_of_these": none and role != GATE and study.out_class is None,
        "tiers": () if tiers == TIERS_OF_GATE else tiers,
    }


def _draw_descriptions(study: Study, form: Form, start: LLMSettings) -> tuple[tuple[str, str], ...]:
    """Draw what belongs to each class, as a table; returns the classes that have a description."""
    dataset = study.dataset
    widget, base = f"{form.key}.classes.{dataset.fingerprint}", f"{form.key}.classes0.{dataset.fingerprint}"
    if widget not in st.session_state or base not in st.session_state:  # it must not change while it is edited
        described = dict(form.get("descriptions", start.descriptions))
        words = [described.get(c, "") for c in dataset.classes]
        st.session_state[base] = pd.DataFrame({"Class": dataset.classes, "What belongs to it": words})
    with st.popover("Describe the classes", icon=":material/edit_note:"):
        edited = st.data_editor(st.session_state[base], hide_index=True, disabled=["Class"], key=widget)
    told = tuple(
        (str(c), str(d).strip()) for c, d in edited.itertuples(index=False) if isinstance(d, str) and d.strip()
    )
    form.put("descriptions", [list(pair) for pair in told])
    return told


def draw_along(form: Form, start: LLMSettings) -> dict[str, Any]:
    """Draw what else is sent: parameters of the request, headers, and what goes into the address.

    Raises
    ------
    TierError
        If one of them is no JSON object, or cannot be sent.
    """
    with st.popover("More parameters", icon=":material/tune:"):
        st.caption(
            "JSON objects; they are part of the question, and go into the bundle. A parameter that the model refuses "
            "is left out, which is said. null leaves one out that is sent otherwise."
        )
        given = {
            what: st.text_area(label, **form.field(what, _json(getattr(start, what))), height=80, placeholder=example)
            for what, label, example in (
                ("parameters", "Of the request", '{"reasoning_effort": "low"}'),
                ("headers", "Headers; {key} stands for the key", '{"api-key": "{key}"}'),
                ("query", "In the address", '{"api-version": "2024-10-21"}'),
            )
        }
    return {what: parameters_from(text) for what, text in given.items()}


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False) if value else ""
