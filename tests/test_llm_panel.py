"""The LLM panel of the Data page, without a browser: connect, test, record, and what then stands there."""

import json
import time

import pytest
from conftest import again, labelled, table_of
from llm_server import KEY
from test_dashboard import open_page, press

from hybrid.dashboard.data import llm_session
from hybrid.data.columns import Columns
from hybrid.data.dataset import build
from hybrid.data.split import split
from hybrid.metrics.summary import break_even_share
from hybrid.store import database
from hybrid.study.evidence import record as fit
from hybrid.study.study import Study

N = 60  # rows that are asked about


@pytest.fixture
def server(server, monkeypatch, tmp_path):
    # a store of its own; the cache folder stays, as embedding the sample takes long
    monkeypatch.setattr(database, "default_path", lambda: tmp_path / database.FILE)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"):
        monkeypatch.delenv(name, raising=False)
    return server


def fill(at, tier="new", **values):
    for name, value in values.items():
        key = f"llm.{tier}.{name}"
        kinds = (at.text_input, at.text_area, at.number_input, at.selectbox, at.checkbox)
        widget = next(w for kind in kinds for w in kind if w.key == key or str(w.key).startswith(f"{key}."))
        widget.set_value(value)
    return at.run()


def price(at, inwards, outwards):
    boxes = [w for w in at.number_input if ".price." in str(w.key)]
    boxes[0].set_value(inwards)
    boxes[1].set_value(outwards)
    return at.run()


@pytest.fixture(scope="module")
def fitted():
    """Data as they are once they were loaded, fitted once for all tests."""
    frame, columns = labelled(240, seed=4), Columns("label", text="text")
    dataset = build(frame, columns)
    study = Study("tickets", frame, columns)
    study.keep(fit(dataset, split(dataset)))
    return study


@pytest.fixture
def opened(server, fitted):
    """The Data page with data loaded."""
    at = open_page()
    study = again(fitted)
    study.form[llm_session.ROWS] = dict.fromkeys(("llm", "large", "LLM gate"), N)
    at.session_state["study"] = study
    return at.run()


@pytest.fixture
def filled(server, opened):
    """The fields of a new tier filled."""
    at = opened
    return price(fill(at, model="mock-1", url=server.url, key=KEY), 1.0, 2.0)


def record(at):
    at.button(key="llm.record").click()
    at = at.run()
    job = at.session_state["llm.job"]
    assert job.wait(60)
    return at.run()


def said(at):
    return " ".join(
        [e.value for kind in (at.markdown, at.caption, at.success, at.warning, at.error, at.info) for e in kind]
    )


def test_connect_record_and_tune(server, filled):
    server.control(key=KEY)
    at = press(filled, "Connect")
    assert not at.exception
    assert list(llm_session.tiers(at.session_state["study"])) == ["llm"]
    at = record(at)
    assert not at.exception
    table = table_of(at.session_state["study"])
    assert table.tiers[table.index("llm")].kind == "llm"
    assert table.asked[:, table.index("llm")].sum() == N
    assert f"asked about {N} of" in said(at)
    assert server.served()["calls"] == N
    at.switch_page("pages/1_Tune.py")
    at.run()
    assert not at.exception
    at.selectbox(key="triage.strong").set_value("llm").run()
    assert at.session_state["study"].policy.names[-1] == "llm"
    assert at.session_state["study"].terms.whatif is None  # a real LLM takes the simulated one's place
    at.switch_page("pages/6_Export.py")
    at.run()
    assert not at.exception
    assert "OPENAI_API_KEY" in said(at)
    assert "the key is not in it" in said(at)


def test_the_key_stands_on_no_page_and_in_no_setting(server, filled):
    at = record(press(filled, "Connect"))
    assert at.session_state["llm.keys"]["llm"] == (server.url, KEY)
    assert KEY not in repr(llm_session.tiers(at.session_state["study"])) + repr(at.session_state["study"].llms)
    for page in ("app.py", "pages/6_Export.py"):
        at.switch_page(page)
        at.run()
        assert KEY not in repr(at.main)


def test_a_test_call_shows_answer_tokens_cost_and_latency(server, filled):
    at = press(filled, "Test it")
    shown = at.success[0].value
    for part in ("100 + 10 tokens", "counted by the server", "0.000120", " s, probability 0."):
        assert part in shown
    assert server.served()["calls"] == 1
    at = press(at, "Connect")
    assert not at.session_state["study"].llms  # one answer makes no tier that could be tuned
    at = record(at)
    assert server.served()["calls"] == N  # the test call was kept, and is not paid for twice


