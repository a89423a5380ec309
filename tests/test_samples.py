"""The sample scripts as a person runs them: programs of their own, output, exit codes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from tests.behaviours import STEADY
from tests.fault_server import FaultServer, fault_server, free_port
from tests.scripts import FULL, PROJECT, SIMPLE, run
from workshop_lib.records import Row

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


def test_the_contract_fields_come_first_in_their_order():
    """The JSON objects keep the contract's names and order; what is added follows."""
    assert [field.name for field in fields(Row)][: len(CONTRACT)] == CONTRACT


def test_the_full_script_prints_one_json_array_and_nothing_else(base_url: str, no_sdk: str, tmp_path: Path):
    """Three models behind an endpoint: stdout parses, one object each, no SDK imported, exit 0."""
    done = run(FULL, "--output", str(tmp_path / "out"), FOUNDRY_LOCAL_ENDPOINT=base_url, PYTHONPATH=no_sdk,
               BENCH_MODELS="fast,http-500,no-such-model", BENCH_ROUNDS="2", BENCH_PROMPT="Say it.")  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert {row["alias"]: row["status"] for row in rows} == {
        "fast": "ok",
        "http-500": "failed",
        "no-such-model": "skipped",
    }
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


def test_no_model_ok_is_exit_1(base_url: str, tmp_path: Path):
    """A batch in which every model fails still prints its rows and ends with 1."""
    done = run(FULL, "--output", str(tmp_path), FOUNDRY_LOCAL_ENDPOINT=base_url, BENCH_MODELS="http-500")
    assert done.returncode == 1
    assert [row["status"] for row in json.loads(done.stdout)] == ["failed"]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"BENCH_ROUNDS": "0"}, "BENCH_ROUNDS is '0'"),
        ({"BENCH_TEMPERATURE": "warm"}, "BENCH_TEMPERATURE is 'warm'"),
        ({"BENCH_PROMPTS_FILE": "no-such-file.json"}, "no-such-file.json is missing"),
        ({"FOUNDRY_LOCAL_ENDPOINT": "localhost:5273"}, "is no http(s) URL"),
    ],
)
def test_bad_configuration_is_one_line_and_exit_2(variables: dict[str, str], message: str):
    """What cannot be used is named with its value, without a traceback, before anything is measured."""
    done = run(FULL, **variables)
    assert done.returncode == 2
    assert done.stdout == ""
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_wrong_port_is_one_line(tmp_path: Path):
    """No server at the address: exit 1, one line with the address and what to do, and an empty array."""
    done = run(FULL, "--output", str(tmp_path), FOUNDRY_LOCAL_ENDPOINT=f"http://127.0.0.1:{free_port()}/v1")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "No server listens" in done.stderr
    assert json.loads(done.stdout) == []


def test_a_device_without_models_is_said(tmp_path: Path):
    """Nothing to measure on the devices asked for: a reason, in a row or in a line, and exit 1."""
    done = run(FULL, "--devices", "npu", "--output", str(tmp_path))
    assert (done.returncode, json.loads(done.stdout)) == (1, [])
    assert "No model is ready for npu." in done.stderr


def test_a_key_never_reaches_records_or_output(base_url: str, tmp_path: Path):
    """API_KEY is sent, and is in no file and no stream."""
    done = run(FULL, "--output", str(tmp_path), FOUNDRY_LOCAL_ENDPOINT=base_url, API_KEY="very-secret-key",
               BENCH_MODELS="fast", BENCH_ROUNDS="1", SHOW_USAGE="1")  # fmt: skip
    assert done.returncode == 0
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"very-secret-key" not in written
    assert "very-secret-key" not in done.stdout + done.stderr


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
    assert [row["model"].split("-int4")[0] for row in summary] == [
        "practice-small",
        "practice-medium",
        "practice-large",
    ]
    assert all(row["rounds"] == 3 and row["latency_avg_s"] > 0 for row in summary)


def test_the_full_script_measures_the_practice_models(tmp_path: Path):
    """Without a setting: every CPU build ok on the real runtime, the absent GPU said with its reason."""
    done = run(FULL, "--rounds", "1", "--prompt", "What is edge AI?", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert sum(row["device"] == "cpu" and row["status"] == "ok" for row in rows) == 3
    assert all(row["error"] for row in rows if row["status"] == "skipped")
