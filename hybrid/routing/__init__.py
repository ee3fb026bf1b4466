"""Routing: the shared module that decides, for tuning and for production alike."""
