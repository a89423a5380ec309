"""Exercises on the times of a run: a median, a rate, two clouds, and what a way of serving costs.

The helpers that say which requests count are shared with `exercises`. Knows records and metrics; knows nothing of what
was answered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean, median

from workshop_lib.metrics import timing
from workshop_lib.records import Completion, ModelVariant, Run, variant_key
from workshop_lib.teaching.diagnosis import Expected, Nothing, Number


def median_latency(run: Run) -> Expected:
    """02: the median latency of the first model in milliseconds, without its warm-up."""
    timed, warm_ups = _of_first_model(run)
    latencies = _measured(timed, timing.latency_s)
    if not latencies:
        return Nothing("No model answered in this run.")
    first_tokens = _measured(timed, timing.first_token_s)
    right = 1000 * median(latencies)
    everything = [*_measured(warm_ups, timing.latency_s), *latencies]
    mistakes: dict[str, float | None] = {
        "That is the median in seconds. The table and the question speak of milliseconds: times 1000.": right / 1000,
        "That is the mean. One slow request pulls a mean up; the median is the middle one.": 1000 * fmean(latencies),
        "That includes the warm-up, round 0. It is slower by nature and counts as the cold start.": 1000
        * median(everything),
        "That is the first token. Latency lasts until the last one: timing.latency_s.": 1000 * median(first_tokens)
        if first_tokens
        else None,
        "That is the slowest request. Half of them are quicker than the median.": 1000 * max(latencies),
    }
    look_at = "Take timing.latency_s of each request whose round is 1 or more, then their median, then milliseconds."
    return Number(right, "ms", mistakes, look_at, tolerance=0.003)


def tokens_per_second(completion: Completion) -> Expected:
    """02: completion tokens of one request, per second of its whole latency."""
    latency_s, right = timing.latency_s(completion), timing.tokens_per_s(completion)
    tokens = completion.completion_tokens
    if latency_s is None or right is None or tokens is None:
        return Nothing("The server gives no token count for this request.")
    decode, prompt = timing.decode_tokens_per_s(completion), completion.prompt_tokens
    mistakes: dict[str, float | None] = {
        "That counts the prompt's tokens too. The model only read those; completion_tokens are what it wrote.": None
        if prompt is None
        else (prompt + tokens) / latency_s,
        "That counts only the prompt's tokens, which the model read and did not write.": None
        if prompt is None
        else prompt / latency_s,
        "That is the line about the prompt: tokens read until the first word. Count what was written.": (
            timing.prefill_tokens_per_s(completion)
        ),
        "That is tokens per millisecond. Divide by seconds.": right / 1000,
        "That is seconds per token, upside down. Divide tokens by seconds.": 1 / right,
        "That is the decode rate, which leaves out the wait for the first token. Here the whole wait counts.": decode,
        "That counts chunks. A chunk may hold several tokens; the server's own count is completion_tokens.": len(
            completion.chunks
        )
        / latency_s,
        "That counts characters or words of the text. Tokens are neither: use completion_tokens.": len(completion.text)
        / latency_s,
    }
    return Number(right, "tok/s", mistakes, "Divide completion_tokens by timing.latency_s(asked_last).")


def overlap(run: Run) -> Expected:
    """03: what share of the second build's requests was quicker than the first build's median, in per cent."""
    pair = _first_two(run)
    if pair is None:
        return Nothing("This run has answers of one build only.")
    first, second = ([each for each in timed_of(run, variant) if timing.latency_s(each)] for variant in pair)
    middle = median(_measured(first, timing.latency_s))
    latencies = _measured(second, timing.latency_s)
    share = _quicker(latencies, middle)
    with_warm_up = _measured([each for each in _of(run, pair[1]) if each.ok], timing.latency_s)
    starts = _measured(second, timing.first_token_s)
    mistakes: dict[str, float | None] = {
        "That is a share between 0 and 1. The question asks for per cent.": share,
        "That is a number of requests. Divide by how many there are.": share * len(latencies),
        "That is the share that was slower. Count those below the median.": 100 * (1 - share),
        "That compares with the mean. The question asks for the median.": 100
        * _quicker(latencies, fmean(_measured(first, timing.latency_s))),
        "That counts the warm-up among the requests. Leave round 0 out.": 100 * _quicker(with_warm_up, middle),
        "That has the two builds the wrong way round.": 100
        * _quicker(_measured(first, timing.latency_s), median(latencies)),
        "That uses first tokens. Latency lasts until the last token.": 100
        * _quicker(starts, median(_measured(first, timing.first_token_s)))
        if starts and _measured(first, timing.first_token_s)
        else None,
    }
    look_at = "Count the second build's timed requests whose latency is below the first build's median; share in %."
    return Number(100 * share, "%", mistakes, look_at)


def _quicker(latencies: Sequence[float], limit: float) -> float:
    return sum(each < limit for each in latencies) / len(latencies)


def extra_wait(run: Run) -> Expected:
    """06: by how many milliseconds the median latency of the second model is longer than that of the first."""
    pair = _first_two(run)
    if pair is None:
        return Nothing("This run has answers of one model only.")
    first, second = (_measured(timed_of(run, variant), timing.latency_s) for variant in pair)
    right, ratio = 1000 * (median(second) - median(first)), median(second) / median(first)
    with_warm_up = [_measured([each for each in _of(run, variant) if each.ok], timing.latency_s) for variant in pair]
    mistakes: dict[str, float | None] = {
        "That is the ratio. What Python adds does not grow with the model, so ask how much it is: a difference.": ratio,
        "That is the difference in per cent. Ask how many milliseconds it is.": 100 * (ratio - 1),
        "That is the difference in seconds: times 1000.": right / 1000,
        "That is the other way round: the adapter's median minus the runtime's.": -right,
        "That is the difference of the means. One slow request moves a mean.": 1000 * (fmean(second) - fmean(first)),
        "That is the adapter's median itself. Take the runtime's from it.": 1000 * median(second),
        "That counts the warm-up among the requests. Leave round 0 out.": 1000
        * (median(with_warm_up[1]) - median(with_warm_up[0])),
    }
    return Number(right, "ms", mistakes, "Take the median of each model's latencies, subtract, times 1000.")


def _measured(completions: Sequence[Completion], measure: Callable[[Completion], float | None]) -> list[float]:
    return [value for value in map(measure, completions) if value is not None]


def _of(run: Run, variant: ModelVariant) -> list[Completion]:
    return [each for each in run.completions if (each.model_id, each.device) == variant_key(variant)]


def timed_of(run: Run, variant: ModelVariant) -> list[Completion]:
    """The answered requests of a variant, without its warm-up."""
    return [each for each in _of(run, variant) if each.ok and each.round]


def served_in(run: Run) -> list[ModelVariant]:
    """The variants that answered a timed request, in the order of the table of results."""
    served = {variant_key(serving.variant): serving.variant for serving in run.servings}
    return [variant for variant in served.values() if timed_of(run, variant)]


def _of_first_model(run: Run) -> tuple[list[Completion], list[Completion]]:
    """The timed requests and the warm-ups of the first model that answered."""
    first = served_in(run)[:1]
    timed = [each for variant in first for each in timed_of(run, variant)]
    return timed, [each for variant in first for each in _of(run, variant) if each.ok and not each.round]


def _first_two(run: Run) -> tuple[ModelVariant, ModelVariant] | None:
    models = served_in(run)
    return (models[0], models[1]) if len(models) > 1 else None
