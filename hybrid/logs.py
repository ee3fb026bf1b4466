"""Logs: one line of JSON an event; errors by kind and place alone, since their words may hold what users typed."""

from __future__ import annotations

import json
import logging
import os
import traceback
from datetime import UTC, datetime

VARIABLE = "HYBRID_LOG"  # json: lines for a collector; unset: what the libraries write
ROOTS = ("hybrid", "streamlit", "uvicorn")


class Lines(logging.Formatter):
    """Writes an event as a JSON object: time, level, logger, message, and an error's kind and the places it passed."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        kind, _, trace = record.exc_info or (None, None, None)
        if kind is not None:
            said["error"] = kind.__name__
            said["at"] = [f"{at.filename}:{at.lineno} {at.name}" for at in traceback.extract_tb(trace)][-8:]
        return json.dumps(said, ensure_ascii=False)


def structure() -> bool:
    """Write the log as lines of JSON where the operator wants that; return whether. Again for later loggers."""
    if os.environ.get(VARIABLE, "").strip().lower() != "json":
        return False
    made = [logging.getLogger(name) for name in ROOTS]
    for one in made:
        if not one.handlers:
            one.addHandler(logging.StreamHandler())
            one.propagate = False
    made += [
        one
        for name, one in list(logging.root.manager.loggerDict.items())
        if isinstance(one, logging.Logger) and name.startswith(tuple(f"{root}." for root in ROOTS))
    ]
    for handler in (h for one in made for h in one.handlers):
        if not isinstance(handler.formatter, Lines):
            handler.setFormatter(Lines())
    return True
