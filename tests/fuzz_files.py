"""Hostile files, always the same ones: valid files of every kind, damaged, and values that trip readers.

Run as a script it reads thousands of them: ``python tests/fuzz_files.py 2000``.
"""

from __future__ import annotations

import collections
import contextlib
import datetime
import decimal
import gzip
import io
import json
import random
import sys
import time
import zipfile
from collections.abc import Iterator

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq

from hybrid.data.dataset import build
from hybrid.data.guess import guess_columns
from hybrid.data.join import join
from hybrid.data.read import read
from hybrid.errors import HybridError

LABELS = (
    "cards",
    "post",
    "NA",
    "None",
    "01",
    "1.0",
    "1",
    "True",
    "",
    " ",
    "réclamation",
    "re\u0301clamation",
    "दिन",
    "C#",
)
WORDS = (
    "my card",
    "is, lost",
    'so "sad"',
    "line\nbreak",
    "\r\n",
    "=1+1",
    "\u200b",
    "😀",
    "é",
    "“",
    "\ufeff",
    "\u202e",
    "|",
    ";",
)
NUMBERS = (
    "0.93",
    "93%",
    "0,93",
    "1.0000001",
    "1e-3",
    "-1",
    "nan",
    "inf",
    "1e999",
    "",
    "1,234",
    "$0.2",
    "850",
    "0x1",
    "１",
)
HOSTILE = (
    "\ud83d", "\0", "9" * 5000, "1e400", "-0", "NaN", "Infinity", "[" * 3000, "{" * 300, "a" * 70_000, "\x1b", "\\",
    '"', "'", ",", "\t", "\u2028", "\x85", "\x0b", "../../etc/passwd", "<script>", "%s%n", "\ud83d\ude00", "\uffff",
)  # fmt: skip
TYPES = (
    pa.int8(), pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.bool_(), pa.string(), pa.large_string(),
    pa.string_view(), pa.binary(), pa.decimal128(38, 3), pa.date32(), pa.date64(), pa.time64("us"), pa.timestamp("ns"),
    pa.timestamp("us", "Asia/Kolkata"), pa.timestamp("s"), pa.duration("ms"), pa.null(), pa.list_(pa.int8()),
    pa.struct([("a", pa.int8())]), pa.dictionary(pa.int8(), pa.string()), pa.dictionary(pa.int32(), pa.int64()),
    pa.map_(pa.string(), pa.int8()), pa.binary(3),
)  # fmt: skip


