"""Relatives of the faults of endpoints: what no list of known cases holds, found by asking what else a server may do.

One row for each: the kind of fault, its name, what the server does, what is said of it. `ANSWERS` are models that are
asked through the client, `OTHERS` are anything else that gives a value.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.behaviours import BEHAVIOURS, STEADY, busy, extra_forbidden, fails, openai_error, picky, quick, speaks
from tests.fault_server import CERTIFICATE, FaultServer
from tests.fault_steps import (
    ANSWER,
    DONE,
    ENDED,
    OPEN,
    Behaviour,
    Exchange,
    Refusal,
    Step,
    chunk,
    counted,
    finish,
    listed,
    opened,
    pings,
    refuse,
    reply,
    said,
    say,
    sse,
    tokens,
    usage,
    usage_of,
)
from tests.measurement_helpers import request
from workshop_lib import credentials, timing
from workshop_lib.addresses import parse_address
from workshop_lib.client import ChatClient
from workshop_lib.errors import WorkshopError
from workshop_lib.race import LiveAnswer
from workshop_lib.runtimes.endpoint import EndpointRuntime

SAID = said(16)
KEY = "sk-T0p/Secret+9&x"
ANY = object()


@dataclass(frozen=True)
class Relative:
    """What a model does, and what is said of it; times of 0 are any, None is withheld."""

    kind: str
    name: str
    does: Behaviour
    text: str = SAID
    fault: str | None = None
    words: str = ""
    first_s: float | None = 0.0
    pace_s: object = ANY
    notes: tuple[str, ...] = ()


def broken(kind: str, name: str, does: Behaviour, fault: str, words: str = "", *, text: str = "") -> Relative:
    return Relative(kind, name, does, text, fault, words, None, None)


def error_in(name: str, body: object, words: str) -> Relative:
    """An object that is an error, in the middle of an answer that then ends well."""
    return broken("errors", name, quick(OPEN, HALF, say(body), DONE), "server_error", words, text=" half")


def thinks(name: str, opening: str, closing: str) -> Relative:
    return Relative(
        "events", f"thoughts-{name}", speaks(opening, " hm", closing, "\n\n", "Yes", "."), "Yes.", pace_s=0.005
    )


def refuses(name: str, parameter: str, word: object, note: str, status: int = 400) -> Relative:
    return Relative("requests", name, picky(Refusal((parameter,), status, lambda _: word)), notes=(note,))


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


def escaped(key: str) -> str:
    """As a JSON writer that escapes everything."""
    return "".join(f"\\u{ord(letter):04x}" for letter in key)


def raw(text: str) -> Step:
    """Sent as it is, with the key of the request for KEY, escaped for ESCAPED."""
    return lambda ex: ex.send(text.replace("ESCAPED", escaped(ex.call.key)).replace("KEY", ex.call.key).encode())


def without_reasoning(exchange: Exchange) -> None:
    """Usage as xAI counts it: reasoning stands beside the completion."""
    thoughts = exchange.behaviour.reasoning
    counts = {**counted(exchange.tokens - thoughts), "total_tokens": 10 + exchange.tokens}
    exchange.say({"choices": [], "usage": {**counts, "completion_tokens_details": {"reasoning_tokens": thoughts}}})


def of_other_names(exchange: Exchange) -> None:
    exchange.say({"choices": [], "usage": {"input_tokens": 10, "output_tokens": exchange.tokens}})


HALF = say(chunk({"content": " half"}))
COMPRESSED = b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 9\r\n\r\n\x0b\x02\x80hello\x03"

ANSWERS = (
    # how a stream ends
    Relative("ends", "reason-object", quick(finish={"type": "stop", "matched": 2}), pace_s=0.005),
    broken("ends", "reason-object-abort", quick(finish={"type": "abort"}), "not_complete", "abort", text=SAID),
    Relative("ends", "reason-enumeration", quick(finish="FinishReason.STOP"), pace_s=0.005),
    Relative("ends", "reason-max-new-tokens", quick(finish="MAX_NEW_TOKENS"), pace_s=0.005),
    Relative("ends", "reason-not-yet", quick(shape=lambda kind, text, _: [chunk({kind: text}, "not_finished")])),
    Relative("ends", "done-quoted", quick(OPEN, tokens, usage, b'data: "[DONE]"\n\n'), pace_s=0.005),
    Relative("ends", "done-small", quick(OPEN, tokens, usage, b"data: [done]\n\n"), pace_s=0.005),
    broken("ends", "length-short", quick(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", tokens), "reset",
           text=SAID),
    broken("ends", "body-cut", quick(opened("application/json"), b'{"choices": [{"message": {"con'), "cut_off"),
    # errors inside HTTP 200
    error_in("fastchat", {"text": "CUDA out of memory", "error_code": 50002}, "CUDA out of memory"),
    error_in("minimax", {"choices": None, "base_resp": {"status_code": 1004, "status_msg": "no login"}}, "no login"),
    error_in("baidu", {"error_code": 17, "error_msg": "daily limit reached"}, "reported: daily limit reached"),
    error_in("capital", {"Error": {"Message": "no quota"}}, "no quota"),
    error_in("success-false", {"success": False, "msg": "no balance"}, "reported: no balance"),
    error_in("apigee", {"fault": {"faultstring": "Quota exceeded"}}, "Quota exceeded"),
    error_in("groq", {**chunk({}), "x_groq": {"error": "over capacity"}}, "reported: over capacity"),
    broken("errors", "event-exception", quick(OPEN, HALF, b'event: exception\ndata: {"why": "worker died"}\n\n', DONE),
           "server_error", "worker died", text=" half"),
    broken("errors", "text-as-data", quick(OPEN, HALF, b"data: Error: out of memory\n\n", DONE), "bad_json",
           "out of memory", text=" half"),
    broken("errors", "json-text", quick(reply("model not loaded")), "cut_off", "model not loaded"),
    Relative("errors", "code-0-is-none", quick(OPEN, tokens, finish, lambda ex: ex.say(
        {"code": 0, "message": "Success", "choices": [], "usage": usage_of(ex)}), DONE), pace_s=0.005),
    Relative("errors", "error-that-says-ok", quick(shape=lambda kind, text, _: [
        {**chunk({kind: text}), "error": {"code": 0, "message": "ok"}}]), pace_s=0.005),
    Relative("errors", "azure-filter-off", quick(OPEN, tokens, say({"choices": [{"index": 0, "delta": {},
        "content_filter_result": {"error": {"message": "The contents are not filtered"}}}]}), finish, usage, DONE)),
    # framing
    Relative("framing", "zeros-first", quick(OPEN, b"\0\0\0", *ANSWER[1:]), first_s=0.03, pace_s=0.005),
    Relative("framing", "json-sequence", quick(opened("application/json-seq"), tokens, finish, usage,
                                               frame=lambda event: b"\x1e" + event + b"\n"), pace_s=0.005),
    Relative("framing", "data-twice", quick(frame=lambda event: b"data: data: " + event + b"\n\n"), pace_s=0.005),
    Relative("framing", "ping-as-data", quick(OPEN, b"data: ping\n\ndata: [HEARTBEAT]\n\ndata: : PROCESSING\n\n",
                                              *ANSWER[1:]), first_s=0.03, pace_s=0.005),
    Relative("framing", "gzip", quick(gzipped), first_s=0.03, pace_s=0.005),
    broken("framing", "brotli", quick(COMPRESSED), "not_json", "compressed (br)"),
    Relative("framing", "early-hints", quick(b"HTTP/1.1 103 Early Hints\r\n\r\n", *ANSWER), first_s=0.03, pace_s=0.005),
    Relative("framing", "half-letters", quick(OPEN, *(sse(b'{"choices":[{"delta":{"content":"%s"}}]}' % half)
             for half in (b"\\ud83d", b"\\ude42 ok")), ENDED), "\U0001f642 ok"),
    # what an event holds
    Relative("events", "text-so-far", quick(shape=lambda kind, text, so_far: [chunk({kind: said(so_far)})]),
             first_s=0.03, pace_s=0.005),
    Relative("events", "reasoning-details", quick(reasoning=8, shape=lambda kind, text, _: [chunk({"content": text}
             if kind == "content" else {"reasoning_details": [{"type": "reasoning.text", "text": text}]})]),
             said(8), first_s=0.03, pace_s=0.005),
    Relative("events", "doubled-text-alone", quick(OPEN, tokens, finish, DONE,
             shape=lambda kind, text, _: [chunk({kind: text})] * 2), pace_s=None),
    thinks("cohere", "<|START_THINKING|>", "<|END_THINKING|>"),
    thinks("open-thoughts", "<|begin_of_thought|>", "<|end_of_thought|>"),
    thinks("gemma", "<|channel>thought\n", "<channel|>"),
    thinks("plural", "<thoughts>", "</thoughts>"),
    Relative("events", "choices-null", quick(OPEN, say({"choices": None}, {"choices": [None]}), *ANSWER[1:])),
    # usage
    Relative("usage", "reasoning-beside", quick(OPEN, tokens, finish, without_reasoning, DONE, reasoning=8), said(8),
             first_s=0.03, pace_s=0.005),
    Relative("usage", "other-names", quick(OPEN, tokens, finish, of_other_names, DONE), pace_s=0.005),
    Relative("usage", "one-a-chunk", quick(OPEN, tokens, finish, DONE, shape=lambda kind, text, _: [
        {**chunk({kind: text}), "usage": counted(1)}]), pace_s=None),
    Relative("usage", "with-the-prompt", quick(count=lambda count: count + 10), pace_s=None),
    Relative("usage", "as-text", quick(count=str), pace_s=None),
    # requests
    refuses("part-of-a-parameter", "stream_options", {"detail": [{**extra_forbidden(["x"])[0], "loc": [
        "body", "stream_options", "include_usage"]}]}, "stream_options dropped", 422),
    refuses("param-empty", "temperature", openai_error("temperature is not supported", ""), "temperature dropped"),
    refuses("param-dotted", "stream_options", openai_error("Unknown.", "stream_options.include_usage"),
            "stream_options dropped"),
    refuses("only-the-new-name", "max_tokens", openai_error("Missing required parameter", "max_completion_tokens"),
            "max_tokens sent as max_completion_tokens"),
    broken("requests", "no-streaming", picky(Refusal(("stream",), 400, lambda _: openai_error(
        "streaming is not supported", "stream"))), "http_400", "streaming is not supported"),
    broken("requests", "retry-after-no-number", busy(1, refuse(503, "slow down", retry_after="9" * 400)), "http_503",
           "slow down"),
)  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    with FaultServer({case.name: case.does for case in ANSWERS}) as running:
        yield running


@pytest.mark.parametrize("case", ANSWERS, ids=lambda case: f"{case.kind}-{case.name}")
def test_an_answer_is_read_right_or_fails_with_its_cause(server: FaultServer, case: Relative):
    """The text, the figures and the reason are the true ones; a rate that cannot be known is withheld."""
    with ChatClient(server.base_url, timeout_s=2.0) as client:
        answer = client.ask(request(case.name))
        notes = client.request_notes(request(case.name))
    assert (answer.error_kind, answer.text, notes) == (case.fault, case.text, case.notes)
    assert case.words in (answer.error or "")
    first_s, pace_s = timing.first_token_s(answer), timing.time_per_output_token_s(answer)
    assert first_s == (pytest.approx(case.first_s, abs=0.02) if case.first_s else None if case.fault else first_s)
    if case.pace_s is not ANY:
        assert pace_s == (case.pace_s and pytest.approx(case.pace_s, rel=0.4))


LEAKS: dict[str, Step] = {
    "status-line": lambda ex: ex.connection.sendall(b"HTP/1.1 " + b"z" * 150 + ex.call.key.encode() + b"\r\n\r\n"),
    "at-the-cut": (OPEN, raw('data: {"error": "' + "z" * 190 + ' ESCAPED"}\n\n')),
    "refusal-at-the-cut": lambda ex: ex.run(refuse(400, "z" * 190 + ex.call.key)),
    "reason": (OPEN, raw('data: {"choices":[{"delta":{"content":"x"},"finish_reason":"ESCAPED"}]}\n\n'), DONE),
    "web-page": lambda ex: ex.run(reply(b"<b>" + ex.call.key.replace("&", "&amp;").encode(), kind="text/html")),
    "redirect": lambda ex: ex.run(reply(b"", 307, location=f"http://other.example/v1/{ex.call.key}")),
    "tool": (OPEN, raw('data: {"choices":[{"delta":{"tool_calls":[{"function":{"name":"KEY"}}]}}]}\n\n'), DONE),
}  # fmt: skip


@pytest.mark.parametrize("name", LEAKS)
def test_a_key_stays_out_of_records_wherever_it_is_said(name: str):
    """Whole or cut, escaped or not: no part of it is in the record."""
    with FaultServer({"x": fails(LEAKS[name])}) as server, ChatClient(server.base_url, api_key=KEY) as client:
        record = repr(client.ask(request("x")))
    assert "Secret" not in record and "T0p" not in record
    assert credentials.REMOVED in record


def test_a_race_shows_no_key_while_it_runs():
    """What a model says of the key is taken out of the live view too, also where it comes in pieces."""
    credentials.remember(KEY)
    event = b'data: {"choices":[{"delta":{"content":"%s"}}]}\n\n'
    live = LiveAnswer([(0.1, event % KEY[:6].encode()), (0.2, event % KEY[6:].encode())])
    assert "".join(chunk.text for chunk in live.look()) == credentials.REMOVED


@pytest.mark.parametrize("key", ["1234", "llama", "content", "stop", "data", "true", "choices"])
def test_a_made_up_key_takes_no_answer_apart(key: str, monkeypatch: pytest.MonkeyPatch):
    """Servers that ask for no key are given any word; it may be part of JSON, of a model's name or of the answer."""
    monkeypatch.setattr(credentials, "_known", set())
    models = {"llama-1234": speaks(" stop", " 1234", " data"), "other": STEADY}
    with FaultServer(models) as server, ChatClient(server.base_url, api_key=key) as client:
        assert client.list_models() == ("llama-1234", "other")
        answer = client.ask(request("llama-1234"))
    assert (answer.error, answer.text) == (None, " stop 1234 data")


