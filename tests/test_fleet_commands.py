"""The command line of fleets: what the guides say is accepted, results are shown, and what works without the extra."""

from __future__ import annotations

import html
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fleet_helpers import NO_DASK, keep, made_fleet
from workshop_lib import places
from workshop_lib.__main__ import _parser, main
from workshop_lib.fleet import cluster
from workshop_lib.programs import notebooks

GUIDE = places.PROJECT / "samples" / "fleet" / "README.md"
PAGE = notebooks.FOLDER / "07_benchmark_a_classroom.ipynb"
COMMAND = re.compile(r"\.venv(?:/bin/|\\{1,2}Scripts\\{1,2})python -m workshop_lib (fleet [^`|\n\"\\]*)")
MISSING = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("cryptography", "dask", "distributed"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""


@pytest.mark.parametrize("guide", [GUIDE, PAGE, places.PROJECT / "docs" / "CHEATSHEET.md"], ids=lambda each: each.name)
def test_every_command_of_the_guides_is_accepted(guide: Path) -> None:
    """What an instructor copies from a guide is what the command line takes, in both shells."""
    text = guide.read_text(encoding="utf-8")
    commands = COMMAND.findall(text)
    assert {"certificates", "scheduler", "join"} <= {command.split()[1] for command in commands}
    for command in commands:
        assert callable(_parser().parse_args(shlex.split(command)).command)
    bash = re.findall(r"^\| bash \| `\.venv/bin/python (.*)` \|$", text, re.M)
    assert bash == re.findall(r"^\| PowerShell \| `\.venv\\Scripts\\python (.*)` \|$", text, re.M)


def test_results_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Shares, speeds, the default for both views with how sure it is: all from the folder, without Dask."""
    fleet = made_fleet({"quick": 1.0, "slow": 4.0, "usual": 2.0}, wise=["practice-large"])
    keep(fleet, tmp_path / "all")
    assert main(["fleet", "show", str(tmp_path / "all"), "--max-latency-ms", "300"]) == 0
    shown = capsys.readouterr().out
    assert "484 (no interval)" in shown and "3 machines are too few" in shown
    assert "On the slowest machine (slow) the best default is practice-small · int4 · cpu" in shown
    keep(replace(fleet, models={}, runs={}), tmp_path / "none")
    assert main(["fleet", "show", str(tmp_path / "none")]) == 0
    assert "No model was measured on every machine" in capsys.readouterr().out
    assert main(["fleet", "show", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "fleet.json" in line


@pytest.mark.skipif(NO_DASK, reason="NO FLEET IS TESTED: requirements-fleet.txt is missing")
def test_a_key_is_made_and_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command says what whoever holds the key can do, and shows no key; a second one there ends with 2."""
    assert main(["fleet", "certificates", str(tmp_path / "key")]) == 0
    shown = capsys.readouterr().out
    assert "valid for 7 days" in shown and "can run programs on every machine" in shown and "PRIVATE" not in shown
    assert main(["fleet", "certificates", str(tmp_path / "key")]) == 2


@pytest.fixture
def without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every Python that is started from here on lacks the extra, whatever is installed."""
    (tmp_path / "sitecustomize.py").write_text(MISSING, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(places.PROJECT)]))
    monkeypatch.setenv("WORKSHOP_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("WORKSHOP_RUNS_DIR", str(tmp_path / "runs"))
    return tmp_path


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


def test_every_module_is_imported_without_the_extra(without: Path) -> None:
    """`import workshop_lib.<anything>` loads nothing of the extra."""
    paths = [path.relative_to(places.PROJECT) for path in (places.PROJECT / "workshop_lib").rglob("*.py")]
    names = sorted(".".join(path.with_suffix("").parts) for path in paths if not path.name.startswith("__"))
    done = python("-c", f"import importlib\nfor name in {names}: importlib.import_module(name)\nprint('all')")
    assert (done.stdout, done.returncode) == ("all\n", 0), done.stderr
    assert "No module named 'distributed'" in python("-c", "import distributed").stderr


@pytest.mark.parametrize("part", ["join tcp://127.0.0.1:1", "certificates key"])
def test_a_command_that_needs_the_extra_says_what_to_install(
    part: str, without: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line on standard error that names the file to install, exit code 2, and no traceback."""
    monkeypatch.chdir(without)
    done = python("-m", "workshop_lib", "fleet", *part.split())
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("ConfigurationError: ") and line.endswith(f"{cluster.INSTALL}.")
    assert not (without / "key").exists()


@pytest.mark.slow
def test_the_page_measures_this_machine_alone(without: Path) -> None:
    """Without the extra and without files page 07 shows the example, measures a fleet of one, and every cell works."""
    import nbformat

    notebooks.run_notebook(PAGE, without / "07.ipynb", {"models": "practice-small", "rounds": 1})
    cells = {cell.id: cell for cell in nbformat.read(without / "07.ipynb", as_version=4).cells}
    said = {name: _shown(cells[name]) for name in ("check", "desks", "votes", "complete", "sentences")}
    assert "Nothing is handed in" in said["check"] and "1-quiet" in said["desks"]
    assert "practice-medium 0 before, 3 after" in said["votes"]
    assert "2 of 2 shares are done" in said["complete"] and "One machine is too few" in said["sentences"]


def _shown(cell: Any) -> str:
    data = cell.outputs[-1]["data"]
    return html.unescape(data.get("text/html") or data["text/plain"])
