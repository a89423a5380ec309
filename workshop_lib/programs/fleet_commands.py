"""What `workshop.py fleet ...` does: certificates, scheduler, join, run, show."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from workshop_lib import benchmark, data, files, settings
from workshop_lib.errors import ConfigurationError
from workshop_lib.fleet import cluster
from workshop_lib.programs import terminal
from workshop_lib.settings import PROFILES

if TYPE_CHECKING:
    from workshop_lib.fleet.plan import Fleet


def add_parser(commands: Any) -> None:
    """Add the command `fleet` with its own commands to a parser's subparsers."""
    fleet = commands.add_parser("fleet", help="one plan on many machines (needs requirements-fleet.txt)")
    parts = fleet.add_subparsers(required=True, metavar="PART")

    certificates = parts.add_parser("certificates", help="make the key that every machine of the fleet must show")
    certificates.add_argument("folder", type=Path, help="a new folder; copy it to every machine")
    certificates.add_argument("--days", type=int, default=7, help="how long it is valid (default: 7)")
    certificates.set_defaults(command=_certificates)

    scheduler = parts.add_parser("scheduler", help="run the scheduler: on the instructor's machine")
    scheduler.add_argument("--host", default=cluster.LOOPBACK, help="address to listen on (default: %(default)s)")
    scheduler.add_argument("--port", type=int, default=cluster.DEFAULT_PORT, help="default: %(default)s")
    scheduler.set_defaults(command=_scheduler)

    join = parts.add_parser("join", help="take part: on every machine that is measured")
    join.add_argument("address", help="the scheduler's, e.g. tls://192.0.2.7:8786")
    join.add_argument("--name", default="", help="what this machine is called in tables, e.g. desk-4")
    join.set_defaults(command=_join)

    run = parts.add_parser("run", help="measure one plan on all machines that have joined")
    run.add_argument("address", help="the scheduler's")
    run.add_argument("--output", type=Path, help="folder of the results (default: a new one among the runs)")
    run.add_argument("--profile", default="practice", choices=PROFILES)
    run.add_argument("--models", default="auto", help="aliases or ids separated by commas (default: auto)")
    run.add_argument("--devices", default="cpu", help="devices separated by commas (default: cpu)")
    run.add_argument("--rounds", type=int, default=3, help="timed rounds per prompt (default: 3)")
    run.add_argument("--max-tokens", type=int, default=120, help="longest answer (default: 120)")
    run.add_argument("--prompts", type=int, default=0, help="only the first so many prompts (default: all)")
    run.add_argument("--grace", type=float, default=60.0, help="seconds to wait for a machine that left (default: 60)")
    run.add_argument("--limit", type=float, help="seconds after which a share is stopped (default: none)")
    run.set_defaults(command=_run)

    show = parts.add_parser("show", help="show what was measured")
    show.add_argument("folder", type=Path, help="its folder")
    show.set_defaults(command=_show)

    for part in (scheduler, join, run):
        part.add_argument("--certificates", type=Path, metavar="FOLDER", help="the fleet's key, for tls:// addresses")
    for part in (run, show):
        part.add_argument("--max-latency-ms", type=float, help="longest wait that a default model may cause")
        part.add_argument("--min-quality", type=float, default=0.0, help="least share of aspects, 0 to 1 (default: 0)")


def _certificates(*, folder: Path, days: int) -> int:
    cluster.make_key(folder, days=days)
    print(f"Made the fleet's key in {folder}, valid for {days} days. Copy the folder to every machine.")
    print(
        "Whoever holds it can run programs on every machine that is connected: hand it on by memory stick, not by mail."
    )
    return 0


def _scheduler(*, host: str, port: int, certificates: Path | None) -> int:
    if not 0 <= port <= 65535:
        raise ConfigurationError(f"--port is {port}.", "Give a number up to 65535; 0 takes a free one.")
    cluster.run_scheduler(host, port, security=cluster.read_key(certificates), say=terminal.notice)
    return 0


def _join(*, address: str, name: str, certificates: Path | None) -> int:
    cluster.join(address, name=name, security=cluster.read_key(certificates), say=terminal.notice)
    return 0


def _run(
    *,
    address: str,
    output: Path | None,
    models: str,
    devices: str,
    prompts: int,
    grace: float,
    limit: float | None,
    certificates: Path | None,
    max_latency_ms: float | None,
    min_quality: float,
    **how: Any,
) -> int:
    from workshop_lib.fleet import collect, plan

    asked = plan.FleetPlan(
        data.read_prompts()[: prompts or None], models=settings.names(models), devices=settings.devices(devices), **how
    )
    folder = output or benchmark.new_folder()
    files.check_writable(folder / plan.FLEET_FILE)
    with cluster.connect(address, cluster.read_key(certificates)) as client:
        fleet = collect.run_fleet(client, asked, folder, grace_s=grace, limit_s=limit)
    _print(fleet, folder, max_latency_ms, min_quality)
    print(f"Results: {folder}")
    return 0 if fleet.runs else 1


def _show(*, folder: Path, max_latency_ms: float | None, min_quality: float) -> int:
    from workshop_lib.fleet.plan import read_fleet

    _print(read_fleet(folder), folder, max_latency_ms, min_quality)
    return 0


def _print(fleet: Fleet, folder: Path, max_latency_ms: float | None, min_quality: float) -> None:
    from workshop_lib.fleet import default, room, show

    for table in (show.shares(fleet), room.speed(room.read(folder))):
        if len(table):
            print(f"{table.to_string(index=False)}\n")
    print(*default.remarks(fleet), sep="\n")
    try:
        chosen = default.choose(fleet, default.Limits(max_latency_ms and max_latency_ms / 1000, min_quality))
    except ConfigurationError as error:
        print(error)
        return
    print(f"\n{show.default(chosen).to_string(index=False)}\n")
    print(*default.describe(chosen), sep="\n")
