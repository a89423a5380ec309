"""Every page gives the outputs that are stored in it, and pages run with the real model, too."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from workshop_lib import places, storage, summary
from workshop_lib.models import smollm2
from workshop_lib.programs import notebooks

NBVAL = (
    "--nbval", "--nbval-current-env", "--nbval-cell-timeout=300", "--nbval-sanitize-with=tests/nbval_sanitize.cfg",
)  # fmt: skip
SHORT = {
    "prompt_set": "course", "rounds": 1, "max_tokens": 8, "users": "", "prompt_lengths": "64,96,128",
    "judge_seconds": 1.0,
}  # fmt: skip
"""At its own settings a page takes minutes with the real model, most of them for reading notes."""


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


@pytest.mark.slow
def test_pages_run_with_the_real_model(tmp_path: Path, real_model: Path, monkeypatch: pytest.MonkeyPatch):
    """The first page imports its three builds, the second measures them beside the practice models, three look at it.

    Page 06 imports a model of its own, which nbval has it do with a practice model, in a tenth of the time.
    """
    monkeypatch.setattr(notebooks, "PAGES", notebooks.PAGES[:5])
    apart = places.environment_apart(tmp_path)
    for name in (places.CACHE_VARIABLE, places.RUNS_VARIABLE, "IPYTHONDIR"):
        monkeypatch.setenv(name, apart[name])
    kept = smollm2.file_in(Path(apart[places.CACHE_VARIABLE]))
    kept.parent.mkdir(parents=True)
    shutil.copyfile(real_model, kept)
    notebooks.run_workshop(tmp_path / "run", SHORT)
    rows = summary.summarise(storage.read_run(tmp_path / "run" / notebooks.RECORDS))
    answered = {(row.alias, row.precision) for row in rows if row.status == "ok"}
    assert {(smollm2.ALIAS, each.precision) for each in smollm2.VARIANTS} < answered
