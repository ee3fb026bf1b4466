"""Questions: rows with several labels as one yes/no question a label, each with its own policy, costs added up."""

from __future__ import annotations

import io
import re
import time
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hybrid.data.columns import Columns
from hybrid.data.dataset import build
from hybrid.data.labels import spelling
from hybrid.data.notes import Note, listed, plural
from hybrid.data.several import YES, SeveralLabels, answered_question, answers_about, as_question, joined_labels
from hybrid.errors import HybridError, StudyError
from hybrid.metrics.paired import dearest
from hybrid.metrics.summary import Interval, cheapest, mean_interval, share
from hybrid.production.snippet import quoted
from hybrid.routing.engine import Outcomes
from hybrid.routing.table import Bools, Floats, Labels, Rows
from hybrid.study.answer import unpriced
from hybrid.study.defaults import LLM_KINDS
from hybrid.study.evidence import Progress
from hybrid.study.graded import alone
from hybrid.study.measurement import Measurement
from hybrid.study.study import Study
from hybrid.tiers.embedders import Embedder
from hybrid.tuning import Progress as Searching

MOST = 30  # questions at once
SECONDS = 600.0  # that all of them may take; what is begun by then is finished
LONGEST, SHORTEST = 10.0, 1.0  # seconds of search for one question
TEST_SHARE = 0.3
UNKNOWN_COST = Interval(float("nan"), float("nan"), float("nan"))


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """One label's question, *has the text this label?*, and what its recommended policy does on test.

    Parameters
    ----------
    label
        That is asked about.
    study
        Of the question, fitted, with the recommended policy at hand.
    on
        The policy on the test rows that its tiers answered.
    n_yes
        Rows with the label, on both sides.
    f1
        Of *yes*, twice the hits over the hits, misses and false alarms twice counted; nan where there is none.
    escalated
        Share of the test rows about which an LLM is asked.
    cost_per_1000
        USD; nan where a price is not known.
    """

    label: str
    study: Study
    on: Measurement
    n_yes: int
    f1: Interval
    escalated: Interval
    cost_per_1000: Interval

    @property
    def accuracy(self) -> Interval:
        """Share of the test rows on which yes or no is right."""
        return self.on.summary.accuracy


@dataclass(frozen=True, slots=True)
class Whole:
    """One model whose recorded answer tells all labels, asked about every text, on the same rows as the questions.

    Parameters
    ----------
    model
        Its name.
    exact, micro_f1, cost_per_1000
        As of `Questions`; an answer is paid for once a text.
    """

    model: str
    exact: Interval
    micro_f1: Interval
    cost_per_1000: Interval


@dataclass(frozen=True, slots=True, eq=False)
class Questions:
    """What all questions together do to a text.

    Parameters
    ----------
    asked
        One for each label that could be asked about, the most frequent first.
    left_out
        The other labels, with the reason.
    notes
        What was done to the data for all of them.
    n_rows
        Test rows that every policy decides; what follows is measured on them.
    exact
        Share of them on which every question is answered rightly.
    micro_f1
        Over all labels and rows: twice the hits over twice the hits plus misses and false alarms.
    added_up
        USD per 1,000 texts where every question is paid for by itself; nan where a price is not known.
    at_once
        USD per 1,000 texts where one answer of a model tells all labels, so that a text is paid for once if any of its
        questions asks that model; None where no model's answers do.
    models
        The models whose answers do.
    whole
        The strongest of the file's models asked about every text; None where there is none, or it did not answer all
        of these rows.
    """

    asked: tuple[Question, ...]
    left_out: tuple[tuple[str, str], ...]
    notes: tuple[Note, ...]
    n_rows: int
    exact: Interval
    micro_f1: Interval
    added_up: Interval
    at_once: Interval | None
    models: tuple[str, ...]
    whole: Whole | None

    @property
    def cost_per_1000(self) -> Interval:
        """USD per 1,000 texts: at once, where the recorded answers tell all labels; else added up."""
        return self.added_up if self.at_once is None else self.at_once

    def export(self) -> bytes:
        """Pack a bundle for each question, and a README with the lines of Python that run them all; returns a zip.

        Raises
        ------
        HybridError
            If one of them cannot be packed.
        """
        files = {q.label: f"{i:02d}-{_plain(q.label)}.zip" for i, q in enumerate(self.asked, 1)}
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for q in self.asked:
                archive.writestr(files[q.label], q.study.export())
            archive.writestr("README.md", _readme(self.asked, files))
        return packed.getvalue()


