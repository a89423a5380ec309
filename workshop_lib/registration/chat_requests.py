"""What a client may ask of a model of one's own: the JSON body of a chat → a checked `Question`.

Every fault is a `RequestFault`, which becomes an OpenAI error object with its HTTP status. Knows no adapter, no HTTP
library and no answer. pydantic is loaded by the first question only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from workshop_lib.registration.adapters import Chat, Message
from workshop_lib.show.text import one_line

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

MOST_STOPS = 4
_LENIENT: dict[str, object] = {"extra": "ignore", "strict": True, "allow_inf_nan": False}


class RequestFault(Exception):  # noqa: N818 - it is the client's fault, not the program's error
    """A question that cannot be answered, or an answer that failed.

    Attributes:
        status: of HTTP.
        message: one line for a person.
        param: the field it is about; None = the whole.
        code: machine-readable reason; None = none.
    """

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code

    def error_object(self) -> dict[str, Any]:
        """As OpenAI writes errors."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A checked question.

    Attributes:
        prompt: the messages.
        max_tokens: longest answer; None = the client leaves it open.
        temperature, top_p, seed: of sampling.
        stop: texts at which the answer ends, themselves left out.
        stream: whether the answer is sent in pieces.
        include_usage: whether a stream ends with its token counts.
    """

    prompt: Chat
    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stream: bool = False
    include_usage: bool = False


@dataclass(frozen=True, slots=True)
class _Part:
    type: Literal["text"]
    text: str


@dataclass(frozen=True, slots=True)
class _Message:
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[_Part]

    def plain(self) -> Message:
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return Message("system" if self.role == "developer" else self.role, text)


@dataclass(frozen=True, slots=True)
class _StreamOptions:
    include_usage: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Body:
    """The fields that count; every other is ignored, as servers do."""

    __pydantic_config__: ClassVar[dict[str, object]] = _LENIENT

    model: str
    messages: list[_Message]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    n: int | None = None
    logprobs: bool | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    tools: list[Any] | None = None
    response_format: Mapping[str, Any] | None = None


_FIELDS = {field.name for kind in (_Body, _Message, _Part, _StreamOptions) for field in fields(kind)}


def read_question(body: bytes, model_id: str) -> Question:
    """Check the body of a chat request. Raises `RequestFault`: 400 for a bad one, 404 for another model."""
    from pydantic import ValidationError

    try:
        asked = _reader().validate_json(body)
    except ValidationError as error:
        raise _fault_of(error) from None
    if asked.model != model_id:
        raise unknown_model(asked.model, model_id)
    stop = (asked.stop,) if isinstance(asked.stop, str) else tuple(asked.stop or ())
    for param, value, rule in _broken_rules(asked, stop):
        raise RequestFault(400, f"'{param}' is {one_line(repr(value), 60)}. {rule}", param=param)
    given = asked.max_tokens if asked.max_completion_tokens is None else asked.max_completion_tokens
    return Question(
        prompt=Chat(message.plain() for message in asked.messages),
        max_tokens=given,
        temperature=1.0 if asked.temperature is None else asked.temperature,
        top_p=1.0 if asked.top_p is None else asked.top_p,
        seed=asked.seed,
        stop=stop,
        stream=bool(asked.stream),
        include_usage=bool(asked.stream_options and asked.stream_options.include_usage),
    )


def unknown_model(asked: str, served: str) -> RequestFault:
    """The fault of a name that is not the served model's."""
    message = f"The model '{one_line(asked, 100)}' is not served here. Ask for '{served}'."
    return RequestFault(404, message, param="model", code="model_not_found")


def prepare() -> None:
    """Load what reading questions takes, so that the first one does not have to wait for it."""
    _reader()


@cache
def _reader() -> TypeAdapter[_Body]:
    from pydantic import TypeAdapter

    return TypeAdapter(_Body)


def _broken_rules(asked: _Body, stop: tuple[str, ...]) -> Iterator[tuple[str, Any, str]]:
    """What the types alone cannot say: the field, its value, the rule."""
    rules: list[tuple[str, Any, bool, str]] = [
        ("messages", asked.messages, bool(asked.messages), "Give at least one message."),
        ("max_tokens", asked.max_tokens, _is_none_or(asked.max_tokens, least=1), "Give 1 or more."),
        ("max_completion_tokens", asked.max_completion_tokens, _is_none_or(asked.max_completion_tokens, least=1),
         "Give 1 or more."),
        ("temperature", asked.temperature, _is_none_or(asked.temperature, least=0, most=2), "Give 0 to 2."),
        ("top_p", asked.top_p, asked.top_p is None or 0 < asked.top_p <= 1, "Give a number above 0, at most 1."),
        ("stop", stop, len(stop) <= MOST_STOPS and all(stop), f"Give up to {MOST_STOPS} texts, none empty."),
        ("n", asked.n, asked.n in {None, 1}, "One answer is given at a time."),
        ("logprobs", asked.logprobs, not asked.logprobs, "They are not known here."),
        ("presence_penalty", asked.presence_penalty, not asked.presence_penalty, "Leave it out: there is none."),
        ("frequency_penalty", asked.frequency_penalty, not asked.frequency_penalty, "Leave it out: there is none."),
        ("tools", asked.tools, not asked.tools, "Tools are not called here."),
        ("response_format", asked.response_format, (asked.response_format or {}).get("type", "text") == "text",
         "Answers are plain text."),
    ]  # fmt: skip
    for param, value, holds, rule in rules:
        if not holds:
            yield param, value, rule


def _is_none_or(value: float | None, *, least: float, most: float | None = None) -> bool:
    return value is None or (value >= least and (most is None or value <= most))


def _fault_of(error: ValidationError) -> RequestFault:
    """The first fault that pydantic found, in one line."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "json_invalid":
        return RequestFault(400, f"The body is not JSON: {first['ctx']['error']}.")
    parts = [part for part in first["loc"] if isinstance(part, int) or part in _FIELDS]
    param = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".")
    if first["type"].startswith("missing"):
        return RequestFault(400, f"'{param}' is missing.", param=param)
    seen = one_line(repr(first["input"]), 60)
    if not param:
        return RequestFault(400, f"The body is {seen}. {first['msg']}.")
    return RequestFault(400, f"'{param}' is {seen}. {first['msg']}.", param=param)
