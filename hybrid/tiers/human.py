"""The human tier: a person as the last resort, with a price, minutes, and only so many cases a day; simulated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hybrid.errors import TierError
from hybrid.routing.table import TOP, Answers, Floats, Labels, Tier
from hybrid.tiers.whatif import DECIMALS, WhatIf, uniform

PERSON = "person"
STREAM = 7919  # the person's luck is not the what-if LLM's, whatever the seed
DAYS = 250  # working days that a queue is followed
RUNS = 40  # times
MONTH = 30.0  # days


@dataclass(frozen=True, slots=True)
class Human:
    """A person who answers cases, right as often as the user says; nobody was asked, so it is simulated.

    Parameters
    ----------
    accuracy
        Expected share of right answers, in [0, 1]; also the confidence of each answer, since people give none.
    cost
        USD per case.
    minutes
        Of work per case.
    capacity
        Cases a day that all people together get done.
    seed
        As for the what-if LLM: the same seed gives a text the same answer.

    Raises
    ------
    TierError
        If a number is out of range.
    """

    accuracy: float = 0.97
    cost: float = 2.5
    minutes: float = 4.0
    capacity: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.accuracy <= 1:
            raise TierError(f"A person's accuracy {self.accuracy} must be in [0, 1]. Percentages? Divide by 100.")
        if not (self.cost >= 0 and self.minutes >= 0 and self.capacity >= 0):
            raise TierError(
                f"A person's cost {self.cost}, minutes {self.minutes} and capacity {self.capacity} must be 0 or more."
            )

    @property
    def tier(self) -> Tier:
        return Tier(PERSON, "human", price=self.cost, simulated=True)

    def answer(self, truth: Labels, key: NDArray[np.uint64], *, n_classes: int) -> Answers:
        """Make up answers; the arguments are those of `WhatIf.answer`."""
        worker = WhatIf(self.accuracy, self.cost, 60 * self.minutes, self.seed + STREAM, PERSON)
        made_up = worker.answer(truth, key, n_classes=n_classes)
        return Answers(made_up.label, np.full(len(truth), self.accuracy), made_up.cost, made_up.latency)


@dataclass(frozen=True, slots=True)
class Assist:
    """The same person, shown a tier's three likeliest answers to pick from; simulated.

    Whether the right answer is among the three is known of every row, and is not made up. Where it is, the person picks
    it as often as `accuracy` says; where it is not, one of the three is picked, and is wrong: whoever lets people type
    another answer gets more than this.

    Parameters
    ----------
    accuracy
        Share of right picks where the right answer is shown, in [0, 1].
    cost
        USD per case.
    minutes
        Of work per case.
    seed
        As for the person.

    Raises
    ------
    TierError
        If a number is out of range.
    """

    accuracy: float = 0.99
    cost: float = 1.0
    minutes: float = 1.5
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.accuracy <= 1:
            raise TierError(f"The accuracy of picking {self.accuracy} must be in [0, 1]. Percentages? Divide by 100.")
        if not (self.cost >= 0 and self.minutes >= 0):
            raise TierError(f"The cost {self.cost} and minutes {self.minutes} of picking must be 0 or more.")

    def tier(self, of: str) -> Tier:
        """Return the tier of picking from another tier's answers."""
        return Tier(f"{PERSON} (top {TOP} of {of})", "human", price=self.cost, simulated=True, picks_from=of)

    def answer(self, truth: Labels, key: NDArray[np.uint64], likely: Labels) -> Answers:
        """Make up answers.

        Parameters
        ----------
        truth, key
            As of `WhatIf.answer`.
        likely
            The answers that are shown, shape ``(n_rows, TOP)``.
        """
        seed = self.seed + STREAM + 1
        luck, other = uniform(key, seed, 0), uniform(key, seed, 1)
        shown = likely == truth[:, None]
        # a wrong pick is one of those shown that are wrong, each as likely
        place = np.argsort(shown, axis=1, kind="stable")
        n_wrong = np.maximum((~shown).sum(axis=1), 1)
        wrong = likely[np.arange(len(truth)), place[np.arange(len(truth)), (other * n_wrong).astype(np.intp)]]
        hit = shown.any(axis=1)
        n = len(truth)
        return Answers(
            np.where(hit & (luck < self.accuracy), truth, wrong),
            np.full(n, round(self.accuracy * float(hit.mean()), DECIMALS) if n else 0.0),
            np.full(n, self.cost),
            np.full(n, 60 * self.minutes),
        )


@dataclass(frozen=True, slots=True)
class Workload:
    """What a stream of cases does to people who get only so many done a day.

    Parameters
    ----------
    cases
        A day, on average.
    capacity
        Cases a day.
    use
        Share of the capacity that is needed; above 1 there is no end to the queue. nan without capacity and cases.
    hours
        Of work a day, for the cases that are done.
    queue, queue_high
        Cases that wait at the end of a day: mean and 95th percentile of a settled queue, simulated day by day with
        as many cases as chance brings (Poisson); nan where it does not settle.
    growth
        Cases a day by which the queue grows where it does not settle, else 0.
    over
        Share of the cases that are more than can be done, in the long run.
    """

    cases: float
    capacity: float
    use: float
    hours: float
    queue: float
    queue_high: float
    growth: float
    over: float

    def wait(self, days: float) -> float:
        """Return how many days a case waits that comes in after so many days: what then stands before it."""
        if not self.capacity:
            return float("inf") if self.cases else 0.0
        return (self.growth * days if self.growth else self.queue) / self.capacity


def workload(human: Human, cases: float, *, seed: int = 0) -> Workload:
    """Return the load of so many cases a day.

    Parameters
    ----------
    cases
        A day, on average.
    seed
        Of the days that are simulated.

    Notes
    -----
    Queue at the end of a day: q ← max(q + arrivals − capacity, 0), Lindley's recursion over days.

    References
    ----------
    Lindley 1952, The theory of queues with a single server.

    Examples
    --------
    >>> calm, flooded = workload(Human(capacity=100), 50), workload(Human(capacity=100), 130)
    >>> calm.use, calm.queue, flooded.growth, round(flooded.over, 3)
    (0.5, 0.0, 30.0, 0.231)
    """
    capacity = float(human.capacity)
    done = min(cases, capacity)
    use = cases / capacity if capacity else (float("inf") if cases else float("nan"))
    hours = done * human.minutes / 60
    if cases >= capacity:
        growth = cases - capacity
        nan = float("nan")
        settled = (nan, nan) if cases else (0.0, 0.0)
        return Workload(cases, capacity, use, hours, *settled, growth, growth / cases if cases else 0.0)
    waits = _follow(cases, capacity, seed)
    return Workload(cases, capacity, use, hours, float(waits.mean()), float(np.quantile(waits, 0.95)), 0.0, 0.0)


def _follow(cases: float, capacity: float, seed: int) -> Floats:
    """Return the queue at the end of each day of the second half, in all runs."""
    arrivals = np.random.default_rng(seed).poisson(cases, (DAYS, RUNS))
    queue = np.zeros(RUNS)
    kept = []
    for day in range(DAYS):
        queue = np.maximum(queue + arrivals[day] - capacity, 0.0)
        if day >= DAYS // 2:
            kept.append(queue)
    return np.concatenate(kept)
