"""The runtime's model cache: where it lies, and putting a shipped model folder into it.

Copies are checked, atomic, and safe among processes. Knows no catalog server and no runtime.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from workshop_lib import machine
from workshop_lib.errors import (
    ConfigurationError,
    DataFileError,
    DiskSpaceError,
    ModelServerError,
)

if TYPE_CHECKING:
    from workshop_lib.catalog import PracticeVariant

CACHE_VARIABLE = "WORKSHOP_CACHE_DIR"
DISK_RESERVE_MB = 50.0
LOCK_TIMEOUT_S = 120.0
_MARKER = "inference_model.json"
_PIECE_BYTES = 1 << 20
_RESTORE = "Get it back with 'git checkout -- data/practice_models'."

OnBytes = Callable[[int, int], None]


def cache_root() -> Path:
    """Folder for what can be fetched again: `WORKSHOP_CACHE_DIR`, else the user's cache folder."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_cache_path

    return user_cache_path("edge-ai-workshop", appauthor=False)


def make_folder(folder: Path) -> Path:
    """Make a folder of the cache if need be. Raises `ConfigurationError` where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"The folder {folder} cannot be made ({error.strerror})."
        fix = f"Set {CACHE_VARIABLE} to a folder you may write."
        raise ConfigurationError(what, fix) from None
    return folder


def check_disk(name: str, need_mb: float | None, folder: Path) -> None:
    """Raise `DiskSpaceError` unless `folder` has room for `need_mb` and a reserve.

    Args:
        name: what needs the room.
        need_mb: 10^6 bytes; None = unknown, which passes.
        folder: where it will lie; need not exist.
    """
    if need_mb is None:
        return
    need, have = need_mb + DISK_RESERVE_MB, machine.free_disk_mb(folder)
    if have < need:
        raise DiskSpaceError(
            f"{name} needs {need:.0f} MB of free disk, and {have:.0f} MB are free.",
            f"Free some space, or set {CACHE_VARIABLE} to a folder on a larger disk.",
        )


def install_variant(
    variant: PracticeVariant, source: Path, publisher_dir: Path, *, on_bytes: OnBytes | None = None
) -> Path:
    """Copy a shipped model folder to where the runtime looks for it, unless it is there.

    Every file is checked against its SHA-256 while it is copied into a temporary folder, which
    takes its final name only when it is complete. Several processes may install at once: one
    copies, the others wait for it.

    Args:
        variant: what to install.
        source: the shipped folder.
        publisher_dir: `<model cache>/<publisher>`.
        on_bytes: called with the bytes done and the bytes in all, last with both equal.

    Returns:
        The folder `<publisher_dir>/<name>-<version>`.

    Raises:
        DataFileError: a shipped file is missing or is not the one the index describes.
        ConfigurationError: the cache folder cannot be made.
        DiskSpaceError: less is free than the model needs.
        ModelServerError: the folder cannot be written, or is held by another process.
    """
    from filelock import FileLock, Timeout

    target = _inside(publisher_dir, f"{variant.name}-{variant.version}")
    try:
        if not _is_installed(variant, target):
            make_folder(publisher_dir)
            with FileLock(publisher_dir / f".{target.name}.lock", timeout=LOCK_TIMEOUT_S):
                if not _is_installed(variant, target):
                    _copy_into_place(variant, source, target, on_bytes)
    except Timeout:
        what = f"Another process has been installing {variant.model_id} for {LOCK_TIMEOUT_S:.0f} s."
        raise ModelServerError(what, "Stop it, then try again.") from None
    except OSError as error:
        raise _write_fault(variant, target, error) from error
    if on_bytes is not None:
        on_bytes(variant.size_bytes, variant.size_bytes)
    return target


def _copy_into_place(variant: PracticeVariant, source: Path, target: Path, on_bytes: OnBytes | None) -> None:
    check_disk(variant.model_id, variant.size_mb, target)
    with tempfile.TemporaryDirectory(prefix=".installing-", dir=target.parent, ignore_cleanup_errors=True) as work:
        new = Path(work) / "new"
        done = 0
        for name, digest in variant.files.items():
            for count in _copy_checked(_inside(source, name), _inside(new, name), digest):
                done += count
                if on_bytes is not None:
                    on_bytes(min(done, variant.size_bytes), variant.size_bytes)
        _marker(new).write_text(json.dumps(_marker_content(variant)), encoding="utf-8")
        if target.exists():
            target.rename(Path(work) / "old")
        new.rename(target)


def _copy_checked(source: Path, target: Path, digest: str) -> Iterator[int]:
    """Copy one file, yielding the bytes of each piece. Raises `DataFileError`: not that SHA-256."""
    target.parent.mkdir(parents=True, exist_ok=True)
    sha256 = hashlib.sha256()
    try:
        reader = source.open("rb")
    except FileNotFoundError:
        raise DataFileError(f"The shipped model file {source} is missing.", _RESTORE) from None
    with reader, target.open("wb") as writer:
        while piece := reader.read(_PIECE_BYTES):
            sha256.update(piece)
            writer.write(piece)
            yield len(piece)
    if sha256.hexdigest() != digest:
        raise DataFileError(f"The shipped model file {source} is not the one the index describes.", _RESTORE)


def _is_installed(variant: PracticeVariant, target: Path) -> bool:
    """A cheap check: the marker, written last, names the same files, and each of them is there."""
    try:
        content = json.loads(_marker(target).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(content == _marker_content(variant)) and all((target / name).is_file() for name in variant.files)


def _marker(folder: Path) -> Path:
    return folder / _MARKER


def _marker_content(variant: PracticeVariant) -> dict[str, object]:
    """`Name` is what the runtime reads; it ignores the rest."""
    return {"Name": variant.model_id, "Files": dict(variant.files)}


def _write_fault(variant: PracticeVariant, target: Path, error: OSError) -> DiskSpaceError | ModelServerError:
    if error.errno == errno.ENOSPC:
        what = f"The disk became full while installing {variant.model_id} ({variant.size_mb:.0f} MB)."
        return DiskSpaceError(what, f"Free some space, or set {CACHE_VARIABLE} to a folder on a larger disk.")
    what = f"{variant.model_id} cannot be put into {target.parent}: {error.strerror or error}."
    return ModelServerError(what, f"Stop what uses that folder, or set {CACHE_VARIABLE} to one you may write.")


def _inside(folder: Path, name: str) -> Path:
    """`folder / name`, refusing a name that leads out of the folder."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()) or path == folder:
        raise DataFileError(f"The name '{name}' leads out of {folder}.", "Correct the index of the practice models.")
    return path
