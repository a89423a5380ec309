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
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

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

from workshop_lib.errors import ConfigurationError, ModelServerError, WorkshopError
from workshop_lib.models.adapter import Chat, Message, Piece, load_class, said_by
from workshop_lib.models.adapter import CustomModelAdapter as Adapter
from workshop_lib.runtimes import child
from workshop_lib.show.text import one_line

T = TypeVar("T")
Json = dict[str, Any]

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
    stream_options: _StreamOptions = _StreamOptions()


class End(NamedTuple):
    """How an answer ended: `stop` or `length`; and its tokens, empty where the adapter counts none."""

    finish_reason: str
    usage: dict[str, int]


def fault(status: int, message: str, *, param: str | None = None, code: str | None = None) -> HTTPException:
    """What a client is told in an OpenAI error object: status, one line, the field to blame, a code for programs."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    error: Any = {"message": message, "type": kind, "param": param, "code": code}
    return HTTPException(status, error)


def answer(adapter: Adapter, question: Question, is_unwanted: Callable[[], bool]) -> Iterator[str | End]:
    """Let the adapter answer: its pieces, then the end; ends at the limit even if the adapter would go on.

    Raises what the adapter raises, and `HTTPException` for a question that does not fit its context.
    """
    prompt = Chat(Message(message.role, message.content) for message in question.messages)
    prompt_tokens = _counted(adapter, prompt)
    limit = _limit(question, prompt_tokens, adapter.context_tokens)
    stream = adapter.stream(
        prompt, max_tokens=limit, temperature=question.temperature, top_p=question.top_p, seed=question.seed
    )
    made: list[str] = []
    tokens: int | None = 0  # what the pieces say; None once one of them did not
    try:
        for piece in stream:
            if not isinstance(piece, str):
                raise TypeError(f"a piece of the answer is {type(piece).__name__}, not text")
            made.append(piece)
            says = operator.index(piece.tokens) if isinstance(piece, Piece) else None
            tokens = None if tokens is None or says is None else tokens + says
            if piece:
                yield piece
            if is_unwanted() or (tokens or 0) >= limit:
                break
    finally:
        if hasattr(stream, "close"):  # so that it can give back what it holds
            stream.close()
    tokens = _counted(adapter, "".join(made)) if tokens is None else tokens
    reason = "length" if (tokens or 0) >= limit else "stop"
    if tokens is None or prompt_tokens is None:
        yield End(reason, {})
    else:
        counts = {"prompt_tokens": prompt_tokens, "completion_tokens": tokens}
        yield End(reason, {**counts, "total_tokens": prompt_tokens + tokens})


def _limit(question: Question, prompt_tokens: int | None, context_tokens: int | None) -> int:
    """How many tokens the answer may have."""
    asked = question.max_completion_tokens or question.max_tokens
    if prompt_tokens is None or context_tokens is None:
        return asked or DEFAULT_MAX_TOKENS
    room = context_tokens - prompt_tokens
    if room < (asked or 1):
        wanted = f"{prompt_tokens + (asked or 1)} total tokens ({prompt_tokens} input + {asked or 1} output)"
        message = f"The request requires {wanted}, more than the maximum context length of {context_tokens} tokens."
        raise fault(400, message, param="messages", code="context_length_exceeded")
    return asked or min(DEFAULT_MAX_TOKENS, room)


def _counted(adapter: Adapter, text: str) -> int | None:
    count = adapter.count_tokens(text)
    return None if count is None else operator.index(count)  # libraries for arrays count in integers of their own


class Service:
    """One adapter: the thread in which it works, and its web service."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[Callable[[Adapter], None] | None] = queue.SimpleQueue()
        self._ending, self._closed = threading.Event(), threading.Event()
        self._closed.set()

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
            context = None if adapter.context_tokens is None else operator.index(adapter.context_tokens)
        except WorkshopError:
            raise
        except Exception as error:  # whatever a stranger's code raises
            what = f"The adapter {type(adapter).__name__} could not load {job['place']} ({said_by(error)})."
            raise ModelServerError(what, "Check that the weights are what the adapter expects.") from error
        load_s = time.perf_counter() - started
        if adapter.device not in {"cpu", "gpu", "npu"}:
            raise ConfigurationError(f"The adapter's device is {adapter.device!r}.", "Use cpu, gpu or npu.")
        listener = socket.create_server(("127.0.0.1", 0))  # bound before anyone else can take the port
        parts: dict[str, Any] = {"lifespan": "off", "ws": "none", "http": "h11", "loop": "asyncio"}
        server = uvicorn.Server(uvicorn.Config(self.app(), log_config=None, access_log=False, **parts))
        threading.Thread(target=server.run, args=([listener],), daemon=True).start()
        self._closed.clear()
        told = {"load_s": load_s, "device": str(adapter.device), "registered": [str(adapter.execution_provider)]}
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        emit({"event": "ready", "base_url": address, "pid": os.getpid(), "context_tokens": context, **told})
        while (work := self._waiting.get()) is not None:
            work(adapter)
        adapter.close()
        self._closed.set()

    def end(self) -> None:
        """Stop the answer that is being given, leave those that wait, and let the adapter close itself."""
        self._ending.set()
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
        unwanted = threading.Event()
        items = self._items(question, unwanted)
        common = {"id": f"chatcmpl-{uuid.uuid4().hex[:16]}", "created": int(time.time()), "model": self._model_id}
        first = await _unless_gone(request, anext(items))  # before anything is sent: an early fault has its status
        if question.stream:
            events, stop = _events(first, items, common, question.stream_options), BackgroundTask(unwanted.set)
            return StreamingResponse(events, media_type="text/event-stream", background=stop)
        reason, usage = await anext(items)
        choice = _choice({"message": {"role": "assistant", "content": first}}, reason)
        return JSONResponse({**common, "object": "chat.completion", **choice, **({"usage": usage} if usage else {})})

    async def _items(self, question: Question, unwanted: threading.Event) -> AsyncIterator[Any]:
        """The pieces of an answer, or all of it at once, then its `End`; raises what `fault` made.

        The adapter stops between two pieces, or before the first, once nobody waits for them.
        """
        arrived: asyncio.Queue[Any] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def hand_over(item: Any) -> None:
            with suppress(RuntimeError):  # the server has ended meanwhile
                loop.call_soon_threadsafe(arrived.put_nowait, item)

        self._waiting.put(partial(self._work, question, unwanted, hand_over))
        try:
            while not isinstance(item := await arrived.get(), HTTPException):
                yield item
            raise item
        finally:
            unwanted.set()

    def _work(
        self, question: Question, unwanted: threading.Event, hand_over: Callable[[Any], object], adapter: Adapter
    ) -> None:
        """Let the adapter answer, in its own thread; what it raises is handed over too."""
        if unwanted.is_set() or self._ending.is_set():
            return
        try:
            items = answer(adapter, question, lambda: unwanted.is_set() or self._ending.is_set())
            if not question.stream:
                *pieces, end = items
                items = iter(["".join(map(str, pieces)), end])
            for item in items:
                hand_over(item)
        except HTTPException as refused:
            hand_over(refused)
        except BaseException as error:  # noqa: BLE001 - a stranger's code: even its exit() must not end the server
            hand_over(fault(500, f"The adapter raised {said_by(error)}.", code="adapter_failed"))


