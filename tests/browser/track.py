"""A person who watches a race: the notebook with the widget, what it shows, and servers of known timing to race."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from tests.browser.lab import Lab

SCHEDULES = """\
from workshop_lib import race
from workshop_lib.runtimes.endpoint import EndpointRuntime
from workshop_lib.records import ModelVariant, Prompt
runtime = EndpointRuntime({url!r})
starters = race.Pick(tuple(ModelVariant(name, name, "cpu") for name in {models!r}), "Two schedules race.")
contest = race.watch(runtime, starters, Prompt("p", "Say it."), **{options!r})"""
"""A race between behaviours of a reference server."""

RACE_MS = 30_000


class Track:
    """An open notebook with a race in its first cell."""

    def __init__(self, lab: Lab, page: Page, folder: Path, cell: str) -> None:
        self.lab = lab
        self.page = page
        self.complaints: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda message: message.type == "error" and self.complaints.append(message.text))
        self.name = f"{folder.name}/page.ipynb"
        lab.write_notebook(self.name, cell)
        lab.open(page, self.name)
        self.complaints.clear()  # what JupyterLab itself says while it loads is not ours
        self.widget = page.locator(".ws-race")
        self.in_words = page.locator(".ws-race-in-words")

    def start(self) -> None:
        """Run the cell; the race starts by itself."""
        self.page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")

    def is_over(self) -> None:
        """Wait for the end of the race and of its replay."""
        expect(self.page.locator(".ws-race[data-stage=over][data-playing='']")).to_have_count(1, timeout=RACE_MS)

    def part(self, name: str) -> Locator:
        """A part of the widget by its class."""
        return self.widget.locator(f".wr-{name}")

    def texts(self) -> list[str]:
        """What each lane shows of its answer."""
        return self.part("text").evaluate_all("all => all.map(each => each.textContent)")

    def figures(self) -> list[dict[str, str]]:
        """The figures under each lane, by their labels."""
        return self.widget.locator("dl").evaluate_all(
            "all => all.map(list => Object.fromEntries([...list.children].map(each => "
            "[each.querySelector('dt').textContent, each.querySelector('dd').textContent])))"
        )

    def first_token_ms(self) -> list[float]:
        """The first token of each lane in milliseconds."""
        return [_milliseconds(each["First token"]) for each in self.figures()]


def _milliseconds(text: str) -> float:
    found = re.fullmatch(r"([\d.]+) (ms|s)", text)
    assert found, text
    return float(found[1]) * (1000 if found[2] == "s" else 1)
