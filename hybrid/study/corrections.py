"""Corrections: right labels of logged decisions → does the promise still hold, and which thresholds would keep it?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hybrid.errors import BundleError, StudyError
from hybrid.metrics.curve import with_threshold
from hybrid.metrics.intervals import Interval
from hybrid.metrics.sequential import evidence_above, evidence_below, mean_sequence
from hybrid.metrics.summary import share
from hybrid.production.archive import MANIFEST, SIGNATURE, pack_files
from hybrid.production.bundle import SCHEMA_VERSION, Bundle, GoldenRow, by_name, decide, load_bundle
from hybrid.production.feedback import NONE_OF_THEM, Correction
from hybrid.production.log import SECOND
from hybrid.production.promise import NO_CLASS
from hybrid.production.reference import FILE, Counts, Reference, packed, watched
from hybrid.production.watching import Decisions, promised
from hybrid.routing.engine import Outcomes, Policy, replay
from hybrid.routing.table import NONE, Answers, Floats, Labels, Predictions, Rows
from hybrid.study.plain import plain
from hybrid.tuning.certify import PATH
from hybrid.tuning.sizes import least
from hybrid.tuning.walks import SELECTIVE, SYSTEM

HOLDS, BROKEN, OPEN = "holds", "broken", "open"
DELTA = 0.05  # where a bundle has no certificate: the promise is the lower end of a 95 % interval
STARTS = (0.2, 0.45, 0.7)  # of the reference's texts kept: where the walks to lower thresholds begin, each with a third
USUAL_STARTS = (0.97, 0.9, 0.75)  # thresholds, where there is no reference, or are several
MOST_MORE = 1_000_000  # labels: beyond, no number is named
TO_REVIEW = 50  # rows that are named at a time


@dataclass(frozen=True, slots=True)
class Claim:
    """What a bundle promises: that at most `alpha` of the answers are wrong.

    `risk` is ``selective`` (of what is answered before the last tier) or ``system`` (of all answers); it may be broken
    with probability `delta`.
    """

    risk: str
    alpha: float
    delta: float
    certified: bool

    @property
    def words(self) -> str:
        what = "what is answered before the last tier" if self.risk == SELECTIVE else "all answers"
        by = "certified" if self.certified else "measured"
        return f"at most {self.alpha:.1%} of {what} are wrong ({by} at {1 - self.delta:.0%})"


def claim_of(bundle: Bundle) -> Claim | None:
    """Return a bundle's promise: its certificate, else the lower end of its accuracy; None where it has neither."""
    found = bundle.evidence.get("certificate")
    if isinstance(found, dict) and found.get("risk") in (SELECTIVE, SYSTEM):
        alpha, delta = found.get("alpha"), found.get("delta")
        if isinstance(alpha, float) and isinstance(delta, float) and 0 < alpha < 1 and 0 < delta < 1:
            return Claim(found["risk"], alpha, delta, certified=True)
    accuracy = promised(bundle.evidence, "accuracy")
    if accuracy is None or not 0 < accuracy.low < 1:
        return None
    return Claim(SYSTEM, 1 - accuracy.low, DELTA, certified=False)


@dataclass(frozen=True, slots=True)
class NewThreshold:
    """Thresholds at which production's own reviewed rows prove the promise.

    Parameters
    ----------
    policy
        With the new thresholds.
    threshold
        The one value of all thresholds that are switched on.
    n, wrong
        Reviewed rows that it keeps before the last tier, and mistakes among them.
    escalation
        Share of production's texts that it sends to the last tier; nan where that is not known.
    """

    policy: Policy
    threshold: float
    n: int
    wrong: int
    escalation: float


