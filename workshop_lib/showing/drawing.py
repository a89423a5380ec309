"""The hand that draws: sheets, strips, clouds, bars, names and legends on matplotlib figures.

Figures are made without pyplot: no display is needed and nothing global is left behind. Knows no
records and no statistics; `charting` decides what is drawn.
"""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any, Literal

import matplotlib as mpl
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from workshop_lib.showing.appearance import PALETTES, Look, Palette, Theme, hatch, marker, number
from workshop_lib.untrusted import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

WIDTH_IN = 9.0
LETTER_IN = 0.074  # width of a letter at 10 points
LINE_IN = 0.40  # height of one model's line
HEAD_IN, FOOT_IN = 0.90, 0.98  # title and subtitle; axis label and legend
LOG_FROM = 20.0  # above this ratio of largest to smallest a linear axis hides the small values
RC: dict[Any, Any] = {"font.family": "DejaVu Sans", "font.size": 10, "hatch.linewidth": 0.7}


def sheet(
    labels: Sequence[str], title: str, subtitle: str, theme: Theme, *, columns: int = 1
) -> tuple[Figure, list[Axes]]:
    """Return a figure of `columns` axes that share one line per label, the first label on top."""
    lines = max(len(labels), 1)
    height = HEAD_IN + FOOT_IN + lines * LINE_IN
    figure = _figure(height, title, subtitle, theme)
    left = 0.30 + LETTER_IN * max((len(label) for label in labels), default=8)
    right, gap = (0.95, 0.0) if columns == 1 else (0.25, 0.30)
    width = (WIDTH_IN - left - right - gap * (columns - 1)) / columns
    all_axes = []
    for column in range(columns):
        at = left + column * (width + gap)
        axes = _axes(figure, (at, FOOT_IN, width, lines * LINE_IN), PALETTES[theme])
        axes.set_ylim(lines - 0.5, -0.5)
        texts = labels if column == 0 else [""] * len(labels)
        axes.set_yticks(range(len(labels)), texts, parse_math=False)
        axes.grid(axis="x", color=PALETTES[theme].rule, linewidth=0.8)
        all_axes.append(axes)
    return figure, all_axes


def plane(labels: Sequence[str], title: str, subtitle: str, theme: Theme) -> tuple[Figure, Axes]:
    """Return a figure of one plane, with room for a column of labels on its right."""
    height = 3.2 + max(0, len(labels) - 8) * 0.24
    figure = _figure(HEAD_IN + FOOT_IN + height, title, subtitle, theme)
    right = 0.75 + LETTER_IN * max((len(label) for label in labels), default=8)
    axes = _axes(figure, (1.0, FOOT_IN, WIDTH_IN - 1.0 - right, height), PALETTES[theme])
    axes.grid(color=PALETTES[theme].rule, linewidth=0.8)
    return figure, axes


def strip(
    axes: Axes,
    line: int,
    values: Sequence[float],
    *,
    ringed: Sequence[bool],
    look: Look,
    colours: Palette,
) -> None:
    """Draw every value on its line, spread a little so that equal ones stay visible."""
    axes.scatter(
        values,
        _spread(line, len(values)),
        s=22,
        marker=marker(look[1]),
        facecolors=to_rgba(colours.device(look[0]), 0.6),
        edgecolors=[colours.ink if ring else colours.paper for ring in ringed],
        linewidths=[1.0 if ring else 0.4 for ring in ringed],
        zorder=3,
    )


def outlines(axes: Axes, line: int, values: Sequence[float], look: Look, colours: Palette) -> None:
    """Draw values of another machine: the marks of `strip`, hollow."""
    axes.scatter(
        values,
        _spread(line, len(values)),
        s=26,
        marker=marker(look[1]),
        facecolors="none",
        edgecolors=colours.device(look[0]),
        linewidths=1.1,
        zorder=3,
    )


def track(axes: Axes, points: Sequence[tuple[float, float]], colour: str, shape: str, style: str) -> None:
    """Draw points that follow each other, joined by a line of a style of its own."""
    across, up = [x for x, _ in points], [y for _, y in points]
    axes.plot(across, up, color=colour, marker=shape, linestyle=style, linewidth=1.8, markersize=7, zorder=3)


