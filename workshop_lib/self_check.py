"""Is the instrument itself right? Its error against a server of known timing, beside a bare client's in the same run.

The server sends a first token after 50 ms, then one every 10 ms. It runs as a process of its own
(`python -m workshop_lib.self_check`), so that it does not share an interpreter with the client it checks, and ends
when its standard input closes. It is not a model: no benchmark result comes from it.

The bare client is a socket of the standard library and nothing else: what it misses too is the machine's doing, not
the client's. Both ask alternately, so that both meet the same machine.
"""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from threading import Thread
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from workshop_lib import timing
from workshop_lib.errors import EndpointError
from workshop_lib.records import ModelVariant, Request

if TYPE_CHECKING:
    from workshop_lib.client import ChatClient
    from workshop_lib.streams import Arrival

FIRST_TOKEN_S, PACE_S = 0.05, 0.01
SPIN_S = 0.0005
"""The last half millisecond before a due time is spun, not slept: operating systems wake sleepers late."""

TOKENS = 16
"""Tokens per answer: enough to see a pace, and over in a fifth of a second."""

REQUEST = Request("steady/p/1", ModelVariant("steady", "steady", "unknown"), "p", "Say it.", 1, TOKENS)
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


def check_instrument(repeats: int = 20) -> SelfCheck:
    """Let each client ask the reference server `repeats` times, half a second each. Raises `EndpointError`."""
    from workshop_lib.client import ChatClient  # here: the server's process runs without it

    with served_by("-m", "workshop_lib.self_check") as base_url, ChatClient(base_url) as client:
        pairs = [(ask_workshop(client), bare_times(read_bare(base_url, REQUEST))) for _ in range(repeats + 1)]
    workshop, bare = zip(*pairs[1:], strict=True)  # the first does not count
    return SelfCheck(Errors("workshop", workshop), Errors("bare socket", bare))


def ask_workshop(client: ChatClient) -> Times:
    """One answer as the workshop's client sees it. Raises `EndpointError`."""
    answer = client.ask(REQUEST)
    first_s = timing.first_token_s(answer)
    if first_s is None:
        raise EndpointError(f"The reference server did not answer: {answer.error}", "Check the instrument again.")
    return Times(first_s, timing.time_per_output_token_s(answer))


def read_bare(base_url: str, request: Request) -> list[Arrival]:
    """What a socket receives of any server's stream, each read with its time in seconds; HTTP's own bytes included.

    The clock starts as in the workshop's client, on an open connection.
    """
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
    """First token and pace of what a socket received, by the events that hold text. Raises `EndpointError`."""
    texts = [(at_s, len(_TEXT.findall(piece))) for at_s, piece in received if _TEXT.search(piece)]
    if len(texts) < 2:
        raise EndpointError("The reference server did not answer the bare client.", "Check the instrument again.")
    (first_s, together), last_s = texts[0], texts[-1][0]
    return Times(first_s, (last_s - first_s) / (sum(count for _, count in texts) - together))


@contextmanager
def served_by(*arguments: str, folder: Path | None = None) -> Iterator[str]:
    """Run Python with these arguments, a program that calls `announce`; gives the base URL that it prints."""
    with subprocess.Popen(
        [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder
    ) as process:
        try:
            yield (process.stdout.readline() if process.stdout else "").strip()
        finally:
            if process.stdin:
                process.stdin.close()
            process.wait(5)


def announce(base_url: str) -> None:
    """Print the base URL and stay until standard input closes; as a child, Ctrl-C is for its parent to answer."""
    if not sys.stdin.isatty():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    print(base_url, flush=True)  # noqa: T201 - how the parent learns the port
    sys.stdin.read()


def wait_until(due: float) -> None:
    """Return at `due` on the performance counter, late by microseconds only."""
    slack = due - time.perf_counter() - SPIN_S
    if slack > 0:
        time.sleep(slack)
    while time.perf_counter() < due:
        pass


class _Steady(BaseHTTPRequestHandler):
    """Answers on the schedule, which begins with the first byte of the request."""

    disable_nagle_algorithm = True

    def handle_one_request(self) -> None:
        self.rfile.peek(1)  # type: ignore[attr-defined]  # it is a BufferedReader; this waits for the first byte
        self.arrived = time.perf_counter()
        with suppress(OSError, ValueError, LookupError):
            super().handle_one_request()

    def do_POST(self) -> None:
        tokens = int(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["max_tokens"])
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for token in range(tokens):
            event = _event({"choices": [{"index": 0, "delta": {"content": " word"}, "finish_reason": None}]})
            wait_until(self.arrived + FIRST_TOKEN_S + token * PACE_S)
            self.wfile.write(event)
        finish = _event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        usage = _event({"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": tokens}})
        self.wfile.write(finish + usage + b"data: [DONE]\n\n")

    def log_message(self, *_: object) -> None:
        """Say nothing: standard error is the parent's."""


def _event(event: object) -> bytes:
    return b"data: " + json.dumps(event).encode("utf-8") + b"\n\n"


def main() -> None:
    """Serve on a free loopback port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Steady)
    Thread(target=server.serve_forever, daemon=True).start()
    announce(f"http://127.0.0.1:{server.server_port}/v1")


if __name__ == "__main__":
    main()
