"""Support view: a ticket with its fields marked, and tables of what a batch adds up to."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import pandas as pd

from hybrid.dashboard.wording import dollars, seconds
from hybrid.metrics.summary import Interval
from hybrid.support import FIELDS, TicketAnalysis
from hybrid.support.gold import FieldScore
from hybrid.support.results import Total

# Okabe–Ito, each field its colour; patterns of the user's share the last
COLOURS = dict(
    zip(
        FIELDS,
        ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#F0E442", "#0072B2", "#009E73"),
        strict=True,
    )
)
OTHER = "#999999"
STYLE = """<style>
.ticket { white-space: pre-wrap; overflow-wrap: anywhere; line-height: 2.1; margin: 0; }
.st-key-ticket [data-testid="stMetricValue"] { font-size: 1.25rem; font-weight: 600; }
.ticket mark { color: inherit; padding: 0.1rem 0.25rem; border-radius: 0.25rem; border-bottom: 3px solid; }
.ticket mark small { font-size: 0.72rem; font-weight: 600; margin-left: 0.35rem; }
</style>"""


def marked(analysis: TicketAnalysis) -> str:
    """Return a ticket as HTML with its fields marked; whatever the ticket says is text and never markup."""
    parts, at = [], 0
    for field in analysis.fields:
        colour = COLOURS.get(field.name, OTHER)
        parts.append(escape(analysis.text[at : field.start]))
        parts.append(
            f'<mark style="background: {colour}33; border-color: {colour}" title="{escape(field.value)}">'
            f"{escape(field.text)}<small>{escape(field.name)}</small></mark>"
        )
        at = field.end
    parts.append(escape(analysis.text[at:]))
    return f'{STYLE}<p class="ticket">{"".join(parts)}</p>'


def field_table(analysis: TicketAnalysis) -> pd.DataFrame:
    """Return a ticket's fields, one a row."""
    return pd.DataFrame(
        [(f.name, f.value, f.text, f"{f.start}–{f.end}", f.source) for f in analysis.fields],
        columns=["Field", "Value", "In the text", "Characters", "Found by"],
    )


def stage_table(analysis: TicketAnalysis) -> pd.DataFrame:
    """Return a ticket's way, one step a row."""
    return pd.DataFrame(
        [(s.name, s.by, s.result, dollars(s.cost), seconds(s.latency)) for s in analysis.trace],
        columns=["Stage", "By", "Result", "Cost", "Took"],
    )


def total_table(name: str, totals: Sequence[Total]) -> pd.DataFrame:
    """Return totals, one a row."""
    return pd.DataFrame(
        {
            name: t.name,
            "Tickets": t.tickets,
            "Share": t.share,
            "USD": t.cost,
            "USD per 1,000": 1000 * t.cost / t.tickets,
            "To a person": t.to_human,
        }
        for t in totals
    )


def ticket_table(analyses: Sequence[TicketAnalysis]) -> pd.DataFrame:
    """Return tickets, one a row, for the screen."""
    return pd.DataFrame(
        {
            "Id": a.ticket_id,
            "Text": a.text,
            "Category": a.category or "no answer",
            "Routing": a.routing_tier,
            "Fields": ", ".join(f"{f.name} {f.value}" for f in a.fields),
            "Action": a.action,
            "USD": a.cost,
        }
        for a in analyses
    )


def score_table(scores: Sequence[FieldScore]) -> pd.DataFrame:
    """Return how well fields are found, one a row."""
    return pd.DataFrame(
        {
            "Field": s.name,
            "In the tickets": s.gold,
            "Found": s.found,
            "Right": s.right,
            "Precision (95% CI)": _with_interval(s.precision),
            "Recall (95% CI)": _with_interval(s.recall),
            "F1 (95% CI)": _with_interval(s.f1),
        }
        for s in scores
    )


def score_pair_table(llm: Sequence[FieldScore], rules: Sequence[FieldScore]) -> pd.DataFrame:
    """Put an LLM beside rules on the same tickets."""
    return pd.DataFrame(
        {
            "Field": a.name,
            "In the tickets": a.gold,
            "LLM: precision": _with_interval(a.precision),
            "LLM: recall": _with_interval(a.recall),
            "LLM: F1": _with_interval(a.f1),
            "Rules: F1": _with_interval(b.f1),
        }
        for a, b in zip(llm, rules, strict=True)
    )


def _with_interval(i: Interval) -> str:
    return "–" if i.value != i.value else f"{i.value:.3f} ({i.low:.2f} to {i.high:.2f})"
