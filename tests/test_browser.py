"""What only a browser shows: upload, drag, switch pattern, compare, download, and load what was downloaded."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from conftest import labelled

import hybrid
from hybrid.columns import Columns
from hybrid.dataset import build, split
from hybrid.recording import record
from hybrid.routing import replay
from hybrid.tiers.whatif import WhatIf

ROOT = Path(__file__).parent.parent
CHROMIUM = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)

if CHROMIUM is None and os.environ.get("CI") != "true":
    pytest.skip("no Chromium: install it (Debian: apt-get install chromium)", allow_module_level=True)

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def server():
    """A fresh server, as the README starts it."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.headless=true", f"--server.port={port}"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://localhost:{port}"
    for _ in range(120):
        try:
            urllib.request.urlopen(f"{url}/_stcore/health").read()
            break
        except OSError:
            time.sleep(0.25)
    yield url
    process.terminate()
    process.wait(10)


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.fail("CI=true and no Chromium: install it (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    yield context.new_page()
    context.close()


def settle(page):
    """Wait until the script has run and its answer is drawn."""
    page.wait_for_timeout(250)
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]", timeout=60_000)
    page.wait_for_timeout(150)


def go(page, name):
    page.get_by_test_id("stPageLink-NavLink").filter(has_text=name).first.click()
    settle(page)
    page.wait_for_url(f"**/{name}*")
    settle(page)


def tile(page, label):
    metric = page.get_by_test_id("stMetric").filter(has_text=label)
    return metric.get_by_test_id("stMetricValue").inner_text()


def open_sample(page, url):
    page.goto(url)
    settle(page)
    page.get_by_role("button", name="Use the sample data").click()
    page.get_by_role("heading", name="Sample: support tickets").wait_for(timeout=60_000)
    settle(page)


def test_every_page_opens_by_its_own_url_on_a_fresh_server(server, page):
    errors = []
    page.on("pageerror", lambda e: errors.append(str(e)))
    for path in ("Tune", "Compare", "Inspect", "Try", "Export", ""):
        page.goto(f"{server}/{path}")
        settle(page)
        assert page.get_by_role("button", name="Use the sample data").is_visible()
        assert page.get_by_test_id("stException").count() == 0
    assert errors == []


def test_no_request_leaves_the_machine(server, page):
    asked = []
    page.on("request", lambda r: asked.append(r.url))
    open_sample(page, server)
    go(page, "Tune")
    foreign = [u for u in asked if not u.startswith((server, server.replace("http", "ws"), "data:", "blob:"))]
    assert foreign == []


def test_from_upload_to_production(server, page, tmp_path):
    """The main job: upload, drag, switch pattern, pin, compare, download; the bundle decides alike."""
    frame = labelled()
    path = tmp_path / "mine.csv"
    frame.to_csv(path, index=False)
    page.goto(server)
    settle(page)
    page.get_by_test_id("stFileUploaderDropzoneInput").first.set_input_files(path)
    page.get_by_role("button", name="Load and fit").click()
    page.get_by_text("Fast classifier").wait_for(timeout=60_000)
    settle(page)

    go(page, "Tune")
    before = tile(page, "Accuracy"), tile(page, "Cost per 1,000")
    slider = page.get_by_test_id("stSlider").first
    box = slider.get_by_role("slider").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] - 200, box["y"] + box["height"] / 2, steps=8)
    page.mouse.up()
    settle(page)
    assert (tile(page, "Accuracy"), tile(page, "Cost per 1,000")) != before
    assert "triage.threshold=" in page.url
    page.get_by_role("button", name="Pin to compare").click()
    settle(page)

    page.get_by_test_id("stButtonGroup").get_by_text("Cascade", exact=True).click()
    settle(page)
    assert "pattern=Cascade" in page.url
    page.get_by_role("button", name="Pin to compare").click()
    settle(page)

    go(page, "Compare")
    assert page.get_by_role("columnheader", name="B", exact=True).is_visible()
    assert page.locator(".js-plotly-plot").count() == 1
    go(page, "Tune")  # what was set survives moving between pages
    assert page.get_by_text("Threshold of classifier", exact=True).first.is_visible()

    go(page, "Export")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the bundle").click()
    bundle = tmp_path / download.value.suggested_filename
    download.value.save_as(bundle)

    from hybrid.tables import read

    dataset = build(read("mine.csv", path.read_bytes()), Columns("label", text="text"))
    recording = record(dataset, split(dataset))
    table = recording.with_whatif(WhatIf())
    test = recording.split.test
    said = dict(zip(dataset.texts, table.label[:, table.index("what-if LLM")], strict=True))
    sure = dict(zip(dataset.texts, table.confidence[:, table.index("what-if LLM")], strict=True))

    def model(texts):
        return [hybrid.Answer(dataset.classes[said[t]], confidence=float(sure[t])) for t in texts]

    pipeline = hybrid.load(bundle, models={"what-if LLM": model})
    shown = replay(pipeline.policy, table.take(test))
    decisions = pipeline.decide(list(dataset.texts[test]))
    assert [d.label for d in decisions] == [dataset.classes[c] for c in shown.label]
    assert [d.tier for d in decisions] == [pipeline.policy.names[j] for j in shown.tier]
    np.testing.assert_allclose([d.cost for d in decisions], shown.cost)


def test_a_bad_file_shows_a_message_and_no_traceback(server, page, tmp_path):
    path = tmp_path / "latin.csv"
    path.write_bytes("text,label\ncafé,x\n".encode("latin-1"))
    page.goto(server)
    settle(page)
    page.get_by_test_id("stFileUploaderDropzoneInput").first.set_input_files(path)
    page.get_by_text("is not UTF-8: line 2").wait_for()
    assert page.get_by_test_id("stException").count() == 0


def test_a_shared_link_shows_the_same_view(server, page):
    page.goto(f"{server}/Tune?pattern=Router&volume=5000")
    settle(page)
    page.get_by_role("button", name="Use the sample data").click()
    page.get_by_text("Gate score for classifier").first.wait_for(timeout=60_000)
    settle(page)
    assert "pattern=Router" in page.url
    page.get_by_role("button", name="What if").click()
    assert page.get_by_label("Texts per month").input_value() == "5000"


@pytest.mark.parametrize("width", [380, 768])
def test_narrow_screens_do_not_scroll_sideways(server, browser, width):
    context = browser.new_context(viewport={"width": width, "height": 800})
    page = context.new_page()
    open_sample(page, server)
    go(page, "Tune")
    wide = page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth")
    assert wide <= width + 1
    context.close()
