"""Starting and ending the parts of a fleet: a scheduler, a machine that joins, and a room of processes to try it.

A machine that joins opens the connection itself and listens on loopback only; the scheduler is the one part that others
must reach, and it listens on loopback unless asked. Knows no plans and no records.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workshop_lib import files, places
from workshop_lib.errors import ConfigurationError, EndpointError, RuntimeUnavailableError
from workshop_lib.fleets import fleet_engine, fleet_identity, fleet_worker
from workshop_lib.fleets.fleet_engine import BENCH, LOOPBACK
from workshop_lib.fleets.fleet_security import check_exposure, check_reachable
from workshop_lib.runtimes.child_process import child_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

RETRY_S = 2.0
JOIN_S = 20.0
ASK_TLS = "Does the room use TLS? Then give tls:// and --certificates."
START_S = 60.0
STOP_S = 10.0
NAME_TAKEN = "name taken"
SAME_ID = (
    "The scheduler still knows this machine (that passes within a minute), or another was copied from this one. "
    "Then stop here, delete the folder 'fleet' in the model cache, and join again."
)


def run_scheduler(
    host: str = LOOPBACK,
    port: int = fleet_engine.DEFAULT_PORT,
    *,
    security: Any = None,
    insecure: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Run a scheduler until it is interrupted. It computes nothing; its web page is off.

    Raises:
        ConfigurationError: it would listen beyond this machine without TLS, or the port is taken.
    """
    warning = check_exposure(host, security, insecure=insecure)
    if warning:
        say(warning)
    distributed = fleet_engine.engine()

    async def run() -> None:
        scheduler = distributed.Scheduler(
            host=host,
            port=port,
            protocol="tls" if security else "tcp",
            security=security,
            dashboard=False,
            dashboard_address=f"{LOOPBACK}:0",  # by default Dask opens one on every interface
        )
        async with scheduler:
            say(f"Scheduler: {scheduler.address}")
            await scheduler.finished()

    try:
        fleet_engine.run(run())
    except (OSError, RuntimeError) as error:
        reason = error.__cause__ or error
        what = f"No scheduler can listen on {host}:{port} ({reason})."
        raise ConfigurationError(what, "Choose another --port, or stop what uses it.") from None


def join(
    address: str,
    *,
    name: str = "",
    security: Any = None,
    insecure: bool = False,
    say: Callable[[str], None] = print,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Join a fleet as one machine, and join it again whenever the connection is lost, until it is interrupted.

    Raises:
        ConfigurationError: no address, a scheduler elsewhere without TLS, a certificate of another authority, or this
            machine has joined already.
    """
    fleet_engine.engine()
    fleet_engine.check_scheme(address, security)
    warning = check_exposure(fleet_engine.split_address(address)[1], security, insecure=insecure)
    if warning:
        say(warning)
    if name:
        os.environ[fleet_worker.NAME_VARIABLE] = name
    try:
        with files.one_writer(fleet_identity.fleet_folder() / "joined", wait_s=0.5):
            while True:
                say(f"Joining {address} ...")
                say(_join(address, security, say))
                sleep(RETRY_S)
    except TimeoutError:
        raise ConfigurationError("This machine has joined already.", "Use the other window, or stop it.") from None


def _join(address: str, security: Any, say: Callable[[str], None]) -> str:
    """Take part until the connection ends; return why it ended."""
    machine_id = fleet_identity.identity().machine_id
    try:
        check_reachable(address, security)
        fleet_engine.run(_take_part(address, machine_id, security, say))
    except EndpointError as error:
        return str(error)
    except (OSError, RuntimeError) as error:
        reason = str(error.__cause__ or error)
        if NAME_TAKEN in reason:
            return SAME_ID
        said = f"Not connected ({reason or type(error).__name__})."
        return said if security else f"{said} {ASK_TLS}"
    return "The connection ended."


async def _take_part(address: str, machine_id: str, security: Any, say: Callable[[str], None]) -> None:
    scheme, host, port = fleet_engine.split_address(address)
    own, own_port = fleet_engine.own_address_towards(host, port), fleet_engine.free_port()
    worker = fleet_engine.engine().Worker(
        address,
        name=machine_id,
        nthreads=1,
        resources={BENCH: 1, fleet_engine.machine_resource(machine_id): 1},
        host=LOOPBACK,
        port=own_port,
        contact_address=f"{scheme}://{'[' + own + ']' if ':' in own else own}:{own_port}",  # its name; nobody connects
        protocol=scheme,
        security=security,
        memory_limit=0,
        local_directory=str(fleet_identity.fleet_folder() / "dask"),
        dashboard=False,
        dashboard_address=f"{LOOPBACK}:0",
        death_timeout=JOIN_S,
    )
    async with worker:
        say("Joined. Leave this window open, plug the laptop in, and close other programs. Ctrl-C leaves.")
        await worker.finished()


@contextmanager
def local_room(names: Sequence[str], folder: Path | None = None, *, one_computer: bool = True) -> Iterator[str]:
    """Start a scheduler and workers as processes of this computer, and yield the scheduler's address.

    Each worker is a machine with an identity and a model cache of its own. They take turns, as they share a computer;
    `one_computer=False` lets them run at once, which only a test wants. Leaving the block ends all of them.

    Raises:
        ConfigurationError: `distributed` is not installed.
        RuntimeUnavailableError: a part did not start.
    """
    fleet_engine.engine()
    with ExitStack() as stack:
        place = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        port = fleet_engine.free_port()
        stack.enter_context(part(["scheduler", "--port", str(port)], place / "scheduler"))
        address = f"tcp://{LOOPBACK}:{port}"
        wait_for_scheduler(address)
        for name in names:
            own = place / name
            stack.enter_context(part(["join", address, "--name", name], own, temporary=None if one_computer else own))
        wait_for_machines(address, len(names))
        yield address


@contextmanager
def part(arguments: Sequence[str], folder: Path, *, temporary: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run `python -m workshop_lib fleet ...` with a cache of its own; leaving the block ends it.

    Its messages are in `messages.txt` of the folder. With a folder for temporary files of its own, it counts as a
    computer of its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    environment = child_environment(os.environ) | {places.CACHE_VARIABLE: str(folder / "cache")}
    if temporary is not None:
        environment |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary))
    with (folder / "messages.txt").open("ab") as messages:
        process = subprocess.Popen(
            [sys.executable, "-m", "workshop_lib", "fleet", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=messages,
            stderr=messages,
            env=environment,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        try:
            yield process
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=STOP_S)
            process.kill()
            process.wait()


def wait_for_scheduler(address: str, *, security: Any = None, timeout_s: float = START_S) -> None:
    """Wait until a scheduler answers.

    Raises:
        RuntimeUnavailableError: none did within `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return check_reachable(address, security)
        except EndpointError as error:
            if time.monotonic() > deadline:
                what = f"No scheduler answered within {timeout_s:.0f} s."
                raise RuntimeUnavailableError(what, "Look at what its window says.") from error
        time.sleep(0.1)


def wait_for_machines(address: str, count: int, *, security: Any = None, timeout_s: float = START_S) -> None:
    """Wait until so many machines have joined.

    Raises:
        RuntimeUnavailableError: they did not within `timeout_s`.
    """
    distributed = fleet_engine.engine()
    try:
        with distributed.Client(address, security=security, timeout=timeout_s, set_as_default=False) as client:
            client.wait_for_workers(count, timeout=timeout_s)
    except OSError as error:  # TimeoutError is one
        what = f"Fewer than {count} machines joined within {timeout_s:.0f} s."
        raise RuntimeUnavailableError(what, "Look at what the joining windows say.") from error
