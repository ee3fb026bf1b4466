"""Recommend: the best policy for a goal over everything, what limits it, and how much of that is luck."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hybrid.errors import TierError
from hybrid.metrics.paired import dearest
from hybrid.metrics.summary import Interval, Summary, cheapest, mean_interval, summarize
from hybrid.metrics.surprise import ALARM, Contradiction, elsewhere, shift, surprise
from hybrid.routing.engine import Policy, Scope, answered_by, answering, replay
from hybrid.routing.patterns import Triage
from hybrid.routing.table import SCOPE, Floats, Labels, Predictions, Rows, Tier
from hybrid.tuning.choosing import (
    PULLS,
    Finalist,
    Judge,
    folds_of,
    held_out_of_choosing,
    hold_out,
    price_of_wrong,
    tune_by_class,
)
from hybrid.tuning.explore import Effort, Explorer, RowSet, Try, every_way, from_cheap, name_of
from hybrid.tuning.fronts import Front
from hybrid.tuning.goals import COST, LEAST_TOTAL, MOST_ACCURATE, TOLERANCE, WRONG, Goal, violation
from hybrid.tuning.search import Found, search, search_by_class

FINALISTS = 24  # ways that are compared on held-out rows
FINAL_ROWS = 400_000  # rows, times finalists, that are held out at most
CLASS_TRIED, CLASS_WAYS = 12, 2  # triages that thresholds per class are tried on, and that are finalists with them
CANDIDATES = 12  # ways that are named
LEANER = 6  # ways without a tier that the chosen one is compared with
POINTS = 120  # of a front that are kept
RELATED = 0.5  # of the most rows: ways that were measured on fewer are not on the front


@dataclass(frozen=True, slots=True)
class Labelled:
    """Rows and their classes; a cell that was not asked is nan.

    `groups` are codes of what belongs together, shape ``(n_rows,)``; None: every row is a group of its own.
    """

    predictions: Predictions
    truth: Labels
    groups: Rows | None = None

    def __len__(self) -> int:
        return len(self.truth)

    def answered(self, names: Sequence[str]) -> Labelled:
        """Return the rows that all of these tiers answered."""
        rows = answered_by(self.predictions, names)
        if rows.all():
            return self
        groups = None if self.groups is None else self.groups[rows]
        return Labelled(self.predictions.take(rows), self.truth[rows], groups)

    @classmethod
    def of(cls, on: RowSet, groups: Rows | None) -> Labelled:
        """Return the rows that a way was tried on; `groups` are those of the whole table."""
        return cls(on.predictions, on.truth, None if groups is None else groups[on.rows])


@dataclass(frozen=True, slots=True)
class Candidate:
    """The best that one way of routing can do for a goal, on tune; `total` is USD per 1,000, where that is the aim."""

    policy: Policy
    feasible: bool
    tune: Summary
    method: str
    exact: bool
    total: float | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """A policy on the front of cost and accuracy, on the tune rows that its own tiers answered."""

    policy: Policy
    cost_per_1000: float
    accuracy: float
    n_rows: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a search is: ways done and dropped, seconds, and the best policy so far, with its sums a row."""

    done: int
    dropped: int
    seconds: float
    best: Policy | None
    cost_per_1000: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Selection:
    """How much of what was gained on tune is due to choosing there.

    Parameters
    ----------
    reference
        The most accurate tier alone, asked about every row: what a saving is measured against.
    n_rows
        Tune rows that were held out, each once, when choosing was repeated without them.
    finalists
        Ways that were compared so.
    cost_on_tune, accuracy_on_tune
        Of the policy on the rows that it was chosen on; cost in USD per 1,000.
    cost_held_out, accuracy_held_out
        Of what is chosen without the rows that it is measured on.
    reference_cost
        Of the reference, on the same rows.
    """

    reference: str
    n_rows: int
    finalists: int
    cost_on_tune: float
    accuracy_on_tune: float
    cost_held_out: float
    accuracy_held_out: float
    reference_cost: float

    @property
    def saved_on_tune(self) -> float:
        """Share of the reference's cost that is saved where the policy was chosen; nan where it costs nothing."""
        return 1 - self.cost_on_tune / self.reference_cost if self.reference_cost else float("nan")

    @property
    def saved_held_out(self) -> float:
        """The same on rows that had no part in choosing."""
        return 1 - self.cost_held_out / self.reference_cost if self.reference_cost else float("nan")

    @property
    def words(self) -> str:
        """Say it in a line."""
        lost = round(100 * (self.accuracy_on_tune - self.accuracy_held_out), 1) + 0.0  # no −0.0
        again = "when choosing is repeated without the rows that are measured"
        if not self.reference_cost:
            end = (
                f"{lost:.1f} points are the luck of choosing."
                if lost >= 0
                else "nothing of it is the luck of choosing."
            )
            return (
                f"{self.accuracy_on_tune:.1%} right on the rows that it was chosen on, {self.accuracy_held_out:.1%} "
                f"{again}: {end}"
            )
        part = round(100 * (self.saved_on_tune - self.saved_held_out), 1) + 0.0
        if part >= 0 and lost >= 0:
            end = f"So {part:.1f} points of the saving and {lost:.1f} of the accuracy are the luck of choosing."
        else:  # another point of the front: more of the one for less of the other
            end = (
                f"So there it saves {abs(part):.1f} points {'less' if part > 0 else 'more'}, and is {abs(lost):.1f} "
                f"points {'less' if lost > 0 else 'more'} accurate."
            )
        return (
            f"On the rows that it was chosen on it saves {self.saved_on_tune:.1%} of what {self.reference} for all "
            f"costs, at {self.accuracy_on_tune:.1%} right; {again}, {self.saved_held_out:.1%} at "
            f"{self.accuracy_held_out:.1%}. {end}"
        )


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What was found for a goal.

    Parameters
    ----------
    policy
        The best; where no policy keeps the limits, the one that breaks them least.
    feasible
        Whether it keeps every limit on tune.
    binding
        The limits without which a better one would have been found; of an infeasible goal, those that are broken.
    method, exact
        How it was found, and whether it is proven best on tune among all ways and all distinct thresholds.
    tune, test
        What it does where it was chosen, and on rows that had no part in that, each on the rows that its own tiers
        answered; `test` None where there are none.
    candidates
        The best of the most promising ways of routing, the best first.
    totals
        Inference cost plus the cost of wrong answers, USD per 1,000, on tune and on test; None where that is not the
        aim, or there are no test rows.
    front, fronts
        The policies that no other beats in cost and accuracy on tune, by rising cost: over everything, and of each
        pattern by its name in the registry. Of two thresholds and more they come from a lattice.
    effort
        How many ways there are, and what became of them.
    selection
        How much of the gain is due to choosing; None where there are too few rows to hold some out.
    n_common
        Tune rows on which the policy was compared with the best other way.
    contradiction
        What test says against it; None where nothing.
    pull
        Rows of the pool that each class's threshold was drawn by; None without a threshold per class.
    """

    goal: Goal
    policy: Policy
    feasible: bool
    binding: tuple[str, ...]
    method: str
    exact: bool
    tune: Summary
    test: Summary | None
    candidates: tuple[Candidate, ...]
    totals: tuple[Interval | None, Interval | None] = (None, None)
    front: tuple[Point, ...] = ()
    fronts: dict[str, tuple[Point, ...]] | None = None
    effort: Effort | None = None
    selection: Selection | None = None
    n_common: int = 0
    contradiction: Contradiction | None = None
    pull: float | None = None

    @property
    def optimism(self) -> float | None:
        """Accuracy on tune minus accuracy on test."""
        return None if self.test is None else self.tune.accuracy.value - self.test.accuracy.value

    def best_of(self, pattern: str) -> Point | None:
        """Return the best policy of one pattern for the goal, on tune; None where none was measured.

        That is the first candidate of the pattern that keeps the limits. Where it was not among the candidates, it is
        found on the pattern's front; where nothing there keeps the limits, it is the point that comes nearest.
        """
        for c in (Candidate(self.policy, self.feasible, self.tune, self.method, self.exact), *self.candidates):
            if c.feasible and name_of(c.policy) == pattern and len(c.policy.own) > 1:
                return Point(c.policy, c.tune.cost_per_1000.value, c.tune.accuracy.value, c.tune.n_rows)
        return min((self.fronts or {}).get(pattern, ()), key=self._rank, default=None)

    def _rank(self, point: Point) -> tuple[float, float, float]:
        """Return what is least for the best point: by how much it breaks a limit, the aim, and the other measure."""
        cost, wrong = point.cost_per_1000, 1 - point.accuracy
        over = max(0.0, (self.goal.floor or 0.0) - point.accuracy - TOLERANCE)
        if self.goal.budget is not None:
            over += max(0.0, cost - self.goal.budget * (1 + TOLERANCE)) / (self.goal.budget or 1.0)
        if self.goal.kind == MOST_ACCURATE:
            return over, wrong, cost
        if self.goal.kind == LEAST_TOTAL and isinstance(self.goal.wrong, int | float):
            return over, cost + 1000 * self.goal.wrong * wrong, wrong
        return over, cost, wrong


def recommend(
    table: Predictions,
    truth: Labels,
    goal: Goal,
    *,
    test: Labelled | None = None,
    groups: Rows | None = None,
    ways: Iterable[Policy] | None = None,
    known: Iterable[Policy] = (),
    order: Sequence[str] | None = None,
    scope: Scope | None = None,
    progress: Callable[[Progress], None] | None = None,
    cancel: Callable[[], bool] | None = None,
    seconds: float = 30.0,
    seed: int = 0,
) -> Recommendation:
    """Find the best policy over everything: which tiers, in which order, which pattern, and all thresholds.

    A way of routing is measured on the rows that its own tiers answered, and compared with another on the rows that
    both answered. Where there are `choosing.LEAST` rows or more, the best ways are compared on rows that had no part in
    setting their thresholds.

    Parameters
    ----------
    table, truth
        Where to choose: every tier, from cheap to dear or not; a cell that was not asked is nan.
    test
        Where to report; the same tiers, with the groups of its rows.
    groups
        The group of each tune row, shape ``(n_rows,)``: rows of one are held out together.
    ways
        Policies whose thresholds are to be set, those of few tiers first; None: those that every pattern declares. See
        `every_way` and `one_way`.
    known
        Policies that were found before, with what is set aside: their ways are tried first, so that a search that ends
        early loses none of them.
    order
        Names of the tiers from cheap to dear; None: by what they cost on these rows.
    scope
        What is set aside before every way, as the table's tier of that kind scores it: the user's choice, which is not
        searched for. Where it is None, nothing is.
    progress
        Called after every way.
    cancel
        Whether to stop now, such as `threading.Event().is_set`; what was found so far is returned.
    seconds
        After which no further way is tried.
    seed
        Of the sample and of the folds.

    Raises
    ------
    TierError
        If there is nothing to choose from or no row to choose on.

    References
    ----------
    Chen, Zaharia & Zou 2020, FrugalML (thresholds per label under a budget); Everett 1963 (a price on a limit); Varma
    & Simon 2006, Bias in error estimation when using cross-validation for model selection.

    Examples
    --------
    >>> from hybrid.routing.table import Tier
    >>> tiers = (Tier("classifier", "classifier"), Tier("llm", "recorded", price=0.003))
    >>> table = Predictions(
    ...     tiers, ("a", "b"), np.array([[0, 0], [1, 0], [1, 1]]), np.array([[0.9, 1], [0.4, 1], [0.7, 1]]),
    ...     np.array([[0, 0.003]] * 3), np.array([[0, 0.4]] * 3))
    >>> found = recommend(table, np.array([0, 0, 1]), Goal("cheapest", floor=1.0))
    >>> found.policy.pattern.threshold, found.exact, found.binding
    (0.7, True, ('accuracy at least 100.0%',))
    """
    tiers = from_cheap(table, order)
    named = {t.name for t in tiers}
    if not len(truth):
        raise TierError("There is no row to choose on: no tune row has an answer.")
    chosen_from = every_way(tiers) if ways is None else ways
    if scope is not None:
        scorer = next(t for t in tiers if t.kind == SCOPE)
        chosen_from = (way.within(scorer, scope) for way in chosen_from)
    say = None if progress is None else (lambda e: progress(_progress(e)))
    explorer = Explorer(table, truth, goal, seconds, say, cancel, seed)
    here = (p for p in known if named.issuperset(p.names) and p.scope == scope)
    explorer.run((w for w in chosen_from if named.issuperset(w.names)), known=here)
    if not explorer.tries:
        raise TierError(
            "There is nothing to choose from: no tune row has an answer from every tier of a policy. Pick other tiers."
        )
    fold = folds_of(len(truth), groups, seed=seed)
    finalists = _finalists(explorer, goal)
    judge = Judge(goal, price_of_wrong(goal, *_main_front(explorer)), groups)
    champion, exact = finalists[0], _proven(explorer)
    if fold is not None:
        for f in finalists:
            if f is finalists[0] or not explorer.over():
                hold_out(f, fold, goal)
        champion = _leaner(explorer, judge.champion(finalists), judge, fold)
        exact &= champion.tried.key <= finalists[0].tried.key
    tried = champion.tried = _trimmed(explorer, champion)
    exact &= tried.found.exact
    on = Labelled.of(tried.on, groups)
    fronts = _fronts(explorer, champion, goal)
    caps = goal.caps(len(on))
    policy = tried.found.policy
    reported = test.answered(policy.names) if test is not None else None
    measured = _measure(policy, reported) if reported is not None and len(reported) else None
    tune = _measure(policy, on)
    common = _n_common(champion, finalists)
    feasible = not violation(tried.found.totals[:, None], caps)[0]
    return Recommendation(
        goal,
        policy,
        feasible,
        _binding(tried.found, on, goal, caps, champion.pull),
        _method(explorer, tried, finalists if fold is not None else [], common),
        exact,
        tune,
        measured,
        _candidates(explorer, finalists, champion, goal, groups),
        (_total(policy, on, goal), _total(policy, reported, goal)),
        front=_points(_together(fronts.values())),
        fronts={name: _points(f) for name, f in fronts.items()},
        effort=explorer.effort,
        selection=None if fold is None else _selection(finalists, champion, judge, fold, table, truth),
        n_common=common,
        contradiction=contradiction(policy, goal, on, reported, measured) if feasible else None,
        pull=champion.pull,
    )


def _progress(explorer: Explorer) -> Progress:
    effort, best = explorer.effort, explorer.best()
    found = (None, float("nan"), float("nan")) if best is None else (best.found.policy, *_cost_and_accuracy(best))
    return Progress(effort.tried + effort.dropped, effort.dropped, effort.seconds, *found)


def _cost_and_accuracy(t: Try) -> tuple[float, float]:
    """Return USD per 1,000 and the share right, on the rows that a way was tried on."""
    return 1000 * float(t.mean[COST]), 1 - float(t.mean[WRONG])


def _finalists(explorer: Explorer, goal: Goal) -> list[Finalist]:
    """Return the ways that are compared on held-out rows, the best on tune first; each pattern's best among them."""
    whole = sorted((t for t in explorer.tries if t.whole), key=lambda t: t.key)
    most = int(np.clip(FINAL_ROWS / max(1, len(whole[0].on)), 4, FINALISTS))
    first = whole[:most]
    for name in dict.fromkeys(t.pattern for t in whole):
        best = next(t for t in whole if t.pattern == name)
        if best not in first:
            first.append(best)
    found = [Finalist(t) for t in first]
    if goal.by_class:
        triages = [t for t in whole if isinstance(t.policy.pattern, Triage)][:CLASS_TRIED]
        apart = {id(t): own for t in triages if (own := tune_by_class(t, goal, PULLS[1])) is not None}
        triages = sorted((t for t in triages if id(t) in apart), key=lambda t: apart[id(t)].key)
        for t in triages[:CLASS_WAYS]:
            found += [] if t in first else [Finalist(t)]
            for pull in PULLS:
                own = tune_by_class(t, goal, pull)
                if own is not None:
                    found.append(Finalist(own, pull))
    return sorted(found, key=lambda f: f.tried.key)


