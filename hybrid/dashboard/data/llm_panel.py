"""LLM panel: connect LLM tiers, test them, see and edit what they are asked, and record their answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import streamlit as st

from hybrid.dashboard import wording
from hybrid.dashboard.data import llm_session
from hybrid.dashboard.data.llm_progress import draw_recording
from hybrid.dashboard.state import Loaded
from hybrid.errors import HybridError
from hybrid.metrics.summary import break_even_share
from hybrid.routing.table import UNKNOWN
from hybrid.study.evidence import CLASSIFIER
from hybrid.tiers.llm.client import MEANING
from hybrid.tiers.llm.questions import CLASSIFIER as NAMES_CLASS
from hybrid.tiers.llm.questions import GATE, GATE_PROMPT, PROMPT, LLMSettings
from hybrid.tiers.llm.replies import OK, read_label
from hybrid.tiers.llm.tier import cost_of

NEW = "Connect another"
ROLES = {NAMES_CLASS: "Names the class", GATE: "Gate of the router"}
WHERE_TEXTS_GO = (
    "If you connect an LLM, the texts that you have it answer go to the server that you name; its answers are kept on "
    "disk here, the texts are not."
)


def show(data: Loaded) -> None:
    """Draw the panel; recorded answers join the session's tiers as they come in."""
    if data.recording.dataset.texts is None:
        return
    job = llm_session.job()
    if (job is None or not job.alive) and llm_session.sync(data):
        st.rerun()
    st.subheader("LLM tiers")
    st.caption(
        "Any server that speaks the OpenAI chat protocol: OpenAI, vLLM, Ollama, llama.cpp. Its answers are recorded "
        "once and kept on this computer, under a hash of the question: they are not paid for twice."
    )
    names = list(llm_session.tiers())
    if data.llms:
        _show_answers(data)
    if "llm.pick" in st.session_state:  # the tier that was connected just now
        st.session_state["llm.picked"] = st.session_state.pop("llm.pick")
    if st.session_state.get("llm.picked", NEW) not in [*names, NEW]:
        del st.session_state["llm.picked"]
    picked = st.selectbox("LLM tier", [*names, NEW], key="llm.picked") if names else NEW
    before = llm_session.tiers().get(picked)
    settings = _draw_settings(data, before)
    if before is not None:
        draw_recording(data, before, settings)


def _show_answers(data: Loaded) -> None:
    """Say what each LLM is worth where it was asked, and how its confidence was made."""
    table = data.recording.predictions
    for one in data.llms:
        how = one.model.calibrator
        kind = "gate" if one.tier.kind == "gate" else "LLM"
        said = (
            f"Confidence: {how.reason}"
            if how is not None
            else f"It gives no probabilities: each answer gets its accuracy on tune, {one.model.usual:.3f}."
        )
        st.caption(
            f"**{one.tier.name}** ({kind}, {one.model.settings.model}) answered {one.n_answered:,} of "
            f"{data.recording.dataset.n_rows:,} rows; curves use the rows that every tier of a policy answered. {said}"
        )
    gates = [t for t in table.tiers if t.kind == "gate"]
    strong = [t for t in table.tiers if t.kind in ("llm", "recorded")]
    if any(t.price for t in gates) and strong:
        dear = strong[-1]
        cheap = table.tiers[table.index(CLASSIFIER)]
        rows = [
            {
                "Gate": g.name,
                "USD per 1,000": 1000 * g.price,
                "Breaks even at": _percent(g.price, cheap.price, dear.price),
            }
            for g in gates
        ]
        st.write(
            f"**Break-even**: the share of texts that must go to {cheap.name} instead of {dear.name} to pay for it"
        )
        st.dataframe(
            pd.DataFrame(rows),
            hide_index=True,
            width="content",
            column_config={"USD per 1,000": st.column_config.NumberColumn(format="$%.4g")},
        )


def _percent(gate: float, cheap: float, dear: float) -> str:
    least = break_even_share(gate, cheap, dear)
    return "never" if least is None else wording.percent(least)


