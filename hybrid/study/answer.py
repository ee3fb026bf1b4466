"""Answer: what a recommendation is worth against the LLM for everything, in one verdict with its numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hybrid.errors import StudyError
from hybrid.metrics.summary import PairedDifference, Summary
from hybrid.routing.engine import Policy
from hybrid.routing.table import Tier
from hybrid.study.defaults import LLM_KINDS, MIN_AGREEMENT
from hybrid.tuning import Point, Recommendation, rows_to_tell

if TYPE_CHECKING:
    from hybrid.study.study import Study

SAVES, KEEP, DROP, NO_LLM, TOO_FEW, UNPRICED, POINT = "saves", "keep", "drop", "no_llm", "too_few", "unpriced", "point"
AS_GOOD = 0.01  # share of rows: a loss beyond chance that is smaller is named, and does not decide
MAY_LOSE = 0.05  # share of rows: a loss that cannot be ruled out and is larger leaves the question open
CHEAPER, BETTER = 0.9, 0.005  # of the cost, and in accuracy: the least step along the front


@dataclass(frozen=True, slots=True)
class Answer:
    """A policy against asking the strongest LLM about everything, on rows that both decided.

    Parameters
    ----------
    kind
        ``saves``; ``keep``: nothing cheaper is as good; ``drop``: what asks no LLM is better beyond chance; ``no_llm``:
        none was asked, at most one is simulated; ``too_few`` rows to say; ``unpriced``: what an LLM costs is not
        known; ``point``: another policy of the front, which the goal did not ask for.
    policy
        What was recommended; of ``drop`` the best without an LLM.
    side, n_rows
        Where it was measured: on test, or on tune where no test row has every answer.
    measured, llm_measured
        What both do there; without an LLM the latter is None.
    difference
        The policy minus the LLM alone.
    month, llm_month
        USD per month at the volume of the terms; nan where a price is not known.
    saving
        Share of the LLM's cost that is saved; nan where that is not known.
    more_rows
        Labelled rows, on both sides together, that would likely settle it; 0 where it is settled.
    contradiction
        What test says against the recommendation, in words; None where nothing.
    unpriced
        The LLMs in it whose price nobody has said.
    """

    kind: str
    policy: Policy
    llm_alone: Policy | None
    side: str
    n_rows: int
    measured: Summary
    llm_measured: Summary | None
    difference: PairedDifference | None
    month: float
    llm_month: float
    saving: float
    more_rows: int
    contradiction: str | None
    unpriced: tuple[str, ...] = ()

    @property
    def simulated(self) -> bool:
        """Whether a made-up tier has a part in these numbers."""
        return self.policy.simulated or (self.llm_alone is not None and self.llm_alone.simulated)


def answer_of(study: Study, found: Recommendation, policy: Policy | None = None) -> Answer:
    """Return what a recommendation, or another policy of its front, is worth against the LLM for everything.

    Raises
    ------
    StudyError
        If no row has the answers of both.
    """
    recommended = study.bind(found.policy)
    chosen = recommended if policy is None else study.bind(policy)
    if chosen is None:
        raise StudyError("A tier of the recommended policy is not here any more: search again.")
    llm = study.llm_alone
    own = chosen == recommended
    if own and llm is not None and (unpriced(study, chosen) or unpriced(study, llm)):
        free = _without_llm(study, found)  # what is best while LLMs count as free says little
        if free is not None and _beats(study, free, llm):
            chosen = free
    side, measured, llm_measured, difference = _measured(study, chosen, llm)
    unknown = tuple(dict.fromkeys(n for p in (chosen, llm) if p is not None for n in unpriced(study, p)))
    ours, paid = (
        float("nan") if s is None or set(p.names) & set(unknown) else s.cost_per_1000.value
        for p, s in ((chosen, measured), (llm or chosen, llm_measured))
    )
    more = 0 if difference is None else _more_rows(study, difference)
    contradiction = found.contradiction if chosen == recommended else None
    return Answer(
        kind=_kind(study, chosen, llm_measured, difference, more, own=own, unknown=unknown),
        policy=chosen,
        llm_alone=llm,
        side=side,
        n_rows=measured.n_rows,
        measured=measured,
        llm_measured=llm_measured,
        difference=difference,
        month=study.terms.month(ours),
        llm_month=study.terms.month(paid),
        saving=1 - ours / paid if paid > 0 else float("nan"),
        more_rows=more,
        contradiction=None if contradiction is None else contradiction.words,
        unpriced=unknown,
    )


def _measured(
    study: Study, chosen: Policy, llm: Policy | None
) -> tuple[str, Summary, Summary | None, PairedDifference | None]:
    """Return the side, and what a policy and the LLM alone do on the rows of it that both decided."""
    named = [chosen] if llm is None else [llm, chosen]
    for side in ("test", "tune"):
        compared = study.compare(named, side)
        if compared:
            return side, compared[-1][0], None if llm is None else compared[0][0], compared[-1][1]
    raise StudyError("No row has the answers of both the recommended policy and the LLM: there is no comparison.")


def unpriced(study: Study, policy: Policy) -> tuple[str, ...]:
    """Return the tiers of a policy whose answers somebody brought along, while nobody has said what they cost.

    An LLM that is asked from here has a price: its list price, or what was typed, 0 included.
    """
    return tuple(t.name for t in policy.tiers if is_unpriced(study, t))


def is_unpriced(study: Study, tier: Tier) -> bool:
    """Whether somebody brought a tier's answers along, while nobody has said what they cost."""
    said = {r.name for r in study.columns.recorded if r.free or r.cost is not None} | set(dict(study.terms.prices))
    return tier.kind == "recorded" and not tier.price and tier.name not in said