def _leaner(explorer: Explorer, champion: Finalist, judge: Judge, fold: Rows) -> Finalist:
    """Return the champion, or where a tier in it must pay and does not, the best way without that tier.

    What must pay is a tier that is never asked, and one that has the last word though a tier before it is right more
    often: such a way is kept only where it is better beyond chance on held-out rows, or clearly cheaper.
    """
    while True:
        own = champion.tried
        tiers, rivals = set(answering(own.policy.tiers)), []
        for tier in _doubtful(own):
            fewer = [t for t in explorer.tries if t.whole and set(answering(t.policy.tiers)) == tiers - {tier}]
            rivals += sorted((t for t in fewer if t.key[0] <= own.key[0] + TOLERANCE), key=lambda t: t.key)[:LEANER]
        others = [Finalist(t) for t in rivals]
        for f in others:
            hold_out(f, fold, judge.goal)
        found = judge.as_good(champion, others)
        if found is None:
            return champion
        champion = found


def _doubtful(tried: Try) -> list[Tier]:
    """Return the tiers of a way that must pay."""
    on, tiers = tried.on, answering(tried.policy.tiers)
    if len(tiers) < 2:
        return []
    asked = replay(tried.found.policy, on.predictions).asked
    idle = [t for j, t in enumerate(tried.policy.tiers) if t in tiers and not asked[:, j].any()]
    right = [float(np.mean(on.predictions.label[:, on.predictions.index(t.name)] == on.truth)) for t in tiers]
    last = [tiers[-1]] if right[-1] < max(right[:-1]) else []
    return list(dict.fromkeys([*idle, *last]))


