"""Figures: every sample drawn, nothing hidden, nothing said by colour alone."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import matplotlib as mpl
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.text import Text

from tests.report_helpers import HOSTILE, row, run_of_models
from workshop_lib.showing import appearance, charting, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

    from workshop_lib.records import Run


def draw(figure: Figure) -> Figure:
    """Lay a figure out as its file would be."""
    charting.png(figure, dpi=60)
    return figure


def marks(figure: Figure) -> int:
    """How many scatter marks a figure holds."""
    axes = figure.axes[0]
    return sum(len(each.get_offsets()) for each in axes.collections if isinstance(each, PathCollection))


def extent(word: Text) -> Bbox:
    """The box of a text alone: an annotation's would hold its line as well."""
    word.get_window_extent()
    return Text.get_window_extent(word)


def tick_labels(axes: Axes) -> list[Text]:
    """The tick labels that are drawn: matplotlib keeps some beyond the ends of an axis."""
    (left, right), (low, high) = axes.get_xlim(), sorted(axes.get_ylim())
    across = [text for text in axes.get_xticklabels() if left <= text.get_position()[0] <= right]
    return across + [text for text in axes.get_yticklabels() if low <= text.get_position()[1] <= high]


@pytest.fixture(params=[6, 12], ids=["6 models", "12 models"])
def run(request: pytest.FixtureRequest) -> Run:
    return run_of_models(request.param)


def test_every_request_is_drawn(run: Run):
    """As many marks as answered requests, warm-ups included."""
    assert marks(charting.latency(run)) == len(run.completions)


def test_outliers_are_ringed_and_explained():
    """Ten even requests and one of five times the latency: one ring, named in the legend."""
    run = run_of_models(1, failed=0, rounds=6)
    slow = run.completions[-1]
    later = tuple(replace(chunk, at_s=chunk.at_s * 5) for chunk in slow.chunks)
    figure = charting.latency(replace(run, completions=(*run.completions[:-1], replace(slow, chunks=later))))
    ink = to_rgba(appearance.PALETTES["light"].ink)
    (strip,) = [each for each in figure.axes[0].collections if len(each.get_offsets()) == 12]
    assert [tuple(edge) == ink for edge in strip.get_edgecolors()].count(True) == 1
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "outlier for its prompt" in legend


def test_failed_models_are_named_with_their_reason(run: Run):
    """A model that could not be served keeps its line."""
    texts = [text.get_text() for text in charting.latency(run).axes[0].texts]
    assert any(text.startswith("failed: The process ended") for text in texts)


@pytest.mark.parametrize("name", list(charting.FIGURES))
def test_axes_have_units_and_titles_ask(run: Run, name: str):
    """Axis labels end in a unit; the title is a question; the alt text names the first model."""
    figure = charting.FIGURES[name](run, "light")
    labels = [axes.get_xlabel() for axes in figure.axes]
    assert all(any(unit in label for unit in ("(ms)", "(MB)", "(tokens/s)")) for label in labels)
    assert figure.texts[0].get_text().endswith("?")
    assert "practice-small · int4 · cpu" in charting.alt_text(figure)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", list(charting.FIGURES))
def test_no_words_overlap_or_leave_the_sheet(run: Run, name: str, theme: appearance.Theme):
    """Names, numbers, axis labels and legend keep clear of one another."""
    figure = draw(charting.FIGURES[name](run, theme))
    words = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    words += [text for axes in figure.axes for text in (axes.xaxis.label, axes.yaxis.label)]
    words += [text for axes in figure.axes for text in tick_labels(axes)]
    words += [text for legend in figure.legends for text in legend.get_texts()]
    boxes = [(word.get_text(), extent(word)) for word in words if word.get_text()]
    for text, box in boxes:
        assert figure.bbox.x0 <= box.x0, text
        assert box.x1 <= figure.bbox.x1, text
    overlapping = [(a, b) for (a, one), (b, other) in combinations(boxes, 2) if one.shrunk(0.9, 0.8).overlaps(other)]
    assert not overlapping


def test_precision_and_device_never_rest_on_colour_alone():
    """Each precision has its own marker and hatch, each device its own colour, in both themes."""
    assert len(set(appearance.MARKERS.values())) == len(appearance.MARKERS)
    assert len(set(appearance.HATCHES.values())) == len(appearance.HATCHES)
    for palette in appearance.PALETTES.values():
        assert len({palette.device(each) for each in ("cpu", "gpu", "npu", "unknown")}) == 4


