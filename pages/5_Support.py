"""Support: what the tuned policy, the fields in a ticket and an action table make of tickets."""

import streamlit as st

from hybrid.dashboard import controls
from hybrid.dashboard.inert import inert
from hybrid.dashboard.support import page as support_page
from hybrid.dashboard.support import quality as support_quality
from hybrid.dashboard.support import settings as support_settings
from hybrid.dashboard.tune import human_panel
from hybrid.errors import HybridError

place = controls.open_page("Support")
study = controls.require_study()
st.title("Support")
policy = controls.require_policy(study, place)
if study.dataset.texts is None:
    st.info("These data hold predictions but no texts, so there is nothing to read. Load a file with texts.")
    st.stop()
support_page.say_if_stopped()
batch = support_page.pick_tickets(study, policy)
config, llm = support_settings.edit(study, policy)
if not batch.tickets:
    st.info("Paste at least one ticket.")
    st.stop()
try:
    analyses = support_page.results(study, policy, config, batch, llm)
except HybridError as error:
    st.error(inert(error), icon=":material/error:")
    st.stop()
if analyses is None:
    st.stop()
support_page.show_notes(study, policy, analyses)
support_page.show_totals(analyses, policy)
human_panel.show_tickets(study, analyses)
support_page.show_ticket(analyses)
support_page.show_downloads(study, policy, config, batch, analyses)
support_quality.show(config)
