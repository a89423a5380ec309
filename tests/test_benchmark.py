"""Plans and the loop that runs them, against the fake server and against the real runtime."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.behaviours import BEHAVIOURS
from tests.fault_runtime import FaultRuntime, Served, variant
from tests.fault_server import FaultServer
from workshop_lib.archive.storage import read_run
from workshop_lib.errors import ConfigurationError
from workshop_lib.instrument.power import PowerSources
from workshop_lib.measuring.benchmark import RECORDS_FILE, run_benchmark
from workshop_lib.measuring.plan import Plan, choose_variants, make_plan
from workshop_lib.metrics.summaries import summarise
from workshop_lib.records import ModelVariant, Prompt

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
    return make_plan([variant(model) for model in models], PROMPTS, **{"rounds": 2, "timeout_s": 0.4, **options})


@given(st.integers(0, 1000), st.sampled_from(["round-robin", "blocks"]), st.integers(1, 4))
def test_every_model_prompt_and_round_is_planned_once(seed: int, order: str, rounds: int):
    """Whatever the seed and the order, the plan holds each combination exactly once."""
    plan = plan_of("fast", "steady", rounds=rounds, seed=seed, order=order)
    planned = [request.request_id for _, requests in plan.blocks() for request in requests]
    expected = {
        f"{model}/{prompt.id}/{round_}"
        for model in ("fast", "steady")
        for prompt in PROMPTS
        for round_ in range(1, rounds + 1)
    }
    assert len(planned) == len(expected)
    assert set(planned) == expected


def test_the_same_seed_gives_the_same_order_and_another_seed_another():
    """Order is part of the plan, so that a run can be repeated and resumed."""

    def order(seed: int) -> list[str]:
        return [
            request.request_id for _, requests in plan_of("fast", "steady", seed=seed).blocks() for request in requests
        ]

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_round_robin_finishes_a_round_before_the_next():
    """Heat and other load hit all models alike: round 2 starts when round 1 is complete."""
    ((_, requests),) = plan_of("fast", "steady", rounds=3, order="round-robin").blocks()
    rounds = [request.round for request in requests]
    assert rounds == sorted(rounds)


def test_blocks_serve_one_model_at_a_time():
    """For models that do not fit in memory together every block holds one model and one round."""
    blocks = list(plan_of("fast", "steady", rounds=2, order="blocks").blocks())
    assert len(blocks) == 4
    assert all(
        len(variants) == 1 and len({request.round for request in requests}) == 1 for variants, requests in blocks
    )


def test_models_that_do_not_fit_together_are_measured_in_blocks():
    """Two models of a million megabytes cannot be served at once on any machine."""
    huge = [replace(variant(name), size_mb=1e6) for name in ("a", "b")]
    assert make_plan(huge, PROMPTS).order == "blocks"
    assert make_plan([variant("a")], PROMPTS).order == "round-robin"


@pytest.mark.parametrize("options", [{"rounds": 0}, {"max_tokens": 0}])
def test_a_plan_without_work_is_refused(options: dict[str, int]):
    """Zero rounds or tokens is a mistake, named with its value."""
    with pytest.raises(ConfigurationError, match="is 0"):
        plan_of("fast", **options)


def test_an_empty_prompt_set_is_refused():
    """Nothing can be measured without a prompt."""
    with pytest.raises(ConfigurationError, match="empty"):
        make_plan([variant("fast")], ())


def test_a_run_measures_every_model_and_records_every_request(runtime: FaultRuntime, tmp_path: Path):
    """Two models, two prompts, two rounds: two warm-ups, eight timed requests, two ok rows, everything stopped."""
    run = run_benchmark(plan_of("fast", "steady"), runtime, tmp_path, show_progress=False)
    assert sum(completion.round == 0 for completion in run.completions) == 2
    assert sum(completion.round > 0 for completion in run.completions) == 8
    assert [row.status for row in summarise(run)] == ["ok", "ok"]
    assert all(row.peak_resident_mb == 12.0 and row.load_s == 0.25 for row in summarise(run))
    assert runtime.serving == []
    assert read_run(tmp_path / RECORDS_FILE) == run


@pytest.mark.parametrize("fault", ["http-500", "stall-middle", "reset", "bad-json", "empty"])
def test_a_failing_model_is_a_failed_row_and_the_others_are_measured(runtime: FaultRuntime, tmp_path: Path, fault: str):
    """A faulty model is left alone after two failures; the batch goes on."""
    run = run_benchmark(plan_of(fault, "fast"), runtime, tmp_path, show_progress=False)
    rows = {row.alias: row for row in summarise(run)}
    assert (rows[fault].status, rows["fast"].status) == ("failed", "ok")
    assert rows[fault].error
    assert sum(completion.alias == fault for completion in run.completions) == 2


def test_a_model_that_cannot_be_loaded_is_a_failed_row(runtime: FaultRuntime, tmp_path: Path):
    """The reason of the failed load is the row's error; nothing is asked of it."""
    runtime.unservable.add("steady")
    rows = {
        row.alias: row
        for row in summarise(run_benchmark(plan_of("steady", "fast"), runtime, tmp_path, show_progress=False))
    }
    assert rows["steady"].status == "failed"
    assert "could not be loaded" in (rows["steady"].error or "")
    assert rows["fast"].status == "ok"


