"""The runtime's model cache: where it lies, and putting a model folder into it.

Copies are checked, atomic, and safe among processes. A file is known by a *proof*: the SHA-256 of a shipped file, or,
for a registered one that may have gigabytes, a *stamp* of size and time of change. Knows no catalog and no runtime.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from workshop_lib import machine, places
from workshop_lib.errors import (
    ConfigurationError,
    DataFileError,
    DiskSpaceError,
    ModelServerError,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

CACHE_VARIABLE = places.CACHE_VARIABLE
DISK_RESERVE_MB = 50.0
LOCK_TIMEOUT_S = 120.0
_MARKER = "inference_model.json"
_PIECE_BYTES = 1 << 20
_STAMP = "stamp:"
_RESTORE = "Get it back with 'git checkout -- data/practice_models'."

OnBytes = Callable[[int, int], None]


class Installable(Protocol):
    """What can be put into the cache; `offers.Offer` is one."""

    @property
    def model_id(self) -> str:
        """The exact id: `name:version`."""

    @property
    def name(self) -> str:
        """The id without its version."""

    @property
    def version(self) -> str:
        """What follows the name."""

    @property
    def source(self) -> Path:
        """The folder of its files."""

    @property
    def files(self) -> Mapping[str, str]:
        """Relative name → proof of the content."""

    @property
    def size_bytes(self) -> int:
        """All files together."""

    @property
    def size_mb(self) -> float:
        """The same in 10^6 bytes."""


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


def stamp(file: Path) -> str:
    """The proof of a file that is too large to be read every time: its size and when it was changed.

    Raises:
        OSError: it cannot be looked at.
    """
    seen = file.stat()
    return f"{_STAMP}{seen.st_size}:{seen.st_mtime_ns}"


def install_variant(variant: Installable, publisher_dir: Path, *, on_bytes: OnBytes | None = None) -> Path:
    """Copy a model folder to where the runtime looks for it, unless it is there as it is now.

    Every file is checked against its proof while it is copied into a temporary folder, which takes its final name only
    when it is complete. Several processes may install at once: one copies, the others wait for it.

    Args:
        variant: what to install.
        publisher_dir: `<model cache>/<publisher>`.
        on_bytes: called with the bytes done and the bytes in all, last with both equal.

    Returns:
        The folder `<publisher_dir>/<name>-<version>`.

    Raises:
        DataFileError: a file is missing or is not the one that was described.
        ConfigurationError: the cache folder cannot be made.
        DiskSpaceError: less is free than the model needs.
        ModelServerError: the folder cannot be written, or is held by another process.
    """
    from filelock import FileLock, Timeout

    target = _inside(publisher_dir, f"{variant.name}-{variant.version}")
    try:
        if not _is_in(variant, target):
            make_folder(publisher_dir)
            with FileLock(publisher_dir / f".{target.name}.lock", timeout=LOCK_TIMEOUT_S):
                if not _is_in(variant, target):
                    _copy_into_place(variant, target, on_bytes)
    except Timeout:
        what = f"Another process has been installing {variant.model_id} for {LOCK_TIMEOUT_S:.0f} s."
        raise ModelServerError(what, "Stop it, then try again.") from None
    except OSError as error:
        raise _write_fault(variant, target, error) from error
    if on_bytes is not None:
        on_bytes(variant.size_bytes, variant.size_bytes)
    return target


def is_installed(variant: Installable, publisher_dir: Path) -> bool:
    """Whether the cache holds the model as it is now; a cheap look."""
    return _is_in(variant, _inside(publisher_dir, f"{variant.name}-{variant.version}"))


def remove_others(publisher_dir: Path, names: Collection[str]) -> None:
    """Remove copies whose folder is not one of `names`; one that is in use stays until the next time."""
    for folder in publisher_dir.glob("*") if publisher_dir.is_dir() else ():
        if folder.is_dir() and not folder.name.startswith(".") and folder.name not in names:
            shutil.rmtree(folder, ignore_errors=True)


def _copy_into_place(variant: Installable, target: Path, on_bytes: OnBytes | None) -> None:
    beginning = f".installing-{target.name}~"
    for left_behind in target.parent.glob(f"{beginning}*"):  # by a program that was killed; the lock is ours
        shutil.rmtree(left_behind, ignore_errors=True)
    check_disk(variant.model_id, variant.size_mb, target)
    with tempfile.TemporaryDirectory(prefix=beginning, dir=target.parent, ignore_cleanup_errors=True) as work:
        new = Path(work) / "new"
        done = 0
        for name, proof in variant.files.items():
            copy = _copy_stamped if proof.startswith(_STAMP) else _copy_checked
            for count in copy(variant.source, name, _inside(new, name), proof):
                done += count
                if on_bytes is not None:
                    on_bytes(min(done, variant.size_bytes), variant.size_bytes)
        _marker(new).write_text(json.dumps(_marker_content(variant)), encoding="utf-8")
        if target.exists():
            target.rename(Path(work) / "old")
        new.rename(target)


def _copy_checked(folder: Path, name: str, target: Path, digest: str) -> Iterator[int]:
    """Copy one shipped file, yielding the bytes of each piece. Raises `DataFileError`: not that SHA-256."""
    source, sha256 = _inside(folder, name), hashlib.sha256()
    try:
        for piece in _copy(source, target):
            sha256.update(piece)
            yield len(piece)
    except FileNotFoundError:
        raise DataFileError(f"The shipped model file {source} is missing.", _RESTORE) from None
    if sha256.hexdigest() != digest:
        raise DataFileError(f"The shipped model file {source} is not the one the index describes.", _RESTORE)


def _copy_stamped(folder: Path, name: str, target: Path, before: str) -> Iterator[int]:
    """Copy one registered file, a link as what it leads to. Raises `DataFileError`: it changed meanwhile."""
    source = folder / name
    try:
        yield from (len(piece) for piece in _copy(source, target))
        unchanged = stamp(source) == before and target.stat().st_size == _stamped_size(before)
    except FileNotFoundError:
        unchanged = False
    if not unchanged:
        what = f"The model file {source} changed while it was copied."
        raise DataFileError(what, "Wait until nothing writes there, then list the models again.")


def _copy(source: Path, target: Path) -> Iterator[bytes]:
    with source.open("rb") as reader:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as writer:
            while piece := reader.read(_PIECE_BYTES):
                writer.write(piece)
                yield piece


def _stamped_size(proof: str) -> int:
    return int(proof.removeprefix(_STAMP).split(":")[0])


def _is_in(variant: Installable, target: Path) -> bool:
    """A cheap check: the marker, written last, names the same files, and each of them is there."""
    try:
        content = json.loads(_marker(target).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(content == _marker_content(variant)) and all((target / name).is_file() for name in variant.files)


def _marker(folder: Path) -> Path:
    return folder / _MARKER


def _marker_content(variant: Installable) -> dict[str, object]:
    """`Name` is what the runtime reads; it ignores the rest."""
    return {"Name": variant.model_id, "Files": dict(variant.files)}


def _write_fault(variant: Installable, target: Path, error: OSError) -> DiskSpaceError | ModelServerError:
    if error.errno == errno.ENOSPC:
        what = f"The disk became full while installing {variant.model_id} ({variant.size_mb:.0f} MB)."
        return DiskSpaceError(what, f"Free some space, or set {CACHE_VARIABLE} to a folder on a larger disk.")
    what = f"{variant.model_id} cannot be put into {target.parent}: {error.strerror or error}."
    return ModelServerError(what, f"Stop what uses that folder, or set {CACHE_VARIABLE} to one you may write.")


def _inside(folder: Path, name: str) -> Path:
    """`folder / name`, refusing a name that leads out of the folder."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()) or path == folder:
        raise DataFileError(f"The name '{name}' leads out of {folder}.", "Correct the index that names it.")
    return path
