"""Numbers: what people write for confidences, costs, tokens and seconds → floats; what is not clear is not guessed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from hybrid.data.notes import Note, plural
from hybrid.routing.table import Floats

Kind = Literal["confidence", "cost", "tokens", "latency"]
CLOSE = 1e-4  # beyond 1 that a confidence is rounding: float32 probabilities sum to 1.0000001
LONG = 60.0  # seconds an answer beyond which latencies may be milliseconds
_WRITTEN = re.compile(
    r"([$€£]|usd|eur)?\s*([-+]?[0-9.,]+(?:e[-+]?[0-9]+)?)\s*(%|ms|s|sec|seconds?|[$€£]|usd|eur)?", re.IGNORECASE
)
_UNITS = {"%": ("confidence", 0.01), "ms": ("latency", 0.001), "s": ("latency", 1), "sec": ("latency", 1)}
_UNITS |= {"second": ("latency", 1), "seconds": ("latency", 1)}
_MONEY = frozenset({"$", "usd"})
_PLAIN = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[-+]?[0-9]+)?", re.IGNORECASE)
_THOUSANDS = re.compile(r"[-+]?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?")
_DECIMAL_COMMA = re.compile(r"[-+]?(?:[0-9]+|[0-9]{1,3}(?:\.[0-9]{3})+),[0-9]+")
_EITHER = re.compile(r"[-+]?[1-9][0-9]{0,2},[0-9]{3}")  # 1,234 is over a thousand here and a bit over one there


@dataclass(slots=True)
class Said:
    """How often numbers were written in another way than plainly, by what was assumed."""

    counts: Counter[str] = field(default_factory=Counter)

    def notes(self, name: str, column: str) -> list[Note]:
        """Return them in words."""
        ways = {
            "percent": ("are written with %", "Divided by 100."),
            "comma": ("have a decimal comma", "Read as a decimal point: 0,93 is 0.93."),
            "thousands": ("have commas between thousands", "Read without them."),
            "unit": ("are written with a unit", "Read in USD and seconds."),
            "clipped": ("lie beyond 0 and 1 by no more than rounding", "Clipped."),
        }
        return [
            Note(f"{plural(self.counts[way], 'value', 'values')} of {column!r} ({name}) {what}.", done, "info")
            for way, (what, done) in ways.items()
            if self.counts[way]
        ]


def number_of(text: str, kind: Kind) -> tuple[float, str]:
    """Return the number that a text writes, nan where it writes none or leaves open which; and how it is written.

    Examples
    --------
    >>> number_of("93 %", "confidence"), number_of("0,93", "cost"), number_of("850ms", "latency")
    ((0.93, 'percent'), (0.93, 'comma'), (0.85, 'unit'))
    >>> number_of("1,234", "tokens"), number_of("1,234", "cost")
    ((1234.0, 'thousands'), (nan, 'unclear'))
    """
    text = text.strip()
    if _PLAIN.fullmatch(text):
        return float(text), ""
    found = _WRITTEN.fullmatch(text)
    if found is None:
        return np.nan, ""
    money, body, unit = ((found[i] or "").lower() for i in (1, 2, 3))
    scale, way = 1.0, ""
    if money or unit in _MONEY:
        if kind != "cost" or (money or unit) not in _MONEY or (money and unit):
            return np.nan, ""
        way = "unit"
    elif unit:
        of, scale = _UNITS.get(unit, ("", 0))
        if of != kind:
            return np.nan, ""
        way = "percent" if unit == "%" else "unit"
    value, how = _body(body, kind)
    if unit == "%":
        value = float(f"{value}e-2")  # 93 % is 0.93 and not 0.9300000000000001
    else:
        value *= scale
    return value, way or how


def _body(body: str, kind: Kind) -> tuple[float, str]:
    if _PLAIN.fullmatch(body):
        return float(body), ""
    if kind in ("cost", "latency") and _EITHER.fullmatch(body):
        return np.nan, "unclear"
    if _THOUSANDS.fullmatch(body) and (kind == "tokens" or not _DECIMAL_COMMA.fullmatch(body)):
        return float(body.replace(",", "")), "thousands"
    if _DECIMAL_COMMA.fullmatch(body):
        return float(body.replace(".", "").replace(",", ".")), "comma"
    return np.nan, ""


def numbers_of(texts: Iterable[str], times: Iterable[int], kind: Kind, said: Said) -> Floats:
    """Read distinct texts, each of which stands so many times; nan where one is no number."""
    values = []
    for text, n in zip(texts, times, strict=True):
        value, way = number_of(text, kind)
        values.append(value)
        if way:
            said.counts[way] += int(n)
    return np.array(values, dtype=np.float64)


def clipped(values: Floats, said: Said) -> Floats:
    """Return confidences with those that are beyond 0 or 1 by rounding at 0 or 1."""
    beyond = ((values > 1) & (values <= 1 + CLOSE)) | ((values < 0) & (values >= -CLOSE))
    if not beyond.any():
        return values
    said.counts["clipped"] += int(beyond.sum())
    return np.where(beyond, np.clip(values, 0, 1), values)


def refused(column: str, text: str, kind: Kind) -> str:
    """Return what is wrong with a value of a column, and how to mend it."""
    shown = text.strip() if _PLAIN.fullmatch(text.strip()) else repr(text[:60])
    return f"{column} = {shown}: {_needed(kind, text)}"


def _needed(kind: Kind, text: str) -> str:
    if number_of(text, kind)[1] == "unclear":
        return "over a thousand, or a bit over one? Write it without the comma, or with a point."
    if kind == "confidence":
        return "must be in [0, 1]. Percentages? Write 93% or divide by 100."
    return "a finite number of 0 or more is needed. Leave the column out if it holds something else."


def is_milliseconds(column: str) -> bool:
    """Whether a column's name says so.

    Examples
    --------
    >>> is_milliseconds("llm_latency_ms"), is_milliseconds("Latency (ms)"), is_milliseconds("latency")
    (True, True, False)
    """
    return re.search(r"(?:^|[\W_])(?:ms|millis|milliseconds?)[\W_]*$", column, re.IGNORECASE) is not None
