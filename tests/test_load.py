"""Several users at once against servers of known capacity, and a light prompt now and then."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.behaviours import BEHAVIOURS, STEADY
from tests.fault_server import FaultServer, fault_server, free_port
from tests.fault_steps import Behaviour
from tests.foundry_helpers import practice, smallest, wait_until
from tests.measurement_helpers import VARIANT, completion, request
from workshop_lib import benchmark, load, timing
from workshop_lib.client import ChatClient
from workshop_lib.errors import ConfigurationError, ModelServerError
from workshop_lib.load import (
    NEVER_UNLOADS,
    KeepWarm,
    KeepWarmResult,
    Load,
    describe,
    measure_cold_and_kept,
    measure_loads,
    saturation,
)
from workshop_lib.plan import find_models
from workshop_lib.programs import commands
from workshop_lib.records import ModelVariant, Prompt, Run
from workshop_lib.runtimes import profiles
from workshop_lib.settings import BenchmarkSettings

FAST = Behaviour(first_token_s=0.002, pace_s=0.001, tokens=3)
SLOW = replace(FAST, first_token_s=0.3)
PROMPTS = (Prompt("p", "Say it."), Prompt("q", "Say that."))
GOALS = {"first_token": 0.3, "latency": 1.0}


@dataclass(frozen=True)
class Model:
    """What is needed of a served model."""

    base_url: str
    variant: ModelVariant
    api_key: str | None = None


def model(base_url: str, model_id: str = "fast") -> Model:
    return Model(base_url, ModelVariant(alias=model_id, model_id=model_id, device="unknown"))


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with fault_server() as url:
        yield url


def a_load(users: int, total: float, latency_s: float = 1.0) -> Load:
    """A level at which everybody's answer of 100 tokens takes `latency_s`, and all get `total` tokens per second."""
    answer = completion([0.1, latency_s], completion_tokens=100)
    return Load(users, (answer,) * users, 100 * users / total)


GROWING = (a_load(1, 100), a_load(2, 190, 1.05), a_load(4, 360, 1.1))
FULL_AT_2 = (a_load(1, 100), a_load(2, 180, 1.1), a_load(4, 185, 2.2), a_load(8, 180, 4.4))
UNCOUNTED = (Load(1, (completion([0.1, 1.0], completion_tokens=None),), 1.0),)


def test_a_server_without_contention_doubles_with_its_users():
    """The reference server serves everybody at the same pace: 4 users get 4 times what one gets, and 1 if in turns."""
    with fault_server() as base_url:
        steady = model(base_url, "steady")
        one, four = measure_loads(steady, PROMPTS, levels=(1, 4), requests_per_user=2, max_tokens=10)
    assert (one.users, len(one.completions), four.users, len(four.completions)) == (1, 2, 4, 8)
    assert one.total_tokens_per_s and four.total_tokens_per_s
    assert 2 < four.total_tokens_per_s / one.total_tokens_per_s < 6


def test_failed_requests_are_kept_and_not_counted_as_work():
    """A level in which every request fails has records but no rates."""
    failed = Load(2, (completion([], error="broke", error_kind="reset"),) * 2, 1.0)
    assert len(failed.completions) == 2
    assert (failed.total_tokens_per_s, failed.tokens_per_s, failed.first_token_s, failed.latency_s) == (None,) * 4


@pytest.mark.parametrize(
    ("loads", "users", "said"),
    [
        (
            FULL_AT_2,
            2,
            "From 2 users on, extra users only wait: they add under 10 % to the tokens per second of all. 8 users",
        ),
        (GROWING, None, "Up to here, more users get more done. 4 users together get 3.6 times"),
        ((a_load(1, 100), a_load(2, 60), a_load(4, 109)), 1, "From 1 user on, extra users only wait"),
        ((a_load(1, 100), a_load(2, 60), a_load(4, 180)), None, "Up to here, more users get more done."),
        (GROWING[:1], None, "Where more users only wait was not found"),
        ((), None, "Where more users only wait was not found"),
        ((*GROWING, *UNCOUNTED), None, "Where more users only wait was not found"),
    ],
)
def test_saturation_is_where_more_users_only_wait(loads: tuple[Load, ...], users: int | None, said: str):
    """The first level to which no later one adds 10 %; nothing is claimed of one level or of unknown rates."""
    assert saturation(loads) == users
    assert describe(loads).startswith(said)


