"""The figure that chooses: latency against quality, with intervals on both axes and the Pareto front.

Knows what `quality` found. Knows no files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workshop_lib.show import style, text
from workshop_lib.show.style import PALETTES, Palette, Theme, marker
from workshop_lib.show.text import number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from workshop_lib.metrics.resampling import Estimate
    from workshop_lib.verdicts.quality import ModelQuality, Standing
    from workshop_lib.verdicts.reliability import Kind

LABELS: dict[Kind, str] = {
    "people": "Mean grade by people (1-5)",
    "reference": "Mean reference grade (1-5)",
    "aspects": "Expected aspects mentioned (%)",
    "judge": "Mean grade by a judge model (1-5)",
    "own": "Mean grade by the model itself (1-5)",
}
FRONT = "beaten by none on both"
BEATEN = "beaten on both"


def speed_against_quality(standing: Standing, *, theme: Theme = "light") -> Figure:
    """Draw median latency (ms) against quality: bars are 95 % intervals over prompts, filled marks are the front."""
    drawn = [each for each in standing.models if _is_known(each, standing.measure)]
    missing = len(standing.models) - len(drawn)
    label, colours = text.names([each.row for each in drawn]), PALETTES[theme]
    figure, axes = style.plane(
        list(label.values()),
        "Which model is fast and good?",
        "Better is up and to the left. Bars: 95 % intervals over prompts. Dashed: the best that can be had."
        + (f" Not scored: {missing}." if missing else ""),
        theme,
    )
    points = {text.key(each.row): _point(each, standing.measure) for each in drawn}
    _scales(axes, drawn, standing.measure)
    _front_line(axes, [points[text.key(each.row)] for each in drawn if each.on_front], colours)
    for each in drawn:
        _spot(axes, each, standing.measure, colours)
    style.name_points(axes, {label[key]: point for key, point in points.items()}, colours)
    entries = [
        *style.legend_entries([each.row for each in drawn], colours),
        style.mark("o", colours.quiet, BEATEN, filled=False),
    ]
    style.legend(figure, entries, colours)
    figure.set_label(_in_words(drawn, standing.measure, label))
    return figure


def _is_known(model: ModelQuality, measure: Kind) -> bool:
    return model.latency_s.value is not None and measure in model.quality and model.quality[measure].value is not None


def _factor(measure: Kind) -> float:
    return 100.0 if measure == "aspects" else 1.0


def _point(model: ModelQuality, measure: Kind) -> tuple[float, float]:
    return (model.latency_s.value or 0.0) * 1000, (model.quality[measure].value or 0.0) * _factor(measure)


def _bounds(figure: Estimate, factor: float) -> tuple[float, float]:
    """Low and high in display units; the value itself where there is no interval."""
    low = figure.value if figure.low is None else figure.low
    high = figure.value if figure.high is None else figure.high
    return (low or 0.0) * factor, (high or 0.0) * factor


def _scales(axes: Axes, drawn: Sequence[ModelQuality], measure: Kind) -> None:
    waits = [bound for each in drawn for bound in _bounds(each.latency_s, 1000)]
    style.scale(axes, "x", waits, "Latency (ms), median and interval")
    style.scale(axes, "y", [100.0] if measure == "aspects" else [5.0], LABELS[measure])
    if measure == "aspects":
        axes.set_ylim(-4, 104)
    else:
        axes.set(ylim=(0.8, 5.2), yticks=range(1, 6))


def _front_line(axes: Axes, points: Sequence[tuple[float, float]], colours: Palette) -> None:
    """Draw the staircase below and to the right of which a model is beaten."""
    if points:
        ordered = sorted(points)
        right = max(axes.get_xlim()[1], ordered[-1][0])
        across = [x for x, _ in ordered] + [right]
        up = [y for _, y in ordered] + [ordered[-1][1]]
        axes.plot(across, up, drawstyle="steps-post", color=colours.quiet, lw=1.2, ls=(0, (4, 3)), zorder=1)


def _spot(axes: Axes, model: ModelQuality, measure: Kind, colours: Palette) -> None:
    x, y = _point(model, measure)
    left, right = _bounds(model.latency_s, 1000)
    low, high = _bounds(model.quality[measure], _factor(measure))
    colour = colours.device(model.row.device)
    axes.plot([left, right], [y, y], color=colour, lw=1.4, alpha=0.55, zorder=2)
    axes.plot([x, x], [low, high], color=colour, lw=1.4, alpha=0.55, zorder=2)
    axes.scatter(
        x,
        y,
        s=80,
        marker=marker(model.row.precision),
        facecolors=colour if model.on_front else colours.paper,
        edgecolors=colours.paper if model.on_front else colour,
        linewidths=1.4,
        zorder=4,
    )


def _in_words(drawn: Sequence[ModelQuality], measure: Kind, label: dict[tuple[str, str], str]) -> str:
    def said(each: ModelQuality) -> str:
        x, y = _point(each, measure)
        return f"{label[text.key(each.row)]} {number(x)} ms, {number(y)}{' %' if measure == 'aspects' else ''}"

    ordered = sorted(drawn, key=lambda each: _point(each, measure)[0])
    best = "; ".join(said(each) for each in ordered if each.on_front) or "none"
    rest = "; ".join(said(each) for each in ordered if not each.on_front) or "none"
    return f"Latency against quality ({LABELS[measure]}). {FRONT.capitalize()}: {best}. {BEATEN.capitalize()}: {rest}."
