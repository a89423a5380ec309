"""What is sent to a server: the body of a chat request, adapted once to what the server accepts.

Servers refuse optional parameters by HTTP 400 or 422 and name them. Such a parameter is renamed or dropped, for this
server and model, and said in the run; what the user set explicitly is never changed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

from workshop_lib.records import Request, RequestOptions

TOKENS_FIELDS = ("max_tokens", "max_completion_tokens")
OPTIONAL = ("stream_options", "temperature", "seed")
REFUSING = (400, 422)
LOADING = (429, 503)

_TOO_MUCH = re.compile(r"too (?:large|long|many|high)|exceed|at most|maximum|less than|greater than|context", re.I)
_UNSUPPORTED = re.compile(r"support|permit|allowed|recogni[sz]ed|unknown|unexpected|extra|deprecated|instead", re.I)
"""A complaint about the value of max_tokens, and one about its name."""


_TOO_LONG = tuple(
    re.compile(form.replace("N", r"(?P<needed>\d{1,9})").replace("M", r"(?P<room>\d{1,9})"), re.IGNORECASE)
    for form in (
        r"requires N total tokens .{0,99}maximum context length of M tokens",  # Foundry Local, adapters
        r"maximum context length is M tokens.{0,99}(?:requested|resulted in|contains) N",  # OpenAI, vLLM
        r"request \(N tokens\) exceeds the available context size \(M tokens\)",  # llama.cpp
        r"input_ids size \(N\).{0,99}exceeds max.length \(M\)",  # onnxruntime-genai, three forms
        r"sequence_length \(N\) is >= max_length \(M\)",
        r"max_length \(N\) cannot be greater than model context_length \(M\)",
        r"context_length_exceeded|maximum context length|exceeds the available context size",  # without numbers
    )
)
"""What servers say where prompt and answer are longer than the model's context: N tokens needed of M."""


def does_not_fit(said: str) -> str | None:
    """What a server's words mean where they say that the prompt is too long for the model, else None.

    >>> does_not_fit("request (9138 tokens) exceeds the available context size (8192 tokens), try increasing it")
    'Does not fit: 9 138 of 8 192 tokens.'
    """
    found = next(filter(None, (form.search(said) for form in _TOO_LONG)), None)
    if found is None:
        return None
    if not (numbers := found.groupdict()):
        return "Does not fit: more tokens than the model's context has."
    needed, room = (f"{int(numbers[name]):,}".replace(",", " ") for name in ("needed", "room"))
    return f"Does not fit: {needed} of {room} tokens."


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer with another status than success: its headers (lower-case names) and the start of its text."""

    status: int
    headers: Mapping[str, str]
    text: str

    def wait_s(self, now: float) -> float | None:
        """Seconds that the server asks to wait for before the request is repeated; None when it does not ask.

        Args:
            now: seconds since the epoch, for a `Retry-After` that is a date.
        """
        if self.status not in LOADING:
            return None
        said = self.headers.get("retry-after-ms", ""), self.headers.get("retry-after", "")
        for text, unit in zip(said, (0.001, 1.0), strict=True):
            if re.fullmatch(r"\s*\d+(\.\d*)?\s*", text):
                return float(text) * unit
        try:
            return max(0.0, parsedate_to_datetime(said[1]).timestamp() - now)
        except (TypeError, ValueError):
            return 1.0 if self.status == 503 and "loading" in self.text.lower() else None

    def names(self, parameter: str) -> bool:
        """Whether the text says that this parameter is the trouble."""
        try:
            body: object = json.loads(self.text)
        except ValueError:
            body = None
        words = {word for name in _named(body) for word in re.findall(r"\w+", name)} or re.findall(r"\w+", self.text)
        return parameter in words or _PARTS.get(parameter) in words


_PARTS = {"stream_options": "include_usage"}
"""What stands in an optional parameter; some servers name only that."""


def _named(body: object) -> list[str]:
    """The parameters that a body names in so many words: `param` (OpenAI), `loc` (FastAPI)."""
    if isinstance(body, list):
        return [name for item in body for name in _named(item)]
    if not isinstance(body, dict):
        return []
    place = body.get("loc")
    own = [str(body["param"])] if isinstance(body.get("param"), str) else []
    own += map(str, place) if isinstance(place, list) else []
    return own + [name for value in body.values() if isinstance(value, dict | list) for name in _named(value)]


@dataclass(slots=True)
class Adaptation:
    """What one server was found to want for one model.

    Attributes:
        options: what the user set explicitly.
        tokens_field: the name under which the limit of the answer is sent.
        dropped: optional parameters that are no longer sent.
    """

    options: RequestOptions
    tokens_field: str = TOKENS_FIELDS[0]
    dropped: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tokens_field = self.options.tokens_field or self.tokens_field

    def body(self, request: Request) -> dict[str, Any]:
        """The JSON body of a request; `extra_body` has the last word, a null in it removes a parameter."""
        body: dict[str, Any] = {
            "model": request.variant.served_as or request.variant.model_id,
            "messages": [{"role": "user", "content": request.text}],
            self.tokens_field: request.max_tokens,
            "temperature": request.temperature,
            "stream": request.stream,
        }
        if request.stream:
            body["stream_options"] = {"include_usage": True}
        if request.seed is not None:
            body["seed"] = request.seed
        body |= self.options.extra_body
        return {name: value for name, value in body.items() if value is not None and name not in self.dropped}

    def adapt(self, refusal: Refusal, sent: Mapping[str, Any]) -> bool:
        """Change what the refusal names of the body that was sent; False where nothing can be changed."""
        if refusal.status not in REFUSING:
            return False
        for name in OPTIONAL:
            if name in sent and name not in self.options.extra_body and refusal.names(name):
                self.dropped.append(name)
                return True
        old, new = TOKENS_FIELDS
        explicit = self.options.tokens_field or old in self.options.extra_body
        is_value = _TOO_MUCH.search(refusal.text) and not _UNSUPPORTED.search(refusal.text)
        if explicit or old not in sent or is_value or not (refusal.names(old) or refusal.names(new)):
            return False
        self.tokens_field = new
        return True

    @property
    def notes(self) -> tuple[str, ...]:
        """What was changed, one entry each, e.g. `temperature dropped`."""
        renamed = () if self.options.tokens_field or self.tokens_field == TOKENS_FIELDS[0] else (self.tokens_field,)
        changed = [f"{TOKENS_FIELDS[0]} sent as {name}" for name in renamed]
        return (*changed, *(f"{name} dropped" for name in self.dropped))
