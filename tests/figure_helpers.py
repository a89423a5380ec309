"""What tests ask of a figure: which marks it holds, and whether its words keep clear of one another."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.text import Text

from workshop_lib.show import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox


def draw(figure: Figure) -> Figure:
    """Lay a figure out as its file would be."""
    style.png(figure, dpi=60)
    return figure


def marks(figure: Figure) -> int:
    """How many scatter marks the first axes of a figure hold."""
    return sum(len(each.get_offsets()) for each in figure.axes[0].collections if isinstance(each, PathCollection))


def legend(figure: Figure) -> list[str]:
    """What the legend says."""
    return [text.get_text() for each in figure.legends for text in each.get_texts()]


def extent(word: Text) -> Bbox:
    """The box of a text alone: an annotation's would hold its line as well."""
    word.get_window_extent()
    return Text.get_window_extent(word)


def tick_labels(axes: Axes) -> list[Text]:
    """The tick labels that are drawn: matplotlib keeps some beyond the ends of an axis."""
    (left, right), (low, high) = axes.get_xlim(), sorted(axes.get_ylim())
    across = [text for text in axes.get_xticklabels() if left <= text.get_position()[0] <= right]
    return across + [text for text in axes.get_yticklabels() if low <= text.get_position()[1] <= high]


def assert_words_are_clear(figure: Figure) -> None:
    """Names, numbers, axis labels and legend neither overlap nor leave the sheet."""
    words = [*figure.texts, *(text for each in figure.legends for text in each.get_texts())]
    for axes in draw(figure).axes:
        words += [*axes.texts, axes.xaxis.label, axes.yaxis.label, *tick_labels(axes)]
    boxes = [(word.get_text(), extent(word)) for word in words if word.get_text()]
    beyond = [text for text, box in boxes if box.x0 < figure.bbox.x0 or box.x1 > figure.bbox.x1]
    overlapping = [(a, b) for (a, one), (b, other) in combinations(boxes, 2) if one.shrunk(0.9, 0.8).overlaps(other)]
    assert (beyond, overlapping) == ([], [])
