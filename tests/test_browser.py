"""What only a browser shows: upload, drag, switch pattern, compare, download, and load what was downloaded."""

import re

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import labelled, study_of, table_of
from driving import BREAK_THE_LINE, go, number, open_project, serving, settle, skip_without_chromium, tile
from playwright.sync_api import expect

import hybrid
from hybrid.data.columns import Columns
from hybrid.data.dataset import build
from hybrid.data.split import split
from hybrid.routing.engine import Policy, replay
from hybrid.routing.patterns import Router, Triage
from hybrid.routing.table import Tier
from hybrid.study.evidence import record
from hybrid.study.plain import link
from hybrid.study.terms import Terms
from hybrid.tiers import embedders
from hybrid.tiers.embedders import MiniLM
from hybrid.tiers.whatif import WhatIf

skip_without_chromium()
pytestmark = pytest.mark.browser


def test_every_page_opens_by_its_own_url_on_a_fresh_server(app, page):
    errors = []
    page.on("pageerror", lambda e: errors.append(str(e)))
    for path in ("Tune", "Compare", "Inspect", "Try", "Support", "Export", ""):
        page.goto(f"{app}/{path}")
        settle(page)
        page.get_by_role("button", name="Use the sample data").wait_for()
        assert page.get_by_test_id("stException").count() == 0
    assert errors == []


def test_no_request_leaves_the_machine(app, page):
    asked = []
    page.on("request", lambda r: asked.append(r.url))
    page.goto(app)
    settle(page)
    page.get_by_role("button", name="Use the sample data").click()
    page.get_by_role("heading", name="Sample: support tickets").wait_for(timeout=60_000)
    settle(page)
    go(page, "Tune")
    foreign = [u for u in asked if not u.startswith((app, app.replace("http", "ws"), "data:", "blob:"))]
    assert foreign == []


def test_names_out_of_a_file_are_only_words(app, page, tmp_path):
    """Classes, columns, texts and the file's name that Markdown, HTML or Plotly would fetch or link: nobody asks."""
    asked, errors = [], []
    page.on("request", lambda r: asked.append(r.url))
    page.on("pageerror", lambda e: errors.append(str(e)))
    image = "![x](http://127.0.0.1:9/{0}) <img src=http://127.0.0.1:9/{0}> <a href='http://127.0.0.1:9/{0}'>x</a>"
    frame = labelled()
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
    page.get_by_text("Fast classifier").wait_for(timeout=60_000)
    settle(page)
    for name in ("Tune", "Compare", "Inspect", "Try", "Support", "Export"):
        go(page, name)
        assert page.get_by_test_id("stException").count() == 0
        if name == "Tune":
            page.get_by_role("button", name="Pin").first.click()
            settle(page)
        body = page.get_by_test_id("stMain")
        assert body.locator("a[href*='127.0.0.1:9'], img[src*='127.0.0.1:9']").count() == 0, name
        foreign = [u for u in asked if not u.startswith((app, app.replace("http", "ws"), "data:", "blob:"))]
        assert (foreign, errors) == ([], []), name


def test_from_upload_to_production(app, page, tmp_path):
    """The main job: upload, drag, switch pattern, pin, compare, download; the bundle decides alike."""
    frame = labelled()
    path = tmp_path / "mine.csv"
    frame.to_csv(path, index=False)
    page.goto(app)
    settle(page)
    page.get_by_test_id("stFileUploaderDropzoneInput").first.set_input_files(path)
    page.get_by_role("button", name="Load and fit").click()
    page.get_by_text("Fast classifier").wait_for(timeout=60_000)
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


def test_a_shared_link_shows_the_same_view(app, page, project):
    found = link_to(Router((0.5,)), "trained gate", "classifier", "llm", volume=5000)
    open_project(page, app, f"{project}&set={found}", "Tune")
    page.get_by_text("Gate score for classifier").first.wait_for()
    assert "set=" in page.url
    page.get_by_role("button", name="What if").click()
    expect(page.get_by_label("Texts per month")).to_have_value("5000")