def _trimmed(explorer: Explorer, champion: Finalist) -> Try:
    """Return the way of fewest tiers that does on tune what a champion does: one that is never asked is not in it."""
    tried = champion.tried
    over, aim, tie = tried.key
    for t in explorer.tries:  # those of few tiers first
        if t.on is tried.on and t.whole and set(t.policy.names) < set(tried.policy.names):
            same = t.key[0] <= over + TOLERANCE and t.key[1] <= aim + TOLERANCE * max(1e-9, abs(aim))
            if same and t.key[2] <= tie + TOLERANCE * max(1e-9, abs(tie)):
                champion.pull = None
                return t
    return tried


def _proven(explorer: Explorer) -> bool:
    """Whether nothing that was declared can be better than the best of what was tried."""
    return not explorer.left and all(t.whole and t.settled for t in explorer.tries)


def _main_front(explorer: Explorer) -> tuple[Floats, Floats]:
    """Return cost and share of wrong answers of the front over everything, on the rows of the best way."""
    best = explorer.best()
    together = Front()
    for (_, on), front in explorer.fronts.items():
        if best is not None and on == id(best.on):
            together.add(front.cost, front.wrong, None, np.zeros((len(front.cost), 0)))
    return together.cost, together.wrong


def _fronts(explorer: Explorer, champion: Finalist, goal: Goal) -> dict[str, Front]:
    """Return the front of each pattern over the ways that were measured on many rows, the chosen policy's point too."""
    most = max(len(t.on) for t in explorer.tries)
    found: dict[str, Front] = {}
    for (name, _), front in explorer.fronts.items():
        owners = front.owners()
        if owners and len(owners[0].on) >= RELATED * most:
            into = found.setdefault(name, Front())
            for cost, wrong, owner, values in front.points():
                into.add(np.array([cost]), np.array([wrong]), owner, values[None])
    t = champion.tried
    into = found.setdefault(t.pattern, Front())
    into.add(np.array([t.mean[COST]]), np.array([t.mean[WRONG]]), t, np.zeros((1, 0)))
    return found


