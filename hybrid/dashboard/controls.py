"""Controls: the parts of a page that several pages share; a pattern's are drawn from its own parameter metadata."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import streamlit as st

from hybrid.dashboard import cached, class_table, state
from hybrid.dashboard.state import Terms
from hybrid.dashboard.tiles import Scale
from hybrid.dashboard.tune import human_panel
from hybrid.dashboard.wording import points, words
from hybrid.errors import HybridError
from hybrid.metrics.summary import PairedDifference
from hybrid.routing.engine import Param, Pattern, Policy, Threshold, defaults
from hybrid.routing.table import NEVER, Floats, Predictions, Tier
from hybrid.study.evidence import CLASSIFIER, TRAINED_GATE, Progress
from hybrid.tiers.whatif import WhatIf

ICON = str(Path(__file__).with_name("icon.png"))
STYLE = """<style>
[data-testid="stMainBlockContainer"] { padding-top: 1.2rem; padding-bottom: 2rem; }
[data-testid="stHeader"] { height: 0; min-height: 0; }
[data-testid="stMetricValue"], [data-testid="stDataFrame"] { font-variant-numeric: tabular-nums; }
[data-testid="stCaptionContainer"] { color: inherit; opacity: 0.8; }
button[kind="primary"], [data-testid="stMultiSelect"] :has(> span[title]) { background: #1565c0; border-color: #1565c0 }
button[kind="primary"]:is(:hover, :focus-visible) { background: #0d4f9e; border-color: #0d4f9e; }
[data-testid="stCode"] .token { color: inherit !important; }
.st-key-tiles [data-testid="stMetricValue"] { font-size: 1.7rem; font-weight: 600; }
.tile-detail { font-size: 0.85rem; line-height: 1.45; opacity: 0.8; font-variant-numeric: tabular-nums; }
.tile-detail .strong { font-weight: 600; }
body[data-dragging] :is(.not-live, .st-key-verdict, .st-key-human_load), body[data-dragging="map"] .st-key-tile_latency,
body[data-dragging="map"] .st-key-curves { opacity: 0.35; }
body[data-dragging="map"] [data-live^="test_"] { visibility: hidden; }
.st-key-threshold_line { position: absolute; height: 0; overflow: hidden; }
</style>"""
PAGES = (
    ("app.py", "Data", ":material/database:"),
    ("pages/1_Tune.py", "Tune", ":material/tune:"),
    ("pages/2_Compare.py", "Compare", ":material/compare_arrows:"),
    ("pages/3_Inspect.py", "Inspect", ":material/table_rows:"),
    ("pages/4_Try.py", "Try", ":material/edit_note:"),
    ("pages/5_Support.py", "Support", ":material/support_agent:"),
    ("pages/6_Export.py", "Export", ":material/ios_share:"),
)

MAX_CASCADE = 5  # tiers that a cascade starts with: each has a slider
_T = TypeVar("_T")
POLL = 0.1  # seconds between looks at long work
CANCEL_AFTER = 1.0  # seconds; before, the button would only flash


def open_page(title: str) -> None:
    """Set up a page: title, width, and the links to the others."""
    st.set_page_config(page_title=f"{title} · Hybrid tuner", page_icon=ICON, layout="wide")
    st.html(STYLE)
    with st.container(horizontal=True, gap="medium", key="navigation"):
        for path, name, icon in PAGES:
            st.page_link(path, label=name, icon=icon)
    if st.session_state.pop("loading", False):
        kept = "The data that was loaded before stays." if state.loaded() is not None else "Nothing was changed."
        st.info(f"Loading was stopped before it was done. {kept}", icon=":material/cancel:")


def load_with_progress(work: Callable[[Progress], state.Loaded]) -> bool:
    """Run a load under a progress bar with a button that cancels it; returns whether it went through."""
    try:
        state.keep(run_cancellable(work, flag="loading", key="cancel_load", doing="Reading"))
    except HybridError as error:
        show_error(error)
        return False
    return True


def run_cancellable(work: Callable[[Progress], _T], *, flag: str, key: str, doing: str) -> _T:
    """Run long work under a progress bar with a button that cancels it.

    The work runs in a thread of its own. A click, on Cancel or anywhere, ends this run of the page at its next look at
    the thread; the work then stops at its next report, and the session keeps what it had.

    Parameters
    ----------
    flag
        Stands in the session's state while the work runs; still there in the next run of a page, it was stopped.
    key
        Of the button.
    doing
        What the bar says until the first report.

    Raises
    ------
    HybridError
        What the work raised.
    """
    st.session_state[flag] = True
    place = st.empty()
    done, cancelled = 0.0, threading.Event()

    def report(share: float, what: str) -> None:
        nonlocal done, doing
        if cancelled.is_set():
            raise CancelledError
        done, doing = min(share, 1.0), what

    pool = ThreadPoolExecutor(1)
    job = pool.submit(work, report)
    try:
        with place.container(horizontal=True, vertical_alignment="center"):
            bar = st.progress(0.0)
            cancel = st.empty()
        started = time.monotonic()
        while not wait((job,), timeout=POLL).done:
            bar.progress(done, f"{doing} …")
            if time.monotonic() - started > CANCEL_AFTER:
                with cancel:
                    st.button("Cancel", icon=":material/close:", key=key)
                started = float("inf")
    finally:
        cancelled.set()
        pool.shutdown(wait=False)
    del st.session_state[flag]  # where this is not reached, the next run says so
    place.empty()
    return job.result()


def show_error(error: HybridError) -> None:
    """Say what is wrong with data that was to be loaded."""
    st.error(str(error), icon=":material/error:")
    if state.loaded() is not None:
        st.caption("The data that was loaded before stays.")


def sample_button(key: str) -> None:
    """Draw the button that loads the sample, and load it when pressed."""
    if st.button("Use the sample data", type="primary", icon=":material/play_arrow:", key=key):
        draft = state.sample()
        small = state.wanted_embedder(len(draft.table))
        columns = state.sample_columns(small)
        if load_with_progress(
            lambda report: state.fit(draft.name, draft.table, columns, embedder=small, progress=report)
        ):
            st.rerun()


def require_data() -> state.Loaded:
    """Return the session's data; where there is none, say what to do and end the page."""
    data = state.loaded()
    if data is None:
        with st.container(border=True):
            st.subheader("No data yet")
            st.write("Upload labelled texts, or try the sample: customer-support tickets written for this product.")
            with st.container(horizontal=True, vertical_alignment="center"):
                sample_button("sample_here")
                st.page_link("app.py", label="Go to Data", icon=":material/upload:")
        st.stop()
    return data


def pick_whatif(data: state.Loaded) -> tuple[WhatIf | None, Terms, Scale]:
    """Draw what is assumed instead of measured: the what-if LLM, prices, latencies, class mix, volume."""
    start = Scale()
    with st.popover("What if", icon=":material/science:", width="content"):
        volume = st.number_input(
            "Texts per month", 0, 10**12, start.volume, step=10_000, key="volume", bind="query-params"
        )
        wrong = st.number_input(
            "A wrong answer costs, USD",
            0.0,
            1e6,
            start.wrong_cost,
            step=0.1,
            key="wrong_cost",
            bind="query-params",
            help="What a wrong label costs you downstream; the cost tile adds it to the month.",
        )
        whatif = _pick_llm(data)
        human = human_panel.pick()
        terms = replace(_pick_terms(data, data.recording.with_whatif(whatif)), human=human)
    scale = st.session_state["scale"] = Scale(int(volume), float(wrong))
    return whatif, terms, scale


def _pick_llm(data: state.Loaded) -> WhatIf | None:
    on = st.toggle(
        "What-if LLM (simulated)",
        value=not state.has_recorded(data),
        key="whatif",
        bind="query-params",
        help="A made-up model, right as often as you say whatever the text. Use it to see what an LLM of that "
        "quality would be worth; real recorded answers come from columns of your file.",
    )
    if not on:
        return None
    left, middle, right = st.columns(3)
    accuracy = left.number_input("Accuracy, %", 0.0, 100.0, 95.0, step=0.5, key="whatif_accuracy", bind="query-params")
    price = middle.number_input("USD per 1,000", 0.0, 100_000.0, 3.0, step=0.5, key="whatif_price", bind="query-params")
    latency = right.number_input("Seconds", 0.0, 600.0, 0.6, step=0.1, key="whatif_latency", bind="query-params")
    return WhatIf(accuracy=accuracy / 100, price=price / 1000, latency=latency)


def _pick_terms(data: state.Loaded, table: Predictions) -> Terms:
    measured = [t for t in table.tiers if t.kind != "whatif"]
    frame = pd.DataFrame(
        {
            "Tier": [t.name for t in measured],
            "USD per 1,000": [1000 * _mean(table.cost[:, table.index(t.name)]) for t in measured],
            "Seconds": [_mean(table.latency[:, table.index(t.name)]) for t in measured],
        }
    )
    number = st.column_config.NumberColumn(min_value=0.0, format="%.4g", required=True)
    st.caption("Prices and latencies as measured; type others to try them.")
    edited = _kept_editor("terms", frame, data, {"Tier": None, "USD per 1,000": number, "Seconds": number})
    changed = edited.ne(frame)
    prices = edited.loc[changed["USD per 1,000"], ["Tier", "USD per 1,000"]]
    seconds = edited.loc[changed["Seconds"], ["Tier", "Seconds"]]
    counts = np.bincount(data.recording.dataset.truth, minlength=len(data.recording.dataset.classes))
    mix = pd.DataFrame({"Class": data.recording.dataset.classes, "Weight": counts.astype(float)})
    st.caption("Class mix of production: weights as in the data; rows are left out to reach another mix.")
    weights = _kept_editor("mix", mix, data, {"Class": None, "Weight": number})
    total = float(weights["Weight"].sum())
    is_changed = bool(weights["Weight"].ne(mix["Weight"]).any()) and total > 0
    return Terms(
        tuple((str(t), float(p) / 1000) for t, p in prices.itertuples(index=False)),
        tuple((str(t), float(s)) for t, s in seconds.itertuples(index=False)),
        tuple((str(c), float(w) / total) for c, w in weights.itertuples(index=False)) if is_changed else (),
    )


def _mean(column: Floats) -> float:
    known = column[np.isfinite(column)]
    return float(f"{known.mean():.4g}") if known.size else 0.0


def _kept_editor(name: str, frame: pd.DataFrame, data: state.Loaded, config: dict[str, Any]) -> pd.DataFrame:
    """Draw an editor whose first column is fixed, and whose edits survive a change of page."""
    first = str(frame.columns[0])
    key = f"{name}.{abs(hash((data.key, tuple(frame[first]))))}"
    store = st.session_state.setdefault("kept_edits", {})
    if key not in st.session_state or key not in store:  # the page was left: go on from what was typed
        store[key] = store.get(f"{key}.edited", frame)
    config = config | {first: st.column_config.TextColumn(disabled=True)}
    edited = st.data_editor(
        store[key], hide_index=True, key=key, column_config=config, height="content" if len(frame) < 9 else 300
    )
    kept: pd.DataFrame = edited.fillna(frame)
    store[f"{key}.edited"] = kept
    return kept


def pick_policy(pattern: str, kind: type[Pattern], table: Predictions, data: state.Loaded) -> Policy | None:
    """Draw the controls of a pattern, its tiers first; returns the policy, or None where it cannot be built."""
    left, right = st.columns([2, 3], gap="large")
    with left:
        tiers = _pick_tiers(pattern, kind, table, data)
    if tiers is None:
        return None
    names = [t.name for t in tiers]
    chosen: dict[str, Any] = {}
    with right:
        for p in kind.params():
            if p.per_class:  # drawn below the charts: see class_table
                chosen[p.name] = class_table.values(pattern, p.name, table.classes)
                continue
            gated = kind.gated(names) if p.per_tier else (None,)
            values = []
            for i, tier in enumerate(gated):
                key = f"{pattern}.{p.name}" + (f".{i}" if p.per_tier else "")
                if p.unit and chosen.get("strategy") != "cost_aware":
                    values.append(p.default)  # only the cost-aware vote reads a price
                else:
                    values.append(_draw(p, key, p.label.format(tier=tier)))
            chosen[p.name] = tuple(values) if p.per_tier else values[0]
    try:
        return Policy(defaults(kind, names, **chosen), tiers)
    except HybridError as error:
        st.error(str(error), icon=":material/error:")
        return None


def _draw(p: Param, key: str, label: str) -> Any:
    """Draw one control from a parameter's metadata."""
    if p.choices:
        at = p.choices.index(p.default)
        return st.selectbox(label, p.choices, at, key=key, format_func=words, help=p.help, bind="query-params")
    if p.optional:
        if not st.toggle(label, p.default is not None, key=f"{key}.on", help=p.help, bind="query-params"):
            return None
        label, default = f"{label}: share", 0.6 if p.default is None else p.default
    else:
        default = p.default
    if p.unit:
        label = f"{label}, {p.unit}"
        return st.number_input(
            label, p.low, p.high, default, step=0.0001, format="%.4f", key=key, help=p.help, bind="query-params"
        )
    st.session_state.setdefault(key, default)  # not `value=`: dragging on the chart writes this key, too
    said = f"{p.help} {NEVER:g} means never, not even at a confidence of 1." if p.high == NEVER else p.help
    return st.slider(label, p.low, p.high, step=0.001, format="%.3f", key=key, help=said, bind="query-params")


def slider_key(pattern: str, line: Threshold) -> str:
    """Return the key of a threshold's slider."""
    return f"{pattern}.{line.name}" + ("" if line.index is None else f".{line.index}")


def _pick_tiers(pattern: str, kind: type[Pattern], table: Predictions, data: state.Loaded) -> tuple[Tier, ...] | None:
    """Draw the choice of tiers; they stand from cheap to dear whatever the order of picking."""
    by_name = {t.name: t for t in table.tiers}
    answering = [t.name for t in state.answering(table)]
    cheap = state.cheap_of(tuple(by_name.values())).name
    gates = [t.name for t in table.tiers if t.kind == "gate"]
    needed = kind.min_tiers - kind.gate_first
    if kind.gate_first and not gates:
        st.info("The router needs texts, which its gate reads; this file has predictions only. Pick another pattern.")
        return None
    if len(answering) < needed:
        st.info(f"{kind.title} needs {needed} tiers. Switch on the what-if LLM, or load a file with recorded answers.")
        return None
    picked: list[str] = []
    with st.container(horizontal=True):
        if kind.gate_first:
            picked.append(_select("Gate", gates, f"{pattern}.gate", TRAINED_GATE))
        if kind.max_tiers == 2:
            picked.append(_select("Cheap tier", answering, f"{pattern}.cheap", cheap))
            rest = [n for n in answering if n != picked[-1]]
            strong = state.strongest(data, table, rest)
            picked.append(_select("Strong tier", rest, f"{pattern}.strong", strong))
        else:
            once = _each_model_once(table, answering)
            members = _default_members(kind, once, cheap, state.strongest(data, table, [n for n in once if n != cheap]))
            chosen = st.multiselect(
                "Tiers, from cheap to dear",
                answering,
                members,
                key=f"{pattern}.tiers",
                bind="query-params",
                help=kind.summary,
            )
            picked += [n for n in answering if n in chosen]
            if len(picked) < kind.min_tiers:
                st.info(f"{kind.title} needs at least {needed} tiers: pick {kind.min_tiers - len(picked)} more.")
                return None
    return tuple(by_name[n] for n in picked)


def _select(label: str, options: list[str], key: str, default: str) -> str:
    at = options.index(default) if default in options else 0
    return st.selectbox(label, options, at, key=key, bind="query-params")


def _each_model_once(table: Predictions, answering: list[str]) -> list[str]:
    """Return the tiers without the second of a small model, its average with the classifier: both hear the same."""
    small = [n for n in answering if table.tiers[table.index(n)].kind == "embedding"]
    return [n for n in answering if n not in small[1:]]


def _default_members(kind: type[Pattern], answering: list[str], cheap: str, strong: str) -> list[str]:
    """Return the tiers a pattern starts with: the classifier and what is dearer; rules too where they can pass on."""
    from_cheap = answering[answering.index(cheap) :]
    if len(from_cheap) < kind.min_tiers - kind.gate_first:
        return answering
    if kind.title == "Cascade" and cheap == CLASSIFIER:
        return answering if len(answering) <= MAX_CASCADE else [*answering[: answering.index(cheap) + 1], answering[-1]]
    return from_cheap if not kind.gate_first else [cheap, strong]


def show_gain(data: state.Loaded, choice: state.Choice, *, simulated: bool) -> None:
    """Say whether a policy gains or loses against its cheap tier alone, or cannot be told from it."""
    cheap = state.cheap_of(choice.policy.tiers).name
    # thresholds were chosen on tune: there, what gains nothing seems to gain
    side = "test" if cached.summary(data, choice, "test") else "tune"
    gain = cached.gain_over_cheap(data, choice, side)
    without = cached.gain_of_last(data, choice, side)
    verdict = (
        f"{':orange-badge[simulated] ' if simulated else ''}Against **{cheap} alone**, on the same "
        f"{gain.n_rows:,} {side} rows: {points(gain.accuracy)}. "
        f"{gain.uplift:,} rows turn right, {gain.regression:,} turn wrong."
    )
    if not gain.told_apart:
        more = f" About {gain.rows_to_tell:,} labelled rows would tell." if gain.rows_to_tell else ""
        st.info(f"{verdict} The two cannot be told apart on these rows.{more}", icon=":material/balance:")
    elif gain.accuracy.value < 0:
        st.warning(
            f"{verdict} **This policy loses accuracy:** {cheap} is better left alone.", icon=":material/trending_down:"
        )
    elif side == "tune":
        st.info(
            f"{verdict} Thresholds were chosen on these very rows: part of this may be luck.", icon=":material/balance:"
        )
    else:
        st.success(verdict, icon=":material/trending_up:")
    if without is not None:
        _show_last(choice, without)


def _show_last(choice: state.Choice, gain: PairedDifference) -> None:
    """Say what a cascade's last tier is worth: whether stopping before it would be better."""
    *_, before, last = choice.policy.names
    said = (
        f"**{last}** at the end is worth {points(gain.accuracy)} against stopping at **{before}**: "
        f"{gain.uplift:,} rows turn right, {gain.regression:,} turn wrong"
    )
    if gain.told_apart and gain.accuracy.value < 0:
        st.warning(f"{said}. **Asking {last} hurts: take it out of the cascade.**", icon=":material/trending_down:")
    else:
        st.caption(f"{said}{'' if gain.told_apart else '; the two cannot be told apart on these rows'}.")
