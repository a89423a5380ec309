"""The loop that runs plans, resumed after any kill, and the folders of runs; against fake and real servers."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.behaviours import BEHAVIOURS
from tests.fault_runtime import FaultRuntime, Served, variant
from tests.fault_server import FaultServer
from tests.foundry_helpers import practice
from tests.kill_helpers import MODELS, TINY, differences, kill_until_done, plan_for, tiny_server
from tests.report_helpers import run_of_models
from workshop_lib import benchmark, comparison, report
from workshop_lib.benchmark import RECORDS_FILE, run_plan
from workshop_lib.client import ChatClient
from workshop_lib.data import read_prompts
from workshop_lib.errors import ConfigurationError, RecordFileError
from workshop_lib.machine import Meter, PowerSources
from workshop_lib.plan import Plan, choose_variants, make_plan
from workshop_lib.records import Completion, ModelVariant, Prompt, Request, Run
from workshop_lib.runtimes import profiles
from workshop_lib.runtimes.endpoint import EndpointRuntime
from workshop_lib.runtimes.profiles import ServedModel
from workshop_lib.storage import RunWriter, read_run
from workshop_lib.summary import stability_notes, summarise
from workshop_lib.timing import latency_s

PROMPTS = (Prompt("first", "Say one."), Prompt("second", "Say two."))


@pytest.fixture
def runtime() -> Iterator[FaultRuntime]:
    """A fake server with quick behaviours."""
    quick = {
        name: replace(behaviour, first_token_s=0.002, pace_s=0.0005, tokens=5) for name, behaviour in BEHAVIOURS.items()
    }
    with FaultServer(quick) as server:
        yield FaultRuntime(server)


def plan_of(*models: str, **options: object) -> Plan:
    """A quick plan over behaviours."""
    return make_plan([variant(model) for model in models], PROMPTS, **{"rounds": 2, "timeout_s": 20.0, **options})


def test_a_run_measures_every_model_and_records_every_request(runtime: FaultRuntime, tmp_path: Path):
    """Two models, two prompts, two rounds: two warm-ups, eight timed requests, two ok rows, everything stopped."""
    run = run_plan(plan_of("fast", "steady"), runtime, tmp_path, show_progress=False)
    assert sum(completion.round == 0 for completion in run.completions) == 2
    assert sum(completion.round > 0 for completion in run.completions) == 8
    assert [row.status for row in summarise(run)] == ["ok", "ok"]
    assert all(row.peak_resident_mb == 12.0 and row.load_s == 0.25 for row in summarise(run))
    assert runtime.serving == []
    assert read_run(tmp_path / RECORDS_FILE) == run


def test_a_model_that_cannot_be_loaded_or_died_is_a_failed_row(runtime: FaultRuntime, tmp_path: Path):
    """The reason is the row's error: nothing is asked of the first, and the second is given up after one request."""
    runtime.unservable.add("steady")
    runtime.dead["reset"] = "The process was killed by signal 9; probably out of memory."
    run = run_plan(plan_of("steady", "reset", "fast"), runtime, tmp_path, show_progress=False)
    rows = {row.alias: row for row in summarise(run)}
    assert [rows[name].status for name in ("steady", "reset", "fast")] == ["failed", "failed", "ok"]
    assert "could not be loaded" in (rows["steady"].error or "")
    assert "out of memory" in (rows["reset"].error or "")
    assert sum(completion.alias == "reset" for completion in run.completions) == 1


