"""The draggable threshold's script, alone: a blank page, a fake chart, fake sliders, and a fake report to Python."""

import base64
from pathlib import Path

import pytest
from driving import skip_without_chromium

import hybrid.dashboard.tune.threshold_line as threshold_line

skip_without_chromium()
pytestmark = pytest.mark.browser

SCRIPT = Path(threshold_line.__file__).with_name("threshold_line.js").read_text()
URL = "data:text/javascript;base64," + base64.b64encode(SCRIPT.encode()).decode()

# a chart of 400 x 300 whose panels start at (50, 20); sliders as Streamlit draws them, as far as the script looks
PAGE = """
<style>
  body { margin: 0; } .chart { width: 500px; height: 340px; }
  .track { position: relative; width: 200px; height: 20px; }
  .fill { position: absolute; inset: 0;
    background-image: linear-gradient(90deg, rgb(0, 0, 255) 50%, rgb(200, 200, 200) 50%); }
  .thumb { position: absolute; }
</style>
<div class="st-key-curves"><div class="chart js-plotly-plot"></div></div>
<div class="st-key-map"><div class="chart js-plotly-plot"></div></div>
<div class="st-key-p-one"><div data-testid="stSlider"><div class="track"><div class="fill"></div>
  <div class="thumb" style="left: 50%"><input type="range" min="0" max="1" step="0.001" value="0.5">
  <div data-testid="stSliderThumbValue"><p>0.500</p></div></div></div></div></div>
<div class="st-key-p-two"><div data-testid="stSlider"><div class="track"><div class="fill"></div>
  <div class="thumb" style="left: 80%"><input type="range" min="0" max="1" step="0.001" value="0.8">
  <div data-testid="stSliderThumbValue"><p>0.800</p></div></div></div></div></div>
<p id="accuracy">as drawn by Python</p>
"""
SETUP = """async ([url, withMap]) => {
  const axis = (id, offset, length, range) => ({ _id: id, _offset: offset, _length: length, range })
  const [curves, map] = document.querySelectorAll(".js-plotly-plot")
  curves._fullLayout = { xaxis: axis("x", 50, 400, [0, 1]), yaxis: axis("y", 20, 100, [0.5, 1]),
    yaxis2: axis("y2", 140, 80, [0, 1]), yaxis3: axis("y3", 240, 80, [0, 10]) }
  if (withMap) map._fullLayout = { xaxis: axis("x", 50, 400, [0, 1]), yaxis: axis("y", 20, 300, [0, 1]) }
  const at = [0, 0.25, 0.5, 0.75, 1]
  window.reports = []
  window.data = {
    values: { "p.one": 0.5, "p.two": 0.8 },
    targets: { accuracy: "#accuracy" },
    line: { chart: "curves", key: "p.one", label: "Threshold", plain: true, digits: 3, at, x: at, bottom: "yaxis3",
      panels: [{ axis: "yaxis", y: [0.6, 0.7, 0.7, 0.8, 0.9], colour: "blue" },
        { axis: "yaxis2", y: [0, 0, 0, 1, 1], colour: "red" }],
      live: { accuracy: ["a", "b", "c", "d", "e"] }, spoken: ["a", "b", "c", "d", "e"] },
  }
  if (withMap) window.data.map = { chart: "map", label: "Both", axes: [
    { key: "p.one", at, x: at }, { key: "p.two", at: [0, 0.4, 0.8, 1], x: [0, 0.4, 0.8, 1] }],
    live: { accuracy: Array.from({ length: 20 }, (_, i) => `m${i}`) } }
  window.module = await import(url)
  window.start = () => module.attach(window.data, values => window.reports.push(values))
  window.start()
}"""


@pytest.fixture
def blank(page):
    return start(page)


def start(page, with_map=False):
    errors = []
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.errors = errors
    page.set_content(PAGE)
    page.evaluate(SETUP, [URL, with_map])
    frame(page)
    return page


def frame(page):
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def middle(page, selector):
    box = page.locator(selector).bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def text(page):
    return page.locator("#accuracy").inner_text()


