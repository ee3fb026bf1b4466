"""Start: where the thresholds begin, the recommended point of a policy, and what another pattern takes over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import streamlit as st

from hybrid.errors import HybridError
from hybrid.production.bundle import pattern_name
from hybrid.routing.engine import Pattern, Policy, Threshold, answering, defaults
from hybrid.routing.patterns import PATTERNS, Assisted, Cascade, Ensemble, Triage, TriageEnsemble
from hybrid.routing.table import Tier
from hybrid.study.defaults import cheap_of
from hybrid.study.evidence import gate_for
from hybrid.study.graded import held
from hybrid.study.promises import suggestion, suggestion_for
from hybrid.study.study import Study
from hybrid.tuning import Goal
from hybrid.tuning.search import search, with_classes

BEGAN = "tune.began"  # in the session: a study's key, and the policy that tuning started with there
LEFT = "tune.left"  # in the session: a study's key, and each pattern's policy as it was left


def goal_of(study: Study) -> Goal:
    """Return the goal that the star stands for: that of the last suggestion under these terms, else the usual one."""
    found = suggestion(study)
    return study.usual_goal() if found is None else found.goal


def recommended(study: Study, policy: Policy) -> Policy | None:
    """Return the policy with the thresholds that are best for the goal on tune; None where no row can be chosen on.

    That is the suggestion itself where the policy differs from it in thresholds only.
    """
    goal, bare, kept = goal_of(study), _bare(policy), suggestion(study)
    if kept is not None:
        found = study.bind(kept.policy)
        if found is not None and _bare(found) == bare and _classes(found) == _classes(policy):
            return found
    return _searched(study.token, repr((bare, goal)), study, bare, goal)


@st.cache_resource(scope="session", max_entries=50, show_spinner="Looking for the recommended thresholds …")
def _searched(key: str, what: str, _study: Study, _policy: Policy, _goal: Goal) -> Policy | None:
    on = _study.measure(_policy, "tune").graded
    try:
        return search(_policy, on.predictions, on.truth, _goal).policy if len(on) else None
    except HybridError:
        return None


def _bare(policy: Policy) -> Policy:
    """Return the policy without its thresholds: what all share that differ in nothing else."""
    policy = with_classes(policy, ())
    return held(policy, *(line for line in policy.thresholds() if line.value is not None))


def _classes(policy: Policy) -> bool:
    return isinstance(policy.pattern, Triage) and bool(policy.pattern.by_class)


def star_of(found: Policy | None, line: Threshold) -> float | None:
    """Return where the recommended policy has a threshold; None where it has none there."""
    if found is None:
        return None
    value = getattr(found.pattern, line.name)
    if line.index is None:
        return None if value is None else float(value)
    one = value[line.index] if line.index < len(value) else None
    return None if one is None else float(one)


def first(study: Study) -> Policy | None:
    """Return the policy that tuning starts with: what was suggested, else a pattern at its recommended point."""
    kept = suggestion(study)
    found = None if kept is None else study.bind(kept.policy)
    if found is not None:
        return found
    policy = study.start("triage") or study.start("cascade")
    return None if policy is None else recommended(study, policy) or policy


def begin(study: Study) -> None:
    """Make the recommended policy the one at hand where nobody has chosen one, or only this has, of other answers."""
    key, before = st.session_state.get(BEGAN, ("", None))
    ours = before is not None and study.bind(before) == study.policy and key != study.key
    if study.chosen and not ours:
        return
    policy = first(study)
    if policy is not None:
        study.restore(policy)
        st.session_state[BEGAN] = (study.key, policy)


def switched(study: Study, policy: Policy, pattern: str, before: Policy | None) -> Policy | None:
    """Return the policy of another pattern that takes over what it can of the one at hand; None where there is none.

    It is `before`, as it was left, where that was set by hand and holds the tiers at hand. Else it has the tiers at
    hand, and thresholds that were set are carried over where the other pattern compares the same tier's confidence;
    thresholds that nobody moved from the recommended point go to the recommended point there. The scope stays.
    """
    found = _switched(study, policy, pattern, before)
    if found is None or policy.scope is None:
        return found
    return found.within(policy.tiers[0], policy.scope)


def _switched(study: Study, policy: Policy, pattern: str, before: Policy | None) -> Policy | None:
    before = None if before is None else study.bind(before)
    untouched = policy == recommended(study, policy)
    holds = before is not None and set(answering(policy.tiers)) <= set(answering(before.tiers))
    if before is not None and holds and (untouched or before != recommended(study, before)):
        return before
    if untouched:
        kept, usual = suggestion_for(study, policy), study.start(pattern)
        if kept is not None and (point := kept.best_of(pattern)):
            return study.bind(point.policy)
        now = study.start(pattern_name(policy.pattern))
        if usual is not None and now is not None and now.own == policy.own:  # nobody picked tiers either
            return recommended(study, usual) or usual
    tiers = _tiers(study, policy, PATTERNS[pattern])
    if tiers is None:
        return study.start(pattern)
    fresh = Policy(defaults(PATTERNS[pattern], tiers), tiers)
    best = recommended(study, fresh) or fresh
    return best if untouched else _with(best, _cuts(policy))


def _tiers(study: Study, policy: Policy, kind: type[Pattern]) -> tuple[Tier, ...] | None:
    """Return the tiers of a policy as another pattern takes them; None where they are too few for it."""
    mine = answering(policy.tiers)
    if kind is Assisted:
        first = cheap_of(mine)
        picker = next((t for t in study.tiers if t.picks_from == first.name), None)
        return None if picker is None or mine[-1] == first else (first, picker, mine[-1])
    if kind in (Ensemble, TriageEnsemble) or kind.gate_first:
        mine = [t for t in mine if t.kind != "rules"]
    if len(mine) < 2:
        return None
    if kind.gate_first:
        gates = {t.name: t for t in (*policy.tiers, *study.tiers) if t.kind == "gate"}
        own = [gates.get(gate_for(t.name)) for t in mine[:-1]]
        if all(own):
            return (*(t for t in own if t is not None), *mine)
        return (own[0] or next(iter(gates.values())), *mine) if gates else None
    if kind.max_tiers == 2:
        return cheap_of(mine), mine[-1]
    return tuple(mine)


def _cuts(policy: Policy) -> dict[str, float]:
    """Return the thresholds on tiers' confidences, by tier; a gate's score or a vote's agreement is no confidence."""
    pattern = policy.pattern
    if isinstance(pattern, Cascade):
        return dict(zip(policy.bare.names, pattern.thresholds, strict=False))
    if isinstance(pattern, Triage | TriageEnsemble):
        return {policy.own[0].name: pattern.threshold}
    if isinstance(pattern, Assisted):
        return {policy.own[0].name: pattern.keep}
    return {}


def _with(policy: Policy, cuts: Mapping[str, float]) -> Policy:
    pattern: Pattern = policy.pattern
    if isinstance(pattern, Cascade):
        values = zip(policy.bare.names, pattern.thresholds, strict=False)
        pattern = replace(pattern, thresholds=tuple(cuts.get(n, t) for n, t in values))
    elif isinstance(pattern, Triage | TriageEnsemble):
        pattern = replace(pattern, threshold=cuts.get(policy.own[0].name, pattern.threshold))
    elif isinstance(pattern, Assisted):
        pattern = replace(pattern, keep=cuts.get(policy.own[0].name, pattern.keep))
    return replace(policy, pattern=pattern)


def left(study: Study) -> dict[str, Policy]:
    """Return each pattern's policy as this session left it, for these data."""
    key, found = st.session_state.get(LEFT, ("", {}))
    if key != study.key:
        key, found = st.session_state[LEFT] = (study.key, {})
    policies: dict[str, Policy] = found
    return policies
