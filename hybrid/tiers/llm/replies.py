"""Replies: what an LLM's words say: the class that a person would read in them, a gate's choice, a probability."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from hybrid.data import foreign
from hybrid.data.labels import matcher
from hybrid.data.said import declines, names, objects, without_thoughts
from hybrid.routing.table import UNKNOWN

OK = "ok"
DAMAGED = "damaged"  # a kept reply that cannot be read

CHEAP, DEAR = "cheap", "llm"  # a gate's tiers unless it is told others
SEED_TIERS = ("regex", "classifier", "small_llm", "large_llm")

_LONGEST_LINES = 3_000  # characters of a reply that is looked at line by line
_MARKED = re.compile(r"^(?:#{1,6}\s+|[-*•–]\s+|\(?\d{1,2}[.)]\s+|[^\w\s\"'`*#+\-.$€£&@<(\[{]+\s+)+")
_BEFORE = re.compile(r"^[^\W\d_][\w ’']{0,40}?\s*[:：=]\s*")
_BEHIND = re.compile(r"\s+(?=\()|\s+[-–—]\s+")


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back of one question, as it is kept.

    Parameters
    ----------
    kind
        ``ok``, or what is wrong with it: ``unknown_label``, ``malformed``, ``empty``, ``refusal``, ``truncated`` or
        ``context_too_long``, for which the model would say the same again; of a question that failed, why.
    content
        The model's very words, or the server's where it refused.
    probability
        Of the label's tokens, in [0, 1]; None where the server gave none.
    prompt_tokens, completion_tokens
        As the server counted them; `guessed` where it did not.
    latency
        Seconds of the call that succeeded; None where it came in a batch.
    calls
        1 and the failed ones before it.
    lost
        How many of the failed ones the server may have charged for.
    cached_tokens
        Of the prompt's, those that the server had read before and charges less for.
    without
        Parameters that the model refused, so that it was asked without them.
    """

    kind: str
    content: str
    probability: float | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    guessed: bool = False
    latency: float | None = 0.0
    calls: int = 1
    lost: int = 0
    cached_tokens: int = 0
    without: tuple[str, ...] = ()

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Reply:
        """Return a kept reply; one that is damaged, or that a newer version wrote otherwise, is of kind `DAMAGED`."""
        try:
            stored = foreign.parse(text)
            return cls(**_checked({f.name: stored[f.name] for f in fields(cls) if f.name in stored}))
        except (ValueError, TypeError, KeyError):
            return cls(DAMAGED, "")


