"""Small model: whether a load fits the embedding tiers, with MiniLM on this machine or an endpoint's embeddings."""

from __future__ import annotations

import os

import streamlit as st

from hybrid.dashboard import controls, state
from hybrid.dashboard.inert import inert
from hybrid.errors import HybridError
from hybrid.study.study import Study
from hybrid.tiers import embedders
from hybrid.tiers.embedders import Embedder, EndpointEmbedder, MiniLM
from hybrid.tiers.servers import KEY_VARIABLE, OPENAI_URL, URL_VARIABLE

SECONDS_A_TEXT = 0.01  # MiniLM's, about, on one core that does nothing else


def draw(n_rows: int) -> None:
    """Draw the choice; what is set here is read by `state.wanted_embedder` when data are loaded.

    Parameters
    ----------
    n_rows
        Of the table that would be loaded, which decides whether MiniLM is on unasked.
    """
    wanted = state.wanted_embedder(n_rows)
    installed = embedders.is_installed()
    many = n_rows > state.MAX_ROWS_UNASKED
    key = f"small_model.minilm.{many}"
    st.session_state[key] = isinstance(wanted, MiniLM)  # what is wanted can change without a click here
    st.toggle(
        "Small model on this machine (MiniLM)",
        key=key,
        disabled=not installed,
        on_change=_minilm_clicked,
        args=(key,),
        help="Sentence embeddings and logistic regression, alone and averaged with the fast classifier: the free "
        "middle of a cascade. Embeddings are kept on disk, so that only the first load takes its time.",
    )
    if not installed:
        st.caption(f"MiniLM is not installed: `{embedders.HOW}`")
    elif isinstance(wanted, MiniLM) or many:
        many_texts = f"{n_rows:,} texts take it about {max(1, round(n_rows * SECONDS_A_TEXT))} s the first time."
        st.caption(many_texts if n_rows else f"A text takes it about {1000 * SECONDS_A_TEXT:.0f} ms the first time.")
    with st.expander("Embeddings from an endpoint instead", expanded=isinstance(wanted, EndpointEmbedder)):
        _draw_endpoint(wanted)


def _minilm_clicked(key: str) -> None:
    state.want_embedder(MiniLM.installed() if st.session_state[key] else None)


def _draw_endpoint(wanted: Embedder | None) -> None:
    now = wanted if isinstance(wanted, EndpointEmbedder) else None
    with st.form("small_model.endpoint", border=False):
        url = st.text_input(
            "Base URL",
            now.base_url if now else os.environ.get(URL_VARIABLE) or OPENAI_URL,
            help="Of any server with an OpenAI-compatible /v1/embeddings.",
        )
        model = st.text_input("Embedding model", now.model if now else "", placeholder="text-embedding-3-small")
        price = st.number_input("USD per 1,000 texts", 0.0, 1e4, 1000 * now.price if now else 0.0, format="%.4f")
        st.caption(
            f"The key is read from the environment variable {KEY_VARIABLE}, stored nowhere, and sent only to OpenAI or "
            f"the server that {URL_VARIABLE} names."
        )
        if st.form_submit_button("Use this endpoint"):
            try:
                state.want_embedder(EndpointEmbedder(model.strip(), url.strip(), price / 1000))
            except HybridError as error:
                st.error(inert(error), icon=":material/error:")
            else:
                st.rerun()


def where_texts_go(n_rows: int) -> str:
    """Return where a load sends its texts, in words, given the small model that is set."""
    endpoint = state.wanted_embedder(n_rows)
    if isinstance(endpoint, EndpointEmbedder):
        return f"When it is loaded its **texts are sent to {endpoint.base_url}** to be embedded."
    return "It is not sent anywhere."


def what_is_cached(n_rows: int) -> str:
    """Return what a load leaves in the cache, in words; empty where nothing."""
    match state.wanted_embedder(n_rows):
        case EndpointEmbedder():
            return "The embeddings are kept in this server's cache folder, each under a hash of its text."
        case MiniLM():
            return "MiniLM's embeddings (384 numbers a text, under a hash of it) are kept in the cache folder."
    return ""


def offer_refit(study: Study) -> None:
    """Where another small model is set than the loaded data have, offer to fit again."""
    dataset = study.dataset
    if dataset.texts is None:
        return
    wanted = state.wanted_embedder(dataset.n_rows)
    if wanted == study.embedder:
        return
    how = f"with {wanted.name}" if wanted else "without the small model"
    columns = study.columns
    if columns == state.sample_columns(study.embedder):  # the sample has recorded answers where MiniLM does not run
        columns = state.sample_columns(wanted)
    pressed = st.button(f"Fit again {how}", icon=":material/model_training:", key="refit_small")
    if pressed and controls.fit_again(study, columns=columns, embedder=wanted):
        st.rerun()
