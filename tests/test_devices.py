"""CPU against GPU: what counts as a GPU, what stands in for an absent one, and what is said of it."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from matplotlib.colors import to_rgba

from tests.comparison_helpers import ALIASES, PLAN, WHY, cpu_run, gpu_run, mislabelled_run, reference
from tests.report_helpers import run_of_models
from tests.test_charting import draw, extent, marks, tick_labels
from workshop_lib import compare
from workshop_lib.compare import NO_GPU, Reference
from workshop_lib.records import Run
from workshop_lib.showing import appearance, charting, comparison_charts, comparison_tables, reporting
from workshop_lib.summary import WARNINGS, summarise

CASES: dict[str, tuple[Run, tuple[Reference, ...]]] = {
    "a GPU here": (gpu_run(), ()),
    "a reference": (cpu_run(), (reference(0.02),)),
    "no GPU": (cpu_run(), ()),
    "a label only": (mislabelled_run(), ()),
    "nothing": (run_of_models(0, failed=0), ()),
}


def test_a_label_without_a_provider_is_a_warning():
    """A variant labelled gpu whose process registered no GPU provider carries the code, and the code has a sentence."""
    codes = {row.device: "gpu_not_registered" in row.warnings for row in summarise(mislabelled_run())}
    assert codes == {"cpu": False, "gpu": True}
    assert not any("gpu_not_registered" in row.warnings for row in summarise(gpu_run()))
    assert "no GPU provider" in WARNINGS["gpu_not_registered"]


def test_a_gpu_here_is_compared_with_the_cpu_build_of_its_precision():
    """Half the time is 2.00x faster; without a CPU build of the same precision the first one is taken."""
    builds = compare.side_by_side(gpu_run(0.5))
    gpus = {(build.row.alias, build.row.precision): build for build in builds if build.row.device == "gpu"}
    assert len(builds), len(gpus) == (12, 6)
    int4 = gpus["practice-small", "int4"].verdict
    assert int4 is not None
    assert (int4.against, int4.decode) == ("int4 · cpu", "2.00x faster (95 % CI 2.00-2.00)")
    assert int4.first_token.startswith("2.00x faster (95 % CI 1.")
    assert gpus["practice-small", "fp16"].verdict == int4
    assert {build.where for build in builds} == {compare.HERE}


def test_an_absent_gpu_is_said_with_the_reason_and_that_no_reference_ships():
    """The CPU results stand; one sentence gives the reason, one says that nothing stands in."""
    assert [build.row.device for build in compare.side_by_side(cpu_run())] == ["cpu"] * 6
    assert compare.absent_gpus(cpu_run()) == dict.fromkeys(ALIASES, WHY)
    assert compare.device_notes(cpu_run()) == (f"There are no GPU figures of this machine. {WHY}", NO_GPU)


def test_a_reference_stands_in_and_is_labelled():
    """Each GPU build of the other machine has its name and date, a ratio to the CPU here, and one to its own CPU."""
    references = (reference(0.5),)
    elsewhere = [build for build in compare.side_by_side(cpu_run(), references) if build.is_reference]
    assert {build.where for build in elsewhere} == {"Made-up GPU, 2026-10-01"}
    assert len(elsewhere) == 6
    assert all(build.verdict and build.verdict.decode.startswith("2.00x faster") for build in elsewhere)
    notes = compare.device_notes(cpu_run(), references)
    assert notes[1].startswith("GPU figures of another machine stand beside this one's: Made-up GPU, 2026-10-01.")
    assert notes[2].startswith(
        "On that machine alone, practice-small · fp16 · gpu against its int4 · cpu: first token 2.0"
    )
    assert len(notes) == 2 + 6


def test_no_reference_is_drawn_where_a_gpu_was_measured():
    """A machine with a GPU needs no other's."""
    builds = compare.side_by_side(gpu_run(), (reference(),))
    assert not any(build.is_reference for build in builds)
    assert compare.device_notes(gpu_run(), (reference(),)) == ()


def test_a_label_counts_as_no_gpu():
    """It is listed, compared with nothing, said in a sentence, and a reference still stands in."""
    builds = compare.side_by_side(mislabelled_run(), (reference(),))
    doubtful = [build for build in builds if not build.is_confirmed]
    assert [build.verdict for build in doubtful] == [None] * 6
    assert sum(build.is_reference for build in builds) == 6
    assert not compare.has_gpu_build(compare.side_by_side(mislabelled_run()))
    assert "so it counts as no GPU" in compare.device_notes(mislabelled_run())[0]


def test_a_reference_of_other_work_is_shown_but_not_compared():
    """Another max_tokens is another task: the verdict says so."""
    run = replace(cpu_run(), plan={**PLAN, "max_tokens": 7})
    builds = [build for build in compare.side_by_side(run, (reference(),)) if build.is_reference]
    assert all(
        build.verdict and "not compared: The runs did different work" in build.verdict.decode for build in builds
    )


