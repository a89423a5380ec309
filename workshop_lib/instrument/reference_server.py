"""An OpenAI-compatible loopback endpoint with known timing, to check the instrument itself.

Each model id it lists is a *behaviour*: `steady` answers the first token after 50 ms and one every 10 ms; the others
show a trap or a fault that real servers have. It runs as a process of its own (`python -m
workshop_lib.instrument.reference_server`), so that it does not share an interpreter with the client it checks,
and ends when its standard input closes. It is not a model: nothing it says is an answer, and no benchmark result comes
from it.
"""

from __future__ import annotations

import argparse
import json
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

SPIN_S = 0.0005
"""The last half millisecond before a due time is spun, not slept: operating systems wake sleepers late."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a listed model does.

    Attributes:
        first_token_s, pace_s: when the first token is due after the request arrived, and the time per token.
        tokens: completion tokens, unless the request's `max_tokens` is lower.
        per_chunk: tokens in one event.
        role_chunk_s: when an empty role chunk is sent; None = none.
        reasoning: how many leading tokens are streamed as reasoning; `hidden`: how many are never streamed.
        usage: whether the final usage event is sent; `cached_after_first`: a repeated prompt answers at once.
        reports_cached: whether usage says so.
        slow_requests: extra seconds for the n-th request (counted from 0) to this model.
        idle_limit_s: after so many seconds without a request the model is put aside, and the next one waits
            `reload_s` longer, as on servers that unload idle models; 0 = never.
        reuse_stall_s: connections are kept open, and one that was used before waits this long for its first token.
        fault: what goes wrong, see `_misbehave`; `faulty`: in which requests to this model.
    """

    first_token_s: float = 0.05
    pace_s: float = 0.01
    tokens: int = 40
    per_chunk: int = 1
    role_chunk_s: float | None = None
    reasoning: int = 0
    hidden: int = 0
    usage: bool = True
    cached_after_first: bool = False
    reports_cached: bool = False
    slow_requests: dict[int, float] = field(default_factory=dict)
    idle_limit_s: float = 0.0
    reload_s: float = 0.0
    reuse_stall_s: float = 0.0
    fault: str = ""
    faulty: range = range(1_000_000)


STEADY = Behaviour()
BEHAVIOURS: dict[str, Behaviour] = {
    "steady": STEADY,
    "slower": replace(STEADY, first_token_s=0.055, pace_s=0.011),
    "fast": replace(STEADY, first_token_s=0.004, pace_s=0.001),
    "early-role": replace(STEADY, role_chunk_s=0.0),
    "coalesced": replace(STEADY, per_chunk=4),
    "coalesced-no-usage": replace(STEADY, per_chunk=4, usage=False),
    "no-usage": replace(STEADY, usage=False),
    "reasoning": replace(STEADY, reasoning=10),
    "hidden": replace(STEADY, hidden=30),
    "partly-hidden": replace(STEADY, hidden=10),
    "cold": replace(STEADY, slow_requests={0: 0.5}),
    "idle-cold": replace(STEADY, idle_limit_s=0.5, reload_s=0.5),
    "spike": replace(STEADY, slow_requests={7: 0.5}),
    "cached": replace(STEADY, first_token_s=0.2, cached_after_first=True),
    "cached-reported": replace(STEADY, first_token_s=0.2, cached_after_first=True, reports_cached=True),
    "reuse-stall": replace(STEADY, reuse_stall_s=0.04),
    "flaky": replace(STEADY, fault="500", faulty=range(1, 2)),
    "breaks-later": replace(STEADY, fault="reset", faulty=range(4, 1_000_000)),
    "http-400": Behaviour(fault="400"),
    "http-429": Behaviour(fault="429"),
    "http-500": Behaviour(fault="500"),
    "proxy-page": Behaviour(fault="proxy-page"),
    "stall-before": Behaviour(fault="stall-before"),
    "stall-middle": Behaviour(fault="stall-middle"),
    "reset": Behaviour(fault="reset"),
    "bad-json": Behaviour(fault="bad-json"),
    "bad-utf8": Behaviour(fault="bad-utf8"),
    "long-line": Behaviour(fault="long-line"),
    "error-in-200": Behaviour(fault="error-in-200"),
    "empty": Behaviour(fault="empty"),
    "null": Behaviour(fault="null"),
    "never-done": Behaviour(fault="never-done"),
    "endless": Behaviour(fault="endless"),
    "cut-off": Behaviour(fault="cut-off"),
}


