"""Records and rows as figures: one function per question, each figure with its alt text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, cycle
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.colors import to_rgba

from workshop_lib import comparison, summary, timing
from workshop_lib import race as races
from workshop_lib.load import saturation
from workshop_lib.precision import percent
from workshop_lib.records import Row, Run, key
from workshop_lib.show import style
from workshop_lib.show.style import SUBTITLE_LETTERS, shown  # noqa: F401 - `shown` is for pages, beside the figures
from workshop_lib.show.text import NAME_LETTERS, NOT_MEASURED, asked, names, number, one_line, seconds
from workshop_lib.timing import METRICS, Metric

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from workshop_lib.comparison import Estimate, Ratio, Results
    from workshop_lib.lengths import PromptLengths
    from workshop_lib.load import Load
    from workshop_lib.precision import Precisions
    from workshop_lib.race import RaceResult

BY_NAME = {metric.name: metric for metric in METRICS}
LATENCY, FIRST_TOKEN, DECODE = BY_NAME["latency_s"], BY_NAME["first_token_s"], BY_NAME["decode_tokens_per_s"]
LANE_LOOKS = (("-", "o"), ("--", "s"), (":", "^"), ("-.", "D"))
"""Line and marker of each lane of a race: told apart without colour, also where they share device and precision."""
ACROSS: dict[str, Any] = {"color": style.QUIET, "linewidth": 1, "linestyle": (0, (4, 3)), "zorder": 1}
"""The line of what others are compared with."""
COSTS = {
    "Size on disk (MB)\nless is better": "size_mb",
    "Peak memory (MB)\nless is better": "peak_resident_mb",
    "Decode rate (tok/s)\nmore is better": "decode_tokens_per_sec",
}
Panel = tuple[Sequence[style.Span | float | None], Sequence[str]]
"""Values and words of a panel of bars, one per line."""


class Line(NamedTuple):
    """A line of a strip chart: metric → the value of each request, or why there is none.

    `ringed` are outliers, `warm_ups` do not count, `hollow` is what another machine measured.
    """

    label: str
    look: style.Look
    values: Mapping[str, Sequence[float]]
    why: str = NOT_MEASURED
    ringed: Sequence[bool] = ()
    warm_ups: Sequence[float] = ()
    hollow: bool = False

    def median(self, metric: Metric) -> float | None:
        """The median of a metric's values; None where there are none."""
        values = self.values.get(metric.name)
        return median(values) if values else None


# -- a line per model


def latency(run: Run) -> Figure:
    """Draw each request's latency (ms), one line per model; warm-ups hollow, failures named."""
    return requests(run, LATENCY)


def requests(run: Run, metric: Metric) -> Figure:
    """Draw one metric of every request, one line per model, the best on top; warm-ups hollow, failures named.

    What was skipped has no line, as long as there is another one: the highlights name it with its reason.
    """
    rows, lines = asked(summary.summarise(run)), []
    for row, label in zip(rows, names(rows).values(), strict=True):
        every = [(each, metric.shown(metric.measure(each))) for each in run.completions if key(each) == key(row)]
        timed = [(each, value) for each, value in every if each.round and value is not None]
        far = {each.request_id for each, _ in summary.outliers([each for each, _ in timed])}
        warm_ups = [value for each, value in every if not each.round and value is not None]
        why = NOT_MEASURED if row.status == "ok" else f"{row.status}: {row.error or 'no answer'}"
        values = {metric.name: [value for _, value in timed]}
        rings = [metric is LATENCY and each.request_id in far for each, _ in timed]
        lines.append(Line(label, (row.device, row.precision), values, why, rings, warm_ups))
    sign = 1 if metric.better == "lower" else -1
    lines.sort(key=lambda line: math.inf if (middle := line.median(metric)) is None else sign * middle)
    title = "How long does each model take to answer?"
    if metric is not LATENCY:
        title = f"{metric.label}: how do the models differ?"
    subtitle = "One mark per request. The bar, and the number on the right: the median."
    said = f"{metric.label} of every request. Medians, best first:"
    return _strips(lines, [metric], rows, title, subtitle, said)


