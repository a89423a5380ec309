"""Endpoints as users have them: a row per case, what a server does (`tests/behaviours.py`) and what is said of it.

Most rows are models of one server in a process of its own, asked through the client; the last tests go through the full
script. A quick behaviour says 16 tokens, the first after 30 ms, one every 5 ms: it ends after 105 ms.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.behaviours import REFUSALS, SITES, TOO_LONG
from tests.fault_server import CERTIFICATE, FaultServer, fault_server, free_port
from tests.fault_steps import redirect, said
from tests.measurement_helpers import run_of
from tests.scripts import FULL, run
from workshop_lib import timing
from workshop_lib.client import GRACE_S, ChatClient
from workshop_lib.errors import ConfigurationError, EndpointError, ModelNotFoundError, WorkshopError
from workshop_lib.records import Completion, ModelVariant, Request, RequestOptions, Serving
from workshop_lib.runtimes.endpoint import EndpointRuntime
from workshop_lib.summary import summarise

FIRST_S, PACE_S, LATE_S = 0.03, 0.005, 0.02
SAID, HALF_SAID = said(16), said(8)
KEY = "sk-Very+Secret/0123456789"
CODES = {
    "bursts", "coalesced_chunks", "empty_answers", "hidden_tokens", "no_usage", "not_streamed", "truncated",
    "usage_mismatch",
}  # fmt: skip
"""The warning codes that one answer can have."""


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    with fault_server() as url:
        yield url


@pytest.fixture(autouse=True)
def no_proxy_and_no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def request(model: str, *, stream: bool = True, max_tokens: int = 200) -> Request:
    variant = ModelVariant(alias=model, model_id=model, device="unknown")
    return Request(f"{model}/p/1", variant, "p", "Say it.", 1, max_tokens, stream=stream, seed=20)


def codes_of(answer: Completion) -> set[str]:
    """The warning codes of a row with this one answer."""
    variant = ModelVariant(answer.alias, answer.model_id, answer.device)
    (row,) = summarise(run_of([answer], servings=(Serving(variant),)))
    return CODES & set(row.warnings)


# -- answers


@dataclass(frozen=True)
class Answered:
    """A complete answer: visible text, times in seconds (None = withheld, 0 = any), tokens and where they come from."""

    model: str
    text: str = SAID
    first_s: float | None = FIRST_S
    thinking_s: float = 0.0
    pace_s: float | None = PACE_S
    tokens: tuple[int, str] = (16, "usage")
    codes: frozenset[str] = frozenset()
    finish: str | None = "stop"
    timeout_s: float = 5.0
    max_tokens: int = 200
    within_s: float = 1.0

    def fits(self, answer: Completion) -> bool:
        """Whether the times do; a busy machine is late."""
        first, visible = timing.first_token_s(answer), timing.first_visible_token_s(answer)
        pace = timing.time_per_output_token_s(answer)
        if None in (self.first_s, first):
            return self.first_s is first
        is_late = not -0.0005 <= first - self.first_s <= LATE_S
        thought = None if visible is None else visible - first
        is_paced = pace == pytest.approx(self.pace_s, rel=0.1) if self.pace_s and pace else self.pace_s in (0.0, pace)
        return not is_late and is_paced and (thought is None or thought == pytest.approx(self.thinking_s, abs=0.004))


def codes(*names: str) -> frozenset[str]:
    return frozenset(names)


def tag(name: str, before: int, tokens: int) -> Answered:
    """Thinking inside the content: how many tokens there are, and how many come before the answer `Yes.`."""
    pace_s = PACE_S if tokens > 4 else 0.0
    return Answered(f"tag-{name}", "Yes.", thinking_s=before * PACE_S, pace_s=pace_s, tokens=(tokens, "usage"))


UNCLOSED = {"text": "", "pace_s": PACE_S, "codes": codes("truncated", "empty_answers"), "finish": "length"}
ANSWERED = [
    # how a stream ends
    *map(Answered, ("reason-empty", "reason-capital", "reason-eos", "no-done", "no-done-open", "no-done-pings",
                    "no-done-late-usage", "done-open", "done-pings", "done-in-two", "done-no-space", "done-no-line-end",
                    "done-then-more", "done-then-reset", "chunked", "chunked-cut-after-reason")),
    Answered("reason-model-length", finish="length", codes=codes("truncated")),
    Answered("no-reason-done", finish=None),
    # framing
    *map(Answered, ("byte-order-mark", "crlf", "cr-only", "no-space", "no-blank-lines", "data-lines", "other-fields",
                    "no-type", "plain-type", "json-type", "odd-type", "json-lines")),
    Answered("bytes-apart", 4 * " für モデル 🙂 ½"),
    Answered("body-for-stream", first_s=None, pace_s=None, codes=codes("not_streamed")),
    Answered("pings-first", first_s=1.0, timeout_s=0.5, within_s=2.0),
    Answered("pings-every-second", first_s=4.2, timeout_s=2.0, within_s=6.0),
    Answered("letters", 30 * " one two six ten", tokens=(120, "usage")),
    Answered("slow-steady", said(45), first_s=0.15, pace_s=0.15, tokens=(45, "usage"), timeout_s=0.3, within_s=8.0),
    # what an event holds
    *map(Answered, ("parts", "two-choices", "delta-and-message", "message-for-delta", "text-for-delta", "doubled",
                    "null-first")),
    *(Answered(model, HALF_SAID, thinking_s=8 * PACE_S) for model in (
        "thinking-parts", "thinking-then-text", "reasoning-key", "thinking-key")),
    tag("think", 4, 6), tag("split", 6, 8), tag("in-one", 0, 2), tag("capital", 3, 5), tag("thinking", 3, 5),
    tag("thought", 3, 5), tag("reasoning", 3, 5), tag("seed", 3, 5), tag("bracket", 3, 5), tag("kimi", 3, 5),
    tag("harmony", 5, 7), tag("closing-only", 3, 5), tag("empty", 4, 6), tag("twice", 6, 8),
    Answered("tag-in-text", " Write <think> like so.", tokens=(5, "usage")),
    Answered("tag-unclosed", **UNCLOSED, max_tokens=16),
    Answered("all-reasoning", **UNCLOSED, max_tokens=16),
    Answered("ha-ha", " ha ha ha ha!", tokens=(5, "usage")),
    # usage
    *map(Answered, ("usage-running", "usage-then-null", "usage-then-zeros", "usage-float")),
    *(Answered(model, pace_s=None, tokens=(16, "chunks"), codes=codes("no_usage")) for model in (
        "usage-zeros", "usage-null")),
    *(Answered(model, pace_s=None, tokens=(16, "chunks"), codes=codes("usage_mismatch")) for model in (
        "usage-first", "usage-too-few")),
    Answered("usage-too-many", pace_s=None, tokens=(80, "usage"), codes=codes("hidden_tokens")),
]  # fmt: skip


@pytest.mark.parametrize("case", ANSWERED, ids=lambda case: case.model)
def test_a_complete_answer_is_read_right_or_flagged(base_url: str, case: Answered):
    """Text, times, tokens, finish reason and warning codes; it ends as soon as the server has said so.

    Times are looked at again before they count as wrong, because the machine may be busy; what a wrong reader makes of
    them does not change.
    """
    with ChatClient(base_url, timeout_s=case.timeout_s) as chat:
        for _ in range(3):
            started = time.monotonic()
            answer = chat.ask(request(case.model, max_tokens=case.max_tokens))
            took_s = time.monotonic() - started
            if case.fits(answer):
                break
    visible = "".join(chunk.text for chunk in answer.chunks if chunk.kind == "content")
    assert (answer.error_kind, visible) == (None, case.text)
    assert timing.completion_tokens(answer) == case.tokens
    assert (codes_of(answer), answer.finish_reason) == (case.codes, case.finish)
    assert case.fits(answer), [
        timing.first_token_s(answer), timing.first_visible_token_s(answer), timing.time_per_output_token_s(answer),
    ]  # fmt: skip
    assert took_s < case.within_s


ONE_PIECE = {
    "steady": said(40), "parts": SAID, "thinking-parts": HALF_SAID, "thinking-then-text": HALF_SAID,
    "reasoning-key": HALF_SAID, "tag-think": "Yes.", "tag-closing-only": "Yes.", "tag-harmony": "Yes.",
}  # fmt: skip


@pytest.mark.parametrize(("model", "text"), ONE_PIECE.items())
def test_an_answer_in_one_piece_is_read_like_a_stream(base_url: str, model: str, text: str):
    """Parts, thoughts and tags stand in a `message`, too."""
    with ChatClient(base_url, timeout_s=5.0) as chat:
        answer = chat.ask(request(model, stream=False))
    assert "".join(chunk.text for chunk in answer.chunks if chunk.kind == "content") == text
    assert (answer.error_kind, answer.streamed) == (None, False)


@pytest.mark.parametrize("model", ["steady", "tag-think"])
def test_a_stream_for_one_piece_is_read(base_url: str, model: str, monkeypatch: pytest.MonkeyPatch):
    """A server that streams though nobody asked: told by the first bytes, not by the request."""
    with ChatClient(base_url, options=RequestOptions(extra_body={"stream": True})) as chat:
        answer = chat.ask(request(model, stream=False))
    assert (answer.error_kind, answer.streamed) == (None, True)


# -- failures


@dataclass(frozen=True)
class Failed:
    """A failed answer: its kind, words that the reason has, and the text that is kept."""

    model: str
    kind: str
    words: str = ""
    text: str = ""


FAILED = [
    Failed("reason-empty-cut", "cut_off", text=SAID),
    Failed("reason-null-text-cut", "cut_off", text=SAID),
    Failed("no-reason", "cut_off", text=SAID),
    Failed("chunked-cut", "reset", text=SAID),
    Failed("reason-content-filter", "not_complete", "content_filter", SAID),
    Failed("reason-abort", "not_complete", "abort", SAID),
    Failed("error-in-200", "server_error", "out of memory while decoding", " half"),
    *(Failed(f"error-{form}", "server_error", TOO_LONG, " half") for form in (
        "field", "event", "event-text", "unframed", "text", "object", "type", "detail", "code", "list", "choice")),
    Failed("error-body", "does_not_fit", "more tokens than the model's context has"),
    Failed("error-after-answer", "server_error", TOO_LONG, SAID),
    Failed("error-before-done", "server_error", TOO_LONG, SAID),
    Failed("tool-call", "tool_calls", "look_up"),
    Failed("context-too-long", "does_not_fit", "Does not fit: 4 200 of 4 096 tokens."),
    Failed("page-502", "http_502", "web page"),
    Failed("closed-before", "reset"),
    Failed("refuses-model", "http_400", "model"),
    Failed("busy-for-a-day", "http_429", "Daily quota used up"),
]  # fmt: skip


@pytest.mark.parametrize("case", FAILED, ids=lambda case: case.model)
def test_a_failed_answer_is_never_counted_and_says_why(base_url: str, case: Failed):
    """The server's own words are the reason; the text so far is kept; no figure is made of it."""
    with ChatClient(base_url, timeout_s=5.0) as chat:
        answer = chat.ask(request(case.model))
    assert (answer.error_kind, answer.text) == (case.kind, case.text)
    assert case.words in (answer.error or "")
    assert timing.latency_s(answer) is None


