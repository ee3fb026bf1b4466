"""Scan: how much of an LLM's log can be answered without it, at which agreement, in one number that is certified."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hybrid.data.columns import RecordedColumns
from hybrid.data.guess import guess
from hybrid.data.notes import Note
from hybrid.data.read import Read
from hybrid.errors import StudyError
from hybrid.metrics.summary import Summary
from hybrid.routing.engine import Policy, answering
from hybrid.routing.patterns import Triage
from hybrid.routing.table import Tier
from hybrid.study.answer import is_unpriced
from hybrid.study.defaults import MIN_AGREEMENT
from hybrid.study.graded import alone
from hybrid.study.plain import plain, plain_policy
from hybrid.study.reading import guessed, open_halves, pace, studied
from hybrid.study.study import Study
from hybrid.tuning import SELECTIVE, SYSTEM, Certificate, certify

DELTA = 0.1  # that the promise may fail with
READINGS = {"all": SYSTEM, "answered": SELECTIVE}  # of "agreement": of all answers, or of those without the LLM


@dataclass(frozen=True, slots=True)
class Scan:
    """What a log says of doing without its LLM.

    Parameters
    ----------
    model
        Whose log it is.
    of
        Which answers are to agree: "all", the LLM's own among them, or those "answered" without it.
    min_agreement, delta
        What was asked for, and the probability that the promise may fail with.
    certificate
        What is promised, or why nothing is.
    policy
        That keeps the promise; None: there is none.
    side
        Where it was measured: "test", or "tune" where no test row has both answers.
    measured
        What it does there; None without a policy.
    month, llm_month
        USD a month with the policy, and of asking the LLM about everything; nan where its price is not known.
    """

    model: str
    of: str
    min_agreement: float
    delta: float
    certificate: Certificate
    policy: Policy | None
    side: str
    measured: Summary | None
    month: float
    llm_month: float

    @property
    def certified(self) -> bool:
        return self.policy is not None

    @property
    def share(self) -> float:
        """Share of the texts that are answered without the LLM."""
        return 0.0 if self.measured is None else 1 - self.measured.escalation_rate.value

    @property
    def saving(self) -> float:
        """USD a month; nan where the LLM's price is not known."""
        return self.llm_month - self.month

    @property
    def words(self) -> str:
        """Return the one number in a sentence."""
        wanted = f"{self.min_agreement:.1%}".replace(".0%", "%")
        if self.measured is None:
            need = self.certificate.rows_needed
            more = (
                "more rows would not help: the answers differ too often as seen"
                if need is None
                else f"about {need:,} rows to tune on, instead of {self.certificate.n_rows:,}, would likely tell"
            )
            which = "what is answered without it" if self.of == "answered" else "the answers"
            return f"Nothing certifies that {wanted} of {which} would agree with {self.model} on this log; {more}."
        rate = self.measured.escalation_rate
        low, high = f"{100 * (1 - rate.high):.0f}", f"{100 * (1 - rate.low):.0f}"
        which = "these answers agree" if self.of == "answered" else "all answers still agree"
        return (
            f"{self.share:.0%} of this log can be answered without {self.model} ({low} to {high} % by "
            f"{self.measured.n_rows:,} {self.side} rows), and at least {wanted} of {which} with it (certified at "
            f"{1 - self.delta:.0%} on {self.certificate.n_rows:,} rows)."
        )


def scan(study: Study, *, min_agreement: float = MIN_AGREEMENT, delta: float = DELTA, of: str = "all") -> Scan:
    """Find the most of a log that a tier which runs here can answer so that the answers agree with the LLM's.

    Every tier that runs here is tried with the LLM behind it, each with its part of δ, as certificates are found by
    `hybrid.tuning.certify`: on tune rows, out of fold. The share that it answers is measured on test.

    Raises
    ------
    StudyError
        If the study is not of an LLM's log, or a number makes no sense.
    """
    name = study.dataset.teacher
    if name is None:
        raise StudyError(
            "The labels of these data are not an LLM's answers that are a tier as well: 'hybrid fit' and 'hybrid "
            "recommend' say what can be saved, against the labels."
        )
    if not 0 < min_agreement < 1:
        raise StudyError(f"An agreement of at least {min_agreement}: it lies between 0 and 1, such as 0.95.")
    if of not in READINGS:
        raise StudyError(f"Agreement is of 'all' answers or of those 'answered' without the LLM, not of {of!r}.")
    llm = study.column(name)[0]
    tried = [_certified(study, t, llm, 1 - min_agreement, delta, READINGS[of]) for t in _cheap(study, llm)]
    if not tried:
        raise StudyError("Nothing runs here that could answer in the LLM's place: the log needs texts.")
    found = max(tried, key=lambda c: _kept(study, c.policy))
    paid = float("nan") if is_unpriced(study, llm) else 1.0
    llm_month = paid * study.terms.month(study.headline(alone(llm)).summary.cost_per_1000.value)
    if found.policy is None:
        return Scan(name, of, min_agreement, delta, found, None, "tune", None, llm_month, llm_month)
    on = study.headline(found.policy)
    month = paid * study.terms.month(on.summary.cost_per_1000.value)
    return Scan(name, of, min_agreement, delta, found, on.policy, on.side, on.summary, month, llm_month)


def _cheap(study: Study, llm: Tier) -> list[Tier]:
    """Return the tiers that answer here; rules answer too little to stand before an LLM alone."""
    here = [t for t in answering(study.tiers) if t.name in study.models and t.kind != "rules"]
    return [t for t in here if t.name != llm.name]


