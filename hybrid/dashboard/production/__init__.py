"""The Production page."""
