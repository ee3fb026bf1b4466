"""How fast answers are recorded, next to the ideal, and what the client adds to a call.

Run from the root: ``python tests/benchmarks/recording.py``. A mock server in a process of its own answers after 50 ms.
The ideal is concurrency / 50 ms; beside it the same calls by the bare `openai` client, without a store.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

import llm_server
from conftest import labelled

from hybrid.data.columns import Columns
from hybrid.data.dataset import build
from hybrid.data.split import split
from hybrid.tiers.llm.questions import LLMSettings
from hybrid.tiers.llm.recording import RecordingJob, questions

DELAY = 0.05  # seconds
SECONDS = 4.0  # of work for each measurement
REPEATS = 3


def material(n: int):
    frame = labelled(n, seed=1)
    frame["text"] = [f"{t} {i}x" for i, t in enumerate(frame.text)]
    dataset = build(frame, Columns("label", text="text"))
    return dataset, split(dataset)


def recorded(server, parts, concurrency: int, n: int) -> float:
    """Return answers per second, start and end of the job included."""
    settings = LLMSettings("llm", "mock", base_url=server.url, concurrency=concurrency)
    asked = questions(settings, *parts, n)
    with tempfile.TemporaryDirectory() as folder:
        job = RecordingJob(asked, "key", cap=1.0, path=Path(folder) / "answers.sqlite")
        start = time.perf_counter()
        progress = job.run()
        seconds = time.perf_counter() - start
    assert progress.done == n, progress
    return n / seconds


def bare(server, parts, concurrency: int, n: int) -> float:
    """Return answers per second of the same requests through the bare client."""
    import openai

    settings = LLMSettings("llm", "mock", base_url=server.url)
    todo = list(questions(settings, *parts, n).requests)

    async def work(client):
        while todo:
            await client.chat.completions.create(**todo.pop())

    async def go():
        async with openai.AsyncOpenAI(api_key="key", base_url=server.url, max_retries=0) as client:
            await asyncio.gather(*(work(client) for _ in range(concurrency)))

    start = time.perf_counter()
    asyncio.run(go())
    return n / (time.perf_counter() - start)


def overhead(server, parts, ask, n: int = 300) -> float:
    """Return milliseconds a call at concurrency 1 against a server that answers at once."""
    server.control(delay=0.0)
    found = 1000 / ask(server, parts, 1, n)
    server.control(delay=DELAY)
    return found


def cpu(server, parts, ask, n: int = 500) -> float:
    """Return milliseconds of this process's CPU time a call at concurrency 16; little moved by other processes."""
    start = time.process_time()
    ask(server, parts, 16, n)
    return 1000 * (time.process_time() - start) / n


def main() -> None:
    with llm_server.running() as server:
        parts = material(int(16 / DELAY * SECONDS) + 20)
        server.control(delay=DELAY)
        recorded(server, parts, 1, 20)  # imports
        print("concurrency  ideal/s  recorded/s  of ideal  bare client/s  of ideal")
        for concurrency in (1, 4, 16):
            ideal = concurrency / DELAY
            n = int(ideal * SECONDS)
            ours = median(recorded(server, parts, concurrency, n) for _ in range(REPEATS))
            theirs = median(bare(server, parts, concurrency, n) for _ in range(REPEATS))
            print(f"{concurrency:11}  {ideal:7.0f}  {ours:10.1f}  {ours / ideal:8.1%}", end="")
            print(f"  {theirs:13.1f}  {theirs / ideal:8.1%}")
        for name, ask in (("recorded", recorded), ("bare client", bare)):
            ms = median(overhead(server, parts, ask) for _ in range(REPEATS))
            work = median(cpu(server, parts, ask) for _ in range(REPEATS))
            print(f"{name}: {ms:.2f} ms a call if answered at once; {work:.2f} ms of CPU a call at concurrency 16")


if __name__ == "__main__":
    main()
