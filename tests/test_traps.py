"""Every trap of a local endpoint, end to end: a server that has it, a benchmark run, and the row that comes out.

One test per trap: the figure is right or withheld, and the row carries the code. The server runs at a quarter of the
usual times: first token after 12.5 ms, then one every 2.5 ms, 40 tokens: 110 ms an answer, 400 tokens per second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import httpx2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.behaviours import BEHAVIOURS, STEADY, openai_error, picky
from tests.fault_server import FaultServer, fault_server
from tests.fault_steps import Refusal, refuse, scaled
from tests.measurement_helpers import completion
from workshop_lib import timing
from workshop_lib.benchmark import run_plan
from workshop_lib.plan import make_plan
from workshop_lib.records import Completion, Prompt, Row, Run
from workshop_lib.runtimes.profiles import open_runtime
from workshop_lib.summary import WARNINGS, looks_cached, stability_notes, summarise

Metric = Callable[[Completion], float | None]
SCALE = 0.25
FIRST_S, PACE_S, ANSWER_S = 0.0125, 0.0025, 0.110
PROMPTS = tuple(Prompt(name, f"Say {name}.") for name in ("one", "two", "three"))


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    """The fake server in a process of its own."""
    with fault_server(time_scale=SCALE) as url:
        yield url


def measured(
    base_url: str, folder: Path, *models: str, rounds: int = 2, show_progress: bool = False, **options: Any
) -> tuple[dict[str, Row], Run]:
    """Rows by alias, and the run, of a benchmark of behaviours."""
    with open_runtime("endpoint", endpoint=base_url) as runtime:
        plan = make_plan(runtime.find(models), PROMPTS, **{"rounds": rounds, "timeout_s": 5.0, **options})
        run = run_plan(plan, runtime, folder, show_progress=show_progress)
    assert {code for row in summarise(run) for code in row.warnings} <= WARNINGS.keys()
    return {row.alias: row for row in summarise(run)}, run


def timed(run: Run, metric: Metric) -> list[float]:
    """What a metric says of every timed request: the row has its mean, its median bears a busy machine."""
    return [value for each in run.completions if each.round and (value := metric(each)) is not None]


def test_several_tokens_per_chunk_leave_the_rate_right(base_url: str, tmp_path: Path):
    """4 tokens per chunk: 400 tokens per second where a busy machine lets them, and not 100 chunks; flagged."""
    rows, _ = measured(base_url, tmp_path, "coalesced")
    assert 150 < (rows["coalesced"].decode_tokens_per_sec or 0) < 440
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
    assert min(first_s) >= FIRST_S - 0.0005
    assert min(first_s) < FIRST_S + 10 * PACE_S <= min(visible_s) + 0.0005
    assert rows["reasoning"].first_token_latency_avg == pytest.approx(fmean(first_s))
    assert rows["reasoning"].first_visible_token_latency_avg == pytest.approx(fmean(visible_s))


def test_tokens_that_are_never_streamed_withhold_the_rate(base_url: str, tmp_path: Path):
    """10 of 40 tokens are in usage only: no decode rate, flagged; the end-to-end rate stands."""
    row = measured(base_url, tmp_path, "partly-hidden")[0]["partly-hidden"]
    assert row.decode_tokens_per_sec is None
    assert 0 < (row.tokens_per_sec_avg or 0.0) < 1.01 * 40 / ANSWER_S
    assert "hidden_tokens" in row.warnings


def test_what_a_server_asks_for_is_obeyed_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A parameter that it refuses is named in the row; a pause that it asks for is shown in the bar; no failure."""
    refused = Refusal(("temperature",), 400, lambda _: openai_error("Only 1 is supported.", "temperature"))
    loading = refuse(503, "Loading model", retry_after="0.3")
    picks = replace(scaled(picky(refused), SCALE), fault=loading, faulty=range(2))
    with FaultServer({"picks": picks}) as server:
        run = measured(server.base_url, tmp_path, "picks", show_progress=True)[1]
    (row,) = summarise(run)
    assert (row.status, row.requests_ok) == ("ok", 6)
    assert row.request_notes[0] == "temperature dropped" and "waited" in row.request_notes[1]
    assert row.request_notes in {each.request_notes for each in run.servings}
    assert "picks is loading: 0.3 s" in capsys.readouterr().err


def slow_in(number: int) -> FaultServer:
    """A server whose n-th answer, counted from the warm-up, comes 500 ms late."""
    return FaultServer({"slow-once": replace(scaled(STEADY, SCALE), slow_requests={number: 0.5 / SCALE})})


def test_a_rare_spike_is_named(tmp_path: Path):
    """The one request that took 500 ms longer is flagged, and named by prompt and round."""
    with slow_in(7) as server:
        rows, run = measured(server.base_url, tmp_path, "slow-once", rounds=3)
    slow = max((each for each in run.completions if each.round), key=lambda each: each.chunks[-1].at_s)
    assert "outliers" in rows["slow-once"].warnings
    named = f"slow-once: prompt {slow.prompt_id}, round {slow.round} took "
    assert any(named in note for note in stability_notes(run))


def fresh(model: str) -> FaultServer:
    """A server that has seen no prompt yet; a new one takes 200 ms, a repeated one 4, and says one word."""
    return FaultServer({model: replace(BEHAVIOURS[model], tokens=1)})


@pytest.mark.parametrize("model", ["cached", "cached-reported"])
def test_a_cached_prompt_is_flagged(tmp_path: Path, model: str):
    """Flagged, whether the server reports it or not."""
    with fresh(model) as server:
        rows, _ = measured(server.base_url, tmp_path, model, rounds=3)
    assert "cached_prompt" in rows[model].warnings


def test_a_unique_prefix_keeps_the_cache_out(tmp_path: Path):
    """With a line of its own per round every first token takes its 200 ms, and nothing is flagged."""
    with fresh("cached") as server:
        rows, run = measured(server.base_url, tmp_path, "cached", rounds=3, unique_prefix=True)
    assert min(timed(run, timing.first_token_s)) >= 0.1995
    assert "cached_prompt" not in rows["cached"].warnings
    assert len({each.prompt_sha256 for each in run.completions if each.prompt_id == "two"}) == 3


@pytest.mark.parametrize("model", ["steady", "cold"])
def test_a_server_without_a_cache_is_not_accused(base_url: str, tmp_path: Path, model: str):
    """Neither an even server nor a slow first request looks like a cache."""
    rows, _ = measured(base_url, tmp_path, model, rounds=3)
    assert "cached_prompt" not in rows[model].warnings


def answers(starts: np.ndarray, rests: np.ndarray) -> list[Completion]:
    """Prompts down, rounds across."""
    return [
        completion([start, start + rests[prompt, number - 1]], prompt_id=str(prompt), round=number)
        for prompt in range(starts.shape[0])
        for number, start in enumerate(starts[prompt], 1)
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
    assert min(timed(run, timing.first_token_s)) < 0.05, "every one of them had stalled"
