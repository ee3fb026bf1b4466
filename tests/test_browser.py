"""What only a browser shows: upload, drag, switch pattern, compare, download, and load what was downloaded."""

import re

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import labelled, study_of, table_of
from driving import go, hold_still, number, open_project, settle, skip_without_chromium, tile
from playwright.sync_api import expect

import hybrid
from hybrid.data.columns import Columns
from hybrid.data.dataset import build
from hybrid.data.split import split
from hybrid.routing.engine import replay
from hybrid.study.evidence import record
from hybrid.tiers import embedders
from hybrid.tiers.embedders import MiniLM
from hybrid.tiers.whatif import WhatIf

skip_without_chromium()
pytestmark = pytest.mark.browser


def outside(asked, app):
    """Return the addresses asked for that are not the app's own."""
    return [u for u in asked if not u.startswith((app, app.replace("http", "ws"), "data:", "blob:"))]


def test_every_page_opens_by_its_own_url_on_a_fresh_server_and_asks_nobody_else(app, page):
    asked, errors = [], []
    page.on("request", lambda r: asked.append(r.url))
    page.on("pageerror", lambda e: errors.append(str(e)))
    for path in ("Tune", "Compare", "Inspect", "Audit", "Try", "Support", "Export", ""):
        page.goto(f"{app}/{path}")
        settle(page)
        page.get_by_role("button", name="Use the sample data").wait_for()
        assert page.get_by_test_id("stException").count() == 0
    assert (outside(asked, app), errors) == ([], [])


def test_names_out_of_a_file_are_only_words(app, page, tmp_path):
    """Classes, columns, texts and the file's name that Markdown, HTML or Plotly would fetch or link: nobody asks."""
    asked, errors = [], []
    page.on("request", lambda r: asked.append(r.url))
    page.on("pageerror", lambda e: errors.append(str(e)))
    image = "![x](http://127.0.0.1:9/{0}) <img src=http://127.0.0.1:9/{0}> <a href='http://127.0.0.1:9/{0}'>x</a>"
    frame = labelled(120)
    frame["label"] = frame["label"] + " " + image.format("class")
    frame["text"] = frame["text"] + " " + image.format("text")
    tier = f"tier {image.format('tier')}"
    frame[tier] = frame["label"].where(frame.index % 9 > 0, frame["label"].iloc[0])
    frame[f"{tier}_confidence"] = [("0.6", "0.8", "0.95")[i % 3] for i in range(len(frame))]
    path = tmp_path / "![x](http:__127.0.0.1:9_file.csv"
    frame.to_csv(path, index=False)
    page.goto(app)
    settle(page)
    page.get_by_test_id("stFileUploaderDropzoneInput").first.set_input_files(path)
    page.get_by_role("button", name="Load and fit").click()
    page.get_by_text("Fast classifier").wait_for(timeout=150_000)
    settle(page)
    for name in ("Tune", "Compare", "Inspect", "Try", "Support", "Export"):
        go(page, name)
        assert page.get_by_test_id("stException").count() == 0
        if name == "Tune":
            page.get_by_role("button", name="Pin").first.click()
            settle(page)
        body = page.get_by_test_id("stMain")
        assert body.locator("a[href*='127.0.0.1:9'], img[src*='127.0.0.1:9']").count() == 0, name
        assert (outside(asked, app), errors) == ([], []), name


