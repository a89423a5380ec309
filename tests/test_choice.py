"""Choosing: steps, figures and draws of a run, weights, the order, and how sure it is."""

from __future__ import annotations

import doctest
import math
import subprocess
import sys
from dataclasses import replace
from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.choice_helpers import evidence_of
from tests.test_pareto import grade, made_run
from workshop_lib import places
from workshop_lib.decision import choice, evidence, limits, weights
from workshop_lib.decision.criteria import CRITERIA, criterion, quantiles
from workshop_lib.decision.weights import Weights
from workshop_lib.errors import ConfigurationError
from workshop_lib.quality import pareto
from workshop_lib.records import Serving

EVEN = Weights({"quality": 1, "latency": 1})
TWO = {"careful": {"quality": 4, "latency": 1.0}, "quick": {"quality": 3, "latency": 0.25}}
"""The quick one is one grade worse and four times as fast, which is two steps."""

NAMES = ("quality", "latency", "memory", "footprint")
grades = st.integers(4, 20).map(lambda quarter: quarter / 4)
amounts = st.integers(1, 64).map(float)
models = st.fixed_dictionaries({name: grades if name == "quality" else amounts for name in NAMES})
worth = st.fixed_dictionaries({name: st.integers(1, 8).map(float) for name in NAMES})


def crowd(each: list[dict[str, float]]) -> evidence.Evidence:
    return evidence_of({f"m{place}": values for place, values in enumerate(each)})


def order(decision: choice.Decision) -> list[str]:
    return [each.row.alias for each in decision.ranked]


# -- criteria


def test_a_step_is_a_factor_of_two_or_one_grade() -> None:
    """8 s are three steps worse than 1 s, 4 tok/s two steps better than 1, grade 4.5 half a step better than 4."""
    assert criterion("latency").steps(np.array([8.0, 1.0])).tolist() == [-3, 0]
    assert criterion("throughput").steps(np.array([4.0, 1.0])).tolist() == [2, 0]
    assert criterion("quality").steps(np.array([4.5, 4.0])).tolist() == [4.5, 4]


def test_what_has_no_ratio_has_no_steps() -> None:
    """Neither an unknown value nor 0 MB can be halved."""
    assert np.isnan(criterion("memory").steps(np.array([np.nan, 0.0]))).all()


def test_values_are_said_in_units_for_people() -> None:
    """Milliseconds for times, thousands without decimals, and words for what is missing."""
    assert criterion("latency").say(0.0153) == "15.3 ms"
    assert criterion("footprint").say(6160.0) == "6,160 MB"
    assert criterion("quality").say(3.125) == "3.12"
    assert criterion("memory").say(None) == "not measured"


def test_an_unknown_criterion_is_refused_with_those_that_exist() -> None:
    """A row that is not in the table is named."""
    with pytest.raises(ConfigurationError, match=r"no criterion 'price'.*quality, latency"):
        criterion("price")


@given(st.lists(st.integers(0, 100).map(float), min_size=1, max_size=9), st.sampled_from([0.0, 0.5, 0.95, 1.0]))
def test_quantiles_are_numpys_and_pass_over_what_is_unknown(values: list[float], share: float) -> None:
    """Unknown values between the others change nothing; nothing known gives nothing."""
    table = np.array([*values, np.nan, np.nan])[None, :, None]
    assert quantiles(table, share)[0, 0] == pytest.approx(np.quantile(values, share))
    assert np.isnan(quantiles(np.full((1, 3, 1), np.nan), share)).all()


# -- evidence


def test_figures_of_a_run_by_hand() -> None:
    """Latency is 10 ms plus 1 ms per place of five prompts: median 12 ms, 95 % of ten requests within 14 ms."""
    run = made_run()
    found = evidence.gather(run, grade(run, "fast", [4, 3, 5, 4, 4]), measure="people")
    fast = {name: figures[0] for name, figures in found.figures.items()}
    assert (found.measure, found.prompts) == ("people", 5)
    assert fast["quality"].value == 4
    assert fast["latency"].value == pytest.approx(0.012)
    assert fast["latency_p95"].value == pytest.approx(0.014)
    assert fast["first_token"].value == pytest.approx(0.012)
    assert (fast["latency"].low, fast["latency"].high) == (pytest.approx(0.010), pytest.approx(0.014))
    assert fast["throughput"].value is None and fast["memory"].value is None
    assert "0 to 5 prompts" in found.remarks[0]


