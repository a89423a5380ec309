"""How a fleet behaves in numbers: three hosts against one, and up to 100 machines that replay recorded results.

    python -m tests.benchmarks.fleet hosts          three hosts, every practice model, one host killed in mid-run
    python -m tests.benchmarks.fleet scale 10 50    fleets of so many simulated machines (default: 10, 50 and 100)

A host is a process with its own cache. All hosts share this computer's processors, so their times say how the work is
spread, not how fast three computers are. A simulated machine is a worker of Dask's like any other; in the place of
measuring it sends the records of the shipped reference, all at once, which is harder than any real room.
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
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import psutil

from tests.fleet_helpers import Hosts, hosts, when
from workshop_lib import data, machine, storage
from workshop_lib.fleet import cluster, collect, worker
from workshop_lib.fleet.plan import Fleet, FleetPlan, Machine, Share
from workshop_lib.machine import BYTES_PER_MB
from workshop_lib.records import Run

RECORDED = data.DATA_FOLDER / "reference" / "practice" / "records.jsonl"
SIZES = (10, 50, 100)
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
    """Wall time of one host, of three at once, and of three of which one is killed."""
    plan = FleetPlan(data.read_prompts())
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with hosts(place / "one", "ada") as one:
            _print("one host alone", *_measured(one, plan, place / "alone"))
        with hosts(place / "three", *NAMES) as three:
            _print("three hosts at once", *_measured(three, plan, place / "results"))
        with hosts(place / "kill", *NAMES) as three:

            def kill_and_join_again() -> None:
                three.kill("bob")
                three.join("bob")

            watcher = when(lambda: three.recorded("bob") >= 10, kill_and_join_again)
            fleet, wall_s = _measured(three, plan, place / "killed")
            watcher.join()
            _print("one of them killed in mid-run, and joined again", fleet, wall_s)


def _measured(made: Hosts, plan: FleetPlan, folder: Path) -> tuple[Fleet, float]:
    started = time.perf_counter()
    with cluster.connect(made.address) as client:
        fleet = collect.run_fleet(client, plan, folder, on_progress=lambda *_: None)
    return fleet, time.perf_counter() - started


def _print(title: str, fleet: Fleet, wall_s: float) -> None:
    print(f"{title}: {wall_s:.0f} s from the command to the last record")
    for label, run in fleet.runs.items():
        mine = [share for share in fleet.shares if share.machine == label]
        timed = [each.request_id for each in run.completions if each.round]
        twice, done = len(timed) - len(set(timed)), sum(share.status == "done" for share in mine)
        starts = sum(map(fleet.starts, mine))
        print(f"  {label}: {len(timed)} timed requests, {twice} twice, {done} of {len(mine)} shares, {starts} starts")


def scale(sizes: list[int]) -> None:
    """Wall time, and the scheduler's processor time and memory, as the fleet grows."""
    print("| machines | records | wall (s) | scheduler CPU (s) | ms per record | scheduler (MB) | coordinator (MB) |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    plan = FleetPlan(_recorded().prompts, rounds=int(_recorded().plan["rounds"]))
    for size in sizes:
        print(_row(size, plan), flush=True)


def _row(size: int, plan: FleetPlan) -> str:
    from tests.benchmarks import fleet as importable  # what a worker runs must not be in __main__

    replay = mock.patch.object(worker, "measure", importable.measure_recorded)
    with tempfile.TemporaryDirectory() as folder, _simulated(size, Path(folder)) as (made, scheduler), replay:
        before_s, before_mb = _cpu_s(scheduler), _rss_mb(scheduler)
        fleet, wall_s = _measured(made, plan, Path(folder) / "results")
        cpu_s, now_mb, mine_mb = _cpu_s(scheduler) - before_s, _rss_mb(scheduler), _rss_mb(psutil.Process())
    records = sum(len(run.completions) for run in fleet.runs.values())
    complete = all(share.status == "done" for share in fleet.shares) and len(fleet.runs) == size
    count = f"{records:,}" if complete else f"{records:,} INCOMPLETE"
    memory = f"{now_mb:.0f} (idle {before_mb:.0f})"
    return (
        f"| {size} | {count} | {wall_s:.1f} | {cpu_s:.1f} | {1000 * cpu_s / records:.2f} | {memory} | {mine_mb:.0f} |"
    )


@contextmanager
def _simulated(size: int, folder: Path) -> Iterator[tuple[Hosts, psutil.Process]]:
    """A scheduler of its own process, and so many workers in a few processes."""
    with ExitStack() as stack:
        made = Hosts(folder, stack)
        made.start_scheduler()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "WORKSHOP_CACHE_DIR": str(folder)}
        for first in range(0, size, PER_PROCESS):
            count = min(PER_PROCESS, size - first)
            command = [sys.executable, "-m", "tests.benchmarks.fleet", "workers", made.address, str(first), str(count)]
            process = subprocess.Popen(command, env=environment)
            stack.callback(process.wait)
            stack.callback(process.kill)
        made.wait_for(size)
        yield made, psutil.Process(made.processes["scheduler"].pid)


async def _serve_workers(address: str, first: int, count: int) -> None:
    options = [cluster.worker_options(f"sim-{place:08x}") for place in range(first, first + count)]
    workers = await asyncio.gather(*(cluster.engine().Worker(address, **each) for each in options))
    await asyncio.gather(*(each.finished() for each in workers))


@cache
def _recorded() -> Run:
    return storage.read_run(RECORDED)


@cache
def _fingerprint() -> Mapping[str, Any]:
    return machine.fingerprint()


def measure_recorded(job: worker.Job, topic: str) -> None:
    """Say what a simulated machine has, and send the recorded lines of each share, as `worker.measure` would."""
    this = cluster.engine().get_worker()
    variants = {each.variant.model_id: each.variant for each in _recorded().servings if each.status == "ok"}
    described = Machine(this.name, this.name, dict(_fingerprint()))
    this.log_event(topic, {"machine": asdict(described), "variants": [asdict(each) for each in variants.values()]})
    for variant in variants.values():
        this.log_event(
            topic, {"share": asdict(Share(this.name, variant, "done")), "records": _lines_of(variant.model_id)}
        )


@cache
def _lines_of(model_id: str) -> list[str]:
    return [
        line for line in RECORDED.read_text(encoding="utf-8").splitlines()[1:] if f'"model_id":"{model_id}"' in line
    ]


def _cpu_s(process: psutil.Process) -> float:
    used = process.cpu_times()
    return float(used.user + used.system)


def _rss_mb(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / BYTES_PER_MB


if __name__ == "__main__":
    main(sys.argv[1:])