@pytest.mark.parametrize("said", ['{"api_key": "sk-live-12345"}', "api-key=sk-live-12345", 'password: "sk-live-12345"'])
def test_what_is_named_a_key_is_not_shown(said: str):
    """Also where it is not `API_KEY`: a body that a gateway wants, the query of an address."""
    assert "12345" not in credentials.redact(said)


PROXIES = (
    "http://user:pa/ss9@127.0.0.1:1", "http://user:pa@ss9@127.0.0.1:1", "http://user:pa ss9@127.0.0.1:1",
    "socks5h://user:pa#ss9@127.0.0.1:1", "http:/user:pass9@127.0.0.1:1",
)  # fmt: skip


@pytest.mark.parametrize("proxy", PROXIES)
def test_no_letter_of_a_proxys_password_is_shown(proxy: str, monkeypatch: pytest.MonkeyPatch):
    """Passwords hold slashes, signs and blanks that end a host elsewhere; the variable is named."""
    monkeypatch.setenv("HTTP_PROXY", proxy)
    monkeypatch.delenv("http_proxy", raising=False)
    try:
        with ChatClient("http://example.test:8/v1", timeout_s=1.0) as client:
            shown = str(client.ask(request("x")).error)
    except WorkshopError as error:
        shown = str(error)
    assert "HTTP_PROXY" in shown
    assert "ss9" not in shown


