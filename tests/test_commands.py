"""What the command line does: exit codes and printed tables."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import runpy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.behaviours import STEADY
from tests.fault_server import FaultServer
from workshop_lib import __main__ as command_line
from workshop_lib import data, places
from workshop_lib.errors import NotebookError
from workshop_lib.models import smollm2
from workshop_lib.programs import commands, notebooks

QUICK = replace(STEADY, first_token_s=0.002, pace_s=0.0005, tokens=12)
PAGES = (*notebooks.PAGES[:2], notebooks.PAGES[4])
"""They download, measure and choose."""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """Two quick models behind an address."""
    with FaultServer({"one": QUICK, "two": QUICK}) as server:
        yield server.base_url


@pytest.fixture(autouse=True)
def quick_endpoint(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment names that address, as a user would."""
    monkeypatch.setenv("FOUNDRY_LOCAL_ENDPOINT", endpoint)


@dataclass(frozen=True)
class Ended:
    """A command that ended: its folder, exit code and standard output."""

    folder: Path
    code: int
    said: str


@pytest.fixture(scope="module")
def run_once(endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """`run` of three pages on the endpoint, where importing the SDK would fail; test_pages.py runs all of them."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "foundry_local_sdk.py").write_text("raise ImportError('not wanted')")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as said:
        patch.setenv("FOUNDRY_LOCAL_ENDPOINT", endpoint)
        patch.setenv("PYTHONPATH", str(folder))
        patch.setattr(notebooks, "PAGES", PAGES)
        code = command_line.main(["run", "--rounds", "1", "--watts", "12.5", "--output", str(folder / "run")])
    return Ended(folder / "run", code, said.getvalue())


@pytest.mark.slow
def test_run_writes_the_run_folder_and_prints_table_and_path(run_once: Ended):
    """`run` on an endpoint needs no SDK, leaves pages, reports and records, shows table, path, times and decision."""
    assert run_once.code == 0
    written = {path.name for path in run_once.folder.iterdir()}
    assert {*PAGES, *(f"benchmark_report.{kind}" for kind in ("md", "csv", "json", "html"))} <= written
    assert "records.jsonl" in written
    assert not [name for name in written if name.endswith(".lock")]
    report = json.loads((run_once.folder / "benchmark_report.json").read_text("utf-8"))
    assert report["profile"] == "endpoint"
    assert report["plan"]["watts"] == 12.5
    assert {(row["alias"], row["status"]) for row in report["rows"]} == {("one", "ok"), ("two", "ok")}
    assert "one" in run_once.said and "two" in run_once.said
    decided = report["decision"]["sentence"] if report["decision"] else report["decision_reason"]
    assert run_once.said.splitlines()[-1] == decided
    assert str(run_once.folder / "benchmark_report.html") in run_once.said.replace("\n", "")
    seconds = re.findall(r"│ (\w+) +│ +([\d.]+) │", run_once.said[run_once.said.index("Execution time") :])
    assert [name for name, _ in seconds] == [*(Path(name).stem for name in PAGES), "all"]
    assert float(seconds[-1][1]) == pytest.approx(sum(float(took) for _, took in seconds[:-1]), abs=0.5) != 0


def test_the_bootstrap_hands_over_every_command():
    """`workshop.py` knows the commands that `python -m workshop_lib` has, and no other."""
    known = runpy.run_path(str(places.PROJECT / "workshop.py"))["COMMANDS"]
    (parts,) = (each for each in command_line._parser()._actions if isinstance(each, argparse._SubParsersAction))
    assert sorted({*known} - {"test", "reference"}) == sorted(parts.choices)  # nox and tools/ answer to these


def test_watts_reach_the_pages_only_when_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Without `--watts` the pages keep what models.json declares."""
    given: list[dict[str, object]] = []

    def remembering(_: Path, parameters: dict[str, object]) -> None:
        given.append(parameters)
        raise NotebookError("That is all.", "Nothing more.")

    monkeypatch.setattr(notebooks, "run_workshop", remembering)
    for flags in (["--watts", "12.5"], []):
        assert command_line.main(["run", "--output", str(tmp_path), *flags]) == 1
    assert [each.get("watts") for each in given] == [12.5, None]
    assert "watts" not in given[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "The following arguments are required: COMMAND"),
        (["walk"], "invalid choice: 'walk'"),
        (["run", "--rounds", "x"], "ConfigurationError: Argument --rounds: invalid int value: 'x'. --help lists"),
        (["run", "--rounds", "0"], "ConfigurationError: --rounds is 0. Give 1 or more."),
        (["run", "--devices", "tpu"], "ConfigurationError: --devices is 'tpu'"),
        (["run", "--models", " ,"], "ConfigurationError: --models is ' ,'"),
        (["run", "--watts", "0"], "ConfigurationError: --watts is 0.0. Give more than 0."),
        (["run", "--prompt-set", "x", "--profile", "practice"], "has no set 'x'"),
        (["run", "--output", "{file}"], "{file}/records.jsonl cannot be written"),
        (["compare", "a.json", "--against", "x"], "--against is 'x' without --model."),
        (["fleet", "run", "tcp://127.0.0.1:1", "--output", "{file}"], "{file}/fleet.json cannot be written"),
        (["fleet", "certificates", "{file}"], "cannot be written"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_exit_2_before_anything_starts(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """A wrong command, flag or value, or a file where a folder is wanted, starts and fetches nothing."""
    file = tmp_path / "file"
    file.write_text("mine", encoding="utf-8")
    monkeypatch.setattr(notebooks, "run_workshop", lambda *_: pytest.fail("a notebook was started"))
    monkeypatch.setattr(smollm2, "fetch", lambda *_, **__: pytest.fail("a model was fetched"))
    monkeypatch.setenv(places.CACHE_VARIABLE, str(tmp_path / "cache"))
    try:
        code = command_line.main([word.format(file=file) for word in arguments])
    except SystemExit as end:
        code = int(str(end.code))
    (line,) = capsys.readouterr().err.splitlines()
    assert (code, said.format(file=file).replace("/", os.sep) in line.replace("/", os.sep)) == (2, True), line
    assert file.read_text(encoding="utf-8") == "mine"


def test_lab_is_started_on_the_first_notebook(monkeypatch: pytest.MonkeyPatch):
    """`lab` starts JupyterLab of this Python on the loopback only."""
    started: list[list[str]] = []

    class Done:
        returncode = 0

    monkeypatch.setattr(command_line.subprocess, "run", lambda command, **_: started.append(command) or Done())
    assert command_line.main(["lab", "--no-browser"]) == 0
    assert "--ServerApp.ip=127.0.0.1" in started[0]
    assert "--no-browser" in started[0]
    assert "--allow-root" not in started[0]
    assert started[0][-1] == str(places.NOTEBOOKS / "01_download_models.ipynb")
    assert command_line.main(["lab", "--allow-root"]) == 0
    assert "--allow-root" in started[1]


def test_a_broken_data_file_is_one_line_and_exit_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """A malformed models.json ends the run before a notebook starts, naming file and place."""
    broken = tmp_path / "models.json"
    broken.write_text('{"a": ', encoding="utf-8")
    monkeypatch.setattr(data, "MODELS_FILE", broken)
    assert command_line.main(["run", "--output", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "models.json is not JSON (" in line
    assert not (tmp_path / "run").exists()


def test_every_request_has_what_the_flags_ask_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Given as flags: 2 requests of the benchmark, 2 + 6 of two lengths, 1 + 4 + 8 of one user and two."""
    flags = ["--prompt", "Hi", "--rounds", "1", "--users", "1,2", "--prompt-lengths", "64,128", "--tokens-field"]
    with FaultServer({"one": QUICK}) as server:
        given = ["--endpoint", server.base_url, "--output", str(tmp_path), "--extra-body", '{"top_p": 0.9}']
        assert commands.benchmark([*flags, "max_completion_tokens", *given]) == 0
        bodies = [call.body for call in server.calls if call.method == "POST"]
    assert len(bodies) == 2 + (2 + 2 * 3) + (1 + 4 + 8)
    assert {(body["top_p"], "max_tokens" in body, "max_completion_tokens" in body) for body in bodies} == {
        (0.9, False, True)
    }
    (row,) = json.loads(capsys.readouterr().out)
    assert row["prefill_tokens_per_sec_fitted"] is None, "two lengths make no line"


def test_a_broken_file_beside_the_run_costs_no_rows(
    endpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prompt lengths of an earlier start that cannot be read: the exit code is 1, and the array is printed."""
    (tmp_path / "prompt_lengths.jsonl").write_text("broken\n", encoding="utf-8")
    flags = ["--endpoint", endpoint, "--models", "one", "--prompt", "Hi", "--rounds", "1", "--output", str(tmp_path)]
    assert commands.benchmark(flags) == 1
    said = capsys.readouterr()
    assert [row["status"] for row in json.loads(said.out)] == ["ok"]
    assert "RecordFileError: prompt_lengths.jsonl" in said.err