def cloud(
    axes: Axes,
    points: Sequence[tuple[float, float]],
    middle: tuple[float, float],
    look: Look,
    colours: Palette,
) -> None:
    """Draw small marks for requests and a large one, ringed, for their middle."""
    colour = colours.device(look[0])
    across, up = [x for x, _ in points], [y for _, y in points]
    axes.scatter(across, up, s=13, marker=marker(look[1]), color=colour, alpha=0.28, linewidths=0, zorder=2)
    axes.scatter(
        *middle,
        s=95,
        marker=marker(look[1]),
        facecolors=colour,
        zorder=4,
        edgecolors=colours.paper,
        linewidths=1.4,
    )


def median_bar(axes: Axes, line: int, value: float, colours: Palette) -> None:
    """Draw a median as a bar across its line."""
    axes.plot([value, value], [line - 0.36, line + 0.36], color=colours.ink, lw=2.0, zorder=4)


def hollow(axes: Axes, line: int, values: Sequence[float], precision: str | None, colours: Palette) -> None:
    """Draw values that do not count: grey outlines."""
    axes.scatter(
        values,
        [line] * len(values),
        s=34,
        marker=marker(precision),
        facecolors="none",
        edgecolors=colours.quiet,
        linewidths=1.1,
        zorder=2,
    )


def bars(
    axes: Axes,
    values: Sequence[float | None],
    absent: Sequence[str],
    looks: Sequence[Look],
    colours: Palette,
) -> None:
    """Draw one bar and its number per line; where there is no value, the word that says why."""
    known = [value for value in values if value is not None]
    axes.set_xlim(0, 1.30 * max(known, default=1.0) or 1.0)
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.xaxis.set_major_formatter(FuncFormatter(_thousands))
    lines = enumerate(zip(values, absent, looks, strict=True))
    for line, (value, word, (device, precision)) in lines:
        axes.barh(
            line,
            value or 0,
            height=0.58,
            color=colours.device(device),
            zorder=3,
            hatch=hatch(precision),
            edgecolor=colours.paper,
            linewidth=0,
        )
        note = word if value is None else number(value)
        colour, style = (colours.quiet, "italic") if value is None else (colours.ink, "normal")
        axes.annotate(
            note,
            (value or 0, line),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=colour,
            style=style,
            zorder=4,
        )


def beside(axes: Axes, line: int, text: str, colours: Palette) -> None:
    """Write a number at the right end of a line."""
    axes.annotate(
        text,
        (1, line),
        (8, 0),
        xycoords=axes.get_yaxis_transform(),
        va="center",
        textcoords="offset points",
        fontsize=9,
        color=colours.ink,
    )


def inside(axes: Axes, line: int, text: str, colours: Palette) -> None:
    """Write a remark into a line that has no data, cut to the width of the axes."""
    text = one_line(text, int(_inches(axes)[0] / LETTER_IN))
    axes.text(
        0.012,
        line,
        text,
        transform=axes.get_yaxis_transform(),
        va="center",
        fontsize=9,
        style="italic",
        color=colours.quiet,
        clip_on=True,
        parse_math=False,
    )


def name_points(axes: Axes, points: Mapping[str, tuple[float, float]], colours: Palette) -> None:
    """Name points in a column on the right, in their order of height; names never collide."""
    to_axes = axes.transData + axes.transAxes.inverted()
    step = 0.20 / _inches(axes)[1]
    heights = {name: float(to_axes.transform(point)[1]) for name, point in points.items()}
    for name, height in spread_out(heights, step).items():
        axes.annotate(
            name,
            points[name],
            (1.05, height),
            textcoords="axes fraction",
            va="center",
            fontsize=9,
            color=colours.ink,
            annotation_clip=False,
            parse_math=False,
            arrowprops={
                "arrowstyle": "-",
                "relpos": (0.0, 0.5),  # from the name's left edge, not through its letters
                "color": colours.quiet,
                "lw": 0.7,
                "alpha": 0.7,
                "shrinkA": 2,
                "shrinkB": 5,
            },
        )


def spread_out(heights: Mapping[str, float], step: float) -> dict[str, float]:
    """Move heights (0 to 1) apart until neighbours are `step` apart, keeping their order.

    >>> spread_out({"a": 0.5, "b": 0.5}, 0.25)
    {'a': 0.375, 'b': 0.625}
    """
    groups: list[list[str]] = []
    for name in sorted(heights, key=lambda key: heights[key]):
        groups.append([name])
        while len(groups) > 1 and _overlap(groups[-2], groups[-1], heights, step):
            groups[-2:] = [groups[-2] + groups[-1]]
    placed = {}
    for group in groups:
        start = _start(group, heights, step)
        placed.update({name: start + place * step for place, name in enumerate(group)})
    return placed


