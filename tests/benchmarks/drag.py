"""Measure the drag in a real browser: frame times and move-to-paint, beside the slider's release-to-paint.

Run ``python tests/benchmarks/drag.py [--rows 100000] [--drags 5]`` from the repository's root. It opens the sample, and
a predictions-only file of that many rows, and prints milliseconds: median and 95th percentile. The same page without
the script is measured too, for what the page's own frames take on this machine.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))
from driving import BREAK_THE_LINE, CHROMIUM, HOW, go, serving, settle

GRIP = ".hybrid-threshold-overlay .grip"
# every frame's time; for every pointer move the time from the event to the first frame after the line has moved
WATCH = """() => {
  const seen = window.seen = { frames: [], paint: [] }
  let last = performance.now()
  const frame = now => { seen.frames.push(now - last); last = now; seen.timer = requestAnimationFrame(frame) }
  seen.timer = requestAnimationFrame(frame)
  document.addEventListener("pointermove", event => {
    const start = event.timeStamp
    requestAnimationFrame(() => { const c = new MessageChannel()
      c.port1.onmessage = () => seen.paint.push(performance.now() - start)
      c.port2.postMessage(0) })
  }, true)
}"""
STOP = "() => { cancelAnimationFrame(window.seen.timer); return window.seen }"
# from letting go of the native slider until the page says other numbers
RELEASE = """() => {
  const number = () => document.querySelector(".st-key-tile_escalation [data-testid=stMetricValue]").innerText
  const before = number()
  window.released = new Promise((done, fail) => document.addEventListener("pointerup", () => {
    const start = performance.now()
    setTimeout(() => fail(new Error("the numbers stayed as they were")), 20_000)
    const look = () => requestAnimationFrame(() => number() === before ? look() : done(performance.now() - start))
    look()
  }, { once: true, capture: true }))
  window.released.catch(() => 0)
}"""


def drag(page, by, steps):
    """Move the pointer evenly, a step a frame; returns frame times and move-to-paint."""
    page.mouse.down()
    page.evaluate(WATCH)
    x, y = page.spot
    for i in range(1, steps + 1):
        page.mouse.move(x + by * i / steps, y)
    seen = page.evaluate(STOP)
    page.spot = (x + by, y)
    page.mouse.up()
    settle(page)
    return seen["frames"][2:], seen["paint"]


def measure(page, n_drags):
    """Drag the line back and forth; returns frame times and move-to-paint."""
    frames, paint = [], []
    for i in range(n_drags):
        box = page.locator(GRIP).bounding_box()
        page.spot = (box["x"] + box["width"] / 2, box["y"] + 150)
        page.mouse.move(*page.spot)
        f, p = drag(page, (-1) ** (i + 1) * 200, 120)
        frames += f
        paint += p
    return frames, paint


def without(page, n_drags):
    """Move the pointer over the same page with no line on it: what its frames take anyway."""
    frames, paint = [], []
    box = page.locator(".st-key-curves .js-plotly-plot").bounding_box()
    for i in range(n_drags):
        page.spot = (box["x"] + 300 + 200 * (i % 2), box["y"] - 8)
        page.mouse.move(*page.spot)
        f, p = drag(page, (-1) ** i * 200, 120)
        frames += f
        paint += p
    return frames, paint


def releases(page, n):
    """Move the native slider without the script and let go; returns release-to-paint."""
    found = []
    page.locator("[data-testid=stSlider]").first.scroll_into_view_if_needed()
    for i in range(n):
        box = page.locator("[data-testid=stSlider] [style*=left]").first.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + (-1) ** (i + 1) * 90, y, steps=5)
        page.evaluate(RELEASE)
        page.mouse.up()
        found.append(page.evaluate("() => window.released"))
        settle(page)
    return found


def open_sample(page, url):
    """Open the Data page and load the sample."""
    page.goto(url)
    settle(page)
    page.get_by_role("button", name="Use the sample data").click()
    page.locator(".st-key-policy_bar").wait_for(timeout=120_000)
    settle(page)


def predictions_only(n_rows, folder):
    """Write a file of recorded answers of two models."""
    rng = np.random.default_rng(0)
    classes = np.array(["billing", "shipping", "returns", "technical"])
    truth = rng.integers(0, 4, n_rows)
    table = {"id": np.arange(n_rows), "label": classes[truth]}
    for name, skill, cost in (("small", 0.8, 0.0), ("large", 0.93, 0.003)):
        sure = rng.beta(8 * skill, 8 * (1 - skill), n_rows).round(6)
        right = rng.random(n_rows) < sure
        table[f"{name}_label"] = classes[np.where(right, truth, (truth + rng.integers(1, 4, n_rows)) % 4)]
        table[f"{name}_confidence"] = sure
        table[f"{name}_cost"] = cost
    path = folder / "predictions.csv"
    pd.DataFrame(table).to_csv(path, index=False)
    return path


def said(numbers):
    return f"{np.median(numbers):7.1f} {np.quantile(numbers, 0.95):7.1f}  (n = {len(numbers)})"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--drags", type=int, default=5)
    given = parser.parse_args()
    if CHROMIUM is None:
        sys.exit(f"no Chromium: {HOW}")
    from playwright.sync_api import sync_playwright

    with serving() as url, sync_playwright() as p, tempfile.TemporaryDirectory() as folder:
        chromium = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        print(f"{'milliseconds':44} {'median':>7} {'p95':>7}")
        for name in ("sample", f"{given.rows:,} rows"):
            for script in (True, False):
                page = chromium.new_page(viewport={"width": 1280, "height": 900})
                if not script:
                    page.add_init_script(BREAK_THE_LINE)
                if name == "sample":
                    open_sample(page, url)
                else:
                    page.goto(url)
                    settle(page)
                    path = predictions_only(given.rows, Path(folder))
                    page.get_by_test_id("stFileUploaderDropzoneInput").first.set_input_files(path)
                    page.get_by_role("button", name="Load and fit").click(timeout=120_000)
                    page.get_by_role("heading", name=path.name).wait_for(timeout=120_000)
                go(page, "Tune")
                page.locator(".st-key-curves .js-plotly-plot").wait_for(timeout=120_000)
                settle(page)
                if script:
                    page.locator(GRIP).wait_for()
                    frames, paint = measure(page, given.drags)
                    print(f"{name + ': dragging the line, frame':44} {said(frames)}")
                    print(f"{name + ': dragging the line, move to paint':44} {said(paint)}")
                else:
                    frames, paint = without(page, given.drags)
                    print(f"{name + ': page without the line, frame':44} {said(frames)}")
                    print(f"{name + ': page without the line, move to paint':44} {said(paint)}")
                    print(f"{name + ': plain slider, release to paint':44} {said(releases(page, given.drags))}")
                page.close()
        chromium.close()


if __name__ == "__main__":
    main()
