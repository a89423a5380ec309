"""Every page of the workshop in a real JupyterLab in a real Chromium, in order, as a learner's first walk goes.

One server, one model cache and one folder of runs, all empty at the start: page 03 finds what 02 has measured. What
is shown is looked at here, so settings are quick ones; with the pages' own settings nbval runs them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import nbformat
import pytest
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from playwright.sync_api import ConsoleMessage, Page, expect

from tests.browser.lab import Lab
from workshop_lib import places
from workshop_lib.programs import notebooks

pytestmark = pytest.mark.slow
PAGES = sorted(path.name for path in places.NOTEBOOKS.glob("*.ipynb"))
LONGEST_S = 180
"""For one page on a busy machine; on an idle one the longest takes a sixth of it."""
QUICK: dict[str, notebooks.Value] = {
    "prompt_set": "course", "max_tokens": 24, "users": "1,2", "prompt_lengths": "64,96,128", "judge_seconds": 2.0,
    "repeats": 1,
}  # fmt: skip
WAITING = "Loading widget"
BROKEN = ("Error displaying widget", "Error creating widget", "widget missing", "Javascript Error", WAITING)

RUN_ALL = """async limit => {
    const late = new Promise((_, fail) => setTimeout(() => fail(new Error(`not done in ${limit} s`)), limit * 1000));
    await Promise.race([window.jupyterapp.commands.execute('notebook:run-all-cells'), late]);
}"""
CELLS = """() => [...window.jupyterapp.shell.currentWidget.content.model.cells]
    .filter(cell => cell.type === 'code')
    .map(cell => [cell.id, cell.executionCount, cell.outputs.toJSON().some(each => each.output_type === 'error')])"""
WIDGETS = """() => [...window.jupyterapp.shell.currentWidget.content.model.cells]
    .filter(cell => cell.type === 'code').flatMap(cell => cell.outputs.toJSON())
    .filter(each => each.data?.['application/vnd.jupyter.widget-view+json']).length"""
DRAWN = """outputs => outputs
    .filter(each => each.classList.contains('lm-Panel') && each.firstElementChild && each.offsetHeight > 1).length"""
# JupyterLab itself writes the alt text "Image" where there is none.
PICTURES = """outputs => outputs.flatMap(output => [...output.querySelectorAll('img')])
    .filter(image => ['', 'Image'].includes(image.alt.trim()) || !image.naturalWidth)
    .map(image => image.outerHTML.slice(0, 80))"""
HIDDEN = """outputs => outputs.flatMap(output => [output, ...output.querySelectorAll('*')])
    .filter(each => each.clientWidth > 1 && each.scrollWidth > each.clientWidth + 1 && each.innerText?.trim()
        && ['hidden', 'clip'].includes(getComputedStyle(each).overflowX))
    .map(each => each.innerText.slice(0, 60))"""


@pytest.fixture(scope="module")
def whole_pages(lab: Lab) -> Iterator[None]:
    """JupyterLab draws every cell, also those that are not in sight, so that they can be looked at."""
    lab.set("notebook-extension", "tracker", {"windowingMode": "none"})
    yield
    lab.set("notebook-extension", "tracker", {})


@pytest.fixture
def complaints(page: Page) -> list[str]:
    """What the browser's console reports as an error, and exceptions that no script caught."""
    found: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type == "error":
            found.append(f"{message.text} ({message.location.get('url')})")

    page.on("console", hear)
    page.on("pageerror", lambda error: found.append(str(error)))
    return found


def page_with(settings: Mapping[str, notebooks.Value], name: str, lab: Lab) -> None:
    """Put a page into the lab's folder, with those of the settings that it has."""
    known = notebooks.read_parameters(places.NOTEBOOKS / name)
    given = {key: value for key, value in settings.items() if key in known}
    notebook = parameterize_notebook(load_notebook_node(str(places.NOTEBOOKS / name)), given, language="python")
    nbformat.write(notebook, lab.folder / name)


def walk_through(lab: Lab, page: Page, name: str) -> None:
    """Open a page and run all its cells; returns when the last one has ended."""
    lab.open(page, name)
    page.evaluate(RUN_ALL, LONGEST_S)


def faults(page: Page) -> list[str]:
    """What a learner would see that is wrong on an executed page."""
    outputs = page.locator(".jp-Notebook .jp-OutputArea-output")
    shown = "\n".join(outputs.all_inner_texts())
    cells = page.evaluate(CELLS)
    return [
        *(f"cell {cell} was not executed" for number, (cell, count, _) in enumerate(cells, 1) if count != number),
        *(f"cell {cell} failed" for cell, _, failed in cells if failed),
        *(f"the page says: {words}" for words in BROKEN if words in shown),
        *(["a widget is missing"] if page.evaluate(WIDGETS) != outputs.evaluate_all(DRAWN) else []),
        *(f"a picture is not there, or has no alt text: {each}" for each in outputs.evaluate_all(PICTURES)),
        *(f"text is cut off: {each}" for each in outputs.evaluate_all(HIDDEN)),
    ]


@pytest.mark.usefixtures("whole_pages")
@pytest.mark.parametrize("name", PAGES)
def test_a_page_runs_and_shows_everything(lab: Lab, page: Page, complaints: list[str], name: str):
    """Run All executes every cell without an error; widgets and pictures are there, and no text is cut off."""
    page_with(QUICK, name, lab)
    walk_through(lab, page, name)
    expect(page.get_by_text(WAITING)).to_have_count(0)
    assert faults(page) == []
    assert complaints == []
    lab.shut_down_kernels()


FAULTY = (
    "import ipywidgets\nipywidgets.IntSlider()",
    "from IPython.display import HTML, display",
    "HTML('<img src=\"data:,\"><div style=\"overflow: hidden\">' + 'x' * 999)",
    "display({'application/vnd.jupyter.widget-view+json': {'model_id': 'gone', 'version_major': 2}}, raw=True)",
    "HTML('<script>console.error(1)</script>')",
    "1 / 0",
    "2",
)


@pytest.mark.usefixtures("whole_pages")
def test_the_walk_notices_what_is_wrong(lab: Lab, page: Page, complaints: list[str]):
    """A failing cell, those after it, a lost widget, a picture without alt text and cut text are all named."""
    walk_through(lab, page, lab.write_notebook("faulty.ipynb", *FAULTY))
    page.get_by_text("division by zero").first.wait_for()
    *_, failing, last = [cell for cell, _, _ in page.evaluate(CELLS)]
    assert faults(page) == [
        f"cell {last} was not executed",
        f"cell {failing} failed",
        f"the page says: {WAITING}",
        "a widget is missing",
        'a picture is not there, or has no alt text: <img src="data:," alt="Image">',
        f"text is cut off: {'x' * 60}",
    ]
    assert complaints == ["1 ()"]
    lab.shut_down_kernels()
