"""A light prompt now and then: when it is sent, when it stands back, and what it gains."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import pytest

from tests.behaviours import BEHAVIOURS, STEADY
from tests.fault_server import FaultServer, fault_server, free_port
from tests.fault_steps import Behaviour
from tests.foundry_helpers import practice, smallest, wait_until
from tests.measurement_helpers import completion, request
from workshop_lib.errors import ConfigurationError
from workshop_lib.instrument.client import ChatClient
from workshop_lib.measuring.keep_warm import NEVER_UNLOADS, KeepWarm, KeepWarmResult, measure_cold_and_kept
from workshop_lib.metrics import timing
from workshop_lib.records import ModelVariant
from workshop_lib.showing import comparison_tables

FAST = Behaviour(first_token_s=0.002, pace_s=0.001, tokens=3)
SLOW = replace(FAST, first_token_s=0.3)


@dataclass(frozen=True)
class Model:
    """What a keeper needs of a served model."""

    base_url: str
    variant: ModelVariant
    api_key: str | None = None


def model(base_url: str, model_id: str = "fast") -> Model:
    return Model(base_url, ModelVariant(alias=model_id, model_id=model_id, device="unknown"))


@pytest.fixture
def server() -> Iterator[FaultServer]:
    behaviours = {"fast": FAST, "slow": SLOW, "http-500": BEHAVIOURS["http-500"], "empty": BEHAVIOURS["empty"]}
    with FaultServer(behaviours) as opened:
        yield opened


class Pauses:
    """A clock that the test moves: the keeper's thread waits in `sleep` until the test lets it go on."""

    def __init__(self) -> None:
        self.now = 0.0
        self.asked: list[float] = []
        self._may_go_on = threading.Semaphore(0)
        self._is_waiting = threading.Semaphore(0)

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.asked.append(seconds)
        self._is_waiting.release()
        self._may_go_on.acquire()

    def until_it_waits(self) -> float:
        """Wait until the thread sleeps; returns for how long it wants to."""
        assert self._is_waiting.acquire(timeout=10)
        return self.asked[-1]

    def pass_(self, seconds: float) -> None:
        self.now += seconds
        self._may_go_on.release()


def test_a_prompt_is_sent_at_once_and_then_after_every_pause(server):
    """The first one warms the model now; the next is due a whole pause after the last request."""
    pauses = Pauses()
    keeper = KeepWarm(model(server.base_url), every_s=60, clock=pauses.clock, sleep=pauses.sleep)
    with keeper:
        assert pauses.until_it_waits() == 60
        assert (keeper.pings, server.requests["fast"]) == (1, 1)
        pauses.pass_(60)
        assert pauses.until_it_waits() == 60
        assert keeper.pings == 2
        keeper._ended.set()
        pauses.pass_(1)
    assert keeper.pings == 2


def test_a_request_of_the_users_counts_as_one(server):
    """Asked for 40 s into a pause of 60, the model needs no prompt until 60 s after that."""
    pauses = Pauses()
    with KeepWarm(model(server.base_url), every_s=60, clock=pauses.clock, sleep=pauses.sleep) as keeper:
        pauses.until_it_waits()
        pauses.now = 40
        with keeper.busy():
            pass
        pauses.pass_(20)
        assert pauses.until_it_waits() == 40
        assert keeper.pings == 1
        keeper._ended.set()
        pauses.pass_(0)


def test_a_prompt_that_is_due_stands_back_for_a_request(server):
    """While somebody asks, nothing is sent, and nothing is made up for afterwards."""
    keeper = KeepWarm(model(server.base_url))
    with keeper.busy(), keeper.busy():
        assert keeper.ping() is None
    assert (keeper.pings, keeper.stood_back) == (0, 1)
    assert "fast" not in server.requests
    keeper.close()


def test_a_request_waits_for_the_prompt_on_its_way_before_its_clock_starts(server):
    """`busy` opens only when the light prompt has been answered, so that none is ever inside a timing."""
    keeper = KeepWarm(model(server.base_url, "slow"))
    with ThreadPoolExecutor(1) as pool:
        pool.submit(keeper.ping)
        wait_until(lambda: "slow" in server.requests, within_s=10)
        with keeper.busy():
            assert keeper.pings == 1
    keeper.close()


def test_no_prompt_is_ever_inside_a_request(server):
    """Against a keeper that would send all the time, not one of its prompts overlaps what is inside `busy`."""
    with KeepWarm(model(server.base_url), every_s=1e-6) as keeper, ChatClient(server.base_url) as client:
        client.prepare()
        wait_until(lambda: keeper.pings > 2, within_s=10)
        for _ in range(20):
            with keeper.busy():
                before = server.requests["fast"]
                assert client.ask(request("fast")).ok
                assert server.requests["fast"] == before + 1


def test_a_prompt_that_fails_is_said_and_not_raised(server):
    """The keeper goes on, counts the failures, and gives the reason of the last one."""
    with KeepWarm(model(server.base_url, "http-500"), every_s=0.001) as keeper:
        wait_until(lambda: keeper.failures > 1, within_s=10)
    said = " ".join(keeper.sentences())
    assert f"{keeper.failures} of them failed" in said and "HTTP 500" in said
    with KeepWarm(model(f"http://127.0.0.1:{free_port()}/v1")) as nobody:
        wait_until(lambda: nobody.failures == 1, within_s=10)
    assert "No server listens" in (nobody.last_failure or "")


