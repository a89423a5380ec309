"""The look of figures: nothing rests on colour alone, names keep apart, pictures have words."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from tests.figure_helpers import draw
from tests.report_helpers import run_of_models
from workshop_lib.show import charts, style


def test_precision_and_device_never_rest_on_colour_alone():
    """Each precision has its own marker and hatch, each device its own colour."""
    assert len(set(style.MARKERS.values())) == len(style.MARKERS)
    assert len(set(style.HATCHES.values())) == len(style.HATCHES)
    assert len({style.colour_of(each) for each in ("cpu", "gpu", "npu", "unknown")}) == 4


def test_far_apart_values_get_a_logarithmic_axis_that_says_so():
    """Above a ratio of 20 a linear axis would hide the fast models."""
    axes = style.sheet(["a"], "?", "")[1][0]
    style.scale(axes, "x", [1.0, 21.0], "Latency (ms)")
    assert (axes.get_xscale(), axes.get_xlabel()) == ("log", "Latency (ms) (log scale)")
    style.scale(axes, "x", [1.0, 19.0], "Latency (ms)")
    assert (axes.get_xscale(), axes.get_xlim()[0]) == ("linear", 0.0)


@pytest.mark.parametrize(
    ("heights", "placed"),
    [([0.0, 0.0, 0.05, 0.9], [0.0, 0.1, 0.2, 0.9]), ([0.9, 0.95, 1.0], [0.8, 0.9, 1.0]), ([0.5, 0.1], [0.1, 0.5])],
)
def test_names_move_apart_and_keep_their_order(heights: list[float], placed: list[float]):
    """On axes of 2 inches, neighbours end 0.2 inches apart or more, a tenth of the height, within the axes."""
    figure = Figure(figsize=(4, 2))
    axes = figure.add_axes((0, 0, 1, 1))
    style.name_points(axes, {str(place): (0.5, height) for place, height in enumerate(heights)})
    assert [text.get_position()[1] for text in axes.texts] == pytest.approx(placed)


def test_a_notebook_shows_the_picture_with_its_alt_text():
    """The alt text is escaped in the tag, and is all that a terminal shows."""
    figure = Figure()
    figure.set_label('A "chart" <b>')
    shown = style.shown(figure)
    assert 'alt="A &quot;chart&quot; &lt;b&gt;"' in shown._repr_html_()
    assert 'src="data:image/png;base64,' in shown._repr_html_()
    assert repr(shown) == 'A "chart" <b>'


def test_drawing_leaves_no_trace():
    """The same bytes twice, no pyplot, no changed settings; importing the package loads no plotting."""
    before, run = dict(mpl.rcParams), run_of_models(2)
    assert style.png(charts.latency(run)) == style.png(draw(charts.latency(run)))
    assert dict(mpl.rcParams) == before
    check = (
        "import sys, workshop_lib, workshop_lib.show.text; assert 'matplotlib' not in sys.modules;"
        "import workshop_lib.show.charts; assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", check], check=True)


@pytest.mark.parametrize("count", [1, 6, 8])
def test_a_legend_is_never_wider_than_its_figure(count: int):
    """Many entries have smaller letters; few keep theirs."""
    figure, _ = style.sheet(["a"], "Title", "Subtitle")
    style.legend(figure, [style.mark("o", style.INK, f"a name of entry {number}") for number in range(count)])
    (drawn,) = figure.legends
    assert drawn.get_window_extent().width <= figure.bbox.width
    assert (drawn.get_texts()[0].get_fontsize() == 9) is (count == 1)


@pytest.mark.parametrize("longest", [30.0, 900.0, 15_000.0, 200_000.0])
def test_labels_of_a_logarithmic_axis_never_collide(longest: float):
    """From a few milliseconds to minutes: each label of the axis ends before the next one begins."""
    figure, (axes,) = style.sheet(["a"], "Title", "Subtitle")
    style.scale(axes, "x", [5.0, longest], "Latency (ms)")
    figure.canvas.draw()
    shown = [each.get_window_extent() for each in axes.get_xticklabels() if each.get_text()]
    inside = [box for box in shown if axes.bbox.x0 - 1 <= (box.x0 + box.x1) / 2 <= axes.bbox.x1 + 1]
    assert len(inside) > 1
    assert all(left.x1 < right.x0 for left, right in pairwise(inside))