def ask_all(
    study: Study,
    several: SeveralLabels | None = None,
    *,
    names: Sequence[str] | None = None,
    embedder: Embedder | None = None,
    seconds: float = SECONDS,
    progress: Progress | None = None,
) -> Questions:
    """Make one study a label of a table whose rows have several, and find the usual policy for each.

    All questions have the same test rows: the file's split, else one in which every label has its share on either side.
    Recorded answers that name labels are made into answers to each question, as the truth is.

    Parameters
    ----------
    study
        The table, its columns and notes; nothing need be fitted.
    several
        How its rows have several labels; None: as the label column says.
    names
        The labels to ask about; None: the `MOST` that are most frequent.
    embedder
        Makes the small-model tiers; None: there are none.
    seconds
        After which no further question is begun; those that are left are named with that reason.
    progress
        Called with the share done and what is being done; what it raises ends the work.

    Raises
    ------
    HybridError
        If rows have one label each, more than `MOST` are named, or not one question can be asked.

    Examples
    --------
    >>> lines = [f"{'pay twice' if i % 2 else 'log in'} {i},{'ab'[i % 2]}{'|c' * (i % 3 == 0)}" for i in range(60)]
    >>> found = ask_all(Study.read("\\n".join(["text,label", *lines]).encode(), name="tickets.csv"), names=["a", "b"])
    >>> [q.label for q in found.asked], found.n_rows, found.cost_per_1000.value
    (['a', 'b'], 18, 0.0)
    """
    started, report = time.monotonic(), progress or (lambda share, doing: None)
    several = several or joined_labels(study.table, study.columns.label)
    if several is None:
        raise StudyError(
            f"The rows have one label each in {study.columns.label!r}: study.fit() is what they need. Several are "
            "joined by a sign, as in a|b, or a list, as in JSON."
        )
    chosen = several.names[:MOST] if names is None else tuple(names)
    if len(chosen) > MOST:
        raise StudyError(f"{len(chosen)} labels are too many at once: name at most {MOST}.")
    more = f"at most {MOST} at once: it is not among the {len(chosen)} that were asked about"
    left_out = [(name, more) for name in several.names if name not in chosen]
    table, columns, notes, models = _prepared(study, several)
    asked: list[Question] = []
    for k, name in enumerate(chosen):
        at, left = k / len(chosen), seconds - (time.monotonic() - started)
        if left <= 0 and k:
            left_out.append((name, f"the {seconds:g} seconds were over"))
            continue

        def say(part: float, doing: str, at: float = at, name: str = name) -> None:
            report(at + part / len(chosen), f"{name}: {doing}")

        try:
            own = _question(study, several, name, table, columns, models)
            own.fit(embedder=embedder, progress=lambda part, doing, say=say: say(0.6 * part, doing))  # type: ignore[misc]
            search = min(LONGEST, max(SHORTEST, left / (len(chosen) - k)))
            asked.append(_recommended(own, name, search, say))
        except HybridError as error:
            left_out.append((name, str(error)))
    if not asked:
        raise StudyError(f"Not one of the labels can be asked about. {left_out[0][0]!r}: {left_out[0][1]}")
    report(1.0, "Adding up")
    return _together(asked, left_out, notes)


