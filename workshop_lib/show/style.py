"""How figures look, and the drawing of sheets, marks, bars, names and legends.

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
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from workshop_lib.show.text import TRAINED_MEANS, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from workshop_lib.comparison import Estimate, Ratio
    from workshop_lib.records import Row

Face = Literal["filled", "hollow"]
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
LOG_FROM = 20.0  # above this ratio of largest to smallest a linear axis hides the small values
RC: dict[Any, Any] = {"font.family": "DejaVu Sans", "font.size": 10, "hatch.linewidth": 0.7}
MARKERS = {"int4": "o", "exact4": "X", "int8": "D", "fp16": "s", "fp32": "^"}
HATCHES = {"int4": "", "exact4": "||||", "int8": "xxxx", "fp16": "....", "fp32": "////"}
OTHER_MARKER, OTHER_HATCH = "P", "++++"


PAPER, INK, QUIET, RULE = "#ffffff", "#1f2328", "#656d76", "#e4e7eb"
DEVICES = {"cpu": "#0072b2", "gpu": "#d55e00", "npu": "#009e73"}
"""Okabe and Ito's colours, safe for the colour-blind. Light and dark pages show the same picture, see `ON_DARK`."""


def colour_of(device: str) -> str:
    """The colour of a device, the quiet one when the device is unknown."""
    return DEVICES.get(device, QUIET)


def marker(precision: str | None) -> str:
    """The marker of a precision."""
    return MARKERS.get(precision or "", OTHER_MARKER)


def hatch(precision: str | None) -> str:
    """The hatch of a precision; int4 is plain."""
    return HATCHES.get(precision or "", OTHER_HATCH)


# -- sheets and axes


