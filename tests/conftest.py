"""Shared material of the tests: small tables of predictions, and a small labelled dataset."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from functools import cache

import driving
import llm_server
import numpy as np
import pandas as pd
import postgres_server
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from streamlit.components.v2 import manifest_scanner

from hybrid.data.columns import Columns, RecordedColumns
from hybrid.data.dataset import build
from hybrid.data.split import split
from hybrid.routing.engine import Policy, Scope
from hybrid.routing.patterns import PATTERNS
from hybrid.routing.table import NEVER, NONE, SCOPE, UNKNOWN, Predictions, Tier
from hybrid.study import worker
from hybrid.study.evidence import Recording, record
from hybrid.study.project import folder_of, new_id
from hybrid.study.study import Study
from hybrid.study.terms import Terms
from hybrid.tiers.llm import client

# in CI the same examples every time: what fails there fails here
settings.register_profile("default", deadline=None, max_examples=60, derandomize=bool(os.environ.get("CI")))
settings.load_profile("default")

CLASSES = ("billing", "shipping", "technical")
# few values, so that ties between confidences, and between a confidence and a threshold, are common
LEVELS = (0.0, 0.25, 0.5, 0.75, 0.8, 1.0)


def table(tiers, rows, classes=CLASSES):
    """Build predictions from rows of (label, confidence) per tier; cost and latency grow with the column."""
    label = np.array([[cell[0] for cell in row] for row in rows], dtype=np.int64)
    confidence = np.array([[cell[1] for cell in row] for row in rows], dtype=float)
    price = np.array([t.price for t in tiers])
    seconds = np.arange(len(tiers)) * 0.1
    shape = label.shape
    return Predictions(
        tuple(tiers),
        classes,
        label,
        confidence,
        np.broadcast_to(price, shape).copy(),
        np.broadcast_to(seconds, shape).copy(),
    )


def tiers_of(n, *, gate=False):
    """Return n tiers from cheap to dear, the first a gate if asked for."""
    tiers = [Tier(f"t{j}", "recorded", price=0.0005 * j) for j in range(n)]
    if gate:
        tiers[0] = Tier("gate", "gate")
    return tuple(tiers)


def picked_from(kind, tiers):
    """Return tiers as a pattern takes them in which a person picks from the first one's answers."""
    if not kind.picks or kind.min_tiers < 3:
        return tuple(tiers)
    return (tiers[0], replace(tiers[1], picks_from=tiers[0].name), *tiers[2:])


@st.composite
def policies(draw, names=tuple(PATTERNS)):
    """Draw any pattern with any parameters, over two to four tiers."""
    kind = PATTERNS[draw(st.sampled_from(names))]
    n = draw(st.integers(max(2, kind.min_tiers), kind.max_tiers or 4))
    tiers = tiers_of(n, gate=kind.gate_first)
    if kind.gate_first and draw(st.booleans()):  # a gate for each tier but the last
        tiers = (Tier("gate", "gate"), Tier("gate 2", "gate"), *tiers_of(4)[1:])
    tiers = picked_from(kind, tiers)
    values = {}
    for p in kind.params():
        if p.choices:
            one = st.sampled_from(p.choices)
        elif p.unit:
            one = st.sampled_from((0.0, 0.0005, 0.001, 1.0))
        else:
            one = st.sampled_from((*LEVELS, NEVER))
            one = st.none() | one if p.optional else one
        if p.per_class:
            own = st.none() | st.sampled_from((*LEVELS, NEVER))
            values[p.name] = tuple(draw(st.lists(own, max_size=len(CLASSES))))
            continue
        count = len(kind.gated(tiers))
        values[p.name] = tuple(draw(one) for _ in range(count)) if p.per_tier else draw(one)
    return Policy(kind(**values), tiers)


