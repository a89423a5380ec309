"""Every check: `python3 workshop.py test` runs all, `… test lint types` some, `… test --list` names them.

Each runs in the environment of `workshop.py`, with no settings, models or runs of the user's.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import nox

from workshop_lib import places

nox.options.default_venv_backend = "none"
nox.options.error_on_missing_interpreters = False
PYTEST = ("pytest", "--cov", "--cov-report=", "--cov-fail-under=0", "tests")
ON_ALL_PROCESSORS = (f"--numprocesses={min(os.cpu_count() or 1, 4)}", "--dist=loadfile", "--no-loadscope-reorder")


def run(session: nox.Session, *arguments: str, **environment: str) -> None:
    """Run a Python module in the project's folder."""
    session.chdir(places.PROJECT)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as apart:
        session.run(
            sys.executable,
            "-m",
            *arguments,
            env={**places.environment_apart(Path(apart)), "PYDEVD_DISABLE_FILE_VALIDATION": "1", **environment},
            include_outer_env=False,
            external=True,
        )


@nox.session
def lint(session: nox.Session) -> None:
    """Look for faults that need no run, and for lines that the formatter would change."""
    run(session, "ruff", "check", ".")
    run(session, "ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of the package."""
    run(session, "mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests, the pages and the browser, a file at a time on each processor."""
    run(session, *PYTEST, *ON_ALL_PROCESSORS, "-m", "not alone", *session.posargs, COVERAGE_FILE=".coverage.tests")


@nox.session
def alone(session: nox.Session) -> None:
    """Run the tests that expect times of milliseconds, with nothing beside them."""
    run(session, *PYTEST, "-m", "alone", *session.posargs, COVERAGE_FILE=".coverage.alone")


@nox.session
def coverage(session: nox.Session) -> None:
    """Say how much of the package the tests of both kinds ran."""
    run(session, "coverage", "combine", "--quiet")
    run(session, "coverage", "report")
