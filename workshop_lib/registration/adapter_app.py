"""One adapter as an OpenAI-compatible service: routes, event streams, error objects, guards.

It answers on the loopback only: other host names are refused, which keeps web pages of other sites out (DNS rebinding),
and no page may read an answer (no CORS). Knows an `Engine`; knows no adapter and no process. starlette is imported by
`make_app`.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workshop_lib.registration.chat_requests import Question, RequestFault, read_question, unknown_model

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

    from workshop_lib.registration.generation import End, Engine, Generation

MOST_BODY_BYTES = 4_000_000
"""Far above any prompt that fits a context."""

_HOSTS = {"127.0.0.1", "localhost", "[::1]"}
_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def make_app(engine: Engine, model_id: str) -> Starlette:
    """Make the service of one model.

    Args:
        engine: answers; someone must run its `answer_all`.
        model_id: the only name it answers to.
    """
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.requests import ClientDisconnect
    from starlette.routing import Route

    service = _Service(engine, model_id, int(time.time()))
    return Starlette(
        routes=[
            Route("/v1/models", service.models, methods=["GET"]),
            Route("/v1/models/{name:path}", service.model, methods=["GET"]),
            Route("/v1/chat/completions", service.chat, methods=["POST"]),
        ],
        middleware=[Middleware(LoopbackOnly)],
        exception_handlers={
            RequestFault: _on_fault,
            HTTPException: _on_http_fault,
            ClientDisconnect: _on_half_a_question,
        },
    )


@dataclass(frozen=True, slots=True)
class _Service:
    """The three routes."""

    engine: Engine
    model_id: str
    created: int

    async def models(self, _: Request) -> Response:
        return _json({"object": "list", "data": [self._card()]})

    async def model(self, request: Request) -> Response:
        name = str(request.path_params["name"])
        if name != self.model_id:
            raise unknown_model(name, self.model_id)
        return _json(self._card())

    async def chat(self, request: Request) -> _Answer:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":  # a form on any web page can send the other kinds
            raise RequestFault(415, f"The content type is '{kind}'. Send application/json.")
        question = read_question(await _body(request), self.model_id)
        return _Answer(self.engine, question, self.model_id)

    def _card(self) -> dict[str, Any]:
        return {"id": self.model_id, "object": "model", "created": self.created, "owned_by": "local"}


class _Answer:
    """The response to a chat: one JSON object, or an event stream; the adapter is stopped when the client leaves."""

    def __init__(self, engine: Engine, question: Question, model_id: str) -> None:
        self._engine = engine
        self._question = question
        self._common = {"id": f"chatcmpl-{uuid.uuid4().hex[:16]}", "created": int(time.time()), "model": model_id}

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        generation = self._engine.begin(self._question)
        answering = asyncio.create_task(self._answer(generation, scope, receive, send))
        leaving = asyncio.create_task(_until_gone(receive))
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            generation.cancel()
            leaving.cancel()
            if not answering.done():
                answering.cancel()
        if not answering.cancelled() and answering.done():
            answering.result()

    async def _answer(self, generation: Generation, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Wait for the first piece before anything is sent, so that an early fault still has its HTTP status."""
        pieces = aiter(generation)
        try:
            first = await anext(pieces, "")
            if not self._question.stream:
                text = first + "".join([piece async for piece in pieces])
                await _json(self._whole(text, generation.end))(scope, receive, send)
                return
        except RequestFault as fault:
            await _json(fault.error_object(), fault.status)(scope, receive, send)
            return
        await send(_head("text/event-stream; charset=utf-8"))
        async for event in self._events(first, pieces, generation):
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _events(self, first: str, pieces: AsyncIterator[str], generation: Generation) -> AsyncIterator[bytes]:
        yield self._chunk({"role": "assistant", "content": ""}) + (self._chunk({"content": first}) if first else b"")
        try:
            async for piece in pieces:
                yield self._chunk({"content": piece})
        except RequestFault as fault:
            yield _event(fault.error_object())
            return
        end = generation.end
        closing = self._chunk({}, end.finish_reason if end else None)
        usage = self._question.include_usage and _usage(end)
        if usage:
            closing += _event(
                {**self._common, "object": "chat.completion.chunk", "choices": [], "usage": usage},
            )
        yield closing + b"data: [DONE]\n\n"

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        return _event({**self._common, "object": "chat.completion.chunk", "choices": [choice]})

    def _whole(self, text: str, end: End | None) -> dict[str, Any]:
        message = {"role": "assistant", "content": text}
        reason = end.finish_reason if end else None
        choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
        answer = {**self._common, "object": "chat.completion", "choices": [choice]}
        usage = _usage(end)
        return {**answer, "usage": usage} if usage else answer


class LoopbackOnly:
    """Refuses requests for any host name but this machine's own."""

    def __init__(self, app: Callable[[_Scope, _Receive, _Send], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:  # noqa: D102 - the class says it
        if scope["type"] == "http":
            hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
            if len(hosts) != 1 or _without_port(hosts[0]) not in _HOSTS:
                fault = RequestFault(403, "This service answers to 127.0.0.1 only.", code="wrong_host")
                await _json(fault.error_object(), 403)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _without_port(host: str) -> str:
    name, colon, port = host.strip().lower().rpartition(":")
    return name if colon and port.isdigit() else host.strip().lower()


async def _until_gone(receive: _Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _body(request: Request) -> bytes:
    """The body, refused as soon as it is too large."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MOST_BODY_BYTES:
            raise RequestFault(413, f"The body exceeds {MOST_BODY_BYTES // 1_000_000} MB. Shorten the prompt.")
    return bytes(body)


def _usage(end: End | None) -> dict[str, int] | None:
    """None where the adapter counts no tokens: none are invented."""
    if end is None or end.usage is None:
        return None
    prompt, completion = end.usage.prompt_tokens, end.usage.completion_tokens
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n\n"


def _head(kind: str) -> dict[str, Any]:
    headers = [(b"content-type", kind.encode("ascii")), (b"cache-control", b"no-cache")]
    return {"type": "http.response.start", "status": 200, "headers": headers}


def _json(value: dict[str, Any], status: int = 200) -> Response:
    from starlette.responses import JSONResponse

    return JSONResponse(value, status_code=status)


async def _on_fault(_: Request, fault: Any) -> Response:
    return _json(fault.error_object(), fault.status)


async def _on_http_fault(request: Request, error: Any) -> Response:
    message = f"{request.method} {request.url.path[:100]}: {error.detail}."
    return _json(RequestFault(error.status_code, message).error_object(), error.status_code)


async def _on_half_a_question(_: Request, __: Exception) -> Response:
    """Nobody is there to read it; without it the log would hold a traceback."""
    return _json(RequestFault(400, "The question was not complete.").error_object(), 400)