def _draw_settings(data: Loaded, before: LLMSettings | None) -> LLMSettings | None:
    """Draw a tier's settings with the buttons that test and keep it; returns them, None while they are not complete."""
    key = f"llm.{before.name if before else 'new'}"
    with st.expander("Connect an LLM" if before is None else f"{before.name}: server, price and prompt"):
        start = before or _preset(key)
        left, middle, right = st.columns(3)
        role = left.selectbox(
            "Role",
            list(ROLES),
            list(ROLES).index(start.role),
            format_func=ROLES.__getitem__,
            key=f"{key}.role",
            help="A gate is asked first, about every text, and says whether the cheap tier will do.",
        )
        usual_name = start.name if before or role == NAMES_CLASS else "LLM gate"
        name = middle.text_input("Name", usual_name, key=f"{key}.name.{role}")
        st.session_state.setdefault(f"{key}.model", start.model if start.model != "?" else "")
        st.session_state.setdefault(f"{key}.url", start.base_url)  # not `value=`: a preset writes these keys, too
        model = right.text_input("Model", key=f"{key}.model")
        left, middle, right = st.columns(3)
        url = left.text_input("Base URL", key=f"{key}.url")
        typed = middle.text_input(
            "Key",
            type="password",
            key=f"{key}.key",
            help="Kept in this session's memory only, and sent to this server only. Empty: the one in the environment "
            "or the secrets file for this server, if any; a local server needs none.",
            autocomplete="off",
        )
        prices = _draw_prices(right, key, model.strip(), url.strip(), before)
        asked = _draw_prompt(data, key, role, start)
        settings = None
        if model.strip() and prices is not None:
            try:
                settings = replace(
                    start,
                    name=name.strip(),
                    role=role,
                    model=model.strip(),
                    base_url=url.strip(),
                    input_price=prices[0],
                    output_price=prices[1],
                    **asked,
                )
            except HybridError as error:
                st.error(str(error), icon=":material/error:")
        _draw_buttons(data, key, settings, typed.strip() or None, before)
    return settings


def _preset(key: str) -> LLMSettings:
    """Return what a new tier starts with, as set up by whoever runs the dashboard."""
    found = llm_session.presets()
    if not found:
        return LLMSettings("llm", "?")
    picked = st.selectbox("Set up here", [*found, "Another server"], key=f"{key}.preset")
    if picked not in found:
        return LLMSettings("llm", "?")
    preset = found[picked]
    if st.session_state.get(f"{key}.preset0") != picked:  # what is typed stays until another is picked
        st.session_state[f"{key}.preset0"] = picked
        st.session_state[f"{key}.model"] = preset.model
        st.session_state[f"{key}.url"] = preset.base_url
    return LLMSettings(preset.name, preset.model or "?", base_url=preset.base_url)


def _draw_prices(place: Any, key: str, model: str, url: str, before: LLMSettings | None) -> tuple[float, float] | None:
    """Draw the price per million tokens: the list price where it is known, else it is asked for."""
    listed = llm_session.price_of(model, url)
    known = (before.input_price, before.output_price) if before and before.model == model else None
    if known is None and listed is not None:
        known = listed.input, listed.output
    with place:
        left, right = st.columns(2)
        box = f"{key}.price.{model}.{url}"
        paid = left.number_input("USD per 1M in", 0.0, 1e6, known[0] if known else None, key=f"{box}.in", format="%g")
        got = right.number_input("USD per 1M out", 0.0, 1e6, known[1] if known else None, key=f"{box}.out", format="%g")
    if model and listed is None and before is None:
        st.caption(f"No list price is known for {model} at this server: type what it costs; 0 where it runs here.")
    return None if paid is None or got is None else (paid, got)


