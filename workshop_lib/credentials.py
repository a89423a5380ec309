"""Keys: the one place that makes them, and the one that takes them out of every text before it is shown or stored.

    key = checked_key(os.environ.get("API_KEY"))
    redact("Incorrect key: sk-1234")     # every known key becomes [key]

`WorkshopError` passes its text through `redact`, and the client what servers say.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from html import escape
from urllib.parse import quote

KEY_VARIABLE = "API_KEY"
REMOVED = "[key]"

SHORTEST, SHORTEST_WORD = 4, 8
"""A shorter text is no key, nor is a shorter one of letters or digits alone: taking them out would break words.

Servers that ask for no key are given `1234`, `llama` or `local`, which are also ports and parts of models' names.
"""

PLACEHOLDERS = {
    "anything", "dummy", "empty", "fake", "foundry", "key", "localai", "lmstudio", "lm-studio", "no-key", "none",
    "not-needed", "null", "ollama", "placeholder", "secret", "sk-no-key-required", "test", "unused", "vllm",
}  # fmt: skip
"""What users give to servers that ask for no key: not secret, and often part of a model's name."""

_BEARER = re.compile(r"(?i)\b(bearer|basic)([\s:=]+)(?=[!-~]*\d|[!-~]{20})[!-~]{4,}")
_NAMED = re.compile(
    r"""(?i)((?:api[-_]?key|secret|password|access[-_]token)\\?["']?\s*[:=]\s*\\?["']?)"""
    r"""(?=[^\s"'\\,;&}]*\d|[^\s"'\\,;&}]{20})[^\s"'\\,;&}]{4,}"""
)
_USER_INFO = re.compile(r"(?i)\b((?:https?|socks\w*|ftp)[:/]+)[^\s/]+@")
_known: set[str] = set()


class InvalidKeyError(ValueError):
    """A text that is no key; its message never holds the text."""


def checked_key(text: str | None) -> str | None:
    r"""Return a key as it is sent, without white space around it; None for none.

    A byte order mark or quotes around it, as pasting and shells leave them, are no part of it either.

    Raises:
        InvalidKeyError: it holds what no header can: line breaks, spaces, letters beyond ASCII. The key is not shown.

    >>> checked_key("sk-1234\r\n"), checked_key("  ")
    ('sk-1234', None)
    """
    key = (text or "").strip().strip("\ufeff").strip()
    if len(key) > 1 and key[0] == key[-1] and key[0] in "'\"":
        key = key[1:-1].strip()
    if not key:
        return None
    place = next((place for place, letter in enumerate(key, 1) if not "!" <= letter <= "~"), None)
    remember(key)
    if place is not None:
        kind = f"U+{ord(key[place - 1]):04X}"
        raise InvalidKeyError(f"holds a character that no key has ({kind}, at place {place} of {len(key)})")
    return key


def remember(secret: str | None) -> None:
    """Take a secret out of every text from now on: a key, a password of a URL."""
    for part in (secret or "").split():
        shortest = SHORTEST_WORD if part.isalpha() or part.isdigit() else SHORTEST
        if len(part) >= shortest and part.lower() not in PLACEHOLDERS:
            _known.add(part)


def redact(text: str) -> str:
    """Return the text without any known key, bearer token or user-info of a URL.

    >>> redact("http://me:pw@host said: Bearer abcdef")
    'http://[key]@host said: Bearer [key]'
    """
    for way in _ways():
        text = text.replace(way, REMOVED)
    text = _BEARER.sub(lambda found: f"{found[1]}{found[2]}{REMOVED}", text)
    text = _NAMED.sub(lambda found: f"{found[1]}{REMOVED}", text)
    return _USER_INFO.sub(lambda found: f"{found[1]}{REMOVED}@", text)


def cut_from_texts(pieces: Sequence[str]) -> list[str]:
    """Return pieces of one text without known keys, also where a key stands across pieces; their number stays."""
    kept = list(pieces)
    for secret in _ways():
        done = 0
        while (start := "".join(kept).find(secret, done)) >= 0:
            at, end, done = 0, start + len(secret), start + len(REMOVED)
            for place, piece in enumerate(kept):
                first, last = (min(max(edge - at, 0), len(piece)) for edge in (start, end))
                removed = REMOVED if at <= start < at + len(piece) else ""
                kept[place] = piece[:first] + removed + piece[last:]
                at += len(piece)
    return kept


def _ways() -> list[str]:
    """Every way to write what is known, longest first: as it is, in a URL, in JSON, in Python, in a web page."""
    remember(os.environ.get(KEY_VARIABLE))
    ways: set[str] = set()
    for secret in _known:
        in_json = json.dumps(secret)[1:-1]
        ways |= {
            secret,
            quote(secret, safe=""),
            in_json,
            in_json.replace("/", "\\/"),
            repr(secret)[1:-1],
            escape(secret),
        }
    return sorted(ways, key=len, reverse=True)
