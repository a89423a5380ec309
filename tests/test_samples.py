"""The sample scripts as a person runs them: programs of their own, output, exit codes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.behaviours import STEADY
from tests.fault_server import FaultServer, fault_server
from tests.scripts import FULL, PROJECT, SIMPLE, run
from workshop_lib.programs import commands

Capture = pytest.CaptureFixture[str]

CONTRACT = (  # noqa: SIM905 - easier to compare with the contract than sixteen quoted names
    "alias model_id device status error rounds requests_ok latency_avg latency_p95 tokens_per_sec_avg "
    "first_token_latency_avg decode_tokens_per_sec tokens_source prompt_tokens_avg completion_tokens_avg warnings"
).split()


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    """The fake server in a process of its own."""
    with fault_server() as url:
        yield url


@pytest.fixture
def no_sdk(tmp_path: Path) -> str:
    """A search path on which importing the runtime's SDK ends the process."""
    (tmp_path / "foundry_local_sdk.py").write_text("raise SystemExit('the SDK was imported')\n", encoding="utf-8")
    return os.pathsep.join([str(tmp_path), str(PROJECT)])


def test_the_full_script_prints_one_json_array_and_nothing_else(base_url: str, no_sdk: str, tmp_path: Path):
    """Three models behind an endpoint: stdout parses, one object each, no SDK imported, exit 0."""
    done = run(FULL, "--output", str(tmp_path / "out"), FOUNDRY_LOCAL_ENDPOINT=base_url, PYTHONPATH=no_sdk,
               BENCH_MODELS="fast,http-500,no-such-model", BENCH_ROUNDS="2", BENCH_PROMPT="Say it.")  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    statuses = {row["alias"]: row["status"] for row in rows}
    assert statuses == {"fast": "ok", "http-500": "failed", "no-such-model": "skipped"}
    assert all(list(row)[: len(CONTRACT)] == CONTRACT for row in rows)
    failed = next(row for row in rows if row["alias"] == "http-500")
    assert (failed["latency_avg"], failed["requests_ok"]) == (None, 0)
    assert "HTTP 500" in failed["error"]
    assert "http-500" in done.stderr
    assert (tmp_path / "out" / "benchmark_report.html").exists()


def test_the_full_script_also_runs_as_a_module(base_url: str, tmp_path: Path):
    """`python -m session03.benchmark_oss_models` from `samples/` is the same program; flags override variables."""
    done = run("session03.benchmark_oss_models", "--models", "fast", "--rounds", "1", "--output", str(tmp_path),
               "--json", str(tmp_path / "rows.json"), folder=PROJECT / "samples", BENCH_ROUNDS="7",
               FOUNDRY_LOCAL_ENDPOINT=base_url, BENCH_PROMPT="Say it.")  # fmt: skip
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    assert (row["rounds"], row["requests_ok"]) == (1, 1)
    assert json.loads((tmp_path / "rows.json").read_text(encoding="utf-8")) == [row]


def test_no_model_ok_is_exit_1(base_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture):
    """A batch in which every model fails still prints its rows and ends with 1."""
    monkeypatch.setenv("FOUNDRY_LOCAL_ENDPOINT", base_url)
    assert commands.benchmark(["--models=http-500", f"--output={tmp_path}"]) == 1
    assert [row["status"] for row in json.loads(capsys.readouterr().out)] == ["failed"]


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("BENCH_ROUNDS", "0", "BENCH_ROUNDS is '0'"),
        ("BENCH_PROMPTS_FILE", "no-such-file.json", "no-such-file.json is missing"),
        ("FOUNDRY_LOCAL_ENDPOINT", "localhost:5273", "is no http(s) URL"),
    ],
)
def test_bad_configuration_is_one_line_and_exit_2(
    variable: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
):
    """What cannot be used is named with its value, without a traceback, before anything is measured."""
    monkeypatch.setenv(variable, value)
    assert commands.benchmark([]) == 2
    said = capsys.readouterr()
    (line,) = said.err.strip().splitlines()
    assert said.out == "" and message in line


def test_a_device_without_models_is_said(tmp_path: Path, capsys: Capture):
    """Nothing to measure on the devices asked for: a reason, in a row or in a line, and exit 1."""
    assert commands.benchmark(["--devices=npu", f"--output={tmp_path}"]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out) == [] and "No model is ready for npu." in said.err


def test_the_simple_script_can_be_typed_along():
    """At most 60 lines."""
    assert len(SIMPLE.read_text(encoding="utf-8").splitlines()) <= 60


def test_the_simple_script_asks_an_endpoint(no_sdk: str):
    """With FOUNDRY_LOCAL_ENDPOINT it measures that server's first models and imports no SDK."""

    with FaultServer(dict.fromkeys(("one", "two"), STEADY)) as server:
        done = run(SIMPLE, FOUNDRY_LOCAL_ENDPOINT=server.base_url, PYTHONPATH=no_sdk)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert [row["model"] for row in summary] == ["one", "two"]
    assert all(row["first_token_s"] >= 0.05 for row in summary)


def test_the_simple_script_measures_the_practice_models():
    """Without a setting: three practice models on the real runtime."""
    done = run(SIMPLE)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert [row["model"].split("-")[1] for row in summary] == ["small", "medium", "large"]
    assert all(row["rounds"] == 3 and row["latency_avg_s"] > 0 for row in summary)


def test_the_full_script_measures_the_practice_models(tmp_path: Path):
    """Without a setting: every CPU build ok on the real runtime, the absent GPU said with its reason."""
    done = run(FULL, "--rounds", "1", "--prompt", "What is edge AI?", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert sum(row["device"] == "cpu" and row["status"] == "ok" for row in rows) == 3
    assert all(row["error"] for row in rows if row["status"] == "skipped")
