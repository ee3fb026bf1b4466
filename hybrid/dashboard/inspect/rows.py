"""Rows: the table of rows behind the numbers, filtered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hybrid.metrics.rows import Inspection, columns_of
from hybrid.routing.engine import Policy
from hybrid.routing.table import NONE_LABEL, Rows
from hybrid.study.study import Study


@dataclass(frozen=True, slots=True)
class Filters:
    """What rows must fulfil to be shown; codes of labels; behind them "none of these" and "no answer".

    Parameters
    ----------
    cell
        Truth and final label of a cell of the confusion matrix.
    spans
        Ranges of the cheap tier's confidence; a row must lie in one of them.
    search
        Part of the text, in any case.
    """

    truth: int | None = None
    label: int | None = None
    cell: tuple[int, int] | None = None
    spans: tuple[tuple[float, float], ...] = ()
    search: str = ""


def matching(study: Study, found: Inspection, measured: Rows, rows: Rows, filters: Filters) -> Rows:
    """Return those of the rows that pass the filters, in the order given.

    Parameters
    ----------
    measured
        The dataset's row of each inspected row.
    rows
        Positions among the inspected rows.
    """
    keep = np.ones(len(rows), dtype=bool)
    n_classes = len(study.dataset.classes)
    label = columns_of(found.label, n_classes)[rows]
    truth = found.truth[rows]
    wanted = [(filters.truth, truth), (filters.label, label)]
    if filters.cell is not None:
        wanted += [(filters.cell[0], truth), (filters.cell[1], label)]
    for code, codes in wanted:
        if code is not None:
            keep &= codes == code
    if filters.spans:
        sure = found.cheap_confidence[rows]
        keep &= np.any([(sure >= a) & ((sure < b) | (b >= 1)) for a, b in filters.spans], axis=0)
    texts = study.dataset.texts
    if filters.search.strip() and texts is not None:
        hits = pd.Series(texts[measured[rows]]).str.contains(filters.search.strip(), case=False, regex=False)
        keep &= hits.to_numpy(dtype=bool)
    return rows[keep]


def frame_of(
    study: Study, found: Inspection, measured: Rows, rows: Rows, *, policy: Policy, cheap: str
) -> pd.DataFrame:
    """Return rows as a table for the screen and for download."""
    names, scoped, likely = policy.names, policy.scope is not None, study.evidence.likely.get(cheap)
    dataset = study.dataset
    classes = np.array([*dataset.classes, NONE_LABEL, ""], dtype=object)  # read from the end: NONE, UNKNOWN
    at = measured[rows]
    columns = {"id": dataset.ids[at]}
    if dataset.texts is not None:
        columns["text"] = dataset.texts[at]
    return pd.DataFrame(
        {
            **columns,
            "truth": classes[found.truth[rows]],
            "final label": classes[found.label[rows]],
            "answered by": np.array(names, dtype=object)[found.tier[rows]],
            "confidence": found.confidence[rows],
            f"{cheap} said": classes[found.cheap_label[rows]],
            f"{cheap} confidence": found.cheap_confidence[rows],
            **({} if likely is None else {f"{cheap} likeliest": [", ".join(classes[row]) for row in likely[at]]}),
            "cost": found.cost[rows],
            **({} if not scoped else {f"{names[0]}: farther than": study.column(names[0])[1].confidence[at]}),
            **_gates(study, at, names),
        }
    )


def _gates(study: Study, rows: Rows, names: Sequence[str]) -> dict[str, list[object]]:
    """Return what LLM gates of a policy said of rows, as columns: their choice, the difficulty, and why."""
    columns: dict[str, list[object]] = {}
    for one in study.llms:
        if one.tier.kind == "gate" and one.tier.name in names:
            said = [one.gate_said(int(row)) for row in rows]
            columns[f"{one.tier.name} would ask"] = [s and s.tier for s in said]
            columns[f"{one.tier.name} difficulty"] = [s and s.difficulty for s in said]
            columns[f"{one.tier.name} reasoning"] = [s and s.reasoning for s in said]
    return columns
