"""Guesses: the customer's text, the true label, the models; and a question where the names do not say."""

import pandas as pd
import pytest
from conftest import labelled

from hybrid.data.columns import Columns, model_behind
from hybrid.data.dataset import build
from hybrid.data.guess import guess, role_of
from hybrid.data.leaks import too_good
from hybrid.data.several import as_combinations, as_question, first_label
from hybrid.errors import DatasetError


def table(**columns):
    """Return 60 rows of texts under these names; a callable makes each value from the row's number."""
    texts = labelled(60)["text"]
    return pd.DataFrame(
        {name: texts if make is None else [make(i) for i in range(60)] for name, make in columns.items()}, dtype=object
    )


def of(*names):
    return lambda i: names[i % len(names)]


AB = of("a", "b")
SHOWN = {
    "bitext": (
        table(flags=of("BL"), instruction=None, category=of("a", "b"), response=of("we are sorry to hear it")),
        ("instruction", "category", [], []),
    ),
    "ratings": (
        table(**{"Ticket Description": None, "Ticket Type": of("a", "b"), "Satisfaction Rating": of("1", "2", "3")}),
        ("Ticket Description", "Ticket Type", [], []),
    ),
    "urgencies": (
        table(short_description=None, impact=of("1", "2"), urgency=of("2", "1"), priority=of("1", "1", "2")),
        ("short_description", "priority", [], ["label"]),
    ),
    "german": (
        table(
            **{
                "Anliegen": None,
                "Kategorie": AB,
                "Antwort GPT (v3)": of("a", "b"),
                "KI_Vorschlag#2": of("a", "b"),
            }
        ),
        ("Anliegen", "Kategorie", ["Antwort GPT (v3)", "KI_Vorschlag#2"], []),
    ),
    "a model alone": (table(prompt=None, gpt4_label=of("a", "b")), ("prompt", "gpt4_label", ["gpt4_label"], ["label"])),
    "truth values": (
        table(text=None, label=of("0", "1"), llm_label=of("False", "1.0")),
        ("text", "label", ["llm_label"], []),
    ),
}


@pytest.mark.parametrize("shown", SHOWN.values(), ids=SHOWN)
def test_columns_are_what_a_person_would_say(shown):
    given, (text, label, models, asks) = shown
    found = guess(given)
    assert (found.columns.text, found.columns.label) == (text, label)
    assert [r.label for r in found.columns.recorded] == models
    assert [a.about for a in found.asks] == asks
    if asks:
        with pytest.raises(DatasetError, match="Name the column with --label"):
            found.settled("label")
        assert not guess(given, picked={"label": label}).asks


def test_labels_of_a_model_are_agreement_unless_people_are_said_to_have_written_them():
    given = table(prompt=None, gpt4_label=of("a", "b"))
    columns = guess(given).columns
    data = build(given, columns)
    assert data.agreement_with == "gpt4"
    assert any("agreement with that model, not accuracy" in n.done for n in data.notes)
    assert build(given, Columns("gpt4_label", text="prompt", reference="")).agreement_with is None
    assert model_behind("Ticket Type") is None


def test_what_is_said_of_a_column_counts_and_the_rest_is_guessed_around_it():
    given = table(text=None, topic=AB, mood=AB, gpt4=of("a", "b"), sure=of("0.5", "0.9"), remark=AB)
    usual = guess(given).columns
    assert (usual.label, role_of(usual, "gpt4"), role_of(usual, "sure")) == ("topic", "answer", "unused")
    other = guess(given, said={"mood": "label", "sure": "confidence", "topic": "unused", "remark": "unused"}).columns
    assert other.label == "mood"
    assert {r.label: r.confidence for r in other.recorded} == {"gpt4": "sure"}
    assert role_of(other, "topic") == "unused"
    assert guess(given, said={"topic": "answer"}).asks  # what is left has no name to go by
    assert role_of(guess(given, said={"text": "unused"}).columns, "text") == "unused"
    assert guess(given, picked={"label": "topic"}, said={"topic": "id"}).columns.label != "topic"


def test_rows_that_seem_to_belong_together_are_asked_about():
    given = table(text=None, label=AB, customer_no=of(*map(str, range(30))))
    (ask,) = guess(given).asks
    assert (ask.about, ask.options) == ("group", ("customer_no",))
    assert guess(given).columns.group is None
    assert guess(given).settled("label", "text").label == "label"  # whoever cannot ask goes on
    assert not guess(given, picked={"group": None}).asks
    given["customer_no"] = [str(i) for i in range(60)]  # no value repeats
    assert not guess(given).asks


def test_several_labels_are_recognised_and_made_into_one_question_each():
    given = table(text=None, label=of("b|a", "a|b", "a", "b|B"))
    found = guess(given).several
    assert (found.kind, found.separator, set(found.names)) == ("joined", "|", {"a", "b"})
    first, whole, asked = first_label(given, found), as_combinations(given, found), as_question(given, found, "a")
    assert first.table[first.label].tolist()[:4] == ["b", "a", "a", "b"]
    assert whole.table[whole.label].tolist()[:4] == ["a | b", "a | b", "a", "b"]
    assert asked.table[asked.label].tolist()[:4] == ["yes", "yes", "yes", "no"]
    assert "label" in given
    assert first.label not in given
    marks = table(text=None, toxic=of("1", "0", "0"), insult=of("1", "0"), threat=of("0", "1", "0", "0"))
    assert set(guess(marks).several.names) == {"toxic", "insult", "threat"}
    assert guess(table(text=None, label=of('["a", "b"]', '["a"]'))).several.kind == "list"
    assert guess(table(text=None, label=of("Heating, air", "Doors, windows", "Other"))).several is None


def test_what_is_too_good_to_be_true_is_doubted():
    given = table(
        text=lambda i: f"my {'ab'[i % 2] * 3} trouble {chr(97 + i % 26) * 9}{'z' * i}", label=of("aaa", "bbb")
    )
    given["code"] = [str(i % 2) for i in range(60)]
    given["llm"] = given["label"]
    notes = [n.what for n in build(given, guess(given).columns).notes]
    assert any("the text holds the name of its own class" in n for n in notes)
    assert any("'code' tells the label in every row" in n for n in notes)
    assert any("llm is right in 100.00% of 60 rows" in n for n in notes)
    assert too_good("llm", (given["label"] == "aaa").to_numpy()) is None
