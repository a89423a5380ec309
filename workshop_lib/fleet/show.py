"""A fleet as tables for people: its shares and the default; machines and times are shown by `room`."""

from __future__ import annotations

from workshop_lib.choice.decide import percent
from workshop_lib.fleet.default import Choice
from workshop_lib.fleet.plan import Fleet
from workshop_lib.quality.annotation import model_name
from workshop_lib.quality.show import ranged
from workshop_lib.show.table import Table
from workshop_lib.show.text import one_line, printable


def shares(fleet: Fleet) -> Table:
    """One line per share, and per model that a machine lacks; `starts` above 1: its machine had to begin again."""
    lines: list[tuple[object, ...]] = [
        (each.machine, model_name(each.variant), each.status, fleet.starts(each), one_line(each.reason or ""))
        for each in fleet.shares
    ]
    lines += [
        (machine.label, printable(f"{model} · {device}"), "not offered", 0, one_line(reason))
        for machine in fleet.machines
        for model, device, reason in machine.skipped
    ]
    return Table(lines, columns=["machine", "model", "status", "starts", "reason"])


def default(choice: Choice) -> Table:
    """One line per model that every machine measured, the likeliest default for the worst machine first."""
    ordered = sorted(choice.candidates, key=lambda each: (-each.wins["worst"], each.latency_s["worst"].value or 0.0))
    return Table(
        [
            {
                "model": model_name(each.variant),
                "aspects (%)": ranged(each.quality, 0, factor=100),
                "slowest machine (ms)": ranged(each.latency_s["worst"], 0, factor=1000),
                "which is": each.slowest,
                "default on the slowest in": f"{percent(each.wins['worst'])} of draws",
                "typical machine (ms)": ranged(each.latency_s["typical"], 0, factor=1000),
                "default on the typical in": f"{percent(each.wins['typical'])} of draws",
                "breaks a limit": each.breaks["worst"] or "no",
            }
            for each in ordered
        ]
    )
