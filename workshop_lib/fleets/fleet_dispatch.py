"""The line to Dask's scheduler: connect, see who is there, hand out tasks, receive their events.

A task needs the resource of its machine, so Dask runs it nowhere else, and runs it again when that machine comes back.
What machines say arrives as events of one topic: over the connections that they opened themselves. Knows no files.
"""

from __future__ import annotations

import queue
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from workshop_lib.errors import ConfigurationError, EndpointError
from workshop_lib.fleets import fleet_engine
from workshop_lib.fleets.fleet_engine import BENCH, machine_resource
from workshop_lib.fleets.fleet_security import check_exposure, check_reachable
from workshop_lib.show.text import one_line

CONNECT_S = 30.0
LOOK_S = 120.0
WAIT_S = 0.5

Task = Callable[[Mapping[str, Any]], None]


@contextmanager
def connected(address: str, *, security: Any = None, insecure: bool = False) -> Iterator[Any]:
    """Connect to a scheduler for the length of a block; yields Dask's `Client`.

    Raises:
        ConfigurationError: `distributed` is missing, no such address, a scheduler elsewhere without TLS, or one whose
            certificate is of another authority.
        EndpointError: no scheduler answers there.
    """
    distributed = fleet_engine.engine()
    fleet_engine.check_scheme(address, security)
    check_exposure(fleet_engine.split_address(address)[1], security, insecure=insecure)
    check_reachable(address, security)
    try:
        client = distributed.Client(address, security=security, timeout=CONNECT_S, set_as_default=False)
    except OSError as error:
        what = f"No scheduler answers at {address} ({one_line(str(error))})."
        raise EndpointError(what, "Start it, or correct address and certificates.") from None
    with client:
        yield client


class Dispatcher:
    """One topic of events and the tasks that write to it; a context manager that leaves no task behind.

    Args:
        client: Dask's, connected.
        topic: name of the events.
    """

    def __init__(self, client: Any, topic: str) -> None:
        self.client = client
        self.topic = topic
        self._events: queue.SimpleQueue[Mapping[str, Any]] = queue.SimpleQueue()
        self._futures: dict[str, Any] = {}
        self._machines: dict[str, str] = {}

    def __enter__(self) -> Dispatcher:
        self.client.subscribe_topic(self.topic, lambda event: self._events.put(event[1]))
        return self

    def __exit__(self, *_: object) -> None:
        if self.client.status == "running":
            with suppress(OSError):
                self.client.cancel(list(self._futures.values()))
                self.client.unsubscribe_topic(self.topic)

    def submit(self, name: str, task: Task, job: Mapping[str, Any], *, priority: int = 0) -> None:
        """Hand out a task for the machine that its job names."""
        self._futures[name] = self.client.submit(
            task,
            job,
            key=f"{name}-{secrets.token_hex(4)}",
            resources={BENCH: 1, machine_resource(job["machine"]): 1},
            priority=priority,
            pure=False,
            retries=0,
        )

    def cancel(self, names: Sequence[str]) -> None:
        """Take tasks back; one that runs stops within a second."""
        self.client.cancel([self._futures.pop(name) for name in names if name in self._futures])

    def failure(self, name: str) -> str | None:
        """Why a task ended without a word of its own: its machine was lost too often, or lacks our code.

        Raises:
            EndpointError: the scheduler is gone, and the task with it.
        """
        future = self._futures.get(name)
        if future is not None and future.status in ("cancelled", "lost"):
            raise self.lost()
        if future is None or future.status != "error":
            return None
        return one_line(f"Dask gave it up: {future.exception()!r}")

    def events(self) -> list[Mapping[str, Any]]:
        """What was said since the last call; waits a moment where nothing was.

        Raises:
            EndpointError: the scheduler is gone.
        """
        found = []
        with suppress(queue.Empty):
            found.append(self._events.get(timeout=WAIT_S))
            while True:
                found.append(self._events.get_nowait())
        if self.client.status != "running" and not found:
            raise self.lost()
        return found

    def present(self) -> set[str]:
        """The machines that are connected now; the scheduler's long answer is asked for only when someone is new.

        Raises:
            EndpointError: the scheduler is gone.
        """
        try:
            now = set(self.client.nthreads())
            if not now <= self._machines.keys():
                for address, worker in self.client.scheduler_info(n_workers=-1)["workers"].items():
                    self._machines[address] = next(iter(fleet_engine.machine_ids([worker])), "")
        except (OSError, RuntimeError, ValueError) as error:  # closed client, closed connection, a broken answer
            raise self.lost() from error
        return {self._machines[address] for address in now if self._machines.get(address)}

    def ask(
        self, task: Task, jobs: Sequence[Mapping[str, Any]], *, timeout_s: float = LOOK_S
    ) -> dict[str, Mapping[str, Any]]:
        """What each machine says of itself, or the error instead; jobs are one per machine.

        Raises:
            EndpointError: the scheduler is gone.
        """
        waiting = {job["machine"]: f"look-{job['machine']}" for job in jobs}
        for job in jobs:
            self.submit(waiting[job["machine"]], task, job)
        said: dict[str, Mapping[str, Any]] = {}
        deadline = time.monotonic() + timeout_s
        while waiting.keys() - said.keys() and time.monotonic() < deadline:
            for event in self.events():
                if event.get("kind") == "look" and event.get("machine") in waiting:
                    said[event["machine"]] = event
            for machine_id in waiting.keys() - said.keys():
                failure = self.failure(waiting[machine_id])
                if failure is not None:
                    said[machine_id] = {"error": failure}
        self.cancel(list(waiting.values()))
        silent = {"error": f"It did not say what it can measure within {timeout_s:.0f} s."}
        return {machine_id: said.get(machine_id, silent) for machine_id in waiting}

    def lost(self) -> EndpointError:
        """The error that says that the scheduler is gone."""
        what = "The scheduler is gone; what was measured until then is kept."
        return EndpointError(what, "Start it again, let the machines join, and run with the same folder.")


def check_machines(machine_ids: Sequence[str]) -> None:
    """Raise `ConfigurationError` where nobody has joined."""
    if not machine_ids:
        fix = "Join with: python -m workshop_lib fleet join ADDRESS. Its window says whether it is connected."
        raise ConfigurationError("No machine that was asked for has joined.", fix)
