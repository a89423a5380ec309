"""The child process that holds one adapter and serves it as an OpenAI-compatible service on this machine alone.

Run as `python -m workshop_lib.models.adapter_server`. The adapter works in the main thread, one question after the
other; the web service runs in a thread beside it. It takes the fields of `Question` and refuses every other with an
OpenAI error object: nothing that was asked for is ignored.
"""

from __future__ import annotations

import asyncio
import json
import operator
import os
import queue
import socket
import threading
import time
import uuid
from collections.abc import AsyncIterator, Generator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import uvicorn
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from workshop_lib.errors import ModelServerError, WorkshopError
from workshop_lib.models.adapter import Chat, CustomModelAdapter, Message, Piece, load_class, said_by
from workshop_lib.runtimes import child
from workshop_lib.show.text import one_line, without_home

DEFAULT_MAX_TOKENS = 512
"""The longest answer where neither the client nor the context says."""

CLOSE_S = 0.5


class _Message(BaseModel):
    role: Literal["system", "user", "assistant"]
    content: str


class _StreamOptions(BaseModel):
    include_usage: bool = False


class Question(BaseModel):
    """The body of a chat request."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    model: str
    messages: list[_Message] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    seed: int | None = None
    stream: bool = False
    stream_options: _StreamOptions | None = None


def fault(status: int, message: str, *, param: str | None = None, code: str | None = None) -> HTTPException:
    """What a client is told in an OpenAI error object: status, one line, the field to blame, a code for programs."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    error: Any = {"message": message, "type": kind, "param": param, "code": code}
    return HTTPException(status, error)


