"""The Support page and its parts: what a user pastes, edits and downloads."""

import csv
import io
import json
from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd
import pytest
from conftest import again, labelled
from test_dashboard import ROOT, open_page, press
from test_support import CLASSES, keyword_bundle, say

import hybrid
from hybrid.dashboard import wording
from hybrid.dashboard.inert import inert
from hybrid.dashboard.support import run as support_run
from hybrid.dashboard.support import settings as support_settings
from hybrid.dashboard.support import view as support_view
from hybrid.dashboard.support.page import EXAMPLES
from hybrid.dashboard.support.quality import GOLD, gold_of, gold_texts, llm_scores, rule_scores
from hybrid.errors import SupportError
from hybrid.routing.engine import Policy
from hybrid.routing.patterns import Triage
from hybrid.routing.table import NEVER
from hybrid.study.study import Study
from hybrid.support import (
    FIELDS,
    Extraction,
    ExtractionSettings,
    Field,
    FieldPattern,
    Insight,
    RuleExtractor,
    SupportPipeline,
    default_config,
)
from hybrid.support.gold import ALL, read_gold, right_of, score
from hybrid.support.results import to_csv, to_jsonl, total_by

EVIL = (
    "<img src=x onerror=alert(1)> <script>alert(1)</script> **bold** [x](javascript:alert(1)) $x^2$ "
    '$49.99 "><mark onmouseover=alert(1)> :red[red] mail a@example.com <b>end</b>'
)


def flow(label="general", **given):
    return SupportPipeline(hybrid.load(keyword_bundle(), models=say(label)), **given)


@pytest.fixture
def support(sample_fitted):
    """The Support page with the sample loaded."""
    return open_page("pages/5_Support.py", again(sample_fitted))


def metrics(at):
    return {m.label: m.value for m in at.metric}


def tables(at):
    """Return the tables of a page by their first two columns."""
    return {"/".join(t.value.columns[:2]): t.value for t in at.dataframe}


def test_pasted_tickets_show_their_way(support):
    assert not support.exception
    shown = metrics(support)
    assert shown["Tickets"] == "3"
    assert shown["Action"] == inert("initiate_refund_review")
    marked = next(h.body for h in support.get("html") if "ticket" in h.body and "49.99" in h.body)
    assert "<mark" in marked
    assert tables(support)["Stage/By"]["Stage"].tolist()[-2:] == ["extract", "act"]
    assert any("None is set up, so rules read them" in i.value for i in support.info)


def test_a_ticket_can_be_picked(support):
    at = support.selectbox(key="support_action").set_value("create_tracking_inquiry").run()
    assert not at.exception
    assert tables(at)["Field/Value"]["Value"].tolist() == ["XY123"]


def test_the_loaded_data_are_decided_as_on_tune(support):
    at = support.segmented_control(key="support_source").set_value("Loaded data").run()
    assert not at.exception
    n = int(metrics(at)["Tickets"].replace(",", ""))
    totals = tables(at)
    assert sum(totals["Action/Tickets"]["Tickets"]) == sum(totals["Category/Tickets"]["Tickets"]) == n
    routing = totals["Tier and reader/Tickets"].set_index("Tier and reader")
    cost = next(v for k, v in metrics(at).items() if k.startswith("Cost per 1,000"))
    tune = at.switch_page("pages/1_Tune.py").run()
    strong = tune.session_state["study"].policy.names[-1]
    said = " ".join(h.body for h in tune.get("html"))  # the tiles' details say what holds on test
    assert f"{routing['Share'][f'{strong} + rules']:.1%}" in said
    assert wording.dollars(tune.session_state["study"].measure(side="test").summary.cost_per_1000.value) == cost


def test_simple_categories_and_thresholds_act_at_once(support):
    before = metrics(support)["Easy: rules read them"]
    key = next(m.key for m in support.multiselect if m.label == "Simple categories")
    at = support.multiselect(key=key).set_value([]).run()
    assert not at.exception
    assert before != metrics(at)["Easy: rules read them"] == "0.0%"
    at = at.multiselect(key=key).set_value(["billing", "shipping"]).run()
    slider = next(s for s in at.slider if s.label == "Least confidence for rules to read")
    at = slider.set_value(1.0).run()
    assert metrics(at)["Easy: rules read them"] == "0.0%"


def test_both_thresholds_are_on_the_page(support):
    own = wording.threshold(support.session_state["study"].policy.pattern.threshold)
    assert any("The policy's own, set on Tune: " in c.value and own in c.value for c in support.caption)
    assert any(s.label == "Least confidence for rules to read" for s in support.slider)


