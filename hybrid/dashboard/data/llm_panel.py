"""LLM panel: connect LLM tiers, test them, see and edit what they are asked, and record their answers."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pandas as pd
import streamlit as st

from hybrid.dashboard import wording
from hybrid.dashboard.data import llm_session
from hybrid.dashboard.data.llm_form import Form, draw_along, draw_prices, draw_prompt, preset
from hybrid.dashboard.data.llm_progress import draw_recording
from hybrid.dashboard.inert import inert
from hybrid.data.foreign import shown
from hybrid.errors import HybridError
from hybrid.metrics.summary import break_even_share
from hybrid.routing.table import NONE, NONE_LABEL, UNKNOWN
from hybrid.study.answers import AnsweredLLM
from hybrid.study.study import Study
from hybrid.tiers.llm.client import MEANING
from hybrid.tiers.llm.questions import CLASSIFIER as NAMES_CLASS
from hybrid.tiers.llm.questions import GATE, LLMSettings
from hybrid.tiers.llm.replies import OK, Reply, read_gate
from hybrid.tiers.llm.tier import cost_of

NEW = "Connect another"
ROLES = {NAMES_CLASS: "Names the class", GATE: "Gate of the router"}
WHERE_TEXTS_GO = (
    "If you connect an LLM, the texts that you have it answer go to the server that you name; its answers are kept on "
    "disk here, the texts are not."
)


def show(study: Study) -> None:
    """Draw the panel; recorded answers join the session's tiers as they come in."""
    if study.dataset.texts is None:
        return
    job = llm_session.job()
    if (job is None or not job.alive) and llm_session.sync(study):
        st.rerun()
    st.subheader("LLM tiers")
    st.caption(
        "Any server that speaks the OpenAI chat protocol: OpenAI, vLLM, Ollama, llama.cpp. Its answers are recorded "
        "once and kept on this computer, under a hash of the question: they are not paid for twice."
    )
    names = list(llm_session.tiers(study))
    if study.llms:
        _show_answers(study)
    if "llm.pick" in st.session_state:  # the tier that was connected just now
        st.session_state["llm.picked"] = st.session_state.pop("llm.pick")
    if st.session_state.get("llm.picked", NEW) not in [*names, NEW]:
        del st.session_state["llm.picked"]
    picked = st.selectbox("LLM tier", [*names, NEW], key="llm.picked") if names else NEW
    before = llm_session.tiers(study).get(picked)
    settings = _draw_settings(study, before)
    if before is not None:
        draw_recording(study, before, settings)


def _show_answers(study: Study) -> None:
    """Say what each LLM is worth where it was asked, and how its confidence was made."""
    for one in study.llms:
        how = one.model.calibrator
        kind = "gate" if one.tier.kind == "gate" else "LLM"
        said = (
            f"Confidence: {how.reason}"
            if how is not None
            else f"It gives no probabilities: each answer gets its accuracy on tune, {one.model.usual:.3f}."
        )
        st.caption(
            f"**{inert(one.tier.name)}** ({kind}, {inert(one.model.settings.model)}) was asked about "
            f"{one.n_answered:,} of {study.dataset.n_rows:,} rows{_without_answer(one)}; curves use the rows "
            f"that every tier of a policy was asked about. {said}"
        )
        if one.model.without:
            st.caption(
                f"It refuses {', '.join(map(inert, one.model.without))}: it is asked without, here and in the bundle."
            )
    gates = [t for t in study.tiers if t.kind == "gate"]
    dear, cheap = study.llm, study.cheap
    if any(t.price for t in gates) and dear is not None:
        rows = [
            {
                "Gate": g.name,
                "USD per 1,000": 1000 * g.price,
                "Breaks even at": _percent(g.price, cheap.price, dear.price),
            }
            for g in gates
        ]
        st.write(
            f"**Break-even**: the share of texts that must go to {inert(cheap.name)} instead of {inert(dear.name)} to "
            "pay for it"
        )
        st.dataframe(
            pd.DataFrame(rows),
            hide_index=True,
            width="content",
            column_config={"USD per 1,000": st.column_config.NumberColumn(format="$%.4g")},
        )


def _without_answer(one: AnsweredLLM) -> str:
    """Say how many rows got no usable answer, by kind."""
    kinds = Counter(r.kind for r in one.replies.values() if r.kind != OK)
    listed = ", ".join(f"{n:,} {kind.replace('_', ' ')}" for kind, n in kinds.most_common())
    return f", without a usable answer on {kinds.total():,} ({listed}), which count as wrong if final" if kinds else ""


def _percent(gate: float, cheap: float, dear: float) -> str:
    least = break_even_share(gate, cheap, dear)
    return "never" if least is None else wording.percent(least)