def test_a_dead_server_process_is_given_up_at_once(runtime: FaultRuntime, tmp_path: Path):
    """When the serving process is gone, its cause is the row's error and no second request waits for it."""
    runtime.dead["reset"] = "The process was killed by signal 9; probably out of memory."
    run = run_benchmark(plan_of("reset", "fast"), runtime, tmp_path, show_progress=False)
    rows = {row.alias: row for row in summarise(run)}
    assert "out of memory" in (rows["reset"].error or "")
    assert sum(completion.alias == "reset" for completion in run.completions) == 1


def test_a_retry_is_a_record_of_its_own(runtime: FaultRuntime, tmp_path: Path):
    """Two retries of a failing request are three records with attempts 1, 2, 3 and doubling pauses."""
    pauses: list[float] = []
    plan = plan_of("http-500", retries=2, retry_backoff_s=1.0)
    run = run_benchmark(plan, runtime, tmp_path, show_progress=False, sleep=pauses.append)
    assert [completion.attempt for completion in run.completions][:3] == [1, 2, 3]
    assert pauses[:2] == [1.0, 2.0]


def test_an_interrupted_run_is_completed_without_repeating(runtime: FaultRuntime, tmp_path: Path):
    """Cut after the third timed record, the run asks only for the rest; the result has the shape of an unbroken one."""
    plan = plan_of("fast", "steady")
    run_benchmark(plan, runtime, tmp_path, show_progress=False)
    path = tmp_path / RECORDS_FILE
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:8]) + b'{"half')
    before = [completion.request_id for completion in read_run(path).completions if completion.round > 0]
    run = run_benchmark(plan, runtime, tmp_path, show_progress=False)
    timed = [completion.request_id for completion in run.completions if completion.round > 0]
    assert len(before) == 3
    assert len(timed) == len(set(timed)) == 8


def test_a_complete_run_is_not_served_again(runtime: FaultRuntime, tmp_path: Path):
    """Running a finished plan again loads nothing."""
    run_benchmark(plan_of("fast"), runtime, tmp_path, show_progress=False)
    runtime.served_in_order.clear()
    run_benchmark(plan_of("fast"), runtime, tmp_path, show_progress=False)
    assert runtime.served_in_order == []


def test_another_plan_does_not_mix_into_a_folder(runtime: FaultRuntime, tmp_path: Path):
    """A folder with a run of three rounds refuses one of two, naming what differs."""
    run_benchmark(plan_of("fast"), runtime, tmp_path, show_progress=False)
    with pytest.raises(ConfigurationError, match="different: rounds"):
        run_benchmark(plan_of("fast", rounds=1), runtime, tmp_path, show_progress=False)


def test_unknown_names_and_absent_devices_are_skipped_rows(runtime: FaultRuntime, tmp_path: Path):
    """What cannot be measured stays in the report with its reason, one row per alias and device."""
    variants, skipped = choose_variants(runtime, ["fast", "fsat"], ["cpu", "gpu"])
    run = run_benchmark(
        make_plan(variants, PROMPTS, rounds=1, skipped=tuple(skipped)), runtime, tmp_path, show_progress=False
    )
    rows = {(row.alias, row.device): row for row in summarise(run)}
    assert rows["fsat", "unknown"].status == "skipped"
    assert "Did you mean fast?" in (rows["fsat", "unknown"].error or "")
    assert rows["fast", "gpu"].error == "No GPU provider is registered."
    assert rows["fast", "unknown"].status == "ok"
    assert len(rows) == 3


class WithoutGpu(FaultRuntime):
    """Its models are for the CPU, and `auto` is `fast`."""

    def find(self, names: Sequence[str], devices: Sequence[str] = ("cpu", "gpu")) -> list[ModelVariant]:
        return super().find(["fast" if name == "auto" else name for name in names]) if "cpu" in devices else []


