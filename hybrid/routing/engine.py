"""Routing: the only place where a row meets a tier.

A `Pattern` says which tiers it wants on which rows, given what has been seen so far. The engine, `rounds`,
asks for what is wanted and not yet asked, fills in the answers, and repeats until nothing more is wanted.
It does no IO: tuning drives it with recorded answers (`replay`), production with models (`route`, or an
asynchronous loop over the same generator), so that both decide alike by construction.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import combinations, permutations, product
from typing import Any, ClassVar, NamedTuple

import numpy as np

from hybrid.errors import TierError
from hybrid.routing.table import (
    NEVER,
    NONE,
    NONE_LABEL,
    SCOPE,
    UNKNOWN,
    Answers,
    Bools,
    Floats,
    Labels,
    Predictions,
    Rows,
    Tier,
)


class Ask(NamedTuple):
    """A request of the engine: these rows, to this tier (a column of the policy's tiers)."""

    tier: int
    rows: Rows


class Stop(NamedTuple):
    """A place where rows can end: the answers that they get there, and the columns that were asked, round by round."""

    label: Labels
    rounds: tuple[tuple[int, ...], ...]


class Verdict(NamedTuple):
    """A pattern's final word; all arrays of shape ``(n_rows,)``."""

    label: Labels
    tier: Rows  # column of the tier whose answer it is
    confidence: Floats


@dataclass(frozen=True, slots=True)
class Param:
    """What a screen needs to draw a control for one parameter of a pattern."""

    name: str
    label: str
    help: str
    default: Any
    low: float | None = None
    high: float | None = None
    unit: str = ""
    choices: tuple[str, ...] = ()
    threshold: bool = False  # drawn as a curve; the others only get a control
    per_tier: bool = False  # a tuple: one value for each tier that `Pattern.gated` names
    optional: bool = False  # None is a value, and means "off"
    per_class: bool = False  # a tuple by class code; None, or beyond its end: the class has no value of its own


def param(default: Any, *, label: str, help: str, **meta: Any) -> Any:
    """Declare a pattern's parameter together with what a screen needs to draw it.

    Parameters
    ----------
    default
        Used where nothing is chosen; for a parameter per tier, the value of each.
    label, help
        What the user reads.
    **meta
        The other fields of `Param`.
    """
    stored = () if meta.get("per_tier") else default
    return field(default=stored, metadata={"param": dict(label=label, help=help, default=default, **meta)})


@dataclass(frozen=True, slots=True)
class Pattern(ABC):
    """A routing rule: frozen parameters and one question, `wants`."""

    title: ClassVar[str]  # what the user reads
    summary: ClassVar[str]  # one sentence
    min_tiers: ClassVar[int] = 2
    max_tiers: ClassVar[int | None] = None
    picks: ClassVar[bool] = False  # True: a person may pick from the first tier's likeliest answers
    gate_first: ClassVar[bool] = False  # True: gates come first, one or several; their answers are scores, not labels

    @abstractmethod
    def wants(self, seen: Predictions) -> Bools:
        """Return which tiers are wanted on which rows, shape ``(n_rows, n_tiers)``, given what was seen.

        Cells already asked may be wanted again; the engine asks each at most once.
        """

    def answer(self, seen: Predictions) -> Verdict:
        """Return the final answers; unless overridden, those of the last tier asked."""
        last = seen.asked.shape[1] - 1 - np.argmax(seen.asked[:, ::-1], axis=1)
        return pick(seen, last)

    def gauge(self, seen: Predictions, name: str, index: int | None) -> Floats:
        """Return what a threshold is compared with on every row, shape ``(n_rows,)``, for a histogram.

        Unless overridden, the confidence of the tier that the threshold belongs to.
        """
        return seen.confidence[:, index or 0]

    def weighs(self, n_tiers: int) -> tuple[int, ...]:
        """Return the columns whose confidence decides something; unless overridden, of all tiers but the last."""
        return tuple(range(n_tiers - 1))

    def stops(self, seen: Predictions) -> tuple[Stop, ...] | None:
        """Return where rows can end, where a row ends at the first place whose gauge reaches its threshold.

        One place for each threshold that is set, in their order, and one more, where the rest ends. A search reads
        these instead of replaying the policy; tests hold them to the replay.

        Parameters
        ----------
        seen
            What every tier of the policy says of every row.

        Returns
        -------
        tuple of Stop or None
            None, unless overridden: the pattern is replayed.
        """
        return None

    @classmethod
    def ways(cls, tiers: Sequence[Tier]) -> Iterator[Policy]:
        """Yield the policies of this pattern that a search over everything tries, those of few tiers first.

        Their thresholds are at the defaults. Unless overridden: the tiers in every order that `arranged` gives, with
        every choice of what is not a threshold. A pattern that needs a gate says which.

        Parameters
        ----------
        tiers
            From cheap to dear, gates among them.
        """
        for chosen in arranged(tiers, cls.min_tiers, cls.max_tiers):
            yield from variants(cls, chosen)

    @classmethod
    def gated(cls, tiers: Sequence[Tier]) -> tuple[str, ...]:
        """Return the names of the tiers that have a threshold of their own: all but the last."""
        return tuple(t.name for t in tiers[:-1])

    @classmethod
    def params(cls) -> tuple[Param, ...]:
        """Return the parameters, in the order in which they are declared."""
        return tuple(Param(name=f.name, **f.metadata["param"]) for f in fields(cls) if "param" in f.metadata)

    def check(self, tiers: Sequence[Tier]) -> None:
        """Raise `TierError` where the parameters do not fit these tiers."""
        n_tiers = len(tiers)
        if n_tiers < self.min_tiers or (self.max_tiers is not None and n_tiers > self.max_tiers):
            raise TierError(f"{self.title} takes {self._tier_range()} tiers, not {n_tiers}: choose other tiers.")
        gated = len(self.gated(tiers))
        for p in self.params():
            value = getattr(self, p.name)
            if p.per_tier and len(value) != gated:
                raise TierError(
                    f"{self.title} over {n_tiers} tiers needs {gated} values of {p.name!r}, not {len(value)}: "
                    "give one for each tier that can pass a row on."
                )
            for one in value if p.per_tier or p.per_class else (value,):
                _check_value(self.title, p, one)

    def _tier_range(self) -> str:
        if self.max_tiers is None:
            return f"at least {self.min_tiers}"
        return str(self.min_tiers) if self.min_tiers == self.max_tiers else f"{self.min_tiers} to {self.max_tiers}"


def _check_value(title: str, p: Param, value: Any) -> None:
    if value is None:
        if not p.optional and not p.per_class:
            raise TierError(f"{title} needs a value for {p.name!r}.")
    elif p.choices:
        if value not in p.choices:
            raise TierError(f"{title}: {p.name} = {value!r} is not one of {', '.join(p.choices)}.")
    elif isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise TierError(f"{title}: {p.name} = {value!r} must be a finite number.")
    elif (p.low is not None and value < p.low) or (p.high is not None and value > p.high):
        raise TierError(f"{title}: {p.name} = {value} must be between {p.low} and {_limit(p.high)}.")


def _limit(high: float | None) -> str:
    return "1 (or 'never')" if high == NEVER else str(high)


OUT_OF_SCOPE = "scope"  # the name of the threshold above which texts are set aside


@dataclass(frozen=True, slots=True)
class Scope:
    """Which texts are set aside before anybody is asked, and what is answered about them.

    Parameters
    ----------
    threshold
        Texts whose score (the share of known texts that are nearer) is at or above this are set aside; `NEVER`: none.
    label
        The answer about them: `NONE`, or the code of a class that means the same.

    Raises
    ------
    TierError
        If the threshold is out of range, or the label no answer.
    """

    threshold: float
    label: int = NONE

    def __post_init__(self) -> None:
        _check_value("Out of scope", Param(OUT_OF_SCOPE, "", "", 0.99, low=0.0, high=NEVER), self.threshold)
        if self.label < 0 and self.label != NONE:
            raise TierError(f"Out of scope: {self.label} is neither the code of a class nor of {NONE_LABEL!r}.")


@dataclass(frozen=True, slots=True)
class Policy:
    """A pattern with its parameters set, over these tiers, from cheap to dear.

    With a `scope`, the first tier scores how far each text is from anything seen. The pattern sees neither that tier
    nor the texts that are set aside: they go to the person where the last tier is one; else the scope's label is their
    answer.

    Raises
    ------
    TierError
        If the parameters do not fit the tiers.
    """

    pattern: Pattern
    tiers: tuple[Tier, ...]
    scope: Scope | None = None

    def __post_init__(self) -> None:
        self.pattern.check(self.own)
        names = self.names
        if len(set(names)) < len(names):
            raise TierError(
                f"A policy asks each tier once, but its tiers are {', '.join(names)}: remove the repetition."
            )
        if not answering(self.tiers):
            raise TierError(f"{', '.join(names)} gives no answers, it only says whom to ask: add a tier that answers.")
        picking = [t.picks_from for t in self.own if t.picks_from]
        if picking and not (self.pattern.picks and set(picking) == {self.own[0].name}):
            raise TierError(
                f"{self.pattern.title} does not ask {picking[0]!r} before a person picks from its likeliest answers: "
                "choose triage or assisted triage with that tier in front."
            )
        scoring = [t.kind == SCOPE for t in self.tiers]
        if any(scoring[self.scope is not None :]) or (self.scope is not None and not scoring[0]):
            raise TierError(
                "What is out of scope is scored by the first tier, and by no other: give a policy with a scope one "
                "tier of that kind, in front."
            )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(t.name for t in self.tiers)

    @property
    def own(self) -> tuple[Tier, ...]:
        """The tiers that the pattern sees: all but the one that scores the scope."""
        return self.tiers if self.scope is None else self.tiers[1:]

    @property
    def bare(self) -> Policy:
        """The same without a scope."""
        return self if self.scope is None else Policy(self.pattern, self.own)

    def within(self, tier: Tier, scope: Scope) -> Policy:
        """Return the same with another scope, which this tier scores."""
        return Policy(self.pattern, (tier, *self.own), scope)

    @property
    def simulated(self) -> bool:
        """True where a tier's answers are made up; shown wherever the policy's numbers appear."""
        return any(t.simulated for t in self.tiers)

    @property
    def to_person(self) -> bool:
        """Whether texts that are set aside go to a person, who sees an empty form."""
        last = self.tiers[-1]
        return self.scope is not None and last.kind == "human" and not last.picks_from

    def thresholds(self) -> tuple[Threshold, ...]:
        """Return every threshold of the pattern that a curve can be drawn over."""
        found = []
        for p in self.pattern.params():
            value = getattr(self.pattern, p.name)
            if p.threshold and p.per_tier:
                gated = self.pattern.gated(self.own)
                found += [Threshold(p.name, i, p.label.format(tier=t), value[i]) for i, t in enumerate(gated)]
            elif p.threshold:
                found.append(Threshold(p.name, None, p.label, value))
        return tuple(found)

    # what the pattern says, where a scope may stand before it

    def set_aside(self, seen: Predictions) -> Bools:
        """Return which rows are set aside, given what was seen; shape ``(n_rows,)``."""
        if self.scope is None:
            return np.zeros(seen.n_rows, dtype=bool)
        aside: Bools = seen.confidence[:, 0] >= self.scope.threshold  # nan is not: not scored yet
        return aside

    def wants(self, seen: Predictions) -> Bools:
        """Return which tiers are wanted on which rows, shape ``(n_rows, n_tiers)``; see `Pattern.wants`."""
        if self.scope is None:
            return self.pattern.wants(seen)
        aside = self.set_aside(seen)
        inside = seen.asked[:, 0] & ~aside
        wanted = np.ones((seen.n_rows, len(self.tiers)), dtype=bool)
        wanted[:, 1:] = self.pattern.wants(self._rest(seen)) & inside[:, None]
        if self.to_person:
            wanted[:, -1] |= aside
        return wanted

    def answer(self, seen: Predictions) -> Verdict:
        """Return the final answers; see `Pattern.answer`."""
        if self.scope is None:
            return self.pattern.answer(seen)
        aside = self.set_aside(seen)
        found = pick(seen, np.where(aside & self.to_person, len(self.tiers) - 1, 0))
        if not self.to_person:
            found.label[aside] = self.scope.label
        inside = self.pattern.answer(self._rest(seen.take(~aside)))
        for whole, part in zip(found, (inside.label, inside.tier + 1, inside.confidence), strict=True):
            whole[~aside] = part
        return found

    def gauge(self, seen: Predictions, name: str, index: int | None) -> Floats:
        """Return what a threshold is compared with on every row; see `Pattern.gauge`."""
        if name == OUT_OF_SCOPE and self.scope is not None:
            return seen.confidence[:, 0]
        return self.pattern.gauge(self._rest(seen), name, index)

    def weighs(self) -> tuple[int, ...]:
        """Return the columns whose confidence decides something."""
        skipped = len(self.tiers) - len(self.own)
        return (*range(skipped), *(j + skipped for j in self.pattern.weighs(len(self.own))))

    def stops(self, seen: Predictions) -> tuple[Stop, ...] | None:
        """Return where rows that are not set aside can end; see `Pattern.stops`."""
        found = self.pattern.stops(self._rest(seen))
        if found is None or self.scope is None:
            return found
        return tuple(Stop(s.label, ((0,), *(tuple(j + 1 for j in asked) for asked in s.rounds))) for s in found)

    def stop_aside(self, seen: Predictions) -> Stop | None:
        """Return where rows that are set aside end; None without a scope."""
        if self.scope is None:
            return None
        if self.to_person:
            return Stop(seen.label[:, -1], ((0,), (len(self.tiers) - 1,)))
        return Stop(np.full(seen.n_rows, self.scope.label), ((0,),))

    def _rest(self, seen: Predictions) -> Predictions:
        """Return the columns of the pattern's own tiers."""
        if self.scope is None:
            return seen
        columns = (getattr(seen, name)[:, 1:] for name in ("label", "confidence", "cost", "latency"))
        return Predictions(seen.tiers[1:], seen.classes, *columns)


@dataclass(frozen=True, slots=True)
class Threshold:
    """One number of a policy that a curve can be drawn over."""

    name: str  # of the parameter
    index: int | None  # which of its values, for a parameter per tier
    title: str  # what the user reads
    value: float | None  # as it is set; None where it is off


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What a policy decided; arrays of shape ``(n_rows,)``, `asked` ``(n_rows, n_tiers)``."""

    policy: Policy
    label: Labels  # class codes, UNKNOWN or NONE
    tier: Rows  # column in policy.tiers of the tier that answered
    confidence: Floats  # of the final answer
    cost: Floats  # USD per row, every asked tier counted
    latency: Floats  # seconds per row: rounds add, tiers within a round overlap
    asked: Bools
    seen: Predictions  # what every asked tier said: the trace


def known_labels(label: Labels) -> Labels:
    """Return labels with every code that means nothing as UNKNOWN."""
    return np.where((label >= 0) | (label == NONE), label, UNKNOWN)


def pick(seen: Predictions, tier: Rows) -> Verdict:
    """Return, for each row, the answer of the tier in that column."""
    rows = np.arange(seen.n_rows)
    return Verdict(seen.label[rows, tier], tier, seen.confidence[rows, tier])


def rounds(policy: Policy, n_rows: int) -> Generator[list[Ask], Sequence[Answers], Outcomes]:
    """Decide about rows without IO: yields what to ask next, takes the answers, returns the outcomes.

    Parameters
    ----------
    policy
        What to decide by.
    n_rows
        How many rows there are.

    Yields
    ------
    list of Ask
        What is wanted in this round, at most one entry a tier; the tiers may be asked concurrently.
        Send back one `Answers` for each, of the length of its rows.

    Raises
    ------
    TierError
        If an answer has a confidence that is not finite or not in [0, 1], or a cost or latency that is
        negative or not finite; the message names the tier and the row.
    """
    seen = Predictions.unasked(policy.tiers, (), n_rows)
    latency = np.zeros(n_rows)
    while True:
        wanted = policy.wants(seen) & ~seen.asked
        asks = [Ask(j, np.flatnonzero(wanted[:, j])) for j in range(len(policy.tiers)) if wanted[:, j].any()]
        if not asks:
            break
        said = yield asks
        slowest = np.zeros(n_rows)
        for (tier, rows), answers in zip(asks, said, strict=True):
            _check_answers(policy.tiers[tier].name, rows, answers)
            label = known_labels(answers.label)
            seen.label[rows, tier] = label
            # an unknown label may not outbid a known one, whatever its tier says of itself
            seen.confidence[rows, tier] = np.where(
                (label == UNKNOWN) & (not policy.tiers[tier].scores), 0.0, answers.confidence
            )
            seen.cost[rows, tier] = answers.cost
            seen.latency[rows, tier] = answers.latency
            slowest[rows] = np.maximum(slowest[rows], answers.latency)
        latency += slowest
    verdict = policy.answer(seen)
    return Outcomes(
        policy,
        verdict.label,
        verdict.tier,
        verdict.confidence,
        np.nansum(seen.cost, axis=1),
        latency,
        seen.asked,
        seen,
    )


def route(policy: Policy, ask: Callable[[str, Rows], Answers], n_rows: int) -> Outcomes:
    """Decide by asking a function, one tier after the other.

    Parameters
    ----------
    ask
        Called with a tier's name and the rows; returns that tier's answers about them.
    """
    steps = rounds(policy, n_rows)
    try:
        asks = next(steps)
        while True:
            asks = steps.send([ask(policy.tiers[tier].name, rows) for tier, rows in asks])
    except StopIteration as end:
        outcomes: Outcomes = end.value
        return outcomes


def replay(policy: Policy, predictions: Predictions) -> Outcomes:
    """Decide with recorded answers: what the dashboard shows, and the specification of every curve.

    Raises
    ------
    TierError
        If a row is sent to a tier that has no answer for it; take the rows of `answered_by` first.

    Examples
    --------
    >>> import numpy as np
    >>> from hybrid.routing.patterns import Triage
    >>> from hybrid.routing.table import Predictions, Tier
    >>> table = Predictions(
    ...     (Tier("classifier", "classifier"), Tier("llm", "recorded", price=0.003)), ("billing", "shipping"),
    ...     label=np.array([[0, 1], [0, 1]]), confidence=np.array([[0.9, 1.0], [0.6, 1.0]]),
    ...     cost=np.array([[0, 0.003], [0, 0.003]]), latency=np.array([[0, 0.4], [0, 0.4]]))
    >>> replay(Policy(Triage(threshold=0.9), table.tiers), table).tier.tolist()
    [0, 1]
    """
    columns = {name: predictions.answers(predictions.index(name)) for name in policy.names}

    def ask(name: str, rows: Rows) -> Answers:
        answers = columns[name].take(rows)
        absent = np.isnan(answers.confidence)
        if absent.any():
            raise TierError(
                f"Row {rows[absent][0] + 1} is sent to {name!r}, which has no recorded answer for it "
                f"({absent.sum()} such rows): evaluate on the rows that every tier of the policy has answered."
            )
        return answers

    return route(policy, ask, predictions.n_rows)


def answered_by(predictions: Predictions, names: Sequence[str]) -> Bools:
    """Return which rows every one of these tiers has answered, shape ``(n_rows,)``."""
    columns = [predictions.index(name) for name in names]
    answered: Bools = np.all(predictions.asked[:, columns], axis=1)
    return answered


def _check_answers(name: str, rows: Rows, answers: Answers) -> None:
    for what, values in (("confidence", answers.confidence), ("cost", answers.cost), ("latency", answers.latency)):
        if len(values) != len(rows):
            raise TierError(f"{name} was asked about {len(rows)} rows and answered {len(values)}.")
        high = 1.0 if what == "confidence" else np.inf
        bad = ~(np.isfinite(values) & (values >= 0) & (values <= high))
        if bad.any():
            hint = "must be in [0, 1]. Percentages? Divide by 100." if what == "confidence" else "must be 0 or more."
            raise TierError(f"Row {rows[bad][0] + 1}, {name}.{what} = {values[bad][0]}: {hint}")


def defaults(pattern: type[Pattern], tiers: Sequence[Tier], **chosen: Any) -> Pattern:
    """Build a pattern for these tiers: what is chosen, and the declared default of every other parameter."""
    values: dict[str, Any] = {}
    for p in pattern.params():
        default = (p.default,) * len(pattern.gated(tiers)) if p.per_tier else p.default
        values[p.name] = chosen.get(p.name, default)
    return pattern(**values)


ALL_ORDERS = 3  # tiers up to which every order is tried; more are asked from cheap to dear


def answering(tiers: Sequence[Tier]) -> list[Tier]:
    """Return the tiers that give labels of their own: not those that score, nor who picks from another's answers."""
    return [t for t in tiers if not t.scores and not t.picks_from]


def can_end(tier: Tier) -> bool:
    """Whether a tier can have the last word: rules cannot, for they do not know most rows."""
    return tier.kind != "rules" and not tier.scores


def arranged(tiers: Sequence[Tier], least: int, most: int | None = None) -> Iterator[tuple[Tier, ...]]:
    """Yield tiers that answer, few first: up to `ALL_ORDERS` in every order, more from cheap to dear.

    Parameters
    ----------
    tiers
        From cheap to dear.
    least, most
        How many at a time; None: as many as there are.
    """
    answers = answering(tiers)
    for k in range(least, min(len(answers), most or len(answers)) + 1):
        for chosen in (permutations if k <= ALL_ORDERS else combinations)(answers, k):
            if can_end(chosen[-1]):
                yield chosen


def variants(pattern: type[Pattern], tiers: Sequence[Tier], **chosen: Any) -> Iterator[Policy]:
    """Yield the policies over these tiers with every choice of what is not a threshold, save what is chosen."""
    options = {p.name: p.choices for p in pattern.params() if p.choices and p.name not in chosen}
    for values in product(*options.values()):
        picked = dict(zip(options, values, strict=True))
        yield Policy(defaults(pattern, tiers, **picked, **chosen), tuple(tiers))


def parameters(pattern: Pattern) -> Mapping[str, Any]:
    """Return a pattern's parameters by name, at full precision."""
    return {p.name: getattr(pattern, p.name) for p in pattern.params()}
