"""Drive the app in a real browser: find Chromium, start a server, wait for a page, press what a user presses."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CHROMIUM = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
HOW = "install it (Debian: apt-get install chromium)"
# run before a page loads: the script of the draggable threshold then fails as soon as it starts
BREAK_THE_LINE = """Object.defineProperty(window, Symbol.for("hybrid.threshold_line"),
  { get() { throw new Error("broken on purpose") } })"""


def skip_without_chromium():
    """Skip the calling test module where there is no browser; with CI=true its tests fail instead."""
    if CHROMIUM is None and os.environ.get("CI") != "true":
        pytest.skip(f"no Chromium: {HOW}", allow_module_level=True)


def free_port():
    """Return a port of the loopback address that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextmanager
def serving(*options, port=None, **environment):
    """Start a fresh server, as the README starts it; yields its address."""
    port = port or free_port()
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.headless=true", f"--server.port={port}"]
    process = subprocess.Popen(
        [*command, *options],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | environment,
    )
    url = f"http://localhost:{port}"
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{url}/_stcore/health").read()
                break
            except OSError:
                time.sleep(0.25)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def settle(page):
    """Wait until the script has run and its answer is drawn."""
    page.wait_for_timeout(250)
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]", timeout=150_000)
    page.wait_for_timeout(150)


def hold_still(page):
    """Wait until nothing on the page is of an earlier run, and nothing fades or moves, which has colours in between."""
    settle(page)
    page.wait_for_function(
        """() => !document.querySelector("[data-stale=true]") && document.getAnimations().every(
          a => a.playState !== "running" || a.effect.getComputedTiming().endTime === Infinity)"""
    )


def go(page, name):
    """Follow a link of the navigation."""
    page.get_by_test_id("stPageLink-NavLink").filter(has_text=name).first.click()
    settle(page)
    page.wait_for_url(f"**/{name}*")
    settle(page)


def tile(page, label):
    """Return the number on a tile."""
    return number(page, label).inner_text()


def number(page, label):
    """Return the place of the number on a tile."""
    return page.get_by_test_id("stMetric").filter(has_text=label).get_by_test_id("stMetricValue")


def open_project(page, url, project, name="Data"):
    """Open a page of a kept project."""
    page.goto(f"{url}/{'' if name == 'Data' else name}?{project}")
    page.locator(".st-key-policy_bar").wait_for()
    settle(page)