# -- requests

NOTES = {
    "max-tokens-openai": ("max_tokens sent as max_completion_tokens",),
    "temperature-openai": ("temperature dropped",),
    "stream-options-azure": ("stream_options dropped",),
    "stream-options-groq": ("stream_options dropped",),
    "stream-options-vllm": ("stream_options dropped",),
    "seed-mistral": ("seed dropped",),
    "seed-xai": ("seed dropped",),
    "seed-litellm": ("seed dropped",),
    "two-fastapi": ("stream_options dropped", "seed dropped"),
    "two-openai": ("max_tokens sent as max_completion_tokens", "temperature dropped"),
    "every-text": ("stream_options dropped", "temperature dropped", "seed dropped"),
}


@pytest.mark.parametrize(("name", "notes"), NOTES.items())
def test_a_parameter_that_a_server_will_not_have_is_left_out_once(name: str, notes: tuple[str, ...]):
    """Refused, sent again without it, and never sent to this server again; what was done is noted."""
    with FaultServer() as server, ChatClient(server.base_url, timeout_s=5.0) as chat:
        first, second = (chat.ask(request(f"refuses-{name}", max_tokens=9)) for _ in range(2))
        asked = [call.body for call in server.calls]
    assert (first.error, second.error) == (None, None)
    assert set(chat.request_notes(request(f"refuses-{name}"))) == set(notes)
    assert asked[-1] == asked[-2] and len(asked) <= 2 + len(notes)
    for refusal in REFUSALS[name]:
        assert not set(refusal.names) & set(asked[-1])
    assert 9 in (asked[-1].get("max_tokens"), asked[-1].get("max_completion_tokens"))
    assert first.completion_tokens in (9, None) and timing.latency_s(first) < 0.2


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("temperature-openai", RequestOptions(extra_body={"temperature": 0})),
        ("max-tokens-openai", RequestOptions(tokens_field="max_tokens")),
        ("max-tokens-openai", RequestOptions(extra_body={"max_tokens": 5})),
    ],
)
def test_what_was_set_explicitly_is_sent_and_its_refusal_told(name: str, options: RequestOptions):
    """An explicit setting wins: one request, and the server's reason."""
    with FaultServer() as server, ChatClient(server.base_url, options=options) as chat:
        answer = chat.ask(request(f"refuses-{name}"))
        assert (answer.error_kind, len(server.calls)) == ("http_400", 1)
        assert chat.request_notes(request(f"refuses-{name}")) == ()


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        (RequestOptions(tokens_field="max_completion_tokens"), {"max_completion_tokens": 200}),
        (RequestOptions(extra_body={"top_p": 0.9, "temperature": 1}), {"top_p": 0.9, "temperature": 1}),
    ],
)
def test_explicit_settings_reach_the_server(options: RequestOptions, sent: dict[str, Any]):
    """The tokens field and the extra body are what the server gets."""
    with FaultServer() as server, ChatClient(server.base_url, options=options) as chat:
        assert chat.ask(request("fast")).ok
        (call,) = server.calls
    assert sent.items() <= call.body.items()
    assert ("max_tokens" in call.body) is (options.tokens_field is None)