def reports(page):
    return page.evaluate("window.reports")


GRIP, DOTS, POINT = (f".hybrid-threshold-overlay .{name}" for name in ("grip", "dot", "point"))


def test_line_and_dots_stand_where_the_values_are(blank):
    x, _ = middle(blank, GRIP)
    assert x == pytest.approx(50 + 400 * 0.5, abs=1)
    places = [middle(blank, f"{DOTS} >> nth={i}") for i in range(2)]
    assert places[0] == pytest.approx((250, 20 + 100 * (1 - (0.7 - 0.5) / 0.5)), abs=1)
    assert places[1] == pytest.approx((250, 140 + 80), abs=1)
    assert text(blank) == "as drawn by Python"
    assert blank.errors == []


def test_a_drag_moves_everything_and_reports_once_on_release(blank):
    x, y = middle(blank, GRIP)
    blank.mouse.move(x, y)
    blank.mouse.down()
    seen = []
    for target, said in ((0.7, "d"), (0.74, "d"), (0.9, "e"), (0.62, "d")):
        blank.mouse.move(50 + 400 * target, y)
        seen.append((text(blank), blank.locator("[data-testid=stSliderThumbValue] >> nth=0").inner_text()))
        assert seen[-1] == (said, f"{target:.3f}")
        assert middle(blank, GRIP)[0] == pytest.approx(50 + 400 * target, abs=1)
        assert blank.locator(".thumb >> nth=0").evaluate("e => parseFloat(e.style.left)") == pytest.approx(100 * target)
        assert blank.locator(".flag").inner_text() == f"{target:.3f}"
    fill = blank.locator(".fill >> nth=0").evaluate("e => e.style.backgroundImage")
    assert "62%" in fill
    assert reports(blank) == []
    assert blank.evaluate("document.body.dataset.dragging") == "line"
    blank.mouse.up()
    assert reports(blank) == [{"p.one": 0.62, "p.two": 0.8}]
    # Python answers with its own numbers; the page is as it was drawn
    blank.evaluate("() => { window.data.values['p.one'] = 0.62; start() }")
    assert blank.evaluate("'dragging' in document.body.dataset") is False
    assert blank.locator(".fill >> nth=0").evaluate("e => e.style.backgroundImage") == ""
    assert blank.errors == []


def test_a_drag_near_the_star_lands_on_it_and_the_bar_goes_along(blank):
    blank.evaluate(
        """() => { document.body.append(Object.assign(document.createElement("i"), { id: "bar" }))
          Object.assign(data.line, { star: { value: 0.7234, x: 0.7234 }, bars: { "#bar": [1, 2, 3, 4, 5] } })
          start() }"""
    )
    x, y = middle(blank, GRIP)
    blank.mouse.move(x, y)
    blank.mouse.down()
    blank.mouse.move(50 + 400 * 0.735, y)  # 5 pixels beside it
    assert blank.locator(".flag").inner_text() == "0.723"
    assert blank.locator("#bar").evaluate("e => e.style.width") == "4%"
    blank.mouse.move(50 + 400 * 0.76, y)
    assert blank.locator(".flag").inner_text() == "0.760"
    blank.keyboard.press("Escape")
    assert blank.locator("#bar").evaluate("e => e.style.width") == ""
    blank.mouse.up()
    x, y = middle(blank, GRIP)
    blank.mouse.move(x, y)
    blank.mouse.down()
    blank.mouse.move(50 + 400 * 0.72, y)
    blank.mouse.up()
    assert reports(blank) == [{"p.one": 0.7234, "p.two": 0.8}]  # to the last digit


def test_the_grip_keeps_its_distance_from_the_pointer(blank):
    """Taking the line by its edge must not make it jump."""
    x, y = middle(blank, GRIP)
    blank.mouse.move(x + 10, y)
    blank.mouse.down()
    blank.mouse.move(x + 11, y)
    assert middle(blank, GRIP)[0] == pytest.approx(x + 1, abs=0.5)
    blank.mouse.up()


