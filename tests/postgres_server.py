"""A PostgreSQL of the tests' own: in a temporary folder, on a free port of the loopback address, gone afterwards."""

from __future__ import annotations

import glob
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

HOW = "install it (Debian: apt-get install postgresql), and its driver: pip install psycopg[binary]"
_SCHEMAS = itertools.count()


def _programs() -> Path | None:
    """Return the folder of the server's programs, the newest where there are several."""
    found = [*sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres")), shutil.which("postgres")]
    there = [Path(p).resolve().parent for p in found if p]
    return there[0] if there else None


def _user() -> str | None:
    """Return who runs it: never root, which PostgreSQL refuses."""
    if os.name != "posix" or os.getuid():
        return None
    known = {p.pw_name for p in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


@contextmanager
def running():
    """Start a server; yields the URL of its database. Skips the test where there is none, and fails with CI=true."""
    programs = _programs()
    try:
        import psycopg  # noqa: F401
    except ImportError:
        programs = None
    if programs is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"no PostgreSQL: {HOW}")
    folder, user = Path(tempfile.mkdtemp(prefix="hybrid-postgres-")), _user()
    if user:
        shutil.chown(folder, user)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    server = None
    try:
        make = [programs / "initdb", "-D", folder / "data", "-U", "hybrid", "-A", "trust", "-E", "UTF8", "--locale=C"]
        subprocess.run([*make, "--no-sync"], user=user, cwd=folder, check=True, capture_output=True)
        options = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "fsync": "off"}
        said = [f"-c{name}={value}" for name, value in options.items()]
        with open(folder / "log", "wb") as log:
            server = subprocess.Popen(
                [programs / "postgres", "-D", folder / "data", *said], user=user, cwd=folder, stdout=log, stderr=log
            )
        _wait(port, server, folder / "log")
        yield f"postgresql://hybrid:not-to-be-shown@127.0.0.1:{port}/postgres"
    finally:
        if server is not None:
            server.send_signal(signal.SIGINT)  # ends it without waiting for those who are connected
            server.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


def _wait(port, server, log):
    import psycopg

    for _ in range(200):
        try:
            psycopg.connect(host="127.0.0.1", port=port, user="hybrid", dbname="postgres").close()
            return
        except psycopg.OperationalError:
            assert server.poll() is None, log.read_text()
            time.sleep(0.05)
    raise AssertionError(log.read_text())


def ask(url, *statements):
    """Run statements in a database of its own; returns the rows of the last."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as db:
        for statement in statements:
            found = db.execute(statement)
        return found.fetchall() if found.description else []


@contextmanager
def fresh(url):
    """Yield the URL of an empty schema, which is as good as an empty database."""
    name = f"s{os.getpid()}_{next(_SCHEMAS)}"
    ask(url, f"CREATE SCHEMA {name}")
    try:
        yield f"{url}?options=-csearch_path%3D{name}"
    finally:
        ask(url, f"DROP SCHEMA {name} CASCADE")
