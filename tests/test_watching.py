"""Watching: alarms that hold when looked at daily, corrections that are joined, weighted and judged, two bundles."""

import contextlib
import datetime
import json
import resource
import shutil
import socket
import sqlite3
import threading
import time
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_bundle import OLD, llm_of, policy_of
from test_serve import client_of

import hybrid
from hybrid.cli import main
from hybrid.errors import BundleError, HybridError
from hybrid.metrics.drift import ALARM, STEADY, WATCH
from hybrid.metrics.sequential import change, evidence_above, evidence_below, luck_of, mean_sequence, places
from hybrid.production import serve
from hybrid.production.archive import digest_of, pack_files, read_files
from hybrid.production.bundle import load_bundle, save_bundle
from hybrid.production.feedback import NONE_OF_THEM, Feedback
from hybrid.production.log import CURRENT, SECOND, DecisionLog, Pending, read_log
from hybrid.production.reference import FILE, fit_reference
from hybrid.routing.engine import replay
from hybrid.routing.patterns import Triage
from hybrid.study import corrections, watching, worker
from hybrid.study.watching import located, observe

START = 1_790_000_000  # of the logs here, seconds since 1970
DAY = 86_400


def test_evidence_is_a_bet_that_nobody_wins_against_the_truth():
    """The expectation of the wealth, over all ways that eight fair coins fall, is 1; less where the mean is lower."""
    falls = (np.arange(256)[:, None] >> np.arange(8)) & 1
    weights = np.array([1.0, 0.5] * 4)
    for test, mean in ((evidence_above, 0.5), (evidence_below, 0.5)):
        wealth = [np.exp(test(row.astype(float), mean, weights=weights)) for row in falls]
        assert np.mean(wealth) == pytest.approx(1)
    assert np.mean([np.exp(evidence_above(row.astype(float), 0.6)) for row in falls]) < 1
    some = (np.arange(300) % 10 > 0).astype(float)
    assert mean_sequence(some, weights=np.full(300, 0.5)).half_width > mean_sequence(some).half_width > 0.03
    with pytest.raises(HybridError, match="divide them"):
        mean_sequence(some, weights=np.full(300, 2.0))


def test_alarms_stay_within_their_level_over_a_year_of_daily_looks_and_find_changes():
    rng = np.random.default_rng(1)
    look = np.repeat(np.arange(120), 20)
    shares = np.array([0.5, 0.3, 0.2])

    def year(late, since=60):
        codes = rng.choice(3, len(look), p=shares)
        codes[look >= since] = rng.choice(3, int((look >= since).sum()), p=late)
        return change(places(codes, rng.multinomial(200, shares), rng.random(len(look))), look, n_looks=120)

    alarms = [year(shares).crossed(0.2) for _ in range(40)]
    assert sum(a is not None for a in alarms) <= 12  # at most 8 are expected; 13 of 40 in one of forty worlds
    found = year([0.3, 0.3, 0.4])
    at = found.crossed(0.01)
    assert 60 <= at < 80
    assert abs(int(found.start[at]) - 60) <= 8


def test_places_are_uniform_however_short_the_reference():
    """Every order of the same values is as likely: of all of them, each place is as frequent."""
    rng = np.random.default_rng(0)
    values = rng.choice(3, (4000, 4), p=[0.6, 0.3, 0.1])
    p = [places(row[2:], np.bincount(row[:2], minlength=3), rng.random(2)) for row in values]
    assert np.histogram(np.array(p)[:, 1], 5, (0, 1))[0] / 4000 == pytest.approx(0.2, abs=0.025)


