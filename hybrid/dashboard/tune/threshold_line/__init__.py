"""The draggable threshold: what its script needs to follow the finger, and what comes back on release.

The script draws over figures that stay as they are. Every text it can show is written here, by the same functions
that write the tiles, so that the tiles during a drag and Python's after it are equal to the letter.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import streamlit as st

from hybrid.dashboard.tune.axes import Axis
from hybrid.metrics.curve import Curve, Surface
from hybrid.routing.table import NEVER, Floats

KEY = "threshold_line"
THOUSANDTHS = 1_000

Texts = Mapping[str, Sequence[str]]
Widths = Mapping[str, Sequence[float]]


class Part(NamedTuple):
    """What the script needs of one figure: a name that tells it from any other, and the bytes that are sent once."""

    name: str
    packed: bytes


def _packed(part: Mapping[str, Any]) -> Part:
    text = json.dumps(part, allow_nan=False).encode()
    name = hashlib.sha256(text).hexdigest()[:16]
    return Part(name, name.encode() + gzip.compress(text, 6, mtime=0))


def settable(curve: Curve) -> Floats:
    """Return the thresholds that can be set: every thousandth, as on the native slider, `NEVER`, and the curve's own.

    Where those are too many, enough of them. Numbers are known exactly at each, on tune and on test.
    """
    return np.union1d(np.arange(THOUSANDTHS + 2) / THOUSANDTHS, curve.thin(THOUSANDTHS).threshold)


def line(
    curve: Curve,
    *,
    key: str,
    label: str,
    axis: Axis,
    panels: Sequence[tuple[Floats, str]],
    live: Texts,
    bars: Widths | None = None,
    star: float | None = None,
) -> Part:
    """Describe the line over the stacked panels.

    Parameters
    ----------
    curve
        At the thresholds of the lattice; see `Curve.on`.
    key
        Of the native slider.
    panels
        Height on each panel, shape ``(n_points,)``, and the dot's colour, from top to bottom.
    live
        For each text on the page that moves along, what it says at every point.
    bars
        For each part of a bar, by its CSS selector, its width at every point, in percent.
    star
        The recommended threshold, at which a drag snaps; None: there is none.
    """
    part = {
        "chart": "curves",
        "key": key,
        "label": label,
        "plain": axis.plain,
        "digits": 3 if axis.plain else 4,
        "at": curve.threshold.tolist(),
        "x": axis.position(curve.threshold).tolist(),
        "bottom": f"yaxis{len(panels) + 1}",
        "panels": [
            {"axis": "yaxis" if i == 0 else f"yaxis{i + 1}", "y": np.round(y, 9).tolist(), "colour": colour}
            for i, (y, colour) in enumerate(panels)
        ],
        "live": live,
        "bars": bars or {},
        "spoken": live["accuracy"],
        "star": _star(star, axis),
    }
    return _packed(part)


def map_(
    surface: Surface,
    *,
    keys: tuple[str, str],
    label: str,
    axes: tuple[Axis, Axis],
    live: Texts,
    bars: Widths | None = None,
    stars: tuple[float, float] | None = None,
) -> Part:
    """Describe the point on the map of two thresholds; `live` and `bars` as the surface, flattened."""
    part = {
        "chart": "map",
        "label": label,
        "axes": [
            {"key": key, "at": at.tolist(), "x": axis.position(at).tolist(), "star": _star(star, axis)}
            for key, at, axis, star in zip(
                keys, (surface.first, surface.second), axes, stars or (None, None), strict=True
            )
        ],
        "live": live,
        "bars": bars or {},
    }
    return _packed(part)


def _star(value: float | None, axis: Axis) -> dict[str, float] | None:
    return None if value is None else {"value": value, "x": float(axis.position([value])[0])}


def send(parts: Mapping[str, Part]) -> None:
    """Put on the page what the script needs of each figure, which a release leaves as it is: ``line`` and ``map``."""
    for kind, part in parts.items():
        _component("threshold_line")(key=f"{KEY}_{kind}", data=part.packed, height=1)


def mount(
    values: Mapping[str, float | None],
    targets: Mapping[str, str],
    parts: Mapping[str, Part],
    *,
    put: Callable[[str, float], None],
) -> None:
    """Put on the page what a release changes.

    Parameters
    ----------
    values
        The thresholds as they are set, by the key of their slider.
    targets
        For each live text the CSS selector of its element.
    parts
        What was sent.
    put
        Called with a key and its new value, before the page is drawn anew.
    """

    def moved() -> None:
        for key, value in (st.session_state[KEY].get("moved") or {}).items():
            if key in values and isinstance(value, int | float):  # what a browser sends is not trusted
                put(key, min(max(float(value), 0.0), NEVER))

    data = {
        "values": dict(values),
        "targets": dict(targets),
        "parts": {kind: part.name for kind, part in parts.items()},
    }
    _component("threshold_values")(key=KEY, data=data, on_moved_change=moved, height=1)


def _component(name: str) -> Any:
    return st.components.v2.component(name, html="<span></span>", js=_script(name))


@lru_cache
def _script(name: str) -> str:
    return Path(__file__).with_name(f"{name}.js").read_text(encoding="utf-8")
