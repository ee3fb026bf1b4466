"""Inert: words out of a file, a reply or an error as nothing but words, wherever they are shown or written.

Streamlit reads Markdown in labels, captions, alerts and tooltips: an image in a class name would be fetched by the
browser of whoever opens the file. Each place has its own helper: `inert` for Markdown, `in_figure` for Plotly, `quoted`
for lines of Python, `downloaded` for a spreadsheet.
"""

from __future__ import annotations

import html
import re

import pandas as pd

from hybrid.data.spreadsheet import to_csv
from hybrid.production.snippet import quoted

__all__ = ["downloaded", "in_figure", "in_table", "inert", "quoted"]

_MARKS = re.compile(r"([\\`*_{}\[\]<>|~$&]|:(?=\S))")
_START = re.compile(r"^(\d*)([#+\-=.)])")  # of a line: a heading, a list
# what is looked for once the escapes are gone: addresses, :emoji:, :material/icons:, :red[colours], arrows and dashes
_AFTER = re.compile(r":(?=//|[\w+-]+[:\[{/])|\bwww(?=\.)|@(?=\w)|[-<>~](?=[-=>])", re.IGNORECASE)
_JOINER = "\u2060"  # has no width, and breaks no line
_HIDDEN = re.compile("[\u0000-\u0008\u000e-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def inert(text: object) -> str:
    r"""Return words that Markdown shows as they are, on one line.

    Escaped are Markdown, HTML, LaTeX, Streamlit's directives and icons, images and addresses; signs that turn the
    direction of writing, controls and halves of emoji become U+FFFD.

    Examples
    --------
    >>> inert("![x](http://a) costs $5")
    '!\\[x\\](http\\:\u2060//a) costs \\$5'
    >>> inert("me@b.c -> x").split("\u2060")  # no link, and no arrow that is drawn as one sign
    ['me@', 'b.c -', '\\> x']
    >>> inert("plain words")
    'plain words'
    """
    line = " ".join(_HIDDEN.sub("\ufffd", str(text)).split())
    parted = _AFTER.sub(lambda found: found.group() + _JOINER, line)
    return _START.sub(r"\1\\\2", _MARKS.sub(r"\\\1", parted))


def in_figure(text: object) -> str:
    """Return words that Plotly draws as they are: it reads some HTML, links among it.

    Examples
    --------
    >>> in_figure('<a href="http://a">billing</a> & more')
    '&lt;a href="http://a"&gt;billing&lt;/a&gt; &amp; more'
    """
    return html.escape(_HIDDEN.sub("\ufffd", str(text)), quote=False)


def in_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table of texts for `st.table`, which reads Markdown in cells, names of columns and names of rows."""
    return frame.map(inert).rename(columns=inert, index=inert)


def downloaded(frame: pd.DataFrame) -> bytes:
    """Return a table as a CSV file of which no cell is a formula; what is missing is blank."""
    return to_csv([str(c) for c in frame.columns], frame.astype(object).where(frame.notna(), "").to_numpy().tolist())