@st.composite
def cases(draw, names=tuple(PATTERNS), min_rows=1, scoped=True):
    """Draw a policy, with a scope or without, predictions of its tiers, and the truth."""
    policy = draw(policies(names))
    n = draw(st.integers(min_rows, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if scoped and draw(st.booleans()):
        last = replace(policy.tiers[-1], kind=draw(st.sampled_from(("recorded", "human"))))
        scope = Scope(draw(st.sampled_from((*LEVELS, NEVER))), draw(st.sampled_from((NONE, 1))))
        policy = replace(policy, tiers=(*policy.tiers[:-1], last)).within(Tier("scope", SCOPE, price=0.0001), scope)
    shape = (n, len(policy.tiers))
    label = rng.integers(NONE, len(CLASSES), shape)
    confidence = np.where(label == UNKNOWN, 0.0, rng.choice(LEVELS, shape))
    for j, t in enumerate(policy.tiers):
        if t.scores:
            label[:, j], confidence[:, j] = UNKNOWN, rng.choice(LEVELS, n)
    cost, latency = rng.choice([0.0, 0.001, 0.002], shape), rng.choice([0.0, 0.1, 0.4], shape)
    predictions = Predictions(policy.tiers, CLASSES, label, confidence, cost, latency)
    return policy, predictions, rng.integers(0, len(CLASSES), n)


def groupings(n):
    """Draw which of n rows belong together, or None."""
    return st.none() | st.lists(st.integers(0, 5), min_size=n, max_size=n).map(np.array)


WORDS = {
    label: words.split()
    for label, words in {
        "billing": "invoice charged refund payment card money twice price tax receipt amount bank",
        "shipping": "parcel courier delivery tracking late box address arrived lost driver depot delayed",
        "technical": "app crash error screen button update install login slow bug freeze reset",
    }.items()
}
FILLER = "please my the it is still today help again why can you with new very since and not order account"


def labelled(n=240, *, seed=0):
    """Make up an easy table: each text has words of its label, some of another, and filler."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        label = rng.choice(list(WORDS))
        other = rng.choice(list(WORDS))
        words = [
            *rng.choice(WORDS[label], 2),
            *rng.choice(WORDS[other], rng.integers(0, 3)),
            *rng.choice(FILLER.split(), 6),
        ]
        rows.append((" ".join(rng.permutation(words)), label))
    return pd.DataFrame(rows, columns=["text", "label"], dtype=object)


@pytest.fixture(scope="session", autouse=True)
def own_cache_folder(tmp_path_factory):
    """Keep the tests, and the servers that they start, out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYBRID_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("HYBRID_MAX_SEARCH_SECONDS", "1")  # a search beside every page of data would take long
        patch.setenv("HYBRID_PROJECTS_DIR", str(tmp_path_factory.mktemp("projects")))
        patch.delenv("HYBRID_STORE", raising=False)
        patch.setattr(worker, "apart", here)
        # every AppTest reads the metadata of all that is installed, which takes longer than most pages
        patch.setattr(manifest_scanner, "scan_component_manifests", cache(manifest_scanner.scan_component_manifests))
        yield


apart = worker.apart


def here(work, *, report=None, stopped=lambda: False, grace=0.0):
    """Do work as its process would, but in this one, which has the processor to itself and has loaded what it takes."""
    found = pickle.loads(pickle.dumps(work))(report or (lambda *_: None), stopped)
    return pickle.loads(pickle.dumps(found))


@pytest.fixture(scope="session")
def recording() -> Recording:
    """A fitted recording of the made-up table, with one recorded tier."""
    frame = labelled()
    rng = np.random.default_rng(1)
    frame["llm"] = np.where(rng.random(len(frame)) < 0.9, frame["label"], "billing")
    frame["llm_confidence"] = rng.choice(["0.6", "0.8", "0.9", "1.0"], len(frame))
    tier = RecordedColumns("llm", "llm", confidence="llm_confidence", price=0.003)
    dataset = build(frame, Columns("label", text="text", recorded=(tier,)))
    return record(dataset, split(dataset))


def pytest_make_parametrize_id(val, argname):
    """Name a file's bytes by what they are for: packed files hold the time, and workers must agree on names."""
    return argname if isinstance(val, bytes) else None


def study_of(recording, *, llms=(), **terms):
    """Return a study of what was fitted, under these terms."""
    study = Study("made up", labelled(), Columns("label", text="text"))
    study.keep(recording)
    study.add(list(llms))
    study.terms = Terms(**terms)
    return study


def table_of(study):
    """Return every tier's answers about every row."""
    return study.table_of([t.name for t in study.tiers], np.arange(study.dataset.n_rows))


def again(study):
    """Return a study of the same fitted data, as it was before anybody touched it."""
    fresh = Study(study.name, study.table, study.columns, notes=study.joined)
    fresh.keep(study.fitted, embedder=study.embedder, edits=study.edits)
    return fresh


@pytest.fixture(scope="session")
def sample_fitted():
    """The sample as a machine without MiniLM loads it; fitted once, and handed out by `again`."""
    from hybrid.dashboard import state

    return state.fit(state.sample(), state.sample_columns(None))


@pytest.fixture
def project(sample_fitted):
    """A kept project of the sample, as a parameter of a page's address: opening it fits nothing."""
    name = new_id()
    again(sample_fitted).save(folder_of(name))
    return f"project={name}"


@pytest.fixture(scope="session")
def own_fitted():
    """A table of one's own, without recorded answers."""
    return Study("mine.csv", labelled(), Columns("label", text="text")).fit()


@pytest.fixture(scope="session")
def recorded_only():
    """A table of two models' recorded answers, without texts, so that nothing is fitted."""
    frame = labelled(60).assign(small=lambda t: t["label"], large=lambda t: t["label"], small_sure="0.8", sure="0.9")
    frame.loc[::5, "small"] = "billing"
    tiers = (
        RecordedColumns("small", "small", confidence="small_sure", price=0.0001),
        RecordedColumns("large", "large", confidence="sure", price=0.003),
    )
    return Study("mine.csv", frame, Columns("label", recorded=tiers)).fit()


@pytest.fixture(scope="session")
def app():
    """The app's address for the browser tests, which share a server; what a test loads stays in its own session."""
    with driving.serving() as url:
        yield url


@pytest.fixture(scope="session")
def llm_process():
    with llm_server.running() as server:
        yield server


@pytest.fixture
def server(llm_process, monkeypatch):
    """A server that speaks the OpenAI chat protocol, and has forgotten what it was told before."""
    llm_process.reset()
    client._KNOWN.clear()  # what another test's model refused
    monkeypatch.setattr(client, "FIRST_WAIT", 0.02)  # seconds; what is waited for is tested where it matters
    return llm_process


@pytest.fixture
def path(tmp_path):
    """Of a store of answers that does not exist yet."""
    return tmp_path / "answers.sqlite"


@pytest.fixture(scope="session")
def postgres():
    """The address of a PostgreSQL of the tests' own."""
    with postgres_server.running() as url:
        yield url


@pytest.fixture
def postgres_place(postgres):
    """Of a store on PostgreSQL that does not exist yet."""
    with postgres_server.fresh(postgres) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request, tmp_path):
    """Of a store that does not exist yet, embedded and on a server."""
    if request.param == "sqlite":
        return tmp_path / "answers.sqlite"
    return request.getfixturevalue("postgres_place")


@pytest.fixture(scope="module")  # while it lives this thread has a running event loop, which other tests must not see
def browser():
    if driving.CHROMIUM is None:
        pytest.fail(f"CI=true and no Chromium: {driving.HOW}")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=60_000)  # on a busy machine a browser takes seconds to draw what it was sent
    with sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=driving.CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    yield context.new_page()
    context.close()