@pytest.mark.parametrize("name", ["Data", "Tune", "Compare", "Support"])
def test_narrow_screens_do_not_scroll_sideways(app, page, project, name):
    for width in (380, 768):
        page.set_viewport_size({"width": width, "height": 800})
        open_project(page, app, project, name)
        assert page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth") <= width + 1, width


GRIP = ".hybrid-threshold-overlay .grip"
OVERLAYS = ".hybrid-threshold-overlay"
METRICS = ("accuracy", "escalation", "cost")


def shown(page):
    """Return everything that moves along with the line, as it stands on the page."""
    return page.evaluate(
        """() => [...document.querySelectorAll("[data-testid=stMetricValue] p, [data-live]")].map(e => e.innerText)"""
    )


def link_to(pattern, *names, **terms):
    """Return what a link to the sample says of a policy and its terms."""
    policy = Policy(pattern, tuple(Tier(name, "recorded") for name in names))
    return link(policy, Terms(**terms), ())


def tune(page, url, project, pattern=None):
    open_project(page, url, project, "Tune")
    page.locator(GRIP).wait_for()
    if pattern is not None:
        page.get_by_test_id("stButtonGroup").get_by_text(pattern, exact=True).click()
        settle(page)
        page.locator(GRIP).first.wait_for()


def drag(page, by, *, let_go=True):
    box = page.locator(GRIP).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + 120
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + by, y, steps=12)
    if let_go:
        page.mouse.up()
        settle(page)


def count_messages(page):
    """Count what the page sends to the server from now on."""
    sent = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda payload: sent.append(payload)))
    return sent


def test_dragging_the_line_shows_what_python_says_after_it(app, page, project):
    sent = count_messages(page)
    tune(page, app, project)
    for axis, by in (("Confidence", -150), ("Stretched near 1", 100), ("Share kept", -150)):
        page.get_by_test_id("stButtonGroup").get_by_text(axis, exact=True).click()
        settle(page)
        before, n_sent = shown(page), len(sent)
        drag(page, by, let_go=False)
        during = shown(page)
        flag = page.locator(f"{OVERLAYS} .flag").inner_text()
        slider = page.get_by_test_id("stSliderThumbValue").inner_text()
        assert during != before
        assert len(sent) == n_sent  # nothing is sent while the line moves
        assert float(slider) == pytest.approx(float(flag), abs=0.0006)
        page.mouse.up()
        settle(page)
        assert shown(page) == during, axis
        assert len(sent) == n_sent + 1  # one rerun
        assert page.locator(f"{OVERLAYS} .flag").inner_text() == flag
        assert "set=" in page.url


def test_the_map_of_a_cascade_is_dragged_likewise(app, page, project):
    tune(page, app, project, "Cascade")
    point = page.locator(f"{OVERLAYS} .point").bounding_box()
    x, y = point["x"] + 22, point["y"] + 22
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 60, y + 80, steps=10)
    numbers = [page.locator(f".st-key-tile_{name} [data-testid=stMetricValue]").inner_text() for name in METRICS]
    page.mouse.up()
    settle(page)
    after = [page.locator(f".st-key-tile_{name} [data-testid=stMetricValue]").inner_text() for name in METRICS]
    assert after == numbers
    assert "set=" in page.url
    assert page.locator(OVERLAYS).count() == 2


