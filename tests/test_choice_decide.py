"""Choosing: criteria and steps, the figures and draws of a run, limits, the order, how sure it is, and the sweep."""

from __future__ import annotations

import doctest
import math
from dataclasses import replace
from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.choice_helpers import (
    EVEN,
    NEARLY,
    OUTCOMES,
    TWO,
    decide,
    decided,
    evidence_of,
    grade,
    made_run,
    trained,
)
from tests.report_helpers import run_of_models
from workshop_lib.choice import decide as deciding
from workshop_lib.choice.decide import CRITERIA, Decision, Evidence, front, gather_evidence
from workshop_lib.errors import ConfigurationError
from workshop_lib.programs import notebooks
from workshop_lib.records import Prompt, Serving

NAMES = ("quality", "latency", "memory", "footprint")
grades = st.integers(4, 20).map(lambda quarter: quarter / 4)
amounts = st.integers(1, 64).map(float)
models = st.fixed_dictionaries({name: grades if name == "quality" else amounts for name in NAMES})
worth = st.fixed_dictionaries({name: st.integers(1, 8).map(float) for name in NAMES})
PAIR = {
    "small": {"footprint": 400.0, "quality": 3.0, "latency_p95": 2.0, "first_token": 0.5, "memory": 900.0},
    "large": {"footprint": 6160.0, "quality": 4.5, "latency_p95": 9.0, "first_token": 1.5, "memory": 7000.0},
}


def crowd(each: list[dict[str, float]]) -> Evidence:
    return evidence_of({f"m{place}": values for place, values in enumerate(each)}, prompts=6)


def order(decision: Decision) -> list[str]:
    return [each.row.alias for each in decision.ranked]


# -- criteria and settings


def test_a_step_is_a_factor_of_two_or_one_grade() -> None:
    """8 s are three steps worse than 1 s, 4 tok/s two better than 1, grade 4.5 half better than 4; 0 MB has none."""
    assert CRITERIA["latency"].steps(np.array([8.0, 1.0])).tolist() == [-3, 0]
    assert CRITERIA["throughput"].steps(np.array([4.0, 1.0])).tolist() == [2, 0]
    assert CRITERIA["quality"].steps(np.array([4.5, 4.0])).tolist() == [4.5, 4]
    assert np.isnan(CRITERIA["memory"].steps(np.array([np.nan, 0.0]))).all()
    assert [CRITERIA["latency"].say(0.0153), CRITERIA["footprint"].say(6160.0)] == ["15.3 ms", "6,160 MB"]


@pytest.mark.parametrize(
    ("weights", "limits", "said"),
    [
        ({"latncy": 1}, {}, "no weight 'latncy'.*Did you mean latency"),
        ({"quality": -1}, {}, "weight quality is -1"),
        ({"quality": math.nan}, {}, "weight quality is nan"),
        ({"quality": math.inf}, {}, "weight quality is inf"),
        ({"quality": 0, "latency": 0}, {}, "All weights are 0"),
        ({"memory": 1}, {}, "Nothing that has a weight was measured: peak memory"),
        (EVEN, {"max_size": 3.0}, "limit 'max_size'.*Did you mean max_size_mb"),
        (EVEN, {"max_memory_mb": -1}, "max_memory_mb is -1"),
        (EVEN, {"max_latency_s": math.nan}, "max_latency_s is nan"),
    ],
)
def test_impossible_settings_are_refused(weights: dict[str, float], limits: dict[str, float], said: str) -> None:
    """An unknown name, a negative or endless value, and nothing that counts are named with their fix; 0 means none."""
    with pytest.raises(ConfigurationError, match=said):
        decided(weights, **limits)
    assert list(deciding.check_weights(latency=2, quality=4, memory=0).items()) == [("quality", 4), ("latency", 2)]
    assert deciding.check_limits(max_size_mb=0.0, min_quality=3.0) == {"min_quality": 3.0}


# -- evidence


