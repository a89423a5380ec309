"""Simultaneous users: does the server do more work in all, or does everybody only wait longer?

Knows the client. Each user is a thread with a connection of its own that asks the prompts in turn; all start together.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from workshop_lib.errors import ConfigurationError
from workshop_lib.instrument.client import DEFAULT_TIMEOUT_S, ChatClient
from workshop_lib.metrics import timing
from workshop_lib.records import Completion, ModelVariant, Prompt, Request
from workshop_lib.runtimes.profiles import ServedModel

LEVELS = (1, 2, 4, 8)
SCHEMA = 1
WORTHWHILE = 1.10
"""Less than 10 % more total throughput for twice the users counts as only waiting."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one number of simultaneous users got.

    Attributes:
        users: requests in flight at once.
        completions: every request, failures included.
        wall_s: from the common start to the last answer.
    """

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
        return _median([timing.tokens_per_s(completion) for completion in self.answered])

    @property
    def first_token_s(self) -> float | None:
        """Median time to first token."""
        return _median([timing.first_token_s(completion) for completion in self.answered])

    @property
    def latency_s(self) -> float | None:
        """Median end-to-end latency."""
        return _median([timing.latency_s(completion) for completion in self.answered])


def measure_loads(
    model: ServedModel,
    prompts: Sequence[Prompt],
    *,
    levels: Sequence[int] = LEVELS,
    requests_per_user: int = 4,
    max_tokens: int = 60,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> tuple[Load, ...]:
    """Measure each level in turn after one untimed request.

    Raises:
        ConfigurationError: a level, or the requests per user, below 1.
    """
    if min(*levels, requests_per_user) < 1:
        raise ConfigurationError(f"Users {list(levels)}, {requests_per_user} requests each.", "Give 1 or more of both.")

    def request(user: int, number: int) -> Request:
        prompt = prompts[(user + number) % len(prompts)]
        return Request(f"{model.variant.model_id}/{prompt.id}/u{user}-{number}", model.variant, prompt.id, prompt.text,
                       number, max_tokens)  # fmt: skip

    def one_user(user: int, start: threading.Barrier) -> list[Completion]:
        with ChatClient.to(model, timeout_s=timeout_s) as client:
            client.prepare()
            start.wait()
            return [client.ask(request(user, number)) for number in range(1, requests_per_user + 1)]

    with ChatClient.to(model, timeout_s=timeout_s) as client:
        client.ask(request(0, 0))
    return tuple(_measure_level(users, one_user) for users in levels)


def _measure_level(users: int, one_user: Callable[[int, threading.Barrier], list[Completion]]) -> Load:
    start = threading.Barrier(users + 1)
    with ThreadPoolExecutor(users) as pool:
        answers = [pool.submit(one_user, user, start) for user in range(users)]
        start.wait()
        started = time.perf_counter()
        completions = [completion for answer in answers for completion in answer.result()]
    return Load(users, tuple(completions), time.perf_counter() - started)


def saturation(loads: Sequence[Load]) -> int | None:
    """The number of users beyond which more only wait: the first level whose successor adds under 10 % throughput.

    None when throughput was not measured or still grows at the last level.
    """
    for fewer, more in pairwise(loads):
        before, after = fewer.total_tokens_per_s, more.total_tokens_per_s
        if before is None or after is None:
            return None
        if after < before * WORTHWHILE:
            return fewer.users
    return None


def describe(loads: Sequence[Load]) -> str:
    """What the loads say about more users, as a sentence that claims no more than they carry."""
    known = [load for load in loads if load.total_tokens_per_s is not None]
    if len(known) < 2 or len(known) < len(loads):
        return "Where more users only wait was not found: it needs answers with token counts at two loads or more."
    first, last, users = loads[0], loads[-1], saturation(loads)
    more = (last.total_tokens_per_s or 0.0) / (first.total_tokens_per_s or 1.0)
    longer = (last.latency_s or 0.0) / (first.latency_s or 1.0)
    many = f"{_users(last.users)} together get {more:.1f} times the tokens per second of {_users(first.users)}"
    said = f"{many}, and an answer takes {longer:.1f} times as long."
    return (
        f"Up to here, more users get more done. {said}" if users is None else f"{_LEVEL.format(_users(users))} {said}"
    )


_LEVEL = "From {} on, more only wait: the next step adds under 10 % to what all get together."


def load_object(model: ModelVariant, load: Load) -> dict[str, Any]:
    """A load as a JSON object: its rates in tokens per second, times in seconds, and every request as it happened."""
    return {
        "kind": "load",
        "schema": SCHEMA,
        "alias": model.alias,
        "model_id": model.model_id,
        "device": model.device,
        "users": load.users,
        "requests": len(load.completions),
        "requests_ok": len(load.answered),
        "wall_s": load.wall_s,
        "total_tokens_per_s": load.total_tokens_per_s,
        "tokens_per_s": load.tokens_per_s,
        "first_token_s": load.first_token_s,
        "latency_s": load.latency_s,
        "completions": [asdict(completion) for completion in load.completions],
    }


def _users(count: int) -> str:
    return f"{count} user{'s' * (count != 1)}"


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
