"""Serving: decisions as `hybrid.load` makes them, over HTTP and as an LLM's chat; limits, modes, the log, the stop."""

import asyncio
import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx2
import numpy as np
import openai
import pytest
from test_bundle import export, llm_of, policy_of
from test_llm_runtime import made, packed  # noqa: F401 - a fixture
from test_llm_runtime import policy_of as policy_of_llm

import hybrid
from hybrid.data.labels import matcher
from hybrid.errors import HybridError
from hybrid.production import chat, serve
from hybrid.production.binding import Server
from hybrid.production.log import CURRENT, DecisionLog, read_log
from hybrid.routing.engine import Policy
from hybrid.routing.patterns import Cascade, Triage

CLASSES = ("billing", "shipping", "technical")


@pytest.fixture(scope="module")
def bundle(recording, tmp_path_factory):
    path = tmp_path_factory.mktemp("serve") / "triage.zip"
    path.write_bytes(export(recording, policy_of(recording, "triage", threshold=0.8)))
    return path


@contextmanager
def client_of(settings, **more):
    """A client of the application itself, without a socket; its start and stop are run."""
    from fastapi.testclient import TestClient

    with TestClient(serve.build(settings), raise_server_exceptions=False, **more) as client:
        yield client


@pytest.fixture
def settings(recording, bundle):
    return serve.Settings(str(bundle), models={"llm": llm_of(recording)})


def core(d):
    return d["label"], d["confidence"], d["tier"], d["cost"], d["fallback"]


def test_classify_decides_as_load_does(recording, bundle, settings):
    texts = [str(t) for t in recording.dataset.texts[recording.split.test]]
    expected = hybrid.load(bundle, models=settings.models).decide(texts)
    with client_of(settings) as client:
        found = client.post("/classify", json={"text": texts}).json()["decisions"]
        one = client.post("/classify", json={"text": texts[0]}).json()
    assert [core(d) for d in found] == [(d.label, d.confidence, d.tier, d.cost, d.fallback) for d in expected]
    assert [[s["tier"] for s in d["trace"]] for d in found] == [[s.tier for s in d.trace] for d in expected]
    assert core(one) == core(found[0])
    assert re.fullmatch(r"triage@[0-9a-f]{12}", one["bundle"])


SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "x",
        "schema": {
            "type": "object",
            "properties": {
                "reason": {"type": "string"},
                "category": {"type": "string", "enum": ["Technical", "Billing", "Shipping"]},
                "confidence": {"type": "number"},
            },
            "required": ["reason", "category", "confidence"],
        },
    },
}
NAMED = {"role": "system", "content": "Sort into:\n- billing\n- shipping\n- technical"}


