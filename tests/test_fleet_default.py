"""The best default for a fleet: worst and typical machine, limits, and how sure it is. No Dask in sight."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fleet_helpers import made_fleet, without
from workshop_lib.errors import ConfigurationError
from workshop_lib.fleet.default import Candidate, Choice, Limits, choose, describe, remarks

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
    assert (large.slowest, choice.computers, choice.prompts) == ("slow", 3, 2)


def test_the_best_answers_win_within_the_limit() -> None:
    """At 300 ms the large model, which alone knows the word, is the default of a typical machine only."""
    choice = choose(made_fleet(SPEEDS, wise=["practice-large"]), Limits(max_latency_s=0.3))
    assert best(choice) == {"worst": SMALL, "typical": LARGE}, "of equal answers the quicker ones"
    assert candidate(choice, LARGE).breaks == {"worst": "484 ms are more than 300 ms", "typical": None}


def test_how_sure_is_the_share_of_draws() -> None:
    """Three machines drawn from three leave the slow one out in (2/3)^3 = 8 of 27 draws: then the large model leads."""
    choice = choose(made_fleet(SPEEDS, wise=["practice-large"]), Limits(max_latency_s=0.3))
    small, large = (candidate(choice, model).wins["worst"] for model in (SMALL, LARGE))
    assert large == pytest.approx(8 / 27, abs=0.04), "0.04 is four standard errors of 2,000 draws"
    assert large + small == pytest.approx(1.0)
    assert choice.sure("worst") == "undecided"
    first, second, *rest = describe(replace(choice, prompts=8))
    assert first.startswith("On the slowest machine (slow) the best default is practice-small · int4 · cpu")
    assert second.startswith("On a typical machine the best default is practice-large") and len(rest) == 1


def test_nothing_is_clear_from_one_computer_or_few_prompts() -> None:
    """Where every machine says the same, every draw does; two workers on one computer are one machine."""
    fleet = made_fleet(ALIKE)
    choice = choose(fleet)
    assert best(choice) == {"worst": SMALL, "typical": SMALL}
    assert candidate(choice, SMALL).wins == {"worst": 1.0, "typical": 1.0}
    twins = choose(replace(fleet, machines=tuple(replace(each, host="same") for each in fleet.machines)))
    found = [(each.sure("worst"), len(describe(each))) for each in (choice, replace(choice, prompts=8))]
    found += [(each.sure("worst"), len(describe(each))) for each in (replace(twins, prompts=8), twins)]
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
    """Quality excludes however quick a model is; an impossible limit gives no default, in no draw."""
    fleet = made_fleet(SPEEDS, wise=["practice-large"])
    choice = choose(fleet, Limits(min_quality=0.5))
    assert best(choice) == {"worst": LARGE, "typical": LARGE}
    assert candidate(choice, SMALL).breaks["typical"] == "quality 0.00 is less than 0.50"
    impossible = choose(fleet, Limits(max_latency_s=0.001))
    assert best(impossible) == {"worst": None, "typical": None}
    assert all(each.wins == {"worst": 0.0, "typical": 0.0} for each in impossible.candidates)
    assert "no model keeps the limits" in describe(impossible)[0]
    only = choose(without(without(fleet, "slow", SMALL), "slow", MEDIUM))
    assert only.sure("worst") == "only one" and not any("draws" in said for said in describe(only)[:2])


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
    """Other versions, threads and power, two workers on one computer, who takes no part, and what is incomplete."""
    fleet = made_fleet(SPEEDS)
    quick, slow, usual = fleet.machines
    others = (
        replace(quick, fingerprint={**quick.fingerprint, "versions": {"onnxruntime": "1.30.0"}}, host="same"),
        replace(slow, refused="Other versions."),
        replace(usual, fingerprint={**usual.fingerprint, "thread_variables": {"OMP_NUM_THREADS": "1"}}, host="same"),
    )
    assert remarks(fleet) == []
    assert remarks(replace(without(fleet, "slow", SMALL), machines=others)) == [
        "slow takes no part. Other versions.",
        "Different thread variables (none: quick, slow; {'OMP_NUM_THREADS': '1'}: usual).",
        "Different onnxruntime (1.30.0: quick; none: slow, usual).",
        "quick and usual are one computer: what differs between them is what repeating makes.",
        "1 of 9 shares are not complete.",
    ]
