"""The figure of a room: machine by model, a number and a colour each; hatched where nothing was measured.

The colour says the same as the number, from dark (short) to light (long), on a scale that colour-blind readers can
read. Knows what `fleet_summaries` found. Knows no files.
"""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

import matplotlib as mpl
from matplotlib.patches import Patch, Rectangle

from workshop_lib.fleets import fleet_summaries
from workshop_lib.show import style
from workshop_lib.show.style import PALETTES, Palette, Theme
from workshop_lib.show.text import number, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from workshop_lib.fleets.fleet_room import Room
    from workshop_lib.fleets.fleet_summaries import Cell, Key
    from workshop_lib.records import ModelVariant

Shown = Literal["latency", "first token"]
MOST_MACHINES = 30
"""More lines than these cannot be read: then the slowest machines are drawn, and the subtitle says so."""

COLOURS = "cividis"
ABSENT = "////"
NAME_LETTERS = 30
LETTERS = 100
"""So many letters of a reason fit beside each other in a line of the figure."""


def heat_map(room: Room, shown: Shown = "latency", *, theme: Theme = "light") -> Figure:
    """Draw the median latency, or the median time to the first token, of every model on every machine (ms)."""
    found = fleet_summaries.cells(room)
    variants = fleet_summaries.variants_of(room)
    labels = _slowest_first(found)
    drawn, keys = labels[:MOST_MACHINES], list(variants)
    left = f" The {len(drawn)} slowest of {len(labels)} machines." if len(drawn) < len(labels) else ""
    figure, (axes,) = style.sheet(
        [one_line(label, NAME_LETTERS) for label in drawn],
        "How long does each model take on each machine?",
        f"Median {shown} over prompts (ms), each machine for itself. Slowest machine on top.{left}",
        theme,
    )
    colours = PALETTES[theme]
    axes.grid(visible=False)
    axes.set_xlim(-0.5, max(len(keys), 1) - 0.5)
    axes.set_xticks(range(len(keys)), [_two_lines(variants[key]) for key in keys], parse_math=False)
    values = [value for cell in found if (value := _value(cell, shown)) is not None]
    for cell in found:
        if cell.machine in drawn:
            place = (keys.index(cell.key), drawn.index(cell.machine))
            value = _value(cell, shown)
            if value is None:
                _hatched(axes, place, one_line(cell.reason or "not measured", LETTERS // len(keys)), colours)
            else:
                _filled(axes, place, value, values)
    if len(values) < len(found):
        absent = Patch(facecolor="none", edgecolor=colours.quiet, hatch=ABSENT, label="not measured, with the reason")
        style.legend(figure, [absent], colours)
    figure.set_label(_in_words(found, variants, shown))
    return figure


def _value(cell: Cell, shown: Shown) -> float | None:
    return cell.latency_s if shown == "latency" else cell.first_token_s


def _slowest_first(found: Iterable[Cell]) -> list[str]:
    """Labels by the median of a machine's latencies in units of each model's median over machines."""
    usual: dict[Key, list[float]] = {}
    for cell in found:
        if cell.latency_s:
            usual.setdefault(cell.key, []).append(cell.latency_s)
    speeds: dict[str, list[float]] = {}
    for cell in found:
        mine = speeds.setdefault(cell.machine, [])
        if cell.latency_s:
            mine.append(cell.latency_s / median(usual[cell.key]))
    return sorted(speeds, key=lambda label: (-median(speeds[label]) if speeds[label] else 0.0, label))


def _filled(axes: Axes, place: tuple[int, int], value: float, values: Sequence[float]) -> None:
    share = _share(value, values)
    shade = mpl.colormaps[COLOURS](share)
    axes.add_patch(Rectangle((place[0] - 0.48, place[1] - 0.46), 0.96, 0.92, facecolor=shade, linewidth=0))
    ink = "#ffffff" if share < 0.45 else "#000000"
    axes.text(*place, number(1000 * value), ha="center", va="center", color=ink, fontsize=9)


def _hatched(axes: Axes, place: tuple[int, int], reason: str, colours: Palette) -> None:
    corner = (place[0] - 0.48, place[1] - 0.46)
    look: dict[str, Any] = {"facecolor": "none", "edgecolor": colours.quiet}
    axes.add_patch(Rectangle(corner, 0.96, 0.92, hatch=ABSENT, linewidth=0, **look))
    box: dict[str, Any] = {"facecolor": colours.paper, "edgecolor": "none", "pad": 1.5}
    words: dict[str, Any] = {"ha": "center", "va": "center", "color": colours.ink, "fontsize": 8}
    axes.text(*place, reason, parse_math=False, bbox=box, **words)


def _share(value: float, values: Sequence[float]) -> float:
    """Where a value lies between the smallest and the largest, on a scale of ratios."""
    low, high = min(values), max(values)
    return 0.5 if high <= low else math.log(value / low) / math.log(high / low)


def _two_lines(variant: ModelVariant) -> str:
    return f"{one_line(variant.alias, 18)}\n{one_line(variant.precision or 'unknown', 8)} · {variant.device}"


def _in_words(found: Sequence[Cell], variants: dict[Key, ModelVariant], shown: Shown) -> str:
    """The figure in sentences: per model the quickest and the slowest machine, and who has no figure, and why."""
    sentences = []
    for key, variant in variants.items():
        known = {
            cell.machine: value for cell in found if cell.key == key and (value := _value(cell, shown)) is not None
        }
        name = " ".join(_two_lines(variant).split())
        if known:
            quick, slow = min(known, key=known.__getitem__), max(known, key=known.__getitem__)
            sentences.append(
                f"{name}: {number(1000 * known[quick])} ms on {quick} to {number(1000 * known[slow])} on {slow}."
            )
        absent = [cell for cell in found if cell.key == key and _value(cell, shown) is None]
        if absent:
            reasons = "; ".join(f"{cell.machine} ({one_line(cell.reason or 'unknown', 60)})" for cell in absent[:3])
            more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
            sentences.append(f"{name} is not measured on {reasons}{more}.")
    return f"Median {shown} of every model on every machine. {' '.join(sentences)}"