def test_a_chat_that_classifies_is_answered_in_its_own_form(recording, settings):
    text = str(recording.dataset.texts[recording.split.test[0]])
    with client_of(settings) as client:
        label = client.post("/classify", json={"text": text}).json()["label"]

        def ask(**body):
            said = client.post("/v1/chat/completions", json={"model": "gpt", **body})
            assert said.status_code == 200, said.text
            whole = said.json()
            assert whole["usage"] == {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
            assert whole["model"].startswith("hybrid/triage/")
            return whole["choices"][0]["message"]["content"]

        last = {"role": "user", "content": text}
        filled = json.loads(ask(messages=[last], response_format=SCHEMA))
        assert (filled["category"], filled["reason"]) == (label.title(), "")
        assert 0 < filled["confidence"] <= 1
        assert ask(messages=[NAMED, last]) == label
        as_json = {"role": "system", "content": NAMED["content"] + ' Reply in JSON: {"topic": "..."}'}
        assert json.loads(ask(messages=[as_json, last])) == {"topic": label}
        assert json.loads(ask(messages=[NAMED, last], response_format={"type": "json_object"})) == {"label": label}
        parts = [{"type": "text", "text": f"<text>\n{text}\n</text>"}]
        assert ask(messages=[NAMED, {"role": "user", "content": parts}]) == label
        stream = client.post("/v1/chat/completions", json={"messages": [NAMED, last], "stream": True}).text
        events = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]
        assert "".join(e["choices"][0]["delta"].get("content", "") for e in events) == label
        assert stream.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": "Write a poem."}]},
        {"messages": [NAMED]},
        {"messages": [{"role": "user", "content": "x"}], "response_format": {"type": "json_schema"}},
        {"messages": [NAMED, {"role": "user", "content": "x"}], "tools": [{"type": "function"}]},
        {"messages": [NAMED, {"role": "user", "content": "x"}], "n": 2},
        {"messages": [NAMED, {"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        {"messages": [{"role": "system", "content": "billing or shipping?"}, {"role": "user", "content": "x"}]},
        {"messages": "x"},
        {},
    ],
)
def test_what_is_no_request_to_classify_is_not_taken_for_one(body):
    assert chat.read_question(body, CLASSES, matcher(CLASSES)) is None


def test_a_text_stands_between_its_tags_however_much_stands_there():
    def text_in(last):
        body = {"messages": [NAMED, {"role": "user", "content": last}]}
        return chat.read_question(body, CLASSES, matcher(CLASSES)).text

    start = time.process_time()
    for last in ("<text>" * 100_000, "<text>" + " " * 500_000 + "x", "</text>", "<text></text> x"):
        assert text_in(last) == last
    assert time.process_time() - start < 2  # a pattern that goes back and forth takes days
    assert text_in("So: <text> a <text> b\n</text>\n </text> \n") == "a <text> b\n</text>"
    assert text_in("<text>  </text>") == ""


def test_no_body_costs_more_than_its_own_answer(settings, tmp_path):
    """Half an emoji, odd types and depths: answered in words, and the log goes on."""

    def schema(**change):
        wanted = json.loads(json.dumps(SCHEMA))
        wanted["json_schema"]["schema"]["properties"]["category"] |= change
        return wanted

    last = {"role": "user", "content": "my card \ud83d"}
    bodies = {
        200: [
            {"messages": [NAMED, last], "stream": True, "stream_options": "x"},
            {"messages": [last], "response_format": SCHEMA},
            {"messages": [{"role": "system", "content": NAMED["content"] + ' as JSON {"\ud83d_": "…"}'}, last]},
        ],
        400: [
            {"messages": [last], "response_format": schema(enum=5)},
            {"messages": [last], "response_format": schema(enum={"billing": 1})},
            {"messages": [last], "response_format": schema(enum="billing")},
            {"messages": [NAMED, last], "response_format": ["json_object"]},
            {"messages": [NAMED, last], "deep": json.loads("[" * 60 + "]" * 60)},
        ],
    }
    log = DecisionLog(tmp_path, texts="full", redact=lambda text: 1 / 0 if "cannot" in text else text)
    with client_of(dataclasses.replace(settings, log=log)) as client:
        for status, some in bodies.items():
            for body in some:
                said = client.post("/v1/chat/completions", content=json.dumps(body))
                assert said.status_code == status, said.text
                assert status == 200 or said.json()["error"]["message"]
        assert client.post("/classify", json={"text": "cannot be cleaned"}).status_code == 200
        decision = hybrid.load(settings.bundle, models=settings.models)("hello")
        broken = log.entry("hello", decision, id="broken", bundle="b", mode="live", reference="none")
        log.put([broken, log.entry("\udc00 half", decision, id="half", bundle="b", mode="live")])
    kept = read_log(tmp_path)["text"].to_pylist()
    assert kept == ["my card \ufffd"] * 3 + [None, "\ufffd half"]
    assert (log.dropped, log.holds("broken")) == (1, False)


def test_a_schema_with_other_classes_or_fields_is_another_request():
    def asked(change):
        wanted = json.loads(json.dumps(SCHEMA))
        change(wanted["json_schema"]["schema"])
        body = {"messages": [{"role": "user", "content": "x"}], "response_format": wanted}
        return chat.read_question(body, CLASSES, matcher(CLASSES))

    assert asked(lambda s: None).spelling == {c: c.title() for c in CLASSES}
    assert asked(lambda s: s["properties"]["category"]["enum"].append("Weather")) is None
    assert asked(lambda s: s["properties"].update(urgency={"enum": ["low", "high"]})) is None
    assert asked(lambda s: s["properties"].update(reason={"type": "array"})) is None

    def refers(schema):  # as pydantic writes an enum
        schema["$defs"] = {"Topic": schema["properties"]["category"]}
        schema["properties"]["category"] = {"$ref": "#/$defs/Topic"}

    assert asked(refers).key == "category"
    assert asked(lambda s: s["properties"].update(category={"$ref": "#/$defs/Nowhere"})) is None
    inside = re.compile(r"Ticket: (.*)\Z", re.DOTALL)
    whole = {"role": "user", "content": "billing, shipping or technical? Ticket: my parcel"}
    found = chat.read_question({"messages": [whole]}, CLASSES, matcher(CLASSES), inside=inside)
    assert (found.text, found.key) == ("my parcel", None)


def test_who_may_ask_and_how_much(recording, bundle):
    settings = serve.Settings(
        str(bundle), models={"llm": llm_of(recording)}, tokens=("s3cret",), max_body=1_000, max_batch=2
    )
    mine = {"Authorization": "Bearer s3cret"}
    with client_of(settings) as client:
        for wrong in ({}, {"Authorization": "Bearer s3cre"}, {"Authorization": "Basic s3cret"}):
            assert client.post("/classify", json={"text": "x"}, headers=wrong).status_code == 401
        assert client.get("/health").status_code == client.get("/ready").status_code == 200
        assert client.get("/metrics").status_code == 401
        assert client.post("/classify", json={"text": "my parcel " * 200}, headers=mine).status_code == 413
        assert client.post("/classify", json={"text": ["a"] * 3}, headers=mine).status_code == 413
        for bad in (b"", b"[" * 900, b'{"text": 7}', b'{"text": "x", "more": 1}', b'{"text": "\\ud83d"}'):
            assert client.post("/classify", content=bad, headers=mine).status_code == 422
        for bad in (b"", b"[" * 900, b"[]"):
            assert client.post("/v1/chat/completions", content=bad, headers=mine).status_code == 400
        client.app.state.service.at_once = settings.max_at_once
        assert client.post("/classify", json={"text": "x"}, headers=mine).status_code == 429
        client.app.state.service.at_once = 0
        said = client.get("/metrics", headers=mine).text
        assert 'hybrid_requests_total{path="/classify",status="401"} 3.0' in said
    with pytest.raises(HybridError, match="HYBRID_SERVE_TOKENS"):
        serve.check_reach("0.0.0.0", ())


def test_a_body_that_does_not_come_takes_a_place_and_is_given_up(settings, monkeypatch):
    monkeypatch.setattr(serve, "SLOWEST", 0.2)
    said, seen = [], []

    async def send(message):
        said.append(message)

    async def receive():
        seen.append(app.state.service.at_once)
        if len(seen) > 3:
            await asyncio.sleep(60)
        return {"type": "http.request", "body": b"{", "more_body": True}

    app = serve.build(settings)
    scope = {"type": "http", "method": "POST", "path": "/classify", "headers": [], "query_string": b""}
    asyncio.run(app(scope, receive, send))
    assert said[0]["status"] == 408
    assert (seen, app.state.service.at_once) == ([1, 1, 1, 1], 0)


def test_a_function_that_fails_is_a_fallback_and_no_500(bundle):
    def down(texts):
        raise OSError("no route")

    with client_of(serve.Settings(str(bundle), models={"llm": down})) as client:
        found = client.post("/classify", json={"text": ["hello", "which one"]})
        said = client.get("/metrics").text
    assert found.status_code == 200
    assert all(d["fallback"] and d["trace"][1]["failure"] == "OSError: no route" for d in found.json()["decisions"])
    assert "hybrid_fallbacks_total 2.0" in said


def test_a_new_bundle_is_served_without_a_pause_and_a_broken_one_is_not(recording, tmp_path):
    path = tmp_path / "live.zip"
    first, second = (export(recording, policy_of(recording, "triage", threshold=t)) for t in (0.0, 1.0))
    path.write_bytes(first)
    with client_of(serve.Settings(str(path), models={"llm": llm_of(recording)})) as client:
        text = str(recording.dataset.texts[0])
        before = client.post("/classify", json={"text": text}).json()
        assert before["tier"] == "classifier"
        path.write_bytes(second[:1000])
        refused = client.post("/admin/reload")
        assert refused.status_code == 409
        assert "Still serving" in refused.json()["error"]["message"]
        path.write_bytes(second)
        assert client.post("/admin/reload").json()["bundle"] != before["bundle"]
        assert client.post("/classify", json={"text": text}).json()["tier"] == "llm"


def test_shadow_answers_with_the_llm_and_logs_what_the_policy_decides(recording, bundle, tmp_path):
    texts = [str(t) for t in recording.dataset.texts[recording.split.test]]
    asked = []
    answer = llm_of(recording)

    def counted(some):
        asked.extend(some)
        return answer(some)

    kept = DecisionLog(tmp_path / "log", texts="full", redact=str.upper)
    settings = serve.Settings(str(bundle), models={"llm": counted}, mode="shadow", log=kept)
    with client_of(settings) as client:
        found = client.post("/classify", json={"text": texts}).json()["decisions"]
    assert asked == texts  # once each, although the policy escalates some of them
    assert {d["tier"] for d in found} == {"llm"}
    assert [d["label"] for d in found] == [a.label for a in answer(texts)]
    log = read_log(tmp_path / "log").to_pylist()
    expected = hybrid.load(bundle, models={"llm": answer}).decide(texts)
    assert [(r["label"], r["tier"], r["cost"]) for r in log] == [(d.label, d.tier, d.cost) for d in expected]
    assert [r["llm_label"] for r in log] == [d["label"] for d in found]
    assert {r["mode"] for r in log} == {"shadow"}
    assert [r["text"] for r in log] == [t.upper() for t in texts]

    canary = serve.Settings(str(bundle), models={"llm": answer}, mode="canary", share=0.3)
    with client_of(canary) as client:
        service = client.app.state.service
        picked = [service.is_live(t) for t in texts]
        found = client.post("/classify", json={"text": texts}).json()["decisions"]
    assert 0.1 < np.mean(picked) < 0.5
    for d, e, live, said in zip(found, expected, picked, answer(texts), strict=True):
        assert (d["label"], d["tier"]) == ((e.label, e.tier) if live else (said.label, "llm"))


def test_what_is_not_classified_is_passed_on_unchanged(server, made, tmp_path, monkeypatch):  # noqa: F811
    """With the real client, to a server that speaks OpenAI's protocol: only the base URL is another."""
    monkeypatch.setenv("HYBRID_SERVERS", f"{server.url}=MOCK_API_KEY")
    monkeypatch.setenv("MOCK_API_KEY", "sk-upstream")
    server.control(key="sk-upstream")
    path = tmp_path / "llm.zip"
    path.write_bytes(packed(made, policy_of_llm(made, Triage(1.0))))
    kept = DecisionLog(tmp_path / "log")
    upstream = Server(server.url, "MOCK_API_KEY")
    settings = serve.Settings(str(path), upstream=upstream, mode="shadow", log=kept, tokens=("t0",))
    text = str(made[0].dataset.texts[made[0].split.test[0]])
    asked = {"model": "gpt", "messages": [NAMED, {"role": "user", "content": text}]}

    async def through(app):
        transport = httpx2.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            openai.AsyncOpenAI(
                api_key="t0",
                base_url="http://here/v1",
                max_retries=0,
                http_client=openai.DefaultAsyncHttpxClient(transport=transport),
            ) as client,
        ):
            poem = await client.chat.completions.create(
                model="gpt", messages=[{"role": "system", "content": "- poem"}, {"role": "user", "content": "Write"}]
            )
            whole = await client.chat.completions.create(**asked)
            server.control(script=["429"])
            with pytest.raises(openai.RateLimitError):
                await client.chat.completions.create(**asked)
            return poem, whole

    poem, whole = asyncio.run(through(serve.build(settings)))
    assert json.loads(poem.choices[0].message.content) == {"label": "poem"}
    assert whole.model == "mock"  # the LLM's own reply
    (row,) = read_log(tmp_path / "log").to_pylist()
    assert (row["mode"], row["tier"], row["text"]) == ("shadow", "llm", None)
    assert row["label"] == row["llm_label"] == json.loads(whole.choices[0].message.content)["label"]
    live = serve.Settings(str(path), upstream=upstream, tokens=("t0",))

    async def direct(app):
        transport = httpx2.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx2.AsyncClient(
                transport=transport, base_url="http://here", headers={"Authorization": "Bearer t0"}
            ) as client,
        ):
            answered = (await client.post("/v1/chat/completions", json=asked)).json()
            server.control(always="500")
            down = await client.post("/v1/chat/completions", json=asked)
            return answered, down

    answered, down = asyncio.run(direct(serve.build(live)))
    assert answered["usage"] == {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}  # really spent
    assert down.status_code == 200
    assert down.json()["model"] == "hybrid/llm/classifier"  # the surest answer so far