@pytest.mark.parametrize("name", ["auto", "fast"])
def test_an_absent_device_alone_gives_the_rows_it_gives_beside_another(runtime: FaultRuntime, name: str):
    """Where only the GPU is asked for and there is none, each model is skipped with the reason."""
    without = WithoutGpu(runtime.server)
    chosen, alone = choose_variants(without, [name], ["gpu"])
    assert not chosen
    assert [(each.alias, each.device, why) for each, why in alone] == [
        ("fast", "gpu", "No GPU provider is registered.")
    ]
    assert alone == choose_variants(without, [name], ["cpu", "gpu"])[1]


class Meter:
    """Counts up by itself: reading it costs a joule, and every request between two readings costs ten."""

    source = "measured:rapl"
    covers = "Energy is made up."

    def __init__(self, server: FaultServer) -> None:
        self.server, self.readings, self.intervals = server, 0, 0

    def _asked(self) -> int:
        return self.server.requests.total()

    def mark(self) -> int:
        self.intervals += 1
        return self._asked()

    def joules_since(self, mark: int) -> float:
        return 10.0 * (self._asked() - mark)


class MadeUpPower(PowerSources):
    """The meter above for `fast`, and what this machine has for the others."""

    meter: Meter

    def meter_for(self, device: str, pid: int | None, watts: float | None = None):
        return self.meter if device == "cpu" else super().meter_for(device, pid, watts)

    def gpu_memory_mb(self, pid: int | None) -> float | None:
        return None if pid is None else 7.0


def test_energy_is_attributed_to_each_request_on_its_own(runtime: FaultRuntime, tmp_path: Path):
    """Models take turns, and yet one request of 10 J for 5 tokens is 2 J a token; a model without a meter has none."""
    power = MadeUpPower()
    power.meter = Meter(runtime.server)
    plan = make_plan([variant("fast", "cpu"), variant("steady")], PROMPTS, rounds=2)
    run = run_benchmark(plan, runtime, tmp_path, show_progress=False, power=power)
    fast, steady = summarise(run)
    assert {each.energy_j for each in run.completions if each.alias == "fast"} == {10.0}
    assert {each.energy_source for each in run.completions if each.alias == "fast"} == {"measured:rapl"}
    assert fast.energy_per_1000_tokens_wh == pytest.approx(2000 / 3600)
    assert power.meter.intervals == 5  # the warm-up and four timed requests
    assert (steady.energy_per_1000_tokens_wh, steady.energy_source) == (None, None)
    assert [serving.energy_note for serving in run.servings[-2:]] == [
        "Energy is made up.",
        "Energy was not measured: the model's process is not known, and may be on another machine.",
    ]
    assert read_run(tmp_path / RECORDS_FILE) == run


def test_declared_watts_make_an_assumed_energy(runtime: FaultRuntime, tmp_path: Path):
    """36 W for the time of the request: the plan's watts win over those of models.json, and both are called assumed."""
    carded = replace(variant("fast"), watts=500.0)
    run = run_benchmark(make_plan([carded], PROMPTS, rounds=1), runtime, tmp_path / "card", show_progress=False)
    told = make_plan([carded], PROMPTS, rounds=1, watts=36.0, price_per_kwh=0.5)
    told_run = run_benchmark(told, runtime, tmp_path / "plan", show_progress=False)
    (by_card,), (by_plan,) = summarise(run), summarise(told_run)
    assert by_card.energy_source == by_plan.energy_source == "assumed"
    assert "500 W were declared" in str(run.servings[-1].energy_note)
    assert "36 W were declared" in str(told_run.servings[-1].energy_note)
    for completion in told_run.completions:
        assert completion.energy_j is not None and completion.end_s is not None
        assert 36.0 * completion.end_s <= completion.energy_j < 36.0 * (completion.end_s + 1.0)
    assert by_plan.energy_cost_per_million_tokens == pytest.approx((by_plan.energy_per_1000_tokens_wh or 0) * 0.5)


def test_gpu_memory_is_looked_at_after_load_and_at_the_end(
    runtime: FaultRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The serving process's own memory on graphics cards reaches the row; without a process it is not measured."""
    plan = plan_of("fast", rounds=1)
    run = run_benchmark(plan, runtime, tmp_path / "unknown", show_progress=False, power=MadeUpPower())
    assert summarise(run)[0].gpu_memory_mb is None
    monkeypatch.setattr(Served, "pid", 4711)
    run = run_benchmark(plan, runtime, tmp_path / "known", show_progress=False, power=MadeUpPower())
    assert [serving.gpu_memory_mb for serving in run.servings] == [7.0, 7.0]
    assert summarise(run)[0].gpu_memory_mb == 7.0


@pytest.mark.parametrize("watts", [0.0, -1.0, float("nan"), float("inf")])
def test_watts_that_are_none_are_refused(watts: float):
    """Nothing runs on no power: the number is named."""
    with pytest.raises(ConfigurationError, match=f"watts is {watts}"):
        plan_of("fast", watts=watts)
