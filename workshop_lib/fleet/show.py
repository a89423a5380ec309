"""A fleet as tables and as one figure for people: shares, machines, speed, differences, the default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib import colormaps
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from workshop_lib import summary
from workshop_lib.choice.decide import percent
from workshop_lib.fleet import default as choosing
from workshop_lib.fleet.default import Choice, Key
from workshop_lib.fleet.plan import Fleet
from workshop_lib.quality.show import ranged
from workshop_lib.records import ModelVariant
from workshop_lib.show import style, tables
from workshop_lib.show.style import PALETTES, Theme
from workshop_lib.show.table import Table
from workshop_lib.show.text import number, one_line, printable

Latencies = Mapping[tuple[str, Key], float | str]


def machines(fleet: Fleet) -> Table:
    """One line per machine: what it is, and how many of its shares are done."""
    facts = {"processor": "cpu", "cores": "physical_cores", "system": "os", "power": "power_source"}
    lines = []
    for machine in fleet.machines:
        ended = [share.status == "done" for share in fleet.shares if share.machine == machine.label]
        known = {title: printable(str(machine.fingerprint.get(name) or "unknown")) for title, name in facts.items()}
        memory = {"memory (GB)": round(machine.fingerprint.get("memory_mb", 0) / 1000) or "unknown"}
        done = {"shares done": f"{sum(ended)} of {len(ended)}", "takes no part": one_line(machine.refused or "")}
        lines.append({"machine": machine.label} | known | memory | done)
    return Table(lines)


def shares(fleet: Fleet) -> Table:
    """One line per share: done or why not; `starts` above 1 means that its machine had to begin again."""
    lines = [
        (each.machine, _name(each.variant), each.status, fleet.starts(each), one_line(each.reason or ""))
        for each in fleet.shares
    ]
    return Table(lines, columns=["machine", "model", "status", "starts", "reason"])


def speed(fleet: Fleet) -> Table:
    """One line per machine and model, as on every page; lines of different machines are not pooled."""
    who, measured = ["model", "precision", "device", "status"], ["requests", "first token (ms)", "latency (ms)"]
    wanted = [*who, *measured, "p95 (ms)", "peak memory (MB)"]
    found = {label: tables.results(summary.summarise(run))[wanted] for label, run in sorted(fleet.runs.items())}
    return Table([{"machine": label, **line} for label, some in found.items() for line in some.to_dict("records")])


def skipped(fleet: Fleet) -> Table:
    """What was asked for but cannot be measured on some machine, with the reason."""
    lines = [
        (machine.label, printable(model), device, one_line(reason))
        for machine in fleet.machines
        for model, device, reason in machine.skipped
    ]
    return Table(lines, columns=["machine", "model", "device", "reason"])


def against(fleet: Fleet, label: str) -> Table:
    """Other machines' latencies in units of one machine's; a ratio between machines, and so labelled."""
    variants = choosing.variants_of(fleet)
    lines = [
        (other, label, _name(variants[line.a.model_id, line.a.device]), line.verdict)
        for other, changes in choosing.against(fleet, label).items()
        for line in changes.lines
        if line.measure == "latency"
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
                "breaks a limit": each.breaks["worst"] or "no",
            }
            for each in ordered
        ]
    )


def heat_map(fleet: Fleet, *, theme: Theme = "light") -> Figure:
    """Draw the average latency (ms) of every model on every machine, a number and a colour each; hatched without one.

    The colour says the same as the number, from dark (short) to light (long), on a scale that colour-blind readers can
    read.
    """
    found, variants, colours = choosing.latencies(fleet), choosing.variants_of(fleet), PALETTES[theme]
    figure, (axes,) = style.sheet(
        [one_line(machine.label, 30) for machine in fleet.machines],
        "How long does each model take on each machine?",
        "Average latency (ms), each machine for itself; hatched: not measured.",
        theme,
    )
    axes.grid(visible=False)
    axes.patch.set(hatch="////", edgecolor=colours.quiet)
    axes.set_xticks(range(len(variants)), [_name(each).replace(" · ", "\n", 1) for each in variants.values()])
    known = [value for value in found.values() if isinstance(value, float)]
    scale = LogNorm(min(known, default=1.0), max(known, default=2.0))
    box: dict[str, Any] = {"facecolor": colours.paper, "edgecolor": "none", "pad": 1.5}
    for row, machine in enumerate(fleet.machines):
        for column, key in enumerate(variants):
            value = found[machine.label, key]
            look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8.5, "parse_math": False}
            if isinstance(value, str):
                text = one_line(value, 100 // len(variants))
                axes.text(column, row, text, color=colours.ink, bbox=box, **look)
            else:
                shade, ink = colormaps["cividis"](scale(value)), "#ffffff" if scale(value) < 0.45 else "#000000"
                corner = (column - 0.5, row - 0.5)
                axes.add_patch(Rectangle(corner, 1, 1, facecolor=shade, edgecolor=colours.paper, lw=3))
                axes.text(column, row, number(1000 * value), color=ink, **look)
    axes.set_xlim(-0.5, max(len(variants), 1) - 0.5)
    figure.set_label(_in_words(found, variants))
    return figure


def _in_words(found: Latencies, variants: Mapping[Key, ModelVariant]) -> str:
    """The figure in sentences: per model the quickest and the slowest machine, and who has no figure, and why."""
    sentences = []
    for key, variant in variants.items():
        mine = {label: value for (label, which), value in found.items() if which == key}
        known = sorted((value, label) for label, value in mine.items() if isinstance(value, float))
        absent = [f"{label} ({one_line(value, 60)})" for label, value in mine.items() if isinstance(value, str)]
        if known:
            (quick, first), (slow, last) = known[0], known[-1]
            sentences.append(f"{_name(variant)}: {1000 * quick:.0f} ms on {first} to {1000 * slow:.0f} on {last}.")
        if absent:
            sentences.append(f"{_name(variant)} is not measured on {choosing.few(absent)}.")
    return f"Average latency of every model on every machine. {' '.join(sentences)}"


def _name(variant: ModelVariant) -> str:
    return printable(f"{variant.alias} · {variant.precision or 'unknown'} · {variant.device}")
