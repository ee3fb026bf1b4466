"""Reference: what is counted of labelled rows is what counting row by row gives, and what does not fit is refused."""

import json
import zlib

import numpy as np
import pytest
from conftest import tiers_of

from hybrid.errors import BundleError
from hybrid.production import reference as module
from hybrid.production.reference import (
    BUCKETS,
    FEATURES,
    FILE,
    SUMS,
    Counts,
    Reference,
    features,
    fit_reference,
    packed,
    read_reference,
)
from hybrid.routing.engine import Policy, replay
from hybrid.routing.patterns import Router, Triage
from hybrid.routing.table import NONE, UNKNOWN, Predictions
from hybrid.tiers.words import words


@pytest.mark.parametrize(
    ("expected", "cuts"),
    [
        ([0.05] * 20, np.arange(1, 11) / 10),
        ([0.1, 0.9], [0.1, 1]),
        ([0.02, 0.5, 0.48], [0.02, 0.52, 1]),  # a share of a tenth or more stands alone, and so what was before it
        ([0.01, 0.2, 0.79], [0.01, 0.21, 1]),
        ([0.005, 0.5, 0.495], [0.505, 1]),  # but for what is too little to bet on
        ([0.6, 0.35, 0.05], [0.6, 0.95, 1]),
        ([0.6, 0.39, 0.01], [0.6 / 0.99, 1]),  # so at the end
        ([0.04, 0.04, 0.04, 0.88], [0.12, 1]),
        ([1.0], [1 / 1.01, 1]),  # two parts at least
        ([0.0, 1.0], [1 / 1.01, 1]),
    ],
)
def test_bets_are_laid_on_neighbours_of_a_tenth_together(expected, cuts):
    found = Counts(expected=expected, counts=[1] * len(expected)).cuts()
    assert found == pytest.approx(cuts)
    assert found[-1] == 1


def text_of(rng):
    return " ".join(rng.choice(["parcel", "late", "refund", "app", "crash", "box", "of", "the"], rng.integers(0, 7)))


def sides(policy, n_classes, rng, n=60):
    """Draw what a policy decides about tune and test rows, some answers unknown and some no class, and their texts."""
    shape = (n, len(policy.tiers))
    often = rng.permutation(n_classes) + 1.0
    found = []
    for _ in range(2):
        label = rng.choice(np.arange(NONE, n_classes), shape, p=np.append([3, 3], often) / (often.sum() + 6))
        confidence = np.round(rng.random(shape), 1)
        table = Predictions(policy.tiers, (), label, confidence, np.zeros(shape), np.zeros(shape))
        found.append((replay(policy, table), [text_of(rng) for _ in range(n)]))
    return found


def share_out(values, edges):
    return [sum(edge <= v for edge in edges) for v in values]


def counted(codes, n):
    return [codes.count(k) for k in range(n)]


@pytest.mark.parametrize(("gate", "n_classes"), [(False, 3), (True, 31), (False, 32), (True, 40)])
def test_a_reference_is_what_counting_row_by_row_says(gate, n_classes, monkeypatch):
    monkeypatch.setattr(module, "MOST_TEXTS", 25)  # every second one
    pattern = Router((0.55,)) if gate else Triage(0.55)
    policy = Policy(pattern, tiers_of(3 if gate else 2, gate=gate))
    tune, test = sides(policy, n_classes, np.random.default_rng(n_classes))
    found = fit_reference(policy, tune, test, n_classes=n_classes)
    first = int(gate)
    assert (found.rows, found.side, found.tier) == (60, "test", policy.names[first])

    sent = [[int(o.asked[i, -1]) for i in range(60)] for o, _ in (tune, test)]
    assert found.escalation.counts == counted(sent[1], 2)
    assert found.escalation.expected == pytest.approx(np.array(counted(sent[0], 2)) / 60)

    sure = [[float(c) for c, was in zip(o.seen.confidence[:, first], o.asked[:, first], strict=True) if was]
            for o, _ in (tune, test)]  # fmt: skip
    edges = sorted({float(np.quantile(sure[0], k / 20)) for k in range(1, 20)})
    assert found.confidence.edges == edges
    codes = [share_out(values, edges) for values in sure]
    assert found.confidence.counts == counted(codes[1], len(edges) + 1)
    assert found.confidence.expected == pytest.approx(np.array(counted(codes[0], len(edges) + 1)) / len(sure[0]))
    assert found.confidence.code(np.array(sure[1])).tolist() == codes[1]

    often = [(tune[0].label == c).sum() for c in range(n_classes)]
    kept = sorted(range(n_classes), key=lambda c: often[c])[-31:]  # from rare to frequent
    rare = int(n_classes > 31)
    if n_classes == len(kept):  # ties may stand in any order
        assert sorted(found.group) == list(range(n_classes))
        assert [often[c] for c in np.argsort(found.group)] == sorted(often)
    else:
        assert found.group == [kept.index(c) + rare if c in kept else 0 for c in range(n_classes)]
    no_class = max(found.group) + 1
    groups = [[found.group[c] if c >= 0 else no_class for c in o.label.tolist()] for o, _ in (tune, test)]
    assert found.classes.counts == counted(groups[1], no_class + 1)
    assert found.classes.expected == pytest.approx(np.array(counted(groups[0], no_class + 1)) / 60)
    labels = np.array([UNKNOWN, NONE, *range(n_classes)])
    assert found.groups_of(labels).tolist() == [no_class, no_class, *found.group]

    some = [texts[::2] for _, texts in (tune, test)]
    assert found.of == 30
    buckets = [b for text in some[0] for b in {hashed(w) % BUCKETS for w in words(text)}]
    assert found.seen == counted(buckets, BUCKETS)
    numbers = [features(texts, np.array(found.seen, float), 30) for texts in some]
    for k, one in enumerate(found.texts):
        cuts = sorted({float(np.quantile(numbers[0][:, k], t / 10)) for t in range(1, 10)})
        assert one.edges == cuts
        assert one.counts == counted(share_out(numbers[1][:, k], cuts), len(cuts) + 1)
    digits = found.digits(some[1])
    assert digits == ["".join(str(share_out([v], found.texts[k].edges)[0]) for k, v in enumerate(row))
                      for row in numbers[1].tolist()]  # fmt: skip
    assert read_reference(packed(found), n_classes) == found
    assert fit_reference(policy, (tune[0], None), test, n_classes=n_classes).texts == []


