"""Apart: an upload is read by a process of its own, which is ended when it takes too long or too much memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from hybrid.data.chat_log import ChatLog
from hybrid.data.limits import MEMORY, SECONDS, UPLOAD
from hybrid.data.notes import Note
from hybrid.data.opening import suffix_of
from hybrid.data.read import Contents, Read, collected, read, table_of
from hybrid.data.stream import PACKED, Source
from hybrid.errors import DatasetError

LARGE = 2 << 20  # bytes of text from which a process of its own is worth its start of half a second
_AT_ONCE = 2  # files that are read at once, the others wait
NICE = 5  # how far the process stands back behind the server's own threads: a third of their share of a core
_LOOK = 0.05  # seconds between two looks at whether it is still wanted
_REFUSED = 3  # exit code: the message is on the standard error
_TOO_MUCH = 4
_TURNS = threading.BoundedSemaphore(_AT_ONCE)


def environment() -> dict[str, str]:
    """Return this process's environment for a child, which finds this very package wherever the parent was started."""
    path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path}


def read_apart(
    name: str,
    content: bytes,
    *,
    header: bool | None = None,
    sheet: str | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Read:
    """Read an upload as `read` does; all but small text in a process of its own, so that it cannot take this one along.

    Parameters
    ----------
    stopped
        Whether it is wanted no more: looked at time and again, and the process is ended.

    Raises
    ------
    DatasetError
        As `read` does; and where reading took too long or too much memory, naming the limit.
    CancelledError
        If it was stopped.
    """
    if _is_small(name, content):
        return read(name, content, header=header, sheet=sheet)
    UPLOAD.check(name, len(content))
    wanted = json.dumps([name, header, sheet, SECONDS.value(), MEMORY.value()])
    while not _TURNS.acquire(timeout=_LOOK):
        if stopped():
            raise CancelledError
    try:
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as found, tempfile.TemporaryFile() as said:
            given.write(content)
            given.seek(0)
            code = _ended(
                subprocess.Popen(
                    [sys.executable, "-m", "hybrid.data.apart", wanted],
                    stdin=given,
                    stdout=found,
                    stderr=said,
                    env=environment(),
                ),
                stopped,
            )
            if code == _REFUSED:
                said.seek(0)
                raise DatasetError(said.read().decode("utf-8", "replace").strip().splitlines()[-1])
            if code:
                raise _took_too_much(name)
            found.seek(0)
            with pa.ipc.open_stream(found) as stream:
                table = stream.read_all()
    finally:
        _TURNS.release()
    about = json.loads(table.schema.metadata[b"hybrid"])
    notes = tuple(Note(**note) for note in about.pop("notes"))
    log = None if about["log"] is None else ChatLog(**about["log"])
    return table_of(Contents(table, notes, about["headed"], about["sheet"], tuple(about["sheets"]), log))


def _is_small(name: str, content: bytes) -> bool:
    """Whether this is text that is read at once; a workbook or Parquet may become anything, whatever its size."""
    if content[:4] in (b"PAR1", b"PK\3\4") or suffix_of(name) in ("parquet", "xlsx"):
        return False
    if content[:2] != PACKED:
        return len(content) < LARGE
    opened = zlib.decompressobj(wbits=31)
    try:
        return len(opened.decompress(content, LARGE)) < LARGE and not opened.unused_data
    except zlib.error:
        return True  # `read` says so


def _ended(process: subprocess.Popen[bytes], stopped: Callable[[], bool]) -> int:
    """Wait for the end of a process, and end it where it takes too long or is wanted no more; returns its code."""
    last = time.monotonic() + 3 * SECONDS.value()
    try:
        while True:
            try:
                return process.wait(_LOOK)
            except subprocess.TimeoutExpired:
                if stopped():
                    raise CancelledError from None
                if time.monotonic() > last:
                    return _TOO_MUCH
    finally:
        process.kill()
        process.wait()


def _took_too_much(name: str) -> DatasetError:
    return DatasetError(
        f"{name} takes more than {SECONDS.value():,} seconds or {MEMORY.value():,} MB of memory to read: "
        f"{SECONDS.mend}. Whoever runs this can raise the limits with {SECONDS.variable} and {MEMORY.variable}."
    )


def _main(wanted: str) -> int:
    """Read what is on the standard input, within the limits; write it to the standard output."""
    name, header, sheet, seconds, memory = json.loads(wanted)
    try:
        import resource
    except ImportError:  # Windows has no such limits; the time is bounded by whoever waits
        pass
    else:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
        resource.setrlimit(resource.RLIMIT_AS, (memory << 20, memory << 20))
        os.nice(NICE)
    with suppress(OSError):  # where memory runs out all the same, this is what the system ends, not the server (Linux)
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        found = collected(Source(name, content=sys.stdin.buffer.read()), header=header, sheet=sheet)
    except DatasetError as error:
        if isinstance(error.__cause__, MemoryError):
            return _TOO_MUCH
        print(" ".join(str(error).split()), file=sys.stderr)
        return _REFUSED
    about = {"notes": [asdict(n) for n in found.notes], "headed": found.headed, "sheet": found.sheet}
    about["log"] = None if found.log is None else asdict(found.log)
    table = found.table.replace_schema_metadata({"hybrid": json.dumps({**about, "sheets": found.sheets})})
    with pa.ipc.new_stream(sys.stdout.buffer, table.schema) as stream:
        stream.write_table(table)
    return 0


if __name__ == "__main__":
    _code = _main(sys.argv[1])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(_code)  # at once: threads of Arrow that still read what was refused can abort an interpreter that ends