def test_the_llm_of_a_log_is_asked_upstream_in_the_clients_own_words(recording, bundle, monkeypatch):
    asked, upstream = [], Server("http://127.0.0.1:9/v1")

    def reply(request):
        asked.append(json.loads(request.content))
        said = {
            "choices": [{"message": {"content": "Shipping"}}],
            "usage": {"prompt_tokens": 90, "completion_tokens": 2},
        }
        return httpx2.Response(500) if len(asked) == 3 else httpx2.Response(200, json=said)

    there = httpx2.AsyncClient(transport=httpx2.MockTransport(reply))
    monkeypatch.setattr(serve.Service, "upstream", lambda self: (there, upstream))
    texts = [str(t) for t in recording.dataset.texts[recording.split.test]]
    decided = hybrid.load(bundle, models={"llm": llm_of(recording)}).decide(texts)
    text = next(t for t, d in zip(texts, decided, strict=True) if d.tier == "llm")
    with client_of(serve.Settings(str(bundle), upstream=upstream)) as client:
        messages = [NAMED, {"role": "user", "content": text}]
        whole = client.post(
            "/v1/chat/completions", json={"model": "gpt", "temperature": 0, "messages": messages}
        ).json()
        plain, down = (client.post("/classify", json={"text": text}).json() for _ in range(2))
    assert whole["choices"][0]["message"]["content"] == plain["label"] == "shipping"
    assert whole["usage"] == {"prompt_tokens": 90, "completion_tokens": 2, "total_tokens": 92}
    assert (asked[0]["model"], asked[0]["temperature"], asked[0]["messages"]) == ("gpt", 0, messages)
    assert asked[1]["model"] == "llm"  # what came without words of its own
    assert all(c in asked[1]["messages"][0]["content"] for c in ("billing", "shipping", "technical"))
    assert down["fallback"]


