"""A race: models answer one question, one after the other or at the same time, and are watched while they write.

Whoever watches looks at the growing list of stamped bytes, at most 30 times a second and from another thread: the
thread that asks does nothing for it. At the end the figures of a lane are those of `timing`, as in a benchmark; before
it, only pieces of text are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal, NamedTuple, get_args

from workshop_lib import timing
from workshop_lib.client import DEFAULT_TIMEOUT_S, ChatClient, without_keys
from workshop_lib.errors import ConfigurationError, WorkshopError
from workshop_lib.records import Chunk, Completion, ModelVariant, Prompt, Request, TokensSource
from workshop_lib.runtimes.profiles import Runtime
from workshop_lib.show.text import key, names, one_line
from workshop_lib.streams import AnswerReader, Arrival

Turns = Literal["together", "in turns"]
Status = Literal["waiting", "loading", "asked", "thinking", "writing", "done", "failed"]

UPDATES_PER_S = 30
"""As often as a page is worth redrawing; more would only take time from those who race."""
WARM_UP, WARM_UP_TOKENS = Prompt("warm-up", "Say hello."), 8
"""Another question than the race's, so that no server has that one in its prompt cache."""


@dataclass(frozen=True, slots=True)
class LaneState:
    """One model at one moment; each time is in seconds after its own request, None while it is not known.

    `thinking` means reasoning only. `arrived_s` says when each piece of text arrived, reasoning included. `tokens` are
    those written so far; `tokens_source` says `chunks` while pieces are counted, `usage` once the server said. `place`
    is 1 for the first that was done, also of several at once.
    """

    name: str
    status: Status = "waiting"
    text: str = ""
    arrived_s: tuple[float, ...] = ()
    first_token_s: float | None = None
    tokens: int | None = None
    tokens_source: TokensSource = "unknown"
    tokens_per_s: float | None = None
    latency_s: float | None = None
    place: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class RaceResult:
    """What happened: one record per lane, in the lanes' order."""

    prompt: Prompt
    turns: Turns
    variants: tuple[ModelVariant, ...] = ()
    completions: tuple[Completion, ...] = ()

    @property
    def lanes(self) -> tuple[LaneState, ...]:
        """The lanes at the end, with the same figures as in a benchmark."""
        called = names(self.variants)
        ends = zip(self.variants, self.completions, strict=True)
        return placed([finished(called[key(variant)], completion) for variant, completion in ends])


class Pick(NamedTuple):
    """Who should race, and why these."""

    variants: tuple[ModelVariant, ...]
    why: str


def pick(variants: Sequence[ModelVariant], absent: Mapping[str, str] | None = None) -> Pick:
    """Choose two that are worth racing.

    A model that is here for CPU and GPU races itself, the largest such model if there are several. Else the smallest
    and the largest model of one precision race, so that they differ in size alone where that is possible.
    `absent` are the devices that are not here, with the reason.
    """
    if len(variants) < 2:
        why = "Only one model is here, so it runs alone." if variants else "No model is here, so nobody races."
        return Pick(tuple(variants), why)
    on_cpu, on_gpu = ([each for each in variants if each.device == device] for device in ("cpu", "gpu"))
    both = [(cpu, gpu) for cpu in on_cpu for gpu in on_gpu if cpu.alias == gpu.alias]
    if both:
        pair = max(both, key=lambda pair: (pair[0].precision == pair[1].precision, pair[0].size_mb or 0.0))
        alias = one_line(pair[0].alias, 44)
        return Pick(pair, f"{alias} races itself: its CPU build against its GPU build, which is another file.")
    ordered = sorted(on_cpu if len(on_cpu) > 1 else variants, key=lambda each: each.size_mb or 0.0)
    alike = ([each for each in ordered if each.precision == one.precision] for one in ordered)
    pairs = [(group[0], group[-1]) for group in alike if group[0].alias != group[-1].alias]
    ends = max(pairs or [(ordered[0], ordered[-1])], key=lambda pair: (pair[1].size_mb or 0) / (pair[0].size_mb or 1))
    reason = (absent or {}).get("gpu", "").partition(". ")[0].rstrip(".")
    return Pick(ends, f"{f'{reason}, so' if reason else 'Here'} the smallest and the largest model race.")


# -- how far a lane is


def so_far(name: str, chunks: Sequence[Chunk]) -> LaneState:
    """A lane that was asked and is not done: only pieces of text can be counted yet."""
    if not chunks:
        return LaneState(name, "asked")
    text = "".join(chunk.text for chunk in chunks if chunk.kind == "content")
    times = tuple(chunk.at_s for chunk in chunks)
    pace = (len(chunks) - 1) / (times[-1] - times[0]) if times[-1] > times[0] else None
    return LaneState(name, "writing" if text else "thinking", text, times, times[0], len(chunks), "chunks", pace)


def lane_at(last: LaneState, completion: Completion, at_s: float) -> LaneState:
    """A lane `at_s` seconds after its request, where `last` is its state at the end."""
    if not completion.chunks or completion.chunks[-1].at_s <= at_s:
        return last
    return so_far(last.name, [chunk for chunk in completion.chunks if chunk.at_s <= at_s])


