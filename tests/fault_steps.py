"""What a fake endpoint can do, as steps: bytes are sent, a number of seconds is waited, a function does anything else.

A tuple of steps is done in its order. `tests/behaviours.py` puts them together, `tests/fault_server.py` runs them.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from workshop_lib.self_check import wait_until

EVER = 1_000_000
LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens")
WORDS = (" the", " notes", " say", " that", " Ada", " will", " ship", " it")


@dataclass(frozen=True, slots=True)
class Call:
    """One request as the server got it; a proxy is asked for whole addresses, or to CONNECT."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: Any
    arrived: float
    used: int = 0
    """How many requests came before on the same connection."""

    @property
    def line(self) -> str:
        return f"{self.method} {self.target}"

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def key(self) -> str:
        return self.headers.get("authorization", "").removeprefix("Bearer ")


class Exchange:
    """A request that is being answered: what steps work on."""

    def __init__(self, connection: socket.socket, call: Call, behaviour: Behaviour, start: float) -> None:
        self.connection, self.call, self.behaviour, self.start = connection, call, behaviour, start
        self.chunked, self.stays_open, self.cached = False, False, False
        body = call.body if isinstance(call.body, dict) else {}
        self.limit = next((int(body[name]) for name in LIMITS if body.get(name)), 2048)
        self.streams = bool(body.get("stream"))

    @property
    def tokens(self) -> int:
        return min(self.behaviour.tokens, self.limit)

    def run(self, step: Step) -> None:
        match step:
            case bytes():
                self.send(step)
            case int() | float():
                wait_until(time.perf_counter() + step * self.behaviour.scale)
            case tuple():
                for each in step:
                    self.run(each)
            case _:
                step(self)

    def send(self, data: bytes) -> None:
        self.connection.sendall(b"%x\r\n%s\r\n" % (len(data), data) if self.chunked and data else data)

    def say(self, *events: object) -> None:
        self.send(b"".join(map(framed, events)))


