"""Many completions of one model on one device become one `Row`; traps become warning codes with a sentence each.

Means and percentiles are over successful timed requests only: the warm-up (round 0) is reported as the cold start.
The percentile is numpy's default (linear interpolation), so it never exceeds the largest sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, median, stdev

from workshop_lib import timing
from workshop_lib.records import Completion, Row, Run, Serving, Status, TokensSource

ENOUGH_SAMPLES = 20
"""Below this many requests a 95th percentile is little more than the maximum."""

WARNINGS: dict[str, str] = {
    "too_few_samples": f"Fewer than {ENOUGH_SAMPLES} requests: the p95 is little more than the slowest one.",
    "unstable": "The spread is 10 % of the mean or more: differences of that size may be noise.",
    "outliers": "Some requests lie outside 1.5 interquartile ranges: look at the chart before trusting the mean.",
    "some_failed": "Some requests failed; the figures describe only those that succeeded.",
    "truncated": "Some answers were cut by max_tokens: models that say less look faster.",
    "no_usage": "The server reports no token counts: chunks were counted and no rate in tokens is given.",
    "coalesced_chunks": "Several tokens arrive in one chunk: the decode rate is corrected for the first chunk.",
    "hidden_tokens": "Tokens were counted that never arrived: the decode rate is withheld.",
    "cached_prompt": "The server reused a cached prompt: first-token times are lower than for a new prompt.",
    "cold_start": "The first request took more than twice as long as the others: it is shown apart.",
    "not_streamed": "Answers came in one piece: there is no first-token time.",
}


def summarise(run: Run) -> tuple[Row, ...]:
    """One row per model and device, in the order in which they were served."""
    by_variant: dict[tuple[str, str], list[Completion]] = {}
    for completion in run.completions:
        by_variant.setdefault((completion.model_id, completion.device), []).append(completion)
    last_serving = {(serving.variant.model_id, serving.variant.device): serving for serving in run.servings}
    return tuple(
        summarise_variant(serving, by_variant.get(key, []), rounds=int(run.plan.get("rounds", 0)))
        for key, serving in last_serving.items()
    )


def summarise_variant(serving: Serving, completions: Sequence[Completion], *, rounds: int) -> Row:
    """The row of one variant from its serving and all its requests, warm-ups and failures included."""
    variant = serving.variant
    timed = [completion for completion in completions if completion.round > 0]
    answered = [completion for completion in timed if completion.ok]
    status, error = _outcome(serving, completions, answered)
    warm_ups = [completion for completion in completions if completion.round == 0]
    return Row(
        alias=variant.alias,
        model_id=variant.model_id,
        device=variant.device,
        status=status,
        error=error,
        rounds=rounds,
        requests_ok=len(answered),
        latency_avg=_mean(timing.latency_s, answered),
        latency_p95=_p95(timing.latency_s, answered),
        tokens_per_sec_avg=_mean(timing.tokens_per_s, answered),
        first_token_latency_avg=_mean(timing.first_token_s, answered),
        decode_tokens_per_sec=_median(timing.decode_tokens_per_s, answered),
        tokens_source=_tokens_source(answered),
        prompt_tokens_avg=_mean(lambda completion: completion.prompt_tokens, answered),
        completion_tokens_avg=_mean(lambda completion: timing.completion_tokens(completion)[0], answered),
        warnings=tuple(_warnings(timed, answered, warm_ups)),
        precision=variant.precision,
        execution_provider=variant.execution_provider,
        licence=variant.licence,
        size_mb=variant.size_mb,
        load_s=serving.load_s,
        cold_start_s=_mean(timing.latency_s, warm_ups[:1]),
        resident_mb=serving.resident_mb,
        peak_resident_mb=serving.peak_resident_mb,
        first_visible_token_latency_avg=_mean(timing.first_visible_token_s, answered),
        truncated_share=sum(map(timing.is_truncated, answered)) / len(answered) if answered else None,
    )


def _outcome(
    serving: Serving, completions: Sequence[Completion], answered: Sequence[Completion]
) -> tuple[Status, str | None]:
    failures = [completion.error for completion in completions if completion.error]
    last_failure = failures[-1] if failures else None
    if serving.status != "ok":
        return serving.status, serving.error or last_failure
    if answered:
        return "ok", None
    return "failed", last_failure or "No request was sent."


Measure = Callable[[Completion], float | None]


def _values(measure: Measure, completions: Iterable[Completion]) -> list[float]:
    values = (measure(completion) for completion in completions)
    return [value for value in values if value is not None]


def _mean(measure: Measure, completions: Sequence[Completion]) -> float | None:
    values = _values(measure, completions)
    return fmean(values) if values else None


def _median(measure: Measure, completions: Sequence[Completion]) -> float | None:
    values = _values(measure, completions)
    return median(values) if values else None


def _p95(measure: Measure, completions: Sequence[Completion]) -> float | None:
    import numpy as np

    values = _values(measure, completions)
    return float(np.percentile(values, 95)) if values else None


def _tokens_source(answered: Sequence[Completion]) -> TokensSource:
    """The weakest source among the requests: a row is only as sure as its least sure part."""
    sources = {timing.completion_tokens(completion)[1] for completion in answered}
    return next((source for source in ("unknown", "chunks", "usage") if source in sources), "unknown")


def _warnings(
    timed: Sequence[Completion], answered: Sequence[Completion], warm_ups: Sequence[Completion]
) -> Iterable[str]:
    if not answered:
        return
    latencies = _values(timing.latency_s, answered)
    if len(latencies) < ENOUGH_SAMPLES:
        yield "too_few_samples"
    if is_unstable(answered):
        yield "unstable"
    if outliers(answered):
        yield "outliers"
    if len(answered) < len(timed):
        yield "some_failed"
    yield from _token_warnings(answered)
    cold = _mean(timing.latency_s, warm_ups[:1])
    usual = _values(timing.latency_s, _same_prompt(warm_ups[:1], answered))
    if cold is not None and usual and cold > 2 * median(usual):
        yield "cold_start"


def _token_warnings(answered: Sequence[Completion]) -> Iterable[str]:
    if any(map(timing.is_truncated, answered)):
        yield "truncated"
    if _tokens_source(answered) != "usage":
        yield "no_usage"
    if any(map(timing.has_hidden_tokens, answered)):
        yield "hidden_tokens"
    if any(map(timing.has_coalesced_chunks, answered)):
        yield "coalesced_chunks"
    if any(completion.cached_tokens for completion in answered):
        yield "cached_prompt"
    if not all(completion.streamed for completion in answered):
        yield "not_streamed"


def _same_prompt(warm_ups: Sequence[Completion], answered: Sequence[Completion]) -> list[Completion]:
    asked = {completion.prompt_id for completion in warm_ups}
    return [completion for completion in answered if completion.prompt_id in asked]


def is_unstable(answered: Sequence[Completion]) -> bool:
    """True when, prompt by prompt, the standard deviation of latency reaches 10 % of the mean (median over prompts)."""
    groups = [latencies for latencies in _latencies_by_prompt(answered).values() if len(latencies) > 1]
    spreads = [stdev(latencies) / fmean(latencies) for latencies in groups if fmean(latencies) > 0]
    return bool(spreads) and median(spreads) >= 0.10


def outliers(answered: Sequence[Completion]) -> list[Completion]:
    """Requests whose latency, relative to the median of their prompt, lies beyond 1.5 interquartile ranges.

    Prompts differ in length, so each latency is divided by its prompt's median first. Needs eight requests; deviations
    under 5 % are never outliers, however even the rest is.
    """
    import numpy as np

    typical = {prompt: median(latencies) for prompt, latencies in _latencies_by_prompt(answered).items()}
    timed = [(completion, timing.latency_s(completion)) for completion in answered]
    relative = [(completion, latency / typical[completion.prompt_id]) for completion, latency in timed if latency]
    if len(relative) < 8:
        return []
    low, high = np.percentile([value for _, value in relative], [25, 75])
    reach = max(1.5 * (high - low), 0.05)
    return [completion for completion, value in relative if value > high + reach or value < low - reach]


def _latencies_by_prompt(answered: Iterable[Completion]) -> dict[str, list[float]]:
    grouped: dict[str, list[float]] = {}
    for completion in answered:
        latency = timing.latency_s(completion)
        if latency is not None:
            grouped.setdefault(completion.prompt_id, []).append(latency)
    return grouped
