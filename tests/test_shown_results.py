"""How results of load, keep-warm, self-check, checklist and devices are shown: tables and figures."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import pytest
from matplotlib.colors import to_rgba

from tests.comparison_helpers import WHY, cpu_run, gpu_run, mislabelled_run, reference
from tests.measurement_helpers import VARIANT
from tests.report_helpers import run_of_models
from tests.test_charting import draw, extent, marks, tick_labels
from tests.test_load import COLD, FULL_AT_2, KEPT, UNCOUNTED
from tests.test_self_check import BARE, WORKSHOP
from workshop_lib import checklist
from workshop_lib.checklist import ModelCheck, Step
from workshop_lib.compare import Reference
from workshop_lib.load import KeepWarmResult, Load
from workshop_lib.records import Run
from workshop_lib.self_check import Errors, SelfCheck, Times
from workshop_lib.showing import (
    appearance,
    charting,
    checklist_tables,
    comparison_charts,
    comparison_tables,
    reporting,
)

CASES: dict[str, tuple[Run, tuple[Reference, ...]]] = {
    "a GPU here": (gpu_run(), ()),
    "a reference": (cpu_run(), (reference(0.02),)),
    "no GPU": (cpu_run(), ()),
    "a label only": (mislabelled_run(), ()),
    "nothing": (run_of_models(0, failed=0), ()),
}


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


def test_the_table_has_a_line_per_number_of_users():
    """Milliseconds and tokens per second; what was not measured says so."""
    shown = comparison_tables.loads((*FULL_AT_2[:2], *UNCOUNTED))
    assert list(shown.iloc[1]) == [2, "2 of 2", 180, 91, 100.0, 1100.0]
    assert list(shown["all users (tok/s)"]) == [100, 180, "not measured"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_figure_has_a_track_for_all_and_one_for_each(theme):
    """Two tracks with shapes and styles of their own; title a question, alt text the numbers."""
    figure = draw(comparison_charts.loads(FULL_AT_2, theme=theme))
    tracks = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 4]
    assert {(line.get_marker(), line.get_linestyle()) for line in tracks} == {("o", "-"), ("s", "--")}
    assert list(tracks[0].get_xdata()) == [1, 2, 4, 8]
    assert figure.texts[0].get_text().endswith("?")
    assert figure.texts[1].get_text().startswith("From 2 on")
    assert "all users together 100 with 1, 180 with 2" in charting.alt_text(figure)


@pytest.mark.parametrize("loads", [(), UNCOUNTED])
def test_nothing_measured_is_drawn_as_such(loads: tuple[Load, ...]):
    """An empty sheet that says so in words."""
    assert "nothing was measured" in charting.alt_text(draw(comparison_charts.loads(loads)))


def test_the_first_request_kept_warm_has_a_line_per_measure():
    """Milliseconds of both sides and the ratio; what was not measured says so."""
    shown = comparison_tables.kept_warm(KeepWarmResult(VARIANT, COLD, KEPT, loads_s=(0.3, 0.3, None, 0.3)))
    assert list(shown["right after loading"]) == [200.0, 210.0, 500.0]
    assert list(shown["after one light prompt"]) == [100.0, 110.0, 100.0]
    assert shown["against"][0].startswith("2.00x faster")


def test_the_instrument_has_a_line_per_client():
    """Median, least and most of the first token's error, and the pace's; a pace that nobody claimed says so."""
    silent = Errors("workshop", (Times(0.051, None),))
    assert list(comparison_tables.instrument(SelfCheck(WORKSHOP, BARE)).iloc[0]) == ["workshop", 3, 0.5, 0.3, 9.9, 1.0]
    assert list(comparison_tables.instrument(SelfCheck(silent, BARE))["pace error (%)"]) == ["not measured", 0.0]


CHECKS = (
    ModelCheck("good:1", "cpu", tuple(Step(name, "passed", "Yes.") for name in checklist.NAMES)),
    ModelCheck(
        "b\x1b[31mad",
        "gpu",
        (
            Step("listed", "passed", "Yes."),
            Step("cached", "failed", "Not\x1b[31m there."),
            Step("served", "not tried", "cached failed."),
            Step("answers", "not tried", "cached failed."),
        ),
    ),
)


def test_the_table_has_a_status_per_check() -> None:
    """One line per model and device; control characters of names do not reach the reader."""
    table = checklist_tables.statuses(CHECKS)
    assert list(table.columns) == ["model", "device", "listed", "cached", "served", "answers"]
    assert table.values.tolist() == [
        ["good:1", "cpu", "passed", "passed", "passed", "passed"],
        ["b�[31mad", "gpu", "passed", "failed", "not tried", "not tried"],
    ]


def test_failures_say_what_to_do() -> None:
    """Only what failed, with its reason; empty where nothing did."""
    assert checklist_tables.failures(CHECKS).values.tolist() == [["b�[31mad", "gpu", "cached", "Not�[31m there."]]
    assert checklist_tables.failures(CHECKS[:1]).empty


def test_reasons_of_one_check() -> None:
    """What a status rests on can be read."""
    assert checklist_tables.reasons(CHECKS, "served").values.tolist() == [
        ["good:1", "passed", "Yes."],
        ["b�[31mad", "not tried", "cached failed."],
    ]
