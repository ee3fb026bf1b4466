"""Support LLM: who reads hard tickets, as the user connects it; its key stays in the session."""

from __future__ import annotations

from dataclasses import asdict

import streamlit as st

from hybrid.dashboard.inert import inert
from hybrid.errors import HybridError
from hybrid.production.binding import operators_key
from hybrid.store.database import default_place
from hybrid.support import Extraction, RuleExtractor, SupportConfig
from hybrid.support.llm_extraction import LLMExtractor, reader_settings
from hybrid.tiers.llm.prices import price as price_of
from hybrid.tiers.servers import KEY_VARIABLE, OPENAI_URL


def edit(config: SupportConfig) -> tuple[SupportConfig, LLMExtractor | None]:
    """Draw the connection; returns the configuration with its settings, and the extractor, None where it is off."""
    known = config.llm or {}
    on = st.toggle(
        "An LLM reads hard tickets",
        config.llm is not None,
        key="support_llm.on",
        help="It is asked only when you press the button, within the budget, and no ticket is paid for twice.",
    )
    if not on:
        st.caption(
            "Off: rules read hard tickets, too; urgency, sentiment, issues and the need of a person stay unknown."
        )
        return config.model_copy(update={"llm": None}), None
    left, right = st.columns(2)
    url = left.text_input("Base URL of its server", known.get("base_url", OPENAI_URL), key="support_llm.url")
    model = right.text_input("Model", known.get("model", ""), key="support_llm.model", placeholder="gpt-4o-mini")
    key = left.text_input(
        "Key", type="password", key="support_llm.key", help="Kept in this session alone; a bundle names the variable."
    )
    variable = right.text_input(
        "Environment variable with the key, in production",
        known.get("key_variable", KEY_VARIABLE),
        key="support_llm.variable",
    )
    if not model.strip():
        st.info("Name the model, as its server calls it.")
        return config.model_copy(update={"llm": None}), None
    listed = price_of(model.strip(), url.strip())
    with st.container(horizontal=True):
        start = (known.get("input_price", 0.0), known.get("output_price", 0.0))
        prices = start if any(start) or listed is None else (listed.input, listed.output)
        paid = [
            st.number_input(label, 0.0, 1e5, float(price), step=0.1, format="%.3f", key=f"support_llm.{label}.{model}")
            for label, price in zip(("USD per million tokens in", "out"), prices, strict=True)
        ]
        budget = st.number_input("Budget, USD", 0.0, 1e6, 1.0, step=0.5, key="support_llm.budget")
    try:
        settings = reader_settings(
            model.strip(),
            base_url=url.strip(),
            key_variable=variable.strip(),
            input_price=paid[0],
            output_price=paid[1],
        )
    except HybridError as error:
        st.error(inert(error), icon=":material/error:")
        return config.model_copy(update={"llm": None}), None
    config = config.model_copy(update={"llm": asdict(settings)})
    rules = RuleExtractor(config.extraction)
    given = key or operators_key(settings.base_url)  # never what a variable holds that was typed here
    return config, LLMExtractor(settings, given, rules=rules, store=default_place(), budget=budget)


def kept(extractor: LLMExtractor) -> dict[str, Extraction]:
    """Return what this session's LLM has read so far, by text."""
    name = f"{extractor.settings} {extractor.rules.settings.model_dump_json()}"
    kept_by: dict[str, dict[str, Extraction]] = st.session_state.setdefault("support_read", {})
    if name not in kept_by and len(kept_by) >= 4:
        del kept_by[next(iter(kept_by))]
    return kept_by.setdefault(name, {})
