"""Runs on disk: one JSON-lines file, a header line, then a line per serving and per request as it happens.

A line is on the disk (flushed and synced) before `append` returns, so that whatever a progress bar counts survives a
crash. A half-written last line is dropped with a note. One writer at a time: the file is locked.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, BinaryIO

from workshop_lib import files
from workshop_lib.errors import RecordFileError
from workshop_lib.records import Chunk, Completion, ModelVariant, Prompt, Run, Serving

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
        ConfigurationError: its folder cannot be made.
    """

    def __init__(self, path: Path, run: Run) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise files.unwritable(path, error) from error
        self.path = path
        with ExitStack() as held:
            try:
                held.enter_context(files.one_writer(path, wait_s=LOCK_TIMEOUT_S))
            except TimeoutError as error:
                raise RecordFileError(f"Another run is writing {path.name}.", _FRESH_COPY) from error
            dropped = files.cut_half_line(path)
            self._file: BinaryIO = held.enter_context(path.open("ab"))
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
        """Write records, mostly one at a time; they are on the disk when this returns."""
        kinds = ("serving" if isinstance(record, Serving) else "completion" for record in records)
        self._write(*({"kind": kind, **_plain(record)} for kind, record in zip(kinds, records, strict=True)))

    def close(self) -> None:
        """Close the file and release the lock."""
        self._held.close()

    def _write(self, *entries: Mapping[str, Any]) -> None:
        self._file.write(b"".join(map(files.json_line, entries)))
        self._file.flush()
        os.fsync(self._file.fileno())


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