def test_beyond_the_edges_the_ends_hold(blank):
    x, y = middle(blank, GRIP)
    blank.mouse.move(x, y)
    blank.mouse.down()
    blank.mouse.move(5, y)
    assert text(blank) == "a"
    blank.mouse.move(1200, y)
    assert text(blank) == "e"
    blank.mouse.up()
    assert reports(blank) == [{"p.one": 1, "p.two": 0.8}]


def test_escape_and_a_cancelled_pointer_give_a_drag_up(blank):
    for give_up in (
        lambda: blank.keyboard.press("Escape"),
        lambda: blank.evaluate(
            "document.querySelector('.grip').dispatchEvent(new PointerEvent('pointercancel', { bubbles: true }))"
        ),
    ):
        x, y = middle(blank, GRIP)
        blank.mouse.move(x, y)
        blank.mouse.down()
        blank.mouse.move(x + 100, y)
        assert text(blank) != "as drawn by Python"
        give_up()
        assert text(blank) == "as drawn by Python"
        assert middle(blank, GRIP)[0] == pytest.approx(250, abs=1)
        blank.mouse.up()
    assert reports(blank) == []


def test_a_drag_back_to_where_it_began_sends_nothing(blank):
    x, y = middle(blank, GRIP)
    blank.mouse.move(x, y)
    blank.mouse.down()
    blank.mouse.move(x + 90, y)
    blank.mouse.move(x, y)
    blank.mouse.up()
    assert reports(blank) == []
    assert text(blank) == "as drawn by Python"


def test_a_finger_drags_the_line(browser):
    context = browser.new_context(viewport={"width": 500, "height": 800}, has_touch=True)
    page = start(context.new_page())
    x, y = middle(page, GRIP)
    touch = context.new_cdp_session(page)

    def send(kind, *points):
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": a, "y": b} for a, b in points]})

    send("touchStart", (x, y))
    for step in range(1, 6):
        send("touchMove", (x + 20 * step, y + 3 * step))
    assert text(page) == "d"
    assert reports(page) == []
    send("touchEnd")
    assert reports(page) == [{"p.one": 0.75, "p.two": 0.8}]
    context.close()


def test_arrow_keys_step_to_the_next_threshold_that_changes_anything(blank):
    blank.locator(GRIP).focus()
    blank.keyboard.press("ArrowLeft")  # 0.25 and 0.5 show the same on every panel, so on to 0
    assert text(blank) == "a"
    blank.keyboard.press("ArrowRight")
    assert text(blank) == "b"
    blank.keyboard.press("End")
    assert text(blank) == "e"
    assert blank.locator(GRIP).get_attribute("aria-valuetext") == "1.000: e"
    assert reports(blank) == []
    blank.wait_for_function("window.reports.length")  # once, a moment after the last key
    assert reports(blank) == [{"p.one": 1, "p.two": 0.8}]


def test_the_native_slider_moves_the_line(blank):
    thumb = blank.locator("input >> nth=0")
    thumb.dispatch_event("pointerdown")
    thumb.evaluate("e => e.setAttribute('value', '0.75')")
    frame(blank)
    assert middle(blank, GRIP)[0] == pytest.approx(50 + 400 * 0.75, abs=1)
    assert text(blank) == "d"
    assert reports(blank) == []  # the slider reports by itself


def test_the_keyboard_on_the_native_slider_steps_as_on_the_line(blank):
    blank.locator("input >> nth=0").focus()
    blank.keyboard.press("ArrowRight")
    assert text(blank) == "d"
    blank.wait_for_function("window.reports.length")
    assert reports(blank) == [{"p.one": 0.75, "p.two": 0.8}]


