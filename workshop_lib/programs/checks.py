"""Every check of the project: lint, format, types, notebooks, tests, and how much of the package the tests ran.

Each is a program of its own, in an environment apart from the user's: no settings, registered models or old runs change
what it says. Where there are two processors, two rows of checks run side by side; what measures time runs alone. One
failure does not keep the others from running.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from workshop_lib import places
from workshop_lib.errors import ConfigurationError, WorkshopError

PYTEST = ("pytest", "--cov", "--cov-report=", "--cov-fail-under=0")
"""Each of several programs sees a part of the package run; `coverage` judges all parts together."""

TOOLS = places.PROJECT / "requirements-test.txt"
"""What only the checks need, so that a learner's environment does without it."""

INSTALL = ("pip", "install", "-q", "--no-input", "--disable-pip-version-check", "--retries=2", "--no-deps", "-r")
"""Does nothing, and needs no network, where everything is there already."""

TIMED_OUT = 124
"""The exit code of a check that was ended because it took too long."""


@dataclass(frozen=True, slots=True)
class Check:
    """A named command line, run in the project's folder with this Python; one that hangs is ended after `limit_s`."""

    name: str
    arguments: tuple[str, ...]
    limit_s: float = 3600.0

    def run(self, shared: Path, output: IO[bytes] | None = None) -> int:
        """Run it; the exit code is the check's, or `TIMED_OUT`.

        Args:
            shared: the folder of this run of checks, where programs leave what they have seen run.
            output: where its output goes; None = it is shown as it comes.
        """
        command = [sys.executable, "-m", *self.arguments]
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as apart:
            environment = {
                **places.environment_apart(Path(apart)),
                "COVERAGE_FILE": str(shared / (".coverage" if self.name in COVERAGE else f".coverage.{self.name}")),
                "PYDEVD_DISABLE_FILE_VALIDATION": "1",
            }
            try:
                return subprocess.run(
                    command,
                    cwd=places.PROJECT,
                    env=environment,
                    stdout=output,
                    stderr=output,
                    timeout=self.limit_s,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                return TIMED_OUT


@dataclass(frozen=True, slots=True)
class Result:
    """How a check ended: its exit code, and how long it took in seconds."""

    name: str
    code: int
    wall_s: float


COVERAGE = ("combine", "coverage")
FIRST_ROW: tuple[Check, ...] = (
    Check("lint", ("ruff", "check", ".")),
    Check("format", ("ruff", "format", "--check", ".")),
    Check("types", ("mypy",)),
    Check(
        "notebooks",
        (
            "pytest",
            "--nbval",
            "--nbval-current-env",
            "--nbval-cell-timeout=120",
            "--nbval-sanitize-with=tests/nbval_sanitize.cfg",
            "notebooks",
        ),
    ),
    Check("browser", (*PYTEST, "tests/browser")),
)
SECOND_ROW: tuple[Check, ...] = (
    Check("extra", (*INSTALL, "requirements-fleet.txt")),
    Check("tests", (*PYTEST, "tests", "--ignore=tests/browser", "-m", "not alone")),
)
LAST: tuple[Check, ...] = (
    Check("alone", (*PYTEST, "tests", "--ignore=tests/browser", "-m", "alone")),
    Check("combine", ("coverage", "combine", "--quiet")),
    Check("coverage", ("coverage", "report")),
)
CHECKS = (*FIRST_ROW, *SECOND_ROW, *LAST)


def run_checks(names: Sequence[str] = ()) -> int:
    """Run all checks, or those named; print one line each at the end. 0 = all passed, 1 = some failed.

    Raises:
        ConfigurationError: a name that is no check.
        WorkshopError: the tools cannot be installed.
    """
    known = [check.name for check in CHECKS]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigurationError(f"There is no check {unknown[0]!r}.", f"Use {', '.join(known)}.")
    install_once(TOOLS, Path(sys.prefix))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        shared = Path(folder)
        if names:
            results = run_in_turn([check for check in CHECKS if check.name in names], shared)
        elif (os.cpu_count() or 1) < 2:
            results = run_in_turn(CHECKS, shared)
        else:
            results = [*run_side_by_side((FIRST_ROW, SECOND_ROW), shared), *run_in_turn(LAST, shared)]
    for result in results:
        ended = {0: "passed", TIMED_OUT: "TIMED OUT"}.get(result.code, "FAILED")
        print(f"{ended}  {result.name}  {result.wall_s:.0f} s", file=sys.stderr)
    return int(any(result.code for result in results))


def install_once(requirements: Path, environment: Path) -> None:
    """Install pinned packages into this environment, unless its stamp says that they are there.

    Raises:
        WorkshopError: pip failed; without a network, for example.
    """
    stamp = environment / f"workshop-{requirements.stem}.txt"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest().encode()
    if stamp.is_file() and stamp.read_bytes() == wanted:
        return
    print(f"Installing {requirements.name} (once) ...", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", *INSTALL, str(requirements)]
    pip = subprocess.run(command, stderr=subprocess.PIPE, errors="replace", check=False)
    if pip.returncode:
        last = ([line for line in pip.stderr.splitlines() if line.strip()] or [f"exit code {pip.returncode}"])[-1]
        what = f"Cannot install {requirements.name} (pip: {last.removeprefix('ERROR: ')})."
        raise WorkshopError(what, "Check network, proxy and free disk (1.5 GB), then start again.")
    stamp.write_bytes(wanted)


def run_in_turn(checks: Iterable[Check], shared: Path) -> list[Result]:
    """Run one check after the other, and show what each says as it says it."""
    results = []
    for check in checks:
        print(f"== {check.name}", file=sys.stderr, flush=True)
        results.append(_timed(check, shared))
    return results


def run_side_by_side(rows: Sequence[Sequence[Check]], shared: Path) -> list[Result]:
    """Run rows of checks at the same time, and show what each check has said when it has ended.

    What keeps a row from being run is raised when the other rows have ended.
    """
    stopped, speaking = threading.Event(), threading.Lock()

    def run_row(row: Sequence[Check]) -> list[Result]:
        results: list[Result] = []
        for check in row:
            if stopped.is_set():
                break
            print(f"-- {check.name} has started", file=sys.stderr, flush=True)
            with tempfile.TemporaryFile() as output:
                results.append(_timed(check, shared, output))
                output.seek(0)
                with speaking:
                    print(f"== {check.name}", file=sys.stderr, flush=True)
                    sys.stderr.write(output.read().decode("utf-8", "replace"))
        return results

    with ThreadPoolExecutor(len(rows)) as pool:
        under_way = [pool.submit(run_row, row) for row in rows]
        try:
            wait(under_way)
        finally:
            stopped.set()  # after Ctrl-C, which the checks under way get too, none is begun
    return [result for row in under_way for result in row.result()]


def _timed(check: Check, shared: Path, output: IO[bytes] | None = None) -> Result:
    started = time.monotonic()
    code = check.run(shared, output)
    return Result(check.name, code, time.monotonic() - started)
