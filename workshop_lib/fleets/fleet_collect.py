"""What arrives from the machines of a fleet becomes one run folder each: every record once, on the disk at once.

A share that is begun again, or a machine that comes back, sends lines that are known already; they are left out.
Knows records and the room's folder. Knows no Dask.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from workshop_lib import storage
from workshop_lib.errors import RecordFileError
from workshop_lib.fleets import fleet_room
from workshop_lib.fleets.fleet_room import RECORDS_FILE, Machine, Room, Share
from workshop_lib.records import Completion, Run, Serving, variant_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from workshop_lib.records import Prompt

OPEN_FILES = 64
"""Records of so many machines are kept open at once; the others are opened again when something arrives."""


def record_key(record: Serving | Completion) -> object:
    """What makes a record one of a kind: a request is counted once, however often its share was begun.

    Warm-ups are another matter: every serving has one, so its time tells them apart.
    """
    if isinstance(record, Serving):
        return record
    return record.request_id, record.attempt, None if record.round else record.started_at


class Collector:
    """Writes what machines send into a room's folder, and knows which shares are still open.

    Args:
        folder: of the room; what an earlier, broken-off call wrote there is kept and not counted twice.
        room: the machines and shares; its runs are not looked at.
        prompts, profile: what every run of the room has in common.
    """

    def __init__(self, folder: Path, room: Room, *, prompts: tuple[Prompt, ...], profile: str) -> None:
        self.folder = folder
        self.room = room
        self.prompts = prompts
        self.profile = profile
        self.requests: dict[str, int] = {}
        self.waiting: set[str] = set()
        self._shares = {share.share_id: share for share in room.shares}
        self._open = dict.fromkeys(share.share_id for share in room.shares if share.status == "open")
        self._machines = {machine.machine_id: machine for machine in room.machines}
        self._seen: dict[str, set[object]] = {}
        self._writers: OrderedDict[str, storage.RunWriter] = OrderedDict()
        for machine in room.machines:
            self._remember(machine)
        self.save()

    @property
    def shares(self) -> tuple[Share, ...]:
        """All shares as they stand."""
        return tuple(self._shares.values())

    @property
    def has_open_shares(self) -> bool:
        """Whether anything is left to wait for."""
        return bool(self._open)

    def open_shares(self) -> list[Share]:
        """The shares that are not finished."""
        return [self._shares[share_id] for share_id in self._open]

    def take(self, event: Mapping[str, Any]) -> None:
        """Take one event of a share: its start, that it waits for another benchmark, lines of its records, its end.

        What is no event of an open share of this room, or comes from another machine than the share's, is left out.
        """
        share = self._shares.get(str(event.get("share")))
        if share is None or share.status != "open" or share.machine_id != event.get("machine"):
            return
        self.waiting.discard(share.share_id)
        if event.get("kind") == "wait":
            self.waiting.add(share.share_id)
        elif event.get("kind") == "start":
            self._shares[share.share_id] = replace(share, starts=share.starts + 1)
        elif event.get("kind") == "lines":
            self._take_lines(share, event.get("lines", ()))
        elif event.get("kind") == "end" and event.get("status") in get_args(fleet_room.ShareStatus):
            self.end(share, event["status"], event.get("reason"))

    def end(self, share: Share, status: fleet_room.ShareStatus, reason: str | None) -> None:
        """Say what became of a share."""
        now = self._shares[share.share_id]
        self._shares[share.share_id] = replace(now, status=status, reason=reason)
        self._open.pop(share.share_id, None)
        self.waiting.discard(share.share_id)
        if status != "done" and now.starts == 0:
            self._keep(self._machines[share.machine_id], [Serving(share.variant, status="failed", error=reason)])

    def save(self) -> None:
        """Write `room.json` as things stand."""
        self.room = replace(self.room, shares=self.shares)
        fleet_room.write_room(self.folder, self.room)

    def close(self) -> None:
        """Keep how things stand, and close all files of records."""
        self.save()
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _take_lines(self, share: Share, lines: Iterable[str]) -> None:
        try:
            found = [storage.record_of(json.loads(line)) for line in lines]
        except (TypeError, ValueError, RecordFileError) as error:
            self.end(share, "failed", f"It sent what is no record ({error}).")
            return
        mine = [record for record in found if record is not None and _is_about(record, share)]
        self._keep(self._machines[share.machine_id], mine)

    def _keep(self, machine: Machine, records: Iterable[Serving | Completion]) -> None:
        new = self._new(machine, records)
        if new:
            self._writer(machine).append(*new)

    def _new(self, machine: Machine, records: Iterable[Serving | Completion]) -> list[Serving | Completion]:
        """The records that are not known yet; from now on they are."""
        seen, new = self._seen.setdefault(machine.label, set()), []
        for record in records:
            key = record_key(record)
            if key not in seen:
                seen.add(key)
                new.append(record)
                if isinstance(record, Completion) and record.round and record.attempt == 1:
                    self.requests[machine.label] = self.requests.get(machine.label, 0) + 1
        return new

    def _writer(self, machine: Machine) -> storage.RunWriter:
        writer = self._writers.pop(machine.label, None)
        if writer is None:
            if len(self._writers) >= OPEN_FILES:
                self._writers.popitem(last=False)[1].close()
            writer = storage.RunWriter(self.folder / machine.label / RECORDS_FILE, self._header(machine))
        self._writers[machine.label] = writer
        return writer

    def _header(self, machine: Machine) -> Run:
        return Run(
            run_id=self.room.room_id,
            started_at=self.room.started_at,
            profile=self.profile,
            machine={**machine.fingerprint, "label": machine.label, "machine_id": machine.machine_id},
            plan=self.room.plan,
            prompts=self.prompts,
        )

    def _remember(self, machine: Machine) -> None:
        """What an earlier call wrote counts as seen."""
        run = fleet_room.StoredRuns(self.folder, [machine.label]).get(machine.label)
        if run is None:
            return
        servings, completions = map(record_key, run.servings), map(record_key, run.completions)
        self._seen[machine.label] = {*servings, *completions}
        self.requests[machine.label] = sum(each.round > 0 and each.attempt == 1 for each in run.completions)


def _is_about(record: Serving | Completion, share: Share) -> bool:
    """A share may only send records of its own model."""
    key = variant_key(record.variant) if isinstance(record, Serving) else (record.model_id, record.device)
    return key == variant_key(share.variant)
