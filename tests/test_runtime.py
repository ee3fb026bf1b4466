"""Runtime: functions that say what a table holds decide as its replay does, and what fails costs no other text."""

import asyncio
import time
from dataclasses import replace

import numpy as np
import pytest
from conftest import CLASSES, cases, table
from hypothesis import given, settings
from hypothesis import strategies as st

import hybrid
from hybrid.errors import BundleError, TierError
from hybrid.production.bundle import load_bundle, save_bundle
from hybrid.production.runtime import Decision, Runtime, Step, _each, _number
from hybrid.routing.engine import Policy, replay
from hybrid.routing.patterns import PATTERNS, Cascade, Ensemble, Triage
from hybrid.routing.table import NONE, NONE_LABEL, UNKNOWN, Answers, Tier

LABELS = (*CLASSES, NONE_LABEL, None)  # read from the end: NONE, UNKNOWN


def packed(policy, recorded, texts, **more):
    """Return a bundle that holds no model: each tier is a function of whoever loads it."""
    return save_bundle(policy=policy, classes=CLASSES, models={}, texts=texts, recorded=recorded, evidence={}, **more)


def functions_of(recorded, texts, asked=None):
    """Return a function for each tier that says what the table holds of a text."""
    row = {text: i for i, text in enumerate(texts)}

    def function(j, name):
        async def answer(given):  # without a thread
            if asked is not None:
                asked.extend((name, text) for text in given)
            return [
                hybrid.Answer(LABELS[recorded.label[i, j]], recorded.confidence[i, j], recorded.cost[i, j], (i + 1, j))
                for i in map(row.get, given)
            ]

        return answer

    return {t.name: function(j, t.name) for j, t in enumerate(recorded.tiers)}


def plain(decision):
    return decision.label, decision.confidence, decision.tier, decision.fallback, steps(decision)


def steps(decision):
    return [(s.tier, s.label, s.confidence, s.cost, s.prompt_tokens, s.completion_tokens) for s in decision.trace]


@settings(max_examples=25)
@given(cases([name for name, kind in PATTERNS.items() if not kind.picks or kind.min_tiers < 3]), st.data())
def test_functions_decide_as_the_replay_of_what_they_say(case, data):
    """Any policy: asked all at once, with a tier's answers known before, and beside a tier that answers everything."""
    policy, recorded, _ = case
    shown = replay(policy, recorded)

    texts = [f"row {i}" for i in range(recorded.n_rows)]
    asked = []
    functions = functions_of(recorded, texts, asked)
    pipeline = hybrid.load(packed(policy, recorded, texts), models=functions)
    expected = [
        (
            LABELS[shown.label[i]],
            shown.confidence[i],
            policy.names[shown.tier[i]],
            False,
            [
                (
                    policy.names[j],
                    LABELS[shown.seen.label[i, j]],
                    shown.seen.confidence[i, j],
                    recorded.cost[i, j],
                    i + 1,
                    j,
                )
                for j in np.flatnonzero(shown.asked[i])
            ],
        )
        for i in range(len(texts))
    ]
    decisions = pipeline.decide(texts)
    assert [plain(d) for d in decisions] == expected
    assert [d.cost for d in decisions] == pytest.approx(shown.cost)
    assert all(d.latency >= max(s.latency for s in d.trace) >= 0 for d in decisions)
    assert sorted(asked) == sorted((step[0], texts[i]) for i, row in enumerate(expected) for step in row[4])

    j = data.draw(st.integers(0, len(policy.tiers) - 1))
    name = policy.names[j]
    answers = recorded.answers(j)
    asked.clear()
    known = asyncio.run(pipeline.outcomes(texts, known={name: answers}))
    assert name not in dict(asked)
    for what in ("label", "tier", "confidence", "cost"):
        np.testing.assert_allclose(getattr(known, what), getattr(shown, what))
    assert [d.label for d in pipeline.explain(known)] == [d.label for d in decisions]
    said = asyncio.run(functions[name](texts))
    asked.clear()
    knowing = asyncio.run(pipeline.knowing(name, said, texts))
    assert name not in dict(asked)
    assert [plain(d)[:4] for d in knowing] == [row[:4] for row in expected]
    asked.clear()
    alone, beside = asyncio.run(pipeline.beside(name, texts))
    assert [plain(d) for d in beside] == expected
    assert sorted(text for n, text in asked if n == name) == sorted(texts)
    assert [(d.tier, d.label, d.cost, len(d.trace)) for d in alone] == [
        (name, LABELS[answers.label[i]], answers.cost[i], 1) for i in range(len(texts))
    ]