def _together(fronts: Iterable[Front]) -> Front:
    whole = Front()
    for front in fronts:
        for cost, wrong, owner, values in front.points():
            whole.add(np.array([cost]), np.array([wrong]), owner, values[None])
    return whole


def _points(front: Front) -> tuple[Point, ...]:
    points = front.points()
    if len(points) > POINTS:
        points = [points[i] for i in np.unique(np.linspace(0, len(points) - 1, POINTS).astype(np.intp))]
    return tuple(Point(owner.placed(values), 1000 * c, 1 - w, len(owner.on)) for c, w, owner, values in points)


def _candidates(
    explorer: Explorer, finalists: Sequence[Finalist], champion: Finalist, goal: Goal, groups: Rows | None
) -> tuple[Candidate, ...]:
    """Return the chosen way and the best others, one of each pattern over the same tiers."""
    seen: dict[tuple[str, tuple[str, ...], bool], Try] = {}
    for f in (champion, *finalists):
        t = f.tried
        seen.setdefault((t.pattern, t.policy.names, f.pull is not None), t)
    found = []
    for t in list(seen.values())[:CANDIDATES]:
        total = 1000 * float(t.found.totals[0]) / t.n_rows if goal.kind == LEAST_TOTAL else None
        on = Labelled.of(t.on, groups)
        policy = t.found.policy
        found.append(Candidate(policy, not t.key[0], _measure(policy, on), t.found.method, t.found.exact, total))
    return tuple(found)


