"""Suggest: say what the policy is to be good at, and the sliders move there; what binds, and how much is luck."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from hybrid.dashboard import class_table, wording
from hybrid.dashboard.state import Choice, Evaluation, Loaded, evaluate_on, table_of
from hybrid.dashboard.tiles import Scale
from hybrid.dashboard.tune import promised
from hybrid.errors import HybridError
from hybrid.metrics.summary import Interval, PairedDifference, paired_difference
from hybrid.production.bundle import pattern_name
from hybrid.routing.engine import Policy, replay
from hybrid.routing.patterns import Triage
from hybrid.routing.table import Predictions, Rows
from hybrid.tuning import (
    CHEAPEST,
    LEAST_TOTAL,
    MOST_ACCURATE,
    Goal,
    Labelled,
    Recommendation,
    Stability,
    every_way,
    one_way,
    per_class_thresholds,
    recommend,
    stability,
)
from hybrid.tuning.search import with_classes

KINDS = {
    CHEAPEST: "Cheapest with an accuracy of at least …",
    MOST_ACCURATE: "Most accurate within …",
    LEAST_TOTAL: "Least total cost, mistakes included",
}
PER_1000, PER_MONTH = "per 1,000 texts", "per month"
HERE, EVERYWHERE = "this pattern", "all patterns"
WIDTH = 340  # pixels of the popover
MAX_TABLE = 12  # classes up to which a table of costs is offered


def controls(data: Loaded, choice: Choice, scale: Scale) -> None:
    """Draw the popover; its button looks for the best policy and sets the sliders."""
    with st.popover("Suggest", icon=":material/auto_awesome:", width="content"), st.container(width=WIDTH):
        kind = st.selectbox("Goal", list(KINDS), format_func=KINDS.__getitem__, key="goal")
        floor = budget = seconds = None
        wrong: float | tuple[tuple[float, ...], ...] = 0.0
        if kind == CHEAPEST:
            floor = _pick_floor(data, choice)
        if kind == LEAST_TOTAL:
            wrong = _pick_losses(data, scale)
        budget, seconds = _pick_limits(kind, scale)
        over = st.segmented_control("Over", [HERE, EVERYWHERE], default=HERE, required=True, key="goal_over")
        by_class = st.toggle(
            "Triage may have a threshold per predicted class",
            value=False,
            key="goal_by_class",
            help="One for each class that the cheap tier predicts often enough; the others share one.",
        )
        problem = None
        try:
            goal = Goal(kind, floor=floor, budget=budget, seconds=seconds, wrong=wrong, by_class=by_class)
        except HybridError as error:
            problem = str(error)
        if problem:
            st.error(problem, icon=":material/error:")
            return
        st.button(
            "Set the sliders",
            type="primary",
            icon=":material/auto_awesome:",
            key="suggest",
            on_click=_suggest,
            args=(data, choice, goal, over == EVERYWHERE),
        )
        st.caption("Chosen on tune rows, reported on test.")


def _pick_floor(data: Loaded, choice: Choice) -> float:
    """Draw the floor; it starts where the best tier of the policy alone is, for that can be reached."""
    (on,) = evaluate_on(data, (choice,), "tune")
    alone = {
        n: float(np.mean(on.predictions.label[:, on.predictions.index(n)] == on.truth)) for n in choice.policy.names
    }
    best = max(alone, key=alone.__getitem__)
    start = float(np.floor(100 * alone[best]))
    floor = st.number_input("Accuracy at least, %", 0.0, 100.0, start, step=0.5, key="goal_floor")
    st.caption(f"{best} alone: {wording.percent(alone[best])} on tune.")
    return float(floor) / 100


def _pick_limits(kind: str, scale: Scale) -> tuple[float | None, float | None]:
    budget = seconds = None
    if st.toggle("A budget", value=kind == MOST_ACCURATE, key=f"goal_budget_on.{kind}"):
        left, right = st.columns([3, 2], vertical_alignment="bottom")
        unit = right.selectbox("For", [PER_1000, PER_MONTH], key="goal_budget_unit", label_visibility="collapsed")
        amount = left.number_input("USD at most", 0.0, 1e9, 1.0, step=0.5, key="goal_budget", format="%.4g")
        budget = amount if unit == PER_1000 else 1000 * amount / max(scale.volume, 1)
    if st.toggle("A latency cap", value=False, key="goal_seconds_on"):
        seconds = st.number_input("Seconds, for 95% of the texts", 0.0, 600.0, 1.0, step=0.1, key="goal_seconds")
    return budget, seconds


def _pick_losses(data: Loaded, scale: Scale) -> float | tuple[tuple[float, ...], ...]:
    classes = data.recording.dataset.classes
    one = float(
        st.number_input("A wrong answer costs, USD", 0.0, 1e6, scale.wrong_cost or 0.05, step=0.05, key="goal_wrong")
    )
    if len(classes) > MAX_TABLE or not st.toggle("By true and predicted class", value=False, key="goal_table_on"):
        return one
    frame = pd.DataFrame(one * (1 - np.eye(len(classes))), index=pd.Index(classes, name="truth"), columns=list(classes))
    st.caption("USD by true class (rows) and predicted class (columns); the diagonal counts as 0.")
    edited = st.data_editor(frame, key=f"goal_table.{one}")
    return tuple(tuple(float(x) for x in row) for row in edited.fillna(0.0).to_numpy())


def _suggest(data: Loaded, choice: Choice, goal: Goal, everywhere: bool) -> None:
    st.session_state.pop("suggest_problem", None)
    try:
        (tune, groups), (test, _) = (_every_answer(data, choice, side) for side in ("tune", "test"))
        ways = candidates(tune.predictions) if everywhere else one_way(choice.policy)
        found = recommend(tune.predictions, tune.truth, goal, test=test, groups=groups, ways=ways)
    except HybridError as error:
        st.session_state["suggest_problem"] = str(error)
        return
    promised.keep_suggestion(data, choice, found)
    put(found.policy, data.recording.dataset.classes)


def _every_answer(data: Loaded, choice: Choice, side: str) -> tuple[Labelled, Rows]:
    """Return the rows of a side with the answers of every tier, and their groups."""
    recording = data.recording
    rows = recording.split.tune if side == "tune" else recording.split.test
    if choice.terms.mix:
        rows = evaluate_on(data, (choice,), side)[0].rows
    table = table_of(data, choice.whatif, choice.terms).take(rows)
    return Labelled(table, recording.dataset.truth[rows]), recording.dataset.group[rows]


def candidates(table: Predictions) -> Iterator[Policy]:
    """Yield the ways of routing that "all patterns" stands for: those that the controls can show.

    Tiers stand in the order of the table, but for the two of a triage, and there are two or more.
    """
    place = {t.name: j for j, t in enumerate(table.tiers)}
    tiers = [t for t in table.tiers if t.kind != "gate"] + [t for t in table.tiers if t.kind == "gate"]
    for way in every_way(tiers):
        at = [place[n] for n in way.names[way.pattern.gate_first :]]
        if len(at) > 1 and (len(at) == 2 or at == sorted(at)):
            yield way


def put(policy: Policy, classes: Sequence[str]) -> None:
    """Set every control of the Tune page to a policy; call it before the page draws them."""
    pattern = pattern_name(policy.pattern)
    kind, names, state = type(policy.pattern), list(policy.names), st.session_state
    state["pattern"] = pattern
    if kind.gate_first:
        state[f"{pattern}.gate"] = names[0]
        names = names[1:]
    if kind.max_tiers == 2:
        state[f"{pattern}.cheap"], state[f"{pattern}.strong"] = names
    else:
        state[f"{pattern}.tiers"] = names
    for p in kind.params():
        value: Any = getattr(policy.pattern, p.name)
        key = f"{pattern}.{p.name}"
        if p.per_class:
            own = {c: float(v) for c, v in zip(classes, value, strict=False) if v is not None}
            class_table.put(pattern, own)
        elif p.per_tier:
            state.update({f"{key}.{i}": float(v) for i, v in enumerate(value)})
        elif p.optional:
            state[f"{key}.on"] = value is not None
            if value is not None:
                state[key] = float(value)
        elif not p.unit:
            state[key] = value


def result(data: Loaded, choice: Choice, scale: Scale) -> None:
    """Say what was suggested: what binds, how it was found, tune beside test, and the stability band."""
    problem = st.session_state.get("suggest_problem")
    if problem:
        st.error(problem, icon=":material/error:")
    kept = promised.suggestion(data)
    if kept is None:
        return
    found = kept.found
    if promised.suggestion_for(data, choice) is None:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(f"You moved away from the suggestion ({found.goal.words}).")
            classes = data.recording.dataset.classes
            st.button("Back to it", key="suggest_again", on_click=put, args=(found.policy, classes))
        return
    mark = ":orange-badge[simulated] " if found.policy.simulated else ""
    said = f"{mark}**Suggested: {found.goal.words}** · {wording.describe(found.policy)}."
    if not found.feasible:
        said += f" **Out of reach on these rows: {', '.join(found.binding)}**; this policy comes nearest."
    elif found.binding:
        said += f" Binding: **{', '.join(found.binding)}**."
    elif found.goal.limits:
        said += " No limit binds."
    if found.test is not None and found.optimism is not None:
        said += (
            f" Accuracy {wording.percent(found.tune.accuracy.value)} on tune, "
            f"**{wording.percent(found.test.accuracy.value)}** on test ({wording.interval_text(found.test.accuracy)}): "
            f"optimism {wording.signed(found.optimism)}."
        )
    if found.totals[0] is not None:
        said += f" With wrong answers {wording.dollars(found.totals[0].value)} per 1,000 on tune"
        test = found.totals[1]
        said += f", {_money(test)} on test." if test is not None else "."
    with st.container(border=True, key="suggestion"):
        st.markdown(said.replace("$", r"\$"))
        if found.contradiction is not None:
            st.warning(found.contradiction.words.replace("$", r"\$"), icon=":material/report:")
        with st.expander("Tune beside test, stability, alternatives", key="suggestion_details"):
            _details(data, choice, kept, scale)


def _details(data: Loaded, choice: Choice, kept: promised.Suggested, scale: Scale) -> None:
    found = kept.found
    st.caption(
        f"Found {found.method}.{'' if found.exact else ' Not proven to be the best.'} A floor that is met on tune by a "
        "point estimate is often missed on new data; Certify promises."
    )
    if found.selection is not None:
        st.caption(found.selection.words)
    st.table(sides(found, scale))
    if st.toggle("Stability: choose again on 200 resamples of the tune rows", key="suggest_stability"):
        _draw_band(_stability(data.key, repr(kept), data, choice, found))
    if len(found.candidates) > 1:
        st.markdown("**The best of every way of routing**, on tune")
        st.dataframe(_candidates(found), hide_index=True)


def sides(found: Recommendation, scale: Scale) -> pd.DataFrame:
    """Return tune beside test."""
    columns = {}
    for name, s, total in zip(("tune", "test"), (found.tune, found.test), found.totals, strict=True):
        if s is not None:
            cost = s.cost_per_1000
            columns[name] = {
                "Accuracy (95% CI)": f"{wording.percent(s.accuracy.value)} ({wording.interval_text(s.accuracy)})",
                "Escalated": wording.percent(s.escalation_rate.value),
                "Per 1,000 (95% CI)": _money(cost),
                "Per month": wording.dollars(cost.value / 1000 * scale.volume),
                "Latency p50 / p95": f"{wording.seconds(s.latency_p50)} / {wording.seconds(s.latency_p95)}",
                "Rows": f"{s.n_rows:,}",
            }
            if total is not None:
                columns[name]["Per 1,000 with wrong answers (95% CI)"] = _money(total)
    return pd.DataFrame(columns)


def _money(i: Interval) -> str:
    return f"{wording.dollars(i.value)} ({wording.dollars(i.low)} to {wording.dollars(i.high)})"


@st.cache_data(scope="session", max_entries=20, show_spinner="Choosing again on 200 resamples …")
def _stability(key: str, kept: str, _data: Loaded, _choice: Choice, _found: Recommendation) -> Stability:
    tune, test = (_every_answer(_data, _choice, side)[0].answered(_found.policy.names) for side in ("tune", "test"))
    return stability(_found, tune, measured_on=test if len(test) else tune)


def _draw_band(band: Stability) -> None:
    rows = [("Accuracy", f"{band.accuracy[0]:.1%} to {band.accuracy[1]:.1%}")]
    rows.append(("Escalated", f"{band.escalation_rate[0]:.1%} to {band.escalation_rate[1]:.1%}"))
    rows.append(("Per 1,000", f"{wording.dollars(band.cost_per_1000[0])} to {wording.dollars(band.cost_per_1000[1])}"))
    shown = band.thresholds[:8]
    rows += [(f"{name} (set: {value:.3f})", f"{low:.3f} to {high:.3f}") for name, value, low, high in shown]
    st.table(
        pd.DataFrame(rows, columns=["Where the choice lands", f"90% of {band.n} resamples"]).set_index(
            "Where the choice lands"
        )
    )
    if len(band.thresholds) > len(shown):
        st.caption(f"and {len(band.thresholds) - len(shown)} more thresholds of classes.")


def _candidates(found: Recommendation) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "Policy": wording.describe(c.policy),
            "Keeps the limits": "yes" if c.feasible else "no",
            "Accuracy on tune": wording.percent(c.tune.accuracy.value),
            "USD per 1,000": wording.dollars(c.tune.cost_per_1000.value),
            **({} if c.total is None else {"With wrong answers": wording.dollars(c.total)}),
            "Proven best": "yes" if c.exact else "no",
        }
        for c in found.candidates
    )


def gain_by_class(data: Loaded, choice: Choice) -> tuple[PairedDifference, str] | None:
    """Return the gain of thresholds per class over one, and what the one is; None without a threshold per class."""
    if not isinstance(choice.policy.pattern, Triage) or not choice.policy.pattern.by_class:
        return None
    return _gain(data.key, repr(choice), repr(promised.suggestion_for(data, choice)), data, choice)


@st.cache_data(scope="session", max_entries=50, show_spinner=False)
def _gain(key: str, choice: str, found: str, _data: Loaded, _choice: Choice) -> tuple[PairedDifference, str] | None:
    parts: list[Evaluation] = [evaluate_on(_data, (_choice,), side)[0] for side in ("tune", "test")]
    if not len(parts[1].truth):
        return None
    suggested = promised.suggestion_for(_data, _choice)
    tune, test = (Labelled(p.predictions, p.truth) for p in parts)
    if suggested is not None:
        found_now = per_class_thresholds(_choice.policy, tune, suggested.goal, report_on=test)
        value = found_now.one.thresholds()[0].value
        return found_now.gain, f"the best single threshold for the same goal ({value:.3f})"
    a, b = (replay(p, test.predictions) for p in (with_classes(_choice.policy, ()), _choice.policy))
    common = _choice.policy.thresholds()[0].value
    return paired_difference(a, b, test.truth), f"one threshold of {common:.3f} for all classes"
