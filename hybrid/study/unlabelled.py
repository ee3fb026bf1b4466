"""Unlabelled: the rows of a study's table that have a text and no label, as its tiers answer them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hybrid.data.columns import TEST_NAMES, RecordedColumns, named_apart
from hybrid.data.labels import clean
from hybrid.data.notes import Note, plural
from hybrid.data.recorded import read_recorded
from hybrid.data.texts import bare
from hybrid.errors import DatasetError
from hybrid.routing.engine import Policy
from hybrid.routing.table import NONE_LABEL, UNKNOWN, Answers, Predictions, Rows
from hybrid.tuning.labelling import ToLabel

if TYPE_CHECKING:
    from hybrid.study.study import Study

MOST = 50_000  # rows that are answered
SECONDS = 10.0  # that answering may take


@dataclass(frozen=True, slots=True, eq=False)
class NextLabels:
    """Rows to label next.

    Parameters
    ----------
    table
        Each as in the study's file, the most telling first, with why it was chosen and what is known of it.
    places
        Of these rows in the study's table.
    found
        The numbers behind it.
    n_unlabelled
        Rows without a label that differ from all labelled ones and from each other.
    n_looked_at
        How many of them were ranked.
    """

    table: pd.DataFrame
    places: Rows
    found: ToLabel
    n_unlabelled: int
    n_looked_at: int


def unlabelled_rows(study: Study) -> Rows:
    """Return places in the study's table of rows with a text and no label.

    Near-copies of others are left out, and what the file's split column says is test: a test side is to be drawn, not
    chosen.
    """
    columns, table = study.columns, study.table
    if columns.text is None:
        return np.zeros(0, dtype=np.intp)
    label, text = table[columns.label].astype(str), table[columns.text].astype(str).str.strip()
    names = {name: clean(name).lower() for name in label.unique()}
    none = label.map({name: said in ("", "nan") for name, said in names.items()}).to_numpy(dtype=bool)
    if columns.split is not None:
        none = none & ~table[columns.split].astype(str).str.strip().str.lower().isin(TEST_NAMES).to_numpy()
    rows = np.flatnonzero(none & (text != "").to_numpy())
    if not len(rows):
        return rows
    dataset = study.dataset
    taken = set() if dataset.texts is None else {bare(str(t)) or str(t) for t in dataset.texts}
    found = []
    for at in rows:
        key = bare(text.iloc[at]) or text.iloc[at]
        if key not in taken:
            taken.add(key)
            found.append(at)
    return np.array(found, dtype=np.intp)


def sampled(study: Study, policy: Policy, rows: Rows) -> Rows:
    """Return as many of the rows as the policy's tiers answer in a bearable time, drawn blindly and always the same."""
    each = sum(float(np.nanmean(study.column(n)[1].latency)) for n in policy.names if _runs_here(study, n))
    most = MOST if each <= 0 else int(min(MOST, max(200, SECONDS / each)))
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(0).choice(rows, most, replace=False))


def answered(study: Study, policy: Policy, rows: Rows) -> Predictions:
    """Return what is known of the answers of a policy's tiers about rows of the table; nan where nothing is."""
    assert study.columns.text is not None
    texts = [str(t) for t in study.table[study.columns.text].iloc[rows]]
    recorded = {r.name: r for r in named_apart(study.columns.recorded)}
    columns = []
    for name in policy.names:
        if _runs_here(study, name):
            columns.append(study.models[name].answer(texts))
        elif name in recorded:
            columns.append(_recorded(study, recorded[name], rows))
        else:
            columns.append(_unknown(len(rows)))
    return Predictions.from_answers(policy.tiers, study.classes, columns)


def _runs_here(study: Study, name: str) -> bool:
    """Whether a tier answers at once and for nothing: an endpoint's embeddings would cost money."""
    model = study.models.get(name)
    return model is not None and model.answers_alike


def _recorded(study: Study, columns: RecordedColumns, rows: Rows) -> Answers:
    """Return what a file says that a model answered; without confidences of its own, its usual one."""
    part = study.table.iloc[rows].reset_index(drop=True)
    nothing = np.zeros(len(rows), dtype=np.int64)
    try:
        table = read_recorded(part, [columns], study.classes, rows + 1, nothing, nothing.astype(bool), [])
    except DatasetError:  # blank in every one of these rows, or not to be read: then it is not known
        return _unknown(len(rows))
    found = table.answers(0)
    if columns.confidence is None or study.learned(columns.name) is not None:
        usual = float(np.nanmean(study.column(columns.name)[1].confidence))
        return Answers(found.label, np.where(np.isnan(found.confidence), np.nan, usual), found.cost, found.latency)
    return found


def _unknown(n: int) -> Answers:
    none = np.full(n, np.nan)
    return Answers(np.full(n, UNKNOWN, dtype=np.int64), none, none, none)


def laid_out(study: Study, rows: Rows, found: ToLabel, *, cheap: str) -> pd.DataFrame:
    """Return ranked rows as they stand in the file, with what is known of them before; a `split` says "tune"."""
    names = np.array([*study.classes, NONE_LABEL, ""], dtype=object)  # read from the end: NONE, UNKNOWN
    chosen = study.table.iloc[rows[found.rows]].reset_index(drop=True)
    known = pd.DataFrame(
        {
            "row": rows[found.rows] + 1,
            "why": [found.why(i) for i in range(len(found.rows))],
            f"{cheap} says": names[found.label],
            f"{cheap} confidence": found.confidence,
            "tells the tiers apart": found.apart,
        }
    )
    known.columns = pd.Index([f"{name} (here)" if name in chosen else name for name in known.columns])
    return pd.concat([known, chosen], axis=1)


def with_labels(study: Study, labels: Mapping[int, str], *, known_before: float) -> Study:
    """Return the study's table with more labels, to be fitted: the new ones on the tune side, test as it is.

    Parameters
    ----------
    labels
        By place in the table: the class.
    known_before
        How well it was known which tier wins where only one is right; see `ToLabel.widths`.
    """
    columns, table = study.columns, study.table.copy()
    if columns.split is None:
        name = "split"
        while name in table:
            name += "_"
        sides = np.full(len(table), "tune", dtype=object)
        sides[study.dataset.row[study.split.test] - 1] = "test"
        table[name] = sides
        columns = replace(columns, split=name)
    places = table.index[list(labels)]
    table.loc[places, columns.label] = list(labels.values())
    table.loc[places, columns.split] = "tune"
    note = Note(
        f"{plural(len(labels), 'row was', 'rows were')} labelled here.",
        "They are on the tune side, for they were chosen and not drawn; the test side stays as it was. Which tier wins "
        f"where only one is right was known to ± {100 * known_before:.1f} points before; Inspect says what it is now.",
        "info",
    )
    return type(study)(study.name, table, columns, notes=[*study.joined, note])
