"""Several users at once, and a model kept warm.

    loads = measure_loads(model, prompts, levels=(1, 2, 4, 8))   # does more get done, or does everybody only wait?
    with KeepWarm(model, every_s=60) as keeper, keeper.busy():
        completion = client.ask(request)                         # no light prompt is on its way meanwhile

A server that unloads idle models makes whoever comes next wait until the model is loaded again. A runtime that keeps
what it loaded, as Foundry Local does, is slow once: at the first request after loading.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from workshop_lib import comparison, files, goals, timing
from workshop_lib.benchmark import answered
from workshop_lib.client import DEFAULT_TIMEOUT_S, ChatClient
from workshop_lib.comparison import Ratio
from workshop_lib.errors import ConfigurationError
from workshop_lib.records import Completion, ModelVariant, Prompt, Request, RequestOptions, Run
from workshop_lib.show.text import one_line

if TYPE_CHECKING:
    from workshop_lib.runtimes.profiles import Runtime, ServedModel

LEVELS = (1, 2, 4, 8)
LOADS_FILE = "concurrency.jsonl"
SCHEMA = 1
WORTHWHILE = 1.10
"""Less than 10 % more total throughput for twice the users counts as only waiting."""
ENOUGH_IN_TIME = 0.95  # of the requests: so many users can be promised the goals

TRIED_REQUESTS, TRIED_TOKENS = 3, 40
"""Questions per user and tokens per answer where a notebook tries several users: minutes, even with a slow model."""

NEVER_UNLOADS = (
    "On a runtime that keeps what it loaded, as Foundry Local does, only the first request after loading is faster; "
    "on a server that unloads idle models, the first one after every pause is."
)


@dataclass(frozen=True, slots=True)
class Load:
    """What one number of simultaneous users got: every request, and the seconds from their start to the last end."""

    users: int
    completions: tuple[Completion, ...]
    wall_s: float

    @property
    def answered(self) -> list[Completion]:
        """The requests that succeeded."""
        return [completion for completion in self.completions if completion.ok]

    @property
    def total_tokens_per_s(self) -> float | None:
        """Completion tokens of all users per second of wall time; None without token counts."""
        counts = [timing.completion_tokens(completion) for completion in self.answered]
        if not counts or any(source != "usage" for _, source in counts):
            return None
        return sum(tokens or 0 for tokens, _ in counts) / self.wall_s

    @property
    def tokens_per_s(self) -> float | None:
        """Median end-to-end rate that one request sees."""
        return _median(_known(self.completions, timing.tokens_per_s))

    @property
    def first_token_s(self) -> float | None:
        """Median time to first token."""
        return _median(_known(self.completions, timing.first_token_s))

    @property
    def latency_s(self) -> float | None:
        """Median end-to-end latency."""
        return _median(_known(self.completions, timing.latency_s))


def measure_loads(
    model: ServedModel,
    prompts: Sequence[Prompt],
    *,
    levels: Sequence[int] = LEVELS,
    requests_per_user: int = 4,
    max_tokens: int = 60,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    options: RequestOptions | None = None,
) -> tuple[Load, ...]:
    """Measure each number of users in turn after one untimed request.

    Each user is a thread with connections of its own that asks the prompts in turn; all start together. `options` None
    = those of the environment. Raises `ConfigurationError` for a level, or requests per user, below 1.
    """
    if min(*levels, requests_per_user) < 1:
        raise ConfigurationError(f"Users {list(levels)}, {requests_per_user} requests each.", "Give 1 or more of both.")

    def request(user: int, number: int) -> Request:
        prompt = prompts[(user + number) % len(prompts)]
        name = f"{model.variant.model_id}/{prompt.id}/u{user}-{number}"
        return Request(name, model.variant, prompt.id, prompt.text, number, max_tokens)

    def one_user(user: int, start: threading.Barrier) -> list[Completion]:
        with ChatClient.to(model, timeout_s=timeout_s, options=options) as client:
            client.prepare()
            start.wait()
            return [client.ask(request(user, number)) for number in range(1, requests_per_user + 1)]

    def level(users: int) -> Load:
        start = threading.Barrier(users + 1)
        with ThreadPoolExecutor(users) as pool:
            answers = [pool.submit(one_user, user, start) for user in range(users)]
            start.wait()
            started = time.perf_counter()
            completions = [completion for answer in answers for completion in answer.result()]
        return Load(users, tuple(completions), time.perf_counter() - started)

    with ChatClient.to(model, timeout_s=timeout_s, options=options) as client:
        client.ask(request(0, 0))
    return tuple(map(level, levels))


def measure_users(runtime: Runtime, run: Run, levels: Sequence[int], folder: Path) -> tuple[Load, ...]:
    """Let so many users ask the first model that answered in `run`, and keep every request in `folder`.

    Returns nothing where no number is given or no model answered. Raises `WorkshopError`.
    """
    models = answered(run)[: len(levels)]
    if not models:
        return ()
    asked: dict[str, Any] = {"requests_per_user": TRIED_REQUESTS, "max_tokens": TRIED_TOKENS}
    with runtime.serve(models[0]) as model:
        loads = measure_loads(model, run.prompts, levels=levels, **asked)
    save_loads(folder, models[0], loads)
    return loads


def save_loads(folder: Path, model: ModelVariant, loads: Iterable[Load]) -> Path:
    """Append one line per number of users to `concurrency.jsonl`; return the file's path.

    A line has the rates in tokens per second, the times in seconds, and every request as it happened.
    """
    about = {name: getattr(model, name) for name in ("alias", "model_id", "device")}
    figures = ("users", "wall_s", "total_tokens_per_s", "tokens_per_s", "first_token_s", "latency_s")
    lines = [
        {
            "kind": "load",
            "schema": SCHEMA,
            **about,
            "requests": len(load.completions),
            "requests_ok": len(load.answered),
            **{name: getattr(load, name) for name in figures},
            "completions": [asdict(completion) for completion in load.completions],
        }
        for load in loads
    ]
    files.append_lines(folder / LOADS_FILE, lines)
    return folder / LOADS_FILE


def saturation(loads: Sequence[Load]) -> int | None:
    """The number of users beyond which more only wait: the first level to which no later one adds 10 % throughput.

    None when throughput was not measured or still grows at the last level.
    """
    rates = [load.total_tokens_per_s for load in loads]
    known = [rate for rate in rates if rate is not None]
    if len(known) < len(loads):
        return None
    full = (load.users for n, load in enumerate(loads[:-1]) if max(known[n + 1 :]) < known[n] * WORTHWHILE)
    return next(full, None)


def describe(loads: Sequence[Load]) -> str:
    """What the loads say about more users, as a sentence that claims no more than they carry."""
    if len(loads) < 2 or any(load.total_tokens_per_s is None for load in loads):
        return "Where more users only wait was not found: it needs answers with token counts at two loads or more."
    first, last, users = loads[0], loads[-1], saturation(loads)
    more = (last.total_tokens_per_s or 0.0) / (first.total_tokens_per_s or 1.0)
    longer = (last.latency_s or 0.0) / (first.latency_s or 1.0)
    said = "Up to here, more users get more done."
    if users is not None:
        said = f"From {_users(users)} on, extra users only wait: they add under 10 % to the tokens per second of all."
    many = f"{_users(last.users)} together get {more:.1f} times the tokens per second of {_users(first.users)}"
    return f"{said} {many}, and an answer takes {longer:.1f} times as long."


def describe_goals(loads: Sequence[Load], promised: goals.Goals) -> str:
    """How many users can be promised the goals, as a sentence that claims no more than the loads carry.

    Promised is the largest number up to which every level keeps the goals for `ENOUGH_IN_TIME` of its requests.
    """
    counted = {each.users: goals.count(each.completions, promised) for each in loads}
    if not counted or any(kept.share.value is None for kept in counted.values()):
        return "How many users are answered in time was not found: it needs streamed answers at one load or more."
    kept = takewhile(lambda users: (counted[users].share.value or 0.0) >= ENOUGH_IN_TIME, sorted(counted))
    most, promise = max(kept, default=None), f"95 % of requests keep the goals ({goals.describe(promised)})"
    shown = sorted(users for users in counted if users >= (most or 0))[: 2 if most else 1]
    figures = "; ".join(f"with {_users(users)} {counted[users]}" for users in shown)
    if most is None:
        return f"Even for {_users(shown[0])}, fewer than {promise}: {figures}."
    tried = ", the most that were tried" if most == max(counted) else ""
    is_sure = (counted[most].share.low or 0.0) >= ENOUGH_IN_TIME
    doubt = "" if is_sure else " The interval begins below 95 %, so this is not sure: ask more prompts."
    return f"Up to {_users(most)}{tried}, at least {promise}: {figures}.{doubt}"


def _users(count: int) -> str:
    return f"{count} user{'s' * (count != 1)}"


def _light_request(model: ModelVariant) -> Request:
    return Request("keep-warm", model, "keep-warm", "Hi", round=0, max_tokens=1)


class KeepWarm:
    """Sends a light prompt at once, and again whenever nobody has asked for `every_s`, in a thread of its own.

    It never comes between a person and the model: a prompt that is due while a request runs is skipped, and `busy`
    waits for one that is on its way. A prompt that fails is counted and said, never raised. Leaving the context ends
    it at once, or with the answer to the prompt on its way (`DEFAULT_TIMEOUT_S` at most). The prompt is unlike the
    user's, so that no cache of prompts answers for the model. Raises `ConfigurationError`.
    """

    def __init__(self, model: ServedModel, *, every_s: float = 60.0) -> None:
        if not 0 < every_s < math.inf:
            raise ConfigurationError(f"every_s is {every_s}.", "Give seconds above 0.")
        self.every_s, self.pings, self.failures, self.last_failure = every_s, 0, 0, ""
        self._request, self._client = _light_request(model.variant), ChatClient.to(model)
        self._ended, self._in_use, self._last_request = threading.Event(), threading.Lock(), -math.inf
        self._thread = threading.Thread(target=self._run, name="keep-warm", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._client.close()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Keep the model to oneself: what is timed belongs inside."""
        with self._in_use:
            try:
                yield
            finally:
                self._last_request = time.monotonic()

    def sentences(self) -> tuple[str, ...]:
        """What it did, and what that is good for."""
        prompts = f"{self.pings} light prompt{'' if self.pings == 1 else 's'}"
        said = [f"{prompts} sent: one at once, then one after every {self.every_s:g} s without a request."]
        if self.failures:
            said.append(f"{self.failures} of them failed, the last one: {self.last_failure}")
        return (*said, NEVER_UNLOADS)

    def _run(self) -> None:
        while not self._ended.wait(max(0.0, self._due_s())):
            with self._in_use:
                if self._due_s() <= 0:  # no longer, where somebody has asked meanwhile
                    self._ping()

    def _due_s(self) -> float:
        return self._last_request + self.every_s - time.monotonic()

    def _ping(self) -> None:
        completion = self._client.ask(self._request)
        self._last_request = time.monotonic()
        self.pings += 1
        if not completion.ok and not completion.is_empty:  # the model did its work for an empty answer, too
            self.failures += 1
            self.last_failure = one_line(completion.error or "")