@pytest.mark.slow
def test_a_prompt_that_does_not_fit_fails_no_model(tmp_path: Path):
    """Two of three prompts, the warm-up's among them, exceed the context: no retry, the row is ok with the third."""
    prompts = (Prompt("long", "word " * 900), Prompt("short", "Say one."), Prompt("longer", "word " * 2000))
    with profiles.open_runtime("practice") as runtime:
        (small,) = (
            each for each in runtime.list_models() if each.model_id.startswith("practice-small-int4-generic-cpu")
        )
        plan = make_plan([small], prompts, rounds=2, retries=1, max_tokens=120)
        run = run_plan(plan, runtime, tmp_path, show_progress=False)
    asked = [(each.prompt_id, each.round, each.error_kind) for each in run.completions]
    assert asked[:2] == [("long", 0, "does_not_fit"), ("short", 0, None)]
    timed = Counter(each[0] for each in asked if each[1] and each[2] == "does_not_fit")
    assert (timed, len(asked)) == ({"long": 2, "longer": 2}, 8)
    (row,) = summarise(run)
    assert (row.status, row.requests_ok, row.prompts, row.prompts_not_fitting) == ("ok", 2, 3, 2)
    assert "does_not_fit" in row.warnings and "some_failed" not in row.warnings
    assert row.cold_start_s is not None
    assert any("2 of 3 prompts do not fit" in note for note in stability_notes(run))


def test_a_retry_is_a_record_of_its_own(runtime: FaultRuntime, tmp_path: Path):
    """Two retries of a failing request are three records with attempts 1, 2, 3 and doubling pauses."""
    pauses: list[float] = []
    plan = plan_of("http-500", retries=2, retry_backoff_s=1.0)
    run = run_plan(plan, runtime, tmp_path, show_progress=False, sleep=pauses.append)
    assert [completion.attempt for completion in run.completions][:3] == [1, 2, 3]
    assert pauses[:2] == [1.0, 2.0]


def test_a_pause_lies_between_requests_and_in_no_timing(runtime: FaultRuntime, tmp_path: Path):
    """50 ms before each of four timed requests: they start 50 ms apart at least, and answer in fewer."""
    run = run_plan(plan_of("fast", pause_s=0.05), runtime, tmp_path, show_progress=False)
    starts = [datetime.fromisoformat(each.started_at).timestamp() for each in run.completions]
    assert min(np.diff(starts)) >= 0.049  # stamps are whole milliseconds
    assert len(starts) == 5 and min(latency_s(each) for each in run.completions) < 0.05
    assert run.plan["pause_s"] == 0.05


def test_a_complete_run_is_not_served_again(runtime: FaultRuntime, tmp_path: Path):
    """Running a finished plan again loads nothing."""
    run_plan(plan_of("fast"), runtime, tmp_path, show_progress=False)
    runtime.served_in_order.clear()
    run_plan(plan_of("fast"), runtime, tmp_path, show_progress=False)
    assert runtime.served_in_order == []


def test_unknown_names_and_absent_devices_are_skipped_rows(runtime: FaultRuntime, tmp_path: Path):
    """What cannot be measured stays in the report with its reason, one row per alias and device."""
    variants, skipped = choose_variants(runtime, ["fast", "fsat"], ["cpu", "gpu"])
    run = run_plan(
        make_plan(variants, PROMPTS, rounds=1, skipped=tuple(skipped)), runtime, tmp_path, show_progress=False
    )
    rows = {(row.alias, row.device): row for row in summarise(run)}
    assert rows["fsat", "unknown"].status == "skipped"
    assert "Did you mean fast?" in (rows["fsat", "unknown"].error or "")
    assert rows["fast", "gpu"].error == "No GPU provider is registered."
    assert rows["fast", "unknown"].status == "ok"
    assert len(rows) == 3


# -- faults of models and servers; tests/test_endpoints.py has every fault of an answer


@pytest.fixture(scope="module")
def faulty() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


def test_what_was_measured_before_a_fault_is_kept(faulty: FaultServer, tmp_path: Path):
    """A model that answers three timed requests and then breaks is failed, with the figures of those three."""
    plan = plan_of("breaks-later", "fast", rounds=3)
    run = run_plan(plan, FaultRuntime(faulty), tmp_path, show_progress=False)
    row, fast = summarise(run)
    assert (row.status, row.requests_ok, fast.requests_ok) == ("failed", 3, 6)
    assert row.latency_avg is not None and row.latency_avg >= 0.439


