"""The store: in a file or on a PostgreSQL server, nothing paid twice, the cap kept, and never begun anew unasked."""

import os
import resource
import signal
import sqlite3
import threading
from contextlib import contextmanager
from dataclasses import replace

import postgres_server
import pytest
from conftest import again
from llm_server import KEY
from test_llm_recording import job, kept, parts, settings  # noqa: F401 (a fixture)

import hybrid
from hybrid.errors import HybridError, StoreError, StudyError
from hybrid.store import database, projects
from hybrid.store.answers import ANSWERED, ASK, BUSY, SPENT, AnswerStore
from hybrid.store.database import VERSION, default_path, named
from hybrid.study import keeping
from hybrid.study.project import folder_of, new_id
from hybrid.tiers.llm.recording import RecordingJob, questions
from hybrid.tiers.llm.replies import Reply

EACH = 110 / 1e6  # USD an answer


def claim(store, key="k", *, run="r", cost=1.0, cap=10.0, lease=60.0):
    return store.claim(key, run, cost=cost, cap=cap, lease=lease)


def say(place, *statements):
    """Run statements past the store; returns the rows of the last."""
    if "://" in str(place):
        return postgres_server.ask(place, *statements)
    with sqlite3.connect(place) as db:
        return [db.execute(s).fetchall() for s in statements][-1]


def test_a_claimed_question_is_busy_until_it_is_settled(place):
    with AnswerStore(place) as one, AnswerStore(place) as two:
        assert claim(one) == ASK
        assert claim(two) == BUSY
        assert two.spending("r").in_flight == 1.0
        one.settle("k", "r", "{}", cost=0.25)
        assert claim(two) == ANSWERED
        assert (two.spending("r").paid, two.spending("r").total) == (0.25, 0.25)
        assert two.get(["k", "other"]) == {"k": "{}"}


def test_a_released_question_can_be_asked(place):
    with AnswerStore(place) as store:
        claim(store)
        store.release("k", "r", lost=0.5)
        assert claim(store) == ASK
        assert store.spending("r").lost == 0.5


def test_the_cap_counts_what_is_in_flight(place):
    with AnswerStore(place) as store:
        assert claim(store, "a", cap=2.5) == ASK
        assert claim(store, "b", cap=2.5) == ASK
        assert claim(store, "c", cap=2.5) == SPENT
        assert claim(store, "c", run="another", cap=2.5) == ASK


def test_many_are_claimed_at_once_in_their_order_and_as_far_as_the_money_goes(place):
    with AnswerStore(place) as store:
        claim(store, "k7")
        store.settle("k9", "other run", "{}", cost=0.0)
        keys = [f"k{i}" for i in range(1100)]  # more than one query takes
        found = store.claim_all(dict.fromkeys(keys, 1.0), "r", cap=601.0, lease=60.0)
        assert list(found) == keys
        assert (found["k7"], found["k9"]) == (BUSY, ANSWERED)
        assert [i for i, key in enumerate(keys) if found[key] == ASK] == [i for i in range(602) if i not in (7, 9)]
        assert store.spending("r").in_flight == 601.0
        assert len(store.get(keys)) == 1


def test_an_overdue_claim_is_lost_money_and_free_again(place):
    with AnswerStore(place) as store:
        claim(store, lease=-1.0)
        assert claim(store) == ASK
        assert store.spending("r").lost == 1.0


def test_a_failure_is_counted_until_there_is_an_answer(place):
    with AnswerStore(place) as store:
        store.fail("k", "r", "{}")
        store.fail("k", "r", "{1}")
        assert store.failed(["other", "k"]) == {"k": ("{1}", 2)}
        store.settle("k", "r", "{}", cost=0.0)
        assert store.failed(["k"]) == {}
        store.forget(["k"])
        assert store.get(["k"]) == {}


def test_a_batch_gives_back_what_it_claimed(place):
    with AnswerStore(place, holder="token") as store:
        store.begin_batch("token", "r")
        claim(store)
        store.name_batch("token", "batch_1")
        assert store.batches("r") == [("token", "batch_1")]
        store.end_batch("token")
        assert (store.batches("r"), store.spending("r").total) == ([], 0.0)


def forked(*work):
    """Do each in a process of its own, all at once; returns whether all ended well."""
    children = []
    for one in work:
        pid = os.fork()
        if not pid:
            try:
                one()
                os._exit(0)
            finally:
                os._exit(1)
        children.append(pid)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]


