"""Said: the names that an LLM's words may give for a class, read before anybody knows which classes there are."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from hybrid.data import foreign

LABEL_KEYS = (
    "label", "class", "category", "classification", "intent", "prediction", "answer",
    "predicted_label", "predicted_class", "class_name", "class_label", "labels", "categories", "topic", "result",
)  # fmt: skip
_STARTS = 200  # braces at which an object is looked for
_LONGEST = 200_000  # characters of a reply that are read
_TAGS = "think|thinking|thought|thoughts|reasoning|reflection|analysis|scratchpad"
_OPENED, _CLOSED = re.compile(rf"<(?:{_TAGS})>", re.IGNORECASE), re.compile(rf"</(?:{_TAGS})>", re.IGNORECASE)
_MARKS = re.compile(r"<\|[\w ]{1,40}\|>|</?s>")  # of a chat template, left in by servers that should not
_QUOTES = str.maketrans("“”„«»‘’‚", '"""""\'\'\'')
_KEYS = "|".join(LABEL_KEYS)
_LOOSE = re.compile(  # "key": "value" where JSON is broken; a value without quotes ends where the next thing begins
    rf"""(?:^|[\s{{,*])["']?(?:{_KEYS})["']?\**\s*[:=]\s*(?:"([^"\n]{{1,300}})"|'([^'\n]{{1,300}})'|([^"'\s,}}\]\[{{]"""
    r"""[^"',}\]\n]{0,200}))""",
    re.IGNORECASE,
)
_FRAMED = re.compile(rf"<({_KEYS})>([^<>]{{1,300}})</\1>|\\boxed\{{(?:\\text\{{)?([^{{}}]{{1,300}})\}}", re.IGNORECASE)
_PREFIX = re.compile(rf"^(?:the\s+)?(?:{_KEYS})\s*(?::|=|\bis\b)\s*", re.IGNORECASE)
_QUOTED = re.compile(r"\"([^\"\n]{1,300})\"|`([^`\n]{1,300})`|\*\*([^*\n]{1,300})\*\*")
_DENIED = re.compile(r"\b(?:not|no|never|neither|nor|rather|instead|except|unlike|without)\b|n['’]t\b", re.IGNORECASE)
_SORRY = re.compile(
    r"^\W*(?:(?:i['’]?m|i am) (?:very |so )?sorry|sorry|i apologi[sz]e|i (?:can['’]?t|cannot|can not|won['’]?t|"
    r"am (?:unable|not able)|must decline)|i['’]m (?:unable|not able)|as an ai\b|unfortunately,? i (?:can|am))",
    re.IGNORECASE,
)


def without_thoughts(content: str) -> str:
    """Return the answer in a reply: what follows the model's thinking aloud, whether or not that was opened or closed.

    Examples
    --------
    >>> without_thoughts("Let me see.</think> billing"), without_thoughts("<think>cut off")
    ('billing', '')
    """
    content = content[-_LONGEST:]
    if "<|message|>" in content:  # the last channel of a template that was not taken off
        content = content.rpartition("<|message|>")[2]
    end = max((m.end() for m in _CLOSED.finditer(content)), default=0)
    answer = content[end:]
    opened = _OPENED.search(answer)
    answer = answer[: opened.start()] if opened else answer
    if end and not answer.strip():  # it thought afterwards
        first = _OPENED.search(content)
        answer = content[: first.start()] if first else ""
    return _MARKS.sub("", answer).strip()


def names(said: str) -> Iterator[str]:
    """Yield the names that an answer may give, by the strictest reading that gives any."""
    yield from keyed_names(said) or _loose_names(said)


def keyed_names(said: str) -> list[str]:
    """Return the names that the JSON in an answer gives for a label; none where there is no JSON, or no name in it."""
    found = [name for value in objects(said) for name in _named(value)]
    if not found:
        try:
            found = list(_named(foreign.parse(said)))
        except ValueError:
            return []
    return found