def test_a_model_that_was_given_up_is_not_loaded_again(faulty: FaultServer, tmp_path: Path):
    """In blocks every model is served once per round; one that failed is left alone in the later blocks."""
    runtime = FaultRuntime(faulty)
    run_plan(plan_of("http-500", "fast", rounds=3, order="blocks"), runtime, tmp_path, show_progress=False)
    assert (runtime.served_in_order.count("http-500"), runtime.served_in_order.count("fast")) == (1, 3)


@pytest.mark.slow
def test_a_runtime_that_is_killed_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Killed before its first timed answer: that row names the end, the other model of the real runtime is ok."""
    pids: dict[str, int] = {}
    ask = ChatClient.ask

    def killing(self: ChatClient, request: Request) -> Completion:
        if request.round and request.variant == doomed:
            psutil.Process(pids[doomed.model_id]).kill()
        return ask(self, request)

    with practice(tmp_path / "cache") as runtime:
        healthy, doomed = sorted(runtime.find(["auto"], ["cpu"]), key=lambda each: each.size_mb or 0.0)[::5]
        serve = runtime.serve

        def remembering(wanted: ModelVariant) -> ServedModel:
            served = serve(wanted)
            pids[wanted.model_id] = served.pid or 0
            return served

        monkeypatch.setattr(runtime, "serve", remembering)
        monkeypatch.setattr(ChatClient, "ask", killing)
        plan = make_plan([healthy, doomed], PROMPTS, rounds=2, timeout_s=20.0, order="round-robin")
        run = run_plan(plan, runtime, tmp_path / "run", show_progress=False)
    rows = {row.model_id: row for row in summarise(run)}
    assert rows[healthy.model_id].requests_ok == 4
    assert rows[doomed.model_id].status == "failed"
    assert "killed" in (rows[doomed.model_id].error or "") or "ended" in (rows[doomed.model_id].error or "")
    assert sum(each.model_id == doomed.model_id and each.round > 0 for each in run.completions) == 1


@dataclass
class MadeUpPower(PowerSources):
    """Ten joules for each request that the server was sent, for models on a CPU; else what this machine has."""

    server: FaultServer
    read: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def joules(self) -> float:
        self.read += 1
        return 10.0 * self.server.requests.total()

    def meter_for(self, device: str, pid: int | None, watts: float | None = None) -> Meter:
        if device != "cpu":
            return super().meter_for(device, pid, watts)
        return Meter("Energy is made up.", "measured:rapl", self.joules)

    def gpu_memory_mb(self, pid: int | None) -> float | None:
        return None if pid is None else 7.0


def test_energy_is_attributed_to_each_request_on_its_own(runtime: FaultRuntime, tmp_path: Path):
    """Models take turns, and yet one request of 10 J for 5 tokens is 2 J a token; a model without a meter has none."""
    power = MadeUpPower(runtime.server)
    plan = make_plan([variant("fast", "cpu"), variant("steady")], PROMPTS, rounds=2)
    run = run_plan(plan, runtime, tmp_path, show_progress=False, power=power)
    fast, steady = summarise(run)
    assert {each.energy_j for each in run.completions if each.alias == "fast"} == {10.0}
    assert {each.energy_source for each in run.completions if each.alias == "fast"} == {"measured:rapl"}
    assert fast.energy_per_1000_tokens_wh == pytest.approx(2000 / 3600)
    assert power.read == 10  # before and after the warm-up and four timed requests
    assert (steady.energy_per_1000_tokens_wh, steady.energy_source) == (None, None)
    assert [serving.energy_note for serving in run.servings[-2:]] == [
        "Energy is made up.",
        "Energy was not measured: the model's process is not known, and may be on another machine.",
    ]
    assert read_run(tmp_path / RECORDS_FILE) == run


def test_declared_watts_make_an_assumed_energy(runtime: FaultRuntime, tmp_path: Path):
    """36 W for the time of the request: the plan's watts win over those of models.json, and both are called assumed."""
    carded = replace(variant("fast"), watts=500.0)
    run = run_plan(make_plan([carded], PROMPTS, rounds=1), runtime, tmp_path / "card", show_progress=False)
    told = make_plan([carded], PROMPTS, rounds=1, watts=36.0, price_per_kwh=0.5)
    told_run = run_plan(told, runtime, tmp_path / "plan", show_progress=False)
    (by_card,), (by_plan,) = summarise(run), summarise(told_run)
    assert by_card.energy_source == by_plan.energy_source == "assumed"
    assert "500 W were declared" in str(run.servings[-1].energy_note)
    assert "36 W were declared" in str(told_run.servings[-1].energy_note)
    for completion in told_run.completions:
        assert completion.energy_j is not None and completion.end_s is not None
        assert 36.0 * completion.end_s <= completion.energy_j < 36.0 * (completion.end_s + 5.0)
    assert by_plan.energy_cost_per_million_tokens == pytest.approx((by_plan.energy_per_1000_tokens_wh or 0) * 0.5)


