"""Scalars: a value of a typed file → its shortest exact text, so that 1, 1.0 and "1" are one label everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa

EXACT = 2**53  # whole numbers below it are exact as floats


def text_of(value: Any) -> str:
    """Return the shortest exact text of a scalar; the empty string for nothing.

    Examples
    --------
    >>> [text_of(v) for v in (1.0, 1, "1", 0.93, True, None, float("nan"))]
    ['1', '1', '1', '0.93', 'True', '', '']
    """
    if type(value) is str:
        return value
    if value is None or value != value:  # nan
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT:
        return str(int(value))  # an integer column with gaps arrives as floats
    if isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value():
        return f"{value:.0f}"
    return str(value)


def strings(values: Sequence[str]) -> tuple[pa.Array, int]:
    """Return strings as Arrow holds them, and how many had half a sign in them, which becomes �."""
    try:
        return pa.array(values, pa.string()), 0
    except UnicodeEncodeError:
        whole = [v if v.isascii() else mended(v) for v in values]
        return pa.array(whole, pa.string()), sum(a != b for a, b in zip(values, whole, strict=True))


def mended(text: str) -> str:
    """Return a text with what is half a sign, such as half an emoji, as �.

    Examples
    --------
    >>> mended("so sad \\ud83d")
    'so sad �'
    """
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
