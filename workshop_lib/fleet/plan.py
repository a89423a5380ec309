"""One plan on many machines and what became of it, as values and as a folder: one run folder per machine.

    runs/<started>/fleet.json               what was asked, of which machines, and how each share ended
    runs/<started>/<machine>/records.jsonl  a run like any other: every reader of runs reads it

A *share* is one model on one machine: what a machine measures at a time. Machines are never pooled. Knows no Dask and
no statistics.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from workshop_lib import data, files, storage
from workshop_lib.errors import ConfigurationError
from workshop_lib.plan import Plan, make_plan
from workshop_lib.records import Completion, ModelVariant, Prompt, Run, Serving, variant_key

FLEET_FILE = "fleet.json"
RECORDS_FILE = "records.jsonl"

ShareStatus = Literal["open", "done", "failed", "stopped", "missing"]
"""`open`: not finished yet; `stopped`: out of time; `missing`: its machine went away and did not come back."""


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """What every machine is asked to measure; each finds the models with its own runtime.

    Raises `ConfigurationError` as `make_plan` does.
    """

    prompts: Sequence[Prompt]
    models: Sequence[str] = ("auto",)
    devices: Sequence[str] = ("cpu",)
    profile: str = "practice"
    rounds: int = 3
    max_tokens: int = 120
    seed: int = 20

    def __post_init__(self) -> None:
        self.for_models([])

    def for_models(self, variants: Sequence[ModelVariant]) -> Plan:
        """The plan that a machine follows for these models."""
        options: dict[str, Any] = {"rounds": self.rounds, "max_tokens": self.max_tokens, "seed": self.seed}
        return make_plan(variants, self.prompts, order="round-robin", **options)


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine of the fleet.

    Attributes:
        label: what people and folders call it: its name and the beginning of an id that was made up there.
        host: equal for two workers on one computer.
        fingerprint: as of `machine.fingerprint()`, with the version of the workshop.
        skipped: what was asked for but cannot be measured there: model, device, reason.
        refused: why it takes no part; None when it does.
    """

    label: str
    host: str = ""
    fingerprint: dict[str, Any] = field(default_factory=dict)
    skipped: tuple[tuple[str, str, str], ...] = ()
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """One model on one machine; `reason` says why it is not done."""

    machine: str
    variant: ModelVariant
    status: ShareStatus = "open"
    reason: str | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells shares apart: machine, model id, device."""
        return self.machine, *variant_key(self.variant)

    def owns(self, record: Serving | Completion) -> bool:
        """Whether a record of its machine is about its model."""
        key = variant_key(record.variant) if isinstance(record, Serving) else (record.model_id, record.device)
        return key == variant_key(self.variant)


@dataclass(frozen=True, slots=True)
class Fleet:
    """The machines that measure one plan, their shares, and one run per machine that recorded anything."""

    run_id: str
    started_at: str
    plan: FleetPlan
    machines: tuple[Machine, ...] = ()
    shares: tuple[Share, ...] = ()
    runs: Mapping[str, Run] = field(default_factory=dict)

    @property
    def measured(self) -> list[Machine]:
        """The machines that recorded anything."""
        return [machine for machine in self.machines if machine.label in self.runs]

    def starts(self, share: Share) -> int:
        """How often a share was begun: each time with one warm-up."""
        run = self.runs.get(share.machine)
        return sum(share.owns(each) for each in run.completions if each.round == 0) if run else 0

    def with_machine(self, machine: Machine, variants: Sequence[ModelVariant]) -> Fleet:
        """Take in what a machine says of itself: a share per model, open again where it is not done."""
        kept = {share.key: share for share in self.shares if share.machine != machine.label or share.status == "done"}
        shares = {share.key: share for share in (Share(machine.label, variant) for variant in variants)} | kept
        machines = {each.label: each for each in self.machines} | {machine.label: machine}
        return replace(
            self,
            machines=tuple(machines[label] for label in sorted(machines)),
            shares=tuple(sorted(shares.values(), key=lambda share: share.key)),
        )

    def with_share(self, ended: Share, records: Sequence[Serving | Completion] = ()) -> Fleet:
        """Take in how a share ended. Its records replace what was known of it: sent twice, they count once."""
        run = self.runs.get(ended.machine) or self._new_run(ended.machine)
        everything: list[Serving | Completion] = [*run.servings, *run.completions]
        known = [each for each in everything if ended.owns(each)]
        now = [each for each in everything if not ended.owns(each)]
        now += records or known or [Serving(ended.variant, status="failed", error=ended.reason)]
        servings = tuple(each for each in now if isinstance(each, Serving))
        completions = tuple(each for each in now if isinstance(each, Completion))
        run = replace(run, servings=servings, completions=completions)
        shares = tuple(ended if share.key == ended.key else share for share in self.shares)
        return replace(self, shares=shares, runs={**self.runs, ended.machine: run})

    def without(self, label: str, status: ShareStatus, reason: str) -> Fleet:
        """End what a machine left open, and remember a machine that never said what it is."""
        fleet = self
        if label not in {machine.label for machine in self.machines}:
            fleet = fleet.with_machine(Machine(label, refused=reason), [])
        for share in self.shares:
            if share.machine == label and share.status == "open":
                fleet = fleet.with_share(replace(share, status=status, reason=reason))
        return fleet

    def _new_run(self, label: str) -> Run:
        (fingerprint,) = [machine.fingerprint for machine in self.machines if machine.label == label]
        described = {**self.plan.for_models([]).describe(), "order": "blocks"}  # model by model
        machine = {**fingerprint, "label": label}
        return Run(self.run_id, self.started_at, self.plan.profile, machine, described, tuple(self.plan.prompts))


def open_fleet(folder: Path, plan: FleetPlan) -> Fleet:
    """A new fleet for a plan, or the one that the folder holds, to be completed.

    Raises `ConfigurationError` where the folder holds results of another plan.
    """
    if not (folder / FLEET_FILE).exists():
        now = datetime.now(UTC)
        return Fleet(f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}", now.isoformat(timespec="seconds"), plan)
    fleet = read_fleet(folder)
    here, there = (json.loads(json.dumps(asdict(each))) for each in (plan, fleet.plan))
    unlike = [name for name in here if here[name] != there[name]]
    if unlike:
        what = f"{folder.name} holds results of another plan (different: {', '.join(unlike)})."
        raise ConfigurationError(what, "Choose another folder, or repeat the earlier settings to complete them.")
    absent = "Its machine was not there to complete it."
    shares = [
        each if each.status == "done" else replace(each, status="missing", reason=absent) for each in fleet.shares
    ]
    return replace(fleet, shares=tuple(shares))


def read_fleet(folder: Path) -> Fleet:
    """Read what a folder holds. Raises `DataFileError` or `RecordFileError` where a file is missing or damaged."""
    fleet = data.read_as(Fleet, folder / FLEET_FILE)
    paths = {machine.label: folder / machine.label / RECORDS_FILE for machine in fleet.machines}
    return replace(fleet, runs={label: storage.read_run(path) for label, path in paths.items() if path.exists()})


def write_fleet(folder: Path, fleet: Fleet, changed: str | None = None) -> None:
    """Write `fleet.json`, and before it the records of the machine that changed, each file as a whole."""
    run = fleet.runs.get(changed or "")
    if run is not None:
        path = folder / str(changed) / RECORDS_FILE
        new = path.with_suffix(".new")
        new.unlink(missing_ok=True)
        with storage.RunWriter(new, run) as writer:
            writer.append(*run.servings, *run.completions)
        new.replace(path)
    known = {name: value for name, value in asdict(replace(fleet, runs={})).items() if name != "runs"}
    files.write_atomically(folder / FLEET_FILE, json.dumps(known, indent=1, ensure_ascii=False) + "\n")
