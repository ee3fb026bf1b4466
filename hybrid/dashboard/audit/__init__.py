"""The panels of the Audit page."""