def test_where_recorded_tiers_alone_decide_the_tickets_are_of_the_data_and_never_is_a_word(sample_fitted):
    study = again(sample_fitted)
    study.use(Policy(Triage(NEVER), tuple(t for t in study.tiers if t.name in ("minilm", "llm"))))
    at = open_page("pages/5_Support.py", study)
    typed = at.text_area(key="support_typed").value.splitlines()
    assert len(typed) == 3
    assert set(typed) <= {" ".join(t.split()) for t in study.dataset.texts}
    assert not any("have no category" in c.value for c in at.caption)
    assert any("confidence threshold never" in c.value for c in at.caption)


def test_the_default_action_is_edited_in_place(support):
    box = next(t for t in support.text_input if t.label == "Where no row fits")
    at = box.set_value("ask_a_lead").run()
    assert "ask_a_lead" in tables(at)["Action/Tickets"]["Action"].tolist()
    box = next(t for t in at.text_input if t.label == "Where no row fits")
    at = box.set_value("rm -rf /").run()
    assert not at.exception
    assert any("What was valid last stays in use" in e.value for e in at.error)
    assert "ask_a_lead" in tables(at)["Action/Tickets"]["Action"].tolist()


def test_edits_survive_a_visit_to_another_page_and_a_reload(support, tmp_path):
    box = next(t for t in support.text_input if t.label == "Where no row fits")
    at = box.set_value("ask_a_lead").run()
    at = at.switch_page("pages/6_Export.py").run().switch_page("pages/5_Support.py").run()
    assert "ask_a_lead" in tables(at)["Action/Tickets"]["Action"].tolist()
    at.session_state["study"].save(tmp_path / "kept")
    at = open_page("pages/5_Support.py", Study.open(tmp_path / "kept"))
    assert "ask_a_lead" in tables(at)["Action/Tickets"]["Action"].tolist()


def test_nothing_pasted_says_so(support):
    at = support.text_area(key="support_typed").set_value("  \n ").run()
    assert not at.exception
    assert any("Paste at least one ticket" in i.value for i in at.info)


def test_an_evil_ticket_is_text(support):
    at = support.text_area(key="support_typed").set_value(EVIL).run()
    assert not at.exception
    bodies = [h.body for h in at.get("html") if "mark" in h.body and "onerror" in h.body]
    assert bodies
    assert not any("<img" in b or "<script" in b for b in bodies)
    assert all(EVIL not in m.value for m in at.markdown)


def test_an_llm_is_asked_only_at_the_button(support):
    at = next(t for t in support.toggle if t.label == "An LLM reads hard tickets").set_value(True).run()
    assert any("Name the model" in i.value for i in at.info)
    at = at.text_input(key="support_llm.url").set_value("http://127.0.0.1:9/v1").run()
    at = at.text_input(key="support_llm.model").set_value("mock").run()
    assert not at.exception
    assert any("1 hard tickets are not read by the LLM yet" in i.value for i in at.info)
    assert any("let LLM reader (mock) read" in b.label for b in at.button)


def test_data_of_other_classes_start_with_their_own_table():
    at = open_page()
    frame = labelled()
    frame["label"] = frame["label"].replace({"technical": "odd"})
    at.file_uploader[0].upload("mine.csv", frame.to_csv(index=False).encode()).run()
    at = press(at, "Load and fit")
    at = at.switch_page("pages/5_Support.py").run()
    assert not at.exception
    assert not at.error
    (simple,) = [m for m in at.multiselect if m.label == "Simple categories"]
    assert simple.value == ["billing", "shipping"]


def test_predictions_only_say_what_they_lack():
    at = open_page()
    frame = pd.read_csv(ROOT / "sample_data" / "recorded_predictions.csv").drop(columns="text")
    at.file_uploader[0].upload("p.csv", frame.to_csv(index=False).encode()).run()
    at = press(at, "Load and fit")
    at = at.switch_page("pages/5_Support.py").run()
    assert not at.exception
    assert any("there is nothing to read" in i.value for i in at.info)


def test_a_person_shows_load_and_queue(sample_fitted):
    at = open_page("pages/1_Tune.py", again(sample_fitted))
    at.session_state["whatif_open"] = True
    at = at.run().toggle(key="human").set_value(True).run()
    assert not at.exception
    at = at.selectbox(key="triage.strong").set_value("person").run()
    assert not at.exception
    shown = metrics(at)
    assert shown["Queue at the end of a day"] == "grows"
    assert any("Above the capacity" in w.value and "instead of" in w.value for w in at.warning)
    assert any("simulated" in m.value and "person" in m.value for m in at.markdown)
    at = at.number_input(key="human_capacity").set_value(100_000).run()
    assert metrics(at)["Queue at the end of a day"] == "0.0 cases"
    at = at.switch_page("pages/6_Export.py").run()
    assert not at.exception


