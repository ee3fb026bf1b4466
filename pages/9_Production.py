"""Production: what a served bundle's log says beside what was promised; corrections, and two bundles compared."""

import streamlit as st

from hybrid.dashboard import controls, state
from hybrid.dashboard.production import source, view

place = controls.open_page("Production")
st.title("Production")
study = state.study()
if study is not None:
    controls.draw_header(place, study)
found = source.pick()
if found is None:
    source.explain(study)
else:
    view.draw(found)