@dataclass(frozen=True, slots=True, eq=False)
class Review:
    """What corrections say of a bundle.

    Parameters
    ----------
    drawn, labelled
        Decisions that were drawn for a review, and those of them that were reviewed.
    accuracy
        Of all decisions, from the reviewed ones, weighted by how they were drawn; holds at all times with 95 %.
    risk
        The same of the share that the claim is about, wrong.
    reported, reported_wrong
        Decisions that somebody complained about, and those where the answer was not the reported label. No fair draw.
    level
        ``holds``, ``broken`` or ``open``.
    more
        How many more reviews of what the claim is about would settle it if they went on as so far; None: no number.
    rows
        Places among the decisions of those to review next, the oldest first.
    new
        Where it is broken: what would hold; None where nothing is proven yet.
    """

    claim: Claim | None
    drawn: int
    labelled: int
    accuracy: Interval
    risk: Interval
    reported: int
    reported_wrong: int
    level: str
    words: str
    more: int | None
    rows: Rows
    new: NewThreshold | None

    def plain(self, decisions: Decisions) -> dict[str, Any]:
        """Return it as JSON values."""

        def interval(i: Interval) -> dict[str, float | None]:
            return {k: getattr(i, k) if np.isfinite(getattr(i, k)) else None for k in ("value", "low", "high")}

        new = self.new
        return {
            "claim": None if self.claim is None else self.claim.words,
            "level": self.level,
            "words": self.words,
            "drawn": self.drawn,
            "reviewed": self.labelled,
            "accuracy": interval(self.accuracy),
            "risk": interval(self.risk),
            "reported": self.reported,
            "reported_wrong": self.reported_wrong,
            "reviews_to_go": self.more,
            "review_next": [decisions.ids[i] for i in self.rows[:TO_REVIEW]],
            "new_threshold": None
            if new is None
            else {"threshold": new.threshold, "reviewed": new.n, "wrong": new.wrong, "escalation": new.escalation},
        }


@dataclass(frozen=True, slots=True, eq=False)
class _Reviewed:
    """Rows that were drawn and reviewed, with the right label and how much each counts."""

    rows: Rows
    truth: Labels
    weights: Floats


def review(decisions: Decisions, bundle: Bundle, corrections: Sequence[Correction]) -> Review:
    """Join corrections to decisions, and say whether the bundle's promise holds in production.

    Both answers, "still holds" and "no longer holds", are wrong with at most the promise's own δ, at whatever time one
    looks. Only what was drawn at random counts: complaints come when something is wrong.
    """
    at = {id.removesuffix(SECOND): i for i, id in enumerate(decisions.ids)}
    code = {name: i for i, name in enumerate(bundle.config.classes)} | {NONE_OF_THEM: NONE}
    said: dict[str, dict[int, int]] = {"review": {}, "report": {}}
    for c in corrections:
        if c.id.removesuffix(SECOND) in at:
            said[c.source][at[c.id.removesuffix(SECOND)]] = code.get(c.label, NO_CLASS)
    drawn = decisions.review > 0
    rows = np.array(sorted(i for i in said["review"] if drawn[i]), dtype=np.intp)
    truth = np.array([said["review"][int(i)] for i in rows], dtype=np.int64)
    chance = decisions.review[rows]
    fair = _Reviewed(rows, truth, chance.min(initial=1.0) / chance)
    right = decisions.label[rows] == truth
    accuracy = mean_sequence(right.astype(np.float64), weights=fair.weights)
    claim = claim_of(bundle)
    covered = np.ones(len(decisions), dtype=bool)
    if claim is not None and claim.risk == SELECTIVE:
        covered = ~decisions.said.asked[:, -1] & ~bundle.policy.set_aside(decisions.said)
    about = covered[rows]
    wrong, weights = (~right[about]).astype(np.float64), fair.weights[about]
    risk = mean_sequence(wrong, weights=weights)
    waiting = np.flatnonzero(drawn & covered & ~np.isin(np.arange(len(decisions)), rows))
    reported_wrong = sum(int(decisions.label[i]) != label for i, label in said["report"].items())
    level, more, new = OPEN, None, None
    if claim is not None:
        bar = float(np.log(1 / claim.delta))
        if evidence_above(wrong, claim.alpha, weights=weights) >= bar:
            level = BROKEN
            new = new_threshold(decisions, bundle, fair, claim)
        elif evidence_below(wrong, claim.alpha, weights=weights) >= bar:
            level = HOLDS
        else:
            more = reviews_to_go(int(wrong.sum()), len(wrong), claim)
    words = _words(claim, level, risk, more, len(wrong), len(waiting), new)
    return Review(
        claim,
        int(drawn.sum()),
        len(rows),
        accuracy,
        risk,
        len(said["report"]),
        reported_wrong,
        level,
        words,
        more,
        waiting,
        new,
    )


