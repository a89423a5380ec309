"""The only import of `distributed`: there or not, and set up so that it leaves a measuring machine in peace.

Knows Dask's configuration and how Dask names things. Knows no plans, no files of records and no certificates.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from importlib import metadata
from typing import TYPE_CHECKING, Any

from workshop_lib.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Mapping

BENCH = "bench"
"""Resource of which every machine has one and every share takes one: never two benchmarks on one machine."""

DEFAULT_PORT = 8786
LOOPBACK = "127.0.0.1"
INSTALL = (
    "In the workshop's folder: .venv/bin/python -m pip install -r requirements-fleet.txt "
    r"(in PowerShell .venv\Scripts\python)"
)

QUIET: dict[str, Any] = {
    "distributed.admin.tick.interval": "500ms",  # the event loop's own health check, 50 times a second by default
    "distributed.admin.system-monitor.gil.enabled": False,  # would ask for the interpreter's lock every millisecond
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.admin.log-length": 200,  # events that a scheduler keeps per topic: ours are written on arrival
    "distributed.diagnostics.nvml": False,  # no looking at graphics cards beside a benchmark
    "distributed.worker.profile.enabled": False,  # would look at the worker's threads every 10 ms
    "distributed.worker.memory.target": False,  # nothing is stored, so nothing is spilled, paused or ended
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.worker.preload": [],  # programs that another project's settings would start in ours
    "distributed.scheduler.preload": [],
    "distributed.client.preload": [],
    "distributed.client.security-loader": None,
    "distributed.scheduler.worker-ttl": "60s",  # a laptop that fell silent is gone after a minute, not after five
    "distributed.scheduler.work-stealing": False,  # every share belongs to its machine
    "distributed.scheduler.active-memory-manager.start": False,
    "distributed.scheduler.allowed-failures": 10,  # a laptop may come back as often
}


def engine() -> Any:
    """Return the module `distributed`, set up quietly.

    Raises:
        ConfigurationError: it is not installed; says how to install it.
    """
    try:
        import distributed
    except ImportError as error:
        raise ConfigurationError(f"A fleet needs the package distributed ({error}).", f"{INSTALL}.") from None
    distributed.dask.config.set(QUIET)
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # our own errors say what happened
    return distributed


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run Dask's coroutines to their end, on the kind of event loop that its network library can use on Windows."""
    loop_factory = asyncio.SelectorEventLoop if sys.platform == "win32" else None
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(work)


def is_installed() -> bool:
    """Whether a fleet can be started here."""
    try:
        engine()
    except ConfigurationError:
        return False
    return True


def version() -> str | None:
    """The version of `distributed`; None where it is not installed."""
    try:
        return metadata.version("distributed")
    except metadata.PackageNotFoundError:
        return None


def machine_resource(machine_id: str) -> str:
    """The resource that only this machine has: a share that needs it waits for the machine, also when it comes back."""
    return f"machine-{machine_id}"


def machine_ids(workers: Iterable[Mapping[str, Any]]) -> list[str]:
    """The machines among the workers of a scheduler; workers that are no machine of ours are left out."""
    prefix = machine_resource("")
    found = []
    for worker in workers:
        mine = [name.removeprefix(prefix) for name in worker.get("resources", {}) if name.startswith(prefix)]
        if mine and worker["resources"].get(BENCH) == 1:
            found.append(mine[0])
    return found


def split_address(address: str) -> tuple[str, str, int]:
    """Split `tls://host:port` into its parts.

    >>> split_address("tls://192.0.2.7:8786")
    ('tls', '192.0.2.7', 8786)

    Raises:
        ConfigurationError: it is no such address.
    """
    scheme, _, place = address.partition("://")
    host, _, port = place.rpartition(":")
    if scheme not in ("tcp", "tls") or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        fix = f"Give it as tls://HOST:PORT, or tcp://{LOOPBACK}:PORT on one machine."
        raise ConfigurationError(f"'{address}' is no address of a scheduler.", fix)
    return scheme, host.strip("[]"), int(port)


def check_scheme(address: str, security: object) -> None:
    """Raise `ConfigurationError` unless TLS is used exactly where there are certificates."""
    if (split_address(address)[0] == "tls") != (security is not None):
        fix = "A tls:// address needs certificates (--certificates), and certificates need a tls:// address."
        raise ConfigurationError(f"The address is {address}.", fix)


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def own_address_towards(host: str, port: int) -> str:
    """The address from which this machine reaches a host; nothing is sent."""
    family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(place)
        return str(probe.getsockname()[0])
