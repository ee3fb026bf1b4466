"""Reading: the same bytes give the same table everywhere; what people have goes in, and what was assumed is said."""

import gzip
import io
import json
import zipfile

import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.data import delimited, json_rows
from hybrid.data.found import Found
from hybrid.data.opening import form_of
from hybrid.data.pieces import pieces
from hybrid.data.read import read
from hybrid.data.stream import Source
from hybrid.errors import DatasetError


def csv(text):
    return text.encode()


def said(found):
    return " ".join(f"{n.what} {n.done}" for n in found.notes)


def workbook(*sheets):
    """Return an .xlsx file with these sheets, each a name and rows."""
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets:
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def as_parquet(table):
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0\r")), min_size=1, max_size=8))
def test_read_round_trips_any_text(texts):
    original = pd.DataFrame({"text": texts, "label": ["NA"] * len(texts)}, dtype=object)
    back = read("a.csv", original.to_csv(index=False, quoting=1, lineterminator="\n").encode()).table
    assert back["text"].tolist() == texts
    assert back["label"].tolist() == ["NA"] * len(texts)


PLAIN = {"text": ["hi", "yo"], "label": ["01", "None"]}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", csv("text,label\nhi,01\nyo,None\n")),
        ("a.tsv", csv("text\tlabel\nhi\t01\nyo\tNone\n")),
        ("a.csv", csv("text;label\r\nhi;01\r\nyo;None\r\n")),
        ("a.csv", csv("text|label\nhi|01\nyo|None\n")),
        ("a.csv", csv("text,label\rhi,01\ryo,None\r")),
        ("a.txt", csv("text\tlabel\nhi\t01\nyo\tNone\n")),
        ("a.csv", "text,label\nhi,01\nyo,None\n".encode("utf-8-sig")),
        ("a.csv", "text,label\nhi,01\nyo,None\n".encode("utf-16")),
        ("a.csv", "text,label\nhi,01\nyo,None\n".encode("utf-16-be")),
        ("a.csv.gz", gzip.compress(csv("text,label\nhi,01\nyo,None\n"), mtime=0)),
        ("a.csv", gzip.compress(csv("text,label\nhi,01\nyo,None\n"), mtime=0)),
        ("a.jsonl", csv('{"text": "hi", "label": "01"}\n\n{"text": "yo", "label": "None"}\n')),
        ("a.jsonl.gz", gzip.compress(csv('{"text": "hi", "label": "01"}\n{"text": "yo", "label": "None"}'), mtime=0)),
        ("a.json", csv('[{"text": "hi", "label": "01"},\n {"text": "yo", "label": "None"}]')),
        ("a.json", csv(json.dumps({"data": [{"text": "hi", "label": "01"}, {"text": "yo", "label": "None"}]}))),
        ("a.json", csv(json.dumps(PLAIN))),
        ("a.json", csv(pd.DataFrame(PLAIN).to_json())),
        ("a.CSV", csv("\ntext,label\n\nhi,01\nyo,None\n")),
        ("a.xlsx", workbook(("s", [["text", "label"], ["hi", "01"], ["yo", "None"]]))),
        ("a.parquet", as_parquet(pa.table(PLAIN))),
        ("a.csv", csv("sep=;\ntext;label\nhi;01\nyo;None\n")),
        ("a.csv", csv("Export of all tickets\n\ntext,label\nhi,01\nyo,None\n")),
        ("a.csv", csv('"Export, all tickets",\ntext,label\nhi,01\nyo,None\n')),
        ("a.csv", csv("text,label,\nhi,01,\nyo,None,\n")),
    ],
)
def test_formats_give_the_same_strings(name, content):
    assert read(name, content).table.to_dict("list") == PLAIN


