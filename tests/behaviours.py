"""What the fake models and servers of the tests do: tables that a reader extends by a line.

`BEHAVIOURS` holds what a *model* does, by its id: an answer of known timing, a trap, a fault. `SITES` holds what a
whole *server* does, by path: model lists, redirects, gateways, sign-in pages.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.fault_steps import (
    ANSWER,
    CHUNKED,
    DONE,
    ENDED,
    EVER,
    HALF,
    OPEN,
    Behaviour,
    Refusal,
    Step,
    chunk,
    endless,
    finish,
    hold,
    page,
    pings,
    refuse,
    reset,
    say,
    tokens,
)

STEADY = Behaviour()
QUICK = replace(STEADY, first_token_s=0.03, pace_s=0.005, tokens=16)


def quick(*steps: Step, **changes: Any) -> Behaviour:
    """105 ms: 16 tokens, the first after 30 ms, one every 5 ms."""
    return replace(QUICK, steps=steps or ANSWER, **changes)


def speaks(*words: str, **changes: Any) -> Behaviour:
    """Says these tokens once."""
    return quick(words=words, tokens=len(words), **changes)


def fails(*steps: Step) -> Behaviour:
    return Behaviour(steps=steps)


def busy(times: int, step: Step) -> Behaviour:
    """Busy at the first so many requests."""
    return quick(fault=step, faulty=range(times))


def picky(*refusals: Refusal) -> Behaviour:
    return quick(refusals=refusals)


def openai_error(message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


# -- the tables

BEHAVIOURS: dict[str, Behaviour] = {
    # known timing and its traps
    "steady": STEADY,
    "fast": replace(STEADY, first_token_s=0.004, pace_s=0.001),
    "early-role": replace(STEADY, steps=(OPEN, say(chunk({"role": "assistant", "content": ""})), *ANSWER[1:])),
    "coalesced": replace(STEADY, per_chunk=4),
    "coalesced-no-usage": replace(STEADY, per_chunk=4, steps=(OPEN, tokens, finish, DONE)),
    "reasoning": replace(STEADY, reasoning=10),
    "partly-hidden": replace(STEADY, hidden=10),
    "cold": replace(STEADY, slow_requests={0: 0.5}),
    "throttled": replace(STEADY, slow_requests={number: 0.02 * number for number in range(1000)}),
    "idle-cold": replace(STEADY, idle_limit_s=0.5, reload_s=0.5),
    "cached": replace(STEADY, first_token_s=0.2, cached_after_first=True),
    "cached-reported": replace(STEADY, first_token_s=0.2, cached_after_first=True, reports_cached=True),
    "reuse-stall": replace(STEADY, reuse_stall_s=0.04, steps=(CHUNKED, *ANSWER[1:])),
    # faults
    "breaks-later": replace(STEADY, fault=(HALF, reset), faulty=range(4, EVER)),
    "http-429": fails(refuse(429)),
    "http-500": fails(refuse(500)),
    "proxy-page": fails(page()),
    "stall-before": fails(hold),
    "stall-middle": fails(HALF, hold),
    "reset": fails(HALF, reset),
    "long-line": fails(HALF, *[b"x" * 1_000_000] * 30, b"\n\n", ENDED),
    "empty": fails(OPEN, say(chunk({"role": "x"}), chunk({"content": ""})), ENDED),
    "never-done": fails(HALF, pings(0.05)),
    "endless": fails(HALF, endless),
    "cut-off": fails(HALF),
    "echo-in-error": fails(lambda ex: ex.run(refuse(401, f"Incorrect API key provided: {ex.call.key}."))),
    "echo-in-stream": fails(HALF, lambda ex: ex.say({"error": {"message": f"no quota for {ex.call.key}"}})),
    "echo-in-answer": fails(OPEN, lambda ex: ex.say(chunk({"content": f"Your key is {ex.call.key}"})), ENDED),
}  # fmt: skip

SITES: dict[str, dict[str, Step]] = {
    "proxy-403": {"*": page(403)},
    "proxy-407": {"*": page(407, proxy_authenticate='Basic realm="company"')},
    "sign-in": {"*": page()},
    "silent": {"*": hold},
}  # fmt: skip
"""What a whole server does, by path, or by path and query; a pattern's `*` stands for anything, `()` for the usual."""
