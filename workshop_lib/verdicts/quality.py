"""Speed and quality of each model side by side, and which models no other one beats on both.

Latency is the median over prompts of a prompt's median latency; quality is a mean over prompts. Both intervals come
from drawing the prompts anew, the same draw for every model and both axes. A model is on the Pareto front when no
other is at least as fast and at least as good, and better in one of them. Knows runs and scores. Knows no figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING

from workshop_lib import compare, summary
from workshop_lib.compare import Estimate
from workshop_lib.errors import ConfigurationError
from workshop_lib.metrics import timing
from workshop_lib.records import Row, Run, variant_key
from workshop_lib.verdicts import agreement
from workshop_lib.verdicts.answers import AnswerKey, Candidate, candidates
from workshop_lib.verdicts.reliability import ASPECTS, Kind, kind_of
from workshop_lib.verdicts.scores import Score
from workshop_lib.verdicts.scoring import AspectScore, score_aspects

if TYPE_CHECKING:
    import numpy as np

ModelKey = tuple[str, str]
"""Model id and device."""

PREFERRED: tuple[Kind, ...] = ("people", "reference", "aspects")
"""What decides unless told otherwise; see `decisive_measure`. A judge decides only where it is named."""


@dataclass(frozen=True, slots=True)
class ModelQuality:
    """One model's two sides.

    Attributes:
        row: who it is, and its other figures.
        latency_s: median latency in seconds.
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
class Standing:
    """All models, the measure of quality that decided the front, and what a reader must know of the comparison."""

    models: tuple[ModelQuality, ...]
    measure: Kind
    remarks: tuple[str, ...] = ()


def weigh(run: Run, scores: Iterable[Score] = (), *, measure: Kind | None = None, seed: int = 20) -> Standing:
    """Put speed and quality of every served model of a run together.

    Args:
        run: with its prompts and answers.
        scores: grades of people, references and judges; the aspects are checked here.
        measure: whose verdict decides the front; None = `PREFERRED`.
        seed: of the draws of prompts.

    Raises:
        ConfigurationError: nothing was scored by the measure asked for.
    """
    import numpy as np

    used, remarks = one_rubric(tuple(scores))
    rows = [row for row in summary.summarise(run) if row.status == "ok"]
    latency = _latencies(run, rows)
    quality = grade_tables(run, rows, used)
    chosen = decisive_measure(quality, measure)
    drawn = compare.draws(len(run.prompts), seed)
    waits = _estimates(latency, drawn, _medians)
    grades = {kind: _estimates(table, drawn, _means) for kind, table in quality.items()}
    decisive = quality.get(chosen, np.full(latency.shape, np.nan))
    best = _front(_medians(latency[None]), _means(decisive[None]))[0]
    drawn_grades = _means(decisive[drawn])
    won = _front(_medians(latency[drawn]), drawn_grades).sum(axis=0)
    graded = np.isfinite(drawn_grades).sum(axis=0)
    enough = np.isfinite(decisive).sum(axis=0) >= compare.FEWEST_PROMPTS
    models = tuple(
        ModelQuality(
            row=row,
            latency_s=waits[place],
            quality={kind: each[place] for kind, each in grades.items()},
            on_front=bool(best[place]),
            front_share=float(won[place] / graded[place]) if enough[place] else None,
        )
        for place, row in enumerate(rows)
    )
    said = () if measure else passed_over(quality, chosen)
    return Standing(models, chosen, (*remarks, *said, *_uneven(models, chosen)))


