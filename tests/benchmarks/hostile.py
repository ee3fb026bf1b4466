"""Hostile: what files, bundles, servers, stores and names of strangers once did, and what they do now.

    python tests/benchmarks/hostile.py [FILES]

Prints a table in Markdown. The figures before are those of the first measurement, as they were reported; those marked *
were measured later, just before they were mended. Each file is read in a process of its own, whose memory counts that
of its children. Nothing but the loopback address is asked. How many people a server bears is measured by `users.py`.
"""

from __future__ import annotations

import ast
import asyncio
import gzip
import io
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import conftest
import fuzz_files
import llm_server
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import test_bundle
import test_bundle_attacks as attacks
import test_store

import hybrid
from hybrid.data.apart import environment, read_apart
from hybrid.data.dataset import build
from hybrid.data.guess import guess_columns
from hybrid.errors import BundleError, HybridError, StoreError
from hybrid.production.bundle import load_bundle
from hybrid.production.snippet import snippet
from hybrid.store.answers import AnswerStore

POISON = {
    "1,000 x [": "[" * 1_000,
    "half an emoji": llm_server.completion("\ud83d"),
    "log-probability 5000": llm_server.completion('{"label": "billing"}', logprobs=[{"token": "b", "logprob": 5000}]),
    "a count of 400 digits": llm_server.completion('{"label": "billing"}', out=10**399),
    "bytes: 10**13": llm_server.completion(
        '{"label": "billing"}', logprobs=[{"token": "billing", "bytes": [10**13], "logprob": -1}]
    ),
    "a date without end": {},
}


def row(fault, before, now):
    """Print a line of the table."""
    print(f"| {fault} | {before} | {now} |", flush=True)


# files


def mails():
    return "text,mail\n" + "".join(f"where is it {i % 999},someone{i}@example.com\n" for i in range(100_001))


def parquet(n, columns):
    out = io.BytesIO()
    pq.write_table(pa.table({f"c{i}": np.zeros(n, dtype=np.int64) for i in range(columns)}), out)
    return out.getvalue()