def test_there_is_exactly_one_overlay_whatever_happens_to_the_page(blank):
    overlays = blank.locator(".hybrid-threshold-overlay")
    for _ in range(3):
        blank.evaluate("start()")
    assert overlays.count() == 1
    # the chart is drawn anew, as after a change of theme
    blank.evaluate(
        """() => { const old = document.querySelector(".js-plotly-plot"), fresh = old.cloneNode(false)
          fresh._fullLayout = old._fullLayout; old.replaceWith(fresh) }"""
    )
    frame(blank)
    assert overlays.count() == 1
    # the chart changes its size
    blank.evaluate(
        """() => { const chart = document.querySelector(".js-plotly-plot")
          chart._fullLayout.xaxis._length = 200; chart.style.width = "300px" }"""
    )
    frame(blank)
    assert overlays.count() == 1
    assert middle(blank, GRIP)[0] == pytest.approx(50 + 200 * 0.5, abs=1)
    # an overlay of another copy of the script, as a reload of the module leaves it
    blank.evaluate(
        """() => { const stray = document.createElement("div"); stray.className = "hybrid-threshold-overlay"
          document.querySelector(".js-plotly-plot").append(stray) }"""
    )
    frame(blank)
    assert overlays.count() == 1
    blank.evaluate("module.detach()")
    assert overlays.count() == 0
    assert blank.errors == []


def test_what_python_sends_during_a_drag_does_not_end_it(blank):
    x, y = middle(blank, GRIP)
    blank.mouse.move(x, y)
    blank.mouse.down()
    blank.mouse.move(x + 100, y)
    blank.evaluate("start()")
    blank.mouse.move(x + 200, y)
    assert text(blank) == "e"
    blank.mouse.up()
    assert reports(blank) == [{"p.one": 1, "p.two": 0.8}]


def test_a_switched_off_threshold_has_no_line(blank):
    blank.evaluate("() => { window.data.values['p.one'] = null; start() }")
    assert not blank.locator(GRIP).is_visible()


def test_a_page_without_the_chart_or_the_slider_is_no_error(page):
    errors = []
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.set_content("<p id='accuracy'>as drawn by Python</p>")
    page.evaluate(
        "async url => (await import(url)).attach({ values: {}, targets: {}, line: { chart: 'curves' } }, () => 0)", URL
    )
    frame(page)
    assert errors == []
    assert page.locator(".hybrid-threshold-overlay").count() == 0


def test_the_point_on_the_map_moves_both_thresholds(page):
    start(page, with_map=True)
    assert page.locator(".hybrid-threshold-overlay").count() == 2
    top = page.locator(".js-plotly-plot >> nth=1").bounding_box()["y"]
    x, y = middle(page, POINT)
    assert (x, y - top) == pytest.approx((250, 20 + 300 * 0.2), abs=1)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(50 + 400 * 0.76, top + 20 + 300 * 0.58)
    assert text(page) == "m8"  # second axis at 0.4: row 1 of 5 columns; first at 0.75: column 3
    assert middle(page, GRIP)[0] == pytest.approx(50 + 400 * 0.75, abs=1)  # the line goes along
    assert page.locator("[data-testid=stSliderThumbValue] >> nth=1").inner_text() == "0.400"
    page.mouse.up()
    assert reports(page) == [{"p.one": 0.75, "p.two": 0.4}]
    page.evaluate("window.reports = []")
    page.locator(POINT).focus()
    page.keyboard.press("ArrowUp")
    assert text(page) == "m13"
    page.wait_for_function("window.reports.length")
    assert reports(page) == [{"p.one": 0.75, "p.two": 0.8}]


@pytest.mark.parametrize("falling", [False, True])
def test_looking_up_places(page, falling):
    page.set_content("<p></p>")
    values = [0.0, 0.25, 0.25, 0.5, 1.0]
    monotone = values[::-1] if falling else values
    for target in (-1, 0, 0.1, 0.3, 0.37, 0.38, 0.9, 2):
        i = page.evaluate("async ([u, a, v]) => (await import(u)).nearest(a, v)", [URL, monotone, target])
        assert abs(monotone[i] - target) == min(abs(v - target) for v in values)
        if not falling:
            i = page.evaluate("async ([u, a, v]) => (await import(u)).firstAtOrAbove(a, v)", [URL, values, target])
            assert i == next((j for j, v in enumerate(values) if v >= target), len(values) - 1)