def models(list_said: object, *names: str) -> tuple[list[str], list[str]]:
    """The models found with this list, and those that `auto` left out."""
    with FaultServer({"x": STEADY}, {"/v1/models": list_said if callable(list_said) else reply(list_said)}) as server:
        runtime = EndpointRuntime(server.base_url)
        found = [variant.model_id for variant in runtime.find(list(names) or ["auto"])]
        return found, [variant.model_id for variant, _ in runtime.left_out()]


def to_slash(exchange: Exchange) -> None:
    """Sends every path on to the same with a slash, as Django does."""
    if not exchange.call.path.endswith("/"):
        exchange.run(reply(b"", 307, location=exchange.call.path + "/"))
    else:
        exchange.run(exchange.behaviour.steps if exchange.call.method == "POST" else listed("x"))


def error_at(*steps: Step, **settings: Any) -> str:
    """What a request to a server that does this says."""
    with FaultServer(routes={"*": steps}) as server, ChatClient(server.base_url, timeout_s=0.5, **settings) as client:
        return str(client.ask(request("x")).error)


def list_error(step: Step) -> str:
    with FaultServer(routes={"*": step}) as server, ChatClient(server.base_url, timeout_s=0.5) as client:
        with pytest.raises(WorkshopError) as caught:
            client.list_models()
        return str(caught.value)


