"""Do raters mean the same by a grade, and can one of them stand in for people? Chance-corrected agreement.

Krippendorff's alpha, ordinal: 1 - observed / expected disagreement, for raters who need not have rated everything
(Krippendorff, "Computing Krippendorff's Alpha-Reliability", 2011). 1 is agreement, 0 is chance. Where it is undefined,
the reason is given and never a bare nan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from workshop_lib import comparison
from workshop_lib.quality.scores import GRADES, REFERENCE, Key, Score, kind_of

RESAMPLES = 500
RELIABLE, TENTATIVE = 0.8, 0.667
"""Krippendorff's own thresholds ("Content Analysis", 2004, section 11.4)."""
READABLE = 0.9
"""A rater that says nothing usable about every tenth answer is free to choose which ones it grades."""
REFERENCE_READER = REFERENCE.rstrip(":")

Ratings = Mapping[str, Mapping[Key, int]]
"""Rater → what a grade is about → grade."""
Trust = Literal["reliable", "tentative", "unreliable", "unknown"]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Krippendorff's alpha of some raters.

    Attributes:
        n: answers that at least two of the raters graded.
        value: at most 1; None when it is undefined, `reason` says why.
        low, high: interval over prompts; None when there is none.
    """

    raters: tuple[str, ...]
    n: int
    value: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str | None = None


def ratings(scores: Iterable[Score]) -> dict[str, dict[Key, int]]:
    """The last grade of each rater for each answer; a score without a grade withdraws an earlier one."""
    last = {(score.rater, score.key): score.value for score in scores if score.is_grade}
    table: dict[str, dict[Key, int]] = {}
    for (rater, key), grade in last.items():
        if isinstance(grade, int):
            table.setdefault(rater, {})[key] = grade
    return table


def pair_by_pair(scores: Iterable[Score]) -> list[Agreement]:
    """Alpha of each two raters, on the answers that both graded; of a single rater, why there is none.

    All readings of the shipped reference count as one rater, who would else agree with himself.
    """
    table: dict[str, Mapping[Key, int]] = dict(ratings(scores))
    readings = [table.pop(rater) for rater in list(table) if kind_of(rater) == "reference"]
    if readings:
        table[REFERENCE_READER] = middle_grades(readings)
    pairs = combinations(sorted(table), 2) if len(table) > 1 else [tuple(table)]
    return [krippendorff_alpha({rater: table[rater] for rater in pair}) for pair in pairs]


def middle_grades(raters: Iterable[Mapping[Key, int]]) -> dict[Key, int]:
    """The median grade of several raters for each answer; of an even number the lower one, which was given."""
    return {key: sorted(grades)[(len(grades) - 1) // 2] for key, grades in _by_answer(raters).items()}


def _by_answer(raters: Iterable[Mapping[Key, int]]) -> dict[Key, list[int]]:
    given: dict[Key, list[int]] = {}
    for grades in raters:
        for key, grade in grades.items():
            given.setdefault(key, []).append(grade)
    return given


def krippendorff_alpha(table: Ratings, *, seed: int = 20) -> Agreement:
    """Ordinal alpha of all raters in a table on the answers that they share, with an interval over prompts."""
    raters = tuple(sorted(rater for rater, grades in table.items() if grades))
    shared = {key: grades for key, grades in _by_answer(table.values()).items() if len(grades) > 1}
    given = {grade for grades in shared.values() for grade in grades}
    if len(given) < 2:
        return Agreement(raters, len(shared), reason=_undefined(raters, given))
    by_prompt: dict[str, list[Sequence[int]]] = {}
    for key in sorted(shared, key=lambda key: key[1:]):
        by_prompt.setdefault(key[1], []).append(shared[key])
    groups, between = list(by_prompt.values()), None
    if len(groups) >= comparison.FEWEST_PROMPTS:
        draws = comparison.draws(len(groups), seed, RESAMPLES)
        between = comparison.interval([_alpha([each for place in draw for each in groups[place]]) for draw in draws])
    low, high = between or (None, None)
    return Agreement(raters, len(shared), _alpha(list(shared.values())), low, high)


def _undefined(raters: Sequence[str], given: set[int]) -> str:
    """Why there is no alpha of raters who share fewer than two different grades."""
    if len(raters) < 2:
        return f"Only one rater ({raters[0]}): nobody to agree with." if raters else "Nobody gave a grade."
    if not given:
        return "No answer was graded by two raters under the same rubric."
    return f"All ratings are equal ({max(given)}): agreement cannot be told from chance."


def _alpha(shared: Sequence[Sequence[int]]) -> float:
    """Alpha of the grades of each answer; nan where all are equal."""
    import krippendorff
    import numpy as np

    if len({grade for grades in shared for grade in grades}) == 1:
        return float("nan")
    counts = np.array([[list(grades).count(grade) for grade in GRADES] for grades in shared])
    return float(krippendorff.alpha(value_counts=counts, value_domain=GRADES, level_of_measurement="ordinal"))


@dataclass(frozen=True, slots=True)
class Reliability:
    """How far one rater can be trusted, by its measured agreement and not by what it is.

    Attributes:
        asked, graded: answers that it was asked to grade, and of which a grade could be read.
        alpha: agreement with the others together, on the answers that it graded.
        trust: by the lower end of alpha's interval, because a few lucky grades are no evidence; `unknown` when too
            little can be compared.
    """

    rater: str
    asked: int
    graded: int
    alpha: Agreement
    trust: Trust


def examine(scores: Sequence[Score], rater: str, against: Sequence[str]) -> Reliability:
    """Compare one rater with others, whose median grade of an answer stands for them all."""
    table = ratings(scores)
    own = table.get(rater, {})
    asked = len({score.key for score in scores if score.rater == rater and score.is_grade})
    others = middle_grades(table[other] for other in against if other in table)
    alpha = krippendorff_alpha({rater: own, " and ".join(against): others})
    return Reliability(rater, asked, len(own), alpha, _trust(asked, len(own), alpha.low))


def _trust(asked: int, graded: int, low: float | None) -> Trust:
    if graded < READABLE * asked:
        return "unreliable"
    if low is None:
        return "unknown"
    return "reliable" if low >= RELIABLE else "tentative" if low >= TENTATIVE else "unreliable"
