"""The dashboard: state, controls and charts of the pages; the only place that knows streamlit and plotly."""
