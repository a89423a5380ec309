"""The sliders of the choice in a real JupyterLab in a real Chromium: keys move them and nothing else."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.lab import Lab, cells_of

pytestmark = pytest.mark.slow
CELL = """\
from pathlib import Path
from tests.choice_helpers import decided, made_run
from workshop_lib.choice.show import ChoiceWidget
ChoiceWidget(decided(), made_run(), Path("kept"))"""
ANSWER_MS = 20_000


def test_keys_move_a_slider_and_leave_the_notebook_alone(lab: Lab, page: Page) -> None:
    """The arrow keys change the order and no cell; Tab leads on to the next control; the button keeps the choice."""
    complaints: list[str] = []
    name = lab.write_notebook("choice.ipynb", CELL, "1 + 1")
    lab.open(page, name)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    said = page.locator(".ws-choice [role=status]").first
    expect(said).to_contain_text("quick · int4 · cpu comes first", timeout=ANSWER_MS)
    handle = page.locator(".ws-choice [role=slider]").first
    page.locator(".ws-choice").wait_for()
    handle.focus()
    for _ in range(25):
        page.keyboard.press("ArrowUp")
    expect(said).to_contain_text("careful · int4 · cpu comes first", timeout=ANSWER_MS)
    for key in ("x", "m", "d", "d", "ArrowLeft"):
        page.keyboard.press(key)
    assert handle.evaluate("element => element === document.activeElement")
    assert handle.get_attribute("aria-label") == "quality"
    assert cells_of(page) == [["code", CELL], ["code", "1 + 1"]]
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('.ws-choice') !== null")
    assert not handle.evaluate("element => element === document.activeElement")
    page.get_by_role("button", name="Write down this choice").click()
    expect(page.locator(".ws-choice [role=status]").last).to_contain_text("decision.md", timeout=ANSWER_MS)
    assert (lab.folder / "kept" / "decision.md").read_text("utf-8").startswith("# Decision: careful")
    assert complaints == []