class Line(NamedTuple):
    """Medians of one measure right after loading and after a light prompt, and the second in units of the first."""

    name: str
    cold_s: float | None
    kept_s: float | None
    ratio: Ratio


@dataclass(frozen=True, slots=True)
class KeepWarmResult:
    """First requests of a user: right after loading, and after one light prompt; each on a model served anew.

    `loads_s` are the seconds that loading took before each cold request; None where the server does not tell.
    """

    variant: ModelVariant
    cold: tuple[Completion, ...]
    kept: tuple[Completion, ...]
    loads_s: tuple[float | None, ...] = ()

    def lines(self) -> tuple[Line, ...]:
        """First token and whole answer; and the first token with the load, as users wait for both after an unload."""
        kept_s, waits = _known(self.kept, timing.first_token_s), map(timing.first_token_s, self.cold)
        loads = zip(self.loads_s, waits, strict=False)
        loaded_s = [load_s + first_s for load_s, first_s in loads if load_s is not None and first_s is not None]
        sides = {
            "first token": (_known(self.cold, timing.first_token_s), kept_s),
            "whole answer": (_known(self.cold, timing.latency_s), _known(self.kept, timing.latency_s)),
        }
        if loaded_s:
            sides["first token, load included"] = (loaded_s, kept_s)
        return tuple(_line(name, *both) for name, both in sides.items())


