"""Apart: a large upload is read by a process of its own, which is ended when it takes too long or too much memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from hybrid.data.chat_log import ChatLog
from hybrid.data.limits import MEMORY, SECONDS
from hybrid.data.notes import Note
from hybrid.data.opening import suffix_of
from hybrid.data.read import Contents, Read, collected, read, table_of
from hybrid.data.stream import PACKED, Source
from hybrid.errors import DatasetError

LARGE = 8 << 20  # bytes from which a process of its own is worth its start of half a second
LARGE_PACKED = 1 << 18  # of what unpacks to more
_REFUSED = 3  # exit code: the message is on the standard error
_TOO_MUCH = 4


def environment() -> dict[str, str]:
    """Return this process's environment for a child, which finds this very package wherever the parent was started."""
    path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path}


def read_apart(name: str, content: bytes, *, header: bool | None = None, sheet: str | None = None) -> Read:
    """Read an upload as `read` does; a large one in a process of its own, so that it cannot take this one with it.

    Raises
    ------
    DatasetError
        As `read` does; and where reading took too long or too much memory, naming the limit.
    """
    packed = content[:2] == PACKED or suffix_of(name) in ("parquet", "xlsx")
    if len(content) < (LARGE_PACKED if packed else LARGE):
        return read(name, content, header=header, sheet=sheet)
    wanted = json.dumps([name, header, sheet, SECONDS.value(), MEMORY.value()])
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as found:
        given.write(content)
        given.seek(0)
        try:
            ended = subprocess.run(
                [sys.executable, "-m", "hybrid.data.apart", wanted],
                stdin=given,
                stdout=found,
                stderr=subprocess.PIPE,
                env=environment(),
                timeout=3 * SECONDS.value(),
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise _took_too_much(name) from None
        if ended.returncode == _REFUSED:
            raise DatasetError(ended.stderr.decode("utf-8", "replace").strip().splitlines()[-1])
        if ended.returncode:
            raise _took_too_much(name)
        found.seek(0)
        with pa.ipc.open_stream(found) as stream:
            table = stream.read_all()
    about = json.loads(table.schema.metadata[b"hybrid"])
    notes = tuple(Note(**note) for note in about.pop("notes"))
    log = None if about["log"] is None else ChatLog(**about["log"])
    return table_of(Contents(table, notes, about["headed"], about["sheet"], tuple(about["sheets"]), log))


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
    sys.exit(_main(sys.argv[1]))