def test_slider_and_line_go_together_by_mouse_and_keyboard(app, page, project):
    tune(page, app, project)
    thumb = page.locator("[data-testid=stSlider] [style*=left]").first.bounding_box()
    before = page.locator(GRIP).bounding_box()["x"]
    x, y = thumb["x"] + thumb["width"] / 2, thumb["y"] + thumb["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 120, y, steps=8)
    page.wait_for_timeout(50)
    during = shown(page)
    assert page.locator(GRIP).bounding_box()["x"] < before - 50
    page.mouse.up()
    settle(page)
    assert shown(page) == during
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "ArrowRight"):
        page.keyboard.press(key)
    during = shown(page)
    page.wait_for_timeout(400)
    settle(page)
    assert shown(page) == during
    page.locator(GRIP).focus()
    page.keyboard.press("Home")
    page.wait_for_timeout(400)
    settle(page)
    assert page.get_by_test_id("stSliderThumbValue").inner_text() == "0.000"
    assert tile(page, "Sent to") == "0.0%"


def test_one_overlay_after_page_changes_resizes_and_a_change_of_theme(app, page, project):
    tune(page, app, project)
    drag(page, -90)
    expected = shown(page)
    go(page, "Compare")
    assert page.locator(OVERLAYS).count() == 0
    go(page, "Tune")
    page.locator(GRIP).wait_for()
    assert shown(page) == expected  # the threshold is where it was
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 900, "height": 900})
    page.wait_for_timeout(800)
    settle(page)
    assert page.locator(OVERLAYS).count() == 1
    value = float(page.locator(f"{OVERLAYS} .flag").inner_text())
    place = page.evaluate(
        """value => { const chart = document.querySelector(".st-key-curves .js-plotly-plot")
          const x = chart._fullLayout.xaxis
          return chart.getBoundingClientRect().left + x._offset + x._length * value }""",
        value,
    )
    box = page.locator(GRIP).bounding_box()
    assert box["x"] + box["width"] / 2 == pytest.approx(place, abs=1.5)
    drag(page, 60, let_go=False)
    during = shown(page)
    page.mouse.up()
    settle(page)
    assert shown(page) == during != expected


def test_a_deep_link_on_a_fresh_server_stands_where_it_says(page, project):
    with serving() as url:
        tune(page, url, f"{project}&set={link_to(Triage(0.42), 'classifier', 'llm')}")
        assert page.locator(f"{OVERLAYS} .flag").inner_text() == "0.420"
        assert page.get_by_test_id("stSliderThumbValue").inner_text() == "0.420"
        page.close()  # before its server ends


def test_two_tabs_with_different_data_do_not_mix(app, browser, project, tmp_path):
    path = tmp_path / "mine.csv"
    labelled().to_csv(path, index=False)
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    one, two = context.new_page(), context.new_page()
    tune(one, app, project)
    before = shown(one)
    two.goto(app)
    settle(two)
    two.get_by_test_id("stFileUploaderDropzoneInput").first.set_input_files(path)
    two.get_by_role("button", name="Load and fit").click()
    two.get_by_text("Fast classifier").wait_for(timeout=60_000)
    go(two, "Tune")
    two.locator(GRIP).wait_for()
    drag(two, -100)
    assert shown(two) != before
    assert shown(one) == before
    drag(one, 0)
    assert shown(one) == before
    context.close()


def test_without_the_script_the_slider_still_works(app, page, project):
    page.add_init_script(BREAK_THE_LINE)
    open_project(page, app, project, "Tune")
    page.get_by_test_id("stSlider").first.wait_for()
    assert page.locator(GRIP).count() == 0
    before = tile(page, "Sent to")
    page.locator("[data-testid=stSlider] input").first.focus()
    for _ in range(5):
        page.keyboard.press("PageDown")
    expect(number(page, "Sent to")).not_to_have_text(before, timeout=20_000)
    assert "set=" in page.url


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


@pytest.mark.parametrize("name", ["Data", "Tune", "Compare", "Inspect", "Try", "Support", "Export"])
def test_axe_finds_no_serious_violation_on_any_page(app, page, project, name):
    open_project(page, app, project, name)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(500)  # until it is drawn anew
        settle(page)
        found = Axe().run(page).response["violations"]
        assert [f"{v['id']} {v['help']}" for v in found if v["impact"] in ("serious", "critical")] == [], scheme
