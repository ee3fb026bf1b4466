"""Streaming: the same sums whatever holds the rows, and whatever dies meanwhile."""

import os
import signal
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import CLASSES
from test_tally import many, tally_of

from hybrid.data import delimited, json_rows, pieces
from hybrid.data.columns import Columns, RecordedColumns
from hybrid.data.dataset import build
from hybrid.errors import DatasetError, TierError
from hybrid.metrics.summary import share
from hybrid.routing.engine import Policy
from hybrid.routing.patterns import Triage
from hybrid.tuning import streaming


def scored(n, seed=0):
    """A table of two models' answers, as a log of scored texts holds them."""
    predictions, truth = many(n, 2, seed)
    names = np.array([*CLASSES, None], dtype=object)
    return pd.DataFrame(
        {
            "label": names[truth],
            "fast_label": names[predictions.label[:, 0]],
            "fast_confidence": predictions.confidence[:, 0],
            "llm_label": names[predictions.label[:, 1]],
            "llm_confidence": predictions.confidence[:, 1],
            "llm_cost": predictions.cost[:, 1],
            "llm_latency": np.round(predictions.cost[:, 1] * 3, 3),
        }
    )


@pytest.fixture(scope="module")
def frame():
    found = scored(6_000)
    found.loc[::50, "fast_label"] = "None of these"  # an answer, not a failure: it is as sure as it says
    return found


@pytest.fixture(scope="module")
def parquet(frame, tmp_path_factory):
    path = tmp_path_factory.mktemp("scored") / "log.parquet"
    frame.to_parquet(path, row_group_size=250, index=False)
    return path


def plan_of(source):
    columns = streaming.guess(source).columns
    return streaming.plan(source, columns, ["fast", "llm"])


def same(a, b):
    if isinstance(a, streaming.Sides):
        same(a.tune, b.tune)
        same(a.test, b.test)
        return
    np.testing.assert_array_equal(a.right, b.right)
    for x, y in zip(a.cost, b.cost, strict=True):
        np.testing.assert_array_equal(x, y)


def test_a_streamed_file_is_what_the_loaded_table_says(frame, parquet):
    source = pieces.pieces(parquet)
    assert len(source) == 24
    streamed = streaming.tally_pieces(source, plan_of(source))
    table = frame.fillna("").astype(str)
    tiers = (
        RecordedColumns("fast", "fast_label", confidence="fast_confidence"),
        RecordedColumns("llm", "llm_label", confidence="llm_confidence", cost="llm_cost", latency="llm_latency"),
    )
    dataset = build(table, Columns("label", recorded=tiers))
    recorded = dataset.recorded.select(["fast", "llm"])
    loaded = tally_of(Policy(Triage(0.5), recorded.tiers), recorded, dataset.truth)
    same(streamed.tune + streamed.test, loaded)
    assert 0.27 < streamed.test.n_rows / loaded.n_rows < 0.33


def test_formats_and_batch_sizes_make_no_difference(frame, parquet, tmp_path, monkeypatch):
    source = pieces.pieces(parquet)
    whole = streaming.tally_pieces(source, plan_of(source))
    frame.to_csv(tmp_path / "log.csv", index=False)
    frame.to_json(tmp_path / "log.jsonl", orient="records", lines=True)
    folder = tmp_path / "parts"
    folder.mkdir()
    for i, part in enumerate(np.array_split(np.arange(len(frame)), 3)):
        frame.iloc[part].to_parquet(folder / f"{i}.parquet", index=False)
    monkeypatch.setattr(delimited, "BLOCK", 7_777)
    monkeypatch.setattr(json_rows, "BLOCK", 7_777)
    for path in (tmp_path / "log.csv", tmp_path / "log.jsonl", folder):
        source = pieces.pieces(path)
        sides = streaming.tally_pieces(source, plan_of(source))
        same(sides.tune + sides.test, whole.tune + whole.test)


