"""What is known and what happened, as frozen values: prompts, model variants, requests, rows.

Seconds inside (`_s`), megabytes of 10^6 bytes (`_mb`), tokens (`_tokens`). `None` means *not measured*, never 0.
Knows no files, no HTTP and no statistics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Status = Literal["ok", "failed", "skipped"]
TokensSource = Literal["usage", "chunks", "unknown"]
ChunkKind = Literal["content", "reasoning"]

DOES_NOT_FIT = "does_not_fit"
"""The `error_kind` of a prompt that, with room for the answer, is longer than the model's context."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question of a prompt set: `text` is sent as the user message.

    A good answer, such as `reference`, mentions each of `aspects` (a phrase, or alternatives `a|b`), and none of
    `forbidden`. `capability` is the kind of work, e.g. `summarise-meeting`. `set_name` is the shipped set it was read
    from, empty for one of your own: where it comes from, not what it is, so it does not count in a comparison.
    """

    id: str
    text: str
    aspects: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    reference: str | None = None
    capability: str = "explain"
    set_name: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class ModelVariant:
    """One build of one model, as a catalog or an endpoint offers it; None = unknown.

    Attributes:
        alias: the family name a person types, e.g. `practice-small`.
        model_id: the exact `name:version` the web service answers to.
        device: `cpu`, `gpu`, `npu`, or `unknown` for a model behind an endpoint.
        execution_provider, precision: e.g. `CPUExecutionProvider`, `int4`.
        size_mb: size on disk in 10^6 bytes.
        licence: SPDX name or the catalog's wording.
        context_tokens: longest prompt plus answer.
        cached: True when the files are in the local cache.
        capabilities, watts, trained_on: what `models.json` says, see `data.ModelCard`.
        served_as: the name that requests carry where it is another than `model_id`, such as the whole path of a file.
    """

    alias: str
    model_id: str
    device: str
    execution_provider: str | None = None
    precision: str | None = None
    size_mb: float | None = None
    licence: str | None = None
    context_tokens: int | None = None
    capabilities: tuple[str, ...] = ()
    cached: bool | None = None
    watts: float | None = None
    served_as: str | None = None
    trained_on: tuple[str, ...] | None = None


Key = tuple[str, str]
"""Model id and device: what a row and its completions have in common."""


class Keyed(Protocol):
    """A variant, a row, a completion or a sample of one."""

    @property
    def model_id(self) -> str:
        """The exact id of the model."""

    @property
    def device(self) -> str:
        """The device that it runs on."""


def key(item: Keyed) -> Key:
    """What one row of a report is about: the exact model id and the device."""
    return item.model_id, item.device


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """What a user sets explicitly for the requests to one server.

    `tokens_field` is `max_tokens` or `max_completion_tokens`, None = found out from what the server refuses;
    `extra_body` is merged into the JSON of each request, has the last word, and a null in it removes a parameter.
    """

    tokens_field: str | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """One question to be put to one model: what the plan holds and the client sends.

    `round` is 0 for the untimed warm-up; `attempt` counts from 1; `text` is what is really sent; `seed` is the server's
    sampling seed, None = none is sent.
    """

    request_id: str
    variant: ModelVariant
    prompt_id: str
    text: str
    round: int
    max_tokens: int
    temperature: float = 0.0
    stream: bool = True
    attempt: int = 1
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """One arrival of answer text: seconds after the request start, its kind, and its (non-empty) text."""

    at_s: float
    kind: ChunkKind
    text: str


@dataclass(frozen=True, slots=True)
class Completion:
    """Everything that happened in one request. All numbers about it are derived from this; None = not known.

    `started_at` is the wall clock, ISO 8601 UTC, never used in a duration. `chunks` and `end_s` are relative to the
    first request byte on an open connection, whose opening took `connect_s`. A one-piece answer, `streamed` False, has
    no first-token time. Token counts are those of the server's `usage`, `prompt_sha256` is of the text really sent.
    `error` says why it failed to a person, `error_kind` to programs, e.g. `http_500` or `stalled`. `energy_j` is
    counted from just before to just after the request, by `energy_source`, see `machine`.
    """

    request_id: str
    alias: str
    model_id: str
    device: str
    prompt_id: str
    round: int
    started_at: str
    attempt: int = 1
    prompt_sha256: str | None = None
    connect_s: float | None = None
    chunks: tuple[Chunk, ...] = ()
    end_s: float | None = None
    streamed: bool = True
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    error: str | None = None
    error_kind: str | None = None
    energy_j: float | None = None
    energy_source: str | None = None

    @property
    def ok(self) -> bool:
        """True when the request was answered to its end."""
        return self.error is None

    @property
    def fits(self) -> bool:
        """False where prompt and answer are longer than the model's context: a result of the prompt, no fault."""
        return self.error_kind != DOES_NOT_FIT

    @property
    def text(self) -> str:
        """The answer a user sees: all content chunks joined."""
        return "".join(chunk.text for chunk in self.chunks if chunk.kind == "content")

    @property
    def is_empty(self) -> bool:
        """True when the server answered to the end and a user sees nothing: only thinking, white space or a tool call.

        Such an answer is ok where the model did write; without any text it is a failure (`empty_answer`, `tool_calls`).
        """
        if self.error is not None:
            return self.error_kind in {"empty_answer", "tool_calls"}
        return not self.text.strip()


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the report: one model on one device. The first sixteen fields are the JSON contract.

    Latencies in seconds; rates in completion tokens per second; energy in watt-hours per 1 000 completion tokens, and
    what a million of them cost at the price given, in its currency; `None` = not measured. `trained_on_prompts` says
    whether the model was trained on its `prompt_set`; None = unknown. Of `prompts` different ones `prompts_not_fitting`
    are longer than the model's context. `more` holds the averages and percentiles of the `METRICS` that have no field
    here, by name; in JSON and CSV they stand beside the others.
    """

    alias: str
    model_id: str
    device: str
    status: Status
    error: str | None = None
    rounds: int = 0
    requests_ok: int = 0
    latency_avg: float | None = None
    latency_p95: float | None = None
    tokens_per_sec_avg: float | None = None
    first_token_latency_avg: float | None = None
    decode_tokens_per_sec: float | None = None
    tokens_source: TokensSource = "unknown"
    prompt_tokens_avg: float | None = None
    completion_tokens_avg: float | None = None
    warnings: tuple[str, ...] = field(default=())
    precision: str | None = None
    execution_provider: str | None = None
    licence: str | None = None
    size_mb: float | None = None
    load_s: float | None = None
    cold_start_s: float | None = None
    resident_mb: float | None = None
    peak_resident_mb: float | None = None
    first_visible_token_latency_avg: float | None = None
    truncated_share: float | None = None
    energy_per_1000_tokens_wh: float | None = None
    energy_source: str | None = None
    energy_cost_per_million_tokens: float | None = None
    gpu_memory_mb: float | None = None
    request_notes: tuple[str, ...] = ()
    prompt_set: str | None = None
    trained_on_prompts: bool | None = None
    prompts: int = 0
    prompts_not_fitting: int = 0
    more: Mapping[str, float | None] = field(default_factory=dict, hash=False)

    def value(self, name: str) -> float | None:
        """A figure by its name in JSON and CSV."""
        found: float | None = self.more[name] if name in self.more else getattr(self, name, None)
        return found


@dataclass(frozen=True, slots=True)
class Serving:
    """One attempt to load and serve a variant; `error` says why it failed or was skipped, None when it served.

    Memory is the resident set of the serving process in 10^6 bytes, after load and its peak, and what it held on
    graphics cards when last looked at. `registered_providers` are those really registered in that process.
    `energy_note` says what its energy covers, or why it has none; `request_notes` which parameters were renamed or
    dropped; `threads` are those that the model's folder sets, None = whoever serves it chooses.
    """

    variant: ModelVariant
    status: Status = "ok"
    load_s: float | None = None
    resident_mb: float | None = None
    peak_resident_mb: float | None = None
    registered_providers: tuple[str, ...] = ()
    error: str | None = None
    gpu_memory_mb: float | None = None
    energy_note: str | None = None
    request_notes: tuple[str, ...] = ()
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One benchmark run: who measured what, where, and every request. Immutable; statistics are derived.

    `run_id` is the start time as `YYYYMMDDTHHMMSSZ`, also the folder name under `runs/`; `machine` is that of
    `machine.fingerprint`, `plan` that of `Plan.describe`. `completions` hold every request, warm-ups and failures
    included, in the order they happened; `notes` what a reader should know, e.g. that half a record was dropped.
    """

    run_id: str
    started_at: str
    profile: str
    machine: Mapping[str, Any]
    plan: Mapping[str, Any]
    prompts: tuple[Prompt, ...]
    servings: tuple[Serving, ...] = ()
    completions: tuple[Completion, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def prompt_set(self) -> str | None:
        """The shipped set that all its prompts are from; None where there is no such set."""
        names = {prompt.set_name for prompt in self.prompts}
        return names.pop() or None if len(names) == 1 else None
