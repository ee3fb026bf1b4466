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
    controls.statistics_switch()
pins = study.pinned
found = frontier.found_for(study, goal)
if found is not None:
    frontier.draw(study, found, pins, current)

best = frontier.best_of_each(found) if found is not None else {}
every = frontier.entries(study, best, pins)
side = "test"
rows = views.side_by_side(study, every, side)
if not rows:
    st.warning("No test row has the answers of any of these policies, so they are compared on tune rows.")
    side = "tune"
    rows = views.side_by_side(study, every, side)
if rows:
    counts = sorted({line.measured.n_rows for line in rows})
    first = rows[0].pin.name
    n = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    st.subheader("The best of every pattern")
    st.caption(
        f"For the goal: {inert(goal.words)}. Chosen on tune, measured on {n} {side} rows"
        f"{', in the class mix that you set' if study.terms.mix else ''}. "
        f"Differences are against {inert(first)}, paired on the rows that both answered, with 95% intervals."
    )
    frontier.table(study, rows, current, goal)
    with st.expander("All numbers", key="compare_numbers"):
        numbers = views.comparison_table(study, rows, study.terms)
        numbers = numbers.rename(index=lambda what: named(what, study.dataset.agreement_with))
        st.table(in_table(numbers))
        apart = [(inert(x.pin.name), x.difference) for x in rows if x.difference is not None]
        told = telling_apart.many([name for name, _ in apart], [d for _, d in apart], inert(first))
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
