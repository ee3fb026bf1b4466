"""Frontier: a goal, what the search found for it, every pattern's front as one chart, and each pattern's best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import streamlit as st

from hybrid.dashboard import charts, state, views, wording
from hybrid.dashboard.charts import Mark
from hybrid.dashboard.inert import inert
from hybrid.dashboard.tune.suggest_panel import KINDS
from hybrid.dashboard.views import Line
from hybrid.dashboard.working import run_cancellable
from hybrid.data.limits import SEARCH
from hybrid.errors import HybridError
from hybrid.metrics.summary import Baselines
from hybrid.routing.engine import Policy, answering
from hybrid.routing.patterns import PATTERNS
from hybrid.study import promises, worker
from hybrid.study.answer import is_unpriced, unpriced
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
        return usual if floor == start else Goal(CHEAPEST, floor=float(floor) / 100)
    if kind == MOST_ACCURATE:
        llm = study.llm_alone
        on = None if llm is None else views.summary(study, llm, "tune")
        half = 0.5 if on is None else on.cost_per_1000.value / 2
        digits = charts.money_digits(half) + 1
        budget = st.number_input(
            "USD per 1,000 at most",
            0.0,
            1e9,
            round(half, digits),
            step=10.0**-digits,
            key="compare_budget",
            width=210,
            format=f"%.{digits}f",
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
    known = promises.suggestion(study, goal)  # as by the card on the Data page
    if known is not None and known.effort is not None and not known.effort.left:
        return known
    session, key = st.session_state, (study.token, goal, None if known is None else known.policy)
    kept: dict[tuple[str, Goal, Policy | None], Recommendation] = session.setdefault("compare_found", {})
    if key in kept:
        return kept[key]
    if session.pop("compare_searching", False) and session.get("compare_sought") == key:
        st.info("The search was stopped before it was done.", icon=":material/cancel:")
        if not st.button("Search again", icon=":material/search:", key="compare_again"):
            session["compare_searching"] = True  # it stays stopped
            return None
    session["compare_sought"] = key

    search = worker.searching(study, goal, policies=None, seconds=SEARCH.value())

    def work(report: Progress) -> Recommendation:
        def say(now: Searching) -> None:
            report(now.seconds / SEARCH.value(), f"Searching every pattern: {now.done:,} ways of routing")

        return worker.apart(search, report=say)

    try:
        found = run_cancellable(work, flag="compare_searching", key="compare_cancel", doing="Searching every pattern")
    except HybridError as error:
        session.pop("compare_searching", None)
        st.warning(inert(error), icon=":material/warning:")
        return None
    study.suggested = promises.Suggested(study.terms, found)
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
    policies |= {charts.BEST + title: [p.policy] for title, p in best.items()}
    answered = study.accuracy("tune")
    tiers = [t for t in answering(study.tiers) if t.name in answered and t.kind != "rules"]
    every = {f"{t.name} alone": alone(t) for t in tiers}
    policies |= {charts.ALONE: list(every.values()), charts.PINNED: [p.policy for p in pins]}
    figure = charts.frontier_figure(
        {t: [Mark(words(p.policy), p.cost_per_1000, p.accuracy) for p in points] for t, points in fronts.items()},
        best={t: Mark(f"best {words(p.policy)}", p.cost_per_1000, p.accuracy) for t, p in best.items()},
        references=_references(study),
        alone=_marks(study, every),
        pins=_marks(study, {p.name: p.policy for p in pins}),
        at_hand=next(iter(_marks(study, {"policy at hand": at_hand})), None),
        dark=views.is_dark(),
    )
    turn = st.session_state.setdefault("compare_turn", 0)  # a new key after a click: nothing stays selected
    key = f"frontier.{turn}"
    st.plotly_chart(
        charts.renamed(figure, study.dataset.agreement_with),
        key=key,
        on_select=partial(_clicked, key, policies),
        selection_mode="points",
        config={"displayModeBar": False},
        alt="Right answers against cost per 1,000 texts: the whole frontier of every pattern, each tier alone, random "
        "and oracle escalation, and the policy at hand.",
    )
    unknown = [t.name for t in tiers if is_unpriced(study, t)]
    if unknown:
        st.info(
            f"No price is known for {inert(', '.join(unknown))}: on the chart it counts $0. Set it under What if.",
            icon=":material/payments:",
        )
    n = sorted({p.n_rows for points in fronts.values() for p in points})
    rows = f"{n[0]:,}" if len(n) == 1 else f"{n[0]:,} to {n[-1]:,}"
    st.caption(
        f"Measured on {rows} tune rows, where the thresholds were chosen: part of a lead here is luck; the table is of "
        "rows that had no part in choosing. Large marks: the best for the goal. **Click any point or mark to use it.**"
    )


def _clicked(key: str, policies: Mapping[str, Sequence[Policy]]) -> None:
    points = st.session_state[key].selection.points
    place = next((p["customdata"] for p in points if p.get("customdata")), None)
    if place is not None:
        use(policies[str(place[0])][int(place[1])])


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


def entries(study: Study, best: Mapping[str, Policy], pins: Sequence[Pin]) -> list[Pin]:
    """Return what stands in the table: the strongest LLM and the cheap tier alone, every pattern's best, the pins."""
    fixed = [p for p in (study.llm_alone, study.cheap_alone) if p is not None]
    once = {f"{p.names[0]} alone": p for p in fixed}
    return [Pin(name, policy) for name, policy in (*once.items(), *best.items())] + list(pins)