async def _unless_gone(request: Request, awaited: Awaitable[T]) -> T:
    """What is awaited, unless the client goes away before: then `ClientDisconnect`."""
    result, gone = asyncio.ensure_future(awaited), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({result, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not result.done():
            raise ClientDisconnect
        return result.result()
    finally:
        result.cancel()
        gone.cancel()


async def _events(first: Any, items: AsyncIterator[Any], common: Json, options: _StreamOptions) -> AsyncIterator[bytes]:
    """The event stream of an answer."""
    common = {**common, "object": "chat.completion.chunk"}
    begun, item = _event({**common, **_choice({"delta": {"role": "assistant", "content": ""}})}), first
    try:
        while isinstance(item, str):
            yield begun + _event({**common, **_choice({"delta": {"content": item}})})
            begun, item = b"", await anext(items)
        end = begun + _event({**common, **_choice({"delta": {}}, item.finish_reason)})
        if item.usage and options.include_usage:
            end += _event({**common, "choices": [], "usage": item.usage})
        yield end + b"data: [DONE]\n\n"
    except HTTPException as error:  # the status was sent long ago
        yield _event({"error": error.detail})


def _choice(said: Json, finish_reason: str | None = None) -> Json:
    return {"choices": [{"index": 0, **said, "finish_reason": finish_reason}]}


def _event(value: Json) -> bytes:
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


if __name__ == "__main__":
    service = Service()
    child.do_the_job(service.serve, on_exit=service.end)
