"""The figures that compare: CPU beside GPU, one user beside several; each with its alt text.

Knows which numbers answer which question. Knows no files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING

from workshop_lib import compare, summary
from workshop_lib.load import saturation
from workshop_lib.showing import appearance, charting, drawing
from workshop_lib.showing.appearance import PALETTES, Palette, Theme, number
from workshop_lib.untrusted import one_line

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from workshop_lib.compare import Build, Reference, Sample
    from workshop_lib.load import Load
    from workshop_lib.records import Run

NAME_LETTERS = 46
SUBTITLE_LETTERS = 118

PANELS: dict[str, Callable[[Sample], float | None]] = {
    "Time to first token (ms)\nless is better": lambda sample: sample.first_token_s and 1000 * sample.first_token_s,
    "Decode speed (tokens/s)\nmore is better": lambda sample: sample.decode_tokens_per_s,
}


def devices(run: Run, references: Sequence[Reference] = (), *, theme: Theme = "light") -> Figure:
    """Draw every request of each model's CPU and GPU builds; another machine's are hollow, an absent GPU has a line."""
    builds = compare.side_by_side(run, references)
    lines = _lines(builds, compare.absent_gpus(run))
    colours = PALETTES[theme]
    figure, panels = drawing.sheet(
        list(lines), "What does a GPU change?", _where_measured(builds, lines), theme, columns=len(PANELS)
    )
    for axes, (title, measured) in zip(panels, PANELS.items(), strict=True):
        for line, found in enumerate(lines.values()):
            if isinstance(found, str):
                drawing.inside(axes, line, "not measured on this machine", colours)
            else:
                _requests(axes, line, found, measured, colours)
        values = [value for build in builds for value in _values(build, measured)]
        name, _, better = title.partition("\n")
        drawing.scale(axes, "x", values, name)
        axes.set_xlabel(f"{axes.get_xlabel()}\n{better}")
        axes.xaxis.set_label_coords(0.5, -0.26 / (max(len(lines), 1) * drawing.LINE_IN))  # inches below the axes
        few = {"nbins": 4} if axes.get_xscale() == "linear" else {"subs": (1.0, 3.0)}  # a panel is half as wide
        axes.xaxis.get_major_locator().set_params(**few)
    drawing.legend(figure, _device_legend(builds, colours), colours)
    figure.set_label(f"CPU beside GPU, medians: {_devices_in_words(lines)}")
    return figure


def figures(run: Run, references: Sequence[Reference] = ()) -> dict[str, Callable[[Run, Theme], Figure]]:
    """Return the figures of this module that a report of `run` needs: CPU beside GPU where there is a GPU to draw."""
    if not compare.has_gpu_build(compare.side_by_side(run, references)):
        return {}
    return {"devices": lambda run, theme: devices(run, references, theme=theme)}


def loads(found: Sequence[Load], *, theme: Theme = "light") -> Figure:
    """Draw tokens per second against simultaneous users: of all together, and as one of them sees it."""
    colours = PALETTES[theme]
    together = {load.users: load.total_tokens_per_s for load in found if load.total_tokens_per_s is not None}
    alone = {load.users: load.tokens_per_s for load in found if load.tokens_per_s is not None}
    tracks = {
        "all users together": (together, colours.ink, "o", "-"),
        "each user": (alone, colours.quiet, "s", "--"),
    }
    drawn = {name: track for name, track in tracks.items() if track[0]}
    figure, axes = drawing.plane(list(tracks), "What if several people ask at once?", _loads_subtitle(found), theme)
    users = [load.users for load in found]
    axes.set_xticks(users)
    axes.set_xlim(0, 1.06 * max(users, default=1))
    axes.set_xlabel("Users asking at the same time (number)")
    drawing.scale(axes, "y", [rate for rates, *_ in drawn.values() for rate in rates.values()], "Speed (tokens/s)")
    for rates, colour, shape, style in drawn.values():
        drawing.track(axes, list(rates.items()), colour, shape, style)
    drawing.name_points(axes, {name: list(rates.items())[-1] for name, (rates, *_) in drawn.items()}, colours)
    entries: list[Artist] = [appearance.mark(shape, colour, name) for name, (_, colour, shape, _) in drawn.items()]
    drawing.legend(figure, entries, colours)
    said = [f"{name} {_rates_in_words(rates)}" for name, (rates, *_) in drawn.items()]
    figure.set_label(f"Tokens per second by number of users: {'; '.join(said) or 'nothing was measured'}.")
    return figure


def _lines(builds: Sequence[Build], absent: Mapping[str, str]) -> dict[str, Build | str]:
    """One line per build, and one with the reason for each model without a GPU of any machine."""
    lines: dict[str, Build | str] = {}
    on_gpu = {build.row.alias for build in builds if build.row.device == "gpu"}
    for alias in dict.fromkeys([build.row.alias for build in builds] + list(absent)):
        for build in builds:
            if build.row.alias == alias:
                lines[_name(build, taken=lines)] = build
        if alias in absent and alias not in on_gpu:
            lines[one_line(f"{alias} · gpu", NAME_LETTERS)] = absent[alias]
    return lines


def _name(build: Build, *, taken: Mapping[str, object]) -> str:
    name = summary.name_of(build.row)
    if build.is_reference:
        name += ", reference"
    elif not build.is_confirmed:
        name += ", by its label"
    short = one_line(name, NAME_LETTERS)
    return short if short not in taken else one_line(f"{build.row.model_id}, {build.where}", NAME_LETTERS)


def _requests(
    axes: Axes, line: int, build: Build, measured: Callable[[Sample], float | None], colours: Palette
) -> None:
    values = _values(build, measured)
    look = _look(build)
    if not values:
        drawing.inside(axes, line, "not measured", colours)
        return
    if build.is_reference:
        drawing.outlines(axes, line, values, look, colours)
    else:
        drawing.strip(axes, line, values, ringed=[False] * len(values), look=look, colours=colours)
    drawing.median_bar(axes, line, median(values), colours)


def _look(build: Build) -> appearance.Look:
    return (build.row.device if build.is_confirmed else "unknown"), build.row.precision


def _values(build: Build, measured: Callable[[Sample], float | None]) -> list[float]:
    return [value for value in map(measured, build.samples) if value is not None]


def _where_measured(builds: Sequence[Build], lines: Mapping[str, Build | str]) -> str:
    elsewhere = dict.fromkeys(build.where for build in builds if build.is_reference)
    reasons = [found for found in lines.values() if isinstance(found, str)]
    text = "One mark per request; the bar is the median."
    if elsewhere:
        text = f"One mark per request. Hollow: reference of another machine ({'; '.join(elsewhere)})."
    elif reasons:
        text = f"{text} {reasons[0].partition('. ')[0].rstrip('.')}."
    return one_line(text, SUBTITLE_LETTERS)


def _device_legend(builds: Sequence[Build], colours: Palette) -> list[Artist]:
    rows = [replace(build.row, device=_look(build)[0]) for build in builds]
    entries = charting.legend_entries(rows, colours, appearance.shaped)
    entries.append(appearance.mark("|", colours.ink, "median"))
    if any(build.is_reference for build in builds):
        entries.append(appearance.mark("o", colours.ink, compare.ELSEWHERE, filled=False))
    return entries


def _devices_in_words(lines: Mapping[str, Build | str]) -> str:
    said = []
    for name, found in lines.items():
        if isinstance(found, str):
            said.append(f"{name} not measured")
            continue
        known = [_values(found, measured) for measured in PANELS.values()]
        parts = [f"{number(median(each))} {unit}" for each, unit in zip(known, ("ms", "tokens/s"), strict=True) if each]
        place = f" ({found.where})" if found.is_reference else ""
        said.append(f"{name}{place} {', '.join(parts) or 'not measured'}")
    reasons = dict.fromkeys(found for found in lines.values() if isinstance(found, str))
    return " ".join([f"{'; '.join(said) or 'nothing was measured'}.", *reasons])


def _loads_subtitle(found: Sequence[Load]) -> str:
    users = saturation(found)
    if users is None:
        return "Together they get more as long as the line rises; each one gets less."
    return f"From {users} on, more users only wait: the next step adds under 10 % to what all get together."


def _rates_in_words(rates: Mapping[int, float]) -> str:
    return ", ".join(f"{number(rate)} with {users}" for users, rate in rates.items())