def table(study: Study, lines: Sequence[Line], at_hand: Policy, goal: Goal) -> None:
    """Draw a line for each policy: what it is, how often it is right, what it costs, and a button that takes it.

    Where test contradicts a pattern's best, beyond chance, it says so: that one was chosen on tune for the goal.
    """
    chosen = [x.pin.name for x in lines if x.pin.name in {kind.title for kind in PATTERNS.values()}]
    first, model = lines[0].pin.name, study.dataset.agreement_with
    full = bool(st.session_state.get("statistics"))
    for line in lines:
        kept, s, n = line.pin, line.measured, len({x.measured.n_rows for x in lines})
        with st.container(border=True, key=f"row_{kept.name}"):
            name, right, paid, button = st.columns([3, 2.7, 2.7, 0.9], vertical_alignment="center")
            mark = " :orange-badge[simulated]" if kept.policy.simulated else ""
            said = f"**{inert(kept.name)}**{mark}"
            if not kept.name.endswith(" alone"):
                said += f"  \n:small[{inert(words(kept.policy))}]"
            name.markdown(said)
            on = f" on {wording.plural(s.n_rows, 'row')}" if n > 1 else ""
            said = f"**{wording.percent(s.accuracy.value)}** right ({wording.interval_text(s.accuracy)}){on}"
            right.markdown(f"{named(said, model and inert(model))}  \n{_right_against(line, first, full=full)}")
            cost = s.cost_per_1000.value
            thousand, said = views.per_1000(study, kept.policy, cost), views.a_month(study, kept.policy, cost)
            said += f" · {inert(thousand)} per 1,000" if thousand != "unknown" else ""
            known = not unpriced(study, kept.policy) and not unpriced(study, lines[0].pin.policy)
            paid.markdown(f"{said}  \n{_cost_against(line) if known else ':gray[set the price under What if]'}")
            against = promises.against(study, kept.policy)
            if kept.name in chosen and not against:
                found = promises.misses(study, kept.policy, goal, among=len(chosen))
                against = [] if found is None else [found.words]
            for words_against in against:
                st.caption(f":material/report: :orange[{inert(words_against)}]")
            if kept.policy == at_hand:
                button.markdown(":material/check: in use")
            else:
                button.button(
                    "Use", key=f"use_{kept.name}", on_click=use, args=(kept.policy,),
                    help="Make it the policy at hand, on every page.",
                )  # fmt: skip


def _right_against(line: Line, first: str, *, full: bool) -> str:
    d = line.difference
    if d is None:
        return ":gray[what the others are compared with]" if line.pin.name == first else ":gray[no row in common]"
    test = f", exact McNemar p {wording.p_value(d.p_value)}" if full else ""
    if not d.uplift and not d.regression:
        return f":gray[right and wrong on the same rows as {inert(first)}]"
    if not d.told_apart:
        between = f"{wording.signed(d.accuracy.low)} to {wording.signed(d.accuracy.high)} points"
        return f":gray[cannot be told apart ({inert(between)}){test}]"
    return f":{'green' if d.accuracy.value > 0 else 'red'}[{inert(wording.points(d.accuracy))}{test}]"


def _cost_against(line: Line) -> str:
    d = line.difference
    if d is None or line.shared is None:
        return ""
    said = inert(wording.cheaper(*line.shared, d))
    if d.cost_per_1000.low <= 0 <= d.cost_per_1000.high:
        return f":gray[{said}]"
    return f":{'green' if d.cost_per_1000.value < 0 else 'red'}[{said}]"
