"""Rooms for the tests of fleets: processes that count as computers of their own, and rooms made by hand."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from subprocess import Popen
from typing import Any

import psutil

from tests.report_helpers import run_of_models
from workshop_lib.fleets import fleet_cluster, fleet_engine
from workshop_lib.fleets.fleet_room import Machine, Room, Share, share_id_of
from workshop_lib.records import Run

WAIT_S = 60.0


class Hosts:
    """A scheduler and machines as processes; each machine has a cache and a folder for temporary files of its own."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.stack = stack
        self.port = fleet_engine.free_port()
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.processes: dict[str, Popen[bytes]] = {}

    def start_scheduler(self) -> None:
        self.start("scheduler", ["scheduler", "--port", str(self.port)])
        fleet_cluster.wait_for_scheduler(self.address)

    def join(self, *names: str) -> None:
        for name in names:
            self.start(name, ["join", self.address, "--name", name])

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()

    def said(self, name: str) -> str:
        return (self.folder / name / "messages.txt").read_text(encoding="utf-8")

    def start(self, name: str, arguments: Sequence[str]) -> None:
        own = self.folder / name
        self.processes[name] = self.stack.enter_context(fleet_cluster.part(arguments, own, temporary=own))


@contextmanager
def hosts(folder: Path, *names: str) -> Iterator[Hosts]:
    with ExitStack() as stack:
        made = Hosts(folder, stack)
        made.start_scheduler()
        made.join(*names)
        fleet_cluster.wait_for_machines(made.address, len(names))
        yield made


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


def lines_of(folder: Path, name: str) -> int:
    """Lines in the records of the machine of that name, 0 before there are any."""
    return sum(path.read_bytes().count(b"\n") for path in folder.glob(f"{name}-*/records.jsonl"))


def descendants(processes: Sequence[Popen[bytes]], module: str) -> list[psutil.Process]:
    """Programs of a module that these processes started, directly or not."""
    found = []
    for each in processes:
        if each.poll() is None:
            children = psutil.Process(each.pid).children(recursive=True)
            found += [child for child in children if module in " ".join(command_of(child))]
    return found


def command_of(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def made_room(speeds: dict[str, float], *, wise: Sequence[str] = (), **changes: Any) -> Room:
    """A room whose machines measured the int4 models of `report_helpers`, each machine so many times slower.

    On a machine of factor 1 the median latencies are 24.2, 48.4 and 121 ms. Both prompts expect `word`, which only the
    `wise` models say.
    """
    machines, shares, runs = [], [], {}
    for place, (name, factor) in enumerate(speeds.items(), 1):
        machine_id = f"{place:012x}"
        run = slower(run_of_models(6, failed=0), factor)
        for serving in run.servings:
            if serving.variant.precision != "int4":
                run = without(run, serving.variant.model_id)
        machines.append(Machine(machine_id, name, f"host-{name}", {"cpu": "Test CPU", "python": "3.11.1"}))
        runs[name] = _saying(run, wise)
        shares += [
            Share(share_id_of(machine_id, each.variant), machine_id, each.variant, "done", starts=1)
            for each in run.servings
        ]
    values = {"machines": tuple(machines), "shares": tuple(shares), "runs": runs}
    return Room("room", "2026-01-01T00:00:00+00:00", {"rounds": 3}, **{**values, **changes})


def _saying(run: Run, wise: Sequence[str]) -> Run:
    completions = tuple(
        each
        if each.alias in wise
        else replace(each, chunks=tuple(replace(chunk, text=" nothing") for chunk in each.chunks))
        for each in run.completions
    )
    return replace(
        run, completions=completions, prompts=tuple(replace(each, aspects=("word",)) for each in run.prompts)
    )


def slower(run: Run, factor: float) -> Run:
    """The same run on a machine that takes so many times as long."""
    completions = tuple(
        replace(
            each,
            chunks=tuple(replace(chunk, at_s=chunk.at_s * factor) for chunk in each.chunks),
            end_s=None if each.end_s is None else each.end_s * factor,
        )
        for each in run.completions
    )
    return replace(run, completions=completions)


def without(run: Run, model_id: str) -> Run:
    """The same run, in which a model was never measured."""
    return replace(
        run,
        servings=tuple(each for each in run.servings if each.variant.model_id != model_id),
        completions=tuple(each for each in run.completions if each.model_id != model_id),
    )