@pytest.mark.parametrize(
    ("model", "pauses"),
    [
        ("busy-429", [1.0, 1.0]),
        ("busy-ms", [0.2, 0.2]),
        ("busy-date", [pytest.approx(1.5, abs=0.6)]),
        ("busy-loading", [1.0] * 3),
    ],
)
def test_a_server_that_asks_to_wait_is_waited_for(model: str, pauses: list[Any]):
    """Waited as long as it asks, shown before each pause, noted, and in no time of the answer."""
    slept: list[float] = []
    shown: list[float] = []
    with FaultServer() as server, ChatClient(server.base_url, on_wait=shown.append, sleep=slept.append) as chat:
        answer = chat.ask(request(model))
        assert len(server.calls) == len(pauses) + 1
    assert (answer.error, slept, shown) == (None, pauses, slept)
    assert timing.latency_s(answer) == pytest.approx(0.105 + LATE_S, abs=LATE_S + 0.001)
    assert any("waited" in note for note in chat.request_notes(request(model)))


def test_waiting_has_an_end():
    """A server that says `in 100 s` every time is waited for 300 s in all."""
    slept: list[float] = []
    with FaultServer() as server, ChatClient(server.base_url, sleep=slept.append) as chat:
        answer = chat.ask(request("busy-always"))
    assert (slept, answer.error_kind, len(server.calls)) == ([100.0] * 3, "http_429", 4)


