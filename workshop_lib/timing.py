"""Pure metrics of one completion. Seconds, tokens, tokens per second; `None` = cannot be known, never 0.

Definitions (the field's terms):

* TTFT, time to first token: first non-empty content or reasoning chunk, minus request start.
* End-to-end latency: last such chunk, minus request start. A one-piece answer ends with its last byte.
* TPOT, time per output token: (t_last - t_first) / (n - 1), where n counts completion tokens; its inverse is the
  decode rate. It excludes TTFT and is not the mean of chunk gaps.
* Tokens come from the server's `usage`. Chunks are counted only under that name and never become a rate.

A new metric is one function here, one row in `METRICS` and one test.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

from workshop_lib.records import Completion, TokensSource

MIN_PACED_TOKENS = 8
"""With fewer tokens after the first arrival, a pace is mostly the jitter of two time stamps."""

LETTERS_PER_PIECE = 8
"""A word of up to this many letters may be one token; longer ones are counted as several."""

_IDEOGRAPH = re.compile("[\u2e80-\ud7ff]")


def first_token_s(completion: Completion) -> float | None:
    """Time to the first token, visible or reasoning, in seconds."""
    if not completion.ok or not completion.streamed or not completion.chunks:
        return None
    return completion.chunks[0].at_s


def first_visible_token_s(completion: Completion) -> float | None:
    """Time to the first token that the user sees, in seconds."""
    if not completion.ok or not completion.streamed:
        return None
    return next((chunk.at_s for chunk in completion.chunks if chunk.kind == "content"), None)


def latency_s(completion: Completion) -> float | None:
    """End-to-end latency in seconds."""
    if not completion.ok or not completion.chunks:
        return None
    return completion.chunks[-1].at_s


def completion_tokens(completion: Completion) -> tuple[int | None, TokensSource]:
    """How many tokens were generated, and how that is known."""
    if not completion.ok:
        return None, "unknown"
    if completion.completion_tokens:
        return completion.completion_tokens, "usage"
    if completion.streamed and completion.chunks:
        return len(completion.chunks), "chunks"
    return None, "unknown"


def tokens_per_s(completion: Completion) -> float | None:
    """Completion tokens per second from request start to last token."""
    tokens, source = completion_tokens(completion)
    latency = latency_s(completion)
    if source != "usage" or tokens is None or not latency:
        return None
    return tokens / latency


def time_per_output_token_s(completion: Completion) -> float | None:
    """TPOT in seconds; None when it cannot be known (no usage, hidden tokens, everything in one burst).

    Tokens of the first arrival were generated before t_first and do not belong to the interval. That is one token on
    a server that sends each as it comes, so the divisor is n - 1; it is several where chunks are coalesced or where
    the server's first write holds all that was generated until then. A burst that leaves fewer than
    `MIN_PACED_TOKENS` to time says nothing about the pace.
    """
    tokens, source = completion_tokens(completion)
    if source != "usage" or tokens is None or not completion.streamed or has_hidden_tokens(completion):
        return None
    chunks = completion.chunks
    interval = chunks[-1].at_s - chunks[0].at_s
    in_first = _chunks_in_first_arrival(completion)
    if has_coalesced_chunks(completion):
        in_first *= tokens / len(chunks)
    paced = tokens - in_first
    if interval <= 0 or paced < min(MIN_PACED_TOKENS, tokens - 1):
        return None
    return interval / paced


def starts_in_a_burst(completion: Completion) -> bool:
    """True when the first network read held several chunks: they waited in the server for each other."""
    return completion.ok and completion.streamed and _chunks_in_first_arrival(completion) > 1


def _chunks_in_first_arrival(completion: Completion) -> float:
    first = completion.chunks[0].at_s
    return float(sum(1 for chunk in takewhile(lambda chunk: chunk.at_s == first, completion.chunks)))


def decode_tokens_per_s(completion: Completion) -> float | None:
    """Decode rate in tokens per second: the inverse of TPOT."""
    pace = time_per_output_token_s(completion)
    return 1.0 / pace if pace else None


def prefill_tokens_per_s(completion: Completion) -> float | None:
    """Prompt tokens per second of TTFT: a lower bound of the prefill rate, None when the prompt was cached."""
    first = first_token_s(completion)
    if not first or not completion.prompt_tokens or completion.cached_tokens:
        return None
    return completion.prompt_tokens / first


def has_coalesced_chunks(completion: Completion) -> bool:
    """True when chunks carry several tokens: clearly more tokens than chunks, all of them visible."""
    return _more_tokens_than_chunks(completion) and not has_hidden_tokens(completion)


def has_hidden_tokens(completion: Completion) -> bool:
    """True when tokens were counted that never arrived.

    There are more tokens than chunks, and the text of the chunks does not explain it: a chunk of several tokens holds
    several words, or a long one, or several ideographs. Half of the excess must be explained so; else it was hidden.
    """
    if not _more_tokens_than_chunks(completion):
        return False
    shown = any(chunk.kind == "reasoning" for chunk in completion.chunks)
    if completion.reasoning_tokens and not shown:
        return True
    excess_tokens = (completion.completion_tokens or 0) - len(completion.chunks)
    excess_pieces = sum(max(0, _visible_pieces(chunk.text) - 1) for chunk in completion.chunks)
    return excess_pieces < 0.5 * excess_tokens


def _visible_pieces(text: str) -> int:
    """A low estimate of the tokens in a text: `"an example"` has 2 pieces, `"internationalisation"` 3."""
    words = _IDEOGRAPH.sub(" ", text).split()
    return len(_IDEOGRAPH.findall(text)) + sum(-(-len(word) // LETTERS_PER_PIECE) for word in words)


def _more_tokens_than_chunks(completion: Completion) -> bool:
    """More than an unstreamed end token or a split character explains: above 2 tokens and 10 %."""
    if not completion.streamed or not completion.completion_tokens:
        return False
    chunks = len(completion.chunks)
    return completion.completion_tokens > max(chunks + 2, 1.1 * chunks)


def is_truncated(completion: Completion) -> bool:
    """True when the answer was cut by `max_tokens`, so that it is not comparable work."""
    return completion.ok and completion.finish_reason == "length"


@dataclass(frozen=True, slots=True)
class Metric:
    """A row of `METRICS`: `name` in data, `label` for people, `unit`, the function, and which direction is better."""

    name: str
    label: str
    unit: str
    measure: Callable[[Completion], float | None]
    better: Literal["lower", "higher"]


METRICS: tuple[Metric, ...] = (
    Metric("latency_s", "Latency", "s", latency_s, "lower"),
    Metric("first_token_s", "Time to first token", "s", first_token_s, "lower"),
    Metric("first_visible_token_s", "Time to first visible token", "s", first_visible_token_s, "lower"),
    Metric("time_per_output_token_s", "Time per output token", "s", time_per_output_token_s, "lower"),
    Metric("decode_tokens_per_s", "Decode rate", "tok/s", decode_tokens_per_s, "higher"),
    Metric("tokens_per_s", "Tokens per second, end to end", "tok/s", tokens_per_s, "higher"),
    Metric(
        "prefill_tokens_per_s",
        "Prompt tokens per second of TTFT",
        "tok/s",
        prefill_tokens_per_s,
        "higher",
    ),
)