def finished(name: str, completion: Completion) -> LaneState:
    """A lane at its end, by the definitions of `timing`; a failed one keeps what had arrived."""
    seen = so_far(name, completion.chunks)
    if completion.error is not None:
        return replace(seen, status="failed", tokens_per_s=None, error=completion.error)
    measured, pace = timing.measure(completion), timing.decode_tokens_per_s(completion)
    return replace(
        seen,
        status="done",
        first_token_s=measured.first_token_s,
        tokens=measured.tokens,
        tokens_source=measured.tokens_source,
        tokens_per_s=pace,
        latency_s=measured.latency_s,
    )


def placed(lanes: Sequence[LaneState]) -> tuple[LaneState, ...]:
    """The lanes with the places of those that are done; equal times share a place."""
    ends = sorted(lane.latency_s for lane in lanes if lane.latency_s is not None)
    return tuple(
        lane if lane.latency_s is None else replace(lane, place=1 + ends.index(lane.latency_s)) for lane in lanes
    )


# -- asking


def run_race(
    runtime: Runtime,
    variants: Sequence[ModelVariant],
    prompt: Prompt,
    *,
    max_tokens: int = 120,
    turns: Turns = "in turns",
    timeout_s: float = DEFAULT_TIMEOUT_S,
    on_change: Callable[[tuple[LaneState, ...]], None] = lambda _: None,
) -> RaceResult:
    """Serve each model, let it answer a short question that does not count, then the race's; watch it meanwhile.

    Together, all models are in memory and all requests leave at once. In turns, a model is loaded when the one before
    it has ended. What goes wrong in one lane stays in it.

    `timeout_s` are the seconds without a byte before a lane counts as stalled. `on_change` is called in this thread
    with each new state, at most `UPDATES_PER_S` times a second while they write.

    Raises:
        ConfigurationError: `turns` is neither of the two.
    """
    if turns not in get_args(Turns):
        raise ConfigurationError(f"A race cannot be run '{turns}'.", f"Use {' or '.join(get_args(Turns))}.")
    called = names(variants)
    last: tuple[LaneState, ...] = ()
    lanes = [_Lane(called[key(variant)], variant, prompt, max_tokens) for variant in variants]

    def look() -> None:
        nonlocal last
        now = placed([lane.state() for lane in lanes])
        if now != last:
            on_change(now)
        last = now

    for heat in [lanes] if turns == "together" else [[lane] for lane in lanes]:
        with ThreadPoolExecutor(max(len(heat), 1)) as pool, ExitStack() as models:
            for lane in heat:
                lane.status = "loading"
                look()
                lane.load(runtime, models, timeout_s)
            running: set[Future[None]] = {pool.submit(lane.ask) for lane in heat if lane.completion is None}
            while running:
                done, running = wait(running, 1 / UPDATES_PER_S)
                for future in done:
                    future.result()
                look()
        look()
    return RaceResult(prompt, turns, tuple(variants), tuple(lane.completion for lane in lanes if lane.completion))


class LiveAnswer:
    """Reads the chunks of an answer while its list of stamped bytes still grows; each byte is parsed once."""

    def __init__(self, arrivals: list[Arrival]) -> None:
        self._arrivals, self._seen, self._reader = arrivals, 0, AnswerReader()

    def look(self) -> list[Chunk]:
        """All chunks whose events are complete by now, without keys."""
        new = self._arrivals[self._seen :]
        self._seen += len(new)
        self._reader.feed(new)
        return list(without_keys(self._reader.chunks()))


class _Lane:
    """One model while it races."""

    status: Status = "waiting"
    completion: Completion | None = None

    def __init__(self, name: str, variant: ModelVariant, prompt: Prompt, max_tokens: int) -> None:
        self.name, self.variant = name, variant
        self._asked = Request(f"{variant.model_id}/{prompt.id}/race", variant, prompt.id, prompt.text, 1, max_tokens)
        self._arrivals: list[Arrival] = []
        self._live = LiveAnswer(self._arrivals)

    def load(self, runtime: Runtime, models: ExitStack, timeout_s: float) -> None:
        """Serve the model and warm it up, or end with the reason why that is not possible."""
        asked = self._asked
        try:
            served = models.enter_context(runtime.serve(self.variant))
        except WorkshopError as error:
            who = (self.variant.alias, self.variant.model_id, self.variant.device, asked.prompt_id, asked.round)
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            self.completion = Completion(asked.request_id, *who, now, error=str(error), error_kind="not_served")
            return
        self._client = models.enter_context(ChatClient.to(served, timeout_s=timeout_s))
        warm_up = replace(asked, prompt_id=WARM_UP.id, text=WARM_UP.text, round=0, max_tokens=WARM_UP_TOKENS)
        self._client.ask(warm_up)

    def ask(self) -> None:
        """Ask; runs in a thread of its own."""
        self.status = "asked"
        self.completion = self._client.ask(self._asked, arrivals=self._arrivals)

    def state(self) -> LaneState:
        """How far it is now."""
        if self.completion is not None:
            return finished(self.name, self.completion)
        if self.status == "asked":
            return so_far(self.name, self._live.look())
        return LaneState(self.name, self.status)
