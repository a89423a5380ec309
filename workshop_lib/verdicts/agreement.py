"""Do raters mean the same by a grade? Chance-corrected agreement on the scale from 1 to 5.

Krippendorff's alpha, ordinal: 1 - observed / expected disagreement, for any number of raters who need not have rated
everything (Krippendorff, "Computing Krippendorff's Alpha-Reliability", 2011). 1 is agreement, 0 is chance. Where it is
undefined, the reason is given and never a bare nan. Knows scores. Knows no models and no files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from workshop_lib.errors import ConfigurationError
from workshop_lib.metrics import resampling
from workshop_lib.verdicts.scores import Score

GRADES = (1, 2, 3, 4, 5)
RESAMPLES = 500

Unit = tuple[str, str, str]
"""What a grade is about: prompt, hash of the answer, and the rubric under which it was given."""

Ratings = Mapping[str, Mapping[Unit, int]]
"""Rater → unit → grade."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Krippendorff's alpha of some raters.

    Attributes:
        value: at most 1; None when it is undefined.
        n: answers that at least two of the raters graded.
        raters: whose grades were compared.
        low, high: interval over prompts; None when there is none.
        reason: why the value is undefined; None when it is defined.
    """

    value: float | None
    n: int
    raters: tuple[str, ...]
    low: float | None = None
    high: float | None = None
    reason: str | None = None


def ratings(scores: Iterable[Score]) -> dict[str, dict[Unit, int]]:
    """The last grade of each rater for each answer; a score without a grade withdraws an earlier one.

    Raises:
        ConfigurationError: a grade outside 1 to 5.
    """
    last = {(score.rater, unit_of(score)): score.grade for score in scores}
    table: dict[str, dict[Unit, int]] = {}
    for (rater, unit), grade in last.items():
        units = table.setdefault(rater, {})
        if grade is None:
            continue
        if grade not in GRADES:
            raise ConfigurationError(f"The rater '{rater}' gave the grade {grade}.", "Give grades from 1 to 5.")
        units[unit] = grade
    return table


def unit_of(score: Score) -> Unit:
    """What a score is about."""
    return score.prompt_id, score.answer_sha256, score.rubric_version


def krippendorff_alpha(table: Ratings, *, seed: int = 20) -> Agreement:
    """Ordinal alpha of all raters in a table, with an interval over prompts."""
    raters = tuple(sorted(rater for rater, grades in table.items() if grades))
    by_unit: dict[Unit, list[int]] = {}
    for rater in raters:
        for unit, grade in table[rater].items():
            by_unit.setdefault(unit, []).append(grade)
    shared = {unit: grades for unit, grades in by_unit.items() if len(grades) > 1}
    reason = _undefined(raters, list(shared.values()))
    if reason:
        return Agreement(None, len(shared), raters, reason=reason)
    value = _alpha(list(shared.values()))
    low, high = _alpha_interval(shared, seed)
    return Agreement(value, len(shared), raters, low, high)


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
    """Alpha of the grades of each unit. The only use of the library."""
    import krippendorff
    import numpy as np

    counts = np.array([[grades.count(grade) for grade in GRADES] for grades in map(list, shared)])
    return float(krippendorff.alpha(value_counts=counts, value_domain=GRADES, level_of_measurement="ordinal"))


def _alpha_interval(shared: Mapping[Unit, Sequence[int]], seed: int) -> tuple[float | None, float | None]:
    by_prompt: dict[str, list[Sequence[int]]] = {}
    for unit in sorted(shared):
        by_prompt.setdefault(unit[0], []).append(shared[unit])
    groups = list(by_prompt.values())
    if len(groups) < resampling.FEWEST_PROMPTS:
        return None, None
    figures = []
    for draw in resampling.draws(len(groups), seed, RESAMPLES):
        drawn = [grades for place in draw for grades in groups[place]]
        varied = len({grade for grades in drawn for grade in grades}) > 1
        figures.append(_alpha(drawn) if varied else float("nan"))
    return resampling.interval(figures) or (None, None)