@pytest.mark.parametrize("n_threads", [None, 1, 5])
def test_any_number_of_threads_gives_the_same_bits_and_the_same_first_error(frame, parquet, tmp_path, n_threads):
    source, run = pieces.pieces(parquet), pieces.on_threads(n_threads)
    plan, seen = plan_of(source), []
    found = streaming.tally_pieces(source, plan, run=run, progress=lambda done, of: seen.append((done, of)))
    same(found, streaming.tally_pieces(source, plan, run=pieces.here))
    assert seen == [(done, 24) for done in range(25)]
    bad = frame["fast_confidence"].where(~frame.index.isin((2_603, 5_001)), 2.0)  # of two bad rows the first is named
    frame.assign(fast_confidence=bad).to_parquet(tmp_path / "bad.parquet", row_group_size=250, index=False)
    with pytest.raises(DatasetError, match=r"bad\.parquet, row group 10, row 104, fast_confidence = 2: must"):
        streaming.tally_pieces(pieces.pieces(tmp_path / "bad.parquet"), plan, run=run)


def test_one_cost_for_all_rows_is_that_cost_in_every_row(frame, tmp_path):
    source = write(tmp_path, frame, llm_cost=0.0031)
    sums = streaming.tally_pieces(source, plan_of(source))
    both = sums.tune + sums.test
    assert both.cost[1].sum() == 3_100_000 * len(frame)
    np.testing.assert_array_equal(both.cost[1], 3_100_000 * both.right.sum(axis=0))


def test_a_cluster_gives_the_same_bits_even_when_a_worker_is_killed(parquet):
    distributed = pytest.importorskip("distributed")
    source = pieces.pieces(parquet)
    plan = plan_of(source)
    expected = streaming.tally_pieces(source, plan)
    cluster = distributed.LocalCluster(
        n_workers=3, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
    )
    killed = []

    def progress(done, of):
        if done == 1 and not killed:
            victim = next(iter(cluster.workers.values()))
            killed.append(victim.pid)
            os.kill(victim.pid, signal.SIGKILL)

    with cluster:
        assert len({w.pid for w in cluster.workers.values()}) == 3
        run = pieces.on_dask(cluster.scheduler_address)
        found = streaming.tally_pieces(source, plan, run=run, progress=progress)
        assert streaming.plan(source, streaming.guess(source).columns, ["fast", "llm"], run=run).classes == plan.classes
    assert killed
    same(found, expected)


def test_no_scheduler_is_an_error_that_says_so(parquet, monkeypatch):
    pytest.importorskip("distributed")
    run = pieces.on_dask("tcp://127.0.0.1:9")
    with pytest.raises(TierError, match="No Dask scheduler"):
        next(run(len, pieces.pieces(parquet), lambda done, of: None))


def write(tmp_path, frame, **columns):
    path = tmp_path / "bad.parquet"
    frame.assign(**columns).to_parquet(path, index=False)
    return pieces.pieces(path)


def test_a_value_that_cannot_be_used_is_named(frame, tmp_path):
    small = frame.head(300)
    percent = small["fast_confidence"].where(small.index != 7, 95.0)
    source = write(tmp_path, small, fast_confidence=percent)
    with pytest.raises(DatasetError, match=r"row 8, fast_confidence = 95: .*divide by 100"):
        streaming.tally_pieces(source, plan_of(source))
    hole = small["llm_cost"].where(small.index != 3)
    known = small["llm_label"].fillna("billing")
    source = write(tmp_path, small, llm_cost=hole, llm_label=known)
    with pytest.raises(DatasetError, match="row 4, llm_cost"):
        streaming.tally_pieces(source, plan_of(source))
    nearly = small["llm_cost"].where(small.index != 3, -1e-9)  # rounding is forgiven confidences alone
    source = write(tmp_path, small, llm_cost=nearly, llm_label=known)
    with pytest.raises(DatasetError, match="row 4, llm_cost = -1e-09"):
        streaming.tally_pieces(source, plan_of(source))
    source = write(tmp_path, small, fast_confidence="sure")
    with pytest.raises(DatasetError, match="row 1, fast_confidence = 'sure': must be in"):
        streaming.tally_pieces(source, plan_of(source))