def _certified(study: Study, cheap: Tier, llm: Tier, alpha: float, delta: float, risk: str) -> Certificate:
    policy = Policy(Triage(), (cheap, llm))
    on = study.graded(policy.names, "tune")
    share = delta / len(_cheap(study, llm))
    return certify(policy, on.predictions, on.truth, alpha=alpha, delta=share, risk=risk, groups=on.groups)


def _kept(study: Study, policy: Policy | None) -> float:
    """Return the share of the tune rows that a policy answers without its last tier; −1 of none."""
    return -1.0 if policy is None else 1 - study.measure(policy, "tune").summary.escalation_rate.value


def open_log(
    paths: Sequence[str | Path],
    *,
    label: str | None = None,
    text: str | None = None,
    model: str | None = None,
    price: float | None = None,
    volume: int | None = None,
) -> Study:
    """Return the study of an LLM's log, to be fitted: a log of calls, or a table of texts and its answers.

    Parameters
    ----------
    paths
        One file, the two halves of a batch, or several days of a log.
    label, text
        Columns of a table; None: as they seem to be, a model's answers before anything else.
    model
        What the LLM is called; None: as the log or the column says.
    price
        USD of one answer; None: as the log says.
    volume
        Texts a month; None: as the log's times say, else as `Terms` start.

    Raises
    ------
    DatasetError
        If a file cannot be used, or it is not clear which column is which.
    """
    name, found, others = open_halves(paths)
    picked = {role: column for role, column in (("label", label), ("text", text)) if column is not None}
    if found.columns is not None and not picked:
        study = studied(name, found, guessed(found).columns)
    else:
        study = _of_table(name, found, picked, model)
    for path in others:
        study = study.join(path)
    teacher = study.columns.teacher
    assert teacher is not None
    told = replace(teacher, name=model or teacher.name)
    if price is not None:
        told = replace(told, price=price, cost=None, prompt_tokens=None, completion_tokens=None)
    recorded = tuple(told if r == teacher else r for r in study.columns.recorded)
    study.columns = replace(study.columns, recorded=recorded, reference=model or study.columns.agreement_with)
    texts = pace(study.table) if volume is None else volume
    if texts is not None:
        study.terms = replace(study.terms, volume=texts)
    return study


def _of_table(name: str, found: Read, picked: dict[str, str], model: str | None) -> Study:
    """Return the study of a table in which a model's answers are the truth."""
    seen = guess(found.table, picked=picked)
    gold = None
    if "label" not in picked and seen.columns.teacher is None and seen.columns.recorded:
        gold = seen.columns.label
        seen = guess(found.table, picked={**picked, "label": seen.columns.recorded[0].label})
    asked = tuple(a for a in seen.asks if not (a.about == "label" and seen.columns.teacher is not None))
    columns = replace(seen, asks=asked).settled("label", "text")
    notes = []
    if columns.teacher is None:
        who = model or "the LLM"
        columns = replace(columns, reference=who, recorded=(*columns.recorded, RecordedColumns(who, columns.label)))
        what = f"{columns.label!r} is taken for what the LLM answered."
        notes.append(Note(what, "If people wrote it, 'hybrid fit' and 'hybrid recommend' say more.", "info"))
    elif gold is not None:
        what = f"{columns.label!r} is taken for the LLM's answers, and {gold!r} is not read."
        notes.append(Note(what, f"If {gold!r} is the truth, 'hybrid fit' and 'hybrid recommend' say more.", "info"))
    # one LLM is asked about: what other models and people said of the same texts is for 'hybrid fit'
    alone_there = tuple(r for r in columns.recorded if r == columns.teacher)
    study = studied(name, found, replace(columns, recorded=alone_there))
    study.joined = (*study.joined, *notes)
    return study


def lines(study: Study, found: Scan, *, how: str) -> list[str]:
    """Return what a scan says, in sentences.

    Parameters
    ----------
    how
        The command that keeps a project, or opens the one that was kept.
    """
    said = [found.words]
    m = found.measured
    if found.policy is not None and m is not None:
        cheap = found.policy.names[0]
        said.append(
            f"Of what {cheap} answers itself {m.selective_accuracy.value:.1%} agree, of all answers "
            f"{m.accuracy.value:.1%} (95% {m.accuracy.low:.1%} to {m.accuracy.high:.1%})."
        )
        if math.isnan(found.saving):
            said.append(f"What {found.model} costs is not known: --price USD of one answer says what that saves.")
        else:
            texts = f"at {study.terms.volume:,} texts"
            said.append(f"It saves ${found.saving:,.2f} of ${found.llm_month:,.2f} a month {texts}.")
    said.append(
        f"These numbers are agreement with {found.model}, not accuracy: a few dozen answers checked by hand on the "
        "page Audit say how often it, and what stands in for it, is right."
    )
    return [*said, f"Go on: {how}"]


def plain_scan(study: Study, found: Scan) -> dict[str, Any]:
    """Return a scan as JSON values."""
    kept = None if found.policy is None else plain_policy(found.policy, study.classes)
    m = found.measured
    return {
        "model": found.model,
        "rows": {"labelled": study.dataset.n_rows, "read": len(study.table), "classes": len(study.classes)},
        "certified": found.certified,
        "min_agreement": found.min_agreement,
        "of": found.of,
        "delta": found.delta,
        "share_without_llm": found.share if found.certified else None,
        "measured_on": None if m is None else found.side,
        "measured": plain(m),
        "policy": kept,
        "certificate": found.certificate.words,
        "rows_needed": found.certificate.rows_needed,
        "volume": study.terms.volume,
        "usd_a_month": {"llm": _known(found.llm_month), "policy": _known(found.month), "saved": _known(found.saving)},
        "notes": [f"{n.what} {n.done}" for n in study.notes],
        "words": found.words,
    }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