def hashed(word):
    return zlib.crc32(word.encode())


def test_the_numbers_of_a_text_by_hand():
    seen = np.zeros(BUCKETS)
    seen[hashed("late") % BUCKETS], seen[hashed("box") % BUCKETS] = 3, 1
    found = features(["", "late late box new"], seen, 4)
    assert found[0].tolist() == [0.0] * len(FEATURES)
    weight = [-np.log((n + 0.5) / 5) for n in (3, 3, 1, 0)]
    assert found[1, :2] == pytest.approx([4, np.mean(weight)])
    length = np.sqrt(sum(w * w for w in weight))
    for k in range(SUMS):
        signs = [1 if hashed(w) >> (12 + k) & 1 else -1 for w in ("late", "late", "box", "new")]
        assert found[1, 2 + k] == pytest.approx(sum(w * s for w, s in zip(weight, signs, strict=True)) / length)
    assert module._buckets(["late late box", "late"])[hashed("late") % BUCKETS] == 2


def test_where_nobody_was_asked_every_category_is_as_likely():
    alone = module._numbers(np.zeros(0), np.array([0.25, 0.75]), 10)
    assert (alone.edges, alone.expected, alone.counts) == ([], [1.0], [2])
    codes = module._counts(np.zeros(0, int), np.array([1, 1]), 2)
    assert (codes.expected, codes.counts) == ([0.5, 0.5], [0, 2])


def test_what_bundles_hold_is_cut_as_it_was_and_bounded():
    """These numbers are in bundles that were exported: with others they would not be read as what they were."""
    assert (BUCKETS, SUMS, module.TENTHS, module.CONFIDENCES, module.MOST_GROUPS) == (4096, 8, 10, 20, 32)
    assert (len(FEATURES), FEATURES[2], FEATURES[-1], module.MOST_TEXTS) == (10, "word mix 1", "word mix 8", 5000)
    for name in ("edges", "expected", "counts"):
        lists = {"edges": [], "expected": [1.0], "counts": [1]}
        Counts(**lists | {name: [1] * 1000})
        with pytest.raises(ValueError, match="at most 1000"):
            Counts(**lists | {name: [1] * 1001})
    one = Counts(expected=[1.0], counts=[1])
    plain = {"rows": 1, "side": "s", "tier": "t", "escalation": one, "confidence": one}
    Reference(**plain | {"side": "x" * 100, "tier": "x" * 2000})
    with pytest.raises(ValueError, match="at most 100"):
        Reference(**plain | {"side": "x" * 101})
    for name, value, most in (("group", 0, 20_000), ("seen", 0, 4096), ("texts", one, 10)):
        Reference(**plain | {name: [value] * most})
        with pytest.raises(ValueError, match=f"at most {most}"):
            Reference(**plain | {name: [value] * (most + 1)})


def count(edges, expected, counts):
    return {"edges": edges, "expected": expected, "counts": counts}


