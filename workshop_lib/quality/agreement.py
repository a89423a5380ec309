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
from workshop_lib.quality.scores import GRADES, REFERENCE, Score, kind_of

RESAMPLES = 500
RELIABLE, TENTATIVE = 0.8, 0.667
"""Krippendorff's own thresholds ("Content Analysis", 2004, section 11.4)."""

READABLE = 0.9
"""A rater that says nothing usable about every tenth answer is free to choose which ones it grades."""

REFERENCE_READER = REFERENCE.rstrip(":")
Key = tuple[str, ...]
"""What a grade is about, `Score.key`: rubric version, prompt, answer."""

Ratings = Mapping[str, Mapping[Key, int]]
"""Rater → what a grade is about → grade."""

Trust = Literal["reliable", "tentative", "unreliable", "unknown"]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Krippendorff's alpha of some raters.

    Attributes:
        value: at most 1; None when it is undefined, `reason` says why.
        n: answers that at least two of the raters graded.
        raters: whose grades were compared.
        low, high: interval over prompts; None when there is none.
    """

    value: float | None
    n: int
    raters: tuple[str, ...]
    low: float | None = None
    high: float | None = None
    reason: str | None = None


def ratings(scores: Iterable[Score]) -> dict[str, dict[Key, int]]:
    """The last grade of each rater for each answer; a score without a grade withdraws an earlier one."""
    last = {(score.rater, score.key): score.grade for score in scores}
    table: dict[str, dict[Key, int]] = {}
    for (rater, key), grade in last.items():
        if grade is not None:
            table.setdefault(rater, {})[key] = grade
    return table


def pair_by_pair(scores: Iterable[Score]) -> list[Agreement]:
    """Alpha of each two raters, on the answers that both graded; of a single rater, why there is none."""
    table = one_reader(ratings(scores))
    pairs = combinations(sorted(table), 2) if len(table) > 1 else [tuple(table)]
    return [krippendorff_alpha({rater: table[rater] for rater in pair}) for pair in pairs]


def one_reader(table: Ratings) -> dict[str, Mapping[Key, int]]:
    """The same ratings with all readings of the shipped reference as one rater, who would else agree with himself."""
    readings = [rater for rater in table if kind_of(rater) == "reference"]
    others = {rater: grades for rater, grades in table.items() if rater not in readings}
    return {**others, REFERENCE_READER: middle_grades(table, readings)} if readings else others


def middle_grades(table: Ratings, raters: Iterable[str]) -> dict[Key, int]:
    """The median grade of several raters for each answer; of an even number the lower one, which was given."""
    given: dict[Key, list[int]] = {}
    for rater in raters:
        for key, grade in table.get(rater, {}).items():
            given.setdefault(key, []).append(grade)
    return {key: sorted(grades)[(len(grades) - 1) // 2] for key, grades in given.items()}


def krippendorff_alpha(table: Ratings, *, seed: int = 20) -> Agreement:
    """Ordinal alpha of all raters in a table on the answers that they share, with an interval over prompts."""
    raters = tuple(sorted(rater for rater, grades in table.items() if grades))
    graded: dict[Key, list[int]] = {}
    for rater in raters:
        for key, grade in table[rater].items():
            graded.setdefault(key, []).append(grade)
    shared = {key: grades for key, grades in graded.items() if len(grades) > 1}
    if reason := _undefined(raters, list(shared.values())):
        return Agreement(None, len(shared), raters, reason=reason)
    low, high = _interval(shared, seed)
    return Agreement(_alpha(list(shared.values())), len(shared), raters, low, high)


def _undefined(raters: Sequence[str], shared: Sequence[Sequence[int]]) -> str | None:
    if len(raters) < 2:
        return f"Only one rater ({raters[0]}): nobody to agree with." if raters else "Nobody gave a grade."
    if not shared:
        return "No answer was graded by two raters under the same rubric."
    given = {grade for grades in shared for grade in grades}
    if len(given) == 1:
        return f"All ratings are equal ({given.pop()}): agreement cannot be told from chance."
    return None


def _alpha(shared: Sequence[Sequence[int]]) -> float:
    """Alpha of the grades of each answer; nan where all are equal."""
    import krippendorff
    import numpy as np

    if len({grade for grades in shared for grade in grades}) == 1:
        return float("nan")
    counts = np.array([[list(grades).count(grade) for grade in GRADES] for grades in shared])
    return float(krippendorff.alpha(value_counts=counts, value_domain=GRADES, level_of_measurement="ordinal"))


def _interval(shared: Mapping[Key, Sequence[int]], seed: int) -> tuple[float | None, float | None]:
    by_prompt: dict[str, list[Sequence[int]]] = {}
    for key in sorted(shared, key=lambda key: key[1:]):
        by_prompt.setdefault(key[1], []).append(shared[key])
    groups = list(by_prompt.values())
    if len(groups) < comparison.FEWEST_PROMPTS:
        return None, None
    draws = comparison.draws(len(groups), seed, RESAMPLES)
    figures = [_alpha([grades for place in draw for grades in groups[place]]) for draw in draws]
    return comparison.interval(figures) or (None, None)


@dataclass(frozen=True, slots=True)
class Reliability:
    """How far one rater can be trusted, by its measured agreement and not by what it is.

    Attributes:
        rater: who is examined.
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
    asked = len({score.key for score in scores if score.rater == rater})
    alpha = krippendorff_alpha({rater: own, " and ".join(against): middle_grades(table, against)})
    return Reliability(rater, asked, len(own), alpha, _trust(asked, len(own), alpha.low))


def _trust(asked: int, graded: int, low: float | None) -> Trust:
    if graded < READABLE * asked:
        return "unreliable"
    if low is None:
        return "unknown"
    return "reliable" if low >= RELIABLE else "tentative" if low >= TENTATIVE else "unreliable"
