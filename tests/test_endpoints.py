"""Endpoints as users have them, over real connections: what a server does, and what is said of it.

How bytes become answers is for tests/test_streams.py, how bodies follow refusals for tests/test_request_bodies.py. Here
is what needs a connection: ends, silence, waiting, keys, lists, redirects, TLS and proxies. Upper bounds of times are
far above what a busy machine takes, and below what the fault would.
"""

from __future__ import annotations

import json
import socket
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.behaviours import BEHAVIOURS, SITES, STEADY, busy, fails, openai_error, picky, quick, speaks
from tests.fault_server import CERTIFICATE, FaultServer, fault_server, free_port
from tests.fault_steps import (
    ANSWER,
    CHUNKED,
    DONE,
    OPEN,
    Behaviour,
    Exchange,
    Refusal,
    Step,
    chunk,
    cut,
    finish,
    hold,
    listed,
    opened,
    page,
    pings,
    redirect,
    refuse,
    reply,
    reset,
    said,
    say,
    tokens,
    usage,
    whole,
)
from tests.measurement_helpers import request
from tests.scripts import FULL, run
from workshop_lib import credentials, timing
from workshop_lib.client import GRACE_S, ChatClient
from workshop_lib.errors import ConfigurationError, EndpointError, ModelNotFoundError, WorkshopError
from workshop_lib.race import LiveAnswer
from workshop_lib.records import Request, RequestOptions
from workshop_lib.runtimes.endpoint import EndpointRuntime

SAID = said(16)
KEY = "sk-T0p/Secret+9&x"


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    with fault_server() as url:
        yield url


@pytest.fixture(autouse=True)
def no_proxy_and_no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


# -- answers


def gzipped(exchange: Exchange) -> None:
    """A gateway that compresses though nobody asked, each event at its time."""
    real, packed = exchange.connection, zlib.compressobj(wbits=31)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n"
    real.sendall(head)

    class Packing:
        def sendall(self, data: bytes) -> None:
            real.sendall(packed.compress(data) + packed.flush(zlib.Z_SYNC_FLUSH))

    exchange.connection = Packing()  # type: ignore[assignment]
    exchange.run(ANSWER[1:])
    exchange.connection = real
    real.sendall(packed.flush())


ANSWERED: dict[str, Behaviour] = {
    "no-done-open": quick(OPEN, tokens, finish, usage, hold),
    "no-done-pings": quick(OPEN, tokens, finish, usage, pings(0.05)),
    "no-done-late-usage": quick(OPEN, tokens, finish, 0.1, usage, hold),
    "done-open": quick(*ANSWER, hold),
    "done-pings": quick(*ANSWER, pings(0.05)),
    "done-in-two": quick(OPEN, tokens, finish, usage, b"data: [DO", 0.05, b"NE]\n\n", hold),
    "done-then-reset": quick(*ANSWER, reset),
    "chunked": quick(CHUNKED, *ANSWER[1:]),
    "chunked-cut-after-reason": quick(CHUNKED, tokens, finish, usage, cut),
    "no-type": quick(opened(None), *ANSWER[1:]),
    "other-type": quick(opened("Text/PLAIN; Charset=utf-8"), *ANSWER[1:]),
    "bytes-apart": quick(packet=7, words=(" für", " モデル", " 🙂", " ½")),
    "pings-first": quick(OPEN, pings(0.1, 1.4), *ANSWER[1:], first_token_s=1.5),
    "longer-than-the-time-out": quick(first_token_s=0.15, pace_s=0.1),
    "gzip": quick(gzipped),
    "early-hints": quick(b"HTTP/1.1 103 Early Hints\r\n\r\n", *ANSWER),
}


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    with FaultServer({**ANSWERED, **{case.name: case.does for case in FAILED}}) as running:
        yield running


@pytest.mark.parametrize("name", ANSWERED)
def test_a_complete_answer_is_read_right_and_ends_when_the_server_has_said_so(server: FaultServer, name: str):
    """Text, count and end are the server's; no first token comes before its time. Waiting on takes 30 s more."""
    does, started = ANSWERED[name], time.monotonic()
    with ChatClient(server.base_url, timeout_s=1.2 if "time-out" in name or "pings-f" in name else 30.0) as chat:
        answer = chat.ask(request(name))
    assert time.monotonic() - started < 20
    assert (answer.error, answer.text, answer.finish_reason) == (None, does.text(0, 16), "stop")
    assert timing.completion_tokens(answer) == (16, "usage")
    assert (timing.first_token_s(answer) or 0) >= does.first_token_s - 0.0005


