"""Who gave which answer, and what the verdicts say of each model: joined only after the judging.

Knows runs and verdicts. Knows no files and no widget; pure functions.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from workshop_lib.verdicts import answers
from workshop_lib.verdicts.scores import Preference, Score

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workshop_lib.records import ModelVariant, Run
    from workshop_lib.verdicts.answers import AnswerKey, Candidate


@dataclass(frozen=True, slots=True)
class ModelGrade:
    """A model's grades: their mean (None without any), how many, and to how many of its answers."""

    model: str
    mean: float | None
    n: int
    answers: int


@dataclass(frozen=True, slots=True)
class ModelChoices:
    """How often a model's answers were preferred, and were not, in the pairs that were judged."""

    model: str
    won: int
    tied: int
    lost: int
    both_bad: int

    @property
    def n(self) -> int:
        """In how many judged pairs it took part."""
        return self.won + self.tied + self.lost + self.both_bad


def model_name(variant: ModelVariant) -> str:
    """Return a model's name for people: alias, precision and device."""
    return f"{variant.alias} · {variant.precision or 'unknown'} · {variant.device}"


def authors(candidate: Candidate) -> str:
    """Return the names of the models that gave an answer."""
    return ", ".join(model_name(variant) for variant in candidate.authors)


def mean_grades(run: Run, scores: Iterable[Score]) -> tuple[ModelGrade, ...]:
    """Return one line per model, best mean first; missing grades are in no mean."""
    given: dict[AnswerKey, list[int]] = {}
    for score in scores:
        if score.grade is not None:
            given.setdefault((score.prompt_id, score.answer_sha256), []).append(score.grade)
    lines = []
    for model, keys in _answers_by_model(run).items():
        grades = [grade for key in keys for grade in given.get(key, [])]
        lines.append(ModelGrade(model, fmean(grades) if grades else None, len(grades), len(keys)))
    return tuple(sorted(lines, key=lambda line: (-(line.mean or 0.0), line.model)))


def choices(run: Run, preferences: Iterable[Preference]) -> tuple[ModelChoices, ...]:
    """Return one line per model, most often preferred first; a pair without a verdict counts nothing."""
    counts: Counter[tuple[AnswerKey, str]] = Counter()
    for each in preferences:
        for side, sha256 in (("a", each.a_sha256), ("b", each.b_sha256)):
            if each.choice:
                counts[(each.prompt_id, sha256), _outcome(each.choice, side)] += 1
    fields = ("won", "tied", "lost", "both_bad")
    lines = [
        ModelChoices(model, *(sum(counts[key, field] for key in keys) for field in fields))
        for model, keys in _answers_by_model(run).items()
    ]
    return tuple(sorted(lines, key=lambda line: (-line.won / (line.n or 1), line.model)))


def _answers_by_model(run: Run) -> dict[str, list[AnswerKey]]:
    found: dict[str, list[AnswerKey]] = {}
    for candidate in answers.candidates(run):
        for variant in candidate.authors:
            found.setdefault(model_name(variant), []).append(candidate.key)
    return found


def _outcome(choice: str, side: str) -> str:
    if choice in ("a", "b"):
        return "won" if choice == side else "lost"
    return "tied" if choice == "tie" else "both_bad"
