"""Every page gives the outputs that are stored in it, without the real model and with it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from workshop_lib import places, storage, summary
from workshop_lib.models import smollm2
from workshop_lib.programs import notebooks

NBVAL = (
    "--nbval",
    "--nbval-current-env",
    "--nbval-cell-timeout=300",
    f"--nbval-sanitize-with={places.PROJECT / 'tests' / 'nbval_sanitize.cfg'}",
)
SHORT = {
    "rounds": "1", "max_tokens": "8", "users": '""', "prompt_lengths": '"64,96,128"', "judge_seconds": "1.0",
    "repeats": "1",
}  # fmt: skip
"""With the real model one page takes minutes at its own settings."""


def check_outputs(pages: Path, apart: Path) -> None:
    """All cells pass nbval strict, one page after the other, with a model cache and runs of their own."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *NBVAL, str(pages)],
        cwd=places.PROJECT,
        env=places.environment_apart(apart),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:]
    assert " passed" in done.stdout.splitlines()[-1]


def shortened(folder: Path) -> Path:
    """Copies of the numbered pages of one machine whose parameters are those of `SHORT`; outputs stay."""
    folder.mkdir()
    for name in notebooks.PAGES:
        page = nbformat.read(notebooks.FOLDER / name, as_version=4)
        for cell in page.cells:
            if "parameters" in cell.metadata.get("tags", []):
                for parameter, value in SHORT.items():
                    cell.source = re.sub(rf"(?m)^({parameter}: \w+ = )(\".*?\"|\S+)", rf"\g<1>{value}", cell.source)
        nbformat.write(page, folder / name)
    return folder


@pytest.mark.slow
def test_every_page_gives_its_stored_outputs(tmp_path: Path):
    """At its own settings, where the real model was never fetched."""
    check_outputs(notebooks.FOLDER, tmp_path)


@pytest.mark.slow
def test_every_page_gives_them_with_the_real_model_too(tmp_path: Path, real_model: Path):
    """The first page imports its three builds, the second measures them beside the practice models."""
    kept = smollm2.file_in(Path(places.environment_apart(tmp_path)[places.CACHE_VARIABLE]))
    kept.parent.mkdir(parents=True)
    shutil.copyfile(real_model, kept)
    check_outputs(shortened(tmp_path / "pages"), tmp_path)
    (records,) = (tmp_path / "runs").glob(f"*/{notebooks.RECORDS}")
    answered = {
        (row.alias, row.precision) for row in summary.summarise(storage.read_run(records)) if row.status == "ok"
    }
    assert {(smollm2.ALIAS, each.precision) for each in smollm2.VARIANTS} < answered
