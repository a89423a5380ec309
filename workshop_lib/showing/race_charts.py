"""The figure that remains of a race: what had arrived of each answer at each moment, with its alt text.

Knows which numbers answer which question. Knows no files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from workshop_lib.showing import appearance, drawing, race_view
from workshop_lib.showing.appearance import PALETTES, Palette, Theme
from workshop_lib.untrusted import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from workshop_lib.measuring.race import LaneState, RaceResult
    from workshop_lib.records import ModelVariant

Style = Literal["-", "--", ":", "-."]
STYLES: tuple[tuple[Style, str], ...] = (("-", "o"), ("--", "s"), (":", "^"), ("-.", "D"))
"""Line and marker of each lane: lanes are told apart without colour, also where they share device and precision."""

MOST_MARKS = 60
SUBTITLE_LETTERS, LABEL_LETTERS = 118, 62


def race(result: RaceResult, *, theme: Theme = "light") -> Figure:
    """Draw the pieces of text that had arrived against time (ms), a line per lane, its first token ringed."""
    colours, lanes = PALETTES[theme], result.state.lanes
    labels = map(_label, lanes, race_view.short_names(result))
    drawn = {
        label: (place, lane) for place, (label, lane) in enumerate(zip(labels, lanes, strict=True)) if lane.arrived_s
    }
    figure, axes = drawing.plane(list(drawn), "Who writes first, and who writes faster?", _subtitle(lanes), theme)
    drawing.scale(axes, "x", [1000 * result.longest_s], "Time after each one's request (ms)")
    most = max((len(lane.arrived_s) for _, lane in drawn.values()), default=0)
    drawing.scale(axes, "y", [float(most)], "Pieces of text that had arrived (number)")
    entries: list[Artist] = []
    for place, lane in drawn.values():
        style, shape = STYLES[place % len(STYLES)]
        colour = _colour(place, result.variants, colours)
        _draw(axes, lane, colour, style, shape)
        entries.append(_entry(lane.name, colour, style, shape))
    ends = {label: (1000 * lane.arrived_s[-1], float(len(lane.arrived_s))) for label, (_, lane) in drawn.items()}
    drawing.name_points(axes, ends, colours)
    entries.append(appearance.mark("o", colours.ink, "first token", filled=False))
    drawing.legend(figure, entries, colours)
    figure.set_label(_in_words(result))
    return figure


def _draw(axes: Axes, lane: LaneState, colour: str, style: Style, shape: str) -> None:
    across = [1000 * at_s for at_s in lane.arrived_s]
    up = list(range(1, len(across) + 1))
    every = -(-len(across) // MOST_MARKS)
    axes.plot(across, up, color=colour, linestyle=style, linewidth=1.8, marker=shape, markersize=4, markevery=every,
              zorder=3)  # fmt: skip
    axes.scatter(across[:1], up[:1], s=130, facecolors="none", edgecolors=colour, linewidths=1.6, zorder=4,
                 clip_on=False)  # fmt: skip


def _entry(name: str, colour: str, style: Style, shape: str) -> Artist:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, linestyle=style, linewidth=1.8, marker=shape, markersize=4, label=name)


def _colour(place: int, variants: Sequence[ModelVariant], colours: Palette) -> str:
    """The colour of its device; of two lanes on one device the second is drawn in ink."""
    device = variants[place].device
    taken = [each.device for each in variants[:place]]
    return colours.ink if device in taken else colours.device(device)


def _label(lane: LaneState, name: str) -> str:
    """What stands at the end of a line: the pace, which is its slope, and whose it is."""
    return one_line(f"{name}: {'did not finish' if lane.error else race_view.pace(lane)}", LABEL_LETTERS)


def _subtitle(lanes: Sequence[LaneState]) -> str:
    failed = [f"{lane.name} did not finish: {lane.error}" for lane in lanes if lane.error]
    text = (
        failed[0]
        if failed
        else "Further left starts sooner, steeper writes faster, and where a line ends, so does the answer."
    )
    return one_line(text, SUBTITLE_LETTERS)


def _in_words(result: RaceResult) -> str:
    said = []
    for lane in result.state.lanes:
        if lane.error:
            continue
        shown = race_view.figures(lane)
        said.append(
            f"{lane.name}: first token after {shown['First token']}, {race_view.pace(lane)}, {shown['Written']} in "
            f"{shown['Whole answer']}."
        )
    return " ".join(["A race over time.", *said, *race_view.sentences(result)])
