"""Export: the chosen policy as a bundle, and the lines of Python that run it."""

import datetime
import json

import streamlit as st

from hybrid.dashboard import controls, views, wording
from hybrid.dashboard.export import export, report, shift_panel
from hybrid.dashboard.inert import inert
from hybrid.errors import HybridError
from hybrid.study import promises
from hybrid.study.naming import named

place = controls.open_page("Export")
study = controls.require_study()
st.title("Export")
current = controls.require_policy(study, place)
choices = {"current": current} | {f"pin {p.name}": p.policy for p in study.pinned}
picked = st.selectbox(
    "Policy",
    list(choices),
    format_func=lambda name: f"{'Set on Tune' if name == 'current' else name} · {wording.describe(choices[name])}",
)
policy = chosen = choices[picked]
moved = study.at_share(policy)
if moved is not None:
    last = inert(policy.names[-1])
    if st.toggle(
        f"Keep the share that is sent on to {last}: **{wording.percent(moved.promised)}**, as on tune",
        key="export_share",
        help="The models that ship are a little surer than those that answered the tune rows, which were fitted on a "
        "part of them. This moves the thresholds so that the share stays, read off the test rows without their labels.",
    ):
        policy = moved.policy
        st.caption(f":material/local_shipping: {inert(moved.words)} Thresholds: {inert(wording.describe(policy))}.")
        if promises.certificate_for(study, chosen) is not None and promises.certificate_for(study, policy) is None:
            st.warning(
                "The certificate is of the thresholds as chosen and does not cover these: the bundle goes without it.",
                icon=":material/verified_off:",
            )
summary, test = (views.summary(study, policy, side) for side in ("tune", "test"))
if summary is None:
    st.warning("No tune row has an answer from every tier of this policy. Pick other tiers on Tune.")
    st.stop()
mark = " (simulated)" if policy.simulated else ""
best = test or summary
with st.container(border=True):
    model = study.dataset.agreement_with
    right = named(f"**{wording.percent(best.accuracy.value)}** right", model and inert(model))
    st.markdown(
        f"{right}{mark} (95% CI {wording.interval_text(best.accuracy)}), "
        f"{views.a_month(study, policy, best.cost_per_1000.value)}{mark} "
        f"({inert(views.per_1000(study, policy, best.cost_per_1000.value))} per 1,000), "
        f"**{wording.percent(best.escalation_rate.value)}** sent to {inert(policy.names[-1])}, "
        f"on {wording.plural(best.n_rows, 'test row' if test else 'tune row')}."
    )
    on_failure = "best_so_far"
    if export.asked(study, policy):
        on_failure = st.radio(
            "Where the last tier cannot be asked",
            list(export.ON_FAILURE),
            format_func=export.ON_FAILURE.__getitem__,
            help="A server that is down or a key that expired must not stop your queue. Each decision "
            "says which tier failed.",
            key="export_on_failure",
        )
    try:
        content = export.bundle(study, policy, on_failure=on_failure, chosen=chosen)
    except HybridError as error:
        st.error(inert(error), icon=":material/error:")
        st.stop()
    name = export.file_name(policy)
    st.download_button(
        "Download the bundle",
        content,
        name,
        "application/zip",
        type="primary",
        icon=":material/download:",
        on_click="ignore",
    )
    st.caption(
        f"{len(content) / 1024:,.0f} KB: the policy, the fitted models as plain numbers, the evidence, and golden rows "
        "that it checks itself with. The golden rows hold texts of your data."
    )
with st.container(border=True):
    st.markdown(
        "**A report for whoever approves it**: the policy, its numbers on tune and test, the charts, the comparison "
        "with what is pinned, the data's fingerprint and how to run it. One HTML file, no network needed."
    )
    st.download_button(
        "Download the report",
        report.report(study, policy, study.pinned, study.terms, written=datetime.date.today()),
        name.replace(".zip", "-report.html"),
        "text/html",
        icon=":material/description:",
        on_click="ignore",
    )
external = study.external(policy)
if external:
    st.info(
        f"The bundle does not hold {', '.join(map(inert, external))}: "
        + ("it was simulated" if policy.simulated else "its answers were recorded")
        + ". Supply a function that asks it, as below.",
        icon=":material/extension:",
    )
for tier in export.asked(study, policy):
    st.info(
        f"The bundle asks {inert(tier.name)} ({inert(tier.model)} at {inert(tier.base_url)}) itself, with the key in "
        f"the environment variable {tier.key_variable}; the key is not in it."
        + (" Its examples hold texts of your data." if tier.examples else ""),
        icon=":material/key:",
    )
st.subheader("Run it")
st.code(export.snippet(name, study, policy), language="python")
st.subheader("Policy")
st.json(json.loads(export.policy_json(content)), expanded=2)
with st.expander("Evidence"):
    st.json(json.loads(export.member(content, "evidence.json")), expanded=1)
shift_panel.draw(study, policy)
