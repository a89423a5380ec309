"""How far the figures of a run can be trusted, in sentences: spread, rounds to add, outliers, cold start, load time.

Knows rows and records. Knows no files.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import median

from workshop_lib import timing
from workshop_lib.records import Completion, Row, Run
from workshop_lib.summaries import ENOUGH_SAMPLES, UNSTABLE_SPREAD, outliers, spread, summarise

CONFIDENCE = 0.95
WANTED_HALF_WIDTH = 0.05
MOST_ROUNDS = 100
"""A model that needs more rounds than this needs a quieter machine instead."""


def stability_notes(run: Run) -> tuple[str, ...]:
    """What a reader should know before relying on the figures, model by model; empty when there is nothing.

    Each model that was measured is followed by its spread when that is 10 % of the mean or more, by how many more
    rounds would do, and by its outliers, cold start and load time.
    """
    answered = _answered(run)
    return tuple(
        note
        for row in summarise(run)
        if row.status == "ok"
        for note in (*_doubts(row, answered[row.model_id, row.device]), *_start(row))
    )


def outlier_notes(run: Run) -> tuple[str, ...]:
    """Every outlier by model, prompt and round: `tiny int4: prompt rag, round 2 took 3.1x its median.`"""
    answered = _answered(run)
    return tuple(note for row in summarise(run) for note in _outliers(row, answered.get((row.model_id, row.device), [])))


def rounds_needed(relative_spread: float, *, prompts: int, rounds: int) -> int:
    """Rounds after which the mean is known to 5 %, and 20 requests are there for a 95th percentile.

    The half-width of the 95 % interval of a mean over n requests is t(0.975, df) s / sqrt(n), where s is the spread
    within prompts, relative to the mean, and df its degrees of freedom. Setting it to 0.05 gives
    n = (t s / 0.05)^2 (NIST/SEMATECH e-Handbook of Statistical Methods, section 7.2.2.2).

    Args:
        relative_spread: standard deviation over mean of requests with the same prompt.
        prompts, rounds: what was measured; the degrees of freedom are prompts x (rounds - 1).

    Returns:
        Rounds in all, at most `MOST_ROUNDS`.
    """
    from scipy import special

    freedom = max(1, prompts * (rounds - 1))
    quantile = float(special.stdtrit(freedom, 0.5 + CONFIDENCE / 2))
    requests = max((quantile * relative_spread / WANTED_HALF_WIDTH) ** 2, ENOUGH_SAMPLES)
    return min(MOST_ROUNDS, math.ceil(requests / prompts))


def _answered(run: Run) -> dict[tuple[str, str], list[Completion]]:
    answered: dict[tuple[str, str], list[Completion]] = {}
    for completion in run.completions:
        if completion.ok and completion.round > 0:
            answered.setdefault((completion.model_id, completion.device), []).append(completion)
    return answered


def _doubts(row: Row, answered: Sequence[Completion]) -> Iterator[str]:
    name, prompts = _name(row), len({completion.prompt_id for completion in answered})
    rounds = max(1, len(answered) // prompts)
    scatter = spread(answered)
    if scatter >= UNSTABLE_SPREAD:
        yield f"{name}: requests with the same prompt scatter by {scatter:.0%} of their mean."
    more = rounds_needed(scatter, prompts=prompts, rounds=rounds) - rounds
    if more > 0:
        yield f"{name}: {len(answered)} requests; about {more} more round{'s' * (more > 1)} would do."
    yield from _outliers(row, answered)


def _outliers(row: Row, answered: Sequence[Completion]) -> Iterator[str]:
    for completion in outliers(answered):
        same = [timing.latency_s(each) or 0.0 for each in answered if each.prompt_id == completion.prompt_id]
        times = (timing.latency_s(completion) or 0.0) / median(same)
        yield f"{_name(row)}: prompt {completion.prompt_id}, round {completion.round} took {times:.1f}x its median."


def _start(row: Row) -> Iterator[str]:
    if row.load_s is not None:
        yield f"{_name(row)}: loaded in {row.load_s:.2f} s."
    if row.cold_start_s is not None and "cold_start" in row.warnings:
        yield f"{_name(row)}: the first request took {row.cold_start_s:.2f} s; it is in no average."


def _name(row: Row) -> str:
    device = "" if row.device == "unknown" else f" {row.device}"
    return f"{row.alias}{device} {row.precision}" if row.precision else f"{row.alias}{device}"
