"""Data: every finding has a note, every fault an error that says what, where and how to mend it."""

import numpy as np
import pandas as pd
import pytest
from conftest import labelled
from hypothesis import given
from hypothesis import strategies as st

from hybrid.data.columns import Columns, RecordedColumns
from hybrid.data.dataset import build
from hybrid.data.guess import guess_columns
from hybrid.data.split import split
from hybrid.data.texts import bare
from hybrid.errors import DatasetError
from hybrid.routing.table import UNKNOWN


def csv(text):
    return text.encode()


def frame(rows, columns=("text", "label")):
    return pd.DataFrame(rows, columns=list(columns), dtype=object)


def many(n=20, **more):
    """Return n different rows of two classes, with more columns."""
    base = {"text": [f"{'abcdefghijklmnopqrstuvwxyz'[i % 26] * (i // 26 + 2)}" for i in range(n)]}
    return pd.DataFrame(base | {"label": ["x", "y"] * (n // 2)} | more, dtype=object)


PLAIN = Columns("label", text="text")


def test_columns_are_guessed_by_name():
    table = frame(
        [["1", "card lost", "cards", "train", "u1", "cards", "0.9", "0.002"]] * 3,
        ["ticket_id", "message", "intent", "split", "customer_id", "gpt_label", "gpt_confidence", "gpt_cost"],
    )
    g = guess_columns(table)
    assert (g.text, g.label, g.id, g.split, g.group) == ("message", "intent", "ticket_id", "split", "customer_id")
    assert g.recorded == (RecordedColumns("gpt", "gpt_label", confidence="gpt_confidence", cost="gpt_cost"),)


def test_columns_are_guessed_by_content():
    table = many(40).rename(columns={"text": "c0", "label": "c1"})
    table["c0"] = [f"some words here {t}" for t in table["c0"]]
    assert (guess_columns(table).text, guess_columns(table).label) == ("c0", "c1")


def test_predictions_without_texts_are_guessed_in_prefix_style():
    rows = [["r1.txt", "0", "0", "0.7", "1", "0.9"], ["r2.txt", "1", "1", "0.8", "1", "0.6"]]
    g = guess_columns(frame(rows, ["id", "gold", "pred_0", "conf_0", "pred_100", "conf_100"]))
    assert (g.label, g.text) == ("gold", None)
    assert [(r.name, r.label, r.confidence) for r in g.recorded] == [
        ("pred_0", "pred_0", "conf_0"),
        ("pred_100", "pred_100", "conf_100"),
    ]


def test_many_blank_answers_mean_never_asked():
    table = many(20, llm=["x", "y"] * 3 + [""] * 14)
    (r,) = guess_columns(table).recorded
    assert not r.blank_is_failure


@pytest.mark.parametrize(
    ("table", "columns", "says"),
    [
        (many(), Columns("nope", text="text"), "no column 'nope'. The columns are 'text', 'label'"),
        (many(), Columns("label", text="label"), "picked for two things"),
        (many(), Columns("label"), "neither a text column"),
        (many().assign(label="x"), PLAIN, "All 20 labelled rows carry the label 'x'"),
        (many().assign(label=""), PLAIN, "Only 0 of 20 rows have a label"),
        (many(4), PLAIN, "Only 4 of 4 rows"),
        (many(split=["train", "tst"] * 10), Columns("label", "text", split="split"), "Row 2, split = 'tst'"),
        (
            many(p="x", c=["0.5"] * 16 + ["1.3"] + ["0.5"] * 3),
            Columns("label", "text", recorded=(RecordedColumns("llm", "p", "c"),)),
            r"Row 17, c = 1.3: must be in \[0, 1\]. Percentages",
        ),
        (
            many(p="x", c=["0.5"] * 5 + ["1,234"] * 15),
            Columns("label", "text", recorded=(RecordedColumns("llm", "p", cost="c"),)),
            r"Row 6, c = '1,234': over a thousand, or a bit over one.* \(15 such rows.\)",
        ),
        (
            many(p="x", c="-1"),
            Columns("label", "text", recorded=(RecordedColumns("llm", "p", cost="c"),)),
            "finite number of 0 or more",
        ),
        (many(p=""), Columns("label", "text", recorded=(RecordedColumns("llm", "p"),)), "blank in every row"),
    ],
)
def test_a_bad_table_is_refused_with_place_and_cure(table, columns, says):
    with pytest.raises(DatasetError, match=says):
        build(table, columns)


def notes(dataset):
    return " ".join(f"{n.what} {n.done}" for n in dataset.notes)


def test_a_tier_of_the_file_never_takes_the_name_of_one_that_is_made_here():
    twice = RecordedColumns("gpt", "q"), RecordedColumns("gpt", "r")
    columns = Columns("label", "text", recorded=(RecordedColumns("classifier", "p"), *twice))
    d = build(many(p="x", q="x", r="y"), columns)
    assert [t.name for t in d.recorded.tiers] == ["classifier (recorded)", "gpt", "gpt (r)"]
    assert "'classifier' is called 'classifier (recorded)'" in notes(d)
    assert "Two tiers have the name 'gpt'" in notes(d)


def test_texts_that_differ_in_numbers_alone_can_still_be_split():
    table = many(40)
    table["text"] = [f"text {i}" for i in range(40)]
    d = build(table, PLAIN)
    assert len(np.unique(d.group)) == 40
    assert "equal but for case, digits and punctuation: 1 kind." in notes(d)
    assert split(d).test.size


def test_unlabelled_and_empty_rows_are_left_out_and_reported():
    table = many()
    table.loc[0, "label"], table.loc[1, "label"], table.loc[2, "text"] = "", "NaN", "  "
    d = build(table, PLAIN)
    assert d.n_rows == 17
    assert d.row[0] == 4
    assert "2 rows have no label" in notes(d)
    assert "1 row has no text" in notes(d)


def test_duplicates_conflicts_and_rare_classes_are_reported():
    table = many()
    table.loc[len(table)] = ["Hello 12!", "x"]
    table.loc[len(table)] = ["hello, 13", "y"]
    table.loc[len(table)] = ["hello, 13", "y"]
    table.loc[len(table)] = ["unlike any other", "rare"]
    d = build(table, PLAIN)
    assert (d.n_duplicates, d.n_conflicts) == (1, 3)
    assert d.near_duplicate_share == pytest.approx(3 / 24)
    assert "1 class has one row only: 'rare'" in notes(d)
    assert len({*d.group[20:23]}) == 1


def test_near_duplicates_are_told_apart_by_every_letter():
    table = many(20)
    table.loc[:5, "text"] = ["दिन 1", "दान 2", "Learn C#", "learn C", "re\u0301clame", "réclame!"]
    d = build(table, PLAIN)
    assert len({*d.group[:4]}) == 4
    assert d.group[4] == d.group[5]
    assert "another label than a near-duplicate, such as “re" in notes(d)


def test_a_script_other_than_latin_is_said():
    table = many(20)
    table["text"] = [f"我要退款{t}" for t in "一二三四五六七八九十百千万亿东南西北中外"]
    assert "script other than Latin: Chinese. Read by runs of one to three characters" in notes(build(table, PLAIN))


def test_numeric_labels_are_names():
    d = build(many().assign(label=["1", "2"] * 10), PLAIN)
    assert d.classes == ("1", "2")
    assert "The labels are numbers" in notes(d)


def test_a_label_that_only_test_has_is_reported():
    table = many(40, split=["train"] * 20 + ["test"] * 20)
    table.loc[39, "label"] = "new"
    d = build(table, Columns("label", "text", split="split"))
    assert "1 label occurs only on the test side: 'new' (1 row)" in notes(d)
    s = split(d)
    assert s.given
    assert s.test.tolist() == list(range(20, 40))


def test_a_split_column_with_one_side_is_not_used():
    d = build(many(split="train"), Columns("label", "text", split="split"))
    assert d.given_split is None
    assert "Not used" in notes(d)


def test_duplicates_across_a_given_split_are_reported():
    table = many(40, split=["train"] * 20 + ["test"] * 20)
    table.loc[39, "text"] = table.loc[0, "text"].upper() + "!"
    d = build(table, Columns("label", "text", split="split"))
    assert "1 test rows (5.0%) have a near-duplicate" in notes(d)


def test_recorded_answers_are_matched_to_classes():
    said = ["x", " Y ", "z", ""] * 5
    d = build(many(p=said), Columns("label", "text", recorded=(RecordedColumns("llm", "p", price=0.002),)))
    assert d.recorded.label[:4, 0].tolist() == [0, 1, UNKNOWN, UNKNOWN]
    assert d.recorded.confidence[:4, 0].tolist() == [1.0, 1.0, 0.0, 0.0]  # its accuracy where it knows
    assert (d.recorded.cost == 0.002).all()
    assert "5 blank answers. Counted as failed" in notes(d)
    assert "not one of the classes: 'z'" in notes(d)
    assert "no confidences" in notes(d)


def test_rows_never_asked_are_nan():
    tier = RecordedColumns("llm", "p", price=0.002, blank_is_failure=False)
    d = build(many(p=["x", "y", "", ""] * 5), Columns("label", "text", recorded=(tier,)))
    assert d.recorded.asked[:4, 0].tolist() == [True, True, False, False]
    assert np.isnan(d.recorded.cost[2, 0])
    assert d.recorded.tiers[0].price == 0.002


def test_tokens_cost_what_they_cost():
    tier = RecordedColumns(
        "llm", "p", prompt_tokens="i", completion_tokens="o", prompt_price=2.0, completion_price=10.0
    )
    d = build(many(p="x", i="100", o="5"), Columns("label", "text", recorded=(tier,)))
    np.testing.assert_allclose(d.recorded.cost, (100 * 2 + 5 * 10) / 1e6)


def test_normalised_texts_without_letters_stay_apart():
    table = many()
    table.loc[0, "text"], table.loc[1, "text"] = "123", "456"
    d = build(table, PLAIN)
    assert d.group[0] != d.group[1]
    assert list(map(bare, ["Ä 1!", "ß?"])) == ["ä", "ss"]


@given(st.integers(0, 10_000), st.integers(20, 60), st.booleans())
def test_groups_are_never_separated(seed, n, with_groups):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "text": [f"{'abcdef'[i]} {j}" for i, j in zip(rng.integers(0, 6, n), rng.integers(0, 99, n), strict=True)],
            "label": rng.choice(["x", "y"], n),
            "customer": rng.choice(["", "c1", "c2", "c3"], n),
        },
        dtype=object,
    )
    table["text"] = [t if i % 2 else f"{t} {'ghijklmnop'[i % 10] * (i + 1)}" for i, t in enumerate(table["text"])]
    try:
        d = build(table, Columns("label", "text", group="customer" if with_groups else None))
        s = split(d)
    except DatasetError:
        return
    side = np.where(s.fold < 0, -1, s.fold)
    for g in np.unique(d.group):
        assert len(np.unique(side[d.group == g])) == 1
    near = list(map(bare, d.texts))
    for text in {*near} - {""}:
        assert len(np.unique(side[[t == text for t in near]])) == 1
    if with_groups:
        customer = table["customer"].to_numpy()[d.row - 1]
        for c in ("c1", "c2", "c3"):
            assert len(np.unique(side[customer == c])) <= 1


def test_a_split_is_stratified_balanced_and_seeded():
    d = build(labelled(300), PLAIN)
    s = split(d)
    assert len(s.test) == pytest.approx(90, abs=4)
    sizes = np.bincount(s.fold[s.tune])
    assert sizes.max() - sizes.min() <= 2
    assert len(sizes) == 20  # few rows: those that grade are fitted on 95 % of what ships
    assert split(d, n_folds=4).fold.max() == 3
    for code in range(3):
        assert (d.truth[s.test] == code).mean() == pytest.approx((d.truth == code).mean(), abs=0.02)
    np.testing.assert_array_equal(split(d).fold, s.fold)
    assert (split(d, seed=1).fold != s.fold).any()


def test_answered_rows_fall_on_both_sides():
    table = labelled(300)
    table["llm"] = [""] * 250 + ["billing"] * 50
    tier = RecordedColumns("llm", "llm", blank_is_failure=False)
    d = build(table, Columns("label", "text", recorded=(tier,)))
    s = split(d)
    assert 10 <= d.recorded.asked[s.test].sum() <= 20


def test_a_rare_class_stays_on_the_tune_side():
    table = labelled(100)
    table.loc[0, "label"] = "rare"
    d = build(table, PLAIN)
    assert split(d).fold[0] >= 0


def test_one_big_group_cannot_be_split():
    table = many(g="same")
    with pytest.raises(DatasetError, match="cannot be split"):
        split(build(table, Columns("label", "text", group="g")))


def test_the_fingerprint_changes_with_the_data():
    a, b = build(many(), PLAIN), build(many().assign(label=["y", "x"] * 10), PLAIN)
    assert a.fingerprint != b.fingerprint
    assert a.fingerprint == build(many(), PLAIN).fingerprint