def test_legend_names_what_occurs():
    """Two devices and three precisions, coarsest first, then the median and the warm-up."""
    (legend,) = charting.latency(run_of_models(12)).legends
    said = [text.get_text() for text in legend.get_texts()]
    assert said == ["cpu", "gpu", "int4", "fp16", "fp32", "median", "warm-up, not counted"]


def test_same_names_are_told_apart_by_model_id():
    """Two builds that differ in nothing a short name shows are called by their ids."""
    rows = [row(), row(model_id="small-int4-openvino-cpu:1")]
    assert set(charting.names(rows).values()) == {
        "small-int4-cpu:1 · cpu",
        "small-int4-openvino-cpu:1 · cpu",
    }


def test_hostile_and_endless_names_are_drawn_as_text():
    """Mathematical markup, control characters and long names neither fail nor displace a chart."""
    rows = [row(alias=r"$\frac{1}{$ 模型" + HOSTILE), row(alias="long-" * 60, model_id="b")]
    figure = draw(charting.resources(rows))
    assert figure.axes[0].get_position().width > 0.1
    assert all(len(name) <= charting.NAME_LETTERS for name in charting.names(rows).values())


def test_far_apart_values_get_a_logarithmic_axis_that_says_so():
    """Above a ratio of 20 a linear axis would hide the fast models."""
    axes = drawing.sheet(["a"], "?", "", "light")[1][0]
    drawing.scale(axes, "x", [1.0, 21.0], "Latency (ms)")
    assert (axes.get_xscale(), axes.get_xlabel()) == ("log", "Latency (ms) (log scale)")
    drawing.scale(axes, "x", [1.0, 19.0], "Latency (ms)")
    assert (axes.get_xscale(), axes.get_xlim()[0]) == ("linear", 0.0)


def test_names_move_apart_and_keep_their_order():
    """Three names at one height end one step apart, within the axes."""
    placed = drawing.spread_out({"a": 0.0, "b": 0.0, "c": 0.05, "d": 0.9}, 0.2)
    heights = list(placed.values())
    assert heights == pytest.approx([0.0, 0.2, 0.4, 0.9])
    assert list(placed) == ["a", "b", "c", "d"]


def test_an_absent_bar_says_why():
    """Not measured and failed are words, never a bar of length 0."""
    figure = charting.resources([row(size_mb=None), row("gone", status="failed", decode_tokens_per_sec=None)])
    words = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert words.count("not measured") == 2
    assert words.count("failed") == 2


def test_a_gpu_row_says_that_its_own_memory_is_missing():
    """Resident memory of a process does not hold what lies on a GPU."""
    assert "a GPU's own memory is not in it" in charting.resources([row(device="gpu")]).texts[1].get_text()


def test_a_withheld_decode_rate_is_not_drawn():
    """Models without a decode speed are counted under the title."""
    run = run_of_models(3, failed=0)
    hidden = tuple(replace(each, completion_tokens=400) for each in run.completions)
    figure = charting.first_token_against_decode(replace(run, completions=hidden))
    assert marks(figure) == 0
    assert figure.texts[1].get_text().endswith("Without a decode speed: 3.")


@pytest.mark.parametrize("name", list(charting.FIGURES))
def test_a_run_without_models_has_a_figure(name: str):
    """Nothing measured is drawn as an empty sheet that says so in words."""
    figure = draw(charting.FIGURES[name](run_of_models(0, failed=0), "light"))
    assert "nothing was measured" in charting.alt_text(figure)


def test_a_notebook_shows_the_picture_with_its_alt_text():
    """The alt text is escaped in the tag, and is all that a terminal shows."""
    figure = Figure()
    figure.set_label('A "chart" <b>')
    shown = charting.shown(figure)
    assert 'alt="A &quot;chart&quot; &lt;b&gt;"' in shown._repr_html_()
    assert "data:image/png;base64," in shown._repr_html_()
    assert repr(shown) == 'A "chart" <b>'


def test_the_same_figure_gives_the_same_bytes():
    """Pictures fit for version control."""
    run = run_of_models(2, failed=0)
    assert charting.png(charting.latency(run)) == charting.png(charting.latency(run))


def test_drawing_leaves_no_trace():
    """No pyplot, no open figures, no changed settings; importing the package loads no plotting."""
    before = dict(mpl.rcParams)
    draw(charting.latency(run_of_models(2)))
    assert dict(mpl.rcParams) == before
    check = (
        "import sys, workshop_lib; assert 'matplotlib' not in sys.modules;"
        "import workshop_lib.showing.charting; assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", check], check=True)
