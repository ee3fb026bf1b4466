"""Labels: one matcher, which folds how a name is written and never what it says."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from conftest import labelled
from hypothesis import given
from hypothesis import strategies as st
from test_bundle import export, policy_of
from test_tally import tally_of

from hybrid.data import pieces
from hybrid.data.columns import Columns, RecordedColumns
from hybrid.data.dataset import build
from hybrid.data.labels import Matcher, fold, keep_apart, spelling
from hybrid.errors import DatasetError
from hybrid.production.promise import evaluate
from hybrid.production.runtime import Answer
from hybrid.routing.engine import Policy
from hybrid.routing.patterns import Triage
from hybrid.routing.table import UNKNOWN
from hybrid.tiers.llm.replies import read_label
from hybrid.tuning import streaming

PLAIN = Columns("label", text="text")
SIGNS = ("C", "C#", "C++", "1.5", "15", "-1", "1", "दिन", "दान", "A/B", "AB")


@pytest.mark.parametrize(
    ("classes", "said", "means"),
    [
        (("late delivery", "other"), "  Late\u00a0DELIVERY\u200b", 0),
        (("réclamation", "accès"), "re\u0301clamation", 0),
        (("card_arrival", "other"), "Card arrival", 0),
        (("card_arrival", "other"), "CardArrival", 0),
        (("ＡＢＣ", "other"), "abc", 0),
        (("can't pay", "other"), "Can’t pay", 0),
        (("İade", "other"), "iade", 0),
        (("1", "2"), 1.0, 0),
        (("1", "2"), np.int64(2), 1),
        (("1", "2"), True, UNKNOWN),  # 2 is no truth value, so 1 is none either
        (("0", "1"), True, 1),
        (("False", "True"), "0", 0),
        (("us", "US"), "US", 1),
        (("us", "US"), "Us", UNKNOWN),
        (("Masse", "Maße"), "masse", 0),
        (("Masse", "Maße"), "MASSE", 0),
        (("billing", "other"), "billin", UNKNOWN),
        (("billing", "other"), None, UNKNOWN),
        (("billing", "other"), ["billing"], UNKNOWN),
        (("A-1", "A1"), "A 1", UNKNOWN),
        *((tuple(s for s in SIGNS if s != one), one, UNKNOWN) for one in SIGNS),
        *((SIGNS, one, i) for i, one in enumerate(SIGNS)),
    ],
)
def test_a_name_means_one_class_or_none(classes, said, means):
    assert Matcher(classes)(said) == means


@given(st.lists(st.text(min_size=1, max_size=6), min_size=2, max_size=6, unique=True), st.text(max_size=6))
def test_a_class_is_always_found_by_its_own_name(classes, other):
    code = Matcher(tuple(classes))
    assert [code(c) for c in classes] == list(range(len(classes)))
    assert code(other) in range(-1, len(classes))
    found = fold(dict.fromkeys(classes, 1))
    assert sorted(found.code) == sorted(classes)
    assert len({spelling(c) for c in found.classes}) == len(found.classes)


def test_truth_values_and_whole_numbers_are_one_class():
    assert fold({"1": 3, "1.0": 5, "2": 1}).classes == ("1.0", "2")
    assert fold({"True": 3, "1": 2, "0.0": 1}).classes == ("0.0", "True")
    assert fold({"True": 3, "1": 2, "2": 1}).classes == ("1", "2", "True")
    assert keep_apart(["b", "B", ""]).classes == ("B", "b")


def variants():
    frame = labelled(90)
    frame["label"] = [(lab, lab.title(), lab.upper() + " ", lab)[i % 4] for i, lab in enumerate(frame["label"])]
    return frame


def test_spellings_are_one_class_with_a_note_and_can_be_kept_apart():
    folded = build(variants(), Columns("label", text="text"))
    assert folded.classes == ("billing", "shipping", "technical")
    assert set(folded.folded["billing"]) == {"BILLING", "Billing"}
    (note,) = (n for n in folded.notes if "6 spellings differ" in n.what)
    assert "for 'billing'" in note.what
    apart = build(variants(), Columns("label", text="text", fold_labels=False))
    assert len(apart.classes) == 9
    assert not apart.folded


def test_answers_that_are_no_class_are_counted_and_the_most_frequent_shown():
    frame = labelled(60)
    frame["llm"] = frame["label"].str.title()
    frame.loc[:9, "llm"] = ["refund"] * 7 + ["C#"] * 3
    tiers = (RecordedColumns("llm", "llm", price=1.0),)
    notes = " ".join(n.what for n in build(frame, Columns("label", text="text", recorded=tiers)).notes)
    assert "10 answers of llm are not one of the classes: 'refund' (7), 'C#' (3)." in notes
    assert "50 answers of llm spell a class in another way" in notes


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_streamed_file_reads_labels_as_the_page_does(tmp_path, suffix):
    n = 400
    frame = pd.DataFrame({"label": ["billing", "Shipping ", "shipping", "BILLING"] * (n // 4)})
    frame["cheap_label"] = ["billing", "shipping", "SHIPPING", "refund"] * (n // 4)
    frame["cheap_confidence"] = 0.5
    frame["llm_label"] = frame["label"].str.upper()
    path = tmp_path / f"log.{suffix}"
    frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path, index=False)
    source = pieces.pieces(path)
    plan = streaming.plan(source, streaming.guess(source).columns, ["cheap", "llm"])
    assert plan.classes == ("BILLING", "Shipping")  # as often written as the others, and first
    sides = streaming.tally_pieces(source, plan)
    assert sides.strange == {"cheap": Counter(refund=100)}
    dataset = build(frame.astype(str), streaming.guess(source).columns)
    right = (dataset.recorded.label == dataset.truth[:, None]).sum(axis=0)
    assert right.tolist() == [300, 400]
    both = sides.tune + sides.test
    assert both.n_rows == n
    loaded = tally_of(Policy(Triage(0.5), dataset.recorded.tiers), dataset.recorded, dataset.truth)
    np.testing.assert_array_equal(both.right, loaded.right)
    apart = streaming.plan(
        source, Columns("label", recorded=streaming.guess(source).columns.recorded, fold_labels=False), []
    )
    assert len(apart.classes) == 4


def test_replies_are_read_by_the_same_rule():
    assert read_label('{"label": "c#"}', ["C", "C#"]) == 1
    assert read_label('{"label": "Late  Delivery"}', ["late_delivery", "other"]) == 0


def test_functions_in_production_and_evaluation_are_too(recording):
    """A file whose labels are written in capitals holds as well as one that spells them as the bundle does."""
    dataset, rows = recording.dataset, recording.split.test
    content = export(recording, policy_of(recording, "triage", threshold=0.8))
    said = dict(zip(dataset.texts[rows], recording.predictions.label[rows, 2], strict=True))

    def shouting(texts):
        return [Answer(dataset.classes[said[t]].upper() + "\u00a0", 0.9, 0.0) for t in texts]

    def answering(texts):
        return [Answer(dataset.classes[said[t]], 0.9, 0.0) for t in texts]

    frame = pd.DataFrame({"text": dataset.texts[rows], "label": np.array(dataset.classes)[dataset.truth[rows]]})
    plain = evaluate(content, build(frame, PLAIN), models={"llm": answering})
    copied = evaluate(content, build(pd.concat([frame] * 4), PLAIN), models={"llm": answering})
    assert copied.accuracy.half_width == pytest.approx(plain.accuracy.half_width, rel=0.3)  # not half of it
    frame["label"] = frame["label"].str.title()
    assert evaluate(content, build(frame, PLAIN), models={"llm": shouting}) == plain
    frame.loc[:2, "label"] = "Refund"
    assert evaluate(content, build(frame, PLAIN), models={"llm": shouting}).unknown == {"Refund": 3}
    frame["label"] = np.where(np.arange(len(frame)) % 2, "x", "y")
    with pytest.raises(DatasetError, match="None of the file's labels is a class of the bundle"):
        evaluate(content, build(frame, PLAIN), models={"llm": shouting})
