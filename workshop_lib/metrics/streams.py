"""From time-stamped bytes to the chunks, usage and faults of one chat completion. Pure; no HTTP.

The client only stamps and stores bytes while the stream runs; everything here happens after it has ended, so that
parsing never delays a time stamp. The format is the server-sent events of OpenAI's chat completions:
`data: {json}` lines, ended by `data: [DONE]`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from workshop_lib.records import Chunk, ChunkKind

Arrival = tuple[float, bytes]


class StreamFault(Exception):  # noqa: N818 - what happened to a stream, not an error of ours
    """The response is not a usable answer. `kind` is machine-readable, the message is for a person."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(slots=True)
class Answer:
    """What one response said. Token counts come from its `usage`; None when it had none."""

    chunks: list[Chunk] = field(default_factory=list)
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    fault: StreamFault | None = None


def read_stream(arrivals: Sequence[Arrival]) -> Answer:
    """Parse a streamed answer.

    Args:
        arrivals: (seconds after the request start, bytes received then), in order.

    Returns:
        The answer so far; `fault` is set when the stream broke off, carried an error, or held nothing usable.
        Text received before a fault is kept.
    """
    answer = Answer()
    done = False
    try:
        for at_s, payload in _events(arrivals):
            if payload == b"[DONE]":
                done = True
                break
            _take_event(answer, at_s, _decode(payload))
        if not done and answer.finish_reason is None:
            _refuse_unfinished(arrivals)
        _refuse_empty(answer)
    except StreamFault as fault:
        answer.fault = fault
    return answer


def read_body(arrivals: Sequence[Arrival]) -> Answer:
    """Parse an answer that came in one piece (not streamed): its one chunk carries the time of the last byte."""
    answer = Answer()
    try:
        event = _decode(b"".join(piece for _, piece in arrivals))
        _take_event(answer, arrivals[-1][0] if arrivals else 0.0, event)
        _refuse_empty(answer)
    except StreamFault as fault:
        answer.fault = fault
    return answer


def _events(arrivals: Iterable[Arrival]) -> Iterator[Arrival]:
    """Cut the bytes into `data:` payloads; an event arrives when its line ends."""
    pieces: list[bytes] = []
    last_s = 0.0
    for at_s, received in arrivals:
        last_s = at_s
        *complete, rest = received.split(b"\n")
        for line in complete:
            pieces.append(line)
            yield from _payload(at_s, b"".join(pieces))
            pieces.clear()
        if rest:
            pieces.append(rest)
    if pieces:
        yield from _payload(last_s, b"".join(pieces))


def _payload(at_s: float, line: bytes) -> Iterator[Arrival]:
    if line.startswith(b"data:"):
        yield at_s, line[5:].strip()


def _decode(payload: bytes) -> dict[str, Any]:
    shown = payload[:80].decode("utf-8", "replace")
    if payload.lstrip()[:1] == b"<":
        raise StreamFault("not_json", f"The answer is a web page, not a completion: {shown!r}.")
    try:
        event = json.loads(payload.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise StreamFault("bad_utf8", f"The answer is not valid UTF-8 at byte {error.start}.") from error
    except (ValueError, RecursionError) as error:
        raise StreamFault("bad_json", f"The answer holds broken JSON: {shown!r}.") from error
    if not isinstance(event, dict):
        raise StreamFault("bad_json", f"The answer holds JSON that is no object: {shown!r}.")
    return event


def _take_event(answer: Answer, at_s: float, event: dict[str, Any]) -> None:
    if event.get("error"):
        raise StreamFault("server_error", f"The server reported: {error_message(event)}")
    _take_usage(answer, event.get("usage"))
    choices = event.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return
    choice = choices[0]
    said = choice.get("delta") or choice.get("message") or {}
    if isinstance(said, dict):
        _take_text(answer, at_s, "reasoning", said.get("reasoning_content") or said.get("reasoning"))
        _take_text(answer, at_s, "content", said.get("content"))
    if isinstance(choice.get("finish_reason"), str):
        answer.finish_reason = choice["finish_reason"]


def _take_text(answer: Answer, at_s: float, kind: ChunkKind, text: object) -> None:
    if isinstance(text, str) and text:
        answer.chunks.append(Chunk(at_s, kind, text))


def _take_usage(answer: Answer, usage: object) -> None:
    if not isinstance(usage, dict):
        return
    answer.prompt_tokens = _count(usage, "prompt_tokens")
    answer.completion_tokens = _count(usage, "completion_tokens")
    answer.reasoning_tokens = _count(usage.get("completion_tokens_details"), "reasoning_tokens")
    answer.cached_tokens = _count(usage.get("prompt_tokens_details"), "cached_tokens")


def _count(mapping: object, key: str) -> int | None:
    value = mapping.get(key) if isinstance(mapping, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def error_message(body: object, limit: int = 200) -> str:
    """The human part of an OpenAI-style error body, cut to `limit` characters."""
    message: object = body
    if isinstance(message, dict) and "error" in message:
        message = message["error"]
    if isinstance(message, dict):
        message = message.get("message") or message
    return " ".join(str(message).split())[:limit]


def _refuse_unfinished(arrivals: Sequence[Arrival]) -> None:
    head = b"".join(piece for _, piece in arrivals[:2])[:200].lstrip()
    if head[:1] == b"<":
        raise StreamFault(
            "not_json",
            f"The answer is a web page, not a stream: {head[:60].decode('utf-8', 'replace')!r}.",
        )
    raise StreamFault("cut_off", "The stream ended before the server said that it was finished.")


def _refuse_empty(answer: Answer) -> None:
    if not answer.chunks:
        raise StreamFault("empty_answer", "The answer holds no text.")
