"""Controls: the parts of a page that several pages share; a pattern's are drawn from its own parameter metadata."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

from hybrid.dashboard import state
from hybrid.errors import HybridError
from hybrid.metrics import Interval, PairedDifference, Summary
from hybrid.predictions import Predictions, Tier
from hybrid.recording import CLASSIFIER, TRAINED_GATE, Progress
from hybrid.routing import Param, Pattern, Policy, defaults
from hybrid.tiers.whatif import WhatIf

ICON = str(Path(__file__).with_name("icon.png"))
STYLE = """<style>
[data-testid="stMainBlockContainer"] { padding-top: 1.2rem; padding-bottom: 2rem; }
[data-testid="stHeader"] { height: 0; min-height: 0; }
[data-testid="stMetricValue"], [data-testid="stDataFrame"] { font-variant-numeric: tabular-nums; }
.st-key-tiles [data-testid="stMetricValue"] { font-size: 1.7rem; font-weight: 600; }
</style>"""
PAGES = (
    ("app.py", "Data", ":material/database:"),
    ("pages/1_Tune.py", "Tune", ":material/tune:"),
    ("pages/2_Compare.py", "Compare", ":material/compare_arrows:"),
    ("pages/6_Export.py", "Export", ":material/ios_share:"),
)


def open_page(title: str) -> None:
    """Set up a page: title, width, and the links to the others."""
    st.set_page_config(page_title=f"{title} · Hybrid tuner", page_icon=ICON, layout="wide")
    st.html(STYLE)
    with st.container(horizontal=True, gap="medium", key="navigation"):
        for path, name, icon in PAGES:
            st.page_link(path, label=name, icon=icon)


def load_with_progress(work: Callable[[Progress], object]) -> bool:
    """Run a load under a progress bar; shows its error, if any, and returns whether it went through."""
    bar = st.progress(0.0, "Reading …")

    def report(share: float, doing: str) -> None:
        bar.progress(min(share, 1.0), f"{doing} …")

    try:
        work(report)
    except HybridError as error:
        show_error(error)
        return False
    finally:
        bar.empty()
    return True


def show_error(error: HybridError) -> None:
    """Say what is wrong with data that was to be loaded."""
    st.error(str(error), icon=":material/error:")
    if state.loaded() is not None:
        st.caption("The data that was loaded before stays.")


def sample_button(key: str) -> None:
    """Draw the button that loads the sample, and load it when pressed."""
    if st.button("Use the sample data", type="primary", icon=":material/play_arrow:", key=key) and load_with_progress(
        state.load_sample
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


def pick_whatif(data: state.Loaded) -> WhatIf | None:
    """Draw the what-if LLM's controls; returns it, or None when it is off."""
    with st.popover("What-if LLM", icon=":material/science:"):
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
        accuracy = st.number_input(
            "Accuracy, %", 0.0, 100.0, 95.0, step=0.5, key="whatif_accuracy", bind="query-params"
        )
        price = st.number_input(
            "Price, USD per 1,000", 0.0, 100_000.0, 3.0, step=0.5, key="whatif_price", bind="query-params"
        )
        latency = st.number_input("Latency, s", 0.0, 600.0, 0.6, step=0.1, key="whatif_latency", bind="query-params")
    return WhatIf(accuracy=accuracy / 100, price=price / 1000, latency=latency)


def pick_volume() -> int:
    """Draw the monthly volume."""
    return st.number_input(
        "Texts per month", 0, 10**12, 100_000, step=10_000, key="volume", bind="query-params", width=180
    )


def pick_policy(pattern: str, kind: type[Pattern], table: Predictions) -> Policy | None:
    """Draw the controls of a pattern, its tiers first; returns the policy, or None where it cannot be built."""
    left, right = st.columns([2, 3], gap="large")
    with left:
        tiers = _pick_tiers(pattern, kind, table)
    if tiers is None:
        return None
    names = [t.name for t in tiers]
    chosen: dict[str, Any] = {}
    with right:
        for p in kind.params():
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
    control, step, form = (st.number_input, 0.0001, "%.4f") if p.unit else (st.slider, 0.001, "%.3f")
    label = f"{label}, {p.unit}" if p.unit else label
    return control(label, p.low, p.high, default, step=step, format=form, key=key, help=p.help, bind="query-params")


def _pick_tiers(pattern: str, kind: type[Pattern], table: Predictions) -> tuple[Tier, ...] | None:
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
            picked.append(_select("Strong tier", rest, f"{pattern}.strong", rest[-1]))
        else:
            members = _default_members(kind, answering, cheap)
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


def _default_members(kind: type[Pattern], answering: list[str], cheap: str) -> list[str]:
    """Return the tiers a pattern starts with: the classifier and what is dearer; rules too where they can pass on."""
    from_cheap = answering[answering.index(cheap) :]
    if len(from_cheap) < kind.min_tiers - kind.gate_first:
        return answering
    first_is_gated = kind.title == "Cascade"
    if first_is_gated and cheap == CLASSIFIER:
        return [*answering[: answering.index(cheap) + 1], answering[-1]]
    return from_cheap if not kind.gate_first else [cheap, answering[-1]]


def words(name: str) -> str:
    """Return a name from code as words on a screen."""
    return name.replace("_", "-").capitalize()


def percent(interval: Interval) -> str:
    """Return a share as text."""
    return f"{interval.value:.1%}"


def interval_text(interval: Interval, form: str = ".1%", prefix: str = "") -> str:
    """Return an interval as text: ``92.7% to 94.5%``."""
    return f"{prefix}{interval.low:{form}} to {prefix}{interval.high:{form}}"


def dollars(value: float) -> str:
    """Return USD with enough digits to be told from zero."""
    return f"${value:,.2f}" if value >= 1 or value == 0 else f"${value:.3g}"


def seconds(value: float) -> str:
    """Return a latency in the unit that reads best."""
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.2f} s"


def describe(policy: Policy) -> str:
    """Return a policy in a line: pattern, tiers, parameters."""
    values = []
    for p in policy.pattern.params():
        value = getattr(policy.pattern, p.name)
        if value is None or (p.unit and getattr(policy.pattern, "strategy", None) != "cost_aware"):
            continue
        each = value if p.per_tier else (value,)
        values.append(" / ".join(words(v) if isinstance(v, str) else f"{v:.4g}" for v in each))
    return f"{policy.pattern.title} · {' → '.join(policy.names)} · {', '.join(values)}"


def verdict(difference: PairedDifference) -> str:
    """Return what a paired difference says."""
    if not difference.uplift and not difference.regression:
        return "right and wrong on the same rows"
    tail = "" if difference.told_apart else f", cannot be told apart on these {difference.n_rows:,} rows"
    return f"{points(difference.accuracy)}{tail}"


def cheaper(reference: Summary, other: Summary) -> str:
    """Return how much less or more another policy costs."""
    base, cost = reference.cost_per_1000.value, other.cost_per_1000.value
    if base == 0:
        return "same" if cost == 0 else f"+{dollars(cost)}"
    change = cost / base - 1
    return f"{abs(change):.0%} {'cheaper' if change < 0 else 'dearer'}" if round(change, 3) else "same"


def points(interval: Interval) -> str:
    """Return a difference of accuracies in points with its interval."""
    return f"{interval.value * 100:+.1f} points ({interval.low * 100:+.1f} to {interval.high * 100:+.1f})"
