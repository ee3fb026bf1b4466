"""Panels of the page that the folder is named after."""
