"""How a page measures a room: with the machines that joined, with processes of this computer, or with this one alone.

Knows which of the three is possible here. Knows no tables and no charts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from workshop_lib.fleets import fleet, fleet_cluster, fleet_engine, fleet_identity, fleet_room, fleet_worker
from workshop_lib.fleets.fleet_collect import Collector
from workshop_lib.fleets.fleet_plan import FleetPlan
from workshop_lib.fleets.fleet_room import Room
from workshop_lib.fleets.fleet_security import read_security

TWO_NAMES = ("desk-1", "desk-2")


def how(scheduler: str = "") -> str:
    """Say which way `measure_room` will take."""
    if not fleet_engine.is_installed():
        return f"This machine measures alone: a fleet needs two more packages. {fleet_engine.INSTALL}, then restart."
    if scheduler:
        return f"The machines that have joined {scheduler} measure, each for itself."
    return "Two workers on this very computer measure, one after the other: one machine under two names."


def measure_room(
    plan: FleetPlan,
    folder: Path,
    *,
    scheduler: str = "",
    certificates: str = "",
    insecure: bool = False,
    **options: Any,
) -> Room:
    """Measure a plan on all machines of a scheduler; without one, as `how` says.

    `options` are those of `fleet.run_fleet`.

    Raises:
        ConfigurationError, EndpointError: as of `fleet.connected` and `fleet.run_fleet`.
    """
    if not fleet_engine.is_installed() and not scheduler:
        return measure_alone(plan, folder)
    if scheduler:
        security = read_security(Path(certificates)) if certificates else None
        with fleet.connected(scheduler, security=security, insecure=insecure) as client:
            return fleet.run_fleet(client, plan, folder, **options)
    with fleet_cluster.local_room(TWO_NAMES) as address, fleet.connected(address) as client:
        return fleet.run_fleet(client, plan, folder, **options)


def measure_alone(plan: FleetPlan, folder: Path, *, on_share: Callable[[str], None] | None = None) -> Room:
    """Measure a plan on this machine without Dask: a room of one, in the same folder and the same form.

    Args:
        plan: what to measure.
        folder: of the room; an earlier one of the same plan is completed.
        on_share: told the model that begins.

    Raises:
        ConfigurationError: the folder holds a room of another plan.
    """
    machine_id = fleet_identity.identity().machine_id
    room = fleet.earlier_room(folder, plan) or fleet.new_room(plan)
    job = plan.job(machine_id, room_id=room.room_id, topic="")
    said = fleet_worker.describe(job)
    room = fleet.with_machines(room, plan, {machine_id: said}, wanted=[machine_id], versions="warn")
    with closing(Collector(folder, room, prompts=plan.prompts, profile=plan.profile)) as collector:
        for share in collector.open_shares():
            if on_share is not None:
                on_share(share.variant.model_id)

            def take(event: Mapping[str, Any], share_id: str = share.share_id) -> None:
                collector.take({"machine": machine_id, "share": share_id, **event})

            fleet_worker.run_share({**job, **plan.share_job(share, None)}, emit=take, is_wanted=lambda: True)
    return fleet_room.read_room(folder)
