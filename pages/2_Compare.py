"""Compare: pinned policies side by side, on the rows that all of their tiers answered."""

import streamlit as st

from hybrid.dashboard import cached, controls, state, views, wording
from hybrid.dashboard.compare import telling_apart

controls.open_page("Compare")
data = controls.require_data()
st.title("Compare")
pins = state.pins()
current = state.choice(data)
if not pins:
    with st.container(border=True):
        st.subheader("Nothing pinned yet")
        st.write("Set up a policy on Tune and pin it; pin a second to compare them.")
        with st.container(horizontal=True, vertical_alignment="center"):
            if st.button("Pin the current policy", type="primary", icon=":material/push_pin:"):
                state.pin(current)
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
        bind="query-params",
        help="Choose on tune, report on test.",
    )
    _, _, scale = controls.pick_whatif(data)
    if st.button("Pin the current policy", icon=":material/push_pin:"):
        st.caption("Pinned." if state.pin(current) else "The current policy is pinned already.")

choices = tuple(p.choice for p in pins)
results = cached.compare(data, choices, side)
if not results and side == "test":
    st.warning("No test row has an answer from every tier of these policies, so they are compared on tune rows.")
    side = "tune"
    results = cached.compare(data, choices, side)
if not results:
    st.warning("No row has an answer from every tier of all pinned policies: remove a pin below.")
else:
    st.caption(
        f"Measured on the {results[0][0].n_rows:,} {side} rows that every tier of all pinned policies answered"
        f"{f', in the class mix of {pins[0].name}' if choices[0].terms.mix else ''}. "
        f"Differences are against {pins[0].name}, paired on the same rows."
    )
    st.table(views.comparison_table(pins, results, scale))
    several = telling_apart.many([p.name for p in pins[1:]], [d for _, d in results if d], pins[0].name)
    if several:
        st.caption(several)
    st.plotly_chart(
        views.trade_off(data, pins, results, side, current if side == "tune" else None),
        key="trade_off",
        config={"displayModeBar": False},
        alt="Accuracy against cost per 1,000 texts of the pinned policies, with the Pareto front, each tier alone, "
        "random and oracle escalation.",
    )
    references = cached.references(data, choices[0], side)
    st.caption(
        f"Baselines are those of {pins[0].name}: its tiers alone, random escalation (the straight line between "
        f"{references.cheap} and {references.strong}) and oracle escalation (exactly the rows where "
        f"{references.strong} is right and {references.cheap} is not)."
    )

telling_apart.draw(data, pins, side)
st.subheader("Pinned")
for kept in list(pins):
    with st.container(horizontal=True, vertical_alignment="center"):
        st.write(f"**{kept.name}** · {wording.describe(kept.choice.policy)}")
        if st.button("Use", key=f"use_{kept.name}", help="Make it the policy that Export takes."):
            state.choose(kept.choice)
            st.caption(f"{kept.name} is now the policy on Export.")
        if st.button("Remove", key=f"remove_{kept.name}", icon=":material/delete:"):
            pins.remove(kept)
            st.rerun()
