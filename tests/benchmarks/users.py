"""Measure many people at once: each has a session of its own, and lets a threshold go every few seconds.

Run ``python tests/benchmarks/users.py [--users 1 5 20] [--releases 10] [--rows 10000]`` from the repository's root. It
starts a server, opens one kept project in so many sessions over the protocol that browsers speak, and prints for each
number of people the seconds from a release to the end of Python's answer, the server's CPU a release, and its memory:
with the sessions open, and some seconds after they were closed. ``--cycles 200`` opens and closes so many sessions, and
prints the memory as it goes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import websockets
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

sys.path.insert(0, str(Path(__file__).parents[1]))
from driving import free_port, serving

from hybrid.data.columns import Columns, RecordedColumns
from hybrid.study.study import Study

NAME = "0" * 31 + "1"
THINK = (1.0, 3.0)  # seconds between two releases of a person
GONE = 150.0  # seconds after the last session was closed: Streamlit keeps one for two minutes, in case it comes back


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


class Person:
    """A session on Tune, as a browser has one."""

    def __init__(self, socket):
        self.socket, self.slider = socket, None

    @classmethod
    async def come(cls, port):
        """Open a session on the project."""
        address = f"ws://localhost:{port}/_stcore/stream"
        socket = await websockets.connect(
            address, subprotocols=["streamlit"], origin=f"http://localhost:{port}", max_size=None
        )
        person = cls(socket)
        await person.run()
        assert person.slider, "the page has no threshold"
        return person

    async def run(self, value=None):
        """Let the page run, with its threshold at a value; returns the seconds that took."""
        message = BackMsg()
        state = message.rerun_script
        state.query_string, state.page_name = f"project={NAME}", "Tune"
        if value is not None:
            widget = state.widget_states.widgets.add()
            widget.id = self.slider
            widget.double_array_value.data.append(value)
        start = time.perf_counter()
        await self.socket.send(message.SerializeToString())
        while True:
            said = ForwardMsg()
            said.ParseFromString(await self.socket.recv())
            kind = said.WhichOneof("type")
            if kind == "delta" and said.delta.new_element.WhichOneof("type") == "slider":
                self.slider = said.delta.new_element.slider.id
            if kind == "script_finished":
                return time.perf_counter() - start

    async def drag(self, releases, rng):
        """Let the threshold go so many times; returns the seconds of each."""
        took = []
        for _ in range(releases):
            await asyncio.sleep(rng.uniform(*THINK))
            took.append(await self.run(round(rng.uniform(0.4, 0.99), 3)))
        return took


async def together(port, process, users, releases):
    """Let so many people drag at once, and say what that took."""
    people = [await Person.come(port) for _ in range(users)]
    rng = np.random.default_rng(users)
    for person in people:
        await person.run(0.5)
    before = cpu(process)
    took = np.concatenate(await asyncio.gather(*(p.drag(releases, rng) for p in people)))
    work = (cpu(process) - before) / len(took)
    here = memory(process)
    for person in people:
        await person.socket.close()
    await asyncio.sleep(GONE)
    p50, p95 = np.quantile(took, (0.5, 0.95))
    print(
        f"{users:3d} people, {len(took)} releases: p50 {p50:.2f} s, p95 {p95:.2f} s; {1000 * work:.0f} ms of CPU each; "
        f"{here:.0f} MB with them, {memory(process):.0f} MB {GONE:.0f} s after",
        flush=True,
    )


async def come_and_go(port, process, cycles):
    """Open and close sessions, and say what memory is left."""
    for i in range(1, cycles + 1):
        person = await Person.come(port)
        await person.run(0.5)
        await person.socket.close()
        if i in (1, 5, 20) or i % 50 == 0:
            print(f"{i:4d} sessions opened and closed: {memory(process):.0f} MB", flush=True)


def cpu(process):
    """Return the server's CPU seconds."""
    used = process.cpu_times()
    return used.user + used.system


def memory(process):
    """Return the server's memory in MB."""
    return process.memory_info().rss / 1e6


def main():
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, nargs="*", default=[1, 5, 20])
    parser.add_argument("--releases", type=int, default=10)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--cycles", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HYBRID_PROJECTS_DIR"] = folder
        recorded(args.rows).save(Path(folder) / NAME)
        port = free_port()
        with serving(port=port, HYBRID_PROJECTS="always", HYBRID_CACHE_DIR=f"{folder}/cache"):
            servers = [p for p in psutil.Process().children() if "streamlit" in " ".join(p.cmdline())]
            for users in args.users:
                asyncio.run(together(port, servers[0], users, args.releases))
            if args.cycles:
                asyncio.run(come_and_go(port, servers[0], args.cycles))


if __name__ == "__main__":
    main()