def test_the_log_rotates_and_keeps_each_decision_once(recording, bundle, tmp_path):
    pipeline = hybrid.load(bundle, models={"llm": llm_of(recording)})
    text = str(recording.dataset.texts[0])
    decision = pipeline(text)
    log = DecisionLog(tmp_path, rows_per_file=40)
    with pytest.raises(HybridError, match="another process writes"):
        DecisionLog(tmp_path)
    for start in range(0, 100, 10):
        assert log.put(
            [log.entry(text, decision, id=str(i), bundle="b", mode="live") for i in range(start, start + 10)]
        )
        while log.waiting:
            time.sleep(0.01)
    log.close()
    assert len(list(tmp_path.glob("*.parquet"))) == 2
    table = read_log(tmp_path)
    assert table["id"].to_pylist() == [str(i) for i in range(100)]
    row = table.to_pylist()[0]
    assert (row["text"], row["label"], row["fallback"]) == (None, decision.label, False)
    assert text not in (tmp_path / CURRENT).read_bytes().decode("latin-1")
    again = DecisionLog(tmp_path)  # the same salt: equal texts are told as equal
    again.put([again.entry(text, decision, id="x", bundle="b", mode="live")])
    while again.waiting or not again.written:
        time.sleep(0.01)
    assert read_log(tmp_path).to_pylist()[-1]["text_hash"] == row["text_hash"]
    assert [again.holds(id) for id in ("3", "x", "never")] == [True, True, False]  # rotated, just written, neither
    again.close()