def test_what_cannot_be_planned_is_said(frame, tmp_path, monkeypatch):
    small = frame.head(300)
    source = write(tmp_path, small)
    columns = streaming.guess(source).columns
    with pytest.raises(DatasetError, match="no tier 'gpt'"):
        streaming.plan(source, columns, ["fast", "gpt"])
    with pytest.raises(DatasetError, match="lie between tiers"):
        streaming.plan(source, columns, ["fast"])
    with monkeypatch.context() as patch:
        patch.setenv("HYBRID_MAX_LABEL", "4")
        with pytest.raises(DatasetError, match="the limit is 4: pick the column"):
            streaming.plan(source, columns, ["fast", "llm"])
    without = write(tmp_path, small.drop(columns="fast_confidence"))
    with pytest.raises(DatasetError, match="needs a column fast_confidence"):
        streaming.plan(without, streaming.guess(without).columns, ["fast", "llm"])
    for path in (tmp_path / "nowhere.parquet", tmp_path / "log.xlsx"):
        with pytest.raises(DatasetError):
            pieces.pieces(path)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DatasetError, match="is not a parquet file or is damaged"):
        pieces.pieces(tmp_path / "broken.parquet")


def test_rows_without_a_label_or_never_asked_are_left_out(frame, tmp_path):
    small = frame.head(600).copy()
    small.loc[:9, "label"] = None
    small.loc[small.index >= 300, ["llm_label", "llm_confidence", "llm_cost", "llm_latency"]] = None
    source = write(tmp_path, small)
    sums = streaming.tally_pieces(source, plan_of(source))
    kept = small["label"].notna() & small["llm_label"].notna()
    assert sums.tune.n_rows + sums.test.n_rows == kept.sum()


def test_a_split_column_is_honoured(frame, tmp_path):
    side = np.where(frame.index % 4 == 0, "test", "train")
    source = write(tmp_path, frame, split=side)
    sums = streaming.tally_pieces(source, plan_of(source))
    assert sums.test.n_rows == (side == "test").sum()


def test_labels_of_several_words_are_not_taken_for_texts(frame, tmp_path):
    words = {c: f"late {c} of parcels" for c in CLASSES}
    named = frame.assign(**{c: frame[c].map(words) for c in ("label", "fast_label", "llm_label")})
    columns = streaming.guess(write(tmp_path, named)).columns
    assert columns.text is None
    assert [r.name for r in columns.recorded] == ["fast", "llm"]