@pytest.fixture(scope="module")
def made(recording, tmp_path_factory):
    """A triage bundle with a reference and a promise, and what it decides about the test texts."""
    folder = tmp_path_factory.mktemp("watching")
    policy = policy_of(recording, "triage", threshold=0.6)
    tune, test = recording.split.tune, recording.split.test
    texts, table = recording.dataset.texts, recording.predictions.select(policy.names)
    sides = [(replay(policy, table.take(rows)), [str(t) for t in texts[rows]]) for rows in (tune, test)]

    def pack(path, chosen, **promise):
        content = save_bundle(
            policy=chosen,
            classes=recording.dataset.classes,
            models=recording.models,
            texts=sides[1][1],
            recorded=recording.predictions.take(test),
            evidence={
                "metrics": {"test": {"escalation_rate": {"value": 0.3, "low": 0.2, "high": 0.4}, "reach": [1.0, 0.3]}},
                "certificate": {"risk": "selective", "alpha": 0.15, "delta": 0.1} | promise,
            },
            reference=fit_reference(policy, *sides, n_classes=3),
        )
        path.write_bytes(content)
        return path

    path = pack(folder / "policy.zip", policy)
    other = pack(folder / "other.zip", policy_of(recording, "triage", threshold=0.9))
    truth = {str(t): recording.dataset.classes[c] for t, c in zip(texts, recording.dataset.truth, strict=True)}
    return path, other, sides[1][1], truth, llm_of(recording)


def logged(folder, path, texts, llm, days, *, share=1.0, suffix="", **more):
    """Write a log: on each of `days` the texts that it names, a thirtieth of a day apart; returns ids and decisions."""
    runtime = hybrid.load(path, models={"llm": llm})
    said = dict(zip(texts, runtime.decide(texts), strict=True))
    digest, reference = digest_of(path), runtime.bundle.reference
    log, out = DecisionLog(folder, texts="full", **more), []
    for day, some in enumerate(days):
        for k, text in enumerate(some):
            at = START + day * DAY + k
            id = f"{at * 10**9:016x}{hash((text, day, k)) & (2**64 - 1):016x}{suffix}"
            drawn = luck_of([id])[0] < share
            chance = share if drawn else 0.0
            log.put_patiently([Pending(at, id, digest, "live", text, said[text], None, chance, reference)])
            out.append((id, text, said[text], drawn))
    log.close()
    return out


@pytest.fixture(scope="module")
def small_log(made, tmp_path_factory):
    path, _, texts, _, llm = made
    folder = tmp_path_factory.mktemp("small #1?")  # a path that is no address
    logged(folder, path, texts, llm, [texts[:5], texts[5:10]])
    return folder


