"""A room of machines as tables for people: shares, machines, speed, differences, the default. Knows no files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workshop_lib.choice.decide import percent
from workshop_lib.display import Table
from workshop_lib.fleets import fleet_summaries
from workshop_lib.metrics import comparison
from workshop_lib.showing.quality_tables import ranged
from workshop_lib.untrusted import one_line, printable

if TYPE_CHECKING:
    from workshop_lib.fleets.fleet_choice import Choice
    from workshop_lib.fleets.fleet_room import Room
    from workshop_lib.records import ModelVariant, Row

NOT_MEASURED = "not measured"
IN_BURSTS = "not comparable (bursts)"


def machines(room: Room) -> Table:
    """One line per machine: what it is, and how many of its shares are done."""
    lines = []
    for machine in room.machines:
        mine = [share for share in room.shares if share.machine_id == machine.machine_id]
        found = machine.fingerprint
        lines.append(
            {
                "machine": machine.label,
                "processor": _text(found.get("cpu")),
                "cores": _text(found.get("physical_cores")),
                "memory (GB)": round(found["memory_mb"] / 1000) if found.get("memory_mb") else "unknown",
                "system": _text(found.get("os")),
                "power": _text(found.get("power_source")),
                "shares done": f"{sum(share.status == 'done' for share in mine)} of {len(mine)}",
                "takes no part": one_line(machine.refused or ""),
            }
        )
    return Table(lines)


def shares(room: Room) -> Table:
    """One line per share: done or why not; `starts` above 1 means that its machine had to begin again."""
    labels = {machine.machine_id: machine.label for machine in room.machines}
    return Table(
        [
            {
                "machine": labels[share.machine_id],
                "model": _name(share.variant),
                "status": share.status,
                "starts": share.starts,
                "reason": one_line(share.reason or ""),
            }
            for share in room.shares
        ],
        columns=["machine", "model", "status", "starts", "reason"],
    )


def speed(room: Room) -> Table:
    """One line per machine and model: medians over prompts, in ms. Lines of different machines are not pooled."""
    variants = fleet_summaries.variants_of(room)
    return Table(
        [
            {
                "machine": cell.machine,
                "model": _name(variants[cell.key]),
                "requests": cell.row.requests_ok if cell.row else 0,
                "first token (ms)": _ms(cell.first_token_s),
                "latency (ms)": _ms(cell.latency_s),
                "decode (tok/s)": _decode(cell.row),
                "peak memory (MB)": _rounded(cell.row.peak_resident_mb if cell.row else None),
                "remark": one_line(cell.reason or ""),
            }
            for cell in fleet_summaries.cells(room)
        ]
    )


def left_out(room: Room) -> Table:
    """What was asked for but cannot be measured on some machine, with the reason."""
    lines = [
        {"machine": machine.label, "model": printable(model), "device": device, "reason": one_line(reason)}
        for machine in room.machines
        for model, device, reason in machine.left_out
    ]
    return Table(lines, columns=["machine", "model", "device", "reason"])


def against(room: Room, label: str) -> Table:
    """Other machines' latencies in units of one machine's; a ratio between machines, and so labelled."""
    variants = fleet_summaries.variants_of(room)
    lines = [
        {
            "machine": other,
            "against": label,
            "model": _name(variants[key]),
            "latency, machine against machine": comparison.describe(ratio, "lower"),
        }
        for other, ratios in fleet_summaries.against(room, label).items()
        for key, ratio in ratios.items()
    ]
    return Table(lines, columns=["machine", "against", "model", "latency, machine against machine"])


def default(choice: Choice) -> Table:
    """One line per model that every machine measured, the likeliest default for the worst machine first."""
    ordered = sorted(choice.candidates, key=lambda each: (-each.wins["worst"], each.latency_s["worst"].value or 0.0))
    return Table(
        [
            {
                "model": _name(each.variant),
                "aspects (%)": ranged(each.quality, 0, factor=100),
                "slowest machine (ms)": ranged(each.latency_s["worst"], 0, factor=1000),
                "which is": each.slowest,
                "default on the slowest in": f"{percent(each.wins['worst'])} of draws",
                "typical machine (ms)": ranged(each.latency_s["typical"], 0, factor=1000),
                "default on the typical in": f"{percent(each.wins['typical'])} of draws",
                "breaks a limit": each.out["worst"] or "no",
            }
            for each in ordered
        ]
    )


def _name(variant: ModelVariant) -> str:
    return printable(f"{variant.alias} · {variant.precision or 'unknown'} · {variant.device}")


def _text(value: object) -> str:
    return "unknown" if value in (None, "") else printable(str(value))


def _ms(seconds: float | None) -> float | str:
    return NOT_MEASURED if seconds is None else round(seconds * 1000, 1)


def _decode(row: Row | None) -> float | str:
    """Tokens per second; a rate that was taken from the little outside bursts is no number to compare machines by."""
    rate = row.decode_tokens_per_sec if row else None
    return IN_BURSTS if row and rate is not None and "bursts" in row.warnings else _rounded(rate)


def _rounded(value: float | None) -> float | str:
    return NOT_MEASURED if value is None else round(value)