def test_latency_and_quality_agree_with_page_04() -> None:
    """Two pages never show two figures for one thing."""
    run = made_run()
    scores = grade(run, "fast", [4, 3, 5, 4, 4]) + grade(run, "slow", [5, 5, 4, 5, 5])
    standing = pareto.speed_against_quality(run, scores, measure="people")
    found = evidence.gather(run, scores, measure="people")
    for place, model in enumerate(standing.models):
        assert found.figures["latency"][place] == model.latency_s
        assert found.figures["quality"][place] == model.quality["people"]


def test_the_aspect_check_counts_as_grades() -> None:
    """Half of the aspects is grade 3, all of them 5, none 1."""
    found = evidence.gather(made_run())
    assert found.measure == "aspects"
    assert [each.value for each in found.figures["quality"]] == [3, 1, 5]


def test_what_is_measured_once_has_no_interval_and_does_not_move() -> None:
    """The peak memory is the same in every draw, and says why it has no interval."""
    run = made_run()
    served = tuple(replace(each, peak_resident_mb=100.0 * (place + 1)) for place, each in enumerate(run.servings))
    found = evidence.gather(replace(run, servings=served))
    assert [each.value for each in found.figures["memory"]] == [100, 200, 300]
    assert found.figures["memory"][0].low is None
    assert found.figures["memory"][0].reason == evidence.MEASURED_ONCE
    assert (found.drawn["memory"] == [100, 200, 300]).all()


