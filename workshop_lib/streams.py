"""From time-stamped bytes to the text, usage and faults of one chat completion. Pure; no HTTP.

The client stamps and stores bytes while an answer arrives; reading them delays no time stamp. Bytes become lines, lines
become server-sent events (the WHATWG standard, and what sloppy servers make of it), events become JSON objects, and
these become one `Answer`. While it grows, its state is one of three:

* open: text may come.
* finished: the server gave a reason from `COMPLETE`; only usage and `[DONE]` may still come.
* done: `[DONE]`, the end of an answer in one piece, or a fault. What follows is not read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from workshop_lib.credentials import redact
from workshop_lib.records import Chunk, ChunkKind

Arrival = tuple[float, bytes]
State = Literal["open", "finished", "done"]
Object = Mapping[str, Any]

COMPLETE: dict[str, str] = {
    word: reason
    for reason, words in {
        "stop": "stop eos eos_token end_turn stop_sequence stop_token complete completed end done",
        "length": "length max_tokens max_length model_length max_output_tokens max_new_tokens max_completion_tokens "
        "token_limit model_context_window_exceeded",
        "tool_calls": "tool_calls function_call tool_use",
    }.items()
    for word in words.split()
}
"""Finish reasons of a complete answer, and what each is called in a record."""

NO_REASON = frozenset({"", "null", "none", "nil", "undefined", "not_finished", "in_progress"})
PINGS = frozenset({"ping", "heartbeat", "keepalive", "keep-alive"})
FINE = frozenset({"0", "200", "ok", "success"})
"""Codes and statuses of servers that say with each event that nothing went wrong."""

LARGEST_COUNT = 10**9
"""A number of tokens above this is none."""

_NO_TEXT = b"\xef\xbb\xbf\x00\x1e \t\r\n"
"""Byte order marks, zeros and record separators, which some servers put in front of lines."""

LONGEST_QUOTED = 2000
_DONE = b"[DONE]"


class StreamFault(Exception):  # noqa: N818 - what happened to a stream, not an error of ours
    """The response is not a usable answer. `kind` is machine-readable, the message is for a person."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(slots=True)
class Answer:
    """What one response said. Token counts come from its `usage`; None when it had none.

    `streamed` is False for an answer in one piece. `finish_reason` is `stop`, `length` or `tool_calls`, or the server's
    own word for an answer that is not complete. Text that came before a fault is kept.
    """

    chunks: list[Chunk] = field(default_factory=list)
    streamed: bool = True
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    fault: StreamFault | None = None


def read_answer(arrivals: Sequence[Arrival]) -> Answer:
    """Read a whole answer. Its first bytes tell whether it is a stream or came in one piece.

    Args:
        arrivals: (seconds after the request start, bytes received then), in order.

    Returns:
        The answer; `fault` is set when it broke off, carried an error, or held nothing usable.
    """
    body = b"".join(piece for _, piece in arrivals).lstrip(_NO_TEXT)
    if body.startswith(b"<"):
        return Answer(streamed=False, fault=_web_page(body))
    reader = AnswerReader()
    if body.startswith((b"{", b"[")) and _is_json(body):
        reader.take(_Event([(arrivals[-1][0], body)]))
        reader.state = "done"
        return replace(reader.end(), streamed=False)
    reader.feed(arrivals)
    return reader.end()


class EndWatch:
    """Tells while bytes come whether more of the answer is to be expected, at little cost.

    It is an `AnswerReader` to which only those events are given that can change the state.
    """

    def __init__(self) -> None:
        self._events = _Events()
        self._reader = AnswerReader()

    def feed(self, piece: bytes) -> State:
        """The state after these bytes, which are one read off the network."""
        for event in self._events.feed(0.0, piece):
            if self._matters(event):
                self._reader.take(event)
        rest = self._events.rest() if self._events.may_end else None
        if rest is None or not rest.looks_whole or not self._matters(rest):
            return self._reader.state
        ahead = copy(self._reader)
        ahead.take(rest)
        return self._reader.state if ahead.is_broken else ahead.state

    def _matters(self, event: _Event) -> bool:
        if self._reader.state != "open" or self._reader.choice is None or event.name == "error":
            return True
        payload = event.payload
        return b'"delta"' not in payload or b'"error"' in payload or bool(_REASON_GIVEN.search(payload))


_REASON_GIVEN = re.compile(rb'"finish_reason"\s*:\s*(?:"[^"]|\{)')


# -- from bytes to events