@pytest.mark.parametrize(("fault", "words"), [("401", "refuses the key"), ("404", "does not know this model")])
def test_a_test_call_that_fails_says_what_to_do(server, filled, fault, words):
    server.control(always=fault)
    at = press(filled, "Test it")
    assert words in at.error[0].value
    assert KEY not in said(at)


def test_a_bad_answer_of_a_test_call_is_explained(server, filled):
    server.control(always="truncated")
    at = press(filled, "Test it")
    assert any("cut off" in w.value for w in at.warning)


def test_an_unknown_model_asks_for_its_price(server, opened):
    at = fill(opened, model="mock-1", url=server.url)
    assert "No list price is known for mock-1" in said(at)
    assert next(b for b in at.button if b.label == "Connect").disabled
    at = fill(at, model="gpt-4o-mini", url="https://api.openai.com/v1")
    assert [w.value for w in at.number_input if ".price." in str(w.key)] == [0.15, 0.6, 0.075]
    assert not next(b for b in at.button if b.label == "Connect").disabled


def test_a_bad_address_or_prompt_says_so(server, filled):
    at = fill(filled, url="http://me:secret@host/v1")
    at = price(at, 1.0, 1.0)
    assert "user, a password" in at.error[0].value
    at = price(fill(at, url=server.url, prompt="Say something."), 1.0, 1.0)
    assert "{classes}" in at.error[0].value.replace("\\", "")


def test_the_cap_stops_a_recording_and_the_page_says_so(server, filled):
    at = press(filled, "Connect")
    next(w for w in at.number_input if w.key == "llm.cap.llm").set_value(0.003)
    at = record(at.run())
    assert any("cap" in e.value for e in at.error)
    assert 0 < at.session_state["study"].llms[0].n_answered < N


def test_failed_calls_are_shown_by_kind(server, filled):
    at = press(filled, "Connect")
    server.control(script=["500", "wrong_label"])
    at = record(at)
    tables = [t.value for t in at.dataframe if "Kind" in t.value.columns]
    assert dict(zip(tables[0]["Kind"], tables[0]["Count"], strict=True)) == {"server": 1, "unknown_label": 1}


def test_pause_resume_and_cancel_on_the_page(server, filled):
    server.control(delay=0.3)
    at = press(press(filled, "Connect"), "Record")
    at = press(at, "Pause")
    job = at.session_state["llm.job"]
    assert job.progress().state == "paused"
    at = press(at.run(), "Resume")
    assert job.progress().state == "running"
    while job.progress().asked < N / 4:
        time.sleep(0.01)
    press(at.run(), "Cancel")
    assert job.wait(10)
    assert job.progress().state == "cancelled"
    at = at.run()
    assert not at.exception
    assert 0 < at.session_state["study"].llms[0].n_answered == job.progress().asked < N


def test_what_a_bundle_decides_without_its_llm_is_chosen_on_export(server, filled):
    at = record(press(filled, "Connect"))
    at.switch_page("pages/1_Tune.py").run()
    at.selectbox(key="triage.strong").set_value("llm").run()
    at.switch_page("pages/6_Export.py").run()
    choice = at.radio(key="export_on_failure")
    assert json.loads(at.json[0].value)["on_failure"] == choice.value == "best_so_far"
    choice.set_value("unknown").run()
    assert not at.exception
    assert json.loads(at.json[0].value)["on_failure"] == "unknown"


def test_several_llms_stand_from_cheap_to_dear_and_vote(server, filled):
    at = record(press(filled, "Connect"))
    at.selectbox(key="llm.picked").set_value("Connect another")
    at = fill(at.run(), name="large", model="mock-2", url=server.url)
    at = price(at, 10.0, 20.0)
    at = record(press(at, "Connect"))
    table = table_of(at.session_state["study"])
    assert [t.name for t in table.tiers if t.kind == "llm"] == ["llm", "large"]
    at.switch_page("pages/1_Tune.py")
    at.run()
    assert not at.exception


def test_an_llm_gate_breaks_even_somewhere(server, filled):
    at = record(press(filled, "Connect"))
    at.selectbox(key="llm.picked").set_value("Connect another")
    at = at.run()
    at.selectbox(key="llm.new.role").set_value("gate")
    at = fill(at.run(), model="mock-gate", url=server.url)
    at = record(press(price(at, 0.1, 0.2), "Connect"))
    assert not at.exception
    table = table_of(at.session_state["study"])
    gate = table.tiers[table.index("LLM gate")]
    shown = next(t.value for t in at.dataframe if "Breaks even at" in t.value.columns)
    share = break_even_share(gate.price, 0.0, table.tiers[table.index("llm")].price)
    by_gate = dict(zip(shown["Gate"], shown["Breaks even at"], strict=True))
    assert by_gate["LLM gate"] == f"{share:.1%}"
    assert by_gate["trained gate"] == "0.0%"


