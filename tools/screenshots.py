"""Take the pictures of `docs/images` anew, from the reference results: `.venv/bin/python -m tools.screenshots`.

The report as a page in light and dark, on a phone and on paper; pages and a race in JupyterLab in both themes; one
figure. Needs Chromium and what `workshop.py test` installs. Whoever runs it looks at what it made.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
from nbformat.sign import NotebookNotary
from playwright import sync_api as playwright

import workshop_lib as ws
from tests.browser.lab import CHROMIUM, Lab
from tests.browser.track import Track
from workshop_lib import places
from workshop_lib.show import style

IMAGES = places.PROJECT / "docs" / "images"
PRACTICE = places.DATA / "reference" / "practice"
LAPTOP, PHONE, A4 = (1280, 900), (390, 844), (794, 1123)
REPORT = {
    "report-light": (LAPTOP, {"color_scheme": "light"}),
    "report-dark": (LAPTOP, {"color_scheme": "dark"}),
    "report-phone": (PHONE, {"color_scheme": "light"}),
    "report-print": (A4, {"media": "print"}),
}
"""Size of the window in pixels, and what the page is told of the screen."""
PAGES = {"choose": ("05_choose_model.ipynb", "ranking"), "charts": ("03_chart_results.ipynb", "latency")}
"""Page of the reference, and the id of the cell that is shown."""
RACE = """\
import workshop_lib as ws
runtime = ws.open_runtime("practice")
builds = "practice-small-int4-generic-cpu:1,practice-large-int4-generic-cpu:1"
starters = ws.race.pick(ws.find_models(runtime, builds, "cpu")[0], runtime.absent_devices())
contest = ws.race.watch(runtime, starters, ws.read_prompts("meeting-notes")[0])
runtime.close()"""


@contextmanager
def window(browser: playwright.Browser, size: tuple[int, int]) -> Iterator[playwright.Page]:
    """A window of `size` pixels in a browser that knows nothing."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, reduced_motion="reduce")
    yield context.new_page()
    context.close()


def take_report(browser: playwright.Browser) -> None:
    """The top of the report on every kind of screen."""
    for name, (size, screen) in REPORT.items():
        with window(browser, size) as page:
            page.emulate_media(**screen)  # type: ignore[arg-type]  # literals of the table
            page.goto((PRACTICE / "benchmark_report.html").as_uri())
            page.screenshot(path=IMAGES / f"{name}.png")


def take_pages(browser: playwright.Browser, apart: Path) -> None:
    """Cells of executed pages in JupyterLab, with their stored outputs; and a race that is run."""
    lab = Lab(apart)
    try:
        for theme, title in (("light", "JupyterLab Light"), ("dark", "JupyterLab Dark")):
            lab.set("apputils-extension", "themes", {"theme": title})
            for name, (file, cell) in PAGES.items():
                shutil.copy(PRACTICE / file, lab.folder)
                page_read = nbformat.read(lab.folder / file, as_version=4)  # type: ignore[no-untyped-call]
                notary: Any = NotebookNotary
                notary(data_dir=str(apart / "data_dir")).sign(page_read)  # trusted, as what was run here is
                with window(browser, LAPTOP) as page:
                    lab.open(page, file)
                    page.evaluate(SHOW_CELL, cell)
                    page.wait_for_timeout(1500)
                    page.screenshot(path=IMAGES / f"{name}-{theme}.png")
            (lab.folder / theme).mkdir()
            with window(browser, LAPTOP) as page:
                track = Track(lab, page, lab.folder / theme, RACE)
                track.start()
                track.is_over()
                track.widget.screenshot(path=IMAGES / f"race-{theme}.png")
    finally:
        lab.close()


SHOW_CELL = """async id => {
    const notebook = window.jupyterapp.shell.currentWidget.content;
    const at = notebook.widgets.findIndex(cell => cell.model.id === id);
    notebook.activeCellIndex = at;
    await notebook.scrollToItem(at, "start");
}"""


def draw() -> None:
    """The figure of the manual."""
    run = ws.read_run(PRACTICE / "records.jsonl")
    known = ws.choosing.gather_evidence(run, ws.scores.read_reference().as_scores())
    (IMAGES / "speed-against-quality.png").write_bytes(style.png(ws.choosing.speed_against_quality(known)))


def main() -> None:
    """Take all of them."""
    draw()
    with playwright.sync_playwright() as started, tempfile.TemporaryDirectory() as apart:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        take_report(browser)
        take_pages(browser, Path(apart))
        browser.close()
    print(*sorted(path.name for path in IMAGES.iterdir()), sep="\n", file=sys.stderr)


if __name__ == "__main__":
    main()
