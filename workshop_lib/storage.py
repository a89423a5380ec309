"""Runs on disk: one JSON-lines file, a header line, then a line per serving and per request as it happens.

A line is on the disk (flushed and synced) before `append` returns, so that whatever a progress bar counts survives a
crash. A half-written last line is dropped with a note. One writer at a time: the file is locked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workshop_lib import files
from workshop_lib.errors import DiskSpaceError, RecordFileError
from workshop_lib.records import Chunk, Completion, ModelVariant, Prompt, Run, Serving

if TYPE_CHECKING:
    from io import FileIO

SCHEMA = 1
"""Version of the record file. Readers refuse another one and name the step to take."""

LOCK_TIMEOUT_S = 0.2
"""Another run holds its file for minutes; only the moment of a handover is worth waiting for."""

HEADER = ("run_id", "started_at", "profile", "machine", "plan")
_FRESH_COPY = "Start a new run in another folder, or delete this file if it is not needed."


class RunWriter:
    """Appends to one run file, which gets the header of `run` when new; holds its lock until closed.

    Raises `RecordFileError` where another process writes it, `DiskSpaceError` or `ConfigurationError` where it cannot
    be written.
    """

    def __init__(self, path: Path, run: Run) -> None:
        self.path = path
        with self._explained(), ExitStack() as held:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                held.enter_context(files.one_writer(path, wait_s=LOCK_TIMEOUT_S))
            except TimeoutError as error:
                raise RecordFileError(f"Another run is writing {path.name}.", _FRESH_COPY) from error
            dropped = files.cut_half_line(path)
            self._file: FileIO = held.enter_context(path.open("ab", buffering=0))
            if self._file.tell() == 0:
                header = {name: getattr(run, name) for name in HEADER}
                prompts = [asdict(prompt) for prompt in run.prompts]
                self._write({"kind": "run", "schema": SCHEMA, **header, "prompts": prompts})
            if dropped:
                self._write({"kind": "note", "text": _half_line_note(dropped)})
            self._held = held.pop_all()

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, *records: Serving | Completion) -> None:
        """Write records, mostly one at a time; they are on the disk when this returns. Raises `DiskSpaceError`."""
        with self._explained():
            self._write(*map(object_of, records))

    def close(self) -> None:
        """Close the file and release the lock. Raises as `append`."""
        with self._explained():
            self._held.close()

    def _write(self, *entries: Mapping[str, Any]) -> None:
        files.append_to(self._file, entries)
        if not self.path.exists():  # POSIX goes on writing to a file that has no name any more
            raise RecordFileError(
                f"{self.path} was moved or removed while records were written to it.", "Measure again."
            )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in files.NO_SPACE:
                folder = self.path.parent
                raise DiskSpaceError(
                    f"The disk of {folder} is full; what was measured until now is kept there.",
                    f"Free space, then start the same again with --output {folder}: it measures only what is missing.",
                ) from error
            raise files.unwritable(self.path, error) from error


def read_run(path: Path) -> Run:
    """Read a run file back. Raises `RecordFileError`."""
    header: dict[str, Any] | None = None
    records: list[Serving | Completion] = []
    notes: list[str] = []
    for number, entry in _entries(path):
        kind = entry.get("kind")
        try:
            if kind == "run":
                header = _header(path, entry)
            elif kind == "note":
                notes.append(str(entry["text"]))
            elif kind in _READERS:
                records.append(_READERS[kind](entry))
        except (KeyError, TypeError) as error:
            what = f"{path.name}, line {number}: not a record of this version ({error})."
            raise RecordFileError(what, _FRESH_COPY) from error
    if header is None:
        raise RecordFileError(f"{path.name} has no run header.", "Give a records.jsonl that a benchmark run wrote.")
    servings = tuple(record for record in records if isinstance(record, Serving))
    completions = tuple(record for record in records if isinstance(record, Completion))
    return Run(**header, servings=servings, completions=completions, notes=tuple(notes))


def record_of(entry: Any) -> Serving | Completion | None:
    """The record in a line of a run file; None for its header and its notes. Raises `RecordFileError`."""
    try:
        kind = entry["kind"]
        return None if kind in ("run", "note") else _READERS[kind](entry)
    except (KeyError, TypeError, ValueError) as error:
        raise RecordFileError(f"Not a record of this version ({error}).", _FRESH_COPY) from error


def _entries(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        content = path.read_bytes()
    except OSError as error:
        fix = "Run a benchmark first, or correct the path."
        raise RecordFileError(f"{path.name} cannot be read: {error.strerror}.", fix) from error
    lines = files.whole_lines(content)
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise RecordFileError(f"{path.name}, line {number}: broken JSON.", _FRESH_COPY) from error
        if not isinstance(entry, dict):
            raise RecordFileError(f"{path.name}, line {number}: not a record.", _FRESH_COPY)
        yield number, entry
    if dropped := len(content) - files.end_of_lines(content):
        yield len(lines) + 1, {"kind": "note", "text": _half_line_note(dropped)}


def _half_line_note(dropped: int) -> str:
    return f"The run was interrupted while a record was written; its {dropped} bytes are dropped, it is measured again."


def _header(path: Path, entry: dict[str, Any]) -> dict[str, Any]:
    if entry.get("schema") != SCHEMA:
        raise RecordFileError(
            f"{path.name} has schema {entry.get('schema')!r}, this version reads {SCHEMA}.",
            "Read it with the version of the workshop that wrote it, or measure again.",
        )
    prompts = tuple(Prompt(**_tuples(prompt)) for prompt in entry["prompts"])
    return {**{name: entry[name] for name in HEADER}, "prompts": prompts}


def object_of(record: Serving | Completion) -> dict[str, Any]:
    """A record as it stands in a file; `record_of` reads it back."""
    if isinstance(record, Serving):
        return {"kind": "serving", **asdict(record)}
    plain = {each.name: getattr(record, each.name) for each in fields(record)}
    plain["chunks"] = [[round(chunk.at_s, 7), chunk.kind, chunk.text] for chunk in record.chunks]
    return {"kind": "completion", **plain}


def _serving(entry: dict[str, Any]) -> Serving:
    values = _tuples(entry)
    return Serving(**{**values, "variant": ModelVariant(**_tuples(values["variant"]))})


def _completion(entry: dict[str, Any]) -> Completion:
    values = _tuples(entry)
    values["chunks"] = tuple(Chunk(*chunk) for chunk in values["chunks"])
    return Completion(**values)


def _tuples(entry: dict[str, Any]) -> dict[str, Any]:
    """The values of a JSON object, lists as tuples, without its kind."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in entry.items() if name != "kind"}


_READERS: dict[object, Callable[[dict[str, Any]], Serving | Completion]] = {
    "serving": _serving,
    "completion": _completion,
}
