"""How a fleet behaves in numbers: three hosts against one, and up to 500 machines that replay recorded results.

    python -m tests.benchmarks.fleet hosts          three hosts, every practice model, one host killed in mid-run
    python -m tests.benchmarks.fleet scale 10 100   rooms of so many simulated machines (default: 10 to 500)

A host is a set of processes with its own cache and folder for temporary files. All hosts share this computer's
processors, so their times say how the work is spread, not how fast three computers are. A simulated machine is a worker
of Dask's like any other; in the place of measuring it sends the records of the shipped reference, all at once, which is
harder on the scheduler than any real room.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from tests.fleet_helpers import Hosts, hosts, lines_of, when
from workshop_lib import data, machine, storage
from workshop_lib.fleets import fleet, fleet_cluster, fleet_engine, fleet_worker
from workshop_lib.fleets.fleet_plan import FleetPlan
from workshop_lib.fleets.fleet_room import Room
from workshop_lib.machine import BYTES_PER_MB
from workshop_lib.records import Run, variant_key

RECORDED = data.DATA_FOLDER / "reference" / "practice" / "records.jsonl"
SIZES = (10, 50, 100, 250, 500)
PER_PROCESS = 50
NAMES = ("ada", "bob", "cy")


def main(arguments: list[str]) -> None:
    what, *rest = arguments or ["hosts"]
    if what == "workers":
        asyncio.run(_serve_workers(rest[0], int(rest[1]), int(rest[2])))
    elif what == "scale":
        scale([int(each) for each in rest] or list(SIZES))
    else:
        three_hosts()


def three_hosts() -> None:
    """Wall time of a room of three against its slowest host, alone and with one host killed."""
    plan = fleet.make_fleet_plan(data.read_prompts(), rounds=3)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with hosts(place / "one", "ada") as one:
            print(f"one host alone: {_measured(one, plan, place / 'alone')[1]:.0f} s")
        with hosts(place / "three", *NAMES) as three:
            room, wall_s = _measured(three, plan, place / "room")
            _print_hosts("three hosts at once", room, wall_s)
        with hosts(place / "kill", *NAMES) as three:

            def kill_and_join_again() -> None:
                three.kill("bob")
                three.join("bob")

            watcher = when(lambda: lines_of(place / "killed", "bob") >= 10, kill_and_join_again)
            room, wall_s = _measured(three, plan, place / "killed")
            watcher.join()
            _print_hosts("one of them killed in mid-run, and joined again", room, wall_s)


def _measured(made: Hosts, plan: FleetPlan, folder: Path) -> tuple[Room, float]:
    started = time.perf_counter()
    with fleet.connected(made.address) as client:
        room = fleet.run_fleet(client, plan, folder, on_progress=lambda _: None)
    return room, time.perf_counter() - started


def _print_hosts(title: str, room: Room, wall_s: float) -> None:
    print(f"\n{title}: {wall_s:.0f} s from the command to the last record")
    slowest = 0.0
    for label, run in room.runs.items():
        busy_s = _busy_s(run)
        slowest = max(slowest, busy_s)
        mine = [share for share in room.shares if label.endswith(share.machine_id[:8])]
        timed = [each.request_id for each in run.completions if each.round]
        print(
            f"  {label}: first to last request {busy_s:.0f} s, {len(timed)} timed requests, "
            f"{len(timed) - len(set(timed))} of them twice, shares {sum(each.status == 'done' for each in mine)} of "
            f"{len(mine)} done in {sum(each.starts for each in mine)} starts"
        )
    print(f"  wall time is {wall_s / slowest:.2f} times the slowest host's")


def _busy_s(run: Run) -> float:
    """From the first request to the end of the last, by that host's own clock."""
    starts = [datetime.fromisoformat(each.started_at) for each in run.completions]
    return (max(starts) - min(starts)).total_seconds() + (run.completions[-1].end_s or 0.0)


def scale(sizes: list[int]) -> None:
    """Wall time, and the scheduler's processor time and memory, as the room grows."""
    plan = fleet.make_fleet_plan(_recorded().prompts, rounds=int(_recorded().plan["rounds"]))
    heads = (
        "machines",
        "records",
        "wall (s)",
        "scheduler CPU (s)",
        "ms per record",
        "scheduler (MB)",
        "kB per machine",
    )
    print(f"| {' | '.join((*heads, 'coordinator (MB)'))} |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|")
    for size in sizes:
        print(_row(size, plan), flush=True)


