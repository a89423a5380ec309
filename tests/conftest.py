"""What every test can rely on: nothing of the user's, no window, no time limit per example."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests import real_model, small_project
from workshop_lib import places

APART = tempfile.TemporaryDirectory(prefix="workshop-tests-", ignore_cleanup_errors=True)
for kept in (places.CACHE_VARIABLE, places.RUNS_VARIABLE, "IPYTHONDIR"):
    os.environ[kept] = places.environment_apart(Path(APART.name))[kept]
os.environ["MPLBACKEND"] = "Agg"
os.environ[real_model.NO_INDEX] = "1"
settings.register_profile("workshop", deadline=None, max_examples=30)  # shared machines are slow at times
settings.load_profile("workshop")


WHOLE = ("browser", "test_pages.py", "test_notebooks.py")
"""Tests that run whole pages, mostly in kernels; see the marker `whole`."""
LONGEST_FIRST = (
    "test_every_notebook.py", "test_pages.py", "test_annotation_page.py", "test_llama_cpp.py", "browser",
    "test_fleet_measuring.py", "test_notebooks.py", "test_commands.py", "test_bootstrap.py", "test_troubleshooting.py",
    "test_fleet_cluster.py", "test_fleet_commands.py", "test_face.py", "test_consoles_and_disks.py",
    "test_benchmark.py", "test_report.py", "test_huggingface_sample.py", "test_local.py", "test_foundry.py",
)  # fmt: skip
"""Files that take long are begun first, so that all processors end together."""
COUNTS_LINES = "COVERAGE_PROCESS_CONFIG"
"""The variable by which coverage reaches the processes that a test starts."""


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """No lines are counted in the kernels of whole pages: it would make them slow."""
    kept = os.environ.pop(COUNTS_LINES, None) if item.get_closest_marker("whole") else None
    yield
    if kept is not None:
        os.environ[COUNTS_LINES] = kept


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that run whole pages, and begin with the longest."""
    for item in items:
        if {*WHOLE} & {*item.path.parts}:
            item.add_marker(pytest.mark.whole)
    items.sort(
        key=lambda item: min(
            (LONGEST_FIRST.index(part) for part in item.path.parts[::-1] if part in LONGEST_FIRST), default=99
        )
    )


def pytest_unconfigure() -> None:
    """Remove the models and runs of all tests."""
    APART.cleanup()


@pytest.fixture(scope="session", name="real_model")
def real_model_file(request: pytest.FixtureRequest) -> Path:
    """The GGUF file of SmolLM2, or a loud skip."""
    return real_model.fetch(request)


@pytest.fixture(name="project")
def small_project_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of one requirement, for its `workshop.py`."""
    return small_project.make_project(tmp_path, monkeypatch)


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(places.SETTINGS) and name not in (places.CACHE_VARIABLE, places.RUNS_VARIABLE):
            monkeypatch.delenv(name)
