"""How figures look: sheets, axes, bars, names and legends.

Colour says the device, marker and hatch say the precision, so that no reading depends on colour alone. Figures are made
without pyplot: no display is needed and nothing global is left behind.
"""

from __future__ import annotations

import base64
import html
import io
import warnings
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from workshop_lib.show.text import TRAINED_MEANS, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from workshop_lib.comparison import Estimate, Ratio
    from workshop_lib.records import Row

Look = tuple[str, str | None]
"""Device and precision."""
Point = tuple[float, float]
Span = tuple[float, float, float]
"""A value and the ends of its interval; three times the value where there is none."""

WIDTH_IN = 9.0
LETTER_IN = 0.074  # width of a letter at 10 points
LINE_IN = 0.40  # height of one model's line
HEAD_IN, FOOT_IN = 0.90, 0.98  # title and subtitle; axis label and legend
SUBTITLE_LETTERS = 118
MANY_DECADES = 10_000
LOG_FROM = 20.0  # above this ratio of largest to smallest a linear axis hides the small values
MARKERS = {"int4": "o", "exact4": "X", "int8": "D", "fp16": "s", "fp32": "^"}
HATCHES = {"int4": "", "exact4": "||||", "int8": "xxxx", "fp16": "....", "fp32": "////"}
OTHER_MARKER, OTHER_HATCH = "P", "++++"
PAPER, INK, QUIET, RULE = "#ffffff", "#1f2328", "#656d76", "#e4e7eb"
DEVICES = {"cpu": "#0072b2", "gpu": "#d55e00", "npu": "#009e73"}
"""Okabe and Ito's colours, safe for the colour-blind. Light and dark pages show the same picture, see `ON_DARK`."""
RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans", "font.size": 10, "hatch.linewidth": 0.7, "grid.color": RULE, "grid.linewidth": 0.8,
    "axes.labelsize": 9.5, "axes.labelcolor": QUIET, "axes.axisbelow": True, "figure.facecolor": PAPER,
    "axes.facecolor": PAPER, "axes.spines.left": False, "axes.spines.right": False, "axes.spines.top": False,
    "axes.spines.bottom": False, "xtick.color": QUIET, "xtick.labelsize": 9, "xtick.major.size": 0,
    "ytick.color": QUIET, "ytick.labelcolor": INK, "ytick.labelsize": 9, "ytick.major.size": 0,
}  # fmt: skip
ON_DARK = (
    'body[data-jp-theme-light="false"] .ws-figure, body.vscode-dark .ws-figure '
    "{ filter: invert(0.93) hue-rotate(180deg); }"
)
"""Paper and ink change places in a dark JupyterLab or VS Code, and a line keeps its hue: one stored picture does."""


def colour_of(device: str) -> str:
    """The colour of a device, the quiet one when the device is unknown."""
    return DEVICES.get(device, QUIET)


def marker(precision: str | None) -> str:
    """The marker of a precision."""
    return MARKERS.get(precision or "", OTHER_MARKER)


# -- sheets and axes


