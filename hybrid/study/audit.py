"""Audit: rows of a model's log to check by hand, what was found, and what it says of every tier and policy."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hybrid.errors import StudyError
from hybrid.metrics.audited import Checked, Drawn, difference, draw, share
from hybrid.metrics.groups import Groups
from hybrid.metrics.intervals import Interval, upper_bound
from hybrid.routing.engine import Policy, answering, replay
from hybrid.routing.table import UNKNOWN, Floats, Labels, Rows
from hybrid.study.defaults import cheap_of
from hybrid.study.graded import alone

if TYPE_CHECKING:
    from hybrid.study.study import Study

KEY = "audit"  # of a study's form, which a project keeps
NONE = "(none of the classes)"
SIDE = "test"  # thresholds were chosen on the others
STRATA = (  # and how much their rows are expected to surprise
    ("the policy answers otherwise than the log", 0.5),
    ("a tier that runs here disagrees with the log", 0.5),
    ("they agree, and are not sure", 0.4),
    ("they agree, and are sure", 0.25),
)
UNSURE = 0.3  # share of the rows that is called not sure
CHOICES = 9  # classes that are offered at first, a key each
DELTA = 0.1
OTHER = -2  # the code of "none of the classes": no answer is right


@dataclass(frozen=True, eq=False)
class Audit:
    """Rows that were drawn from a study's test side, and the labels that were given by hand.

    Parameters
    ----------
    of
        What tells the data that they were drawn from.
    strata
        Code of each test row's stratum; shape ``(n_rows,)``.
    names
        Of the strata.
    n
        Rows to check.
    labels
        By place among the test rows: the class, or `NONE`.
    skipped
        Places that nobody could say anything about.
    seed
        Of the draw.
    """

    of: str
    strata: Labels
    names: tuple[str, ...]
    n: int
    labels: Mapping[int, str] = field(default_factory=dict)
    skipped: frozenset[int] = frozenset()
    seed: int = 0

    @cached_property
    def drawn(self) -> Drawn:
        """Rows to check, in order."""
        spread = dict(STRATA)
        known = np.array([spread.get(name, 0.5) for name in self.names])
        return draw(self.strata, self.n, spread=known, seed=self.seed)

    @property
    def next(self) -> int | None:
        """Place of the next row to check; None where all are done."""
        done = self.labels.keys() | self.skipped
        return next((int(row) for row in self.drawn.rows if int(row) not in done), None)

    @property
    def checked(self) -> Rows:
        """Places of the rows that have a label, in the order of the draw."""
        return np.array([row for row in self.drawn.rows if int(row) in self.labels], dtype=np.intp)

    @property
    def at_random(self) -> Rows:
        """Places of the checked rows that are a draw from all alike: those drawn so, up to the first that is open."""
        found = []
        for row in self.drawn.rows[self.drawn.at_random]:
            if int(row) in self.labels:
                found.append(int(row))
            elif int(row) not in self.skipped:
                break
        return np.array(found, dtype=np.intp)

    def plain(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "of": self.of,
            "strata": "".join(map(str, self.strata.tolist())),
            "names": list(self.names),
            "n": self.n,
            "labels": {str(row): name for row, name in self.labels.items()},
            "skipped": sorted(self.skipped),
            "seed": self.seed,
        }


def drawn_audit(study: Study, policy: Policy, n: int, *, seed: int = 0) -> Audit:
    """Draw test rows to check by hand: some of all alike, more of those on which the log is likeliest to be wrong.

    Raises
    ------
    StudyError
        If there is nothing to check: no texts, or labels that people wrote.
    """
    _require(study)
    rows = study.side(SIDE)
    truth = study.dataset.truth[rows]
    said = replay(policy, study.table_of(policy.names, rows)).label
    here = [t for t in answering(study.tiers) if t.name in study.models and t.kind != "rules"]
    cheap = cheap_of(here or policy.tiers)
    own = study.column(cheap.name)[1].take(rows)
    sure = np.nan_to_num(own.confidence)
    code = np.where(sure <= np.quantile(sure, UNSURE), 2, 3)
    code = np.where(own.label != truth, 1, code)
    code = np.where(said != truth, 0, code)
    present, strata = np.unique(code, return_inverse=True)
    return Audit(_of(study), strata, tuple(STRATA[c][0] for c in present), n, seed=seed)


def audit_of(study: Study) -> Audit | None:
    """Return the audit that a study keeps; None where there is none, or it is of other rows."""
    kept = study.form.get(KEY)
    if not isinstance(kept, dict) or study.fitted is None or kept.get("of") != _of(study):
        return None
    try:
        strata = np.array([int(c) for c in kept["strata"]], dtype=np.int64)
        names = tuple(str(name) for name in kept["names"])
        if strata.shape != study.side(SIDE).shape or not np.isin(strata, range(len(names))).all():
            raise ValueError("strata")
        if int(kept["n"]) < 1 or int(kept["seed"]) < 0:
            raise ValueError("n, seed")
        return Audit(
            str(kept["of"]),
            strata,
            names,
            int(kept["n"]),
            {int(row): str(name) for row, name in kept["labels"].items()},
            frozenset(int(row) for row in kept["skipped"]),
            int(kept["seed"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise StudyError(f"The audit that was kept cannot be read ({error}): draw rows again.") from error


def _of(study: Study) -> str:
    told = study.dataset.fingerprint.encode() + study.side(SIDE).tobytes()
    return hashlib.sha256(told).hexdigest()[:16]


def _require(study: Study) -> None:
    if study.dataset.agreement_with is None:
        raise StudyError(
            "People wrote the labels of these data: what is measured is accuracy already. An audit is for the log of a "
            "model, whose answers are the labels."
        )
    if study.dataset.texts is None:
        raise StudyError("These data hold no texts, so there is nothing that a person could check.")


def choices(study: Study, place: int, *, most: int = CHOICES) -> list[int]:
    """Return the classes that a test row is likeliest of: the log's first, then what the tiers say and hold likely."""
    row = int(study.side(SIDE)[place])
    found = [int(study.dataset.truth[row])]
    for tier in answering(study.tiers):
        said = int(study.column(tier.name)[1].label[row])
        if tier.kind != "rules" and said != UNKNOWN:
            found.append(said)
    chances = study.evidence.chances
    likely = np.arange(len(study.classes)) if chances is None else np.argsort(-chances[row], kind="stable")
    return list(dict.fromkeys([*found, *map(int, likely)]))[:most]


