"""Results: analyses as CSV and JSON lines, and what they add up to."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from hybrid.data import spreadsheet
from hybrid.support.pipeline import TicketAnalysis


@dataclass(frozen=True, slots=True)
class Total:
    """Some of the tickets, by what they have in common."""

    name: str
    tickets: int
    share: float  # of all, in [0, 1]
    cost: float  # USD of all of them
    to_human: int


def total_by(analyses: Sequence[TicketAnalysis], attribute: str) -> list[Total]:
    """Add analyses up by ``action``, ``routing_tier``, ``depth`` or ``category``; the most frequent first."""
    counts: Counter[str] = Counter()
    cost: Counter[str] = Counter()
    human: Counter[str] = Counter()
    for a in analyses:
        name = getattr(a, attribute) or "no answer"
        counts[name] += 1
        cost[name] += a.cost  # type: ignore[assignment]  # a Counter adds floats just as well
        human[name] += a.to_human
    n = len(analyses)
    return [Total(name, k, k / n, float(cost[name]), human[name]) for name, k in counts.most_common()]


def to_csv(analyses: Sequence[TicketAnalysis]) -> bytes:
    """Return a row for each ticket, as `hybrid.data.spreadsheet.to_csv` writes it."""
    names = sorted({f.name for a in analyses for f in a.fields})
    head = ["id", "text", "category", "confidence", "routing_tier", *names, "urgency", "sentiment", "key_issues"]
    head += ["requires_human", "action", "rule", "to_human", "cost", "latency", "problem"]
    rows = []
    for a in analyses:
        found, i = a.extracted, a.insight
        row: list[object] = [a.ticket_id, a.text, a.category, a.confidence, a.routing_tier]
        row += ["; ".join(found.get(n, ())) for n in names]
        row += ["", "", "", ""] if i is None else [i.urgency, i.sentiment, "; ".join(i.key_issues), i.requires_human]
        row += [a.action, a.rule, a.to_human, a.cost, a.latency, a.problem]
        rows.append(row)
    return spreadsheet.to_csv(head, rows)


def to_jsonl(analyses: Sequence[TicketAnalysis]) -> bytes:
    """Return a JSON object for each ticket, everything in it: fields with their places, and the trace."""
    return "".join(json.dumps(a.to_dict(), ensure_ascii=False) + "\n" for a in analyses).encode()
