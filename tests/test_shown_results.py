"""How results of load, keep-warm, self-check and checklist are shown: tables and figures."""

from __future__ import annotations

import pytest

from tests.figure_helpers import draw
from tests.measurement_helpers import VARIANT
from tests.test_load import COLD, FULL_AT_2, KEPT, UNCOUNTED
from tests.test_self_check import BARE, WORKSHOP
from workshop_lib import checklist
from workshop_lib.checklist import ModelCheck, Step
from workshop_lib.load import KeepWarmResult, Load
from workshop_lib.self_check import Errors, SelfCheck, Times
from workshop_lib.show import charts, style, tables


def test_the_table_has_a_line_per_number_of_users():
    """Milliseconds and tokens per second; what was not measured says so."""
    shown = tables.loads((*FULL_AT_2[:2], *UNCOUNTED), {"latency": 1.0})
    assert list(shown.iloc[1]) == [2, "2 of 2", 180, 91, 100.0, 1100.0, "0 of 2, 0 % (95 % CI 0-79)"]
    assert list(shown["all users (tok/s)"]) == [100, 180, "not measured"]


def test_the_figure_has_a_track_for_all_and_one_for_each():
    """Two tracks with shapes and styles of their own; title a question, alt text the numbers."""
    figure = draw(charts.loads(FULL_AT_2))
    tracks = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 4]
    assert {(line.get_marker(), line.get_linestyle()) for line in tracks} == {("o", "-"), ("s", "--")}
    assert list(tracks[0].get_xdata()) == [1, 2, 4, 8]
    assert figure.texts[0].get_text().endswith("?")
    assert figure.texts[1].get_text().startswith("From 2 on")
    assert "all users together 100 with 1, 180 with 2" in style.alt_text(figure)


@pytest.mark.parametrize("loads", [(), UNCOUNTED])
def test_nothing_measured_is_drawn_as_such(loads: tuple[Load, ...]):
    """An empty sheet that says so in words."""
    assert "nothing was measured" in style.alt_text(draw(charts.loads(loads)))


def test_the_first_request_kept_warm_has_a_line_per_measure():
    """Milliseconds of both sides and the ratio; what was not measured says so."""
    shown = tables.kept_warm(KeepWarmResult(VARIANT, COLD, KEPT, loads_s=(0.3, 0.3, None, 0.3)))
    assert list(shown["right after loading"]) == [200.0, 210.0, 500.0]
    assert list(shown["after one light prompt"]) == [100.0, 110.0, 100.0]
    assert shown["against"][0].startswith("2.00x faster")


def test_the_instrument_has_a_line_per_client():
    """Median, least and most of the first token's error, and the pace's; a pace that nobody claimed says so."""
    silent = Errors("workshop", (Times(0.051, None),))
    assert list(tables.instrument(SelfCheck(WORKSHOP, BARE)).iloc[0]) == ["workshop", 3, 0.5, 0.3, 9.9, 1.0]
    assert list(tables.instrument(SelfCheck(silent, BARE))["pace error (%)"]) == ["not measured", 0.0]


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
    table = tables.statuses(CHECKS)
    assert list(table.columns) == ["model", "device", "listed", "cached", "served", "answers"]
    assert table.values.tolist() == [
        ["good:1", "cpu", "passed", "passed", "passed", "passed"],
        ["b�[31mad", "gpu", "passed", "failed", "not tried", "not tried"],
    ]


def test_failures_say_what_to_do() -> None:
    """Only what failed, with its reason; empty where nothing did."""
    assert tables.failures(CHECKS).values.tolist() == [["b�[31mad", "gpu", "cached", "Not�[31m there."]]
    assert tables.failures(CHECKS[:1]).empty


def test_reasons_of_one_check() -> None:
    """What a status rests on can be read."""
    assert tables.reasons(CHECKS, "served").values.tolist() == [
        ["good:1", "passed", "Yes."],
        ["b�[31mad", "not tried", "cached failed."],
    ]
