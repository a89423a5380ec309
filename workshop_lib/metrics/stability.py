"""How far the figures of a run can be trusted, in sentences: spread, rounds to add, outliers, cold start, load time.

Knows rows and records. Knows no files.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import median

from workshop_lib.metrics import timing
from workshop_lib.metrics.summaries import ENOUGH_SAMPLES, UNSTABLE_SPREAD, outliers, spread, summarise
from workshop_lib.records import Completion, Row, Run

CONFIDENCE = 0.95
WANTED_HALF_WIDTH = 0.05
MOST_ROUNDS = 100
SHOWN_OUTLIERS = 3


def stability_notes(run: Run) -> tuple[str, ...]:
    """What a reader should know before relying on the figures; empty when there is nothing.

    For each model that was measured: its spread when that is 10 % of the mean or more, how many more rounds would do,
    and its worst outliers and cold start. Last, how long each model took to load.
    """
    rows, answered = [row for row in summarise(run) if row.status == "ok"], _answered(run)
    notes = [note for row in rows for note in _notes(row, answered[row.model_id, row.device])]
    loads = [f"{_name(row)} {row.load_s:.2f} s" for row in rows if row.load_s is not None]
    return (*notes, *([f"Load times, in no other figure: {', '.join(loads)}."] if loads else []))


def outlier_notes(run: Run) -> tuple[str, ...]:
    """Every outlier as a sentence like `tiny int4: prompt rag, round 2 took 3.1x its median.`."""
    answered = _answered(run)
    return tuple(
        f"{_name(row)}: {note}."
        for row in summarise(run)
        for _, note in _outliers(answered.get((row.model_id, row.device), []))
    )


def rounds_needed(relative_spread: float, *, prompts: int, rounds: int) -> int:
    """Rounds after which the mean is known to 5 %, and 20 requests are there for a 95th percentile.

    The half-width of the 95 % interval of a mean over n requests is t(0.975, df) s / sqrt(n), where s is the spread
    within prompts, relative to the mean, and df its degrees of freedom. Setting it to 0.05 gives
    n = (t s / 0.05)^2 (NIST/SEMATECH e-Handbook of Statistical Methods, section 7.2.2.2).

    Args:
        relative_spread: standard deviation over mean of requests with the same prompt.
        prompts: how many were measured.
        rounds: how many were measured; the degrees of freedom are prompts x (rounds - 1).

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


def _notes(row: Row, answered: Sequence[Completion]) -> Iterator[str]:
    name, prompts = _name(row), len({completion.prompt_id for completion in answered})
    rounds, scatter = max(1, len(answered) // prompts), spread(answered)
    needed = rounds_needed(scatter, prompts=prompts, rounds=rounds)
    if scatter >= UNSTABLE_SPREAD:
        scattered = f"requests with the same prompt scatter by {100 * scatter:.0f} % of their mean"
        yield f"{name}: {scattered}; {_advice(needed, rounds)}."
    elif needed > rounds:
        yield f"{name}: {len(answered)} requests are few; {_advice(needed, rounds)}."
    if far := [note for _, note in sorted(_outliers(answered), reverse=True)]:
        others = f"; {len(far) - SHOWN_OUTLIERS} more outliers" if len(far) > SHOWN_OUTLIERS else ""
        yield f"{name}: {'; '.join(far[:SHOWN_OUTLIERS])}{others}."
    if row.cold_start_s is not None and "cold_start" in row.warnings:
        yield f"{name}: the first request took {row.cold_start_s:.2f} s; it is in no average."


def _advice(needed: int, rounds: int) -> str:
    if needed >= MOST_ROUNDS:
        return f"{MOST_ROUNDS} rounds would not do, so measure on a quieter machine"
    if needed <= rounds:
        return "the mean is known to 5 % all the same"
    return f"about {needed - rounds} more round{'s' * (needed - rounds > 1)} would do"


def _outliers(answered: Sequence[Completion]) -> Iterator[tuple[float, str]]:
    """How many times its prompt's median each outlier took, and the words for it."""
    for completion in outliers(answered):
        same = [timing.latency_s(each) or 0.0 for each in answered if each.prompt_id == completion.prompt_id]
        times = (timing.latency_s(completion) or 0.0) / median(same)
        yield times, f"prompt {completion.prompt_id}, round {completion.round} took {times:.1f}x its median"


def _name(row: Row) -> str:
    """`tiny int4 cpu`; what is unknown is left out."""
    return " ".join(part for part in (row.alias, row.precision, row.device) if part and part != "unknown")
