"""The address of a server: parsed once, checked, and written without what is secret in it.

address = parse_address("http://0.0.0.0:5273/v1/chat/completions")
address.url("/models")      # 'http://127.0.0.1:5273/v1/models'
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, urlsplit

from workshop_lib import credentials
from workshop_lib.errors import ConfigurationError

EXAMPLE = "Give one like http://127.0.0.1:5273/v1."
VERSION_PATH = "/v1"
ROUTES = ("/chat/completions", "/chat", "/completions", "/responses", "/embeddings", "/models")
"""What a copied address may end in; the part before is the address of the server."""

HARMLESS = frozenset({"api-version", "version", "model", "deployment", "region"})
"""Parameters of an address that are no secret; the value of any other one is never shown."""

_AROUND = " \t\r\n\"'`<>\u201c\u201d\u2018\u2019\u201e\xab\xbb,;.\ufeff\u200b\xa0"
"""What copying from a text or a shell leaves around an address."""

_HOST = re.compile(r"[^\s/?#@\\<>\"'`{}|^%\x00-\x20]+")
_EVERY_INTERFACE = {**dict.fromkeys(("0.0.0.0", "0", "*", "+"), "127.0.0.1"), "::": "::1"}  # noqa: S104 - as addresses to ask, not to listen at


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server answers.

    Attributes:
        scheme: `http` or `https`.
        host: name or number, without brackets; `0.0.0.0` has become this machine.
        port: None = the scheme's own.
        path: begins with a slash and does not end in one; empty where the address has none.
        slash: what a server that redirects to `/models/` wants behind each route.
        query: what follows the question mark, e.g. `api-version=2026-01-01`; stands behind every path.
    """

    scheme: str
    host: str
    port: int | None = None
    path: str = ""
    query: str = ""
    slash: str = ""

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + (f":{self.port}" if self.port is not None else "")

    @property
    def shown(self) -> str:
        """The address for a person: without its query, which may hold a key."""
        return self.origin + self.path

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it, so that no proxy may stand between."""
        return is_loopback(self.host)

    def url(self, route: str = "") -> str:
        """The whole address of a route, e.g. `/models`, with the query behind it."""
        return f"{self.origin}{self.path}{route}{self.slash if route else ''}" + (
            f"?{self.query}" if self.query else ""
        )

    def with_version(self) -> Address:
        """The same server with `/v1` behind its path."""
        return replace(self, path=self.path + VERSION_PATH)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the host; a name other than localhost counts as reachable.

    >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0"), is_loopback("localhost")
    (True, False, True)
    """
    if host.lower().rstrip(".") == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        number = ipaddress.ip_address(host)
    except ValueError:
        return False
    return (getattr(number, "ipv4_mapped", None) or number).is_loopback


def parse_address(text: str) -> Address:
    """Return the address that a person gave, also with a route, quotes or slashes too many at its end.

    >>> parse_address("http://[::]:8080/").url("/models")
    'http://[::1]:8080/v1/models'

    Raises:
        ConfigurationError: it is none, or it carries a user name or password; secrets are not shown.
    """
    given = text.strip(_AROUND)
    shown = "(not shown: it holds '@')" if "@" in given else repr(given.split("?")[0][:200])
    try:
        parts = urlsplit(given)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise ConfigurationError(f"The endpoint {shown} is no address: {_plain(error)}.", EXAMPLE) from None
    if parts.username is not None or parts.password is not None:
        credentials.remember(parts.password)
        raise ConfigurationError(
            "The endpoint URL carries a user name or password.", "Pass the key as API_KEY instead."
        )
    if parts.scheme not in {"http", "https"} or not _HOST.fullmatch(host) or port == 0:
        raise ConfigurationError(f"The endpoint {shown} is no http(s) URL with a host.", EXAMPLE)
    for name, value in parse_qsl(parts.query):
        if name.lower() not in HARMLESS:
            credentials.remember(value)
    path = re.sub("/{2,}", "/", parts.path).rstrip("/")
    route = next((route for route in ROUTES if path.endswith(route)), "")
    path = path.removesuffix(route)
    if not path and not route:
        path = VERSION_PATH
    return Address(parts.scheme, _EVERY_INTERFACE.get(host, host), port, path, parts.query)


def _plain(error: ValueError) -> str:
    said = str(error)
    if "NFKC" in said:
        return "it holds a letter that only looks like one of an address"
    return "the port is no number from 1 to 65535" if "Port" in said else "a bracket of an IPv6 address is missing"