def test_gpu_memory_is_looked_at_after_load_and_at_the_end(
    runtime: FaultRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The serving process's own memory on graphics cards reaches the row; without a process it is not measured."""
    plan = plan_of("fast", rounds=1)
    run = run_plan(plan, runtime, tmp_path / "unknown", show_progress=False, power=MadeUpPower(runtime.server))
    assert summarise(run)[0].gpu_memory_mb is None
    monkeypatch.setattr(Served, "pid", 4711)
    run = run_plan(plan, runtime, tmp_path / "known", show_progress=False, power=MadeUpPower(runtime.server))
    assert [serving.gpu_memory_mb for serving in run.servings] == [7.0, 7.0]
    assert summarise(run)[0].gpu_memory_mb == 7.0


# -- killed and resumed


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    """Three quick models; the benchmark that is killed is another process."""
    with tiny_server() as server:
        yield server.base_url


@pytest.mark.slow
def test_a_run_killed_again_and_again_is_complete_in_the_end(base_url: str, tmp_path: Path):
    """4 kills at random moments: every acknowledged record is there, each request is recorded once."""
    tally = kill_until_done(base_url, tmp_path, 20, 4, random.Random(3))
    assert tally.kills >= 2
    assert tally.acknowledged > 0
    assert tally.lost == 0
    assert differences(tmp_path, 20) == []
    rows = summarise(read_run(tmp_path / RECORDS_FILE))
    assert [(row.model_id, row.status, row.requests_ok) for row in rows] == [(name, "ok", 160) for name in MODELS]


def interrupted(folder: Path, keep: int, half: bytes = b"") -> None:
    """Make a complete run one that was cut after `keep` lines and a half one."""
    path = folder / RECORDS_FILE
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:keep]) + half)


def test_a_half_written_record_is_dropped_with_a_note(base_url: str, tmp_path: Path):
    """The note stands in the run before it is resumed, and once after; the request is measured again."""
    plan = plan_for(1)
    run_plan(plan, EndpointRuntime(base_url), tmp_path, show_progress=False)
    interrupted(tmp_path, 12, b'{"kind":"comp')
    before = read_run(tmp_path / RECORDS_FILE)
    resumed = run_plan(plan, EndpointRuntime(base_url), tmp_path, show_progress=False)
    assert len(before.notes) == len(resumed.notes) == 1
    assert "13 bytes are dropped" in resumed.notes[0]
    assert differences(tmp_path, 1) == []
    assert read_run(tmp_path / RECORDS_FILE) == resumed