def asks_llm(policy: Policy) -> bool:
    """Whether one of a policy's tiers is an LLM, or was recorded elsewhere."""
    return any(t.kind in LLM_KINDS for t in policy.tiers)


def _without_llm(study: Study, found: Recommendation) -> Policy | None:
    """Return the policy without an LLM that is most often right on tune, among the cheap tier and the front."""
    tried = [study.cheap_alone, *(p for p in (study.bind(point.policy) for point in found.front) if p is not None)]
    free = [p for p in tried if not asks_llm(p)]
    right = [(on.summary.accuracy.value, -i) for i, p in enumerate(free) if (on := study.measure(p, "tune")).n_rows]
    return free[-max(right)[1]] if right else None


def _beats(study: Study, policy: Policy, llm: Policy) -> bool:
    _, _, _, difference = _measured(study, policy, llm)
    return difference is not None and difference.accuracy.low > 0


def _kind(
    study: Study,
    policy: Policy,
    llm: Summary | None,
    difference: PairedDifference | None,
    more: int,
    *,
    own: bool,
    unknown: tuple[str, ...],
) -> str:
    if llm is None or difference is None or all(t.simulated for t in study.tiers if t.kind in LLM_KINDS):
        return NO_LLM
    change = difference.accuracy
    if not asks_llm(policy) and change.low > 0:
        return DROP
    if unknown:
        return UNPRICED
    if more:
        return TOO_FEW
    cheaper = difference.cost_per_1000.high < 0
    if study.dataset.teacher is not None:  # its own answers are the truth: what it is asked for less is not as good
        as_good = change.high >= MIN_AGREEMENT - 1
    else:
        as_good = not (change.high < 0 and change.value < -AS_GOOD)
    if cheaper and as_good:
        return SAVES
    return KEEP if own else POINT


def _more_rows(study: Study, difference: PairedDifference) -> int:
    """Return how many more labelled rows would tell either a loss, or that there is none worth naming."""
    change, n = difference.accuracy, difference.n_rows
    if difference.told_apart or change.low >= -MAY_LOSE:
        return 0
    discordant = (difference.uplift + difference.regression) / n
    delta = max(MAY_LOSE + change.value, -change.value)
    needed = rows_to_tell(delta, discordant, design_effect=difference.design_effect)
    assert needed is not None  # at least half of what it may lose
    return max(1, math.ceil((needed - n) * study.dataset.n_rows / n))


def cheaper(found: Recommendation, policy: Policy) -> Point | None:
    """Return the most accurate point of the front that costs notably less on tune; None where none does."""
    cost, _ = _on_tune(found, policy)
    return next((p for p in reversed(found.front) if p.cost_per_1000 <= CHEAPER * cost and cost), None)


def better(found: Recommendation, policy: Policy) -> Point | None:
    """Return the cheapest point of the front that is notably more often right on tune; None where none is."""
    _, accuracy = _on_tune(found, policy)
    return next((p for p in found.front if p.accuracy >= accuracy + BETTER), None)


def _on_tune(found: Recommendation, policy: Policy) -> tuple[float, float]:
    """Return USD per 1,000 and accuracy of a policy of the front, or of the recommended one."""
    for p in found.front:
        if p.policy == policy:
            return p.cost_per_1000, p.accuracy
    return found.tune.cost_per_1000.value, found.tune.accuracy.value