def test_a_disconnected_tier_leaves_the_table_and_comes_back_for_nothing(server, filled):
    at = record(press(filled, "Connect"))
    calls = server.served()["calls"]
    at = press(at, "Disconnect")
    assert "llm" not in [t.name for t in at.session_state["study"].tiers]
    assert not at.exception
    at = press(price(fill(at, model="mock-1", url=server.url), 1.0, 2.0), "Connect")
    assert at.session_state["study"].llms[0].n_answered == N
    assert server.served()["calls"] == calls


def test_answers_stay_when_the_rules_are_edited(server, filled):
    at = record(press(filled, "Connect"))
    at = press(at, "Apply the rules")
    assert not at.exception
    assert at.session_state["study"].llms[0].n_answered == N


def test_a_key_that_was_typed_goes_to_its_own_server_alone(server, filled):
    at = press(filled, "Connect")
    at = fill(at, tier="llm", url="http://127.0.0.1:9/v1")
    at = press(price(at, 1.0, 1.0), "Keep the changes")
    assert llm_session.tiers(at.session_state["study"])["llm"].base_url == "http://127.0.0.1:9/v1"
    assert "llm" not in at.session_state["llm.keys"]


def test_a_server_from_the_environment_is_offered_and_its_key_is_not_shown(server, fitted, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_MODEL", "mock-1")
    server.control(key=KEY)
    at = open_page()
    study = again(fitted)
    study.form[llm_session.ROWS] = dict.fromkeys(("llm", "large", "LLM gate"), N)
    at.session_state["study"] = study
    at = at.run()
    assert at.text_input(key="llm.new.model.OPENAI_API_KEY").value == "mock-1"
    assert at.text_input(key="llm.new.url.OPENAI_API_KEY").value == server.url
    assert at.text_input(key="llm.new.key").value == ""
    at = press(price(at, 1.0, 1.0), "Test it")
    assert at.success


def test_a_server_from_the_secrets_is_offered(server, fitted, monkeypatch):
    secrets = {"llm": {"house": {"base_url": server.url, "model": "mock-1", "key": KEY}}}
    monkeypatch.setattr(llm_session.st, "secrets", secrets)
    server.control(key=KEY)
    at = open_page()
    study = again(fitted)
    study.form[llm_session.ROWS] = dict.fromkeys(("llm", "large", "LLM gate"), N)
    at.session_state["study"] = study
    at = at.run()
    assert at.text_input(key="llm.new.url.house").value == server.url
    at = press(price(at, 1.0, 1.0), "Test it")
    assert at.success
    at = fill(at, url="http://127.0.0.1:9/v1")
    at = press(price(at, 1.0, 1.0), "Test it")
    assert "cannot be reached" in at.error[0].value
    assert KEY not in said(at)


def test_a_batch_is_sent_and_fetched_on_the_page(server, filled):
    at = press(filled, "Connect")
    at = at.button(key="llm.batch.send").click().run()
    assert f"{N} questions sent" in said(at)
    assert "1 batch under way" in said(at)
    for _ in range(2):
        at = at.button(key="llm.batch.look").click().run()
    assert not at.exception
    assert f"{N - 1} fetched now" in said(at)
    assert "0 batches under way" in said(at)
    assert at.session_state["study"].llms[0].n_answered == N


def test_break_even():
    assert break_even_share(0.0, 0.0, 1.0) == 0.0
    assert break_even_share(0.3, 0.1, 1.1) == 0.3
    assert break_even_share(0.3, 0.0, 0.2) is None
    assert break_even_share(0.3, 0.2, 0.2) is None


def test_a_recording_is_watched_while_it_runs(server, filled):
    server.control(delay=0.05)
    at = press(press(filled, "Connect"), "Record")
    time.sleep(0.5)
    at = at.run()
    assert not at.exception
    assert any(b.label == "Pause" for b in at.button)
    at.session_state["llm.job"].cancel()
    at.session_state["llm.job"].wait(5)


def test_what_was_typed_stays_when_the_page_is_left(server, filled):
    at = fill(filled, prompt="Sort into {classes}, please", examples=2, parameters='{"seed": 1}')
    at = at.switch_page("pages/1_Tune.py").run()
    at = at.switch_page("app.py").run()
    assert not at.exception
    assert (at.text_input(key="llm.new.model").value, at.text_input(key="llm.new.url").value) == ("mock-1", server.url)
    assert [w.value for w in at.number_input if ".price." in str(w.key)] == [1.0, 2.0, None]
    assert at.text_area(key="llm.new.prompt.llm").value == "Sort into {classes}, please"
    assert at.number_input(key="llm.new.examples").value == 2
    assert at.text_input(key="llm.new.key").value == ""
    form = at.session_state["study"].form  # what a project keeps, so that it is there after a reload
    assert json.loads(json.dumps(form))["llm_form"]["llm.new"]["model"] == "mock-1"
    assert KEY not in json.dumps(form)
    at = press(at, "Connect")
    assert llm_session.tiers(at.session_state["study"])["llm"].parameters == {"seed": 1}
    assert "llm.new" not in at.session_state["study"].form["llm_form"]


def test_a_key_that_did_not_come_in_is_said(filled):
    at = fill(filled, url="https://llm.example/v1", key="")
    at = price(at, 1.0, 2.0)
    assert "No key for this server has come in" in said(at)
    assert "No key for this server" not in said(fill(at, key=KEY))


def test_parameters_that_cannot_be_sent_say_so(server, filled):
    at = fill(filled, parameters="reasoning_effort: low")
    assert "JSON object" in at.error[0].value
    at = fill(at, parameters="", headers='{"Authorization": "Bearer sk-1"}')
    assert "secret" in at.error[0].value


def test_what_the_model_refuses_is_said(server, filled):
    server.control(always={"status": 403, "body": {"error": "![x](http://a) no logprobs"}, "having": "logprobs"})
    at = press(filled, "Test it")
    assert "refuses logprobs" in at.success[0].value
    at = record(press(at, "Connect"))
    assert "refuses logprobs" in said(at)


def test_refused_rows_are_counted_and_a_servers_words_are_only_words(server, filled):
    blocked = {
        "status": 400,
        "body": {"error": {"code": "content_filter", "message": "![x](http://a) no"}},
        "in": "card",
    }
    server.control(always=blocked)
    at = record(press(filled, "Connect"))
    assert "refusal), which count as wrong if final" in said(at)
    server.control(always={**blocked, "in": ""})
    at = press(fill(at, tier="llm", prompt="Anew: {classes}"), "Test it")
    assert "![x](http" not in said(at)
    assert any("x" in w.value for w in at.warning)


def test_damaged_answers_are_said_and_can_be_asked_again(server, filled):
    import sqlite3

    at = record(press(filled, "Connect"))
    with sqlite3.connect(database.default_path()) as db:
        db.execute("UPDATE answers SET reply = 'x' WHERE key IN (SELECT key FROM answers LIMIT 3)")
    at = at.run()
    assert not at.exception
    assert "3 kept answers cannot be read" in said(at)
    at = record(press(at, "Ask them again"))
    assert server.served()["calls"] == N + 3
    assert "cannot be read" not in said(at)


def test_a_price_that_depends_on_length_or_hour_says_so(server, opened):
    at = fill(opened, model="claude-sonnet-4-5", url="https://api.anthropic.com/v1")
    assert [w.value for w in at.number_input if ".price." in str(w.key)] == [3.0, 15.0, 0.3]
    assert "more than 200,000 tokens" in said(at)
    at = fill(at, model="deepseek-chat", url="https://api.deepseek.com")
    assert "depends on the hour" in said(at)


def test_a_gate_of_four_tiers_says_what_it_would_ask_and_why(server, opened):
    at = opened.selectbox(key="llm.new.role").set_value("gate").run()
    at = price(fill(at, model="mock-gate", url=server.url, tiers="regex, classifier, small_llm, large_llm"), 0.1, 0.2)
    said_ = {"tier": "small_llm", "reasoning": "two matters", "estimated_difficulty": 4}
    body = {"choices": [{"message": {"content": json.dumps(said_)}, "finish_reason": "stop"}]}
    server.control(always={"body": body})
    at = press(at, "Test it")
    assert "small\\_llm, difficulty 4 of 5: two matters" in at.success[0].value
    body = server.served()["bodies"][-1]
    schema = body["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["tier"]["enum"] == ["regex", "classifier", "small_llm", "large_llm"]
    system = body["messages"][0]["content"]  # not "cheap or llm", of which it has neither
    assert "regex, classifier, small_llm, large_llm" in system
    assert '"cheap"' not in system