def die(place):
    claim(AnswerStore(place))
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(os.name != "posix", reason="forks")
def test_the_claim_of_a_dead_process_is_lost_money_and_free_again(place):
    AnswerStore(place).close()  # so that the child inherits a connection that is not for it
    assert forked(lambda: die(place)) == [-signal.SIGKILL]
    with AnswerStore(place) as store:
        assert store.spending("r").in_flight == 1.0
        assert claim(store) == ASK
        assert (store.spending("r").lost, store.spending("r").in_flight) == (1.0, 1.0)


@pytest.mark.skipif(os.name != "posix", reason="forks")
def test_processes_that_share_a_store_pay_once_and_keep_the_cap(server, parts, place):  # noqa: F811
    server.control(delay=0.01)
    asked = questions(settings(server, max_tokens=10, concurrency=4), *parts, 60)
    cap = 40.5 * EACH

    def record():
        RecordingJob(asked, KEY, cap=cap, path=place).run()

    assert forked(record, record) == [0, 0]
    served = server.served()["served"]
    assert set(served.values()) == {1}
    with AnswerStore(place) as store:
        assert store.spending(asked.run).paid == pytest.approx(len(served) * EACH)
        assert len(store.get(asked.keys)) == len(served)
    assert 20 <= len(served) <= 40  # what is in flight is reserved at its most, so the last are asked one by one
    done = job(server, parts, place, n=60, max_tokens=10).run()
    assert (done.state, done.done) == ("done", 60)
    assert set(server.served()["served"].values()) == {1}


@pytest.mark.skipif(os.name != "posix", reason="forks")
def test_processes_that_claim_at_once_keep_the_cap(place):
    AnswerStore(place).close()

    def claims(name):
        with AnswerStore(place) as store:
            for i in range(100):
                claim(store, f"{name}{i}", cap=50.5)

    assert forked(lambda: claims("a"), lambda: claims("b"), lambda: claims("c")) == [0, 0, 0]
    with AnswerStore(place) as store:
        assert store.spending("r").total == 50.0


@contextmanager
def trouble(place):
    """Let the disk be full, or the server throw everybody out."""
    if "://" in str(place):
        others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        yield lambda: postgres_server.ask(place, f"SELECT pg_terminate_backend(pid) {others} AND usename = 'hybrid'")
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.skipif(os.name != "posix", reason="limits of the system")
def test_what_was_paid_is_held_while_the_store_takes_nothing_and_written_when_it_does(
    server,
    parts,  # noqa: F811
    place,
    monkeypatch,
):
    server.control(delay=0.05)
    settle, n = AnswerStore.settle, []
    with trouble(place) as begin, monkeypatch.context() as patched:

        def settle_in_trouble(self, *given, **more):
            n.append(1)
            if len(n) == 3:
                begin()
            settle(self, *given, **more)

        patched.setattr(AnswerStore, "settle", settle_in_trouble)
        first = job(server, parts, place, concurrency=4)
        progress = first.run()
    assert progress.state == "stopped"
    assert "held in memory" in progress.message
    calls = server.served()["calls"]
    assert 4 <= calls <= 8  # those in flight were finished
    assert sum(r is not None for r in kept(first.questions, place)) == calls  # a look is enough to write them
    with AnswerStore(place) as store:
        assert store.spending(first.questions.run).in_flight == 0  # nothing stays claimed
    progress = job(server, parts, place).run()
    assert (progress.state, progress.done) == ("done", 40)
    assert server.served()["calls"] == 40
    assert progress.spending.paid == pytest.approx(40 * EACH)


def test_a_store_that_is_being_opened_elsewhere_is_waited_for(path):
    AnswerStore(path).close()
    busy = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    busy.execute("BEGIN IMMEDIATE")
    threading.Timer(0.3, busy.commit).start()
    with AnswerStore(path) as store:
        assert store.get(["a"]) == {}


def test_a_store_is_begun_once_by_all_who_open_it_first(place):
    done = []

    def first():
        with AnswerStore(place) as store:
            done.append(claim(store, cap=0.0))

    threads = [threading.Thread(target=first) for _ in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert done == [SPENT] * 6


# what is no store, or not this version's


def torn(path):
    with AnswerStore(path) as store:
        for i in range(200):
            store.settle(f"k{i}", "r", "{}" * 200, cost=0.0)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def newer(place):
    AnswerStore(place).close()
    say(place, "UPDATE hybrid_store SET version = 99" if "://" in str(place) else "PRAGMA user_version = 99")


def gone(place):
    AnswerStore(place).close()
    say(place, "DROP TABLE hybrid_store" if "://" in str(place) else "PRAGMA user_version = 0", "DROP TABLE runs")


def other(place):
    say(place, "CREATE TABLE answers (x INTEGER)")


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"not a database, but long enough to be taken for one" * 100),
        torn,
    ],
)
def test_a_file_that_cannot_be_used_is_left_as_it_is_and_says_how_to_mend_it(path, damage):
    damage(path)
    before = path.read_bytes()
    with pytest.raises(StoreError, match="HYBRID_CACHE_DIR"), AnswerStore(path) as store:
        store.get([f"k{i}" for i in range(200)])
    assert path.read_bytes() == before


