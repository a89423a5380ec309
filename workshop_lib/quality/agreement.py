"""Do raters mean the same by a grade, and can one of them stand in for people? Chance-corrected agreement.

Krippendorff's alpha, ordinal: 1 - observed / expected disagreement, for raters who need not have rated everything
(Krippendorff, "Computing Krippendorff's Alpha-Reliability", 2011). 1 is agreement, 0 is chance. Where it is undefined,
the reason is given and never a bare nan.

Against the shipped readings ranks are compared (Spearman's correlation), which also serves a check without grades.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from workshop_lib import comparison
from workshop_lib.quality.facts import check_answer
from workshop_lib.quality.scores import GRADES, REFERENCE, Key, Score, distinct_answers, kind_of, version_for
from workshop_lib.records import Run

if TYPE_CHECKING:
    from workshop_lib.show.table import Table

RESAMPLES, SEED = 500, 20
RELIABLE, TENTATIVE = 0.8, 0.667
"""Krippendorff's own thresholds ("Content Analysis", 2004, section 11.4)."""
READER = REFERENCE.rstrip(":")
FACTS = "fact check"
"""How the fact check is called among raters; with a space, as no rater's name has."""

Grades = Mapping[Key, int]
"""What a grade is about → the grade."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Krippendorff's alpha of some raters, or the rank correlation of two.

    Attributes:
        n: answers that at least two of the raters graded.
        value: at most 1; None when it is undefined, `reason` says why.
        low, high: interval over prompts; None when there is none.
        reason: why the value is undefined.
    """

    raters: tuple[str, ...]
    n: int
    value: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str | None = None

    @property
    def interval(self) -> str:
        """The interval as tables write it, with three decimals where two might cross a threshold."""
        if self.low is None:
            return "none"
        near = any(abs(self.low - bound) < 0.005 for bound in (RELIABLE, TENTATIVE))
        return f"{self.low:.{3 if near else 2}f} to {self.high:.2f}"

    @property
    def follows(self) -> str:
        """What it allows, by the interval's lower end: a few lucky grades are no evidence. Else why it is undefined."""
        if self.reason or self.low is None:
            return self.reason or "Too few answers in common to say."
        if self.low >= TENTATIVE:
            hint = "Only a hint: check the leading models by hand."
            return "Each can stand in for the other on answers like these." if self.low >= RELIABLE else hint
        return "Too little agreement to choose a model by."


def ratings(scores: Iterable[Score]) -> dict[str, dict[Key, int]]:
    """The last grade of each rater for each answer; a score without a grade withdraws an earlier one."""
    last = {(score.rater, score.key): score.value for score in scores if score.is_grade}
    table: dict[str, dict[Key, int]] = {}
    for (rater, key), grade in last.items():
        if isinstance(grade, int):
            table.setdefault(rater, {})[key] = grade
    return table


def krippendorff_alpha(table: Mapping[str, Grades]) -> Agreement:
    """Ordinal alpha of all raters in a table on the answers that they share, with an interval over prompts."""
    raters = tuple(sorted(rater for rater, grades in table.items() if grades))
    shared = {key: grades for key, grades in _by_answer(table.values()).items() if len(grades) > 1}
    if len(raters) < 2:
        reason = "Only one rater: nobody to agree with." if raters else "Nobody graded an answer of this run."
    elif not shared:
        reason = "They share no answer under one rubric."
    else:
        reason = f"All ratings are equal ({next(iter(shared.values()))[0]}): agreement cannot be told from chance."
    return _agreement(raters, shared, _alpha, reason)


def pair_by_pair(run: Run, scores: Iterable[Score]) -> list[Agreement]:
    """Alpha of each two raters, on the answers of a run that both graded; of a single rater, why there is none.

    All readings of the shipped reference count as one rater, who would else agree with himself.
    """
    table = _readings_as_one(run, scores)
    pairs = combinations(sorted(table), 2) if len(table) > 1 else [tuple(table)]
    return [krippendorff_alpha({rater: table[rater] for rater in pair}) for pair in pairs]


