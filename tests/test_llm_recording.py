"""Recording an LLM's answers: nothing lost, nothing paid twice, the cap kept, whatever happens meanwhile."""

import json
import logging
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import labelled, study_of, table_of
from llm_server import KEY, completion

from hybrid.data.columns import Columns
from hybrid.data.dataset import build
from hybrid.data.split import split
from hybrid.routing.engine import Policy, answered_by, replay
from hybrid.routing.table import UNKNOWN
from hybrid.store.answers import AnswerStore
from hybrid.study.answers import answered
from hybrid.study.evidence import CLASSIFIER, record
from hybrid.tiers.llm.questions import LLMSettings
from hybrid.tiers.llm.recording import RecordingJob, estimate, forget_damaged, questions, replies, sample
from hybrid.tiers.llm.replies import Reply

ROWS, KILLS = 400, 12


@pytest.fixture(scope="module")
def parts():
    frame = labelled(300)
    # the server answers with the class that a text names: give most texts their own
    frame["text"] = [
        f"{t} {label if i % 7 else ''} {i}x" for i, (t, label) in enumerate(zip(frame.text, frame.label, strict=True))
    ]
    dataset = build(frame, Columns("label", text="text"))
    return dataset, split(dataset)


@pytest.fixture(scope="module")
def recorded(parts):
    return record(*parts)


def settings(server, **changed):
    given = {"timeout": 2.0, "retries": 1, "input_price": 1.0, "output_price": 1.0, **changed}
    return LLMSettings("llm", "mock", base_url=server.url, **given)


def job(server, parts, path, n=40, cap=10.0, **changed):
    return RecordingJob(questions(settings(server, **changed), *parts, n), KEY, cap=cap, path=path)


def kept(asked, path):
    with AnswerStore(path) as store:
        return replies(asked, store)


def test_every_row_is_asked_once_and_kept(server, parts, path):
    one = job(server, parts, path)
    progress = one.run()
    assert (progress.state, progress.total, progress.done, progress.asked) == ("done", 40, 40, 40)
    assert all(r is not None and r.kind == "ok" for r in kept(one.questions, path))
    assert set(server.served()["served"].values()) == {1}
    assert progress.spending.paid == pytest.approx(40 * 110 / 1e6)
    assert progress.spending.lost == progress.spending.in_flight == 0


def test_what_was_answered_is_not_asked_again_in_another_session(server, parts, path):
    job(server, parts, path, n=20).run()
    progress = job(server, parts, path, n=50).run()
    assert (progress.done, progress.asked) == (50, 30)
    assert server.served()["calls"] == 50


def test_a_sample_is_stratified_and_its_beginnings_are_too(parts):
    dataset, parted = parts
    rows = sample(dataset, parted, 100)
    assert len(set(rows.tolist())) == 100
    assert sample(dataset, parted, 30).tolist() == rows[:30].tolist()
    for n in (30, 100):
        chosen = rows[:n]
        for code in range(len(dataset.classes)):
            for side in (parted.tune, parted.test):
                share = np.isin(side, np.flatnonzero(dataset.truth == code)).sum() / dataset.n_rows
                assert abs(np.isin(chosen, side[dataset.truth[side] == code]).sum() - n * share) < 2


def test_the_estimate_comes_before_the_first_call_and_then_from_the_answers(server, parts, path):
    asked = questions(settings(server), *parts, 40)
    with AnswerStore(path) as store:
        before = estimate(asked, store)
        assert (before.answered, before.to_ask, before.measured) == (0, 40, False)
        assert 40 * 50 / 1e6 < before.cost < 40 * 1000 / 1e6
        job(server, parts, path, n=10).run()
        after = estimate(asked, store)
    assert (after.answered, after.to_ask, after.measured) == (10, 30, True)
    assert after.cost == pytest.approx(30 * 110 / 1e6)


