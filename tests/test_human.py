"""The human tier: simulated and labelled so, and what a day's cases do to a queue."""

import math

import numpy as np
import pytest
from conftest import study_of, table_of

from hybrid.errors import TierError
from hybrid.routing.engine import Policy, replay
from hybrid.routing.patterns import Cascade, Triage
from hybrid.routing.table import Predictions, Tier
from hybrid.tiers.human import Human, workload
from hybrid.tiers.whatif import WhatIf

KEYS = np.random.default_rng(0).integers(0, 2**63, 20_000).astype(np.uint64)
TRUTH = np.random.default_rng(1).integers(0, 5, 20_000)


def test_a_person_is_right_as_often_as_said_and_is_marked_as_simulated():
    human = Human(accuracy=0.9)
    answers = human.answer(TRUTH, KEYS, n_classes=5)
    assert (answers.label == TRUTH).mean() == pytest.approx(0.9, abs=0.01)
    assert set(answers.confidence) == {0.9}
    assert set(answers.cost) == {2.5}
    assert set(answers.latency) == {240.0}
    assert human.tier.simulated
    assert human.tier.kind == "human"


def test_a_persons_luck_is_not_the_llms():
    person = Human(accuracy=0.8).answer(TRUTH, KEYS, n_classes=5).label == TRUTH
    llm = WhatIf(accuracy=0.8).answer(TRUTH, KEYS, n_classes=5).label == TRUTH
    assert abs(np.corrcoef(person, llm)[0, 1]) < 0.03


def test_a_better_person_only_turns_wrong_answers_right():
    worse, better = (Human(accuracy=a).answer(TRUTH, KEYS, n_classes=5).label == TRUTH for a in (0.8, 0.9))
    assert not (worse & ~better).any()


@pytest.mark.parametrize("bad", [{"accuracy": 97}, {"accuracy": -0.1}, {"cost": -1}, {"minutes": -1}, {"capacity": -1}])
def test_numbers_out_of_range_are_refused(bad):
    with pytest.raises(TierError):
        Human(**bad)


def test_a_person_is_the_last_tier_before_the_gates(recording):
    table = table_of(study_of(recording, whatif=WhatIf(), human=Human()))
    kinds = [t.kind for t in table.tiers]
    assert kinds.index("human") == kinds.index("whatif") + 1
    assert all(k == "gate" for k in kinds[kinds.index("human") + 1 :])


def test_a_person_ends_any_pattern_and_costs_what_it_costs(recording):
    table = table_of(study_of(recording, whatif=WhatIf(), human=Human(cost=1.0)))
    names = ["classifier", "what-if LLM", "person"]
    policy = Policy(Cascade((0.9, 0.97)), table.select(names).tiers)
    outcomes = replay(policy, table)
    asked = outcomes.asked[:, 2]
    assert 0 < asked.mean() < 1
    assert (outcomes.cost[asked] > 1).all()
    assert (outcomes.cost[~asked] < 0.01).all()
    assert policy.simulated


def test_below_capacity_the_queue_settles():
    calm = workload(Human(capacity=100, minutes=6), 95)
    assert calm.use == pytest.approx(0.95)
    assert calm.hours == pytest.approx(9.5)
    assert (calm.growth, calm.over) == (0, 0)
    assert 0 < calm.queue < calm.queue_high
    assert calm.wait(1) == calm.wait(100) == pytest.approx(calm.queue / 100)
    assert workload(Human(capacity=100), 50).queue < calm.queue < workload(Human(capacity=100), 99).queue


def test_the_queue_is_that_of_the_recursion():
    """One case a day for one a day of capacity 2: P(q > 0) is small and computed by hand from Poisson(1)."""
    found = workload(Human(capacity=2), 1.0)
    # stationary law of q' = max(q + A - 2, 0), A ~ Poisson(1), by iterating it
    law = np.zeros(60)
    law[0] = 1
    arrivals = np.array([math.exp(-1) / math.factorial(k) for k in range(20)])
    for _ in range(500):
        spread = np.convolve(law, arrivals)
        law = np.concatenate([[spread[:3].sum()], spread[3:62]])[:60]
    assert found.queue == pytest.approx(float(law @ np.arange(60)), rel=0.1)


def test_above_capacity_it_grows_by_what_is_too_much():
    flooded = workload(Human(capacity=100), 130)
    assert flooded.growth == 30
    assert flooded.over == pytest.approx(30 / 130)
    assert math.isnan(flooded.queue)
    assert flooded.wait(10) == pytest.approx(3.0)  # 300 cases stand before it, 100 a day


def test_nobody_there_and_nothing_to_do():
    assert workload(Human(capacity=0), 5).wait(1) == math.inf
    idle = workload(Human(capacity=0), 0)
    assert (idle.over, idle.growth, idle.queue) == (0, 0, 0)


def test_what_is_too_much_may_keep_the_machines_answer():
    from hybrid.dashboard.tune.human_panel import overflow

    tiers = (Tier("classifier", "classifier"), Tier("person", "human", price=1.0, simulated=True))
    label = np.array([[0, 0], [0, 1], [0, 1], [1, 1]])
    confidence = np.array([[0.9, 1.0], [0.4, 1.0], [0.3, 1.0], [0.2, 1.0]])
    zero = np.zeros((4, 2))
    truth = np.array([0, 1, 1, 1])
    table = Predictions(tiers, ("a", "b"), label, confidence, zero, zero)
    outcomes = replay(Policy(Triage(0.5), tiers), table)
    after = overflow(outcomes, truth, [1], 0.5)
    # the person gets three right; the classifier would have had one of them: half of the two others are lost
    assert (after.accuracy, after.kept, after.share) == (1.0, 0.75, 0.75)
    assert overflow(outcomes, truth, [1], 0.0).kept == 1.0
