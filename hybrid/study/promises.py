"""Promises: what was suggested and certified, whether a policy still rests on it, and the evidence of a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

import numpy as np

from hybrid.metrics.summary import share
from hybrid.metrics.surprise import ALARM, Contradiction, elsewhere, shift, surprise
from hybrid.production.reference import Reference, fit_reference
from hybrid.routing.engine import Policy, replay
from hybrid.routing.table import NONE_LABEL
from hybrid.study import audit
from hybrid.study.plain import from_plain, plain
from hybrid.study.terms import Terms
from hybrid.tuning import SELECTIVE, Certificate, Goal, Labelled, Recommendation, contradiction, covers
from hybrid.tuning.goals import TOLERANCE

if TYPE_CHECKING:
    from hybrid.study.study import Study


@dataclass(frozen=True, slots=True)
class Suggested:
    """A recommendation, and the terms that it was made on."""

    terms: Terms
    found: Recommendation


@dataclass(frozen=True, slots=True)
class Certified:
    """A certificate, and the terms that it was made on."""

    terms: Terms
    found: Certificate


_P = TypeVar("_P", Suggested, Certified)


def plain_promise(kept: Suggested | Certified | None, classes: Sequence[str]) -> dict[str, Any] | None:
    """Return what was suggested or certified as JSON values."""
    return None if kept is None else {"terms": kept.terms.plain(), "found": plain(kept.found, classes)}


def promise_from(kind: type[_P], study: Study, stored: Mapping[str, Any]) -> _P:
    """Return the suggestion or the certificate that `plain_promise` wrote.

    Raises
    ------
    StudyError
        If it cannot be read here.
    """
    terms, what = Terms.from_plain(stored["terms"]), get_type_hints(kind)["found"]
    return kind(terms, from_plain(what, stored["found"], study.every_tier(terms), study.classes))


def suggestion(study: Study, goal: Goal | None = None) -> Recommendation | None:
    """Return what was suggested under the terms of now; None where nothing was.

    Parameters
    ----------
    goal
        Only what was searched for with this goal over more than one pattern: then it need not be searched for again.
    """
    kept = study.suggested
    if kept is None or kept.terms.routing != study.terms.routing:
        return None
    found = kept.found
    return found if goal is None or (found.goal == goal and len(found.fronts or ()) > 1) else None


def suggestion_for(study: Study, policy: Policy) -> Recommendation | None:
    """Return the suggestion that a policy is, under the same terms; None where it is not."""
    found = suggestion(study)
    return found if found is not None and study.bind(found.policy) == policy else None


def certificate_for(study: Study, policy: Policy) -> Certificate | None:
    """Return the certificate that covers a policy, under the same terms; None where none does."""
    kept = study.certified
    if kept is None or kept.terms.routing != study.terms.routing:
        return None
    return kept.found if covers(kept.found, policy) else None


def contradicted(study: Study, policy: Policy, certificate: Certificate) -> Contradiction | None:
    """Return what test says against a certificate that covers a policy; None where nothing."""
    tune, test = (study.graded(policy.names, side) for side in ("tune", "test"))
    if not len(test):
        return None
    found = test.outcomes(policy)
    tested = np.ones(len(test), dtype=bool)
    if certificate.risk == SELECTIVE:
        tested = ~found.asked[:, -1] & ~policy.set_aside(found.seen)
    right = (found.label == test.truth)[tested]
    p_value = surprise(right, 1 - certificate.alpha, groups=test.groups[tested])
    if p_value > ALARM:
        return None
    risk = share(~right, test.groups[tested])
    what = (
        f"On test the risk is {risk.value:.1%} (95% {risk.low:.1%} to {risk.high:.1%}), above the promised "
        f"{certificate.alpha:.1%}"
    )
    alone = (elsewhere(side.predictions, side.truth) for side in (tune, test))
    return Contradiction(what, p_value, shift(*alone, groups=(tune.groups, test.groups)))


def against(study: Study, policy: Policy) -> list[str]:
    """Return what test says against a policy that was suggested or certified, in sentences."""
    found, certificate = suggestion_for(study, policy), certificate_for(study, policy)
    said = [] if found is None or found.contradiction is None else [found.contradiction.words]
    broken = None if certificate is None else contradicted(study, policy, certificate)
    return said if broken is None else [*said, broken.words]


def misses(study: Study, policy: Policy, goal: Goal, *, among: int = 1) -> Contradiction | None:
    """Return what test says against a policy that was chosen on tune for a goal and keeps its limits there.

    Parameters
    ----------
    among
        How many policies are looked at: together they are wrongly accused as rarely as one.
    """
    sides = [study.measure(policy, side) for side in ("tune", "test")]
    on, test = (Labelled(m.graded.predictions, m.graded.truth, m.graded.groups) for m in sides)
    if not len(on) or not len(test):
        return None
    tune = sides[0].summary
    kept = goal.floor is None or tune.accuracy.value >= goal.floor - TOLERANCE
    kept &= goal.budget is None or tune.cost_per_1000.value <= goal.budget * (1 + TOLERANCE)
    return contradiction(policy, goal, on, test, sides[1].summary, level=ALARM / among) if kept else None


def evidence(study: Study, policy: Policy, *, chosen: Policy | None = None) -> dict[str, Any]:
    """Return what a policy rests on, as JSON values: data, split, numbers with intervals, what is simulated.

    Parameters
    ----------
    chosen
        The policy that it was chosen as, where its thresholds were moved for the models that ship.
    """
    dataset, split = study.dataset, study.split
    measured = {side: study.measure(policy, side) for side in ("tune", "test")}
    shipped = study.shipping(policy)
    return {
        "data": {
            "name": study.name,
            "fingerprint": dataset.fingerprint,
            "rows": dataset.n_rows,
            "classes": len(dataset.classes),
            "tune_rows": len(split.tune),
            "test_rows": len(split.test),
            "split": "given in the file" if split.given else "by the product, seed 0",
        },
        "simulated": [t.name for t in policy.tiers if t.simulated],
        "assumed": study.terms.plain(),
        "metrics": {side: plain(m.summary) if m.n_rows else None for side, m in measured.items()},
        "shipped_minus_graded": None if shipped is None else plain(shipped),
        "set_for_share": _set_for_share(study, policy, chosen),
        "suggestion": _suggestion(suggestion_for(study, policy)),
        "certificate": _certificate(study, policy),
        "audit": audit.plain_findings(study, policy),
        "out_of_scope": None if policy.scope is None else plain(study.scope_numbers(policy, "tune")),
        "notes": [f"{n.what} {n.done}" for n in study.notes],
    }


def reference(study: Study, policy: Policy) -> Reference:
    """Return what production is to be compared with: test rows, in categories that are taken from tune rows.

    Where test has no answers, every other tune row stands in.
    """
    found, texts = {side: study.graded(policy.names, side) for side in ("tune", "test")}, study.dataset.texts
    sides = {side: (on.outcomes(policy), on.rows) for side, on in found.items() if len(on)}
    name, (outcomes, rows) = sides.popitem()  # test, where it has answers
    if sides:
        before = sides.popitem()[1]
    else:
        halves = [np.arange(first, len(rows), 2) for first in (0, 1)]
        table = found[name].predictions
        before, (outcomes, rows) = ((replay(policy, table.take(half)), rows[half]) for half in halves)
    read = [None if texts is None else list(texts[some]) for some in (before[1], rows)]
    return fit_reference(policy, (before[0], read[0]), (outcomes, read[1]), n_classes=len(study.classes), side=name)


def lines(study: Study, policy: Policy) -> list[str]:
    """Return what was aimed at and what is promised in sentences, for the report."""
    said = [] if policy.scope is None else [_scope_words(study, policy)]
    found, certificate = suggestion_for(study, policy), certificate_for(study, policy)
    if found is not None:
        kept = "" if found.feasible else " No policy kept this on tune."
        said.append(f"Suggested for the goal: {found.goal.words}. Found {found.method}.{kept}")
    if certificate is not None:
        said.append(f"Certified. {certificate.words}")
    checked = audit.plain_findings(study, policy)
    said += [] if checked is None else [checked["words"]]
    return said + against(study, policy)


def _set_for_share(study: Study, policy: Policy, chosen: Policy | None) -> dict[str, Any] | None:
    found = None if chosen is None else study.at_share(chosen)
    if found is None or found.policy != policy:
        return None
    said: dict[str, Any] = plain(found, study.classes)
    return said | {"words": found.words}


def _scope_words(study: Study, policy: Policy) -> str:
    on = study.scope_numbers(policy, "tune")
    goes = f"go to {policy.names[-1]}" if policy.to_person else f"are answered {study.out_class or NONE_LABEL!r}"
    n = on.n_rows - on.n_out
    return (
        f"Out of scope: texts whose score is {policy.scope and policy.scope.threshold:g} or more {goes}. With "
        f"{on.level:.0%} confidence these are at most {on.bound:.1%} of the texts that come as {n:,} tune rows did."
    )


def _suggestion(found: Recommendation | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "goal": found.goal.words,
        "kept_on_tune": found.feasible,
        "binding": list(found.binding),
        "method": found.method,
        "exact": found.exact,
        "compared_on_rows": found.n_common,
        "optimism": found.optimism,
        "contradiction": None if found.contradiction is None else found.contradiction.words,
    }


def _certificate(study: Study, policy: Policy) -> dict[str, Any] | None:
    found = certificate_for(study, policy)
    if found is None:
        return None
    against = contradicted(study, policy, found)
    return {
        "promise": found.words,
        "risk": found.risk,
        "alpha": found.alpha,
        "delta": found.delta,
        "labelled_rows": found.n_rows,
        "groups": found.n_groups,
        "lowest_threshold": found.lowest,
        "parts": [
            {"name": p.name, "rows": p.n, "wrong": p.wrong, "bound": p.bound, "lowest_threshold": p.lowest}
            for p in found.parts
        ],
        "not_certified": list(found.left_out),
        "contradiction": None if against is None else against.words,
    }
