"""The only HTTP to models: the openai client, with raw time stamps taken before anything is parsed.

Three decisions keep the instrument out of the numbers:

* Every request opens a fresh connection, and its clock starts just before the first request byte is written. A
  connection that was used before can wait 40 ms for a delayed acknowledgement, which would be charged to the model.
* While the answer arrives, bytes are stamped and stored; `streams` parses them after the end.
* The openai client never retries here: a repeated attempt is a request, and a record, of its own.

A `ChatClient` serves one request at a time; use one client per thread.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from workshop_lib import loopback
from workshop_lib.errors import ConfigurationError, EndpointError
from workshop_lib.metrics.streams import Arrival, StreamFault, error_message, read_body, read_stream
from workshop_lib.records import Completion, Request

if TYPE_CHECKING:
    import httpx2
    import openai

DEFAULT_TIMEOUT_S = 60.0
MAX_ANSWER_BYTES = 16_000_000
"""More than this is no chat answer; reading on would fill the memory."""

EVENTS_PER_TOKEN, EVENTS_BESIDES = 2, 100
"""A stream of more events than this, for the tokens that were asked for, ignores max_tokens and may never end."""

STALLED_EVENTS = 20
"""A stream may last this many time-outs in all; one that trickles for longer never says that it is done."""


@dataclass(slots=True)
class _Marks:
    """Moments of one exchange on the performance counter, in seconds, taken at the socket's own reads and writes."""

    called: float
    connecting: float | None = None
    sending: float | None = None
    last_read: float | None = None
    first_write_is_due: bool = False

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

        def stamped_read(*arguments: Any, **options: Any) -> bytes:
            received: bytes = read(*arguments, **options)
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


