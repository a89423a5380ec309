"""Records and rows as figures: one function per question, each figure with its alt text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from workshop_lib import comparison, summary, timing
from workshop_lib import race as races
from workshop_lib.load import saturation
from workshop_lib.precision import percent
from workshop_lib.records import Row, Run
from workshop_lib.show import style
from workshop_lib.show.style import SUBTITLE_LETTERS, shown  # noqa: F401 - `shown` is for pages, beside the figures
from workshop_lib.show.text import NAME_LETTERS, NOT_MEASURED, key, names, number, one_line, seconds
from workshop_lib.timing import METRICS, Metric

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

    from workshop_lib.comparison import Build, Results
    from workshop_lib.lengths import PromptLengths
    from workshop_lib.load import Load
    from workshop_lib.precision import Precisions
    from workshop_lib.race import LaneState, RaceResult

BY_NAME = {metric.name: metric for metric in METRICS}
LATENCY, FIRST_TOKEN, DECODE = BY_NAME["latency_s"], BY_NAME["first_token_s"], BY_NAME["decode_tokens_per_s"]
LANE_LOOKS = (("-", "o"), ("--", "s"), (":", "^"), ("-.", "D"))
"""Line and marker of each lane of a race: told apart without colour, also where they share device and precision."""
TITLES = {"latency_s": "How long does each model take to answer?"}
COSTS: dict[str, Callable[[Row], float | None]] = {
    "Size on disk (MB)\nless is better": lambda row: row.size_mb,
    "Peak memory (MB)\nless is better": lambda row: row.peak_resident_mb,
    "Decode rate (tok/s)\nmore is better": lambda row: row.decode_tokens_per_sec,
}


class Line(NamedTuple):
    """A line of a strip chart: metric → the value of each request, or why there is none.

    `ringed` are outliers, `warm_ups` do not count, `where` is the other machine that measured the line.
    """

    look: style.Look
    values: Mapping[str, Sequence[float]]
    why: str = NOT_MEASURED
    ringed: Sequence[bool] = ()
    warm_ups: Sequence[float] = ()
    where: str = ""

    def median(self, metric: Metric) -> float | None:
        """The median of a metric's values; None where there are none."""
        values = self.values.get(metric.name)
        return median(values) if values else None


def latency(run: Run) -> Figure:
    """Draw each request's latency (ms), one line per model; warm-ups hollow, failures named."""
    return requests(run, LATENCY)


def requests(run: Run, metric: Metric) -> Figure:
    """Draw one metric of every request, one line per model, the best on top; warm-ups hollow, failures named.

    What was skipped has no line, as long as there is another one: the highlights name it with its reason.
    """
    every = summary.summarise(run)
    rows = [row for row in every if row.status != "skipped"] or every
    lines: dict[str, Line] = {}
    for which, label in names(rows).items():
        row = next(row for row in rows if key(row) == which)
        asked = [(each, metric.shown(metric.measure(each))) for each in run.completions if key(each) == which]
        timed = [(each, value) for each, value in asked if each.round and value is not None]
        far = {each.request_id for each, _ in summary.outliers([each for each, _ in timed])}
        rings = [metric is LATENCY and each.request_id in far for each, _ in timed]
        warm_ups = [value for each, value in asked if not each.round and value is not None]
        why = NOT_MEASURED if row.status == "ok" else f"{row.status}: {row.error or 'no answer'}"
        values = {metric.name: [value for _, value in timed]}
        lines[label] = Line((row.device, row.precision), values, why, rings, warm_ups)
    medians = {label: line.median(metric) for label, line in lines.items()}
    best_first = sorted((value, label) for label, value in medians.items() if value is not None)
    best_first = best_first if metric.better == "lower" else best_first[::-1]
    lines = {label: lines[label] for label in dict.fromkeys([*(label for _, label in best_first), *lines])}
    title = TITLES.get(metric.name, f"{metric.label}: how do the models differ?")
    figure = _strips(lines, [metric], title, "One mark per request. The bar, and the number on the right: the median.")
    extra: list[Artist] = [style.mark("|", style.INK, "median")]
    if any(any(line.ringed) for line in lines.values()):
        extra.append(style.mark("o", style.INK, "outlier for its prompt", filled=False))
    if any(line.warm_ups for line in lines.values()):
        extra.append(style.mark("o", style.QUIET, "warm-up, not counted", filled=False))
    style.legend(figure, [*style.legend_entries(rows), *extra])
    figure.set_label(f"{metric.label} of every request. Medians, best first: {_medians(lines, [metric])}")
    return figure


