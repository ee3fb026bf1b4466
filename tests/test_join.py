"""Joins: an answer belongs to one row; what joined, was left or repeats is counted."""

import pandas as pd
import pytest
from test_dataset import PLAIN, many

from hybrid.data.columns import Columns, RecordedColumns
from hybrid.data.join import join
from hybrid.errors import DatasetError

IDS = Columns("label", text="text", id="id")


def said(joined):
    return " ".join(f"{n.what} {n.done}" for n in joined.notes)


def second(**columns):
    return pd.DataFrame(columns, dtype=object)


def numbered(n=20, form="{}"):
    return many(n, id=[form.format(i) for i in range(n)])


def test_a_second_file_joins_by_text_and_adds_rows():
    more = second(question=["aa", "bb", "new one"], intent=["x", "x", "y"], gpt=["x", "y", "y"])
    joined = join(many(), more, first_columns=PLAIN)
    table = joined.table
    assert len(table) == 21
    assert table.loc[[0, 1, 20], "gpt"].tolist() == ["x", "y", "y"]
    assert table.loc[2, "gpt"] == ""
    assert table.loc[1, "label"] == "y"  # the first file's label stays
    assert "2 rows joined by text, 1 row added; 18 rows of the first found no partner" in said(joined)
    assert "1 label differs" in said(joined)


def test_a_second_file_joins_by_id_first():
    more = second(id=["3", "99"], gpt=["x", "y"], label=["y", "x"], text=["other", "added"])
    table = join(numbered(), more, first_columns=IDS).table
    assert table.loc[3, "gpt"] == "x"
    assert table.loc[3, "text"] == numbered().loc[3, "text"]
    assert table.loc[20, ["id", "text", "label"]].tolist() == ["99", "added", "x"]


def test_files_with_nothing_in_common_do_not_join():
    with pytest.raises(DatasetError, match="No row of the second file joins"):
        join(many(), second(text=["zzz"], gpt=["x"]), first_columns=PLAIN)
    with pytest.raises(DatasetError, match="cannot be joined: both need an id"):
        join(many(), second(gpt=["x"] * 20), first_columns=PLAIN)


def test_an_id_that_several_texts_share_joins_none_of_them():
    shared = many(60, id=[str(i // 3) for i in range(60)])
    answers = second(id=[str(i) for i in range(20)], llm_label=["x", "y"] * 10)
    with pytest.raises(DatasetError, match="'id' does not name rows: in the first file '0' stands on 3 rows"):
        join(shared, answers, first_columns=IDS)
    partly = pd.concat([shared.head(3), many(20, id=[str(i) for i in range(1, 21)])], ignore_index=True)
    joined = join(partly, answers, first_columns=IDS)
    assert joined.table["llm_label"].tolist()[:3] == ["", "", ""]
    assert "19 rows joined by id" in said(joined)
    assert "3 rows of the first file share 'id' with rows of other texts. Not joined" in said(joined)


def test_an_id_that_is_no_id_gives_way_to_the_text_where_both_have_one():
    shared = many(60, id=[str(i // 3) for i in range(60)])
    answers = shared[["id", "text"]].assign(llm_label=["x", "y", "x"] * 20)
    joined = join(shared, answers, first_columns=IDS)
    assert joined.table["llm_label"].tolist() == ["x", "y", "x"] * 20
    assert "20 values of 'id' stand on several texts. Joined by text instead" in said(joined)


def test_one_text_on_several_rows_takes_its_answer_on_each_and_is_counted():
    first = pd.concat([many(), many().head(4)], ignore_index=True)
    joined = join(first, second(text=first["text"].head(4), gpt=["x"] * 4), first_columns=PLAIN)
    assert (joined.table["gpt"] == "x").sum() == 8
    assert "8 rows joined by text, 0 rows added; 4 rows of the second file stand on 8 with equal text" in said(joined)


def test_repeated_rows_of_the_second_file_are_counted_and_the_first_counts():
    answers = second(id=["1", "1", "1", "2"], gpt=["x", "x", "y", "y"])
    joined = join(numbered(), answers, first_columns=IDS)
    assert joined.table.loc[[1, 2], "gpt"].tolist() == ["x", "y"]
    assert "2 rows of the second file repeat an earlier id; 1 of them say something else" in said(joined)
    assert "2 rows of the second left out" in said(joined)


@pytest.mark.parametrize(("ours", "theirs"), [("{:03}", "{}"), ("{}", "{}.0"), ("T-{}", "t-{} "), ("{:04}", "{}.00")])
def test_ids_join_however_they_are_written_where_only_one_would_do(ours, theirs):
    answers = second(id=[theirs.format(i) for i in range(20)], gpt=["x", "y"] * 10)
    joined = join(numbered(form=ours), answers, first_columns=IDS)
    assert joined.table["gpt"].tolist() == ["x", "y"] * 10
    assert len(joined.table) == 20


def test_ids_are_not_guessed_at():
    first = many(20, id=["7", "07", *map(str, range(100, 118))])
    answers = second(id=["007", "100"], gpt=["x", "y"])
    joined = join(first, answers, first_columns=IDS)
    assert joined.table["gpt"].tolist()[:3] == ["", "", "y"]


def test_line_ends_within_texts_and_the_writing_of_names_do_not_matter():
    first = many(20, text=[f"line {i}\nnext" for i in range(20)], ticket_id=[str(i) for i in range(20)])
    crlf = second(TEXT=[f"line {i}\r\nnext\r\n" for i in range(20)], gpt=["x", "y"] * 10)
    assert join(first, crlf, first_columns=PLAIN).table["gpt"].tolist() == ["x", "y"] * 10
    named = second(**{"Ticket ID": [str(i) for i in range(20)], "gpt": ["x", "y"] * 10})
    joined = join(first, named, first_columns=Columns("label", text="text", id="ticket_id"))
    assert joined.table["gpt"].tolist() == ["x", "y"] * 10
    assert "Ticket ID" not in joined.table


def test_a_join_keeps_every_pick_and_adds_the_tiers_that_are_new():
    picked = Columns("intent", text="said", id="id", recorded=(RecordedColumns("gpt", "intent 2", price=0.1),))
    first = numbered().rename(columns={"text": "said", "label": "intent"}).assign(**{"intent 2": "x", "label": "no"})
    answers = second(id=[str(i) for i in range(20)], mini_label=["x", "y"] * 10, mini_cost=["0.1"] * 20)
    columns = join(first, answers, first_columns=picked).columns
    assert (columns.label, columns.text, columns.id) == ("intent", "said", "id")
    assert columns.recorded == (picked.recorded[0], RecordedColumns("mini", "mini_label", cost="mini_cost"))


def test_values_that_differ_are_counted_and_rows_that_cannot_stand_alone_are_left_out():
    first = numbered().assign(gpt=["x"] * 10 + [""] * 10)
    answers = second(id=[*map(str, range(20)), "77"], gpt=["y"] * 21)
    joined = join(first, answers, first_columns=IDS)
    assert joined.table["gpt"].tolist() == ["x"] * 10 + ["y"] * 10
    assert "10 values of 'gpt' differ between the files" in said(joined)
    assert "1 row of the second left out" in said(joined)