def test_numbers_of_typed_files_become_their_exact_text():
    columns = {"text": ["a", None], "label": [1, 2], "c": [0.1 + 0.2, np.nan], "d": [3.0, np.nan], "e": [True, None]}
    expected = {
        "text": ["a", ""],
        "label": ["1", "2"],
        "c": ["0.30000000000000004", ""],
        "d": ["3", ""],
        "e": ["True", ""],
    }
    frame = pd.DataFrame(columns)
    out = io.BytesIO()
    frame.to_parquet(out)
    assert read("a.parquet", out.getvalue()).table.to_dict("list") == expected
    lines = "\n".join(json.dumps({k: None if v[i] != v[i] else v[i] for k, v in columns.items()}) for i in (0, 1))
    assert read("a.jsonl", lines.encode()).table.to_dict("list") == expected
    columns["c"], expected["c"] = [0.25, None], ["0.25", ""]  # openpyxl writes fewer digits
    rows = [list(columns), *([None if v[i] != v[i] else v[i] for v in columns.values()] for i in (0, 1))]
    assert read("a.xlsx", workbook(("s", rows))).table.to_dict("list") == expected


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", b"", "empty .0 bytes."),
        ("a.csv", b"\n\n", "blank"),
        ("a.csv", csv("text,label\n"), "header and no rows"),
        ("a.pdf", b"%PDF", "files end in"),
        ("a.xlsx", b"PK\3\4 no", "no .xlsx workbook"),
        ("a.xlsx", workbook(("s", [])), "is blank"),
        ("a.csv", csv("text,label,text\na,b,c\n"), "names 'text' more than once"),
        ("a.csv", csv("text,label\na,b\na,b,c\n"), "line 3: 3 fields where the header has 2"),
        ("a.csv", csv("text,label\na\n"), "line 2: 1 field "),
        ("a.csv", csv('text,label\n"a,b\n'), "line 2: a double quote opens there"),
        ("a.csv", csv('text,label\na,x\nb,"y\nc,x\nd,y\n'), "line 3: a double quote opens there"),
        ("a.csv", b"te\0xt,label\na,b\n", "line 1 has a zero byte"),
        ("a.jsonl", csv('{"text": "a"}\n{oops\n'), "line 2: not JSON"),
        ("a.jsonl", csv("[1]\n"), "line 1: list"),
        ("a.json", csv('[{"text": "a"}, '), "closing bracket"),
        ("a.jsonl", csv('{"text": "x"}\n{"text": ' + "[" * 5000 + "]" * 5000 + "}\n"), "line 2: brackets within"),
        ("a.jsonl", csv('{"text": 1' + "0" * 5000 + "}"), "line 1: a number of very many digits"),
        ("a.parquet", b"PAR1 nonsense", "not a parquet file or is damaged"),
        ("a.parquet", as_parquet(pa.table({"label": pa.array([0, 2**62], pa.timestamp("us"))})), "row 2, label"),
        ("a.csv.gz", b"\x1f\x8b broken", "does not unpack"),
        ("a.csv.gz", b"plain", "does not unpack"),
        ("a.csv.gz", gzip.compress(csv("text,label\nhi,01\n" * 99))[:-9], "does not unpack"),
    ],
)
def test_a_bad_file_is_refused_with_place_and_cure(name, content, says):
    with pytest.raises(DatasetError, match=says):
        read(name, content)


ROW = {"text": "a", "label": "b"}
BIG_CSV = csv("text,label\n" + "a,b\n" * 100)
WIDE = csv(",".join(f"c{i}" for i in range(60)) + "\n" + "1," * 59 + "1\n")