@pytest.mark.parametrize(
    ("late", "said"),
    [
        ((0, 0, 0), "Up to 4 users, the most that were tried, at least 95 % of requests keep the goals ("),
        ((0, 1, 0), "Up to 1 user, at least 95 % of requests"),
        ((0, 0, 1), "Up to 2 users, at least 95 % of requests"),
        ((1, 0, 0), "Even for 1 user, fewer than 95 % of requests"),
    ],
)
def test_users_are_promised_what_all_fewer_users_got(late: tuple[int, ...], said: str):
    """The largest number up to which every level keeps the goals for 95 % of its requests: of 20, one may be late."""
    levels = [
        Load(level, (completion([0.1, 2.0]),) * (1 + many) + (completion([0.1, 0.9]),) * (19 - many), 1.0)
        for level, many in zip((1, 2, 4), late, strict=True)
    ]
    assert load.describe_goals(levels[::-1], GOALS).startswith(said)


def test_nothing_is_promised_where_nothing_was_seen():
    """No level, or first tokens that nobody saw; a promise that few prompts carry is doubted, one of many is not."""
    whole = Load(1, (completion([0.9], streamed=False),), 1.0)
    assert load.describe_goals((), GOALS) == load.describe_goals((whole,), GOALS)
    sure, unsure = (
        load.describe_goals(
            [Load(1, tuple(completion([0.1], prompt_id=str(each)) for each in range(many)), 1.0)], GOALS
        )
        for many in (73, 72)
    )
    assert unsure.startswith(sure.partition(":")[0]) and len(unsure) > len(sure)


@pytest.mark.parametrize("options", [{"levels": (0, 2)}, {"requests_per_user": 0}])
def test_levels_below_one_are_refused(options: dict[str, object]):
    """Nobody asking nothing is a mistake."""
    with pytest.raises(ConfigurationError, match="1 or more"):
        measure_loads(model("http://127.0.0.1:1/v1"), PROMPTS, **options)


def test_a_load_is_kept_with_every_request(tmp_path: Path):
    """One JSON line per number of users: rates, and all that was recorded; null where nothing was measured."""
    load.save_loads(tmp_path, VARIANT, FULL_AT_2[:2])
    path = load.save_loads(tmp_path, VARIANT, UNCOUNTED)
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [(line["users"], line["requests_ok"], len(line["completions"])) for line in lines] == [
        (1, 1, 1),
        (2, 2, 2),
        (1, 1, 1),
    ]
    assert lines[1]["total_tokens_per_s"] == pytest.approx(180)
    assert lines[2]["total_tokens_per_s"] is None


def probe(endpoint: str, model: str) -> tuple[profiles.Runtime, Run]:
    """An open runtime and a small run of one model."""
    runtime = profiles.open_runtime("endpoint", endpoint=endpoint)
    variants, _ = find_models(runtime, [model], ["cpu"])
    return runtime, benchmark.probe(runtime, variants, Prompt("p", "Say it."), max_tokens=4)


def test_a_page_tries_users_on_the_first_model_that_answered(endpoint: str, tmp_path: Path):
    """Three questions per user, kept in the run's folder; nothing without numbers of users or without an answer."""
    runtime, run = probe(endpoint, "fast")
    found = load.measure_users(runtime, run, (1, 2), tmp_path)
    assert [(each.users, len(each.answered)) for each in found] == [(1, 3), (2, 6)]
    assert len((tmp_path / load.LOADS_FILE).read_text("utf-8").splitlines()) == 2
    assert load.measure_users(runtime, run, (), tmp_path) == ()
    assert load.measure_users(*probe(endpoint, "http-500"), (1, 2), tmp_path) == ()