def scaled(behaviour: Behaviour, factor: float) -> Behaviour:
    """The behaviour with every time multiplied."""
    return replace(
        behaviour,
        first_token_s=behaviour.first_token_s * factor,
        pace_s=behaviour.pace_s * factor,
        role_chunk_s=None if behaviour.role_chunk_s is None else behaviour.role_chunk_s * factor,
        reuse_stall_s=behaviour.reuse_stall_s * factor,
        idle_limit_s=behaviour.idle_limit_s * factor,
        reload_s=behaviour.reload_s * factor,
        slow_requests={number: extra_s * factor for number, extra_s in behaviour.slow_requests.items()},
    )


WORDS = ("the", "notes", "say", "that", "Ada", "will", "ship", "it")


class ReferenceServer:
    """Listens on a free loopback port and answers every connection in a thread of its own."""

    def __init__(self, behaviours: dict[str, Behaviour] | None = None, *, port: int = 0) -> None:
        self.behaviours = BEHAVIOURS if behaviours is None else behaviours
        self.requests: dict[str, int] = {}
        self._seen: set[tuple[str, str]] = set()
        self._last_used: dict[str, float] = {}
        self._lock = threading.Lock()
        self._socket = socket.create_server(("127.0.0.1", port), backlog=128)
        self.base_url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> ReferenceServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def serve_forever(self) -> None:
        """Accept until the socket is closed."""
        self._accept()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            used, kept = 0, True
            try:
                while kept:
                    path, body, arrived = _read_request(connection)
                    kept = self._respond(connection, path, body, arrived, used)
                    used += 1
            except OSError:
                return

    def _respond(self, connection: socket.socket, path: str, body: dict[str, Any], arrived: float, used: int) -> bool:
        """Answer the request that comes after `used` others on this connection; True when it stays open."""
        if path.endswith("/models"):
            listed = [{"id": name} for name in self.behaviours]
            _send_json(connection, {"object": "list", "data": listed}, keep=True)
            return True
        behaviour = self.behaviours.get(str(body.get("model")), STEADY)
        self._answer(connection, body, arrived + behaviour.reuse_stall_s * bool(used))
        return behaviour.reuse_stall_s > 0

    def _answer(self, connection: socket.socket, body: dict[str, Any], arrived: float) -> None:
        model = str(body.get("model"))
        behaviour = self.behaviours.get(model)
        if behaviour is None:
            _send_json(connection, {"error": {"message": f"model {model!r} not found"}}, "404 Not Found")
            return
        with self._lock:
            number = self.requests[model] = self.requests.get(model, -1) + 1
            question = (model, json.dumps(body.get("messages")))
            repeated = question in self._seen
            self._seen.add(question)
            idle_s = arrived - self._last_used.get(model, float("-inf"))
            self._last_used[model] = arrived
        if behaviour.fault and number in behaviour.faulty:
            _misbehave(connection, behaviour.fault, arrived)
            return
        is_aside = 0 < behaviour.idle_limit_s < idle_s
        start = arrived + behaviour.slow_requests.get(number, 0.0) + behaviour.reload_s * is_aside
        if behaviour.cached_after_first:
            first_token_s = behaviour.first_token_s / 50 if repeated else behaviour.first_token_s
            reports = behaviour.reports_cached and repeated
            behaviour = replace(behaviour, first_token_s=first_token_s, reports_cached=reports)
        if body.get("stream"):
            _stream(connection, behaviour, int(body.get("max_tokens") or 2048), start)
        else:
            _whole(connection, behaviour, int(body.get("max_tokens") or 2048), start)
        with self._lock:
            self._last_used[model] = time.perf_counter()