def test_from_upload_to_production(app, page, tmp_path):
    """The main job: upload, drag, switch pattern, pin, compare, download; the bundle decides alike."""
    frame = labelled()
    path = tmp_path / "mine.csv"
    frame.to_csv(path, index=False)
    page.goto(app)
    settle(page)
    page.get_by_test_id("stFileUploaderDropzoneInput").first.set_input_files(path)
    page.get_by_role("button", name="Load and fit").click()
    page.get_by_text("Fast classifier").wait_for(timeout=150_000)
    settle(page)

    go(page, "Tune")
    before = tile(page, "Sent to")
    thumb = page.locator("[data-testid=stSlider] [style*=left]").first
    thumb.scroll_into_view_if_needed()
    box = thumb.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] - 200, box["y"] + box["height"] / 2, steps=8)
    page.mouse.up()
    expect(number(page, "Sent to")).not_to_have_text(before, timeout=20_000)
    settle(page)
    assert "set=" in page.url
    page.get_by_role("button", name="Pin").first.click()
    settle(page)

    page.get_by_test_id("stButtonGroup").get_by_text("Cascade", exact=True).click()
    settle(page)
    page.get_by_role("button", name="Pin").first.click()
    settle(page)

    go(page, "Compare")
    page.get_by_text("All numbers").click()
    assert page.get_by_role("columnheader", name="B", exact=True).is_visible()
    assert page.locator(".js-plotly-plot").count() == 1
    go(page, "Tune")  # what was set survives moving between pages
    assert page.get_by_text(re.compile("^Threshold of [a-z]")).first.is_visible()

    go(page, "Export")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the bundle").click()
    bundle = tmp_path / download.value.suggested_filename
    download.value.save_as(bundle)

    from hybrid.data.read import read

    dataset = build(read("mine.csv", path.read_bytes()).table, Columns("label", text="text"))
    small = MiniLM.installed() if embedders.is_installed() else None
    recording = record(dataset, split(dataset), embedder=small)
    table = table_of(study_of(recording, whatif=WhatIf()))
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


def test_a_bad_file_shows_a_message_and_no_traceback(app, page, tmp_path):
    path = tmp_path / "open.csv"
    path.write_bytes(b'text,label\na,"x\nb,y\n')
    page.goto(app)
    settle(page)
    page.get_by_test_id("stFileUploaderDropzoneInput").first.set_input_files(path)
    page.get_by_test_id("stAlert").filter(has_text="open.csv").wait_for()
    assert page.get_by_test_id("stException").count() == 0


def test_loading_can_be_cancelled(app, page, tmp_path):
    rng = np.random.default_rng(0)
    words = np.array(["".join(rng.choice(list("abcdefghij"), 5)) for _ in range(3_000)])
    texts = [" ".join(rng.choice(words, 12)) for _ in range(12_000)]
    path = tmp_path / "slow.csv"
    path.write_text("text,label\n" + "\n".join(f"{t},class{i % 60}" for i, t in enumerate(texts)))
    page.goto(app)
    settle(page)
    page.get_by_test_id("stFileUploaderDropzoneInput").first.set_input_files(path)
    page.get_by_role("button", name="Load and fit").click()
    page.get_by_role("button", name="Cancel").click(timeout=30_000)
    page.get_by_text("Loading was stopped before it was done").wait_for()
    settle(page)
    assert page.get_by_text("Fast classifier").count() == 0
    assert page.get_by_test_id("stException").count() == 0


# what of a column reaches below the top of what comes next in it
OVER_EACH_OTHER = """() => [...document.querySelectorAll("[data-testid=stMain] [data-testid=stVerticalBlock]")].flatMap(
  (column) => {
    const shown = [...column.children].filter((e) => e.offsetHeight && getComputedStyle(e).position != "absolute");
    return shown.slice(1).flatMap((next, k) => {
      const parts = [...shown[k].querySelectorAll("[data-testid=stElementContainer]")].filter(
        (e) => e.offsetHeight && !e.closest("details:not([open])"));
      const end = Math.max(...parts.map((e) => e.getBoundingClientRect().bottom));
      return end > next.getBoundingClientRect().top + 4 ? [`${shown[k].innerText} / ${next.innerText}`] : [];
    });
  })"""


def test_pages_suit_readers_of_screens_and_narrow_ones(app, page, project):
    found = {}
    open_project(page, app, project)
    for name in ("Data", "Tune", "Compare", "Inspect", "Try", "Support", "Export", "Production"):
        if name != "Data":
            go(page, name)
        for scheme in ("dark", "light"):
            page.emulate_media(color_scheme=scheme)
            page.wait_for_timeout(500)  # until it is drawn anew
            hold_still(page)
            violations = Axe().run(page).response["violations"]
            found[name, scheme] = [
                f"{v['id']} {v['help']}" for v in violations if v["impact"] in ("serious", "critical")
            ]
        for width in (768, 380):
            page.set_viewport_size({"width": width, "height": 800})
            page.wait_for_timeout(500)
            settle(page)
            if (wide := page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth")) > width + 1:
                found[name, width] = [f"{wide} wide"]
            found[name, width, "over each other"] = page.evaluate(OVER_EACH_OTHER)
        page.set_viewport_size({"width": 1280, "height": 900})
        settle(page)
    assert {k: v for k, v in found.items() if v} == {}
