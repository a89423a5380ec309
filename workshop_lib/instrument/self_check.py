"""Is the instrument itself right? Its error against a server of known timing, beside a bare client's in the same run.

The bare client is a socket of the standard library and nothing else: what it misses too is the machine's doing, not
the client's. Both ask alternately, so that both meet the same machine. Knows the client and the reference server.
"""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from urllib.parse import urlsplit

from workshop_lib.errors import EndpointError
from workshop_lib.instrument.client import ChatClient
from workshop_lib.instrument.reference_server import FIRST_TOKEN_S, PACE_S, reference_server
from workshop_lib.metrics import timing
from workshop_lib.metrics.streams import Arrival
from workshop_lib.records import ModelVariant, Request

TOKENS = 16
"""Tokens per answer: enough to see a pace, and over in a fifth of a second."""

VARIANT = ModelVariant(alias="steady", model_id="steady", device="unknown")
QUESTION = "Say it."
_TEXT = re.compile(rb'"content": ?"[^"]')


@dataclass(frozen=True, slots=True)
class Times:
    """What one client saw of one answer, in seconds: its first token, and the time per token after it.

    No pace is claimed (None) where this process was held up for so long that tokens had been waiting for each other.
    """

    first_token_s: float
    pace_s: float | None


@dataclass(frozen=True, slots=True)
class Errors:
    """What one client saw of all answers, against the server's schedule."""

    client: str
    times: tuple[Times, ...]

    @property
    def first_token_errors_ms(self) -> tuple[float, ...]:
        """How much too late each first token was seen, in milliseconds."""
        return tuple(1e3 * (each.first_token_s - FIRST_TOKEN_S) for each in self.times)

    @property
    def first_token_ms(self) -> float:
        """The median error of the first token in milliseconds."""
        return median(self.first_token_errors_ms)

    @property
    def pace_percent(self) -> float | None:
        """The error of the median pace in percent; above 0 = seen too slow; None where no pace was claimed."""
        known = [each.pace_s for each in self.times if each.pace_s is not None]
        return 100 * (median(known) / PACE_S - 1) if known else None


@dataclass(frozen=True, slots=True)
class SelfCheck:
    """The workshop's client and the bare one, measured in the same run."""

    workshop: Errors
    bare: Errors

    @property
    def added_ms(self) -> float:
        """What the workshop's client adds to a first token beyond the bare one, in milliseconds."""
        return self.workshop.first_token_ms - self.bare.first_token_ms


def check_instrument(repeats: int = 20, *, tokens: int = TOKENS) -> SelfCheck:
    """Start the reference server as a process of its own, let each client ask it `repeats` times, and stop it.

    Takes about half a second per repeat.

    Raises:
        EndpointError: the reference server did not answer.
    """
    with reference_server() as base_url:
        return compare_clients(base_url, repeats, tokens=tokens)


def compare_clients(base_url: str, repeats: int, *, tokens: int = TOKENS) -> SelfCheck:
    """Ask a running reference server alternately with both clients, after one request each that does not count.

    Raises:
        EndpointError: it did not answer.
    """
    with ChatClient(base_url) as client:
        clients: tuple[Callable[[], Times], ...] = (
            lambda: ask_workshop(client, tokens),
            lambda: ask_bare(base_url, tokens),
        )
        pairs = [tuple(ask() for ask in clients) for _ in range(repeats + 1)][1:]
    workshop, bare = zip(*pairs, strict=True)
    return SelfCheck(Errors("workshop", workshop), Errors("bare socket", bare))


def ask_workshop(client: ChatClient, tokens: int = TOKENS) -> Times:
    """One answer as the workshop's client sees it.

    Raises:
        EndpointError: there was none.
    """
    answer = client.ask(_request(tokens))
    first_s = timing.first_token_s(answer)
    if first_s is None:
        raise EndpointError(f"The reference server did not answer: {answer.error}", "Check the instrument again.")
    return Times(first_s, timing.time_per_output_token_s(answer))


def ask_bare(base_url: str, tokens: int = TOKENS) -> Times:
    """One answer as a socket sees it; the clock starts as in the workshop's client, on an open connection.

    Raises:
        EndpointError: there was none.
    """
    return bare_times(read_bare(base_url, _request(tokens)))


def read_bare(base_url: str, request: Request) -> list[Arrival]:
    """What a socket receives of any server's stream, each read with its time in seconds; HTTP's own bytes included."""
    where = urlsplit(base_url)
    body = json.dumps({
        "model": request.variant.model_id,
        "messages": [{"role": "user", "content": request.text}],
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "stream": True,
        "stream_options": {"include_usage": True},
    }).encode()  # fmt: skip
    head = (
        f"POST {where.path}/chat/completions HTTP/1.1\r\nHost: {where.netloc}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    received: list[Arrival] = []
    with socket.create_connection((where.hostname or "", where.port or 80), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        start = time.perf_counter()
        connection.sendall(head.encode() + body)
        while piece := connection.recv(65536):
            received.append((time.perf_counter() - start, piece))
    return received


def bare_times(received: Sequence[Arrival]) -> Times:
    """First token and pace of what a socket received, one token to an event, by the events that hold text.

    Raises:
        EndpointError: there were not two of them.
    """
    texts = [(at_s, len(_TEXT.findall(piece))) for at_s, piece in received if _TEXT.search(piece)]
    if len(texts) < 2:
        raise EndpointError("The reference server did not answer the bare client.", "Check the instrument again.")
    (first_s, together), last_s = texts[0], texts[-1][0]
    return Times(first_s, (last_s - first_s) / (sum(count for _, count in texts) - together))


def _request(tokens: int) -> Request:
    return Request("steady/p/1", VARIANT, "p", QUESTION, 1, tokens)
