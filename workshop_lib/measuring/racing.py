"""Running a race: models are served, warmed up and asked, and watched while they write.

Whoever watches looks at the growing list of stamped bytes, at most 30 times a second and from another thread: the
thread that asks does nothing for it, and an answer that is over sooner is never looked at before its end. Models race
together, and then share the machine, or in turns, each with the machine to itself. Knows the client; knows no widget.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import get_args

from workshop_lib.errors import ConfigurationError, WorkshopError
from workshop_lib.instrument.client import DEFAULT_TIMEOUT_S, ChatClient, without_keys
from workshop_lib.measuring import race
from workshop_lib.measuring.race import LaneState, RaceResult, RaceState, Turns
from workshop_lib.metrics.streams import AnswerReader, Arrival
from workshop_lib.records import Chunk, Completion, ModelVariant, Prompt, Request
from workshop_lib.runtimes.profiles import Runtime, ServedModel

UPDATES_PER_S = 30
"""As often as a page is worth redrawing; more would only take time from those who race."""

WARM_UP = Prompt("warm-up", "Say hello.")
"""Another question than the race's, so that no server has that one in its prompt cache."""
WARM_UP_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Lane:
    """Who races: a variant, and how it is served when its turn comes."""

    variant: ModelVariant
    serve: Callable[[], ServedModel]


def lanes_of(runtime: Runtime, variants: Sequence[ModelVariant]) -> tuple[Lane, ...]:
    """One lane per variant, served by the runtime when its turn comes."""

    def lane(variant: ModelVariant) -> Lane:
        return Lane(variant, lambda: runtime.serve(variant))

    return tuple(map(lane, variants))


def run_race(
    lanes: Sequence[Lane],
    prompt: Prompt,
    *,
    max_tokens: int = 120,
    turns: Turns = "in turns",
    timeout_s: float = DEFAULT_TIMEOUT_S,
    on_change: Callable[[RaceState], None] | None = None,
) -> RaceResult:
    """Serve each lane, let it answer a short question that does not count, then the race's; watch it meanwhile.

    Together, all models are in memory and all requests leave at once. In turns, a model is loaded when the one before
    it has ended. What goes wrong in one lane stays in it.

    Args:
        lanes: who races.
        prompt: the question.
        max_tokens: longest answer.
        turns: `together` or `in turns`.
        timeout_s: seconds without a byte before a lane counts as stalled.
        on_change: called in this thread with each new state, at most `UPDATES_PER_S` times a second while they write.

    Raises:
        ConfigurationError: `turns` is neither of the two.
    """
    if turns not in get_args(Turns):
        raise ConfigurationError(f"A race cannot be run '{turns}'.", f"Use {' or '.join(get_args(Turns))}.")
    variants = tuple(lane.variant for lane in lanes)
    called = zip(lanes, race.names(variants), strict=True)
    runners = [_Runner(lane, name, prompt, max_tokens, timeout_s) for lane, name in called]
    watch = _Watch(runners, on_change)
    for heat in [runners] if turns == "together" else [[runner] for runner in runners]:
        _run_heat(heat, watch)
    return RaceResult(prompt, turns, variants, tuple(runner.ended() for runner in runners))


def _run_heat(heat: Sequence[_Runner], watch: _Watch) -> None:
    """Load and warm up the runners of a heat, then ask them all at once, and look at them until all have ended."""
    with ThreadPoolExecutor(max(len(heat), 1)) as pool, ExitStack() as models:
        for runner in heat:
            runner.status = "loading"
            watch.look()
            runner.load(models)
        ready = [runner for runner in heat if runner.completion is None]
        start = threading.Barrier(max(len(ready), 1))
        models.callback(start.abort)  # an interrupt leaves nobody waiting at the line
        running: set[Future[None]] = {pool.submit(runner.ask, start) for runner in ready}
        while running:
            done, running = wait(running, 1 / UPDATES_PER_S)
            for future in done:
                future.result()
            watch.look()
    watch.look()


class _Watch:
    """Looks at all runners and tells a listener what has changed."""

    def __init__(self, runners: Sequence[_Runner], on_change: Callable[[RaceState], None] | None) -> None:
        self._runners = runners
        self._on_change = on_change
        self._last: RaceState | None = None

    def look(self) -> None:
        if self._on_change is None:
            return
        state = RaceState(race.placed([runner.state() for runner in self._runners]))
        if state != self._last:
            self._last = state
            self._on_change(state)


class _Runner:
    """One lane while it runs."""

    def __init__(self, lane: Lane, name: str, prompt: Prompt, max_tokens: int, timeout_s: float) -> None:
        self.lane = lane
        self.name = name
        self.status: race.Status = "waiting"
        self.completion: Completion | None = None
        self._timeout_s = timeout_s
        self._warm_up = self._request(WARM_UP, 0, WARM_UP_TOKENS)
        self._asked = self._request(prompt, 1, max_tokens)
        self._arrivals: list[Arrival] = []
        self._live = LiveAnswer(self._arrivals)
        self._client: ChatClient | None = None

    def load(self, models: ExitStack) -> None:
        """Serve the model and warm it up, or end with the reason why that is not possible."""
        try:
            served = models.enter_context(self.lane.serve())
        except WorkshopError as error:
            self.completion = _not_served(self._asked, error)
            return
        client = ChatClient.to(served, timeout_s=self._timeout_s)
        self._client = models.enter_context(client)
        client.ask(self._warm_up)

    def ask(self, start: threading.Barrier) -> None:
        """Ask when all others are ready; runs in a thread of its own."""
        if self._client is None:
            return
        self.status = "asked"
        try:
            start.wait()
        except threading.BrokenBarrierError:  # the race was interrupted
            return
        self.completion = self._client.ask(self._asked, arrivals=self._arrivals)

    def state(self) -> LaneState:
        """How far it is now."""
        if self.completion is not None:
            return race.finished(self.name, self.completion)
        if self.status == "asked":
            return race.so_far(self.name, self._live.look())
        return LaneState(self.name, self.status)

    def ended(self) -> Completion:
        """Its record, once it has one."""
        if self.completion is None:
            raise RuntimeError(f"{self.name} has not ended.")
        return self.completion

    def _request(self, prompt: Prompt, number: int, max_tokens: int) -> Request:
        variant = self.lane.variant
        return Request(f"{variant.model_id}/{prompt.id}/race-{number}", variant, prompt.id, prompt.text, number,
                       max_tokens)  # fmt: skip


class LiveAnswer:
    """Reads the chunks of an answer while its list of stamped bytes still grows; each byte is parsed once."""

    def __init__(self, arrivals: list[Arrival]) -> None:
        self._arrivals = arrivals
        self._seen = 0
        self._reader = AnswerReader()

    def look(self) -> list[Chunk]:
        """All chunks whose events are complete by now, without keys."""
        new = self._arrivals[self._seen :]
        self._seen += len(new)
        self._reader.feed(new)
        return list(without_keys(self._reader.chunks()))


def _not_served(request: Request, error: WorkshopError) -> Completion:
    """The record of a request that could not be sent."""
    return Completion(
        request_id=request.request_id,
        alias=request.variant.alias,
        model_id=request.variant.model_id,
        device=request.variant.device,
        prompt_id=request.prompt_id,
        round=request.round,
        started_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        temperature=request.temperature,
        max_tokens=request.max_tokens,
        error=str(error),
        error_kind="not_served",
    )