def reviews_to_go(wrong: int, n: int, claim: Claim) -> int | None:
    """Return how many more reviews would settle a claim if mistakes go on as so far; None beyond a million.

    Examples
    --------
    >>> reviews_to_go(0, 0, Claim("system", 0.1, 0.05, certified=True))
    58
    """
    bar = float(np.log(1 / claim.delta))
    rate = wrong / n if n else 0.0

    def settled(more: int) -> bool:
        expected = round(rate * (n + more))
        values = (np.arange(n + more) < expected).astype(np.float64)
        test = evidence_below if rate < claim.alpha else evidence_above
        return test(values, claim.alpha) >= bar

    return least(settled, most=MOST_MORE)


def _words(
    claim: Claim | None, level: str, risk: Interval, more: int | None, n: int, waiting: int, new: NewThreshold | None
) -> str:
    if claim is None:
        return "The bundle's evidence holds no promise that corrections could be compared with."
    seen = f"{risk.value:.1%} wrong (95 % at all times: {risk.low:.1%} to {risk.high:.1%}) of {n:,} reviewed"
    if level == HOLDS:
        return f"Still holds: {claim.words}; in production {seen}."
    if level == BROKEN:
        if new is None:
            then = "No threshold is proven to keep it yet: review more, or fit again with these labels."
        else:
            sent = "" if np.isnan(new.escalation) else f", sending {new.escalation:.1%} of the texts on"
            then = f"A threshold of {new.threshold:.4g} does: {new.wrong:,} of {new.n:,} wrong{sent}."
        return f"No longer holds: {claim.words}; in production {seen}. {then}"
    if more is None:
        return f"Too close to tell: {claim.words}; in production {seen}."
    so_far = f"; so far {seen}" if n else ""
    drawn = f", and {waiting:,} drawn ones wait" if waiting else "; draw more with hybrid serve --review-share"
    return f"Not enough corrections yet to say that {claim.words}{so_far}: about {more:,} more would tell{drawn}."


def lined_up(policy: Policy, threshold: float) -> Policy:
    """Return the policy with all thresholds that are switched on at one value."""
    for line in policy.thresholds():
        if line.value is not None:
            policy = with_threshold(policy, line.name, line.index, threshold)
    return policy


def new_threshold(decisions: Decisions, bundle: Bundle, fair: _Reviewed, claim: Claim) -> NewThreshold | None:
    """Find the lowest threshold at which what is kept before the last tier is proven to be wrong in at most α.

    From three starts, which do not depend on labels, thresholds are lowered along a fixed grid as long as the evidence
    at each reaches 3/δ. So the promise is broken with at most δ, at whatever time it is looked for.
    """
    policy = bundle.policy
    if not any(line.value is not None for line in policy.thresholds()):
        return None
    table, truth, weights = answered(decisions, bundle, fair), fair.truth, fair.weights
    several = sum(line.value is not None for line in policy.thresholds()) > 1
    falling, bar = PATH[::-1], float(np.log(len(STARTS) / claim.delta))
    best: NewThreshold | None = None
    for start in USUAL_STARTS if several else _starts(bundle.reference):
        for threshold in falling[falling <= start]:
            found = lined_up(policy, float(threshold))
            o = replay(found, table)
            kept = ~o.asked[:, -1] & ~found.set_aside(o.seen)
            wrong = (o.label != truth)[kept].astype(np.float64)
            if evidence_below(wrong, claim.alpha, weights=weights[kept]) < bar:
                break
            if best is None or threshold < best.threshold:
                best = NewThreshold(found, float(threshold), len(wrong), int(wrong.sum()), float("nan"))
    if best is None:
        return None
    sent = _decided(decisions, bundle, best.policy)
    return best if sent is None else replace(best, escalation=float(sent.asked[:, -1].mean()))


def _starts(reference: Reference | None) -> tuple[float, ...]:
    if reference is None or not reference.confidence.edges:
        return USUAL_STARTS
    edges, above = np.array(reference.confidence.edges), np.cumsum(reference.confidence.expected[::-1])[::-1][1:]
    return tuple(float(edges[np.abs(above - kept).argmin()]) for kept in STARTS)