def test_drawing_in_pieces_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large runs are drawn a few at a time, with the same result."""
    whole = evidence.gather(made_run())
    monkeypatch.setattr(evidence, "MOST_NUMBERS", 1000)
    pieces = evidence.gather(made_run())
    assert all((whole.drawn[name] == pieces.drawn[name]).all() for name in ("quality", "latency", "latency_p95"))


def test_a_run_without_answers_is_refused() -> None:
    """Nothing can be chosen where nothing answered, or where the measure asked for graded nothing."""
    run = made_run()
    failed = tuple(Serving(each.variant, status="failed", error="no") for each in run.servings)
    with pytest.raises(ConfigurationError, match="No model answered in run r"):
        evidence.gather(replace(run, servings=failed, completions=()))
    with pytest.raises(ConfigurationError, match="by 'judge'"):
        evidence.gather(run, measure="judge")


# -- weights


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"latncy": 1}, "Did you mean latency"),
        ({"zzz": 1}, "Use quality, latency"),
        ({"quality": -1}, "weight of quality is -1"),
        ({"quality": math.nan}, "weight of quality is nan"),
        ({"quality": math.inf}, "weight of quality is inf"),
        ({"quality": 0, "latency": 0}, "All weights are 0"),
        ({}, "All weights are 0"),
    ],
)
def test_weights_that_cannot_be_are_refused(wrong: dict[str, float], said: str) -> None:
    """An unknown name, a negative or endless weight, and nothing that weighs are named with their fix."""
    with pytest.raises(ConfigurationError, match=said):
        Weights(wrong)


def test_scores_by_hand() -> None:
    """With equal weights the quick one is (3 + 2) / 2 = 2.5 and the careful one (4 + 0) / 2 = 2: half a step ahead."""
    decision = choice.decide(evidence_of(TWO), EVEN)
    assert order(decision) == ["quick", "careful"]
    assert [(each.rank, each.behind) for each in decision.ranked] == [(1, 0), (2, 0.5)]
    assert [each.best_share for each in decision.ranked] == [1, 0]


def test_where_the_weights_turn_the_order_by_hand() -> None:
    """One grade is worth two halvings of the time when quality weighs 2, or when latency weighs one half."""
    decision = choice.decide(evidence_of(TWO), EVEN)
    turns = {(each.criterion, round(each.weight, 9), each.place) for each in decision.turns}
    assert turns == {("quality", 2.0, 0), ("latency", 0.5, 0)}
    tied = choice.decide(evidence_of(TWO), Weights({"quality": 2, "latency": 1}))
    assert [each.rank for each in tied.ranked] == [1, 1]
    assert tied.first is None and not tied.turns
    assert [each.best_share for each in tied.ranked] == [0.5, 0.5]


def test_who_leads_as_a_weight_grows_by_hand() -> None:
    """At a share t of quality the careful one has 4t and the quick one 3t + 2(1 - t): they cross at two thirds."""
    found = evidence_of(TWO)
    table = choice.step_table(found, ("quality", "latency"), [0, 1])
    (first, second) = weights.lead(table, EVEN, "quality")
    assert first == (0, pytest.approx(2 / 3), 1)
    assert second == (pytest.approx(2 / 3), 1, 0)
    assert weights.lead({"quality": table["quality"]}, Weights({"quality": 1}), "quality") == [(0, 1, 0)]


@given(st.lists(models, min_size=2, max_size=5), worth, st.sampled_from(NAMES), st.floats(0.01, 0.99))
def test_who_leads_is_who_scores_highest(each: list[dict[str, float]], given_: dict[str, float], name: str, at: float):
    """At every share, the model whose stretch it is has the highest score."""
    found = crowd(each)
    table = choice.step_table(found, NAMES, range(len(each)))
    pieces = weights.lead(table, Weights(given_), name)
    assert [start for start, _, _ in pieces[1:]] == [end for _, end, _ in pieces[:-1]]
    assert (pieces[0][0], pieces[-1][1]) == (0, 1)
    others = sum(weight for key, weight in given_.items() if key != name)
    changed = np.array([at if key == name else (1 - at) * given_[key] / others for key in NAMES])
    scores = weights.scores(np.stack([table[key] for key in NAMES], axis=-1), changed)
    leader = next(place for start, end, place in pieces if start <= at <= end)
    assert scores[leader] == pytest.approx(scores.max(), abs=1e-6)


def test_drawn_weights_stay_where_they_are_said_to_be() -> None:
    """Near ones lie between half and double; those from anywhere are parts of a whole."""
    near = weights.drawn_near(np.array([4.0, 1.0]), seed=3)
    assert (near >= [2, 0.5]).all() and (near <= [8, 2]).all()
    anywhere = weights.drawn_anywhere(3, seed=3)
    assert np.allclose(anywhere.sum(axis=1), 1) and (anywhere >= 0).all()


def test_the_share_of_all_weights_by_hand() -> None:
    """The careful one leads above a share of two thirds for quality, which is one third of all weights."""
    decision = choice.decide(evidence_of(TWO), EVEN)
    shares = {each.row.alias: each.weight_share for each in decision.ranked}
    assert shares["careful"] == pytest.approx(1 / 3, abs=0.02)
    assert shares["careful"] + shares["quick"] == pytest.approx(1)


# -- deciding


@settings(max_examples=40)
@given(st.lists(models, min_size=1, max_size=5), worth, st.sampled_from([0.001, 3.0, 1e6]))
def test_only_the_ratios_of_weights_matter(each: list[dict[str, float]], given_: dict[str, float], factor: float):
    """All weights times a number: the same order and the same probabilities."""
    found = crowd(each)
    one = choice.decide(found, Weights(given_))
    other = choice.decide(found, Weights({name: factor * weight for name, weight in given_.items()}))
    assert [(place.place, place.rank) for place in one.ranked] == [(place.place, place.rank) for place in other.ranked]
    assert [place.best_share for place in one.ranked] == [place.best_share for place in other.ranked]


@settings(max_examples=40)
@given(models, st.lists(models, max_size=4), st.sampled_from(NAMES), worth)
def test_a_beaten_model_never_comes_first(
    best: dict[str, float], others: list[dict[str, float]], name: str, given_: dict[str, float]
):
    """Who is worse in one thing and better in none is behind, whatever the weights, and in every draw."""
    worse = {**best, name: best[name] - 1 if name == "quality" else best[name] * 2}
    decision = choice.decide(crowd([worse, best, *others]), Weights(given_))
    beaten = next(each for each in decision.ranked if each.place == 0)
    assert beaten.rank > 1
    assert beaten.best_share == beaten.near_share == beaten.weight_share == 0


@settings(max_examples=40)
@given(st.lists(models, min_size=3, max_size=6), worth, st.data())
def test_a_model_that_leaves_turns_no_others_round(
    each: list[dict[str, float]], given_: dict[str, float], data: st.DataObject
):
    """The order of the rest, and how far apart they are, do not depend on who else is there."""
    found = crowd(each)
    gone = data.draw(st.integers(0, len(each) - 1))
    before = [place for place in choice.decide(found, Weights(given_)).ranked if place.place != gone]
    after = choice.decide(found.without(gone), Weights(given_)).ranked
    assert [place.row for place in before] == [place.row for place in after]
    gaps = [place.behind - before[0].behind for place in before]
    assert gaps == pytest.approx([place.behind for place in after], abs=1e-6)


@settings(max_examples=40)
@given(st.lists(models, min_size=1, max_size=5), worth)
def test_probabilities_sum_to_one(each: list[dict[str, float]], given_: dict[str, float]):
    """Equal models share a draw."""
    ranked = choice.decide(crowd(each), Weights(given_)).ranked
    for share in ("best_share", "near_share", "weight_share"):
        assert sum(getattr(place, share) for place in ranked) == pytest.approx(1)


def test_the_probability_by_hand() -> None:
    """Each is better on half of two kinds of prompts; of the draws of four, as many favour one as the other."""
    found = evidence_of({"a": {"quality": [5, 5, 1, 1]}, "b": {"quality": [1, 1, 5, 5]}})
    decision = choice.decide(found, Weights({"quality": 1}))
    drawn = found.drawn["quality"]
    ahead = float((drawn[:, 0] > drawn[:, 1]).mean() + 0.5 * (drawn[:, 0] == drawn[:, 1]).mean())
    assert {each.row.alias: each.best_share for each in decision.ranked} == pytest.approx({"a": ahead, "b": 1 - ahead})
    assert ahead == pytest.approx(0.5, abs=0.12)
    assert not decision.is_clear


def test_too_few_prompts_say_nothing_of_others() -> None:
    """With two prompts the probability is unknown, not 0, and the reason is given."""
    decision = choice.decide(evidence_of(TWO, prompts=2), EVEN)
    assert [each.best_share for each in decision.ranked] == [None, None]
    assert decision.reason == "2 prompts are too few to say how often a model comes first: it takes 3."
    assert not decision.is_clear


def test_what_was_measured_once_gives_nothing_to_draw() -> None:
    """An order by size alone is certain of nothing but the sizes."""
    found = evidence_of({"a": {"footprint": 1.0}, "b": {"footprint": 2.0}})
    decision = choice.decide(found, Weights({"footprint": 1}))
    assert order(decision) == ["a", "b"]
    assert decision.ranked[0].best_share is None
    assert "nothing to draw" in str(decision.reason)


def test_a_model_whose_memory_is_unknown_takes_nothing_from_the_others() -> None:
    """It is out; what the others' memory is was measured once, and their draws of prompts stay as many."""
    known = {name: {**values, "memory": 100.0} for name, values in TWO.items()}
    found = evidence_of({**known, "blind": {"quality": 5, "latency": 0.1}})
    decision = choice.decide(found, Weights({"quality": 1, "latency": 1, "memory": 1}))
    assert [each.row.alias for each in decision.out] == ["blind"]
    assert (decision.reason, decision.prompts) == (None, 4)
    assert [each.best_share for each in decision.ranked] == [1, 0]


