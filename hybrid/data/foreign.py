"""Foreign: the one boundary where what a server said or a file holds becomes values that can be trusted.

JSON of bounded depth, text that can be encoded, numbers within reason. Nothing here raises anything but `ValueError`.
"""

from __future__ import annotations

import json
import re
from typing import Any

DEEPEST = 40  # levels of JSON; a chat completion has about six
MOST_TOKENS = 10**9  # of one call; more is a fault of the server's
SHOWN = 300  # characters of foreign words in a message

_HALVES = re.compile(r"[\ud800-\udfff]")  # of surrogate pairs: Python holds them, and no file or socket takes them
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]+")


def parse(raw: bytes | str) -> Any:
    """Return what JSON holds, half emojis in it replaced.

    Raises
    ------
    ValueError
        If it is none, or nested deeper than `DEEPEST`.

    Examples
    --------
    >>> parse('{"a": "\\\\ud83d!"}')
    {'a': '\ufffd!'}
    >>> parse("[" * 1000)
    Traceback (most recent call last):
    ValueError: nested too deep
    """
    try:
        return _cleaned(json.loads(raw), DEEPEST)
    except RecursionError:
        raise ValueError("nested too deep") from None


def encodable(text: str) -> str:
    """Return a text with the halves of surrogate pairs, which nothing can encode, replaced by U+FFFD."""
    return _HALVES.sub("\ufffd", text)


def shown(text: str, most: int = SHOWN) -> str:
    """Return foreign words as one line of bounded length, without control signs and without signs that nobody sees.

    Examples
    --------
    >>> shown("  two\\nlines ")
    'two lines'
    """
    line = " ".join(_UNSEEN.sub(" ", encodable(text[: 4 * most])).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def count(value: Any) -> int | None:
    """Return a number of tokens; None where the value is none, or beyond reason.

    Examples
    --------
    >>> count(100.0), count(10**400), count(True), count(-1)
    (100, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value <= MOST_TOKENS and value == int(value) else None


def piece(value: Any) -> bytes | None:
    """Return the bytes of a token, given as a list of numbers; None where the value is no such list."""
    if not isinstance(value, list) or not all(type(b) is int and 0 <= b <= 255 for b in value):
        return None
    return bytes(value)


def _cleaned(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return encodable(value)
    if not isinstance(value, dict | list):
        return value
    if not depth:
        raise ValueError("nested too deep")
    if isinstance(value, list):
        return [_cleaned(v, depth - 1) for v in value]
    return {encodable(k): _cleaned(v, depth - 1) for k, v in value.items()}
