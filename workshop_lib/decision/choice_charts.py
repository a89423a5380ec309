"""The figure of a choice: which model leads as each weight goes from nothing to everything. Knows no files.

Colour and hatch both say the model, and its name stands in its stretch where there is room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.patches import Patch

from workshop_lib.decision import choice, weights
from workshop_lib.decision.criteria import criterion
from workshop_lib.show import style, text
from workshop_lib.show.style import PALETTES, Palette, Theme
from workshop_lib.show.text import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from workshop_lib.decision.choice import Decision

COLOURS: dict[Theme, tuple[str, ...]] = {
    "light": ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442"),
    "dark": ("#56b4e9", "#e69f00", "#3fc9a0", "#cc79a7", "#0072b2", "#d55e00", "#f0e442"),
}
"""Okabe and Ito's, safe for the colour-blind; the order tells neighbours apart."""
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++++", "oooo")
LETTERS = 34
"""Longer names would overlap in the legend."""
Stretch = tuple[float, float, int]
"""From share, to share, and the place in `evidence.rows` of the model that leads there."""


def who_leads(decision: Decision, *, theme: Theme = "light") -> Figure:
    """Draw one line per criterion that counts: who leads at each share of the weights, and where they are now."""
    stretches = _stretches(decision)
    shares = {name: _share(decision, name) for name in decision.used}
    colours = PALETTES[theme]
    labels = [criterion(name).label for name in decision.used]
    figure, (axes,) = style.sheet(
        labels,
        "Who comes first as the weights change?",
        "One criterion's share grows, the others keep their proportions. The bar and the number: your weights.",
        theme,
    )
    called = text.names(decision.evidence.rows)
    name_of = {place: called[text.key(row)] for place, row in enumerate(decision.evidence.rows)}
    winners = list(dict.fromkeys(place for line in stretches.values() for _, _, place in line))
    looks = {place: _look(position, theme) for position, place in enumerate(winners)}
    for line, name in enumerate(decision.used):
        for stretch in stretches.get(name, []):
            _bar(axes, line, stretch, looks[stretch[2]], colours)
            _name(axes, line, _room(stretch, shares[name]), name_of[stretch[2]], colours)
        if name not in stretches:
            style.inside(axes, line, "no model is left", colours)
        style.median_bar(axes, line, 100 * shares[name], colours)
        style.beside(axes, line, f"{shares[name]:.0%}", colours)
    axes.set(xlim=(0, 100), xlabel="Share of all weights (%)")
    _legend(figure, {name_of[place]: looks[place] for place in winners}, colours)
    figure.set_label(_in_words(stretches, shares, name_of))
    return figure


def _stretches(decision: Decision) -> dict[str, list[Stretch]]:
    """Criterion → who leads where; empty where no model is left."""
    places = [each.place for each in decision.ranked]
    if not places:
        return {}
    table = choice.step_table(decision.evidence, decision.used, places)
    return {
        name: [(start, end, places[at]) for start, end, at in weights.lead(table, decision.weights, name)]
        for name in decision.used
    }


def _share(decision: Decision, name: str) -> float:
    """A criterion's share of the weights that count."""
    return decision.weights.of(name) / sum(map(decision.weights.of, decision.used))


def _look(position: int, theme: Theme) -> tuple[str, str]:
    """Colour and hatch; both change from one to the next, and no pair comes twice among 49."""
    colours = COLOURS[theme]
    turn = position // len(colours)
    return colours[position % len(colours)], HATCHES[(position + turn) % len(HATCHES)]


def _bar(axes: Axes, line: int, stretch: Stretch, look: tuple[str, str], colours: Palette) -> None:
    start, end = 100 * stretch[0], 100 * stretch[1]
    colour, hatch = look
    axes.barh(line, end - start, left=start, height=0.62, color=colour, hatch=hatch, edgecolor=colours.paper, zorder=3)


def _room(stretch: Stretch, mark: float) -> tuple[float, float]:
    """The larger part of a stretch beside the mark of the weights as they are."""
    start, end, _ = stretch
    if not start < mark < end:
        return start, end
    return (start, mark) if mark - start > end - mark else (mark, end)


def _name(axes: Axes, line: int, room: tuple[float, float], name: str, colours: Palette) -> None:
    """Write a model's name into its stretch, if it fits."""
    start, end = 100 * room[0], 100 * room[1]
    width_in = axes.get_window_extent().width / axes.figure.dpi * (end - start) / 100
    if width_in > style.LETTER_IN * (len(name) + 3):
        axes.text(
            (start + end) / 2,
            line,
            name,
            ha="center",
            va="center",
            fontsize=8.5,
            color=colours.ink,
            parse_math=False,
            zorder=5,
            bbox={"facecolor": colours.paper, "edgecolor": "none", "pad": 1.5},
        )


def _legend(figure: Figure, looks: dict[str, tuple[str, str]], colours: Palette) -> None:
    """Two rows of three: names of models are long."""
    figure.legend(
        handles=[
            Patch(facecolor=colour, hatch=hatch, edgecolor=colours.paper, linewidth=0, label=one_line(name, LETTERS))
            for name, (colour, hatch) in looks.items()
        ],
        loc="lower left",
        ncols=3,
        bbox_to_anchor=(0.10 / style.WIDTH_IN, 0.04 / figure.get_figheight()),
        fontsize=9,
        frameon=False,
        labelcolor=colours.quiet,
    )


def _in_words(stretches: dict[str, list[Stretch]], shares: dict[str, float], name_of: dict[int, str]) -> str:
    if not stretches:
        return "Who comes first as the weights change: no model is left."
    lines = []
    for name, line in stretches.items():
        parts = [f"{name_of[place]} from {start:.0%} to {end:.0%}" for start, end, place in line]
        lines.append(f"{criterion(name).label} (now {shares[name]:.0%}): {', '.join(parts)}")
    return f"Who comes first as each criterion's share of the weights changes. {'. '.join(lines)}."
