"""Numbers as people write them: read where they are clear, asked about where they are not."""

import numpy as np
import pytest
from test_dataset import many, notes

from hybrid.data.columns import Columns, RecordedColumns
from hybrid.data.dataset import build
from hybrid.data.numbers import number_of
from hybrid.errors import DatasetError


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("0.93", "confidence", 0.93),
        (" 93% ", "confidence", 0.93),
        ("0,93", "confidence", 0.93),
        ("92,5 %", "confidence", 0.925),
        ("1.234,5", "latency", 1234.5),
        ("1,234.5", "latency", 1234.5),
        ("1,234", "tokens", 1234),
        ("1,234", "cost", np.nan),
        ("$0.002", "cost", 0.002),
        ("0.002 USD", "cost", 0.002),
        ("€0.002", "cost", np.nan),  # another currency is no amount of USD
        ("850ms", "latency", 0.85),
        ("93%", "cost", np.nan),
        ("1_000", "tokens", np.nan),
        ("sure", "confidence", np.nan),
    ],
)
def test_a_number_is_read_as_it_is_meant_or_not_at_all(text, kind, value):
    np.testing.assert_equal(number_of(text, kind)[0], value)


def recorded(**parts):
    return Columns("label", "text", recorded=(RecordedColumns("llm", "p", **parts),))


def test_what_was_assumed_of_numbers_is_said():
    values = ["93%"] * 5 + ["0,9"] * 5 + ["1.0000001192"] * 5 + ["0.5"] * 5
    d = build(many(p="x", confidence=values), recorded(confidence="confidence"))
    assert d.recorded.confidence[[0, 5, 10, 15], 0].tolist() == [0.93, 0.9, 1.0, 0.5]
    for said in ("5 values of 'confidence' (llm) are written with %", "5 values of 'confidence' (llm) have a decimal"):
        assert said in notes(d)
    assert "5 values of 'confidence' (llm) lie beyond 0 and 1 by no more than rounding. Clipped" in notes(d)
    with pytest.raises(DatasetError, match=r"Row 1, confidence = 1\.1: must be in"):
        build(many(p="x", confidence="1.1"), recorded(confidence="confidence"))


def test_latencies_that_look_like_milliseconds_are_asked_about():
    d = build(many(p="x", latency="850"), recorded(latency="latency"))
    assert "llm takes 850 seconds an answer by 'latency'. Are these milliseconds?" in notes(d)
    assert d.recorded.latency[0, 0] == 850
    d = build(many(p="x", latency_ms="850"), recorded(latency="latency_ms"))
    assert d.recorded.latency[0, 0] == 0.85
    told = recorded(latency="latency", milliseconds=True)
    assert build(many(p="x", latency="850"), told).recorded.latency[0, 0] == 0.85


def test_too_many_classes_are_refused_at_once(monkeypatch):
    monkeypatch.setenv("HYBRID_MAX_CLASSES", "5")
    with pytest.raises(DatasetError, match=r"'label'.* has at least 20 classes, the limit is 5.*HYBRID_MAX_CLASSES"):
        build(many(label=[f"class {'abcdefghijklmnopqrst'[i]}" for i in range(20)]), Columns("label", "text"))