def _line(name: str, cold_s: Sequence[float], kept_s: Sequence[float]) -> Line:
    sides = ({"first request": times} for times in (cold_s, kept_s))
    ratio = comparison.compare_samples(*sides, smallest=comparison.BETWEEN_RUNS)
    return Line(name, _median(cold_s), _median(kept_s), ratio)


def measure_cold_and_kept(runtime: Runtime, variant: ModelVariant, *, repeats: int = 5) -> KeepWarmResult:
    """Serve a model anew for every request, with and without a light prompt before it, in alternating order.

    One serving that does not count comes first, so that no side alone meets files that nobody has read yet. With 2 or
    more `repeats`, the requests on each side, there is an interval. Raises `ConfigurationError`, `WorkshopError`.
    """
    if repeats < 1:
        raise ConfigurationError(f"repeats is {repeats}.", "Give 1 or more.")
    request = Request(f"{variant.model_id}/first/1", variant, "first", "What is edge AI?", round=1, max_tokens=16)

    def first_request(light_prompts: int) -> tuple[Completion, float | None]:
        with runtime.serve(variant) as model, ChatClient.to(model) as client:
            client.prepare()
            for _ in range(light_prompts):
                client.ask(_light_request(variant))
            return client.ask(request), model.load_s

    first_request(0)
    answers: dict[int, list[tuple[Completion, float | None]]] = {0: [], 1: []}
    for repeat in range(repeats):
        for light_prompts in (0, 1) if repeat % 2 == 0 else (1, 0):
            answers[light_prompts].append(first_request(light_prompts))
    cold, loads_s = zip(*answers[0], strict=True)
    return KeepWarmResult(variant, cold=cold, kept=tuple(each for each, _ in answers[1]), loads_s=loads_s)


def _known(completions: Sequence[Completion], measure: Callable[[Completion], float | None]) -> list[float]:
    return [value for value in map(measure, completions) if value is not None]


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None