@dataclass(slots=True)
class _Event:
    """The data lines of one server-sent event, each with the moment when its end arrived."""

    lines: list[Arrival] = field(default_factory=list)
    name: str = ""
    id: bytes = b""
    open_braces: int = 0

    @property
    def payload(self) -> bytes:
        return b"\n".join(line for _, line in self.lines)

    @property
    def looks_whole(self) -> bool:
        """True where the lines look like one JSON object or end with `[DONE]`, as far as a quick look tells."""
        if not self.lines:
            return False
        last = self.lines[-1][1]
        return last == _DONE or (self.open_braces == 0 and self.lines[0][1][:1] == b"{" and last[-1:] == b"}")

    def add(self, at_s: float, name: bytes, value: bytes) -> None:
        """Take in one field."""
        if name == b"event":
            self.name = value.decode("utf-8", "replace").lower()
            self.name = "error" if _FAILED.search(self.name) else self.name
        elif name == b"error":
            self.name = "error"
        elif name == b"id":
            self.id = value
        if name in {b"data", b"error"} and value:
            self.lines.append((at_s, value))
            self.open_braces += value.count(b"{") - value.count(b"}")


class _Events:
    """Cuts bytes into events, however the network has cut them.

    Two sloppy habits are allowed for: JSON without `data:` in front, and no blank line between events.
    """

    def __init__(self) -> None:
        self.stray = b""
        self._parts: list[bytes] = []
        self._after_cr = False
        self._event = _Event()
        self._last_s = 0.0

    def feed(self, at_s: float, piece: bytes) -> Iterator[_Event]:
        """The events that these bytes complete. A line ends with CR, LF or both."""
        self._last_s = at_s
        if self._after_cr and piece.startswith(b"\n"):
            piece = piece[1:]
            self._after_cr = False
        if piece:
            self._after_cr = piece.endswith(b"\r")
        for line in piece.splitlines(keepends=True):
            self._parts.append(line)
            if line.endswith((b"\n", b"\r")):
                whole = b"".join(self._parts).rstrip(b"\r\n")
                self._parts.clear()
                yield from self._take_line(at_s, whole)

    @property
    def may_end(self) -> bool:
        """Whether the bytes so far may end an event; a long line in many pieces need not be joined for each of them."""
        part = next((part for part in map(bytes.rstrip, reversed(self._parts)) if part), b"")
        return self._event.looks_whole or part.endswith((b"}", b"]"))

    def rest(self) -> _Event | None:
        """The event whose end has not come, if there is any of it."""
        name, value = self._field(b"".join(self._parts))
        if not self._parts or (name == b"data" and self._event.looks_whole):
            return self._event if self._event.lines or self._event.name == "error" else None
        event = replace(self._event, lines=list(self._event.lines))
        event.add(self._last_s, name, value)
        return event

    def _take_line(self, at_s: float, line: bytes) -> Iterator[_Event]:
        name, value = self._field(line)
        starts_anew = name == b"data" and (value == _DONE or self._event.looks_whole)
        if not line or starts_anew:
            event, self._event = self._event, _Event()
            if event.lines or event.name == "error":
                yield event
        self._event.add(at_s, name, value)

    def _field(self, line: bytes) -> tuple[bytes, bytes]:
        """A field's name and value. Some servers write `data: ` in front of lines that have it already."""
        line = line.lstrip(_NO_TEXT).rstrip()
        if line[:1] in _JSON_STARTS:
            return b"data", line
        name, _, value = line.partition(b":")
        name, value = name.strip().lower(), value.strip()
        if name not in _FIELDS and not self.stray:
            self.stray = line[:LONGEST_QUOTED]
        if value.startswith(b"data:"):
            value = value.removeprefix(b"data:").strip()
        return name, _DONE if value[:9].strip(b'"').upper() == _DONE else value


_JSON_STARTS = frozenset({b"{", b"}", b"[", b"]", b'"'})
_FAILED = re.compile("error|exception|fail|(?<!de)fault", re.IGNORECASE)
_FIELDS = frozenset({b"", b"data", b"event", b"id", b"retry", b"error"})  # "" is a comment or a blank line


# -- from events to objects


