"""A run that is killed loses nothing that it acknowledged, and is completed by starting it again."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.behaviours import BEHAVIOURS
from tests.fault_server import FaultServer
from tests.kill_helpers import MODELS, TINY, differences, kill_until_done, plan_for, start_driver, tiny_server
from tests.scripts import FULL, run
from workshop_lib.archive.storage import read_run
from workshop_lib.errors import ConfigurationError, RecordFileError
from workshop_lib.measuring.benchmark import RECORDS_FILE, run_benchmark
from workshop_lib.measuring.plan import make_plan
from workshop_lib.metrics.summaries import summarise
from workshop_lib.runtimes.endpoint import EndpointRuntime


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    """Three quick models; the benchmark that is killed is another process."""
    with tiny_server() as server:
        yield server.base_url


@pytest.mark.slow
def test_a_run_killed_again_and_again_is_complete_in_the_end(base_url: str, tmp_path: Path):
    """12 kills at random moments: every acknowledged record is there, each request is recorded once."""
    tally = kill_until_done(base_url, tmp_path, 20, 12, random.Random(3))
    assert tally.kills >= 6
    assert tally.acknowledged > 0
    assert tally.lost == 0
    assert differences(tmp_path, 20) == []
    rows = summarise(read_run(tmp_path / RECORDS_FILE))
    assert [(row.model_id, row.status, row.requests_ok) for row in rows] == [(name, "ok", 160) for name in MODELS]


def test_two_runs_cannot_share_a_folder(base_url: str, tmp_path: Path):
    """While one process measures, a second one is refused and leaves the records alone."""
    first = start_driver(base_url, tmp_path, 200)
    try:
        assert first.stdout is not None
        first.stdout.readline()  # it has acknowledged a request, so it holds the file
        with pytest.raises(RecordFileError, match=r"Another run is writing records\.jsonl"):
            run_benchmark(plan_for(200), EndpointRuntime(base_url), tmp_path, show_progress=False)
    finally:
        first.kill()
        first.communicate()
    assert read_run(tmp_path / RECORDS_FILE).completions


def interrupted(folder: Path, keep: int, half: bytes = b"") -> None:
    """Make a complete run one that was cut after `keep` lines and a half one."""
    path = folder / RECORDS_FILE
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:keep]) + half)


def test_a_half_written_record_is_dropped_with_a_note(base_url: str, tmp_path: Path):
    """The note stands in the run before it is resumed, and once after; the request is measured again."""
    plan = plan_for(1)
    run_benchmark(plan, EndpointRuntime(base_url), tmp_path, show_progress=False)
    interrupted(tmp_path, 12, b'{"kind":"comp')
    before = read_run(tmp_path / RECORDS_FILE)
    resumed = run_benchmark(plan, EndpointRuntime(base_url), tmp_path, show_progress=False)
    assert len(before.notes) == len(resumed.notes) == 1
    assert "13 bytes are dropped" in resumed.notes[0]
    assert differences(tmp_path, 1) == []
    assert read_run(tmp_path / RECORDS_FILE) == resumed


@pytest.mark.parametrize("left", [b"", b'{"kind":"run","sch'])
def test_a_run_killed_before_its_first_line_begins_anew(base_url: str, tmp_path: Path, left: bytes):
    """An empty file, or half a header, holds nothing: the run starts as if it were not there."""
    (tmp_path / RECORDS_FILE).write_bytes(left)
    resumed = run_benchmark(plan_for(1), EndpointRuntime(base_url), tmp_path, show_progress=False)
    assert differences(tmp_path, 1) == []
    assert len(resumed.notes) == bool(left)


@pytest.mark.parametrize("schema", [0, 2, None])
def test_a_file_of_another_schema_is_refused_and_kept(base_url: str, tmp_path: Path, schema: int | None):
    """Older, newer or none: refused with both numbers and the step to take, the file unchanged."""
    path = tmp_path / RECORDS_FILE
    path.write_text(json.dumps({"kind": "run", "schema": schema}) + "\n", encoding="utf-8")
    before = path.read_bytes()
    with pytest.raises(RecordFileError, match=f"has schema {schema}, this version reads 1") as caught:
        run_benchmark(plan_for(1), EndpointRuntime(base_url), tmp_path, show_progress=False)
    assert "measure again" in caught.value.fix
    assert path.read_bytes() == before


def test_the_order_of_the_first_start_is_kept(base_url: str, tmp_path: Path):
    """Free memory decides the order anew at every start; a run in progress stays as it began."""
    run_benchmark(plan_for(1), EndpointRuntime(base_url), tmp_path, show_progress=False)
    interrupted(tmp_path, 12)
    other = replace(plan_for(1), order="blocks")
    resumed = run_benchmark(other, EndpointRuntime(base_url), tmp_path, show_progress=False)
    assert resumed.plan["order"] == "round-robin"
    assert differences(tmp_path, 1) == []


def test_a_run_of_another_machine_is_not_continued(base_url: str, tmp_path: Path):
    """Records of two processors never mix in one run."""
    run_benchmark(plan_for(1), EndpointRuntime(base_url), tmp_path, show_progress=False)
    path = tmp_path / RECORDS_FILE
    header, rest = path.read_text(encoding="utf-8").split("\n", 1)
    entry = json.loads(header)
    entry["machine"]["cpu"] = "Another CPU"
    path.write_text(json.dumps(entry) + "\n" + rest, encoding="utf-8")
    with pytest.raises(ConfigurationError, match="different: cpu"):
        run_benchmark(plan_for(1), EndpointRuntime(base_url), tmp_path, show_progress=False)


def test_the_script_completes_an_interrupted_folder(tmp_path: Path):
    """Started again with the same `--output`, the script asks only what is open; no row is there twice."""
    arguments = ("--output", str(tmp_path), "--rounds", "2")
    with FaultServer(dict.fromkeys(("one", "two"), TINY)) as server:
        variables = {"FOUNDRY_LOCAL_ENDPOINT": server.base_url, "BENCH_MODELS": "one,two,no-such-model"}
        whole = run(FULL, *arguments, **variables)
        interrupted(tmp_path, 14, b'{"kind"')
        kept = read_run(tmp_path / RECORDS_FILE)
        already = server.requests.total()
        done = run(FULL, *arguments, **variables)
        asked = server.requests.total() - already
    assert (whole.returncode, done.returncode) == (0, 0), done.stderr
    rows = json.loads(done.stdout)
    assert [(row["alias"], row["status"], row["requests_ok"]) for row in rows] == [
        (row["alias"], row["status"], row["requests_ok"]) for row in json.loads(whole.stdout)
    ]
    assert len(rows) == 3
    completed = read_run(tmp_path / RECORDS_FILE)
    timed = Counter(each.request_id for each in completed.completions if each.round > 0)
    assert set(timed.values()) == {1}
    assert asked == 32 - sum(each.round > 0 for each in kept.completions) + 2  # and a warm-up for each model
    assert "7 bytes are dropped" in done.stderr
    assert "7 bytes are dropped" in (tmp_path / "benchmark_report.md").read_text(encoding="utf-8")
    assert "7 bytes are dropped" in (tmp_path / "benchmark_report.html").read_text(encoding="utf-8")


def test_a_failed_model_stays_one_row_when_the_run_is_resumed(tmp_path: Path):
    """A resumed run tries a failed model once more; what failed before is not asked again, and the row is one."""
    behaviours = {"good": TINY, "bad": BEHAVIOURS["http-500"]}
    with FaultServer(behaviours) as server:
        runtime = EndpointRuntime(server.base_url)
        plan = make_plan(runtime.find(["auto"]), plan_for(1).prompts, rounds=1)
        first = run_benchmark(plan, runtime, tmp_path, show_progress=False)
        second = run_benchmark(plan, runtime, tmp_path, show_progress=False)
    assert [(row.alias, row.status) for row in summarise(second)] == [("good", "ok"), ("bad", "failed")]
    timed = Counter(each.request_id for each in second.completions if each.round > 0)
    assert set(timed.values()) == {1}
    assert second.completions[: len(first.completions)] == first.completions
