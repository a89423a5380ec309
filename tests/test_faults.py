"""Every fault of an endpoint, end to end: a failed row with a reason, a healthy model measured beside it, in time."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fault_runtime import FaultRuntime, variant
from tests.fault_server import FaultServer, free_port
from tests.foundry_helpers import practice
from workshop_lib.benchmark import RECORDS_FILE, run_plan
from workshop_lib.client import ChatClient
from workshop_lib.plan import Plan, make_plan
from workshop_lib.records import ModelVariant, Prompt, Row, Run
from workshop_lib.storage import read_run
from workshop_lib.summary import summarise

PROMPTS = (Prompt("one", "Say one."), Prompt("two", "Say two."))
TIMEOUT_S = 0.3
FAULTS = {
    "http-500": "HTTP 500",
    "stall-middle": "no byte for 0.3 s",
    "long-line": "exceeds 16 MB",
    "never-done": "only said that it is alive",
}
"""What the server does → words that its row's error must have; tests/test_endpoints.py has every fault."""


def plan_of(*models: str, **options: object) -> Plan:
    """Two rounds of two prompts, impatient."""
    return make_plan([variant(model) for model in models], PROMPTS,
                     **{"rounds": 2, "timeout_s": TIMEOUT_S, "order": "round-robin", **options})  # fmt: skip


def rows_of(run: Run) -> dict[str, Row]:
    """Rows by alias."""
    return {row.alias: row for row in summarise(run)}


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


@pytest.mark.parametrize(("fault", "words"), FAULTS.items())
def test_a_fault_is_a_failed_row_beside_a_measured_one(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, words: str
):
    """The row says what happened; the healthy model has all its requests; two failures are the most it costs."""
    monkeypatch.setattr("workshop_lib.client.LONGEST_KEEP_ALIVE_S", TIMEOUT_S)
    run = run_plan(plan_of(fault, "fast", max_tokens=40), FaultRuntime(server), tmp_path, show_progress=False)
    rows = rows_of(run)
    assert sum(each.alias == fault for each in run.completions) == 2
    assert (rows[fault].status, rows[fault].requests_ok) == ("failed", 0)
    assert words in (rows[fault].error or "")
    assert (rows[fault].latency_avg, rows[fault].decode_tokens_per_sec) == (None, None)
    assert (rows["fast"].status, rows["fast"].requests_ok) == ("ok", 4)
    assert read_run(tmp_path / RECORDS_FILE) == run


def test_no_server_is_a_failed_row(server: FaultServer, tmp_path: Path):
    """Nothing listens at the model's address: said with the address, and the other model is measured."""
    address = f"http://127.0.0.1:{free_port()}/v1"
    runtime = FaultRuntime(server, {"steady": address})
    rows = rows_of(run_plan(plan_of("steady", "fast"), runtime, tmp_path, show_progress=False))
    assert (rows["steady"].status, rows["fast"].status) == ("failed", "ok")
    assert f"No server listens at {address}" in (rows["steady"].error or "")


def test_what_was_measured_before_a_fault_is_kept(tmp_path: Path):
    """A model that answers three timed requests and then breaks is failed, with the figures of those three."""
    with FaultServer() as fresh:
        plan = plan_of("breaks-later", "fast", rounds=3)
        run = run_plan(plan, FaultRuntime(fresh), tmp_path, show_progress=False)
    row = rows_of(run)["breaks-later"]
    assert (row.status, row.requests_ok) == ("failed", 3)
    assert row.latency_avg is not None and row.latency_avg >= 0.439
    assert rows_of(run)["fast"].requests_ok == 6


def test_a_model_that_was_given_up_is_not_loaded_again(server: FaultServer, tmp_path: Path):
    """In blocks every model is served once per round; one that failed is left alone in the later blocks."""
    runtime = FaultRuntime(server)
    run_plan(plan_of("http-500", "fast", rounds=3, order="blocks"), runtime, tmp_path, show_progress=False)
    assert (runtime.served_in_order.count("http-500"), runtime.served_in_order.count("fast")) == (1, 3)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_runtime_killed_while_it_streams_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Killed at the first byte of an answer: that row names the signal, the other model of the real runtime is ok."""
    stamp = ChatClient._stamp
    with practice(tmp_path / "cache") as runtime:
        healthy, doomed = sorted(runtime.find(["auto"], ["cpu"]), key=lambda each: each.size_mb or 0.0)[::5]
        pids: dict[str, int] = {}
        serve = runtime.serve

        def remembering(wanted: ModelVariant) -> object:
            served = serve(wanted)
            pids[served.base_url] = served.pid if wanted == doomed else 0
            return served

        def killing(self: ChatClient, pieces: Iterator[bytes], *rest: object) -> None:
            def watched() -> Iterator[bytes]:
                for piece in pieces:
                    yield piece
                    if asked.count(self.address.url()) == 2 and pids[self.address.url()]:  # the warm-up is over
                        os.kill(pids[self.address.url()], signal.SIGKILL)

            asked.append(self.address.url())
            stamp(self, watched(), *rest)

        asked: list[str] = []
        monkeypatch.setattr(runtime, "serve", remembering)
        monkeypatch.setattr(ChatClient, "_stamp", killing)
        plan = make_plan([healthy, doomed], PROMPTS, rounds=2, timeout_s=20.0, order="round-robin")
        run = run_plan(plan, runtime, tmp_path / "run", show_progress=False)
    rows = {row.model_id: row for row in summarise(run)}
    assert rows[healthy.model_id].requests_ok == 4
    assert rows[doomed.model_id].status == "failed"
    assert "killed by signal 9" in (rows[doomed.model_id].error or "")
    killed = [each for each in run.completions if each.model_id == doomed.model_id and each.round]
    assert len(killed) in {1, 2}  # the second when the whole answer was already on its way
    assert killed[-1].error_kind in {"reset", "cut_off", "no_server"}