@pytest.mark.parametrize(
    ("variable", "limit", "name", "content"),
    [
        ("HYBRID_MAX_ROWS", 50, "a.csv", BIG_CSV),
        ("HYBRID_MAX_ROWS", 50, "a.jsonl", csv((json.dumps(ROW) + "\n") * 100)),
        ("HYBRID_MAX_ROWS", 50, "a.parquet", as_parquet(pa.table({"text": ["a"] * 100}))),
        ("HYBRID_MAX_ROWS", 50, "a.xlsx", workbook(("s", [["text"], *[["a"]] * 100]))),
        ("HYBRID_MAX_CELLS", 150, "a.csv", BIG_CSV),
        ("HYBRID_MAX_CELLS", 150, "a.jsonl", csv("\n".join(json.dumps({f"c{i}": i}) for i in range(50)))),
        ("HYBRID_MAX_COLUMNS", 50, "a.csv", WIDE),
        ("HYBRID_MAX_COLUMNS", 50, "a.jsonl", csv("\n".join(json.dumps({f"c{i}": i}) for i in range(60)))),
        ("HYBRID_MAX_LABEL", 50, "a.jsonl", csv((json.dumps({"text": 1}) + "\n") * 2000 + json.dumps({"l" * 60: 1}))),
        ("HYBRID_MAX_LABEL", 50, "a.parquet", as_parquet(pa.table({"l" * 60: ["a"]}))),
        ("HYBRID_MAX_LABEL", 20, "a.xlsx", workbook(("s" * 30, [["text"], ["a"]]))),
        ("HYBRID_MAX_FIELD_KB", 1, "a.csv", csv("text,label\n" + "a" * 2000 + ",b\n")),
        ("HYBRID_MAX_FIELD_KB", 1, "a.jsonl", csv(json.dumps({"text": "a" * 2000}))),
        ("HYBRID_MAX_FIELD_KB", 1, "a.parquet", as_parquet(pa.table({"text": ["a" * 2000]}))),
        ("HYBRID_MAX_DEPTH", 5, "a.jsonl", csv(json.dumps({"text": "a", "n": [[[[[[1]]]]]]}))),
        ("HYBRID_MAX_UNPACKED_MB", 1, "a.csv.gz", gzip.compress(b"text,label\n" + b"a,b\n" * 600_000)),
        ("HYBRID_MAX_UNPACKED_MB", 1, "a.parquet", as_parquet(pa.table({"text": ["a" * 99_999] * 20}))),
        ("HYBRID_MAX_UPLOAD_MB", 1, "a.csv", b"text,label\n" + b"a,b\n" * 600_000),
    ],
)
def test_a_limit_refuses_with_its_name_and_the_variable_that_raises_it(monkeypatch, variable, limit, name, content):
    assert len(read(name, content).table)
    monkeypatch.setenv(variable, str(limit))
    with pytest.raises(DatasetError, match=f"the limit is {limit}.*{variable}"):
        read(name, content)
    monkeypatch.setenv(variable, "none")
    with pytest.raises(DatasetError, match="whole number"):
        read(name, content)


def test_what_no_page_could_carry_is_no_name_and_is_counted_before_it_is_compared(monkeypatch):
    found = read("a.csv", csv("a " * 1_001 + ",x\nb,y\n"))
    assert (found.headed, len(found.table)) == (False, 2)
    with pytest.raises(DatasetError, match="first row is longer than 256 KB"):
        read("a.csv", csv("a" * 270_000 + ",x\nb,y\n"))
    monkeypatch.setenv("HYBRID_MAX_COLUMNS", "2")
    twice = pa.Table.from_arrays([pa.array(["a"])] * 3, names=["n"] * 3)
    with pytest.raises(DatasetError, match="3 columns, the limit is 2"):
        read("a.parquet", as_parquet(twice))


def test_a_workbook_that_unpacks_to_too_much_is_refused_unread(monkeypatch):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("xl/worksheets/sheet1.xml", b" " * 5_000_000)
    monkeypatch.setenv("HYBRID_MAX_UNPACKED_MB", "2")
    with pytest.raises(DatasetError, match="5 MB when it is unpacked, the limit is 2"):
        read("bomb.xlsx", out.getvalue())


