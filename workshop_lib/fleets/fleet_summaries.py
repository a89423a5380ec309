"""What the machines of a room measured, machine by machine: cells, ratios between machines, and what to know of them.

Machines are never pooled, and their clocks are never compared: only durations are. Knows no files and no figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

from workshop_lib import compare, summary
from workshop_lib.compare import Ratio
from workshop_lib.errors import ConfigurationError
from workshop_lib.fleets.fleet_room import Machine, Room
from workshop_lib.metrics import timing
from workshop_lib.records import Completion, ModelVariant, Row, Run, variant_key

Key = tuple[str, str]
"""Model id and device."""

Measure = Callable[[Completion], float | None]
WATCHED = ("workshop", "foundry-local-sdk", "onnxruntime", "onnxruntime-genai-core", "distributed")
FACTS = {"version of Python": "python", "power source": "power_source", "setting of threads": "thread_variables"}
NOT_OFFERED = "not offered there"


@dataclass(frozen=True, slots=True)
class Cell:
    """One model on one machine: medians over prompts in seconds, or the reason why there are none."""

    machine: str
    key: Key
    row: Row | None = None
    latency_s: float | None = None
    first_token_s: float | None = None
    reason: str | None = None


def variants_of(room: Room) -> dict[Key, ModelVariant]:
    """Every model that any machine was asked to measure, in the order of their names."""
    found = {variant_key(share.variant): share.variant for share in room.shares}
    return dict(sorted(found.items(), key=lambda item: (item[1].alias, item[0])))


def cells(room: Room) -> list[Cell]:
    """Every model on every machine, machine by machine."""
    keys, reasons = variants_of(room), _reasons(room)
    return [
        cell for machine in room.machines for cell in _cells_of(machine, room.runs.get(machine.label), keys, reasons)
    ]


def by_prompt(run: Run, measure: Measure) -> dict[Key, dict[str, list[float]]]:
    """What a measure gave for each model and prompt: one value per answered timed request."""
    found: dict[Key, dict[str, list[float]]] = {}
    for each in run.completions:
        value = measure(each) if each.ok and each.round > 0 else None
        if value is not None:
            found.setdefault((each.model_id, each.device), {}).setdefault(each.prompt_id, []).append(value)
    return found


def typical(samples: Mapping[str, Sequence[float]]) -> float | None:
    """The median over prompts of a prompt's median; None where nothing was measured.

    >>> typical({"a": [1.0, 2.0, 9.0], "b": [4.0]})
    3.0
    """
    return median(median(values) for values in samples.values()) if samples else None


def lacking(room: Room) -> dict[Key, tuple[str, ...]]:
    """Every model, and the machines that measured something, but not every prompt of it."""
    found: dict[Key, tuple[str, ...]] = dict.fromkeys(variants_of(room), ())
    for machine in room.measured:
        run = room.runs[machine.label]
        samples = by_prompt(run, timing.latency_s)
        for key in found:
            if len(samples.get(key, {})) < len(run.prompts):
                found[key] += (machine.label,)
    return found


def against(room: Room, label: str) -> dict[str, dict[Key, Ratio]]:
    """Every other machine's latencies in units of one machine's, model by model, paired by prompt.

    They were measured apart: a difference that repeating alone can make is never called clear.

    Raises:
        ConfigurationError: that machine measured nothing.
    """
    if label not in room.runs:
        fix = f"Use {', '.join(room.runs) or 'a machine that measured something'}."
        raise ConfigurationError(f"The machine '{label}' measured nothing.", fix)
    here = by_prompt(room.runs[label], timing.latency_s)
    found: dict[str, dict[Key, Ratio]] = {}
    for machine in room.measured:
        there = by_prompt(room.runs[machine.label], timing.latency_s)
        if machine.label != label:
            found[machine.label] = {
                key: compare.compare_samples(here[key], there[key], smallest=compare.BETWEEN_RUNS)
                for key in sorted(here.keys() & there.keys())
            }
    return found


def remarks(room: Room) -> list[str]:
    """What a reader must know of the machines before comparing them."""
    said = [f"{each.label} takes no part. {each.refused}" for each in room.machines if each.refused]
    machines = room.measured
    for name in WATCHED:
        said += _differing(f"version of {name}", _told(machines, partial(_version, name)))
    for what, name in FACTS.items():
        said += _differing(what, _told(machines, partial(_fact, name)))
    hosts = _told([each for each in machines if each.host_id], lambda each: each.host_id)
    said += [
        f"{' and '.join(labels)} are one computer: what differs between them is what repeating makes."
        for labels in hosts.values()
        if len(labels) > 1
    ]
    broken = sum(share.status not in ("done", "open") for share in room.shares)
    if broken:
        said.append(f"{broken} of {len(room.shares)} shares are not complete; the table of shares says why.")
    return said


def few(labels: Sequence[str], most: int = 4) -> str:
    """Labels in a sentence; a long list is cut.

    >>> few(["a", "b", "c", "d", "e"]), few(["a", "b"])
    ('a, b, c and 2 more', 'a, b')
    """
    return (
        ", ".join(labels)
        if len(labels) <= most
        else f"{', '.join(labels[: most - 1])} and {len(labels) - most + 1} more"
    )


def _cells_of(
    machine: Machine, run: Run | None, keys: Iterable[Key], reasons: Mapping[tuple[str, Key], str]
) -> list[Cell]:
    rows = {(row.model_id, row.device): row for row in summary.summarise(run)} if run else {}
    latency = by_prompt(run, timing.latency_s) if run else {}
    first = by_prompt(run, timing.first_token_s) if run else {}
    return [
        Cell(
            machine.label,
            key,
            rows.get(key),
            latency_s=typical(latency.get(key, {})),
            first_token_s=typical(first.get(key, {})),
            reason=None if key in latency else reasons.get((machine.label, key), machine.refused or NOT_OFFERED),
        )
        for key in keys
    ]


def _reasons(room: Room) -> dict[tuple[str, Key], str]:
    """Why a share has no figures, should it have none."""
    labels = {machine.machine_id: machine.label for machine in room.machines}
    usual = {"open": "not measured yet", "done": "no request was answered"}
    return {
        (labels[share.machine_id], variant_key(share.variant)): share.reason or usual.get(share.status, share.status)
        for share in room.shares
    }


def _told(machines: Iterable[Machine], value: Callable[[Machine], str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for machine in machines:
        found.setdefault(value(machine), []).append(machine.label)
    return found


def _differing(what: str, found: Mapping[str, Sequence[str]]) -> list[str]:
    if len(found) < 2:
        return []
    groups = "; ".join(f"{text}: {few(labels)}" for text, labels in found.items())
    return [f"The {what} differs between machines ({groups})."]


def _version(name: str, machine: Machine) -> str:
    return str(machine.fingerprint.get("versions", {}).get(name, "absent"))


def _fact(name: str, machine: Machine) -> str:
    return str(machine.fingerprint.get(name) or "none")