def test_rows_of_a_group_stand_on_one_side_and_count_once(frame, tmp_path):
    rng = np.random.default_rng(5)
    grouped = frame.assign(customer=[f"c{i}" for i in rng.integers(0, 300, len(frame)) ** 2 // 300])
    grouped.loc[::50, "customer"] = None  # of these each is a group of its own
    path = tmp_path / "grouped.parquet"
    grouped.to_parquet(path, row_group_size=700, index=False)
    source = pieces.pieces(path)
    plan = plan_of(source)
    assert plan.group == "customer"
    sides = streaming.tally_pieces(source, plan)
    found = streaming.groups_of_test(source, plan, [0.5], run=pieces.on_threads(3))
    assert found.size.sum() == sides.test.n_rows
    at = tuple(int(i) for i in plan.lattice.bin(np.array([0.5])))
    assert found.right.sum() == sides.test.correct()[at]
    # the same rows in memory, by the group's name
    kept = frame["fast_label"].where(frame["fast_confidence"].fillna(0) >= 0.5, frame["llm_label"])
    known = frame["label"].notna()
    names = grouped["customer"].dropna()
    test = names.map(lambda name: streaming._hash(name) < 0.3 * 2**64).reindex(frame.index, fill_value=False) & known
    is_named = np.isin(found.key, [streaming._hash(n) for n in grouped["customer"].dropna().unique()])
    named = found.size[is_named]
    assert set(found.size[~is_named]) == {1}
    alone = np.flatnonzero(grouped["customer"].isna() & frame["label"].notna())  # on a side by their number
    assert (~is_named).sum() == ((alone % 700 + 1) * 2654435761 % 2**32 < 0.3 * 2**32).sum()
    assert named.sum() == test.sum()
    assert len(named) == grouped.loc[test, "customer"].nunique()
    right = (kept == frame["label"])[test].to_numpy()
    codes = pd.factorize(grouped.loc[test, "customer"])[0]
    only = streaming.GroupSums.of(codes.astype(np.uint64), np.ones(len(codes)), right.astype(float))
    assert only.accuracy == share(right, codes)
    assert only.accuracy.half_width > share(right).half_width * 1.05


def test_a_column_that_is_blank_at_first_is_read_where_it_is_filled(tmp_path):
    late, first = scored(streaming.HEAD + 500), streaming.HEAD + 250
    late.loc[: first - 1, "llm_cost"] = None
    late.to_parquet(tmp_path / "late.parquet", row_group_size=250, index=False)
    assert streaming.guess(pieces.pieces(tmp_path / "late.parquet")).columns.recorded[1].cost == "llm_cost"
    (filled,) = streaming._filling(pieces.pieces(tmp_path / "late.parquet"), ["llm_cost"], ["llm_cost"])
    assert filled["llm_cost"].to_pylist() == [str(x) for x in late["llm_cost"][first:]]


def test_rows_without_a_side_are_tuned_on(tmp_path):
    sides = scored(400).assign(split=[None, "test", "train", ""] * 100)
    sides.to_parquet(tmp_path / "sides.parquet", index=False)
    source = pieces.pieces(tmp_path / "sides.parquet")
    columns = replace(streaming.guess(source).columns, split="split")
    counted = streaming.tally_pieces(source, streaming.plan(source, columns, ["fast", "llm"]))
    assert (counted.tune.n_rows, counted.test.n_rows) == (300, 100)


def test_which_side_a_row_is_on_follows_from_its_number_in_the_file():
    batch = pa.record_batch({"label": ["billing"] * 1000})
    for first in (0, 1000, 2**32 - 500):
        found = streaming._by_number(batch, first)
        assert found.tolist() == [(first + i) * 2654435761 % 2**32 < 0.3 * 2**32 for i in range(1, 1001)]


def test_rows_are_taken_wherever_batches_end():
    batches = [pa.record_batch({"label": [f"{i}", f"{i + 1}"]}) for i in (0, 2, 4)]
    piece = SimpleNamespace(batches=lambda names: iter(batches))
    for rows in ([0], [1], [2], [1, 2], [0, 4], [3, 4], [5], [0, 1, 2, 3, 4, 5]):
        assert streaming._rows_at(piece, ["label"], rows)["label"].to_pylist() == [str(row) for row in rows]


def test_what_a_file_says_in_other_ways_is_counted_over_all_pieces_and_tokens_are_paid(tmp_path):
    rng = np.random.default_rng(4)
    n, tokens = 400, np.random.default_rng(5).integers(0, 900, (2, 400))
    label = np.array(CLASSES, dtype=object)[rng.integers(0, 3, n)]
    fast = np.where(rng.random(n) < 0.1, "refund", np.where(rng.random(n) < 0.1, "", label))
    llm = np.where(rng.random(n) < 0.1, "", np.where(rng.random(n) < 0.1, "lost", label))
    sure = [f"{k}%" if k % 3 == 0 else f"{k / 100}" for k in rng.integers(0, 101, n)]
    frame = pd.DataFrame({"label": label, "fast": fast, "sure": sure, "llm": llm, "in": tokens[0], "out": tokens[1]})
    frame.to_parquet(tmp_path / "odd.parquet", row_group_size=90, index=False)
    source = pieces.pieces(tmp_path / "odd.parquet")
    recorded = (
        RecordedColumns("fast", "fast", confidence="sure", price=0.25),
        RecordedColumns(
            "llm", "llm", prompt_tokens="in", completion_tokens="out", prompt_price=2.0, completion_price=8.0
        ),
    )
    plan = streaming.plan(source, Columns("label", recorded=recorded), ["fast", "llm"])
    sides = streaming.tally_pieces(source, plan)
    assert sides.strange == {
        "fast": Counter(refund=(fast == "refund").sum()),
        "llm": Counter(lost=(llm == "lost").sum()),
    }
    assert sides.blank == {"fast": (fast == "").sum(), "llm": (llm == "").sum()}
    assert sum(sides.written["fast", "sure"].values()) == sum("%" in s for s in sure)
    assert [note.what for note in sides.notes()][:2] == [
        f"{t} has {sides.blank[t]} blank answers." for t in ("fast", "llm")
    ]
    both = sides.tune + sides.test
    assert both.cost[0] == round(0.25e9) * n
    assert both.cost[1].sum() == (2000 * tokens[0] + 8000 * tokens[1]).sum()  # of nano-dollars
    unpaid = frame.assign(llm_cost=np.where(llm == "", np.nan, 0.5))  # an answer that never came has no cost
    unpaid.to_parquet(tmp_path / "unpaid.parquet", index=False)
    source = pieces.pieces(tmp_path / "unpaid.parquet")
    paid = recorded[0], RecordedColumns("llm", "llm", cost="llm_cost")
    sums = streaming.tally_pieces(source, streaming.plan(source, Columns("label", recorded=paid), ["fast", "llm"]))
    assert (sums.tune + sums.test).cost[1].sum() == round(0.5e9) * (llm != "").sum()
    assert both.right[[1, 3]].sum() == (fast == label).sum()
    assert both.right[[2, 3]].sum() == (llm == label).sum()


def test_a_file_of_two_labels_is_read_and_one_of_one_label_is_not(tmp_path):
    frame = pd.DataFrame({"label": ["a", "b"] * 40, "fast": "a", "sure": 0.5, "llm": "b"})
    recorded = RecordedColumns("fast", "fast", confidence="sure"), RecordedColumns("llm", "llm", price=0.5)
    columns = Columns("label", recorded=recorded)
    source = write(tmp_path, frame)
    plan = streaming.plan(source, columns, [])
    assert plan.classes == ("a", "b")
    sides = streaming.tally_pieces(source, plan)
    both = sides.tune + sides.test
    assert both.right[[1, 3]].sum() == both.right[[2, 3]].sum() == 40
    assert sides.notes() == []
    with pytest.raises(DatasetError, match="'label' holds 1 labels"):
        streaming.plan(write(tmp_path, frame.head(1)), columns, [])
    nobody = write(tmp_path, frame.assign(label="c"))
    with pytest.raises(DatasetError, match="No row has a label and an answer"):
        streaming.tally_pieces(nobody, plan)


def test_sums_of_groups_add_up_by_key_and_allow_for_their_rows_varying_together():
    rng = np.random.default_rng(0)
    key, right = rng.integers(0, 12, 90), rng.random(90) < 0.7
    parts = [
        streaming.GroupSums.of(k.astype(np.uint64), np.ones(len(k)), r.astype(float))
        for k, r in zip(np.array_split(key, 3), np.array_split(right, 3), strict=True)
    ]
    total = parts[0] + parts[1] + parts[2]
    assert total.key.tolist() == sorted(set(key))
    assert total.size.tolist() == [(key == k).sum() for k in total.key]
    assert total.right.tolist() == [right[key == k].sum() for k in total.key]
    assert total.accuracy == share(right, key)
    alone = streaming.GroupSums.of(np.arange(90, dtype=np.uint64), np.ones(90), right.astype(float))
    assert alone.accuracy == share(right)
