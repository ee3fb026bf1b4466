"""Evaluation: what a bundle does on labelled rows now, beside what it promised when it was exported."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from hybrid.data.dataset import Dataset, build
from hybrid.data.guess import guess
from hybrid.data.labels import coded, matcher, most_frequent
from hybrid.data.notes import listed
from hybrid.data.read import read
from hybrid.errors import DatasetError, TierError
from hybrid.metrics.summary import Interval, share
from hybrid.production.binding import Servers
from hybrid.production.bundle import Bundle, load_bundle
from hybrid.production.runtime import Answer, Model, Runtime
from hybrid.routing.engine import Outcomes, known_labels
from hybrid.routing.table import NONE, UNKNOWN, Answers, Bools, Labels

NO_CLASS = min(NONE, UNKNOWN) - 1  # of a row whose true class the bundle does not know: no answer equals it


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a bundle does on labelled rows.

    Parameters
    ----------
    promised
        Lower end of the accuracy on test in the bundle's evidence; None where it names none.
    unknown
        How many rows carry each label that is not one of the bundle's classes; only "none of these" is right there.
    outside, said
        How many of the rows are labelled so, or as out of scope, and on how many of those the answer says it.
    left_out
        Rows of the file that are not among the `n_rows`: an external tier has no answer about them.
    aside
        Of the rows in scope, the share that is set aside; None where the bundle sets nothing aside.
    bound
        The most of it that was promised, as the bundle's evidence has it; None where it names none.
    """

    n_rows: int
    accuracy: Interval
    cost_per_1000: float
    promised: float | None
    unknown: Mapping[str, int] = field(default_factory=dict)
    outside: int = 0
    said: int = 0
    left_out: int = 0
    aside: Interval | None = None
    bound: float | None = None


def read_labelled(path: str, *, label: str | None = None, text: str | None = None) -> Dataset:
    """Read a labelled file, with other models' answers where it has them; columns that are not named are guessed.

    Raises
    ------
    DatasetError
        If it cannot be used.
    """
    try:
        found = read(Path(path).name, Path(path).read_bytes())
    except OSError as error:
        raise DatasetError(f"{path!r} cannot be read: {error.strerror}.") from error
    picked = {role: column for role, column in (("label", label), ("text", text)) if column}
    columns = guess(found.table, picked=picked).settled("label", "text")
    dataset = build(found.table, replace(columns, split=None))
    return replace(dataset, notes=(*found.notes, *dataset.notes))


def evaluate(
    bundle: str,
    labelled: Dataset,
    *,
    models: Mapping[str, Model] | None = None,
    servers: Servers | None = None,
) -> Evaluation:
    """Decide labelled rows with a bundle.

    Parameters
    ----------
    models
        Functions of the external tiers. Without one, a tier's answers are read from the file, where it has them, and
        an LLM that the bundle can ask is asked otherwise.
    servers
        As `hybrid.load` takes them.

    Raises
    ------
    HybridError
        If the bundle cannot be used, knows none of the labels, an external tier has neither a function nor columns, or
        there are no texts for a tier that is asked.
    """
    loaded = load_bundle(bundle)
    of = matcher(tuple(loaded.config.classes))
    code = np.array([coded(name, of) for name in labelled.classes], dtype=np.int64)
    if (code == UNKNOWN).all():
        names = most_frequent(_counted(labelled, code == UNKNOWN, np.ones(labelled.n_rows, dtype=bool)))
        raise DatasetError(
            f"None of the file's labels is a class of the bundle. The file has {names}; the bundle "
            f"has {listed(loaded.config.classes)}. Is the label column the right one (--label)?"
        )
    foreign = code == UNKNOWN
    code[foreign] = NO_CLASS
    answers, rows = _recorded(loaded, labelled, code, set(models or {}))
    if labelled.texts is None and set(loaded.policy.names) - set(answers):
        raise DatasetError("No column looks like texts, and the bundle asks about them: name it with --text.")
    texts = [""] * labelled.n_rows if labelled.texts is None else [str(t) for t in labelled.texts]
    runtime = Runtime(loaded, {**dict.fromkeys(answers, _not_asked), **(models or {})}, servers=servers)
    here = [t for t, kept in zip(texts, rows, strict=True) if kept]
    outcomes: Outcomes = asyncio.run(runtime.outcomes(here, known={n: a.take(rows) for n, a in answers.items()}))
    truth, group, scope = code[labelled.truth[rows]], labelled.group[rows], loaded.policy.scope
    nothing = {NONE} if scope is None else {NONE, scope.label}
    outside = np.isin(truth, [NO_CLASS, *nothing])
    said = outside & np.isin(outcomes.label, list(nothing))
    right = (outcomes.label == truth) | said
    aside = None
    if scope is not None:
        aside = share(loaded.policy.set_aside(outcomes.seen)[~outside], group[~outside])
    return Evaluation(
        right.size,
        share(right, group),
        1000 * float(outcomes.cost.mean()),
        _evidence(loaded, "metrics", "test", "accuracy", "low"),
        _counted(labelled, foreign, rows),
        int(outside.sum()),
        int(said.sum()),
        int((~rows).sum()),
        aside,
        _evidence(loaded, "out_of_scope", "bound"),
    )


def _counted(labelled: Dataset, wanted: Bools, rows: Bools) -> dict[str, int]:
    """Return how many of the rows carry each of the wanted labels."""
    times = np.bincount(labelled.truth[rows], minlength=len(wanted))
    return {labelled.classes[c]: int(times[c]) for c in np.flatnonzero(wanted & (times > 0))}


def _evidence(bundle: Bundle, *names: str) -> float | None:
    """Return a share that the evidence holds under these names; None where there is no such number."""
    found: object = bundle.evidence
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    return float(found) if isinstance(found, int | float) and 0 <= found <= 1 else None


def _not_asked(texts: Sequence[str]) -> list[Answer]:
    raise TierError("The file has this tier's answers, so nobody is asked.")


def _recorded(bundle: Bundle, labelled: Dataset, code: Labels, functions: set[str]) -> tuple[dict[str, Answers], Bools]:
    """Return the answers that the file has, in the bundle's codes, and the rows that all of these tiers answered."""
    table = labelled.recorded
    names = [t.name for t in table.tiers]
    rows = np.ones(labelled.n_rows, dtype=bool)
    found = {}
    for name in (*bundle.external, *bundle.llms):
        if name in functions or (name in bundle.llms and name not in names):
            continue
        if name not in names:
            raise DatasetError(
                f"The bundle asks {name!r}, which it does not hold: add columns with its answers to the file "
                f"({name}_label, {name}_confidence, …), or name a function with --models."
            )
        said = table.answers(table.index(name))
        rows &= ~np.isnan(said.confidence)
        label = np.where(said.label < 0, said.label, code[said.label])
        tier = next(t for t in bundle.config.tiers if t.name == name)
        if not np.nansum(said.cost):  # the file does not say what they cost; the bundle may know the price
            said = replace(said, cost=np.where(np.isnan(said.cost), np.nan, tier.price))
        else:
            said = tier.priced(said)
        found[name] = replace(said, label=known_labels(label))
    if not rows.any():
        raise DatasetError("No row has an answer of every external tier of the bundle.")
    return found, rows
