"""Defaults: which tiers a policy starts with; never rules as the strong tier, and never a tier nobody asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hybrid.routing.engine import Pattern, Policy, answering, defaults
from hybrid.routing.patterns import PATTERNS
from hybrid.routing.table import Tier
from hybrid.study.evidence import CLASSIFIER, TRAINED_GATE, gate_for

MAX_CASCADE = 5  # tiers that a cascade starts with: each has a slider
MIN_AGREEMENT = 0.95  # with the LLM whose answers are the truth: as accurate as it is would mean asking it always
LLM_KINDS = ("llm", "recorded", "whatif")  # what asking everything about everything is compared with


def cheap_of(tiers: Sequence[Tier]) -> Tier:
    """Return the cheap tier that others are measured against.

    The classifier; where that is the dearest or not there, the first tier that is not rules; else the first.
    """
    every = answering(tiers)
    cheaper = every[:-1] or every
    named = [t for t in cheaper if t.name == CLASSIFIER]
    return (named or [t for t in cheaper if t.kind != "rules"] or list(cheaper))[0]


def strongest(tiers: Sequence[Tier], accuracy: Mapping[str, float]) -> Tier | None:
    """Return the tier that escalation goes to unless the user says otherwise; None where there is none.

    Parameters
    ----------
    tiers
        To choose from, from cheap to dear. Rules are passed over: what they do not know is not answered better by
        asking them.
    accuracy
        On the tune rows that a tier answered, by name; a tier that answered none is not in it.

    Notes
    -----
    A what-if LLM where there is one, for then it is what the user wants to see; else the tier that is right most
    often, which need not be the dearest; of equals, the dearer.
    """
    able = [t for t in answering(tiers) if t.kind != "rules" and t.name in accuracy]
    made_up = [t for t in able if t.kind == "whatif"]
    if made_up:
        return made_up[-1]
    return max(reversed(able), key=lambda t: accuracy[t.name], default=None)


def strongest_llm(tiers: Sequence[Tier], accuracy: Mapping[str, float]) -> Tier | None:
    """Return the LLM that "the LLM for everything" means: the most accurate on tune; None where there is none."""
    return strongest([t for t in tiers if t.kind in LLM_KINDS], accuracy)


def members(kind: type[Pattern], tiers: Sequence[Tier], accuracy: Mapping[str, float]) -> tuple[Tier, ...]:
    """Return the tiers that a pattern starts with, from cheap to dear; fewer than it needs where there are not enough.

    A small model's average with the classifier is passed over where the small model itself is there: both hear the
    same.
    """
    every = [t for t in answering(tiers) if t.name in accuracy]
    gates = [t for t in tiers if t.kind == "gate"]
    gate = [next((t for t in gates if t.name == TRAINED_GATE), gates[0])] if gates and kind.gate_first else []
    if not every:
        return tuple(gate)
    cheap = cheap_of(every)
    if kind is PATTERNS["assisted"]:
        return _assisted(cheap, tiers, every, accuracy)
    gate = [next((t for t in gates if t.name == gate_for(cheap.name)), gate[0])] if gate else []
    strong = strongest([t for t in every if t != cheap], accuracy)
    if kind.max_tiers == 2 or kind.gate_first:
        pair = [t for t in (cheap, strong) if t is not None and t.kind != "rules"]
        return (*gate, *sorted(pair, key=every.index)) if kind.gate_first else tuple(pair)
    small = [t for t in every if t.kind == "embedding"]
    once = [t for t in every if t not in small[1:]]
    if kind is PATTERNS["cascade"]:
        able = once if cheap.kind == "classifier" else once[once.index(cheap) :]
        return tuple(able if len(able) <= MAX_CASCADE else [*able[: able.index(cheap) + 1], able[-1]])
    able = [t for t in once[once.index(cheap) :] if t.kind != "rules"]
    if kind.max_tiers is not None and strong in able:
        able = [*[t for t in able if t != strong][: kind.max_tiers - 1], strong]
    return tuple(able[: kind.max_tiers])


def _assisted(
    cheap: Tier, tiers: Sequence[Tier], every: Sequence[Tier], accuracy: Mapping[str, float]
) -> tuple[Tier, ...]:
    """Return a tier, who picks from its answers, and the last tier: the person where there is one."""
    pickers = {t.picks_from: t for t in tiers if t.picks_from}
    first = next((t for t in (cheap, *every) if t.name in pickers), None)
    if first is None:
        return ()
    rest = [t for t in every if t != first]
    last = next((t for t in rest if t.kind == "human"), None) or strongest(rest, accuracy)
    return () if last is None else (first, pickers[first.name], last)


def start(name: str, tiers: Sequence[Tier], accuracy: Mapping[str, float]) -> Policy | None:
    """Return the policy that a pattern starts with; None where there are too few tiers for it."""
    kind = PATTERNS[name]
    chosen = members(kind, tiers, accuracy)
    least = max(kind.min_tiers, 2)  # one tier is a policy, but not one to start with
    if len(chosen) < least or (kind.gate_first and chosen[0].kind != "gate"):
        return None
    return Policy(defaults(kind, chosen), chosen)