def decisive_measure(scored: Mapping[Kind, np.ndarray], wanted: Kind | None = None) -> Kind:
    """Whose verdict decides: the one wanted, else the first of `PREFERRED` that scored every model well enough.

    Well enough is on `resampling.FEWEST_PROMPTS` prompts, or all where a run has fewer: a person who has graded two
    answers does not put models out that others have graded. Where nobody covers every model, the first that scored
    anything decides.

    Args:
        scored: as of `grade_tables`.
        wanted: whose verdict shall decide; None = as above.

    Raises:
        ConfigurationError: the one wanted scored nothing.
    """
    if wanted is None:
        anyone = [kind for kind in PREFERRED if kind in scored]
        return next((kind for kind in anyone if _covers(scored[kind])), next(iter(anyone), PREFERRED[-1]))
    if wanted not in scored:
        fix = f"Use one of: {', '.join(scored) or 'nothing was scored'}."
        raise ConfigurationError(f"No score by '{wanted}' fits an answer of this run.", fix)
    return wanted


def passed_over(scored: Mapping[Kind, np.ndarray], chosen: Kind) -> list[str]:
    """A sentence for each kind of rater that would decide, and has not graded enough yet."""
    earlier = PREFERRED[: PREFERRED.index(chosen)] if chosen in PREFERRED else ()
    return [
        f"Grades by {kind} do not cover every model on {compare.FEWEST_PROMPTS} prompts yet: they are not used here."
        for kind in earlier
        if kind in scored
    ]


def _covers(table: np.ndarray) -> bool:
    import numpy as np

    prompts_each = np.isfinite(table).sum(axis=0)
    return bool((prompts_each >= min(compare.FEWEST_PROMPTS, len(table))).all())


def aspect_scores(found: Iterable[Candidate], *, rubric_version: str, scored_at: str) -> list[Score]:
    """The aspect check as a rater: grade 1 + 4 x share, rounded half up; 1 where a forbidden thing is said.

    A prompt that expects nothing in particular gets no grade.
    """
    scored = []
    for each in found:
        aspects = score_aspects(each.answer.text, each.prompt)
        share = _share(aspects)
        grade = None if share is None else int(1 + 4 * share + 0.5)
        said = "; ".join(
            f"{name}: {', '.join(part)}"
            for name, part in (("missing", aspects.missing), ("forbidden", aspects.forbidden_found))
            if part
        )
        scored.append(Score(ASPECTS, *each.key, grade, rubric_version, scored_at, said))
    return scored


def front(points: Sequence[tuple[float, float]]) -> tuple[bool, ...]:
    """For each (latency, quality): does no other point beat it? Equal points do not beat each other.

    >>> front([(1.0, 2.0), (2.0, 3.0), (2.0, 2.0)])
    (True, True, False)
    """
    import numpy as np

    pairs = np.asarray(points, dtype=float).reshape(-1, 2)
    return tuple(map(bool, _front(pairs[None, :, 0], pairs[None, :, 1])[0]))


def _front(latency: np.ndarray, quality: np.ndarray) -> np.ndarray:
    """Whether each model (last axis) is on the front of each draw (first axis); nan is never on it."""
    import numpy as np

    fast, slow = latency[:, :, None], latency[:, None, :]
    good, poor = quality[:, :, None], quality[:, None, :]
    beats = (fast <= slow) & (good >= poor) & ((fast < slow) | (good > poor))
    on_front: np.ndarray = ~beats.any(axis=1) & np.isfinite(latency) & np.isfinite(quality)
    return on_front


def one_rubric(scores: Sequence[Score]) -> tuple[list[Score], list[str]]:
    """The scores under the rubric of the latest score: grades under different rubrics do not mean the same."""
    if not scores:
        return [], []
    version = max(scores, key=lambda score: score.scored_at).rubric_version
    kept = [score for score in scores if score.rubric_version == version]
    left = len(scores) - len(kept)
    return kept, [f"{left} scores under another rubric than {version} are left out."] if left else []


def _share(aspects: AspectScore) -> float | None:
    return 0.0 if aspects.forbidden_found else aspects.share


def _aspect_shares(found: Iterable[Candidate]) -> dict[AnswerKey, float]:
    shares = {each.key: _share(score_aspects(each.answer.text, each.prompt)) for each in found}
    return {key: share for key, share in shares.items() if share is not None}


