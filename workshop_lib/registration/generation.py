"""One adapter at work: questions in the order they came, pieces out, cut at stop texts, tokens counted.

The adapter runs in one thread, the one that calls `Engine.answer_all`; questions come from the server's event loop, and
pieces go back there. Knows no HTTP.
"""

from __future__ import annotations

import asyncio
import operator
import queue
import re
import threading
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from workshop_lib.errors import WorkshopError
from workshop_lib.registration.adapters import CustomModelAdapter, Piece, PromptTooLongError, in_words
from workshop_lib.registration.chat_requests import Question, RequestFault
from workshop_lib.registration.stop_texts import StopTexts
from workshop_lib.show.text import one_line, without_home

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterable, Iterator

DEFAULT_MAX_TOKENS = 512
"""The longest answer where neither the client nor the context says."""

_HALVES = re.compile(r"[\ud800-\udfff]")
"""Halves of characters, which no client could print."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that were really counted."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class End:
    """How an answer ended; `usage` is None where the adapter counts no tokens."""

    finish_reason: Literal["stop", "length"]
    usage: Usage | None


@dataclass(slots=True)
class _Tally:
    """What an answer has taken so far; `tokens` is None once a piece did not say."""

    tokens: int | None = 0
    texts: list[str] = field(default_factory=list)

    def add(self, piece: str) -> None:
        self.texts.append(piece)
        if self.tokens is not None and isinstance(piece, Piece):
            self.tokens += _whole(piece.tokens, "a piece of the answer")
        else:
            self.tokens = None


def answer(
    adapter: CustomModelAdapter, question: Question, context_tokens: int | None
) -> Generator[str | End, None, None]:
    """Yield the pieces of an answer that may be shown, none empty, then its `End`.

    An adapter that says how many tokens its pieces take is stopped at the limit even if it would go on.

    Raises:
        RequestFault: 400, the question does not fit the context.
        TypeError: the adapter yields anything but text, or counts in anything but whole numbers from 0.
    """
    prompt_tokens = _count(adapter, question.prompt)
    max_tokens = _limit(question, prompt_tokens, context_tokens)
    tally, cut = _Tally(), StopTexts(question.stop)
    pieces = adapter.stream(
        question.prompt,
        max_tokens=max_tokens,
        temperature=question.temperature,
        top_p=question.top_p,
        seed=question.seed,
        stop=question.stop,
    )
    for piece in _ended(pieces):
        if not isinstance(piece, str):
            raise TypeError(f"a piece of the answer is {type(piece).__name__}, not text")
        tally.add(piece)
        if shown := cut.feed(_HALVES.sub("�", piece)):
            yield shown
        if cut.found or (tally.tokens or 0) >= max_tokens:
            break
    if rest := cut.rest():
        yield rest
    yield _end(adapter, tally, prompt_tokens, max_tokens, stopped=cut.found)


def _ended(pieces: Iterable[str]) -> Iterator[str]:
    """The same pieces; a generator that is not read to its end is closed, so that it can give back what it holds."""
    try:
        yield from pieces
    finally:
        close = getattr(pieces, "close", None)
        if close is not None:
            close()


def _limit(question: Question, prompt_tokens: int | None, context_tokens: int | None) -> int:
    """How many tokens the answer may have."""
    if prompt_tokens is None or context_tokens is None:
        return question.max_tokens or DEFAULT_MAX_TOKENS
    room = context_tokens - prompt_tokens
    if room < (question.max_tokens or 1):
        wanted = f"the {prompt_tokens} of the prompt and the {question.max_tokens or 1} of the answer"
        message = f"The context has {context_tokens} tokens; {wanted} do not fit. Shorten the prompt, or ask for fewer."
        raise RequestFault(400, message, param="messages", code="context_length_exceeded")
    return question.max_tokens or min(DEFAULT_MAX_TOKENS, room)


def _end(
    adapter: CustomModelAdapter, tally: _Tally, prompt_tokens: int | None, max_tokens: int, *, stopped: bool
) -> End:
    tokens = tally.tokens if tally.tokens is not None else _count(adapter, "".join(tally.texts))
    full = tokens is not None and tokens >= max_tokens and not stopped
    usage = None if prompt_tokens is None or tokens is None else Usage(prompt_tokens, tokens)
    return End("length" if full else "stop", usage)


def _count(adapter: CustomModelAdapter, text: str) -> int | None:
    count = adapter.count_tokens(text)
    return None if count is None else _whole(count, "count_tokens")


def _whole(count: int, where: str) -> int:
    """The count as Python's own integer: libraries for arrays count in theirs, which JSON does not know."""
    try:
        whole = operator.index(count)
    except TypeError:
        whole = -1
    if whole < 0:
        raise TypeError(f"{where} says {count!r} tokens, no whole number from 0")
    return whole