def _draw_settings(study: Study, before: LLMSettings | None) -> LLMSettings | None:
    """Draw a tier's settings with the buttons that test and keep it; returns them, None while they are not complete."""
    with st.expander("Connect an LLM" if before is None else f"{inert(before.name)}: server, price and prompt"):
        form = Form(study, f"llm.{before.name if before else 'new'}")
        key = form.key
        start = before or preset(form)
        left, middle, right = st.columns(3)
        role = left.selectbox(
            "Role",
            **form.pick("role", list(ROLES), start.role),
            format_func=ROLES.__getitem__,
            help="A gate is asked first, about every text, and says whether the cheap tier will do.",
        )
        usual_name = start.name if before or role == NAMES_CLASS else "LLM gate"
        name = middle.text_input("Name", **form.field(f"name.{role}", usual_name))
        usual = "" if start.model == "?" else start.model
        model = right.text_input("Model", **form.field(f"model{form.preset}", usual))
        left, middle, right = st.columns(3)
        url = left.text_input("Base URL", **form.field(f"url{form.preset}", start.base_url))
        typed = middle.text_input(
            "Key",
            type="password",
            key=f"{key}.key",  # never a field of the form, which is stored
            help="Kept in this session's memory only, and sent to this server only. Empty: the one in the environment "
            "or the secrets file for this server, if any; a local server needs none.",
            autocomplete="off",
        )
        prices = draw_prices(right, form, model.strip(), url.strip(), before)
        asked = draw_prompt(study, form, role, start)
        settings = None
        try:
            along = draw_along(form, start)
            if model.strip() and prices is not None:
                settings = replace(
                    start,
                    name=name.strip(),
                    role=role,
                    model=model.strip(),
                    base_url=url.strip(),
                    **prices,
                    **asked,
                    **along,
                )
        except HybridError as error:
            llm_session.show_error(error)
        form.remember()
        _draw_buttons(study, form, settings, typed.strip() or None, before)
    return settings


def _draw_buttons(
    study: Study, form: Form, settings: LLMSettings | None, typed: str | None, before: LLMSettings | None
) -> None:
    key = form.key
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
    if typed is None and settings.base_url.startswith("https:") and llm_session.key_of(settings) is None:
        # a browser keeps what is typed into a field of this kind to itself until then
        st.caption("No key for this server has come in. Typed one? Press Enter in its field.")
    if drop and before is not None:
        form.forget()
        llm_session.forget(study, before.name)
        st.rerun()
    if test:
        _test(study, settings, typed or llm_session.key_of(settings))
    if keep:
        form.forget()  # before it is kept, with which the project is written
        try:
            llm_session.connect(study, settings, typed, before=before.name if before else None)
        except HybridError as error:
            form.remember()
            llm_session.show_error(error)
            return
        for typed_in in [k for k in st.session_state if str(k).startswith(f"{key}.")]:
            del st.session_state[typed_in]  # the key above all
        st.session_state["llm.pick"] = settings.name
        st.rerun()


def _test(study: Study, settings: LLMSettings, key: str | None) -> None:
    """Ask about one row and show everything about the reply."""
    try:
        with st.spinner("Asking …"):
            text, reply = llm_session.test_call(study, settings, key)
    except HybridError as error:
        llm_session.show_error(error)
        return
    said = f"“{inert(text[:150])}” → **{inert(_answer(study, settings, reply))}**"
    sure = "no probabilities" if reply.probability is None else f"probability {reply.probability:.3f}"
    counted = "guessed" if reply.guessed else "counted by the server"
    said += (
        f"  \n{reply.prompt_tokens:,} + {reply.completion_tokens:,} tokens ({counted}), "
        f"{wording.dollars(cost_of(settings, reply))}, {reply.latency:.2f} s, {sure}."
    ).replace("$", r"\$")
    if reply.without:
        said += f"  \nThe model refuses {', '.join(map(inert, reply.without))}: it was asked without."
    if reply.kind == OK:
        st.success(said, icon=":material/check:")
    else:
        st.warning(f"{said}  \n{MEANING[reply.kind]}", icon=":material/warning:")


def _answer(study: Study, settings: LLMSettings, reply: Reply) -> str:
    """Return what a reply says: the class, a gate's choice and its reason, else its own words."""
    gate = read_gate(reply.content, settings.tiers) if settings.role == GATE and reply.kind == OK else None
    if gate is not None:
        return f"{gate.tier}, difficulty {gate.difficulty} of 5: {gate.reasoning or 'no reason given'}"
    classes = study.dataset.classes
    code = settings.read(reply.content, classes) if settings.role == NAMES_CLASS and reply.kind == OK else UNKNOWN
    return classes[code] if code >= 0 else NONE_LABEL if code == NONE else shown(reply.content) or "nothing"