def _read_request(connection: socket.socket) -> tuple[str, dict[str, Any], float]:
    """The path, the JSON body, and when its first byte arrived."""
    received = connection.recv(65536)
    arrived = time.perf_counter()
    while b"\r\n\r\n" not in received:
        received += _more(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")),
        0,
    )
    while len(body) < length:
        body += _more(connection)
    return head.split(b" ")[1].decode("latin-1"), json.loads(body) if body else {}, arrived


def _more(connection: socket.socket) -> bytes:
    received = connection.recv(65536)
    if not received:
        raise ConnectionResetError
    return received


def _send_json(connection: socket.socket, value: object, status: str = "200 OK", *, keep: bool = False) -> None:
    _send(connection, json.dumps(value).encode("utf-8"), "application/json", status, keep=keep)


def _send(connection: socket.socket, body: bytes, kind: str, status: str = "200 OK", *, keep: bool = False) -> None:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    after = "keep-alive" if keep else "close"
    connection.sendall(f"{head}Connection: {after}\r\n\r\n".encode("ascii") + body)


def _open_stream(connection: socket.socket, *, keep: bool = False) -> None:
    after = b"Transfer-Encoding: chunked" if keep else b"Connection: close"
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + after + b"\r\n\r\n")


def _framed(payload: bytes, *, keep: bool) -> bytes:
    """A connection that stays open needs the length of each piece."""
    return b"%x\r\n%s\r\n" % (len(payload), payload) if keep else payload


def wait_until(due: float) -> None:
    """Return at `due` on the performance counter, late by microseconds only."""
    slack = due - time.perf_counter() - SPIN_S
    if slack > 0:
        time.sleep(slack)
    while time.perf_counter() < due:
        pass