def sheet(labels: Sequence[str], title: str, subtitle: str, *, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of `columns` axes that share one line per label, the first label on top."""
    lines = max(len(labels), 1)
    figure = _figure(HEAD_IN + FOOT_IN + lines * LINE_IN, title, subtitle)
    left = 0.30 + LETTER_IN * max((len(label) for label in labels), default=8)
    right, gap = (0.95, 0.0) if columns == 1 else (0.25, 0.30)
    width = (WIDTH_IN - left - right - gap * (columns - 1)) / columns
    all_axes = []
    for column in range(columns):
        axes = _axes(figure, (left + column * (width + gap), FOOT_IN, width, lines * LINE_IN))
        axes.set_ylim(lines - 0.5, -0.5)
        axes.set_yticks(range(len(labels)), [""] * len(labels) if column else labels, parse_math=False)
        axes.grid(axis="x", color=RULE, linewidth=0.8)
        all_axes.append(axes)
    return figure, all_axes


def plane(labels: Sequence[str], title: str, subtitle: str) -> tuple[Figure, Axes]:
    """A figure of one plane, with room for a column of labels on its right."""
    height = 3.2 + max(0, len(labels) - 8) * 0.24
    figure = _figure(HEAD_IN + FOOT_IN + height, title, subtitle)
    right = 0.75 + LETTER_IN * max((len(label) for label in labels), default=8)
    axes = _axes(figure, (1.0, FOOT_IN, WIDTH_IN - 1.0 - right, height))
    axes.grid(color=RULE, linewidth=0.8)
    return figure, axes


def _look() -> dict[Any, Any]:
    """Settings of matplotlib under which figures and axes are made."""
    sides = {f"axes.spines.{side}": False for side in ("left", "right", "top", "bottom")}
    ticks = {f"{axis}tick.{name}": value for axis in "xy" for name, value in (("major.size", 0), ("labelsize", 9))}
    quiet = dict.fromkeys(("axes.labelcolor", "xtick.color", "ytick.color"), QUIET)
    paper = {"figure.facecolor": PAPER, "axes.facecolor": PAPER, "ytick.labelcolor": INK}
    return {**RC, **sides, **ticks, **quiet, **paper, "axes.axisbelow": True, "axes.labelsize": 9.5}


def _figure(height: float, title: str, subtitle: str) -> Figure:
    left = 0.15 / WIDTH_IN
    with mpl.rc_context(_look()):
        figure = Figure(figsize=(WIDTH_IN, height))
    figure.text(left, 1 - 0.16 / height, title, va="top", fontsize=14, color=INK, weight="bold")
    figure.text(left, 1 - 0.50 / height, subtitle, va="top", fontsize=9.5, color=QUIET, parse_math=False)
    return figure


def _axes(figure: Figure, inches: tuple[float, float, float, float]) -> Axes:
    size = (figure.get_figwidth(), figure.get_figheight())
    left, bottom, width, height = (inch / size[place % 2] for place, inch in enumerate(inches))
    with mpl.rc_context(_look()):
        return figure.add_axes((left, bottom, width, height))


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


def _thousands(value: float, _: int | None) -> str:
    return f"{value:,g}" if abs(value) < 1 else f"{value:,.0f}" if value % 1 == 0 else f"{value:g}"


# -- marks


def span(figure: Estimate | Ratio, factor: float = 1.0) -> Span | None:
    """A value and the ends of its interval, times a factor: the value itself where there is none."""
    if figure.value is None:
        return None
    low, high = (figure.value if end is None else end for end in (figure.low, figure.high))
    return factor * figure.value, factor * low, factor * high


def dots(
    axes: Axes,
    line: int,
    values: Sequence[float],
    look: Look,
    *,
    face: Face = "filled",
    ringed: Sequence[bool] = (),
) -> None:
    """Draw every value on its line, spread a little so that equal ones stay visible; some ringed in ink.

    What does not count here, of a warm-up or another machine, is hollow.
    """
    across = [line + 0.46 * ((0.618 * step) % 1.0 - 0.5) for step in range(1, len(values) + 1)]
    colour, rings = colour_of(look[0]), list(ringed) or [False] * len(values)
    drawn: dict[str, Any] = {"s": 26, "facecolors": "none", "edgecolors": colour, "linewidths": 1.1}
    if face == "filled":
        edges = [INK if ring else PAPER for ring in rings]
        widths = [1.0 if ring else 0.4 for ring in rings]
        drawn = {"s": 22, "facecolors": to_rgba(colour, 0.6), "edgecolors": edges, "linewidths": widths}
    axes.scatter(values, across, marker=marker(look[1]), zorder=3, **drawn)


def cloud(axes: Axes, points: Sequence[Point], middle: Point, look: Look) -> None:
    """Draw small marks for requests and a large one, ringed, for their middle."""
    same: dict[str, Any] = {"marker": marker(look[1]), "facecolors": colour_of(look[0])}
    across, up = zip(*points, strict=True)
    axes.scatter(across, up, s=13, alpha=0.28, linewidths=0, zorder=2, **same)
    axes.scatter(*middle, s=95, edgecolors=PAPER, linewidths=1.4, zorder=4, **same)


def track(axes: Axes, points: Sequence[Point], style: Mapping[str, Any], *, every: int = 1) -> None:
    """Draw points that follow each other, joined by a line; a mark at every n-th."""
    axes.plot(*zip(*points, strict=True), linewidth=1.8, markersize=5, markevery=every, zorder=3, **style)


def median_bar(axes: Axes, line: int, value: float) -> None:
    """Draw a median as a bar across its line."""
    axes.plot([value, value], [line - 0.36, line + 0.36], color=INK, lw=2.0, zorder=4)


def spans(axes: Axes, spans: Sequence[Span | None], words: Sequence[str], looks: Sequence[Look]) -> None:
    """Draw one mark, its interval and its words per line; where there is nothing to mark, the words alone."""
    place: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center", "ha": "right", "fontsize": 8.5}
    axes.set_xlim(0, 1.45 * max((span[2] for span in spans if span), default=1.0))
    for line, (span, word, (device, precision)) in enumerate(zip(spans, words, looks, strict=True)):
        if span is None:
            inside(axes, line, word)
            continue
        value, low, high = span
        colour = colour_of(device)
        look: dict[str, Any] = {"facecolors": colour, "edgecolors": PAPER, "zorder": 3, "clip_on": False}
        axes.plot([low, high], [line, line], color=colour, lw=2.2, alpha=0.6, zorder=2, solid_capstyle="butt")
        axes.scatter(value, line, s=75, marker=marker(precision), **look)
        axes.text(1, line, word, color=INK, **place)


def bars(axes: Axes, values: Sequence[float | None], words: Sequence[str], looks: Sequence[Look]) -> None:
    """Draw one bar and its number per line; where there is no value, the word that says why."""
    axes.set_xlim(0, 1.30 * max((value for value in values if value), default=1.0))
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.xaxis.set_major_formatter(FuncFormatter(_thousands))
    place: dict[str, Any] = {"textcoords": "offset points", "va": "center", "zorder": 4, "fontsize": 8.5}
    for line, (value, word, (device, precision)) in enumerate(zip(values, words, looks, strict=True)):
        fill: dict[str, Any] = {"color": colour_of(device), "hatch": hatch(precision), "edgecolor": PAPER}
        axes.barh(line, value or 0, height=0.58, linewidth=0, zorder=3, **fill)
        colour, font = (QUIET, "italic") if value is None else (INK, "normal")
        axes.annotate(word, (value or 0, line), (4, 0), color=colour, style=font, **place)


# -- words


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
    heights = {name: float(to_axes.transform(point)[1]) for name, point in points.items()}
    line = {"arrowstyle": "-", "color": QUIET, "lw": 0.7, "alpha": 0.7, "shrinkA": 2, "shrinkB": 5}
    line["relpos"] = (0.0, 0.5)  # from the name's left edge, not through its letters
    look: dict[str, Any] = {"fontsize": 9, "color": INK, "parse_math": False, "arrowprops": line}
    look |= {"textcoords": "axes fraction", "va": "center", "annotation_clip": False}
    for name, height in spread_out(heights, 0.20 / _inches(axes)[1]).items():
        axes.annotate(name, points[name], (1.05, height), **look)


def spread_out(heights: Mapping[str, float], step: float) -> dict[str, float]:
    """Move heights (0 to 1) apart until neighbours are `step` apart, keeping their order.

    >>> spread_out({"a": 0.5, "b": 0.5}, 0.25)
    {'a': 0.5, 'b': 0.75}
    """
    placed: dict[str, float] = {}
    low, high = 0.0, 1.0
    for name in sorted(heights, key=lambda name: heights[name]):
        placed[name] = max(heights[name], low)
        low = placed[name] + step
    for name in reversed(placed):
        placed[name] = min(placed[name], high)
        high = placed[name] - step
    return placed


def _inches(axes: Axes) -> tuple[float, float]:
    extent, dpi = axes.get_window_extent(), axes.figure.dpi
    return extent.width / dpi, extent.height / dpi


# -- legends


def mark(shape: str, colour: str, text: str, *, filled: bool = True) -> Line2D:
    """A legend entry drawn as a marker."""
    look: dict[str, Any] = {"color": colour, "markerfacecolor": colour if filled else "none", "markersize": 6}
    return Line2D(
        [], [], linestyle="none", marker=shape, label=text, markeredgewidth=2.2 if shape == "|" else 1.0, **look
    )


def legend_entries(rows: Iterable[Row], by: Literal["marker", "hatch"] = "marker") -> list[Artist]:
    """One entry per device (colour) and precision (marker or hatch) that was drawn, coarsest precision first."""
    good = [row for row in rows if row.status == "ok"]
    known = {row.precision for row in good}
    others = sorted({name for name in known if name} - set(HATCHES))
    found: list[Artist] = [
        Patch(facecolor=colour_of(device), label=device, linewidth=0) for device in sorted({r.device for r in good})
    ]
    for precision in (name for name in (*HATCHES, *others, None) if name in known):
        text, colour = precision or "precision unknown", QUIET
        drawn = Patch(facecolor="none", edgecolor=colour, hatch=hatch(precision), label=text)
        found.append(mark(marker(precision), colour, text) if by == "marker" else drawn)
    if any(row.trained_on_prompts for row in good):
        found.append(mark("", QUIET, TRAINED_MEANS))
    return found


def legend(figure: Figure, entries: Sequence[Artist]) -> None:
    """Put the legend along the bottom edge, in smaller letters where it is wider than the figure."""
    place: dict[str, Any] = {"loc": "lower left", "bbox_transform": figure.transFigure}
    place["bbox_to_anchor"] = (0.10 / WIDTH_IN, 0.04 / figure.get_figheight())
    look: dict[str, Any] = {"fontsize": 9, "frameon": False, "labelcolor": QUIET}
    look |= {"handletextpad": 0.4, "columnspacing": 1.4}
    drawn = figure.legend(handles=list(entries), ncols=max(1, len(entries)), **place, **look)
    if (share := 0.97 * figure.bbox.width / drawn.get_window_extent().width) < 1:
        drawn.remove()
        figure.legend(handles=list(entries), ncols=len(entries), **place, **look | {"fontsize": 9 * share})


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


def data_uri(figure: Figure, *, dpi: int = 120) -> str:
    """A figure's PNG file as an address that holds it."""
    return "data:image/png;base64," + base64.b64encode(png(figure, dpi=dpi)).decode("ascii")


ON_DARK = (
    'body[data-jp-theme-light="false"] .ws-figure, body.vscode-dark .ws-figure '
    "{ filter: invert(0.93) hue-rotate(180deg); }"
)
"""Paper and ink change places in a dark JupyterLab or VS Code, and a line keeps its hue: one stored picture does."""


class Picture(NamedTuple):
    """An image that a notebook shows with its alt text, and a terminal as that text alone."""

    alt: str
    src: str
    width: int

    def __repr__(self) -> str:
        return self.alt

    def _repr_html_(self) -> str:
        image = f'<img alt="{html.escape(self.alt)}" width="{self.width}" class="ws-figure" src="{self.src}">'
        return f"<style>{ON_DARK}</style>{image}"


def shown(figure: Figure | None) -> Picture | None:
    """`figure` as a picture with alt text, the last line of a notebook cell; nothing where nothing was drawn."""
    return Picture(alt_text(figure), data_uri(figure), round(figure.get_figwidth() * 96)) if figure else None
