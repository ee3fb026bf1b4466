"""Frontier: a goal, what the search found for it, every pattern's front as one chart, and each pattern's best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import streamlit as st

from hybrid.dashboard import charts, controls, state, views, wording
from hybrid.dashboard.charts import Mark
from hybrid.dashboard.inert import inert
from hybrid.dashboard.tune.suggest_panel import KINDS
from hybrid.data.limits import SEARCH
from hybrid.errors import HybridError
from hybrid.metrics.summary import Baselines, PairedDifference, Summary
from hybrid.routing.engine import Policy
from hybrid.routing.patterns import PATTERNS
from hybrid.study import defaults
from hybrid.study.evidence import Progress
from hybrid.study.graded import alone
from hybrid.study.naming import named
from hybrid.study.study import Pin, Study
from hybrid.tuning import CHEAPEST, LEAST_TOTAL, MOST_ACCURATE, Goal, Recommendation
from hybrid.tuning import Progress as Searching

KEPT = 6  # searches that a session keeps
SAID = "compare_said"  # what a click did, until the next run has said it


def pick_goal(study: Study) -> Goal:
    """Draw the goal that every pattern is to reach; it starts as the study's usual one."""
    usual, terms = study.usual_goal(), study.terms
    kind = st.selectbox("Goal", list(KINDS), format_func=KINDS.__getitem__, key="compare_goal", width=330)
    if kind == CHEAPEST:
        start = round(100 * (usual.floor or 0.0), 1)
        floor = st.number_input(
            "Right answers at least, %", 0.0, 100.0, start, step=0.5, key="compare_floor", width=210, format="%.1f"
        )
        return Goal(CHEAPEST, floor=float(floor) / 100)
    if kind == MOST_ACCURATE:
        llm = study.llm_alone
        on = None if llm is None else views.summary(study, llm, "tune")
        half = 0.5 if on is None else on.cost_per_1000.value / 2
        budget = st.number_input(
            "USD per 1,000 at most", 0.0, 1e9, float(f"{half:.2g}"), key="compare_budget", width=210, format="%.6f"
        )
        return Goal(MOST_ACCURATE, budget=float(budget))
    if kind != LEAST_TOTAL:
        return Goal(kind)
    wrong = st.number_input(
        "A wrong answer costs, USD", 0.0, 1e6, terms.wrong_cost or 0.05, step=0.05, key="compare_wrong", width=210
    )
    return Goal(LEAST_TOTAL, wrong=float(wrong))


def found_for(study: Study, goal: Goal) -> Recommendation | None:
    """Return what the search found, kept for the session; None where it was cancelled, or nothing can be found."""
    session, key = st.session_state, (study.token, goal)
    kept: dict[tuple[str, Goal], Recommendation] = session.setdefault("compare_found", {})
    if key in kept:
        return kept[key]
    if session.pop("compare_searching", False) and session.get("compare_sought") == key:
        st.info("The search was stopped before it was done.", icon=":material/cancel:")
        if not st.button("Search again", icon=":material/search:", key="compare_again"):
            session["compare_searching"] = True  # it stays stopped
            return None
    session["compare_sought"] = key

    def work(report: Progress) -> Recommendation:
        def say(now: Searching) -> None:
            report(now.seconds / SEARCH.value(), f"Searching every pattern: {now.done:,} ways of routing")

        return study.recommend(goal, seconds=SEARCH.value(), progress=say)

    try:
        found = controls.run_cancellable(
            work, flag="compare_searching", key="compare_cancel", doing="Searching every pattern"
        )
    except HybridError as error:
        session.pop("compare_searching", None)
        st.warning(inert(error), icon=":material/warning:")
        return None
    while len(kept) >= KEPT:
        del kept[next(iter(kept))]
    kept[key] = found
    return found


def best_of_each(found: Recommendation) -> dict[str, Policy]:
    """Return the best policy of every pattern for the goal, by its title."""
    best = ((kind.title, found.best_of(name)) for name, kind in PATTERNS.items())
    return {title: point.policy for title, point in best if point is not None}


def draw(study: Study, found: Recommendation, pins: Sequence[Pin], at_hand: Policy) -> None:
    """Draw every pattern's front on tune rows; a click on a point makes it the policy at hand."""
    fronts = {PATTERNS[n].title: found.fronts[n] for n in PATTERNS if found.fronts and found.fronts.get(n)}
    best = {PATTERNS[n].title: p for n in PATTERNS if (p := found.best_of(n)) is not None}
    policies = {title: [p.policy for p in points] for title, points in fronts.items()}
    answered = study.accuracy("tune")
    tiers = [t for t in defaults.answering(study.tiers) if t.name in answered and t.kind != "rules"]
    figure = charts.frontier_figure(
        {t: [Mark(words(p.policy), p.cost_per_1000, p.accuracy) for p in points] for t, points in fronts.items()},
        best={t: Mark(f"best {words(p.policy)}", p.cost_per_1000, p.accuracy) for t, p in best.items()},
        references=_references(study),
        alone=_marks(study, {f"{t.name} alone": alone(t) for t in tiers}),
        pins=_marks(study, {p.name: p.policy for p in pins}),
        at_hand=next(iter(_marks(study, {"policy at hand": at_hand})), None),
    )
    turn = st.session_state.setdefault("compare_turn", 0)  # a new key after a click: nothing stays selected
    key = f"frontier.{turn}"
    st.plotly_chart(
        charts.renamed(figure, study.dataset.agreement_with),
        key=key,
        on_select=partial(_clicked, key, policies, {t: p.policy for t, p in best.items()}),
        selection_mode="points",
        config={"displayModeBar": False},
        alt="Right answers against cost per 1,000 texts: the whole frontier of every pattern, each tier alone, random "
        "and oracle escalation, and the policy at hand.",
    )
    n = sorted({p.n_rows for points in fronts.values() for p in points})
    rows = f"{n[0]:,}" if len(n) == 1 else f"{n[0]:,} to {n[-1]:,}"
    st.caption(
        f"Measured on {rows} tune rows, where the thresholds were chosen: part of a lead here is luck; the table is of "
        "rows that had no part in choosing. Large marks: the best for the goal. **Click a point to use it.**"
    )


