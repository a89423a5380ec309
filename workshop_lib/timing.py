"""Pure metrics of one completion. Seconds, tokens, tokens per second; `None` = cannot be known, never 0.

Definitions (the field's terms):

* TTFT, time to first token: first non-empty content or reasoning chunk, minus request start.
* End-to-end latency: last such chunk, minus request start. A one-piece answer ends with its last byte.
* TPOT, time per output token: (t_last - t_first) / (n - 1), where n counts completion tokens; its inverse is the
  decode rate. It excludes TTFT and is not the mean of chunk gaps.
* Tokens come from the server's `usage`, where that fits the text (`Measures`, `has_hidden_tokens`). Chunks
  are counted only under that name and never become a rate.

A new metric is one function here, one row in `METRICS` and one test.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import sub
from typing import Literal, NamedTuple

from workshop_lib.records import Chunk, Completion, TokensSource

RESOLUTION_S = 50e-6
"""Chunks closer than this had been waiting for each other: taking one off the network takes the client that long.

So no pace above 20 000 tokens per second can be seen over HTTP.
"""

LARGEST_ARRIVAL_CHUNKS = 4
LARGEST_ARRIVAL_SHARE = 0.1
"""More than 4 chunks at one moment, and more than a tenth of the answer, are a burst."""

MIN_PACED_TOKENS = 8
"""With fewer tokens after a burst, a pace is mostly the jitter of two time stamps."""

CACHED_SHARE = 0.8
"""Of a prompt's tokens. llama.cpp reports the chat template of new prompts as cached (at most 77 % of short ones), and
97 % of prompts that were asked before."""

LETTERS_PER_PIECE = 8
"""A word of up to this many letters may be one token; longer ones are counted as several."""

LETTERS_PER_TOKEN = 16
"""No tokenizer gets more letters than this into a token on average, over a whole answer in any script."""

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
    if completion.error is not None:
        return None, "unknown"
    tokens = completion.completion_tokens
    if tokens and not _has_too_few_tokens(tokens, completion.chunks):
        return tokens, "usage"
    if completion.streamed and completion.chunks:
        return len(completion.chunks), "chunks"
    return None, "unknown"


def tokens_per_s(completion: Completion) -> float | None:
    """Completion tokens per second from request start to last token."""
    return measure(completion).tokens_per_s


def time_per_output_token_s(completion: Completion) -> float | None:
    """TPOT in seconds; None when it cannot be known (no usage, hidden tokens, too little outside bursts).

    Tokens of the first arrival were generated before t_first and do not belong to the interval. That is one token on
    a server that sends each as it comes, so the divisor is n - 1; it is several where chunks are coalesced, and a part
    of one where each letter is a chunk. An end token that is counted and never sent (one more token than chunks, and
    the model stopped by itself) comes after t_last and does not belong to it either. After a burst (see `has_burst`)
    the interval starts with the burst, because what waited in the server for the others has no pace. Fewer than
    `MIN_PACED_TOKENS` after a burst say nothing.
    """
    return measure(completion).time_per_output_token_s


def has_burst(completion: Completion) -> bool:
    """True when a large share of the chunks arrived at one moment: they waited in the server for each other."""
    return measure(completion).has_burst


class Measures(NamedTuple):
    """What one look at a completion gives; `tokens` and `tokens_source` are what `completion_tokens` returns.

    `has_coalesced_chunks`: chunks carry several tokens, clearly more than one each, all of them visible.
    `has_usage_mismatch`: `usage` counts so few tokens that the text cannot consist of them; it is not believed.
    """

    latency_s: float | None = None
    first_token_s: float | None = None
    first_visible_token_s: float | None = None
    time_per_output_token_s: float | None = None
    tokens: int | None = None
    tokens_source: TokensSource = "unknown"
    tokens_per_s: float | None = None
    has_hidden_tokens: bool = False
    has_coalesced_chunks: bool = False
    has_burst: bool = False
    has_usage_mismatch: bool = False


def measure(completion: Completion) -> Measures:
    """Measure a completion once. A row is made of many of them, and several of its figures need the same steps."""
    chunks = completion.chunks
    if completion.error is not None or not chunks:
        return Measures()
    tokens, source = completion_tokens(completion)
    latency = chunks[-1].at_s
    rate = tokens / latency if source == "usage" and tokens is not None and latency else None
    misfit = source != "usage" and bool(completion.completion_tokens)
    if not completion.streamed:
        return Measures(latency, None, None, None, tokens, source, rate, has_usage_mismatch=misfit)
    first = chunks[0].at_s
    visible = first if chunks[0].kind == "content" else first_visible_token_s(completion)
    more = _more_tokens_than_chunks(completion)
    hidden = more and has_hidden_tokens(completion)
    start, before, burst = _paced_from(chunks)
    pace = None
    if source == "usage" and tokens is not None and tokens > 1 and not hidden:
        interval = latency - chunks[start].at_s
        sent = tokens - int(completion.finish_reason == "stop" and tokens == len(chunks) + 1)
        paced = sent - before * (tokens / len(chunks) if more or tokens < len(chunks) else 1.0)
        if interval > 0 and paced > 0 and (not burst or paced >= MIN_PACED_TOKENS):
            pace = interval / paced
    return Measures(latency, first, visible, pace, tokens, source, rate, hidden, more and not hidden, burst, misfit)


def _paced_from(chunks: Sequence[Chunk]) -> tuple[int, int, bool]:
    """Where the interval of the pace starts: the chunk there, how many chunks had arrived by then, after a burst?

    Chunks arrive together in one read or `RESOLUTION_S` apart.
    """
    moments = [chunk.at_s for chunk in chunks]
    firsts = [0, *(place for place, gap in enumerate(map(sub, moments[1:], moments), 1) if gap >= RESOLUTION_S)]
    sizes = list(map(sub, [*firsts[1:], len(chunks)], firsts))
    largest = max(sizes)
    if largest <= max(LARGEST_ARRIVAL_CHUNKS, LARGEST_ARRIVAL_SHARE * len(chunks)):
        return 0, sizes[0], False
    first = firsts[sizes.index(largest)]
    return first, first + largest, True


def decode_tokens_per_s(completion: Completion) -> float | None:
    """Decode rate in tokens per second: the inverse of TPOT."""
    pace = time_per_output_token_s(completion)
    return 1.0 / pace if pace else None


def prefill_tokens_per_s(completion: Completion) -> float | None:
    """Prompt tokens per second of TTFT: a lower bound of the prefill rate, None when the prompt was cached.

    Tokens that come from a cache although the prompt is new, as those of a chat template, are not counted.
    """
    first = first_token_s(completion)
    if not first or not completion.prompt_tokens or is_prompt_cached(completion):
        return None
    return (completion.prompt_tokens - (completion.cached_tokens or 0)) / first


def is_prompt_cached(completion: Completion) -> bool:
    """True when the server says that it had nearly all of the prompt in its cache, more than a chat template."""
    return (completion.cached_tokens or 0) > CACHED_SHARE * (completion.prompt_tokens or 0)


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


def _has_too_few_tokens(tokens: int, chunks: Sequence[Chunk]) -> bool:
    """Fewer than half of a low estimate: of the words, or of the letters at `LETTERS_PER_TOKEN`."""
    text = "".join([chunk.text for chunk in chunks])
    words = len(_IDEOGRAPH.sub(" ", text).split()) + len(_IDEOGRAPH.findall(text)) // 2
    return 2 * tokens < max(words, len(text) // LETTERS_PER_TOKEN)


def _visible_pieces(text: str) -> int:
    """A low estimate of the tokens in a text: `"an example"` has 2 pieces, `"internationalisation"` 3."""
    words = _IDEOGRAPH.sub(" ", text).split()
    return len(_IDEOGRAPH.findall(text)) + sum(-(-len(word) // LETTERS_PER_PIECE) for word in words)


def _more_tokens_than_chunks(completion: Completion) -> bool:
    """More than an unstreamed end token or a split character explains: above 2 tokens and 10 %."""
    if not completion.streamed or not completion.completion_tokens:
        return False
    chunks = len(completion.chunks)
    return completion.completion_tokens > chunks + 2 and completion.completion_tokens > 1.1 * chunks


Place = Literal["rows", "table", "comparison", "figure"]
EVERYWHERE: frozenset[Place] = frozenset({"rows", "table", "comparison", "figure"})
PERCENTILES = {50: 2, 90: 10, 95: 20, 99: 100}
"""Percentile → the fewest samples that it is given for: with fewer it is little more than the largest of them."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A row of `METRICS`, from which rows, JSON, CSV, reports, tables, comparisons and figures follow.

    Attributes:
        name: in samples, and in rows where `row` is empty.
        label: for people.
        unit: of the value; seconds are shown as milliseconds.
        measure: the function.
        better: which direction.
        short: its name in headings and comparisons; empty: the label.
        row: the name of its average in rows; empty: `name`.
        average: over the requests of a model.
        places: where it appears; everywhere unless said.
        percentiles: whether rows also have its `PERCENTILES`.
    """

    name: str
    label: str
    unit: str
    measure: Callable[[Completion], float | None]
    better: Literal["lower", "higher"]
    short: str = ""
    row: str = ""
    average: Literal["mean", "median"] = "mean"
    places: frozenset[Place] = EVERYWHERE
    percentiles: bool = False

    @property
    def row_name(self) -> str:
        """The name of its average in a row."""
        return self.row or self.name

    @property
    def percentile_names(self) -> dict[str, int]:
        """Its percentiles by their names in a row, e.g. `latency_p95`; empty where rows have none."""
        stem = self.row_name.removesuffix("_avg").removesuffix("_s")
        return {f"{stem}_p{percent}": percent for percent in PERCENTILES if self.percentiles}

    @property
    def title(self) -> str:
        """Its name in headings and comparisons."""
        return self.short or self.label.lower()

    @property
    def shown_unit(self) -> str:
        """The unit for people."""
        return "ms" if self.unit == "s" else self.unit

    def shown(self, value: float | None) -> float | None:
        """A value in the unit for people."""
        return None if value is None else value * 1000 if self.unit == "s" else value


METRICS: tuple[Metric, ...] = (
    Metric("latency_s", "Latency", "s", latency_s, "lower", row="latency_avg", percentiles=True),
    Metric("first_token_s", "Time to first token", "s", first_token_s, "lower", "first token",
           row="first_token_latency_avg", places=EVERYWHERE - {"figure"}, percentiles=True),
    Metric("first_visible_token_s", "Time to first visible token", "s", first_visible_token_s, "lower",
           row="first_visible_token_latency_avg", places=frozenset({"rows"})),
    Metric("time_per_output_token_s", "Time per output token", "s", time_per_output_token_s, "lower",
           places=frozenset(), percentiles=True),
    Metric("decode_tokens_per_s", "Decode rate", "tok/s", decode_tokens_per_s, "higher", "decode",
           row="decode_tokens_per_sec", average="median", places=EVERYWHERE - {"figure"}),
    Metric("tokens_per_s", "Tokens per second, end to end", "tok/s", tokens_per_s, "higher", "end to end",
           row="tokens_per_sec_avg", places=frozenset({"rows", "table"})),
    Metric("prefill_tokens_per_s", "Prompt tokens per second to first token", "tok/s", prefill_tokens_per_s, "higher",
           places=frozenset()),
)  # fmt: skip


def metrics_of(place: Place) -> tuple[Metric, ...]:
    """The rows of `METRICS` that appear in one place."""
    return tuple(metric for metric in METRICS if place in metric.places)


def row_names() -> tuple[str, ...]:
    """The names of all figures that rows have because of `METRICS`: averages, then percentiles."""
    averages = (metric.row_name for metric in metrics_of("rows"))
    return (*averages, *(name for metric in METRICS for name in metric.percentile_names))