class ChatClient:
    """Asks one OpenAI-compatible endpoint and reports what happened, faults included.

    Args:
        base_url: ends in `/v1`, e.g. `http://127.0.0.1:5273/v1`.
        api_key: sent as bearer token; local servers need none.
        timeout_s: seconds without a byte before a request counts as stalled.
    """

    def __init__(self, base_url: str, *, api_key: str | None = None, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self.base_url = checked_base_url(base_url)
        self.timeout_s = timeout_s
        self._api_key = api_key
        self._marks = _Marks(called=0.0)
        self._client: openai.OpenAI | None = None

    def __enter__(self) -> ChatClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the client may be used again afterwards."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def prepare(self) -> None:
        """Build the client without sending anything, so that the first request does not have to."""
        self._connected()

    def list_models(self) -> tuple[str, ...]:
        """The ids that `/v1/models` names.

        Raises:
            EndpointError: no server, an HTTP error, or an answer that is no model list.
        """
        with self._faults() as faults:
            client = self._connected()
            self._marks = _Marks(called=time.perf_counter())
            page = client.with_raw_response.models.list()
            try:
                listed = [str(entry["id"]) for entry in page.http_response.json()["data"]]
            except (ValueError, LookupError, TypeError) as error:
                raise StreamFault("not_json", f"{self.base_url}/models does not answer with a model list.") from error
            return tuple(listed)
        raise EndpointError(str(faults[0]), _advice(faults[0], self.base_url))

    def list_loaded(self) -> tuple[str, ...] | None:
        """The ids that the server holds in memory, by Foundry Local's route `/models/loaded`, which is outside `/v1`.

        None where the server has no such route or answers anything else there: most servers load what they list.
        """
        import httpx2

        ids: object = None
        with self._faults(), suppress(ValueError):
            client = self._connected()
            self._marks = _Marks(called=time.perf_counter())
            answer = client.get(f"{self.base_url.removesuffix('/v1')}/models/loaded", cast_to=httpx2.Response)
            ids = answer.json()
        return tuple(ids) if isinstance(ids, list) and all(isinstance(each, str) for each in ids) else None

    def ask(self, request: Request, *, arrivals: list[Arrival] | None = None) -> Completion:
        """Send one request and wait for its end. Never raises for a fault of the server: the record carries it.

        Args:
            request: what to send.
            arrivals: an empty list to fill with the stamped bytes. Another thread may look at it while it grows; the
                one that asks does the same with and without it.
        """
        started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        arrivals = [] if arrivals is None else arrivals
        streamed, end_s = request.stream, None
        with self._faults() as faults:
            streamed, end = self._exchange(request, arrivals)
            end_s = end - self._marks.start
        answer = read_stream(arrivals) if streamed else read_body(arrivals)
        if faults:
            answer.fault = faults[0]
        return Completion(
            request_id=request.request_id,
            alias=request.variant.alias,
            model_id=request.variant.model_id,
            device=request.variant.device,
            prompt_id=request.prompt_id,
            round=request.round,
            started_at=started_at,
            attempt=request.attempt,
            prompt_sha256=sha256(request.text.encode("utf-8")).hexdigest(),
            connect_s=self._marks.connect_s,
            chunks=tuple(answer.chunks),
            end_s=end_s,
            streamed=streamed,
            finish_reason=answer.finish_reason,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
            reasoning_tokens=answer.reasoning_tokens,
            cached_tokens=answer.cached_tokens,
            temperature=request.temperature,
            max_tokens=request.max_tokens,
            error=str(answer.fault) if answer.fault else None,
            error_kind=answer.fault.kind if answer.fault else None,
        )

    def _exchange(self, request: Request, arrivals: list[Arrival]) -> tuple[bool, float]:
        """Fill `arrivals`; return whether the answer is an event stream, and the performance counter at its end."""
        options: dict[str, Any] = {"stream_options": {"include_usage": True}} if request.stream else {}
        if request.seed is not None:
            options["seed"] = request.seed
        create = self._connected().chat.completions.with_streaming_response.create
        self._marks = marks = _Marks(called=time.perf_counter())
        with create(
            model=request.variant.model_id,
            messages=[{"role": "user", "content": request.text}],
            max_tokens=request.max_tokens,
            temperature=request.temperature,
            stream=request.stream,
            **options,
        ) as response:
            most_events = EVENTS_PER_TOKEN * request.max_tokens + EVENTS_BESIDES
            self._stamp(response.http_response.iter_bytes(), marks, arrivals, most_events)
            kind = response.headers.get("content-type", "")
            return "event-stream" in kind, time.perf_counter()

    def _stamp(self, pieces: Iterator[bytes], marks: _Marks, arrivals: list[Arrival], most_events: int) -> None:
        start, received, events, last_data_s = marks.start, 0, 0, 0.0
        for piece in pieces:
            at_s = marks.arrived() - start
            arrivals.append((at_s, piece))
            received += len(piece)
            if b"data:" in piece:
                last_data_s = at_s
                events += piece.count(b"data:")
            if at_s - last_data_s > self.timeout_s or at_s > STALLED_EVENTS * self.timeout_s:
                raise StreamFault("stalled", f"The stream sent nothing of use for {self.timeout_s:g} s.")
            if events > most_events:
                raise StreamFault("endless", "The answer went on and on after max_tokens.")
            if received > MAX_ANSWER_BYTES:
                raise StreamFault("too_large", f"The answer exceeds {MAX_ANSWER_BYTES // 1_000_000} MB.")
            if piece.endswith((b"data: [DONE]\n\n", b"data: [DONE]\r\n\r\n")):
                return

    @contextmanager
    def _faults(self) -> Iterator[list[StreamFault]]:
        """Collect the fault of the exchange inside, if any, translated from the libraries' exceptions."""
        import httpx2
        import openai

        faults: list[StreamFault] = []
        try:
            yield faults
        except StreamFault as fault:
            faults.append(fault)
        except openai.APIStatusError as error:
            faults.append(_status_fault(error))
        except (openai.APITimeoutError, httpx2.TimeoutException) as error:
            faults.append(self._timeout_fault(error))
        except openai.APIConnectionError as error:
            faults.append(self._connection_fault(error))
        except (httpx2.HTTPError, httpx2.StreamError, openai.OpenAIError) as error:
            faults.append(
                StreamFault(
                    "reset",
                    f"The connection broke: {error_message(error) or type(error).__name__}.",
                )
            )

    def _timeout_fault(self, error: Exception) -> StreamFault:
        cause = error.__cause__ or error
        if "Connect" in type(cause).__name__:
            return StreamFault("no_server", f"No server answered at {self.base_url} within {self.timeout_s:g} s.")
        return StreamFault("stalled", f"The server sent no byte for {self.timeout_s:g} s.")

    def _connection_fault(self, error: Exception) -> StreamFault:
        if "Connect" in type(error.__cause__).__name__:
            return StreamFault("no_server", f"No server listens at {self.base_url}.")
        return StreamFault("reset", f"The server closed the connection: {error_message(error.__cause__)}.")

    def _connected(self) -> openai.OpenAI:
        if self._client is None:
            import httpx2
            import openai

            self._client = openai.OpenAI(
                base_url=self.base_url,
                api_key=self._api_key or "not-needed",
                max_retries=0,
                http_client=httpx2.Client(
                    timeout=httpx2.Timeout(self.timeout_s, connect=min(10.0, self.timeout_s)),
                    limits=httpx2.Limits(max_keepalive_connections=0),
                    headers={"Accept-Encoding": "identity"},
                    trust_env=not is_loopback(self.base_url),
                    event_hooks={"request": [self._trace]},
                ),
            )
        return self._client

    def _trace(self, request: httpx2.Request) -> None:
        request.extensions["trace"] = self._marks.observe


def checked_base_url(base_url: str) -> str:
    """The URL without a trailing slash.

    Raises:
        ConfigurationError: not an http(s) URL with a host, or one that carries a user name or password.
    """
    parts = urlsplit(base_url.strip())
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigurationError(
            f"The endpoint {base_url!r} is no http(s) URL.",
            "Give one like http://127.0.0.1:5273/v1.",
        )
    if parts.username or parts.password:
        raise ConfigurationError(
            "The endpoint URL carries a user name or password.", "Pass the key as API_KEY instead."
        )
    return base_url.strip().rstrip("/")


def is_loopback(base_url: str) -> bool:
    """True when the URL's host is this machine, so that no proxy may stand between."""
    return loopback.is_loopback(urlsplit(base_url).hostname or "")


_WEB_PAGE = "(a web page; is a proxy in between?)"


def _status_fault(error: openai.APIStatusError) -> StreamFault:
    said = error_message(error.body if error.body is not None else error.message)
    if said.lstrip().startswith("<"):
        said = _WEB_PAGE
    return StreamFault(f"http_{error.status_code}", f"The server answered HTTP {error.status_code}: {said}")


def _advice(fault: StreamFault, base_url: str) -> str:
    port = urlsplit(base_url).port
    if fault.kind == "no_server":
        return (
            f"Start the server or correct the address (port {port}?): `foundry server status` (CLI 0.10 and later) or "
            "`foundry service status` (until 0.9) prints the right one."
        )
    if fault.kind in {"not_json", "http_404"} or _WEB_PAGE in str(fault):
        return (
            "Check that FOUNDRY_LOCAL_ENDPOINT ends in /v1, has the right port, and that no proxy answers instead "
            "(NO_PROXY names the hosts to reach without one)."
        )
    if fault.kind in {"http_401", "http_403"}:
        return "Set API_KEY to a key that this server accepts."
    return "Check the server's log, then try again."