@pytest.mark.parametrize(
    ("name", "content", "table", "note"),
    [
        ("a.csv", "text,label\ncafé €,x\nyo,y\n".encode("cp1252"), {"text": ["café €", "yo"]}, "Windows-1252"),
        (
            "a.csv",
            ("text,label\n" + "é" * 40).encode() + b"\xff,x\nyo,y\n",
            {"text": ["é" * 40 + "�", "yo"]},
            "1 sign is not valid UTF-8",
        ),
        ("a.csv", "text,label\nhi,x\nyo,y\n".encode("utf-16"), {"text": ["hi", "yo"]}, "UTF-16"),
        ("a.csv", csv("text,label,n\nhi,x\nyo,y,1\n"), {"text": ["hi", "yo"], "n": ["", "1"]}, "1 row has fewer"),
        ("a.csv", csv("Tickets 2024\ntext,label\nhi,x\nyo,y\n"), {"text": ["hi", "yo"]}, "stands above the header"),
        (
            "a.csv",
            csv("my card is lost,cards\nwhere is it,post\nno card yet,cards\n"),
            {"column 1": ["my card is lost", "where is it", "no card yet"]},
            "no row is lost",
        ),
        ("a.csv", csv(",text,label,\n0,a,b,\n"), {"row": ["0"], "text": ["a"], "label": ["b"]}, ""),
        ("a.csv", csv("text,,label\na,b,c\n"), {"column 2": ["b"]}, ""),
        (
            "a.jsonl",
            csv('{"text": "so \\ud83d", "tags": []}\n{"text": "\\ud83d\\ude00"}'),
            {"text": ["so �", "😀"]},
            "�",
        ),
        (
            "a.jsonl",
            csv('{"text": "a", "n": {"b": 1}}\n{"text": "b", "n": null}'),
            {"text": ["a", "b"]},
            "'n' holds nested",
        ),
        (
            "a.jsonl",
            csv('{"text": "a", "n": "x"}\n{"text": "b", "n": ["y"]}'),
            {"text": ["a", "b"], "n": ["x", '["y"]']},
            "'n' holds nested values in some rows, the first in row 2",
        ),
        (
            "a.parquet",
            as_parquet(pa.table({"text": ["a"], "v": [[1.0]], "b": [b"x"]})),
            {"text": ["a"]},
            "'v', 'b' hold",
        ),
        (
            "a.xlsx",
            workbook(("first", [["Report"], [], ["text", "label"], ["hi", 1.0]]), ("second", [["p"], ["q"]])),
            {"text": ["hi"], "label": ["1"]},
            "2 sheets",
        ),
    ],
)
def test_what_people_have_goes_in_with_a_note(name, content, table, note):
    found = read(name, content)
    assert {c: found.table[c].tolist() for c in table} == table
    assert note in said(found)
    assert len(found.table.columns) <= 3


def test_class_names_of_hugging_face_are_read():
    about = {"info": {"features": {"label": {"names": ["cards", "post"], "_type": "ClassLabel"}}}}
    table = pa.table({"text": ["a", "b", "c"], "label": [1, 0, -1]})
    found = read("a.parquet", as_parquet(table.replace_schema_metadata({"huggingface": json.dumps(about)})))
    assert found.table["label"].tolist() == ["post", "cards", ""]
    assert "class names" in said(found)
    assert "1 label has no name" in said(found)


def test_what_was_guessed_of_a_header_or_a_sheet_can_be_changed():
    content = csv("my card is lost,cards\nwhere is it,post\nno card yet,cards\n")
    assert not read("a.csv", content).headed
    assert list(read("a.csv", content, header=True).table.columns) == ["my card is lost", "cards"]
    assert len(read("a.csv", csv("text,label\na,b\n"), header=False).table) == 2
    book = workbook(("first", [["a"], ["b"]]), ("second", [["p"], ["q"]]))
    assert read("a.xlsx", book, sheet="second").table.to_dict("list") == {"p": ["q"]}
    with pytest.raises(DatasetError, match=r"no sheet 'third': it has 'first', 'second'"):
        read("a.xlsx", book, sheet="third")


def rows_of(batches):
    return pa.Table.from_batches(list(batches)).to_pylist()


FIELDS = st.text(st.sampled_from('ab1",;\n\r é'), max_size=5)


@given(st.lists(st.tuples(FIELDS, FIELDS), min_size=1, max_size=12), st.sampled_from("\n\r"), st.booleans())
def test_both_ways_through_a_delimited_file_read_the_same(rows, end, quoted):
    quoted |= any("\r" in field for row in rows for field in row)  # pandas does not quote these by itself
    text = pd.DataFrame(rows, columns=["text", "label"]).to_csv(
        index=False, quoting=1 if quoted else 0, lineterminator="\r\n" if end == "\r" else end
    )
    source = Source("a.csv", content=text.encode())
    form = delimited.delimited(source, header=True)
    exact = rows_of(form._exact(source, list(form.names), Found()))
    assert rows_of(form._fast(source, list(form.names), frozenset(), frozenset())) == exact
    assert [(r["text"], r["label"]) for r in exact] == rows


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False), st.text(max_size=4)
)


