"""Support settings: simple categories, depth, patterns and the action table, edited in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import streamlit as st
from pydantic import ValidationError

from hybrid.dashboard import state, wording
from hybrid.dashboard.inert import inert
from hybrid.dashboard.support import llm as support_llm
from hybrid.errors import SupportError
from hybrid.routing.engine import Policy
from hybrid.study.study import Study
from hybrid.support import (
    FIELDS,
    ActionRow,
    ActionTable,
    ExtractionSettings,
    FieldPattern,
    PatternTest,
    SupportConfig,
    default_config,
    read_conditions,
)
from hybrid.support.actions import FACTS
from hybrid.support.field_patterns import first_problem
from hybrid.support.llm_extraction import LLMExtractor

ACTIONS = ["Category", "Conditions", "Action", "To a person"]
PATTERNS = ["Field", "Expression", "Test text", "Must find"]
FORM = "support"  # of a study's form: the configuration
ARROW = " | "  # between what a test must find


def current(study: Study, policy: Policy) -> SupportConfig:
    """Return the configuration that is kept with the study; else one to start from."""
    classes = study.dataset.classes
    try:
        kept = SupportConfig.model_validate(study.form[FORM]) if FORM in study.form else default_config(classes)
    except ValidationError:  # kept by a version that knew other settings
        kept = default_config(classes)
    return kept.fitted(classes=classes, tiers=policy.names)


def edit(study: Study, policy: Policy) -> tuple[SupportConfig, LLMExtractor | None]:
    """Draw all settings; returns what they say, or, where a part cannot be used, that part as it last could."""
    config = current(study, policy)
    depth, actions, patterns, reader = st.tabs(["How deep", "Actions", "Fields and patterns", "LLM"])
    with depth:
        config = _edit_depth(config, study, policy)
    with patterns:
        config = _kept_valid(config, lambda c: _edit_extraction(c, study), study, policy)
    with actions:
        config = _kept_valid(config, lambda c: _edit_actions(c, study), study, policy)
    with reader:
        config, llm = support_llm.edit(config)
    plain = config.model_dump(mode="json")
    if study.form.get(FORM) != plain:
        study.form[FORM] = plain
        state.save()
    return config, llm


def _kept_valid(
    config: SupportConfig, change: Callable[[SupportConfig], SupportConfig], study: Study, policy: Policy
) -> SupportConfig:
    try:
        changed = change(config)
        changed.check(classes=study.dataset.classes, tiers=policy.names)
    except ValidationError as error:
        st.error(
            f"{inert(first_problem(error, 'This table'))} What was valid last stays in use.", icon=":material/error:"
        )
        return config
    except SupportError as error:
        st.error(f"{inert(error)} What was valid last stays in use.", icon=":material/error:")
        return config
    return changed


def _edit_depth(config: SupportConfig, study: Study, policy: Policy) -> SupportConfig:
    set_on_tune = ", ".join(f"{title.lower()} {value}" for _, title, value in wording.settings(policy))
    st.caption(
        "Rules read a ticket where the policy kept the answer of an easy tier, at or above both thresholds, and the "
        f"category is simple; an LLM reads the others. The policy's own, set on Tune: {inert(set_on_tune) or 'none'}."
    )
    easy_key = _key("easy", study, repr(policy.names))
    easy = st.multiselect("Easy tiers", policy.names, list(config.easy_of(policy)), key=easy_key)
    simple_key = _key("simple", study)
    simple = st.multiselect("Simple categories", study.dataset.classes, list(config.simple_categories), key=simple_key)
    sure = st.slider(
        "Least confidence for rules to read",
        0.0,
        1.0,
        config.rules_confidence,
        step=0.01,
        key=_key("sure", study),
        help="Of the final answer. At 0 the policy's own threshold decides alone.",
    )
    default = config.model_copy(update={"easy_tiers": None}).easy_of(policy)
    return config.model_copy(
        update={
            "easy_tiers": None if tuple(easy) == default else tuple(easy),
            "simple_categories": tuple(simple),
            "rules_confidence": float(sure),
        }
    )


def _edit_actions(config: SupportConfig, study: Study) -> SupportConfig:
    st.caption(
        "The first row that fits decides. An action is a name for your own systems; nothing here runs it. Conditions: "
        "a field, then <, <=, >, >=, is, is not, contains and a value, or present, absent; joined by *and*, as in "
        "`amount < 100 EUR and order present`. Leave them empty for every ticket of the category."
    )
    rows = [(r.category, " and ".join(map(str, r.conditions)), r.action, r.to_human) for r in config.actions.rows]
    frame = pd.DataFrame(rows, columns=ACTIONS).astype({"Category": object, "Conditions": object, "Action": object})
    edited = _table(
        "actions",
        frame,
        study,
        {
            "Category": st.column_config.SelectboxColumn(options=["any", *study.dataset.classes], required=True),
            "Conditions": st.column_config.TextColumn(max_chars=500, width="large"),
            "Action": st.column_config.TextColumn(max_chars=64, required=True),
            "To a person": st.column_config.CheckboxColumn(default=False),
        },
    )
    with st.expander("What conditions can name"):
        known = {**FIELDS, **FACTS, **{p.name: f"found by {p.expression}" for p in config.extraction.patterns}}
        st.dataframe(
            pd.DataFrame({"Name": list(known), "What it is": list(known.values())}), hide_index=True, width="stretch"
        )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        default = st.text_input("Where no row fits", config.actions.default, key=_key("default", study), max_chars=64)
        to_human = st.checkbox("goes to a person", config.actions.default_to_human, key=_key("default_human", study))
    table = ActionTable(rows=tuple(_action_rows(edited)), default=default.strip(), default_to_human=to_human)
    return config.model_copy(update={"actions": table})


def _action_rows(edited: pd.DataFrame) -> list[ActionRow]:
    """Return the rows of the edited table that have an action."""
    return [
        ActionRow(
            category=_text(category) or "any",
            conditions=read_conditions(_text(conditions)),
            action=_text(action),
            to_human=human is True or human == 1,
        )
        for category, conditions, action, human in edited[ACTIONS].itertuples(index=False)
        if _text(action)
    ]


def _edit_extraction(config: SupportConfig, study: Study) -> SupportConfig:
    settings = config.extraction
    left, right = st.columns(2)
    wanted = left.multiselect(
        "Fields that rules look for", list(FIELDS), list(settings.fields), key=_key("fields", study)
    )
    region = right.text_input(
        "Country of telephone numbers without a prefix",
        settings.phone_region,
        key=_key("region", study),
        max_chars=2,
    )
    day_first = right.toggle("03/04 is 3 April", value=settings.day_first, key=_key("day_first", study))
    st.caption(
        "Patterns of your own find new fields, or more of one that there is; they win over the rules. The syntax is "
        "RE2's, which takes time in proportion to the text whatever the expression; a group marks the value. A test is "
        f"a text and what must be found in it, several parted by `{ARROW.strip()}`."
    )
    rows = []
    for pattern in settings.patterns:
        tests = [(t.text, ARROW.join(t.finds)) for t in pattern.tests] or [("", "")]
        rows += [(pattern.name, pattern.expression, text, finds) for text, finds in tests]
    frame = pd.DataFrame(rows, columns=PATTERNS).astype(dict.fromkeys(PATTERNS, object))
    edited = _table(
        "patterns",
        frame,
        study,
        {
            "Field": st.column_config.TextColumn(max_chars=32, required=True),
            "Expression": st.column_config.TextColumn(max_chars=200, required=True),
            "Test text": st.column_config.TextColumn(max_chars=2000),
            "Must find": st.column_config.TextColumn(max_chars=2000),
        },
    )
    return config.model_copy(
        update={
            "extraction": ExtractionSettings.model_validate(
                {
                    "fields": tuple(wanted),
                    "day_first": day_first,
                    "phone_region": region.strip().upper(),
                    "patterns": tuple(_patterns(edited)),
                }
            )
        }
    )


def _patterns(edited: pd.DataFrame) -> list[FieldPattern]:
    """Return the patterns of the edited table; rows of one field and expression are its tests."""
    tests: dict[tuple[str, str], list[PatternTest]] = {}
    for name, expression, text, finds in edited[PATTERNS].itertuples(index=False):
        if _text(name) and _text(expression):
            mine = tests.setdefault((_text(name), _text(expression)), [])
            if _text(text):
                found = tuple(f.strip() for f in _text(finds).split(ARROW.strip()) if f.strip())
                mine.append(PatternTest(text=_text(text), finds=found))
    return [FieldPattern(name=n, expression=e, tests=tuple(t)) for (n, e), t in tests.items()]


def _text(value: Any) -> str:
    """Return a cell as text; an empty one is None, nan, or nothing, as its editor left it."""
    return value.strip() if isinstance(value, str) else ""


def _key(name: str, study: Study, more: str = "") -> str:
    return f"support.{name}.{abs(hash((study.token, more)))}"


def _table(name: str, frame: pd.DataFrame, study: Study, config: dict[str, Any]) -> pd.DataFrame:
    """Draw an editor whose rows can be added and deleted; it starts anew from what is in use when the page is left."""
    key = _key(name, study)
    if key not in st.session_state:
        st.session_state[f"{key}.start"] = frame
    edited: pd.DataFrame = st.data_editor(
        st.session_state[f"{key}.start"], num_rows="dynamic", hide_index=True, key=key, column_config=config
    )
    return edited