def three(rows, **more):
    """Return a cascade over three functions, none of which is ever sure enough, that decides these rows."""
    tiers = tuple(Tier(name, "recorded", price) for name, price in (("a", 0.1), ("b", 0.2), ("c", 0.4)))
    recorded = table(tiers, rows)
    texts = [f"row {i}" for i in range(len(rows))]
    policy = Policy(Cascade((1.0, 1.0)), tiers)
    return texts, recorded, load_bundle(packed(policy, recorded, texts, **more))


def failing(function, *texts):
    async def answer(given):
        if set(texts) & set(given):
            raise OSError("down")
        return await function(given)

    return answer


FALLBACKS = [  # what a, b and c say (None: the call fails), and what is decided: label, tier, fallback
    ([(0, 0.3), (1, 0.6), None], ("shipping", "b", 0.6, True)),
    ([(0, 0.5), (1, 0.5), None], ("billing", "a", 0.5, True)),  # the first of equals
    ([(UNKNOWN, 0.0), (NONE, 0.2), None], (NONE_LABEL, "b", 0.2, True)),
    ([(0, 0.0), (UNKNOWN, 0.0), None], ("billing", "a", 0.0, True)),
    ([(UNKNOWN, 0.0), (UNKNOWN, 0.0), None], (None, "c", 0.0, False)),
    ([(0, 0.5), (1, 0.9), (2, 0.1)], ("technical", "c", 0.1, False)),
    ([(0, 0.5), None, (2, 0.1)], ("technical", "c", 0.1, False)),
    ([(0, 0.5), None, (UNKNOWN, 0.0)], ("billing", "a", 0.5, True)),
    ([(0, 0.5), (1, 0.9), (UNKNOWN, 0.0)], (None, "c", 0.0, False)),  # nothing failed: as in the table
]


@pytest.mark.parametrize("on_failure", ["best_so_far", "unknown"])
def test_where_a_call_fails_the_surest_answer_so_far_stands_in(on_failure, caplog):
    rows = [[cell or (UNKNOWN, 0.0) for cell in row] for row, _ in FALLBACKS]
    texts, recorded, bundle = three(rows, on_failure=on_failure)
    functions = {
        name: failing(function, *(texts[i] for i, (row, _) in enumerate(FALLBACKS) if row[j] is None))
        for j, (name, function) in enumerate(functions_of(recorded, texts).items())
    }
    decisions = Runtime(bundle, functions).decide(texts)
    for i, (row, (label, tier, confidence, fallback)) in enumerate(FALLBACKS):
        found = decisions[i]
        if fallback and on_failure == "unknown":
            label, tier, confidence, fallback = None, "c", 0.0, False
        assert (found.label, found.tier, found.confidence, found.fallback) == (label, tier, confidence, fallback)
        assert [s.failure for s in found.trace] == ["OSError: down" if cell is None else None for cell in row]
        assert found.cost == pytest.approx(sum(p for p, cell in zip((0.1, 0.2, 0.4), row, strict=True) if cell))
    assert "b gave no answer to 2 of 9 texts; to text 7 of the batch: OSError" in caplog.text
    assert "c gave no answer to 5 of 9 texts; to text 1 of the batch: OSError" in caplog.text


def asked_of(n, fails, until=None):
    """Return the calls about texts of which some fail, what was said, and why nothing was."""
    calls = []

    async def call(texts):
        calls.append(texts)
        if set(texts) & fails:
            raise ValueError("x" * 400)
        return [text * 10 for text in texts]

    parts, why = asyncio.run(_each(call, list(range(n)), until))
    return calls, {k: said for part, answers in parts for k, said in zip(part, answers, strict=True)}, why


