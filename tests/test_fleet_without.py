"""Without the extra everything else works, and what needs it says what to install."""

from __future__ import annotations

import html
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from workshop_lib import places
from workshop_lib.programs import notebooks

MISSING = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("cryptography", "dask", "distributed"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""
INSTALL = (
    "In the workshop's folder: .venv/bin/python -m pip install -r requirements-fleet.txt "
    r"(in PowerShell .venv\Scripts\python)."
)


@pytest.fixture
def without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every Python that is started from here on lacks the extra, whatever is installed."""
    folder = tmp_path / "without"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(MISSING, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(places.PROJECT)]))
    monkeypatch.setenv("WORKSHOP_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("WORKSHOP_RUNS_DIR", str(tmp_path / "runs"))
    return folder


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


def test_every_module_is_imported_without_the_extra(without: Path) -> None:
    """`import workshop_lib.<anything>` loads nothing of the extra; tables and choice of a measured room need none."""
    paths = [path.relative_to(places.PROJECT) for path in (places.PROJECT / "workshop_lib").rglob("*.py")]
    names = sorted(".".join(path.with_suffix("").parts) for path in paths if not path.name.startswith("__"))
    code = f"import importlib\nfor name in {names}: importlib.import_module(name)\nprint('all')"
    done = python("-c", code)
    assert (done.stdout, done.returncode) == ("all\n", 0), done.stderr
    assert "No module named 'distributed'" in python("-c", "import distributed").stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["scheduler"],
        ["join", "tcp://127.0.0.1:8786"],
        ["run", "tcp://127.0.0.1:8786"],
        ["certificates", "keys", "desk"],
    ],
    ids=lambda each: each[0],
)
def test_a_command_that_needs_it_says_what_to_install(
    arguments: list[str], without: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line on standard error that names the file to install, exit code 2, and no traceback."""
    monkeypatch.chdir(without)
    done = python("-m", "workshop_lib", "fleet", *arguments)
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("ConfigurationError: ") and line.endswith(INSTALL)
    assert not (without / "keys").exists()


def test_help_needs_no_extra(without: Path) -> None:
    """Whoever asks what a command does gets an answer before anything has to be installed."""
    for part in ([], ["scheduler"], ["join"], ["run"], ["certificates"], ["show"]):
        done = python("-m", "workshop_lib", "fleet", *part, "--help")
        assert done.returncode == 0 and "usage:" in done.stdout


@pytest.mark.slow
def test_the_page_measures_a_room_of_one(without: Path, tmp_path: Path) -> None:
    """Without the extra page 07 says what to install, measures this machine alone, and every later cell works."""
    import nbformat

    source = notebooks.FOLDER / "07_benchmark_a_classroom.ipynb"
    done = notebooks.run_notebook(source, tmp_path / "07.ipynb", {"models": "practice-small", "rounds": 1})
    cells = {cell.id: cell for cell in nbformat.read(done, as_version=4).cells}
    said = {name: _shown(cells[name]) for name in ("how", "machines", "complete", "sentences")}
    assert f"This machine measures alone: a fleet needs two more packages. {INSTALL.rstrip('.')}" in said["how"]
    assert "2 of 2" in said["machines"] and said["complete"] == "True"
    assert "One machine is few" in said["sentences"]


def _shown(cell: Any) -> str:
    data = cell.outputs[-1]["data"]
    return html.unescape(data.get("text/html") or data["text/plain"])
