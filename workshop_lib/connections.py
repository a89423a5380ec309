"""How a server is reached: proxies, certificates, and what a failed attempt really means.

Proxies never stand between this machine and itself; certificates are checked as `SSL_CERT_FILE` says. Knows httpx2 and
the network's errors; knows nothing of models.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import getproxies, proxy_bypass

from workshop_lib import credentials
from workshop_lib.errors import ConfigurationError
from workshop_lib.streams import StreamFault, error_message

if TYPE_CHECKING:
    import httpx2

    from workshop_lib.addresses import Address

CERTIFICATES, KEY_LOG = "SSL_CERT_FILE", "SSLKEYLOGFILE"
NO_PROXY = "NO_PROXY names the hosts to reach without a proxy."
_PROXY_SCHEMES = ("http://", "https://", "socks5://", "socks5h://", "socks4://")
_TLS_ALERT = "\\x15\\x03"
"""What a TLS server says to plain text, as the HTTP library quotes it."""


def open_http(address: Address, on_request: Callable[[httpx2.Request], None]) -> httpx2.Client:
    """Return an HTTP client that opens a connection per request, never follows redirects and never retries.

    Raises:
        ConfigurationError: a proxy or a certificate file that the environment names cannot be used.
    """
    import httpx2

    limits = httpx2.Limits(max_keepalive_connections=0)
    try:
        verify = httpx2.create_ssl_context() if address.scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    except OSError as error:
        named, log = os.environ.get(CERTIFICATES), os.environ.get(KEY_LOG)
        if log is not None and not isinstance(error, ssl.SSLError) and (not named or Path(named).is_file()):
            said = f"{KEY_LOG} names {log!r}, which cannot be written: {error.strerror}."
            raise ConfigurationError(said, f"Correct or unset {KEY_LOG}.") from None
        said = f"The certificates of {CERTIFICATES} ({named!r}) cannot be read: {error.strerror or error}."
        fix = f"Correct {CERTIFICATES}, or unset it to use the system's certificates."
        raise ConfigurationError(said, fix) from None
    try:
        return httpx2.Client(
            verify=verify,
            limits=limits,
            headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "workshop-lib"},
            transport=httpx2.HTTPTransport(verify=verify, limits=limits) if address.is_local else None,
            event_hooks={"request": [on_request]},
        )
    except (ImportError, ValueError, httpx2.InvalidURL) as error:
        variable, proxy = proxy_for(address) or ("HTTP_PROXY, HTTPS_PROXY or ALL_PROXY", "a proxy")
        is_socks = isinstance(error, ImportError)
        why = "SOCKS needs a package that is not installed" if is_socks else "it is no http:// URL"
        said = f"{variable} names {proxy}, which cannot be used: {why}."
        raise ConfigurationError(said, f"Correct or unset {variable}. {NO_PROXY}") from None


def proxy_for(address: Address) -> tuple[str, str] | None:
    """Return the variable that sends requests through a proxy, and the proxy without its password; None without one."""
    if address.is_local or proxy_bypass(address.host):
        return None
    proxies = getproxies()
    scheme = next((scheme for scheme in (address.scheme, "all") if proxies.get(scheme)), None)
    if scheme is None:
        return None
    start, at, host = proxies[scheme].rpartition("@")  # a password may hold any letter, also one that ends a host
    prefix = next((each for each in _PROXY_SCHEMES if start.startswith(each)), "")
    credentials.remember(start.removeprefix(prefix).partition(":")[2])
    name = f"{scheme}_proxy"
    return name if name in os.environ else name.upper(), (f"{prefix}{credentials.REMOVED}@" if at else "") + host


def explain(error: Exception, address: Address, timeout_s: float) -> StreamFault:
    """Return what an exception of the HTTP library means, with the true cause."""
    import httpx2

    causes = _chain(error)
    if (tls := _tls_fault(causes, address)) is not None:
        return tls
    if isinstance(error, httpx2.ProxyError | httpx2.ConnectError | httpx2.ConnectTimeout):
        return _unreached(error, causes, address, timeout_s)
    if isinstance(error, httpx2.TimeoutException):
        return StreamFault("stalled", f"The server sent no byte for {timeout_s:g} s.")
    return StreamFault(
        "reset", f"The connection broke: {error_message(str(error)).rstrip('.') or type(error).__name__}."
    )


WEB_PAGE = "(a web page; is a proxy in between?)"


def advice(fault: StreamFault, address: Address) -> str:
    """Return what to do about a fault, in one or two sentences."""
    kind = "not_json" if WEB_PAGE in str(fault) else fault.kind
    if kind == "no_server":
        return (
            f"Start the server or correct the address (port {address.port}?): `foundry server status` (CLI 0.10 and "
            "later) or `foundry service status` (until 0.9) prints the right one."
        )
    if kind in {"proxy", "http_407"}:
        variable, _ = proxy_for(address) or ("the proxy variable", "")
        return f"Correct or unset {variable}. {NO_PROXY}"
    return _ADVICE.get(kind, "Check the server's log, then try again.")


_ADVICE = {
    "tls": "docs/TROUBLESHOOTING.md has more on certificates.",
    **dict.fromkeys(
        ("not_json", "http_404", "http_405", "redirect"),
        "Check that FOUNDRY_LOCAL_ENDPOINT ends in /v1, has the right port, and that no proxy answers instead "
        "(NO_PROXY names the hosts to reach without one).",
    ),
    **dict.fromkeys(("http_401", "http_403"), f"Set {credentials.KEY_VARIABLE} to a key that this server accepts."),
}


def _chain(error: BaseException) -> list[BaseException]:
    """The exception and what it came from, outermost first."""
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    return causes


def _tls_fault(causes: list[BaseException], address: Address) -> StreamFault | None:
    """A certificate that is not trusted, http spoken to https, or https to http; None for anything else."""
    said = next((each for each in causes if isinstance(each, ssl.SSLError)), None)
    if isinstance(said, ssl.SSLCertVerificationError):
        why, named = (said.verify_message or str(said)).rstrip("."), os.environ.get(CERTIFICATES)
        if said.verify_code in _NOT_MENDED_BY_A_FILE:
            does = _NOT_MENDED_BY_A_FILE[said.verify_code]
            return StreamFault("tls", f"The certificate of {address.origin} is not valid: {why}. {does}")
        unless = f" ({CERTIFICATES} is {named!r}, which does not vouch for it)" if named else ""
        mended = f"Set {CERTIFICATES} to a PEM file that holds it or who signed it."
        return StreamFault("tls", f"The certificate of {address.origin} is not trusted: {why}{unless}. {mended}")
    if said is not None:
        if said.reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL"}:
            return StreamFault("tls", f"{address.origin} does not speak https: begin the address with http://.")
        return StreamFault("tls", f"No https connection to {address.origin}: {said.reason or said}.")
    if address.scheme == "https" or any(isinstance(each, ConnectionRefusedError) for each in causes):
        return None
    quoted = any(_TLS_ALERT in str(each) for each in causes)
    closed = any(isinstance(each, ConnectionError) or "without sending a response" in str(each) for each in causes)
    return wants_https(address) if quoted or (closed and speaks_tls(address)) else None


_CLOCK = "Check this machine's clock; if it is right, the server needs a new certificate."
_NAME = "Give the address with a name that the certificate holds."
_NOT_MENDED_BY_A_FILE = {9: _CLOCK, 10: _CLOCK, 62: _NAME, 64: _NAME}
"""OpenSSL's codes: not yet valid, expired, another name, another address."""