def slashed() -> tuple[object, ...]:
    with FaultServer(routes={"*": to_slash}) as server, ChatClient(server.base_url) as client:
        return client.list_models(), client.ask(request("x")).error


def url(text: str) -> str:
    return parse_address(text).url("/models")


CHAT = "http://127.0.0.1:5273/v1/models"
SNAPSHOT = "/root/.cache/huggingface/hub/models--Qwen--Qwen3-0.6B/snapshots/c1899de289a04d12100db370d81485cdf75e47ca"
NO_CHAT = ["text-embedding-3", "colbert-v2", "kokoro-v1", "stable-diffusion-xl"]
DRIP = pings(0.02, 20.0, b" ")

OTHERS: tuple[tuple[str, str, Callable[[], object], object], ...] = (
    ("addresses", "curly-quotes", lambda: url("\u201chttp://127.0.0.1:5273/v1\u201d"), CHAT),
    ("addresses", "angle-brackets", lambda: url("<http://127.0.0.1:5273/v1>,"), CHAT),
    ("addresses", "zero-width", lambda: url("http://127.0.0.1:5273/v1\u200b."), CHAT),
    ("addresses", "star", lambda: url("http://*:5273"), CHAT),
    ("addresses", "plus", lambda: url("http://+:5273/v1/chat"), CHAT),
    ("lists", "nested", lambda: models({"data": {"models": [{"id": "x"}]}}), (["x"], [])),
    ("lists", "result", lambda: models({"success": True, "result": [{"name": "x"}]}), (["x"], [])),
    ("lists", "model-name", lambda: models([{"model_name": "x"}]), (["x"], [])),
    ("lists", "byte-order-mark", lambda: models(reply(b'\xef\xbb\xbf{"data":[{"id":"x"}]}')), (["x"], [])),
    ("lists", "snapshot", lambda: models([SNAPSHOT]), (["Qwen/Qwen3-0.6B"], [])),
    ("lists", "no-chat-names", lambda: models(["x", *NO_CHAT]), (["x"], NO_CHAT)),
    ("lists", "type-says-nothing", lambda: models([{"id": id_, "type": "model"} for id_ in ("x", NO_CHAT[0])]),
     (["x"], NO_CHAT[:1])),
    ("lists", "sees-pictures", lambda: models([{"id": "x", "task": "image-text-to-text"}]), (["x"], [])),
    ("lists", "mistral", lambda: models([{"id": "x"}, {"id": "y", "capabilities": {"completion_chat": False}}]),
     (["x"], ["y"])),
    ("lists", "named-at-500", lambda: models(refuse(500), "x"), (["x"], [])),
    ("lists", "error-in-200", lambda: "reported: Invalid key" in list_error(reply({"error": "Invalid key"})), True),
    ("redirects", "slash", slashed, (("x",), None)),
    ("redirects", "no-address", lambda: "no address" in error_at(reply(b"", 307, location="http://[::1")), True),
    ("time-outs", "list-without-end", lambda: "no" in list_error((opened("text/plain"), DRIP)), True),
    ("time-outs", "error-without-end", lambda: error_at(
        b"HTTP/1.1 500 Oops\r\n\r\nit broke", DRIP), "The server answered HTTP 500: it broke"),
)  # fmt: skip


