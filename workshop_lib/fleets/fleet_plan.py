"""What a room of machines is asked to do, as plain values that travel: plan, jobs, shares, and who may take part.

Knows what a machine says of itself. Knows no Dask and no files.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from workshop_lib import plan
from workshop_lib.fleets import fleet_worker
from workshop_lib.fleets.fleet_room import Machine, Share, label_of, share_id_of
from workshop_lib.records import ModelVariant, Prompt

DECISIVE = ("workshop", "foundry-local-sdk", "onnxruntime", "onnxruntime-genai-core")
"""Packages whose versions must agree where other versions are refused: they are what is measured, or measure it."""

Versions = Literal["warn", "refuse"]
Saying = Mapping[str, Any]
"""What a machine says of itself: the event of `fleet_worker.look`."""


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """What every machine is asked to measure; each finds the models with its own runtime."""

    prompts: tuple[Prompt, ...]
    models: tuple[str, ...] = ("auto",)
    devices: tuple[str, ...] = ("cpu",)
    profile: str = "practice"
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def requests_per_share(self) -> int:
        """Timed requests to one model on one machine."""
        return len(self.prompts) * int(self.options.get("rounds", plan.Plan((), ()).rounds))

    @property
    def seed(self) -> int:
        """What draws the order of models and requests."""
        return int(self.options.get("seed", plan.Plan((), ()).seed))

    def describe(self) -> dict[str, Any]:
        """What the room's runs keep of the plan. The models of a machine follow each other, each as a block."""
        described = plan.make_plan([], self.prompts, **self.options).describe()
        asked = {"models": list(self.models), "devices": list(self.devices), "profile": self.profile}
        return {**described, "order": "blocks", "fleet": asked}

    def job(self, machine_id: str, *, room_id: str, topic: str) -> dict[str, Any]:
        """What both tasks on a machine are told."""
        return {
            "protocol": fleet_worker.PROTOCOL,
            "room": room_id,
            "topic": topic,
            "machine": machine_id,
            "profile": self.profile,
            "models": list(self.models),
            "devices": list(self.devices),
        }

    def share_job(self, share: Share, limit_s: float | None) -> dict[str, Any]:
        """What the task that measures a share is told besides."""
        return {
            "share": share.share_id,
            "variant": asdict(share.variant),
            "prompts": [asdict(each) for each in self.prompts],
            "options": dict(self.options),
            "limit_s": limit_s,
        }


def make_fleet_plan(
    prompts: Sequence[Prompt],
    *,
    models: Sequence[str] = ("auto",),
    devices: Sequence[str] = ("cpu",),
    profile: str = "practice",
    **options: Any,
) -> FleetPlan:
    """A checked plan; `options` are those of `plan.Plan`, such as `rounds`, `seed` and `max_tokens`.

    Raises:
        ConfigurationError: as of `plan.make_plan`.
    """
    made = FleetPlan(tuple(prompts), tuple(models), tuple(devices), profile, {**options, "order": "round-robin"})
    made.describe()
    return made


def machine_of(machine_id: str, said: Saying) -> Machine:
    """A machine from what it said of itself."""
    return Machine(
        machine_id=machine_id,
        label=label_of(str(said.get("name", "")), machine_id),
        host_id=str(said.get("host", "")),
        fingerprint=dict(said.get("fingerprint", {})),
        left_out=tuple((str(model), str(device), str(why)) for model, device, why in said.get("left_out", ())),
        refused=said.get("error"),
    )


def shares_of(machine: Machine, said: Saying, seed: int) -> list[Share]:
    """One share per model that the machine can run, in an order of its own: drawn by the seed and its id."""
    if machine.refused is not None:
        return []
    variants = [
        ModelVariant(**{**plain, "capabilities": tuple(plain.get("capabilities", ()))})
        for plain in said.get("variants", ())
    ]
    random.Random(f"{seed} {machine.machine_id}").shuffle(variants)  # noqa: S311 - an order, not a secret
    return [Share(share_id_of(machine.machine_id, each), machine.machine_id, each) for each in variants]


def refuse_others(machines: Sequence[Machine]) -> list[Machine]:
    """Refuse the machines whose `DECISIVE` packages differ from those of most."""
    versions = [_decisive(machine) for machine in machines]
    usual = max(versions, key=versions.count, default=())
    return [
        machine if mine == usual or machine.refused else replace(machine, refused=_other_versions(mine, usual))
        for machine, mine in zip(machines, versions, strict=True)
    ]


def _decisive(machine: Machine) -> tuple[str | None, ...]:
    versions = machine.fingerprint.get("versions", {})
    return tuple(versions.get(name) for name in DECISIVE)


def _other_versions(mine: Sequence[str | None], usual: Sequence[str | None]) -> str:
    unlike = [
        f"{name} {here or 'absent'} instead of {there or 'absent'}"
        for name, here, there in zip(DECISIVE, mine, usual, strict=True)
        if here != there
    ]
    return f"Other versions than most machines have: {', '.join(unlike)}."