def test_figures_of_a_run_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latency is 10 ms plus 1 ms per place of five prompts: median 12 ms, 95 % of ten requests within 14 ms."""
    monkeypatch.setattr(deciding, "PREFERRED", ("people",))
    run = made_run()
    found = gather_evidence(run, grade(run, "fast", [4, 3, 5, 4, 4]))
    fast = {name: figures[0] for name, figures in found.figures.items()}
    assert (found.measure, fast["quality"].value) == ("people", 4)
    assert fast["latency"].value == fast["first_token"].value == pytest.approx(0.012)
    assert fast["latency_p95"].value == pytest.approx(0.014)
    assert (fast["latency"].low, fast["latency"].high) == (pytest.approx(0.010), pytest.approx(0.014))
    assert fast["throughput"].value is None and fast["memory"].value is None
    assert "0 to 5 prompts" in found.remarks[0]


def test_what_is_measured_once_has_no_interval_and_does_not_vary() -> None:
    """The peak memory is the same in every draw; half of the aspects is grade 3, all of them 5, none 1."""
    run = made_run()
    served = tuple(replace(each, peak_resident_mb=100.0 * (place + 1)) for place, each in enumerate(run.servings))
    found = gather_evidence(replace(run, servings=served))
    assert (found.measure, [each.value for each in found.figures["quality"]]) == ("aspects", [3, 1, 5])
    memory = found.figures["memory"][0]
    assert (memory.value, memory.low, memory.high) == (100, None, None)
    assert (found.drawn["memory"] == [100, 200, 300]).all()


def test_a_run_without_answers_is_refused() -> None:
    """Nothing can be chosen where nothing answered."""
    run = made_run()
    failed = tuple(Serving(each.variant, status="failed", error="no") for each in run.servings)
    with pytest.raises(ConfigurationError, match="No model answered in run r"):
        gather_evidence(replace(run, servings=failed, completions=()))


def test_medians_do_not_favour_a_prompt_that_was_asked_more_often() -> None:
    """A prompt with three requests has as much weight in the latency as one with a single request."""
    run = made_run(rounds=3)
    thinned = tuple(each for each in run.completions if each.prompt_id != "p0" or each.round < 2)
    latency = gather_evidence(replace(run, completions=thinned)).figures["latency"][0]
    assert latency.value == pytest.approx(median([0.010, 0.011, 0.012, 0.013, 0.014]))


# -- whose grades decide, and the front


def grades_of(found: Evidence, kind: str) -> list[float | None]:
    return [each.value for each in found.grades[kind]]


def test_the_front_of_a_run_by_hand() -> None:
    """The fast one mentions half of the aspects in 12 ms, the slow one all in 42 ms, the middle one none in 22 ms."""
    run = made_run()
    found = gather_evidence(run)
    assert grades_of(found, "aspects") == [3, 1, 5]
    assert front(found) == [(True, 1), (False, 0), (True, 1)]
    bad = made_run({"fast": "It is local and in the cloud"}, (Prompt("p", "?", ("local",), forbidden=("cloud",)),))
    assert grades_of(gather_evidence(bad), "aspects") == [1], "what is forbidden is not made up for"
    silent = gather_evidence(run_of_models(3, failed=1))
    assert (silent.grades, front(silent)) == ({}, [(False, None)] * 2)


def test_people_decide_once_they_graded_every_model() -> None:
    """Means over prompts of the mean over raters; until then the next kind decides, and that is said."""
    run = made_run()
    some = grade(run, "fast", [4, 3, 5]) + grade(run, "fast", [2], "ben") + grade(run, "slow", [3, 3, 3])
    few = gather_evidence(run, some)
    assert few.measure == "aspects" and few.remarks[0].startswith("Grades by people do not cover every model on 3")
    assert grades_of(few, "people") == [pytest.approx(11 / 3), None, 3]
    enough = gather_evidence(run, [*some, *grade(run, "middle", [3, 3, 3])])
    assert (enough.measure, enough.remarks) == ("people", ())


def test_a_judge_never_decides() -> None:
    """Its grades stand beside the rest."""
    run = made_run()
    judged = grade(run, "middle", [5] * 5, "judge:j")
    found = gather_evidence(run, judged)
    assert (found.measure, grades_of(found, "judge")[1]) == ("aspects", 5)


def test_only_the_rubric_of_the_latest_score_counts() -> None:
    """Grades under another rubric mean other things: they are left out, and that is said."""
    run = made_run()
    old = [replace(score, scored_at="2025-01-01") for score in grade(run, "slow", [1] * 5, version="0")]
    found = gather_evidence(run, old + grade(run, "slow", [5] * 5))
    assert grades_of(found, "people")[2] == 5
    assert found.remarks[0] == "5 scores under another rubric than 1 are left out."


FRONTS = [
    ([(1, 1)], [True]),
    ([(1, 1), (2, 2)], [True, True]),
    ([(1, 2), (2, 1)], [True, False]),
    ([(1, 1), (1, 1)], [True, True]),
    ([(1, 2), (1, 1), (2, 2)], [True, False, False]),
    ([(1, math.nan), (2, 1)], [False, True]),
]


@pytest.mark.parametrize(("points", "expected"), FRONTS)
def test_the_front_by_hand(points: list[tuple[float, float]], expected: list[bool]) -> None:
    """Beaten means: another is at least as fast and as good, and better in one; equals do not beat each other."""
    found = evidence_of({f"m{at}": {"latency": wait, "quality": grade} for at, (wait, grade) in enumerate(points)})
    assert [kept for kept, _ in front(found)] == expected


# -- limits and floors


@pytest.mark.parametrize(
    ("floors", "expected", "behind"),
    [
        ({}, ["quick", "careful"], 0.5),  # (3 + 2) / 2 against (4 + 0) / 2
        ({"latency": 0.5}, ["careful", "quick"], 0.0),  # one step of time against one grade: equal
        ({"latency": 1.0}, ["careful", "quick"], 0.5),  # both are quick enough: one grade of two criteria
        ({"quality": 3.0}, ["quick", "careful"], 1.0),  # both are good enough: two steps of time of two criteria
    ],
)
def test_beyond_a_floor_nothing_more_is_gained(floors: dict[str, float], expected: list[str], behind: float) -> None:
    """A value better than its floor counts as the floor, in the order and in the draws; the evidence stays."""
    decision = deciding.decide(evidence_of(TWO, prompts=8), EVEN, floors=floors)
    assert (order(decision), decision.ranked[1].behind) == (expected, behind)
    assert (decision.outcome == "tie") == (behind == 0)
    assert len(decision.remarks) == len(floors)


def test_a_second_is_quick_enough_unless_another_floor_is_set() -> None:
    """Without floors the default ones hold; impossible ones are named like limits."""
    quick = evidence_of({name: {"latency": wait, "quality": 3} for name, wait in (("a", 0.1), ("b", 0.9), ("c", 2.0))})
    decision = deciding.decide(quick, {"latency": 1})
    assert [each.rank for each in decision.ranked] == [1, 1, 3] and decision.floors == deciding.FLOORS
    assert decision.remarks[0].startswith("Latency of 2 of 3 models is 1,000 ms or better")
    with pytest.raises(ConfigurationError, match="floor latency is -1"):
        deciding.check_floors(latency=-1)
    with pytest.raises(ConfigurationError, match="no floor 'latncy'"):
        deciding.check_floors(latncy=1)


@pytest.mark.parametrize(
    ("limits", "small", "large"),
    [
        ({"max_size_mb": 1000}, None, "size on disk 6,160 MB, the limit is 1,000 MB"),
        ({"max_first_token_s": 1}, None, "first token 1,500 ms, the limit is 1,000 ms"),
        ({"max_latency_s": 2}, None, "p95 latency 9,000 ms, the limit is 2,000 ms"),
        (
            {"max_memory_mb": 899},
            "peak memory 900 MB, the limit is 899 MB",
            "peak memory 7,000 MB, the limit is 899 MB",
        ),
        ({"min_quality": 4.5}, "quality 3, the limit is 4.5", None),
    ],
)
def test_a_broken_limit_is_said_with_both_values(
    limits: dict[str, float], small: str | None, large: str | None
) -> None:
    """Exactly on the limit is kept; beyond it, the value seen and the limit stand in one sentence."""
    (name,) = limits
    found = decided({"quality": 1}, PAIR, **limits).excluded
    assert [found.get(place, {}).get(name) for place in (0, 1)] == [small, large]


def test_what_was_not_measured_keeps_no_limit() -> None:
    """Not enough data is not a pass: neither for a figure nor for a licence, and licences are compared in any case."""
    found = evidence_of({"endpoint": {"latency": 1.0}})
    assert decide(found, EVEN | {"quality": 0}, licences="bsd, mit").excluded == {}
    unknown = replace(found, rows=(replace(found.rows[0], licence=None),))
    (reasons,) = decide(unknown, {"latency": 1}, {"max_memory_mb": 100}, "MIT").excluded.values()
    assert reasons == {
        "max_memory_mb": "peak memory was not measured, the limit is 100 MB",
        "licences": "licence unknown, allowed: MIT",
    }


# -- the order


def test_scores_by_hand() -> None:
    """With equal weights the quick one is (3 + 2) / 2 = 2.5 and the careful one (4 + 0) / 2 = 2: half a step ahead."""
    decision = decided()
    assert [(each.row.alias, each.rank, each.behind) for each in decision.ranked] == [
        ("quick", 1, 0),
        ("careful", 2, 0.5),
    ]
    assert [each.best_share for each in decision.ranked] == [1, 0]
    assert decided({"quality": 3000.0, "latency": 3000.0}).ranked == decision.ranked, "only the ratios matter"


@settings(max_examples=40)
@given(models, st.lists(models, max_size=4), st.sampled_from(NAMES), worth)
def test_a_beaten_model_never_comes_first(
    best: dict[str, float], others: list[dict[str, float]], name: str, given_: dict[str, float]
):
    """Who is worse in one thing and better in none is behind, whatever the weights, and in every draw."""
    worse = {**best, name: best[name] - 1 if name == "quality" else best[name] * 2}
    beaten = next(each for each in decide(crowd([worse, best, *others]), given_).ranked if each.place == 0)
    assert beaten.rank > 1 and beaten.best_share == 0


@settings(max_examples=40)
@given(st.lists(models, min_size=3, max_size=6), worth)
def test_a_model_that_leaves_reverses_no_others(each: list[dict[str, float]], given_: dict[str, float]):
    """The order of the rest, and how far apart they are, do not depend on who else is there."""
    before = [place for place in decide(crowd(each), given_).ranked if place.place != len(each) - 1]
    after = decide(crowd(each[:-1]), given_).ranked
    assert [place.row for place in before] == [place.row for place in after]
    gaps = [place.behind - before[0].behind for place in before]
    assert gaps == pytest.approx([place.behind for place in after], abs=1e-6)


def test_a_model_without_a_figure_that_counts_is_excluded() -> None:
    """It takes nothing from the others' draws; what no model has does not count for any, and a remark says so."""
    decision = decided({"quality": 1, "latency": 1, "memory": 1}, {**TWO, "blind": {"quality": 5}})
    assert (order(decision), decision.prompts) == (["quick", "careful"], 8)
    assert decision.excluded == {2: {"latency": "latency was not measured"}}
    assert list(decision.weights) == ["quality", "latency"]
    assert "Not counted, because no model has a figure: peak memory." in decision.remarks