@pytest.mark.parametrize(("call", "expected"), [each[2:] for each in OTHERS], ids=[f"{a}-{b}" for a, b, *_ in OTHERS])
def test_lists_addresses_and_ends(call: Callable[[], object], expected: object):
    """Understood as it was meant, or refused with the cause, within the time that was set."""
    started = time.monotonic()
    assert call() == expected
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "said",
    [b" ", b"event: ping\ndata: {}\n\n", b'event: ping\ndata: {"type": "ping"}\n\n', b"data: null\n\n", b"id: 1\n\n"],
)
def test_no_form_of_ping_keeps_a_request_alive_for_ever(said: bytes, monkeypatch: pytest.MonkeyPatch):
    """A server that says for longer than the limit that it is alive, and nothing else, is stalled."""
    monkeypatch.setattr("workshop_lib.client.LONGEST_KEEP_ALIVE_S", 0.3)
    with FaultServer({"x": quick(OPEN, HALF, pings(0.05, 20.0, said))}) as server:
        answer = ChatClient(server.base_url, timeout_s=1.0).ask(request("x"))
    assert (answer.error_kind, answer.text) == ("stalled", " half")


def test_a_key_log_that_cannot_be_written_is_not_the_certificates_fault(monkeypatch: pytest.MonkeyPatch):
    """`SSLKEYLOGFILE` is opened in the same call; it is the variable that is named."""
    monkeypatch.setenv("SSLKEYLOGFILE", "/nowhere/keys.log")
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with FaultServer(certificate=CERTIFICATE) as server, pytest.raises(WorkshopError) as caught:
        ChatClient(server.base_url).ask(request("x"))
    assert caught.value.what.startswith("SSLKEYLOGFILE names")


def test_no_relative_is_a_known_case():
    """The rows are new, and their names differ."""
    names = [case.name for case in ANSWERS]
    assert len(set(names)) == len(names)
    assert not set(names) & set(BEHAVIOURS)
