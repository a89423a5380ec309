"""One benchmark plan on many machines: hand out shares, keep what comes back, wait for who comes back.

    plan = make_fleet_plan(catalog.read_prompts(), models=["auto"], rounds=3)
    with connected("tls://192.0.2.7:8786", security=security) as client:
        room = run_fleet(client, plan, folder)

A share is one model on one machine, and one machine measures one share at a time. Knows no tables and no charts.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from workshop_lib.errors import ConfigurationError
from workshop_lib.fleets import fleet_room, fleet_worker
from workshop_lib.fleets.fleet_collect import Collector
from workshop_lib.fleets.fleet_dispatch import Dispatcher, Task, check_machines, connected
from workshop_lib.fleets.fleet_plan import (
    FleetPlan,
    Saying,
    Versions,
    machine_of,
    make_fleet_plan,
    refuse_others,
    shares_of,
)
from workshop_lib.fleets.fleet_room import Machine, Room, Share

__all__ = ["FleetPlan", "Progress", "Tasks", "connected", "make_fleet_plan", "run_fleet"]

GRACE_S = 60.0
PRESENCE_S = 1.0
SAVE_S = 5.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the room is: timed requests recorded and planned, by machine.

    `away` holds the machines that left, `waiting` those on whose computer another benchmark is running.
    """

    done: Mapping[str, int]
    planned: Mapping[str, int]
    away: frozenset[str] = frozenset()
    waiting: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Tasks:
    """What is run on a machine; the scale test puts a replay of recorded results in the place of `measure`."""

    look: Task = fleet_worker.look
    measure: Task = fleet_worker.measure


def run_fleet(
    client: Any,
    plan: FleetPlan,
    folder: Path,
    *,
    machines: Sequence[str] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    grace_s: float = GRACE_S,
    limit_s: float | None = None,
    versions: Versions = "warn",
    tasks: Tasks | None = None,
) -> Room:
    """Measure the plan on every machine that has joined; every record is in the folder as soon as it arrives.

    A folder of an earlier room of the same plan is completed: finished shares are not measured again.

    Args:
        client: of `connected`.
        plan: what to measure.
        folder: of the room, see `fleet_room`.
        machines: ids or labels of those that take part; None = all that have joined.
        on_progress: told how far each machine is; None = a progress bar.
        grace_s: seconds for which a machine that left is waited for.
        limit_s: seconds after which a share is stopped, and kept as far as it got; None = never.
        versions: what to do about machines whose decisive packages differ from those of most.
        tasks: what runs on the machines.

    Raises:
        ConfigurationError: no machine has joined, or the folder holds a room of another plan.
        EndpointError: the scheduler is gone; what was measured is kept.
    """
    room = earlier_room(folder, plan) or new_room(plan)
    chosen = tasks or Tasks()
    with Dispatcher(client, f"fleet-{room.room_id}") as dispatcher, _shown(on_progress) as show:
        said = _ask(room, plan, dispatcher, chosen.look)
        room = with_machines(room, plan, said, wanted=machines, versions=versions)
        with closing(Collector(folder, room, prompts=plan.prompts, profile=plan.profile)) as collector:
            for place, share in enumerate(collector.open_shares()):
                job = plan.job(share.machine_id, room_id=room.room_id, topic=dispatcher.topic)
                job |= plan.share_job(share, limit_s)
                dispatcher.submit(share.share_id, chosen.measure, job, priority=-place)
            _collect(collector, dispatcher, plan, show, grace_s)
    return fleet_room.read_room(folder)


def new_room(plan: FleetPlan) -> Room:
    """An empty room for a plan, named after the time."""
    now = datetime.now(UTC)
    room_id = f"{now:%Y%m%dt%H%M%Sz}-{secrets.token_hex(3)}"
    return Room(room_id, now.isoformat(timespec="seconds"), plan.describe())


def earlier_room(folder: Path, plan: FleetPlan) -> Room | None:
    """The room that the folder holds; None where it holds none.

    Raises:
        ConfigurationError: it is of another plan.
    """
    if not (folder / fleet_room.ROOM_FILE).exists():
        return None
    room = fleet_room.read_room(folder)
    unlike = sorted(name for name, value in plan.describe().items() if room.plan.get(name) != value)
    if unlike:
        what = f"{folder.name} holds a room of another plan (different: {', '.join(unlike)})."
        raise ConfigurationError(what, "Choose another folder, or repeat the earlier settings to complete that room.")
    return room


def _ask(room: Room, plan: FleetPlan, dispatcher: Dispatcher, look: Task) -> dict[str, Saying]:
    """What every machine that has joined says of itself, and of what it can measure."""
    present = sorted(dispatcher.present())
    return dispatcher.ask(look, [plan.job(each, room_id=room.room_id, topic=dispatcher.topic) for each in present])