def test_warnings_cast_doubt_on_what_they_concern() -> None:
    """A warning is said only where its criterion has a weight or a limit, also of a model that is excluded."""
    found = evidence_of({name: {"throughput": 9.0, "quality": 3, "latency_p95": 3.0} for name in "ab"})
    rows = (replace(found.rows[0], warnings=("bursts", "too_few_samples")), found.rows[1])
    shaken = replace(found, rows=rows)
    assert decide(shaken, {"quality": 1}).remarks == ()
    (bursts,) = decide(shaken, {"throughput": 1}).remarks
    (few,) = decide(shaken, {"quality": 1}, {"max_latency_s": 2}).remarks
    assert bursts.startswith("Decode speed of 1 of 2 models, warning bursts:")
    assert few.startswith("P95 latency of 1 of 2 models, warning too_few_samples:")


# -- how sure


def test_the_share_of_draws_by_hand() -> None:
    """Each is better on half of two kinds of prompts; of the draws of four, as many favour one as the other."""
    found = evidence_of({"a": {"quality": [5, 5, 1, 1] * 2}, "b": {"quality": [1, 1, 5, 5] * 2}}, prompts=8)
    decision, drawn = decide(found, {"quality": 1}), found.drawn["quality"][1:]
    ahead = float((drawn[:, 0] > drawn[:, 1]).mean() + 0.5 * (drawn[:, 0] == drawn[:, 1]).mean())
    assert {each.row.alias: each.best_share for each in decision.ranked} == pytest.approx({"a": ahead, "b": 1 - ahead})
    assert ahead == pytest.approx(0.5, abs=0.12)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_every_outcome_has_its_code(outcome: str) -> None:
    """Clear from six prompts on; 3 % less latency in every draw is a difference, 1 % is none."""
    decision = decide(*OUTCOMES[outcome])
    assert decision.outcome == outcome
    assert (decision.first is None) == (outcome in {"tie", "none"})
    apart = {name: NEARLY[name] for name in "ac"}
    assert decide(evidence_of(apart, prompts=8), {"latency": 1}).outcome == "clear"


