"""Keep a model ready: a light prompt now and then, and what it gains, measured.

    with KeepWarm(model, every_s=60) as keeper:
        with keeper.busy():
            completion = client.ask(request)  # no light prompt is on its way meanwhile

A server that puts idle models aside, as some do, makes whoever comes next wait until the model is loaded again. A
runtime that keeps what it loaded, as Foundry Local does, is slow once: at the first request after loading. Knows the
client and served models; knows no plans and no tables.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Self

from workshop_lib.errors import ConfigurationError
from workshop_lib.instrument.client import DEFAULT_TIMEOUT_S, ChatClient
from workshop_lib.metrics import comparison, timing
from workshop_lib.records import Completion, ModelVariant, Request
from workshop_lib.show.text import one_line

if TYPE_CHECKING:
    from workshop_lib.metrics.comparison import Ratio
    from workshop_lib.runtimes.protocols import Runtime, ServedModel

LIGHT_PROMPT = "Hi"
Measure = Callable[[Completion], float | None]
NEVER_UNLOADS = (
    "On a runtime that keeps what it loaded, as Foundry Local does, only the first request after loading gains; on a "
    "server that puts idle models aside, the first one after every pause does."
)


class KeepWarm:
    """Sends a light prompt at once, and again whenever nobody has asked for a while, in a thread of its own.

    It never comes between a person and the model: a prompt that is due while a request runs is left out, and `busy`
    waits for one that is on its way. A prompt that fails is counted and said, never raised. Leaving the context ends
    it at once, or with the answer to the prompt on its way (`timeout_s` at most).

    Args:
        model: what is served.
        every_s: seconds without any request after which a prompt is sent.
        prompt: its text; unlike the user's prompts, so that no cache of prompts answers for the model.
        max_tokens: of its answer.
        timeout_s: seconds without a byte after which it has failed.
        clock: seconds, for the pauses.
        sleep: waits for so many seconds; None = a wait that ends when the context does.

    Raises:
        ConfigurationError: a pause that is not above 0, or a model without a usable address.
    """

    def __init__(
        self,
        model: ServedModel,
        *,
        every_s: float = 60.0,
        prompt: str = LIGHT_PROMPT,
        max_tokens: int = 1,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        if not 0 < every_s < math.inf:
            raise ConfigurationError(f"every_s is {every_s}.", "Give seconds above 0.")
        self.every_s = every_s
        self.pings = self.failures = self.stood_back = 0
        self.last_failure: str | None = None
        self._request = Request("keep-warm", model.variant, "keep-warm", prompt, round=0, max_tokens=max_tokens)
        self._client = ChatClient.to(model, timeout_s=timeout_s)
        self._clock = clock
        self._ended = threading.Event()
        self._sleep = sleep or self._ended.wait
        self._state = threading.Condition()
        self._users = 0
        self._is_pinging = False
        self._last_request = -math.inf
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._ended.clear()
        self._thread = threading.Thread(target=self._run, name="keep-warm", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it; safe to call twice."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._client.close()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Keep the model to oneself: what is timed belongs inside. Several threads may be inside at once."""
        with self._state:
            self._users += 1
            self._state.wait_for(lambda: not self._is_pinging)
        try:
            yield
        finally:
            with self._state:
                self._users -= 1
                self._last_request = self._clock()

    def ping(self) -> Completion | None:
        """Send the light prompt now and return its record; None when it stood back for a request."""
        with self._state:
            if self._users or self._is_pinging:
                self.stood_back += 1
                self._last_request = self._clock()
                return None
            self._is_pinging = True
        try:
            completion = self._client.ask(self._request)
            self._count(completion)
        finally:
            with self._state:
                self._is_pinging = False
                self._last_request = self._clock()
                self._state.notify_all()
        return completion

    def sentences(self) -> tuple[str, ...]:
        """What it did, and what that is good for."""
        prompts = f"{self.pings} light prompt{'' if self.pings == 1 else 's'}"
        sent = f"{prompts} sent: one at once, then one after every {self.every_s:g} s without a request."
        stood_back = f"It stood back for a request {self.stood_back} time{'' if self.stood_back == 1 else 's'}."
        failed = f"{self.failures} of them failed, the last one: {self.last_failure}"
        return (sent, *([stood_back] if self.stood_back else []), *([failed] if self.failures else []), NEVER_UNLOADS)

    def _run(self) -> None:
        while not self._ended.is_set():
            due_s = self._last_request + self.every_s - self._clock()
            if due_s > 0:
                self._sleep(due_s)
            else:
                self.ping()

    def _count(self, completion: Completion) -> None:
        """An empty answer is none to fail for: the model did its work for it."""
        self.pings += 1
        if not completion.ok and not completion.is_empty:
            self.failures += 1
            self.last_failure = one_line(completion.error or "")


