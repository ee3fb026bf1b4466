"""Try: type texts and watch each find its way through the tiers."""

import pandas as pd
import streamlit as st

from hybrid.dashboard import controls, trying, wording
from hybrid.dashboard.inert import inert
from hybrid.errors import HybridError
from hybrid.study.evidence import CLASSIFIER

MAX_TEXTS = 200
EXAMPLES = 3  # texts of the data, each of another class

place = controls.open_page("Try")
study = controls.require_study()
st.title("Try")
policy = controls.require_policy(study, place)
if study.dataset.texts is None:
    st.info("These data hold predictions but no texts, so nothing here can answer a new text. Load a file with texts.")
    st.stop()
typed = st.text_area("Texts, one per line", "\n".join(trying.examples(study, EXAMPLES)), height=140, key="try_texts")
texts = [line.strip() for line in typed.splitlines() if line.strip()]
st.button("Route them", type="primary", icon=":material/alt_route:")  # leaving the box submits; the button says so
if not texts:
    st.info("Type or paste at least one text.")
    st.stop()
if len(texts) > MAX_TEXTS:
    st.warning(f"The first {MAX_TEXTS} of {len(texts):,} texts are routed. For more, run the bundle from Export.")
    texts = texts[:MAX_TEXTS]
try:
    decisions = trying.decide(study, policy, texts)
except HybridError as error:
    st.error(inert(error), icon=":material/error:")
    st.stop()

absent = set(policy.names) - set(study.models)
if absent:
    st.caption(
        f":material/info: Not asked here: {', '.join(map(inert, sorted(absent)))}. What was recorded or simulated of a "
        "text of your data is repeated; about any other text nothing is said, at the list price."
    )
for number, (text, decision) in enumerate(zip(texts, decisions, strict=True)):
    in_data = trying.known(study, text)
    silent = decision.tier in absent and decision.label is None
    with st.container(border=True):
        st.text(text)
        answer = f"goes to {decision.tier}" if silent else f"{decision.label or 'no answer'}"
        route = " → ".join(step.tier for step in decision.trace)
        st.markdown(
            f"**{inert(answer)}** · {inert(route)} · {inert(wording.dollars(decision.cost))} · "
            f"{wording.seconds(decision.latency)}"
        )
        st.dataframe(
            pd.DataFrame(
                {
                    "Asked": step.tier,
                    "Said": "not asked here"
                    if step.tier in absent and step.label is None and not in_data
                    else step.label or "—",
                    "Confidence": step.confidence,
                    "Cost": wording.dollars(step.cost),
                    "Took": "—" if step.tier in absent else wording.seconds(step.latency),
                }
                for step in decision.trace
            ),
            hide_index=True,
            width="content",
            column_config={"Confidence": st.column_config.NumberColumn(format="%.3f")},
            key=f"trace.{number}",
        )
        if policy.scope is not None:
            far, limit = decision.trace[0].confidence, policy.scope.threshold
            verdict = "set aside as out of scope" if far >= limit else "in scope"
            st.text(f"Farther from anything seen than {wording.percent(far)} of the known texts: {verdict}.")
        for step in decision.trace:
            if step.likely:
                st.text(f"Likeliest by {step.tier}: {', '.join(step.likely)}")
            gate = step.gate or trying.gate_said(study, step.tier, text)
            if gate is not None:  # it is paid for
                st.text(f"{step.tier} would ask {gate.tier}, difficulty {gate.difficulty} of 5: {gate.reasoning}")
        said = next((s.label for s in decision.trace if s.tier == CLASSIFIER and s.label), None)
        if said is not None:
            words = trying.words_for(study, text, said)
            for title, sign in ((f"For {said}", 1), ("Against", -1)):
                spoke = [f"{w} {v:+.2f}" for w, v in words.items() if v * sign > 0.005][:8]
                if spoke:
                    st.text(f"{title}: {',  '.join(spoke)}")
            if not words:
                st.text(f"{CLASSIFIER} knows none of these words.")