def _method(explorer: Explorer, tried: Try, finalists: Sequence[Finalist], common: int) -> str:
    effort = explorer.effort
    said = [tried.found.method]
    if effort.ways > 1:
        what = f"the best of {effort.ways:,} ways of routing: {effort.tried:,} searched"
        if effort.dropped:
            what += f", {effort.dropped:,} dropped by a bound"
        if effort.left:
            what += f", {effort.left:,} left out"
        if effort.sketched:
            what += f", {effort.sketched:,} of them on a sample of rows only"
        said.append(what)
    if len(finalists) > 1:
        said.append(f"chosen among the best {len(finalists)} on {common:,} held-out tune rows")
    return "; ".join(said)


def _selection(
    finalists: Sequence[Finalist], champion: Finalist, judge: Judge, fold: Rows, table: Predictions, truth: Labels
) -> Selection | None:
    """Repeat choosing without the rows that it is measured on."""
    on = champion.on
    found = held_out_of_choosing(finalists, judge, fold, on)
    if found is None:
        return None
    measures, rows = found
    alone = {}
    for j, t in enumerate(on.predictions.tiers):
        asked = ~np.isnan(on.predictions.confidence[:, j])
        if t.kind != "rules" and not t.scores and not t.picks_from and asked.all():
            alone[t.name] = float(np.mean(on.predictions.label[:, j] == on.truth))
    if not alone:
        return None
    reference = max(alone, key=alone.__getitem__)
    j = table.index(reference)
    return Selection(
        reference,
        len(rows),
        len(finalists),
        1000 * float(champion.tried.mean[COST]),
        1 - float(champion.tried.mean[WRONG]),
        1000 * float(measures[COST].mean()),
        1 - float(measures[WRONG].mean()),
        1000 * float(table.cost[rows, j].mean()),
    )