@dataclass(frozen=True, slots=True)
class KeepWarmResult:
    """First requests of a user: right after loading, and after one light prompt; each on a model served anew.

    Attributes:
        variant: the model.
        cold: the requests right after loading.
        kept: the requests after a light prompt.
        loads_s: seconds that loading took before each cold request; None where the server does not tell.
    """

    variant: ModelVariant
    cold: tuple[Completion, ...]
    kept: tuple[Completion, ...]
    loads_s: tuple[float | None, ...] = ()

    @property
    def first_token(self) -> Ratio:
        """Time to the first token after a light prompt, in units of that right after loading."""
        return self._ratio(timing.first_token_s)

    @property
    def latency(self) -> Ratio:
        """End-to-end latency after a light prompt, in units of that right after loading."""
        return self._ratio(timing.latency_s)

    @property
    def with_load_s(self) -> tuple[float, ...]:
        """First tokens right after loading plus the load: what the user waits when the server put the model aside."""
        waits = zip(self.loads_s, map(timing.first_token_s, self.cold), strict=False)
        return tuple(load_s + first_s for load_s, first_s in waits if load_s is not None and first_s is not None)

    @property
    def put_aside(self) -> Ratio:
        """Time to the first token after a light prompt, in units of `with_load_s`."""
        kept = _known(self.kept, timing.first_token_s)
        return _against({"first request": list(self.with_load_s)}, {"first request": kept})

    def medians_s(self, measure: Measure) -> tuple[float | None, float | None]:
        """The median of a measure right after loading and after a light prompt; None where none was answered."""
        cold, kept = _known(self.cold, measure), _known(self.kept, measure)
        return median(cold) if cold else None, median(kept) if kept else None

    def sentences(self) -> tuple[str, ...]:
        """What was measured, and how far it carries."""
        failed = [each for each in (*self.cold, *self.kept) if not each.ok]
        total = len(self.cold) + len(self.kept)
        lost = [f"{len(failed)} of {total} requests failed: {one_line(failed[0].error or '')}"] if failed else []
        if self.first_token.value is None:
            return ("Nothing can be said of keeping warm: too few requests were answered.", *lost, NEVER_UNLOADS)
        return (
            f"A user's first request to {self.variant.model_id}, after one light prompt against right after loading.",
            self._sentence("First token", timing.first_token_s, self.first_token),
            self._sentence("Whole answer", timing.latency_s, self.latency),
            *self._of_the_load(),
            *lost,
            NEVER_UNLOADS,
        )

    def _ratio(self, measure: Measure) -> Ratio:
        cold, kept = ({"first request": _known(side, measure)} for side in (self.cold, self.kept))
        return _against(cold, kept)

    def _of_the_load(self) -> tuple[str, ...]:
        if self.put_aside.value is None:
            return ()
        kept_s = self.medians_s(timing.first_token_s)[1] or 0.0
        said = comparison.describe(self.put_aside, "lower")
        waits = f"{1e3 * kept_s:.0f} ms against {1e3 * median(self.with_load_s):.0f} ms"
        return (f"Where a server puts idle models aside, the load is waited for, too. First token: {waits}, {said}.",)

    def _sentence(self, name: str, measure: Measure, ratio: Ratio) -> str:
        cold_s, kept_s = (1e3 * (seconds or 0.0) for seconds in self.medians_s(measure))
        return f"{name}: {kept_s:.0f} ms against {cold_s:.0f} ms, {comparison.describe(ratio, 'lower')}."


def measure_cold_and_kept(
    runtime: Runtime,
    variant: ModelVariant,
    *,
    repeats: int = 5,
    prompt: str = "What is edge AI?",
    max_tokens: int = 16,
) -> KeepWarmResult:
    """Serve a model anew for every request, with and without a light prompt before it, in alternating order.

    One serving that does not count comes first, so that no side alone meets files that nobody has read yet.

    Args:
        runtime: where it is served.
        variant: the model.
        repeats: requests on each side; with 2 or more there is an interval.
        prompt: what the user asks.
        max_tokens: longest answer.

    Raises:
        ConfigurationError: fewer than 1 repeat.
        WorkshopError: it could not be served.
    """
    if repeats < 1:
        raise ConfigurationError(f"repeats is {repeats}.", "Give 1 or more.")
    request = Request(f"{variant.model_id}/first/1", variant, "first", prompt, round=1, max_tokens=max_tokens)
    _first_request(runtime, request, light_prompts=0)
    answers: dict[int, list[tuple[Completion, float | None]]] = {0: [], 1: []}
    for repeat in range(repeats):
        for light_prompts in (0, 1) if repeat % 2 == 0 else (1, 0):
            answers[light_prompts].append(_first_request(runtime, request, light_prompts=light_prompts))
    cold, loads_s = zip(*answers[0], strict=True)
    return KeepWarmResult(variant, cold=cold, kept=tuple(each for each, _ in answers[1]), loads_s=loads_s)


def _first_request(runtime: Runtime, request: Request, *, light_prompts: int) -> tuple[Completion, float | None]:
    """Serve, send so many light prompts, ask what the user asks; return the answer and the seconds of loading."""
    with (
        runtime.serve(request.variant) as model,
        ChatClient.to(model) as client,
        closing(KeepWarm(model)) as keeper,
    ):
        client.prepare()
        for _ in range(light_prompts):
            keeper.ping()
        with keeper.busy():
            return client.ask(request), model.load_s


def _against(cold: dict[str, list[float]], kept: dict[str, list[float]]) -> Ratio:
    return comparison.compare_samples(cold, kept, smallest=comparison.BETWEEN_RUNS)


def _known(completions: tuple[Completion, ...], measure: Measure) -> list[float]:
    return [seconds for seconds in map(measure, completions) if seconds is not None]
