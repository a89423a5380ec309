"""Agreement coefficients match published examples, and say why where they are undefined."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workshop_lib.quality.agreement import examine, krippendorff_alpha, pair_by_pair, ratings
from workshop_lib.quality.scores import Key, Score

KRIPPENDORFF_2011 = {
    "A": "1 2 3 3 2 1 4 1 2 . . .",
    "B": "1 2 3 3 2 2 4 1 2 5 . 3",
    "C": ". 3 3 3 2 3 4 2 2 5 1 .",
    "D": "1 2 3 3 2 4 4 1 2 5 1 .",
}


def unit(number: int) -> Key:
    return "1", f"prompt-{number}", "0" * 64


def table_of(rows: dict[str, str]) -> dict[str, dict[Key, int]]:
    """Rater → grades, one per answer, `.` where there is none; each answer has a prompt of its own."""
    return {
        rater: {unit(place): int(grade) for place, grade in enumerate(row.split()) if grade != "."}
        for rater, row in rows.items()
    }


def score(rater: str, grade: int | None, number: int = 0, version: str = "1") -> Score:
    return Score(rater, f"prompt-{number}", ("0" * 64,), grade, version, "2026-01-01T00:00:00+00:00")


def test_alpha_is_that_of_krippendorff_2011() -> None:
    """ "Computing Krippendorff's Alpha-Reliability" (2011), example C: 4 observers, 12 units, ordinal: 0.815."""
    found = krippendorff_alpha(table_of(KRIPPENDORFF_2011))
    assert found.value == pytest.approx(0.815, abs=5e-4)
    assert (found.n, found.raters, found.reason) == (11, ("A", "B", "C", "D"), None)
    assert found.low is not None and found.high is not None
    assert found.low < found.value < found.high <= 1


def test_alpha_by_hand() -> None:
    """Grades (1, 1), (2, 2), (1, 2): the ordinal distance of 1 and 2 is 9; observed 2 x 9 / 6, expected 18 x 9 / 30."""
    found = krippendorff_alpha(table_of({"ada": "1 2 1", "ben": "1 2 2"}))
    assert found.value == pytest.approx(1 - (2 / 6) / (18 / 30))


UNDEFINED = [
    ({}, "Nobody gave a grade."),
    ({"ada": "1 2 3"}, "Only one rater (ada): nobody to agree with."),
    ({"ada": "1 . 3", "ben": ". 2 ."}, "No answer was graded by two raters under the same rubric."),
    ({"ada": "4 4 4", "ben": "4 4 4"}, "All ratings are equal (4): agreement cannot be told from chance."),
]


@pytest.mark.parametrize(("rows", "reason"), UNDEFINED)
def test_an_undefined_coefficient_says_why(rows: dict[str, str], reason: str) -> None:
    """There is a reason and no value, never nan."""
    table = table_of(rows)
    found = krippendorff_alpha(table)
    assert (found.value, found.low, found.high, found.reason) == (None, None, None, reason)


def test_the_last_grade_counts_and_none_withdraws() -> None:
    """A grade is replaced by a later one under the same rubric, and a score without grade takes it back."""
    found = ratings(
        [score("ada", 2), score("ada", 4), score("ada", 1, version="0"), score("ben", 3), score("ben", None)]
    )
    assert found == {"ada": {unit(0): 4, ("0", *unit(0)[1:]): 1}}


GRADED = st.dictionaries(st.integers(0, 12), st.integers(1, 5), max_size=13)


@settings(max_examples=40)
@given(st.lists(GRADED, min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_the_order_of_raters_and_answers_makes_no_difference(rows: list[dict[int, int]], shuffle) -> None:
    """Alpha is the same for any names and order of raters, and never nan."""
    table = {f"r{place}": {unit(number): grade for number, grade in row.items()} for place, row in enumerate(rows)}
    names = list(table)
    shuffle.shuffle(names)
    renamed = {f"s{place}": dict(reversed(table[name].items())) for place, name in enumerate(names)}
    one, other = krippendorff_alpha(table), krippendorff_alpha(renamed)
    assert (one.value is None) == (one.reason is not None)
    assert one.n == other.n and one.value == pytest.approx(other.value)
    assert one.value is None or (math.isfinite(one.value) and one.value <= 1 + 1e-9)


@given(st.lists(st.integers(1, 5), min_size=2).filter(lambda grades: len(set(grades)) > 1))
def test_raters_who_always_agree_have_a_coefficient_of_one(grades: list[int]) -> None:
    """Full agreement is 1, however few answers."""
    row = {unit(place): grade for place, grade in enumerate(grades)}
    assert krippendorff_alpha({"a": row, "b": row}).value == pytest.approx(1)


def judged(judge: list[int | None], people: list[int]) -> list[Score]:
    said = [score("judge:toy", grade, place) for place, grade in enumerate(judge)]
    return said + [score("ada", grade, place) for place, grade in enumerate(people)]


PEOPLE = [1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 2, 4]
TRUST = [
    (PEOPLE, "reliable"),
    ([*reversed(PEOPLE)], "unreliable"),
    ([5] * 12, "unreliable"),
    ([None] * 12, "unreliable"),
    ([*PEOPLE[:10], None, None], "unreliable"),
    ([1, 2, 3, 4, 5, 1, 2, 3, 5, 5, 3, 4], "tentative"),  # alpha 0.96, but from 0.78
]


@pytest.mark.parametrize(("judge", "trust"), TRUST)
def test_a_judge_is_trusted_for_its_agreement_alone(judge: list[int | None], trust: str) -> None:
    """Alpha's lower bound and the share that could be read decide, and nothing about the model."""
    assert examine(judged(judge, PEOPLE), "judge:toy", ["ada"]).trust == trust