def same_sides(marks: Bools, group: Labels, *, test_share: float = TEST_SHARE, seed: int = 0) -> Bools:
    """Return which rows are test so that each label, and its absence, has its share there and no group is torn.

    Parameters
    ----------
    marks
        Shape ``(n_rows, n_labels)``: which labels a row has.
    group
        Shape ``(n_rows,)``; codes of what stays together.

    Notes
    -----
    The rarest label first: of the groups that have it and no side yet, as many become test as its share is short of.

    References
    ----------
    Sechidis, Tsoumakas & Vlahavas 2011, On the Stratification of Multi-Label Data.

    Examples
    --------
    >>> marks = np.arange(100)[:, None] % np.array([2, 10]) == 0
    >>> test = same_sides(marks, np.arange(100))
    >>> int(test.sum()), marks[test].sum(axis=0).tolist()
    (30, [15, 3])
    """
    member = np.unique(group, return_inverse=True)[1]
    has = np.zeros((int(member.max()) + 1, 2 * marks.shape[1]), dtype=bool)
    np.logical_or.at(has, member, np.column_stack([marks, ~marks]))
    order = np.random.default_rng(seed).permutation(len(has))
    is_test, is_free = np.zeros(len(has), dtype=bool), np.ones(len(has), dtype=bool)
    for j in np.argsort(has.sum(axis=0), kind="stable"):
        own = order[has[order, j] & is_free[order]]
        wanted = round(test_share * int(has[:, j].sum())) - int(is_test[has[:, j]].sum())
        is_test[own[: max(wanted, 0)]] = True
        is_free[own] = False
    return is_test[member]


def _prepared(
    study: Study, several: SeveralLabels
) -> tuple[pd.DataFrame, Columns, tuple[Note, ...], list[SeveralLabels]]:
    """Return the table with sides for all questions, the columns, and how models' answers hold the labels."""
    table, columns, notes = study.table, study.columns, []
    about = {r.label: answers_about(table, several, r.label) for r in columns.recorded}
    strange = [r.name for r in columns.recorded if about[r.label] is None]
    if strange:
        what = f"Most answers of {listed(strange)} name none of the labels."
        notes.append(Note(what, "Left out of every question.", "warning"))
    columns = replace(columns, recorded=tuple(r for r in columns.recorded if about[r.label] is not None))
    rows = several.labels(table)
    bare = sum(not row for row in rows)
    if bare:
        what = f"{plural(bare, 'row has', 'rows have')} no label at all."
        notes.append(Note(what, "Taken for a no to every question.", "info"))
    models = [how for how in about.values() if how is not None]
    first = _question(study, several, several.names[0], table, columns, models)
    dataset = build(first.table, first.columns)
    if dataset.given_split is None:
        alike = [{spelling(name) for name in row} for row in rows]
        marks = np.array([[spelling(n) in row for n in several.names] for row in alike], dtype=bool)[dataset.row - 1]
        partly = [j for j in range(dataset.recorded.asked.shape[1]) if not dataset.recorded.asked[:, j].all()]
        test = np.zeros(len(table), dtype=bool)
        test[dataset.row - 1] = same_sides(np.column_stack([marks, dataset.recorded.asked[:, partly]]), dataset.group)
        side = "side for all labels"
        while side in table.columns:
            side += "'"
        table = table.assign(**{side: np.where(test, "test", "tune").astype(object)})
        columns = replace(columns, split=side)
        notes.append(Note("All questions have the same test rows.", "Each label has its share on either side.", "info"))
    return table, columns, tuple(notes), models


def _question(
    study: Study,
    several: SeveralLabels,
    name: str,
    table: pd.DataFrame,
    columns: Columns,
    models: Sequence[SeveralLabels],
) -> Study:
    """Return the study of one label's question, to be fitted."""
    one = as_question(table, several, name)
    answers = {how.columns[0]: answered_question(table, how, name) for how in models}
    recorded = tuple(replace(r, label=one.label) if r.label == columns.label else r for r in columns.recorded)
    gone = [c for c in several.columns if c not in columns.used() or c == columns.label]
    asked = one.table.assign(**answers).drop(columns=gone)
    reference = columns.agreement_with or ""
    own = replace(columns, label=one.label, recorded=recorded, reference=reference)
    return Study(f"{study.name}: {name}?", asked, own, notes=(*study.joined, *one.notes))