# -- keys


@pytest.mark.parametrize("model", ["echo-in-error", "echo-in-stream", "echo-in-answer", "echo-in-headers"])
def test_a_key_that_a_server_says_is_in_no_record(base_url: str, model: str):
    """In an error, an answer or a header: the record has `[key]` instead."""
    with ChatClient(base_url, api_key=KEY, timeout_s=5.0) as chat:
        answer = chat.ask(request(model))
    assert KEY not in repr(answer) and KEY[:12] not in repr(answer)


def test_a_key_that_is_listed_as_a_model_is_not_shown():
    """Nor is one in the id of a model."""
    with FaultServer(routes=SITES["list-echo"]) as server, ChatClient(server.base_url, api_key=KEY) as chat:
        assert KEY not in repr(chat.list_models())


# -- lists and addresses


@dataclass(frozen=True)
class Site:
    """A site of `SITES`, the path of the address that a user gives, the models named, and what is found there.

    `found` is the names of the models, or the error with words of it.
    """

    name: str
    path: str
    asked: str
    found: tuple[str, ...] | tuple[type[WorkshopError], str]

    def __str__(self) -> str:
        return f"{self.name}-{self.asked}"


FOUND = [
    Site("list-bare", "/v1", "auto", ("fast", "steady")),
    Site("list-texts", "/v1", "auto", ("fast", "steady")),
    Site("list-empty", "/v1", "auto", (ModelNotFoundError, "lists no model")),
    Site("list-null", "/v1", "auto", (ModelNotFoundError, "lists no model")),
    Site("list-null", "/v1", "fast", ("fast",)),
    Site("list-404", "/v1", "fast", ("fast",)),
    Site("list-404", "/v1", "auto", (EndpointError, "HTTP 404")),
    Site("list-page", "/v1", "auto", (EndpointError, "model list")),
    Site("list-embedding", "/v1", "auto", ("fast",)),
    Site("list-paths", "/v1", "auto", ("phi-4-mini-Q4.gguf", "qwen2.5.gguf")),
    Site("no-v1", "/api", "fast", ("fast",)),
    Site("prefix", "/gateway/v1", "fast", ("fast",)),
    Site("prefix", "/gateway/v1/", "fast", ("fast",)),
    Site("prefix", "/gateway", "fast", ("fast",)),
    Site("prefix", "/gateway/v1/chat/completions", "fast", ("fast",)),
    Site("deployment", "/openai/deployments/fast?api-version=2026-01-01", "fast", ("fast",)),
    Site("deployment", "/openai/deployments/fast/chat/completions?api-version=2026-01-01", "fast", ("fast",)),
    *(Site(f"moved-{status}", "/old/v1", "fast", ("fast",)) for status in (301, 302, 307, 308)),
    Site("moved-in-circles", "/old/v1", "fast", (EndpointError, "circles")),
    Site("proxy-403", "/v1", "auto", (EndpointError, "web page")),
    Site("sign-in", "/v1", "auto", (EndpointError, "model list")),
]