@given(st.data())
def test_both_ways_through_a_json_file_read_the_same(data):
    kinds = [
        data.draw(st.sampled_from([VALUES, st.text(max_size=3), st.integers(-9, 9), st.floats(-9, 9)])) for _ in "ab"
    ]
    rows = data.draw(st.lists(st.fixed_dictionaries(dict(zip("ab", kinds, strict=True))), min_size=1, max_size=9))
    source = Source("a.jsonl", content="\n".join(map(json.dumps, rows)).encode())
    form = json_rows.json_rows(source)
    exact = pa.Table.from_batches([json_rows._batch("", list(form.rows(source)), ["a", "b"], 0, Found())])
    streamed = form.batches(source, ["a", "b"], found=Found())
    assert rows_of(streamed) == exact.to_pylist()


def test_a_row_that_is_not_regular_far_into_a_file_changes_nothing_before_it(tmp_path):
    regular = "".join(f'text {i},"{"a" if i % 2 else "b"}",0.{i % 10}\n' for i in range(60_000))
    path = tmp_path / "log.csv"
    path.write_text("text,label,c\n" + regular + "short,a\n" + 'with "quotes",b,93%\n')
    source = Source("log.csv", path=str(path))
    form, found = form_of(source), Found()
    batches = list(form.batches(source, ["label", "c"], coded=["label"], numbers=["c"], found=found))
    assert sum(b.num_rows for b in batches) == 60_002
    assert found.short == 1
    texts = [str(v) for b in batches for v in b.column(1).to_pylist()]
    assert texts[:3] + texts[-2:] == ["0.0", "0.1", "0.2", "", "93%"]
    assert read("log.csv", path.read_bytes()).table["label"].tolist() == [
        v for b in batches for v in b.column(0).to_pylist()
    ]


def test_equal_texts_are_held_once():
    table = read("a.csv", csv("text,label\n" + "the same text,one label\n" * 1000)).table
    assert len({id(v) for v in table["text"]}) == 1


def test_the_command_line_and_the_page_read_the_same(tmp_path):
    contents = {
        "cp.csv": "text;label;c\ncafé;NA;0,93\nyo, you;y;93%\n".encode("cp1252"),
        "wide.csv": "text,label,c\nhi,1.0,1\nyo,2,\n".encode("utf-16"),
        "short.csv.gz": gzip.compress(csv("Title\ntext,label,c\nhi,x\n" + '"a\nb",NA,1\n' * 3)),
        "types.jsonl": csv('{"text": "a", "label": 1.0, "c": 1}\n{"label": 2, "c": 0.5, "text": "\\ud83d"}'),
        "array.json": csv('[{"text": "a", "label": true, "c": "1"}, {"text": "b", "label": null, "c": 2}]'),
        "key.json": csv('{"data": [{"text": "a", "label": 1, "c": 1}, {"text": "b", "label": 2.0, "c": 2}]}'),
        "turned.json": csv('{"text": ["a", "b"], "label": [1, "x"], "c": [null, 2]}'),
        "mixed.jsonl": csv('{"text": "a", "label": "x", "c": 1}\n{"text": ["b", "c"], "label": "y", "c": 2}'),
        "types.parquet": as_parquet(pa.table({"text": ["a", None], "label": [1.0, None], "c": [1, 2]})),
        "book.xlsx": workbook(("s", [["text", "label", "c"], ["a", 1.0, 0.5], ["b", True, None]])),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        names = ["text", "label"]
        batches = [b for p in pieces(tmp_path / name) for b in p.batches(names, coded=["label"])]
        streamed = {c: [v or "" for b in batches for v in b.column(i).to_pylist()] for i, c in enumerate(names)}
        assert streamed == read(name, content).table[names].to_dict("list"), name