def test_a_failing_call_is_halved_down_to_the_text_that_it_fails_on():
    calls, said, why = asked_of(5, {3})
    assert calls == [[0, 1, 2, 3, 4], [0, 1], [2, 3, 4], [2], [3, 4], [3], [4]]
    assert said == {0: 0, 1: 10, 2: 20, 4: 40}
    assert why == {3: ("ValueError: " + "x" * 400)[:300]}
    calls, said, why = asked_of(100, set(range(100)))
    assert len(calls) == 32
    assert (said, set(why.values())) == ({}, {"not asked after 32 failed calls"})
    assert sorted(why) == list(range(100))
    now = time.monotonic()
    assert asked_of(2, set(), now) == ([], {}, {0: "deadline", 1: "deadline"})
    assert asked_of(2, set(), now + 60)[1:] == ({0: 0, 1: 10}, {})


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (hybrid.Answer("billing", 0.0, 0.0), None),
        (hybrid.Answer("billing", 1 + 1e-6, 0), None),
        (
            hybrid.Answer("billing", 1 + 2e-6),
            "t1.confidence = 1.000002: must be in [0, 1]. Percentages? Divide by 100.",
        ),
        (hybrid.Answer("billing", -0.1), "t1.confidence = -0.1: must be in"),
        (hybrid.Answer("billing", True), "t1.confidence = True: must be in"),
        (hybrid.Answer("billing", "0.5"), "t1.confidence = '0.5': must be in"),
        (hybrid.Answer("billing", 10**400), "t1.confidence = 1000"),
        (hybrid.Answer("billing", [1]), "t1.confidence = [1]"),
        (hybrid.Answer("billing", np.float32(0.5)), None),
        (hybrid.Answer("billing", 0.5, -1e-9), "t1.cost = -1e-09: must be 0 or more."),
        (hybrid.Answer("billing", 0.5, float("inf")), "t1.cost = inf: must be 0 or more."),
        (hybrid.Answer("billing", 0.5, False), "t1.cost = False: must be 0 or more."),
        ("billing", "t1 gave str, not a hybrid.Answer."),
    ],
)
def test_an_answer_that_cannot_be_used_is_none_and_says_why(answer, why):
    tiers = (Tier("t0", "recorded"), Tier("t1", "recorded", 0.25))
    recorded = table(tiers, [[(0, 0.5), (1, 0.5)], [(0, 0.5), (1, 0.75)]])
    texts = ["one", "two"]
    functions = functions_of(recorded, texts) | {"t1": lambda given: [answer] * len(given)}
    step = hybrid.load(packed(Policy(Triage(1.0), tiers), recorded, texts), models=functions)("one").trace[1]
    if why is None:
        assert (step.label, step.failure) == ("billing", None)
        assert step.confidence == min(answer.confidence, 1)
        assert step.cost == (0.25 if answer.cost is None else answer.cost)
    else:
        assert step.failure.startswith(why)
        assert (step.label, step.confidence, step.cost) == (None, 0, 0)
    assert np.isnan(_number("1"))


def test_a_confidence_that_nobody_gave_is_the_usual_one_or_none():
    """Of t0 the table always holds 0.5; t1's is read by the vote and varies; the last tier's decides nothing."""
    tiers = tuple(Tier(f"t{j}", "recorded", 0.1 * j) for j in range(3))
    recorded = table(tiers, [[(0, 0.5), (1, 0.5), (1, 0.5)], [(UNKNOWN, 0.0), (1, 0.75), (1, 0.75)]])
    texts = ["one", "two"]
    silent = {t.name: lambda given: [hybrid.Answer("billing")] * len(given) for t in tiers}
    cascade = load_bundle(packed(Policy(Cascade((1.0, 1.0)), tiers), recorded, texts))
    assert [t.default_confidence for t in cascade.config.tiers] == [0.5, None, None]
    trace = Runtime(cascade, silent)("one").trace
    assert [(s.label, s.confidence, s.cost) for s in trace] == [
        ("billing", 0.5, 0.0),
        (None, 0.0, 0.0),
        ("billing", 1.0, 0.2),
    ]
    assert trace[1].failure.startswith("t1 gave no confidence, and this policy decides by it")
    unsaid = silent | {"t1": lambda given: [hybrid.Answer("no class")] * len(given)}
    assert Runtime(cascade, unsaid)("one").trace[1].failure is None  # it did not know, which needs no confidence
    with pytest.raises(BundleError, match=r"models\['t1'\] was asked about one text, and cannot be used: t1 gave no"):
        Runtime(cascade, silent).rehearse()
    Runtime(cascade, unsaid).rehearse()
    gate = (Tier("gate", "gate"), *tiers[1:])
    router = Policy(PATTERNS["router"]((0.5,)), gate)
    recorded = replace(recorded, tiers=gate, label=np.array([[UNKNOWN, 1, 1]] * 2), confidence=np.full((2, 3), 0.7))
    bundle = load_bundle(packed(router, recorded, texts))
    nothing = {t.name: lambda given: [hybrid.Answer(None)] * len(given) for t in gate}
    assert Runtime(bundle, nothing)("one").trace[0].failure.startswith("gate gave no confidence")


def test_what_nobody_said_is_nothing():
    assert hybrid.Answer("a") == hybrid.Answer("a", None, None, (0, 0))
    assert Step("a", None, 0.0, 0.0, 0.0) == Step("a", None, 0.0, 0.0, 0.0, None, 0, 0, None, ())
    assert Decision(None, 0.0, "a", 0.0, 0.0, ()) == Decision(None, 0.0, "a", 0.0, 0.0, (), False)


class Slow:
    """A model that runs here and is asked in a thread: it knows texts by their length, and fails on some."""

    kind, waits, answers_alike = "slow", True, True

    def answer(self, texts):
        if "fails" in texts:
            raise ValueError("no")
        n = np.array([len(t) for t in texts])
        return Answers(n % 3, n / 10, n * 1.0, n * 0.0)

    def answer_likely(self, texts):
        n = np.array([len(t) for t in texts])
        return self.answer(texts), np.column_stack([n % 3, (n + 1) % 3])