def _decoded(event: _Event) -> Iterator[tuple[float, bytes, list[Object]]]:
    """(moment, bytes, objects) of an event: of all lines together where they are JSON, else of one after the other."""
    if event.name == "error":
        raise _server_error(_loosely(event.payload))
    if event.name in PINGS:
        return
    together = len(event.lines) > 1 and _is_json(event.payload)
    for at_s, payload in [(event.lines[-1][0], event.payload)] if together else event.lines:
        word = payload.strip(b": []").lower().decode("ascii", "replace")
        says_nothing = payload == _DONE or word in PINGS or payload.startswith(b":")
        yield at_s, payload, [] if says_nothing else _objects(payload)


def _objects(payload: bytes) -> list[Object]:
    if payload.startswith(b"<"):
        raise _web_page(payload)
    try:
        value = json.loads(payload.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise StreamFault("bad_utf8", f"The answer is not valid UTF-8 at byte {error.start}.") from error
    except (ValueError, RecursionError) as error:
        raise StreamFault("bad_json", f"The answer holds broken JSON: {_quoted(payload)}.") from error
    values = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(each, dict) for each in values):
        raise StreamFault("bad_json", f"The answer holds JSON that is no object: {_quoted(payload)}.")
    return values


def _is_json(payload: bytes) -> bool:
    try:
        _objects(payload)
    except StreamFault:
        return False
    return True


def _loosely(payload: bytes) -> object:
    """What an error event holds: JSON or plain text."""
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        return payload.decode("utf-8", "replace") or "an error without a reason"


def _web_page(body: bytes) -> StreamFault:
    return StreamFault("not_json", f"The answer is a web page, not a completion: {_quoted(body)}.")


def _quoted(said: bytes | str, limit: int = 80) -> str:
    """The beginning of what a server said; keys are taken out before it is cut, or a part of one would stay."""
    text = said[:LONGEST_QUOTED].decode("utf-8", "replace") if isinstance(said, bytes) else said[:LONGEST_QUOTED]
    return repr(redact(text)[:limit])


# -- from objects to the answer


class _Taken(NamedTuple):
    """One event that was read: what is needed to tell whether it came twice, and its text."""

    id: bytes
    payload: bytes
    chunks: list[Chunk]


