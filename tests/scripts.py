"""The sample scripts as programs of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
SIMPLE = PROJECT / "samples" / "03-oss-models" / "benchmark_models.py"
FULL = PROJECT / "samples" / "session03" / "benchmark_oss_models.py"


def run(
    script: Path | str, *arguments: str, folder: Path = PROJECT, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a script with only these variables of the contract set."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BENCH_", "FOUNDRY_", "RETRY"))}
    environment = {**kept, "PYTHONPATH": os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")]), **variables}
    command = [sys.executable, *([str(script)] if isinstance(script, Path) else ["-m", script]), *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