def test_only_the_first_models_training_takes_clarity_away() -> None:
    """One that was not trained and beats one that was is clear; figures of trained models are a remark in any case."""
    found = trained()
    mine, theirs = (
        replace(each, trained_on_prompts=mark) for each, mark in zip(found.rows, (True, False), strict=True)
    )
    assert decide(replace(found, rows=(mine, theirs)), EVEN).outcome == "clear"
    rows = tuple(replace(each, warnings=("trained_on_prompts",)) for each in found.rows)
    assert "Quality of 2 of 2 models" in decide(replace(found, rows=rows), EVEN).remarks[0]


def test_where_nobody_says_weights_and_limits_are_those_of_the_page() -> None:
    """Page 05, the report and `decide` have one set of defaults; a limit needs a model that has the figure."""
    page = notebooks.read_parameters(notebooks.FOLDER / "05_choose_model.ipynb")
    shown = {name: float(each.default) for name, each in page.items() if name.startswith(("weight_", "max_", "min_"))}
    given = {f"weight_{name}": weight for name, weight in deciding.WEIGHTS.items()} | deciding.BOUNDS
    assert {name: value for name, value in shown.items() if value} == given
    assert decide(evidence_of(PAIR), {"quality": 1}).limits == deciding.BOUNDS
    assert decide(evidence_of(TWO), {"quality": 1}).limits == decide(evidence_of(PAIR), EVEN, {}).limits == {}


