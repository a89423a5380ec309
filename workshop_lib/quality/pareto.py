"""Speed and quality of each model side by side, and which models no other one beats on both.

Latency is the median over prompts of a prompt's median latency; quality is a mean over prompts. Both intervals come
from drawing the prompts anew, the same draw for every model and both axes. A model is on the Pareto front when no other
is at least as fast and at least as good, and better in one of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING, Literal

from workshop_lib import comparison, summary, timing
from workshop_lib.comparison import Estimate
from workshop_lib.errors import ConfigurationError
from workshop_lib.quality import agreement
from workshop_lib.quality.aspects import score_aspects
from workshop_lib.quality.scores import Answer, AnswerKey, Kind, Score, distinct_answers, kind_of
from workshop_lib.records import Row, Run, variant_key

if TYPE_CHECKING:
    import numpy as np

Figure = Literal["mean", "median"]

PREFERRED: tuple[Kind, ...] = ("people", "reference", "aspects")
"""Whose verdict decides unless told otherwise, see `decisive_measure`. A judge decides only where it is named."""


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
    """All models, whose verdict decided the front, and what a reader must know of the comparison."""

    models: tuple[ModelQuality, ...]
    measure: Kind
    remarks: tuple[str, ...] = ()


def speed_against_quality(
    run: Run, scores: Iterable[Score] = (), *, measure: Kind | None = None, seed: int = 20
) -> SpeedAgainstQuality:
    """Put speed and quality of every model that answered together; the aspects are checked here.

    `measure` says whose verdict decides the front, see `decisive_measure`; `seed` is that of the draws of prompts.
    Raises `ConfigurationError`: nothing was scored by the measure asked for.
    """
    import numpy as np

    used, remarks = one_rubric(tuple(scores))
    rows = [row for row in summary.summarise(run) if row.status == "ok"]
    latency = _latencies(run, rows)
    quality = grade_tables(run, rows, used)
    chosen = decisive_measure(quality, measure)
    decisive = quality.get(chosen, np.full(latency.shape, np.nan))
    drawn = comparison.draws(len(run.prompts), seed)
    best = _front(_over_prompts(latency[None], "median"), _over_prompts(decisive[None], "mean"))[0]
    grades = _over_prompts(decisive[drawn], "mean")
    won = _front(_over_prompts(latency[drawn], "median"), grades).sum(axis=0)
    graded = np.isfinite(grades).sum(axis=0)
    counts = np.isfinite(decisive).sum(axis=0).tolist()
    waits = _estimates(latency, drawn, "median")
    estimates = {kind: _estimates(table, drawn, "mean") for kind, table in quality.items()}
    models = tuple(
        ModelQuality(
            row=row,
            latency_s=waits[place],
            quality={kind: figures[place] for kind, figures in estimates.items()},
            on_front=bool(best[place]),
            front_share=float(won[place] / graded[place]) if counts[place] >= comparison.FEWEST_PROMPTS else None,
        )
        for place, row in enumerate(rows)
    )
    if not measure:
        remarks += passed_over(quality, chosen)
    if chosen in quality and min(counts) < max(counts):
        between = f"{min(counts)} to {max(counts)} prompts"
        remarks.append(f"Models were judged on {between}: their figures rest on different questions.")
    return SpeedAgainstQuality(models, chosen, tuple(remarks))


def one_rubric(scores: Sequence[Score]) -> tuple[list[Score], list[str]]:
    """The scores under the rubric of the latest score, and a sentence on the others: their grades mean other things."""
    version = max(scores, key=lambda score: score.scored_at).rubric_version if scores else ""
    kept = [score for score in scores if score.rubric_version == version]
    left = len(scores) - len(kept)
    return kept, [f"{left} scores under another rubric than {version} are left out."] if left else []


def decisive_measure(scored: Mapping[Kind, np.ndarray], wanted: Kind | None = None) -> Kind:
    """Whose verdict decides: the one wanted, else the first of `PREFERRED` that scored every model well enough.

    Well enough is on `resampling.FEWEST_PROMPTS` prompts, or all where a run has fewer: a person who has graded two
    answers does not exclude models that others have graded. Where nobody covers every model, the first that scored
    anything decides. Raises `ConfigurationError`: the one wanted scored nothing.
    """
    if wanted is None:
        anyone = [kind for kind in PREFERRED if kind in scored] or [PREFERRED[-1]]
        return next((kind for kind in anyone if kind in scored and _covers(scored[kind])), anyone[0])
    if wanted not in scored:
        fix = f"Use one of: {', '.join(scored) or 'nothing was scored'}."
        raise ConfigurationError(f"No score by '{wanted}' fits an answer of this run.", fix)
    return wanted


def _covers(table: np.ndarray) -> bool:
    import numpy as np

    return bool((np.isfinite(table).sum(axis=0) >= min(comparison.FEWEST_PROMPTS, len(table))).all())


def passed_over(scored: Mapping[Kind, np.ndarray], chosen: Kind) -> list[str]:
    """A sentence for each kind of rater that would decide, and has not graded enough yet."""
    earlier = PREFERRED[: PREFERRED.index(chosen)] if chosen in PREFERRED else ()
    return [
        f"Grades by {kind} do not cover every model on {comparison.FEWEST_PROMPTS} prompts yet: they are not used here."
        for kind in earlier
        if kind in scored
    ]


def grade_tables(run: Run, rows: Sequence[Row], scores: Sequence[Score]) -> dict[Kind, np.ndarray]:
    """Quality by `[prompt, model]` for each kind of rater that scored an answer of this run; nan where none did."""
    import numpy as np

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
    import numpy as np

    seen: dict[tuple[str, str, str], list[float]] = {}
    for completion in run.completions:
        latency = timing.latency_s(completion)
        if completion.round and latency is not None:
            seen.setdefault((completion.prompt_id, completion.model_id, completion.device), []).append(latency)
    table = [[median(seen.get((p.id, row.model_id, row.device), [np.nan])) for row in rows] for p in run.prompts]
    return np.array(table, dtype=float).reshape(len(run.prompts), len(rows))


def _front(latency: np.ndarray, quality: np.ndarray) -> np.ndarray:
    """Whether each model (last axis) is on the front of each draw (first axis); nan is never on it."""
    import numpy as np

    fast, slow = latency[:, :, None], latency[:, None, :]
    good, poor = quality[:, :, None], quality[:, None, :]
    beats = (fast <= slow) & (good >= poor) & ((fast < slow) | (good > poor))
    on_front: np.ndarray = ~beats.any(axis=1) & np.isfinite(latency) & np.isfinite(quality)
    return on_front


def _over_prompts(drawn: np.ndarray, figure: Figure) -> np.ndarray:
    """Means or medians over prompts of `[draw, prompt, model]`; nan where a draw has no value."""
    import numpy as np

    with warnings.catch_warnings(category=RuntimeWarning, action="ignore"):
        return np.asarray((np.nanmedian if figure == "median" else np.nanmean)(drawn, axis=1))


def _estimates(table: np.ndarray, drawn: np.ndarray, figure: Figure) -> tuple[Estimate, ...]:
    """The figure of each model over prompts, with its interval."""
    import numpy as np

    values, draws = _over_prompts(table[None], figure)[0], _over_prompts(table[drawn], figure)
    counts = np.isfinite(table).sum(axis=0)
    return tuple(
        comparison.estimate(float(value) if n else None, int(n), draws[:, place])
        for place, (value, n) in enumerate(zip(values, counts, strict=True))
    )
