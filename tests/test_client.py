"""The instrument against a loopback endpoint with known timing and known faults."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

import pytest

from tests.behaviours import BEHAVIOURS, SITES
from tests.fault_server import FaultServer, fault_server, free_port
from tests.measurement_helpers import request
from workshop_lib import timing
from workshop_lib.addresses import parse_address
from workshop_lib.client import ChatClient
from workshop_lib.errors import ConfigurationError, EndpointError
from workshop_lib.records import Request
from workshop_lib.runtimes.profiles import open_runtime


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    """The fake server in a process of its own."""
    with fault_server() as url:
        yield url


@pytest.fixture
def client(base_url: str) -> Iterator[ChatClient]:
    """A client that gives up after half a second without a byte."""
    with ChatClient(base_url, timeout_s=0.5) as chat:
        yield chat


def test_models_are_listed(client: ChatClient):
    """`/v1/models` gives the ids in order."""
    assert client.list_models() == tuple(BEHAVIOURS)


@pytest.mark.parametrize("model", ["steady", "early-role", "coalesced"])
def test_pace_is_the_servers_pace(client: ChatClient, model: str):
    """10 ms a token is measured as 10 ms a token, role chunks and coalesced chunks notwithstanding."""
    paces = [timing.time_per_output_token_s(client.ask(request(model))) for _ in range(3)]
    assert median(pace for pace in paces if pace) == pytest.approx(0.010, rel=0.04)


def test_an_early_role_chunk_is_not_the_first_token(client: ChatClient):
    """The first token of `early-role` is due after 50 ms, not with the role chunk at 0 ms."""
    first = timing.first_token_s(client.ask(request("early-role")))
    assert first is not None and first >= 0.050


def test_reasoning_gives_both_times(client: ChatClient):
    """Ten reasoning tokens before the answer: first token at 50 ms, first visible one at 150 ms."""
    answer = client.ask(request("reasoning"))
    first, visible = timing.first_token_s(answer), timing.first_visible_token_s(answer)
    assert first is not None and visible is not None
    assert visible - first == pytest.approx(0.100, abs=0.02)


def test_hidden_tokens_give_no_rate(client: ChatClient):
    """30 of 40 tokens are never streamed: the rate is withheld."""
    answer = client.ask(request("hidden"))
    assert timing.has_hidden_tokens(answer)
    assert timing.decode_tokens_per_s(answer) is None


def test_a_connection_used_before_is_not_used_again(base_url: str):
    """After `list_models` on the same client a request still opens its own connection: connect time is measured."""
    with ChatClient(base_url) as chat:
        chat.list_models()
        assert chat.ask(request()).connect_s is not None


def test_a_one_piece_answer_has_a_latency_only(client: ChatClient):
    """Without streaming, 40 tokens end after 50 ms + 39 x 10 ms = 440 ms."""
    whole = client.ask(request(stream=False))
    latency = timing.latency_s(whole)
    assert not whole.streamed
    assert latency is not None and latency >= 0.440
    assert timing.completion_tokens(whole) == (40, "usage")


def test_max_tokens_cuts_and_says_so(client: ChatClient):
    """With max_tokens 5 the answer has 5 tokens and is marked as truncated."""
    cut = client.ask(request(max_tokens=5))
    assert (cut.completion_tokens, cut.finish_reason) == (5, "length")


@pytest.mark.parametrize(
    ("model", "kind", "kept"),
    [
        ("http-400", "http_400", ""),
        ("http-429", "http_429", ""),
        ("http-500", "http_500", ""),
        ("proxy-page", "not_json", ""),
        ("stall-before", "stalled", ""),
        ("stall-middle", "stalled", " half"),
        ("reset", "reset", " half"),
        ("bad-json", "bad_json", " half"),
        ("bad-utf8", "bad_utf8", " half"),
        ("long-line", "too_large", " half"),
        ("error-in-200", "server_error", " half"),
        ("empty", "empty_answer", ""),
        ("null", "empty_answer", ""),
        ("never-done", "stalled", " half"),
        ("cut-off", "cut_off", " half"),
        ("endless", "endless", " half more"),
        ("not-listed", "http_404", ""),
    ],
)
def test_every_fault_is_a_record_with_its_kind(
    client: ChatClient, monkeypatch: pytest.MonkeyPatch, model: str, kind: str, kept: str
):
    """No fault raises; each is named, and what arrived before it is kept."""
    monkeypatch.setattr("workshop_lib.client.LONGEST_KEEP_ALIVE_S", 0.5)
    failed = client.ask(request(model))
    assert (failed.error_kind, failed.text[:10]) == (kind, kept)
    assert failed.error
    assert timing.latency_s(failed) is None


def test_a_repeated_attempt_is_never_hidden():
    """The openai client's own retries are off: a failing request reaches the server once."""
    with FaultServer() as server, ChatClient(server.base_url) as chat:
        chat.ask(request("http-500"))
        assert server.requests["http-500"] == 1


def test_no_server_is_one_clear_sentence():
    """Nothing listens: the record and the listing both say so, and what to do."""
    with ChatClient(f"http://127.0.0.1:{free_port()}/v1") as chat:
        assert chat.ask(request()).error_kind == "no_server"
        with pytest.raises(EndpointError, match=r"No server listens .* `foundry server status"):
            chat.list_models()


def test_a_page_instead_of_a_model_list_is_named():
    """A proxy that answers `/v1/models` with a page is one clear sentence, not a decoding error."""
    with (
        FaultServer(routes=SITES["sign-in"]) as proxy,
        ChatClient(proxy.base_url) as chat,
        pytest.raises(EndpointError, match="ends in /v1"),
    ):
        chat.list_models()


@pytest.mark.parametrize("url", ["127.0.0.1:5273", "ftp://host/v1", "http://", "http://me:secret@host/v1"])
def test_addresses_that_cannot_work_are_refused(url: str):
    """Only http(s) with a host; keys belong into API_KEY."""
    with pytest.raises(ConfigurationError) as caught:
        parse_address(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:1/v1", True),
        ("http://localhost/v1", True),
        ("http://[::1]:1/v1", True),
        ("http://10.0.0.1/v1", False),
        ("http://host/v1", False),
    ],
)
def test_loopback_is_recognised(url: str, local: bool):
    """Only this machine's addresses bypass the proxy settings."""
    assert parse_address(url).is_local is local


def test_listing_models_first_does_not_delay_the_first_token_of_a_real_model():
    """On the real runtime a connection used before costs 27 ms or more; after `list_models` it must not show."""
    used_before, new = [], []
    with open_runtime("practice") as runtime:
        variant = runtime.find(["practice-small"], ["cpu"])[0]
        with runtime.serve(variant) as served, ChatClient(served.base_url) as client:
            question = Request("real/p/1", variant, "p", "What is edge AI?", 1, 8)
            for _ in range(9):
                client.list_models()
                used_before.append(timing.first_token_s(client.ask(question)))
                with ChatClient(served.base_url) as fresh:
                    new.append(timing.first_token_s(fresh.ask(question)))
    assert median(filter(None, used_before)) - median(filter(None, new)) < 0.015