def devices(run: Run, references: Sequence[Results] = ()) -> Figure | None:
    """Draw every request of each model's CPU and GPU builds, those of another machine hollow; None without any GPU."""
    builds, metrics, lines = comparison.side_by_side(run, references), (FIRST_TOKEN, DECODE), []
    if not builds:
        return None
    rows = [build.row for build in builds]
    called = names(rows)
    for build, row in zip(builds, rows, strict=True):
        label = called[key(build.row)] + (", reference" if build.is_reference else "")
        values = {each.name: _shown(each, (one.metrics.get(each.name) for one in build.samples)) for each in metrics}
        lines.append(Line(label, (row.device, row.precision), values, hollow=build.is_reference))
    notes = comparison.device_notes(run, references)
    subtitle = ("One mark per request; the bar is the median.", *notes)[-1]
    said = "CPU beside GPU, medians:"
    return _strips(lines, metrics, rows, "What does a GPU change?", one_line(subtitle, SUBTITLE_LETTERS), said, *notes)


def resources(rows: Iterable[Row]) -> Figure:
    """Draw size on disk (MB), peak memory (MB) and decode rate (tok/s), one line per model."""
    rows = [row for row in rows if row.status != "skipped"]
    rows.sort(key=lambda row: (row.status != "ok", -(row.decode_tokens_per_sec or 0.0)))
    whys = [NOT_MEASURED if row.status == "ok" else row.status for row in rows]
    panels, said = dict[str, Panel](), list(names(rows).values())
    for title, field in COSTS.items():
        values = [row.value(field) for row in rows]
        words = [why if value is None else number(value) for value, why in zip(values, whys, strict=True)]
        panels[title] = values, words
        said = [f"{line}, {title.partition(' (')[0].lower()} {word}" for line, word in zip(said, words, strict=True)]
    memory = "; a GPU's own memory is not in it" if any(row.device == "gpu" for row in rows) else ""
    subtitle = f"One line per model. Memory is the peak of the serving process{memory}."
    figure, _ = _bars(rows, "What does speed cost in disk and memory?", subtitle, panels)
    return _done(figure, style.legend_entries(rows, "hatch"), "Cost in MB and decode rate in tok/s:", _listed(said))


def precisions(found: Precisions) -> Figure | None:
    """Draw what each precision of a model costs and keeps: MB on disk, latency and words as ratios to the reference."""
    if not found.builds:
        return None
    rows, reference = [build.row for build in found.builds], found.builds[0].precision
    sizes = [NOT_MEASURED if row.size_mb is None else number(row.size_mb) for row in rows]
    latencies, kept = ([build.latency for build in found.builds], [build.words for build in found.builds])
    panels = {
        "Size on disk (MB)\nless is better": ([row.size_mb for row in rows], sizes),
        f"Latency (x of {reference}'s)\nless is better": _ratios(latencies, 1, "{:.2f}x"),
        f"Words of {reference} kept (%)\nmore is better": _ratios(kept, 100, "{:.0f} %"),
    }
    subtitle = f"Against {reference}. Lines: 95 % intervals. Words kept: from the start until the first other one."
    figure, (_, times, shares) = _bars(rows, "What do fewer bits cost, in space, time and answers?", subtitle, panels)
    times.axvline(1, **ACROSS)
    shares.axvline(100, **ACROSS)
    said = [f"{sizes[0]} MB, the reference"]
    for build, size in zip(found.builds[1:], sizes[1:], strict=True):
        said.append(f"{size} MB, {build.verdict}, {percent(build.words)}")
    listed = _listed(f"{name} {each}" for name, each in zip(names(rows).values(), said, strict=True))
    words = f"Size, latency against {reference} and words of its answers kept:"
    return _done(figure, style.legend_entries(rows, "hatch"), words, listed)


