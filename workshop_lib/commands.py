"""What the command line does: the headless workshop, the reference results, the benchmark script.

Knows every part and joins them; computes nothing itself.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from workshop_lib.errors import ConfigurationError, WorkshopError

if TYPE_CHECKING:
    from workshop_lib.notebooks import Value
    from workshop_lib.records import Row
    from workshop_lib.settings import BenchmarkSettings

PROJECT = Path(__file__).resolve().parents[1]
RUNS = PROJECT / "runs"
REFERENCE = PROJECT / "data" / "reference" / "practice"


def run(parameters: dict[str, Value], output: Path | None = None) -> int:
    """Run the workshop's notebooks headless into one folder, write the report, print its path and table.

    Args:
        parameters: parameters of the notebooks, e.g. `profile`, `models`, `devices`, `rounds`.
        output: the run's folder; None = `runs/<started>`.

    Returns:
        0 if a model was measured, 1 if none was.
    """
    from workshop_lib import notebooks, reporting, storage, summaries

    folder = output or RUNS / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    notebooks.run_workshop(folder, parameters)
    measured = storage.read_run(folder / notebooks.RECORDS)
    files = reporting.write_report(measured, folder)
    rows = summaries.summarise(measured)
    _print_rows(rows)
    print(f"Report: {files.html}\n        {files.markdown}")
    return _exit_code(rows)


def make_reference(output: Path | None = None) -> int:
    """Measure the practice models anew and replace the shipped reference results with it."""
    target = output or REFERENCE
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "run"
        code = run({"profile": "practice"}, folder)
        if code == 0:
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(folder, target, ignore=shutil.ignore_patterns("*.lock"))
            print(f"Reference results: {target}")
    return code


def benchmark(arguments: Sequence[str]) -> int:
    """The full benchmark script: settings in, one JSON array on standard output, notices on standard error."""
    import os

    from workshop_lib import settings

    try:
        return _benchmark(settings.parse(arguments, os.environ))
    except WorkshopError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("Stopped. What was measured is kept.", file=sys.stderr)
        return 130


def _exit_code(rows: Sequence[Row]) -> int:
    return 0 if any(row.status == "ok" for row in rows) else 1
