"""The HTML report in a real browser: text of models and servers is only text there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.report_helpers import run_of_models
from workshop_lib import report

EVIL = "<script>document.pwned=1</script><img src=x onerror='document.pwned=1'>\u202e\x1b[31m"


@pytest.mark.slow
def test_hostile_names_answers_and_errors_do_not_execute(page: Page, tmp_path: Path):
    """A model, an answer and an error that hold markup are shown, and nothing of them runs."""
    run = run_of_models(2, failed=1, rounds=2, answer=EVIL)
    servings = tuple(
        replace(each, variant=replace(each.variant, alias=EVIL, licence=EVIL), error=each.error and EVIL)
        for each in run.servings
    )
    completions = tuple(replace(each, alias=EVIL) for each in run.completions)
    report.write_report(replace(run, servings=servings, completions=completions), tmp_path)
    page.goto((tmp_path / "benchmark_report.html").as_uri())
    assert "document.pwned" in page.locator("body").inner_text()
    page.wait_for_timeout(200)
    assert page.evaluate("document.pwned") is None
    assert page.locator("body script, img[src=x]").count() == 0
