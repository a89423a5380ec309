"""The only HTTP to models: raw time stamps, taken before anything is parsed.

Four decisions keep the instrument out of the numbers:

* Every request opens a fresh connection, and its clock starts just before the first request byte is written. A
  connection that was used before can wait 40 ms for a delayed acknowledgement, which would be charged to the model.
* While the answer arrives, bytes are stamped and stored; `streams` parses them after the end.
* Nothing is retried inside a timing: a request that is sent again has a clock of its own.
* Silence is limited (`timeout_s`), duration is not. After the server has said that the answer is finished, what may
  still come is waited for `GRACE_S` at most.

A `ChatClient` serves one request at a time; use one client per thread.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urljoin

from workshop_lib import connections, credentials
from workshop_lib.addresses import Address, parse_address
from workshop_lib.errors import ConfigurationError, EndpointError
from workshop_lib.records import DOES_NOT_FIT, Chunk, Completion, Request, RequestOptions
from workshop_lib.request_bodies import Adaptation, Refusal, does_not_fit
from workshop_lib.settings import ENDPOINT_VARIABLE, request_options
from workshop_lib.streams import Answer, Arrival, EndWatch, StreamFault, error_message, read_answer

if TYPE_CHECKING:
    import httpx2

DEFAULT_TIMEOUT_S = 60.0
GRACE_S = 0.5
"""How long usage and `[DONE]` are waited for after the finish reason."""

LONGEST_KEEP_ALIVE_S = 600.0
"""A server may say that it is alive, and nothing else, for so long."""

SHORTEST_WAIT_S, LONGEST_WAIT_S = 0.1, 300.0
"""How long a server that is loading may have a request wait: at a time, and in all."""

MAX_ANSWER_BYTES = 16_000_000
MAX_REFUSAL_BYTES = 65_536
"""More than this is no chat answer, or no error; reading on would fill the memory."""

EVENTS_PER_TOKEN, EVENTS_BESIDES = 50, 200
"""A stream of more events than this, for the tokens that were asked for, ignores max_tokens and may never end."""

MOST_REDIRECTS = 3
MISUNDERSTOOD = (400, 426, 497)
"""How servers of https answer to http, unless they close the connection."""

_OF_THE_CONNECTION = {"cut_off", "bad_json", "empty_answer"}
"""Faults of an answer that a broken connection explains better."""

_adaptations: dict[tuple[str, str], Adaptation] = {}
"""What servers were found to want, by address and model: each is asked once."""


@dataclass(slots=True)
class _Marks:
    """Moments of one exchange on the performance counter, in seconds, taken at the socket's own reads and writes."""

    started_at: str = ""  # on the wall clock
    called: float = 0.0
    connecting: float | None = None
    sending: float | None = None
    last_read: float | None = None
    first_write_is_due: bool = False
    ends_at: float | None = None

    def observe(self, event: str, details: Mapping[str, Any]) -> None:
        """Receive the transport's trace events; the names are httpcore's."""
        if event.endswith("connect_tcp.started"):
            self.connecting = time.perf_counter()
        elif event.endswith(("connect_tcp.complete", "start_tls.complete")):
            self._watch(details["return_value"])
        elif event.endswith("send_request_headers.started"):
            self.sending, self.first_write_is_due = time.perf_counter(), True

    def _watch(self, stream: Any) -> None:
        """Stamp each read right after, and the request's first write right before, the system call."""
        read, write = stream.read, stream.write

        def stamped_read(max_bytes: int, timeout: float | None = None) -> bytes:
            if self.ends_at is not None:
                timeout = max(0.001, min(timeout or GRACE_S, self.ends_at - time.perf_counter()))
            received: bytes = read(max_bytes, timeout=timeout)
            self.last_read = time.perf_counter()
            return received

        def stamped_write(*arguments: Any, **options: Any) -> None:
            if self.first_write_is_due:
                self.sending, self.first_write_is_due = time.perf_counter(), False
            write(*arguments, **options)

        stream.read, stream.write = stamped_read, stamped_write

    def arrived(self) -> float:
        """When the bytes at hand came off the network."""
        return time.perf_counter() if self.last_read is None else self.last_read

    @property
    def start(self) -> float:
        return self.called if self.sending is None else self.sending

    @property
    def connect_s(self) -> float | None:
        if self.connecting is None or self.sending is None:
            return None
        return self.sending - self.connecting


