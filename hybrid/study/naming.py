"""Naming: where a model wrote the labels, what is measured is agreement with it, and is never called accuracy."""

from __future__ import annotations

import re

_MEASURE = re.compile(r"\b(right answers|accuracy)\b", re.IGNORECASE)
_VERDICT = re.compile(r"(?<=%)(\*{0,2}) (?:right|accurate)\b")


def named(text: str, model: str | None) -> str:
    """Return words about accuracy as they are, or, with the model that wrote the labels, as words about agreement.

    Examples
    --------
    >>> named("Right answers: **92.0%** right", "gpt4")
    'Agreement with gpt4: **92.0%** as gpt4 says'
    >>> named("Right answers", None)
    'Right answers'
    """
    if model is None:
        return text

    def agreement(found: re.Match[str]) -> str:
        return f"{'A' if found[0][0].isupper() else 'a'}greement with {model}"

    return _VERDICT.sub(lambda found: f"{found[1]} as {model} says", _MEASURE.sub(agreement, text))
