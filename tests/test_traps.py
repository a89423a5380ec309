"""Every trap of a local endpoint, end to end: a server that has it, a benchmark run, and the row that comes out.

One test per trap: the figure is right or withheld, and the row carries the code. The server runs at a quarter of the
usual times: first token after 12.5 ms, then one every 2.5 ms, 40 tokens: 110 ms an answer, 400 tokens per second.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

import httpx2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.behaviours import BEHAVIOURS, STEADY
from tests.fault_server import FaultServer, fault_server
from tests.fault_steps import scaled
from tests.scripts import FULL
from tests.scripts import run as run_script
from workshop_lib import timing
from workshop_lib.benchmark import run_plan
from workshop_lib.plan import make_plan
from workshop_lib.records import Completion, Prompt, Row, Run
from workshop_lib.runtimes.profiles import open_runtime
from workshop_lib.summary import WARNINGS, looks_cached, stability_notes, summarise
from workshop_lib.summary import Start as Answered

Metric = Callable[[Completion], float | None]
SCALE = 0.25
FIRST_S, PACE_S, ANSWER_S = 0.0125, 0.0025, 0.110
PROMPTS = tuple(Prompt(name, f"Say {name}.") for name in ("one", "two", "three"))
LATE_S = 0.02
"""How late a busy machine may make a median; every wrong answer that a trap invites is further off."""


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    """The fake server in a process of its own."""
    with fault_server(time_scale=SCALE) as url:
        yield url


def measured(base_url: str, folder: Path, *models: str, rounds: int = 2, **options: Any) -> tuple[dict[str, Row], Run]:
    """Rows by alias, and the run, of a benchmark of behaviours."""
    with open_runtime("endpoint", endpoint=base_url) as runtime:
        plan = make_plan(runtime.find(models), PROMPTS, **{"rounds": rounds, "timeout_s": 5.0, **options})
        run = run_plan(plan, runtime, folder, show_progress=False)
    assert {code for row in summarise(run) for code in row.warnings} <= WARNINGS.keys()
    return {row.alias: row for row in summarise(run)}, run


def about(seconds: float, late_s: float = LATE_S) -> object:
    """Not before its time, and not much later."""
    return pytest.approx(seconds + late_s / 2, abs=late_s / 2 + 0.0005)


def timed(run: Run, metric: Metric) -> list[float]:
    """What a metric says of every timed request: the row has its mean, its median bears a busy machine."""
    return [value for each in run.completions if each.round and (value := metric(each)) is not None]


def test_an_empty_role_chunk_is_ignored(base_url: str, tmp_path: Path):
    """A role chunk at 0 ms is no token: the first token is the one at 12.5 ms."""
    rows, run = measured(base_url, tmp_path, "early-role")
    first_s = timed(run, timing.first_token_s)
    assert median(first_s) == about(FIRST_S)
    assert rows["early-role"].first_token_latency_avg == pytest.approx(fmean(first_s))


def test_several_tokens_per_chunk_leave_the_rate_right(base_url: str, tmp_path: Path):
    """4 tokens per chunk: 400 tokens per second within 10 %, flagged."""
    rows, _ = measured(base_url, tmp_path, "coalesced")
    assert rows["coalesced"].decode_tokens_per_sec == pytest.approx(400, rel=0.1)
    assert "coalesced_chunks" in rows["coalesced"].warnings


def test_several_per_chunk_without_usage_give_no_rate(base_url: str, tmp_path: Path):
    """10 chunks are counted as 10 chunks, under that name; no rate in tokens is given."""
    rows, _ = measured(base_url, tmp_path, "coalesced-no-usage")
    row = rows["coalesced-no-usage"]
    assert (row.tokens_source, row.completion_tokens_avg) == ("chunks", 10)
    assert (row.tokens_per_sec_avg, row.decode_tokens_per_sec) == (None, None)
    assert "no_usage" in row.warnings


def test_reasoning_streamed_apart_gives_both_times(base_url: str, tmp_path: Path):
    """10 reasoning tokens first: a token at 12.5 ms, one that the user sees at 37.5 ms."""
    rows, run = measured(base_url, tmp_path, "reasoning")
    first_s, visible_s = timed(run, timing.first_token_s), timed(run, timing.first_visible_token_s)
    assert (median(first_s), median(visible_s)) == (about(FIRST_S), about(FIRST_S + 10 * PACE_S))
    assert rows["reasoning"].first_token_latency_avg == pytest.approx(fmean(first_s))
    assert rows["reasoning"].first_visible_token_latency_avg == pytest.approx(fmean(visible_s))


@pytest.mark.parametrize("model", ["hidden", "partly-hidden"])
def test_tokens_that_are_never_streamed_withhold_the_rate(base_url: str, tmp_path: Path, model: str):
    """30, or 10, of 40 tokens are in usage only: no decode rate, flagged; the end-to-end rate stands."""
    rows, _ = measured(base_url, tmp_path, model)
    assert rows[model].decode_tokens_per_sec is None
    assert 0 < (rows[model].tokens_per_sec_avg or 0.0) < 1.01 * 40 / ANSWER_S
    assert "hidden_tokens" in rows[model].warnings


def slow_in(number: int) -> FaultServer:
    """A server whose n-th answer, counted from the warm-up, comes 500 ms late."""
    return FaultServer({"slow-once": replace(scaled(STEADY, SCALE), slow_requests={number: 0.5 / SCALE})})


def test_a_slow_first_request_is_the_cold_start(tmp_path: Path):
    """500 ms more in the first request are shown as cold start and are in no average."""
    with slow_in(0) as server:
        rows, run = measured(server.base_url, tmp_path, "slow-once")
    row, latencies = rows["slow-once"], timed(run, timing.latency_s)
    assert (row.cold_start_s or 0.0) >= ANSWER_S + 0.5
    assert row.latency_avg == pytest.approx(fmean(latencies))
    assert median(latencies) == about(ANSWER_S, late_s=0.2)
    assert "cold_start" in row.warnings


def test_a_rare_spike_is_named(tmp_path: Path):
    """The one request that took 500 ms longer is flagged, and named by prompt and round."""
    with slow_in(7) as server:
        rows, run = measured(server.base_url, tmp_path, "slow-once", rounds=3)
    slow = max((each for each in run.completions if each.round), key=lambda each: each.chunks[-1].at_s)
    assert "outliers" in rows["slow-once"].warnings
    named = f"slow-once: prompt {slow.prompt_id}, round {slow.round} took "
    assert any(named in note for note in stability_notes(run))


def fresh(model: str) -> FaultServer:
    """A server that has seen no prompt yet."""
    return FaultServer({model: scaled(BEHAVIOURS[model], SCALE)})


@pytest.mark.parametrize("model", ["cached", "cached-reported"])
def test_a_cached_prompt_is_flagged(tmp_path: Path, model: str):
    """50 ms for a new prompt, 1 ms for a repeated one: flagged, whether the server reports it or not."""
    with fresh(model) as server:
        rows, _ = measured(server.base_url, tmp_path, model, rounds=3)
    assert "cached_prompt" in rows[model].warnings


def test_a_unique_prefix_keeps_the_cache_out(tmp_path: Path):
    """With a line of its own per round every first token takes its 50 ms, and nothing is flagged."""
    with fresh("cached") as server:
        rows, run = measured(server.base_url, tmp_path, "cached", rounds=3, unique_prefix=True)
    assert median(timed(run, timing.first_token_s)) == about(4 * FIRST_S, late_s=0.1)
    assert "cached_prompt" not in rows["cached"].warnings
    assert len({each.prompt_sha256 for each in run.completions if each.prompt_id == "two"}) == 3


def test_the_script_takes_the_unique_prefix_as_a_flag(tmp_path: Path):
    """`--unique-prefix` reaches the server: no prompt is served from its cache."""
    with fresh("cached") as server:
        done = run_script(FULL, "--unique-prefix", "--rounds", "2", "--output", str(tmp_path),
                          FOUNDRY_LOCAL_ENDPOINT=server.base_url)  # fmt: skip
    (row,) = json.loads(done.stdout)
    assert row["first_token_latency_avg"] >= 4 * FIRST_S
    assert "cached_prompt" not in row["warnings"]


def test_one_prompt_asked_five_times_is_enough_to_see_the_cache(tmp_path: Path):
    """The warm-up is another text, so that round 1 of a single prompt is the first time it is asked."""
    with fresh("cached") as server, open_runtime("endpoint", endpoint=server.base_url) as runtime:
        plan = make_plan(runtime.find(["cached"]), PROMPTS[:1], rounds=5)
        (row,) = summarise(run_plan(plan, runtime, tmp_path, show_progress=False))
    assert "cached_prompt" in row.warnings


@pytest.mark.parametrize("model", ["steady", "cold"])
def test_a_server_without_a_cache_is_not_accused(base_url: str, tmp_path: Path, model: str):
    """Neither an even server nor a slow first request looks like a cache."""
    rows, _ = measured(base_url, tmp_path, model, rounds=3)
    assert "cached_prompt" not in rows[model].warnings


def answers(starts: np.ndarray, rests: np.ndarray) -> list[Answered]:
    """Prompts down, rounds across."""
    return [
        Answered(str(prompt), number, float(starts[prompt, number - 1]), float(rests[prompt, number - 1]))
        for prompt in range(starts.shape[0])
        for number in range(1, starts.shape[1] + 1)
    ]


@given(st.integers(0, 10_000), st.integers(1, 8), st.integers(3, 6))
def test_noise_is_no_cache(seed: int, prompts: int, rounds: int):
    """First tokens that scatter by 12 % look cached in no run, and those of a real cache in every one."""
    generator = np.random.default_rng(seed)
    starts = 0.05 * np.exp(generator.normal(0, 0.12, (prompts, rounds)))
    rests = np.full((prompts, rounds), 0.4)
    cached = np.where(np.arange(rounds) > 0, 0.2, 1.0)
    assert not looks_cached(answers(starts, rests))
    assert looks_cached(answers(starts * cached, rests)) == (prompts * (rounds - 1) >= 4)


def test_a_machine_that_was_busy_in_the_first_round_is_no_cache():
    """Three times slower in all of round 1 is load; three times slower to the first token only is a cache."""
    slow_first = np.tile([3.0, 1.0, 1.0], (8, 1))
    assert not looks_cached(answers(0.05 * slow_first, 0.4 * slow_first))
    assert looks_cached(answers(0.05 * slow_first, np.full((8, 3), 0.4)))


def test_answers_of_one_token_can_show_a_cache():
    """Without a rest of the answer the first tokens alone decide."""
    assert looks_cached(answers(np.tile([0.05, 0.01, 0.01], (8, 1)), np.zeros((8, 3))))


def test_a_connection_used_before_is_no_part_of_the_first_token(tmp_path: Path):
    """A used connection really stalls for 40 ms here, and the benchmark does not see it."""
    quick = replace(BEHAVIOURS["reuse-stall"], first_token_s=0.01, pace_s=0.001, tokens=10)
    body = {"model": "quick", "stream": True, "messages": [{"role": "user", "content": "Say it."}]}
    with FaultServer({"quick": quick}) as server:
        with httpx2.Client(trust_env=False) as careless:
            waits = [careless.post(f"{server.base_url}/chat/completions", json=body).elapsed for _ in range(2)]
        _, run = measured(server.base_url, tmp_path, "quick")
    assert waits[1].total_seconds() >= 0.04 + 0.019
    assert median(timed(run, timing.first_token_s)) == about(0.01, late_s=0.03)


def test_a_retry_is_outside_every_timing(tmp_path: Path):
    """A failed attempt and the repeated one are two records; neither the failure nor the pause is in a latency."""
    pauses: list[float] = []
    with FaultServer({"flaky": scaled(BEHAVIOURS["flaky"], SCALE)}) as server:
        with open_runtime("endpoint", endpoint=server.base_url) as runtime:
            plan = make_plan(runtime.find(["flaky"]), PROMPTS, rounds=2, retries=1, retry_backoff_s=1.0)
            run = run_plan(plan, runtime, tmp_path, show_progress=False, sleep=pauses.append)
        sent = server.requests["flaky"]
    (row,) = summarise(run)
    assert pauses == [1.0]
    assert (sent, len(run.completions), row.requests_ok) == (8, 8, 6)
    assert sorted(each.attempt for each in run.completions) == [1] * 7 + [2]
    assert median(timed(run, timing.latency_s)) == about(ANSWER_S, late_s=0.2)
    assert row.latency_avg == pytest.approx(fmean(timed(run, timing.latency_s)))
    assert "some_failed" in row.warnings


def test_few_rounds_are_too_few_for_a_p95(base_url: str, tmp_path: Path):
    """6 requests are flagged, 21 are not; the percentile is numpy's linear one and never exceeds the slowest."""
    for rounds, flagged in ((2, True), (7, False)):
        rows, run = measured(base_url, tmp_path / str(rounds), "fast", rounds=rounds)
        latencies = [each.chunks[-1].at_s for each in run.completions if each.round]
        assert ("too_few_samples" in rows["fast"].warnings) is flagged
        assert rows["fast"].latency_p95 == pytest.approx(float(np.percentile(latencies, 95, method="linear")))


def test_answers_cut_by_max_tokens_are_not_equal_work(base_url: str, tmp_path: Path):
    """With 10 of 40 tokens allowed every answer is cut, and the row says so."""
    rows, _ = measured(base_url, tmp_path, "steady", max_tokens=10)
    assert (rows["steady"].truncated_share, rows["steady"].completion_tokens_avg) == (1.0, 10)
    assert "truncated" in rows["steady"].warnings


def test_a_faulty_server_fails_its_row_and_the_batch_goes_on(base_url: str, tmp_path: Path):
    """A stall, a reset, broken JSON and an error inside HTTP 200 are failed rows with reasons beside an ok one."""
    faulty = ("stall-middle", "reset", "bad-json", "error-in-200")
    rows, _ = measured(base_url, tmp_path, *faulty, "fast", rounds=1, timeout_s=0.3)
    assert {alias: row.status for alias, row in rows.items()} == {**dict.fromkeys(faulty, "failed"), "fast": "ok"}
    assert all(rows[alias].error for alias in faulty)
