"""Audit: check a few dozen of a model's answers by hand, and learn how often it, and what replaces it, is right."""

import streamlit as st

from hybrid.dashboard import controls
from hybrid.dashboard.audit import checking, found
from hybrid.dashboard.inert import inert
from hybrid.errors import HybridError
from hybrid.study.audit import KEY, audit_of

place = controls.open_page("Audit")
study = controls.require_study()
st.title("Audit")
policy = controls.require_policy(study, place)
model = study.dataset.agreement_with
if model is None or study.dataset.texts is None:
    st.info(
        "People wrote these labels, so every number is accuracy already. This page is for the log of an LLM: there its "
        "answers are the labels, and a few dozen of them, checked by hand here, tell how often they are right."
        if model is None
        else "These data hold no texts, so there is nothing that a person could check."
    )
    st.stop()
st.caption(
    f"Every number of these data is agreement with {inert(model)}. Check a few dozen of its answers, and this says how "
    "often it is right, and how often the policy at hand is."
)
try:
    audit = audit_of(study)
except HybridError as error:
    controls.show_error(error)
    audit = None
if audit is None:
    if study.form.get(KEY):
        st.warning(
            "The labels of an earlier audit are of other rows: the data, or their split, changed since. They are kept "
            "until rows are drawn anew.",
            icon=":material/warning:",
        )
    checking.offer_draw(study, policy)
    st.stop()
checking.draw(study, audit)
found.draw(study, policy, audit)
found.draw_rows(study, audit)