def test_references_of_other_models_do_not_stand_in():
    """A shipped GPU result of models that were not measured here is no answer."""
    run = run_of_models(2, failed=0)
    other = replace(reference(), rows=tuple(row for row in reference().rows if row.alias == "practice-large"))
    assert compare.device_notes(run, (other,)) == (
        "This run has no GPU model: none was asked for, or the server does not say what it runs on.",
        "The shipped GPU reference results hold none of these models.",
    )


def test_a_gpu_without_a_cpu_build_has_nothing_to_be_compared_with():
    """Asked for the GPU alone, the table has its figures and no ratio."""
    run = gpu_run()
    run = replace(run, servings=tuple(each for each in run.servings if each.variant.device == "gpu"))
    assert {build.verdict and build.verdict.against for build in compare.side_by_side(run)} == {"no CPU build"}


def test_the_table_says_where_each_build_was_measured():
    """Another machine's figure never passes for this one's; a label without provider says that it is one."""
    shown = comparison_tables.devices(cpu_run(), (reference(),))
    assert (
        list(shown["measured on"])
        == (["this machine"] * 2 + ["reference, another machine: Made-up GPU, 2026-10-01"] * 2) * 3
    )
    assert list(shown["build"])[:4] == ["int4 · cpu", "fp32 · cpu", "fp16 · gpu", "int4 · gpu"]
    assert list(shown["first token (ms)"])[:4] == [4.2, 4.2, 2.1, 2.1]
    labelled = comparison_tables.devices(mislabelled_run()).iloc[2]
    assert (labelled["build"], labelled["against"], labelled["decode"]) == ("fp16 · labelled gpu", "", "not compared")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("case", list(CASES))
def test_no_words_of_the_figure_overlap_or_leave_the_sheet(case: str, theme: appearance.Theme):
    """Names, axis labels and legend keep clear of one another, whatever there is to compare."""
    run, references = CASES[case]
    figure = draw(comparison_charts.devices(run, references, theme=theme))
    words = [*figure.texts, *(text for axes in figure.axes for text in (*axes.texts, axes.xaxis.label))]
    words += [text for axes in figure.axes for text in tick_labels(axes)]
    words += [text for legend in figure.legends for text in legend.get_texts()]
    boxes = [(word.get_text(), extent(word)) for word in words if word.get_text()]
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for _, box in boxes)
    overlapping = [(a, b) for (a, one), (b, other) in combinations(boxes, 2) if one.shrunk(0.9, 0.8).overlaps(other)]
    assert not overlapping


def test_reference_marks_are_hollow_and_all_requests_are_drawn():
    """6 requests of 12 builds; those of another machine have no filled mark, and the legend says whose they are."""
    figure = comparison_charts.devices(cpu_run(), (reference(),))
    assert marks(figure) == 12 * 6
    hollow = [each for each in figure.axes[0].collections if not len(each.get_facecolors())]
    assert len(hollow) == 6
    assert {tuple(each.get_edgecolors()[0]) for each in hollow} == {to_rgba(appearance.PALETTES["light"].gpu)}
    assert "reference, another machine" in [text.get_text() for text in figure.legends[0].get_texts()]
    assert "Made-up GPU, 2026-10-01" in figure.texts[1].get_text()
    assert (
        "practice-small · int4 · gpu, reference (Made-up GPU, 2026-10-01) 2.1 ms, 2,000 tokens/s"
        in charting.alt_text(figure)
    )


def test_an_absent_gpu_has_a_line_in_the_figure_and_its_reason_in_the_alt_text():
    """Nothing is left out in silence, and nothing at all is said as such."""
    figure = comparison_charts.devices(cpu_run())
    assert [text.get_text() for text in figure.axes[0].texts] == ["not measured on this machine"] * 3
    assert "practice-small · gpu not measured" in charting.alt_text(figure)
    assert charting.alt_text(figure).endswith(WHY)
    assert "nothing was measured" in charting.alt_text(comparison_charts.devices(*CASES["nothing"]))


def test_the_report_compares_devices_where_there_is_a_gpu(tmp_path: Path):
    """With a GPU or a reference: a table, the notes and a figure; without: none of them."""
    with_reference = reporting.write_report(cpu_run(), tmp_path / "a", (reference(),))
    without = reporting.write_report(cpu_run(), tmp_path / "b", ())
    for path in (with_reference.markdown, with_reference.html):
        text = path.read_text("utf-8")
        assert "CPU against GPU" in text
        assert "reference, another machine: Made-up GPU, 2026" in text.replace("\\", "")
        assert "On that machine alone" in text
    assert [path.stem for path in with_reference.figures] == [*charting.FIGURES, "devices"]
    assert [path.stem for path in without.figures] == list(charting.FIGURES)
    assert "CPU against GPU" not in without.markdown.read_text("utf-8") + without.html.read_text("utf-8")
    rows = json.loads(with_reference.json.read_text("utf-8"))["rows"]
    assert {row["device"] for row in rows if row["status"] == "ok"} == {"cpu"}, "a reference is no row of this run"
