"""Recording through the Batch API: cheaper, resumable, and nothing paid twice there either."""

import json

import llm_server
import pytest
from conftest import labelled
from llm_server import KEY

from hybrid.data.columns import Columns
from hybrid.data.dataset import build
from hybrid.data.split import split
from hybrid.errors import TierError
from hybrid.store.answers import AnswerStore
from hybrid.study.answers import answered
from hybrid.study.evidence import CLASSIFIER, record
from hybrid.tiers.llm import batch as batches
from hybrid.tiers.llm.client import CallError
from hybrid.tiers.llm.questions import LLMSettings
from hybrid.tiers.llm.recording import RecordingJob, questions, replies
from hybrid.tiers.llm.replies import Reply
from hybrid.tiers.llm.tier import as_answers, raw_confidence

EACH = 110 / 1e6  # USD at the full price


@pytest.fixture(scope="module")
def parts():
    frame = labelled(60, seed=7)
    frame["text"] = [f"{t} {i}x {'BATCHFAIL' if i == 20 else ''}" for i, t in enumerate(frame.text)]
    dataset = build(frame, Columns("label", text="text"))
    return dataset, split(dataset)


@pytest.fixture
def asked(server, parts):
    llm = LLMSettings("llm", "mock", base_url=server.url, timeout=2.0, retries=0, input_price=1.0, output_price=1.0)
    return questions(llm, *parts, 60)


def kept(asked, path):
    with AnswerStore(path) as store:
        return replies(asked, store), store.spending(asked.run)


def test_a_batch_is_sent_looked_at_and_fetched_at_half_the_price(server, asked, path):
    assert batches.submit(asked, KEY, cap=1.0, path=path) == 60
    assert batches.under_way(asked, path=path) == 1
    (batch,) = batches.look(asked, KEY, path=path)
    assert (batch.status, batch.kept) == ("in_progress", 0)
    (batch,) = batches.look(asked, KEY, path=path)
    assert (batch.status, batch.kept) == ("completed", 58)  # one was asked at once, one failed
    assert batches.under_way(asked, path=path) == 0
    found, spending = kept(asked, path)
    assert [r.kind for r in found].count("ok") == 59
    failed = next(r for r in found if r.kind != "ok")  # it was asked: it counts, and says why
    assert (failed.kind, failed.content) == ("bad_request", "bad row")
    assert spending.paid == pytest.approx(EACH * (1 + 58 / 2))
    assert spending.in_flight == spending.lost == 0
    # what failed can be asked again, the rest is not
    assert RecordingJob(asked, KEY, cap=1.0, path=path).run().asked == 1
    assert set(server.served()["served"].values()) == {1}


def test_what_is_under_way_in_a_batch_is_not_asked_otherwise(server, asked, path):
    batches.submit(asked, KEY, cap=1.0, path=path)
    assert batches.submit(asked, KEY, cap=1.0, path=path) == 0  # all questions are claimed: none is sent again
    assert len(server.served()["batches"]) == 1
    _, spending = kept(asked, path)
    assert spending.in_flight > 0


def test_a_kill_between_sending_and_noting_does_not_lose_the_batch(server, asked, path, monkeypatch):
    class KilledError(BaseException):
        pass

    def killed(*_):
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(AnswerStore, "name_batch", killed)
        with pytest.raises(KilledError):
            batches.submit(asked, KEY, cap=1.0, path=path)
    server.control(looks=1)
    (batch,) = batches.look(asked, KEY, path=path)
    assert batch.kept == 58


def test_a_batch_that_never_arrived_gives_its_questions_back(server, asked, path):
    with AnswerStore(path, holder="gone") as store:
        store.begin_batch("gone", asked.run)
        store.claim(asked.keys[0], asked.run, cost=0.1, cap=1.0, lease=1e6)
    (batch,) = batches.look(asked, KEY, path=path)
    assert "never reached" in batch.message
    _, spending = kept(asked, path)
    assert spending.total == 0


def test_the_cap_bounds_a_batch(server, asked, path):
    most = max(asked.settings.most(r) for r in asked.requests)
    sent = batches.submit(asked, KEY, cap=EACH + 10.5 * most / 2, path=path)
    assert 10 <= sent <= 13
    with pytest.raises(TierError, match="cap"):
        batches.submit(asked, KEY, cap=0.0, path=path)


def test_a_cancelled_batch_gives_its_questions_back(server, asked, path):
    batches.submit(asked, KEY, cap=1.0, path=path)
    (batch,) = batches.cancel(asked, KEY, path=path)
    assert batch.status == "cancelled"
    assert batches.under_way(asked, path=path) == 0
    assert kept(asked, path)[1].in_flight == 0


def test_a_refused_key_is_said_before_anything_is_sent(server, asked, path):
    server.control(key="another")
    with pytest.raises(CallError) as caught:
        batches.submit(asked, KEY, cap=1.0, path=path)
    assert caught.value.kind == "auth"
    assert KEY not in str(caught.value)
    assert kept(asked, path)[1].total == 0
    assert not server.served()["files"]


def test_a_batch_asks_without_what_the_server_does_not_know(server, asked, path):
    server.control(script=["no_logprobs"] * 2)
    batches.submit(asked, KEY, cap=1.0, path=path)
    (content,) = server.served()["files"].values()
    assert all("logprobs" not in json.loads(line)["body"] for line in content.splitlines())


def test_a_batch_is_cut_to_what_a_server_takes(server, asked, path, monkeypatch):
    monkeypatch.setattr(batches, "MAX_QUESTIONS", 25)
    assert batches.submit(asked, KEY, cap=1.0, path=path) == 60
    sizes = [len(content.splitlines()) for content in server.served()["files"].values()]
    assert sizes == [25, 25, 9]
    server.control(looks=1)
    assert sum(b.kept for b in batches.look(asked, KEY, path=path)) == 58


def test_a_damaged_line_of_the_output_costs_that_line_alone(asked, path):
    def line(key, body):
        return json.dumps({"custom_id": key, "response": {"status_code": 200, "body": body}})

    good = line(asked.keys[0], llm_server.completion('{"label": "billing"}'))
    bad = [line(asked.keys[1], {}), line(asked.keys[2], {"choices": [3]}), "{", '{"custom_id": 1}', "[]", ""]
    bad += ["[" * 5000, '{"custom_id": [1]}', line(asked.keys[3], [[]]), line("of another", {})]
    client = batches.LLMClient(asked.settings, None)
    with AnswerStore(path) as store:
        assert batches._keep(asked, "\n".join([*bad, good]), client, store) == 1
    found, _ = kept(asked, path)
    assert [r and r.kind for r in found[:4]] == ["ok", "bad_reply", "bad_reply", "bad_reply"]


def test_replies_of_a_batch_get_the_usual_latency(parts):
    llm = LLMSettings("llm", "m")
    some = [Reply("ok", '{"label": "billing"}', 0.9, latency=x) for x in (0.2, 0.4, None, 0.9)]
    found = as_answers(llm, ["billing", "shipping"], some, raw_confidence(llm, some), usual=0.5)
    assert found.latency.tolist() == [0.2, 0.4, 0.4, 0.9]
    alone = as_answers(llm, ["billing", "shipping"], some[2:3], raw_confidence(llm, some[2:3]), usual=0.5)
    assert alone.latency.tolist() == [0.0]
    fitted = record(*parts)
    one = answered(llm, fitted, parts[1].tune[:4], some, cheap=CLASSIFIER)
    assert one.n_answered == 4