def _draw_prompt(data: Loaded, key: str, role: str, start: LLMSettings) -> dict[str, Any]:
    """Draw what the model is asked, editable, and how."""
    st.write("**What it is asked**")
    usual = PROMPT if role == NAMES_CLASS else GATE_PROMPT
    prompt = st.text_area(
        "Prompt",
        start.prompt if start.role == role and start.prompt != PROMPT else usual,
        key=f"{key}.prompt.{role}",
        height=230,
        help="{classes} stands for the classes with their descriptions. The text itself follows in a message of its "
        "own, between <text> and </text>.",
    )
    classes = data.recording.dataset.classes
    described = dict(start.descriptions)
    with st.popover("Describe the classes", icon=":material/edit_note:"):
        frame = pd.DataFrame({"Class": classes, "What belongs to it": [described.get(c, "") for c in classes]})
        edited = st.data_editor(
            frame, hide_index=True, disabled=["Class"], key=f"{key}.classes.{data.recording.dataset.fingerprint}"
        )
    told = tuple(
        (str(c), str(d).strip()) for c, d in edited.itertuples(index=False) if isinstance(d, str) and d.strip()
    )
    columns = st.columns(5)
    examples = columns[0].number_input(
        "Examples",
        0,
        50,
        start.examples,
        key=f"{key}.examples",
        help="Labelled texts most like the one asked about, from the training side, never from its own duplicates.",
    )
    longest = columns[1].number_input(
        "Longest reply, tokens",
        1,
        100_000,
        start.max_tokens if start.role == role else (100 if role == NAMES_CLASS else 250),
        key=f"{key}.max_tokens.{role}",
        help="A model that thinks aloud needs more.",
    )
    timeout = columns[2].number_input("Timeout, s", 1.0, 3600.0, start.timeout, key=f"{key}.timeout")
    retries = columns[3].number_input("Retries", 0, 20, start.retries, key=f"{key}.retries")
    at_once = columns[4].number_input("Calls at a time", 1, 64, start.concurrency, key=f"{key}.concurrency")
    with st.container(horizontal=True):
        schema = st.checkbox(
            "Allow only the classes (JSON schema)",
            start.json_schema,
            key=f"{key}.schema",
            help="A server that cannot is asked without; replies are checked either way.",
        )
        near = st.checkbox(
            "Offer only classes of the examples",
            start.near_classes_only,
            key=f"{key}.near",
            disabled=not examples,
            help="For small models and many classes.",
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
    }


def _draw_buttons(
    data: Loaded, key: str, settings: LLMSettings | None, typed: str | None, before: LLMSettings | None
) -> None:
    with st.container(horizontal=True):
        test = st.button("Test it", icon=":material/bolt:", key=f"{key}.test", disabled=settings is None)
        keep = st.button(
            "Connect" if before is None else "Keep the changes",
            icon=":material/link:",
            type="primary",
            key=f"{key}.keep",
            disabled=settings is None or (settings == before and typed is None),
        )
        drop = before is not None and st.button("Disconnect", icon=":material/link_off:", key=f"{key}.drop")
    if settings is None:
        st.caption("Fill in the model and its prices.")
        return
    if drop and before is not None:
        llm_session.forget(before.name)
        st.rerun()
    if test:
        _test(data, settings, typed or llm_session.key_of(settings))
    if keep:
        try:
            llm_session.connect(data, settings, typed, before=before.name if before else None)
        except HybridError as error:
            st.error(str(error), icon=":material/error:")
            return
        for typed_in in [k for k in st.session_state if str(k).startswith(f"{key}.")]:
            del st.session_state[typed_in]  # the key above all
        st.session_state["llm.pick"] = settings.name
        st.rerun()


def _test(data: Loaded, settings: LLMSettings, key: str | None) -> None:
    """Ask about one row and show everything about the reply."""
    try:
        with st.spinner("Asking …"):
            text, reply = llm_session.test_call(data, settings, key)
    except HybridError as error:
        st.error(str(error), icon=":material/error:")
        return
    classes = data.recording.dataset.classes
    code = read_label(reply.content, classes) if settings.role == NAMES_CLASS else UNKNOWN
    said = f"“{text[:150]}” → **{classes[code] if code != UNKNOWN else reply.content or 'nothing'}**"
    sure = "no probabilities" if reply.probability is None else f"probability {reply.probability:.3f}"
    counted = "guessed" if reply.guessed else "counted by the server"
    said += (
        f"  \n{reply.prompt_tokens:,} + {reply.completion_tokens:,} tokens ({counted}), "
        f"{wording.dollars(cost_of(settings, reply))}, {reply.latency:.2f} s, {sure}."
    ).replace("$", r"\$")
    if reply.kind == OK:
        st.success(said, icon=":material/check:")
    else:
        st.warning(f"{said}  \n{MEANING[reply.kind]}", icon=":material/warning:")
