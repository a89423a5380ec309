"""A loopback endpoint of known timing, to check the instrument: a first token after 50 ms, then one every 10 ms.

It runs as a process of its own (`python -m workshop_lib.instrument.reference_server`), so that it does not share an
interpreter with the client it checks, and ends when its standard input closes. It is not a model: nothing it says is
an answer, and no benchmark result comes from it.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FIRST_TOKEN_S, PACE_S = 0.05, 0.01
SPIN_S = 0.0005
"""The last half millisecond before a due time is spun, not slept: operating systems wake sleepers late."""


def wait_until(due: float) -> None:
    """Return at `due` on the performance counter, late by microseconds only."""
    slack = due - time.perf_counter() - SPIN_S
    if slack > 0:
        time.sleep(slack)
    while time.perf_counter() < due:
        pass


def read_request(connection: socket.socket) -> tuple[str, bytes, float]:
    """The request's head, its body, and when its first byte arrived.

    Raises:
        ConnectionResetError: the client left before its end.
    """
    received = _received(connection)
    arrived = time.perf_counter()
    while b"\r\n\r\n" not in received:
        received += _received(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    while len(body) < sum(map(int, lengths)):
        body += _received(connection)
    return head.decode("latin-1"), body, arrived


def _received(connection: socket.socket) -> bytes:
    received = connection.recv(65536)
    if not received:
        raise ConnectionResetError
    return received


def accept(listener: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    """Serve every connection in a thread of its own until the listener is closed."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


def _answer(connection: socket.socket) -> None:
    with connection, suppress(OSError, ValueError, LookupError):
        _, body, arrived = read_request(connection)
        tokens = int(json.loads(body)["max_tokens"])
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        for token in range(tokens):
            event = _event({"choices": [{"index": 0, "delta": {"content": " word"}, "finish_reason": None}]})
            wait_until(arrived + FIRST_TOKEN_S + token * PACE_S)
            connection.sendall(event)
        finish = _event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        usage = _event({"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": tokens}})
        connection.sendall(finish + usage + b"data: [DONE]\n\n")


def _event(event: object) -> bytes:
    return b"data: " + json.dumps(event).encode("utf-8") + b"\n\n"


@contextmanager
def reference_server() -> Iterator[str]:
    """Run the server in a process of its own; gives the base URL, ends with the block (or with this process)."""
    with served_by("-m", "workshop_lib.instrument.reference_server") as base_url:
        yield base_url


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


def main() -> None:
    """Serve on a free loopback port."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        threading.Thread(target=accept, args=(listener, _answer), daemon=True).start()
        announce(f"http://127.0.0.1:{listener.getsockname()[1]}/v1")


if __name__ == "__main__":
    main()
