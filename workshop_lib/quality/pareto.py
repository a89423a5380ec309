"""Speed and quality of each model side by side, and which models no other one beats on both.

Latency is the median over prompts of a prompt's median latency; quality is a mean over prompts. Both intervals come
from drawing the prompts anew, the same draw for every model and both axes. A model is on the Pareto front when no other
is at least as fast and at least as good, and better in one of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

import numpy as np

from workshop_lib import comparison, summary, timing
from workshop_lib.comparison import Estimate
from workshop_lib.errors import ConfigurationError
from workshop_lib.quality import agreement
from workshop_lib.quality.aspects import score_aspects
from workshop_lib.quality.scores import Answer, AnswerKey, Kind, Score, distinct_answers, kind_of
from workshop_lib.records import Row, Run, variant_key

PREFERRED: tuple[Kind, ...] = ("people", "reference", "aspects")
"""Whose scores decide unless told otherwise, see `decisive_measure`. A judge decides only where it is named."""


@dataclass(frozen=True, slots=True)
class ModelQuality:
    """One model's two sides.

    Attributes:
        quality: `aspects` as a share from 0 to 1, the other kinds of raters as mean grades from 1 to 5.
        on_front: no other model beats it on both.
        front_share: how often that holds when prompts are drawn again; None where too few were scored.
    """

    row: Row
    latency_s: Estimate
    quality: Mapping[Kind, Estimate]
    on_front: bool = False
    front_share: float | None = None


@dataclass(frozen=True, slots=True)
class SpeedAgainstQuality:
    """All models, whose scores decided the front, and what a reader must know of the comparison."""

    models: tuple[ModelQuality, ...]
    measure: Kind
    remarks: tuple[str, ...] = ()


def speed_against_quality(
    run: Run, scores: Iterable[Score] = (), *, measure: Kind | None = None, seed: int = 20
) -> SpeedAgainstQuality:
    """Put speed and quality of every model that answered together; the aspects are checked here.

    `measure` says whose scores decide the front, see `decisive_measure`; `seed` is that of the draws of prompts.
    Raises `ConfigurationError`: nothing was scored by the measure asked for.
    """
    used, remarks = one_rubric(tuple(scores))
    rows = [row for row in summary.summarise(run) if row.status == "ok"]
    quality = grade_tables(run, rows, used)
    chosen = decisive_measure(quality, measure)
    draws = comparison.draws(len(run.prompts), seed)
    latency, waits = _over_prompts(_latencies(run, rows), draws, np.nanmedian)
    estimates = {kind: _over_prompts(table, draws, np.nanmean) for kind, table in quality.items()}
    nothing = np.full(latency.shape, np.nan), [Estimate(None)] * len(rows)
    grades, decisive = estimates.get(chosen, nothing)
    front, graded = _front(latency, grades), np.isfinite(grades[1:]).sum(axis=0)
    counts = [figure.n for figure in decisive]
    models = tuple(
        ModelQuality(
            row,
            waits[place],
            {kind: figures[place] for kind, (_, figures) in estimates.items()},
            on_front=bool(front[0, place]),
            front_share=float(front[1:, place].sum() / graded[place]) if n >= comparison.FEWEST_PROMPTS else None,
        )
        for place, (row, n) in enumerate(zip(rows, counts, strict=True))
    )
    remarks += [] if measure else passed_over(quality, chosen)
    if counts and min(counts) < max(counts):
        between = f"{min(counts)} to {max(counts)} prompts"
        remarks.append(f"Models were judged on {between}: their figures rest on different questions.")
    return SpeedAgainstQuality(models, chosen, tuple(remarks))


def one_rubric(scores: Sequence[Score]) -> tuple[list[Score], list[str]]:
    """The grades under the rubric of the latest one, and a sentence on the others: their grades mean other things."""
    grades = [score for score in scores if score.is_grade]
    version = max(grades, key=lambda score: score.scored_at).rubric_version if grades else ""
    kept = [score for score in grades if score.rubric_version == version]
    left = len(grades) - len(kept)
    return kept, [f"{left} scores under another rubric than {version} are left out."] if left else []


def decisive_measure(scored: Mapping[Kind, np.ndarray], wanted: Kind | None = None) -> Kind:
    """Whose scores decide: the one wanted, else the first of `PREFERRED` that scored every model well enough.

    Well enough is on `comparison.FEWEST_PROMPTS` prompts, or all where a run has fewer: a person who has graded two
    answers does not exclude models that others have graded. Where nobody covers every model, the first that scored
    anything decides. Raises `ConfigurationError`: the one wanted scored nothing.
    """
    if wanted is None:
        anyone = [kind for kind in PREFERRED if kind in scored]
        return next((kind for kind in anyone if _covers(scored[kind])), anyone[0] if anyone else PREFERRED[-1])
    if wanted not in scored:
        fix = f"Use one of: {', '.join(scored) or 'nothing was scored'}."
        raise ConfigurationError(f"No score by '{wanted}' fits an answer of this run.", fix)
    return wanted


def _covers(table: np.ndarray) -> bool:
    return bool((np.isfinite(table).sum(axis=0) >= min(comparison.FEWEST_PROMPTS, len(table))).all())


def passed_over(scored: Mapping[Kind, np.ndarray], chosen: Kind) -> list[str]:
    """A sentence for each kind of rater that would decide, and has not graded enough yet."""
    return [
        f"Grades by {kind} do not cover every model on {comparison.FEWEST_PROMPTS} prompts yet: they are not used here."
        for kind in PREFERRED[: PREFERRED.index(chosen)]
        if kind in scored
    ]


def grade_tables(run: Run, rows: Sequence[Row], scores: Sequence[Score]) -> dict[Kind, np.ndarray]:
    """Quality by `[prompt, model]` for each kind of rater that scored an answer of this run; nan where none did."""
    answers = distinct_answers(run)
    column = {(row.model_id, row.device): place for place, row in enumerate(rows)}
    line = {prompt.id: place for place, prompt in enumerate(run.prompts)}
    tables = {}
    for kind, values in _values(answers, scores).items():
        table = np.full((len(line), len(rows)), np.nan)
        for answer in answers:
            for author in map(variant_key, answer.authors):
                if answer.key in values and author in column:
                    table[line[answer.prompt.id], column[author]] = fmean(values[answer.key])
        if np.isfinite(table).any():
            tables[kind] = table
    return tables


def _values(answers: Iterable[Answer], scores: Sequence[Score]) -> dict[Kind, dict[AnswerKey, list[float]]]:
    """What each kind of rater gave each answer; for the aspects the share, which is finer than its grade."""
    found = {answer.key: score_aspects(answer.text, answer.prompt).credit for answer in answers}
    values: dict[Kind, dict[AnswerKey, list[float]]] = {
        "aspects": {key: [credit] for key, credit in found.items() if credit is not None}
    }
    for rater, grades in agreement.ratings(scores).items():
        if (kind := kind_of(rater)) != "aspects":
            for (_, prompt_id, hashed), grade in grades.items():
                values.setdefault(kind, {}).setdefault((prompt_id, hashed), []).append(grade)
    return values


def _latencies(run: Run, rows: Sequence[Row]) -> np.ndarray:
    """Median latency in seconds by `[prompt, model]`; nan where nothing was answered."""
    seen: dict[tuple[str, str, str], list[float]] = {}
    for completion in run.completions:
        latency = timing.latency_s(completion)
        if completion.round and latency is not None:
            seen.setdefault((completion.prompt_id, completion.model_id, completion.device), []).append(latency)
    table = [[median(seen.get((p.id, row.model_id, row.device), [np.nan])) for row in rows] for p in run.prompts]
    return np.array(table, dtype=float).reshape(len(run.prompts), len(rows))


def _front(latency: np.ndarray, quality: np.ndarray) -> np.ndarray:
    """Whether each model (last axis) is on the front of each draw (first axis); nan is never on it."""
    fast, slow = latency[:, :, None], latency[:, None, :]
    good, poor = quality[:, :, None], quality[:, None, :]
    beats = (fast <= slow) & (good >= poor) & ((fast < slow) | (good > poor))
    on_front: np.ndarray = ~beats.any(axis=1) & np.isfinite(latency) & np.isfinite(quality)
    return on_front


def _over_prompts(
    table: np.ndarray, draws: np.ndarray, figure: Callable[..., Any]
) -> tuple[np.ndarray, list[Estimate]]:
    """A figure of each model over all prompts in row 0 and over each draw below, and as estimates; nan where none."""
    places = np.vstack([np.arange(len(table)), draws])
    with warnings.catch_warnings(category=RuntimeWarning, action="ignore"):
        figures = np.asarray(figure(table[places], axis=1))
    counts = np.isfinite(table).sum(axis=0)
    return figures, [
        comparison.estimate(float(figures[0, place]) if n else None, int(n), figures[1:, place])
        for place, n in enumerate(counts)
    ]