def everything(place):
    if "://" not in str(place):
        return place.read_bytes()
    names = say(place, "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()")
    return sorted((name, say(place, f"SELECT count(*) FROM {name}")) for (name,) in names)


@pytest.mark.parametrize("damage", [newer, gone, other])
def test_a_store_that_is_none_of_this_version_is_left_as_it_is(place, damage):
    damage(place)
    before = everything(place)
    with pytest.raises(StoreError, match="Nothing in it was changed") as caught:
        AnswerStore(place)
    assert everything(place) == before
    assert "not-to-be-shown" not in str(caught.value)


def test_a_server_that_is_gone_is_said_without_the_password():
    with pytest.raises(StoreError, match=r"See that the server runs.*HYBRID_STORE") as caught:
        AnswerStore("postgresql://someone:not-to-be-shown@127.0.0.1:9/none?connect_timeout=2&password=not-to-be-shown")
    assert "not-to-be-shown" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["mysql://a:secret@b/c", "sqlite://", "sqlite://secret/x", "postgresql//a:secret@b", "postgresql://a:secret@b:x/c"],
)
def test_an_address_that_names_no_store_is_refused_with_one_that_would(url, monkeypatch):
    monkeypatch.setenv("HYBRID_STORE", url)
    with pytest.raises(StoreError, match=r"HYBRID_STORE is sqlite:////folder/store\.sqlite or postgresql://") as caught:
        named()
    assert "secret" not in str(caught.value)


FIRST = {
    "answers": "key TEXT PRIMARY KEY, run TEXT NOT NULL, reply TEXT NOT NULL, cost REAL NOT NULL, at REAL NOT NULL",
    "claims": "key TEXT PRIMARY KEY, run TEXT NOT NULL, cost REAL NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL, "
    "until REAL NOT NULL",
    "batches": "token TEXT PRIMARY KEY, run TEXT NOT NULL, id TEXT, at REAL NOT NULL",
    "runs": "run TEXT PRIMARY KEY, paid REAL NOT NULL, lost REAL NOT NULL",
}
SECOND = {
    **FIRST,
    "failures": "key TEXT PRIMARY KEY, run TEXT NOT NULL, reply TEXT NOT NULL, tries INTEGER NOT NULL, "
    "at REAL NOT NULL",
}


@pytest.mark.parametrize(("tables", "version"), [(FIRST, 0), (SECOND, 2)])
def test_a_store_of_an_earlier_version_is_read_and_goes_on(path, tables, version):
    with sqlite3.connect(path) as db:
        for name, columns in tables.items():
            db.execute(f"CREATE TABLE {name} ({columns}) WITHOUT ROWID")
        db.execute("INSERT INTO answers VALUES ('k', 'r', ?, 0.5, 0.0)", ('{"kind": "ok", "content": "x"}',))
        db.execute("INSERT INTO claims VALUES ('c', 'r', 0.25, 'elsewhere', 1, 1e12)")
        db.execute("INSERT INTO runs VALUES ('r', 0.5, 0.0)")
        db.execute(f"PRAGMA user_version = {version}")
    with AnswerStore(path) as store:
        assert Reply.from_json(store.get(["k"])["k"]) == Reply("ok", "x")
        assert (store.spending("r").paid, store.spending("r").in_flight) == (0.5, 0.25)
        assert claim(store, "c") == BUSY
        store.fail("other", "r", "{}")
        assert store.failed(["other", "k"]) == {"other": ("{}", 1)}
    assert say(path, "PRAGMA user_version") == [(VERSION,)]
    assert set(database.TABLES.tables) == {n for (n,) in say(path, "SELECT name FROM sqlite_master WHERE type='table'")}


def test_the_place_of_the_store_can_be_set(monkeypatch, tmp_path):
    monkeypatch.setenv("HYBRID_CACHE_DIR", str(tmp_path / "mine"))
    assert default_path() == tmp_path / "mine" / "answers.sqlite"
    monkeypatch.delenv("HYBRID_CACHE_DIR")
    assert default_path().name == "answers.sqlite"
    monkeypatch.setenv("HYBRID_STORE", f"sqlite:///{tmp_path}/team.sqlite")
    with AnswerStore() as store:
        store.settle("k", "r", "{}", cost=0.0)
    assert (tmp_path / "team.sqlite").is_file()