def _clicked(key: str, policies: Mapping[str, Sequence[Policy]], best: Mapping[str, Policy]) -> None:
    points = st.session_state[key].selection.points
    place = next((p["customdata"] for p in points if p.get("customdata")), None)
    if place is not None:
        title, i = str(place[0]), int(place[1])
        use(best[title] if i < 0 else policies[title][i])


def use(policy: Policy) -> None:
    """Make a policy the one at hand, and say so in the next run."""
    state.use(policy)
    st.session_state["compare_turn"] = st.session_state.get("compare_turn", 0) + 1
    st.session_state[SAID] = wording.describe(policy)


def say_used() -> None:
    """Say which policy a click made the one at hand."""
    said = st.session_state.pop(SAID, None)
    if said:
        st.success(f"Now at hand, on every page: {inert(said)}.", icon=":material/check:")


def words(policy: Policy) -> str:
    """Return a policy in a line that is not too long."""
    said = wording.describe(policy)
    return said if len(said) <= 110 else f"{said[:109]}…"


def _marks(study: Study, policies: Mapping[str, Policy]) -> list[Mark]:
    marks = []
    for name, policy in policies.items():
        s = views.summary(study, policy, "tune")
        if s is not None:
            mark = " (simulated)" if policy.simulated else ""
            marks.append(Mark(f"{name}{mark}", s.cost_per_1000.value, s.accuracy.value))
    return marks


def _references(study: Study) -> Baselines | None:
    """Return random and oracle escalation from the cheap tier to the strongest LLM; None where there is no such."""
    if study.llm is None or study.llm.name == study.cheap.name:
        return None
    pair = study.graded((study.cheap.name, study.llm.name), "tune")
    if not len(pair):
        return None
    both = Policy(PATTERNS["cascade"]((0.5,)), (study.cheap, study.llm))  # type: ignore[call-arg]
    return pair.baselines(both, cheap=study.cheap.name, strong=study.llm.name)


Row = tuple[Pin, Summary, PairedDifference | None]


def entries(study: Study, best: Mapping[str, Policy], pins: Sequence[Pin]) -> list[Pin]:
    """Return what stands in the table: the strongest LLM and the cheap tier alone, every pattern's best, the pins."""
    fixed = [p for p in (study.llm_alone, study.cheap_alone) if p is not None]
    once = {f"{p.names[0]} alone": p for p in fixed}
    return [Pin(name, policy) for name, policy in (*once.items(), *best.items())] + list(pins)


def measured(study: Study, every: Sequence[Pin], side: str) -> list[Row]:
    """Measure them on the rows that all of their tiers answered; where there are none, each on its own."""
    policies = [p.policy for p in every]
    together = study.compare(policies, side)
    if together:
        return [(p, s, d) for p, (s, d) in zip(every, together, strict=True)]
    rows = []
    for i, p in enumerate(every):
        s = views.summary(study, p.policy, side)
        if s is not None:
            rows.append((p, s, study.against(p.policy, policies[0], side) if i else None))
    return rows


def table(study: Study, rows: Sequence[Row], at_hand: Policy) -> None:
    """Draw a line for each policy: what it is, how often it is right, what it costs, and a button that takes it."""
    first, model = rows[0][0].name, study.dataset.agreement_with
    for kept, s, difference in rows:
        with st.container(border=True, key=f"row_{kept.name}"):
            name, right, paid, button = st.columns([3.2, 2.6, 2.6, 1], vertical_alignment="center")
            mark = " :orange-badge[simulated]" if kept.policy.simulated else ""
            name.markdown(f"**{inert(kept.name)}**{mark}")
            if not kept.name.endswith(" alone"):
                name.caption(inert(words(kept.policy)))
            said = f"**{wording.percent(s.accuracy.value)}** right ({wording.interval_text(s.accuracy)})"
            right.markdown(named(said, model and inert(model)))
            cost = s.cost_per_1000
            month = wording.dollars(study.terms.month(cost.value))
            paid.markdown(f"**{inert(month)}** a month · {inert(wording.dollars(cost.value))} per 1,000")
            if difference is not None:
                right.markdown(_right_against(difference, first))
                paid.markdown(_cost_against(rows[0][1], s, difference))
            if kept.policy == at_hand:
                button.markdown(":material/check: in use")
            else:
                button.button(
                    "Use", key=f"use_{kept.name}", on_click=use, args=(kept.policy,),
                    help="Make it the policy at hand, on every page.",
                )  # fmt: skip


def _right_against(d: PairedDifference, first: str) -> str:
    said = inert(wording.points(d.accuracy))
    if not d.uplift and not d.regression:
        return f"right and wrong on the same {d.n_rows:,} rows as {inert(first)}"
    if not d.told_apart:
        return f"{said}: cannot be told apart on {d.n_rows:,} rows"
    return f":{'green' if d.accuracy.value > 0 else 'red'}[{said}] on {d.n_rows:,} rows"


def _cost_against(reference: Summary, s: Summary, d: PairedDifference) -> str:
    said = inert(wording.cheaper(reference, s, d))
    if d.cost_per_1000.low <= 0 <= d.cost_per_1000.high:
        return said
    return f":{'green' if d.cost_per_1000.value < 0 else 'red'}[{said}]"