def _recommended(study: Study, name: str, seconds: float, say: Progress) -> Question:
    """Return a fitted question with the usual recommendation, measured on test."""

    def searching(p: Searching) -> None:
        say(0.6 + 0.4 * min(1.0, p.seconds / seconds), "looking for the best policy")

    found = study.recommend(seconds=seconds, progress=searching)
    study.use(found.policy)
    on = study.measure(found.policy, "test")
    if not on.n_rows:
        raise StudyError("no test row has an answer from every tier of its policy")
    yes = study.classes.index(YES)
    asks_llm: Bools = np.any(on.outcomes.asked[:, [t.kind in LLM_KINDS for t in on.policy.tiers]], axis=1)
    return Question(
        name,
        study,
        on,
        int((study.dataset.truth == yes).sum()),
        _f1(on.outcomes.label[:, None] == yes, on.graded.truth[:, None] == yes, on.graded.groups),
        share(asks_llm, on.graded.groups),
        UNKNOWN_COST if unpriced(study, on.policy) else on.summary.cost_per_1000,
    )


def _together(asked: Sequence[Question], left_out: Sequence[tuple[str, str]], notes: tuple[Note, ...]) -> Questions:
    """Measure all questions on the test rows that all of their policies decide."""
    rows = reduce(np.intersect1d, [q.on.graded.rows for q in asked])
    if not len(rows):
        raise StudyError("No test row is decided by every question's policy: there is nothing to add up.")
    exact, f1 = _right([q.on for q in asked], rows)
    # every recorded column that is kept tells of all labels
    names = {t.name for q in asked for t in q.on.policy.tiers if t.kind == "recorded"}
    bill, groups = _Bill(tuple(sorted(names)), len(rows)), asked[0].on.graded.groups
    groups = groups[np.searchsorted(asked[0].on.graded.rows, rows)]
    for q in asked:
        bill.add(q.on.outcomes, np.searchsorted(q.on.graded.rows, rows))
    unknown = any(unpriced(q.study, q.on.policy) for q in asked)
    return Questions(
        tuple(asked),
        tuple(left_out),
        notes,
        len(rows),
        exact,
        f1,
        UNKNOWN_COST if unknown else bill.added_up(groups),
        None if not names else UNKNOWN_COST if unknown else bill.at_once(groups),
        tuple(sorted(names)),
        _whole(asked, rows),
    )


def _right(measured: Sequence[Measurement], rows: Rows) -> tuple[Interval, Interval]:
    """Return the share of these rows on which all questions are answered rightly, and micro-averaged F1."""
    at = [np.searchsorted(on.graded.rows, rows) for on in measured]
    said = np.column_stack([on.outcomes.label[i] for on, i in zip(measured, at, strict=True)])
    truth = np.column_stack([on.graded.truth[i] for on, i in zip(measured, at, strict=True)])
    yes = np.array([on.graded.predictions.classes.index(YES) for on in measured])
    groups = measured[0].graded.groups[at[0]]
    return share(np.asarray((said == truth).all(axis=1)), groups), _f1(said == yes, truth == yes, groups)


def _whole(asked: Sequence[Question], rows: Rows) -> Whole | None:
    """Return what the model does that is most questions' strongest, asked about every text."""
    strong = Counter(q.study.llm.name for q in asked if q.study.llm is not None and q.study.llm.kind == "recorded")
    if not strong:
        return None
    name = strong.most_common(1)[0][0]
    on = [q.study.measure(alone(next(t for t in q.study.tiers if t.name == name)), "test") for q in asked]
    if any(len(np.setdiff1d(rows, one.graded.rows)) for one in on):
        return None
    paid = on[0].outcomes.cost[np.searchsorted(on[0].graded.rows, rows)]
    groups = on[0].graded.groups[np.searchsorted(on[0].graded.rows, rows)]
    unknown = bool(unpriced(asked[0].study, on[0].policy))
    cost = UNKNOWN_COST if unknown else _per_1000(paid, groups, cheapest(on[0].outcomes), dearest(on[0].outcomes))
    return Whole(name, *_right(on, rows), cost)


