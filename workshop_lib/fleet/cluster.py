"""Dask's parts of a fleet: a scheduler, machines that join it, and the lock on all of them.

Dask runs whatever program it is sent, and knows no passwords. What it has is TLS in both directions: everybody shows
the fleet's *key*, a certificate, and asks for it. Dask does not tell one participant from another, so a key for each
would only look safer: whoever holds one can run any program on every machine that is connected.

A machine that joins opens the connection itself and listens on loopback only. The scheduler is the one part that others
must reach; it listens on loopback unless asked, and beyond it only with the key. Knows no plans.
"""

from __future__ import annotations

import logging
import os
import socket
import ssl
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from workshop_lib import addresses, files
from workshop_lib.errors import ConfigurationError, EndpointError
from workshop_lib.fleet import worker
from workshop_lib.show.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 8786
KEY_FILE = "fleet-key.pem"
REACH_S, CONNECT_S, RETRY_S = 5.0, 15.0, 2.0
INSTALL = (
    "In the workshop's folder: .venv/bin/python -m pip install -r requirements-fleet.txt "
    r"(in PowerShell .venv\Scripts\python)"
)
QUIET: dict[str, Any] = {
    "distributed.admin.tick.interval": "500ms",  # the event loop's own health check, 50 times a second by default
    "distributed.admin.system-monitor.gil.enabled": False,  # would ask for the interpreter's lock every millisecond
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.admin.log-length": 1,  # events that a scheduler keeps per topic: ours are written on arrival
    "distributed.diagnostics.nvml": False,  # no looking at graphics cards beside a benchmark
    "distributed.worker.profile.enabled": False,  # would look at the worker's threads every 10 ms
    "distributed.scheduler.worker-ttl": "60s",  # a laptop that fell silent is gone after a minute, not after five
    "distributed.scheduler.allowed-failures": 10,  # a laptop may come back as often
}
NO_WEB_PAGE = {"dashboard": False, "dashboard_address": f"{LOOPBACK}:0"}  # by default on every interface


def engine() -> Any:
    """Return the module `distributed`, set up so that it leaves a measuring machine in peace.

    Raises `ConfigurationError`, which says how to install it, where it is missing.
    """
    try:
        import distributed
    except ImportError as error:
        raise ConfigurationError(f"A fleet needs the package distributed ({error}).", f"{INSTALL}.") from None
    distributed.dask.config.set(QUIET)
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # our own errors say what happened
    return distributed


