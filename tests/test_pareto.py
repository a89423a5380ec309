"""Speed and quality side by side: whose grades decide, the front, and how sure both are."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report_helpers import run_of_models
from workshop_lib import comparison
from workshop_lib.choice import decide
from workshop_lib.errors import ConfigurationError
from workshop_lib.quality import pareto, scores
from workshop_lib.quality.pareto import speed_against_quality
from workshop_lib.quality.scores import Score, score_now
from workshop_lib.records import Chunk, Completion, ModelVariant, Prompt, Run, Serving

MODELS = {"fast": 0.010, "middle": 0.020, "slow": 0.040}
PROMPTS = tuple(Prompt(f"p{place}", f"Question {place}?", aspects=("local", "private")) for place in range(5))
SAID = {"fast": "It is local", "middle": "It is something else", "slow": "It is local and private"}
WHEN = "2026-11-20T12:00:00+00:00"


def made_run(said: dict[str, str] = SAID, prompts: tuple[Prompt, ...] = PROMPTS, rounds: int = 2) -> Run:
    """Three models; a prompt's latency is the model's own, plus 1 ms per place of the prompt; every text differs."""
    variants = {name: ModelVariant(name, f"{name}:1", "cpu", precision="int4") for name in said}
    completions = [
        Completion(
            request_id=f"{name}/{prompt.id}/{turn}",
            alias=name,
            model_id=f"{name}:1",
            device="cpu",
            prompt_id=prompt.id,
            round=turn,
            started_at=WHEN,
            chunks=(Chunk(MODELS[name] + 0.001 * place, "content", f"{text}, {prompt.id}."),),
            finish_reason="stop",
        )
        for turn in range(rounds + 1)
        for place, prompt in enumerate(prompts)
        for name, text in said.items()
    ]
    served = tuple(Serving(variant) for variant in variants.values())
    return Run("r", WHEN, "practice", {}, {"rounds": rounds}, prompts, served, tuple(completions))


def grade(run: Run, model: str, grades: list[int | None], rater: str = "ada", version: str = "1") -> list[Score]:
    """One grade per prompt for a model's answers."""
    mine = [each for each in scores.distinct_answers(run) if any(author.alias == model for author in each.authors)]
    return [score_now((each,), rater, given_, version, "") for each, given_ in zip(mine, grades, strict=False)]


def by_alias(standing: pareto.SpeedAgainstQuality) -> dict[str, pareto.ModelQuality]:
    return {each.row.alias: each for each in standing.models}


def test_aspects_and_latency_by_hand() -> None:
    """The fast one mentions half of the aspects in 12 ms, the slow one all in 42 ms, the middle one none."""
    standing = speed_against_quality(made_run())
    found = by_alias(standing)
    assert standing.measure == "aspects"
    mentioned = {name: each.quality["aspects"].value for name, each in found.items()}
    assert mentioned == {"fast": 0.5, "middle": 0, "slow": 1}
    assert found["fast"].latency_s.value == pytest.approx(0.012)
    assert found["slow"].latency_s.value == pytest.approx(0.042)
    assert {name: each.on_front for name, each in found.items()} == {"fast": True, "middle": False, "slow": True}
    assert {name: each.front_share for name, each in found.items()} == {"fast": 1, "middle": 0, "slow": 1}
    assert found["fast"].latency_s.low == pytest.approx(0.010)
    assert found["fast"].latency_s.high == pytest.approx(0.014)


def test_people_decide_where_they_are_asked_to() -> None:
    """Mean grade over prompts of the mean over raters: (4 + 2) / 2, 3, 5, and nothing for the last two."""
    run = made_run()
    scores = grade(run, "fast", [4, 3, 5]) + grade(run, "fast", [2], "ben") + grade(run, "slow", [3, 3, 3])
    standing = speed_against_quality(run, scores, measure="people")
    found = by_alias(standing)
    assert standing.measure == "people"
    assert found["fast"].quality["people"].value == pytest.approx((3 + 3 + 5) / 3)
    assert found["fast"].quality["people"].n == 3
    assert found["middle"].quality["people"].value is None
    assert (found["middle"].on_front, found["middle"].front_share) == (False, None)
    assert found["slow"].on_front is False
    assert standing.remarks == ("Models were judged on 0 to 3 prompts: their figures rest on different questions.",)