def test_the_cap_is_kept_and_raising_it_goes_on(server, parts, path):
    each = 110 / 1e6
    progress = job(server, parts, path, cap=10.5 * each, max_tokens=10).run()
    assert progress.state == "stopped"
    assert "cap" in progress.message
    assert 0 < progress.spending.total <= 10.5 * each
    assert progress.asked >= 5  # reservations of calls in flight do not stop it before its time
    again = job(server, parts, path, cap=1.0, max_tokens=10).run()
    assert (again.state, again.done) == ("done", 40)
    assert again.spending.paid == pytest.approx(40 * each)


def test_a_run_cannot_start_where_the_cap_is_too_low(server, parts, path):
    progress = job(server, parts, path, cap=0.0).run()
    assert (progress.state, progress.asked) == ("stopped", 0)
    assert server.served()["calls"] == 0


def test_failed_calls_are_counted_by_kind_and_can_be_repeated(server, parts, path):
    server.control(script=["429", "500", "wrong_label", "refusal"] + ["400"] * 3)
    progress = job(server, parts, path, concurrency=1).run()
    assert progress.failed == {"rate_limit": 1, "server": 1, "bad_request": 3}
    assert progress.unusable == {"unknown_label": 1, "refusal": 1}
    assert progress.given_up == 40 - progress.done == 4
    assert "no answer" in progress.message
    progress = job(server, parts, path).run()
    assert (progress.state, progress.done, progress.given_up) == ("done", 40, 0)


POISON = {
    "deep": completion("[" * 1000),
    "half": json.dumps(completion("x")).replace('"x"', '"\\ud83d"'),
    "logprob": completion('{"label": "billing"}', logprobs=[{"token": "billing", "bytes": None, "logprob": 5000}]),
    "count": json.dumps(completion("x")).replace(": 110", ": " + "9" * 400).replace(": 100", ": " + "9" * 400),
    "bytes": completion('{"label": "billing"}', logprobs=[{"token": "billing", "bytes": 10**13, "logprob": -1}]),
    "endless": json.dumps(completion("x")).replace(": 100", ": 1e999"),
}


def test_one_bad_reply_is_one_row_and_no_other(server, parts, path):
    server.control(script=[{"body": body} for body in POISON.values()])
    progress = job(server, parts, path, concurrency=2).run()
    assert (progress.state, progress.done, progress.asked) == ("done", 40, 40)
    assert progress.unusable == {"unknown_label": 3, "malformed": 1}
    assert server.served()["calls"] == 40
    assert progress.spending.paid < 1


def test_a_row_that_fails_in_three_runs_is_not_asked_again_and_counts_as_failed(server, parts, path, recorded):
    first = job(server, parts, path)
    text = parts[0].texts[first.questions.rows[7]]
    server.control(always={"status": 400, "body": {"detail": "this text breaks me"}, "in": text})
    calls = []
    for _ in range(4):
        one = job(server, parts, path)
        one.run()
        calls.append(server.served()["served"][text])
    assert calls == [1, 2, 3, 3]
    with AnswerStore(path) as store:
        assert estimate(one.questions, store).failed == 1
        assert estimate(one.questions, store).to_ask == 0
    found = answered(one.questions.settings, recorded, one.questions.rows, kept(one.questions, path), cheap=CLASSIFIER)
    row = one.questions.rows[7]
    assert (found.answers.label[row], found.answers.confidence[row]) == (UNKNOWN, 0.0)
    assert "this text breaks me" in found.replies[row].content


def test_what_a_filter_blocks_is_a_refusal_that_counts_as_wrong(server, parts, path, recorded):
    server.control(always={"status": 400, "body": {"error": {"code": "content_filter", "message": "no"}}, "in": "0x"})
    one = job(server, parts, path, n=100)
    progress = one.run()
    assert (progress.state, progress.done) == ("done", 100)
    blocked = [i for i in one.questions.rows.tolist() if "0x" in parts[0].texts[i]]
    assert progress.unusable["refusal"] == len(blocked) > 5
    found = answered(one.questions.settings, recorded, one.questions.rows, kept(one.questions, path), cheap=CLASSIFIER)
    assert found.n_answered == 100
    assert (found.answers.label[blocked] == UNKNOWN).all()


