"""The best default for a fleet: worst and typical machine, limits, and how sure it is. No Dask in sight."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fleet_helpers import made_fleet, without
from workshop_lib.errors import ConfigurationError
from workshop_lib.fleet.default import Candidate, Choice, choose, describe, remarks, shares, table
from workshop_lib.records import ModelVariant, Serving

SPEEDS = {"quick": 1.0, "slow": 4.0, "usual": 2.0}
ALIKE = dict.fromkeys("abcdef", 1.0)
SMALL, MEDIUM, LARGE = (f"practice-{size}-int4-cpu:1" for size in ("small", "medium", "large"))


def candidate(choice: Choice, model_id: str) -> Candidate:
    (found,) = [each for each in choice.candidates if each.variant.model_id == model_id]
    return found


def best(choice: Choice) -> dict[str, str | None]:
    return {view: found.variant.model_id if found else None for view, found in choice.best.items()}


def test_worst_and_typical_are_one_number_per_machine() -> None:
    """A model's latency is the slowest machine's, and the median over machines: 121 ms times 4 and times 2."""
    choice = choose(made_fleet(SPEEDS))
    large = candidate(choice, LARGE)
    assert large.latency_s["worst"].value == pytest.approx(0.484)
    assert large.latency_s["typical"].value == pytest.approx(0.242)
    assert (large.slowest, choice.machines, choice.prompts) == ("slow", 3, 2)


def test_the_best_answers_win_within_the_limit() -> None:
    """At 300 ms the large model, which alone knows the word, is the default of a typical machine only."""
    choice = choose(made_fleet(SPEEDS, wise=["practice-large"]), max_latency_s=0.3)
    assert best(choice) == {"worst": SMALL, "typical": LARGE}, "of equal answers the quicker ones"
    assert candidate(choice, LARGE).keeps == {"worst": False, "typical": True}
    shown = table(choice)
    assert shown["model"][0].startswith("practice-small") and list(shown["breaks a limit"]).count("yes") == 1


def test_how_sure_is_the_share_of_draws() -> None:
    """Three machines drawn from three leave the slow one out in (2/3)^3 = 8 of 27 draws: then the large model leads."""
    choice = choose(made_fleet(SPEEDS, wise=["practice-large"]), max_latency_s=0.3)
    small, large = (candidate(choice, model).wins["worst"] for model in (SMALL, LARGE))
    assert large == pytest.approx(8 / 27, abs=0.04), "0.04 is four standard errors of 2,000 draws"
    assert large + small == pytest.approx(1.0)
    assert choice.sure("worst") == "undecided"
    first, second, *rest = describe(replace(choice, prompts=8))
    assert first.startswith("On the slowest machine (slow) the best default is practice-small · int4 · cpu")
    assert second.startswith("On a typical machine the best default is practice-large") and len(rest) == 1


def test_nothing_is_clear_from_one_machine_or_few_prompts() -> None:
    """Where every machine says the same, every draw does."""
    fleet = made_fleet(ALIKE)
    choice = choose(fleet)
    assert best(choice) == {"worst": SMALL, "typical": SMALL}
    assert candidate(choice, SMALL).wins == {"worst": 1.0, "typical": 1.0}
    alone = choose(made_fleet({"a": 1.0}))
    found = [(each.sure("worst"), len(describe(each))) for each in (choice, replace(choice, prompts=8))]
    found += [(each.sure("worst"), len(describe(each))) for each in (replace(alone, prompts=8), alone)]
    assert found == [("likely", 3), ("clear", 2), ("likely", 3), ("likely", 4)]


def test_models_that_are_equal_share_the_draws() -> None:
    """Two models with the same times and answers are the default in half of the draws: never clear."""
    fleet = made_fleet(ALIKE)
    for label, run in fleet.runs.items():
        small = [each for each in run.completions if each.model_id == SMALL]
        others = [each for each in run.completions if each.model_id != LARGE]
        twins = [replace(each, model_id=LARGE, alias="practice-large") for each in small]
        fleet = replace(fleet, runs={**fleet.runs, label: replace(run, completions=(*others, *twins))})
    choice = replace(choose(fleet), prompts=8)
    assert [candidate(choice, model).wins["worst"] for model in (SMALL, LARGE)] == [0.5, 0.5]
    assert (choice.sure("worst"), choice.sure("typical")) == ("undecided", "undecided")


def test_a_limit_excludes_and_the_only_candidate_was_compared_with_nothing() -> None:
    """An impossible limit gives no default, in no draw; the only model measured everywhere was compared with none."""
    fleet = made_fleet(SPEEDS, wise=["practice-large"])
    assert best(choose(fleet)) == {"worst": LARGE, "typical": LARGE}
    impossible = choose(fleet, max_latency_s=0.001)
    assert best(impossible) == {"worst": None, "typical": None}
    assert all(each.wins == {"worst": 0.0, "typical": 0.0} for each in impossible.candidates)
    assert "no model keeps the limit" in describe(impossible)[0]
    only = choose(without(without(fleet, "slow", SMALL), "slow", MEDIUM))
    assert all("nothing was compared" in said and "draws" not in said for said in describe(only)[:2])


def test_a_model_that_one_machine_lacks_is_nobody_s_default() -> None:
    """The default of a fleet has to run on all of it; who lacks a model is named."""
    choice = choose(without(made_fleet(SPEEDS), "slow", SMALL))
    assert SMALL not in [each.variant.model_id for each in choice.candidates]
    assert choice.incomplete == {(SMALL, "cpu"): ["slow"]}
    assert describe(choice)[-1] == f"{SMALL} cannot be the default of all: it was not measured on slow."
    with pytest.raises(ConfigurationError, match="No model was measured on every machine"):
        choose(replace(made_fleet(SPEEDS), runs={}))


def test_prompts_that_expect_nothing_leave_the_quality_unknown() -> None:
    """Without expected aspects the latency alone decides, and the quality says that it is not known."""
    fleet = made_fleet(SPEEDS)
    prompts = tuple(replace(each, aspects=()) for each in fleet.plan.prompts)
    choice = choose(replace(fleet, plan=replace(fleet.plan, prompts=prompts)))
    assert best(choice)["worst"] == SMALL and candidate(choice, SMALL).quality.value is None


def test_what_differs_between_machines_is_said() -> None:
    """Other versions and threads, who takes no part, and what is incomplete."""
    assert remarks(made_fleet(SPEEDS)) == []
    fleet = without(made_fleet({"quick-1": 1.0, "slow-2": 4.0, "usual-1": 2.0}), "slow-2", SMALL)
    quick, slow, usual = fleet.runs.values()
    runs = (
        replace(quick, machine={**quick.machine, "versions": {"onnxruntime": "1.30.0"}}),
        slow,
        replace(usual, machine={**usual.machine, "thread_variables": {"OMP_NUM_THREADS": "1"}}),
    )
    fleet = replace(
        fleet, ended={**fleet.ended, "mute-3": "No runtime."}, runs=dict(zip(fleet.runs, runs, strict=True))
    )
    assert remarks(fleet) == [
        "mute-3 takes no part. No runtime.",
        "Machines differ in thread variables (none: quick-1, slow-2; {'OMP_NUM_THREADS': '1'}: usual-1).",
        "Machines differ in onnxruntime (1.30.0: quick-1; none: slow-2, usual-1).",
        "1 of 9 shares are not complete.",
    ]


def test_there_is_a_line_for_each_share_and_for_what_a_machine_lacks() -> None:
    """Done or why not, with others' words made harmless."""
    fleet = without(made_fleet(SPEEDS), "slow", SMALL)
    lacking = Serving(ModelVariant("x|<b>", "x", "cpu"), status="skipped", error="no\nsuch")
    fleet.runs["quick"] = replace(fleet.runs["quick"], servings=(*fleet.runs["quick"].servings, lacking))
    shown = shares(fleet)
    assert sorted(zip(shown["status"], shown["starts"], shown["reason"], strict=True)) == [
        *[("done", 1, "")] * 8,
        ("missing", 0, "The machine left."),
        ("not offered", 0, "no such"),
    ]
    assert list(shown["model"])[-1] == "x|<b> · cpu" and "<b>" not in shown._repr_html_()
