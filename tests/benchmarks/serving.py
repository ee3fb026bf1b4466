"""A served bundle under load: throughput and latency beside a bare route and the runtime in process; kills; memory.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.serving speed [--seconds 5]
    OMP_NUM_THREADS=1 python -m tests.benchmarks.serving kills [--times 30]
    OMP_NUM_THREADS=1 python -m tests.benchmarks.serving memory [--requests 200000]

Clients are plain sockets in this process that send the next request when the answer to the last is there; they share
the machine with the server, so trust the ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

import hybrid
from hybrid.data.dataset import build
from hybrid.data.guess import guess_columns
from hybrid.data.split import split
from hybrid.production.bundle import save_bundle
from hybrid.production.log import read_log
from hybrid.production.reference import fit_reference
from hybrid.routing.engine import Policy, replay
from hybrid.routing.patterns import Cascade
from hybrid.study.evidence import record

SAMPLE = Path(__file__).parents[2] / "sample_data" / "support_tickets.csv"
BARE = """
import sys, uvicorn
from fastapi import FastAPI, Request
app = FastAPI()
@app.post("/constant")
async def constant(request: Request):
    await request.body()
    return {"label": "billing"}
uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False)
"""


def bundle(folder: Path) -> tuple[Path, list[str], tuple[str, ...]]:
    """Return a bundle of the tiers that run here, fitted on the sample, and texts to ask about."""
    frame = pd.read_csv(SAMPLE, dtype=str, keep_default_na=False).astype(object)
    dataset = build(frame, guess_columns(frame))
    recording = record(dataset, split(dataset))
    test = recording.split.test
    policy = Policy(Cascade((0.8,)), recording.predictions.select(["rules", "classifier"]).tiers)
    assert dataset.texts is not None
    texts = [str(t) for t in dataset.texts[test]]
    table, both = recording.predictions.select(policy.names), (recording.split.tune, test)
    sides = [(replay(policy, table.take(rows)), [str(t) for t in dataset.texts[rows]]) for rows in both]
    content = save_bundle(
        policy=policy,
        classes=dataset.classes,
        models=recording.models,
        texts=texts,
        recorded=recording.predictions.take(test),
        evidence={},
        reference=fit_reference(policy, *sides, n_classes=len(dataset.classes)),
    )
    path = folder / "local.zip"
    path.write_bytes(content)
    return path, texts, dataset.classes


@contextmanager
def running(command: list[str]) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Start a server on a free port, and wait until it answers."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    process = subprocess.Popen([sys.executable, *(c.replace("PORT", str(port)) for c in command)])
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield port, process
    finally:
        process.kill()
        process.wait()


def request(path: str, body: object) -> bytes:
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


async def drive(
    port: int, requests: list[bytes], clients: int, until: float, most: int
) -> tuple[list[float], list[bytes]]:
    """Send requests until a time or a number of them; returns seconds and bodies of the answers."""
    seconds: list[float] = []
    bodies: list[bytes] = []

    async def one(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            while time.perf_counter() < until and len(seconds) < most:
                start = time.perf_counter()
                writer.write(requests[(number + len(seconds)) % len(requests)])
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200"), head
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                bodies.append(await reader.readexactly(length))
                seconds.append(time.perf_counter() - start)
                if len(bodies) > 10_000:
                    bodies.clear()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # it was killed
        finally:
            writer.close()

    await asyncio.gather(*(one(i) for i in range(clients)))
    return seconds, bodies


def serve(path: Path, *more: str) -> list[str]:
    return ["-m", "hybrid.cli", "serve", str(path), "--port", "PORT", *more]


def speed(folder: Path, seconds: float) -> None:
    """Print requests a second and latencies at 1, 16 and 64 clients."""
    path, texts, classes = bundle(folder)
    pipeline = hybrid.load(path)
    spent = []

    async def alone() -> None:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            start = time.perf_counter()
            await pipeline.batch([texts[len(spent) % len(texts)]])
            spent.append(time.perf_counter() - start)

    asyncio.run(alone())
    print("| what | clients | a second | p50 ms | p95 ms | p99 ms |\n|---|---|---|---|---|---|")

    def row(what: str, clients: int, took: list[float]) -> None:
        p = np.percentile(np.array(took) * 1000, [50, 95, 99])
        print(f"| {what} | {clients} | {len(took) / seconds:,.0f} | {p[0]:.2f} | {p[1]:.2f} | {p[2]:.2f} |", flush=True)

    row("runtime in process, one text", 1, spent)
    named = {"role": "system", "content": "Sort into: " + ", ".join(classes)}
    cases = {
        "bare FastAPI route": (["-c", BARE, "PORT"], [request("/constant", {"text": t}) for t in texts]),
        "/classify": (serve(path), [request("/classify", {"text": t}) for t in texts]),
        "/classify, logged": (
            serve(path, "--log", str(folder / "log")),
            [request("/classify", {"text": t}) for t in texts],
        ),
        "/v1/chat/completions": (
            serve(path),
            [request("/v1/chat/completions", {"messages": [named, {"role": "user", "content": t}]}) for t in texts],
        ),
    }
    for what, (command, requests) in cases.items():
        with running(command) as (port, _):
            asyncio.run(drive(port, requests, 4, time.perf_counter() + 1, 10**9))
            for clients in (1, 16, 64):
                took, _ = asyncio.run(drive(port, requests, clients, time.perf_counter() + seconds, 10**9))
                row(what, clients, took)


def kills(folder: Path, times: int) -> None:
    """Kill a server under load, and print how many answered decisions its log lacks."""
    path, texts, _ = bundle(folder)
    requests = [request("/classify", {"text": t}) for t in texts]
    rng = np.random.default_rng(0)
    answered = lost = 0
    worst = 0
    for number in range(times):
        log = folder / f"log{number}"
        with running(serve(path, "--log", str(log))) as (port, process):

            async def until_killed(port: int, pid: int) -> list[bytes]:
                wait = float(rng.uniform(0.3, 1.0))
                asyncio.get_running_loop().call_later(wait, os.kill, pid, signal.SIGKILL)
                return (await drive(port, requests, 8, time.perf_counter() + 10, 10**9))[1]

            bodies = asyncio.run(until_killed(port, process.pid))
        ids = {json.loads(b)["id"] for b in bodies}
        missing = len(ids - set(read_log(log)["id"].to_pylist()))
        answered, lost, worst = answered + len(ids), lost + missing, max(worst, missing)
    print(f"{times} kills under load: {answered:,} decisions answered, {lost} not in the log, at most {worst} a kill")


def memory(folder: Path, n: int) -> None:
    """Print the resident memory of a logging server as requests go by."""
    path, texts, _ = bundle(folder)
    requests = [request("/classify", {"text": t}) for t in texts]
    with running(serve(path, "--log", str(folder / "log"))) as (port, process):
        for part in range(11):
            if part:
                asyncio.run(drive(port, requests, 16, time.perf_counter() + 3600, n // 10))
            status = Path(f"/proc/{process.pid}/status").read_text()
            mb = int(status.split("VmRSS:")[1].split()[0]) / 1024
            print(f"{part * n // 10:>9,} requests: {mb:.0f} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("speed", "kills", "memory"))
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--times", type=int, default=30)
    parser.add_argument("--requests", type=int, default=200_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        match options.what:
            case "speed":
                speed(Path(folder), options.seconds)
            case "kills":
                kills(Path(folder), options.times)
            case "memory":
                memory(Path(folder), options.requests)


if __name__ == "__main__":
    main()