class Generation:
    """One answer on its way from the adapter's thread to the event loop that asked.

    Iterating gives pieces; `end` is there afterwards. Raises `RequestFault` for what went wrong.
    """

    def __init__(self, question: Question) -> None:
        self.question = question
        self.end: End | None = None
        self._loop = asyncio.get_running_loop()
        self._arrived: asyncio.Queue[str | End | RequestFault] = asyncio.Queue()
        self._unwanted = threading.Event()

    def cancel(self) -> None:
        """Stop between two pieces, or before the first; safe to call at any time."""
        self._unwanted.set()

    async def __aiter__(self) -> AsyncIterator[str]:
        while True:
            item = await self._arrived.get()
            if isinstance(item, RequestFault):
                raise item
            if isinstance(item, End):
                self.end = item
                return
            yield item

    def run(self, adapter: CustomModelAdapter, context_tokens: int | None) -> None:
        """Answer, in the adapter's thread; whatever the adapter raises is handed over."""
        if self._unwanted.is_set():
            return
        try:
            with closing(answer(adapter, self.question, context_tokens)) as items:
                for item in items:
                    self._hand_over(item)
                    if self._unwanted.is_set():
                        return
        except RequestFault as fault:
            self._hand_over(fault)
        except PromptTooLongError as error:
            self._hand_over(RequestFault(400, _said(error), code="context_length_exceeded"))
        except WorkshopError as error:
            self._hand_over(RequestFault(500, _said(error), code="adapter_failed"))
        except BaseException as error:  # noqa: BLE001 - a stranger's code: even its exit() must not end the server
            self._hand_over(RequestFault(500, f"The adapter raised {in_words(error)}.", code="adapter_failed"))

    def _hand_over(self, item: str | End | RequestFault) -> None:
        with suppress(RuntimeError):  # the server's loop has ended
            self._loop.call_soon_threadsafe(self._arrived.put_nowait, item)


def _said(error: WorkshopError) -> str:
    return one_line(without_home(str(error)), 400)


class Engine:
    """An adapter and the questions that wait for it, answered one at a time in the order they came.

    Args:
        adapter: loaded.
        context_tokens: what fits; None = what the adapter says.
    """

    def __init__(self, adapter: CustomModelAdapter, *, context_tokens: int | None = None) -> None:
        self._adapter = adapter
        self._context_tokens = context_tokens or adapter.context_tokens
        self._waiting: queue.SimpleQueue[Generation | None] = queue.SimpleQueue()
        self._now: Generation | None = None
        self._closed = False

    def begin(self, question: Question) -> Generation:
        """Put a question at the end of the queue; call it in the event loop that reads the answer."""
        generation = Generation(question)
        self._waiting.put(generation)
        return generation

    def answer_all(self) -> None:
        """Answer until `close`, in this thread, then close the adapter."""
        while (generation := self._waiting.get()) is not None:
            self._now = generation
            if self._closed:  # looked at after `_now` is set, as `close` looks the other way round
                break
            generation.run(self._adapter, self._context_tokens)
        self._adapter.close()

    def close(self) -> None:
        """Stop the answer that is being given, leave those that wait, and end `answer_all`."""
        self._closed = True
        if self._now is not None:
            self._now.cancel()
        self._waiting.put(None)
