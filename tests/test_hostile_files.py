"""Hostile files: whatever is uploaded, the answer is a table or a message, in bounded time and memory."""

import fuzz_files
import pytest


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