@pytest.mark.parametrize(("waits", "factor"), [(True, None), (True, 0.5), (False, 0.5)])
def test_a_model_of_the_bundle_costs_each_text_its_own_and_a_failure_nothing(waits, factor):
    texts, _, bundle = three([[(0, 0.5), (0, 0.5), (0, 0.5)]])
    tiers = [replace_model(t, factor) if t.name == "a" else t for t in bundle.config.tiers]
    config = bundle.config.model_copy(update={"tiers": tiers})
    model = type("Model", (Slow,), {"waits": waits})()
    knows = {name: lambda given: [hybrid.Answer("technical", 0.9, 0.0)] * len(given) for name in "bc"}
    pipeline = Runtime(replace(bundle, config=config, models={"a": model}), knows)
    texts = ["x", "fails", "abcd", "ab"] if waits else ["x", "abcd", "ab"]
    found = [d.trace[0] for d in pipeline.decide(texts)]
    for text, step in zip(texts, found, strict=True):
        n = len(text)
        if text == "fails":
            assert (step.label, step.confidence, step.cost, step.likely) == (None, 0, 0, ())
            assert step.failure == "ValueError: no"
        else:
            assert (step.label, step.confidence, step.cost) == (CLASSES[n % 3], n / 10, n * (factor or 1))
            assert step.likely == (CLASSES[n % 3], CLASSES[(n + 1) % 3])


def replace_model(tier, factor):
    return tier.model_copy(update={"model": "slow", "cost_factor": factor})


def test_a_stream_reads_no_further_ahead_than_a_few_chunks_and_keeps_the_order():
    texts, recorded, bundle = three([[(i % 3, 0.5)] * 3 for i in range(30)])
    pipeline, read = Runtime(bundle, functions_of(recorded, texts)), []

    def source():
        for text in texts:
            read.append(text)
            yield text

    async def streamed(most=99, **how):
        found, ahead = [], []
        stream = pipeline.stream(source(), **how)
        async for decision in stream:
            found.append(decision.label)
            ahead.append(len(read) - len(found))
            if len(found) == most:
                break
        await stream.aclose()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        return found, max(ahead), len(left)

    expected = [d.label for d in pipeline.decide(texts)]
    assert expected == [CLASSES[i % 3] for i in range(30)]
    for chunk in (1, 4):
        read.clear()
        assert asyncio.run(streamed(chunk=chunk)) == (expected, 4 * chunk - 1, 0)
    read.clear()
    assert asyncio.run(streamed(most=2, chunk=3)) == (expected[:2], 11, 0)
    assert len(read) == 12
    for bad, says in ((0, "A chunk of 0 texts"), (-1, "A chunk of -1")):
        with pytest.raises(TierError, match=says):
            asyncio.run(streamed(chunk=bad))
    assert asyncio.run(streamed())[0] == expected


class Waits:
    """A function that is an object with an asynchronous call."""

    def __init__(self, function):
        self.function = function

    async def __call__(self, texts):
        return await self.function(texts)


def test_functions_of_every_kind_are_asked_and_what_is_none_is_refused():
    texts, recorded, bundle = three([[(0, 0.5), (1, 0.5), (2, 0.5)]])
    functions = functions_of(recorded, texts)

    kinds = {
        "a": Waits(functions["a"]),
        "b": lambda given: iter([hybrid.Answer("shipping", 0.5)] * len(given)),
        "c": lambda given: functions["c"](given),  # nothing says that it has to be awaited
    }
    assert Runtime(bundle, kinds)(texts[0]).trace[2].label == "technical"
    for wrong, says in (
        ({"a": functions["a"]}, r"asks 'b', 'c', which the bundle does not hold\. .*models=\{'b': function\}"),
        (functions | {"d": len}, "models has 'd', but the external tiers of this bundle are: a, b, c"),
        (functions | {"b": "gpt"}, r"models\['b'\] is str, not a function"),
    ):
        with pytest.raises(BundleError, match=says):
            Runtime(bundle, wrong)
    with pytest.raises(BundleError, match="servers has 'a', but the bundle asks a server for: nothing"):
        Runtime(bundle, functions, servers={"a": "http://127.0.0.1:9"})
    made_up = tuple(replace(t, simulated=t.name == "b") for t in recorded.tiers)
    simulated = packed(Policy(Ensemble(), made_up), replace(recorded, tiers=made_up), texts)
    with pytest.raises(BundleError, match=r"\(b was simulated in the dashboard and cannot answer\)"):
        hybrid.load(simulated)
    late = Runtime(bundle, functions, deadline=0.0)
    assert late(texts[0]).trace[0].failure == "deadline"
    assert Runtime(bundle, functions, deadline=60)(texts[0]).label == "technical"