class AnswerReader:
    """Reads one answer as it grows. Only one choice is read: the first that is seen."""

    def __init__(self) -> None:
        self.state: State = "open"
        self.choice: object = None
        self._events = _Events()
        self._answer = Answer()
        self._taken: list[_Taken] = []
        self._fault: StreamFault | None = None
        self._tools: list[str] = []
        self._has_deltas = False
        self._went_on = False

    @property
    def is_broken(self) -> bool:
        """True after bytes that are no JSON."""
        return self._fault is not None and self._fault.kind != "server_error"

    def feed(self, arrivals: Iterable[Arrival]) -> None:
        """Take in what has arrived since the last call."""
        for at_s, piece in arrivals:
            for event in self._events.feed(at_s, piece):
                self.take(event)

    def chunks(self) -> list[Chunk]:
        """The text so far, each event once, thinking apart from the answer."""
        taken = _without_repeats(self._taken, self._answer.completion_tokens)
        return part_thinking(_whole_letters(_new_text([chunk for each in taken for chunk in each.chunks])))

    def end(self) -> Answer:
        """The answer, when nothing more will come. An event without its end counts where it is whole."""
        rest = self._events.rest()
        if rest is not None and (rest.looks_whole or rest.name == "error"):
            self.take(rest)
        answer = replace(self._answer, chunks=self.chunks())
        answer.fault = self._fault or self._refusal(answer)
        return answer

    def take(self, event: _Event) -> None:
        """Take in one event. Once the answer is finished, broken bytes cannot make it less complete."""
        try:
            for at_s, payload, objects in _decoded(event):
                if self.state == "done":
                    return
                if payload == _DONE:
                    self.state = "done"
                for each in objects:
                    self._taken.append(_Taken(event.id, payload, self._take_object(at_s, each)))
        except StreamFault as fault:
            if self.state == "open" or (self.state == "finished" and fault.kind == "server_error"):
                self._fault, self.state = fault, "done"

    def _take_object(self, at_s: float, event: Object) -> list[Chunk]:
        """Raise what the object says went wrong, else return its text."""
        wrong = _error_in(event)
        if wrong is not None:
            raise _server_error(wrong)
        choice = self._chosen(event)
        for place in (event, choice, event.get("x_groq")):
            if isinstance(place, dict):
                self._take_usage(place)
        return [Chunk(at_s, kind, text) for kind, text in self._take_choice(choice)]

    def _chosen(self, event: Object) -> Object:
        for choice in _choices(event):
            index = choice.get("index") or 0
            self.choice = index if self.choice is None else self.choice
            if index == self.choice:
                return choice
        return {}

    def _take_choice(self, choice: Object) -> list[tuple[ChunkKind, str]]:
        """Text after a finish reason shows that the server's reasons are none; then only `[DONE]` ends the answer."""
        delta, message = _said(choice, "delta"), _said(choice, "message")
        self._tools += [*_tools_called(delta), *_tools_called(message)]
        texts = _texts(delta)
        self._has_deltas = self._has_deltas or bool(texts)
        if not self._has_deltas:
            texts = _texts(message) or [(kind, text) for kind, text in _parts(choice.get("text"), "content") if text]
        if texts and self.state == "finished":
            self.state, self._went_on = "open", True
        said = choice.get("finish_reason")
        said = said.get("type") if isinstance(said, dict) else said
        reason = said.strip() if isinstance(said, str) else ""
        word = reason.lower().rpartition(".")[2]  # of an enumeration's `FinishReason.STOP`
        if word not in NO_REASON:
            self._answer.finish_reason = COMPLETE.get(word, reason)
            if word in COMPLETE and not self._went_on:
                self.state = "finished"
        return texts

    def _take_usage(self, place: Object) -> None:
        """The last count above zero is the one; a running count ends with it.

        Where the total shows that reasoning was not counted as completion, as xAI does it, it is added.
        """
        answer, usage = self._answer, place.get("usage")
        prompt = _count(usage, "prompt_tokens") or _count(usage, "input_tokens")
        completion = _count(usage, "completion_tokens") or _count(usage, "output_tokens")
        reasoning = _count(usage, "completion_tokens_details", "reasoning_tokens")
        if completion and reasoning and _count(usage, "total_tokens") == (prompt or 0) + completion + reasoning:
            completion += reasoning
        answer.prompt_tokens = prompt or answer.prompt_tokens
        answer.completion_tokens = completion or answer.completion_tokens
        answer.reasoning_tokens = answer.reasoning_tokens if reasoning is None else reasoning
        cached = _count(usage, "prompt_tokens_details", "cached_tokens")
        cached = _count(usage, "prompt_cache_hit_tokens") if cached is None else cached
        cached = _count(place, "timings", "cache_n") if cached is None else cached
        answer.cached_tokens = answer.cached_tokens if cached is None else cached

    def _refusal(self, answer: Answer) -> StreamFault | None:
        """What is wrong with an answer that held no error."""
        reason = answer.finish_reason
        if reason is not None and reason not in COMPLETE:
            return StreamFault("not_complete", f"The server ended the answer early: {_quoted(reason)}.")
        if self.state == "open":
            return self._cut_off()
        if any(chunk.kind == "content" and not chunk.text.isspace() for chunk in answer.chunks):
            return None
        if self._tools or reason == "tool_calls":
            called = f"the tool {_quoted(self._tools[0])}" if self._tools else "a tool"
            return StreamFault("tool_calls", f"The model called {called} instead of answering.")
        return None if answer.chunks else StreamFault("empty_answer", "The answer holds no text.")

    def _cut_off(self) -> StreamFault:
        rest = self._events.rest()
        said = self._events.stray or (rest.payload if rest is not None else b"")
        quoted = _quoted(said, 200)
        if self._events.stray and not self._taken:
            return StreamFault("not_json", f"The answer is not a completion: {quoted}.")
        more = f" It said: {quoted}." if said else ""
        return StreamFault("cut_off", f"The stream ended before the server said that it was finished.{more}")


def _choices(event: Object) -> list[Object]:
    choices = event.get("choices")
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []


def _said(choice: Object, key: str) -> Object:
    said = choice.get(key)
    return said if isinstance(said, dict) else {}


def _texts(said: Object) -> list[tuple[ChunkKind, str]]:
    """The text of a delta or message; of two names for the same reasoning only one is read."""
    names = ("reasoning_content", "reasoning", "thinking", "thought", "reasoning_details")
    thought = next((found for name in names if (found := list(_parts(said.get(name), "reasoning")))), [])
    return [*thought, *_parts(said.get("content"), "content"), *_parts(said.get("refusal"), "content")]