# -- a plane


def drift(run: Run) -> Figure:
    """Draw when each request started (s) against its latency over its prompt's median; a line per drift."""
    rows = [row for row in summary.summarise(run) if row.status == "ok"]
    timed = [each for each in run.completions if each.ok and each.round]
    found = {key(row): summary.drift([each for each in timed if key(each) == key(row)]) for row in rows}
    called, points = names(rows), [point for each in found.values() for point in each.points]
    slowed = [(called[key(row)], found[key(row)]) for row in rows if "drift" in row.warnings]
    drifted = {one_line(f"{each.times:.2f}x {name}", NAME_LETTERS): each for name, each in slowed}
    subtitle = "Too few requests to tell: 20 per model are needed."
    if drifted:
        subtitle = f"{len(drifted)} of {len(rows)} models were slower, or faster, at the end of the run."
    elif any(each.low for each in found.values()):
        subtitle = "No model drifted beyond noise."
    figure, axes = style.plane(list(drifted), "Did the machine keep its speed?", subtitle)
    first, last = (pick((start for start, _ in points), default=0.0) for pick in (min, max))
    length, top = max(1e-3, last - first), max((height for _, height in points), default=1.0)
    axes.set(xlim=(-0.02 * length, 1.02 * length), ylim=(0, 1.06 * top))
    axes.set(xlabel="Since the first timed request (s)", ylabel="Latency (x of the prompt's median)")
    axes.axhline(1, **ACROSS)
    for row in rows:
        starts, heights = zip(*found[key(row)].points, strict=True)
        look: dict[str, Any] = {"marker": style.marker(row.precision), "color": style.colour_of(row.device)}
        axes.scatter(np.array(starts) - first, heights, s=24, alpha=0.65, linewidths=0, zorder=2, **look)
    share = np.linspace(0, 1, 21)
    for each in drifted.values():
        axes.plot(length * share, each.times ** (share - 0.5), color=style.INK, linewidth=1.8)
    style.name_points(axes, {name: (length, each.times**0.5) for name, each in drifted.items()})
    said = [f"{name}: {each.sentence}." for name, each in drifted.items()]
    words = ("Latency of every request over the time of the run.", subtitle, *said)
    return _done(figure, style.legend_entries(rows), *words)


def first_token_against_decode(run: Run) -> Figure:
    """Draw time to first token (ms) against the decode rate (tok/s): requests small, medians large."""
    answered = [row for row in summary.summarise(run) if row.status == "ok"]
    points: dict[tuple[str, str], list[style.Point]] = {key(row): [] for row in answered if row.decode_tokens_per_sec}
    for each in run.completions:
        first, rate = FIRST_TOKEN.shown(FIRST_TOKEN.measure(each)), DECODE.measure(each)
        if each.round and key(each) in points and first and rate:
            points[key(each)].append((first, rate))
    rows = [row for row in answered if points.get(key(row))]
    missing = f" Without a decode rate: {len(answered) - len(rows)}." if len(rows) < len(answered) else ""
    figure, axes = style.plane(
        list(names(rows).values()),
        "Which model starts soonest, and which writes fastest?",
        f"Better is up and to the left. Small marks are requests, large ones medians.{missing}",
    )
    every, middles = list(chain(*points.values())), dict[str, style.Point]()
    style.scale(axes, "x", [x for x, _ in every], f"{FIRST_TOKEN.label} ({FIRST_TOKEN.shown_unit})")
    style.scale(axes, "y", [y for _, y in every], f"{DECODE.label} ({DECODE.shown_unit})")
    for row, name in zip(rows, names(rows).values(), strict=True):
        across, up = zip(*points[key(row)], strict=True)
        middles[name] = median(across), median(up)
        look: dict[str, Any] = {"marker": style.marker(row.precision), "facecolors": style.colour_of(row.device)}
        axes.scatter(across, up, s=13, alpha=0.28, linewidths=0, zorder=2, **look)
        axes.scatter(*middles[name], s=95, edgecolors=style.PAPER, linewidths=1.4, zorder=4, **look)
    style.name_points(axes, middles)
    said = [f"{name} {number(x)} ms, {number(y)} tok/s" for name, (x, y) in middles.items()]
    return _done(figure, style.legend_entries(rows), "First token against decode rate, medians:", _listed(said))