def lines(n, text):
    out = io.BytesIO()
    with gzip.open(out, "wb", 6) as file:
        for _ in range(n // 1_000_000):
            file.write(text * 1_000_000)
    return out.getvalue()


FILES = {
    "100,001 mails picked as label": ("7.45 GB", "a.csv", lambda: mails().encode(), "mail"),
    "csv.gz, 45 M rows": ("over 7 GB", "a.csv.gz", lambda: lines(45_000_000, b"a,b\n"), None),
    "Parquet, 5 M rows x 10": ("2.4 GB", "a.parquet", lambda: parquet(5_000_000, 10), None),
    "5,000 classes x 2 rows": (
        "over 2 GB",
        "a.csv",
        lambda: ("text,label\n" + "".join(f"word{i} a,class {i % 5_000}\n" for i in range(10_000))).encode(),
        "label",
    ),
    "100,000 columns": (
        "247 s of CPU",
        "a.csv",
        lambda: (",".join(f"c{i}" for i in range(100_000)) + "\n" + ",".join("1" * 100_000) + "\n").encode() * 2,
        None,
    ),
    "json.gz, 60 M empty values": (
        "3.3 GB *",
        "a.json.gz",
        lambda: gzip.compress(b'{"data":[' + b"{}," * 60_000_000 + b"{}]}", 6),
        None,
    ),
    "jsonl.gz, 80 M lines without a value": ("over 250 s *", "a.jsonl.gz", lambda: lines(80_000_000, b"{}\n"), None),
    "workbook that lies of its size": (
        "6.0 GB *",
        "a.xlsx",
        lambda: attacks.lying("[Content_Types].xml", 500 << 20, zipfile.ZIP_BZIP2),
        None,
    ),
}


def measured(name, content, label):
    """Return what reading a file took in a process of its own, and how it ended."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        asked = [sys.executable, __file__, "--one", name, file.name, label or ""]
        return json.loads(subprocess.run(asked, stdout=subprocess.PIPE, check=True, env=environment()).stdout)


def one(name, path, label):
    """Read one file as the Data page does; prints peak MB, seconds of CPU, and what was said."""
    content = Path(path).read_bytes()
    high = peak()
    start = time.process_time()
    try:
        found = read_apart(name, content)
        columns = guess_columns(found.table)
        built = build(found.table, replace(columns, label=label, recorded=()) if label else columns)
        said = f"loads {built.n_rows:,} rows"
    except HybridError as error:
        said = f"“{' '.join(str(error).split())[:90]} …”"
    except Exception as error:
        said = f"FOREIGN {error!r}"[:90]
    child = resource.getrusage(resource.RUSAGE_CHILDREN)
    took = time.process_time() - start + child.ru_utime + child.ru_stime
    print(json.dumps([max(peak() - high, child.ru_maxrss / 1024), took, said]))


def peak():
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024


def files():
    for fault, (before, name, made, label) in FILES.items():
        content = made()
        mb, took, said = measured(name, content, label)
        row(f"{fault} ({len(content) / 1e3:,.0f} KB)", before, f"{mb:,.0f} MB, {took:.1f} s of CPU: {said}")


def fuzzed(n):
    ends, took = Counter(), []

    def read_them():
        for name, content in fuzz_files.files(n):
            start = time.process_time()
            try:
                said = fuzz_files.load(name, content)
                ends["refused in words" if said else "load"] += 1
            except Exception:
                ends["foreign exceptions"] += 1
            took.append(time.process_time() - start)

    mb = attacks.peak_mb(read_them)
    now = ", ".join(f"{ends[what]:,} {what}" for what in ("load", "refused in words", "foreign exceptions"))
    row(
        f"{n:,} fuzzed files",
        "of 1,359: 443 load, 849 refused in words, 36 foreign exceptions, 16 over 60 s, 14 over 2 GB",
        f"{now}; the slowest {max(took):.2f} s, the process {mb:,.0f} MB more",
    )


# bundles


def bundles(recording):
    content = test_bundle.export(recording, test_bundle.policy_of(recording, "triage", threshold=0.5))
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        held = {n: opened.read(n) for n in opened.namelist()}
    rng = np.random.default_rng(0)
    tried = [attack(content, held) for attack in attacks.ATTACKS.values()]
    for i in range(150):  # bits of the zip, and ends that are missing
        broken = bytearray(content[: rng.integers(len(content))] if i % 2 else content)
        if broken:
            broken[rng.integers(len(broken))] ^= 1 << rng.integers(8)
        tried.append(bytes(broken))
    ends, asked = Counter(), []
    really = socket.socket.connect, socket.getaddrinfo
    socket.socket.connect = socket.getaddrinfo = lambda *_, **__: asked.append(1)
    try:
        for bundle in tried:
            ends[ended(bundle)] += 1
    finally:
        socket.socket.connect, socket.getaddrinfo = really
    now = f"{ends['refused']} of {len(tried)} refused in words, {ends['loads']} load and decide as exported"
    row("bundles that are damaged or edited", "12 of 119 foreign exceptions", f"{now}, {ends['foreign']} foreign")
    row("requests while they load", "1", len(asked))
    zeros = attacks.compressed(attacks.rewrite(content, {"evidence.json": b"[" + b"[]," * 4_000_001 + b"1]"}))
    lie = attacks.lying("manifest.json", 500 << 20, zipfile.ZIP_BZIP2)
    for fault, before, bomb in (("values", "3.2 GB", zeros), ("a size that is a lie", "6.0 GB *", lie)):
        mb = attacks.peak_mb(lambda bomb=bomb: ended(bomb))
        row(f"a bundle that is a bomb of {fault} ({len(bomb) / 1e3:,.0f} KB)", before, f"{mb:,.0f} MB, {ended(bomb)}")


def ended(bundle):
    try:
        load_bundle(bundle)
    except BundleError:
        return "refused"
    except Exception:
        return "foreign"
    return "loads"


def secrets(recording, server):
    """Print which secrets a bundle of a stranger, once its address is allowed, is sent."""
    held = {"STRIPE_API_KEY": "sk-stripe", "ANTHROPIC_API_KEY": "sk-ant", "OPENAI_API_KEY": "sk-openai"}
    held |= {"OPENAI_ORG_ID": "org-mine", "OPENAI_PROJECT_ID": "proj-mine", "OPENAI_CUSTOM_HEADERS": "X-Mine: header"}
    os.environ.update(held)
    try:
        bundle = attacks.stranger(recording, server.url, "STRIPE_API_KEY")
        try:
            hybrid.load(bundle)
            refused = "loads"
        except BundleError:
            refused = "refused until its address is allowed"
        asked = hybrid.load(bundle, servers={"llm": server.url})
        asyncio.run(asked.batch(["where is my parcel"]))
        assert server.served()["calls"]
        heads = json.dumps(server.served()["heads"])
    finally:
        for name in held:
            del os.environ[name]
    sent = [name for name, value in held.items() if value.rpartition(" ")[2] in heads]
    row("secrets that a stranger's bundle is sent", "any *_API_KEY, organisation, headers", f"{len(sent)}; {refused}")


def replies(recording, server):
    """Print how many rows bad replies cost beside their own."""
    pipeline = hybrid.load(
        attacks.stranger(recording, server.url, "X_API_KEY"), servers={"llm": server.url}, deadline=60
    )
    texts = [f"{'poison' if i % 10 == 3 else 'billing'} number {i}" for i in range(40)]
    lost, foreign = [], 0
    for what, body in POISON.items():
        fault = {"in": "poison", "body": body}
        if what == "a date without end":
            fault |= {"status": 429, "headers": {"Retry-After": f"Sat, 01 Jan {'9' * 20} 00:00:00 GMT"}}
        server.control(always=fault)
        try:
            decided = asyncio.run(pipeline.batch(texts))
        except Exception:
            foreign += 1
            continue
        lost.append(sum(d.tier != "llm" for d, text in zip(decided, texts, strict=True) if "poison" not in text))
    server.control(always=None)
    now = f"{sum(lost)} of {36 * len(lost)} other rows lost, {foreign} batches ended"
    row(f"{len(POISON)} kinds of bad replies, to 4 of 40 rows each", "the whole batch, 10 to 22 of 40", now)


# stores and names


def stores():
    damages = {
        "empty": lambda path: path.write_bytes(b""),
        "no database": lambda path: path.write_bytes(b"not a database, but long enough to be taken for one" * 100),
        "torn": test_store.torn,
        "newer": test_store.newer,
        "without a table": test_store.gone,
        "of another program": test_store.other,
    }
    ends = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for i, damage in enumerate(damages.values()):
            path = Path(folder) / f"{i}.sqlite"
            damage(path)
            before = path.read_bytes()
            try:
                with AnswerStore(path) as store:
                    store.get([f"k{i}" for i in range(200)])
                ends["taken as good"] += 1
            except StoreError:
                ends["refused in words"] += 1
            except Exception:
                ends["foreign"] += 1
            ends["left as it was"] += path.read_bytes() == before
    now = ", ".join(f"{n} {what}" for what, n in ends.items())
    row(
        f"{len(damages)} stores that are empty, damaged, newer",
        "OperationalError, JSONDecodeError, TypeError; an empty one is new",
        now,
    )


def names(recording):
    """Print whether names of tiers, classes and files become code in the lines that run a bundle."""
    ran = tried = 0
    policy = test_bundle.policy_of(recording, "triage")
    for hostile in (*test_bundle.HOSTILE, "a'''b", 'a"""\nimport os\n', "\u2028import os", "{0.__class__}"):
        named = replace(policy, tiers=(policy.tiers[0], replace(policy.tiers[1], name=hostile)))
        tree = ast.parse(snippet(f"{hostile}.zip", named, classes=[hostile, "b"], models=recording.models))
        used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)} | {
            a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names
        }
        tried += 1
        ran += bool(used & {"__import__", "os"})
    row("names that become code in the lines to run", "a tier's name, in page and report", f"{ran} of {tried}")


def main(n):
    print("| fault | before | now |\n|---|---|---|")
    files()
    fuzzed(n)
    recording = conftest.recording.__wrapped__()
    bundles(recording)
    with llm_server.running() as server:
        secrets(recording, server)
        replies(recording, server)
    stores()
    names(recording)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(*sys.argv[2:])
    else:
        with tempfile.TemporaryDirectory() as cache:
            os.environ["HYBRID_CACHE_DIR"] = cache
            main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_500)
