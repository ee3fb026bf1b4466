"""Promises: what was suggested and certified, whether a policy still rests on it, and the evidence of a bundle."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from hybrid.routing.engine import Policy
from hybrid.study.terms import Terms
from hybrid.tuning import Certificate, Recommendation, covers

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


def suggestion_for(study: Study, policy: Policy) -> Recommendation | None:
    """Return the suggestion that a policy is, under the same terms; None where it is not."""
    kept = study.suggested
    if kept is None or kept.terms.routing != study.terms.routing or study.bind(kept.found.policy) != policy:
        return None
    return kept.found


def certificate_for(study: Study, policy: Policy) -> Certificate | None:
    """Return the certificate that covers a policy, under the same terms; None where none does."""
    kept = study.certified
    if kept is None or kept.terms.routing != study.terms.routing:
        return None
    return kept.found if covers(kept.found, policy) else None


def evidence(study: Study, policy: Policy) -> dict[str, Any]:
    """Return what a policy rests on, as JSON values: data, split, numbers with intervals, what is simulated."""
    dataset, split = study.dataset, study.split
    measured = {side: study.measure(policy, side) for side in ("tune", "test")}
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
        "metrics": {side: _json(asdict(m.summary)) if m.n_rows else None for side, m in measured.items()},
        "suggestion": _suggestion(suggestion_for(study, policy)),
        "certificate": _certificate(certificate_for(study, policy)),
        "notes": [f"{n.what} {n.done}" for n in study.notes],
    }


def lines(study: Study, policy: Policy) -> list[str]:
    """Return what was aimed at and what is promised in sentences, for the report."""
    said = []
    found, certificate = suggestion_for(study, policy), certificate_for(study, policy)
    if found is not None:
        kept = "" if found.feasible else " No policy kept this on tune."
        said.append(f"Suggested for the goal: {found.goal.words}. Found {found.method}.{kept}")
    if certificate is not None:
        said.append(f"Certified. {certificate.words}")
    return said


def _suggestion(found: Recommendation | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "goal": found.goal.words,
        "kept_on_tune": found.feasible,
        "binding": list(found.binding),
        "method": found.method,
        "exact": found.exact,
        "optimism": found.optimism,
    }


def _certificate(found: Certificate | None) -> dict[str, Any] | None:
    if found is None:
        return None
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
    }


def _json(value: Any) -> Any:
    """Return nested values with nan, which JSON has not, as None."""
    if isinstance(value, dict):
        return {k: _json(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [_json(v) for v in value]
    if isinstance(value, float) and value != value:
        return None
    return value