def drift(run: Run) -> Figure:
    """Draw when each request started (s) against its latency over its prompt's median; a line per drift."""
    rows = [row for row in summary.summarise(run) if row.status == "ok"]
    timed = [each for each in run.completions if each.ok and each.round]
    found = {key(row): summary.drift([each for each in timed if key(each) == key(row)]) for row in rows}
    label = {which: one_line(f"{found[which].times:.2f}x {name}", NAME_LETTERS) for which, name in names(rows).items()}
    drifted = {label[key(row)]: found[key(row)] for row in rows if "drift" in row.warnings}
    known = any(each.low for each in found.values())
    subtitle = "No model drifted beyond noise." if known else "Too few requests to tell: 20 per model are needed."
    if drifted:
        subtitle = f"{len(drifted)} of {len(rows)} models were slower, or faster, at the end of the run."
    figure, axes = style.plane(list(drifted), "Did the machine keep its speed?", subtitle)
    starts, heights = zip((0.0, 1.0), *(point for each in found.values() for point in each.points), strict=True)
    first = min(starts[1:], default=0.0)
    length = max(1e-3, max(starts) - first)
    axes.set(xlim=(-0.02 * length, 1.02 * length), ylim=(0, 1.06 * max(heights)))
    axes.set(xlabel="Since the first timed request (s)", ylabel="Latency (x of the prompt's median)")
    axes.axhline(1, color=style.QUIET, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    for row in rows:
        across, up = zip(*((start - first, height) for start, height in found[key(row)].points), strict=True)
        shape, colour = style.marker(row.precision), style.colour_of(row.device)
        axes.scatter(across, up, s=24, alpha=0.65, linewidths=0, marker=shape, color=colour, zorder=2)
    ends = {name: (length, each.times**0.5) for name, each in drifted.items()}
    for each in drifted.values():
        curve = [(length * step / 20, each.times ** (step / 20 - 0.5)) for step in range(21)]
        style.track(axes, curve, {"color": style.INK})
    style.name_points(axes, ends)
    style.legend(figure, style.legend_entries(rows))
    said = [f"{name}: {each.sentence}." for name, each in drifted.items()]
    figure.set_label(" ".join(["Latency of every request over the time of the run.", subtitle, *said]))
    return figure


def first_token_against_decode(run: Run) -> Figure:
    """Draw time to first token (ms) against the decode rate (tok/s): requests small, medians large."""
    answered = [row for row in summary.summarise(run) if row.status == "ok"]
    points = {key(row): _points(run, row) for row in answered if _points(run, row)}
    middles = {which: (median(x for x, _ in some), median(y for _, y in some)) for which, some in points.items()}
    rows = [row for row in answered if key(row) in points]
    label, missing = names(rows), len(answered) - len(rows)
    figure, axes = style.plane(
        list(label.values()),
        "Which model starts soonest, and which writes fastest?",
        "Better is up and to the left. Small marks are requests, large ones medians."
        + (f" Without a decode rate: {missing}." if missing else ""),
    )
    everything = [point for some in points.values() for point in some]
    style.scale(axes, "x", [x for x, _ in everything], f"{FIRST_TOKEN.label} ({FIRST_TOKEN.shown_unit})")
    style.scale(axes, "y", [y for _, y in everything], f"{DECODE.label} ({DECODE.shown_unit})")
    for row in rows:
        style.cloud(axes, points[key(row)], middles[key(row)], (row.device, row.precision))
    style.name_points(axes, {label[which]: point for which, point in middles.items()})
    style.legend(figure, style.legend_entries(rows))
    said = [f"{label[which]} {number(x)} ms, {number(y)} tok/s" for which, (x, y) in middles.items()]
    figure.set_label(f"First token against decode rate, medians: {_listed(said)}")
    return figure


def resources(rows: Iterable[Row]) -> Figure:
    """Draw size on disk (MB), peak memory (MB) and decode rate (tok/s), one line per model."""
    rows = [row for row in rows if row.status != "skipped"]
    rows.sort(key=lambda row: (row.status != "ok", -(row.decode_tokens_per_sec or 0.0)))
    label = names(rows)
    on_gpu = any(row.device == "gpu" for row in rows)
    figure, panels = style.sheet(
        [label[key(row)] for row in rows],
        "What does speed cost in disk and memory?",
        "One line per model. Memory is the peak of the serving process"
        + ("; a GPU's own memory is not in it." if on_gpu else "."),
        columns=len(COSTS),
    )
    said = [[label[key(row)]] for row in rows]
    for axes, (title, measured) in zip(panels, COSTS.items(), strict=True):
        values = [measured(row) for row in rows]
        absent = [NOT_MEASURED if row.status == "ok" else row.status for row in rows]
        words = [why if value is None else number(value) for value, why in zip(values, absent, strict=True)]
        style.bars(axes, values, words, [(row.device, row.precision) for row in rows])
        axes.set_xlabel(title)
        for parts, word in zip(said, words, strict=True):
            parts.append(f"{title.partition(' (')[0].lower()} {word}")
    style.legend(figure, style.legend_entries(rows, "hatch"))
    figure.set_label(f"Cost in MB and decode rate in tok/s: {_listed(map(', '.join, said))}")
    return figure


def devices(run: Run, references: Sequence[Results] = ()) -> Figure | None:
    """Draw every request of each model's CPU and GPU builds; another machine's are hollow, an absent GPU has a line.

    None where there is no GPU to compare with.
    """
    builds, metrics = comparison.side_by_side(run, references), (FIRST_TOKEN, DECODE)
    if not builds:
        return None
    rows, absent = [build.row for build in builds], comparison.absent_gpus(run)
    lines: dict[str, Line] = {}
    for alias in dict.fromkeys([row.alias for row in rows] + list(absent)):
        for build, row in zip(builds, rows, strict=True):
            if row.alias == alias:
                kind = ", reference" * build.is_reference
                short = one_line(summary.name_of(build.row) + kind, NAME_LETTERS)
                label = one_line(f"{row.model_id}, {build.where}", NAME_LETTERS) if short in lines else short
                where = build.where if build.is_reference else ""
                values = {metric.name: _values(build, metric) for metric in metrics}
                lines[label] = Line((row.device, row.precision), values, where=where)
        if alias in absent and ("gpu", alias) not in {(build.row.device, build.row.alias) for build in builds}:
            lines[one_line(f"{alias} · gpu", NAME_LETTERS)] = Line(("gpu", None), {}, "not measured on this machine")
    elsewhere, reasons = (
        {line.where: None for line in lines.values() if line.where},
        list(dict.fromkeys(absent.values())),
    )
    subtitle = "One mark per request; the bar is the median."
    if elsewhere:
        subtitle = f"One mark per request. Hollow: reference of another machine ({'; '.join(elsewhere)})."
    elif reasons:
        subtitle += f" {reasons[0].partition('. ')[0].rstrip('.')}."
    figure = _strips(lines, metrics, "What does a GPU change?", one_line(subtitle, SUBTITLE_LETTERS))
    entries = [*style.legend_entries(rows), style.mark("|", style.INK, "median")]
    hollow = [style.mark("o", style.INK, comparison.ELSEWHERE, filled=False)] if elsewhere else []
    style.legend(figure, [*entries, *hollow])
    figure.set_label(" ".join([f"CPU beside GPU, medians: {_medians(lines, metrics)}", *reasons]))
    return figure


def precisions(found: Precisions) -> Figure | None:
    """Draw what each precision of a model costs and keeps: MB on disk, latency and words as ratios to the reference."""
    if not found.builds:
        return None
    rows = [build.row for build in found.builds]
    label, reference = names(rows), found.builds[0].precision
    figure, (sizes, times, words) = style.sheet(
        [label[key(row)] for row in rows],
        "What do fewer bits cost, in space, time and answers?",
        f"Against {reference}. Lines: 95 % intervals. Words kept: from the start until the first other one.",
        columns=3,
    )
    looks = [(row.device, row.precision) for row in rows]
    known = [NOT_MEASURED if row.size_mb is None else number(row.size_mb) for row in rows]
    style.bars(sizes, [row.size_mb for row in rows], known, looks)
    latencies, shares = ([build.latency for build in found.builds], [build.words for build in found.builds])
    for axes, ratios, whole, form in ((times, latencies, 1.0, "{:.2f}x"), (words, shares, 100.0, "{:.0f} %")):
        spans = [style.span(ratio, whole) for ratio in ratios]
        axes.axvline(whole, color=style.QUIET, lw=1, ls=(0, (4, 3)), zorder=1)
        style.spans(axes, spans, [form.format(span[0]) if span else NOT_MEASURED for span in spans], looks)
    words.set_xticks([0, 50, 100])
    sizes.set_xlabel("Size on disk (MB)\nless is better")
    times.set_xlabel(f"Latency (x of {reference}'s)\nless is better")
    words.set_xlabel(f"Words of {reference} kept (%)\nmore is better")
    style.legend(figure, style.legend_entries(rows))
    said = [f"{label[key(rows[0])]} {known[0]} MB, the reference"]
    for build, size in zip(found.builds[1:], known[1:], strict=True):
        said.append(f"{label[key(build.row)]} {size} MB, {build.verdict}, {percent(build.words)}")
    figure.set_label(f"Size, latency against {reference} and words of its answers kept: {_listed(said)}")
    return figure


def loads(found: Sequence[Load]) -> Figure:
    """Draw tokens per second against simultaneous users: of all together, and as one of them sees it."""
    rates = {
        "all users together": [(load.users, load.total_tokens_per_s) for load in found if load.total_tokens_per_s],
        "each user": [(load.users, load.tokens_per_s) for load in found if load.tokens_per_s],
    }
    looks = {
        "all users together": {"color": style.INK, "marker": "o", "linestyle": "-"},
        "each user": {"color": style.QUIET, "marker": "s", "linestyle": "--"},
    }
    drawn = {name: points for name, points in rates.items() if points}
    users = saturation(found)
    subtitle = "Together they get more as long as the line rises; each one gets less."
    if users is not None:
        subtitle = f"From {users} on, more users only wait: they add under 10 % to what all get together."
    figure, axes = style.plane(list(rates), "What if several people ask at once?", subtitle)
    axes.set_xticks([load.users for load in found])
    axes.set_xlim(0, 1.06 * max((load.users for load in found), default=1))
    axes.set_xlabel("Users asking at the same time (number)")
    style.scale(axes, "y", [rate for points in drawn.values() for _, rate in points], "Speed (tok/s)")
    for name, points in drawn.items():
        style.track(axes, points, looks[name])
    style.name_points(axes, {name: points[-1] for name, points in drawn.items()})
    marks = [style.mark(looks[name]["marker"], looks[name]["color"], name) for name in drawn]
    style.legend(figure, marks)
    said = [f"{name} {', '.join(f'{number(y)} with {x}' for x, y in points)}" for name, points in drawn.items()]
    figure.set_label(f"Tokens per second by number of users: {_listed(said)}")
    return figure


def prompt_lengths(found: PromptLengths) -> Figure:
    """Draw the wait for the first token (s) against the prompt tokens, with the fitted line and minutes of meeting."""
    fit, model = found.fit, found.variant.model_id
    asked = [wait for group in found.waits for wait in group]
    subtitle = "No line: fewer than three lengths, or the first token does not clearly depend on them."
    if fit:
        low, high = fit.prefill_range
        subtitle = f"Prefill {fit.prefill_tokens_per_s:,.0f} tok/s (95 % interval {low:,.0f} to {high:,.0f}), {model}"
    figure, axes = style.plane([], "How long may a meeting be?", one_line(subtitle, SUBTITLE_LETTERS))
    longest = max((tokens for tokens, _ in asked), default=1.0)
    style.scale(axes, "y", [], "First token (s)")
    axes.set(xlim=(0, 1.06 * longest), ylim=(0, 1.06 * max((first for _, first in asked), default=1.0)))
    axes.set(xlabel="Prompt tokens, as the server counts them", ylabel="First token (s)")
    if asked:
        across, up = zip(*asked, strict=True)
        axes.scatter(across, up, s=26, color=style.colour_of(found.variant.device), zorder=3)
    if fit:
        ends = (0.0, 1.06 * longest)
        axes.plot(ends, [fit.first_token_s(x) for x in ends], color=style.INK, linestyle="--", linewidth=1.4, zorder=2)
        for minutes in (1, 2, 5, 10, 20, 40):
            if (tokens := found.tokens(minutes)) <= longest:
                axes.axvline(tokens, color=style.QUIET, linewidth=0.8, linestyle=":", zorder=1)
                place = axes.get_xaxis_transform()
                axes.text(tokens, 0.97, f" {minutes} min", color=style.QUIET, fontsize=9, va="top", transform=place)
    looks = {"o": ("one request", style.colour_of(found.variant.device)), "_": ("fitted line", style.INK),
             "|": ("minutes of meeting, at 150 words a minute", style.QUIET)}  # fmt: skip
    marks = [style.mark(shape, colour, text) for shape, (text, colour) in looks.items()]
    style.legend(figure, marks)
    points = [f"{seconds(point.first_token_s)} for {point.prompt_tokens:,.0f} tokens" for point in found.points]
    figure.set_label(f"Wait for the first token of {model} by prompt length: {_listed(points)}")
    return figure


def race(result: RaceResult) -> Figure:
    """Draw the pieces of text that had arrived against time (ms), a line per lane, its first token ringed."""
    lanes, seen = result.lanes, set[str]()
    drawn: dict[str, tuple[LaneState, dict[str, str]]] = {}
    for place, (lane, variant) in enumerate(zip(lanes, result.variants, strict=True)):
        line, shape = LANE_LOOKS[place % len(LANE_LOOKS)]
        colour = style.INK if variant.device in seen else style.colour_of(variant.device)
        seen.add(variant.device)
        pace = "did not finish" if lane.error else races.figures(lane)["Pace"]
        if lane.arrived_s:
            drawn[one_line(f"{lane.name}: {pace}", 62)] = (lane, {"color": colour, "linestyle": line, "marker": shape})
    failed = [f"{lane.name} did not finish: {lane.error}" for lane in lanes if lane.error]
    subtitle = "Further left starts sooner, steeper writes faster, and where a line ends, so does the answer."
    subtitle = one_line((*failed, subtitle)[0], SUBTITLE_LETTERS)
    figure, axes = style.plane(list(drawn), "Who writes first, and who writes faster?", subtitle)
    ends = {label: (1000 * lane.arrived_s[-1], float(len(lane.arrived_s))) for label, (lane, _) in drawn.items()}
    longest, most = (max(values) for values in zip((0.0, 0.0), *ends.values(), strict=True))
    style.scale(axes, "x", [longest], "Time after each one's request (ms)")
    style.scale(axes, "y", [most], "Pieces of text that had arrived (number)")
    for lane, look in drawn.values():
        points = [(1000 * at_s, float(count)) for count, at_s in enumerate(lane.arrived_s, 1)]
        style.track(axes, points, look, every=-(-len(points) // 60))
        colour = look["color"]
        axes.scatter(*points[0], s=130, facecolors="none", edgecolors=colour, linewidths=1.6, zorder=4, clip_on=False)
    style.name_points(axes, ends)
    style.legend(figure, [style.mark("o", style.INK, "first token", filled=False)])
    said = []
    for lane in lanes:
        first, pace, written, whole = races.figures(lane).values()
        said.append(f"{lane.name}: first token {first}, pace {pace}, written {written}, whole answer {whole}.")
    figure.set_label(" ".join(["A race over time.", *said, *races.sentences(result)]))
    return figure


def report_figures(run: Run, references: Sequence[Results] = ()) -> dict[str, Figure]:
    """The figures of a report by their file's name: the named ones, and one of every other metric that has a figure."""
    rows = summary.summarise(run)
    drawn = {
        "latency": latency(run),
        "first_token_against_decode": first_token_against_decode(run),
        "resources": resources(rows),
        "devices": devices(run, references),
    }
    if any("drift" in row.warnings for row in rows):
        drawn["drift"] = drift(run)
    others = (metric for metric in timing.metrics_of("figure") if metric.name != LATENCY.name)
    drawn |= {metric.name: requests(run, metric) for metric in others}
    return {name: figure for name, figure in drawn.items() if figure}


def _strips(lines: Mapping[str, Line], metrics: Sequence[Metric], title: str, subtitle: str) -> Figure:
    """Draw a line per entry and a panel per metric: a mark per request and the median, or why there is none."""
    figure, panels = style.sheet(list(lines), title, subtitle, columns=len(metrics))
    for axes, metric in zip(panels, metrics, strict=True):
        everything: list[float] = []
        for place, line in enumerate(lines.values()):
            values = line.values.get(metric.name, ())
            everything += [*values, *line.warm_ups]
            style.dots(axes, place, line.warm_ups, ("", line.look[1]), face="hollow")
            middle = line.median(metric)
            if middle is None:
                style.inside(axes, place, line.why)
                continue
            face: style.Face = "hollow" if line.where else "filled"
            style.dots(axes, place, values, line.look, face=face, ringed=line.ringed)
            style.median_bar(axes, place, middle)
            if len(metrics) == 1:
                style.beside(axes, place, f"{number(middle)} {metric.shown_unit}")
        style.scale(axes, "x", everything, f"{metric.label} ({metric.shown_unit})")
        axes.set_xlabel(f"{axes.get_xlabel()}\n{'less' if metric.better == 'lower' else 'more'} is better")
        axes.xaxis.set_label_coords(0.5, -0.26 / (max(len(lines), 1) * style.LINE_IN))  # inches below the axes
        if len(metrics) > 1:  # a panel is half as wide
            few = {"nbins": 4} if axes.get_xscale() == "linear" else {"subs": (1.0, 3.0)}
            axes.xaxis.get_major_locator().set_params(**few)
    return figure


def _medians(lines: Mapping[str, Line], metrics: Sequence[Metric]) -> str:
    said = []
    for label, line in lines.items():
        known = [f"{number(v)} {each.shown_unit}" for each in metrics if (v := line.median(each)) is not None]
        place = f" ({line.where})" if line.where else ""
        said.append(f"{label}{place} {', '.join(known) or line.why}")
    return _listed(said)


def _values(build: Build, metric: Metric) -> list[float]:
    values = (metric.shown(sample.metrics.get(metric.name)) for sample in build.samples)
    return [value for value in values if value is not None]


def _points(run: Run, row: Row) -> list[style.Point]:
    """First token in ms and decode rate of timed requests; none where it was withheld."""
    found = []
    for each in run.completions if row.decode_tokens_per_sec else ():
        first, rate = timing.first_token_s(each), timing.decode_tokens_per_s(each)
        if each.round and key(each) == key(row) and first and rate:
            found.append((first * 1000, rate))
    return found


def _listed(parts: Iterable[str]) -> str:
    return ("; ".join(parts) or "nothing was measured") + "."