class _Bill:
    """What the questions about each text cost, paid one by one, and with each shared answer paid once."""

    def __init__(self, shared: Sequence[str], n_rows: int) -> None:
        self.each, self.rest = np.zeros(n_rows), np.zeros(n_rows)
        self.once = {name: np.zeros(n_rows) for name in shared}
        self.low, self.high, self.lowest, self.rest_high = 0.0, 0.0, 0.0, 0.0
        self.dear = dict.fromkeys(shared, 0.0)

    def add(self, o: Outcomes, rows: Rows) -> None:
        """Add a question, whose outcomes about the texts stand in these rows."""
        self.each += o.cost[rows]
        self.low, self.high = self.low + cheapest(o), self.high + dearest(o)
        self.lowest = max(self.lowest, cheapest(o))
        own, most = o.cost[rows].copy(), dearest(o)
        for j, tier in enumerate(o.policy.tiers):
            if tier.name in self.once:
                paid = np.where(o.asked[:, j], o.seen.cost[:, j], 0.0)
                self.once[tier.name] = np.maximum(self.once[tier.name], paid[rows])
                dear = max(float(paid.max(initial=0.0)), tier.price)
                self.dear[tier.name] = max(self.dear[tier.name], dear)
                own, most = own - paid[rows], most - dear
        self.rest += own
        self.rest_high += max(most, 0.0)

    def added_up(self, groups: Rows) -> Interval:
        """Return USD per 1,000 texts, every question by itself."""
        return _per_1000(self.each, groups, self.low, self.high)

    def at_once(self, groups: Rows) -> Interval:
        """Return USD per 1,000 texts, a shared answer once a text."""
        total = np.maximum(self.rest, 0.0) + sum(self.once.values())
        return _per_1000(total, groups, self.lowest, self.rest_high + sum(self.dear.values()))


def _per_1000(cost: Floats, groups: Rows, least: float, most: float) -> Interval:
    found = mean_interval(cost, groups=groups, least=least, most=most)
    return Interval(1000 * found.value, 1000 * found.low, 1000 * found.high)


def _f1(said: NDArray[np.bool_], true: NDArray[np.bool_], groups: Rows) -> Interval:
    """Return micro-averaged F1 with its interval: of the marks given and the marks due, the share that agree.

    Parameters
    ----------
    said, true
        Shape ``(n_rows, n_labels)``: which labels were given, and which are due.
    """
    pairs = np.concatenate([(said & true).ravel()[said.ravel()], (said & true).ravel()[true.ravel()]])
    row = np.broadcast_to(groups[:, None], said.shape)
    return share(pairs, np.concatenate([row[said], row[true]]))


def _plain(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")[:40] or "label"


def _readme(asked: Sequence[Question], files: dict[str, str]) -> str:
    """Return what is in the zip, with the lines that run it."""
    needs = {q.label: q.study.external() for q in asked}
    listing = ", ".join(f"{quoted(label)}: ({quoted(files[label])}, {needs[label]!r})" for label in files)
    models, function = "", ""
    if any(needs.values()):
        models = ", models={n: functools.partial(ask, name=n, label=label) for n in names}"
        function = (
            "`ask` is yours. It answers one question with a model that the bundles cannot ask. If one call tells all\n"
            "labels of a text, remember it: then a text is paid for once, however many questions ask.\n\n"
            "```python\nimport functools\n\n\n"
            "@functools.lru_cache(maxsize=10_000)\n"
            "def labels_of(text, name):  # one call a text\n"
            f"    return {{{quoted(asked[0].label)}}}  # those that the model called `name` gives it\n\n\n"
            "def ask(texts, name, label):\n"
            '    said = ["yes" if label in labels_of(text, name) else "no" for text in texts]\n'
            "    return [hybrid.Answer(one, confidence=0.9, cost=0.003) for one in said]  # cost: of a call\n```\n\n"
        )
    return (
        "# One question a label\n\n"
        f"{len(asked)} bundles, each of which answers yes or no to one label's question. Run these lines in this\n"
        "folder; `text` is yours.\n\n"
        f"{function}```python\nimport hybrid\n\n"
        f"files = {{{listing}}}\n"
        f"questions = {{label: hybrid.load(file{models}) for label, (file, names) in files.items()}}\n"
        'labels = [label for label, question in questions.items() if question(text).label == "yes"]\n```\n'
    )
