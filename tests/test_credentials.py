"""Keys: made in one place, shown in none."""

from __future__ import annotations

import json
from itertools import pairwise
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workshop_lib import credentials
from workshop_lib.credentials import InvalidKeyError, checked_key, cut_from_texts, redact
from workshop_lib.errors import ConfigurationError, WorkshopError
from workshop_lib.settings import read_key

KEY = "sk-T0p/Secret+9"


@pytest.fixture(autouse=True)
def _no_other_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "_known", {KEY})


@pytest.mark.parametrize(
    "given_key", ["sk-1234\n", "\tsk-1234\r\n", "\ufeffsk-1234", "'sk-1234'", '"sk-1234" ', " sk-1234 "]
)
def test_what_surrounds_a_pasted_key_is_no_part_of_it(given_key: str):
    """Line ends, spaces, a byte order mark and quotes are left by files and shells."""
    assert checked_key(given_key) == "sk-1234"


@pytest.mark.parametrize("none", [None, "", "  ", "\n"])
def test_nothing_is_no_key(none: str | None):
    """An empty variable counts as absent."""
    assert checked_key(none) is None


@pytest.mark.parametrize(
    "bad", ["sk\u2014T0pSecret", "sk-T0p\u200bSecret", "sk-T0p Secret", "sk-T0p\nSecret", "ключ-T0p9"]
)
def test_a_text_that_no_header_can_hold_is_refused_without_being_shown(bad: str):
    """Exit code 2 and the place of the fault, but no part of the key."""
    with pytest.raises(InvalidKeyError) as caught:
        checked_key(bad)
    with pytest.raises(ConfigurationError) as shown:
        read_key({"API_KEY": bad})
    assert shown.value.exit_code == 2
    for part in (*bad.split(), "Secret", "T0p"):
        assert part not in str(caught.value) and part not in str(shown.value)


@pytest.mark.parametrize(
    "said",
    [
        f"Incorrect key: {KEY}.",
        f"b'Bearer {KEY}'",
        quote(KEY, safe=""),
        json.dumps({"key": KEY}).replace("/", "\\/"),
        "http://me:pass-w0rd@host/v1",
        "http//me:pass-w0rd@host",
        "socks5://me:pass-w0rd@proxy:1080",
        "Authorization: Bearer abcd1234efgh",
        '{"api_key": "abcd1234efgh"}',
        "api-key=abcd1234efgh",
        'password: "abcd1234efgh"',
    ],
)
def test_no_way_to_write_a_secret_passes(said: str):
    """As it is, quoted for URLs or JSON, as user-info of a URL, as a bearer token."""
    shown = redact(said)
    for secret in (KEY, quote(KEY, safe=""), "pass-w0rd", "abcd1234efgh", "Secret"):
        assert secret not in shown
    assert credentials.REMOVED in shown


@pytest.mark.parametrize("plain", ["A basic model.", "Missing bearer token.", "mail me@host", "ollama runs tiny:1"])
def test_what_is_no_secret_stays(plain: str, monkeypatch: pytest.MonkeyPatch):
    """Neither prose nor the placeholder keys of local servers are taken out."""
    monkeypatch.setenv("API_KEY", "ollama")
    assert redact(plain) == plain


@pytest.mark.parametrize("text", [f"a {KEY} b", f"{KEY}{KEY}", "nothing secret", KEY[:-1]])
@given(cuts=st.lists(st.integers(0, 40), max_size=6))
def test_a_key_that_stands_across_pieces_is_taken_out(text: str, cuts: list[int]):
    """However a stream is cut, the number of pieces stays, the key goes and the rest stays."""
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[first:last] for first, last in pairwise(places)]
    kept = cut_from_texts(pieces)
    assert len(kept) == len(pieces)
    assert "".join(kept) == text.replace(KEY, credentials.REMOVED)


def test_every_error_of_ours_passes_here(monkeypatch: pytest.MonkeyPatch):
    """What happened and what to do are shown without the key, also one that only the environment knows."""
    monkeypatch.setenv("API_KEY", "  env-k3y-1234\n")
    error = WorkshopError(f"Said {KEY}.", "Not env-k3y-1234.")
    assert str(error) == f"Said {credentials.REMOVED}. Not {credentials.REMOVED}."
    assert error.args == (error.what, error.fix)
