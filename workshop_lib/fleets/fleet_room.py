"""A room of machines that measured one plan, as values and as a folder: one run folder per machine.

    runs/<room>/room.json                what was asked, of whom, and what became of each share
    runs/<room>/<machine>/records.jsonl  a run like any other: every reader of runs reads it

Machines are never pooled. Knows no Dask and no statistics.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from workshop_lib import data, files, storage
from workshop_lib.errors import ConfigurationError, RecordFileError
from workshop_lib.records import ModelVariant, Run, variant_key

ROOM_FILE = "room.json"
RECORDS_FILE = "records.jsonl"
SCHEMA = 1

ShareStatus = Literal["open", "done", "failed", "stopped", "missing"]
"""`open`: not finished yet; `stopped`: out of time; `missing`: its machine went away and did not come back."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine of the room.

    Attributes:
        machine_id: made up once on that machine, kept in its cache folder.
        label: how people and folders call it: the name that it was given, and the beginning of its id.
        host_id: equal for two workers on one computer.
        fingerprint: as of `machine.fingerprint()`, with the version of the workshop.
        left_out: what was asked for but cannot be measured there: model, device, reason.
        refused: why it takes no part; None when it does.
    """

    machine_id: str
    label: str
    host_id: str = ""
    fingerprint: dict[str, Any] = field(default_factory=dict)
    left_out: tuple[tuple[str, str, str], ...] = ()
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """One model on one machine: what is lost at most when that machine dies.

    `reason` says why it is not done; `starts` counts how often it was begun, also after a loss.
    """

    share_id: str
    machine_id: str
    variant: ModelVariant
    status: ShareStatus = "open"
    reason: str | None = None
    starts: int = 0


@dataclass(frozen=True, slots=True)
class Room:
    """Everything known of one plan on many machines; `runs` has one run per machine that recorded anything."""

    room_id: str
    started_at: str
    plan: dict[str, Any]
    machines: tuple[Machine, ...] = ()
    shares: tuple[Share, ...] = ()
    runs: Mapping[str, Run] = field(default_factory=dict)

    @property
    def measured(self) -> tuple[Machine, ...]:
        """The machines that recorded anything, in the order in which they joined."""
        return tuple(machine for machine in self.machines if machine.label in self.runs)


class StoredRuns(Mapping[str, Run]):
    """The runs of a room's folder, by machine: each is read when it is asked for, and none is kept.

    A run takes megabytes of memory, one per machine would take all of it, and reading one takes milliseconds.

    Args:
        folder: of the room.
        labels: of its machines; those that have recorded anything by now are among the keys.
    """

    def __init__(self, folder: Path, labels: Iterable[str]) -> None:
        self._folder = folder
        self._labels = tuple(label for label in labels if _has_begun(self._path(label)))

    def __getitem__(self, label: str) -> Run:
        if label not in self._labels:
            raise KeyError(label)
        return storage.read_run(self._path(label))

    def __contains__(self, label: object) -> bool:
        return label in self._labels

    def __iter__(self) -> Iterator[str]:
        return iter(self._labels)

    def __len__(self) -> int:
        return len(self._labels)

    def _path(self, label: str) -> Path:
        return self._folder / label / RECORDS_FILE


@dataclass(frozen=True, slots=True)
class _RoomFile:
    schema: int
    room_id: str
    started_at: str
    plan: dict[str, Any]
    machines: tuple[Machine, ...]
    shares: tuple[Share, ...]


def plain_name(name: str, letters: int = 24) -> str:
    """A name of small letters, digits and hyphens, safe as the name of a folder; it may be empty.

    >>> plain_name("Desk 4 / Zoe's")
    'desk-4-zoe-s'
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[:letters].strip("-")


def label_of(name: str, machine_id: str) -> str:
    """How a machine is called: its name, and the beginning of its id, because two may have one name.

    >>> label_of("Desk 4", "3fa9c1d2e4b5"), label_of("", "3fa9c1d2e4b5")
    ('desk-4-3fa9c1d2', 'machine-3fa9c1d2')
    """
    return f"{plain_name(name) or 'machine'}-{machine_id[:8]}"


def share_id_of(machine_id: str, variant: ModelVariant) -> str:
    """The name of a share, the same whenever the same model is measured on the same machine."""
    digest = sha256("\0".join(variant_key(variant)).encode()).hexdigest()[:8]
    return f"{plain_name(variant.model_id, 40) or 'model'}-{digest}-{machine_id[:12]}"


def write_room(folder: Path, room: Room) -> None:
    """Write `room.json` as a whole; the records are written by those who receive them."""
    stored = _RoomFile(SCHEMA, room.room_id, room.started_at, room.plan, room.machines, room.shares)
    files.write_atomically(folder / ROOM_FILE, json.dumps(asdict(stored), indent=1, ensure_ascii=False) + "\n")


def read_room(folder: Path) -> Room:
    """Read a room; the run of a machine is read when it is asked for.

    Raises:
        DataFileError: `room.json` is missing or malformed.
        ConfigurationError: it is of another version.
        RecordFileError: a machine's label leads elsewhere; from `runs`: its records are damaged.
    """
    stored = data.read_as(_RoomFile, folder / ROOM_FILE)
    if stored.schema != SCHEMA:
        what = f"{ROOM_FILE} has schema {stored.schema}, this version reads {SCHEMA}."
        raise ConfigurationError(what, "Read it with the version of the workshop that wrote it.")
    for machine in stored.machines:
        if machine.label != label_of(machine.label.rpartition("-")[0], machine.machine_id):
            raise RecordFileError(f"{ROOM_FILE} names a machine '{machine.label}'.", "Do not edit it by hand.")
    runs = StoredRuns(folder, [machine.label for machine in stored.machines])
    return Room(stored.room_id, stored.started_at, stored.plan, stored.machines, stored.shares, runs)


def _has_begun(records: Path) -> bool:
    """Whether the first line is there; whoever wrote it may have been killed before."""
    if not records.exists():
        return False
    with records.open("rb") as file:
        return file.readline().endswith(b"\n")
