"""One plan on many machines and what became of it, as values and as a folder: one run folder per machine.

    runs/<started>/fleet.json               what was asked, of which machines, and why something is not complete
    runs/<started>/<machine>/records.jsonl  a run like any other: every reader of runs reads it

A *share* is one model on one machine; the records say how far it is. Machines are never pooled. Knows no Dask and no
statistics.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from workshop_lib import data, files, storage
from workshop_lib.errors import ConfigurationError, RecordFileError
from workshop_lib.plan import Plan, make_plan
from workshop_lib.records import ModelVariant, Prompt, Run, key

FLEET_FILE = "fleet.json"
RECORDS_FILE = "records.jsonl"
ABSENT = "Its machine was not there to complete it."


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

    def is_complete(self, run: Run, variant: ModelVariant) -> bool:
        """Whether a run holds every timed request to a model."""
        mine = {each.request_id for each in run.completions if each.round and key(each) == key(variant)}
        return len(mine) == len(self.prompts) * self.rounds


@dataclass(frozen=True, slots=True)
class Share:
    """One model on one machine: how often it was begun, and the reason why it is not done.

    `open`: not finished yet; `failed`: the model did not answer there; `missing`: its machine went away, or gave up.
    """

    machine: str
    variant: ModelVariant
    status: Literal["open", "done", "failed", "missing"]
    starts: int
    reason: str = ""


@dataclass(slots=True)
class Fleet:
    """The machines that measure one plan, by their labels.

    Attributes:
        models: what each machine is to measure.
        ended: why a machine did not finish.
        runs: what each machine recorded.
    """

    run_id: str
    plan: FleetPlan
    models: dict[str, tuple[ModelVariant, ...]] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)

    @property
    def shares(self) -> list[Share]:
        """Every model of every machine, and how far it is."""
        return [self._share(label, each) for label, models in sorted(self.models.items()) for each in models]

    @property
    def refused(self) -> dict[str, str]:
        """The machines that take no part, and why."""
        return {label: why for label, why in self.ended.items() if label not in self.models}

    def _share(self, label: str, variant: ModelVariant) -> Share:
        run = self.runs[label]
        starts = sum(each.round == 0 and key(each) == key(variant) for each in run.completions)
        if self.plan.is_complete(run, variant):
            return Share(label, variant, "done", starts)
        served = [each for each in run.servings if key(each.variant) == key(variant)]
        if served and served[-1].error:
            return Share(label, variant, "failed", starts, served[-1].error)
        left = self.ended.get(label, "")
        return Share(label, variant, "missing" if left else "open", starts, left)

    def take(self, event: Mapping[str, Any], folder: Path) -> None:
        """Keep what a machine sent: all that it recorded so far. Sent twice, it counts once.

        Records that cannot be read end the machine's part; what it sent before is kept.
        """
        from pydantic import TypeAdapter

        label = event["machine"]
        if "ended" in event:
            self.ended[label] = event["ended"]
        if "records" in event:
            path = folder / label / RECORDS_FILE
            try:
                files.write_atomically(path, event["records"], check=storage.read_run)
                self.runs[label] = storage.read_run(path)
                if "models" in event:
                    self.models[label] = TypeAdapter(tuple[ModelVariant, ...]).validate_python(event["models"])
            except RecordFileError as error:
                self.ended[label] = f"It has another version of the workshop. {error}"
        self.write(folder)

    def end(self, label: str, reason: str, folder: Path) -> None:
        """Say why a machine measures no more, if it left anything open."""
        if label not in self.models or any(each.machine == label and each.status == "open" for each in self.shares):
            self.ended.setdefault(label, reason)
        self.write(folder)

    def write(self, folder: Path) -> None:
        """Write `fleet.json`."""
        known = {name: getattr(self, name) for name in ("run_id", "ended")}
        known |= {"plan": asdict(self.plan), "models": {k: list(map(asdict, v)) for k, v in self.models.items()}}
        files.write_atomically(folder / FLEET_FILE, json.dumps(known, indent=1, ensure_ascii=False) + "\n")


def open_fleet(folder: Path, plan: FleetPlan) -> Fleet:
    """A new fleet for a plan, or the one that the folder holds, to be completed.

    Raises `ConfigurationError` where the folder holds results of another plan.
    """
    if not (folder / FLEET_FILE).exists():
        return Fleet(f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}", plan)
    fleet = read_fleet(folder)
    here, there = (json.loads(json.dumps(asdict(each))) for each in (plan, fleet.plan))
    unlike = [name for name in here if here[name] != there[name]]
    if unlike:
        what = f"{folder.name} holds results of another plan (different: {', '.join(unlike)})."
        raise ConfigurationError(what, "Choose another folder, or repeat the earlier settings to complete them.")
    fleet.ended = dict.fromkeys(fleet.models, ABSENT)
    return fleet


def read_fleet(folder: Path) -> Fleet:
    """Read what a folder holds. Raises `DataFileError` or `RecordFileError` where a file is missing or damaged."""
    fleet = data.read_as(Fleet, folder / FLEET_FILE)
    fleet.runs = {label: storage.read_run(folder / label / RECORDS_FILE) for label in fleet.models}
    return fleet