def scale(axes: Axes, which: Literal["x", "y"], values: Iterable[float], label: str) -> None:
    """Let an axis begin at 0; make it logarithmic, and say so, when the values are far apart."""
    known = [value for value in values if value > 0] or [1.0]
    wide = max(known) / min(known) > LOG_FROM
    limits = (min(known) / 1.3, max(known) * 1.3) if wide else (0.0, max(known) * 1.06)
    axes.set(**{f"{which}scale": "log" if wide else "linear", f"{which}lim": limits})
    axis = axes.xaxis if which == "x" else axes.yaxis
    if wide:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(_thousands))
    axes.set(**{f"{which}label": f"{label} (log scale)" if wide else label})


def legend(figure: Figure, entries: Sequence[Artist], colours: Palette) -> None:
    """Put the legend along the bottom edge."""
    figure.legend(
        handles=list(entries),
        loc="lower left",
        ncols=max(1, len(entries)),
        bbox_to_anchor=(0.10 / WIDTH_IN, 0.04 / figure.get_figheight()),
        fontsize=9,
        bbox_transform=figure.transFigure,
        frameon=False,
        labelcolor=colours.quiet,
        handletextpad=0.4,
        columnspacing=1.4,
    )


def png(figure: Figure, dpi: int) -> bytes:
    """Return the bytes of a figure's PNG file; the same figure always gives the same bytes."""
    target = io.BytesIO()
    with mpl.rc_context(RC), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # of a script that the font lacks
        figure.savefig(target, format="png", dpi=dpi, metadata={"Software": None})
    return target.getvalue()


def _figure(height: float, title: str, subtitle: str, theme: Theme) -> Figure:
    colours = PALETTES[theme]
    with mpl.rc_context(RC):
        figure = Figure(figsize=(WIDTH_IN, height), facecolor=colours.paper)
    left = 0.15 / WIDTH_IN
    figure.text(left, 1 - 0.16 / height, title, va="top", fontsize=14, color=colours.ink, weight="bold")
    figure.text(left, 1 - 0.50 / height, subtitle, va="top", fontsize=9.5, color=colours.quiet)
    return figure


def _axes(figure: Figure, inches: tuple[float, float, float, float], colours: Palette) -> Axes:
    size = (figure.get_figwidth(), figure.get_figheight())
    left, bottom, width, height = (inch / size[place % 2] for place, inch in enumerate(inches))
    with mpl.rc_context(RC):
        axes = figure.add_axes((left, bottom, width, height), facecolor=colours.paper)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=colours.quiet, labelsize=9)
    axes.tick_params(axis="y", labelcolor=colours.ink)
    axes.xaxis.label.set(color=colours.quiet, fontsize=9.5)
    axes.yaxis.label.set(color=colours.quiet, fontsize=9.5)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    return axes


def _spread(line: int, count: int) -> list[float]:
    """Heights around a line, so that equal values stay visible."""
    return [line + 0.46 * ((0.618 * step) % 1.0 - 0.5) for step in range(1, count + 1)]


def _thousands(value: float, _: int | None) -> str:
    return f"{value:,g}" if abs(value) < 1 else f"{value:,.0f}" if value % 1 == 0 else f"{value:g}"


def _inches(axes: Axes) -> tuple[float, float]:
    """Return the width and height of axes on paper."""
    extent, dpi = axes.get_window_extent(), axes.figure.dpi
    return extent.width / dpi, extent.height / dpi


def _start(group: Sequence[str], heights: Mapping[str, float], step: float) -> float:
    """Return the height of a group's lowest name when the group is centred on its points."""
    centre = sum(heights[name] for name in group) / len(group)
    half = step * (len(group) - 1) / 2
    return min(max(centre - half, 0.0), max(1.0 - 2 * half, 0.0))


def _overlap(below: Sequence[str], above: Sequence[str], heights: Mapping[str, float], step: float) -> bool:
    top = _start(below, heights, step) + step * (len(below) - 1)
    return top + step > _start(above, heights, step) + 1e-9