def with_machines(
    room: Room, plan: FleetPlan, said: Mapping[str, Saying], *, wanted: Sequence[str] | None, versions: Versions
) -> Room:
    """Add the machines and their shares to a room, and open again what an earlier call left unfinished.

    Machines of an earlier call keep their place, and their label with it, whatever name they joined with this time:
    their records lie there.
    """
    machines = {each.machine_id: each for each in room.machines}
    found = [machine_of(machine_id, saying) for machine_id, saying in said.items()]
    if wanted is not None:
        found = [each for each in found if _is_among(wanted, each, machines.get(each.machine_id))]
    check_machines([each.machine_id for each in found])
    found = refuse_others(found) if versions == "refuse" else found
    machines |= {each.machine_id: _as_before(each, machines.get(each.machine_id)) for each in found}
    check_labels(machines.values())
    taking_part = {each.machine_id for each in (machines.values() if wanted is None else found)}
    shares = {each.share_id: _again(each, machines[each.machine_id], taking_part) for each in room.shares}
    for machine in found:
        for share in shares_of(machines[machine.machine_id], said[machine.machine_id], plan.seed):
            shares.setdefault(share.share_id, share)
    return replace(room, machines=tuple(machines.values()), shares=tuple(shares.values()))


def _is_among(wanted: Sequence[str], machine: Machine, before: Machine | None) -> bool:
    return any(each in wanted for each in (machine.machine_id, machine.label, before.label if before else None))


def _as_before(machine: Machine, before: Machine | None) -> Machine:
    """A machine under its earlier label; one that is refused now keeps what it said of itself when it measured."""
    if before is None:
        return machine
    return replace(machine, label=before.label) if machine.refused is None else replace(before, refused=machine.refused)


def _again(share: Share, machine: Machine, taking_part: set[str]) -> Share:
    """An unfinished share opened again, if its machine takes part."""
    if share.status == "done":
        return share
    if machine.refused is None and machine.machine_id in taking_part:
        return replace(share, status="open", reason=None)
    reason = machine.refused or "Its machine was not asked to complete it."
    return replace(share, status="stopped", reason=reason) if share.status == "open" else share


def check_labels(machines: Iterable[Machine]) -> None:
    """Raise `ConfigurationError` where two machines have one label: their folders would be one."""
    labels = [machine.label for machine in machines]
    for label in labels:
        if labels.count(label) > 1:
            raise ConfigurationError(f"Two machines are called {label}.", "Let one join again with another --name.")


def _collect(
    collector: Collector, dispatcher: Dispatcher, plan: FleetPlan, show: Callable[[Progress], None], grace_s: float
) -> None:
    """Take events until every share is finished, or its machine has been away for too long."""
    away_since: dict[str, float] = {}
    looked = saved = time.monotonic()
    while collector.has_open_shares:
        for event in sorted(dispatcher.events(), key=_machine_of):  # one machine's stay in order, its file stays open
            collector.take(event)
        now = time.monotonic()
        if now - looked >= PRESENCE_S:
            looked = now
            for share in collector.open_shares():
                failure = dispatcher.failure(share.share_id)
                if failure is not None:
                    collector.end(share, "failed", failure)
            _give_up(
                _long_away(collector, dispatcher.present(), away_since, now, grace_s), collector, dispatcher, grace_s
            )
            show(_progress(collector, plan, away_since))
        if now - saved >= SAVE_S:
            saved = now
            collector.save()
    show(_progress(collector, plan, away_since))


def _machine_of(event: Mapping[str, Any]) -> str:
    return str(event.get("machine"))


def _long_away(
    collector: Collector, present: set[str], away_since: dict[str, float], now: float, grace_s: float
) -> list[Share]:
    """The open shares of machines that have been away for `grace_s`; keeps `away_since` up to date."""
    missing = {share.machine_id for share in collector.open_shares()} - present
    for machine_id in away_since.keys() - missing:
        del away_since[machine_id]
    late = {machine_id for machine_id in missing if now - away_since.setdefault(machine_id, now) >= grace_s}
    return [share for share in collector.open_shares() if share.machine_id in late]


def _give_up(shares: Sequence[Share], collector: Collector, dispatcher: Dispatcher, grace_s: float) -> None:
    dispatcher.cancel([share.share_id for share in shares])
    for share in shares:
        collector.end(share, "missing", f"The machine left and was not back after {grace_s:.0f} s.")


def _progress(collector: Collector, plan: FleetPlan, away: Mapping[str, float]) -> Progress:
    labels = {machine.machine_id: machine.label for machine in collector.room.machines}
    planned: dict[str, int] = {}
    for share in collector.shares:
        label = labels[share.machine_id]
        planned[label] = planned.get(label, 0) + plan.requests_per_share
    waiting = frozenset(labels[share.machine_id] for share in collector.shares if share.share_id in collector.waiting)
    return Progress(dict(collector.requests), planned, frozenset(labels[each] for each in away), waiting)


@contextmanager
def _shown(on_progress: Callable[[Progress], None] | None) -> Iterator[Callable[[Progress], None]]:
    """The callback that was given, or a progress bar over the requests of all machines."""
    if on_progress is not None:
        yield on_progress
        return
    from tqdm.auto import tqdm

    with tqdm(unit="request", desc="Room") as bar:

        def show(progress: Progress) -> None:
            bar.total = sum(progress.planned.values())
            bar.n = sum(progress.done.values())
            behind = sum(progress.done.get(label, 0) < count for label, count in progress.planned.items())
            away = f", {len(progress.away)} away" if progress.away else ""
            queue = f", {len(progress.waiting)} waiting: another benchmark is running on that computer"
            waiting = queue if progress.waiting else ""
            bar.set_postfix_str(f"{behind} of {len(progress.planned)} machines measuring{waiting}{away}")

        yield show
