"""Measure one plan on many machines: hand it out, keep what comes back, wait for who comes back.

Every machine gets one task. A share that has ended arrives as one event and is on the disk at once.
"""

from __future__ import annotations

import json
import queue
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from workshop_lib import storage
from workshop_lib.errors import ConfigurationError, EndpointError
from workshop_lib.fleet import cluster, worker
from workshop_lib.fleet.plan import Fleet, FleetPlan, Machine, Share, ShareStatus, open_fleet, write_fleet
from workshop_lib.fleet.worker import Job
from workshop_lib.records import ModelVariant
from workshop_lib.show.text import one_line

WAIT_S = 0.5

OnProgress = Callable[[Fleet, frozenset[str]], None]
"""Told the fleet as it stands, and the machines that are away."""


def measure_fleet(plan: FleetPlan, folder: Path, *, scheduler: str = "", certificates: str = "") -> Fleet:
    """Measure a plan on all machines of a scheduler; without one, on this machine alone, which takes no Dask."""
    if not scheduler:
        return measure_alone(plan, folder)
    security = cluster.read_key(Path(certificates) if certificates else None)
    with cluster.connect(scheduler, security) as client:
        return run_fleet(client, plan, folder)


def measure_alone(plan: FleetPlan, folder: Path) -> Fleet:
    """Measure a plan on this machine without Dask: a fleet of one, in the same folder and the same form."""
    fleet = open_fleet(folder, plan)

    def keep(event: Mapping[str, Any]) -> None:
        nonlocal fleet
        fleet = take(fleet, event, folder)

    label = worker.label_of("")
    worker.measure_all(_job(fleet, label), label, emit=keep, is_wanted=lambda: True)
    return fleet


def run_fleet(
    client: Any,
    plan: FleetPlan,
    folder: Path,
    *,
    on_progress: OnProgress | None = None,
    grace_s: float = 60.0,
    limit_s: float | None = None,
) -> Fleet:
    """Measure the plan on every machine that has joined.

    A folder of an earlier call with the same plan is completed: finished shares are not measured again. A machine that
    left is waited for `grace_s`. A share is stopped after `limit_s`, and kept as far as it got; None = never.
    `on_progress` replaces the bar.

    Raises:
        ConfigurationError: no machine has joined, or the folder holds results of another plan.
        EndpointError: the scheduler is gone; finished shares are kept.
    """
    from tqdm.auto import tqdm

    fleet = open_fleet(folder, plan)
    machines = present(client)
    if not machines:
        fix = "Join with: python -m workshop_lib fleet join ADDRESS. Its window says whether it is connected."
        raise ConfigurationError("No machine has joined.", fix)
    jobs = {label: _job(fleet, label, limit_s) for label in machines}
    away: dict[str, float] = {}
    with _tasks(client, jobs) as (tasks, events), tqdm(unit="share", desc="Fleet", disable=bool(on_progress)) as bar:
        show = on_progress or partial(_draw, bar)
        while tasks:
            ended = [label for label, task in tasks.items() if task.status != "pending"]
            for event in _arrived(events):
                fleet = take(fleet, event, folder)
            here, now = present(client), time.monotonic()
            away = {label: away.get(label, now) for label in tasks.keys() - here}
            gone: dict[str, tuple[ShareStatus, str]] = {label: ("failed", _failure(tasks[label])) for label in ended}
            left = f"The machine left and was not back after {grace_s:g} s."
            gone |= {label: ("missing", left) for label, since in away.items() if now - since >= grace_s}
            for label, (status, reason) in gone.items():
                client.cancel([tasks.pop(label)])
                fleet = fleet.without(label, status, reason)
                write_fleet(folder, fleet, label)
            show(fleet, frozenset(away))
    return fleet


def take(fleet: Fleet, event: Mapping[str, Any], folder: Path) -> Fleet:
    """Take one event of `worker.measure_all`, and write what changed."""
    from pydantic import TypeAdapter

    if "machine" in event:
        variants = TypeAdapter(tuple[ModelVariant, ...]).validate_python(event["variants"])
        fleet = fleet.with_machine(TypeAdapter(Machine).validate_python(event["machine"]), variants)
        write_fleet(folder, fleet)
        return fleet
    share = TypeAdapter(Share).validate_python(event["share"])
    records = [storage.record_of(json.loads(line)) for line in event["records"]]
    fleet = fleet.with_share(share, [record for record in records if record is not None])
    write_fleet(folder, fleet, share.machine)
    return fleet


def present(client: Any) -> set[str]:
    """The machines that are connected now. Raises `EndpointError` where the scheduler is gone."""
    try:
        if client.status != "running":
            raise OSError
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
    except (OSError, RuntimeError, ValueError) as error:  # closed client, closed connection, a broken answer
        fix = "Start it again, let the machines join, and run with the same folder."
        raise EndpointError("The scheduler is gone; finished shares are kept.", fix) from error
    return {each["name"] for each in workers if each["name"] in each["resources"]}


def _job(fleet: Fleet, label: str, limit_s: float | None = None) -> Job:
    done = frozenset(share.key[1:] for share in fleet.shares if share.machine == label and share.status == "done")
    return Job(fleet.plan, fleet.run_id, done, limit_s)


def _failure(task: Any) -> str:
    """Why a task left shares open, should it have done so: its machine was lost too often, or lacks our code."""
    return one_line(f"Dask gave it up: {task.exception()!r}") if task.status == "error" else "It ended too early."


@contextmanager
def _tasks(client: Any, jobs: Mapping[str, Job]) -> Iterator[tuple[dict[str, Any], queue.SimpleQueue[Any]]]:
    """Hand a task to each machine, and receive its events; leaving the block takes back what is not finished."""
    topic = f"fleet-{secrets.token_hex(8)}"
    events: queue.SimpleQueue[Any] = queue.SimpleQueue()
    client.subscribe_topic(topic, lambda event: events.put(event[1]))
    tasks = {
        label: client.submit(
            worker.measure, job, topic, key=f"{topic}-{label}", resources={label: 1}, pure=False, retries=0
        )
        for label, job in jobs.items()
    }
    try:
        yield tasks, events
    finally:
        if client.status == "running":
            with suppress(OSError):
                client.cancel(list(tasks.values()))
                client.unsubscribe_topic(topic)


def _arrived(events: queue.SimpleQueue[Any]) -> Iterator[Mapping[str, Any]]:
    """The events that are there, after waiting a moment for the first."""
    with suppress(queue.Empty):
        yield events.get(timeout=WAIT_S)
        while True:
            yield events.get_nowait()


def _draw(bar: Any, fleet: Fleet, away: frozenset[str]) -> None:
    """Show how many shares have ended, and on which machines the others are."""
    waiting = sorted({share.machine for share in fleet.shares if share.status == "open"})
    bar.total = len(fleet.shares)
    bar.n = sum(share.status != "open" for share in fleet.shares)
    bar.set_postfix_str(", ".join(f"{label} is away" if label in away else label for label in waiting))
