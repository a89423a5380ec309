"""Agreement coefficients match published examples, and say why where they are undefined."""

from __future__ import annotations

import math

import pytest

from tests.annotation_helpers import run_with
from workshop_lib.quality.agreement import (
    FACTS,
    Agreement,
    against_readings,
    krippendorff_alpha,
    pair_by_pair,
    ratings,
)
from workshop_lib.quality.scores import Answer, Key, Score, version_for
from workshop_lib.records import Prompt

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
    """A grade of the answer "said" to a prompt, or of one that no run of these tests has where the number is 9."""
    text = "something else" if number == 9 else "said"
    hashed = Answer(Prompt("p", "?"), text).sha256
    return Score(rater, f"prompt-{number}", (hashed,), grade, version, "2026-01-01T00:00:00+00:00")


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
    ({}, "Nobody graded an answer of this run."),
    ({"ada": "1 2 3"}, "Only one rater: nobody to agree with."),
    ({"ada": "1 . 3", "ben": ". 2 ."}, "They share no answer under one rubric."),
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
    given_ = [score("ada", 2), score("ada", 4), score("ada", 1, version="0"), score("ben", 3), score("ben", None)]
    assert ratings(given_) == {"ada": {given_[0].key: 4, given_[2].key: 1}}


@pytest.mark.parametrize(
    ("low", "part"),
    [(0.8, "stand in"), (0.79, "Only a hint"), (0.66, "Too little"), (-0.4, "Too little"), (None, "Too few")],
)
def test_agreement_is_trusted_by_the_lower_end_of_its_interval(low: float | None, part: str) -> None:
    """A few lucky grades are no evidence, and an alpha without an interval rests on too few prompts."""
    assert part in Agreement(("a", "b"), 3, 0.9, low, low).follows


RUN = run_with({f"prompt-{number}": {"x": "said"} for number in range(10)})


def test_raters_are_compared_two_by_two_and_one_reader_is_one_rater() -> None:
    """Two readings of one reader are one rater with the lower of both grades, who is never compared with himself."""
    ada = [score("ada", grade, place) for place, grade in enumerate([1, 2, 5])]
    first = [score("reference:1", grade, place) for place, grade in enumerate([1, 3, 5])]
    second = [score("reference:2", grade, place) for place, grade in enumerate([2, 2, 5])]
    aspects = [score("aspects", 4, 7)]
    found = pair_by_pair(RUN, [*ada, *first, *second, *aspects])
    assert [(alpha.raters, alpha.n) for alpha in found] == [
        (("ada", "aspects"), 0), (("ada", "reference"), 3), (("aspects", "reference"), 0),
    ]  # fmt: skip
    assert found[1].value == pytest.approx(1.0)
    assert found[0].reason == "They share no answer under one rubric."
    assert [alpha.reason for alpha in pair_by_pair(RUN, ada)] == ["Only one rater: nobody to agree with."]


def test_grades_of_other_answers_are_not_shown_for_a_run() -> None:
    """The answer that both graded is not of this run, and neither are the shipped ones of another set."""
    both = [score(rater, 4, 9) for rater in ("ada", "reference:1")]
    assert [alpha.reason for alpha in pair_by_pair(RUN, both)] == ["Nobody graded an answer of this run."]
    mixed = [*both, score("ada", 3, 0), score("aspects", 3, 0)]
    assert [(alpha.raters, alpha.n) for alpha in pair_by_pair(RUN, mixed)] == [(("ada", "aspects"), 1)]


def test_a_rater_is_compared_with_the_readings_by_rank_and_so_is_the_fact_check() -> None:
    """Readings 5, 3, 1, 1 have ranks 4, 3, 1.5, 1.5, the check 4, 3, 2, 1: 4.5 / sqrt(4.5 x 5); ada's are reversed."""
    said = ["Ada will pay 20 euros.", "Ada will pay.", "Ben will pay 20 euros.", "Ben will pay 30 euros on Monday."]
    prompts = [Prompt(f"p{n}", "Notes: Ada will pay 20 euros.", aspects=("Ada", "20 euros")) for n in range(4)]
    run = run_with({each.id: {"x": text} for each, text in zip(prompts, said, strict=True)}, prompts)
    given: dict[str, list[int | None]] = {
        "reference:1": [5, 3, 1, 1],
        "ada": [1, 3, 5, 5],
        "ben": [2, 2, 2, 2],
        "judge:m": [None, None, None, 3],
        "judge:n": [None] * 4,
    }
    grades = [
        Score(rater, each.id, (Answer(each, text).sha256,), grade, version_for(prompts), "2026-01-01T00:00:00+00:00")
        for rater, row in given.items()
        for each, text, grade in zip(prompts, said, row, strict=True)
    ]
    assert against_readings(run, grades).to_numpy()[:, :3].tolist() == [
        [FACTS, 4, f"{4.5 / math.sqrt(5 * 4.5):.2f}"],
        ["ada", 4, "-1.00"],
        ["ben", 4, "All are equal on one side."],
        ["judge:m", 1, "All are equal on one side."],
        ["judge:n", 0, "No grades in common."],
    ]
