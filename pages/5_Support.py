"""Support: what the tuned policy, the fields in a ticket and an action table make of tickets."""

import streamlit as st

from hybrid.dashboard import controls, state, wording
from hybrid.dashboard.support import page as support_page
from hybrid.dashboard.support import quality as support_quality
from hybrid.dashboard.support import settings as support_settings
from hybrid.dashboard.tune import human_panel
from hybrid.errors import HybridError

controls.open_page("Support")
data = controls.require_data()
st.title("Support")
choice = state.choice(data)
policy = choice.policy
st.caption(f"{wording.describe(policy)}{' (simulated)' if policy.simulated else ''} · as set on Tune")
if data.recording.dataset.texts is None:
    st.info("These data hold predictions but no texts, so there is nothing to read. Load a file with texts.")
    st.stop()
support_page.say_if_stopped()
batch = support_page.pick_tickets(data, choice)
config, llm = support_settings.edit(data, choice)
if not batch.tickets:
    st.info("Paste at least one ticket.")
    st.stop()
try:
    analyses = support_page.results(data, choice, config, batch, llm)
except HybridError as error:
    st.error(str(error), icon=":material/error:")
    st.stop()
if analyses is None:
    st.stop()
support_page.show_notes(data, choice, analyses)
support_page.show_totals(analyses, policy)
human_panel.show_tickets(choice, analyses, support_page.scale())
support_page.show_ticket(analyses)
support_page.show_downloads(data, choice, config, batch, analyses)
support_quality.show(config)