def files(n: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Return names and contents."""
    for i in range(n):
        rng = random.Random(f"{seed} {i}")
        make = rng.choice((_delimited, _delimited, _json, _json, _parquet, _parquet_of_types, _workbook))
        name, content = make(rng)
        if rng.random() < 0.15:
            name, content = f"{name}.gz", gzip.compress(content, mtime=0)
        for _ in range(rng.choice((0, 0, 0, 1, 1, 3))):
            content = rng.choice((_flip, _cut, _insert, _repeat, _swap))(rng, content)
        if rng.random() < 0.08:
            name = f"a.{rng.choice(('csv', 'tsv', 'json', 'jsonl', 'parquet', 'xlsx', 'csv.gz', 'txt', 'pdf', ''))}"
        yield name, content


def _rows(rng: random.Random) -> tuple[list[str], list[list[str]]]:
    names = ["text", "label", "llm_label", "llm_confidence", "llm_cost", "llm_latency", "id", "split"]
    names = names[: rng.randint(1, len(names)) if rng.random() < 0.3 else len(names)]
    rng.shuffle(names)
    if rng.random() < 0.2:
        names[rng.randrange(len(names))] = rng.choice(("", " ", "label", "a\nb", "😀", "'; drop", "column 1", "row"))
    classes = rng.sample(LABELS, rng.randint(2, 5))
    hostile = rng.choice((0, 0, 0.003, 0.1))

    def value(name: str) -> str:
        if rng.random() < hostile:
            return rng.choice(HOSTILE)
        if "label" in name:
            return rng.choice(classes)
        if name in ("llm_cost", "llm_latency") and rng.random() < 0.998:
            return rng.choice(("0.002", "0,002", "850"))
        if name.startswith("llm"):
            return rng.choice(NUMBERS[:3]) if rng.random() < 0.995 else rng.choice(NUMBERS)
        if name == "split":
            return rng.choice(("train", "test"))
        return " ".join(rng.choices(WORDS, k=rng.randint(1, 5))) + str(rng.randint(0, 99))

    return names, [[value(n) for n in names] for _ in range(rng.choice((0, 1, 12, 40, 40)))]


def _delimited(rng: random.Random) -> tuple[str, bytes]:
    names, rows = _rows(rng)
    separator, end = rng.choice(",,;\t|"), rng.choice(("\n", "\n", "\r\n", "\r"))
    careful = rng.random() < 0.8

    def field(text: str) -> str:
        return '"' + text.replace('"', '""') + '"' if careful or rng.random() < 0.3 else text

    lines = [separator.join(map(field, row)) for row in [names, *rows]]
    if rng.random() < 0.3:
        lines[:1] = rng.choice(([], ["sep=" + separator, lines[0]], ["A title", "", lines[0]], [lines[0]] * 2))
    if rng.random() < 0.2 and lines:
        i = rng.randrange(len(lines))
        lines[i] = rng.choice((lines[i] + separator * 3, lines[i].rsplit(separator, 1)[0], "", "   ", lines[i] + '"'))
    encoding = rng.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-be", "cp1252", "utf-32"))
    return f"a.{rng.choice(('csv', 'tsv', 'txt'))}", end.join(lines).encode(encoding, "replace")


def _value(rng: random.Random, depth: int = 0) -> object:
    if depth < 3 and rng.random() < 0.1:
        return rng.choice(([], {}, [_value(rng, depth + 1)], {"a": _value(rng, depth + 1)}))
    return rng.choice(
        (None, True, 0, 1, 1.0, 2**70, -(2**63), 0.1, float("nan"), float("inf"), *LABELS, *WORDS, *HOSTILE[:8])
    )


def _json(rng: random.Random) -> tuple[str, bytes]:
    names, rows = _rows(rng)
    odd = rng.choice((0, 0, 0.02, 0.3))
    objects = [{n: _value(rng) if rng.random() < odd else v for n, v in zip(names, row, strict=True)} for row in rows]
    ascii_only = rng.random() < 0.7
    kind = rng.random()
    if kind < 0.6:
        text = "\n".join(json.dumps(o, ensure_ascii=ascii_only) for o in objects)
    else:
        columns = {n: [o.get(n) for o in objects] for n in names}
        whole = rng.choice(
            (objects, {"data": objects}, columns, {n: dict(enumerate(v)) for n, v in columns.items()}, 3)
        )
        text = json.dumps(whole, ensure_ascii=ascii_only, indent=rng.choice((None, 2)))
    return f"a.{rng.choice(('json', 'jsonl', 'ndjson'))}", text.encode(
        "utf-8", rng.choice(("surrogatepass", "replace"))
    )


def _as_parquet(rng: random.Random, table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, compression=rng.choice(("none", "snappy", "zstd")), row_group_size=rng.choice((3, 999)))
    return out.getvalue()


def _parquet(rng: random.Random) -> tuple[str, bytes]:
    names, rows = _rows(rng)
    columns = [[v.encode("utf-8", "replace").decode() for v in c] for c in zip(*rows, strict=True)] or [[]] * len(names)
    table = pa.Table.from_arrays([pa.array(c, pa.string()) for c in columns], names)
    if rng.random() < 0.3:
        feature = rng.choice(
            ({"names": list(LABELS), "_type": "ClassLabel"}, {"_type": "ClassLabel"}, 3, {"names": {}})
        )
        about = rng.choice(({"info": {"features": {"code": feature}}}, {"info": 1}, [], {"info": {"features": []}}))
        codes = pa.array([rng.randint(-3, 20) for _ in range(len(table))], pa.int64())
        table = table.append_column("code", codes).replace_schema_metadata({"huggingface": json.dumps(about)})
    return "a.parquet", _as_parquet(rng, table)


def _parquet_of_types(rng: random.Random) -> tuple[str, bytes]:
    n, columns = rng.choice((0, 1, 15)), {}
    for i in range(rng.randint(1, 5)):
        kind = rng.choice(TYPES)
        try:
            columns[f"c{i}"] = pa.array([_of_type(rng, kind) for _ in range(n)], kind)
        except (pa.ArrowException, OverflowError, ValueError, TypeError):
            columns[f"c{i}"] = pa.nulls(n, kind)
    return "a.parquet", _as_parquet(rng, pa.table(columns))


def _of_type(rng: random.Random, kind: pa.DataType) -> object:
    if rng.random() < 0.2 or pa.types.is_null(kind):
        return None
    if pa.types.is_temporal(kind):
        return rng.choice((0, 1, 2**31 - 1, 10**6))
    if pa.types.is_decimal(kind):
        return rng.choice((decimal.Decimal("1.000"), decimal.Decimal("-0.5")))
    if pa.types.is_nested(kind):
        return [] if pa.types.is_list(kind) or pa.types.is_map(kind) else {"a": 1}
    if pa.types.is_boolean(kind):
        return rng.random() < 0.5
    if pa.types.is_integer(kind) or (pa.types.is_dictionary(kind) and pa.types.is_integer(kind.value_type)):
        return rng.choice((0, 1, 127))
    if pa.types.is_floating(kind):
        return rng.choice((0.5, 1.0, float("nan"), float("inf"), -0.0))
    return b"\xff\0a" if pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind) else rng.choice(LABELS)


def _workbook(rng: random.Random) -> tuple[str, bytes]:
    book = openpyxl.Workbook(write_only=True)
    for s in range(rng.choice((0, 1, 1, 2))):
        sheet = book.create_sheet(f"s{s}")
        names, rows = _rows(rng)
        for row in [names, *rows]:
            cells = []
            for v in row:
                clean = "".join(c for c in v[:30_000] if c.isprintable() and not "\ud800" <= c <= "\udfff")
                cells.append(
                    rng.choice((clean, clean, 1.0, 2, True, datetime.datetime(2024, 1, 2), "=1/0", "#N/A", None))
                )
            sheet.append(cells)
    out = io.BytesIO()
    book.save(out)
    content = out.getvalue()
    if rng.random() < 0.4:
        content = _broken_parts(rng, content)
    return "a.xlsx", content


def _broken_parts(rng: random.Random, content: bytes) -> bytes:
    """Damage what lies in the zip and not the zip."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as after:
        hit = rng.choice(before.namelist())
        for name in before.namelist():
            part = before.read(name)
            if name == hit:
                if rng.random() < 0.3:
                    continue
                part = rng.choice((_flip, _cut, _insert, _swap))(rng, part)
                part = part.replace(b'r="A1"', rng.choice((b'r="XFD1048576"', b'r="A0"', b'r=""', b'r="\xff"')))
            after.writestr(name, part)
    return out.getvalue()


def _flip(rng: random.Random, content: bytes) -> bytes:
    damaged = bytearray(content)
    for _ in range(min(len(damaged), rng.choice((1, 3, 20)))):
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)
    return bytes(damaged)


