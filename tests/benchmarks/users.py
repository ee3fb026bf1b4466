"""Measure many people at once: each has a session of its own, and lets a threshold go every few seconds.

Run ``python tests/benchmarks/users.py [--users 1 5 20] [--releases 10] [--rows 10000]`` from the repository's root. It
starts a server, opens one kept project in so many sessions over the protocol that browsers speak, and prints for each
number of people the seconds from a release to the end of Python's answer, the server's CPU and bytes a release, and its
memory. ``--beside fit suggest certify record`` measures each number of people again while two more sessions do that
work without a pause. ``--cycles 200`` opens, drags and closes so many sessions, and prints what memory is left on the
way; ``--users`` without a number leaves the rest out.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import sys
import tempfile
import time
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import websockets
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

sys.path.insert(0, str(Path(__file__).parents[1]))
import llm_server
from driving import free_port, serving

from hybrid.data.columns import Columns, RecordedColumns
from hybrid.routing.engine import Policy
from hybrid.routing.patterns import Cascade
from hybrid.study.study import Study

DRAGGED, MANY, TEXTS = ("0" * 31 + i for i in "123")  # names of projects
DONE = (ForwardMsg.FINISHED_SUCCESSFULLY, ForwardMsg.FINISHED_FRAGMENT_RUN_SUCCESSFULLY)
THINK = (1.0, 3.0)  # seconds between two releases of a person
BUSY = 2  # sessions that work beside those who drag
SETTLE = 3.0  # seconds after the last session was closed, before others come
MARKS = (1, 20, 50, 100, 200)  # sessions opened and closed, at which memory is read
GONE = 50.0  # seconds after the last was closed, before it is: the server ends a session after twenty, at most sixty


def recorded(n):
    """Return a fitted study of two models' recorded answers, one of which knows how sure it is."""
    rng = np.random.default_rng(3)
    names, truth = np.array(["bad", "good", "ugly"], dtype=object), rng.integers(0, 3, n)
    sure = np.clip(rng.beta(4, 1.5, n), 1 / 3, 1)
    right = rng.random((2, n)) < np.vstack([sure, np.full(n, 0.93)])
    frame = pd.DataFrame({"label": names[truth]}, dtype=object)
    frame["small"], frame["big"] = (names[np.where(r, truth, (truth + 1) % 3)] for r in right)
    frame["sure"] = [f"{x:.4f}" for x in sure]
    models = (
        RecordedColumns("small", "small", confidence="sure", price=1e-6),
        RecordedColumns("big", "big", price=3e-3),
    )
    return Study("recorded", frame, Columns("label", recorded=models)).fit()


def many(n, tiers=8):
    """Return a fitted study of many models, each of which knows how sure it is, with a cascade of three at hand."""
    rng = np.random.default_rng(4)
    names, truth = np.array([f"class {i}" for i in range(10)], dtype=object), rng.integers(0, 10, n)
    frame, models = pd.DataFrame({"label": names[truth]}, dtype=object), []
    for i in range(tiers):
        sure = np.clip(rng.beta(2 + i, 1.5, n), 0.1, 1)
        frame[f"m{i}"] = names[np.where(rng.random(n) < sure, truth, (truth + 1 + i) % 10)]
        frame[f"sure{i}"] = [f"{x:.4f}" for x in sure]
        models.append(RecordedColumns(f"m{i}", f"m{i}", confidence=f"sure{i}", price=1e-5 * 3**i))
    study = Study("many", frame, Columns("label", recorded=tuple(models))).fit()
    by_name = {t.name: t for t in study.tiers}
    study.use(Policy(Cascade((0.8, 0.6)), tuple(by_name[name] for name in ("m0", "m3", "m7"))))
    return study


def texts(n):
    """Return a fitted study of texts, forty words each, in forty classes."""
    rng = np.random.default_rng(5)
    truth, words = rng.integers(0, 40, n), rng.zipf(1.3, (n, 40)) % 20_000
    words[:, :2] = 20_000 + truth[:, None] * 50 + rng.integers(0, 60, (n, 2))
    said = [" ".join(f"w{w}" for w in row) for row in words.tolist()]
    return Study("texts", pd.DataFrame({"label": [f"c{t}" for t in truth], "text": said}), TEXT).fit()


TEXT = Columns("label", text="text")


