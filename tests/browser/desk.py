"""A person at the annotation widget: what they press and read, and what is on the disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from tests.browser.lab import Lab, cells_of
from workshop_lib.quality.scores import Score, ScoreFile, current

CELL = """\
from pathlib import Path
from workshop_lib import storage
from workshop_lib.quality import annotation, show
from workshop_lib.quality.annotation import AnnotationWidget
session = annotation.Session(storage.read_run(Path("records.jsonl")), Path("annotations"), **{options!r})
widget = AnnotationWidget(session)
widget"""
ANSWER_MS = 20_000
"""Longer than a busy machine takes from a key to the disk and back."""


class Desk:
    """An open notebook with the widget in its first cell."""

    def __init__(self, lab: Lab, page: Page, folder: Path, options: Mapping[str, object]) -> None:
        self.lab = lab
        self.page = page
        self.folder = folder
        self.name = f"{folder.name}/page.ipynb"
        lab.write_notebook(self.name, CELL.format(options={"rater": "ada", **options}), "1 + 1")
        self.open()
        self.start()

    def open(self) -> None:
        """Open the notebook in this window."""
        self.lab.open(self.page, self.name)

    def start(self) -> None:
        """Run all cells and wait for the widget."""
        self.lab.run_all(self.page)
        expect(self.page.locator(".jp-OutputArea-output").last).to_have_text("2", timeout=ANSWER_MS)
        self.widget = self.page.locator(".ws-annotation")
        expect(self.widget).to_have_count(1)

    def start_again(self) -> None:
        """After a crash of the kernel or the window: open the page anew, on a new kernel, and run all cells."""
        self.lab.restart_kernels()
        self.open()
        self.start()

    # -- pressing

    def focus_by_tab(self) -> None:
        """Reach the widget from its cell by the Tab key, as a person without a mouse does."""
        self.page.evaluate("window.jupyterapp.shell.currentWidget.content.activeCellIndex = 0")
        self.page.evaluate("window.jupyterapp.shell.currentWidget.content.activate()")
        for _ in range(6):
            self.page.keyboard.press("Tab")
            if self.widget.evaluate("root => root === document.activeElement"):
                return
        raise AssertionError("Tab did not lead to the widget")

    def press(self, key: str) -> None:
        """Press a key and wait until the page has Python's answer to it."""
        before = self.turn
        self.page.keyboard.press(key)
        self.page.wait_for_function("turn => window.wsTurn() > turn", arg=before, timeout=ANSWER_MS)

    @property
    def turn(self) -> int:
        """How many answers of Python the page has drawn."""
        return int(
            self.page.evaluate(
                "() => { window.wsTurn = () => Number(document.querySelector('.ws-annotation').dataset.turn);"
                " return window.wsTurn(); }"
            )
        )

    # -- reading

    def part(self, name: str) -> Locator:
        """A part of the widget by its class."""
        return self.widget.locator(f".ws-{name}")

    @property
    def count(self) -> str:
        """The progress as it is written."""
        return self.part("count").inner_text()

    @property
    def answer(self) -> str:
        """The text of the answer that is shown."""
        return self.part("text").first.evaluate("each => each.textContent")

    def cells(self) -> list[list[str]]:
        """Type and source of the notebook's cells."""
        return cells_of(self.page)

    # -- the disk

    def verdicts(self, rater: str = "ada") -> list[Score]:
        """The rater's current verdicts, from the file."""
        return list(current(ScoreFile(self.folder / "annotations", rater).lines().values()).values())

    def lines(self, rater: str = "ada") -> list[dict[str, object]]:
        """All lines of the rater's file."""
        path = self.folder / "annotations" / f"{rater}.jsonl"
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