def test_an_empty_answer_is_no_failure(server):
    """One token may be no text at all; the model was at work for it all the same."""
    keeper = KeepWarm(model(server.base_url, "empty"))
    assert keeper.ping() is not None
    assert (keeper.pings, keeper.failures) == (1, 0)
    keeper.close()


def test_leaving_ends_a_long_pause_at_once(server):
    """An hour's pause does not hold up the end of the context, and the thread is gone."""
    with KeepWarm(model(server.base_url), every_s=3600) as keeper:
        wait_until(lambda: keeper.pings == 1, within_s=10)
        thread = keeper._thread
        started = time.monotonic()
    assert time.monotonic() - started < 2
    assert thread is not None and not thread.is_alive()
    keeper.close()


@pytest.mark.parametrize("every_s", [0, -1, float("inf"), float("nan")])
def test_a_pause_that_cannot_be_is_refused(every_s):
    """The value is named, with what to give instead."""
    with pytest.raises(ConfigurationError, match=r"every_s is .*above 0"):
        KeepWarm(model("http://127.0.0.1:1/v1"), every_s=every_s)


def test_what_it_did_is_said_with_what_it_is_good_for(server):
    """Counts, and that a runtime which never unloads gains at the first request only."""
    keeper = KeepWarm(model(server.base_url), every_s=30)
    keeper.ping()
    assert keeper.sentences() == (
        "1 light prompt sent: one at once, then one after every 30 s without a request.",
        NEVER_UNLOADS,
    )
    keeper.close()


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
            wait_until(lambda: time.monotonic() - started > 1.2 * idle.idle_limit_s, within_s=10)
            wait_until(lambda: keeper.pings > before + 2, within_s=10)
            with keeper.busy():
                kept_s = timing.first_token_s(client.ask(ask))
    assert cold_s >= STEADY.first_token_s + idle.reload_s
    assert cold_s / kept_s > 3


COLD = tuple(completion([seconds, seconds + 0.01]) for seconds in (0.2, 0.22, 0.18, 0.2))
KEPT = tuple(completion([seconds, seconds + 0.01]) for seconds in (0.1, 0.11, 0.09, 0.1))
VARIANT = ModelVariant(alias="tiny", model_id="tiny:1", device="cpu")


def test_the_result_is_a_ratio_with_an_interval():
    """Medians of 200 and 100 ms are a ratio of a half, twice as fast; the answers end 10 ms later: 210 and 110 ms."""
    result = KeepWarmResult(VARIANT, COLD, KEPT)
    assert result.first_token.value == pytest.approx(0.5)
    assert result.first_token.is_clear
    assert result.latency.value == pytest.approx(110 / 210)
    assert result.sentences()[1].startswith("First token: 100 ms against 200 ms, 2.00x faster (95 % CI")
    shown = comparison_tables.kept_warm(result)
    assert list(shown["right after loading"]) == [200.0, 210.0]
    assert list(shown["after one light prompt"]) == [100.0, 110.0]
    assert shown["against"][0].startswith("2.00x faster")


def test_the_load_is_part_of_the_wait_for_a_model_that_was_put_aside():
    """Loads of 300 ms before first tokens of 200 ms are waits of 500 ms: 5 times those after a light prompt."""
    result = KeepWarmResult(VARIANT, COLD, KEPT, loads_s=(0.3, 0.3, None, 0.3))
    assert result.with_load_s == pytest.approx((0.5, 0.52, 0.5))
    assert result.put_aside.value == pytest.approx(0.1 / 0.5)
    assert "First token: 100 ms against 500 ms, 5.00x faster (95 % CI" in result.sentences()[3]
    shown = comparison_tables.kept_warm(result).iloc[2]
    assert list(shown)[:3] == ["first token, load included (ms)", 500.0, 100.0]


def test_requests_that_failed_are_said_and_never_a_time():
    """Without any answer nothing is claimed, and the reason is given."""
    failed = completion([], error="The server answered HTTP 500: no", error_kind="http_500")
    result = KeepWarmResult(VARIANT, (failed,), (KEPT[0],))
    assert result.sentences()[:2] == (
        "Nothing can be said of keeping warm: too few requests were answered.",
        "1 of 2 requests failed: The server answered HTTP 500: no",
    )
    assert list(comparison_tables.kept_warm(result)["right after loading"]) == ["not measured", "not measured"]


def test_the_first_request_is_measured_on_the_real_runtime(tmp_path):
    """Each request meets a model of its own, served anew; the light prompt comes before on one side only."""
    with practice(tmp_path) as runtime:
        variant = smallest(runtime)
        result = measure_cold_and_kept(runtime, variant, repeats=1, max_tokens=4)
        with pytest.raises(ConfigurationError, match="repeats is 0"):
            measure_cold_and_kept(runtime, variant, repeats=0)
    assert [len(side) for side in (result.cold, result.kept)] == [1, 1]
    assert all(each.ok for each in (*result.cold, *result.kept))
    assert result.cold[0].text == result.kept[0].text
    assert result.first_token.value is not None and result.first_token.low is None
    assert result.with_load_s[0] > result.medians_s(timing.first_token_s)[0]
    assert result.sentences()[-1] == NEVER_UNLOADS
