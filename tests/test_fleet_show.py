"""A fleet as tables and as a figure, from values made by hand. No Dask in sight."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fleet_helpers import made_fleet, without
from workshop_lib.fleet import show
from workshop_lib.fleet.default import Limits, choose
from workshop_lib.show import style
from workshop_lib.show.style import Theme

SPEEDS = {"quick": 1.0, "slow": 4.0, "usual": 2.0}
SMALL = "practice-small-int4-cpu:1"


def test_there_is_a_line_for_what_each_table_is_about() -> None:
    """Machines, shares, speeds, what is skipped: one line each, with others' words made harmless."""
    fleet = without(made_fleet(SPEEDS), "slow", SMALL)
    first, *others = fleet.machines
    fleet = replace(fleet, machines=(replace(first, skipped=(("x|<b>", "cpu", "no\nsuch"),)), *others))
    assert list(show.machines(fleet)["shares done"]) == ["3 of 3", "2 of 3", "3 of 3"]
    shares = show.shares(fleet)
    assert sorted(zip(shares["status"], shares["starts"], shares["reason"], strict=True)) == [
        *[("done", 1, "")] * 8,
        ("missing", 0, "The machine left."),
    ]
    speed = show.speed(fleet)
    assert sorted(speed["machine"]) == ["quick"] * 3 + ["slow"] * 3 + ["usual"] * 3
    assert list(speed["status"]).count("failed") == 1
    assert show.skipped(fleet).to_dict("records") == [
        {"machine": "quick", "model": "x|<b>", "device": "cpu", "reason": "no such"}
    ]
    against = show.against(fleet, "quick")
    assert list(against["machine"]) == ["slow"] * 2 + ["usual"] * 3 and set(against["against"]) == {"quick"}


def test_the_default_is_a_table_too() -> None:
    """The likeliest default of the worst machine stands first; who breaks a limit says which."""
    table = show.default(choose(made_fleet(SPEEDS, wise=["practice-large"]), Limits(0.3)))
    assert next(iter(table["model"])).startswith("practice-small") and len(table) == 3
    assert "484 ms are more than 300 ms" in list(table["breaks a limit"])


def test_the_heat_map_has_a_field_per_machine_and_model() -> None:
    """A number where something was measured, the reason where not, and the same in words."""
    figure = show.heat_map(without(made_fleet(SPEEDS), "slow", SMALL))
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["quick", "slow", "usual"]
    texts = [text.get_text() for text in axes.texts]
    assert len(texts) == 9 and len(axes.patches) == 8 and "The machine left." in texts
    alt = style.alt_text(figure)
    assert "practice-small · int4 · cpu is not measured on slow (The machine left.)." in alt
    assert "ms on quick to" in alt


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_heat_map_is_drawn_for_any_fleet(theme: Theme) -> None:
    """One machine, or nothing measured at all: a figure with its words, never an exception."""
    nothing = replace(made_fleet(SPEEDS), runs={})
    for fleet in (made_fleet({"one": 1.0}), nothing, replace(nothing, machines=(), shares=())):
        figure = show.heat_map(fleet, theme=theme)
        assert style.png(figure).startswith(b"\x89PNG") and style.alt_text(figure)
