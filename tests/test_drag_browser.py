"""The line on the chart in a real browser: what a drag shows is what Python says after it."""

import pytest
from conftest import again
from driving import BREAK_THE_LINE, go, number, open_project, serving, settle, skip_without_chromium, tile
from playwright.sync_api import expect

from hybrid.routing.engine import Policy
from hybrid.routing.patterns import Triage
from hybrid.routing.table import Tier
from hybrid.study.plain import link
from hybrid.study.project import folder_of, new_id
from hybrid.study.terms import Terms
from hybrid.tiers.whatif import WhatIf

skip_without_chromium()
pytestmark = pytest.mark.browser

GRIP = ".hybrid-threshold-overlay .grip"
OVERLAYS = ".hybrid-threshold-overlay"
METRICS = ("accuracy", "escalation", "cost")


def shown(page):
    """Return everything that moves along with the line, as it stands on the page."""
    return page.evaluate(
        """() => [...document.querySelectorAll("[data-testid=stMetricValue] p, [data-live]")].map(e => e.innerText)"""
    )


def tune(page, url, project):
    open_project(page, url, project, "Tune")
    page.locator(GRIP).wait_for()


@pytest.fixture(scope="module")
def shared(app, browser, sample_fitted):
    """The sample's Tune page, opened once, and what it sends to the server; a test takes it by `at_triage`."""
    name = new_id()
    again(sample_fitted).save(folder_of(name))
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    sent = count_messages(page)
    page.heard = count_messages(page, "framereceived")
    tune(page, app, f"project={name}")
    yield page, sent
    context.close()


def at_triage(shared):
    """Return the shared page at a triage with the line in the middle of the chart, and what it sent."""
    page, sent = shared
    for button in ("Triage", "Confidence"):
        page.get_by_test_id("stButtonGroup").get_by_text(button, exact=True).click()
        settle(page)
    chart = page.locator(".st-key-curves .js-plotly-plot").bounding_box()
    drag(page, chart["x"] + chart["width"] / 2 - page.locator(GRIP).bounding_box()["x"])
    return page, sent


def drag(page, by, *, let_go=True):
    box = page.locator(GRIP).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + 120
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + by, y, steps=12)
    if let_go:
        page.mouse.up()
        settle(page)


def count_messages(page, way="framesent"):
    """Count what the page sends to the server, or hears from it, from now on."""
    sent = []
    page.on("websocket", lambda socket: socket.on(way, lambda payload: sent.append(payload)))
    return sent


def test_dragging_the_line_shows_what_python_says_after_it(shared):
    page, sent = at_triage(shared)
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
        n_heard = len(page.heard)
        assert float(slider) == pytest.approx(float(flag), abs=0.0006)
        page.mouse.up()
        settle(page)
        assert shown(page) == during, axis
        assert len(sent) == n_sent + 1  # one rerun
        assert len(page.heard) - n_heard < 45  # of what moved alone; the whole page is 70 messages
        assert page.locator(f"{OVERLAYS} .flag").inner_text() == flag
        assert "set=" in page.url


def test_the_map_of_a_cascade_is_dragged_likewise(app, page, project):
    tune(page, app, project)
    page.get_by_test_id("stButtonGroup").get_by_text("Cascade", exact=True).click()
    settle(page)
    page.locator(GRIP).first.wait_for()
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


def test_slider_and_line_go_together_by_mouse_and_keyboard(shared):
    page, _ = at_triage(shared)
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


def test_one_overlay_after_page_changes_resizes_and_a_change_of_theme(shared):
    page, _ = at_triage(shared)
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
        policy = Policy(Triage(0.42), tuple(Tier(name, "recorded") for name in ("classifier", "llm")))
        tune(page, url, f"{project}&set={link(policy, Terms(volume=5000), ())}")
        assert page.locator(f"{OVERLAYS} .flag").inner_text() == "0.420"
        assert page.get_by_test_id("stSliderThumbValue").inner_text() == "0.420"
        page.get_by_role("button", name="What if").click()
        expect(page.get_by_label("Texts per month")).to_have_value("5000")
        page.close()  # before its server ends


def test_two_tabs_with_different_data_do_not_mix(app, browser, project, own_fitted):
    other, study = new_id(), again(own_fitted)
    study.terms = Terms(whatif=WhatIf())
    study.save(folder_of(other))
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    one, two = context.new_page(), context.new_page()
    tune(one, app, project)
    before = shown(one)
    tune(two, app, f"project={other}")
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