@pytest.mark.parametrize("left", [b"", b'{"kind":"run","sch'])
def test_a_run_killed_before_its_first_line_begins_anew(base_url: str, tmp_path: Path, left: bytes):
    """An empty file, or half a header, holds nothing: the run starts as if it were not there."""
    (tmp_path / RECORDS_FILE).write_bytes(left)
    resumed = run_plan(plan_for(1), EndpointRuntime(base_url), tmp_path, show_progress=False)
    assert differences(tmp_path, 1) == []
    assert len(resumed.notes) == bool(left)


def test_the_order_of_the_first_start_is_kept(base_url: str, tmp_path: Path):
    """Free memory decides the order anew at every start; a run in progress stays as it began."""
    run_plan(plan_for(1), EndpointRuntime(base_url), tmp_path, show_progress=False)
    interrupted(tmp_path, 12)
    other = replace(plan_for(1), order="blocks")
    assert run_plan(other, EndpointRuntime(base_url), tmp_path, show_progress=False).plan["order"] == "round-robin"
    assert differences(tmp_path, 1) == []


def test_a_run_of_another_machine_is_not_continued(base_url: str, tmp_path: Path):
    """Records of two processors never mix in one run."""
    run_plan(plan_for(1), EndpointRuntime(base_url), tmp_path, show_progress=False)
    path = tmp_path / RECORDS_FILE
    header, rest = path.read_text(encoding="utf-8").split("\n", 1)
    entry = json.loads(header)
    entry["machine"]["cpu"] = "Another CPU"
    path.write_text(json.dumps(entry) + "\n" + rest, encoding="utf-8")
    with pytest.raises(ConfigurationError, match="different: cpu"):
        run_plan(plan_for(1), EndpointRuntime(base_url), tmp_path, show_progress=False)


def test_a_failed_model_stays_one_row_when_the_run_is_resumed(tmp_path: Path):
    """A resumed run tries a failed model once more; what failed before is not asked again, and the row is one."""
    behaviours = {"good": TINY, "bad": BEHAVIOURS["http-500"]}
    with FaultServer(behaviours) as server:
        runtime = EndpointRuntime(server.base_url)
        plan = make_plan(runtime.find(["auto"]), plan_for(1).prompts, rounds=1)
        first = run_plan(plan, runtime, tmp_path, show_progress=False)
        second = run_plan(plan, runtime, tmp_path, show_progress=False)
    assert [(row.alias, row.status) for row in summarise(second)] == [("good", "ok"), ("bad", "failed")]
    timed = Counter(each.request_id for each in second.completions if each.round > 0)
    assert set(timed.values()) == {1}
    assert second.completions[: len(first.completions)] == first.completions


# -- what pages do with runs


def write(folder: Path, run: Run) -> Path:
    """Put a run's records into a folder."""
    path = folder / "records.jsonl"
    with RunWriter(path, run) as writer:
        for record in (*run.servings, *run.completions):
            writer.append(record)
    return path