def loads(found: Sequence[Load]) -> Figure:
    """Draw tokens per second against simultaneous users: of all together, and as one of them sees it."""
    rates = {
        "all users together": [(load.users, load.total_tokens_per_s) for load in found if load.total_tokens_per_s],
        "each user": [(load.users, load.tokens_per_s) for load in found if load.tokens_per_s],
    }
    looks = {"all users together": (style.INK, "o-"), "each user": (style.QUIET, "s--")}
    drawn = {name: points for name, points in rates.items() if points}
    users = saturation(found)
    subtitle = "Together they get more as long as the line rises; each one gets less."
    if users is not None:
        subtitle = f"From {users} on, more users only wait: they add under 10 % to what all get together."
    figure, axes = style.plane(list(rates), "What if several people ask at once?", subtitle)
    axes.set(xlim=(0, 1.06 * max((load.users for load in found), default=1)), xticks=[load.users for load in found])
    axes.set_xlabel("Users asking at the same time (number)")
    style.scale(axes, "y", [rate for points in drawn.values() for _, rate in points], "Speed (tok/s)")
    for name, points in drawn.items():
        colour, form = looks[name]
        axes.plot(*zip(*points, strict=True), form, color=colour, linewidth=1.8, markersize=5, zorder=3)
    style.name_points(axes, {name: points[-1] for name, points in drawn.items()})
    said = [f"{name} {', '.join(f'{number(y)} with {x}' for x, y in points)}" for name, points in drawn.items()]
    return _done(figure, [], "Tokens per second by number of users:", _listed(said))


def prompt_lengths(found: PromptLengths) -> Figure:
    """Draw the wait for the first token (s) against the prompt tokens, with the fitted line and minutes of meeting."""
    fit, model, colour = found.fit, found.variant.model_id, style.colour_of(found.variant.device)
    across, up = zip((0.0, 0.0), *(point for group in found.waits for point in group), strict=True)
    subtitle = "No line: fewer than three lengths, or the first token does not clearly depend on them."
    if fit:
        low, high = fit.prefill_range
        subtitle = f"Prefill {fit.prefill_tokens_per_s:,.0f} tok/s (95 % interval {low:,.0f} to {high:,.0f}), {model}"
    figure, axes = style.plane([], "How long may a meeting be?", one_line(subtitle, SUBTITLE_LETTERS))
    longest = max(across) or 1.0
    style.scale(axes, "y", [max(up)], "First token (s)")
    axes.set(xlim=(0, 1.06 * longest), xlabel="Prompt tokens, as the server counts them")
    axes.scatter(across[1:], up[1:], s=26, color=colour, zorder=3)
    if fit:
        ends = (0.0, 1.06 * longest)
        axes.plot(ends, [fit.first_token_s(x) for x in ends], color=style.INK, linestyle="--", linewidth=1.4, zorder=2)
        for minutes in (1, 2, 5, 10, 20, 40):
            if (tokens := found.tokens(minutes)) <= longest:
                axes.axvline(tokens, color=style.QUIET, linewidth=0.8, linestyle=":", zorder=1)
                place = axes.get_xaxis_transform()
                axes.text(tokens, 0.97, f" {minutes} min", color=style.QUIET, fontsize=9, va="top", transform=place)
    marks: list[Artist] = [style.mark("o", colour, "one request"), style.mark("_", style.INK, "fitted line")]
    marks.append(style.mark("|", style.QUIET, "minutes of meeting, at 150 words a minute"))
    points = [f"{seconds(point.first_token_s)} for {point.prompt_tokens:,.0f} tokens" for point in found.points]
    return _done(figure, marks, f"Wait for the first token of {model} by prompt length:", _listed(points))


