"""The Support page in a real browser: paste, edit the table in place, look, download, and run what was downloaded."""

import json

import pytest
from driving import open_project, settle, skip_without_chromium, tile

import hybrid

skip_without_chromium()
pytestmark = pytest.mark.browser

EVIL = 'Refund $49.99 <img src=x onerror="document.title=1"> <b>now</b>'


def test_from_pasted_tickets_to_a_running_pipeline(app, page, project, tmp_path):
    open_project(page, app, project, "Support")
    box = page.get_by_role("textbox", name="Tickets, one per line")
    box.fill(f"{EVIL}\nMy package tracking number XY123 shows no updates\nCharged 700 EUR twice on 2025-01-15")
    page.get_by_role("button", name="Analyse them").click()
    settle(page)
    assert tile(page, "Tickets") == "3"
    ticket = page.locator(".ticket").first
    assert ticket.locator("mark").all_inner_texts() == ["$49.99amount"]
    assert "<img src=x onerror" in ticket.inner_text()  # shown, not made
    assert ticket.locator("img, b").count() == 0
    assert page.title() != "1"

    page.get_by_role("tab", name="Actions").click()
    page.wait_for_timeout(500)
    table = page.get_by_test_id("stDataFrame").first
    table.scroll_into_view_if_needed()
    box = table.bounding_box()
    row = box["height"] / 10  # a head, eight rows, and one to add to
    page.mouse.dblclick(box["x"] + box["width"] * 0.68, box["y"] + row * 3.5)  # the action of the third row
    page.locator(".gdg-input:focus").wait_for()  # the cell's own box
    page.keyboard.press("Control+a")
    page.keyboard.type("pay_it_back", delay=30)  # as fast as a person
    page.keyboard.press("Enter")
    settle(page)
    page.get_by_test_id("stMetricValue").filter(has_text="pay_it_back").wait_for()
    page.get_by_label("Where no row fits").fill("ask_a_lead")
    page.get_by_label("Where no row fits").press("Enter")
    settle(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Results as JSON lines").click()
    rows = [json.loads(line) for line in download.value.path().read_text(encoding="utf-8").splitlines()]
    assert [r["action"] for r in rows[1:]] == ["create_tracking_inquiry", "route_to_agent"]
    assert rows[2]["rule"] == "row 2: category is billing and amount >= 500"

    with page.expect_download() as download:
        page.get_by_role("button", name="The pipeline in its bundle").click()
    path = tmp_path / "support.zip"
    download.value.save_as(path)
    silent = hybrid.Answer(None, confidence=0.0)  # as on the page: what was recorded says nothing of new texts
    flow = hybrid.SupportPipeline.load(path, models={"llm": lambda texts: [silent] * len(texts)})
    assert flow.config.actions.default == "ask_a_lead"
    for row in rows:
        again = flow(row["text"])
        assert (again.category, again.action, again.rule) == (row["category"], row["action"], row["rule"])
        assert list(again.to_dict()["fields"]) == row["fields"]
