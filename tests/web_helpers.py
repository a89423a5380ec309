"""A web server of a test's own: what it answers, what it was asked; also as a proxy."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

Answer = tuple[int, str, bytes]
PAGE: Answer = (403, "text/html", b"<html><title>Sign in to the network</title></html>")


class Web:
    """Answers every request with `answers[path]`, else with `otherwise`; use it as a context manager.

    Attributes:
        address: without a slash at the end.
        asked: method and path of every request; a proxy is asked for whole addresses, or to CONNECT.
        key: the bearer token without which it answers 401; empty = none is asked for.
    """

    def __init__(self, answers: dict[str, Answer] | None = None, *, otherwise: Answer = PAGE, key: str = "") -> None:
        web = self
        self.asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                web.asked.append(f"{self.command} {self.path}")
                status, kind, body = (answers or {}).get(self.path, otherwise)
                if key and self.headers.get("Authorization") != f"Bearer {key}":
                    status, kind, body = 401, "application/json", b'{"error": {"message": "A key is needed."}}'
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_CONNECT = answer  # noqa: N815 - the names are http.server's

            def log_message(self, *arguments: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.01])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