def test_how_many_draws_make_a_first_place_clear() -> None:
    """By hand for 12 prompts: t(0.975, 11) = 2.201, times sqrt(12 / 11) is 2.299, and of a normal 98.92 % are below."""
    assert choice.clear_from(12) == 0.99
    assert [choice.clear_from(prompts) for prompts in (0, 3, 5)] == [None, None, None]
    assert choice.clear_from(6) == 0.998
    assert choice.clear_from(10_000) == 0.976, "rounded up"


@pytest.mark.parametrize("prompts", [3, 6, 12])
def test_models_that_are_alike_are_seldom_told_apart(prompts: int) -> None:
    """Two models of equal worth: grades scatter by 0.8, times by 3 % and from start to start by 1 %.

    Of 600 such runs 5 to 8 % are called clear (15 to 22 % by 95 % of the draws alone), so at most 13 of 100 here. One
    that is twice as fast and a grade better is nearly always found, where there are prompts enough.
    """
    alike = [_drawn_run(seed, prompts, better=0) for seed in range(100)]
    apart = [_drawn_run(seed, prompts, better=1) for seed in range(40)]
    assert sum(each.is_clear for each in alike) <= (0 if prompts < choice.FEWEST_CLEAR else 13)
    found = [each.first.row.alias for each in apart if each.is_clear and each.first]
    assert set(found) <= {"m0"} and len(found) >= {3: 0, 6: 24, 12: 38}[prompts]


