"""One JupyterLab and one Chromium for all browser tests; a fresh window, notebook and folder for each."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator

import pytest
from playwright import sync_api as playwright

from tests.annotation_helpers import forty, write_run
from tests.browser.desk import Desk
from tests.browser.lab import CHROMIUM, Lab
from workshop_lib.records import Run

playwright.expect.set_options(timeout=20_000)
"""A busy machine takes longer than the usual 5 s."""


@pytest.fixture(scope="package")
def browser() -> Iterator[playwright.Browser]:
    if not CHROMIUM.exists():
        missing = f"There is no {CHROMIUM}: the browser tests need Debian's package chromium."
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("lab"))
    yield lab
    lab.close()


@pytest.fixture
def page(browser: playwright.Browser) -> Iterator[playwright.Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    yield context.new_page()
    context.close()


@pytest.fixture
def sit_down(
    browser: playwright.Browser, lab: Lab, page: playwright.Page, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Desk]]:
    """Open a notebook with the widget for a run; its folder is named after the test."""
    folder = lab.folder / re.sub(r"\W+", "_", request.node.name)
    folder.mkdir()

    def open_desk(run: Run | None = None, **options: object) -> Desk:
        write_run(run or forty(), folder / "records.jsonl")
        return Desk(lab, page, folder, options)

    yield open_desk
    lab.shut_down_kernels()