@dataclass(slots=True)
class _Limits:
    """What no answer exceeds. Raises `StreamFault` for one that does."""

    most_events: int
    received: int = 0
    events: int = 0
    last_data_s: float = 0.0

    def check(self, at_s: float, piece: bytes) -> None:
        """Count a piece; comments are signs of life, anything else is an answer."""
        self.received += len(piece)
        if not _SAYS_NOTHING.fullmatch(piece):
            self.last_data_s = at_s
            self.events += piece.count(b"data:")
        if self.received > MAX_ANSWER_BYTES:
            raise StreamFault("too_large", f"The answer exceeds {MAX_ANSWER_BYTES // 1_000_000} MB.")
        if self.events > self.most_events:
            raise StreamFault("endless", "The answer went on and on after max_tokens.")
        if at_s - self.last_data_s > LONGEST_KEEP_ALIVE_S:
            raise StreamFault("stalled", f"For {LONGEST_KEEP_ALIVE_S:g} s the server only said that it is alive.")


class _Refused(StreamFault):
    """An answer with another status than success."""

    def __init__(self, kind: str, message: str, refusal: Refusal) -> None:
        super().__init__(kind, message)
        self.refusal = refusal


class Reachable(Protocol):
    """A served model, as far as the client needs it."""

    @property
    def base_url(self) -> str:
        """Its address."""

    @property
    def api_key(self) -> str | None:
        """The key that it asks for."""