class Person:
    """A session on a page of a project, as a browser has one."""

    def __init__(self, socket, project, page):
        self.socket, self.project, self.page = socket, project, page
        self.ids, self.drawn, self.cached, self.bytes = {}, set(), {}, 0
        self.fragments, self.script = {}, ""  # what runs alone when a widget changes, by its id; and the page's own

    @classmethod
    async def come(cls, port, project=DRAGGED, page="Tune"):
        """Open a session on the project."""
        address = f"ws://localhost:{port}/_stcore/stream"
        socket = await websockets.connect(
            address, subprotocols=["streamlit"], origin=f"http://localhost:{port}", max_size=None
        )
        person = cls(socket, project, page)
        await person.run()
        return person

    async def run(self, **values):
        """Let the page run with these values of widgets; returns the seconds that took.

        A widget is named by its key, with ``_`` for what cannot stand in a name, or by its label. What it takes is a
        list of numbers for a slider, a number, a text, words for a choice, a truth for a switch, or None to press it.
        """
        message = BackMsg()
        state = message.rerun_script
        state.query_string, state.page_name = f"project={self.project}", self.page
        state.page_script_hash = self.script
        state.cached_message_hashes.extend(self.cached)
        for name, value in values.items():
            widget = state.widget_states.widgets.add()
            widget.id = self.ids[name]
            state.fragment_id = self.fragments.get(widget.id, "")
            if value is None:
                widget.trigger_value = True
            elif isinstance(value, bool):
                widget.bool_value = value
            elif isinstance(value, str):
                widget.string_value = value
            elif isinstance(value, tuple):
                widget.string_array_value.data.extend(value)
            elif isinstance(value, list):
                widget.double_array_value.data.extend(value)
            else:
                widget.double_value = value
        self.drawn.clear()
        start = time.perf_counter()
        await self.socket.send(message.SerializeToString())
        while not await self.hear():
            pass
        return time.perf_counter() - start

    async def hear(self):
        """Take one message; returns whether it says that the page is done."""
        raw = await self.socket.recv()
        self.bytes += len(raw)
        said = ForwardMsg()
        said.ParseFromString(raw)
        if said.metadata.cacheable:
            self.cached[said.hash] = True
        kind = said.WhichOneof("type")
        if kind == "navigation":
            self.script = said.navigation.page_script_hash
        if kind == "delta" and (what := said.delta.new_element.WhichOneof("type")):
            element = getattr(said.delta.new_element, what)
            if getattr(element, "id", ""):
                key = element.id.split("-", 2)[-1]
                name = getattr(element, "label", "") if key == "None" else name_of(key)
                self.ids[name] = element.id
                self.fragments[element.id] = said.delta.fragment_id
                self.drawn.add(name)
        if kind == "delta" and said.delta.add_block.HasField("popover") and said.delta.add_block.popover.id:
            self.ids[name_of(said.delta.add_block.popover.id.split("-", 2)[-1])] = said.delta.add_block.popover.id
        return kind == "script_finished" and said.script_finished in DONE

    async def drag(self, releases, rng):
        """Let the threshold go so many times; returns the seconds of each."""
        took = []
        for _ in range(releases):
            await asyncio.sleep(rng.uniform(*THINK))
            took.append(await self.run(triage_threshold=[round(rng.uniform(0.4, 0.99), 3)]))
        return took


def name_of(key):
    """Return a key as it can stand in a call."""
    return "".join(c if c.isalnum() else "_" for c in key)


async def fit(port, _):
    """Fit ten thousand texts again and again."""
    person = await Person.come(port, TEXTS, "")
    yield 0
    for n in itertools.count(1):
        await person.run(**{"Load and fit": None})
        yield n


async def suggest(port, _):
    """Suggest over every pattern of eight models, again and again."""
    person = await Person.come(port, MANY)
    yield 0
    for n in itertools.count(1):
        await person.run(suggest_open=True)
        await person.run(goal_over=("all patterns",), goal_floor=50.0 + n % 40)
        await person.run(suggest=None)
        while "suggest_search_cancel" in person.drawn:
            await asyncio.sleep(1.0)
            await person.run()
        yield n


async def certify(port, _):
    """Certify a cascade of three, at another risk each time."""
    person = await Person.come(port, MANY)
    await person.run(certify_open=True)
    await person.run(certify_on=True)
    yield 0
    for n in itertools.count(1):
        await person.run(certify_alpha=5.0 + n % 300 / 10)
        yield n


async def record(port, server):
    """Record a model's answers."""
    person = await Person.come(port, TEXTS, "")
    await person.run(llm_new_model="mock", llm_new_url=server.url, llm_new_key=llm_server.KEY)
    paid = [name for name in person.ids if name.startswith("llm_new_price_")]
    await person.run(**dict.fromkeys(paid, 0.0))
    await person.run(llm_new_keep=None, llm_new_key=llm_server.KEY)
    await person.run(llm_n_llm=5000.0)
    await person.run(llm_record=None)
    while True:
        await asyncio.sleep(1.0)
        yield server.served()["calls"]


