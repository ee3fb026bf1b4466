"""Suggest: say what the policy is to be good at, and the sliders move there; what binds, and how much is luck."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from hybrid.dashboard import state, wording
from hybrid.dashboard.inert import in_table, inert
from hybrid.dashboard.working import Search
from hybrid.errors import HybridError
from hybrid.metrics.summary import PairedDifference, paired_difference
from hybrid.routing.engine import Policy, replay
from hybrid.routing.patterns import Triage
from hybrid.study import promises
from hybrid.study.study import Study
from hybrid.study.terms import Terms
from hybrid.tuning import (
    CHEAPEST,
    LEAST_TOTAL,
    MOST_ACCURATE,
    Goal,
    Labelled,
    Recommendation,
    Stability,
    per_class_thresholds,
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
SEARCH = "suggest.search"  # in the session: the one that goes on
SECONDS = 30.0  # that it may take
AT_ONCE = 1.0  # seconds that a page waits for it before it shows how far it is
WAIT = False  # whether a page waits for all of it, as tests do
MAX_TABLE = 12  # classes up to which a table of costs is offered


def controls(study: Study, policy: Policy) -> None:
    """Draw the popover; its button looks for the best policy and sets the sliders."""
    terms = study.terms
    panel = st.popover(
        "Suggest", icon=":material/auto_awesome:", width="content", key="suggest_open", on_change="rerun"
    )
    if not panel.open:  # closed, it costs nothing
        return
    with panel, st.container(width=WIDTH):
        kind = st.selectbox("Goal", list(KINDS), format_func=KINDS.__getitem__, key="goal")
        floor = budget = seconds = None
        wrong: float | tuple[tuple[float, ...], ...] = 0.0
        if kind == CHEAPEST:
            floor = _pick_floor(study, policy)
        if kind == LEAST_TOTAL:
            wrong = _pick_losses(study, terms)
        budget, seconds = _pick_limits(kind, terms)
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
            st.error(inert(problem), icon=":material/error:")
            return
        st.button(
            "Set the sliders",
            type="primary",
            icon=":material/auto_awesome:",
            key="suggest",
            on_click=_suggest,
            args=(study, policy, goal, over == EVERYWHERE),
        )
        st.caption("Chosen on tune rows, reported on test.")


def _pick_floor(study: Study, policy: Policy) -> float:
    """Draw the floor; it starts where the best tier of the policy alone is, for that can be reached."""
    on = study.measure(policy, "tune").graded
    alone = {n: float(np.mean(on.predictions.label[:, on.predictions.index(n)] == on.truth)) for n in policy.names}
    best = max(alone, key=alone.__getitem__)
    start = float(np.floor(100 * alone[best]))
    floor = st.number_input("Accuracy at least, %", 0.0, 100.0, start, step=0.5, key="goal_floor")
    st.caption(f"{inert(best)} alone: {wording.percent(alone[best])} on tune.")
    return float(floor) / 100


def _pick_limits(kind: str, terms: Terms) -> tuple[float | None, float | None]:
    budget = seconds = None
    if st.toggle("A budget", value=kind == MOST_ACCURATE, key=f"goal_budget_on.{kind}"):
        left, right = st.columns([3, 2], vertical_alignment="bottom")
        unit = right.selectbox("For", [PER_1000, PER_MONTH], key="goal_budget_unit", label_visibility="collapsed")
        amount = left.number_input("USD at most", 0.0, 1e9, 1.0, step=0.5, key="goal_budget", format="%.4g")
        budget = amount if unit == PER_1000 else 1000 * amount / max(terms.volume, 1)
    if st.toggle("A latency cap", value=False, key="goal_seconds_on"):
        seconds = st.number_input("Seconds, for 95% of the texts", 0.0, 600.0, 1.0, step=0.1, key="goal_seconds")
    return budget, seconds


def _pick_losses(study: Study, terms: Terms) -> float | tuple[tuple[float, ...], ...]:
    classes = study.dataset.classes
    one = float(
        st.number_input("A wrong answer costs, USD", 0.0, 1e6, terms.wrong_cost or 0.05, step=0.05, key="goal_wrong")
    )
    if len(classes) > MAX_TABLE or not st.toggle("By true and predicted class", value=False, key="goal_table_on"):
        return one
    frame = pd.DataFrame(one * (1 - np.eye(len(classes))), index=pd.Index(classes, name="truth"), columns=list(classes))
    st.caption("USD by true class (rows) and predicted class (columns); the diagonal counts as 0.")
    edited = st.data_editor(frame, key=f"goal_table.{one}")
    return tuple(tuple(float(x) for x in row) for row in edited.fillna(0.0).to_numpy())


def _suggest(study: Study, policy: Policy, goal: Goal, everywhere: bool) -> None:
    """Look for the best policy; what takes longer goes on beside the page."""
    before: Search | None = st.session_state.get(SEARCH)
    if before is not None:
        before.cancelled.set()
    st.session_state.pop("suggest_problem", None)
    st.session_state["suggest_open"] = False  # it has done its work
    st.session_state[SEARCH] = search = Search(study, goal, policies=None if everywhere else [policy], seconds=SECONDS)
    search.wait(None if WAIT else AT_ONCE)
    if not search.running:
        _take(study, search)


def _take(study: Study, search: Search) -> None:
    """Make what was found the suggestion and the policy at hand, or say why nothing was."""
    del st.session_state[SEARCH]
    if search.found is None:
        st.session_state["suggest_problem"] = search.problem
    elif search.token == study.token:
        study.suggested = promises.Suggested(search.terms, search.found)
        state.use(search.found.policy)


def progress(study: Study) -> None:
    """Draw how far a search is that goes on; once it is over, move the sliders to what it found."""
    search: Search | None = st.session_state.get(SEARCH)
    if search is None:
        return
    if search.running:
        search.draw("Looking for the best policy", "suggest_search")
        return
    _take(study, search)
    st.rerun()


def result(study: Study, policy: Policy) -> None:
    """Say what was suggested: what binds, how it was found, tune beside test, and the stability band."""
    problem = st.session_state.get("suggest_problem")
    if problem:
        st.error(inert(problem), icon=":material/error:")
    kept = study.suggested
    if kept is None:
        return
    found = kept.found
    if promises.suggestion_for(study, policy) is None:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(f"You moved away from the suggestion ({found.goal.words}).")
            st.button("Back to it", key="suggest_again", on_click=state.use, args=(found.policy,))
        return
    mark = ":orange-badge[simulated] " if found.policy.simulated else ""
    said = f"{mark}**Suggested: {found.goal.words}** · {inert(wording.describe(found.policy))}."
    if not found.feasible:
        said += f" **Out of reach on these rows: {inert(', '.join(found.binding))}**; this policy comes nearest."
    elif found.binding:
        said += f" Binding: **{', '.join(found.binding)}**."
    elif found.goal.limits:
        said += " No limit binds."
    if found.test is not None and found.optimism is not None:
        said += (
            f" {wording.percent(found.tune.accuracy.value)} right on tune rows, "
            f"**{wording.percent(found.test.accuracy.value)}** on test rows "
            f"({wording.interval_text(found.test.accuracy)}). "
        )
        if st.session_state.get("statistics"):
            said += f"Optimism {wording.signed(found.optimism)}{_parts(study, found)}."
        else:
            said += f"Holds on fresh rows: {wording.holds(found.tune.accuracy, found.test.accuracy)}."
    if found.totals[0] is not None:
        said += f" With wrong answers {wording.dollars(found.totals[0].value)} per 1,000 on tune"
        test = found.totals[1]
        said += f", {wording.money(test)} on test." if test is not None else "."
    with st.container(border=True, key="suggestion"):
        st.markdown(said.replace("$", r"\$"))
        if found.contradiction is not None:
            st.warning(found.contradiction.words.replace("$", r"\$"), icon=":material/report:")
        with st.expander("Tune beside test, stability, alternatives", key="suggestion_details"):
            _details(study, policy, kept)


def _parts(study: Study, found: Recommendation) -> str:
    """Return how much of the optimism is luck, and how much is that what ships was fitted on more rows."""
    shipped = study.shipping(found.policy)
    if shipped is None:
        return ""
    luck = found.tune.accuracy.value - shipped.graded_accuracy
    return (
        f": {wording.signed(luck)} luck of the choice and of the draw, {wording.signed(-shipped.accuracy.value)} "
        "because the models that ship are fitted on more rows than those that graded"
    )


def _details(study: Study, policy: Policy, kept: promises.Suggested) -> None:
    found = kept.found
    st.caption(
        f"Found {found.method}.{'' if found.exact else ' Not proven to be the best.'} A floor that is met on tune by a "
        "point estimate is often missed on new data; Certify promises."
    )
    if found.selection is not None:
        st.caption(found.selection.words)
    st.table(in_table(sides(found, study.terms).fillna("")))
    if st.toggle("Stability: choose again on 200 resamples of the tune rows", key="suggest_stability"):
        _draw_band(_stability(study.token, repr(kept), study, policy, found))
    if len(found.candidates) > 1:
        st.markdown("**The best of every way of routing**, on tune")
        st.dataframe(_candidates(found), hide_index=True)


def sides(found: Recommendation, terms: Terms) -> pd.DataFrame:
    """Return tune beside test."""
    columns = {}
    for name, s, total in zip(("tune", "test"), (found.tune, found.test), found.totals, strict=True):
        if s is not None:
            cost = s.cost_per_1000
            columns[name] = {
                "Accuracy (95% CI)": f"{wording.percent(s.accuracy.value)} ({wording.interval_text(s.accuracy)})",
                f"Sent to {found.policy.names[-1]}": wording.percent(s.escalation_rate.value),
                "Per 1,000 (95% CI)": wording.money(cost),
                "Per month": wording.dollars(terms.month(cost.value)),
                "Latency p50 / p95": f"{wording.seconds(s.latency_p50)} / {wording.seconds(s.latency_p95)}",
                "Rows": f"{s.n_rows:,}",
            }
            if total is not None:
                columns[name]["Per 1,000 with wrong answers (95% CI)"] = wording.money(total)
    return pd.DataFrame(columns)


@st.cache_data(scope="session", max_entries=20, show_spinner="Choosing again on 200 resamples …")
def _stability(key: str, kept: str, _study: Study, _policy: Policy, _found: Recommendation) -> Stability:
    tune, test = (_labelled(_study, _found.policy, side) for side in ("tune", "test"))
    return stability(_found, tune, measured_on=test if len(test) else tune)


def _draw_band(band: Stability) -> None:
    rows = [("Accuracy", f"{band.accuracy[0]:.1%} to {band.accuracy[1]:.1%}")]
    rows.append(("Sent to the last tier", f"{band.escalation_rate[0]:.1%} to {band.escalation_rate[1]:.1%}"))
    rows.append(("Per 1,000", f"{wording.dollars(band.cost_per_1000[0])} to {wording.dollars(band.cost_per_1000[1])}"))
    shown, said = band.thresholds[:8], wording.threshold
    rows += [(f"{name} (set: {said(value)})", f"{said(low)} to {said(high)}") for name, value, low, high in shown]
    lands = f"90% of {band.n} resamples"
    st.table(in_table(pd.DataFrame(rows, columns=["Where it lands", lands]).set_index("Where it lands")))
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


def gain_by_class(study: Study, policy: Policy) -> tuple[PairedDifference, str] | None:
    """Return the gain of thresholds per class over one, and what the one is; None without a threshold per class."""
    if not isinstance(policy.pattern, Triage) or not policy.pattern.by_class:
        return None
    return _gain(study.token, repr(policy), repr(promises.suggestion_for(study, policy)), study, policy)


@st.cache_data(scope="session", max_entries=50, show_spinner=False)
def _gain(key: str, policy: str, found: str, _study: Study, _policy: Policy) -> tuple[PairedDifference, str] | None:
    tune, test = (_labelled(_study, _policy, side) for side in ("tune", "test"))
    if not len(test):
        return None
    suggested = promises.suggestion_for(_study, _policy)
    if suggested is not None:
        found_now = per_class_thresholds(_policy, tune, suggested.goal, report_on=test)
        best = wording.threshold(found_now.one.thresholds()[0].value or 0.0)
        return found_now.gain, f"the best single threshold for the same goal ({best})"
    a, b = (replay(p, test.predictions) for p in (with_classes(_policy, ()), _policy))
    common = wording.threshold(_policy.thresholds()[0].value or 0.0)
    return paired_difference(a, b, test.truth, groups=test.groups), f"one threshold of {common} for all classes"


def _labelled(study: Study, policy: Policy, side: str) -> Labelled:
    on = study.measure(policy, side).graded
    return Labelled(on.predictions, on.truth, on.groups)
