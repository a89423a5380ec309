"""Addresses as people give them."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workshop_lib.addresses import is_loopback, parse_address
from workshop_lib.errors import ConfigurationError


@pytest.mark.parametrize(
    ("given_address", "models"),
    [
        ("http://127.0.0.1:5273/v1", "http://127.0.0.1:5273/v1/models"),
        ("http://127.0.0.1:5273", "http://127.0.0.1:5273/v1/models"),
        (" 'http://localhost:1234/v1/' ", "http://localhost:1234/v1/models"),
        ("http://host:1/v1/chat/completions", "http://host:1/v1/models"),
        ("https://gate.example/llm/v1", "https://gate.example/llm/v1/models"),
        ("http://0.0.0.0:8080/v1", "http://127.0.0.1:8080/v1/models"),
        ("http://[::]:8080/v1", "http://[::1]:8080/v1/models"),
        (
            "https://me.example/openai/deployments/x?api-version=2026-01-01",
            "https://me.example/openai/deployments/x/models?api-version=2026-01-01",
        ),
        (
            "https://me.example/openai/deployments/x/chat/completions?api-version=2026-01-01",
            "https://me.example/openai/deployments/x/models?api-version=2026-01-01",
        ),
        ("\u201chttp://127.0.0.1:5273/v1\u201d", "http://127.0.0.1:5273/v1/models"),
        ("http://*:5273", "http://127.0.0.1:5273/v1/models"),
    ],
)
def test_an_address_is_understood_however_it_was_copied(given_address: str, models: str):
    """With a route, slashes, quotes or a query; the query stays behind the path."""
    assert parse_address(given_address).url("/models") == models


@pytest.mark.parametrize(
    "bad",
    [
        "127.0.0.1:5273", "localhost:5273/v1", "ftp://host/v1", "http://", "http:///v1", "http//me:secret@host",
        "http://me:secret@host/v1", "http://me@host:1/v1", "http:/me:secret@host/v1", "http://host:99999/v1",
        "http://host:port/v1", "http://host:-1/v1", "http://host:0/v1", "http://[::1:5/v1", "http://ho st/v1",
        "http://host\\v1", "http://h:70000/v1?key=secret9",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_without_its_secrets(bad: str):
    """Exit code 2; a password is never shown, however the scheme is misspelt."""
    with pytest.raises(ConfigurationError) as caught:
        parse_address(bad)
    assert caught.value.exit_code == 2
    assert "secret" not in str(caught.value)


def test_the_query_is_never_shown():
    """An address may carry a key; people see it without."""
    address = parse_address("https://host/v1?api-key=abc-k3y-999")
    assert address.shown == "https://host/v1"


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_a_clear_fault(text: str):
    """Nothing else than `ConfigurationError` leaves the parser."""
    for given_address in (text, f"http://{text}", f"http://host{text}"):
        with suppress(ConfigurationError):
            assert parse_address(given_address).host


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("::ffff:127.0.0.1", True), ("localhost", True),
        ("LOCALHOST", True), ("app.localhost", True), ("10.0.0.1", False), ("host", False), ("0.0.0.0", False),
        ("localhost.example", False),
    ],
)  # fmt: skip
def test_only_this_machine_is_local(host: str, local: bool):
    """Proxies are bypassed for this machine alone."""
    assert is_loopback(host) is local