def _row(size: int, plan: FleetPlan) -> str:
    with tempfile.TemporaryDirectory() as folder, _simulated(size, Path(folder)) as (address, scheduler):
        before_s, before_mb = _cpu_s(scheduler), _rss_mb(scheduler)
        started = time.perf_counter()
        from tests.benchmarks import fleet as importable  # what a worker runs must not be in __main__

        tasks = fleet.Tasks(look=importable.look_recorded, measure=importable.measure_recorded)
        with fleet.connected(address) as client:
            room = fleet.run_fleet(client, plan, Path(folder) / "room", on_progress=lambda _: None, tasks=tasks)
        wall_s, cpu_s = time.perf_counter() - started, _cpu_s(scheduler) - before_s
        now_mb, mine_mb = _rss_mb(scheduler), _rss_mb(psutil.Process())
        records = sum(len(run.completions) for run in room.runs.values())
    complete = all(share.status == "done" for share in room.shares) and len(room.runs) == size
    cells = [
        f"{size}",
        f"{records:,}" if complete else f"{records:,} INCOMPLETE",
        f"{wall_s:.1f}",
        f"{cpu_s:.1f}",
        f"{1000 * cpu_s / records:.2f}",
        f"{now_mb:.0f} (idle {before_mb:.0f})",
        f"{1000 * (now_mb - IDLE_MB.setdefault('empty', before_mb)) / size:.0f}",
        f"{mine_mb:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


IDLE_MB: dict[str, float] = {}


@contextmanager
def _simulated(size: int, folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """A scheduler of its own process, and so many workers in a few processes."""
    with ExitStack() as stack:
        made = Hosts(folder, stack)
        made.start_scheduler()
        scheduler = psutil.Process(made.processes["scheduler"].pid)
        IDLE_MB.setdefault("empty", _rss_mb(scheduler))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "WORKSHOP_CACHE_DIR": str(folder)}
        for first in range(0, size, PER_PROCESS):
            count = min(PER_PROCESS, size - first)
            command = [sys.executable, "-m", "tests.benchmarks.fleet", "workers", made.address, str(first), str(count)]
            process = subprocess.Popen(command, env=environment)
            stack.callback(process.wait)
            stack.callback(process.kill)
        fleet_cluster.wait_for_machines(made.address, size, timeout_s=300)
        yield made.address, scheduler


async def _serve_workers(address: str, first: int, count: int) -> None:
    distributed = fleet_engine.engine()
    async with ExitStackOf(
        [
            distributed.Worker(
                address,
                name=f"{place:08x}0000",
                nthreads=1,
                resources={fleet_engine.BENCH: 1, fleet_engine.machine_resource(f"{place:08x}0000"): 1},
                host=fleet_engine.LOOPBACK,
                memory_limit=0,
                dashboard=False,
                dashboard_address=f"{fleet_engine.LOOPBACK}:0",
            )
            for place in range(first, first + count)
        ]
    ) as workers:
        await asyncio.gather(*(worker.finished() for worker in workers))


class ExitStackOf:
    """Start workers together, and close them together."""

    def __init__(self, workers: list[Any]) -> None:
        self.workers = workers

    async def __aenter__(self) -> list[Any]:
        await asyncio.gather(*self.workers)
        return self.workers

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(worker.close() for worker in self.workers))


@cache
def _recorded() -> Run:
    return storage.read_run(RECORDED)


@cache
def _recorded_lines() -> tuple[str, ...]:
    return tuple(RECORDED.read_text(encoding="utf-8").splitlines())


def look_recorded(job: Mapping[str, Any]) -> None:
    """Say what a simulated machine has: the models of the reference."""
    variants = [asdict(each.variant) for each in _recorded().servings if each.status == "ok"]
    found = {"name": "sim", "host": job["machine"], "fingerprint": _fingerprint(), "variants": variants, "left_out": []}
    fleet_engine.engine().get_worker().log_event(job["topic"], {"kind": "look", "machine": job["machine"], **found})


@cache
def _fingerprint() -> dict[str, Any]:
    return dict(machine.fingerprint())


def measure_recorded(job: Mapping[str, Any]) -> None:
    """Send the recorded lines of a share, as `fleet_worker.measure` would."""
    worker = fleet_engine.engine().get_worker()
    mine = job["variant"]["model_id"], job["variant"]["device"]
    lines = [line for line in _recorded_lines() if _about(line) == mine]

    def emit(**event: Any) -> None:
        worker.log_event(job["topic"], {"machine": job["machine"], "share": job["share"], **event})

    emit(kind="start")
    for start in range(0, len(lines), fleet_worker.LINES_PER_EVENT):
        emit(kind="lines", lines=lines[start : start + fleet_worker.LINES_PER_EVENT])
    emit(kind="end", lines=len(lines), status="done", reason=None)


@cache
def _about(line: str) -> tuple[str, str] | None:
    import json

    record = storage.record_of(json.loads(line))
    if record is None:
        return None
    return variant_key(record.variant) if hasattr(record, "variant") else (record.model_id, record.device)


def _cpu_s(process: psutil.Process) -> float:
    used = process.cpu_times()
    return float(used.user + used.system)


def _rss_mb(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / BYTES_PER_MB


if __name__ == "__main__":
    main(sys.argv[1:])