@dataclass(frozen=True, slots=True)
class Audited:
    """What an audit says of a policy, or of a tier alone.

    Parameters
    ----------
    name
        What it is called.
    agreement
        Share of all test rows on which it answers as the log does.
    by_hand
        Share of right answers by the rows that were drawn at random from all, and their labels by hand, alone.
    right
        The same by all that is known.
    gain
        How much more often it is right than the log's model; None of the model itself.
    """

    name: str
    policy: Policy | None
    agreement: float
    by_hand: Interval
    right: Interval
    gain: Interval | None


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """What was checked, and what follows.

    Parameters
    ----------
    n, n_random
        Rows with a label by hand, and those of them that were drawn at random from all.
    n_rows
        Rows that they stand for.
    wanting
        How many more must be checked before anything is said; then there is nothing else.
    model
        The log's model; the policies follow it.
    """

    n: int
    n_random: int
    n_rows: int
    wanting: int
    model: Audited | None = None
    others: tuple[Audited, ...] = ()


def findings(study: Study, audit: Audit, policies: Mapping[str, Policy]) -> Findings:
    """Return how often the log's model and policies are truly right, as far as labels by hand tell.

    Parameters
    ----------
    policies
        By what they are called; those that some test row has no answers of are left out.
    """
    rows = study.side(SIDE)
    places, alone_places = audit.checked, audit.at_random
    hand = _hand(study, audit, places)
    checked = Checked(audit.strata[places], audit.drawn.sizes, study.dataset.group[rows[places]])
    about = (len(places), len(alone_places), len(rows), checked.wanting)
    if checked.wanting or not len(alone_places):
        return Findings(*about[:3], max(checked.wanting, 1))
    truth = study.dataset.truth[rows]
    alone_hand = _hand(study, audit, alone_places)
    every = Checked(
        np.zeros(len(alone_places), dtype=np.int64),
        np.array([float(len(rows))]),
        study.dataset.group[rows[alone_places]],
    )
    few = every.wanting > 0

    def audited(name: str, policy: Policy | None, said: Labels, predicted: Floats) -> Audited:
        right = share(said[places] == hand, checked, predicted=predicted[places], mean=float(predicted.mean()))
        own = Interval(float("nan"), 0.0, 1.0) if few else share(said[alone_places] == alone_hand, every)
        gain = None
        if policy is not None:
            apart = said != truth
            won = (said[places] == hand).astype(np.float64) - (truth[places] == hand)
            gain = difference(won, checked, apart[places], differ=float(apart.mean()))
        return Audited(name, policy, float((said == truth).mean()), own, right, gain)

    model = audited(str(study.dataset.agreement_with), None, truth, _chance_of(study, rows, truth))
    others = []
    for name, policy in policies.items():
        table = study.table_of(policy.names, rows)
        if table.asked.all():
            said = replay(policy, table).label
            others.append(audited(name, policy, said, (said == truth).astype(np.float64)))
    return Findings(*about, model, tuple(others))


def _hand(study: Study, audit: Audit, places: Rows) -> Labels:
    codes = {name: code for code, name in enumerate(study.classes)}
    return np.array([codes.get(audit.labels[int(p)], OTHER) for p in places], dtype=np.int64)