def _checked(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return a kept reply's values, each of its type and within its range."""
    values = dict(stored)
    for name in ("prompt_tokens", "completion_tokens", "calls", "lost", "cached_tokens"):
        if name in values and foreign.count(values[name]) != values[name]:
            raise ValueError(name)
    for name, most in (("probability", 1.0), ("latency", math.inf)):
        if values.get(name) is not None and not 0 <= float(values[name]) <= min(most, 1e9):
            raise ValueError(name)
    if not (isinstance(values["kind"], str) and isinstance(values["content"], str)):
        raise ValueError("kind")
    if not isinstance(values.get("guessed", False), bool) or not re.fullmatch(r"[a-z_]{1,40}", values["kind"]):
        raise ValueError("guessed")
    values["without"] = tuple(str(w) for w in values.get("without", ()))
    return values


def read_label(content: str, classes: Sequence[str]) -> int:
    """Return the code of the class that a reply names, else `UNKNOWN`.

    Read is what a person would: a JSON object with a label, alone, fenced or within other words, a number or a
    one-element list for it, loose JSON, the bare name, the one name in quotation marks, or the one line that is a name,
    with a mark or a word before it or a reason behind it. Two different names are none; a name that is merely similar,
    or stands unmarked in a sentence, is not guessed at.

    Examples
    --------
    >>> read_label('{"label": "billing"}', ["billing", "shipping"]), read_label("bilinlg", ["billing", "shipping"])
    (0, -1)
    >>> read_label('It is {clear}: {"label": 2.0}', ["1", "2"])
    1
    """
    said = without_thoughts(content)
    codes = {match(name, classes) for name in names(said)} - {UNKNOWN}
    if not codes and not said.startswith(("{", "[")) and len(said) <= _LONGEST_LINES:
        codes = {_line_code(line, classes) for line in said.splitlines()} - {UNKNOWN}
    return codes.pop() if len(codes) == 1 else UNKNOWN


def _line_code(line: str, classes: Sequence[str]) -> int:
    """Return the code of the class that a line is: ``- billing``, ``Category: billing``, ``billing (it is late)``."""
    line = _MARKED.sub("", line.strip()).strip("`\"'* ")
    after = _BEFORE.sub("", line, count=1).strip("`\"'*. ")
    for name in (line, line.rstrip("."), after):
        found = match(name, classes) if name else UNKNOWN
        if found != UNKNOWN:
            return found
    for name, reason in (_BEHIND.split(one, maxsplit=1) for one in (line, after) if _BEHIND.search(one)):
        found = match(name.strip("`\"'* "), classes)
        others = (c.casefold() for k, c in enumerate(classes) if k != found)
        if found != UNKNOWN and not any(other in reason.casefold() for other in others):
            return found
    return UNKNOWN


def match(name: str, classes: Sequence[str]) -> int:
    """Return the code of the class of this name, else `UNKNOWN`.

    As `hybrid.data.labels.Matcher` takes it; else what precedes a colon, as in a list of classes with descriptions.
    """
    code = matcher(tuple(classes))
    found = code(name)
    head, colon, _ = name.partition(": ")
    return code(head) if found == UNKNOWN and colon else found


def check_label(content: str, classes: Sequence[str]) -> str:
    """Return what a reply is worth: ``ok``, or what is wrong with it."""
    if read_label(content, classes) != UNKNOWN:
        return OK
    said = without_thoughts(content)
    if declines(said):
        return "refusal"
    return "malformed" if said.startswith(("{", "[")) and not objects(said) else "unknown_label"


@dataclass(frozen=True, slots=True)
class GateSaid:
    """What an LLM gate said of a text.

    Parameters
    ----------
    tier
        The one that it would ask.
    difficulty
        1, plain, to 5, very hard.
    reasoning
        Its one sentence, in one line of bounded length; empty where it gave none.
    score
        In (0, 1), high where a cheap tier suffices.
    """

    tier: str
    difficulty: int
    reasoning: str
    score: float


def read_gate(content: str, tiers: Sequence[str] = ()) -> GateSaid | None:
    """Return what a gate said; None where it cannot be read.

    The tier that it names decides the band of the score, the difficulty the place within it.

    Parameters
    ----------
    tiers
        From cheap to dear, as the prompt names them. Besides these ``cheap`` and ``llm`` are understood, and ``regex``,
        ``classifier``, ``small_llm``, ``large_llm``; ``estimated_difficulty`` is ``difficulty``.

    Examples
    --------
    >>> read_gate('{"tier": "cheap", "reasoning": "", "difficulty": 1}').score
    0.95
    >>> read_gate('{"tier": "large_llm", "reasoning": "vague", "estimated_difficulty": 5}')
    GateSaid(tier='large_llm', difficulty=5, reasoning='vague', score=0.025)
    """
    said = {s for o in objects(without_thoughts(content)) if (s := _gate_of(o, tiers)) is not None}
    return said.pop() if len(said) == 1 else None


def _gate_of(value: Mapping[str, Any], tiers: Sequence[str]) -> GateSaid | None:
    given = {str(k).casefold(): v for k, v in value.items()}
    difficulty = _difficulty(given.get("difficulty", given.get("estimated_difficulty")))
    named = given.get("tier")
    if difficulty is None or not isinstance(named, str):
        return None
    for ladder in (tuple(tiers), (CHEAP, DEAR), SEED_TIERS):
        rank = match(named.strip(), ladder) if ladder else UNKNOWN
        if rank != UNKNOWN:
            band = 1 / len(ladder)
            score = band * (len(ladder) - 1 - rank) + band * (0.1 + 0.2 * (5 - difficulty))
            reasoning = given.get("reasoning")
            why = foreign.shown(reasoning) if isinstance(reasoning, str) else ""
            return GateSaid(ladder[rank], difficulty, why, round(score, 9))
    return None


def _difficulty(value: Any) -> int | None:
    if isinstance(value, str):  # "3", "3/5"
        found = re.fullmatch(r"\s*([1-5])(?:\.0)?\s*(?:/\s*5\s*)?", value)
        return int(found[1]) if found else None
    number = foreign.count(value)
    return number if number is not None and 1 <= number <= 5 else None


def read_object(content: str) -> dict[str, Any] | None:
    """Return the JSON object in a reply, of several the longest; None where there is none."""
    return max(objects(without_thoughts(content)), key=lambda o: len(json.dumps(o)), default=None)
