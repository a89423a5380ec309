"""Runs on disk: one JSON-lines file, a header line, then a line per serving and per request as it happens.

A line is on the disk (flushed and synced) before `append` returns, so that whatever a progress bar counts survives a
crash. A half-written last line is dropped with a note. One writer at a time: the file is locked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from workshop_lib import files
from workshop_lib.errors import DiskSpaceError, RecordFileError
from workshop_lib.records import Chunk, Completion, ModelVariant, Prompt, Run, Serving

SCHEMA = 1
"""Version of the record file. Readers refuse another one and name the step to take."""

LOCK_TIMEOUT_S = 0.2
"""Another run holds its file for minutes; only the moment of a handover is worth waiting for."""

HEADER = ("run_id", "started_at", "profile", "machine", "plan")
_NO_RECORD = (KeyError, TypeError, ValueError, AttributeError)
KINDS = ("run", "serving", "completion", "note")
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
            entries: list[dict[str, Any]] = []
            dropped = files.cut_half_line(path)
            if not path.exists() or not path.stat().st_size:
                header = {name: getattr(run, name) for name in HEADER}
                prompts = [asdict(prompt) for prompt in run.prompts]
                entries.append({"kind": "run", "schema": SCHEMA, **header, "prompts": prompts})
            if dropped:
                entries.append({"kind": "note", "text": _half_line_note(dropped)})
            files.append_lines(path, entries)
            self._held = held.pop_all()

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def append(self, *records: Serving | Completion) -> None:
        """Write records, mostly one at a time; they are on the disk when this returns. Raises `DiskSpaceError`."""
        if not self.path.exists():
            what = f"{self.path} was moved or removed while records were written to it."
            raise RecordFileError(what, "Measure again.")
        with self._explained():
            files.append_lines(self.path, map(object_of, records))

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
    try:
        content = path.read_bytes()
    except OSError as error:
        fix = "Run a benchmark first, or correct the path."
        raise RecordFileError(f"{path.name} cannot be read: {error.strerror}.", fix) from error
    lines, found = files.whole_lines(content), []
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            if not isinstance(entry, dict) or entry.get("kind", "run") in KINDS:  # other kinds are a later version's
                found.append(_parsed(entry))
        except RecordFileError as error:
            raise RecordFileError(f"{path.name}: {error.what}", error.fix) from error
        except _NO_RECORD as error:
            what = f"{path.name}, line {number}: not a record of this version ({error})."
            raise RecordFileError(what, _FRESH_COPY) from error
    headers = [each for each in found if isinstance(each, dict)]
    if not headers:
        raise RecordFileError(f"{path.name} has no run header.", "Give a records.jsonl that a benchmark run wrote.")
    if dropped := len(content) - sum(len(line) + 1 for line in lines):
        found.append(_half_line_note(dropped))
    return Run(
        **headers[0],
        servings=tuple(each for each in found if isinstance(each, Serving)),
        completions=tuple(each for each in found if isinstance(each, Completion)),
        notes=tuple(each for each in found if isinstance(each, str)),
    )


def _half_line_note(dropped: int) -> str:
    return f"The run was interrupted while a record was written; its {dropped} bytes are dropped, it is measured again."


def object_of(record: Serving | Completion) -> dict[str, Any]:
    """A record as it stands in a file; `record_of` reads it back."""
    if isinstance(record, Serving):
        return {"kind": "serving", **asdict(record)}
    plain = {each.name: getattr(record, each.name) for each in fields(record)}
    plain["chunks"] = [[round(chunk.at_s, 7), chunk.kind, chunk.text] for chunk in record.chunks]
    return {"kind": "completion", **plain}


def record_of(entry: Any) -> Serving | Completion | None:
    """The record in a line of a run file; None for its header and its notes. Raises `RecordFileError`."""
    try:
        found = _parsed(entry)
    except _NO_RECORD as error:
        raise RecordFileError(f"Not a record of this version ({error}).", _FRESH_COPY) from error
    return found if isinstance(found, Serving | Completion) else None


def _parsed(entry: Any) -> Serving | Completion | dict[str, Any] | str:
    """What a line holds: a record, the fields of the header, or a note. Raises one of `_NO_RECORD`."""
    kind, values = entry["kind"], _tuples(entry)
    if kind == "serving":
        return Serving(**{**values, "variant": ModelVariant(**_tuples(values["variant"]))})
    if kind == "completion":
        return Completion(**{**values, "chunks": tuple(Chunk(*chunk) for chunk in values["chunks"])})
    if kind == "note":
        return str(values["text"])
    if kind != "run":
        raise KeyError(kind)
    if values["schema"] != SCHEMA:
        fix = "Read it with the version of the workshop that wrote it, or measure again."
        raise RecordFileError(f"The records have schema {values['schema']!r}, this version reads {SCHEMA}.", fix)
    prompts = tuple(Prompt(**_tuples(prompt)) for prompt in values["prompts"])
    return {**{name: values[name] for name in HEADER}, "prompts": prompts}


def _tuples(entry: dict[str, Any]) -> dict[str, Any]:
    """The values of a JSON object, lists as tuples, without its kind."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in entry.items() if name != "kind"}