def _chance_of(study: Study, rows: Rows, truth: Labels) -> Floats:
    """Return how likely the log's answers are right, as a model here holds it; 1 where none does."""
    chances = study.evidence.chances
    if chances is None:
        return np.ones(len(rows))
    return chances[rows, truth].astype(np.float64)


@dataclass(frozen=True, slots=True)
class Bound:
    """How often a policy's answers are wrong at most, by the rows that were drawn at random alone.

    Parameters
    ----------
    most
        Exact (Clopper–Pearson) upper bound of the risk, at probability 1 − `delta`.
    wrong, n
        Mistakes, and rows; of groups, their sums of shares and their number.
    """

    most: float
    wrong: float
    n: int
    delta: float

    @property
    def words(self) -> str:
        return (
            f"With probability at least {1 - self.delta:.0%}, at most {self.most:.1%} of its answers are wrong: of "
            f"{self.n:,} rows drawn at random from all and checked by hand, {self.wrong:g} were."
        )


def bound(study: Study, audit: Audit, policy: Policy, *, delta: float = DELTA) -> Bound | None:
    """Return what can be promised of a policy's true risk, exactly; None where no row drawn at random was checked.

    It holds of a policy that was not chosen by these very labels: thresholds are set on tune rows, by the log.
    """
    places = audit.at_random
    if not len(places):
        return None
    rows = study.side(SIDE)[places]
    table = study.table_of(policy.names, rows)
    if not table.asked.all():  # of a tier that was not asked about some of them nobody knows what it would have said
        return None
    said = replay(policy, table).label
    wrong = (said != _hand(study, audit, places)).astype(np.float64)
    groups = Groups.of(study.dataset.group[rows])
    n, mistakes = len(rows), float(wrong.sum())
    if groups is not None:
        some = groups.size > 0
        n, mistakes = int(some.sum()), float((groups.sums(wrong)[some] / groups.size[some]).sum())
    return Bound(upper_bound(mistakes, n, delta), mistakes, n, delta)


def policies_of(study: Study) -> dict[str, Policy]:
    """Return what an audit speaks of besides the log's model: the policy at hand, pins, and what runs here alone."""
    found: dict[str, Policy] = {}
    if study.policy is not None:
        found["the policy at hand"] = study.policy
    found |= {f"pin {pin.name}": pin.policy for pin in study.pinned if pin.policy != study.policy}
    for tier in answering(study.tiers):
        if tier.kind != "rules" and tier.name != study.dataset.teacher and not tier.simulated:
            found[f"{tier.name} alone"] = alone(tier)
    return found


def laid_out(study: Study, audit: Audit) -> pd.DataFrame:
    """Return the drawn rows as a table: text, what the log says, the label by hand, and each row's probability."""
    rows = study.side(SIDE)[audit.drawn.rows]
    dataset = study.dataset
    assert dataset.texts is not None
    names = np.array(study.classes, dtype=object)
    return pd.DataFrame(
        {
            "row": dataset.row[rows],
            "text": dataset.texts[rows],
            f"{dataset.agreement_with} says": names[dataset.truth[rows]],
            "by hand": [
                audit.labels.get(int(p), "skipped" if int(p) in audit.skipped else "") for p in audit.drawn.rows
            ],
            "why": np.array(audit.names, dtype=object)[audit.drawn.stratum],
            "at random": audit.drawn.at_random,
            "probability": audit.drawn.chance,
        }
    )


def plain_findings(study: Study, policy: Policy) -> dict[str, Any] | None:
    """Return what a study's audit says of its log and a policy, as JSON values; None where there is too little."""
    try:
        audit = audit_of(study)
    except StudyError:  # the page says so; an export does without
        return None
    if audit is None:
        return None
    found = findings(study, audit, {"policy": policy})
    if found.model is None or not found.others:
        return None
    own, most = found.others[0], bound(study, audit, policy)
    assert own.gain is not None
    return {
        "words": in_words(found, own),
        "checked_by_hand": found.n,
        "of_rows": found.n_rows,
        "log_right": _ends(found.model.right),
        "policy_right": _ends(own.right),
        "policy_minus_log": _ends(own.gain),
        "promise": None if most is None else most.words,
    }


def in_words(found: Findings, own: Audited) -> str:
    """Return what an audit says of the log's model and of one policy, in a sentence or two."""
    assert found.model is not None
    model, right = found.model, own.right
    said = (
        f"By {found.n:,} rows checked by hand {model.name} is right on {model.right.value:.1%} "
        f"(95% {model.right.low:.1%} to {model.right.high:.1%}), and {own.name} on {right.value:.1%} "
        f"({right.low:.1%} to {right.high:.1%})"
    )
    gain = own.gain
    if gain is None or np.isnan(gain.value):
        return f"{said}."
    points = f"{100 * gain.value:+.1f} points ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})".replace("-", "−")
    return f"{said}: {points}."


def _ends(interval: Interval) -> Sequence[float | None]:
    return [None if np.isnan(x) else x for x in (interval.value, interval.low, interval.high)]