def _mean_grades(scores: Sequence[Score]) -> dict[Kind, dict[AnswerKey, float]]:
    """Mean grade of each answer by each kind of rater, the aspect check left out: its shares are finer."""
    given: dict[Kind, dict[AnswerKey, list[int]]] = {}
    for rater, grades in agreement.ratings(scores).items():
        if (kind := kind_of(rater)) != ASPECTS:
            for (prompt_id, sha256, _), grade in grades.items():
                given.setdefault(kind, {}).setdefault((prompt_id, sha256), []).append(grade)
    return {kind: {key: fmean(grades) for key, grades in answers.items()} for kind, answers in given.items()}


def grade_tables(run: Run, rows: Sequence[Row], scores: Sequence[Score]) -> dict[Kind, np.ndarray]:
    """Quality by `[prompt, model]` for each kind of rater that scored an answer of this run; nan where none did."""
    import numpy as np

    found = candidates(run)
    place = {(row.model_id, row.device): index for index, row in enumerate(rows)}
    prompt = {each.id: index for index, each in enumerate(run.prompts)}
    tables: dict[Kind, np.ndarray] = {}
    for kind, values in (("aspects", _aspect_shares(found)), *_mean_grades(scores).items()):
        table = np.full((len(prompt), len(rows)), np.nan)
        for each in found:
            for author in map(variant_key, each.authors):
                if each.key in values and author in place:
                    table[prompt[each.prompt.id], place[author]] = values[each.key]
        if np.isfinite(table).any():
            tables[kind] = table
    return tables


def _latencies(run: Run, rows: Sequence[Row]) -> np.ndarray:
    """Median latency in seconds by `[prompt, model]`; nan where nothing was answered."""
    import numpy as np

    table = np.full((len(run.prompts), len(rows)), np.nan)
    seen: dict[tuple[str, ModelKey], list[float]] = {}
    for completion in run.completions:
        latency = timing.latency_s(completion)
        if completion.round and latency is not None:
            key = completion.prompt_id, (completion.model_id, completion.device)
            seen.setdefault(key, []).append(latency)
    for line, prompt in enumerate(run.prompts):
        for place, row in enumerate(rows):
            if latencies := seen.get((prompt.id, (row.model_id, row.device))):
                table[line, place] = median(latencies)
    return table


def _means(drawn: np.ndarray) -> np.ndarray:
    """Means over prompts of `[draw, prompt, model]`; nan where a draw has no value."""
    import numpy as np

    known = np.isfinite(drawn)
    counts = known.sum(axis=1)
    sums = np.where(known, drawn, 0.0).sum(axis=1)
    means: np.ndarray = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    return means


def _medians(drawn: np.ndarray) -> np.ndarray:
    """Medians over prompts of `[draw, prompt, model]`; nan where a draw has no value."""
    import numpy as np

    empty = ~np.isfinite(drawn).any(axis=1)
    filled = np.where(empty[:, None, :], 0.0, drawn)
    medians: np.ndarray = np.where(empty, np.nan, np.nanmedian(filled, axis=1))
    return medians


def _estimates(
    table: np.ndarray, drawn: np.ndarray, figure: Callable[[np.ndarray], np.ndarray]
) -> tuple[Estimate, ...]:
    """The figure of each model over prompts, with its interval."""
    import numpy as np

    values, draws, counts = figure(table[None])[0], figure(table[drawn]), np.isfinite(table).sum(axis=0)
    return tuple(
        compare.estimate(float(value) if n else None, int(n), draws[:, place])
        for place, (value, n) in enumerate(zip(values, counts, strict=True))
    )


def _uneven(models: Sequence[ModelQuality], measure: Kind) -> list[str]:
    counts = sorted({each.quality[measure].n for each in models if measure in each.quality})
    if len(counts) < 2:
        return []
    return [f"Models were judged on {counts[0]} to {counts[-1]} prompts: their figures rest on different questions."]
