"""What the command line does: exit codes, printed tables, the reference results."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from workshop_lib import __main__ as command_line
from workshop_lib import catalog, checks, commands, notebooks
from workshop_lib.errors import ConfigurationError
from workshop_lib.records import Row
from workshop_lib.reference_server import STEADY, ReferenceServer
from workshop_lib.reporting import ReportFiles


@pytest.fixture(autouse=True)
def quick_endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Two quick models behind an endpoint, chosen by the environment as a user would."""
    from dataclasses import replace

    quick = replace(STEADY, first_token_s=0.002, pace_s=0.0005, tokens=12)
    with ReferenceServer({"one": quick, "two": quick}) as server:
        monkeypatch.setenv("FOUNDRY_LOCAL_ENDPOINT", server.base_url)
        yield server.base_url


def test_run_writes_the_run_folder_and_prints_table_and_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """`run` on an endpoint leaves notebooks, four reports and raw records, and shows the table and the path."""
    assert command_line.main(["run", "--rounds", "1", "--output", str(tmp_path / "run")]) == 0
    written = {path.name for path in (tmp_path / "run").iterdir()}
    assert {
        "01_download_models.ipynb",
        "02_benchmark_models.ipynb",
        "03_chart_results.ipynb",
        "records.jsonl",
    } <= written
    assert {f"benchmark_report.{kind}" for kind in ("md", "csv", "json", "html")} <= written
    said = capsys.readouterr().out
    assert "one" in said and "two" in said
    assert str(tmp_path / "run" / "benchmark_report.html") in said.replace("\n", "")


def test_a_wrong_value_is_one_line_and_exit_2(capsys: pytest.CaptureFixture[str]):
    """Zero rounds end before anything starts."""
    assert command_line.main(["run", "--rounds", "0"]) == 2
    assert capsys.readouterr().err == "ConfigurationError: --rounds is 0. Give 1 or more.\n"


def test_a_model_that_does_not_exist_is_one_line_and_exit_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A wrong alias names what there is, through the notebook, without a traceback."""
    assert command_line.main(["run", "--models", "on", "--output", str(tmp_path / "run")]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "No model is called 'on'" in last
    assert "Did you mean one" in last


def test_unknown_checks_are_named():
    """`test` with a name that is no check lists those that are."""
    with pytest.raises(ConfigurationError, match="Use lint, format, types, notebooks, tests"):
        checks.run_checks(["speed"])


def test_a_failing_check_fails_the_whole_and_the_others_still_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Two checks, the first fails: both have a line at the end, and the result is 1."""
    made = (checks.Check("bad", ("this_module_does_not_exist",)), checks.Check("good", ("json.tool", "--help")))
    monkeypatch.setattr(checks, "CHECKS", made)
    assert checks.run_checks() == 1
    end = capsys.readouterr().err.splitlines()[-2:]
    assert [line.split()[:2] for line in end] == [["FAILED", "bad"], ["passed", "good"]]


def test_the_reference_is_replaced_compared_and_free_of_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """`reference` leaves no path of this machine, keeps other files, and says what changed since the last one."""

    once = tmp_path / "measured once"

    def measured(folder: Path, parameters: dict[str, object]) -> tuple[tuple[Row, ...], ReportFiles]:
        if not once.exists():
            done.append(original(once, {"rounds": 1}))
        shutil.copytree(once, folder)
        return done[0]

    done: list[tuple[tuple[Row, ...], ReportFiles]] = []
    original = commands.measure_into
    monkeypatch.setattr(commands, "measure_into", measured)
    target = tmp_path / "reference"
    target.mkdir()
    (target / "scores.json").write_text("{}", encoding="utf-8")
    assert commands.make_reference(target) == 0
    assert commands.make_reference(target) == 0
    assert (target / "scores.json").exists()
    assert "8 of 8 answers are the same" in capsys.readouterr().out
    assert json.loads((target / "benchmark_report.json").read_text(encoding="utf-8"))["samples"]
    for path in target.glob("*.ipynb"):
        text = path.read_text(encoding="utf-8")
        assert str(target) not in text
        assert "papermill" not in json.loads(text)["metadata"]
        assert str(notebooks.PROJECT) not in text


def test_lab_is_started_on_the_first_notebook(monkeypatch: pytest.MonkeyPatch):
    """`lab` starts JupyterLab of this Python on the loopback only."""
    started: list[list[str]] = []

    class Done:
        returncode = 0

    monkeypatch.setattr(command_line.subprocess, "run", lambda command, **_: started.append(command) or Done())
    assert command_line.main(["lab", "--no-browser"]) == 0
    assert "--ServerApp.ip=127.0.0.1" in started[0]
    assert "--no-browser" in started[0]


def test_a_broken_data_file_is_one_line_and_exit_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """A malformed models.json ends the run before a notebook starts, naming file and place."""
    broken = tmp_path / "models.json"
    broken.write_text('{"a": ', encoding="utf-8")
    monkeypatch.setattr(catalog, "MODELS_FILE", broken)
    assert command_line.main(["run", "--output", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "models.json is not JSON at line 1" in line
    assert not (tmp_path / "run").exists()