WORK = {one.__name__: one for one in (fit, suggest, certify, record)}


@asynccontextmanager
async def busy(port, work, server):
    """Let sessions that are open work beside what is done here; what they did is in the list."""
    done, begun = [0] * BUSY, [asyncio.Event() for _ in range(BUSY)]

    async def go(i):
        try:
            async for n in WORK[work](port, server):
                done[i] = n
                begun[i].set()
        finally:
            begun[i].set()

    tasks = [asyncio.create_task(go(i)) for i in range(BUSY if work else 0)]
    for one in begun[: len(tasks)]:
        await one.wait()
    try:
        yield done
    finally:
        for task in tasks:
            if task.done():
                task.result()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def together(port, process, users, releases, work=None, server=None):
    """Let so many people drag at once, and say what that took."""
    people = [await Person.come(port) for _ in range(users)]
    rng = np.random.default_rng(users)
    for person in people:
        await person.run(triage_threshold=[0.5])
        await person.run(triage_threshold=[0.6])
    async with busy(port, work, server) as done:
        before, sent = cpu(process), sum(p.bytes for p in people)
        took = np.concatenate(await asyncio.gather(*(p.drag(releases, rng) for p in people)))
        used, sent = (cpu(process) - before) / len(took), sum(p.bytes for p in people) - sent
    here = memory(process)
    for person in people:
        await person.socket.close()
    await asyncio.sleep(SETTLE)
    p50, p95 = np.quantile(took, (0.5, 0.95))
    beside = (
        "" if work is None else f" beside {BUSY} who {work} ({'all in all' if work == 'record' else 'each'} {done})"
    )
    print(
        f"{users:3d} people, {len(took)} releases: p50 {p50:.2f} s, p95 {p95:.2f} s, most {max(took):.2f} s; "
        f"{1000 * used:.0f} ms of CPU and {sent / len(took) / 1000:.0f} KB a release; {here:.0f} MB{beside}",
        flush=True,
    )


async def come_and_go(port, process, cycles):
    """Open, drag and close so many sessions, and say what memory is left when they were ended, at some counts."""
    left, marks = {}, sorted({n for n in MARKS if n < cycles} | {cycles})
    for i in range(1, cycles + 1):
        person = await Person.come(port)
        for value in (0.5, 0.7):
            await person.run(triage_threshold=[value])
        await person.socket.close()
        if i in marks:
            await asyncio.sleep(GONE)
            left[i] = memory(process)
            more = f", {left[i] / left[20] - 1:+.1%} against 20" if i > 20 and 20 in left else ""
            print(f"{i:4d} sessions opened and closed: {left[i]:.0f} MB{more}", flush=True)


def cpu(process):
    """Return the server's CPU seconds, and those of the processes that it started."""
    used = [p.cpu_times() for p in (process, *process.children(recursive=True))]
    return sum(u.user + u.system for u in used)


def memory(process):
    """Return the server's memory in MB."""
    return process.memory_info().rss / 1e6


def main():
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, nargs="*", default=[1, 5, 20])
    parser.add_argument("--releases", type=int, default=10)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--beside", nargs="*", default=[], choices=WORK)
    parser.add_argument("--cycles", type=int, default=0)
    args = parser.parse_args()
    print(f"{len(os.sched_getaffinity(0))} cores; load {os.getloadavg()[0]:.1f}")
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        os.environ["HYBRID_PROJECTS_DIR"] = folder
        recorded(args.rows).save(Path(folder) / DRAGGED)
        server = None
        if args.beside:
            many(args.rows).save(Path(folder) / MANY)
            texts(args.rows).save(Path(folder) / TEXTS)
        if "record" in args.beside:
            server = stack.enter_context(llm_server.running())
            server.control(key=llm_server.KEY, delay=0.05)
        port = free_port()
        stack.enter_context(serving(port=port, HYBRID_PROJECTS="always", HYBRID_CACHE_DIR=f"{folder}/cache"))
        process = next(p for p in psutil.Process().children() if "streamlit" in " ".join(p.cmdline()))
        for users in args.users:
            for work in (None, *args.beside):
                asyncio.run(together(port, process, users, args.releases, work, server))
        if args.cycles:
            asyncio.run(come_and_go(port, process, args.cycles))


if __name__ == "__main__":
    main()
