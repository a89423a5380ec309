"""Records and rows to matplotlib figures: one function per question, each figure with its alt text.

Knows which numbers answer which question. Knows no files, and no statistics but the median.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from workshop_lib import summary
from workshop_lib.metrics import timing
from workshop_lib.records import Completion, Row, Run
from workshop_lib.showing import appearance, drawing
from workshop_lib.showing.appearance import PALETTES, Palette, Theme, number
from workshop_lib.untrusted import one_line

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Key = tuple[str, str]  # model id and device: what makes a row one of a kind
NAME_LETTERS = 44  # longer names would leave no room for the chart
Point = tuple[float, float]


def names(rows: Iterable[Row]) -> dict[Key, str]:
    """Name each row `alias · precision · device`; where that is not unique, by its model id."""
    rows = tuple(rows)
    short = {key(row): _short_name(row) for row in rows}
    taken = list(short.values())
    return {
        unique: text if taken.count(text) == 1 else one_line(" · ".join(unique), NAME_LETTERS)
        for unique, text in short.items()
    }


def key(item: Row | Completion) -> Key:
    """Return what a row and its completions have in common."""
    return item.model_id, item.device


def alt_text(figure: Figure) -> str:
    """Return the sentences that say what `figure` shows, for readers who cannot see it."""
    return str(figure.get_label())


def png(figure: Figure, *, dpi: int = 120) -> bytes:
    """Return `figure` as the bytes of a PNG file."""
    return drawing.png(figure, dpi)


@dataclass(frozen=True, slots=True, repr=False)
class Picture:
    """An image that a notebook shows with its alt text, and a terminal as that text alone."""

    alt: str
    png: bytes
    width: int

    def __repr__(self) -> str:
        return self.alt

    def _repr_html_(self) -> str:
        data, alt = base64.b64encode(self.png).decode("ascii"), html.escape(self.alt)
        return f'<img alt="{alt}" width="{self.width}" src="data:image/png;base64,{data}">'


def shown(figure: Figure) -> Picture:
    """Return `figure` as a picture with alt text: the last line of a notebook cell."""
    return Picture(alt_text(figure), png(figure), round(figure.get_figwidth() * 96))


def latency(run: Run, *, theme: Theme = "light") -> Figure:
    """Draw each request's latency (ms), one line per model; warm-ups hollow, failures named."""
    answers, warm = _answers(_timed(run)), _answers(_warm_ups(run))
    middle = {which: median(map(_latency_ms, some)) for which, some in answers.items()}
    rows = sorted(summary.summarise(run), key=lambda row: middle.get(key(row), float("inf")))
    label, colours = names(rows), PALETTES[theme]
    figure, (axes,) = drawing.sheet(
        [label[key(row)] for row in rows],
        "How long does each model take to answer?",
        "One mark per request, from sending it to its last word. On the right: the median.",
        theme,
    )
    for line, row in enumerate(rows):
        waited = [_latency_ms(each) for each in warm.get(key(row), [])]
        drawing.hollow(axes, line, waited, row.precision, colours)
        _latency_line(axes, line, row, answers.get(key(row), []), colours)
    everything = [_latency_ms(each) for part in (answers, warm) for e in part.values() for each in e]
    drawing.scale(axes, "x", everything, "Latency (ms), shorter is better")
    extra: list[Artist] = [appearance.mark("|", colours.ink, "median")]
    if any(map(summary.outliers, answers.values())):
        extra.append(appearance.mark("o", colours.ink, "outlier for its prompt", filled=False))
    if warm:
        extra.append(appearance.mark("o", colours.quiet, "warm-up, not counted", filled=False))
    drawing.legend(figure, [*legend_entries(rows, colours, appearance.shaped), *extra], colours)
    figure.set_label(f"Latency of every request. {_latency_in_words(rows, middle, label)}")
    return figure


def first_token_against_decode(run: Run, *, theme: Theme = "light") -> Figure:
    """Draw time to first token (ms) against decode speed (tok/s): requests small, medians large."""
    points = {key(row): _points(run, row) for row in summary.summarise(run)}
    answered = [row for row in summary.summarise(run) if row.status == "ok"]
    rows = [row for row in answered if points[key(row)]]
    label, colours = names(rows), PALETTES[theme]
    missing = len(answered) - len(rows)
    figure, axes = drawing.plane(
        list(label.values()),
        "Which model starts soonest, and which writes fastest?",
        "Better is up and to the left. Small marks are requests, large ones medians."
        + (f" Without a decode speed: {missing}." if missing else ""),
        theme,
    )
    everything = [point for row in rows for point in points[key(row)]]
    drawing.scale(axes, "x", [x for x, _ in everything], "Time to first token (ms)")
    drawing.scale(axes, "y", [y for _, y in everything], "Decode speed (tokens/s)")
    middles = {key(row): _centre(points[key(row)]) for row in rows}
    for row in rows:
        look = (row.device, row.precision)
        drawing.cloud(axes, points[key(row)], middles[key(row)], look, colours)
    drawing.name_points(axes, {label[k]: point for k, point in middles.items()}, colours)
    drawing.legend(figure, legend_entries(rows, colours, appearance.shaped), colours)
    said = [f"{label[k]} {number(x)} ms, {number(y)} tokens/s" for k, (x, y) in middles.items()]
    figure.set_label(f"First token against decode speed, medians: {_listed(said)}")
    return figure