def _event(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return b"data: " + json.dumps({"object": "chat.completion.chunk", "choices": [choice]}).encode("utf-8") + b"\n\n"


def _usage(behaviour: Behaviour, tokens: int) -> dict[str, Any]:
    details = {"reasoning_tokens": behaviour.reasoning} if behaviour.reasoning else {}
    usage = {"prompt_tokens": 10, "completion_tokens": tokens, "completion_tokens_details": details}
    return {**usage, "prompt_tokens_details": {"cached_tokens": 9}} if behaviour.reports_cached else usage


def _stream(connection: socket.socket, behaviour: Behaviour, max_tokens: int, start: float) -> None:
    keep = behaviour.reuse_stall_s > 0
    _open_stream(connection, keep=keep)
    if behaviour.role_chunk_s is not None:
        wait_until(start + behaviour.role_chunk_s)
        connection.sendall(_framed(_event({"role": "assistant", "content": ""}), keep=keep))
    tokens = min(behaviour.tokens, max_tokens)
    for first in range(behaviour.hidden, tokens, behaviour.per_chunk):
        last = min(first + behaviour.per_chunk, tokens) - 1
        kind = "reasoning_content" if first < behaviour.reasoning else "content"
        text = "".join(f" {WORDS[token % len(WORDS)]}" for token in range(first, last + 1))
        event = _framed(_event({kind: text}), keep=keep)
        wait_until(start + behaviour.first_token_s + last * behaviour.pace_s)
        connection.sendall(event)
    closing = _event({}, "length" if max_tokens < behaviour.tokens else "stop")
    if behaviour.usage:
        closing += b"data: " + json.dumps({"choices": [], "usage": _usage(behaviour, tokens)}).encode() + b"\n\n"
    connection.sendall(_framed(closing + b"data: [DONE]\n\n", keep=keep) + (b"0\r\n\r\n" if keep else b""))


def _whole(connection: socket.socket, behaviour: Behaviour, max_tokens: int, start: float) -> None:
    tokens = min(behaviour.tokens, max_tokens)
    wait_until(start + behaviour.first_token_s + (tokens - 1) * behaviour.pace_s)
    text = " ".join(WORDS[token % len(WORDS)] for token in range(tokens))
    answer: dict[str, Any] = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
    if behaviour.usage:
        answer["usage"] = _usage(behaviour, tokens)
    _send_json(connection, answer)


def _misbehave(connection: socket.socket, fault: str, arrived: float) -> None:
    if fault.isdigit():
        _send_json(connection, {"error": {"message": f"refused with {fault}"}}, f"{fault} Fault")
    elif fault == "proxy-page":
        _send(
            connection,
            b"<!DOCTYPE html><html><body>Please sign in to the proxy.</body></html>",
            "text/html",
        )
    elif fault == "stall-before":
        _hold(connection)
    else:
        _open_stream(connection)
        wait_until(arrived + 0.005)
        connection.sendall(_event({"content": " half"}) if fault not in {"empty", "null"} else _event({"role": "x"}))
        _break_stream(connection, fault)


DONE = _event({}, "stop") + b"data: [DONE]\n\n"
BROKEN_ENDINGS: dict[str, bytes] = {
    "bad-json": b'data: {"choices": [{"delta"\n\n' + DONE,
    "bad-utf8": b'data: {"choices": [{"delta": {"content": "\xff\xfe"}}]}\n\n' + DONE,
    "error-in-200": b'data: {"error": {"message": "out of memory while decoding"}}\n\n',
    "empty": _event({"content": ""}) + DONE,
    "null": _event({"content": None}) + DONE,
    "cut-off": b"",
}
"""What follows the first words of a stream that goes wrong."""


def _break_stream(connection: socket.socket, fault: str) -> None:
    if fault in BROKEN_ENDINGS:
        connection.sendall(BROKEN_ENDINGS[fault])
    elif fault == "stall-middle":
        _hold(connection)
    elif fault == "reset":
        time.sleep(0.02)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    elif fault == "long-line":
        for _ in range(30):
            connection.sendall(b"x" * 1_000_000)
        connection.sendall(b"\n\n" + DONE)
    elif fault in {"never-done", "endless"}:
        while True:
            connection.sendall(b": keep-alive\n\n" if fault == "never-done" else _event({"content": " more"}))
            time.sleep(0.05 if fault == "never-done" else 0.001)


def _hold(connection: socket.socket) -> None:
    """Say nothing until the client gives up."""
    connection.recv(1)


@contextmanager
def reference_server(*, time_scale: float = 1.0) -> Iterator[str]:
    """Run the server in a process of its own; gives the base URL, ends with the block (or with this process).

    Every time of every behaviour is multiplied by `time_scale`.
    """
    command = [sys.executable, "-m", "workshop_lib.instrument.reference_server", "--time-scale", str(time_scale)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield (process.stdout.readline() if process.stdout else "").strip()
        finally:
            if process.stdin:
                process.stdin.close()
            process.wait(5)


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


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the base URL and serve until standard input closes; as a child, Ctrl-C is for its parent to answer."""
    if not sys.stdin.isatty():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    parser = argparse.ArgumentParser(prog="python -m workshop_lib.instrument.reference_server", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="loopback port; 0 = a free one")
    parser.add_argument("--time-scale", type=float, default=1.0, help="factor for the times of every behaviour")
    options = parser.parse_args(arguments)
    behaviours = {name: scaled(behaviour, options.time_scale) for name, behaviour in BEHAVIOURS.items()}
    with ReferenceServer(behaviours, port=options.port) as server:
        print(server.base_url, flush=True)  # noqa: T201 - how the parent learns the port
        sys.stdin.read()


if __name__ == "__main__":
    main()
