"""Quick numbers are those of the replay."""

from dataclasses import asdict, replace

import numpy as np
import pytest
from conftest import cases, groupings
from hypothesis import given
from hypothesis import strategies as st

from hybrid.metrics.flips import Chain, chain_thresholds
from hybrid.metrics.quick import chain_against_one, summarize_chain
from hybrid.metrics.summary import paired_difference, summarize
from hybrid.routing.engine import Policy, replay
from hybrid.routing.patterns import Triage


def close(a, b):
    """Compare nested numbers; nan equals nan."""
    for name, x in asdict(a).items():
        y = asdict(b)[name]
        flat = [v if v is not None else -1 for v in (x.values() if isinstance(x, dict) else np.atleast_1d(x))]
        other = [v if v is not None else -1 for v in (y.values() if isinstance(y, dict) else np.atleast_1d(y))]
        assert flat == pytest.approx(other, abs=1e-9, nan_ok=True), name


def draw(case, data):
    policy, predictions, truth = case
    if isinstance(policy.pattern, Triage):  # thresholds per class take no short cut
        policy = replace(policy, pattern=Triage(policy.pattern.threshold))
    if data.draw(st.booleans()):
        predictions.cost[:], predictions.latency[:] = [0.25, 0.5, 0.75, 1.0][: predictions.cost.shape[1]], 0.1
    return policy, predictions, truth, Chain.of(policy, predictions, truth)


@given(cases(names=("triage", "cascade"), scoped=False), st.data())
def test_a_chain_is_summarized_as_its_replay(case, data):
    policy, predictions, truth, chain = draw(case, data)
    groups = data.draw(groupings(len(truth)))
    found = summarize_chain(chain, chain_thresholds(policy), truth, groups=groups)
    close(found, summarize(replay(policy, predictions), truth, groups=groups))


@given(cases(names=("triage", "cascade"), scoped=False), st.data())
def test_a_chain_is_compared_with_a_tier_alone_as_the_replays_are(case, data):
    policy, predictions, truth, chain = draw(case, data)
    groups = data.draw(groupings(len(truth)))
    first, last = policy.tiers[0], policy.tiers[-1]
    alone = replay(Policy(Triage(threshold=0.0), (first, last)), predictions)
    close(
        chain_against_one(chain, chain_thresholds(policy), 0, groups=groups),
        paired_difference(alone, replay(policy, predictions), truth, groups=groups),
    )