def _drawn_run(seed: int, prompts: int, *, better: float) -> choice.Decision:
    """A decision between two models whose truth is known: the first is `better` grades and halvings ahead."""
    random = np.random.default_rng(seed)
    ease, length = random.normal(3.2, 0.8, prompts), random.normal(0, 0.4, prompts)
    known = {}
    for name, ahead in (("m0", better), ("m1", 0.0)):
        grades_ = np.clip(np.round(ease + random.normal(0, 0.8, prompts) + ahead), 1, 5)
        times = np.exp(length + random.normal(0, 0.01) + random.normal(0, 0.03, prompts)) / 2**ahead
        known[name] = {"quality": grades_.tolist(), "latency": times.tolist()}
    return choice.decide(evidence_of(known, prompts=prompts), EVEN)


def test_draws_without_figures_do_not_count() -> None:
    """Where most draws lack a figure, no probability is claimed."""
    found = evidence_of(TWO)
    holes = found.drawn["quality"].copy()
    holes[: len(holes) * 3 // 4, 0] = np.nan
    decision = choice.decide(replace(found, drawn={**found.drawn, "quality": holes}), EVEN)
    assert decision.reason == "In most draws of prompts a model has no figure."


def test_a_model_without_a_figure_that_weighs_is_out() -> None:
    """It is not taken for the best or the worst; what no model has is left out for all, and said."""
    found = evidence_of({**TWO, "blind": {"quality": 5}})
    decision = choice.decide(found, Weights({"quality": 1, "latency": 1, "memory": 1}))
    assert order(decision) == ["quick", "careful"]
    assert [(each.row.alias, each.reasons) for each in decision.out] == [
        ("blind", ("latency weighs but was not measured",))
    ]
    assert decision.used == ("quality", "latency")
    assert "Not weighed, because no model has a figure: peak memory." in decision.remarks


def test_weighing_only_what_nobody_measured_is_refused() -> None:
    """An order by nothing is no order."""
    with pytest.raises(ConfigurationError, match="Nothing that weighs was measured: peak memory"):
        choice.decide(evidence_of(TWO), Weights({"memory": 1}))


def test_warnings_of_rows_cast_doubt_on_what_they_touch() -> None:
    """`bursts` concerns the decode speed and is said only where that weighs."""
    found = evidence_of({"a": {"throughput": 9.0, "quality": 3}, "b": {"throughput": 8.0, "quality": 4}})
    rows = (replace(found.rows[0], warnings=("bursts",)), found.rows[1])
    shaken = replace(found, rows=rows)
    said = choice.decide(shaken, Weights({"throughput": 1})).remarks
    assert any(each.startswith("Decode speed of 1 of 2 models, warning `bursts`") for each in said)
    assert choice.decide(shaken, Weights({"quality": 1})).remarks == ()


def test_warnings_cast_doubt_on_limits_too() -> None:
    """A limit on the p95 latency says that a handful of requests cannot carry it, also of a model that it puts out."""
    found = evidence_of({name: {"quality": 3, "latency_p95": p95} for name, p95 in (("a", 1.0), ("b", 3.0))})
    rows = tuple(replace(row, warnings=("too_few_samples",)) for row in found.rows)
    decision = choice.decide(replace(found, rows=rows), Weights({"quality": 1}), limits.Limits(max_latency_s=2))
    assert any(each.startswith("P95 latency of 2 of 2 models, warning `too_few_samples`") for each in decision.remarks)


def test_limits_come_before_weights() -> None:
    """The best by weights is out where it breaks a limit."""
    decision = choice.decide(evidence_of(TWO), EVEN, limits.Limits(min_quality=3.5))
    assert order(decision) == ["careful"]
    assert decision.ranked[0].best_share == 1
    assert decision.out[0].reasons == ("quality 3, the limit is 3.5",)


def test_medians_of_requests_do_not_favour_who_was_asked_more_often() -> None:
    """A prompt with three requests weighs as much in the latency as one with a single request."""
    run = made_run(rounds=3)
    thinned = tuple(each for each in run.completions if each.prompt_id != "p0" or each.round < 2)
    found = evidence.gather(replace(run, completions=thinned))
    assert found.figures["latency"][0].value == pytest.approx(median([0.010, 0.011, 0.012, 0.013, 0.014]))


def test_times_on_different_prompts_are_said() -> None:
    """A model that failed on one prompt is timed on four: its median rests on other questions."""
    run = made_run()
    failed = tuple(each for each in run.completions if (each.alias, each.prompt_id) != ("slow", "p4"))
    assert evidence.gather(replace(run, completions=failed)).remarks == (
        "Models were graded on 4 to 5 prompts: their figures rest on different questions.",
        "Models were timed on 4 to 5 prompts: their figures rest on different questions.",
    )


def test_the_examples_in_the_documentation_hold() -> None:
    """The doctests of the modules run."""
    assert doctest.testmod(limits).failed == doctest.testmod(weights).failed == 0
    assert doctest.testmod(weights).attempted > 0 and doctest.testmod(limits).attempted > 0


def test_importing_the_arithmetic_loads_no_heavy_library() -> None:
    """Commands that never choose a model do not pay for it."""
    heavy = "{'numpy', 'pandas', 'matplotlib', 'openai', 'pydantic', 'ipywidgets'}"
    code = f"import sys; from workshop_lib.decision import abilities, choice; print(sorted({heavy} & set(sys.modules)))"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=places.PROJECT)
    assert seen.stdout.strip() == "[]"


def test_every_criterion_has_a_name_of_its_own() -> None:
    """The table can be looked up by name, and every weight in it counts."""
    names = [each.name for each in CRITERIA]
    assert len(set(names)) == len(names)
    assert Weights(dict.fromkeys(names, 1.0)).used == tuple(names)


def test_drawn_weights_change_shares_and_never_the_order() -> None:
    """Another seed moves the shares of weights a little; rank, distance and share of draws stay."""
    decisions = [choice.decide(evidence_of(TWO), EVEN, seed=seed) for seed in (1, 2)]
    kept = [[(each.row, each.rank, each.behind, each.best_share) for each in one.ranked] for one in decisions]
    assert kept[0] == kept[1]
    moved = [one.ranked[0].weight_share for one in decisions]
    assert moved[0] != moved[1] and moved[0] == pytest.approx(moved[1], abs=0.03)