def test_one_letter_per_event_is_not_called_endless():
    """480 events for the 120 tokens that were asked for."""
    letters = [say(chunk({"content": letter})) for letter in " abc" * 120]
    with FaultServer({"x": quick(OPEN, *letters, finish, DONE)}) as server, ChatClient(server.base_url) as chat:
        answer = chat.ask(request("x", max_tokens=120))
    assert (answer.error, answer.text) == (None, " abc" * 120)


def test_an_answer_in_one_piece_has_a_latency_only(base_url: str):
    """Without streaming, and from a server that does not stream though it was asked to: 40 tokens end after 440 ms."""
    with FaultServer({"whole": quick(whole)}) as server, ChatClient(server.base_url) as chat:
        assert not chat.ask(request("whole")).streamed
    with ChatClient(base_url) as chat:
        answer = chat.ask(request("steady", stream=False))
    assert (answer.text, answer.streamed, timing.first_token_s(answer)) == (said(40), False, None)
    assert (timing.latency_s(answer) or 0) >= 0.440
    assert timing.completion_tokens(answer) == (40, "usage")


def test_a_stream_for_one_piece_is_read(base_url: str):
    """A server that streams though nobody asked: told by the first bytes, not by the request."""
    with ChatClient(base_url, options=RequestOptions(extra_body={"stream": True})) as chat:
        answer = chat.ask(request("steady", stream=False))
    assert (answer.error_kind, answer.streamed) == (None, True)


# -- failures


@dataclass(frozen=True)
class Failed:
    """A failed answer: what the server does, the kind, words that the reason has, and how the kept text begins."""

    name: str
    kind: str
    words: str = ""
    text: str = ""
    behaviour: Behaviour | None = None

    @property
    def does(self) -> Behaviour:
        return self.behaviour or BEHAVIOURS[self.name]


