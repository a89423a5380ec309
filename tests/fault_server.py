"""One OpenAI-compatible loopback server for every test; `tests/behaviours.py` says what it does.

Run it as a process of its own with `python -m tests.fault_server` (`fault_server()` does), so that it shares no
interpreter with the client that is timed. Nothing it says is an answer of a model, and no benchmark result comes from
it.
"""

from __future__ import annotations

import argparse
import json
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Self

from tests.behaviours import BEHAVIOURS, QUICK
from tests.fault_steps import Behaviour, Call, Exchange, Step, listed, refuse, scaled, tokens, whole
from workshop_lib.self_check import announce, served_by

CERTIFICATE = Path(__file__).with_name("loopback.pem")


def accept(listener: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    """Serve every connection in a thread of its own until the listener is closed."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


def read_request(connection: socket.socket) -> tuple[str, bytes, float]:
    """The request's head, its body, and when its first byte arrived. Raises `ConnectionResetError`."""
    received, arrived = _received(connection), time.perf_counter()
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


class FaultServer:
    """Listens on a free port of this machine and answers every connection in a thread of its own.

    Args:
        behaviours: what it lists and answers.
        routes: what it does at some paths instead.
        key: the bearer token without which it answers 401; empty = none is asked for.
        host: the address it listens at.
        certificate: a PEM file with certificate and key makes it speak https.

    Attributes:
        address, base_url: without and with `/v1`.
        calls: every request, as it came.
        requests: how many chats were asked of each model.
    """

    def __init__(
        self,
        behaviours: Mapping[str, Behaviour] = BEHAVIOURS,
        routes: Mapping[str, Step] | None = None,
        *,
        key: str = "",
        host: str = "127.0.0.1",
        certificate: Path | None = None,
    ) -> None:
        self.behaviours, self.routes, self.key = behaviours, dict(routes or {}), key
        self.calls: list[Call] = []
        self.requests: Counter[str] = Counter()
        self._seen: set[tuple[str, str]] = set()
        self._last_used: dict[str, float] = {}
        self._lock = threading.Lock()
        self._tls: ssl.SSLContext | None = None
        if certificate:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, 0), family=family, backlog=128)
        self.port: int = self._socket.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        self.address = f"{'https' if certificate else 'http'}://{shown}:{self.port}"
        self.base_url = f"{self.address}/v1"
        self._thread = threading.Thread(target=accept, args=(self._socket, self._serve), daemon=True)

    @property
    def lines(self) -> list[str]:
        """Method and target of every request."""
        return [call.line for call in self.calls]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nobody listens at the address any more."""
        with suppress(OSError):  # wakes the thread that accepts; not every system allows it on such a socket
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            speaks_tls = connection.recv(1, socket.MSG_PEEK) == b"\x16"
            if speaks_tls is not bool(self._tls):
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with connection:
                used = 0
                while self._respond(connection, used):
                    used += 1

    def _respond(self, connection: socket.socket, used: int) -> bool:
        """Answer one request; True when the connection stays open."""
        head, body, arrived = read_request(connection)
        (method, target, _), *fields = (line.split(" ", 2) for line in head.split("\r\n"))
        headers = {name.rstrip(":").lower(): " ".join(rest) for name, *rest in fields}
        call = Call(method, target, headers, json.loads(body) if body else None, arrived, used)
        with self._lock:
            self.calls.append(call)
        exchange = Exchange(connection, call, QUICK, arrived)
        exchange.run(self._step(exchange))
        if exchange.chunked:
            connection.sendall(b"0\r\n\r\n")
        return exchange.stays_open and headers.get("connection", "").lower() != "close"

    def _step(self, exchange: Exchange) -> Step:
        call = exchange.call
        if self.key and call.key != self.key:
            return refuse(401, "A key is needed.")
        exact = self.routes.get(call.target, self.routes.get(call.path))
        matching = (step for pattern, step in self.routes.items() if fnmatchcase(call.target, pattern))
        if step := next(matching, ()) if exact is None else exact:
            return step
        if call.line.endswith("/models") and call.method == "GET":
            return listed(*self.behaviours)
        if call.path.endswith("/chat/completions") and call.method == "POST":
            return self._chat(exchange)
        return refuse(404, "Not Found")

    def _chat(self, exchange: Exchange) -> Step:
        call, model = exchange.call, str(exchange.call.body.get("model"))
        does = self.behaviours.get(model)
        if does is None:
            return refuse(404, f"model {model!r} not found")
        exchange.behaviour = does
        with self._lock:
            number = self.requests[model]
            self.requests[model] += 1
            question = (model, json.dumps(call.body.get("messages")))
            exchange.cached = does.cached_after_first and question in self._seen
            self._seen.add(question)
            idle_s = call.arrived - self._last_used.get(model, float("-inf"))
            self._last_used[model] = call.arrived
        is_aside = 0 < does.idle_limit_s * does.scale < idle_s
        late_s = does.slow_requests.get(number, 0.0) + does.reload_s * is_aside + does.reuse_stall_s * bool(call.used)
        exchange.start = call.arrived + does.scale * late_s
        if refused := next(filter(None, (refusal.of(call.body) for refusal in does.refusals)), None):
            return refused
        if number in does.faulty:
            return does.fault
        steps = does.steps if exchange.streams or tokens not in does.steps else (whole,)
        return (*steps, lambda _: self._last_used.update({model: time.perf_counter()}))


@contextmanager
def fault_server(*, time_scale: float = 1.0) -> Iterator[str]:
    """Run the server in a process of its own; gives the base URL, ends with the block (or with this process)."""
    folder = Path(__file__).resolve().parents[1]
    with served_by("-m", "tests.fault_server", "--time-scale", str(time_scale), folder=folder) as base_url:
        yield base_url


def free_port() -> int:
    """A loopback port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fault_server", description=__doc__)
    parser.add_argument("--time-scale", type=float, default=1.0, help="factor for the times of every behaviour")
    options = parser.parse_args(arguments)
    behaviours = {name: scaled(behaviour, options.time_scale) for name, behaviour in BEHAVIOURS.items()}
    with FaultServer(behaviours) as server:
        announce(server.base_url)


if __name__ == "__main__":
    main()