def test_the_person_is_off_by_default(sample_fitted):
    at = open_page("pages/1_Tune.py", again(sample_fitted))
    assert "person" not in at.selectbox(key="triage.strong").options
    assert "Load" not in metrics(at)


# parts


def test_pasted_text_becomes_tickets():
    assert [t for _, t in support_run.typed("a\n\n b \n").tickets] == ["a", "b"]
    assert [t for _, t in support_run.typed("a\nb\n---\nc\n\nd\n--- \n").tickets] == ["a\nb", "c\n\nd"]
    assert len(support_run.typed(EXAMPLES).tickets) == 3


class Texts(HTMLParser):
    """Collects what a browser would show, and which elements it would make."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.shown = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data):
        self.shown += data


def test_a_ticket_is_never_markup():
    parser = Texts()
    named = FieldPattern(
        name="tag", expression="<script>.*</script>"
    )  # a field may be markup itself, and so may its value
    config = default_config(CLASSES).model_copy(update={"extraction": ExtractionSettings(patterns=(named,))})
    parser.feed(support_view.marked(flow(config=config)(EVIL)))
    assert set(parser.tags) == {"style", "p", "mark", "small"}
    assert set(parser.attributes) == {"class", "style", "title"}
    shown = (
        parser.shown.split("</style>")[-1]
        .replace("amount", "")
        .replace("email", "")
        .replace("</script>tag", "</script>")
    )
    assert EVIL in shown


def test_no_cell_is_a_formula():
    names = ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", " =1", "|x", "%0A=1"]
    analyses = flow().analyze([(name, f"{name} please") for name in names])
    rows = list(csv.reader(io.StringIO(to_csv(analyses).decode("utf-8-sig"))))
    assert len(rows) == len(names) + 1
    for row, name in zip(rows[1:], names, strict=True):
        assert row[0] == f"'{name}"
        assert row[1] == f"'{name} please"
        assert not any(cell.lstrip().startswith(("=", "+", "@", "-", "|", "%")) for cell in row)


def test_the_formula_guard_covers_extracted_values():
    one = flow()("call +420 555 0143")
    (_, row) = csv.reader(io.StringIO(to_csv([one]).decode("utf-8-sig")))
    assert "'+4205550143" in row


def test_json_lines_hold_everything():
    one = flow()("refund $5, NV-54377\nand ünïcode", "T-1")
    (line,) = to_jsonl([one]).decode().splitlines()
    back = json.loads(line)
    assert back["fields"][0]["value"] == "5.00 USD"
    assert back["text"] == one.text
    assert len(back["trace"]) == len(one.trace)


def test_totals_add_up():
    analyses = flow().analyze(["refund", "hm", "package", "refund $900"])
    totals = total_by(analyses, "action")
    assert sum(t.tickets for t in totals) == 4
    assert sum(t.share for t in totals) == pytest.approx(1)
    assert sum(t.cost for t in totals) == pytest.approx(sum(a.cost for a in analyses))
    people = {t.name: t.to_human for t in totals}
    assert people["route_to_agent"] == 2


def test_what_is_kept_is_not_asked_again_and_nothing_is_asked_before_the_button():
    import asyncio

    class Reader:
        name = "reader"

        def __init__(self):
            self.asked = []

        async def extract(self, texts):
            self.asked += texts
            return [Extraction((), None if t == "bad" else Insight("low", 0, (), False), "llm") for t in texts]

    reader, read = Reader(), {}
    waiting = support_run.Kept(reader, read, may_ask=False)
    assert asyncio.run(waiting.extract(["a"]))[0].problem == support_run.NOT_YET
    asking = support_run.Kept(reader, read, may_ask=True)
    asyncio.run(asking.extract(["a", "a", "bad"]))
    asyncio.run(asking.extract(["a", "bad"]))
    assert reader.asked == ["a", "bad", "bad"]  # what failed is tried again
    assert asyncio.run(waiting.extract(["a"]))[0].insight is not None


def test_an_edited_table_becomes_rows_and_patterns():
    frame = pd.DataFrame(
        [["billing", "amount < 5 EUR", "refund", True], [None, None, "x", None], ["any", "", None, False]],
        columns=support_settings.ACTIONS,
    )
    rows = support_settings._action_rows(frame)
    assert [(r.category, str(r), r.action, r.to_human) for r in rows] == [
        ("billing", "category is billing and amount < 5 EUR", "refund", True),
        ("any", "category is any", "x", False),
    ]
    table = pd.DataFrame(
        [["ring", r"ring (\d)", "ring 7 ring 8", "7 | 8"], ["ring", r"ring (\d)", "no", ""], ["x", "y", None, None]],
        columns=support_settings.PATTERNS,
    )
    ring, x = support_settings._patterns(table)
    assert [t.finds for t in ring.tests] == [("7", "8"), ()]
    assert ring.failures() == []
    assert (x.name, x.tests) == ("x", ())
    bad = frame.assign(Conditions="amount <")
    with pytest.raises(SupportError, match="cannot be read"):
        support_settings._action_rows(bad)


# quality


def test_scores_by_hand():
    def field(name, value, start):
        return Field(name, value, value, start, start + len(value))

    gold = [[field("order", "NV-1", 0), field("order", "NV-2", 10)], [field("date", "2025-01-15", 0)], []]
    found = [[field("order", "nv-1", 2), field("order", "NV-1", 30)], [field("date", "2025-01-16", 0)], []]
    everything, order, date, phone = score(gold, found, ["order", "date", "phone"])
    assert (order.gold, order.found, order.right) == (2, 2, 1)
    assert (order.precision.value, order.recall.value, order.f1.value) == (0.5, 0.5, 0.5)
    assert (date.right, date.f1.value) == (0, 0.0)
    assert phone.f1.value != phone.f1.value  # nothing there, nothing found: no number
    assert (everything.name, everything.gold, everything.right) == (ALL, 3, 1)
    for s in (everything, order, date):
        for i in (s.precision, s.recall, s.f1):
            assert 0 <= i.low <= i.value <= i.high <= 1


def test_a_gold_field_is_matched_once():
    one = Field("order", "1", "1", 0, 1)
    assert right_of([one], [one, replace(one, source="llm")]) == [one]


def test_no_mistake_is_no_certainty():
    one = [[Field("order", "1", "1", 0, 1)]] * 9
    (_, order) = score(one, one, ["order"])
    assert order.f1.value == 1
    assert order.f1.low < 0.75


def test_the_gold_fields_stand_where_they_say():
    texts = gold_texts()
    gold = read_gold(GOLD.read_bytes())
    assert len(gold) >= 200
    assert len({t.ticket_id for t in gold}) == len(gold)
    assert {t.part for t in gold} == {"dev", "test"}
    for ticket in gold:
        for f in ticket.fields:
            assert texts[ticket.ticket_id][f.start : f.end] == f.text
            assert f.name in FIELDS


def test_rules_read_the_gold_tickets_of_the_test_part():
    """Far below what was measured, so that only a broken rule fails it."""
    scores = rule_scores(gold_of("test"), RuleExtractor())
    assert scores[0].f1.value > 0.9
    assert all(s.f1.value > 0.75 for s in scores)


@pytest.mark.parametrize("line", ["{", "[]", '{"id": "1", "part": "dev", "fields": [{"field": "x"}]}'])
def test_gold_that_cannot_be_read_names_its_line(line):
    with pytest.raises(SupportError, match="Line 2 of the gold fields"):
        read_gold(b'{"id": "1", "part": "dev", "fields": []}\n' + line.encode())


def test_an_llms_words_are_scored_beside_the_rules(tmp_path, monkeypatch):
    from hybrid.dashboard.support import quality as support_quality

    ticket = next(t for t in gold_of("test") if len(t.fields) == 1)
    said = {"field": ticket.fields[0].name, "text": ticket.fields[0].text}
    reading = {"urgency": "low", "sentiment": 0, "key_issues": [], "requires_human": False, "entities": [said]}
    words = [("good", "ok", json.dumps(reading)), ("bad", "truncated", '{"urg')]
    rows = [{"id": ticket.ticket_id, "model": m, "kind": k, "content": c} for m, k, c in words]
    path = tmp_path / "words.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(support_quality, "LLM_WORDS", path)
    good, bad = llm_scores()
    assert (good.model, good.tickets, good.scores[0].f1.value) == ("good", 1, 1.0)
    assert (bad.scores[0].found, bad.scores[0].recall.value) == (0, 0.0)
    assert bad.rules[0] == good.rules[0]
    monkeypatch.setattr(support_quality, "LLM_WORDS", tmp_path / "none")
    assert llm_scores() == []