def test_a_disk_that_is_full_is_said_and_loses_nothing_while_there_is_room(recording, bundle, tmp_path, monkeypatch):
    decision = hybrid.load(bundle, models={"llm": llm_of(recording)})("hello")
    monkeypatch.setattr("hybrid.production.log.RETRY", 0.01)
    log = DecisionLog(tmp_path)
    log._file.execute("PRAGMA max_page_count = 1")  # the next page does not fit
    log.put([log.entry("x" * 100, decision, id=str(i), bundle="b", mode="live") for i in range(300)])
    for _ in range(500):
        if log.problem is not None:
            break
        time.sleep(0.01)
    assert "full" in log.problem
    log._file.execute("PRAGMA max_page_count = 1000000")
    log.close()
    assert (log.problem, log.dropped, read_log(tmp_path).num_rows) == (None, 0, 300)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_the_command_serves_reloads_and_stops_without_losing_a_decision(recording, tmp_path):
    """A process of its own: requests under way at SIGTERM are answered, and every answer is in the log."""
    path, folder, port = tmp_path / "local.zip", tmp_path / "log", free_port()
    tiers = recording.predictions.select(["rules", "classifier"]).tiers
    path.write_bytes(export(recording, Policy(Cascade((0.8,)), tiers)))
    command = ["serve", str(path), "--port", str(port), "--log", str(folder)]
    process = subprocess.Popen([sys.executable, "-m", "hybrid.cli", *command], stderr=subprocess.PIPE, text=True)
    try:
        url = f"http://127.0.0.1:{port}"
        with httpx2.Client(base_url=url) as client:
            for _ in range(300):
                try:
                    if client.get("/ready").status_code == 200:
                        break
                except httpx2.HTTPError:
                    time.sleep(0.1)
            ids = {client.post("/classify", json={"text": f"my parcel {i}"}).json()["id"] for i in range(20)}
            os.kill(process.pid, signal.SIGHUP)
            ids |= {client.post("/classify", json={"text": f"my card {i}"}).json()["id"] for i in range(20)}
            os.kill(process.pid, signal.SIGTERM)
            process.wait(20)
    finally:
        process.kill()
    assert process.returncode in (0, -signal.SIGTERM), process.stderr.read()
    assert set(read_log(folder)["id"].to_pylist()) == ids