def answered(decisions: Decisions, bundle: Bundle, fair: _Reviewed) -> Predictions:
    """Return what every tier says of reviewed rows; of the last one, only what the log holds.

    What the log lacks is asked of the models of the bundle, where the log keeps the text. What is not known then counts
    as a wrong answer that is as sure as can be: to leave such rows out would leave out what went well, or badly.
    """
    rows = fair.rows
    table = decisions.said.take(rows)
    for j, name in enumerate(bundle.policy.names[:-1]):
        model = bundle.models.get(name)
        lacks = np.array([i for i in np.flatnonzero(~table.asked[:, j]) if decisions.text(rows[i]) is not None])
        if model is None or not model.answers_alike or not len(lacks):
            continue
        said = model.answer([str(decisions.text(rows[i])) for i in lacks])
        for column in ("label", "confidence", "cost", "latency"):
            getattr(table, column)[lacks, j] = getattr(said, column)
    lacks_any = ~table.asked
    lacks_any[:, -1] = False
    cells = np.nonzero(lacks_any)
    table.label[cells] = np.where(fair.truth[cells[0]] == 0, 1, 0)
    table.confidence[cells] = 1.0
    table.cost[cells] = table.latency[cells] = 0.0
    return _last_unknown(table)


def _last_unknown(table: Predictions) -> Predictions:
    """Return the table as if the last tier knew nothing where it was not asked: only that it is asked counts."""
    lacks = ~table.asked[:, -1]
    columns = {name: getattr(table, name).copy() for name in ("confidence", "cost", "latency")}
    for values in columns.values():
        values[lacks, -1] = 0.0
    return replace(table, **columns)


def _decided(decisions: Decisions, bundle: Bundle, policy: Policy) -> Outcomes | None:
    """Return what a policy would decide before the last tier; None where the log does not hold what it needs."""
    if not decisions.said.asked[:, :-1].all():
        return None
    return replay(policy, _last_unknown(decisions.said))


def corrected(
    files: dict[str, bytes], bundle: Bundle, decisions: Decisions, found: Review, *, digest: str, on: str
) -> bytes:
    """Return a new bundle with the thresholds that reviewed rows prove; the old one stays as it is.

    Parameters
    ----------
    files
        Of the old bundle.
    digest
        Of the old bundle, which the new one's evidence names.
    on
        The day, as it is to stand there.

    Raises
    ------
    StudyError
        If no threshold is proven.
    """
    if found.new is None or found.claim is None:
        raise StudyError(f"There is no threshold to make a bundle of. {found.words}")
    policy, claim = found.new.policy, replace(found.claim, risk=SELECTIVE, certified=True)
    config = bundle.config.model_copy(
        update={"schema_version": SCHEMA_VERSION, "parameters": by_name(policy.pattern, bundle.config.classes)}
    )
    old = bundle.evidence
    sent = _decided(decisions, bundle, policy)
    metrics: dict[str, Any] = {"tune": None, "test": None}
    if sent is not None:
        metrics["production"] = {"n_rows": len(decisions), "escalation_rate": plain(share(sent.asked[:, -1]))}
    evidence = {
        **old,
        "metrics": metrics,
        "suggestion": None,
        "shipped_minus_graded": None,
        "certificate": {
            "promise": f"With probability at least {1 - claim.delta:.0%}, at whatever time it was made, {claim.words}.",
            "risk": claim.risk,
            "alpha": claim.alpha,
            "delta": claim.delta,
            "labelled_rows": found.new.n,
            "groups": None,
            "lowest_threshold": found.new.threshold,
            "parts": [],
            "not_certified": [],
            "contradiction": None,
        },
        "corrected": {
            "from": digest,
            "on": on,
            "reviewed": found.labelled,
            "kept": found.new.n,
            "wrong": found.new.wrong,
            "before": {
                "parameters": by_name(bundle.policy.pattern, bundle.config.classes),
                "metrics": old.get("metrics"),
            },
        },
    }
    golden = {"rows": [row.model_dump() for row in _golden_again(bundle, policy)]}
    new = {name: content for name, content in files.items() if name not in (MANIFEST, SIGNATURE, FILE)}
    new["policy.json"] = config.model_dump_json(indent=2).encode()
    new["golden.json"] = json.dumps(golden, indent=1).encode()
    new["evidence.json"] = json.dumps(evidence, indent=2, allow_nan=False).encode()
    if sent is not None and bundle.reference is not None:
        new |= packed(_reference(decisions, bundle, bundle.reference, sent))
    content = pack_files(new)
    load_bundle(content)  # proves itself before it is handed out
    return content


