"""Every page gives the outputs that are stored in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from workshop_lib import places

NBVAL = (
    "--nbval", "--nbval-current-env", "--nbval-cell-timeout=120", "--nbval-sanitize-with=tests/nbval_sanitize.cfg",
)  # fmt: skip


@pytest.mark.slow
def test_every_page_gives_its_stored_outputs(tmp_path: Path):
    """All cells pass nbval strict, one page after the other, with a model cache and runs of their own."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *NBVAL, "notebooks"],
        cwd=places.PROJECT,
        env=places.environment_apart(tmp_path),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:]
    assert " passed" in done.stdout.splitlines()[-1]
