"""Fleets for the tests: processes that count as computers of their own, and fleets made by hand."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from subprocess import Popen

from tests.report_helpers import run_of_models
from workshop_lib import storage
from workshop_lib.errors import EndpointError
from workshop_lib.fleet import cluster
from workshop_lib.fleet.plan import Fleet, FleetPlan
from workshop_lib.records import Run
from workshop_lib.runtimes.child_process import child_environment

WAIT_S = 60.0
NO_DASK = importlib.util.find_spec("distributed") is None


class Hosts:
    """A scheduler and machines as processes of the command line; each has a model cache of its own."""

    def __init__(self, folder: Path, stack: ExitStack, *, scheme: str = "tcp") -> None:
        self.folder = folder
        self.stack = stack
        self.port = cluster.engine().utils.open_port(cluster.LOOPBACK)
        self.address = f"{scheme}://127.0.0.1:{self.port}"
        self.processes: dict[str, Popen[bytes]] = {}

    def start(self, name: str, *arguments: str, before: Sequence[str] = ()) -> Popen[bytes]:
        """Run `python -m workshop_lib fleet ...` until the stack is closed; `before` stands before the command."""
        own = self.folder / name
        own.mkdir(parents=True, exist_ok=True)
        environment = child_environment(os.environ) | {"WORKSHOP_CACHE_DIR": str(own / "cache")}
        messages = self.stack.enter_context((own / "messages.txt").open("ab"))
        command = [*before, sys.executable, "-m", "workshop_lib", "fleet", *arguments]
        process = Popen(command, stdin=subprocess.DEVNULL, stdout=messages, stderr=messages, env=environment)
        self.stack.callback(_end, process)
        self.processes[name] = process
        return process

    def start_scheduler(self) -> None:
        process = self.start("scheduler", "scheduler", "--port", str(self.port))
        wait_until(lambda: process.poll() is not None or answers(self.address))

    def join(self, *names: str) -> None:
        for name in names:
            self.start(name, "join", self.address, "--name", name)

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()

    def said(self, name: str) -> str:
        return (self.folder / name / "messages.txt").read_text(encoding="utf-8")

    def recorded(self, name: str) -> int:
        """Lines of records that a machine has written in its own cache."""
        found = (self.folder / name / "cache" / "fleet").glob("runs/*/records.jsonl")
        return sum(path.read_bytes().count(b"\n") for path in found)

    def wait_for(self, count: int) -> None:
        with cluster.connect(self.address) as client:
            wait_until(lambda: len(cluster.present(client)) == count)


def _end(process: Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def hosts(folder: Path, *names: str) -> Iterator[Hosts]:
    with ExitStack() as stack:
        made = Hosts(folder, stack)
        made.start_scheduler()
        made.join(*names)
        made.wait_for(len(names))
        yield made


def answers(address: str) -> bool:
    try:
        cluster.check_scheduler(address, None)
    except EndpointError:
        return False
    return True


def when(condition: Callable[[], bool], action: Callable[[], None]) -> threading.Thread:
    """Do something as soon as a condition holds; the thread has ended when it is done."""

    def watch() -> None:
        wait_until(condition)
        action()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def wait_until(condition: Callable[[], bool], timeout_s: float = WAIT_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("what was waited for did not happen")
        time.sleep(0.02)


def made_fleet(speeds: dict[str, float], *, wise: Sequence[str] = ()) -> Fleet:
    """A fleet whose machines measured the int4 models of `report_helpers`, each machine so many times slower.

    On a machine of factor 1 the median latencies are 24.2, 48.4 and 121 ms. Both prompts expect `word`, which only the
    `wise` models say.
    """
    run = run_of_models(6, failed=0)
    kept = {each.variant.model_id: each.variant for each in run.servings if each.variant.precision == "int4"}
    run = replace(
        run,
        prompts=tuple(replace(each, aspects=("word",)) for each in run.prompts),
        servings=tuple(each for each in run.servings if each.variant.model_id in kept),
        completions=tuple(each for each in run.completions if each.model_id in kept),
        machine={"cpu": "Test CPU", "python": "3.11.1"},
    )
    fleet = Fleet("fleet", FleetPlan(run.prompts), dict.fromkeys(speeds, tuple(kept.values())))
    fleet.runs = {name: _on_machine(run, factor, wise) for name, factor in speeds.items()}
    return fleet


def keep(fleet: Fleet, folder: Path) -> None:
    """Write a fleet as its folder."""
    for label, run in fleet.runs.items():
        with storage.RunWriter(folder / label / "records.jsonl", run) as writer:
            writer.append(*run.servings, *run.completions)
    fleet.write(folder)


def _on_machine(run: Run, factor: float, wise: Sequence[str]) -> Run:
    """The same run on a machine that takes so many times as long."""
    return replace(
        run,
        completions=tuple(
            replace(
                each,
                chunks=tuple(
                    replace(chunk, at_s=chunk.at_s * factor, text=" word" if each.alias in wise else " nothing")
                    for chunk in each.chunks
                ),
                end_s=(each.end_s or 0.0) * factor,
            )
            for each in run.completions
        ),
    )


def without(fleet: Fleet, label: str, model_id: str, reason: str = "The machine left.") -> Fleet:
    """The same fleet, in which a machine never measured a model: it went away."""
    run = fleet.runs[label]
    rest = {
        "servings": tuple(each for each in run.servings if each.variant.model_id != model_id),
        "completions": tuple(each for each in run.completions if each.model_id != model_id),
    }
    ended = {**fleet.ended, label: reason}
    return replace(fleet, ended=ended, runs={**fleet.runs, label: replace(run, **rest)})
