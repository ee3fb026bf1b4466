"""Tune: pick a pattern, drag its thresholds, and see at once what it does."""

import streamlit as st

from hybrid.dashboard import cached, charts, controls, state
from hybrid.dashboard.state import Choice
from hybrid.patterns import PATTERNS

controls.open_page("Tune")
data = controls.require_data()


def tile(label: str, value: str, detail: str, test: str) -> None:
    """Draw a number with its interval on tune, and the same on test."""
    with st.container(border=True, height="stretch"):
        st.metric(label, value)
        st.caption(f"{detail}  \n{test}")


with st.container(horizontal=True, vertical_alignment="bottom"):
    pattern = st.segmented_control(
        "Pattern",
        list(PATTERNS),
        default="triage",
        required=True,
        format_func=lambda name: PATTERNS[name].title,
        key="pattern",
        bind="query-params",
    )
    whatif = controls.pick_whatif(data)
    volume = controls.pick_volume()
    pin_here = st.container(width="content")  # filled below, once there is a policy to pin
kind = PATTERNS[pattern]
st.caption(kind.summary)
table = data.recording.with_whatif(whatif)
policy = controls.pick_policy(pattern, kind, table)
if policy is None:
    st.stop()
choice = Choice(policy, whatif if policy.simulated else None)
state.choose(choice)

summary = cached.summary(data, choice, "tune")
if summary is None:
    st.warning(
        f"No tune row has an answer from all of {', '.join(policy.names)}. Pick other tiers, or add a file with their "
        "answers on the Data page."
    )
    st.stop()
test = cached.summary(data, choice, "test")
strong = policy.names[-1]
simulated = [t.name for t in policy.tiers if t.simulated]
with pin_here:
    if st.button("Pin to compare", icon=":material/push_pin:", help=f"{len(state.pins())} pinned so far"):
        fresh = state.pin(choice)
        st.toast(f"Pinned as {state.pins()[-1].name}." if fresh else "This policy is pinned already.")
if simulated:
    st.markdown(
        f":orange-badge[:material/science: simulated] Every number that involves **{', '.join(simulated)}** is made up "
        "at the accuracy, price and latency that you set under What-if LLM."
    )


def on_test(text: str) -> str:
    """Return what stands below a number about the test rows."""
    return f"on test: {text}" if test else "on test: no row has every answer"


mark = " · simulated" if simulated else ""
with st.container(key="tiles"):
    columns = st.columns(4)
    with columns[0]:
        optimism = f", optimism {(summary.accuracy.value - test.accuracy.value) * 100:+.1f}" if test else ""
        tile(
            f"Accuracy{mark}",
            controls.percent(summary.accuracy),
            f"95% CI {controls.interval_text(summary.accuracy)} on {summary.n_rows:,} tune rows",
            on_test(
                f"{controls.percent(test.accuracy)} ({controls.interval_text(test.accuracy)}){optimism}" if test else ""
            ),
        )
    with columns[1]:
        reach = " → ".join(f"{n} {r:.0%}" for n, r in zip(policy.names, summary.reach, strict=True))
        tile(
            f"Escalation rate: sent to {strong}",
            controls.percent(summary.escalation_rate),
            f"95% CI {controls.interval_text(summary.escalation_rate)} · asked: {reach}",
            on_test(controls.percent(test.escalation_rate) if test else ""),
        )
    with columns[2]:
        cost = summary.cost_per_1000
        tile(
            f"Cost per 1,000{mark}",
            controls.dollars(cost.value),
            f"95% CI {controls.dollars(cost.low)} to {controls.dollars(cost.high)} · "
            f"**{controls.dollars(cost.value / 1000 * volume)} per month**".replace("$", r"\$"),
            on_test(controls.dollars(test.cost_per_1000.value) if test else "").replace("$", r"\$"),
        )
    with columns[3]:
        tile(
            f"Latency p50 / p95{mark}",
            f"{controls.seconds(summary.latency_p50)} / {controls.seconds(summary.latency_p95)}",
            "of the per-text latency; tiers asked together overlap",
            on_test(f"{controls.seconds(test.latency_p50)} / {controls.seconds(test.latency_p95)}" if test else ""),
        )

cheap = state.cheap_of(policy.tiers).name
unpriced = [t.name for t in policy.tiers if t.kind == "recorded" and t.price == 0]
if unpriced:
    st.caption(f":material/payments: No price is set for {', '.join(unpriced)}: answers count $0. Set it on Data.")
gain = cached.gain_over_cheap(data, choice, "tune")
verdict = (
    f"{':orange-badge[simulated] ' if simulated else ''}Against **{cheap} alone**, on the same "
    f"{gain.n_rows:,} tune rows: {controls.points(gain.accuracy)}. "
    f"{gain.uplift:,} rows turn right, {gain.regression:,} turn wrong."
)
if not gain.told_apart:
    more = f" About {gain.rows_to_tell:,} labelled rows would tell." if gain.rows_to_tell else ""
    st.info(f"{verdict} The two cannot be told apart on these rows.{more}", icon=":material/balance:")
elif gain.accuracy.value < 0:
    st.warning(
        f"{verdict} **This policy loses accuracy:** {cheap} is better left alone.", icon=":material/trending_down:"
    )
else:
    st.success(verdict, icon=":material/trending_up:")

lines = policy.thresholds()
which = 0
if len(lines) > 1:
    titles = [line.title for line in lines]
    picked = st.segmented_control(
        "Draw the curve over", titles, default=titles[-1], required=True, key=f"{pattern}.axis"
    )
    which = titles.index(picked)
line = lines[which]
curve = cached.curve(data, choice, line.name, line.index)
(on,) = state.evaluate_on(data, (choice,), "tune")
figure = charts.threshold_figure(
    curve,
    summary=summary,
    threshold=line.value,
    values=policy.pattern.gauge(on.predictions.select(policy.names), line.name, line.index),
    references=cached.references(data, choice, "tune"),
    axis=line.title,
    strong=strong,
    simulated=simulated,
)
st.plotly_chart(
    figure,
    key="curves",
    config={"displayModeBar": False},
    alt=f"Accuracy, escalation rate and cost per 1,000 texts against: {line.title}. "
    f"Accuracy {summary.accuracy.value:.1%}, escalation {summary.escalation_rate.value:.1%} as set.",
)
if line.value is None:
    st.caption(f"“{line.title}” is off: the curves show what it would do when on, the dotted lines the policy as set.")
exact = "exact at every threshold" if curve.exact else "measured at 101 thresholds and yours"
st.caption(
    f"Measured on {summary.n_rows:,} of {on.n_side:,} tune rows (those that every tier answered); the classifier's "
    f"answers are out of fold. Curve: {exact}."
)
