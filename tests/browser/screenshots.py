"""Take the pictures of the widgets for the README: python -m tests.browser.screenshots.

Those of the annotation show real prompts with their reference answers and with worse ones, that of the race a real race
of the shipped models; both in both themes of JupyterLab.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from tests.annotation_helpers import run_with, write_run
from tests.browser.desk import Desk
from tests.browser.lab import CHROMIUM, Lab
from tests.browser.track import PRACTICE, Track
from workshop_lib import data, places
from workshop_lib.records import Run

IMAGES = places.PROJECT / "docs" / "images"
COLOURS = 96
"""Enough for letters and one accent; the file is half as large."""
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
WORSE = {
    "practice-medium": "1. It works on every computer.\n2. It needs no special drivers.",
    "practice-small": "A small model is faster because the largest models are available at once.",
}


def realistic() -> Run:
    """The course's prompts; the large model gives the reference answers, the others what small models say."""
    prompts = data.read_prompts()
    return run_with({each.id: {"practice-large": each.reference or "", **WORSE} for each in prompts}, prompts)


def window(lab: Lab, browser: Browser, theme: str, scale: float = 1.0) -> Page:
    """Open a window of JupyterLab in one theme, without motion."""
    lab.set("apputils-extension", "themes", {"theme": THEMES[theme]})
    return browser.new_page(
        viewport={"width": int(1160 / scale), "height": int(860 / scale)},
        device_scale_factor=2 * scale,
        reduced_motion="reduce",
    )


def take(lab: Lab, browser: Browser, theme: str, mode: str, *, scale: float = 1.0) -> tuple[Desk, Page]:
    """Open the widget in one theme with some answers judged."""
    page = window(lab, browser, theme, scale)
    folder = lab.folder / f"{theme}-{mode}-{scale}"
    folder.mkdir()
    write_run(realistic(), folder / "records.jsonl")
    desk = Desk(lab, page, folder, {"mode": mode})
    desk.widget.focus()
    for key in "43524" if mode == "rubric" else "abtb":
        desk.press(key)
    return desk, page


def take_race(lab: Lab, browser: Browser, theme: str) -> None:
    """Store a picture of a race at its end."""
    page = window(lab, browser, theme, 0.75)
    folder = lab.folder / f"{theme}-race"
    folder.mkdir()
    track = Track(lab, page, folder, PRACTICE)
    track.start()
    track.is_over()
    path = IMAGES / f"race-{theme}.png"
    track.widget.screenshot(path=path, scale="device")
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE).save(path, optimize=True)
    page.close()


def shoot(desk: Desk, name: str) -> None:
    """Store a picture of the widget alone."""
    desk.widget.screenshot(path=IMAGES / f"{name}.png", scale="device")


def main() -> None:
    """Take all pictures."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        lab = Lab(Path(folder))
        try:
            for theme in THEMES:
                desk, page = take(lab, browser, theme, "rubric")
                shoot(desk, f"annotation-{theme}")
                page.close()
                take_race(lab, browser, theme)
            desk, page = take(lab, browser, "light", "pairwise")
            shoot(desk, "annotation-pairs-light")
            page.close()
        finally:
            lab.close()


if __name__ == "__main__":
    main()