def test_a_server_that_is_down_makes_no_row_fail(server, parts, path):
    server.control(always="500")
    progress = job(server, parts, path, retries=0).run()
    assert progress.state == "stopped"
    server.control(always=None)
    one = job(server, parts, path)
    assert kept(one.questions, path) == [None] * 40
    assert one.run().asked == 40


def test_what_a_model_refuses_is_said_and_goes_into_the_tier(server, parts, path, recorded):
    server.control(always={"status": 403, "body": {"error": "no logprobs here"}, "having": "logprobs"})
    one = job(server, parts, path)
    assert one.run().without == ("logprobs",)
    found = answered(one.questions.settings, recorded, one.questions.rows, kept(one.questions, path), cheap=CLASSIFIER)
    assert found.model.without == ("logprobs",)


def test_a_call_that_may_have_been_charged_counts_towards_the_cap(server, parts, path):
    server.control(always="not_json")
    progress = job(server, parts, path, retries=0, concurrency=1).run()
    assert progress.state == "stopped"  # so many in a row do not pass by themselves
    assert progress.spending.lost > 0
    assert progress.spending.paid == 0


def test_a_key_that_is_revoked_in_mid_run_stops_it_and_keeps_everything(server, parts, path):
    server.control(revoke_after=15)
    progress = job(server, parts, path, concurrency=4).run()
    assert progress.state == "stopped"
    assert "refuses the key" in progress.message
    assert KEY not in progress.message
    assert progress.asked == 15
    assert server.served()["calls"] < 25  # it does not go on knocking
    server.control(revoke_after=None)
    assert job(server, parts, path).run().asked == 25


def test_a_dead_server_is_given_up(server, parts, path):
    gone = replace(settings(server), base_url="http://127.0.0.1:9/v1", retries=0)
    progress = RecordingJob(questions(gone, *parts, 40), KEY, cap=1.0, path=path).run()
    assert progress.state == "stopped"
    assert "in a row" in progress.message
    assert progress.failed["connection"] < 20
    assert progress.spending.total == 0  # nothing arrived: nothing can have been charged


def test_pause_resume_and_cancel(server, parts, path):
    server.control(delay=0.02)
    one = job(server, parts, path, n=200, concurrency=2)
    one.start()
    while one.progress().asked < 5:
        time.sleep(0.01)
    one.pause()
    time.sleep(0.2)
    held = one.progress()
    time.sleep(0.3)
    assert one.progress().asked == held.asked
    assert one.progress().state == "paused"
    one.resume()
    while one.progress().asked < held.asked + 5:
        time.sleep(0.01)
    one.cancel()
    assert one.wait(5)
    end = one.progress()
    assert end.state == "cancelled"
    assert end.asked < 200
    assert end.asked == sum(r is not None for r in kept(one.questions, path)) == server.served()["calls"]
    assert end.spending.in_flight == 0


def test_cancel_does_not_wait_for_a_server_that_asks_for_patience(server, parts, path):
    server.control(always="503")
    one = job(server, parts, path, n=2, retries=9)
    server.control(always="429")
    one.start()
    time.sleep(0.3)
    one.cancel()
    assert one.wait(1.5)


def test_concurrency_is_bounded(server, parts, path):
    server.control(delay=0.02)
    job(server, parts, path, concurrency=3).run()
    assert server.served()["most_at_once"] <= 3