def bare_name(said: str) -> str:
    """Return an answer that is no JSON without quotation marks, a full stop, and "Category:" before it.

    Examples
    --------
    >>> bare_name("Category: **billing**."), bare_name("'late delivery'")
    ('billing', 'late delivery')
    """
    return _PREFIX.sub("", said.strip("`\"'*. \n")).strip("`\"'*. ")


def declines(said: str) -> bool:
    """Whether an answer is an excuse instead of one, such as "I'm sorry, I can't help with that"."""
    return _SORRY.match(said) is not None and not objects(said)


def _loose_names(said: str) -> Iterator[str]:
    """Yield the names in an answer that is no JSON: broken JSON, a frame, the bare name, words in quotation marks."""
    plain = said.translate(_QUOTES)
    pieces = [m for pattern in (_LOOSE, _FRAMED) for m in pattern.finditer(plain)]
    if not said.startswith("{") and not _DENIED.search(said):
        pieces += _QUOTED.finditer(plain)
    if len(said) <= 500 and not said.startswith("{"):
        yield said.strip("`\"'*. \n")
        yield bare_name(said)
    for found in pieces:
        yield (found[found.lastindex or 0] or "").strip("`\"'* .:")


def _named(value: Any, depth: int = 4) -> Iterator[str]:
    """Yield the name that a JSON value gives for a label."""
    if isinstance(value, bool | int | float):
        yield str(int(value)) if isinstance(value, float) and foreign.count(abs(value)) is not None else str(value)
    elif isinstance(value, str):
        yield value.strip()
    elif isinstance(value, list) and len(value) == 1 and depth:
        yield from _named(value[0], depth - 1)
    elif isinstance(value, dict) and depth:
        by_key = {str(k).strip().casefold(): v for k, v in value.items()}
        key = next((k for k in LABEL_KEYS if k in by_key), next(iter(by_key)) if len(by_key) == 1 else None)
        if key is not None:
            yield from _named(by_key[key], depth - 1)
        elif all(type(v) in (int, float) for v in value.values()):  # a probability for each class
            most = max(value.values(), default=0)
            yield from (name for name, share in value.items() if share == most)


def objects(said: str) -> list[dict[str, Any]]:
    """Return the JSON objects in a text, from first to last, those within others left out."""
    found: list[dict[str, Any]] = []
    at = said.find("{")
    for _ in range(_STARTS):
        if at < 0:
            break
        try:
            _, end = _DECODER.raw_decode(said, at)
            value = foreign.parse(said[at:end])
        except (ValueError, RecursionError):
            end = at + 1
        else:
            found.append(value)
        at = said.find("{", end)
    return found


_DECODER = json.JSONDecoder()


def label_probability(content: str, tokens: Sequence[tuple[bytes, float]]) -> float | None:
    """Return the probability of the label in a reply: of its tokens, one after the other.

    Parameters
    ----------
    tokens
        Of the reply: bytes and log-probability.

    Returns
    -------
    float or None
        In [0, 1]; None where the label cannot be found among the tokens, or a log-probability is none.
    """
    whole = b"".join(token for token, _ in tokens)
    spoken = [n for n in list(names(without_thoughts(content)))[::-1] if n] if tokens else []
    spelt = (word.encode() for n in spoken for word in (n, json.dumps(n)[1:-1]))
    found = next(((at, len(word)) for word in spelt if (at := _place(whole, word)) >= 0), None)
    if found is None:
        return None
    start, length = found
    total, at = 0.0, 0
    for token, logprob in tokens:
        if at < start + length and at + len(token) > start:
            if not NEVER < logprob <= ROUNDING:
                return None
            total += logprob
        at += len(token)
    return math.exp(min(total, 0.0))


NEVER, ROUNDING = -1000.0, 1e-3  # servers write -9999 for "not known"; above 0 by more than rounding is no probability


def _place(whole: bytes, name: bytes) -> int:
    """Return where a name stands as the value of a label, else where it stands last; -1 where it does not."""
    keys = "|".join(LABEL_KEYS).encode()
    at = -1
    for found in re.finditer(rb"(?:" + keys + rb")\W{1,12}?(?=" + re.escape(name) + rb")", whole, re.IGNORECASE):
        at = found.end()
    return at if at >= 0 else whole.rfind(name)