COMPRESSED = b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 9\r\n\r\n\x0b\x02\x80hello\x03"
NO_STREAMING = Refusal(("stream",), 400, lambda _: openai_error("streaming is not supported", "stream"))
FAILED = [
    Failed("http-429", "http_429", "HTTP 429"),
    Failed("http-500", "http_500", "HTTP 500"),
    Failed("proxy-page", "not_json", "web page"),
    Failed("stall-before", "stalled", "no byte for 0.5 s"),
    Failed("stall-middle", "stalled", "no byte for 0.5 s", " half"),
    Failed("reset", "reset", "connection", " half"),
    Failed("long-line", "too_large", "exceeds 16 MB", " half"),
    Failed("empty", "empty_answer", "no text"),
    Failed("never-done", "stalled", "only said that it is alive", " half"),
    Failed("cut-off", "cut_off", "ended before", " half"),
    Failed("endless", "endless", "after max_tokens", " half more"),
    Failed("chunked-cut", "reset", text=SAID, behaviour=quick(CHUNKED, tokens, cut)),
    Failed("length-short", "reset", text=SAID,
           behaviour=quick(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", tokens)),
    Failed("closed-before", "reset", behaviour=fails(cut)),
    Failed("page-502", "http_502", "web page", behaviour=fails(page(502))),
    Failed("error-body", "does_not_fit", "more tokens than the model's context has", behaviour=fails(
        reply({"error": {"message": "the request exceeds the available context size"}}))),
    Failed("context-too-long", "does_not_fit", "Does not fit: 4 200 of 4 096 tokens.", behaviour=fails(refuse(
        400, "This model's maximum context length is 4096 tokens. However, you requested 4200 tokens. Please reduce "
             "the length of the messages or max_tokens."))),
    Failed("brotli", "not_json", "compressed (br)", behaviour=quick(COMPRESSED)),
    Failed("no-streaming", "http_400", "streaming is not supported", behaviour=picky(NO_STREAMING)),
    Failed("busy-for-a-day", "http_429", "Daily quota", behaviour=fails(
        refuse(429, "Daily quota used up", retry_after="86400"))),
    Failed("retry-after-no-number", "http_503", "slow down", behaviour=busy(
        1, refuse(503, "slow down", retry_after="9" * 400))),
]  # fmt: skip


@pytest.mark.parametrize("case", FAILED, ids=lambda case: case.name)
def test_a_failed_answer_is_never_counted_and_says_why(
    server: FaultServer, case: Failed, monkeypatch: pytest.MonkeyPatch
):
    """No fault raises; each is named, its reason is the server's own, and what arrived before it is kept."""
    monkeypatch.setattr("workshop_lib.client.LONGEST_KEEP_ALIVE_S", 0.5)
    with ChatClient(server.base_url, timeout_s=0.5 if case.kind == "stalled" else 20.0) as chat:
        answer = chat.ask(request(case.name))
    assert (answer.error_kind, answer.text[: len(case.text) or None]) == (case.kind, case.text)
    assert answer.error and case.words in answer.error
    assert timing.latency_s(answer) is None


@pytest.mark.parametrize("said", [b" ", b"event: ping\ndata: {}\n\n", b"data: null\n\n"])
def test_no_form_of_ping_keeps_a_request_alive_for_ever(said: bytes, monkeypatch: pytest.MonkeyPatch):
    """A server that says for longer than the limit that it is alive, and nothing else, is stalled."""
    monkeypatch.setattr("workshop_lib.client.LONGEST_KEEP_ALIVE_S", 0.3)
    half = say(chunk({"content": " half"}))
    with FaultServer({"x": quick(OPEN, half, pings(0.05, 20.0, said))}) as server:
        answer = ChatClient(server.base_url, timeout_s=5.0).ask(request("x"))
    assert (answer.error_kind, answer.text) == ("stalled", " half")


# -- requests


@pytest.mark.parametrize(
    ("refusals", "notes"),
    [
        ((Refusal(("max_tokens",), 400, lambda _: openai_error("Unsupported parameter", "max_tokens")),
          Refusal(("temperature",), 400, lambda _: openai_error("Only 1 is supported.", "temperature"), (1,))),
         {"max_tokens sent as max_completion_tokens", "temperature dropped"}),
        ((Refusal(("stream_options", "seed"), 422, lambda names: {"detail": [
            {"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs"} for name in names]}),),
         {"stream_options dropped", "seed dropped"}),
    ],
)  # fmt: skip
def test_a_parameter_that_a_server_will_not_have_is_left_out_once(refusals: tuple[Refusal, ...], notes: set[str]):
    """Refused, sent again without it, and never sent to this server again; what was done is noted."""
    asked = Request("x/p/1", request("x").variant, "p", "Say it.", 1, 9, seed=20)
    with FaultServer({"x": picky(*refusals)}) as server, ChatClient(server.base_url, timeout_s=5.0) as chat:
        first, second = chat.ask(asked), chat.ask(asked)
        sent = [call.body for call in server.calls]
    assert (first.error, second.error) == (None, None)
    assert set(chat.request_notes(asked)) == notes
    assert sent[-1] == sent[-2] and len(sent) <= 2 + len(notes)
    assert not {name for refusal in refusals for name in refusal.names} & set(sent[-1])
    assert 9 in (sent[-1].get("max_tokens"), sent[-1].get("max_completion_tokens"))


@pytest.mark.parametrize(
    ("refused", "times", "pauses"),
    [
        (refuse(429, "Rate limit", retry_after="1"), 2, [1.0, 1.0]),
        (reply({"error": {"code": 503, "message": "Loading model", "type": "x"}}, 503), 3, [1.0] * 3),
    ],
)
def test_a_server_that_asks_to_wait_is_waited_for(refused: Step, times: int, pauses: list[float]):
    """As long as it asks, shown before each pause, noted; refusals of 0.3 s each are in no time of the answer."""
    slept: list[float] = []
    shown: list[float] = []
    behaviours = {"busy": busy(times, (0.3, refused))}
    with (
        FaultServer(behaviours) as server,
        ChatClient(server.base_url, on_wait=shown.append, sleep=slept.append) as chat,
    ):
        started = time.monotonic()
        answer = chat.ask(request("busy"))
        took_s = time.monotonic() - started
    assert (answer.error, slept, shown) == (None, pauses, pauses)
    assert took_s - (timing.latency_s(answer) or 0) >= 0.29 * times
    assert any("waited" in note for note in chat.request_notes(request("busy")))


@pytest.mark.parametrize(("times", "shown"), [(0, ""), (1, "is loading a model: 0.3s")])
def test_waiting_for_a_list_is_shown(times: int, shown: str, capsys: pytest.CaptureFixture[str]):
    """A bar, where the server asks to wait, and none where it does not."""
    answers = iter([refuse(503, "Loading model", retry_after="0.3")] * times)
    routes = {"/v1/models": lambda ex: ex.run(next(answers, listed("x")))}
    with FaultServer({"x": STEADY}, routes) as server:
        assert len(EndpointRuntime(server.base_url).list_models()) == 1
    said = capsys.readouterr().err
    assert shown in said if times else not said


def test_waiting_has_an_end():
    """A server that says `in 100 s` every time is waited for 300 s in all."""
    slept: list[float] = []
    behaviours = {"busy": fails(refuse(429, "Come back later", retry_after="100"))}
    with FaultServer(behaviours) as server, ChatClient(server.base_url, sleep=slept.append) as chat:
        answer = chat.ask(request("busy"))
    assert (slept, answer.error_kind, len(server.calls)) == ([100.0] * 3, "http_429", 4)


def test_a_repeated_attempt_is_never_hidden():
    """The openai client's own retries are off: a failing request reaches the server once."""
    with FaultServer() as server, ChatClient(server.base_url) as chat:
        chat.ask(request("http-500"))
        assert server.requests["http-500"] == 1


# -- keys


def raw(text: str) -> Step:
    """Sent as it is, with the key of the request for KEY, with every letter escaped for ESCAPED."""

    def step(exchange: Exchange) -> None:
        key = exchange.call.key
        escaped = "".join(f"\\u{ord(letter):04x}" for letter in key)
        exchange.send(text.replace("ESCAPED", escaped).replace("KEY", key).encode())

    return step


LEAKS: dict[str, Step] = {
    "status-line": lambda ex: ex.connection.sendall(b"HTP/1.1 " + b"z" * 150 + ex.call.key.encode() + b"\r\n\r\n"),
    "at-the-cut": (OPEN, raw('data: {"error": "' + "z" * 190 + ' ESCAPED"}\n\n')),
    "refusal-at-the-cut": lambda ex: ex.run(refuse(400, "z" * 190 + ex.call.key)),
    "reason": (OPEN, raw('data: {"choices":[{"delta":{"content":"x"},"finish_reason":"ESCAPED"}]}\n\n'), DONE),
    "web-page": lambda ex: ex.run(reply(b"<b>" + ex.call.key.replace("&", "&amp;").encode(), kind="text/html")),
    "redirect": lambda ex: ex.run(reply(b"", 307, location=f"http://other.example/v1/{ex.call.key}")),
    "tool": (OPEN, raw('data: {"choices":[{"delta":{"tool_calls":[{"function":{"name":"KEY"}}]}}]}\n\n'), DONE),
    "answer": BEHAVIOURS["echo-in-answer"].steps,
}  # fmt: skip


@pytest.mark.parametrize("name", LEAKS)
def test_a_key_stays_out_of_records_wherever_it_is_said(name: str):
    """Whole or cut, escaped or not: no part of it is in the record."""
    with FaultServer({"x": fails(LEAKS[name])}) as server, ChatClient(server.base_url, api_key=KEY) as client:
        record = repr(client.ask(request("x")))
    assert "Secret" not in record and "T0p" not in record
    assert credentials.REMOVED in record


def test_a_key_that_is_listed_as_a_model_is_not_shown():
    """Nor is one in the id of a model."""
    echo = {"/v1/models": lambda ex: ex.run(listed("fast", f"key-{ex.call.key}"))}
    with FaultServer(routes=echo) as server, ChatClient(server.base_url, api_key=KEY) as chat:
        assert KEY not in repr(chat.list_models())


def test_a_race_shows_no_key_while_it_runs():
    """What a model says of the key is taken out of the live view too, also where it comes in pieces."""
    credentials.remember(KEY)
    event = b'data: {"choices":[{"delta":{"content":"%s"}}]}\n\n'
    live = LiveAnswer([(0.1, event % KEY[:6].encode()), (0.2, event % KEY[6:].encode())])
    assert "".join(chunk.text for chunk in live.look()) == credentials.REMOVED


@pytest.mark.parametrize("key", ["1234", "llama", "content", "stop"])
def test_a_made_up_key_takes_no_answer_apart(key: str, monkeypatch: pytest.MonkeyPatch):
    """Servers that ask for no key are given any word; it may be part of JSON, of a model's name or of the answer."""
    monkeypatch.setattr(credentials, "_known", set())
    models = {"llama-1234": speaks(" stop", " 1234", " data"), "other": STEADY}
    with FaultServer(models) as server, ChatClient(server.base_url, api_key=key) as client:
        assert client.list_models() == ("llama-1234", "other")
        answer = client.ask(request("llama-1234"))
    assert (answer.error, answer.text) == (None, " stop 1234 data")


# -- lists


def models(list_said: object, *names: str) -> tuple[list[str], list[str]]:
    """Aliases of the models found with this list, and those that `auto` left out."""
    step = list_said if callable(list_said) else reply(list_said)
    with FaultServer({"x": STEADY}, {"/v1/models": step}) as server:
        runtime = EndpointRuntime(server.base_url)
        found = [variant.alias for variant in runtime.find(list(names) or ["auto"])]
        return found, [variant.model_id for variant, _ in runtime.left_out()]


SNAPSHOT = "/srv/huggingface/hub/models--Qwen--Qwen3-0.6B/snapshots/c1899de289a04d12100db370d81485cdf75e47ca"
NO_CHAT = ["text-embedding-3", "nomic-embed-text:latest", "colbert-v2", "kokoro-v1", "stable-diffusion-xl"]


@pytest.mark.parametrize(
    ("list_said", "names", "found"),
    [
        ([{"id": "x"}, {"id": "y"}], (), (["x", "y"], [])),
        ({"data": ["x", "y"]}, (), (["x", "y"], [])),
        ({"data": {"models": [{"id": "x"}]}}, (), (["x"], [])),
        ({"success": True, "result": [{"name": "x"}]}, (), (["x"], [])),
        ([{"model_name": "x"}], (), (["x"], [])),
        (reply(b'\xef\xbb\xbf{"data":[{"id":"x"}]}'), (), (["x"], [])),
        (["/home/ada/models/phi-4-mini-Q4.gguf", r"C:\models\qwen2.5.gguf", SNAPSHOT], (),
         (["phi-4-mini-Q4.gguf", "qwen2.5.gguf", "Qwen/Qwen3-0.6B"], [])),
        (["x", *NO_CHAT], (), (["x"], NO_CHAT)),
        ([{"id": each, "type": "model"} for each in ("x", NO_CHAT[0])], (), (["x"], NO_CHAT[:1])),
        ([{"id": "x", "task": "image-text-to-text"}], (), (["x"], [])),
        ([{"id": "x"}, {"id": "y", "capabilities": {"completion_chat": False}}], (), (["x"], ["y"])),
        ({"data": None}, ("x",), (["x"], [])),
        (refuse(404, "Not Found"), ("x",), (["x"], [])),
        (refuse(500), ("x",), (["x"], [])),
    ],
)  # fmt: skip
def test_every_shape_of_a_model_list_is_read(list_said: object, names: tuple[str, ...], found: object):
    """Paths become names, what cannot chat is left out of `auto`, and a name needs no list."""
    assert models(list_said, *names) == found


@pytest.mark.parametrize(
    ("list_said", "kind", "words"),
    [
        (listed(), ModelNotFoundError, "lists no model"),
        (reply({"data": None}), ModelNotFoundError, "lists no model"),
        (refuse(404, "Not Found"), EndpointError, "HTTP 404"),
        (page(), EndpointError, "model list"),
        (page(403), EndpointError, "web page"),
        (reply({"error": "Invalid key"}), EndpointError, "reported: Invalid key"),
        ((opened("text/plain"), pings(0.02, 20.0, b" ")), EndpointError, "no"),
    ],
)
def test_what_is_no_model_list_is_one_error_that_says_what_is_there(list_said: Step, kind: type[Exception], words: str):
    """An empty list, a page, an error inside HTTP 200, a list without an end."""
    timeout_s = 0.5 if isinstance(list_said, tuple) else 20.0
    routes = {"/v1/models": list_said}
    with FaultServer(routes=routes) as server, ChatClient(server.base_url, timeout_s=timeout_s) as chat:
        find = chat.list_models if kind is EndpointError else lambda: EndpointRuntime(server.base_url).find(["auto"])
        with pytest.raises(kind, match=words):
            find()


# -- addresses and redirects


def to_slash(exchange: Exchange) -> None:
    """Sends every path on to the same with a slash, as Django does."""
    if not exchange.call.path.endswith("/"):
        exchange.run(reply(b"", 307, location=exchange.call.path + "/"))
    else:
        exchange.run(exchange.behaviour.steps if exchange.call.method == "POST" else listed("fast"))


NOT_FOUND = refuse(404, "Not Found")
GATEWAY: dict[str, Step] = {"/gateway/v1/*": (), "/v1/*": NOT_FOUND}
DEPLOYMENT: dict[str, Step] = {
    "/openai/deployments/fast/chat/completions[?]api-version=*": lambda ex: ex.run(ex.behaviour.steps), "*": NOT_FOUND,
}  # fmt: skip
AZURE = "/openai/deployments/fast?api-version=2026-01-01"


@pytest.mark.parametrize(
    ("routes", "path"),
    [
        ({"/v1/*": NOT_FOUND}, "/api"),
        *((GATEWAY, f"/gateway{path}") for path in ("", "/v1", "/v1/chat/completions")),
        (DEPLOYMENT, AZURE),
        *(({"/old/*": redirect(status, "")}, "/old/v1") for status in (301, 302, 307, 308)),
        ({"*": to_slash}, "/v1"),
    ],
)
def test_a_model_is_found_and_asked_at_the_address_that_a_user_has(routes: dict[str, Step], path: str):
    """With or without `/v1`, behind a gateway, as an Azure deployment, and where the server has moved."""
    with FaultServer(routes=routes) as server, EndpointRuntime(server.address + path) as runtime:
        (found,) = runtime.find(["fast"])
        with runtime.serve(found) as served, ChatClient.to(served) as chat:
            assert chat.ask(Request("r", found, "p", "Say it.", 1, 20)).ok


def test_a_deployment_gets_its_query_and_its_key():
    """The query stands behind the path, and Azure's header carries the key."""
    with FaultServer(routes=DEPLOYMENT) as server, ChatClient(server.address + AZURE, api_key=KEY) as chat:
        assert chat.ask(request("fast")).ok
        (call,) = server.calls
    assert call.line == "POST /openai/deployments/fast/chat/completions?api-version=2026-01-01"
    assert call.headers["api-key"] == KEY


@pytest.mark.parametrize("to", ["http://[::1", "/old"])
def test_a_redirect_that_leads_nowhere_is_named(to: str):
    """No address, and one that leads back to itself."""
    with FaultServer(routes={"/old/*": redirect(307, to)}) as server, ChatClient(f"{server.address}/old/v1") as chat:
        assert any(words in str(chat.ask(request("fast")).error) for words in ("no address", "circles"))


@pytest.mark.parametrize("status", [301, 307])
def test_a_redirect_to_another_host_is_named_and_not_followed(status: int):
    """Neither question nor key goes there."""
    with FaultServer(host="127.0.0.2") as other, FaultServer(routes={"*": redirect(status, other.address)}) as server:
        with ChatClient(server.base_url, api_key=KEY) as chat:
            answer = chat.ask(request("fast"))
            with pytest.raises(EndpointError, match="redirects to"):
                chat.list_models()
        assert other.calls == []
    assert answer.error_kind == "redirect" and f"127.0.0.2:{other.port}" in (answer.error or "")


def test_a_redirect_from_http_to_https_is_followed(monkeypatch: pytest.MonkeyPatch):
    """The same host, more secure: what a gateway does with every http address."""
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    with (
        FaultServer(certificate=CERTIFICATE) as secure,
        FaultServer(routes={"*": redirect(308, secure.address)}) as server,
        ChatClient(server.base_url, api_key=KEY) as chat,
    ):
        assert "fast" in chat.list_models()
        assert chat.ask(request("fast")).ok


def test_a_redirect_from_https_to_http_is_not_followed(monkeypatch: pytest.MonkeyPatch):
    """The key would travel in the open."""
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    with (
        FaultServer() as plain,
        FaultServer(routes={"*": redirect(307, plain.address)}, certificate=CERTIFICATE) as server,
        ChatClient(server.base_url, api_key=KEY) as chat,
    ):
        assert chat.ask(request("fast")).error_kind == "redirect"
        assert plain.calls == []


@pytest.mark.parametrize(("host", "given"), [("127.0.0.1", "0.0.0.0"), ("::1", "[::1]"), ("::1", "[::]")])
def test_this_machine_is_reached_without_its_proxies(host: str, given: str, monkeypatch: pytest.MonkeyPatch):
    """Whatever it is called, no proxy stands between."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    with FaultServer(host=host) as server, ChatClient(f"http://{given}:{server.port}/v1") as chat:
        assert chat.ask(request("fast")).ok


# -- TLS and proxies


@pytest.fixture
def secure() -> Iterator[FaultServer]:
    with FaultServer(certificate=CERTIFICATE) as server:
        yield server


def test_a_certificate_of_the_users_is_taken_with_proxies_set(secure: FaultServer, monkeypatch: pytest.MonkeyPatch):
    """Bypassing the proxy for this machine does not forget SSL_CERT_FILE."""
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")
    with ChatClient(secure.base_url) as chat:
        assert chat.ask(request("fast")).ok


def test_https_at_a_port_of_http_and_http_at_one_of_https(base_url: str, secure: FaultServer):
    """Each is said, with the other scheme."""
    with ChatClient(base_url.replace("http://", "https://")) as chat:
        to_plain = chat.ask(request("fast"))
    with ChatClient(secure.base_url.replace("https://", "http://")) as chat:
        to_secure = chat.ask(request("fast"))
    assert (to_plain.error_kind, to_secure.error_kind) == ("tls", "tls")
    assert "http://" in (to_plain.error or "") and "https://" in (to_secure.error or "")


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (b"maximum context length is 4096 tokens, you requested 4200 tokens. See https://docs.", "does_not_fit"),
        (b"Bad model name. See https://docs.", "tls"),  # nothing else can be read from it
    ],
)
def test_a_link_in_a_refusal_does_not_hide_its_reason(said: bytes, kind: str):
    """Servers of http name pages of https in plain text, too: a reason that is understood comes first."""
    with FaultServer({"x": fails(reply(said, 400, kind="text/plain"))}) as server, ChatClient(server.base_url) as chat:
        assert chat.ask(request("x")).error_kind == kind


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_certificate_file_that_is_none_is_one_error(tmp_path: Path, content: bytes | None, monkeypatch):
    """Missing or not one: the variable and the file are named."""
    file = tmp_path / "certificates.pem"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with ChatClient("https://127.0.0.1:9/v1") as chat, pytest.raises(ConfigurationError, match="SSL_CERT_FILE") as told:
        chat.ask(request("fast"))
    assert str(file) in str(told.value)


@pytest.mark.parametrize(
    ("variable", "proxy"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:9"),
        ("HTTP_PROXY", "htp://127.0.0.1:9"),
        ("HTTP_PROXY", "http://me:pass-0123@[::1"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_one_error(variable: str, proxy: str, monkeypatch: pytest.MonkeyPatch):
    """The variable is named and no password shown."""
    monkeypatch.setenv(variable, proxy)
    with ChatClient("http://models.invalid/v1") as chat, pytest.raises(ConfigurationError, match=variable) as told:
        chat.ask(request("fast"))
    assert "pass-0123" not in str(told.value)


PROXIES = (
    "http://user:pa/ss9@127.0.0.1:1", "http://user:pa ss9@127.0.0.1:1", "socks5h://user:pa#ss9@127.0.0.1:1",
)  # fmt: skip


@pytest.mark.parametrize("proxy", PROXIES)
def test_no_letter_of_a_proxys_password_is_shown(proxy: str, monkeypatch: pytest.MonkeyPatch):
    """Passwords hold slashes, signs and blanks that end a host elsewhere; the variable is named."""
    monkeypatch.setenv("HTTP_PROXY", proxy)
    try:
        with ChatClient("http://example.test:8/v1", timeout_s=1.0) as client:
            shown = str(client.ask(request("x")).error)
    except WorkshopError as error:
        shown = str(error)
    assert "HTTP_PROXY" in shown
    assert "ss9" not in shown


@pytest.mark.parametrize("given", ["http://me:pass-0123@{}", "me:pass-0123@{}", "http//me:pass-0123@{}", "{}"])
def test_a_dead_proxy_is_not_a_dead_server(given: str, monkeypatch: pytest.MonkeyPatch):
    """Where nobody listens is the proxy: it and its variable are named."""
    proxy = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("HTTP_PROXY", given.format(proxy))
    with ChatClient("http://models.invalid/v1") as chat:
        answer = chat.ask(request("fast"))
    assert answer.error_kind == "proxy"
    assert "HTTP_PROXY" in (answer.error or "") and proxy in (answer.error or "")
    assert "pass-0123" not in repr(answer)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(("site", "status"), [("proxy-403", "403"), ("proxy-407", "407")])
def test_a_proxy_that_refuses_is_named(site: str, status: str, scheme: str, monkeypatch: pytest.MonkeyPatch):
    """Its status, and that a proxy stands between."""
    with FaultServer(routes=SITES[site]) as proxy:
        monkeypatch.setenv(f"{scheme.upper()}_PROXY", proxy.address)
        with ChatClient(f"{scheme}://models.invalid/v1") as chat:
            answer = chat.ask(request("fast"))
    assert status in (answer.error or "") and "proxy" in (answer.error or "")
    assert answer.error_kind in {"proxy", f"http_{status}"}


# -- time-outs


@pytest.mark.parametrize("model", ["stall-before", "stall-middle"])
def test_silence_is_limited_by_the_time_that_was_set(base_url: str, model: str):
    """Before and in the middle of an answer; the HTTP library's own limit would be 5 s."""
    started = time.monotonic()
    with ChatClient(base_url, timeout_s=0.3) as chat:
        answer = chat.ask(request(model))
    assert 0.29 <= time.monotonic() - started < 5
    assert answer.error_kind == "stalled" and "for 0.3 s" in (answer.error or "")


@pytest.mark.parametrize("timeout_s", [5.0, 600.0])
def test_the_time_that_was_set_is_the_time_that_acts(base_url: str, timeout_s: float, monkeypatch: pytest.MonkeyPatch):
    """Seen at the socket, without waiting: every read but those after the end has it, however few there are."""
    limits: list[float | None] = []
    settimeout = socket.socket.settimeout

    def noting(self: socket.socket, value: float | None) -> None:
        limits.append(value)
        settimeout(self, value)

    monkeypatch.setattr(socket.socket, "settimeout", noting, raising=False)
    with ChatClient(base_url, timeout_s=timeout_s) as chat:
        assert chat.ask(request("fast")).ok
    shown = [limit for limit in limits if limit is not None and limit > GRACE_S]
    assert max(shown) == timeout_s
    assert shown.count(timeout_s) >= max(1, len(shown) - 1)  # all but the connection's


# -- the full script

ROWS = {"fast": ("ok", ""), "reset": ("failed", "connection"), "echo-in-error": ("failed", "HTTP 401")}
"""Model → status, and words of the error of its row."""


def test_the_full_script_says_it_in_its_rows(base_url: str, tmp_path: Path):
    """Silence is waited for as long as BENCH_TIMEOUT says; each row has its status and reason, and no file the key."""
    started = time.monotonic()
    done = run(FULL, "--output", str(tmp_path), FOUNDRY_LOCAL_ENDPOINT=base_url, BENCH_TIMEOUT="1", BENCH_ROUNDS="1",
               BENCH_MODELS=",".join([*ROWS, "stall-before"]), BENCH_PROMPT="Say it.", API_KEY=KEY)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started >= 2  # two failures are enough
    rows = {row["alias"]: row for row in json.loads(done.stdout)}
    for model, (status, words) in {**ROWS, "stall-before": ("failed", "for 1 s")}.items():
        assert rows[model]["status"] == status and words in (rows[model]["error"] or ""), model
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert KEY.encode() not in written and KEY not in done.stdout + done.stderr