def test_a_model_that_cannot_be_served_again_does_not_stop_the_others(endpoint: str, tmp_path: Path, capsys):
    """Its reason goes to standard error, what an earlier run left is gone, and the next model is measured."""
    runtime, run = probe(endpoint, "fast")
    serve, refused = runtime.serve, []

    def once_refused(variant):
        if not refused:
            refused.append(variant)
            raise ModelServerError("The process ended.", "Choose a smaller variant.")
        return serve(variant)

    runtime.serve = once_refused
    (tmp_path / load.LOADS_FILE).write_text("old")
    for expected in (False, True):
        commands._measure_users(runtime, run, BenchmarkSettings(users=(1,), max_tokens=4), tmp_path)
        assert (tmp_path / load.LOADS_FILE).exists() is expected
    captured = capsys.readouterr()
    assert "several users: failed. The process ended. Choose a smaller variant." in captured.err
    assert captured.out == ""


# -- keep warm


@pytest.fixture
def server() -> Iterator[FaultServer]:
    behaviours = {"fast": FAST, "slow": SLOW, "http-500": BEHAVIOURS["http-500"], "empty": BEHAVIOURS["empty"]}
    with FaultServer(behaviours) as opened:
        yield opened


def test_a_prompt_is_sent_at_once_and_then_a_whole_pause_after_the_last_request(server):
    """The first one warms the model now; what is asked meanwhile counts like a prompt."""
    with KeepWarm(model(server.base_url), every_s=0.5) as keeper:
        wait_until(lambda: keeper.pings == 1, within_s=30)
        time.sleep(0.3)
        with keeper.busy():
            asked = time.monotonic()
        wait_until(lambda: keeper.pings == 2, within_s=30)
        assert time.monotonic() - asked >= 0.5


def test_a_prompt_that_is_due_stands_back_for_a_request(server):
    """While somebody asks, nothing is sent, and nothing is made up for afterwards."""
    keeper = KeepWarm(model(server.base_url), every_s=30)
    with keeper:
        wait_until(lambda: keeper.pings == 1, within_s=30)
        with keeper.busy():
            keeper.every_s = 0.01  # due from now on
            time.sleep(0.1)
            assert (keeper.pings, server.requests["fast"]) == (1, 1)
            keeper.every_s = 30
    assert keeper.pings == 1


def test_a_request_waits_for_the_prompt_on_its_way_before_its_clock_starts(server):
    """`busy` opens only when the light prompt has been answered, so that none is ever inside a timing."""
    with KeepWarm(model(server.base_url, "slow")) as keeper:
        wait_until(lambda: "slow" in server.requests, within_s=30)
        with keeper.busy():
            assert keeper.pings == 1


def test_no_prompt_is_ever_inside_a_request(server):
    """Against a keeper that would send all the time, not one of its prompts overlaps what is inside `busy`."""
    with KeepWarm(model(server.base_url), every_s=1e-6) as keeper, ChatClient(server.base_url) as client:
        client.prepare()
        wait_until(lambda: keeper.pings > 2, within_s=30)
        for _ in range(20):
            with keeper.busy():
                before = server.requests["fast"]
                assert client.ask(request("fast")).ok
                assert server.requests["fast"] == before + 1


def test_a_prompt_that_fails_is_said_and_not_raised(server):
    """The keeper goes on, counts the failures, and gives the reason of the last one."""
    with KeepWarm(model(server.base_url, "http-500"), every_s=0.001) as keeper:
        wait_until(lambda: keeper.failures > 1, within_s=30)
    said = " ".join(keeper.sentences())
    assert f"{keeper.failures} of them failed" in said and "HTTP 500" in said
    with KeepWarm(model(f"http://127.0.0.1:{free_port()}/v1")) as nobody:
        wait_until(lambda: nobody.failures == 1, within_s=30)
    assert "No server listens" in nobody.last_failure


def test_an_empty_answer_is_no_failure_and_what_was_done_is_said(server):
    """One token may be no text at all; the model was at work for it all the same."""
    with KeepWarm(model(server.base_url, "empty"), every_s=30) as keeper:
        wait_until(lambda: keeper.pings == 1, within_s=30)
    assert (keeper.pings, keeper.failures) == (1, 0)
    assert keeper.sentences() == (
        "1 light prompt sent: one at once, then one after every 30 s without a request.",
        NEVER_UNLOADS,
    )


