"""Many completions of one model on one device become one `Row`; traps become warning codes with a sentence each.

Means and percentiles are over successful timed requests only: the warm-up (round 0) is reported as the cold start.
The percentile is numpy's default (linear interpolation), so it never exceeds the largest sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from statistics import fmean, median
from typing import Any

from workshop_lib import providers
from workshop_lib.metrics import energy, timing
from workshop_lib.metrics.prefix_cache import Answered, looks_cached
from workshop_lib.records import Completion, Row, Run, Serving, Status, TokensSource

ENOUGH_SAMPLES = 20
"""Below this many requests a 95th percentile is little more than the maximum."""

ENOUGH_FOR_FENCES = 8
SMALLEST_OUTLIER = 0.05
UNSTABLE_SPREAD = 0.10

WARNINGS: dict[str, str] = {
    "too_few_samples": f"Fewer than {ENOUGH_SAMPLES} requests: the p95 is little more than the slowest one.",
    "unstable": "The spread is 10 % of the mean or more: differences of that size may be noise.",
    "outliers": "Some requests lie outside 1.5 interquartile ranges: look at the chart before trusting the mean.",
    "some_failed": "Some requests failed; the figures describe only those that succeeded.",
    "truncated": "Some answers were cut, by max_tokens or a full context: models that say less look faster.",
    "no_usage": "The server reports no token counts: chunks were counted and no rate in tokens is given.",
    "usage_mismatch": "The server counts fewer tokens than its answers hold: no rate in tokens is given.",
    "empty_answers": "Some answers hold no visible text: thinking used up max_tokens.",
    "coalesced_chunks": "Several tokens arrive in one chunk: the decode rate is corrected for the first chunk.",
    "bursts": "Many tokens arrived at one moment: the decode rate is taken from what came later, or withheld.",
    "hidden_tokens": "Tokens were counted that never arrived: the decode rate is withheld.",
    "cached_prompt": "Prompts asked before start sooner (a prompt cache): first tokens of new prompts take longer.",
    "cold_start": "The first request took more than twice as long as the others: it is shown apart.",
    "not_streamed": "Answers came in one piece: there is no first-token time.",
    "gpu_not_registered": "Built for a GPU, but no GPU provider was registered where it ran: it may have run on a CPU.",
    "coarse_energy": "Requests are short for the energy meter: each also got energy of its neighbours'.",
}


def summarise(run: Run) -> tuple[Row, ...]:
    """One row per model and device, in the order in which they were served."""
    by_variant: dict[tuple[str, str], list[Completion]] = {}
    for completion in run.completions:
        by_variant.setdefault((completion.model_id, completion.device), []).append(completion)
    last_serving = {(serving.variant.model_id, serving.variant.device): serving for serving in run.servings}
    return tuple(
        summarise_variant(
            serving,
            by_variant.get(key, []),
            rounds=int(run.plan.get("rounds", 0)),
            price_per_kwh=run.plan.get("price_per_kwh"),
        )
        for key, serving in last_serving.items()
    )


def summarise_variant(
    serving: Serving, completions: Sequence[Completion], *, rounds: int, price_per_kwh: float | None = None
) -> Row:
    """The row of one variant from its serving and all its requests, warm-ups and failures included."""
    variant = serving.variant
    timed = [completion for completion in completions if completion.round > 0]
    answered = [completion for completion in timed if completion.ok]
    status, error = _outcome(serving, completions, answered)
    cold_start = next((completion for completion in completions if completion.round == 0), None)
    measured = _columns(answered)
    latencies = measured["latency_s"]
    source = _weakest(set(measured["tokens_source"]))
    counts = zip(measured["tokens"], measured["tokens_source"], strict=True)
    energy_wh, energy_source = energy.of_requests(answered, counts)
    warnings = _warnings(timed, answered, measured, source, cold_start)
    if energy.is_coarse(energy_source, _mean(latencies)):
        warnings.append("coarse_energy")
    if status == "ok" and variant.device == "gpu" and not providers.has_gpu(serving.registered_providers):
        warnings.append("gpu_not_registered")
    return Row(
        alias=variant.alias,
        model_id=variant.model_id,
        device=variant.device,
        status=status,
        error=error,
        rounds=rounds,
        requests_ok=len(answered),
        latency_avg=_mean(latencies),
        latency_p95=_p95(latencies),
        tokens_per_sec_avg=_mean(_known(measured["tokens_per_s"])),
        first_token_latency_avg=_mean(_known(measured["first_token_s"])),
        decode_tokens_per_sec=_median([1 / pace for pace in _known(measured["time_per_output_token_s"])]),
        tokens_source=source,
        prompt_tokens_avg=_mean(_known(completion.prompt_tokens for completion in answered)),
        completion_tokens_avg=_mean(_known(measured["tokens"])),
        warnings=tuple(warnings),
        precision=variant.precision,
        execution_provider=variant.execution_provider,
        licence=variant.licence,
        size_mb=variant.size_mb,
        load_s=serving.load_s,
        cold_start_s=timing.latency_s(cold_start) if cold_start else None,
        resident_mb=serving.resident_mb,
        peak_resident_mb=serving.peak_resident_mb,
        first_visible_token_latency_avg=_mean(_known(measured["first_visible_token_s"])),
        truncated_share=_truncated_share(answered),
        energy_per_1000_tokens_wh=energy_wh,
        energy_source=energy_source,
        energy_cost_per_million_tokens=energy.cost_per_million_tokens(energy_wh, price_per_kwh),
        gpu_memory_mb=serving.gpu_memory_mb,
        request_notes=tuple(serving.request_notes),
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


def _columns(answered: Iterable[Completion]) -> dict[str, list[Any]]:
    """The measures of every completion, one list per field of `timing.Measures`: lists of numbers are small."""
    columns: dict[str, list[Any]] = {name: [] for name in timing.Measures._fields}
    measures = map(timing.measure, answered)
    while batch := list(islice(measures, 1000)):  # all at once would be a tuple per completion, held together
        for column, values in zip(columns.values(), zip(*batch, strict=True), strict=True):
            column.extend(values)
    return columns


def _truncated_share(answered: Sequence[Completion]) -> float | None:
    cut = [completion.finish_reason for completion in answered].count("length")
    return cut / len(answered) if answered else None


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None


def _p95(values: Sequence[float]) -> float | None:
    import numpy as np

    return float(np.percentile(values, 95)) if values else None


def _weakest(sources: Iterable[TokensSource]) -> TokensSource:
    """A row is only as sure as its least sure request."""
    return next((source for source in _FROM_WEAKEST if source in sources), "unknown")


_FROM_WEAKEST: tuple[TokensSource, ...] = ("unknown", "chunks", "usage")


def _warnings(
    timed: Sequence[Completion],
    answered: Sequence[Completion],
    measured: Mapping[str, Sequence[Any]],
    source: TokensSource,
    cold_start: Completion | None,
) -> list[str]:
    if not answered:
        return []
    latencies = measured["latency_s"]
    by_prompt = _by_prompt(answered, latencies)
    reported = any(map(timing.is_prompt_cached, answered))
    found = {
        "too_few_samples": len(latencies) < ENOUGH_SAMPLES,
        "unstable": _spread(by_prompt) >= UNSTABLE_SPREAD,
        "outliers": any(_beyond_fences(answered, latencies, by_prompt)),
        "some_failed": len(answered) < len(timed),
        "no_usage": source != "usage" and not all(completion.completion_tokens for completion in answered),
        "usage_mismatch": any(measured["has_usage_mismatch"]),
        "empty_answers": any(completion.is_empty for completion in answered),
        "truncated": _truncated_share(answered),
        "hidden_tokens": any(measured["has_hidden_tokens"]),
        "coalesced_chunks": any(measured["has_coalesced_chunks"]),
        "bursts": any(measured["has_burst"]),
        "cached_prompt": reported or looks_cached(_first_attempts(answered, measured)),
        "not_streamed": not all(completion.streamed for completion in answered),
        "cold_start": cold_start and _is_slow_start(cold_start, by_prompt.get(cold_start.prompt_id, [])),
    }
    return [code for code, is_so in found.items() if is_so]


def _is_slow_start(cold_start: Completion, usual: Sequence[float]) -> bool:
    return bool(usual) and (timing.latency_s(cold_start) or 0.0) > 2 * median(usual)


def _first_attempts(answered: Sequence[Completion], measured: Mapping[str, Sequence[Any]]) -> Iterator[Answered]:
    times = zip(answered, measured["first_token_s"], measured["latency_s"], strict=True)
    for completion, first_s, latency_s in times:
        if completion.attempt == 1 and first_s is not None:
            yield Answered(completion.prompt_id, completion.round, first_s, latency_s - first_s)


def spread(answered: Sequence[Completion]) -> float:
    """Standard deviation over mean of the latencies of one prompt, median over prompts; 0 when nothing was repeated."""
    return _spread(_by_prompt(answered, _known(map(timing.latency_s, answered))))


def outliers(answered: Sequence[Completion]) -> list[Completion]:
    """Requests whose latency, relative to the median of their prompt, lies beyond 1.5 interquartile ranges.

    Prompts differ in length, so each latency is divided by its prompt's median first. Needs eight requests; deviations
    under 5 % are never outliers, however even the rest is.
    """
    latencies = _known(map(timing.latency_s, answered))
    beyond = _beyond_fences(answered, latencies, _by_prompt(answered, latencies))
    return [completion for completion, is_beyond in zip(answered, beyond, strict=True) if is_beyond]


def _by_prompt(answered: Sequence[Completion], latencies: Sequence[float]) -> dict[str, list[float]]:
    grouped: dict[str, list[float]] = {}
    for completion, latency in zip(answered, latencies, strict=True):
        grouped.setdefault(completion.prompt_id, []).append(latency)
    return grouped


def _spread(by_prompt: dict[str, list[float]]) -> float:
    import numpy as np

    groups = [np.asarray(latencies) for latencies in by_prompt.values() if len(latencies) > 1]
    return median([float(group.std(ddof=1) / group.mean()) for group in groups]) if groups else 0.0


def _beyond_fences(
    answered: Sequence[Completion], latencies: Sequence[float], by_prompt: dict[str, list[float]]
) -> Sequence[bool]:
    import numpy as np

    if len(latencies) < ENOUGH_FOR_FENCES:
        return [False] * len(latencies)
    typical = {prompt: float(np.median(group)) for prompt, group in by_prompt.items()}
    relative = np.asarray(latencies) / np.asarray([typical[completion.prompt_id] for completion in answered])
    low, high = np.percentile(relative, [25, 75])
    reach = max(1.5 * (high - low), SMALLEST_OUTLIER)
    beyond: list[bool] = ((relative > high + reach) | (relative < low - reach)).tolist()
    return beyond