def resources(rows: Sequence[Row], *, theme: Theme = "light") -> Figure:
    """Draw size on disk (MB), peak memory (MB) and decode speed (tok/s), one line per model."""
    rows = [row for row in rows if row.status != "skipped"]
    rows.sort(key=lambda row: (row.status != "ok", -(row.decode_tokens_per_sec or 0.0)))
    label, colours = names(rows), PALETTES[theme]
    figure, all_axes = drawing.sheet(
        [label[key(row)] for row in rows],
        "What does speed cost in disk and memory?",
        "One line per model. Memory is the peak of the serving process"
        + ("; a GPU's own memory is not in it." if _on(rows, "gpu") else "."),
        theme,
        columns=len(PANELS),
    )
    absent = ["not measured" if row.status == "ok" else row.status for row in rows]
    looks = [(row.device, row.precision) for row in rows]
    for axes, (title, measured) in zip(all_axes, PANELS.items(), strict=True):
        drawing.bars(axes, [measured(row) for row in rows], absent, looks, colours)
        axes.set_xlabel(title)
    drawing.legend(figure, legend_entries(rows, colours, appearance.hatched), colours)
    said = [f"{label[key(row)]} {_costs_in_words(row)}" for row in rows]
    figure.set_label(f"Size on disk, peak memory and decode speed: {_listed(said)}")
    return figure


FIGURES: dict[str, Callable[[Run, Theme], Figure]] = {
    "latency": lambda run, theme: latency(run, theme=theme),
    "first_token_against_decode": lambda run, theme: first_token_against_decode(run, theme=theme),
    "resources": lambda run, theme: resources(summary.summarise(run), theme=theme),
}

PANELS: dict[str, Callable[[Row], float | None]] = {
    "Size on disk (MB)\nless is better": lambda row: row.size_mb,
    "Peak memory (MB)\nless is better": lambda row: row.peak_resident_mb,
    "Decode speed (tokens/s)\nmore is better": lambda row: row.decode_tokens_per_sec,
}


def _on(rows: Iterable[Row], device: str) -> bool:
    return any(row.device == device for row in rows)


def _short_name(row: Row) -> str:
    parts = (row.alias, row.precision, row.device)
    return one_line(" · ".join(part for part in parts if part), NAME_LETTERS)


def _timed(run: Run) -> list[Completion]:
    return [completion for completion in run.completions if completion.round > 0]


def _warm_ups(run: Run) -> list[Completion]:
    return [completion for completion in run.completions if completion.round == 0]


def _answers(completions: Iterable[Completion]) -> dict[Key, list[Completion]]:
    """Group the requests that have a latency by model and device."""
    found: dict[Key, list[Completion]] = {}
    for completion in completions:
        if timing.latency_s(completion) is not None:
            found.setdefault(key(completion), []).append(completion)
    return found


def _latency_ms(completion: Completion) -> float:
    return 1000 * (timing.latency_s(completion) or 0.0)


def _points(run: Run, row: Row) -> list[Point]:
    """Return (first token in ms, decode rate) of timed requests; none where it was withheld."""
    found = []
    for completion in _timed(run) if row.decode_tokens_per_sec else []:
        first, rate = timing.first_token_s(completion), timing.decode_tokens_per_s(completion)
        if key(completion) == key(row) and first and rate:
            found.append((first * 1000, rate))
    return found


def _centre(points: Sequence[Point]) -> Point:
    return median(x for x, _ in points), median(y for _, y in points)


def _latency_line(axes: Axes, line: int, row: Row, answered: Sequence[Completion], colours: Palette) -> None:
    if not answered:
        drawing.inside(axes, line, f"{row.status}: {row.error or 'no answer'}", colours)
        return
    values = [_latency_ms(completion) for completion in answered]
    far = {completion.request_id for completion in summary.outliers(answered)}
    ringed = [completion.request_id in far for completion in answered]
    look = (row.device, row.precision)
    drawing.strip(axes, line, values, ringed=ringed, look=look, colours=colours)
    drawing.median_bar(axes, line, median(values), colours)
    drawing.beside(axes, line, f"{number(median(values))} ms", colours)


def legend_entries(rows: Sequence[Row], colours: Palette, shape: Callable[[str | None, str], Artist]) -> list[Artist]:
    """Return the legend: one entry per device (colour) and precision (marker or hatch) drawn."""
    rows = [row for row in rows if row.status == "ok"]
    devices = sorted({row.device for row in rows})
    known = {row.precision for row in rows}
    others = sorted({name for name in known if name} - set(appearance.PRECISIONS))
    precisions = [name for name in (*appearance.PRECISIONS, *others, None) if name in known]
    return [appearance.swatch(colours.device(device), device) for device in devices] + [
        shape(precision, colours.quiet) for precision in precisions
    ]


def _latency_in_words(rows: Sequence[Row], middle: Mapping[Key, float], label: Mapping[Key, str]) -> str:
    good = [row for row in rows if key(row) in middle]
    said = [f"{label[key(row)]} {number(middle[key(row)])} ms" for row in good]
    bad = [f"{label[key(row)]} ({row.status})" for row in rows if row not in good]
    text = f"Medians from fastest to slowest: {_listed(said)}"
    return f"{text} Without an answer: {_listed(bad)}" if bad else text


def _costs_in_words(row: Row) -> str:
    parts = ((row.size_mb, "MB on disk"), (row.peak_resident_mb, "MB of memory"),
             (row.decode_tokens_per_sec, "tokens/s"))  # fmt: skip
    known = [f"{number(value)} {unit}" for value, unit in parts if value is not None]
    return ", ".join(known) or "not measured"


def _listed(parts: Iterable[str]) -> str:
    return ("; ".join(parts) or "nothing was measured") + "."