def wants_https(address: Address) -> StreamFault:
    """The fault of speaking http to a server of https."""
    return StreamFault("tls", f"{address.origin} speaks https: begin the address with https://.")


def speaks_tls(address: Address) -> bool:
    """Whether a TLS handshake succeeds there; nothing is sent, so its certificate does not matter."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with suppress(OSError), socket.create_connection((address.host, address.port or 80), timeout=2.0) as plain:
        context.wrap_socket(plain, server_hostname=address.host).close()
        return True
    return False


def _unreached(error: Exception, causes: list[BaseException], address: Address, timeout_s: float) -> StreamFault:
    """Nobody answered: neither the server nor, where one stands between, the proxy."""
    import httpx2

    unknown = any(isinstance(each, socket.gaierror) for each in causes)
    if proxy := proxy_for(address):
        variable, shown = proxy
        why = f"cannot be reached: {'its name is not known' if unknown else 'it does not answer'}"
        if isinstance(error, httpx2.ProxyError):
            why = f"refused: {error_message(str(error))}"
        return StreamFault("proxy", f"The proxy {shown} ({variable}) {why}.")
    said = f"No server listens at {address.shown}."
    if unknown:
        said = f"The name {address.host} is not known in this network."
    elif isinstance(error, httpx2.ConnectTimeout):
        said = f"No server answered at {address.shown} within {timeout_s:g} s."
    return StreamFault("no_server", said)
