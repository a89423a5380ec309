"""Every check: `python3 workshop.py test` runs all, `… test lint types` some, `… test --list` names them.

`… test coverage` runs the tests once more, slower, and says how much of the package they run. Each check runs in the
environment of `workshop.py`, with no settings, models or runs of the user's.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import nox
from nox.command import CommandFailed

from workshop_lib import places

nox.options.default_venv_backend = "none"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["lint", "types", "tests", "alone"]
WORKERS = min(1 + (os.cpu_count() or 1), 4)
"""One more than there are processors: tests and browsers wait a good part of their time. One session holds all of
them, so that no processor is idle at the end of a first one, and nothing is collected twice."""
SIDE_BY_SIDE = (f"--numprocesses={WORKERS}", "--dist=loadfile", "--no-loadscope-reorder")


def run(session: nox.Session, *arguments: str, **environment: str) -> None:
    """Run a Python module in the project's folder."""
    start(session, "-m", *arguments, **environment)


def start(session: nox.Session, *arguments: str, **environment: str) -> None:
    """Start Python in the project's folder."""
    session.chdir(places.PROJECT)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as apart:
        session.run(
            sys.executable,
            *arguments,
            env={**places.environment_apart(Path(apart)), "PYDEVD_DISABLE_FILE_VALIDATION": "1", **environment},
            include_outer_env=False,
            external=True,
        )


@nox.session
def lint(session: nox.Session) -> None:
    """Look for faults that need no run, for lines that the formatter would change, for imports against the order."""
    run(session, "ruff", "check", ".")
    run(session, "ruff", "format", "--check", ".")
    start(session, "-c", "from importlinter.cli import lint_imports_command as lint; lint()", "--no-cache")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of the package, and of the maintainer's tools."""
    run(session, "mypy")
    run(session, "mypy", "tools")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests, files side by side, whole pages among them; what fails then, once more with nothing beside it.

    On a machine with more work than processors a clock can run out that never would by itself. Both results are
    printed, and a test that also fails by itself fails the check.
    """
    chosen = ("-m", "not alone", *session.posargs)
    try:
        run(session, "pytest", "tests", *SIDE_BY_SIDE, *chosen)
    except CommandFailed:
        session.warn("WHAT FAILED BESIDE OTHER TESTS RUNS ONCE MORE, ALONE")
        run(session, "pytest", "tests", "--last-failed", "--last-failed-no-failures=none", *chosen)


@nox.session
def alone(session: nox.Session) -> None:
    """Run the tests that expect times of milliseconds, with nothing beside them and no lines counted.

    Only files that name the marker are loaded: to load all of them takes as long as these tests do.
    """
    files = (places.PROJECT / "tests").rglob("test_*.py")
    marked = [str(file) for file in files if "pytest.mark.alone" in file.read_text(encoding="utf-8")]
    run(session, "pytest", *marked, "-m", "alone", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Run the tests, count the lines of the package that they run, except in whole pages, and say how many."""
    run(session, "pytest", "tests", "--cov", "--cov-report=", *SIDE_BY_SIDE, "-m", "not alone", *session.posargs)
    run(session, "coverage", "report")