def test_what_a_stranger_sends_is_looked_at_in_a_worker_within_its_memory(made, small_log, monkeypatch):
    work = partial(worker.look, str(small_log), [str(made[0])], alpha=0.05, megabytes=9_999)
    assert worker.apart(work).plain() == observe(str(small_log), [str(made[0])], alpha=0.05).plain()

    def full(*_, strange, **__):
        assert (strange, resource.getrlimit(resource.RLIMIT_AS)[0]) == (True, 9_999 << 20)
        raise MemoryError

    monkeypatch.setattr(watching, "observe", full)
    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(HybridError, match=r"9,999 MB of memory.*HYBRID_MAX_READ_MB"):
        worker.apart(work)
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_a_log_as_promised_is_steady_and_another_kind_of_texts_is_an_alarm(made, tmp_path, capsys):
    path, _, texts, _, llm = made
    rng = np.random.default_rng(0)
    days = [list(rng.choice(texts, 25)) for _ in range(12)]
    logged(tmp_path / "same", path, texts, llm, days, rows_per_file=100)
    assert main(["watch", str(tmp_path / "same"), "--bundle", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["bundles"][0]
    assert {s["level"] for s in found["streams"].values()} == {STEADY}
    assert (found["decisions"], sum(found["decisions_a_day"]), len(found["days"])) == (300, 300, 12)
    assert all(low < 0.3 < high for low, high in found["series"]["escalation"]["band"])

    odd = [f"zebra quokka {i} lemur ocelot tapir" for i in range(30)]
    days += [list(rng.choice(odd, 25)) for _ in range(8)]

    def ask(some):
        return [hybrid.Answer("billing", 0.9) if t in odd else llm([t])[0] for t in some]

    logged(tmp_path / "odd", path, [*texts, *odd], ask, days)
    assert main(["watch", str(tmp_path / "odd"), "--bundle", str(path)]) == 1
    said = capsys.readouterr().out
    streams = {s.name: s for s in observe(str(tmp_path / "odd"), [str(path)]).bundles[0].watch.streams}
    assert streams["texts"].level == ALARM
    assert abs((streams["texts"].since - datetime.date(2026, 9, 21)).days - 12) <= 2
    assert "unusual words" in streams["texts"].reason or "word mix" in streams["texts"].reason
    assert "texts: alarm." in said


def test_a_bundle_of_before_says_that_it_has_no_reference(made, tmp_path):
    path, _, texts, _, llm = made
    files = {n: c for n, c in read_files(path).items() if n not in (FILE, "manifest.json")}
    old = tmp_path / "old.zip"
    old.write_bytes(pack_files(files))
    logged(tmp_path / "log", old, texts, llm, [texts])
    streams = observe(str(tmp_path / "log"), [str(old)]).bundles[0].watch.streams
    assert all(s.level == STEADY and s.reason.startswith("No reference for") for s in streams)
    assert load_bundle(OLD / "trained_gate.zip").reference is None
    with pytest.raises(HybridError, match="no decision of this bundle"):
        observe(str(tmp_path / "log"), [str(path)])
    broken = json.loads(read_files(path)[FILE])
    for change_of in ({"group": [0, 0, 9]}, {"of": 1}, {"escalation": {"expected": [1.0], "counts": [1]}}):
        with pytest.raises(BundleError, match=r"reference\.json"):
            load_bundle(pack_files(files | {FILE: json.dumps(broken | change_of).encode()}))


def test_corrections_settle_a_promise_and_make_a_bundle_that_keeps_it(made, tmp_path, capsys):
    path, _, texts, truth, llm = made
    folder = tmp_path / "log"
    rng = np.random.default_rng(0)
    rows = logged(folder, path, texts, llm, [list(rng.choice(texts, 80)) for _ in range(3)], share=0.8)
    store = Feedback(folder)
    classes = sorted(set(truth.values()))

    def wrong_below(confidence):
        """Label the drawn rows so that what is surer than this is right, and the rest is wrong."""
        for id, _, d, drawn in rows:
            if drawn:
                sure = d.trace[0].confidence >= confidence
                store.put(id, d.label if sure or d.tier == "llm" else next(c for c in classes if c != d.label))

    none = observe(str(folder), [str(path)]).bundles[0].review
    assert (none.level, none.labelled, none.more) == (corrections.OPEN, 0, none.more)
    assert none.more > 10
    assert len(none.rows) == sum(drawn and d.tier != "llm" for _, _, d, drawn in rows)
    wrong_below(0.0)
    for id, _, d, drawn in rows:  # complaints are kept apart, whatever they say
        if not drawn:
            store.put(id, next(c for c in classes if c != d.label), source="report")
    found = observe(str(folder), [str(path)]).bundles[0].review
    assert (found.level, found.accuracy.value) == (corrections.HOLDS, 1.0)
    assert found.reported == found.reported_wrong == sum(not drawn for *_, drawn in rows)

    cut = float(np.quantile([d.trace[0].confidence for _, _, d, _ in rows if d.tier != "llm"], 0.5))
    wrong_below(cut)
    out = tmp_path / "new.zip"
    assert main(["watch", str(folder), "--bundle", str(path), "--new-bundle", str(out)]) == 1
    said = capsys.readouterr()
    assert "No longer holds" in said.out
    assert "rests on" in said.err
    one = observe(str(folder), [str(path)]).bundles[0]
    old, new = load_bundle(path), load_bundle(out)
    assert isinstance(new.policy.pattern, Triage)
    assert old.policy.pattern.threshold < new.policy.pattern.threshold == one.review.new.threshold
    assert one.review.new.threshold > cut - 0.1  # below it, all is wrong
    kept = [d for _, _, d, drawn in rows if drawn and d.trace[0].confidence >= new.policy.pattern.threshold]
    assert one.review.new.n == len(kept)
    assert corrections.claim_of(new) == corrections.claim_of(old)
    assert new.reference.side == "production"
    assert ("threshold", "0.6") in [d[:2] for d in corrections.differences(old, new)]
    assert main(["watch", str(folder), "--bundle", str(path), "--new-bundle", str(out)]) == 2  # it would be lost
    logged(tmp_path / "next", out, texts, llm, [texts])
    assert observe(str(tmp_path / "next"), [str(out)]).bundles[0].watch.level in (STEADY, WATCH)


def test_feedback_is_idempotent_and_belongs_to_a_decision(made, tmp_path):
    path, _, texts, _, llm = made
    kept = DecisionLog(tmp_path / "log")
    settings = serve.Settings(str(path), models={"llm": llm}, log=kept, review_share=0.5, tokens=("t",))
    mine = {"Authorization": "Bearer t"}
    with client_of(settings) as client:
        found = client.post("/classify", json={"text": texts}, headers=mine).json()["decisions"]
        one = found[0]["id"]

        def say(**body):
            return client.post("/feedback", json=body, headers=mine)

        said = [say(id=f"chatcmpl-{one}", label=label, source="review") for label in ("Billing", "billing", None)]
        assert [s.json()["stored"] for s in said] == ["new", "same", "changed"]
        assert say(id="0" * 32, label="billing").status_code == 404
        assert say(id=one, label="weather").status_code == say(id=one).status_code == 422
        assert client.post("/feedback", json={"id": one, "label": "billing"}).status_code == 401
        where = client.get("/admin/where", headers=mine).json()
        assert (where["bundle"], where["log"]) == (str(path), str(tmp_path / "log"))
    (stored,) = Feedback(tmp_path / "log").read()
    assert (stored.id, stored.label, stored.source) == (one, NONE_OF_THEM, "review")
    drawn = [d["review"] for d in found]
    assert [r["review"] for r in read_log(tmp_path / "log").to_pylist()] == [0.5 * d for d in drawn]
    assert 0.3 < np.mean(drawn) < 0.7
    with client_of(serve.Settings(str(path), models={"llm": llm})) as client:
        assert client.post("/feedback", json={"id": one, "label": "billing"}).status_code == 409
    with pytest.raises(HybridError, match="another machine"):
        located("http://example.com:8000")


@contextlib.contextmanager
def saying(raw):
    """A server on this machine that says the same to everybody; gives its address and what it was sent."""
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve_all():
            with contextlib.suppress(OSError):
                while True:
                    with listening.accept()[0] as one:
                        heard.append(one.recv(10_000))
                        one.sendall(raw)

        threading.Thread(target=serve_all, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", heard


def test_a_server_that_is_none_is_told_in_words_and_sends_the_token_nowhere(monkeypatch):
    monkeypatch.setenv("HYBRID_SERVE_TOKENS", "secret")
    ok = b"HTTP/1.1 200 OK\r\n\r\n"
    wrong = [
        b"junk\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"a" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        ok + b"[" * 100_000,
        ok + b'{"log": 5, "bundle": null, "against": null}',
    ]
    with saying(ok + b"{}") as (elsewhere, heard):
        wrong.append(f"HTTP/1.1 302 Found\r\nLocation: {elsewhere}/\r\n\r\n".encode())
        for raw in wrong:
            with saying(raw) as (url, asked), pytest.raises(HybridError, match="does not say where its log is"):
                located(url)
            assert b"Bearer secret" in asked[0]
        assert heard == []
    for source in ("http://[::1", "http://127.0.0.1:x", "http://127.0.0.1:1/ a", "x" * 5_000):
        with pytest.raises(HybridError, match=r"no address|does not say|cannot be read"):
            observe(source, ["b.zip"])


def test_two_bundles_share_the_texts_by_hash_and_are_compared(made, tmp_path):
    path, other, texts, truth, llm = made
    live = DecisionLog(tmp_path / "live")
    both = serve.Settings(str(path), models={"llm": llm}, log=live, against=str(other), share=0.5, review_share=1.0)
    with client_of(both) as client:
        found = [client.post("/classify", json={"text": texts}).json()["decisions"] for _ in range(2)]
    assert [d["bundle"] for d in found[0]] == [d["bundle"] for d in found[1]]  # a text stays with its bundle
    named = {d["bundle"].split("@")[1] for d in found[0]}
    assert named == {digest_of(path), digest_of(other)}
    alone = [hybrid.load(p, models={"llm": llm}).decide(texts) for p in (path, other)]
    for i, d in enumerate(found[0]):
        assert d["tier"] == alone[d["bundle"].startswith("other")][i].tier
    for d, text in zip(found[0], texts, strict=True):
        Feedback(tmp_path / "live").put(d["id"], truth[text])
    trial = observe(str(tmp_path / "live"), [str(path), str(other)]).trial
    assert not trial.paired
    assert sum(trial.n_reviewed) == len(texts)
    assert trial.escalation.value > 0

    beside = DecisionLog(tmp_path / "beside")
    shadow = serve.Settings(
        str(path), models={"llm": llm}, log=beside, against=str(other), mode="shadow", review_share=1.0
    )
    with client_of(shadow) as client:
        found = client.post("/classify", json={"text": texts}).json()["decisions"]
    rows = read_log(tmp_path / "beside").to_pylist()
    assert {r["id"] for r in rows} == {d["id"] + end for d in found for end in ("", SECOND)}
    for d, text in zip(found, texts, strict=True):
        Feedback(tmp_path / "beside").put(d["id"], truth[text])
    trial = observe(str(tmp_path / "beside"), [str(path), str(other)]).trial
    sent = [np.mean([d.tier == "llm" for d in some]) for some in alone]
    right = [np.mean([d.label == truth[t] for d, t in zip(some, texts, strict=True)]) for some in alone]
    assert trial.paired
    assert trial.escalation.value == pytest.approx(sent[1] - sent[0])
    assert trial.accuracy.value == pytest.approx(right[1] - right[0])
    assert trial.accuracy.low < trial.accuracy.value < trial.accuracy.high
    with pytest.raises(BundleError, match="same bundle"):
        serve.build(serve.Settings(str(path), models={"llm": llm}, against=str(path)))


FOREVER = "CREATE VIEW {} AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT {} FROM c"
COMPUTED = "CREATE TABLE {} (at, id, label, source, text TEXT AS (hex(zeroblob(400000000))))"
FEEDBACK = "CREATE TABLE feedback (id, label, source, at)"


@pytest.mark.parametrize(
    ("says", "file", "statements"),
    [
        ("not fit", CURRENT, ["UPDATE decisions SET trace = '[],[]' WHERE rowid = 3"]),
        ("not fit", CURRENT, ["UPDATE decisions SET trace = '[{}' || substr(trace, 2)"]),
        ("not fit", CURRENT, ["UPDATE decisions SET trace = json_array(1, 2, 3)"]),
        ("not fit", CURRENT, ["UPDATE decisions SET trace = replace(trace, '\"cost\": 0', '\"cost\": -1')"]),
        ("not fit", CURRENT, ["UPDATE decisions SET features = replace(features, '1', 'é')"]),
        ("value is missing", CURRENT, ["UPDATE decisions SET id = NULL WHERE rowid = 3"]),
        ("not in", CURRENT, ["UPDATE decisions SET at = -1"]),
        ("not in", CURRENT, ["UPDATE decisions SET at = at * 1000"]),
        ("not in", CURRENT, ["UPDATE decisions SET latency = 9e999 WHERE rowid = 3"]),
        ("not in", CURRENT, ["UPDATE decisions SET review = 1.5 WHERE rowid = 3"]),
        ("no such table", CURRENT, ["DROP TABLE decisions", FOREVER.format("decisions", "x AS bundle, x AS at")]),
        ("generated", CURRENT, ["DROP TABLE decisions", COMPUTED.format("decisions")]),
        ("damaged", "feedback.sqlite", [FEEDBACK, "INSERT INTO feedback VALUES (NULL, NULL, 'review', 1.0)"]),
        ("damaged", "feedback.sqlite", [FEEDBACK, "INSERT INTO feedback VALUES (x'ff', 'billing', 'review', 1.0)"]),
        ("no such table", "feedback.sqlite", [FOREVER.format("feedback", "x AS id, x AS label, x AS source, x AS at")]),
        ("generated", "feedback.sqlite", [COMPUTED.format("feedback")]),
    ],
)
def test_a_log_that_a_stranger_made_is_refused_in_words(made, small_log, tmp_path, says, file, statements):
    shutil.copytree(small_log, tmp_path, dirs_exist_ok=True)
    with contextlib.closing(sqlite3.connect(tmp_path / file)) as opened, opened:
        for statement in statements:
            opened.execute(statement)
    with pytest.raises(HybridError, match=says) as caught:
        observe(str(tmp_path), [str(made[0])])
    assert "Copy" in str(caught.value)
    assert len(str(caught.value)) < 700


def test_a_log_that_is_small_and_becomes_large_is_refused_of_strangers(small_log, tmp_path, monkeypatch):
    whole = read_log(small_log).slice(0, 1)
    whole = pa.concat_tables([whole.set_column(5, "text", pa.array(["a" * 5000]))] * 400)
    for number in range(2):
        pq.write_table(whole, tmp_path / f"decisions-{number}.parquet")
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) < 50_000
    assert len(read_log(tmp_path, strange=True)) == 1  # the rows are one decision
    monkeypatch.setenv("HYBRID_MAX_UNPACKED_MB", "4")
    with pytest.raises(HybridError, match=r"limit is 4: .*HYBRID_MAX_UNPACKED_MB"):
        read_log(tmp_path, strange=True)
    monkeypatch.setenv("HYBRID_MAX_UNPACKED_MB", "8")
    monkeypatch.setenv("HYBRID_MAX_ROWS", "700")
    with pytest.raises(HybridError, match="800 rows, the limit is 700"):
        read_log(tmp_path, strange=True)
    assert len(read_log(tmp_path)) == 1
    monkeypatch.delenv("HYBRID_MAX_ROWS")
    (tmp_path / "decisions-3.parquet").write_bytes(b"PAR1 no")
    for strange in (False, True):
        with pytest.raises(HybridError, match="cannot be read"):
            read_log(tmp_path, strange=strange)


def test_a_log_of_before_is_read_and_written_on(made, tmp_path):
    path, _, texts, _, llm = made
    logged(tmp_path / "log", path, texts, llm, [texts], rows_per_file=len(texts))
    (rotated,) = (tmp_path / "log").glob("*.parquet")
    pq.write_table(pq.read_table(rotated).drop(["review", "features"]), rotated)
    with sqlite3.connect(tmp_path / "log" / CURRENT) as file:
        file.execute("DROP INDEX by_id")
        for name in ("review", "features"):
            file.execute(f"ALTER TABLE decisions DROP COLUMN {name}")
    shutil.copytree(tmp_path / "log", tmp_path / "copy")
    assert read_log(tmp_path / "copy")["review"].to_pylist() == [None] * len(texts)
    again = logged(tmp_path / "log", path, texts, llm, [[], texts[:3]])
    assert read_log(tmp_path / "log")["features"].to_pylist()[-1] is not None
    found = observe(str(tmp_path / "log"), [str(path)]).bundles[0]
    assert len(found.decisions) == len(texts) + len(again)
    assert time.time() > START