def race(result: RaceResult) -> Figure:
    """Draw the pieces of text that had arrived against time (ms), a line per lane, its first token ringed."""
    drawn, seen, said = dict[str, tuple[list[style.Point], dict[str, Any]]](), set[str](), []
    subtitle = "Further left starts sooner (ring: first token), steeper writes faster, and a line ends with its answer."
    for lane, variant, (line, shape) in zip(result.lanes, result.variants, cycle(LANE_LOOKS)):
        first, pace, written, whole = races.figures(lane).values()
        said.append(f"{lane.name}: first token {first}, pace {pace}, written {written}, whole answer {whole}.")
        colour = style.INK if variant.device in seen else style.colour_of(variant.device)
        seen.add(variant.device)
        if lane.error:
            subtitle = f"{lane.name} did not finish: {lane.error}"
        if lane.arrived_s:
            label = one_line(f"{lane.name}: {'did not finish' if lane.error else pace}", 62)
            points = [(1000 * at_s, float(count)) for count, at_s in enumerate(lane.arrived_s, 1)]
            drawn[label] = points, {"color": colour, "linestyle": line, "marker": shape}
    title = "Who writes first, and who writes faster?"
    figure, axes = style.plane(list(drawn), title, one_line(subtitle, SUBTITLE_LETTERS))
    ends = {label: points[-1] for label, (points, _) in drawn.items()}
    style.scale(axes, "x", [max((x for x, _ in ends.values()), default=0.0)], "Time after each one's request (ms)")
    most = max((y for _, y in ends.values()), default=0.0)
    style.scale(axes, "y", [most], "Pieces of text that had arrived (number)")
    for points, look in drawn.values():
        every = math.ceil(len(points) / 60)
        axes.plot(*zip(*points, strict=True), linewidth=1.8, markersize=5, markevery=every, zorder=3, **look)
        ring: dict[str, Any] = {"facecolors": "none", "edgecolors": look["color"], "linewidths": 1.6}
        axes.scatter(*points[0], s=130, zorder=4, clip_on=False, **ring)
    style.name_points(axes, ends)
    return _done(figure, [], "A race over time.", *said, *races.sentences(result))


def report_figures(run: Run, references: Sequence[Results] = ()) -> dict[str, Figure]:
    """The figures of a report by their file's name: the named ones, and one of every other metric that has a figure."""
    rows = summary.summarise(run)
    drawn = {
        "latency": latency(run),
        "first_token_against_decode": first_token_against_decode(run),
        "resources": resources(rows),
        "devices": devices(run, references),
        "drift": drift(run) if any("drift" in row.warnings for row in rows) else None,
    }
    others = (metric for metric in timing.metrics_of("figure") if metric.name != LATENCY.name)
    drawn |= {metric.name: requests(run, metric) for metric in others}
    return {name: figure for name, figure in drawn.items() if figure}


# -- what several figures share