@pytest.mark.parametrize("site", FOUND, ids=str)
def test_models_are_found_at_the_address_that_a_user_has(site: Site):
    """Listed or named, and asked at that address; else one error that says what is there."""
    with FaultServer(routes=SITES[site.name]) as server, EndpointRuntime(server.address + site.path) as runtime:
        if isinstance(site.found[0], type):
            with pytest.raises(site.found[0], match=site.found[1]):
                runtime.find([site.asked])
            return
        found = runtime.find([site.asked])
        assert tuple(variant.alias for variant in found) == site.found
        if site.name != "list-paths":  # the server does not answer for these
            with runtime.serve(found[0]) as served, ChatClient.to(served) as chat:
                assert chat.ask(Request("r", found[0], "p", "Say it.", 1, 20)).ok


def test_a_deployment_gets_its_query_and_its_key():
    """The query stands behind the path, and Azure's header carries the key."""
    routes = SITES["deployment"]
    with FaultServer(routes=routes) as server:
        address = f"{server.address}/openai/deployments/fast?api-version=2026-01-01"
        with ChatClient(address, api_key=KEY) as chat:
            assert chat.ask(request("fast")).ok
        (call,) = server.calls
    assert call.line == "POST /openai/deployments/fast/chat/completions?api-version=2026-01-01"
    assert call.headers["api-key"] == KEY


@pytest.mark.parametrize("status", [301, 302, 307, 308])
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


def test_a_certificate_that_nobody_vouches_for_is_named(secure: FaultServer):
    """The reason, and the variable that names a certificate."""
    with ChatClient(secure.base_url) as chat:
        answer = chat.ask(request("fast"))
        with pytest.raises(EndpointError, match="SSL_CERT_FILE"):
            chat.list_models()
    assert answer.error_kind == "tls" and "SSL_CERT_FILE" in (answer.error or "")


def test_a_certificate_of_the_users_is_taken_with_proxies_set(secure: FaultServer, monkeypatch: pytest.MonkeyPatch):
    """Bypassing the proxy for this machine does not forget SSL_CERT_FILE; the times are those of http."""
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")
    with ChatClient(secure.base_url) as chat:
        answers = [chat.ask(request("doubled")) for _ in range(3)]
    assert all(answer.ok and answer.text == SAID for answer in answers)
    assert min(timing.first_token_s(answer) for answer in answers) == pytest.approx(FIRST_S + 0.01, abs=0.0105)


def test_https_at_a_port_of_http_and_http_at_one_of_https(base_url: str, secure: FaultServer):
    """Each is said, with the other scheme."""
    with ChatClient(base_url.replace("http://", "https://")) as chat:
        to_plain = chat.ask(request("fast"))
    with ChatClient(secure.base_url.replace("https://", "http://")) as chat:
        to_secure = chat.ask(request("fast"))
    assert (to_plain.error_kind, to_secure.error_kind) == ("tls", "tls")
    assert "http://" in (to_plain.error or "") and "https://" in (to_secure.error or "")


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


