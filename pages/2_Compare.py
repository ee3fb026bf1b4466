"""Compare: every pattern's whole frontier, its best policy for one goal beside the LLM alone, and what was pinned."""

import streamlit as st

from hybrid.dashboard import assumptions, controls, state, views
from hybrid.dashboard.compare import frontier, telling_apart
from hybrid.dashboard.inert import in_table, inert
from hybrid.study.naming import named

place = controls.open_page("Compare")
study = controls.require_study()
st.title("Compare")
current = controls.require_policy(study, place)
frontier.say_used()

with st.container(horizontal=True, vertical_alignment="bottom"):
    goal = frontier.pick_goal(study)
    assumptions.pick(study)
    if st.button("Pin the current policy", icon=":material/push_pin:"):
        fresh = study.pin(current)
        state.save()
        st.caption("Pinned." if fresh else "The current policy is pinned already.")
pins = study.pinned
found = frontier.found_for(study, goal)
if found is not None:
    frontier.draw(study, found, pins, current)

best = frontier.best_of_each(found) if found is not None else {}
every = frontier.entries(study, best, pins)
side = "test"
rows = frontier.measured(study, every, side)
if not rows:
    st.warning("No test row has the answers of any of these policies, so they are compared on tune rows.")
    side = "tune"
    rows = frontier.measured(study, every, side)
if rows:
    counts = sorted({s.n_rows for _, s, _ in rows})
    n = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    st.subheader("The best of every pattern")
    st.caption(
        f"For the goal: {inert(goal.words)}. Chosen on tune, measured on {n} {side} rows"
        f"{', in the class mix that you set' if study.terms.mix else ''}. "
        f"Differences are against {inert(rows[0][0].name)}, paired on the same rows, with 95% intervals."
    )
    frontier.table(study, rows, current)
    with st.expander("All numbers", key="compare_numbers"):
        numbers = views.comparison_table([p for p, _, _ in rows], [(s, d) for _, s, d in rows], study.terms)
        numbers = numbers.rename(index=lambda what: named(what, study.dataset.agreement_with))
        st.table(in_table(numbers))
        told = telling_apart.many(
            [inert(p.name) for p, _, d in rows if d], [d for _, _, d in rows if d], inert(rows[0][0].name)
        )
        if told:
            st.caption(told)

if pins:
    st.subheader("Pinned")
    for kept in pins:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.write(f"**{kept.name}** · {inert(frontier.words(kept.policy))}")
            if st.button("Remove", key=f"remove_{kept.name}", icon=":material/delete:"):
                study.unpin(kept.name)
                state.save()
                st.rerun()
    several = telling_apart.many(
        [p.name for p in pins[1:]],
        [d for _, d in study.compare([p.policy for p in pins], side) if d],
        pins[0].name,
    )
    if several:
        st.caption(several)
    telling_apart.draw(study, pins, side)
