"""Controls: the parts of a page that several pages share; a pattern's are drawn from its own parameter metadata."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from hybrid.dashboard import admission, class_table, login, state, views, wording
from hybrid.dashboard.data.llm_session import is_operators
from hybrid.dashboard.inert import inert
from hybrid.dashboard.tune import gates_panel
from hybrid.dashboard.tune import start as start_of
from hybrid.dashboard.tune.gates_panel import EACH
from hybrid.dashboard.wording import points, words
from hybrid.dashboard.working import run_cancellable, stop_all
from hybrid.data.columns import Columns
from hybrid.errors import HybridError
from hybrid.logs import structure
from hybrid.metrics.summary import PairedDifference
from hybrid.production.bundle import pattern_name
from hybrid.routing.engine import Param, Pattern, Policy, Threshold, answering, defaults
from hybrid.routing.patterns import Assisted, Cascade
from hybrid.routing.table import NEVER, Tier
from hybrid.study import defaults as start
from hybrid.study.evidence import Progress
from hybrid.study.graded import held
from hybrid.study.measurement import Measurement
from hybrid.study.naming import named
from hybrid.study.study import Study
from hybrid.tiers.gate import KeyWords
from hybrid.tiers.human import Assist, Human
from hybrid.tiers.servers import only_public

ICON = str(Path(__file__).with_name("icon.png"))
STYLE = """<style>
[data-testid="stMainBlockContainer"] { padding-top: 1.2rem; padding-bottom: 2rem; }
[data-testid="stHeader"] { height: 0; min-height: 0; }
[data-testid="stMetricValue"], [data-testid="stDataFrame"] { font-variant-numeric: tabular-nums; }
[data-testid="stCaptionContainer"] { color: inherit; opacity: 0.8; }
button[kind^="primary"], [data-testid="stMultiSelect"] :has(> span[title]) { background: #1565c0;
  border-color: #1565c0 }
button[kind^="primary"]:is(:hover, :focus-visible) { background: #0d4f9e; border-color: #0d4f9e; }
[data-testid="stCode"] .token { color: inherit !important; }
.st-key-tiles [data-testid="stMetricValue"] { font-size: 1.7rem; font-weight: 600; }
.tile-detail { font-size: 0.85rem; line-height: 1.45; opacity: 0.8; font-variant-numeric: tabular-nums; }
.tile-detail .strong { font-weight: 600; }
body[data-dragging] :is(.not-live, .st-key-verdict, .st-key-human_load), body[data-dragging="map"] .st-key-tile_latency,
body[data-dragging="map"] .st-key-curves { opacity: 0.35; }
[class*="-tiers"] [data-testid="stMultiSelect"] [data-rac][role="group"] { height: auto; max-height: none; }
[class*="-tiers"] [data-testid="stMultiSelectTagsContainer"] { flex: 1 1 0; min-width: 0; height: auto;
  max-height: none; padding-block: 0.3rem; overflow: visible; mask: none; }
[class*="-tiers"] [data-testid="stMultiSelectTagsContainer"]::after { display: none; }
[class*="-tiers"] [data-testid="stMultiSelectTagsContainer"] > [role="group"] { display: flex; flex: 1 1 0;
  min-width: 0; flex-wrap: wrap; gap: 0.25rem; height: auto; }
[class*="-tiers"] [data-testid="stMultiSelectTagsContainer"] input { flex: 0 0 1px; width: 1px; min-width: 1px; }
.st-key-pattern [role="radiogroup"] { flex-wrap: wrap; overflow: visible; }
[role="radiogroup"] > button:not([data-selected]):has(+ [data-selected]) {
  border-right-color: light-dark(rgb(26 34 51 / 0.2), rgb(232 236 244 / 0.2)) !important; }
[class*="st-key-threshold_line"] { position: absolute; height: 0; overflow: hidden; }
.st-key-tiles[data-testid] { align-items: stretch; }
.st-key-tiles > [data-testid="stLayoutWrapper"] { flex: 1 1 0; min-width: 0; min-height: 0; }
.st-key-tiles [data-testid="stMetric"] { gap: 0; }
.st-key-tiles [data-testid="stMetricLabel"] { min-height: 0; }
.st-key-tiles [data-testid="stVerticalBlock"] { gap: 0.1rem; }
.st-key-strip { gap: 0.5rem; background: light-dark(#ffffff, #10141c); padding-bottom: 0.3rem; }
.flow-words { font-size: 0.9rem; display: flex; flex-wrap: wrap; gap: 0.1rem 1rem; font-variant-numeric: tabular-nums; }
.flow-part { display: inline-flex; align-items: center; gap: 0.4rem; }
.flow-part i { width: 0.75rem; height: 0.75rem; border-radius: 2px; flex: none; }
.flow-bar { display: flex; gap: 2px; height: 0.8rem; margin-top: 0.3rem; border-radius: 4px; overflow: hidden;
  contain: strict; background: light-dark(#e3e7ee, #2a3242); }
.flow-bar span { height: 100%; flex: none; }
.st-key-curves .annotation-text, [class*="st-key-frontier"] .textpoint text { paint-order: stroke;
  stroke: light-dark(#ffffff, #10141c); stroke-width: 4px; stroke-linejoin: round; }
@media (max-width: 640px) {
  .st-key-tiles > [data-testid="stLayoutWrapper"] { flex-basis: calc(50% - 0.5rem); }
}
@media (min-width: 1000px) {
  div:has(> .st-key-strip) { position: sticky; top: 0; z-index: 20; }
}
</style>"""
PAGES = (
    ("app.py", "Data", ":material/database:"),
    ("pages/1_Tune.py", "Tune", ":material/tune:"),
    ("pages/2_Compare.py", "Compare", ":material/compare_arrows:"),
    ("pages/3_Inspect.py", "Inspect", ":material/table_rows:"),
    ("pages/8_Audit.py", "Audit", ":material/fact_check:"),
    ("pages/4_Try.py", "Try", ":material/edit_note:"),
    ("pages/5_Support.py", "Support", ":material/support_agent:"),
    ("pages/6_Export.py", "Export", ":material/ios_share:"),
    ("pages/9_Production.py", "Production", ":material/monitoring:"),
)


def open_page(title: str) -> DeltaGenerator:
    """Set up a page: title, width, the study that the address names, the links; returns the place of the header."""
    st.set_page_config(page_title=f"{title} · Hybrid tuner", page_icon=ICON, layout="wide")
    st.html(STYLE)
    admission.admit()
    structure()
    only_public(None if state.is_local() else is_operators)  # else strangers name the servers that are asked
    login.require(is_keeping=state.keeping() != "never")
    problem = state.read_address()
    # the project alone: the policy of this moment is what it was before the controls below are read
    address = {name: value for name, value in state.parameters().items() if name == state.PROJECT}
    with st.container(horizontal=True, gap="medium", vertical_alignment="center", key="navigation"):
        views.once(repr(("links", address)), lambda: _draw_links(address))
        login.draw()
    for said in (problem, st.session_state.get("save_problem")):
        if said:
            st.error(inert(said), icon=":material/error:")
    if st.session_state.pop("loading", False):
        kept = "The data that was loaded before stays." if state.study() is not None else "Nothing was changed."
        st.info(f"Loading was stopped before it was done. {kept}", icon=":material/cancel:")
    st.session_state["statistics"] = st.session_state.get("statistics", False)  # else it is lost with its switch
    state.write_address()
    return st.container(key="header")


def _draw_links(address: dict[str, str]) -> None:
    for path, name, icon in PAGES:
        st.page_link(path, label=name, icon=icon, query_params=address)


def statistics_switch() -> bool:
    """Draw the switch that shows the terms, tests and intervals of the field in full; it counts on every page."""
    return st.toggle(
        "Statistics", key="statistics", help="Show the terms, tests and intervals of the field in full, on every page."
    )


def draw_header(place: DeltaGenerator, study: Study) -> None:
    """Draw the policy at hand in one line: what it is, what it does, and buttons to pin, undo and share it."""
    if study.policy is not None:
        bar = open_header(place)
        say_policy(bar, study)
        draw_header_buttons(bar, study)


def open_header(place: DeltaGenerator) -> DeltaGenerator:
    """Return the line of the header, for what it says and then its buttons."""
    return place.container(horizontal=True, vertical_alignment="center", gap="small", key="policy_bar")


def say_policy(bar: DeltaGenerator, study: Study) -> None:
    """Say in the header what the policy at hand is, and what it does."""
    policy = study.policy
    assert policy is not None
    on = study.headline(policy)
    said = f"**{policy.pattern.title}** · {' → '.join(map(inert, policy.names))}"
    if on.n_rows:
        s = on.summary
        mark = " :orange-badge[simulated]" if policy.simulated else ""
        said = (
            f"**{inert(wording.short(policy))}** · **{wording.percent(s.accuracy.value)}** right · "
            f"{views.a_month(study, policy, s.cost_per_1000.value)}{mark}"
        )
    model = study.dataset.agreement_with
    if model is not None:
        said = f"{named(said, inert(model))} :orange-badge[agreement with {inert(model)}, not accuracy]"
    bar.markdown(said, width="content", help=inert(wording.describe(policy)))


def draw_header_buttons(bar: DeltaGenerator, study: Study) -> None:
    """Draw the header's buttons."""
    with bar:
        st.button(
            "Pin",
            icon=":material/push_pin:",
            key="bar_pin",
            type="tertiary",
            on_click=_pin,
            help="Keep it for Compare.",
        )
        st.button(
            "Undo",
            icon=":material/undo:",
            key="bar_undo",
            type="tertiary",
            on_click=_undo,
            disabled=not study.can_undo,
            help="Back to the policy before.",
        )
        link = st.popover("Link", icon=":material/link:", type="tertiary", key="bar_link", on_change="rerun")
        if link.open:
            with link:
                st.caption("Opens this policy, with its prices and everything that is assumed.")
                st.code(f"{str(st.context.url).split('?')[0]}?{urlencode(state.parameters())}", language=None)


def _pin() -> None:
    study = state.study()
    if study is not None and study.policy is not None:
        study.pin()
        state.save()


def _undo() -> None:
    study = state.study()
    if study is not None:
        study.undo()
        state.save()


def load_with_progress(work: Callable[[Progress], Study]) -> bool:
    """Run a load under a progress bar with a button that cancels it; returns whether it went through."""
    stop_all()
    try:
        state.keep(run_cancellable(work, flag="loading", key="cancel_load", doing="Reading"))
    except HybridError as error:
        show_error(error)
        return False
    return True


def show_error(error: HybridError) -> None:
    """Say what is wrong with data that was to be loaded."""
    st.error(inert(error), icon=":material/error:")
    if state.study() is not None:
        st.caption("The data that was loaded before stays.")


def fit_again(study: Study, *, columns: Columns | None = None, **changed: Any) -> bool:
    """Fit a study's table anew, everything as it was but for what is named; returns whether that was done.

    Parameters
    ----------
    columns
        None: as they are.
    changed
        ``embedder``, ``edits`` and ``key_words``, as `state.fit` takes them.
    """
    kept = {"embedder": study.embedder, "edits": study.edits, "key_words": study.key_words, **changed}
    return load_with_progress(lambda report: state.fit(study, columns or study.columns, **kept, progress=report))


def sample_button(key: str) -> None:
    """Draw the button that loads the sample, and load it when pressed."""
    if st.button("Use the sample data", type="primary", icon=":material/play_arrow:", key=key):
        drawn = state.sample()
        small = state.wanted_embedder(len(drawn.table))
        columns = state.sample_columns(small)

        def load(report: Progress) -> Study:
            state.lend_vectors(drawn, small)
            return state.fit(drawn, columns, embedder=small, progress=report)

        if load_with_progress(load):
            st.rerun()


def require_study() -> Study:
    """Return the session's study; where there is none, say what to do and end the page."""
    study = state.study()
    if study is None:
        with st.container(border=True):
            st.subheader("No data yet")
            st.write("Upload labelled texts, or try the sample: customer-support tickets written for this product.")
            with st.container(horizontal=True, vertical_alignment="center"):
                sample_button("sample_here")
                st.page_link("app.py", label="Go to Data", icon=":material/upload:")
        st.stop()
    return study


def require_policy(study: Study, place: DeltaGenerator) -> Policy:
    """Return the policy at hand and draw the header; where the data allow none, say what is missing and stop."""
    start_of.begin(study)
    policy = study.policy
    draw_header(place, study)
    if policy is None:
        say_missing(study)
        st.stop()
    return policy


def say_missing(study: Study) -> None:
    """Say why there is no policy, or which tiers cannot be in one, and offer what mends it."""
    st.warning(inert(study.late or study.missing), icon=":material/warning:")
    again = study.split.given and st.button("Split the rows again", icon=":material/shuffle:", key="split_again")
    if again and fit_again(study, columns=replace(study.columns, split=None)):
        st.rerun()


def pick_policy(
    pattern: str, kind: type[Pattern], tiers: tuple[Tier, ...], study: Study, *, drawn: bool = True
) -> Policy | None:
    """Draw the controls of a pattern's parameters; returns the policy, or None where it cannot be built.

    Parameters
    ----------
    drawn
        Whether they are drawn; else the policy is what they are set to.
    """
    chosen: dict[str, Any] = {}
    for p in kind.params():
        if p.per_class:  # drawn below the charts: see class_table
            chosen[p.name] = class_table.values(pattern, p.name, study.classes)
            continue
        gated = kind.gated(tiers) if p.per_tier else (None,)
        values = []
        for i, tier in enumerate(gated):
            key = f"{pattern}.{p.name}" + (f".{i}" if p.per_tier else "")
            if p.unit and chosen.get("strategy") != "cost_aware":
                values.append(p.default)  # only the cost-aware vote reads a price
            elif p.threshold and all(c in class_table.own(pattern, study.classes) for c in study.classes):
                values.append(st.session_state.get(key, p.default))
                if drawn:
                    st.caption("Each predicted class has a threshold of its own; drag them one by one.")
            else:
                values.append(_set(p, key))
                if drawn:
                    _draw(p, key, p.label.format(tier=inert(tier)))
        chosen[p.name] = tuple(values) if p.per_tier else values[0]
    try:
        return Policy(defaults(kind, tiers, **chosen), tiers)
    except HybridError as error:
        if drawn:
            st.error(inert(error), icon=":material/error:")
        return None


def show(policy: Policy, classes: Sequence[str]) -> None:
    """Set every control of the Tune page to a policy; call it before the page draws them."""
    pattern = pattern_name(policy.pattern)
    kind, names, session = type(policy.pattern), list(policy.bare.names), st.session_state
    session["pattern"] = pattern
    if kind.gate_first:
        gates = len(names) - len(answering(policy.tiers))
        session[f"{pattern}.gate"] = names[0] if gates == 1 else EACH
        names = names[gates:]
    if kind.max_tiers == 2 or kind is Assisted:
        session[f"{pattern}.cheap"], session[f"{pattern}.strong"] = names[0], names[-1]
    else:
        session[f"{pattern}.tiers"] = names
    for p in kind.params():
        value: Any = getattr(policy.pattern, p.name)
        key = f"{pattern}.{p.name}"
        if p.per_class:
            own = {c: float(v) for c, v in zip(classes, value, strict=False) if v is not None}
            class_table.put(pattern, own)
        elif p.per_tier:
            for i, one in enumerate(value):
                session[f"{key}.{i}"] = float(one)
        elif p.optional:
            session[f"{key}.on"] = value is not None
            if value is not None:
                session[key] = float(value)
        else:
            session[key] = value


def _set(p: Param, key: str) -> Any:
    """Return what a parameter's control is set to, which stands in the session under its key."""
    session = st.session_state
    if p.optional and not session.setdefault(f"{key}.on", p.default is not None):
        return None
    return session.setdefault(key, 0.6 if p.optional and p.default is None else p.default)


def _draw(p: Param, key: str, label: str) -> None:
    """Draw one control from a parameter's metadata; what it shows stands in the session."""
    if p.choices:
        st.selectbox(label, p.choices, key=key, format_func=words, help=p.help)
        return
    if p.optional:
        if not st.toggle(label, key=f"{key}.on", help=p.help):
            return
        label = f"{label}: share"
    if p.unit:
        st.number_input(f"{label}, {p.unit}", p.low, p.high, step=0.0001, format="%.4f", key=key, help=p.help)
        return
    said = f"{p.help} {NEVER:g} means never, not even at a confidence of 1." if p.high == NEVER else p.help
    st.slider(label, p.low, p.high, step=0.001, format="%.3f", key=key, help=said)


def slider_key(pattern: str, line: Threshold) -> str:
    """Return the key of a threshold's slider."""
    return f"{pattern}.{line.name}" + ("" if line.index is None else f".{line.index}")


def pick_tiers(pattern: str, kind: type[Pattern], study: Study) -> tuple[Tier, ...] | None:
    """Draw the choice of tiers; they stand from cheap to dear, or in the order of the policy at hand that has them."""
    by_name = {t.name: t for t in study.tiers}
    able = [t.name for t in answering(study.tiers)]
    gates = [t.name for t in study.tiers if t.kind == "gate"]
    least = max(kind.min_tiers - kind.gate_first, 1)
    usual = [t.name for t in start.members(kind, study.tiers, study.accuracy())]
    if kind is Assisted:
        return _pick_assisted(pattern, study, [t for t in able if t in study.accuracy()], usual)
    if kind.gate_first and not gates:
        st.info("The router needs texts, which its gate reads; this file has predictions only. Pick another pattern.")
        return None
    if len(able) < least or len(usual) < max(kind.min_tiers, 2):
        st.info(
            f"{kind.title} needs {max(least, 2)} tiers that answered tune rows. Switch on the what-if LLM, or load a "
            "file with recorded answers."
        )
        return None
    gate, own_gates = "", gates_panel.own_gates(study)
    if kind.gate_first:
        offered = [*gates, EACH] if len(own_gates) > 1 else gates
        with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
            gate = _select("Gate", offered, f"{pattern}.gate", usual[0], help=gates_panel.HELP)
            gates_panel.draw(study)
            _pick_key_words(study)
    picked: list[str] = []
    apart = ""
    with st.container(horizontal=True, gap="small"):
        if kind.max_tiers == 2:
            picked.append(_select("Cheap tier", able, f"{pattern}.cheap", usual[0]))
            rest = [n for n in able if n != picked[-1]]
            rest += [t.name for t in study.tiers if t.picks_from == picked[-1] and kind.picks]
            strong = usual[1] if usual[1] in rest else rest[-1]
            picked.append(_select("Strong tier", rest, f"{pattern}.strong", strong))
        else:
            key = f"{pattern}.tiers"
            session = st.session_state
            session[key] = [n for n in session.get(key, usual) if n in able] or [n for n in usual if n in able]
            if gate == EACH:  # those that no gate tells of cannot be picked by one, but they may take what is left
                every = [n for n in able if n in session[key]]
                session[key] = [n for n in session[key] if n in own_gates or n == every[-1]]
                apart = next((n for n in every if n not in session[key]), "")
            most = None if kind.max_tiers is None else kind.max_tiers - kind.gate_first
            chosen = st.multiselect("Tiers, from cheap to dear", able, key=key, help=kind.summary, max_selections=most)
            now = study.policy
            own = [n for n in now.names if n in able] if now and isinstance(now.pattern, kind) else []
            picked += own if set(own) == set(chosen) else [n for n in able if n in chosen]
            if len(picked) < least:
                st.info(f"{kind.title} needs at least {least} tiers: pick {least - len(picked)} more.")
                return None
    if apart:
        gates_panel.say_left_out(study, apart)
    before = [own_gates.get(n, "") for n in picked[:-1]] if gate == EACH else [gate] if gate else []
    if "" in before:
        gates_panel.say_left_out(study, picked[before.index("")])
        return None
    return tuple(by_name[n] for n in (*before, *picked))


def _pick_assisted(pattern: str, study: Study, able: list[str], usual: list[str]) -> tuple[Tier, ...] | None:
    """Draw the choice of the tier that is picked from, and of the last."""
    by_name = {t.name: t for t in study.tiers}
    pickers = {t.picks_from: t for t in study.tiers if t.picks_from}
    firsts = [name for name in able if name in pickers]
    if not firsts or len(able) < 2 or not usual:
        st.info(
            f"{Assisted.title} needs a person who picks from a classifier’s three likeliest answers. How good and how "
            "dear that is stands under What if."
        )
        if study.evidence.likely:
            terms = study.terms
            with_person = replace(terms, human=terms.human or Human(), assist=terms.assist or Assist())
            st.button(
                "Switch on (simulated)",
                icon=":material/person_add:",
                key="assist_here",
                on_click=state.assume,
                args=(with_person,),
            )
        return None
    with st.container(horizontal=True, gap="small"):
        first = _select("Cheap tier", firsts, f"{pattern}.cheap", usual[0])
        rest = [n for n in able if n != first]
        last = _select("Last tier", rest, f"{pattern}.strong", usual[-1] if usual[-1] in rest else rest[-1])
    return by_name[first], pickers[first], by_name[last]


def _pick_key_words(study: Study) -> None:
    """Draw the words that make a text hard or easy for the heuristic gate; with others everything is fitted again."""
    if study.dataset.texts is None:
        return
    panel = st.popover("Key words", icon=":material/key_vertical:", key="key_words_open", on_change="rerun")
    if not panel.open:
        return
    now = study.key_words
    with panel:
        st.caption("Words, or pairs of words, that make a text hard or easy: the heuristic gate counts them.")
        hard, easy = (
            st.text_input(f"{name}, apart by commas", ", ".join(words), key=f"key_words.{name}")
            for name, words in (("Hard", now.hard), ("Easy", now.easy))
        )
        for why in study.evidence.left_out:
            if "euristic gate" in why:
                st.caption(inert(why))
        wanted = KeyWords.of(hard, easy)
        pressed = st.button("Fit again with these", key="key_words_fit", disabled=wanted == now)
        if pressed and fit_again(study, key_words=wanted):
            st.rerun()


def _select(label: str, options: list[str], key: str, default: str, *, help: str | None = None) -> str:
    session = st.session_state
    if session.get(key) not in options:  # the tier is gone, or nothing was picked yet
        session[key] = default
    return st.selectbox(label, options, key=key, help=help)


def warn_at_chance(study: Study, tiers: Sequence[Tier]) -> None:
    """Say which of these tiers are right no more often than one class for all: nothing can be measured by them."""
    said = [why for t in dict.fromkeys(tiers) if (why := study.at_chance(t.name)) is not None]
    if said:
        st.warning(" ".join(map(inert, said)), icon=":material/casino:")


def show_gain(study: Study, policy: Policy, *, simulated: bool) -> None:
    """Say whether a policy gains or loses against its cheap tier alone, or cannot be told from it."""
    cheap = inert(start.cheap_of(policy.tiers).name)
    on = study.headline(policy)  # thresholds were chosen on tune: there, what gains nothing seems to gain
    gain, without, side = on.gain, _gain_of_last(on), on.side
    verdict = (
        f"{':orange-badge[simulated] ' if simulated else ''}Against **{cheap} alone**, on the same "
        f"{gain.n_rows:,} {side} rows: {points(gain.accuracy)}. "
        f"{gain.uplift:,} rows turn right, {gain.regression:,} turn wrong."
        f"{f' Exact McNemar p {wording.p_value(gain.p_value)}.' if st.session_state.get('statistics') else ''}"
    )
    if not gain.told_apart:
        more = ""
        if gain.rows_to_tell:
            more = f" About {wording.labelled_rows(gain.rows_to_tell, gain)} would, in four of five cases."
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
        _show_last(policy, without)
    shipped = study.shipping(policy)
    if shipped is not None and (shipped.matters or st.session_state.get("statistics")):
        st.caption(f":material/local_shipping: {shipped.words}")


def _gain_of_last(on: Measurement) -> PairedDifference | None:
    """Compare a cascade of three tiers or more with the same that stops before its last; None for other policies."""
    policy = on.policy
    if not isinstance(policy.pattern, Cascade) or len(policy.own) < 3:
        return None
    last = policy.thresholds()[-1]
    return on.graded.gain(policy, held(policy, last))  # at 0 every answer is kept


def _show_last(policy: Policy, gain: PairedDifference) -> None:
    """Say what a cascade's last tier is worth: whether stopping before it would be better."""
    *_, before, last = map(inert, policy.names)
    said = (
        f"**{last}** at the end is worth {points(gain.accuracy)} against stopping at **{before}**: "
        f"{gain.uplift:,} rows turn right, {gain.regression:,} turn wrong"
    )
    if gain.told_apart and gain.accuracy.value < 0:
        st.warning(f"{said}. **Asking {last} hurts: take it out of the cascade.**", icon=":material/trending_down:")
    else:
        st.caption(f"{said}{'' if gain.told_apart else '; the two cannot be told apart on these rows'}.")