@pytest.fixture(scope="module")
def plain():
    """A reference of two classes, as JSON: three of four texts had a word of the first bucket."""
    texts = [count([0.5], [0.25, 0.75], [2, 3])] * len(FEATURES)
    found = Reference(
        rows=5,
        side="test",
        tier="a",
        escalation=Counts(expected=[0.0, 1.0], counts=[0, 5]),
        confidence=Counts(edges=[0.5, 0.75], expected=[0.5, 0.25, 0.25], counts=[1, 1, 3]),
        classes=Counts(expected=[0.5, 0.25, 0.25], counts=[1, 4, 0]),
        group=[1, 0],
        seen=[4] + [0] * (BUCKETS - 1),
        of=4,
        texts=[Counts(**t) for t in texts],
    )
    return json.loads(packed(found)[FILE])


ELEVEN = count([k / 11 for k in range(10)], [1 / 11] * 11, [1] * 11)
TEN = count([k / 10 for k in range(9)], [0.1] * 10, [1] * 10)
FIT = {
    "no texts": {"texts": [], "seen": [], "of": 0},
    "no classes": {"classes": None, "group": []},
    "ten parts": {"texts": [TEN] * 10},
    "a sum of nearly 1": {"escalation": count([], [0.4999, 0.5092], [1, 4])},
    "one group": {"classes": count([], [1.0, 0.0], [5, 0]), "group": [0, 0]},
}
ODD = {
    "a share without a count": {"escalation": count([], [0.5, 0.5], [1])},
    "a count without a share": {"classes": count([], [0.5, 0.5], [1, 1, 1])},
    "one way to be sent": {"escalation": count([], [1.0], [5])},
    "three ways to be sent": {"escalation": count([], [0.5, 0.25, 0.25], [1, 1, 1])},
    "fewer than none": {"escalation": count([], [0.5, 0.5], [-1, 5])},
    "a share below 0": {"escalation": count([], [-0.1, 1.0], [1, 1])},
    "a share above 1": {"classes": count([], [1.005, 0.0, 0.0], [1, 1, 1])},
    "shares of less than 1": {"escalation": count([], [0.49, 0.5], [1, 1])},
    "shares of more than 1": {"escalation": count([], [0.51, 0.5], [1, 1])},
    "ends that are equal": {"confidence": count([0.5, 0.5], [0.5, 0.25, 0.25], [1, 1, 1])},
    "ends that fall": {"confidence": count([0.5, 0.4], [0.5, 0.25, 0.25], [1, 1, 1])},
    "too few ends": {"confidence": count([0.5], [0.5, 0.25, 0.25], [1, 1, 1])},
    "too many ends": {"confidence": count([0.5, 0.6, 0.7], [0.5, 0.25, 0.25], [1, 1, 1])},
    "too many ends of texts": {"texts": [count([0.1, 0.2], [0.5, 0.5], [1, 1])] * 10},
    "too few ends of texts": {"texts": [count([], [0.5, 0.5], [1, 1])] * 10},
    "eleven parts": {"texts": [ELEVEN] * 10},
    "odd counts of a text": {"texts": [*([TEN] * 9), TEN | {"counts": [-1] * 10}]},
    "a class without a group": {"group": [1]},
    "a class too many": {"group": [1, 0, 0]},
    "a group that is not counted": {"group": [2, 0]},
    "a group too many": {"group": [0, 0]},
    "a group below 0": {"group": [1, -1]},
    "texts of nine numbers": {"texts": [TEN] * 9},
    "buckets that are missing": {"seen": [4]},
    "fewer texts than none": {"of": -1, "texts": [], "seen": []},
    "a word in more texts than there are": {"of": 3},
    "a word in fewer than none": {"seen": [-1] + [0] * (BUCKETS - 1)},
}
UNREAD = {
    "rows: Input should be a valid integer": {"rows": True},
    "escalation.counts.0": {"escalation": count([], [1.0], [0.5])},
    "wattage: Extra inputs": {"wattage": 1},
    "confidence.expected": {"confidence": count([], [], [1])},
}


def test_a_reference_that_does_not_fit_together_is_refused(plain):
    assert read_reference({}, 2) is None
    assert read_reference({FILE: json.dumps(plain).encode()}, 2).of == 4
    for what, changed in FIT.items():
        assert read_reference({FILE: json.dumps(plain | changed).encode()}, 2), what
    for what, changed in ODD.items():
        with pytest.raises(BundleError, match="its counts do not fit together"):
            pytest.fail(f"{what} is read: {read_reference({FILE: json.dumps(plain | changed).encode()}, 2)}")
    for says, changed in UNREAD.items():
        with pytest.raises(BundleError, match=f"^reference.json, {says}"):
            read_reference({FILE: json.dumps(plain | changed).encode()}, 2)
    with pytest.raises(BundleError, match=r"^reference.json, the top: .*JSON"):
        read_reference({FILE: b"{"}, 2)
