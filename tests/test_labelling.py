"""Labelling: the rows that tell the tiers apart come first, and their expected number is what comes of it."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import labelled
from test_dashboard import open_page
from test_tally import many
from test_tuning import TIERS, made

from hybrid.data.columns import Columns, RecordedColumns
from hybrid.metrics.flips import known
from hybrid.routing.engine import Policy
from hybrid.routing.patterns import Cascade, Ensemble, Triage
from hybrid.routing.table import UNKNOWN, Predictions, Tier
from hybrid.study.study import Study
from hybrid.study.unlabelled import with_labels
from hybrid.tuning.labelling import ToLabel, rows_to_label
from hybrid.tuning.search import MIN_CLASS_ROWS


def test_rows_to_label_next_are_those_that_tell_the_tiers_apart():
    tune, pool = made(1500), made(3000, seed=1)
    policy = Policy(Triage(0.7), TIERS)
    found = rows_to_label(policy, pool.predictions, tune.predictions, tune.truth, cheap="classifier", n=200)
    right = pool.predictions.label == pool.truth[:, None]
    apart = right[:, 0] != right[:, 1]
    assert apart[found.rows].sum() == pytest.approx(found.gained, abs=3 * np.sqrt(50))
    assert apart.mean() == pytest.approx(found.at_random, abs=0.03)
    assert apart[found.rows].mean() > 2 * apart.mean()
    now, these, blind = found.widths
    assert these < blind < now
    assert (pool.predictions.label[found.rows, 0] != pool.predictions.label[found.rows, 1]).all()
    unknown = replace(pool.predictions, confidence=pool.predictions.confidence * [1, np.nan])
    blindly = rows_to_label(policy, unknown, tune.predictions, tune.truth, cheap="classifier", n=200)
    assert not blindly.differ.any()
    assert apart[blindly.rows].sum() == pytest.approx(blindly.gained, abs=3 * np.sqrt(50))
    assert apart.mean() < apart[blindly.rows].mean() < apart[found.rows].mean()


def test_the_tier_that_has_the_last_word_is_what_the_cheap_one_is_set_against():
    tiers = tuple(Tier(name, "recorded") for name in ("cheap", "middle", "last"))
    said = np.tile([[0, 0, 0], [0, 1, 0], [0, 0, 1]], (20, 1))
    rows = Predictions(tiers, ("a", "b"), said, np.full(said.shape, 0.6), 0.0 * said, 0.0 * said)
    policy = Policy(Cascade((0.7, 0.7)), tiers)
    found = rows_to_label(policy, rows, rows, np.zeros(60, dtype=int), cheap="cheap", n=20)
    assert set(found.rows % 3) == {2}


NEAR_ONES = Cascade((0.7, 0.4)), Triage(0.6, (0.8, None, 0.3)), Ensemble(), Ensemble(agreement=1.0)


@pytest.mark.parametrize("pattern", NEAR_ONES)
def test_near_a_threshold_is_where_few_tune_rows_lie_between(pattern):
    (tune, truth), (pool, _) = many(80, 3), many(50, 3, seed=1)
    two = isinstance(pattern, Triage)
    policy = Policy(pattern, tune.tiers[::2] if two else tune.tiers)
    found = rows_to_label(policy, pool, tune, truth, cheap="t0", n=50)
    expected = np.zeros(50)
    for line in [line for line in policy.thresholds() if line.value is not None]:
        mine, seen = (policy.gauge(known(t.select(policy.names)), line.name, line.index) for t in (pool, tune))
        limits = pattern.threshold_of(pool.label[:, 0]) if two else np.full(50, line.value)
        between = [((seen >= min(ends)) & (seen < max(ends))).sum() for ends in zip(mine, limits, strict=True)]
        expected = np.maximum(expected, 1 - np.array(between) / (0.1 * 80))
    assert found.near == pytest.approx(expected[found.rows])
    weak, strong = (tune.label[:, tune.index(n)] for n in ("t0", policy.names[-1]))
    one, apart = (weak == truth) != (strong == truth), weak != strong
    ends = np.unique(np.quantile(tune.confidence[:, 0], np.arange(1, 10) / 10))
    places = [(ends <= c).sum() for c in tune.confidence[:, 0]]
    for row, chance, differ in zip(found.rows, found.apart, found.differ, strict=True):
        asked = pool.label[row, pool.index(policy.names[-1])] != UNKNOWN
        like = (apart if asked else np.ones(80, dtype=bool)) & (places == (ends <= pool.confidence[row, 0]).sum())
        mean = one[apart].mean() if asked else one.mean()
        expected = (one[like].sum() + 5 * mean) / (like.sum() + 5)
        assert chance == pytest.approx(expected if differ or not asked else 0)
    words = (
        ("the tiers differ", found.differ),
        ("near a threshold", found.near > 0),
        ("a class with few rows", found.rare > 0),
    )
    for i in range(50):
        assert found.why(i) == (", ".join(said for said, holds in words if holds[i]) or "one tier may be wrong")
    counts = np.array([(tune.label[:, 0] == c).sum() for c in found.label])
    assert found.rare == pytest.approx(np.where(found.label < 0, 0, np.maximum(0, 1 - counts / MIN_CLASS_ROWS)))
    worth = found.apart * (1 + found.near) + 0.5 * found.at_random * found.rare
    assert (np.diff(worth) <= 1e-12).all()


def test_it_is_known_by_the_rows_that_tell_tiers_apart_which_one_wins():
    """± 1.96 / 2 / √rows, and never more than a half."""
    few = np.full(4, 0.5)
    found = ToLabel(np.arange(4), few, few, few, few > 0, np.zeros(4, int), few, seen=14, at_random=0.25)
    assert found.gained == 2
    assert found.widths == pytest.approx([0.98 / np.sqrt(m) for m in (14, 16, 15)], abs=1e-4)
    assert replace(found, seen=0).widths == pytest.approx((0.5, 0.5, 0.5))
    assert replace(found, seen=2).widths == pytest.approx((0.5, 0.49, 0.5), abs=1e-4)


def test_where_nothing_is_known_of_tune_nothing_is_near_and_chances_are_nothing():
    tune, pool = made(40), made(9, seed=1)
    none = tune.predictions.take(np.zeros(0, dtype=int))
    found = rows_to_label(Policy(Triage(0.7), TIERS), pool.predictions, none, tune.truth[:0], cheap="classifier", n=5)
    assert found.rows.tolist() == [0, 1, 2, 3, 4]
    assert (found.seen, found.at_random, found.gained) == (0, 0, 0)
    assert not found.near.any()
    assert (found.rare == 1).all()
    empty = pool.predictions.take(np.zeros(0, dtype=int))
    found = rows_to_label(Policy(Triage(0.7), TIERS), empty, tune.predictions, tune.truth, cheap="classifier")
    assert (len(found.rows), found.at_random) == (0, 0)


def test_unlabelled_rows_of_the_file_are_ranked_and_copies_of_others_are_not(own_fitted):
    frame = labelled(260)
    frame["llm"] = frame["label"]
    frame.loc[200:, "label"] = ""
    frame.loc[259, "text"] = frame.loc[0, "text"].upper()  # a copy of a labelled row
    frame["split"] = np.where(np.arange(260) % 4 == 0, "test", "tune")
    columns = Columns("label", text="text", split="split", recorded=(RecordedColumns("llm", "llm", price=0.003),))
    study = Study("partly.csv", frame, columns).fit()
    found = study.rows_to_label(study.policy, n=20)
    assert found.n_unlabelled == found.n_looked_at <= 59
    assert (found.table["row"] > 200).all()
    assert 260 not in set(found.table["row"])
    assert set(found.table["split"]) == {"tune"}
    texts = frame["text"][found.table["row"] - 1]
    assert list(texts) == list(found.table["text"])
    said = study.models["classifier"].answer(list(texts))
    assert list(found.table["classifier confidence"]) == list(said.confidence)
    at = open_page("pages/3_Inspect.py", study)
    at.toggle(key="to_label_on").set_value(True).run()
    assert not at.exception
    assert any("tell the tiers apart" in m.value for m in at.markdown)
    assert at.button(key="to_label_take").disabled
    more = with_labels(study, dict(zip(found.places[:5], ["billing"] * 5, strict=True)), known_before=0.07).fit()
    assert list(more.table["label"].iloc[found.places[:5]]) == ["billing"] * 5
    assert (study.table["label"].iloc[found.places] == "").all()
    assert len(more.split.tune) == len(study.split.tune) + 5
    assert list(more.dataset.row[more.split.test]) == list(study.dataset.row[study.split.test])
    assert "5 rows were labelled here." in [n.what for n in more.notes]
    assert own_fitted.rows_to_label() is None  # every row of it has a label