class ChatClient:
    """Asks one OpenAI-compatible endpoint and reports what happened, faults included.

    Args:
        base_url: the address of the server, e.g. `http://127.0.0.1:5273/v1`.
        api_key: what the server asks for; local servers need none.
        timeout_s: seconds without a byte before a request counts as stalled.
        options: what is set explicitly for its requests.
        on_wait: called with the seconds of each pause that the server asked for, before the pause.

    Raises:
        ConfigurationError: the address is none.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        options: RequestOptions | None = None,
        on_wait: Callable[[float], None] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.address = parse_address(base_url)
        self.timeout_s = timeout_s
        self.options = options or RequestOptions()
        self.waited_s = 0.0
        self._api_key = api_key
        self._on_wait = on_wait
        self._sleep = sleep
        self._marks = _Marks()
        self._http: httpx2.Client | None = None
        credentials.remember(api_key)

    @classmethod
    def to(cls, model: Reachable, *, options: RequestOptions | None = None, **others: Any) -> ChatClient:
        """The client of a served model. Without `options`, those of the environment, where they are meant for it."""
        if options is None:
            here = os.environ.get(ENDPOINT_VARIABLE, "").strip()
            if not here or parse_address(here).origin == parse_address(model.base_url).origin:
                options = request_options(os.environ)
        return cls(model.base_url, api_key=model.api_key, options=options, **others)

    def __enter__(self) -> ChatClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the client may be used again afterwards."""
        if self._http is not None:
            self._http.close()
            self._http = None

    def prepare(self) -> None:
        """Build the HTTP client without sending anything, so that the first request does not have to."""
        self._client()

    def list_models(self) -> tuple[str, ...]:
        """The ids that `/models` names.

        Raises:
            EndpointError: as `list_entries`.
        """
        return tuple(entry["id"] for entry in self.list_entries())

    def list_entries(self) -> tuple[dict[str, Any], ...]:
        """What `/models` says of each model, at least its `id`.

        Raises:
            EndpointError: no server, an HTTP error, or an answer that is no model list; `kind` says which.
        """
        try:
            return _model_list(self._get("/models"), self.address)
        except StreamFault as fault:
            raise EndpointError(str(fault), connections.advice(fault, self.address), kind=fault.kind) from None

    def list_loaded(self) -> tuple[str, ...] | None:
        """The ids that the server holds in memory, by Foundry Local's route `/models/loaded`, which is outside `/v1`.

        None where the server has no such route or answers anything else there: most servers load what they list.
        """
        outside = replace(self.address, path=self.address.path.removesuffix("/v1"))
        ids: object = None
        with suppress(StreamFault):
            ids = self._get("/models/loaded", at=outside)
        return tuple(ids) if isinstance(ids, list) and all(isinstance(each, str) for each in ids) else None

    def ask(self, request: Request, *, arrivals: list[Arrival] | None = None) -> Completion:
        """Send one request and wait for its end. Never raises for a fault of the server: the record carries it.

        A request that is refused for an optional parameter is sent again without it, and one that the server asks to
        wait with is sent again after the wait; each time with a new clock.

        Args:
            request: what to send.
            arrivals: an empty list to fill with the stamped bytes. Another thread may look at it while it grows; the
                one that asks does the same with and without it.

        Raises:
            ConfigurationError: a proxy or certificate file of the environment cannot be used.
        """
        arrivals = [] if arrivals is None else arrivals
        adaptation = self._adaptation(request)
        while True:
            body = adaptation.body(request)
            answer, end_s = self._ask_once(body, request.max_tokens, arrivals)
            refusal = answer.fault.refusal if isinstance(answer.fault, _Refused) else None
            if refusal is None or not adaptation.adapt(refusal, body):
                break
        words = refusal.text if refusal else str(answer.fault or "")
        if not answer.chunks and (said := does_not_fit(words)):
            answer.fault = StreamFault(DOES_NOT_FIT, said)
        return self._completion(request, body, answer, end_s)

    def request_notes(self, request: Request) -> tuple[str, ...]:
        """What was changed in requests like this one, and how long the server had them wait."""
        waited = (f"waited {self.waited_s:.3g} s at the server's request",) if self.waited_s else ()
        return (*self._adaptation(request).notes, *waited)

    def _adaptation(self, request: Request) -> Adaptation:
        key = self.address.url(), request.variant.model_id
        known = _adaptations.get(key)
        if known is None or known.options != self.options:
            known = _adaptations[key] = Adaptation(self.options)
        return known

    def _waited(self, refusal: Refusal, before_s: float) -> float:
        """Wait as the refusal asks, and return for how long. Raises `_Refused` where it does not, or not in time."""
        asked_s = refusal.wait_s(time.time())
        if asked_s is None or before_s + (wait_s := max(asked_s, SHORTEST_WAIT_S)) > LONGEST_WAIT_S:
            raise self._refused(refusal)
        self.waited_s += wait_s
        if self._on_wait is not None:
            self._on_wait(wait_s)
        self._sleep(wait_s)
        return wait_s

    def _ask_once(
        self, body: Mapping[str, Any], max_tokens: int, arrivals: list[Arrival]
    ) -> tuple[Answer, float | None]:
        """One exchange: the answer, its fault included, and when it ended, in seconds after its start."""
        fault, end_s = None, None
        content = json.dumps(body).encode("ascii")  # which holds any text, halves of surrogate pairs included
        try:
            with self._open("POST", "/chat/completions", content) as response:
                self._stamp(response, self._marks, arrivals, max_tokens)
            end_s = time.perf_counter() - self._marks.start
        except StreamFault as caught:
            fault = caught
            end_s = time.perf_counter() - self._marks.start if isinstance(caught, _Refused) else None
        answer = read_answer(arrivals)
        if fault is not None:
            said = answer.fault.kind if answer.fault else ""
            if said in _OF_THE_CONNECTION or not arrivals or fault.kind in {"too_large", "endless"}:
                answer.fault = fault
            else:  # the answer had ended, well or badly, before the connection did
                end_s = arrivals[-1][0]
        return answer, end_s

    @contextmanager
    def _open(
        self, method: str, route: str, content: bytes | None = None, *, at: Address | None = None
    ) -> Iterator[httpx2.Response]:
        """A successful response, redirects followed unless it is asked `at` another address, and pauses made.

        Raises:
            StreamFault: there is none; a refusal is `_Refused`.
        """
        import httpx2

        timeout = httpx2.Timeout(self.timeout_s, connect=min(10.0, self.timeout_s))
        headers = self._headers() | ({} if content is None else {"Content-Type": "application/json"})
        waited_s, redirects = 0.0, 0
        while redirects <= MOST_REDIRECTS:
            try:
                url, client = (at or self.address).url(route), self._client()
                self._marks = _Marks(datetime.now(UTC).isoformat(timespec="milliseconds"), time.perf_counter())
                with client.stream(method, url, content=content, headers=headers, timeout=timeout) as response:
                    if response.is_success:
                        yield response
                        return
                    location = None if at else response.headers.get("location")
                    refusal = _refusal(response, b"" if location else self._head(response, MAX_REFUSAL_BYTES))
            except (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL) as error:
                raise connections.explain(error, self.address, self.timeout_s) from None
            if location:
                self._move(location, route)
                redirects += 1
            else:
                waited_s += self._waited(refusal, waited_s)
        raise StreamFault("redirect", f"{self.address.shown} redirects in circles.")

    def _stamp(self, response: httpx2.Response, marks: _Marks, arrivals: list[Arrival], max_tokens: int) -> None:
        """Take in the pieces as they come, until the answer is done or its grace is over."""
        encoding = response.headers.get("content-encoding", "identity").lower()
        if encoding not in {"identity", "gzip", "deflate"}:  # some gateways compress although nobody asked for it
            why = f"The answer is compressed ({encoding[:20]}), which was not asked for."
            raise StreamFault("not_json", why)
        start, watch, limits = marks.start, EndWatch(), _Limits(EVENTS_PER_TOKEN * max_tokens + EVENTS_BESIDES)
        for piece in response.iter_bytes():
            at_s = marks.arrived() - start
            arrivals.append((at_s, piece))
            limits.check(at_s, piece)
            state = watch.feed(piece)
            if state == "done" or (marks.ends_at is not None and start + at_s >= marks.ends_at):
                return
            if state == "open":  # also after text that followed a finish reason: that reason was none
                marks.ends_at = None
            elif marks.ends_at is None:
                marks.ends_at = start + at_s + GRACE_S

    def _completion(self, request: Request, body: Mapping[str, Any], answer: Answer, end_s: float | None) -> Completion:
        return Completion(
            request_id=request.request_id,
            alias=request.variant.alias,
            model_id=request.variant.model_id,
            device=request.variant.device,
            prompt_id=request.prompt_id,
            round=request.round,
            started_at=self._marks.started_at,
            attempt=request.attempt,
            prompt_sha256=sha256(request.text.encode("utf-8", "surrogatepass")).hexdigest(),
            connect_s=self._marks.connect_s,
            chunks=without_keys(answer.chunks),
            end_s=end_s,
            streamed=answer.streamed,
            finish_reason=credentials.redact(answer.finish_reason) if answer.finish_reason else None,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
            reasoning_tokens=answer.reasoning_tokens,
            cached_tokens=answer.cached_tokens,
            temperature=body.get("temperature"),
            max_tokens=request.max_tokens,
            error=self._said(answer.fault) if answer.fault else None,
            error_kind=answer.fault.kind if answer.fault else None,
        )

    def _said(self, fault: StreamFault) -> str:
        """The fault, and what to do where a setting mends it: a row's reason is all that some people see."""
        mended = fault.kind in {"tls", "proxy", "redirect", "http_407"}
        return credentials.redact(f"{fault} {connections.advice(fault, self.address)}" if mended else str(fault))

    def _refused(self, refusal: Refusal) -> StreamFault:
        body: object = refusal.text
        with suppress(ValueError):
            body = json.loads(refusal.text)
        may_be_tls = self.address.scheme == "http" and body is refusal.text and refusal.status in MISUNDERSTOOD
        if may_be_tls and ("https" in refusal.text.lower() or connections.speaks_tls(self.address)):
            return _Refused("tls", str(connections.wants_https(self.address)), refusal)
        said = error_message(body) or "(without a reason)"
        if refusal.text.lstrip().startswith("<"):
            said = connections.WEB_PAGE
        return _Refused(f"http_{refusal.status}", f"The server answered HTTP {refusal.status}: {said}", refusal)

    def _get(self, route: str, *, at: Address | None = None) -> object:
        """The JSON that a route answers with, None for anything else. Raises `StreamFault`."""
        with self._open("GET", route, at=at) as response, suppress(ValueError, RecursionError):
            return json.loads(self._head(response, MAX_ANSWER_BYTES))
        return None

    def _move(self, location: str, route: str) -> None:
        """Go to where the server redirects, if that is the same host and no less secure.

        Raises:
            StreamFault: it is another one, or no address of this route.
        """
        try:
            target = urljoin(self.address.url(route), location)
            moved = parse_address(target)
        except (ConfigurationError, ValueError):
            raise StreamFault("redirect", f"{self.address.shown} redirects to what is no address.") from None
        if moved.host != self.address.host or (self.address.scheme, moved.scheme) == ("https", "http"):
            raise StreamFault("redirect", f"{self.address.shown} redirects to {moved.shown}: set that as the endpoint.")
        if not target.partition("?")[0].rstrip("/").endswith(route):
            raise StreamFault("redirect", f"{self.address.shown} redirects to {moved.shown}, which is no such route.")
        self.close()
        slash = "/" if target.partition("?")[0].endswith("/") else ""
        self.address = replace(moved, query=moved.query or self.address.query, slash=slash)

    def _head(self, response: httpx2.Response, limit: int) -> bytes:
        """The first bytes of an answer that is no stream: a server that does not end it holds nobody up."""
        kept, ends_at = b"", time.perf_counter() + self.timeout_s
        for piece in response.iter_bytes():
            kept += piece
            if len(kept) >= limit or time.perf_counter() > ends_at:
                break
        return kept[:limit]

    def _headers(self) -> dict[str, str]:
        """The key, as the server wants it: Azure's deployments have a header of their own."""
        if not self._api_key:
            return {}
        if "/deployments/" in self.address.path:
            return {"api-key": self._api_key}
        return {"Authorization": f"Bearer {self._api_key}"}

    def _client(self) -> httpx2.Client:
        if self._http is None:
            self._http = connections.open_http(self.address, self._trace)
        return self._http

    def _trace(self, request: httpx2.Request) -> None:
        request.extensions["trace"] = self._marks.observe