def test_too_few_common_answers_leave_a_judge_unknown() -> None:
    """Two answers on which judge and person agree are luck as well as evidence."""
    found = examine(judged([1, 5], [1, 5]), "judge:toy", ["ada"])
    assert (found.alpha.value, found.alpha.low, found.trust) == (pytest.approx(1.0), None, "unknown")


def test_several_people_stand_as_their_middle_grade() -> None:
    """The grades 1, 2 and 5 of three people count as 2, and 2 and 5 of two as 2."""
    scores = [
        score("judge:toy", 2, 0), score("judge:toy", 3, 1), score("ada", 1, 0), score("ben", 2, 0), score("cy", 5, 0),
        score("ada", 3, 1), score("ben", 5, 1),
    ]  # fmt: skip
    found = examine(scores, "judge:toy", ["ada", "ben", "cy"])
    assert (found.alpha.value, found.alpha.n) == (pytest.approx(1.0), 2)


def test_raters_are_compared_two_by_two_and_one_reader_is_one_rater() -> None:
    """Two readings of one reader are one rater with the lower of both grades, who is never compared with himself."""
    ada = [score("ada", grade, place) for place, grade in enumerate([1, 2, 5])]
    first = [score("reference:1", grade, place) for place, grade in enumerate([1, 3, 5])]
    second = [score("reference:2", grade, place) for place, grade in enumerate([2, 2, 5])]
    aspects = [score("aspects", 4, 7)]
    found = pair_by_pair([*ada, *first, *second, *aspects])
    assert [(alpha.raters, alpha.n) for alpha in found] == [
        (("ada", "aspects"), 0), (("ada", "reference"), 3), (("aspects", "reference"), 0),
    ]  # fmt: skip
    assert found[1].value == pytest.approx(1.0)
    assert found[0].reason == "No answer was graded by two raters under the same rubric."
    assert [alpha.reason for alpha in pair_by_pair(ada)] == ["Only one rater (ada): nobody to agree with."]
    assert [alpha.reason for alpha in pair_by_pair([])] == ["Nobody gave a grade."]
