"""Every page gives the outputs that are stored in it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from workshop_lib import places
from workshop_lib.models.smollm2 import FILE_NAME

NBVAL = (
    "--nbval", "--nbval-current-env", "--nbval-cell-timeout=300", "--nbval-sanitize-with=tests/nbval_sanitize.cfg",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("real", ["absent", "there"])
def test_every_page_gives_its_stored_outputs(tmp_path: Path, real: str, request: pytest.FixtureRequest):
    """All cells pass nbval strict, one page after the other, with and without the real model, in a cache apart."""
    if real == "there":
        kept = tmp_path / "cache" / "gguf" / FILE_NAME
        kept.parent.mkdir(parents=True)
        shutil.copyfile(request.getfixturevalue("real_model"), kept)
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