def against_readings(run: Run, scores: Iterable[Score]) -> Table:
    """How closely each rater, and the fact check, puts a run's answers in the order of the shipped readings.

    Spearman's rank correlation on the answers that both judged, with an interval over prompts, the highest first. For
    the fact check an answer ranks higher, the fewer facts it invents or leaves out.
    """
    from workshop_lib.show.table import Table

    given, answers, version = list(scores), distinct_answers(run), version_for(run.prompts)
    here = {(version, *answer.key) for answer in answers}
    table: dict[str, Grades] = {score.rater: {} for score in given if score.key in here}  # also who gave no grade
    table = {rater: {} for rater in table if kind_of(rater) != "reference"} | _readings_as_one(run, given)
    readings = table.pop(READER, {})
    checks = [(each, check_answer(each.prompt.text, each.text, each.prompt.aspects)) for each in answers]
    table[FACTS] = {(version, *each.key): -len(c.unsupported) - len(c.missing) for each, c in checks if c}
    found = []
    for rater, ranks in table.items():
        shared = {key: (readings[key], ranks[key]) for key in ranks if key in readings}
        reason = "All are equal on one side." if shared else "No grades in common."
        found.append(_agreement((rater, READER), shared, _rank_correlation, reason))
    found.sort(key=lambda each: (each.value is None, -(each.value or 0.0), each.raters))
    lines = [(each.raters[0], each.n, each.reason or f"{each.value:.2f}", each.interval) for each in found]
    return Table.of(lines, "rater", "shared answers", "rank correlation with the readings", "95 % CI")


def _readings_as_one(run: Run, scores: Iterable[Score]) -> dict[str, Grades]:
    """The grades of each rater on answers of the run; of all readings the median, of two the lower one."""
    here = {answer.key for answer in distinct_answers(run)}
    table: dict[str, Grades] = dict(ratings(score for score in scores if score.key[1:] in here))
    readings = _by_answer([table.pop(rater) for rater in list(table) if kind_of(rater) == "reference"])
    middle = {key: sorted(grades)[(len(grades) - 1) // 2] for key, grades in readings.items()}
    return table | {READER: middle} if middle else table


def _by_answer(raters: Iterable[Grades]) -> dict[Key, list[int]]:
    given: dict[Key, list[int]] = {}
    for grades in raters:
        for key, grade in grades.items():
            given.setdefault(key, []).append(grade)
    return given


Figure = Callable[[Sequence[Sequence[int]]], float]
"""From the grades that each answer was given to a coefficient; nan where it is undefined."""


def _agreement(raters: tuple[str, ...], shared: Mapping[Key, Sequence[int]], figure: Figure, reason: str) -> Agreement:
    """A figure of the shared grades, with its interval when the prompts are drawn again; else why there is none."""
    value = figure(list(shared.values()))
    if math.isnan(value):
        return Agreement(raters, len(shared), reason=reason)
    by_prompt: dict[str, list[Sequence[int]]] = {}
    for key in sorted(shared, key=lambda key: key[1:]):
        by_prompt.setdefault(key[1], []).append(shared[key])
    groups = list(by_prompt.values())
    draws = comparison.draws(len(groups), SEED, RESAMPLES)
    drawn = [figure([grades for place in draw for grades in groups[place]]) for draw in draws]
    between = comparison.estimate(value, len(groups), drawn)
    return Agreement(raters, len(shared), value, between.low, between.high)


def _alpha(shared: Sequence[Sequence[int]]) -> float:
    import krippendorff
    import numpy as np

    if len({grade for grades in shared for grade in grades}) < 2:
        return math.nan
    counts = np.array([[list(grades).count(grade) for grade in GRADES] for grades in shared])
    return float(krippendorff.alpha(value_counts=counts, value_domain=GRADES, level_of_measurement="ordinal"))


def _rank_correlation(pairs: Sequence[Sequence[int]]) -> float:
    """Spearman's coefficient, ties sharing their mean rank."""
    import numpy as np
    from scipy.stats import rankdata

    if any(len(set(side)) < 2 for side in zip(*pairs, strict=True)) or not pairs:
        return math.nan
    return float(np.corrcoef(rankdata(pairs, axis=0), rowvar=False)[0, 1])