class Answer:
    """One answer on its way from the adapter's thread to the event loop that asked.

    Attributes:
        finish_reason: `stop` or `length`, once the pieces are read.
        usage: tokens that were counted; None where the adapter counts none.
        unwanted: set by whoever no longer waits; the adapter is stopped between two pieces, or before the first.
    """

    def __init__(self, question: Question) -> None:
        self.question = question
        self.finish_reason = "stop"
        self.usage: dict[str, int] | None = None
        self.unwanted = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._arrived: asyncio.Queue[str | HTTPException | None] = asyncio.Queue()

    async def next(self) -> str | None:
        """The next piece; None at the end. Raises what `fault` made."""
        item = await self._arrived.get()
        if isinstance(item, HTTPException):
            raise item
        return item

    async def next_while_there(self, request: Request) -> str | None:
        """The next piece, unless the client goes away: then `ClientDisconnect`."""
        piece, gone = asyncio.ensure_future(self.next()), asyncio.ensure_future(_until_gone(request))
        try:
            await asyncio.wait({piece, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not piece.done():
                raise ClientDisconnect
            return piece.result()
        finally:
            piece.cancel()
            gone.cancel()

    def write(self, adapter: CustomModelAdapter) -> None:
        """Let the adapter answer, in its own thread; what it raises is handed over."""
        last: HTTPException | None = None
        try:
            pieces = filter(None, self.pieces(adapter))
            for piece in pieces if self.question.stream else ["".join(pieces)]:
                self._hand_over(piece)
        except HTTPException as refused:
            last = refused
        except WorkshopError as error:
            last = fault(500, one_line(without_home(str(error)), 400), code="adapter_failed")
        except BaseException as error:  # noqa: BLE001 - a stranger's code: even its exit() must not end the server
            last = fault(500, f"The adapter raised {said_by(error)}.", code="adapter_failed")
        self._hand_over(last)

    def pieces(self, adapter: CustomModelAdapter) -> Generator[str, None, None]:
        """Yield what may be shown; ends at the limit even if the adapter would go on."""
        asked, made = self.question, list[str]()
        tokens: int | None = 0  # what the pieces say; None once one of them did not
        prompt = Chat(Message(message.role, message.content) for message in asked.messages)
        prompt_tokens = _counted(adapter, prompt)
        limit = self._limit(prompt_tokens, adapter.context_tokens)
        stream = adapter.stream(
            prompt, max_tokens=limit, temperature=asked.temperature, top_p=asked.top_p, seed=asked.seed
        )
        try:
            for piece in stream:
                if not isinstance(piece, str):
                    raise TypeError(f"a piece of the answer is {type(piece).__name__}, not text")
                made.append(piece)
                says = _whole(piece.tokens, "a piece of the answer") if isinstance(piece, Piece) else None
                tokens = None if tokens is None or says is None else tokens + says
                yield piece
                if self.unwanted.is_set() or (tokens or 0) >= limit:
                    break
        finally:
            if hasattr(stream, "close"):  # so that it can give back what it holds
                stream.close()
        tokens = _counted(adapter, "".join(made)) if tokens is None else tokens
        self.finish_reason = "length" if tokens is not None and tokens >= limit else "stop"
        if prompt_tokens is not None and tokens is not None:
            both = {"prompt_tokens": prompt_tokens, "completion_tokens": tokens}
            self.usage = {**both, "total_tokens": sum(both.values())}

    def _limit(self, prompt_tokens: int | None, context_tokens: int | None) -> int:
        """How many tokens the answer may have."""
        asked = self.question.max_completion_tokens or self.question.max_tokens
        if prompt_tokens is None or context_tokens is None:
            return asked or DEFAULT_MAX_TOKENS
        room = context_tokens - prompt_tokens
        if room < (asked or 1):
            wanted = f"{prompt_tokens + (asked or 1)} total tokens ({prompt_tokens} input + {asked or 1} output)"
            message = f"The request requires {wanted}, more than the maximum context length of {context_tokens} tokens."
            raise fault(400, message, param="messages", code="context_length_exceeded")
        return asked or min(DEFAULT_MAX_TOKENS, room)

    def _hand_over(self, item: str | HTTPException | None) -> None:
        with suppress(RuntimeError):  # the server's loop has ended
            self._loop.call_soon_threadsafe(self._arrived.put_nowait, item)


class Service:
    """One adapter: the thread in which it works, and its web service."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[Answer | None] = queue.SimpleQueue()
        self._asked: list[Answer] = []
        self._closed = threading.Event()
        self._closed.set()
        self._model_id = ""

    def serve(self, job: Mapping[str, Any], emit: child.Emit) -> None:
        """Load the adapter, emit `ready`, answer until `end`.

        `job` has `adapter` (a reference to its class), `place` (of the weights) and `model_id`.
        Raises `WorkshopError` where the adapter cannot be found or loaded.
        """
        self._model_id = job["model_id"]
        adapter = load_class(job["adapter"])()
        started = time.perf_counter()
        try:
            adapter.load(Path(job["place"]))
            said = None if adapter.context_tokens is None else _whole(adapter.context_tokens, "context_tokens", least=1)
        except WorkshopError:
            raise
        except Exception as error:  # whatever a stranger's code raises
            what = f"The adapter {type(adapter).__name__} could not load {job['place']} ({said_by(error)})."
            raise ModelServerError(what, "Check that the weights are what the adapter expects.") from error
        load_s = time.perf_counter() - started
        listener = socket.create_server(("127.0.0.1", 0))  # bound before anyone else can take the port
        parts: dict[str, Any] = {"lifespan": "off", "ws": "none", "http": "h11", "loop": "asyncio"}
        server = uvicorn.Server(uvicorn.Config(self.app(), log_config=None, access_log=False, **parts))
        threading.Thread(target=server.run, args=([listener],), daemon=True).start()
        self._closed.clear()
        emit(
            {
                "event": "ready",
                "load_s": load_s,
                "base_url": f"http://127.0.0.1:{listener.getsockname()[1]}/v1",
                "pid": os.getpid(),
                "registered": [str(adapter.execution_provider)],
                "device": str(adapter.device),
                "context_tokens": said,
            }
        )
        while (answer := self._waiting.get()) is not None:
            if not answer.unwanted.is_set():
                answer.write(adapter)
            self._asked.remove(answer)
        adapter.close()
        self._closed.set()

    def end(self) -> None:
        """Stop the answer that is being given, leave those that wait, and let the adapter close itself."""
        for answer in list(self._asked):
            answer.unwanted.set()
        self._waiting.put(None)
        self._closed.wait(CLOSE_S)

    def app(self) -> Starlette:
        """The routes. Other host names are refused, which keeps web pages out; no page may read an answer (no CORS)."""
        return Starlette(
            routes=[Route("/v1/models", self._models), Route("/v1/chat/completions", self._chat, methods=["POST"])],
            middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])],
            exception_handlers={
                HTTPException: _refused,
                ValidationError: _refused,
                ClientDisconnect: lambda _, __: Response(status_code=400),  # nobody reads it; it keeps the log clean
            },
        )

    async def _models(self, _: Request) -> Response:
        card = {"id": self._model_id, "object": "model", "created": 0, "owned_by": "local"}
        return JSONResponse({"object": "list", "data": [card]})

    async def _chat(self, request: Request) -> Response:
        if not request.headers.get("content-type", "").startswith("application/json"):
            raise fault(415, "Send application/json.")  # a form on any web page can send the other kinds
        question = Question.model_validate_json(await request.body())
        if question.model != self._model_id:
            message = f"The model '{one_line(question.model, 100)}' is not served here. Ask for '{self._model_id}'."
            raise fault(404, message, param="model", code="model_not_found")
        answer = Answer(question)
        self._asked.append(answer)
        self._waiting.put(answer)
        common = {"id": f"chatcmpl-{uuid.uuid4().hex[:16]}", "created": int(time.time()), "model": self._model_id}
        try:
            piece = await answer.next_while_there(request)  # before anything is sent: an early fault has its status
            if question.stream:
                events, stop = _events(answer, piece, common), BackgroundTask(answer.unwanted.set)
                return StreamingResponse(events, media_type="text/event-stream", background=stop)
            await answer.next()
        except BaseException:
            answer.unwanted.set()
            raise
        said = {"role": "assistant", "content": piece}
        usage = {"usage": answer.usage} if answer.usage else {}
        return JSONResponse({**_chunk(common, {"message": said}, answer.finish_reason), **usage})


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _events(answer: Answer, piece: str | None, common: dict[str, Any]) -> AsyncIterator[bytes]:
    """The event stream of an answer, from its first piece on; closing it stops the adapter."""
    begun = _event(_chunk(common, {"delta": {"role": "assistant", "content": ""}}))
    try:
        while piece is not None:
            yield begun + _event(_chunk(common, {"delta": {"content": piece}}))
            begun, piece = b"", await answer.next()
        end = begun + _event(_chunk(common, {"delta": {}}, answer.finish_reason))
        options = answer.question.stream_options
        if answer.usage and options and options.include_usage:
            end += _event({**_chunk(common, {}), "choices": [], "usage": answer.usage})
        yield end + b"data: [DONE]\n\n"
    except HTTPException as error:  # the status was sent long ago
        yield _event({"error": error.detail})
    finally:
        answer.unwanted.set()


def _chunk(common: dict[str, Any], said: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    kind = "chat.completion" if "message" in said else "chat.completion.chunk"
    return {**common, "object": kind, "choices": [{"index": 0, **said, "finish_reason": finish_reason}]}


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n\n"


async def _refused(request: Request, error: Exception) -> Response:
    """An error object, also for what Starlette itself refuses: an unknown route or method."""
    made: Any = _fault_of(error) if isinstance(error, ValidationError) else error
    if isinstance(made.detail, str):
        made = fault(made.status_code, f"{request.method} {request.url.path}: {made.detail}.")
    return JSONResponse({"error": made.detail}, made.status_code)


def _fault_of(error: ValidationError) -> HTTPException:
    """The first fault that pydantic found, in one line."""
    first = error.errors(include_url=False)[0]
    param = ".".join(map(str, first["loc"])) or None
    if first["type"] == "extra_forbidden":
        return fault(400, f"'{param}' is not supported here. Leave it out.", param=param, code="unsupported_parameter")
    seen = "" if first["type"] in {"missing", "json_invalid"} else f" is {one_line(repr(first['input']), 60)}"
    return fault(400, f"'{param or 'body'}'{seen}: {first['msg']}.", param=param)


def _counted(adapter: CustomModelAdapter, text: str) -> int | None:
    count = adapter.count_tokens(text)
    return None if count is None else _whole(count, "count_tokens")


def _whole(count: Any, where: str, least: int = 0) -> int:
    """The count as Python's own integer: libraries for arrays count in theirs, which JSON does not know."""
    with suppress(TypeError):
        if (whole := operator.index(count)) >= least:
            return whole
    raise TypeError(f"{where} says {count!r}, no whole number from {least}")


def main() -> None:
    """Serve the adapter that standard input names, and end."""
    service = Service()
    child.do_the_job(service.serve, on_exit=service.end)


if __name__ == "__main__":
    main()
