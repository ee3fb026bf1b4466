"""Hostile files: whatever is uploaded, the answer is a table or a message, in bounded time and memory."""

import fuzz_files
import pytest

from hybrid.data import apart
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