@pytest.mark.parametrize(("prompts", "weights", "known"), [(5, EVEN, 5), (8, {"footprint": 1}, 0)])
def test_where_draws_say_nothing_there_is_no_share(prompts: int, weights: dict[str, float], known: int) -> None:
    """With few prompts, or where what counts was measured once, the share is unknown, not 0."""
    decision = decide(evidence_of(TWO, prompts=prompts), weights)
    assert (decision.outcome, decision.prompts) == ("few" if known else "once", known)
    assert [each.best_share for each in decision.ranked] == [None, None]


def test_how_many_draws_make_a_first_place_clear() -> None:
    """By hand for 12 prompts: t(0.975, 11) = 2.201, times sqrt(12 / 11) is 2.299, and of a normal 98.92 % are below."""
    assert [deciding.clear_from(prompts) for prompts in (0, 5, 6, 12)] == [None, None, 0.998, 0.99]
    assert deciding.clear_from(10_000) == 0.976, "rounded up"
    assert doctest.testmod(deciding) == doctest.TestResults(failed=0, attempted=1)
    assert list(map(deciding.percent, (0, 0.001, 0.5, 0.999, 1))) == ["0 %", "under 1 %", "50 %", "over 99 %", "100 %"]


@pytest.mark.parametrize(("prompts", "most_wrong", "fewest_found"), [(3, 0, 0), (6, 13, 24), (12, 13, 38)])
def test_models_that_are_alike_are_seldom_told_apart(prompts: int, most_wrong: int, fewest_found: int) -> None:
    """Two models of equal worth: grades scatter by 0.8, times by 3 % and from start to start by 1 %.

    Of 600 such runs 5 to 8 % are called clear (15 to 22 % by 95 % of the draws alone), so at most 13 of 100 here. One
    that is twice as fast and a grade better is nearly always found, where there are prompts enough.
    """
    alike = [_drawn_run(seed, prompts, better=0) for seed in range(100)]
    apart = [_drawn_run(seed, prompts, better=1) for seed in range(40)]
    assert sum(each.outcome == "clear" for each in alike) <= most_wrong
    found = [each.first.row.alias for each in apart if each.outcome == "clear" and each.first]
    assert set(found) <= {"m0"} and len(found) >= fewest_found


def _drawn_run(seed: int, prompts: int, *, better: float) -> Decision:
    """A decision between two models whose truth is known: the first is `better` grades and halvings ahead."""
    random = np.random.default_rng(seed)
    ease, length = random.normal(3.2, 0.8, prompts), random.normal(0, 0.4, prompts)
    known = {}
    for name, ahead in (("m0", better), ("m1", 0.0)):
        graded = np.clip(np.round(ease + random.normal(0, 0.8, prompts) + ahead), 1, 5)
        times = np.exp(length + random.normal(0, 0.01) + random.normal(0, 0.03, prompts)) / 2**ahead
        known[name] = {"quality": graded.tolist(), "latency": times.tolist()}
    return decide(evidence_of(known, prompts=prompts), EVEN)


def test_the_sweep_by_hand() -> None:
    """At a share t of quality the careful one has 4t and the quick one 3t + 2(1 - t): they cross at two thirds."""
    assert deciding.sweep(decided()) == {"quality": [(0, 66, 1), (67, 100, 0)], "latency": [(0, 33, 0), (34, 100, 1)]}
    assert deciding.sweep(decided({"quality": 1})) == {"quality": [(0, 100, 0)]}
    assert deciding.sweep(decided(max_size_mb=1)) == {"quality": [], "latency": []}