def _parts(value: object, kind: ChunkKind, depth: int = 4) -> Iterator[tuple[ChunkKind, str]]:
    """The non-empty texts in a string, a list of parts, or one part."""
    if isinstance(value, str) and value:
        yield kind, value
    elif isinstance(value, list) and depth:
        for part in value:
            yield from _parts(part, kind, depth - 1)
    elif isinstance(value, dict) and depth and str(value.get("type", "text")) in _PART_KINDS:
        kind = _PART_KINDS[str(value.get("type", "text"))] or kind
        names = ("text", "thinking", "reasoning", "summary", "content", "refusal")
        yield from _parts(next((value[name] for name in names if value.get(name)), None), kind, depth - 1)


_PART_KINDS: dict[str, ChunkKind | None] = {
    **dict.fromkeys(("None", "text", "output_text", "refusal")),
    **dict.fromkeys(("thinking", "reasoning", "reasoning.text", "reasoning.summary"), "reasoning"),
}


def _tools_called(said: Object) -> list[str]:
    calls = said.get("tool_calls")
    functions = [call.get("function") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    named = [each for each in (*functions, said.get("function_call")) if isinstance(each, dict)]
    return [str(each["name"]) for each in named if each.get("name")]


def _count(place: object, *path: str) -> int | None:
    """A whole number that is no truth value and not negative."""
    for key in path:
        place = place.get(key) if isinstance(place, dict) else None
    if isinstance(place, bool) or not isinstance(place, int | float) or not 0 <= place <= LARGEST_COUNT:
        return None
    return int(place) if place == int(place) else None


# -- errors inside an answer


def _server_error(said: object) -> StreamFault:
    return StreamFault("server_error", f"The server reported: {error_message(said)}")


def _error_in(event: Object) -> object:
    """What an object says went wrong, wherever it stands; None where it is no error."""
    choices = _choices(event)
    parts = (_said(choice, key) for choice in choices for key in ("delta", "message"))
    for place in (event, _said(event, "x_groq"), *choices, *parts):
        error = place.get("error")
        if any(error.values()) and not _is_fine(error) if isinstance(error, dict) else error:
            return error if isinstance(error, dict | list | str) else place
    if "error" in (event.get("object"), event.get("type")):
        return event
    return None if choices or not _is_bare_error(event) else event


def _is_bare_error(event: Object) -> bool:
    """Whether an object without choices is an error: a message, a status, `success: false`, or a name that says so."""
    if _is_fine(event):
        return False
    said = (event.get(name) for name in ("message", "msg", "Message", "status_msg"))
    codes = (_count(event, name) for name in ("code", "status", "status_code"))
    return bool(
        event.get("detail")
        or event.get("success") is False
        or any(isinstance(each, str) and each.strip() for each in said)
        or any(code is not None and 400 <= code < 600 for code in codes)
        or any(value and _FAILED.search(name) for name, value in event.items())
        or any(_is_bare_error(value) for name, value in event.items() if name in _WRAPPERS and isinstance(value, dict))
    )


_WRAPPERS = frozenset({"base_resp", "Response", "result", "data"})


def _is_fine(event: Object) -> bool:
    """Whether a code or status says that nothing went wrong."""
    return any(str(event.get(name, "")).lower() in FINE for name in ("code", "status", "status_code"))


def error_message(body: object, limit: int = 300) -> str:
    """The human part of an error body of any usual shape, in one line without keys, cut to `limit` characters."""
    message, place = body, ""
    for _ in range(8):
        if isinstance(message, list) and message:
            message = message[0]
        if not isinstance(message, dict):
            break
        if isinstance(message.get("loc"), list):
            place = ".".join(map(str, message["loc"])) + ": "
        said: Iterator[object] = (message.get(name) for name in _MESSAGES)
        message = next((each for each in said if each and isinstance(each, str | dict | list)), str(message))
    return redact(" ".join(f"{place}{message}".split()))[:limit]


_MESSAGES = ("error", "message", "detail", "errors", "msg", "error_msg", "error_message", "description", "title")


# -- after the end


def _without_repeats(taken: Sequence[_Taken], tokens: int | None) -> Sequence[_Taken]:
    """Each event once, where a server sent events twice; that words are really said twice is the usual case."""
    by_id: dict[bytes | int, _Taken] = {}
    for place, each in enumerate(taken):
        by_id.setdefault(each.id or place, each)
    if all(by_id[each.id].payload == each.payload for each in taken if each.id):  # ids tell events apart
        taken = list(by_id.values())
    said = [each for each in taken if each.chunks]
    if len(taken) >= 4 and _in_pairs(taken):
        return taken[::2]
    if not tokens and len({each.payload for each in said}) > 4 and _in_pairs(said):
        return said[::2]
    is_double = [False, *(one.payload == other.payload and bool(other.chunks) for one, other in pairwise(taken))]
    once = [each for each, double in zip(taken, is_double, strict=False) if not double]
    return once if tokens == sum(len(each.chunks) for each in once) else taken


def _in_pairs(taken: Sequence[_Taken]) -> bool:
    return [each.payload for each in taken[::2]] == [each.payload for each in taken[1::2]]


def _new_text(chunks: Sequence[Chunk]) -> Sequence[Chunk]:
    """What each chunk adds, where each repeats the whole text so far, as some servers stream."""
    repeating = all(
        len(other.text) > len(one.text) and other.text.startswith(one.text)
        for one, other in pairwise(chunks)
        if one.kind == other.kind
    )
    if len(chunks) < 4 or not repeating:
        return chunks
    so_far: dict[ChunkKind, str] = {}
    new = []
    for chunk in chunks:
        new.append(Chunk(chunk.at_s, chunk.kind, chunk.text.removeprefix(so_far.get(chunk.kind, ""))))
        so_far[chunk.kind] = chunk.text
    return new


_HALF_LETTERS = re.compile("[\ud800-\udfff]")


def _whole_letters(chunks: Sequence[Chunk]) -> Sequence[Chunk]:
    """Join the halves of a letter that a server sent apart, at the moment of the first; drop what is a half alone."""
    if not any(_HALF_LETTERS.search(chunk.text) for chunk in chunks):
        return chunks
    texts = [chunk.text for chunk in chunks]
    for index in range(1, len(texts)):
        if "\ud800" <= texts[index - 1][-1:] <= "\udbff" and "\udc00" <= texts[index][:1] <= "\udfff":
            texts[index - 1], texts[index] = texts[index - 1] + texts[index][0], texts[index][1:]
    whole = (text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for text in texts)
    return [Chunk(chunk.at_s, chunk.kind, text) for chunk, text in zip(chunks, whole, strict=True) if text]


_NAMES = "think|thinking|thoughts?|reasoning|antThinking|seed:think"
_MARK = r"<\|(?:start_thinking|begin_of_thought|think)\|>|<\|channel>thought"
_END_MARK = r"<\|(?:end_thinking|end_of_thought|/think)\|>|<channel\|>"
_FINAL = r"(?:<\|end\|>)?(?:<\|start\|>assistant)?<\|channel\|>final<\|message\|>"
_CHANNEL = r"(?:<\|start\|>assistant)?<\|channel\|>(?:analysis|commentary)<\|message\|>"
_BLOCKS = re.compile(
    rf"(?:\s*(?:<({_NAMES})>.*?(?:</\1>|\Z)|\[think\].*?(?:\[/think\]|\Z)|◁think▷.*?(?:◁/think▷|\Z)"
    rf"|(?:{_MARK}).*?(?:{_END_MARK}|\Z)|{_CHANNEL}.*?(?:{_FINAL}|\Z)))+\s*",
    re.DOTALL | re.IGNORECASE,
)
_OPENING = re.compile(rf"<(?:{_NAMES})>|\[think\]|◁think▷|{_MARK}|{_CHANNEL}", re.IGNORECASE)
_CLOSING = re.compile(rf"(?:</(?:{_NAMES})>|\[/think\]|◁/think▷|{_END_MARK}|{_FINAL})\s*", re.IGNORECASE)


def part_thinking(chunks: Sequence[Chunk]) -> list[Chunk]:
    """Call reasoning what a model thinks aloud at the start of its answer, as in `<think>Hm.</think> Yes.`.

    Tags and the white space behind them belong to the thinking. A chunk across the border becomes two.
    """
    border = _thinking_letters("".join(chunk.text for chunk in chunks if chunk.kind == "content"))
    parted: list[Chunk] = []
    for chunk in chunks:
        thought = chunk.text if chunk.kind == "reasoning" else chunk.text[:border]
        parted += [Chunk(chunk.at_s, "reasoning", thought)] if thought else []
        if chunk.kind == "content":
            border -= len(thought)
            parted += [replace(chunk, text=chunk.text[len(thought) :])] if len(thought) < len(chunk.text) else []
    return parted


def _thinking_letters(text: str) -> int:
    blocks = _BLOCKS.match(text)
    if blocks:
        return blocks.end()
    closing = _CLOSING.search(text)
    if closing is None or _OPENING.search(text, 0, closing.start()):
        return 0
    more = _BLOCKS.match(text, closing.end())
    return (more or closing).end()
