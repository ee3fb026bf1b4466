"""Hostile files: whatever is uploaded, the answer is a table or a message, in bounded time and memory."""

import gzip
import io
import json
from concurrent.futures import CancelledError

import fuzz_files
import pandas as pd
import pytest
from test_bundle_attacks import lying, peak_mb

from hybrid.data import apart, json_rows
from hybrid.data.read import read
from hybrid.errors import DatasetError


@pytest.mark.parametrize("seed", range(5))
def test_no_file_ends_in_a_foreign_exception(seed):
    said = [fuzz_files.load(name, content) for name, content in fuzz_files.files(80, seed=seed)]
    refused = [message for message in said if message]
    assert 0 < len(refused) < len(said)
    assert all(message.endswith((".", ".)", "?")) for message in refused), refused


def test_the_fuzzer_tells_a_foreign_exception(monkeypatch):
    monkeypatch.setattr(fuzz_files, "read", lambda name, content: {}["no"])
    with pytest.raises(KeyError):
        fuzz_files.load("a.csv", b"text,label\n")


def test_a_large_file_is_read_apart_and_ended_where_it_takes_too_much(monkeypatch):
    content = "text,label\ncafé,NA\n".encode("cp1252") * 50
    here = read("a.csv", content)
    monkeypatch.setattr(apart, "LARGE", 1)
    there = apart.read_apart("a.csv", content)
    assert there.table.equals(here.table)
    assert (there.notes, there.headed) == (here.notes, True)
    with pytest.raises(DatasetError, match="line 2: 3 fields where the header has 2"):
        apart.read_apart("a.csv", b"text,label\na,b,c\n")
    monkeypatch.setenv("HYBRID_MAX_READ_MB", "100")  # less than a reader needs to start
    with pytest.raises(DatasetError, match="HYBRID_MAX_READ_SECONDS and HYBRID_MAX_READ_MB"):
        apart.read_apart("a.csv", content)
    with pytest.raises(CancelledError):
        apart.read_apart("a.csv", content, stopped=lambda: True)


def test_what_may_become_anything_is_read_apart_however_small_it_is(monkeypatch):
    monkeypatch.setattr(apart, "read", lambda *_, **__: "here")
    monkeypatch.setattr(apart.subprocess, "Popen", lambda *_, **__: 1 / 0)
    rows = b"text,label\n" + b"a,b\n" * (apart.LARGE // 4)
    for name, content in {"a.csv": rows[:-99], "a.csv.gz": gzip.compress(rows[:-99]), "b.csv.gz": b"\x1f\x8b?"}.items():
        assert apart.read_apart(name, content) == "here"
    two = gzip.compress(b"text,label\n") + gzip.compress(rows)
    for name, content in {"a.csv": rows, "a.csv.gz": gzip.compress(rows), "b.csv.gz": two, "c.csv": b"PAR1"}.items():
        with pytest.raises(ZeroDivisionError):
            apart.read_apart(name, content)
    table = pd.DataFrame({"text": ["a"], "label": ["b"]})
    for name, write in {"a.parquet": table.to_parquet, "a.xlsx": table.to_excel}.items():
        write(out := io.BytesIO())
        with pytest.raises(ZeroDivisionError):
            apart.read_apart(name, out.getvalue())


def test_a_file_that_lies_of_its_size_is_refused_before_it_is_unpacked():
    def refused():
        for method, says in ((8, "Bad CRC"), (12, "packed otherwise")):
            with pytest.raises(DatasetError, match=says):
                read("a.xlsx", lying("[Content_Types].xml", 100 << 20, method))

    assert peak_mb(refused) < 60


def test_rows_and_values_of_json_count_though_they_hold_nothing(monkeypatch):
    rows = [{"text": "a"}] * 30
    monkeypatch.setenv("HYBRID_MAX_ROWS", "1000")
    with pytest.raises(DatasetError, match="HYBRID_MAX_ROWS"):
        read("a.jsonl", b'{"text": "a"}\n' + b"{}\n" * 1_100)
    monkeypatch.setattr(json_rows, "LARGE", 100)
    assert len(read("a.json", json.dumps({"data": rows}).encode()).table) == 30
    monkeypatch.setenv("HYBRID_MAX_CELLS", "1000")
    with pytest.raises(DatasetError, match="HYBRID_MAX_CELLS"):
        read("a.json", b'{"data": [' + b"{}," * 1_000 + b"{}]}")


def test_a_label_is_a_name_and_no_text():
    content = b"text,label\n" + b"".join(b"word%d a,%s\n" % (i, (b"a" if i % 2 else b"b" * 2_001)) for i in range(40))
    assert "2,001 characters in one label, the limit is 2,000" in fuzz_files.load("a.csv", content)
    assert fuzz_files.load("a.csv", content.replace(b"b" * 2_001, b"b" * 2_000)) == ""