def test_who_only_classifies_does_without_the_store_s_library():
    import subprocess
    import sys

    words = "import sys, hybrid, hybrid.support; hybrid.SupportPipeline; sys.exit('sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", words], check=False).returncode == 0
    assert hybrid.StoreError is StoreError


# projects


@pytest.fixture
def team(place, monkeypatch):
    """A team's store, by the operator's word."""
    monkeypatch.setenv("HYBRID_STORE", str(place) if "://" in str(place) else f"sqlite:///{place}")
    return place


def count(place, table):
    return say(place, f"SELECT count(*) FROM {table}")[0][0]


def test_a_project_in_a_store_comes_back_whole_and_its_data_are_kept_once(team, recorded_only, monkeypatch):
    monkeypatch.setattr(projects, "PIECE", 1_000)  # so that some files are several pieces
    study, name, other = again(recorded_only), new_id(), new_id()
    study.use(study.headline().policy if study.policy is None else study.policy)
    study.pin()
    keeping.keep(study, name)
    before = count(team, "pieces")
    assert before > count(team, "(SELECT DISTINCT name FROM files) AS named") == 3
    found, own = keeping.bring(name)
    assert own
    assert (found.policy, found.pins, found.key, found.terms) == (study.policy, study.pins, study.key, study.terms)
    assert (found.evidence.predictions.label == study.evidence.predictions.label).all()
    keeping.keep(study, other)
    assert count(team, "pieces") == before  # the same data
    assert [k.id for k in keeping.recent()] == [other, name]
    keeping.forget(name)
    assert (count(team, "pieces"), [k.id for k in keeping.recent()]) == (before, [other])
    keeping.forget(other)
    assert [count(team, t) for t in ("projects", "files", "pieces")] == [0, 0, 0]
    with pytest.raises(StudyError, match="deleted"):
        keeping.bring(name)


def test_what_did_not_change_is_not_written_again(team, recorded_only, monkeypatch):
    study, name = again(recorded_only), new_id()
    keeping.keep(study, name)
    written = []
    write = projects.ProjectStore.write
    monkeypatch.setattr(
        projects.ProjectStore, "write", lambda self, row, data=None: written.append(data) or write(self, row, data)
    )
    keeping.keep(study, name)
    assert written == []
    study.terms = replace(study.terms, mix=(("billing", 0.5),))
    keeping.keep(study, name)
    assert written == [None]  # its data stay


def test_a_project_is_its_owners_and_what_is_shared_is_only_read(team, recorded_only):
    study, name = again(recorded_only), new_id()
    keeping.keep(study, name, user="ann")
    for stranger in ("bob", None):
        with pytest.raises(StudyError, match="somebody else"):
            keeping.bring(name, user=stranger)
        with pytest.raises(StudyError, match="somebody else"):
            keeping.keep(study, name, user=stranger)
        with pytest.raises(StudyError, match="somebody else"):
            keeping.forget(name, user=stranger)
        with pytest.raises(StudyError, match="somebody else"):
            keeping.share(name, user=stranger, shared=True)
        assert keeping.recent(user=stranger) == []
    keeping.share(name, user="ann", shared=True)
    keeping.keep(study, name, user="ann")
    assert keeping.is_open(name)  # keeping it again does not close it
    assert keeping.bring(name, user="bob")[1] is False
    with pytest.raises(StudyError, match="somebody else"):
        keeping.bring(name, user=None)  # sharing is among those who sign in
    with pytest.raises(StudyError, match="somebody else"):
        keeping.keep(study, name, user="bob")
    keeping.share(name, user="ann", shared=False)
    with pytest.raises(StudyError, match="somebody else"):
        keeping.bring(name, user="bob")
    assert [k.id for k in keeping.recent(user="ann")] == [name]
    assert keeping.bring(name, user="ann")[1] is True


def test_damage_to_a_kept_project_is_said_and_an_older_folder_still_opens(team, recorded_only):
    study, name, older = again(recorded_only), new_id(), new_id()
    study.save(folder_of(older))
    assert keeping.bring(older)[0].key == study.key
    keeping.keep(study, name)
    say(team, "UPDATE pieces SET content = substr(content, 2)")
    with pytest.raises(StoreError, match="is damaged in the store"):
        keeping.bring(name)
    say(team, "UPDATE projects SET state = '['")
    with pytest.raises(HybridError, match="damaged"):
        keeping.bring(name)