def test_a_few_grades_do_not_put_out_models_that_nobody_has_graded_yet() -> None:
    """People decide once they graded every model on 3 prompts; until then the next measure does, and it is said."""
    run = made_run()
    scores = grade(run, "fast", [4, 3, 5]) + grade(run, "slow", [3, 3, 3]) + grade(run, "middle", [3, 3])
    standing = speed_against_quality(run, scores)
    assert standing.measure == "aspects"
    said = "Grades by people do not cover every model on 3 prompts yet: they are not used here."
    assert standing.remarks[0] == said
    assert decide.gather_evidence(run, scores).remarks[0] == said
    enough = speed_against_quality(run, [*scores, *grade(run, "middle", [3, 3, 3])[2:]])
    assert enough.measure == "people"
    assert said not in enough.remarks


def test_a_judge_decides_only_where_it_is_named() -> None:
    """Grades of judges are shown beside the rest; asking for a measure that scored nothing is an error."""
    run = made_run()
    scores = grade(run, "middle", [5] * 5, "judge:j")
    standing = speed_against_quality(run, scores)
    assert standing.measure == "aspects"
    assert by_alias(standing)["middle"].quality["judge"].value == 5
    assert by_alias(speed_against_quality(run, scores, measure="judge"))["middle"].on_front
    with pytest.raises(ConfigurationError, match="by 'people'"):
        speed_against_quality(run, scores, measure="people")


def test_only_the_rubric_of_the_latest_score_counts() -> None:
    """Grades under another rubric are left out, and that is said."""
    run = made_run()
    old = [replace(score, scored_at="2025-01-01") for score in grade(run, "slow", [1] * 5, version="0")]
    standing = speed_against_quality(run, old + grade(run, "slow", [5] * 5))
    assert by_alias(standing)["slow"].quality["people"].value == 5
    assert standing.remarks[0] == "5 scores under another rubric than 1 are left out."


def test_saying_what_is_forbidden_counts_as_nothing_mentioned() -> None:
    """Its other aspects do not make up for it."""
    bad = made_run(
        {"fast": "It is local and in the cloud"}, (Prompt("p0", "?", aspects=("local",), forbidden=("cloud",)),)
    )
    assert by_alias(speed_against_quality(bad))["fast"].quality["aspects"].value == 0


def front(points: list[tuple[float, float]]) -> list[bool]:
    pairs = np.asarray(points, dtype=float).reshape(1, -1, 2)
    return pareto._front(pairs[..., 0], pairs[..., 1])[0].tolist()


FRONTS = [
    ([(1, 1)], [True]),
    ([(1, 1), (2, 2)], [True, True]),
    ([(1, 2), (2, 1)], [True, False]),
    ([(1, 1), (1, 1)], [True, True]),
    ([(1, 2), (1, 1), (2, 2)], [True, False, False]),
    ([(1, math.nan), (2, 1)], [False, True]),
    ([], []),
]


@pytest.mark.parametrize(("points", "expected"), FRONTS)
def test_the_front_by_hand(points: list[tuple[float, float]], expected: list[bool]) -> None:
    """Beaten means: another is at least as fast and as good, and better in one; equals do not beat each other."""
    assert front(points) == expected


POINT = st.tuples(st.integers(1, 5), st.integers(1, 5))


@given(st.lists(POINT, min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_the_front_knows_no_order_and_is_never_empty(points: list[tuple[int, int]], shuffle) -> None:
    """The fastest of the best is never beaten, and shuffling models moves their marks along."""
    found = front(points)
    assert found[points.index(max(points, key=lambda point: (point[1], -point[0])))]
    order = list(range(len(points)))
    shuffle.shuffle(order)
    assert front([points[place] for place in order]) == [found[place] for place in order]


def test_an_interval_needs_prompts() -> None:
    """Two prompts give a figure and the reason why it has no interval; the same seed gives the same interval."""
    two = by_alias(speed_against_quality(made_run(prompts=PROMPTS[:2])))["fast"].latency_s
    assert (two.low, two.high, two.reason) == (None, None, "2 prompts are too few for an interval.")
    assert speed_against_quality(made_run()) == speed_against_quality(made_run())
    assert comparison.interval([math.nan] * 6 + [1.0] * 4) is None
    assert comparison.estimate(1.0, 5, [math.nan]).reason == "Most draws leave it undefined."


def test_a_run_without_aspects_and_scores_has_speed_only() -> None:
    """Nothing scored is no front and no share."""
    standing = speed_against_quality(run_of_models(3, failed=1))
    assert [(each.on_front, each.front_share, each.quality) for each in standing.models] == [(False, None, {})] * 2
