"""The best default for a room: worst and typical machine, limits, and how sure it is. No Dask in sight."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fleet_helpers import made_room, without
from tests.report_helpers import row
from workshop_lib.errors import ConfigurationError
from workshop_lib.fleets import fleet_charts, fleet_choice, fleet_summaries, fleet_tables
from workshop_lib.fleets.fleet_choice import Limits
from workshop_lib.fleets.fleet_room import Room
from workshop_lib.metrics import resampling
from workshop_lib.records import Run
from workshop_lib.show import charts
from workshop_lib.show.style import Theme

SPEEDS = {"quick": 1.0, "usual": 2.0, "slow": 4.0}
SMALL, MEDIUM, LARGE = ((f"practice-{size}-int4-cpu:1", "cpu") for size in ("small", "medium", "large"))


def test_worst_and_typical_are_one_number_per_machine() -> None:
    """A model's latency is the slowest machine's, and the median over machines: 121 ms times 4 and times 2."""
    choice = fleet_choice.choose(made_room(SPEEDS))
    (large,) = [each for each in choice.candidates if each.key == LARGE]
    assert large.latency_s["worst"].value == pytest.approx(0.484)
    assert large.latency_s["typical"].value == pytest.approx(0.242)
    assert large.slowest == "slow"
    assert (choice.machines, choice.prompts) == (3, 2)


def test_the_best_answers_win_within_the_limit() -> None:
    """At 300 ms the large model, which alone knows the word, is the default of a typical machine only."""
    choice = fleet_choice.choose(made_room(SPEEDS, wise=["practice-large"]), Limits(max_latency_s=0.3))
    worst, typical = choice.best["worst"], choice.best["typical"]
    assert worst is not None and worst.key == SMALL, "of equal answers the quicker ones"
    assert typical is not None and typical.key == LARGE
    (large,) = [each for each in choice.candidates if each.key == LARGE]
    assert large.out == {"worst": "484 ms are more than 300 ms", "typical": None}


def test_how_sure_is_the_share_of_draws() -> None:
    """Three machines drawn from three leave the slow one out in (2/3)^3 = 8 of 27 draws: then the large model leads."""
    choice = fleet_choice.choose(made_room(SPEEDS, wise=["practice-large"]), Limits(max_latency_s=0.3))
    wins = {each.key: each.wins["worst"] for each in choice.candidates}
    assert wins[LARGE] == pytest.approx(8 / 27, abs=0.04), "0.04 is four standard errors of 2,000 draws"
    assert wins[LARGE] + wins[SMALL] == pytest.approx(1.0)
    first, second, few = fleet_choice.describe(replace(choice, prompts=8))
    assert first.startswith("On the slowest machine (slow) the best default is practice-small, int4, cpu")
    assert "This is undecided" in first and "practice-large (int4) in" in first
    assert second.startswith("On a typical machine the best default is practice-large")
    assert few.startswith("3 machines are few")


def test_alike_machines_leave_no_doubt() -> None:
    """Where every machine and every prompt says the same, every draw does."""
    choice = fleet_choice.choose(made_room(dict.fromkeys("abcdef", 1.0)))
    best = choice.best["worst"]
    assert best is not None and best.key == SMALL and best.wins == {"worst": 1.0, "typical": 1.0}
    said = fleet_choice.describe(replace(choice, prompts=8))
    assert len(said) == 2 and "This is clear: it came first in 100 % of 2,000 draws" in said[0]
    assert resampling.RESAMPLES == 2_000


def test_nothing_is_clear_from_one_machine_or_few_prompts() -> None:
    """Two workers on one computer are one machine, and two prompts draw the same again and again: it says `likely`."""
    room = made_room(dict.fromkeys("abcdef", 1.0))
    few_prompts = fleet_choice.describe(fleet_choice.choose(room))
    assert "This is likely" in few_prompts[0]
    assert few_prompts[-1] == "2 prompts are few: it takes 6 to call a default clear."
    twins = replace(room, machines=tuple(replace(each, host_id="same") for each in room.machines))
    one_machine = fleet_choice.describe(replace(fleet_choice.choose(twins), prompts=8))
    assert "This is likely" in one_machine[0] and one_machine[-1].startswith("One machine is few")


def test_models_that_are_equal_share_the_draws() -> None:
    """Two models with the same times and answers are the default in half of the draws: undecided."""
    room = made_room(dict.fromkeys("abcdef", 1.0))
    runs = {label: _twin(run) for label, run in room.runs.items()}
    choice = fleet_choice.choose(replace(room, runs=runs))
    wins = {each.key: each.wins for each in choice.candidates}
    assert wins[SMALL] == wins[LARGE] == {"worst": 0.5, "typical": 0.5}
    assert all("This is undecided" in said for said in fleet_choice.describe(choice)[:2])


def _twin(run: Run) -> Run:
    """The same run, in which the large model did what the small one did."""
    small = [each for each in run.completions if each.model_id == SMALL[0]]
    large = [replace(each, model_id=LARGE[0], alias="practice-large") for each in small]
    others = [each for each in run.completions if each.model_id != LARGE[0]]
    return replace(run, completions=(*others, *large))


def test_the_only_candidate_was_compared_with_nothing() -> None:
    """It is the default, and nothing is called clear or likely about it."""
    room = made_room(SPEEDS)
    runs = {label: without(without(run, SMALL[0]), MEDIUM[0]) for label, run in room.runs.items()}
    said = fleet_choice.describe(fleet_choice.choose(replace(room, runs=runs)))
    assert "This is the only model that every machine measured, so nothing was compared." in said[0]
    assert not any("draws" in each for each in said)


def test_no_model_within_the_limits_is_said() -> None:
    """An impossible limit gives no default, in no draw, and says what to do."""
    choice = fleet_choice.choose(made_room(SPEEDS), Limits(max_latency_s=0.001))
    assert choice.best == {"worst": None, "typical": None}
    assert all(each.wins == {"worst": 0.0, "typical": 0.0} for each in choice.candidates)
    assert fleet_choice.describe(choice)[0] == (
        "On the slowest machine no model keeps the limits: loosen one, or offer other models."
    )


def test_a_limit_of_quality_excludes() -> None:
    """Answers that mention too little cannot be the default, however quick."""
    choice = fleet_choice.choose(made_room(SPEEDS, wise=["practice-large"]), Limits(min_quality=0.5))
    assert [each.key for each in choice.best.values() if each] == [LARGE, LARGE]
    (small,) = [each for each in choice.candidates if each.key == SMALL]
    assert small.out["typical"] == "quality 0.00 is less than 0.50"


def lacking_room() -> Room:
    """The slow machine never measured the small model: it went away."""
    room = made_room(SPEEDS)
    runs = {**room.runs, "slow": without(room.runs["slow"], SMALL[0])}
    shares = tuple(
        replace(each, status="missing", reason="The machine left.")
        if each.machine_id == room.machines[2].machine_id and each.variant.model_id == SMALL[0]
        else each
        for each in room.shares
    )
    return replace(room, runs=runs, shares=shares)


def test_a_model_that_one_machine_lacks_is_nobody_s_default() -> None:
    """The default of a room has to run on all of it; the sentence names who lacks the model."""
    choice = fleet_choice.choose(lacking_room())
    assert SMALL not in [each.key for each in choice.candidates]
    assert choice.incomplete == {SMALL: ("slow",)}
    assert "practice-small-int4-cpu:1 cannot be the default of all: it was not measured on slow." in (
        fleet_choice.describe(choice)
    )


def test_a_room_in_which_nothing_is_complete_says_so() -> None:
    """Without one model on every machine there is nothing to choose from."""
    with pytest.raises(ConfigurationError, match="No model was measured on every machine"):
        fleet_choice.choose(replace(made_room(SPEEDS), runs={}))


def test_ratios_between_machines_are_paired_by_prompt() -> None:
    """The slow machine takes four times as long as the quick one for every model, and that is called clear."""
    ratios = fleet_summaries.against(made_room(SPEEDS), "quick")
    assert set(ratios) == {"usual", "slow"}
    assert {round(each.value or 0, 6) for each in ratios["slow"].values()} == {4.0}
    assert all(each.is_clear for each in ratios["slow"].values())
    table = fleet_tables.against(made_room({"a": 1.0, "b": 1.05}), "a")
    assert set(table["against"]) == {"a"}
    assert all("no clear difference" in text for text in table["latency, machine against machine"]), "within 8 %"
    with pytest.raises(ConfigurationError, match="'nobody' measured nothing"):
        fleet_summaries.against(made_room(SPEEDS), "nobody")


def test_machines_are_never_pooled() -> None:
    """There is a cell for every machine and model, with that machine's median, and none for all together."""
    cells = fleet_summaries.cells(lacking_room())
    assert len(cells) == 9
    found = {(cell.machine, cell.key): cell for cell in cells}
    assert found["quick", LARGE].latency_s == pytest.approx(0.121)
    assert found["slow", LARGE].latency_s == pytest.approx(0.484)
    assert found["slow", SMALL].latency_s is None and found["slow", SMALL].reason == "The machine left."
    table = fleet_tables.speed(lacking_room())
    assert list(table["machine"]) == ["quick"] * 3 + ["usual"] * 3 + ["slow"] * 3
    assert "The machine left." in list(table["remark"]) and "not measured" in list(table["latency (ms)"])