def _golden_again(bundle: Bundle, policy: Policy) -> list[GoldenRow]:
    """Decide the golden rows with another policy of the same tiers."""
    rows, names = bundle.golden, policy.names
    local = {n: m for n, m in bundle.models.items() if m.answers_alike}
    answers = {
        n: Answers(*(np.array(c) for c in zip(*(r.answers[n] for r in rows), strict=True)))
        for n in names
        if n not in local
    }
    o = decide(bundle.config, policy, local, [r.text for r in rows], answers, bundle.confidences)
    return [
        row.model_copy(
            update={
                "label": int(o.label[i]),
                "tier": names[int(o.tier[i])],
                "confidence": float(o.confidence[i]),
                "cost": float(o.cost[i]),
            }
        )
        for i, row in enumerate(rows)
    ]


def _reference(d: Decisions, bundle: Bundle, old: Reference, sent: Outcomes) -> Reference:
    """Count production's own rows, so that the new bundle is compared with what it was made for."""
    escalated = sent.asked[:, -1]
    sure = d.said.confidence[:, bundle.policy.names.index(watched(bundle.policy))]
    half = float(escalated[::2].mean())  # by which bets are laid; the other half is counted
    rest = np.arange(1, len(d), 2) if len(d) > 1 else np.arange(1)

    def counted(before: Counts, codes: Labels) -> Counts:
        return before.model_copy(update={"counts": np.bincount(codes, minlength=len(before.counts)).tolist()})

    return Reference(
        rows=len(rest),
        side="production",
        tier=old.tier,
        escalation=counted(
            old.escalation.model_copy(update={"expected": [1 - half, half]}), escalated[rest].astype(np.int64)
        ),
        confidence=counted(old.confidence, old.confidence.code(sure[rest][~np.isnan(sure[rest])])),
        seen=old.seen if d.digits.shape[1] else [],
        of=old.of if d.digits.shape[1] else 0,
        texts=[counted(c, d.digits[rest, k]) for k, c in enumerate(old.texts[: d.digits.shape[1]])],
    )


def differences(old: Bundle, new: Bundle) -> list[tuple[str, str, str]]:
    """Return what tells two bundles apart: what it is, before, and after.

    Raises
    ------
    BundleError
        If they are of different tiers or classes, so that it is no change of one policy.
    """
    if old.policy.names != new.policy.names or old.config.classes != new.config.classes:
        raise BundleError("The two bundles have different tiers or classes: one is no change of the other.")
    before, after = (by_name(b.policy.pattern, b.config.classes) for b in (old, new))
    names = [n for n in {**before, **after} if before.get(n) != after.get(n)]
    found = [
        (n, json.dumps(before.get(n), ensure_ascii=False), json.dumps(after.get(n), ensure_ascii=False)) for n in names
    ]

    def said(b: Bundle) -> str:
        claim = claim_of(b)
        return "none" if claim is None else claim.words

    def sends(b: Bundle) -> str:
        rate = promised(b.evidence, "escalation_rate")
        return "not known" if rate is None else f"{rate.value:.1%} of the texts"

    def rests(b: Bundle) -> str:
        made = b.evidence.get("corrected")
        if isinstance(made, dict):
            return f"{made.get('kept')} reviewed decisions of production, on {made.get('on')}"
        n = promised(b.evidence, "n_rows")
        return "labelled rows" if n is None else f"{n.value:,.0f} labelled rows"

    lines = (("promise", said), ("sent to the last tier", sends), ("rests on", rests))
    return [*found, *((what, say(old), say(new)) for what, say in lines if say(old) != say(new))]
