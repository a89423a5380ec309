"""Runs on disk: one JSON-lines file, a header line, then a line per serving and per request as it happens.

A line is on the disk (flushed and synced) before `append` returns, so that whatever a progress bar counts survives a
crash. A half-written last line is dropped with a note. One writer at a time: the file is locked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
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
"""Version of the record file. Readers refuse a newer one and name the step to take."""

LOCK_TIMEOUT_S = 0.2
"""Another run holds its file for minutes; only the moment of a handover is worth waiting for."""

_FRESH_COPY = "Start a new run in another folder, or delete this file if it is not needed."


class RunWriter:
    """Appends to one run file; holds its lock until closed.

    Args:
        path: the file; created with the header of `run` when new or empty.
        run: supplies the header; its servings and completions are not written.

    Raises:
        RecordFileError: another process writes the file, or it belongs to another run.
        DiskSpaceError, ConfigurationError: it cannot be made or written.
    """

    def __init__(self, path: Path, run: Run) -> None:
        self.path = path
        with self._said(), ExitStack() as held:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                held.enter_context(files.one_writer(path, wait_s=LOCK_TIMEOUT_S))
            except TimeoutError as error:
                raise RecordFileError(f"Another run is writing {path.name}.", _FRESH_COPY) from error
            dropped = files.cut_half_line(path)
            self._file: FileIO = held.enter_context(path.open("ab", buffering=0))
            if self._file.tell() == 0:
                self._write({"kind": "run", "schema": SCHEMA, **_header(run)})
            if dropped:
                self._write({"kind": "note", "text": _half_line_note(dropped)})
            self._held = held.pop_all()

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, *records: Serving | Completion) -> None:
        """Write records, mostly one at a time; they are on the disk when this returns.

        Raises:
            DiskSpaceError: the disk is full; what was written before can be read, and completed later.
            RecordFileError: the file was moved or removed meanwhile.
            ConfigurationError: it cannot be written for another reason.
        """
        kinds = ("serving" if isinstance(record, Serving) else "completion" for record in records)
        with self._said():
            self._write(*({"kind": kind, **_plain(record)} for kind, record in zip(kinds, records, strict=True)))

    def close(self) -> None:
        """Close the file and release the lock. Raises as `append`."""
        with self._said():
            self._held.close()

    def _write(self, *entries: Mapping[str, Any]) -> None:
        files.append_to(self._file, entries)
        if not self.path.exists():  # POSIX goes on writing to a file that has no name any more
            raise RecordFileError(
                f"{self.path} was moved or removed while records were written to it.", "Measure again."
            )

    @contextmanager
    def _said(self) -> Iterator[None]:
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
    """Read a run file back.

    Raises:
        RecordFileError: no such file, no run header, an unknown schema, or a broken line before the last.
    """
    header: dict[str, Any] | None = None
    servings: list[Serving] = []
    completions: list[Completion] = []
    notes: list[str] = []
    for number, entry in _entries(path):
        kind = entry.get("kind")
        try:
            if kind == "run":
                header = _checked_header(path, entry)
            elif kind == "serving":
                servings.append(_serving(entry))
            elif kind == "completion":
                completions.append(_completion(entry))
            elif kind == "note":
                notes.append(str(entry["text"]))
        except (TypeError, KeyError) as error:
            raise RecordFileError(
                f"{path.name}, line {number}: not a record of this version ({error}).", _FRESH_COPY
            ) from error
    if header is None:
        raise RecordFileError(f"{path.name} has no run header.", "Give a records.jsonl that a benchmark run wrote.")
    return _run(header, servings, completions, notes)


def record_of(entry: object) -> Serving | Completion | None:
    """Return the record that a line of a run file holds; None for its header and its notes.

    Raises:
        RecordFileError: it is no record of this version.
    """
    try:
        if isinstance(entry, dict) and entry.get("kind") in ("serving", "completion"):
            return _serving(entry) if entry["kind"] == "serving" else _completion(entry)
    except (TypeError, KeyError, ValueError) as error:
        raise RecordFileError(f"Not a record of this version ({error}).", _FRESH_COPY) from error
    if isinstance(entry, dict) and entry.get("kind") in ("run", "note"):
        return None
    raise RecordFileError("Not a line of a run file.", _FRESH_COPY)


def _entries(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RecordFileError(
            f"{path.name} cannot be read: {error.strerror}.",
            "Run a benchmark first, or correct the path.",
        ) from error
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


def _checked_header(path: Path, entry: dict[str, Any]) -> dict[str, Any]:
    if entry.get("schema") != SCHEMA:
        raise RecordFileError(
            f"{path.name} has schema {entry.get('schema')!r}, this version reads {SCHEMA}.",
            "Read it with the version of the workshop that wrote it, or measure again.",
        )
    return entry


def _header(run: Run) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "started_at": run.started_at,
        "profile": run.profile,
        "machine": dict(run.machine),
        "plan": dict(run.plan),
        "prompts": [asdict(prompt) for prompt in run.prompts],
    }


def _plain(record: Serving | Completion) -> dict[str, Any]:
    if isinstance(record, Serving):
        return asdict(record)
    plain = {each.name: getattr(record, each.name) for each in fields(record)}
    plain["chunks"] = [[round(chunk.at_s, 7), chunk.kind, chunk.text] for chunk in record.chunks]
    return plain


def _serving(entry: dict[str, Any]) -> Serving:
    values = {key: value for key, value in entry.items() if key != "kind"}
    variant = dict(values.pop("variant"))
    variant["capabilities"] = tuple(variant.get("capabilities", ()))
    values["registered_providers"] = tuple(values.get("registered_providers", ()))
    values["request_notes"] = tuple(values.get("request_notes", ()))
    return Serving(variant=ModelVariant(**variant), **values)


def _completion(entry: dict[str, Any]) -> Completion:
    values = {key: value for key, value in entry.items() if key != "kind"}
    values["chunks"] = tuple(Chunk(*chunk) for chunk in values["chunks"])
    return Completion(**values)


def _run(header: dict[str, Any], servings: list[Serving], completions: list[Completion], notes: list[str]) -> Run:
    prompts = tuple(
        Prompt(
            **{
                **prompt,
                "aspects": tuple(prompt["aspects"]),
                "forbidden": tuple(prompt["forbidden"]),
            }
        )
        for prompt in header["prompts"]
    )
    return Run(
        run_id=header["run_id"],
        started_at=header["started_at"],
        profile=header["profile"],
        machine=header["machine"],
        plan=header["plan"],
        prompts=prompts,
        servings=tuple(servings),
        completions=tuple(completions),
        notes=tuple(notes),
    )