def test_rates_from_bursts_are_no_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where tokens came in bursts, the decode cell says so; other rows keep theirs, and what is missing stays so."""
    rows = (
        row(decode_tokens_per_sec=999.6),
        row(warnings=("bursts",)),
        row(warnings=("bursts",), decode_tokens_per_sec=None),
    )
    cells = [fleet_summaries.Cell("quick", LARGE, each) for each in rows]
    monkeypatch.setattr(fleet_summaries, "cells", lambda _: cells)
    shown = list(fleet_tables.speed(made_room(SPEEDS))["decode (tok/s)"])
    assert shown == [1000, "not comparable (bursts)", "not measured"]


def test_what_differs_between_machines_is_said() -> None:
    """Other versions, threads and power, two workers on one computer, and who takes no part."""
    room = made_room(SPEEDS)
    quick, usual, slow = room.machines
    others = (
        replace(quick, fingerprint={**quick.fingerprint, "versions": {"onnxruntime": "1.30.0"}}, host_id="same"),
        replace(usual, fingerprint={**usual.fingerprint, "thread_variables": {"OMP_NUM_THREADS": "1"}}, host_id="same"),
        replace(slow, refused="It runs another protocol."),
    )
    said = fleet_summaries.remarks(replace(room, machines=others))
    assert said == [
        "slow takes no part. It runs another protocol.",
        "The version of onnxruntime differs between machines (1.30.0: quick; absent: usual, slow).",
        "The setting of threads differs between machines (none: quick, slow; {'OMP_NUM_THREADS': '1'}: usual).",
        "quick and usual are one computer: what differs between them is what repeating makes.",
    ]
    assert fleet_summaries.remarks(room) == []
    assert fleet_summaries.remarks(lacking_room()) == ["1 of 9 shares are not complete; the table of shares says why."]


def test_the_heat_map_has_a_field_per_machine_and_model() -> None:
    """Numbers where something was measured, a hatch with the reason where not, the slowest machine on top."""
    figure = fleet_charts.heat_map(lacking_room())
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["slow", "usual", "quick"]
    texts = [text.get_text() for text in axes.texts]
    assert len(texts) == 9 and "484" in texts and "121" in texts and "The machine left." in texts
    assert sum(bool(patch.get_hatch()) for patch in axes.patches) == 1
    alt = charts.alt_text(figure)
    assert "practice-large int4 · cpu: 121 ms on quick to 484 on slow." in alt
    assert "practice-small int4 · cpu is not measured on slow (The machine left.)." in alt


@pytest.mark.parametrize(("shown", "theme"), [("latency", "light"), ("first token", "dark")])
def test_the_heat_map_is_drawn_for_any_room(shown: fleet_charts.Shown, theme: Theme) -> None:
    """One machine, or nothing measured at all: a figure with its words, never an exception."""
    for room in (made_room({"one": 1.0}), replace(made_room(SPEEDS), runs={})):
        figure = fleet_charts.heat_map(room, shown, theme=theme)
        assert charts.png(figure).startswith(b"\x89PNG") and charts.alt_text(figure)


def test_a_large_room_shows_its_slowest_machines() -> None:
    """More lines than can be read are not drawn: the slowest are, and the figure says so."""
    figure = fleet_charts.heat_map(made_room({f"m{place}": 1.0 + place / 10 for place in range(40)}))
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [f"m{place}" for place in range(39, 9, -1)]
    assert "The 30 slowest of 40 machines." in [text.get_text().split("top. ")[-1] for text in figure.texts]


def test_tables_of_a_room() -> None:
    """Machines, shares, what is left out and the default: one line each for what they are about."""
    room = lacking_room()
    room = replace(
        room, machines=(replace(room.machines[0], left_out=(("x|<b>", "cpu", "no\nsuch"),)), *room.machines[1:])
    )
    assert list(fleet_tables.machines(room)["shares done"]) == ["3 of 3", "3 of 3", "2 of 3"]
    assert list(fleet_tables.shares(room)["status"]).count("missing") == 1
    assert fleet_tables.left_out(room).to_dict("records") == [
        {"machine": "quick", "model": "x|<b>", "device": "cpu", "reason": "no such"}
    ]
    default = fleet_tables.default(fleet_choice.choose(made_room(SPEEDS, wise=["practice-large"]), Limits(0.3)))
    assert next(iter(default["model"])).startswith("practice-small") and len(default) == 3
    assert "484 ms are more than 300 ms" in list(default["breaks a limit"])