def test_equal_questions_are_one_question(server, path):
    frame = labelled(60)
    frame["text"] = [frame.text[i // 2] for i in range(60)]
    dataset = build(frame, Columns("label", text="text"))
    one = RecordingJob(questions(settings(server), dataset, split(dataset), 60), KEY, cap=1.0, path=path)
    assert one.run().total == 30
    assert server.served()["calls"] == 30
    assert all(r is not None for r in kept(one.questions, path))


CHILD = """
import sys
import openai.resources.chat
from hybrid.tiers.servers import _tls
_tls()
from hybrid.tiers.llm.recording import RecordingJob, questions
from hybrid.tiers.llm.questions import LLMSettings
import test_llm_recording as t
url, path, cap = sys.argv[1:]
dataset, parted = t.small()
asked = questions(t.killed_settings(url), dataset, parted, t.ROWS)
while True:
    sys.stdin.readline()
    pid = __import__("os").fork()  # a fork of a warm interpreter: cold starts would take minutes
    if not pid:
        RecordingJob(asked, "sk-very-secret-0123456789", cap=float(cap), path=path).run()
        __import__("os")._exit(0)
    print(pid, flush=True)
    __import__("os").waitpid(pid, 0)
    print("ended", flush=True)
"""


def small():
    frame = labelled(ROWS, seed=3)
    frame["text"] = [f"{t} {i}x" for i, t in enumerate(frame.text)]
    dataset = build(frame, Columns("label", text="text"))
    return dataset, split(dataset)


def killed_settings(url):
    return LLMSettings("llm", "mock", base_url=url, max_tokens=10, input_price=1.0, output_price=1.0, concurrency=4)


@contextmanager
def killing(server, path, cap):
    """Yield a function that starts a recording in a process of its own and kills it after so many seconds."""
    here = os.pathsep.join([str(Path(__file__).parent), os.getcwd()])
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, server.url, str(path), str(cap)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": here},
    )

    def kill_after(seconds):
        child.stdin.write("\n")
        child.stdin.flush()
        pid = int(child.stdout.readline())
        time.sleep(seconds)
        with suppress(ProcessLookupError):  # it had run into the cap before
            os.kill(pid, signal.SIGKILL)
        assert child.stdout.readline() == "ended\n"

    try:
        yield kill_after
    finally:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()


@pytest.mark.skipif(os.name != "posix", reason="forks")
def test_kills_in_mid_run_lose_no_answer_and_pay_none_twice(server, path):
    server.control(delay=0.02)
    asked = questions(killed_settings(server.url), *small(), ROWS)
    rng, kept_before, in_mid_run, window = random.Random(0), 0, 0, 0.2
    with killing(server, path, cap=10.0) as kill_after:
        for _ in range(5 * KILLS):
            kill_after(rng.uniform(0.05, window))
            with AnswerStore(path) as store:
                now = sum(r is not None for r in replies(asked, store))
                in_mid_run += store.spending(asked.run).in_flight > 0
            # a busy machine takes longer to begin
            window = min(2.0, window * 1.1) if now == kept_before else max(0.2, window * 0.95)
            assert now >= kept_before  # an answer that was kept stays
            kept_before = now
            if in_mid_run == KILLS:
                break
    assert in_mid_run == KILLS
    assert 0 < kept_before < ROWS
    server.control(delay=0.0)
    RecordingJob(asked, KEY, cap=10.0, path=path).run()
    with AnswerStore(path) as store:
        assert all(r is not None for r in replies(asked, store))
        spending = store.spending(asked.run)
    served = server.served()["served"]
    assert len(served) == ROWS
    # what was answered twice was in flight at a kill, and is accounted for as lost
    most, least = (f(asked.settings.most(r) for r in asked.requests) for f in (max, min))
    again = sum(served.values()) - ROWS
    assert again <= round(spending.lost / least) <= KILLS * asked.settings.concurrency * round(most / least + 0.5)
    assert spending.paid == pytest.approx(ROWS * 110 / 1e6)


@pytest.mark.skipif(os.name != "posix", reason="forks")
def test_kills_do_not_break_the_cap(server, path):
    server.control(delay=0.02)
    asked = questions(killed_settings(server.url), *small(), ROWS)
    most = max(asked.settings.most(r) for r in asked.requests)
    cap = 60 * most
    rng = random.Random(1)
    with killing(server, path, cap) as kill_after:
        for _ in range(5):
            kill_after(rng.uniform(0.05, 0.4))
            with AnswerStore(path) as store:
                assert store.spending(asked.run).total <= cap
    assert RecordingJob(asked, KEY, cap=cap, path=path).run().state == "stopped"
    paid = sum(server.served()["served"].values()) * 110 / 1e6
    assert cap / 4 < paid <= cap + asked.settings.concurrency * most


def test_the_key_is_in_no_file_log_or_message(server, parts, path, caplog, capfd):
    with caplog.at_level(logging.DEBUG):
        job(server, parts, path, n=10).run()
        server.control(revoke_after=0)
        progress = job(server, parts, path, n=20).run()
    assert len(caplog.records) > 10  # the client and its transport did log
    said = caplog.text + repr(progress) + "".join(capfd.readouterr())
    assert KEY not in said
    for file in path.parent.iterdir():
        assert KEY.encode() not in file.read_bytes()
    assert any(b"label" in file.read_bytes() for file in path.parent.iterdir())  # the search can find something


@pytest.mark.parametrize(
    "row",
    [
        "",
        "{",
        "[1]",
        "null",
        "[" * 5000,
        '{"kind": "ok"}',
        '{"kind": 3, "content": "x"}',
        '{"kind": "ok", "content": "x", "prompt_tokens": -1}',
        '{"kind": "ok", "content": "x", "probability": 7}',
        '{"kind": "ok", "content": "x", "latency": 1e999}',
    ],
)
def test_a_damaged_answer_is_one_failed_row_that_can_be_asked_again(server, parts, path, row):
    one = job(server, parts, path, n=10)
    one.run()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE answers SET reply = ? WHERE key = ?", (row, one.questions.keys[3]))
    with AnswerStore(path) as store:
        kinds = [r.kind for r in replies(one.questions, store)]
        assert kinds.count("ok") == 9
        assert kinds[3] == "damaged"
        will = estimate(one.questions, store)
        assert (will.answered, will.to_ask, will.damaged) == (10, 0, 1)
        forget_damaged(one.questions, store)
        assert estimate(one.questions, store).to_ask == 1


def test_a_newer_answer_is_read_as_far_as_it_is_known():
    assert Reply.from_json('{"kind": "ok", "content": "x", "mood": "good"}') == Reply("ok", "x")


def test_the_store_holds_no_text(server, parts, path):
    job(server, parts, path, n=5).run()
    with sqlite3.connect(path) as db:
        everything = repr(db.execute("SELECT * FROM answers").fetchall())
    dataset = parts[0]
    assert not any(t in everything for t in dataset.texts)


# the tier


def test_recorded_answers_join_the_table_before_the_gates(server, parts, path, recorded):
    one = job(server, parts, path, n=120)
    one.run()
    found = answered(one.questions.settings, recorded, one.questions.rows, kept(one.questions, path), cheap=CLASSIFIER)
    table = table_of(study_of(recorded, llms=[found], confidence=((found.tier.name, "own"),)))
    assert [t.name for t in table.tiers][:3] == ["rules", "classifier", "llm"]
    assert {t.kind for t in table.tiers[3:]} == {"gate"}
    assert table.tiers[2].kind == "llm"
    assert table.tiers[2].price == pytest.approx(110 / 1e6)
    assert table.asked[:, 2].sum() == 120
    rows = answered_by(table, ["classifier", "llm"])
    assert rows.sum() == 120


def test_a_dearer_llm_comes_after_a_cheaper_one(server, parts, path, recorded):
    tiers = []
    for name, price in (("large", 10.0), ("small", 1.0)):
        llm = replace(settings(server, input_price=price), name=name, model=name)
        asked = questions(llm, *parts, 30)
        RecordingJob(asked, KEY, cap=1.0, path=path).run()
        tiers.append(answered(llm, recorded, asked.rows, kept(asked, path), cheap=CLASSIFIER))
    names = [t.name for t in study_of(recorded, llms=tiers).tiers if t.kind != "gate"]
    assert names == ["rules", "classifier", "small", "large"]


def said(n, right, probability):
    """Replies that name the truth, or another class, at a claimed probability."""

    def one(i, truth):
        label = ("billing", "shipping", "technical")[truth if right[i] else (truth + 1) % 3]
        return Reply("ok", f'{{"label": "{label}"}}', probability[i], 100, 10, False, 0.5)

    return [one(i, t) for i, t in enumerate(n)]


def test_confidences_are_calibrated_on_tune_rows_only(parts, recorded):
    dataset, parted = parts
    rng = np.random.default_rng(0)
    claimed = rng.uniform(0.9, 1.0, dataset.n_rows)
    right = rng.random(dataset.n_rows) < np.where(claimed > 0.95, 0.9, 0.4)
    llm = LLMSettings("llm", "m")
    rows = np.arange(dataset.n_rows)
    found = answered(llm, recorded, rows, said(dataset.truth, right, claimed), cheap=CLASSIFIER)
    confidence = found.answers.confidence
    for side in (parted.tune, parted.test):
        sure, unsure = claimed[side] > 0.96, claimed[side] < 0.94
        assert abs(confidence[side][sure].mean() - 0.9) < 0.1
        assert abs(confidence[side][unsure].mean() - 0.4) < 0.15
    # test rows do not move it: with their answers all wrong, tune confidences and the calibrator stay
    wrong = right.copy()
    wrong[parted.test] = False
    other = answered(llm, recorded, rows, said(dataset.truth, wrong, claimed), cheap=CLASSIFIER)
    assert other.model.calibrator == found.model.calibrator
    assert (other.answers.confidence == confidence).all()
    # what ships answers a test row as the table does
    again = found.model.answers(said(dataset.truth, right, claimed)).confidence
    assert (again[parted.test] == confidence[parted.test]).all()
    assert (again[parted.tune] != confidence[parted.tune]).any()  # those come of other folds


def test_answers_without_probabilities_get_the_accuracy_on_tune(parts, recorded):
    dataset, parted = parts
    right = np.ones(dataset.n_rows, dtype=bool)
    right[parted.tune[::4]] = False
    right[parted.test] = False
    replies_ = said(dataset.truth, right, [None] * dataset.n_rows)
    found = answered(LLMSettings("llm", "m"), recorded, np.arange(dataset.n_rows), replies_, cheap=CLASSIFIER)
    expected = round(float(right[parted.tune].mean()), 9)
    assert set(found.answers.confidence.tolist()) == {expected}


def test_a_failed_call_that_may_have_been_charged_is_in_the_rows_cost():
    from hybrid.tiers.llm.tier import cost_of

    llm = LLMSettings("llm", "m", input_price=1.0)
    once = cost_of(llm, Reply("ok", "", None, 100, 10))
    assert cost_of(llm, Reply("ok", "", None, 100, 10, lost=2)) == pytest.approx(3 * once)


def test_an_llm_gate_scores_how_likely_the_cheap_tier_is_right(server, parts, path, recorded):
    from hybrid.routing.patterns.router import Router

    gate = replace(settings(server), name="LLM gate", role="gate", max_tokens=200)
    asked = questions(gate, *parts, 300)
    RecordingJob(asked, KEY, cap=1.0, path=path).run()
    found = answered(gate, recorded, asked.rows, kept(asked, path), cheap=CLASSIFIER)
    table = table_of(study_of(recorded, llms=[found], confidence=((found.tier.name, "own"),)))
    assert table.tiers[-1].name == "LLM gate"
    assert table.tiers[-1].kind == "gate"
    assert (found.answers.label == UNKNOWN).all()
    policy = Policy(Router((0.5,)), tuple(table.tiers[table.index(n)] for n in ("LLM gate", "rules", "classifier")))
    outcomes = replay(policy, table)
    assert outcomes.cost == pytest.approx(110 / 1e6)  # its cost counts on every row