def make_key(folder: Path, *, days: int) -> None:
    """Make the fleet's key: a certificate and its private key in one file, in a new folder that git leaves out."""
    engine()
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    if days < 1:
        raise ConfigurationError(f"days is {days}.", "Give 1 or more.")
    if folder.is_dir() and any(folder.iterdir()):
        raise ConfigurationError(f"{folder} is not empty.", "Give a new folder.")
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "workshop fleet")])
    certificate = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # clocks of laptops differ
        .not_valid_after(now + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    content = certificate.public_bytes(pem) + key.private_bytes(pem, form, serialization.NoEncryption())
    files.write_atomically(folder / ".gitignore", "*\n")
    with os.fdopen(os.open(folder / KEY_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)  # never readable by others, except on Windows by who may read the folder


def read_key(folder: Path | None) -> Any:
    """Return Dask's `Security` for a fleet's key, which then refuses who does not show it; None gives None: no TLS."""
    distributed = engine()
    if folder is None:
        return None
    pem = folder / KEY_FILE
    roles = {f"tls_{role}_cert": str(pem) for role in ("client", "scheduler", "worker")}
    security = distributed.Security(require_encryption=True, tls_ca_file=str(pem), **roles)
    try:
        if os.name == "posix":
            pem.chmod(0o600)  # a key that came by memory stick is often readable by all
        security.get_connection_args("client")
    except OSError as error:  # ssl.SSLError is one
        what = f"{folder} holds no key that can be used ({error.strerror or type(error).__name__})."
        raise ConfigurationError(what, "Give the folder that `fleet certificates` made.") from None
    return security


def check_exposure(host: str, security: object) -> None:
    """Raise `ConfigurationError` where `host` can be reached from outside and there is no TLS."""
    if not addresses.is_loopback(host) and security is None:
        what = f"Anyone who can reach {host} could run any program on every machine of the fleet: there is no TLS."
        raise ConfigurationError(what, "Make a key (fleet certificates FOLDER) and give --certificates FOLDER.")


def check_scheduler(address: str, security: Any) -> None:
    """See whether a scheduler answers and shows the fleet's key.

    Raises:
        ConfigurationError: no address, TLS on one side only, no TLS on a network, or the key of another fleet.
        EndpointError: nobody answers there.
    """
    scheme, host, port = split_address(address)
    check_exposure(host, security)
    if (scheme == "tls") != (security is not None):
        fix = "A tls:// address needs the fleet's key (--certificates), and a key needs a tls:// address."
        raise ConfigurationError(f"The address is {address}.", fix)
    try:
        with socket.create_connection((host, port), timeout=REACH_S) as plain:
            if security is not None:
                security.get_connection_args("worker")["ssl_context"].wrap_socket(plain).close()
    except ssl.SSLCertVerificationError as error:
        what = f"The scheduler has the key of another fleet, or its key has expired ({error.verify_message})."
        raise ConfigurationError(what, "Ask the instructor for the fleet's key.") from None
    except OSError as error:
        what = f"No scheduler answers at {address} ({error.strerror or error})."
        raise EndpointError(what, "Start it, or correct the address.") from None


def split_address(address: str) -> tuple[str, str, int]:
    """Split an address into its parts.

    >>> split_address("tls://192.0.2.7:8786")
    ('tls', '192.0.2.7', 8786)
    """
    with suppress(ValueError):  # a port that is no number
        parts = urlsplit(address)
        if parts.scheme in ("tcp", "tls") and parts.hostname and parts.port:
            return parts.scheme, parts.hostname, parts.port
    fix = f"Give it as tls://HOST:PORT, or tcp://{LOOPBACK}:PORT on one machine."
    raise ConfigurationError(f"'{address}' is no address of a scheduler.", fix)


def run_scheduler(host: str, port: int, *, security: Any = None, say: Callable[[str], None] = print) -> None:
    """Run a scheduler until it is interrupted. It computes nothing; its web page is off."""
    check_exposure(host, security)
    distributed = engine()
    options = {"host": host, "port": port, "protocol": "tls" if security else "tcp", "security": security}

    async def run() -> None:
        async with distributed.Scheduler(**options, **NO_WEB_PAGE) as scheduler:
            say(f"Scheduler: {scheduler.address}")
            await scheduler.finished()

    try:
        _run(run())
    except (OSError, RuntimeError) as error:
        what = f"No scheduler can listen on {host}:{port} ({error.__cause__ or error})."
        raise ConfigurationError(what, "Choose another --port, or stop what uses it.") from None


def join(address: str, *, name: str = "", security: Any = None, say: Callable[[str], None] = print) -> None:
    """Join a fleet as one machine, and join it again whenever the connection is lost, until it is interrupted."""
    engine()
    label = worker.label_of(name)
    while True:
        say(f"Joining {address} ...")
        try:
            check_scheduler(address, security)
            _run(_take_part(address, label, security, say))
            say("The connection ended.")
        except EndpointError as error:
            say(str(error))
        except (OSError, RuntimeError) as error:
            say(f"Not connected ({one_line(str(error.__cause__ or error)) or type(error).__name__}).")
        time.sleep(RETRY_S)


async def _take_part(address: str, label: str, security: Any, say: Callable[[str], None]) -> None:
    distributed = engine()
    scheme, host, port = split_address(address)
    own, own_port = distributed.utils.get_ip(host, port), distributed.utils.open_port(LOOPBACK)
    own = f"[{own}]" if ":" in own else own
    options = worker_options(label) | {
        "port": own_port,
        "contact_address": f"{scheme}://{own}:{own_port}",  # its name among the workers: nobody connects to it
        "protocol": scheme,
        "security": security,
        "death_timeout": CONNECT_S,
    }
    async with distributed.Worker(address, **options) as joined:
        say("Joined. Leave this window open, plug the laptop in, and close other programs. Ctrl-C leaves.")
        await joined.finished()


def worker_options(label: str) -> dict[str, Any]:
    """How Dask's `Worker` is a machine: one task at a time, which needs a resource that nobody else has.

    So Dask runs the task nowhere else, and runs it again when that machine comes back.
    """
    return {
        "name": label,
        "nthreads": 1,
        "resources": {label: 1},
        "host": LOOPBACK,
        "memory_limit": 0,
        "local_directory": str(worker.fleet_folder() / "dask"),
        **NO_WEB_PAGE,
    }


def connect(address: str, security: Any = None) -> Any:
    """Return Dask's `Client` of a scheduler: a context manager. Raises what `check_scheduler` does."""
    distributed = engine()
    check_scheduler(address, security)
    try:
        return distributed.Client(address, security=security, timeout=CONNECT_S, set_as_default=False)
    except OSError as error:
        raise EndpointError(f"{address} is no scheduler ({one_line(str(error))}).", "Correct the address.") from None


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run Dask's coroutines to their end, as its own commands do."""
    from distributed.compatibility import asyncio_run
    from distributed.config import get_loop_factory

    asyncio_run(work, loop_factory=get_loop_factory())