def test_leaving_ends_a_long_pause_at_once(server):
    """An hour's pause does not hold up the end of the context, and the thread is gone."""
    with KeepWarm(model(server.base_url), every_s=3600) as keeper:
        wait_until(lambda: keeper.pings == 1, within_s=30)
        started = time.monotonic()
    assert time.monotonic() - started < 60 and not keeper._thread.is_alive()


@pytest.mark.parametrize("every_s", [0, -1, float("inf"), float("nan")])
def test_a_pause_that_cannot_be_is_refused(every_s):
    """The value is named, with what to give instead."""
    with pytest.raises(ConfigurationError, match=r"every_s is .*above 0"):
        KeepWarm(model("http://127.0.0.1:1/v1"), every_s=every_s)


def test_on_a_server_that_puts_idle_models_aside_it_takes_the_wait_away():
    """After a pause the first token takes the reload time longer; kept warm over the same pause it does not."""
    idle = BEHAVIOURS["idle-cold"]
    with fault_server() as base_url, ChatClient(base_url) as client:
        ask = request("idle-cold", max_tokens=2)
        client.ask(ask)
        time.sleep(1.2 * idle.idle_limit_s)
        cold_s = timing.first_token_s(client.ask(ask))
        with KeepWarm(model(base_url, "idle-cold"), every_s=0.2 * idle.idle_limit_s) as keeper:
            started, before = time.monotonic(), keeper.pings
            wait_until(lambda: time.monotonic() - started > 1.2 * idle.idle_limit_s, within_s=30)
            wait_until(lambda: keeper.pings > before + 2, within_s=30)
            with keeper.busy():
                kept_s = timing.first_token_s(client.ask(ask))
    assert cold_s >= STEADY.first_token_s + idle.reload_s
    assert kept_s < idle.reload_s


COLD = tuple(completion([seconds, seconds + 0.01]) for seconds in (0.2, 0.22, 0.18, 0.2))
KEPT = tuple(completion([seconds, seconds + 0.01]) for seconds in (0.1, 0.11, 0.09, 0.1))


def test_the_result_is_a_ratio_with_an_interval():
    """200 and 100 ms are twice as fast; the answers end 10 ms later. Loads of 300 ms before are waits of 500 ms."""
    result = KeepWarmResult(VARIANT, COLD, KEPT, loads_s=(0.3, 0.3, None, 0.3))
    first, whole, loaded = result.lines()
    assert (first.cold_s, first.kept_s, first.ratio.value) == pytest.approx((0.2, 0.1, 0.5))
    assert first.ratio.is_clear
    assert (whole.cold_s, whole.kept_s, whole.ratio.value) == pytest.approx((0.21, 0.11, 110 / 210))
    assert (loaded.cold_s, loaded.kept_s, loaded.ratio.value) == pytest.approx((0.5, 0.1, 0.2))


def test_requests_that_failed_are_never_a_time():
    """Without any answer there is no figure."""
    failed = completion([], error="The server answered HTTP 500: no", error_kind="http_500")
    result = KeepWarmResult(VARIANT, (failed,), (KEPT[0],))
    assert [line.cold_s for line in result.lines()] == [None, None]


def test_the_first_request_is_measured_on_the_real_runtime(tmp_path):
    """Each request meets a model of its own, served anew; the light prompt comes before on one side only."""
    with practice(tmp_path) as runtime:
        variant = smallest(runtime)
        result = measure_cold_and_kept(runtime, variant, repeats=1)
        with pytest.raises(ConfigurationError, match="repeats is 0"):
            measure_cold_and_kept(runtime, variant, repeats=0)
    assert [len(side) for side in (result.cold, result.kept)] == [1, 1]
    assert all(each.ok for each in (*result.cold, *result.kept))
    assert result.cold[0].text == result.kept[0].text
    first, _, loaded = result.lines()
    assert first.ratio.value is not None and first.ratio.low is None
    assert loaded.cold_s > first.cold_s
