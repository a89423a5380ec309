"""The entry of docs/TROUBLESHOOTING.md that only a browser shows: a widget that does not appear."""

from __future__ import annotations

import json
import re

from playwright.sync_api import Page
from playwright.sync_api import expect as page_shows

from tests.browser.lab import READY_MS, Lab
from tests.troubleshooting import expect

CELL = "import ipywidgets\nipywidgets.IntProgress(value=3)"


def test_a_widget_without_its_kernel_or_its_extension_is_words(lab: Lab, page: Page) -> None:
    """Reopened after its kernel ended it is one sentence; without the extension it is its name and values."""
    name = lab.write_notebook("widget.ipynb", CELL, "1 + 1")
    lab.open(page, name)
    run_all(page)
    page_shows(page.locator(".progress")).to_have_count(1)
    lab.save(page)
    lab.restart_kernels()
    lab.open(page, name)
    reopened = output_of(page)
    settings = lab.folder.parent / "config_dir" / "labconfig" / "page_config.json"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(
        json.dumps({"disabledExtensions": {"@jupyter-widgets/jupyterlab-manager": True}}), encoding="utf-8"
    )
    try:
        lab.open(page, name)
        run_all(page)
        without_extension = output_of(page)
    finally:
        settings.unlink()
        lab.shut_down_kernels()
    expect("widget-not-shown", reopened, without_extension)


def run_all(page: Page) -> None:
    """Run every cell and wait for the last one."""
    page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    page_shows(page.locator(".jp-OutputArea-output").last).to_have_text("2", timeout=READY_MS)


def output_of(page: Page) -> str:
    """What stands below the first cell, once anything does."""
    first = page.locator(".jp-OutputArea-output").first
    page_shows(first).not_to_have_text(re.compile(r"^(Loading widget\.\.\.)?$"), timeout=READY_MS)
    return first.inner_text()
