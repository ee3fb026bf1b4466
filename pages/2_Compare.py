"""Compare: pinned policies side by side, on the rows that all of their tiers answered."""

import streamlit as st

from hybrid.dashboard import assumptions, controls, state, views, wording
from hybrid.dashboard.compare import telling_apart
from hybrid.dashboard.inert import inert

place = controls.open_page("Compare")
study = controls.require_study()
st.title("Compare")
pins = study.pinned
current = controls.require_policy(study, place)
if not pins:
    with st.container(border=True):
        st.subheader("Nothing pinned yet")
        st.write("Set up a policy on Tune and pin it; pin a second to compare them.")
        with st.container(horizontal=True, vertical_alignment="center"):
            if st.button("Pin the current policy", type="primary", icon=":material/push_pin:"):
                study.pin(current)
                state.save()
                st.rerun()
            st.page_link("pages/1_Tune.py", label="Go to Tune", icon=":material/tune:")
    st.stop()

with st.container(horizontal=True, vertical_alignment="bottom"):
    side = st.segmented_control(
        "Rows",
        ["test", "tune"],
        default="test",
        required=True,
        key="compare_rows",
        help="Choose on tune, report on test.",
    )
    assumptions.pick(study)
    if st.button("Pin the current policy", icon=":material/push_pin:"):
        fresh = study.pin(current)
        state.save()
        st.caption("Pinned." if fresh else "The current policy is pinned already.")

choices = tuple(p.policy for p in pins)
results = study.compare(choices, side)
if not results and side == "test":
    st.warning("No test row has an answer from every tier of these policies, so they are compared on tune rows.")
    side = "tune"
    results = study.compare(choices, side)
if not results:
    st.warning("No row has an answer from every tier of all pinned policies: remove a pin below.")
else:
    st.caption(
        f"Measured on the {results[0][0].n_rows:,} {side} rows that every tier of all pinned policies answered"
        f"{', in the class mix that you set' if study.terms.mix else ''}. "
        f"Differences are against {pins[0].name}, paired on the same rows."
    )
    st.table(views.comparison_table(pins, results, study.terms))
    several = telling_apart.many([p.name for p in pins[1:]], [d for _, d in results if d], pins[0].name)
    if several:
        st.caption(several)
    st.plotly_chart(
        views.trade_off(study, pins, results, side, current if side == "tune" else None),
        key="trade_off",
        config={"displayModeBar": False},
        alt="Accuracy against cost per 1,000 texts of the pinned policies, with the Pareto front, each tier alone, "
        "random and oracle escalation.",
    )
    references = study.measure(choices[0], side).baselines
    st.caption(
        f"Baselines are those of {pins[0].name}: its tiers alone, random escalation (the straight line between "
        f"{inert(references.cheap)} and {inert(references.strong)}) and oracle escalation (exactly the rows where "
        f"{inert(references.strong)} is right and {inert(references.cheap)} is not)."
    )

telling_apart.draw(study, pins, side)
st.subheader("Pinned")
for kept in list(pins):
    with st.container(horizontal=True, vertical_alignment="center"):
        st.write(f"**{kept.name}** · {inert(wording.describe(kept.policy))}")
        if st.button("Use", key=f"use_{kept.name}", help="Make it the policy at hand, on every page."):
            state.use(kept.policy)
            st.rerun()
        if st.button("Remove", key=f"remove_{kept.name}", icon=":material/delete:"):
            study.unpin(kept.name)
            state.save()
            st.rerun()