@pytest.mark.parametrize("timeouts_s", [(0.3, 1.0, 5.0, 10.0)])
def test_silence_is_limited_by_the_time_that_was_set(base_url: str, timeouts_s: tuple[float, ...]):
    """Before and in the middle of an answer, for several values, the HTTP library's default of 5 s among them."""

    def took(timeout_s: float, model: str) -> tuple[float, str | None, str]:
        started = time.monotonic()
        with ChatClient(base_url, timeout_s=timeout_s) as chat:
            answer = chat.ask(request(model))
        return time.monotonic() - started, answer.error_kind, answer.error or ""

    cases = [(timeout_s, model) for timeout_s in timeouts_s for model in ("stall-before", "stall-middle")]
    with ThreadPoolExecutor(len(cases)) as pool:
        for (timeout_s, model), (took_s, kind, said_) in zip(
            cases, pool.map(lambda case: took(*case), cases), strict=True
        ):
            assert (kind, took_s) == ("stalled", pytest.approx(timeout_s + 0.5, abs=0.51)), (timeout_s, model)
            assert f"for {timeout_s:g} s" in said_


@pytest.mark.parametrize("timeout_s", [5.0, 600.0])
def test_the_time_that_was_set_is_the_time_that_acts(base_url: str, timeout_s: float, monkeypatch: pytest.MonkeyPatch):
    """Seen at the socket, without waiting: every read but those after the end has it."""
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
    assert shown.count(timeout_s) >= len(shown) - 1 > 4  # all but the connection's; on a busy machine reads are fewer


# -- the full script

ROWS: dict[str, tuple[str, set[str], str]] = {
    "reason-empty-cut": ("failed", set(), "ended before"),
    "no-done-open": ("ok", set(), ""),
    "error-event": ("failed", set(), TOO_LONG),
    "cr-only": ("ok", set(), ""),
    "thinking-parts": ("ok", set(), ""),
    "tag-closing-only": ("ok", set(), ""),
    "all-reasoning": ("ok", {"empty_answers", "truncated"}, ""),
    "tool-call": ("failed", set(), "look_up"),
    "usage-first": ("ok", {"usage_mismatch"}, ""),
    "usage-too-many": ("ok", {"hidden_tokens"}, ""),
    "refuses-two-openai": ("ok", set(), "max_tokens sent as max_completion_tokens; temperature dropped"),
    "busy-ms": ("ok", set(), "waited 0.4 s"),
    "echo-in-error": ("failed", set(), "HTTP 401"),
}
"""Model → status, warning codes of `CODES`, and words of the error or the request notes of its row."""


def test_the_full_script_says_it_in_its_rows(base_url: str, tmp_path: Path):
    """One run of many such models: each row has its status, codes and reason, and no file has the key."""
    done = run(FULL, "--output", str(tmp_path), FOUNDRY_LOCAL_ENDPOINT=base_url, BENCH_MODELS=",".join(ROWS),
               BENCH_ROUNDS="1", BENCH_PROMPT="Say it.", BENCH_MAX_TOKENS="16", API_KEY=KEY)  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = {row["alias"]: row for row in json.loads(done.stdout)}
    assert {
        model: (row["status"], CODES & set(row["warnings"]))
        for model, row in rows.items()
    } == {model: (status, found) for model, (status, found, _) in ROWS.items()}  # fmt: skip
    for model, (_, _, words) in ROWS.items():
        assert words in f"{rows[model]['error'] or ''} {'; '.join(rows[model]['request_notes'])}", model
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert KEY.encode() not in written and KEY not in done.stdout + done.stderr


def test_fail_on_empty_sees_thinking_that_ate_the_answer(base_url: str, tmp_path: Path):
    """The row is ok and warns; with the flag the script ends with 1 and names the model."""
    settings = {"FOUNDRY_LOCAL_ENDPOINT": base_url, "BENCH_MODELS": "all-reasoning", "BENCH_ROUNDS": "1"}
    done = run(FULL, "--fail-on-empty", "--max-tokens", "16", "--output", str(tmp_path), **settings)
    assert done.returncode == 1
    assert "all-reasoning" in done.stderr


@pytest.mark.parametrize(("timeout_s", "model"), [(1, "stall-before"), (5, "stall-middle")])
def test_the_script_gives_up_after_its_time_out(base_url: str, tmp_path: Path, timeout_s: int, model: str):
    """BENCH_TIMEOUT of 1 and 5 is what every request waits for; two failures are enough."""
    started = time.monotonic()
    done = run(FULL, "--output", str(tmp_path), FOUNDRY_LOCAL_ENDPOINT=base_url, BENCH_MODELS=model,
               BENCH_TIMEOUT=str(timeout_s), BENCH_ROUNDS="1")  # fmt: skip
    assert 2 * timeout_s <= time.monotonic() - started < 2 * timeout_s + 20
    (row,) = json.loads(done.stdout)
    assert row["status"] == "failed" and f"for {timeout_s} s" in row["error"]
    assert (tmp_path / "benchmark_report.html").exists()
