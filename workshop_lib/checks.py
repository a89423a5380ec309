"""Every check of the project, in the order of a developer's patience: lint, types, tests, notebooks.

Each is a program of its own; the first failure does not keep the others from running.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workshop_lib.errors import ConfigurationError

PROJECT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Check:
    """A named command line, run in the project's folder with this Python."""

    name: str
    arguments: tuple[str, ...]

    def run(self) -> int:
        """Run it with its output shown; the exit code is the check's."""
        path = os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "PYTHONUTF8": "1", "PYTHONPATH": path, "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
        command = [sys.executable, "-m", *self.arguments]
        return subprocess.run(command, cwd=PROJECT, env=environment, check=False).returncode


CHECKS: tuple[Check, ...] = (
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
    Check("tests", ("pytest", "tests", "--cov", "--cov-report=term-missing:skip-covered")),
)


def run_checks(names: Sequence[str] = ()) -> int:
    """Run all checks, or those named; print one line each at the end. 0 = all passed, 1 = some failed.

    Raises:
        ConfigurationError: a name that is no check.
    """
    known = [check.name for check in CHECKS]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigurationError(f"There is no check {unknown[0]!r}.", f"Use {', '.join(known)}.")
    results: list[tuple[str, int, float]] = []
    for check in CHECKS:
        if names and check.name not in names:
            continue
        print(f"== {check.name}", file=sys.stderr, flush=True)
        started = time.monotonic()
        results.append((check.name, check.run(), time.monotonic() - started))
    for name, code, seconds in results:
        print(f"{'passed' if code == 0 else 'FAILED'}  {name}  {seconds:.0f} s", file=sys.stderr)
    return int(any(code for _, code, _ in results))