Step = bytes | float | Callable[[Exchange], None] | tuple["Step", ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A server that will not have a parameter: refused while it is there with a value that is not among `allowed`."""

    names: tuple[str, ...]
    status: int
    word: Callable[[list[str]], object]
    allowed: tuple[object, ...] = ()

    def of(self, body: Mapping[str, Any]) -> Step | None:
        present = [name for name in self.names if body.get(name, None) is not None and body[name] not in self.allowed]
        return reply(self.word(present), self.status) if present else None


# -- steps


def chunk(delta: dict[str, Any], reason: object = None, **choice: object) -> dict[str, Any]:
    """An event of one choice."""
    choices = [{"index": 0, "delta": delta, "finish_reason": reason, **choice}]
    return {"object": "chat.completion.chunk", "choices": choices}


def say(*events: object) -> Step:
    return lambda exchange: exchange.say(*events)


def opened(kind: str | None = "text/event-stream", *, chunked: bool = False) -> Step:
    """The head of a stream; `chunked` as most servers send it, else its end is the connection's."""

    def step(exchange: Exchange) -> None:
        head = "HTTP/1.1 200 OK\r\n" + (f"Content-Type: {kind}\r\n" if kind else "")
        head += "Transfer-Encoding: chunked\r\n\r\n" if chunked else "Connection: close\r\n\r\n"
        exchange.connection.sendall(head.encode("latin-1"))
        exchange.chunked = exchange.stays_open = chunked

    return step


def reply(value: object, status: int = 200, kind: str = "application/json", **headers: str) -> Step:
    """A whole answer: bytes as they are, else JSON; `retry_after="1"` is the header Retry-After."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode("utf-8")
    named = "".join(f"{name.replace('_', '-')}: {text}\r\n" for name, text in headers.items())
    head = f"HTTP/1.1 {status} Said\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{named}\r\n"

    def step(exchange: Exchange) -> None:
        exchange.connection.sendall(head.encode("latin-1") + body)
        exchange.stays_open = True

    return step


def refuse(status: int, message: str = "", **headers: str) -> Step:
    return reply({"error": {"message": message or f"refused with {status}"}}, status, **headers)


def page(status: int = 200, **headers: str) -> Step:
    text = b"<!DOCTYPE html><html><title>Sign in to the network</title><body>Please sign in to the proxy.</body></html>"
    return reply(text, status, "text/html", **headers)


def listed(*ids: str) -> Step:
    return reply({"object": "list", "data": [{"id": each, "object": "model"} for each in ids]})


def redirect(status: int, to: str, old: str = "/old") -> Step:
    """Sends on to the same path without its first part `old`, at `to`: empty for this host, else http://host:port."""
    return lambda ex: ex.run(reply(b"", status, location=to + ex.call.target.replace(old, "", 1)))


def pings(every_s: float, until_s: float = EVER, said: bytes = b": keep-alive\n\n") -> Step:
    """Comments, so and so often, until a time after the request's start, or until the client has gone."""

    def step(exchange: Exchange) -> None:
        scale = exchange.behaviour.scale
        while time.perf_counter() + every_s * scale < exchange.start + until_s * scale:
            exchange.run(every_s)
            exchange.send(said)

    return step


def answer_with(script: Callable[[str], str | int | tuple[str, str]]) -> Step:
    """One piece: what the script says to the prompt: a text, a text with its finish reason, or an HTTP status."""

    def step(exchange: Exchange) -> None:
        said = script(exchange.call.body["messages"][-1]["content"])
        if isinstance(said, int):
            return exchange.run(refuse(said))
        text, reason = (said, "stop") if isinstance(said, str) else said
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": reason}
        return exchange.run(reply({"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}))

    return step


def hold(exchange: Exchange) -> None:
    """Say nothing until the client has gone."""
    exchange.connection.recv(1)


def cut(exchange: Exchange) -> None:
    """Close, without the end that a chunked answer has."""
    raise ConnectionAbortedError


def reset(exchange: Exchange) -> None:
    exchange.run(0.02)
    exchange.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise ConnectionAbortedError


def endless(exchange: Exchange) -> None:
    while True:
        exchange.say(chunk({"content": " more"}))
        time.sleep(0.001)


def tokens(exchange: Exchange) -> None:
    """The answer's text, each piece at its time."""
    does = exchange.behaviour
    first_s = does.first_token_s / 50 if exchange.cached else does.first_token_s
    for first in range(does.hidden, exchange.tokens, does.per_chunk):
        last = min(first + does.per_chunk, exchange.tokens) - 1
        kind = "reasoning_content" if first < does.reasoning else "content"
        data = framed(chunk({kind: does.text(first, last + 1)}))
        wait_until(exchange.start + does.scale * (first_s + last * does.pace_s))
        for place in range(0, len(data), does.packet):
            exchange.send(data[place : place + does.packet])


def reason_of(exchange: Exchange) -> str:
    return "length" if exchange.tokens < exchange.behaviour.tokens else "stop"


def finish(exchange: Exchange) -> None:
    exchange.say(chunk({}, reason_of(exchange)))


def usage_of(exchange: Exchange) -> dict[str, Any]:
    """Ten tokens of a template and one for each word of the prompt; what was said."""
    does = exchange.behaviour
    words = sum(len(str(each.get("content")).split()) for each in exchange.call.body["messages"])
    details = {"reasoning_tokens": min(does.reasoning, exchange.tokens)} if does.reasoning else {}
    said = {"prompt_tokens": 10 + words, "completion_tokens": exchange.tokens, "completion_tokens_details": details}
    return {**said, "prompt_tokens_details": {"cached_tokens": 9}} if does.reports_cached and exchange.cached else said


def usage(exchange: Exchange) -> None:
    exchange.say({"choices": [], "usage": usage_of(exchange)})


def whole(exchange: Exchange) -> None:
    """The same answer in one piece, when its last token is due."""
    does = exchange.behaviour
    said = {"role": "assistant", "content": does.text(does.reasoning, exchange.tokens)}
    answer: dict[str, Any] = {"choices": [{"index": 0, "message": said, "finish_reason": reason_of(exchange)}]}
    if usage in does.steps or tokens not in does.steps:
        answer["usage"] = usage_of(exchange)
    wait_until(exchange.start + does.scale * (does.first_token_s + (exchange.tokens - 1) * does.pace_s))
    exchange.run(reply(answer))


def sse(event: bytes) -> bytes:
    return b"data: " + event + b"\n\n"


def framed(event: object) -> bytes:
    return sse(json.dumps(event, ensure_ascii=False).encode("utf-8"))


def said(count: int, words: Sequence[str] = WORDS) -> str:
    """The text of so many tokens."""
    return "".join(words[token % len(words)] for token in range(count))


OPEN, CHUNKED, DONE = opened(), opened(chunked=True), b"data: [DONE]\n\n"
ANSWER: tuple[Step, ...] = (OPEN, tokens, finish, usage, DONE)
HALF: Step = (OPEN, 0.005, say(chunk({"content": " half"})))
ENDED: Step = (say(chunk({}, "stop")), DONE)


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a model does.

    Attributes:
        first_token_s, pace_s: when the first token is due after the request arrived, and the time per token.
        tokens: completion tokens, unless the request's `max_tokens` is lower.
        per_chunk: tokens in one event.
        words: the text of the tokens, over and over.
        reasoning: how many leading tokens are streamed as reasoning.
        hidden: how many leading tokens are never streamed.
        cached_after_first, reports_cached: a repeated prompt answers at once; whether usage says so.
        slow_requests: extra seconds for the n-th request (counted from 0) to this model.
        idle_limit_s, reload_s: after so many seconds without a request the next one waits longer; 0 = never.
        reuse_stall_s: a connection that was used before waits this long for its first token.
        steps: the answer to a streaming request; `whole` stands for `tokens` where one piece is asked for.
        packet: how many bytes of an event are sent at once.
        refusals: parameters that it will not have.
        fault, faulty: other steps, and in which requests to this model they are done.
        scale: a factor for all times.
    """

    first_token_s: float = 0.05
    pace_s: float = 0.01
    tokens: int = 40
    per_chunk: int = 1
    words: tuple[str, ...] = WORDS
    reasoning: int = 0
    hidden: int = 0
    cached_after_first: bool = False
    reports_cached: bool = False
    slow_requests: Mapping[int, float] = field(default_factory=dict)
    idle_limit_s: float = 0.0
    reload_s: float = 0.0
    reuse_stall_s: float = 0.0
    steps: tuple[Step, ...] = ANSWER
    packet: int = EVER
    refusals: tuple[Refusal, ...] = ()
    fault: Step = ()
    faulty: range = range(0)
    scale: float = 1.0

    def text(self, first: int, end: int) -> str:
        return "".join(self.words[token % len(self.words)] for token in range(first, end))


def scaled(behaviour: Behaviour, factor: float) -> Behaviour:
    """The behaviour with every time multiplied."""
    return replace(behaviour, scale=behaviour.scale * factor)