def _cut(rng: random.Random, content: bytes) -> bytes:
    at = rng.randint(0, len(content))
    return rng.choice((content[:at], content[at:], content[:at] + content[min(at + 7, len(content)) :]))


def _insert(rng: random.Random, content: bytes) -> bytes:
    at = rng.randint(0, len(content))
    token = rng.choice(HOSTILE).encode("utf-8", "surrogatepass")
    return content[:at] + rng.choice((token, b"\xff\xfe", b"\xed\xa0\xbd", b"\n\n", b'"', b"\xc3")) + content[at:]


def _repeat(rng: random.Random, content: bytes) -> bytes:
    return content * 2 if len(content) < 10**6 else content


def _swap(rng: random.Random, content: bytes) -> bytes:
    a, b = sorted(rng.randint(0, len(content)) for _ in range(2))
    return content[b:] + content[a:b] + content[:a]


def load(name: str, content: bytes) -> str:
    """Do what the Data page does with an upload; returns how it ends."""
    try:
        found = read(name, content)
        columns = guess_columns(found.table)
        build(found.table, columns)
    except HybridError as error:
        return str(error)
    with contextlib.suppress(HybridError):
        join(found.table, found.table, first_columns=columns)
    return ""


if __name__ == "__main__":
    ends: collections.Counter[str] = collections.Counter()
    n_files = int(sys.argv[1]) if len(sys.argv) > 1 else 1_500
    for number, (title, data) in enumerate(files(n_files, seed=int(sys.argv[2]) if len(sys.argv) > 2 else 0)):
        start = time.process_time()
        try:
            said = load(title, data)
            ends["refused" if said else "loaded"] += 1
        except Exception as error:
            ends["foreign exception"] += 1
            print(number, title, len(data), repr(error)[:300])
        if time.process_time() - start > 5:
            ends["over 5 s"] += 1
            print(number, title, len(data), f"{time.process_time() - start:.1f} s")
    print(dict(ends))