def sheet(labels: Sequence[str], title: str, subtitle: str, *, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of `columns` axes that share one line per label, the first label on top."""
    lines, left = max(len(labels), 1), 0.30 + _width_in(labels)
    right, gap = (0.95, 0.0) if columns == 1 else (0.25, 0.30)
    width = (WIDTH_IN - left - right - gap * (columns - 1)) / columns
    lefts = [left + column * (width + gap) for column in range(columns)]
    figure, all_axes = _figure(title, subtitle, lefts, width, lines * LINE_IN)
    for axes in all_axes:
        axes.set_ylim(lines - 0.5, -0.5)
        said = labels if axes is all_axes[0] else [""] * len(labels)
        axes.set_yticks(range(len(labels)), said, parse_math=False)
        axes.grid(axis="x")
    return figure, all_axes


def plane(labels: Sequence[str], title: str, subtitle: str) -> tuple[Figure, Axes]:
    """A figure of one plane, with room for a column of labels on its right."""
    height = 3.2 + max(0, len(labels) - 8) * 0.24
    figure, (axes,) = _figure(title, subtitle, [1.0], WIDTH_IN - 1.75 - _width_in(labels), height)
    axes.grid(visible=True)
    return figure, axes


def _width_in(labels: Sequence[str]) -> float:
    return LETTER_IN * max((len(label) for label in labels), default=8)


def _figure(
    title: str, subtitle: str, lefts: Sequence[float], width: float, height: float
) -> tuple[Figure, list[Axes]]:
    """A figure with axes of one size, in inches, beside each other."""
    whole, left = HEAD_IN + FOOT_IN + height, 0.15 / WIDTH_IN
    with mpl.rc_context(RC):
        figure = Figure(figsize=(WIDTH_IN, whole))
        boxes = [(place / WIDTH_IN, FOOT_IN / whole, width / WIDTH_IN, height / whole) for place in lefts]
        all_axes = [figure.add_axes(box) for box in boxes]
    figure.text(left, 1 - 0.16 / whole, title, va="top", fontsize=14, color=INK, weight="bold")
    figure.text(left, 1 - 0.50 / whole, subtitle, va="top", fontsize=9.5, color=QUIET, parse_math=False)
    return figure, all_axes


def scale(axes: Axes, which: Literal["x", "y"], values: Iterable[float], label: str) -> None:
    """Let an axis begin at 0; make it logarithmic, and say so, when the values are far apart."""
    known = [value for value in values if value > 0] or [1.0]
    wide = max(known) / min(known) > LOG_FROM
    limits = (min(known) / 1.3, max(known) * 1.3) if wide else (0.0, max(known) * 1.06)
    axes.set(**{f"{which}scale": "log" if wide else "linear", f"{which}lim": limits})
    axes.set(**{f"{which}label": f"{label} (log scale)" if wide else label})
    axis = axes.xaxis if which == "x" else axes.yaxis
    if wide:
        steps = (1.0,) if limits[1] > MANY_DECADES * limits[0] else (1.0, 2.0, 5.0)  # more labels would collide
        axis.set_major_locator(LogLocator(subs=steps))
        axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(StrMethodFormatter("{x:,.9g}"))


# -- marks and words


def span(figure: Estimate | Ratio, factor: float = 1.0) -> Span | None:
    """A value and the ends of its interval, times a factor: the value itself where there is none."""
    if figure.value is None:
        return None
    low, high = (figure.value if end is None else end for end in (figure.low, figure.high))
    return factor * figure.value, factor * low, factor * high


def bars(axes: Axes, values: Sequence[Span | float | None], words: Sequence[str], looks: Sequence[Look]) -> None:
    """Draw one bar per line, its interval if it has one, and its number; without a value the word that says why."""
    spans = [value if isinstance(value, tuple) else (value or 0, value or 0, value or 0) for value in values]
    axes.set_xlim(0, 1.30 * (max((high for *_, high in spans), default=1.0) or 1.0))
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.9g}"))
    place: dict[str, Any] = {"textcoords": "offset points", "va": "center", "zorder": 4, "fontsize": 8.5}
    for line, ((value, low, high), word, (device, precision)) in enumerate(zip(spans, words, looks, strict=True)):
        hatch = HATCHES.get(precision or "", OTHER_HATCH)
        fill: dict[str, Any] = {"color": colour_of(device), "hatch": hatch, "edgecolor": PAPER, "linewidth": 0}
        axes.barh(line, value, height=0.58, zorder=3, **fill)
        axes.plot([low, high], [line, line], color=INK, lw=1.6, zorder=4)
        colour, font = (QUIET, "italic") if values[line] is None else (INK, "normal")
        axes.annotate(word, (high, line), (5, 0), color=colour, style=font, **place)


def median_bar(axes: Axes, line: int, value: float) -> None:
    """Draw a median as a bar across its line."""
    axes.plot([value, value], [line - 0.36, line + 0.36], color=INK, lw=2.0, zorder=4)


def beside(axes: Axes, line: int, text: str) -> None:
    """Write a number at the right end of a line."""
    place: dict[str, Any] = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points", "va": "center"}
    axes.annotate(text, (1, line), (8, 0), fontsize=9, color=INK, **place)


def inside(axes: Axes, line: int, text: str) -> None:
    """Write a remark into a line that has no data, cut to the width of the axes."""
    text = one_line(text, int(_inches(axes)[0] / LETTER_IN))
    look: dict[str, Any] = {"fontsize": 9, "style": "italic", "color": QUIET, "parse_math": False}
    axes.text(0.012, line, text, transform=axes.get_yaxis_transform(), va="center", clip_on=True, **look)


def name_points(axes: Axes, points: Mapping[str, Point]) -> None:
    """Name points in a column on the right, in their order of height; names never collide."""
    to_axes = axes.transData + axes.transAxes.inverted()
    ordered = sorted((float(to_axes.transform(point)[1]), name) for name, point in points.items())
    steps = 0.20 / _inches(axes)[1] * np.arange(len(ordered))
    apart = steps + np.maximum.accumulate([height for height, _ in ordered] - steps)
    line = {"arrowstyle": "-", "color": QUIET, "lw": 0.7, "alpha": 0.7, "shrinkA": 2, "shrinkB": 5}
    line["relpos"] = (0.0, 0.5)  # from the name's left edge, not through its letters
    look: dict[str, Any] = {"fontsize": 9, "color": INK, "parse_math": False, "arrowprops": line}
    look |= {"textcoords": "axes fraction", "va": "center", "annotation_clip": False}
    for (_, name), height in zip(ordered, np.minimum(apart, 1 - steps[::-1]), strict=True):
        axes.annotate(name, points[name], (1.05, height), **look)


def _inches(axes: Axes) -> tuple[float, float]:
    extent, dpi = axes.get_window_extent(), axes.figure.dpi
    return extent.width / dpi, extent.height / dpi


# -- legends


def mark(shape: str, colour: str, text: str, *, filled: bool = True) -> Line2D:
    """A legend entry drawn as a marker."""
    look: dict[str, Any] = {"color": colour, "markerfacecolor": colour if filled else "none", "markersize": 6}
    look["markeredgewidth"] = 2.2 if shape == "|" else 1.0
    return Line2D([], [], linestyle="none", marker=shape, label=text, **look)


def legend_entries(rows: Iterable[Row], by: Literal["marker", "hatch"] = "marker") -> list[Artist]:
    """One entry per device (colour) and precision (marker or hatch) that was drawn, coarsest precision first."""
    good = [row for row in rows if row.status == "ok"]
    devices, known = sorted({row.device for row in good}), {row.precision for row in good}
    found: list[Artist] = [Patch(facecolor=colour_of(device), label=device, linewidth=0) for device in devices]
    for precision in (*HATCHES, *sorted(filter(None, known - HATCHES.keys())), None):
        text = precision or "precision unknown"
        if precision in known and by == "marker":
            found.append(mark(marker(precision), QUIET, text))
        elif precision in known:
            hatch = HATCHES.get(precision or "", OTHER_HATCH)
            found.append(Patch(facecolor="none", edgecolor=QUIET, hatch=hatch, label=text))
    return found + [mark("", QUIET, TRAINED_MEANS)] * any(row.trained_on_prompts for row in good)


def legend(figure: Figure, entries: Sequence[Artist]) -> None:
    """Put the legend along the bottom edge, in smaller letters where it is wider than the figure."""
    look: dict[str, Any] = {"loc": "lower left", "bbox_transform": figure.transFigure, "labelcolor": QUIET}
    look |= {"bbox_to_anchor": (0.10 / WIDTH_IN, 0.04 / figure.get_figheight()), "frameon": False}
    look |= {"handles": list(entries), "ncols": max(1, len(entries)), "handletextpad": 0.4, "columnspacing": 1.4}
    drawn = figure.legend(**look, fontsize=9)
    if (share := 0.97 * figure.bbox.width / drawn.get_window_extent().width) < 1:
        drawn.remove()
        figure.legend(**look, fontsize=9 * share)


# -- pictures


def alt_text(figure: Figure) -> str:
    """The sentences that say what `figure` shows, for readers who cannot see it."""
    return str(figure.get_label())


def png(figure: Figure, *, dpi: int = 120) -> bytes:
    """The bytes of a figure's PNG file; the same figure always gives the same bytes."""
    target = io.BytesIO()
    with mpl.rc_context(RC), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # of a script that the font lacks
        figure.savefig(target, format="png", dpi=dpi, metadata={"Software": None})
    return target.getvalue()


class Picture(NamedTuple):
    """An image that a notebook shows with its alt text, and a terminal as that text alone; sizes in CSS pixels."""

    png: bytes
    alt: str
    width: int
    height: int

    @property
    def src(self) -> str:
        """The PNG file as an address that holds it."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")

    def __repr__(self) -> str:
        return self.alt

    def _repr_html_(self) -> str:
        image = f'<img alt="{html.escape(self.alt)}" width="{self.width}" class="ws-figure" src="{self.src}">'
        return f"<style>{ON_DARK}</style>{image}"


def picture(figure: Figure, *, dpi: int = 120) -> Picture:
    """A figure drawn, with its alt text."""
    width, height = (round(inches * 96) for inches in figure.get_size_inches())
    return Picture(png(figure, dpi=dpi), alt_text(figure), width, height)


def shown(figure: Figure | None) -> Picture | None:
    """`figure` as a picture with alt text, the last line of a notebook cell; nothing where nothing was drawn."""
    return picture(figure) if figure else None