def _strips(
    lines: Sequence[Line], metrics: Sequence[Metric], rows: Sequence[Row], title: str, subtitle: str, *alt: str
) -> Figure:
    """Draw a line per entry and a panel per metric: a mark per request and the median, or why there is none."""
    figure, panels = style.sheet([line.label for line in lines], title, subtitle, columns=len(metrics))
    for axes, metric in zip(panels, metrics, strict=True):
        for place, line in enumerate(lines):
            values = line.values.get(metric.name, ())
            _dots(axes, place, line.warm_ups, line, style.QUIET, hollow=True)
            if not values:
                style.inside(axes, place, line.why)
                continue
            _dots(axes, place, values, line, style.colour_of(line.look[0]), hollow=line.hollow)
            style.median_bar(axes, place, median(values))
            if len(metrics) == 1:
                style.beside(axes, place, f"{number(median(values))} {metric.shown_unit}")
        every = [value for line in lines for value in (*line.values.get(metric.name, ()), *line.warm_ups)]
        style.scale(axes, "x", every, f"{metric.label} ({metric.shown_unit})")
        axes.set_xlabel(f"{axes.get_xlabel()}\n{'less' if metric.better == 'lower' else 'more'} is better")
        axes.xaxis.set_label_coords(0.5, -0.26 / (max(len(lines), 1) * style.LINE_IN))  # inches below the axes
        if len(metrics) > 1:  # a panel is half as wide
            few = {"nbins": 4} if axes.get_xscale() == "linear" else {"subs": (1.0, 3.0)}
            axes.xaxis.get_major_locator().set_params(**few)
    marks = {
        "outlier for its prompt": (style.INK, any(any(line.ringed) for line in lines)),
        "warm-up, not counted": (style.QUIET, any(line.warm_ups for line in lines)),
        comparison.ELSEWHERE: (style.INK, any(line.hollow for line in lines)),
    }
    round_ones = [style.mark("o", colour, text, filled=False) for text, (colour, is_drawn) in marks.items() if is_drawn]
    entries = [*style.legend_entries(rows), style.mark("|", style.INK, "median"), *round_ones]
    return _done(figure, entries, alt[0], _medians(lines, metrics), *alt[1:])


def _dots(axes: Axes, place: int, values: Sequence[float], line: Line, colour: str, *, hollow: bool) -> None:
    """Draw every value on its line, spread a little so that equal ones stay visible; outliers ringed in ink."""
    across = [place + 0.46 * ((0.618 * step) % 1.0 - 0.5) for step in range(1, len(values) + 1)]
    rings = line.ringed or [False] * len(values)
    look: dict[str, Any] = {"s": 26, "facecolors": "none", "edgecolors": colour, "linewidths": 1.1}
    if not hollow:
        edges = [style.INK if ring else style.PAPER for ring in rings]
        look = {"s": 22, "facecolors": to_rgba(colour, 0.6), "edgecolors": edges}
        look["linewidths"] = [1.0 if ring else 0.4 for ring in rings]
    axes.scatter(values, across, marker=style.marker(line.look[1]), zorder=3, **look)


def _bars(rows: Sequence[Row], title: str, subtitle: str, panels: Mapping[str, Panel]) -> tuple[Figure, list[Axes]]:
    """Draw a line per row and a panel of bars per heading."""
    figure, all_axes = style.sheet(list(names(rows).values()), title, subtitle, columns=len(panels))
    for axes, (heading, (values, words)) in zip(all_axes, panels.items(), strict=True):
        style.bars(axes, values, words, [(row.device, row.precision) for row in rows])
        axes.set_xlabel(heading)
    return figure, all_axes


def _ratios(found: Iterable[Ratio | Estimate], whole: float, form: str) -> Panel:
    spans = [style.span(each, whole) for each in found]
    return spans, [form.format(span[0]) if span else NOT_MEASURED for span in spans]


def _done(figure: Figure, entries: Sequence[Artist], *alt: str) -> Figure:
    """The figure with its legend, if it needs one, and its alt text."""
    if entries:
        style.legend(figure, entries)
    figure.set_label(" ".join(alt))
    return figure


def _medians(lines: Sequence[Line], metrics: Sequence[Metric]) -> str:
    said = []
    for line in lines:
        known = [f"{number(v)} {each.shown_unit}" for each in metrics if (v := line.median(each)) is not None]
        said.append(f"{line.label} {', '.join(known) or line.why}")
    return _listed(said)


def _shown(metric: Metric, values: Iterable[float | None]) -> list[float]:
    return [each for each in map(metric.shown, values) if each is not None]


def _listed(parts: Iterable[str]) -> str:
    return ("; ".join(parts) or "nothing was measured") + "."
