"""Extraction: what is read out of a ticket, by rules for easy tickets, by any `Extractor` for hard ones."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol, get_args

from pydantic import Field as Setting

from hybrid.support import finders
from hybrid.support.field_patterns import MAX_PATTERNS, FieldPattern, Strict
from hybrid.support.fields import RULES, Field, compact, without_overlaps
from hybrid.support.finders import Finder

Urgency = Literal["low", "normal", "high", "critical"]
DIGIT = "digit"
_DIGIT = re.compile(r"\d")

FieldName = Literal["amount", "date", "order", "tracking", "reference", "account", "email", "phone", "product"]


class ExtractionSettings(Strict):
    """How rules read a ticket.

    Parameters
    ----------
    fields
        Which of `hybrid.support.fields.FIELDS` to look for.
    day_first
        Whether 03/04/2025 is the third of April; where only one reading is a date, that one is taken.
    phone_region
        Two-letter code of the country whose telephone numbers need no prefix.
    patterns
        The user's own; they win over the fixed rules where both match.
    """

    fields: tuple[FieldName, ...] = get_args(FieldName)
    day_first: bool = True
    phone_region: str = Setting(default="US", pattern="^[A-Z]{2}$")
    patterns: tuple[FieldPattern, ...] = Setting(default=(), max_length=MAX_PATTERNS)


@dataclass(frozen=True, slots=True)
class Insight:
    """What only understanding finds; no rule fills it in.

    Parameters
    ----------
    urgency
        From ``low`` to ``critical``.
    sentiment
        From -1, furious, to 1, delighted.
    key_issues
        What the ticket is about, a few words each.
    requires_human
        Whether a person should look at it.
    """

    urgency: Urgency
    sentiment: float
    key_issues: tuple[str, ...]
    requires_human: bool


@dataclass(frozen=True, slots=True)
class Extraction:
    """What was read out of one ticket.

    Parameters
    ----------
    fields
        In the order of the text.
    insight
        None where rules read it.
    source
        ``rules`` or ``llm``: whose fields these are.
    cost, latency
        USD and seconds; a failed attempt of an LLM costs what it cost.
    problem
        Why it is not what was asked for, for the user; empty where it is.
    """

    fields: tuple[Field, ...]
    insight: Insight | None = None
    source: str = RULES
    cost: float = 0.0
    latency: float = 0.0
    problem: str = ""


class Extractor(Protocol):
    """Whatever reads hard tickets: an LLM, or a service of your own."""

    @property
    def name(self) -> str:
        """What the user reads."""
        ...

    async def extract(self, texts: Sequence[str]) -> list[Extraction]:
        """Return one extraction for each text; where it fails, one with a `problem` and its cost."""
        ...


class RuleExtractor:
    """Reads tickets by fixed rules and the user's patterns; what it cannot see it leaves out.

    Examples
    --------
    >>> [(f.name, f.value) for f in RuleExtractor().fields("Please refund $49.99 charged on 2025-01-15")]
    [('amount', '49.99 USD'), ('date', '2025-01-15')]
    """

    name = RULES

    def __init__(self, settings: ExtractionSettings | None = None) -> None:
        self.settings = settings or ExtractionSettings()
        wanted = set(self.settings.fields)
        # the first that claims a stretch of text keeps it: from the unmistakable to the vague
        order: list[tuple[set[str], str, Finder]] = [  # names, a sign that it may be there, how to find it
            ({"email"}, "@", finders.emails),
            ({"date"}, DIGIT, partial(finders.dates, day_first=self.settings.day_first)),
            ({"amount"}, DIGIT, finders.amounts),
            ({"amount"}, "", finders.worded_amounts),
            ({"tracking"}, DIGIT, finders.tracking),
            ({"order"}, DIGIT, finders.orders),
            ({"phone"}, DIGIT, partial(finders.phones, region=self.settings.phone_region)),
            ({"account"}, DIGIT, finders.accounts),
            ({"reference"}, DIGIT, finders.references),
            ({"product", "order"}, DIGIT, finders.codes),
        ]
        self._wanted = wanted
        self._finders = [(sign, find) for names, sign, find in order if names & wanted]

    def fields(self, text: str) -> tuple[Field, ...]:
        """Return what a text holds, in its order."""
        found = [f for pattern in self.settings.patterns for f in pattern.find(text)]
        signs = {"", "@" if "@" in text else "", DIGIT if _DIGIT.search(text) else ""}
        for sign, find in self._finders:
            if sign in signs:  # most tickets hold neither, and need no closer look
                found += find(text)
        return tuple(f for f in without_overlaps(found) if f.source != RULES or f.name in self._wanted)

    def normalised(self, name: str, text: str) -> str:
        """Return the value of a text that someone else found and called a field of this name."""
        found = [f for f in self.fields(text) if f.name == name]
        return found[0].value if found else compact(text)