def _n_common(champion: Finalist, finalists: Sequence[Finalist]) -> int:
    others = [f for f in finalists if f is not champion and f.on is not champion.on]
    if not others:
        return len(champion.on)
    return int(np.isin(champion.on.rows, others[0].on.rows).sum())


def contradiction(
    policy: Policy, goal: Goal, on: Labelled, test: Labelled | None, measured: Summary | None, *, level: float = ALARM
) -> Contradiction | None:
    """Return what test says against a policy that keeps its limits on tune; None where nothing.

    Parameters
    ----------
    on, test
        The rows that every tier of the policy answered: those that it was chosen on, and others.
    measured
        What it does on test.
    level
        How often a floor may be called missed that is kept.
    """
    if test is None or measured is None:
        return None
    accuracy, cost = measured.accuracy, measured.cost_per_1000
    said, p_value = [], float("nan")
    if goal.floor is not None:
        right = replay(policy, test.predictions).label == test.truth
        p_value = surprise(right, goal.floor, groups=test.groups)
        if p_value <= level:
            said.append(
                f"On test it is {accuracy.value:.1%} accurate (95% {accuracy.low:.1%} to {accuracy.high:.1%}), below "
                f"the floor of {goal.floor:.1%}"
            )
    if goal.budget is not None and cost.low > goal.budget:
        money = f"${cost.value:.4g} per 1,000 (95% from ${cost.low:.4g})"
        said.append(f"On test it costs {money}, above the budget of ${goal.budget:.4g}")
    if not said:
        return None
    alone = [elsewhere(side.predictions.select(policy.names), side.truth) for side in (on, test)]
    return Contradiction("; ".join(said), p_value, shift(*alone, groups=(on.groups, test.groups)))


def _total(policy: Policy, on: Labelled | None, goal: Goal) -> Interval | None:
    if goal.kind != LEAST_TOTAL or on is None or not len(on):
        return None
    outcomes = replay(policy, on.predictions)
    total = goal.total_cost(outcomes, on.truth)
    most = dearest(outcomes) + goal.dearest_mistake  # what was not seen may still come
    return mean_interval(1000 * total, groups=on.groups, least=1000 * cheapest(outcomes), most=1000 * most)


def _measure(policy: Policy, on: Labelled) -> Summary:
    return summarize(replay(policy, on.predictions), on.truth, groups=on.groups)


def _binding(chosen: Found, on: Labelled, goal: Goal, caps: Floats, pull: float | None) -> tuple[str, ...]:
    broken = chosen.totals[2:] > caps
    if broken.any():
        return tuple(words for words, over in zip(goal.limits, broken, strict=True) if over)
    found = []
    for free in (replace(goal, floor=None), replace(goal, budget=None), replace(goal, seconds=None)):
        if free == goal:
            continue
        without = search_like(chosen.policy, on, free, pull=pull)
        if without.totals[0] < chosen.totals[0] * (1 - 1e-9) - 1e-12:
            found.append(next(w for w in goal.limits if w not in free.limits))
    return tuple(found)


def search_like(
    policy: Policy, on: Labelled, goal: Goal, weights: Floats | None = None, *, pull: float | None = None
) -> Found:
    """Search again in the same way of routing: with thresholds per class where the policy has them."""
    if isinstance(policy.pattern, Triage) and policy.pattern.by_class:
        return search_by_class(policy, on.predictions, on.truth, goal, weights=weights, pull=pull or 0.0)
    return search(policy, on.predictions, on.truth, goal, weights=weights)
