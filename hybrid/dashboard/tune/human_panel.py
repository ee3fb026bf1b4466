"""Human panel: the person as a tier, its load against its capacity, the queue, and what happens above it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import streamlit as st

from hybrid.dashboard import wording
from hybrid.metrics.summary import share
from hybrid.routing.engine import Outcomes, Policy, replay
from hybrid.routing.table import TOP
from hybrid.study.graded import Graded
from hybrid.study.study import Study
from hybrid.support import TicketAnalysis
from hybrid.tiers.human import MONTH, Human, Workload, workload

LEAST_TICKETS = 30  # from fewer, nothing is said about a day


@dataclass(frozen=True, slots=True)
class Overflow:
    """What becomes of accuracy where cases above the capacity keep the answer that machines had."""

    accuracy: float  # with a person on every case that is sent to one
    kept: float  # with a person on as many as can be done, whichever come first
    share: float  # of texts that are sent to a person


def overflow(outcomes: Outcomes, truth: np.ndarray, columns: Sequence[int], over: float) -> Overflow:
    """Return the accuracy where a share of people's cases keeps the surest answer seen before.

    Parameters
    ----------
    columns
        Theirs among the policy's tiers.
    over
        Share of the cases that the person does not get to, whichever they are.
    """
    sent = outcomes.asked[:, columns].any(axis=1)
    right = outcomes.label == truth
    seen = outcomes.seen
    before = np.where(seen.asked, seen.confidence, -1.0)
    before[:, columns] = -1.0
    before[:, [t.scores for t in seen.tiers]] = -1.0
    surest = before.argmax(axis=1)
    rows = np.arange(len(truth))
    fallback = (seen.label[rows, surest] == truth) & (before[rows, surest] >= 0)
    accuracy = float(right.mean())
    lost = float((right[sent].astype(float) - fallback[sent]).sum()) / len(truth) if len(truth) else 0.0
    return Overflow(accuracy, accuracy - over * lost, float(sent.mean()))


def show_load(study: Study, policy: Policy) -> None:
    """Draw what the policy sends to the person, on tune, at the user's volume; nothing where no person is asked."""
    terms, human = study.terms, study.terms.human
    columns = [j for j, t in enumerate(policy.tiers) if t.kind == "human"]
    if human is None or not columns:
        return
    on = study.measure(policy, "tune").graded
    outcomes = replay(policy, on.predictions)
    picked = [j for j in columns if policy.tiers[j].picks_from]
    full, part = (float(outcomes.asked[:, js].any(axis=1).mean()) for js in (sorted({*columns} - {*picked}), picked))
    # a pick takes as much of a day as its minutes do
    each = terms.assist.minutes / human.minutes if terms.assist is not None and human.minutes else 1.0
    found = workload(human, terms.volume * (full + each * part) / MONTH)
    after = overflow(outcomes, on.truth, columns, found.over)
    with st.container(border=True, key="human_load"):
        also = f": {wording.percent(full)} on an empty form, {wording.percent(part)} by picking from {TOP}"
        st.markdown(
            f"**A person answers {wording.percent(full + part)} of the texts{also if picked else ''}** "
            ":orange-badge[:material/science: simulated]"
        )
        _draw(found, human)
        if picked:
            st.caption(_among(study, policy, outcomes, on, picked[0]))
        if found.growth:
            st.warning(
                f"Above the capacity: {found.growth:,.0f} cases a day are too many. If they wait, the queue grows by "
                f"that every day: after 30 days {30 * found.growth:,.0f} cases, and a new one waits "
                f"{_days(found.wait(30))}. If they keep the surest answer that the machines had, accuracy is "
                f"{wording.percent(after.kept)} instead of {wording.percent(after.accuracy)}, which the tiles show.",
                icon=":material/groups:",
            )


def _among(study: Study, policy: Policy, outcomes: Outcomes, on: Graded, column: int) -> str:
    """Say how often the right answer is among those that a person is shown: more than that no picking reaches."""
    sent = outcomes.asked[:, column]
    likely = study.evidence.likely[policy.tiers[column].picks_from][on.rows[sent]]
    among = share((likely == on.truth[sent, None]).any(axis=1), on.groups[sent])
    if not sent.any():
        return "Nobody picks at these thresholds."
    return (
        f"Where they pick, the right answer is among the {TOP} shown in {wording.percent(among.value)} of the texts "
        f"({wording.interval_text(among)}, {wording.plural(int(sent.sum()), 'tune row')}): measured, and nobody picks "
        "right more often. Cases per day are counted in full ones: a pick takes its share of the minutes."
    )


def show_tickets(study: Study, analyses: Sequence[TicketAnalysis]) -> None:
    """Draw the load of what the action table sends to people, at the user's volume."""
    terms = study.terms
    if len(analyses) < LEAST_TICKETS:
        st.caption(
            f"How many people a day this takes cannot be told from {wording.plural(len(analyses), 'ticket')}: analyse "
            f"{LEAST_TICKETS} or more that come as they do in a day."
        )
        return
    share = sum(a.to_human for a in analyses) / len(analyses)
    human = study.terms.human or Human()
    found = workload(human, terms.volume * share / MONTH)
    with st.expander(f"People: {found.cases:,.0f} cases a day for {found.capacity:,.0f} that they get done"):
        source = "as set under What if on Tune" if study.terms.human else "a person as What if on Tune starts with"
        st.caption(
            f"{wording.percent(share)} of {len(analyses):,} tickets, at {terms.volume:,} a month; {source}: "
            f"{human.capacity:,} cases a day, {human.minutes:g} minutes and {wording.dollars(human.cost)} each. Their "
            "work on these tickets is not in the cost above: it would be "
            f"{wording.dollars(1000 * share * human.cost)} per 1,000 tickets.".replace("$", r"\$")
        )
        _draw(found, human)
        if found.growth:
            st.warning(
                f"Above the capacity: the queue grows by {found.growth:,.0f} cases every day; after 30 days a new one "
                f"waits {_days(found.wait(30))}.",
                icon=":material/groups:",
            )


def _draw(found: Workload, human: Human) -> None:
    tiles = st.container(horizontal=True)
    tiles.metric("Cases per day", f"{found.cases:,.0f} of {found.capacity:,.0f}", border=True)
    use = f"{found.use:.0%}" if np.isfinite(found.use) else "no capacity"
    tiles.metric("Load", use, border=True)
    tiles.metric("Work per day", f"{found.hours:,.1f} h", border=True)
    queue = "grows" if found.growth else f"{found.queue:,.1f} cases"
    tiles.metric("Queue at the end of a day", queue, border=True)
    if not found.growth and found.cases:
        st.caption(
            f"95% of days end with at most {found.queue_high:,.0f} cases waiting, for {_days(found.wait(0))} on "
            "average. Cases come as chance brings them (Poisson), day by day; the queue is simulated."
        )


def _days(days: float) -> str:
    if not np.isfinite(days):
        return "for ever"
    return f"{days:.1f} days" if days >= 0.95 or days == 0 else f"{24 * days:.1f} hours"
