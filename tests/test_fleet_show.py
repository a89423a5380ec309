"""A fleet as tables, from values made by hand. No Dask in sight."""

from __future__ import annotations

from dataclasses import replace

from tests.fleet_helpers import made_fleet, without
from workshop_lib.fleet import show
from workshop_lib.fleet.default import Limits, choose

SPEEDS = {"quick": 1.0, "slow": 4.0, "usual": 2.0}
SMALL = "practice-small-int4-cpu:1"


def test_there_is_a_line_for_each_share_and_for_what_a_machine_lacks() -> None:
    """Done or why not, with others' words made harmless."""
    fleet = without(made_fleet(SPEEDS), "slow", SMALL)
    first, *others = fleet.machines
    fleet = replace(fleet, machines=(replace(first, skipped=(("x|<b>", "cpu", "no\nsuch"),)), *others))
    shares = show.shares(fleet)
    assert sorted(zip(shares["status"], shares["starts"], shares["reason"], strict=True)) == [
        *[("done", 1, "")] * 8,
        ("missing", 0, "The machine left."),
        ("not offered", 0, "no such"),
    ]
    assert list(shares["model"])[-1] == "x|<b> · cpu" and "<b>" not in shares._repr_html_()


def test_the_default_is_a_table_too() -> None:
    """The likeliest default of the worst machine stands first; who breaks a limit says which."""
    table = show.default(choose(made_fleet(SPEEDS, wise=["practice-large"]), Limits(0.3)))
    assert next(iter(table["model"])).startswith("practice-small") and len(table) == 3
    assert "484 ms are more than 300 ms" in list(table["breaks a limit"])