def without_keys(chunks: Sequence[Chunk]) -> tuple[Chunk, ...]:
    """The chunks without a key that the model or the server said, piece by piece or whole."""
    texts = credentials.cut_from_texts([chunk.text for chunk in chunks])
    return tuple(
        chunk if text == chunk.text else Chunk(chunk.at_s, chunk.kind, text)
        for chunk, text in zip(chunks, texts, strict=True)
        if text
    )


def _model_list(listed: object, address: Address) -> tuple[dict[str, Any], ...]:
    """The entries of a model list in the shapes that servers give it, each with an `id`."""
    if isinstance(listed, dict) and listed.get("error"):
        raise StreamFault("server_error", f"The server reported: {error_message(listed)}")
    while isinstance(listed, dict):
        listed = next((listed[key] or [] for key in ("data", "models", "result") if key in listed), None)
    if not isinstance(listed, list):
        raise StreamFault("not_json", f"{address.shown}/models does not answer with a model list.")
    found: dict[str, dict[str, Any]] = {}
    for entry in listed:
        known = entry if isinstance(entry, dict) else {"id": entry}
        names = filter(None, (known.get(key) for key in ("id", "name", "model", "model_name")))
        if name := next((each for each in names if isinstance(each, str)), ""):
            found.setdefault(name, {**known, "id": credentials.redact(name)})
    return tuple(found.values())


def _refusal(response: httpx2.Response, body: bytes) -> Refusal:
    headers = {name.lower(): value for name, value in response.headers.items()}
    text = body[:MAX_REFUSAL_BYTES].decode("utf-8", "replace")
    return Refusal(response.status_code, headers, credentials.redact(text))


_SAYS_NOTHING = re.compile(
    rb"(?:\s|(?:event|id|retry)?:[^\r\n]*+"
    rb'|data:[ \t]*+(?:\{\}|null|ping|\{"type": ?"(?:ping|heartbeat)"\})?[ \t]*+(?=[\r\n]|$))*+'
)
"""Blank lines, comments and pings, in every form; a server that says nothing else is not at work for ever."""
