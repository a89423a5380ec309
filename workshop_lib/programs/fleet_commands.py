"""What `python -m workshop_lib fleet ...` does: certificates, scheduler, join, run, show.

Knows arguments and words on a terminal; computes nothing itself. Loads what a command needs when it runs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workshop_lib import benchmark, data, files, settings
from workshop_lib.errors import ConfigurationError
from workshop_lib.fleets import fleet_engine
from workshop_lib.settings import PROFILES

if TYPE_CHECKING:
    from workshop_lib.fleets.fleet_room import Room

CERTIFICATES_HELP = "this machine's folder of certificates; the address then begins with tls://"
INSECURE_HELP = "allow a network without TLS: anyone on it can then run programs on every machine of the fleet"


def add_parser(commands: Any) -> None:
    """Add the command `fleet` with its own commands to a parser's subparsers."""
    fleet = commands.add_parser("fleet", help="one plan on many machines (needs requirements-fleet.txt)")
    parts = fleet.add_subparsers(required=True, metavar="PART")

    certificates = parts.add_parser("certificates", help="make one folder of certificates per machine")
    certificates.add_argument("folder", type=Path, help="a new folder")
    certificates.add_argument("machines", nargs="+", metavar="NAME", help="one name per machine, e.g. desk-1 desk-2")
    certificates.add_argument("--days", type=int, default=7, help="how long they are valid (default: 7)")
    certificates.set_defaults(command=_certificates)

    scheduler = parts.add_parser("scheduler", help="run the scheduler: on the instructor's machine")
    scheduler.add_argument("--host", default=fleet_engine.LOOPBACK, help="address to listen on (default: %(default)s)")
    scheduler.add_argument("--port", type=int, default=fleet_engine.DEFAULT_PORT, help="default: %(default)s")
    _add_security(scheduler)
    scheduler.set_defaults(command=_scheduler)

    join = parts.add_parser("join", help="take part: on every machine that is measured")
    join.add_argument("address", help="the scheduler's, e.g. tls://192.0.2.7:8786")
    join.add_argument("--name", default="", help="what this machine is called in tables, e.g. desk-4")
    _add_security(join)
    join.set_defaults(command=_join)

    run = parts.add_parser("run", help="measure one plan on all machines that have joined")
    run.add_argument("address", help="the scheduler's")
    run.add_argument("--output", type=Path, help="folder of the room (default: a new one among the runs)")
    run.add_argument("--profile", default="practice", choices=PROFILES)
    run.add_argument("--models", default="auto", help="aliases or ids separated by commas (default: auto)")
    run.add_argument("--devices", default="cpu", help="devices separated by commas (default: cpu)")
    run.add_argument("--rounds", type=int, default=3, help="timed rounds per prompt (default: 3)")
    run.add_argument("--max-tokens", type=int, default=120, help="longest answer (default: 120)")
    run.add_argument("--prompts", type=int, default=0, help="only the first so many prompts (default: all)")
    run.add_argument("--grace", type=float, default=60.0, help="seconds to wait for a machine that left (default: 60)")
    run.add_argument("--limit", type=float, help="seconds after which a share is stopped (default: none)")
    run.add_argument("--refuse-other-versions", action="store_true", help="leave out machines with other versions")
    _add_limits(run)
    _add_security(run)
    run.set_defaults(command=_run)

    show = parts.add_parser("show", help="show a room that was measured")
    show.add_argument("folder", type=Path, help="its folder")
    _add_limits(show)
    show.set_defaults(command=_show)


def _add_security(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--certificates", type=Path, metavar="FOLDER", help=CERTIFICATES_HELP)
    parser.add_argument("--insecure", action="store_true", help=INSECURE_HELP)


def _add_limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--max-latency-ms", type=float, help="longest wait that a default model may cause")
    parser.add_argument("--min-quality", type=float, default=0.0, help="least share of aspects, 0 to 1 (default: 0)")


def _certificates(options: argparse.Namespace) -> int:
    from workshop_lib.fleets.fleet_security import make_certificates

    made = make_certificates(options.folder, options.machines, days=options.days)
    print(f"Made {len(made)} folders, valid for {options.days} days: {', '.join(path.name for path in made)}.")
    print("Give each machine its own folder and no other. Whoever holds one can run programs on every machine")
    print("that is connected. The folder 'authority' stays here; delete it when no machine will be added.")
    return 0


def _scheduler(options: argparse.Namespace) -> int:
    from workshop_lib.fleets import fleet_cluster
    from workshop_lib.fleets.fleet_security import read_security

    if not 0 <= options.port <= 65535:
        raise ConfigurationError(f"--port is {options.port}.", "Give a number up to 65535; 0 takes a free one.")
    security = read_security(options.certificates)
    fleet_cluster.run_scheduler(options.host, options.port, security=security, insecure=options.insecure, say=_say)
    return 0


def _join(options: argparse.Namespace) -> int:
    from workshop_lib.fleets import fleet_cluster
    from workshop_lib.fleets.fleet_security import read_security

    security = read_security(options.certificates)
    fleet_cluster.join(options.address, name=options.name, security=security, insecure=options.insecure, say=_say)
    return 0


def _run(options: argparse.Namespace) -> int:
    from workshop_lib.fleets import fleet
    from workshop_lib.fleets.fleet_room import ROOM_FILE
    from workshop_lib.fleets.fleet_security import read_security

    prompts = data.read_prompts()[: options.prompts or None]
    plan = fleet.make_fleet_plan(
        prompts,
        models=settings.names(options.models),
        devices=settings.devices(options.devices),
        profile=options.profile,
        rounds=options.rounds,
        max_tokens=options.max_tokens,
    )
    folder = options.output or benchmark.new_folder()
    files.check_writable(folder / ROOM_FILE)
    security = read_security(options.certificates)
    with fleet.connected(options.address, security=security, insecure=options.insecure) as client:
        room = fleet.run_fleet(
            client,
            plan,
            folder,
            grace_s=options.grace,
            limit_s=options.limit,
            versions="refuse" if options.refuse_other_versions else "warn",
        )
    _print_room(room, options)
    print(f"Room: {folder}")
    return 0 if room.runs else 1


def _show(options: argparse.Namespace) -> int:
    from workshop_lib.fleets.fleet_room import read_room

    _print_room(read_room(options.folder), options)
    return 0


def _print_room(room: Room, options: argparse.Namespace) -> None:
    from workshop_lib.fleets import fleet_choice, fleet_summaries, fleet_tables

    limits = fleet_choice.Limits(
        max_latency_s=None if options.max_latency_ms is None else options.max_latency_ms / 1000,
        min_quality=options.min_quality,
    )
    for table in (fleet_tables.shares(room), fleet_tables.speed(room), fleet_tables.left_out(room)):
        if len(table):
            print(f"{table.to_string(index=False)}\n")
    for sentence in fleet_summaries.remarks(room):
        print(sentence)
    try:
        choice = fleet_choice.choose(room, limits)
    except ConfigurationError as error:
        print(error)
        return
    print(f"\n{fleet_tables.default(choice).to_string(index=False)}\n")
    for sentence in fleet_choice.describe(choice):
        print(sentence)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
