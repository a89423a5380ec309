"""Files that survive a crash: replaced as a whole, or grown by whole lines, and written by one program at a time.

    write_atomically(folder / "decision.md", text)
    append_lines(folder / "loads.jsonl", [{"users": 4}])
    for number, line in enumerate(whole_lines(path.read_bytes()), 1): ...

A line counts once its newline is on the disk; what a crash left after the last newline was never acknowledged.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workshop_lib.errors import ConfigurationError, DiskSpaceError, WorkshopError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
"""A full disk, and a full share of one."""


def write_atomically(path: Path, content: str | bytes, *, check: Callable[[Path], object] | None = None) -> None:
    r"""Write a file, or replace it, as a whole: whoever reads it sees the old content or the new, never a part.

    Its folder is made; a pipe or a device is written to as it is. Text becomes UTF-8 with `\n` between lines, halves of
    surrogate pairs `\udXXX`. `check` looks at the finished file under another name; if it raises, the old one stays.
    Raises `DiskSpaceError` or `ConfigurationError`, which name the file and the reason.
    """
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    with _said(path):
        if path.exists() and not path.is_file():
            path.write_bytes(data)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        fresh = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if check is not None:
                check(fresh)
            fresh.chmod(0o644)
            fresh.replace(path)
            _sync_folder(path.parent)
        finally:
            with suppress(OSError):  # its folder may be gone, or no folder any more
                fresh.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Look, before long work, whether a file can be written; its folder is made. Raises as `write_atomically`."""
    with _said(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file() or path.is_dir():
            path.open("ab").close()
        elif not path.exists():  # whoever reads a pipe would take this for its end
            tempfile.TemporaryFile(dir=path.parent).close()


@contextmanager
def _said(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from error


def whole_lines(content: bytes) -> list[bytes]:
    r"""Return the lines that were finished, without their newlines.

    >>> whole_lines(b"one\ntw")
    [b'one']
    """
    return content.split(b"\n")[:-1]


def cut_half_line(path: Path) -> int:
    """Cut what a crash left after the last newline, and return how many bytes that were."""
    if not path.is_file():
        return 0
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        if file.read() in (b"", b"\n"):
            return 0
        file.seek(0)
        keep = file.read().rfind(b"\n") + 1
        file.truncate(keep)
        return size - keep


def append_lines(path: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Add a line of JSON for each entry, all of them or none; they are on the disk when this returns.

    Raises `OSError` where the file cannot be written, or the disk is full: it is then as it was, less half a line.
    """
    texts = [json.dumps(each, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n" for each in entries]
    rest = memoryview("".join(texts).encode("utf-8", "backslashreplace"))
    new = not path.exists()
    cut_half_line(path)
    with path.open("ab", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        try:
            while rest:  # the last bytes of a disk take a part, and only the next try says that it is full
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except OSError as error:
            error.filename = str(path)  # the operating system names no file that is open already
            with suppress(OSError):  # half a line is cut by whoever writes next
                file.truncate(end)
            raise
    if new:
        _sync_folder(path.parent)


@contextmanager
def one_writer(path: Path, *, wait_s: float) -> Iterator[None]:
    """Keep every other program that asks for the same file out until the block ends; leave no lock file behind.

    Raises `TimeoutError` where another program held it for longer than `wait_s`, `OSError` where no lock can be made.
    """
    from filelock import FileLock

    lock = FileLock(f"{path}.lock", poll_interval=0.01)
    with lock.acquire(timeout=wait_s):
        try:
            yield
        finally:
            if os.name == "posix":  # while it is held: who opened it before sees that it has no name, and asks anew
                Path(lock.lock_file).unlink(missing_ok=True)  # Windows removes it on release


def _sync_folder(folder: Path) -> None:
    """Put a new file's name on the disk too; Windows does it by itself and cannot open folders."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            with suppress(OSError):  # some network disks refuse it; the file itself is there
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unwritable(path: Path, error: OSError) -> WorkshopError:
    """Make the error for a file or folder that cannot be written."""
    what = f"{path} cannot be written: {error.strerror or error}."
    if error.errno in NO_SPACE:
        return DiskSpaceError(what, "Free space there, or choose another folder; what was written before is kept.")
    return ConfigurationError(what, "Close the program that has it open, or choose another folder.")


def decoded(data: bytes) -> str:
    r"""Return the text of a file that a person made: in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Raises `UnicodeDecodeError` for others, which are not guessed: a wrong guess changes the text.

    >>> decoded("[1]".encode("utf-16")), decoded(b"\xef\xbb\xbf[1]")
    ('[1]', '[1]')
    """
    return data.decode(json.detect_encoding(data))


def typed_path(text: str | Path) -> Path:
    """Return a path as people type or paste it: in quotes, with spaces around it, with `~`.

    >>> typed_path(' "models/mine/" ').as_posix()
    'models/mine'
    """
    bare = str(text).strip()
    if len(bare) > 1 and bare[0] == bare[-1] and bare[0] in "\"'":
        bare = bare[1:-1].strip()
    return Path(os.path.expanduser(bare))  # noqa: PTH111 - Path's own raises for ~nobody
