"""The command line: `python -m workshop_lib COMMAND`, which `workshop.py` hands over to.

Knows how arguments become calls and how errors become one line and an exit code. Computes nothing itself.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from workshop_lib import places
from workshop_lib.errors import ConfigurationError
from workshop_lib.programs import (
    commands,
    fleet_commands,
    import_commands,
    notebooks,
    reference_commands,
    registration_commands,
)
from workshop_lib.settings import PROFILES


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the return value is the process's exit code."""
    return commands.ended(lambda: _called(arguments))


def _called(arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(arguments)
    return int(options.command(options))


def _run(options: argparse.Namespace) -> int:
    if options.rounds < 1:
        raise ConfigurationError(f"--rounds is {options.rounds}.", "Give 1 or more.")
    if options.watts is not None and not 0 < options.watts < math.inf:
        raise ConfigurationError(f"--watts is {options.watts}.", "Give watts above 0.")
    names = ("profile", "models", "devices", "rounds", "watts")
    given = {name: getattr(options, name) for name in names}
    return commands.run({name: value for name, value in given.items() if value is not None}, options.output)


def _reference(options: argparse.Namespace) -> int:
    return reference_commands.make_reference(options.output)


def _compare(options: argparse.Namespace) -> int:
    return commands.compare(
        options.first,
        options.second or options.first,
        model=options.model,
        against=options.against,
        fail_if_slower=options.fail_if_slower,
    )


def _check(options: argparse.Namespace) -> int:
    return commands.check(options.profile, options.models, options.devices, download=options.download)


def _lab(options: argparse.Namespace) -> int:
    first = str(places.NOTEBOOKS / notebooks.PAGES[0])
    command = [sys.executable, "-m", "jupyterlab", "--ServerApp.ip=127.0.0.1", f"--notebook-dir={places.PROJECT}"]
    command += [
        flag for flag, given in (("--no-browser", options.no_browser), ("--allow-root", options.allow_root)) if given
    ]
    return subprocess.run([*command, first], env={**os.environ, "PYTHONUTF8": "1"}, check=False).returncode


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Make argparse's complaint one line like every other."""
        self.exit(2, f"{self.prog}: {message}. --help says what can be given.\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="workshop.py", description="Choose a small language model by measuring it.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="download, benchmark and chart the models, write a report under runs/")
    _add_models(run)
    run.add_argument("--devices", default="cpu,gpu", help="devices to measure (default: cpu,gpu)")
    run.add_argument("--rounds", type=int, default=3, help="timed rounds per prompt (default: 3)")
    run.add_argument("--watts", type=float, help="power to assume where none can be measured (default: models.json)")
    run.add_argument("--output", type=Path, help="folder of the run (default: runs/<started>)")
    run.set_defaults(command=_run)

    lab = commands.add_parser("lab", help="open JupyterLab on the notebooks")
    lab.add_argument("--no-browser", action="store_true", help="print the address instead of opening it")
    lab.add_argument("--allow-root", action="store_true", help="let JupyterLab run as root, as in a container")
    lab.set_defaults(command=_lab)

    check = commands.add_parser("check", help="is every model listed, cached, served, and does it answer?")
    _add_models(check)
    check.add_argument("--devices", default="cpu", help="devices to check the models on (default: cpu)")
    check.add_argument("--download", action="store_true", help="bring what is missing into the model cache first")
    check.set_defaults(command=_check)

    reference = commands.add_parser("reference", help="make data/reference/ anew")
    reference.add_argument("--output", type=Path, help="another folder than data/reference/practice")
    reference.set_defaults(command=_reference)

    compare = commands.add_parser("compare", help="what changed between two results, with intervals")
    compare.add_argument("first", type=Path, help="benchmark_report.json or records.jsonl")
    compare.add_argument("second", type=Path, nargs="?", help="the other one; default: the same file")
    compare.add_argument("--model", default="", metavar="NAME[@DEVICE]", help="this model of the first file only")
    compare.add_argument("--against", default="", metavar="NAME[@DEVICE]", help="with --model: that of the second file")
    compare.add_argument("--fail-if-slower", action="store_true", help="exit with 1 if a latency is clearly worse")
    compare.set_defaults(command=_compare)
    fleet_commands.add_parser(commands)
    registration_commands.add_parsers(commands)
    import_commands.add_parser(commands)
    return parser


def _add_models(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--profile",
        choices=PROFILES,
        default="",
        help="default: practice, or endpoint if FOUNDRY_LOCAL_ENDPOINT is set",
    )
    parser.add_argument("--models", default="auto", help="aliases or ids separated by commas; auto = all (default)")


if __name__ == "__main__":
    sys.exit(main())