def test_a_probe_asks_once_and_leaves_no_file(runtime: FaultRuntime, tmp_path: Path, monkeypatch):
    """One warm-up and one question per model; the folder it used is gone."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    run = benchmark.probe(runtime, [variant("fast")], PROMPTS[0], max_tokens=5)
    assert [completion.round for completion in run.completions] == [0, 1]
    assert all(completion.ok for completion in run.completions)
    assert list(tmp_path.iterdir()) == []


class Shop:
    """A runtime that has one model, in three steps."""

    def __init__(self) -> None:
        self.cached = False

    def list_models(self) -> list[ModelVariant]:
        return [ModelVariant("a", "a:1", "cpu", cached=self.cached)]

    def download(self, variant: ModelVariant, *, on_progress) -> None:
        for percent in (0.0, 40.0, 100.0):
            on_progress(percent)
        self.cached = True


def test_downloads_show_progress_and_return_what_is_cached(capsys):
    """A bar on standard error reaches 100 %; the variants come back as cached."""
    shop = Shop()
    (variant,) = benchmark.download(shop, shop.list_models())
    captured = capsys.readouterr()
    assert variant.cached
    assert captured.out == ""
    assert "100%" in captured.err


def test_the_newest_run_that_answered_is_found_unless_one_is_named(tmp_path: Path, monkeypatch):
    """Newer runs without answers or that cannot be read are passed over; a path is taken, or an error."""
    monkeypatch.setenv("WORKSHOP_RUNS_DIR", str(tmp_path))
    good = write(tmp_path / "20260101T000000Z", run_of_models(1, failed=0))
    write(tmp_path / "20260102T000000Z", run_of_models(1, failed=1))
    (tmp_path / "20260103T000000Z").mkdir()
    (tmp_path / "20260103T000000Z" / "records.jsonl").write_text("broken\n")
    assert benchmark.find_records() == good
    assert benchmark.find_records(str(good)) == good.resolve()
    other = replace(run_of_models(1, failed=0), prompts=read_prompts("course"))
    newest = write(tmp_path / "20260104T000000Z", other)
    assert (benchmark.find_records(), benchmark.find_records(prompt_set="course")) == (newest, newest)
    with pytest.raises(RecordFileError, match=r"no records at .*none.*leave it empty"):
        benchmark.find_records(str(tmp_path / "none"))


def test_without_any_run_a_little_is_measured(base_url: str, tmp_path: Path, monkeypatch):
    """Three prompts, two rounds, every model that is ready."""
    monkeypatch.setenv("FOUNDRY_LOCAL_ENDPOINT", base_url)
    monkeypatch.setenv("WORKSHOP_RUNS_DIR", str(tmp_path))
    run = read_run(benchmark.find_records())
    timed = [completion for completion in run.completions if completion.round]
    assert len(timed) == 3 * 3 * 2
    assert run.prompts == read_prompts("meeting-notes")[:3]


def test_a_run_is_compared_with_the_newest_other_one_of_the_same_work(tmp_path: Path, monkeypatch):
    """Runs of other work and files that cannot be read are passed over; the remark names what it was compared with."""
    monkeypatch.setenv("WORKSHOP_RUNS_DIR", str(tmp_path))
    run = run_of_models(2, failed=0)
    write(tmp_path / "20260101T000000Z", run)
    write(tmp_path / "20260102T000000Z", replace(run, plan={**run.plan, "max_tokens": 7}))
    (tmp_path / "20260103T000000Z").mkdir()
    (tmp_path / "20260103T000000Z" / "records.jsonl").write_text("broken\n")
    found = benchmark.changes_since_another(write(tmp_path / "20260104T000000Z", run))
    assert found.remarks[0].startswith("This run (20260104T000000Z) against 20260101T000000Z:")
    assert len(found.lines) == 2 * 3
    assert {line.verdict.split(" (")[0] for line in found.lines} == {"no clear difference"}


def test_a_run_alone_is_compared_with_the_shipped_reference(tmp_path: Path, monkeypatch):
    """Without another run the reference takes its place; with neither, a sentence says so."""
    monkeypatch.setenv("WORKSHOP_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setattr(comparison, "REFERENCES", tmp_path / "reference")
    run = run_of_models(2, failed=0)
    path = write(tmp_path / "runs" / "20260101T000000Z", run)
    alone = benchmark.changes_since_another(path)
    assert alone.lines == ()
    assert alone.remarks[0].startswith("There is no other run of the same work to compare with")
    (tmp_path / "reference" / "practice").mkdir(parents=True)
    written = report.report_json(run, summarise(run))
    (tmp_path / "reference" / "practice" / comparison.REPORT).write_text(written, "utf-8")
    found = benchmark.changes_since_another(path)
    assert "against the reference of Test CPU, date unknown" in found.remarks[0]
    assert len(found.lines) == 2 * 3
