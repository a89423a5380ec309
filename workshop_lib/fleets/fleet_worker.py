"""What runs on a machine of a fleet: say who it is and what it can measure, and measure one share at a time.

A share's folder stays in the machine's cache until a week has passed, so that a machine that was switched off completes
its share when it comes back. Finished lines of its records are sent as events over the connection that the machine
itself opened, each with its place in the file: nobody has to reach the machine. Knows Dask's worker only as
`log_event`. Knows no tables.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workshop_lib import __version__, files, places
from workshop_lib.errors import ConfigurationError, WorkshopError
from workshop_lib.fleets import fleet_engine, fleet_identity, fleet_share
from workshop_lib.fleets.fleet_room import RECORDS_FILE
from workshop_lib.instrument import machine
from workshop_lib.measuring import plan
from workshop_lib.runtimes import profiles
from workshop_lib.runtimes.child_process import child_environment
from workshop_lib.untrusted import without_places

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Emit = Callable[[Mapping[str, Any]], None]

NAME_VARIABLE = "WORKSHOP_FLEET_NAME"
POLL_S = 0.25
PATIENCE_S = 2.0
"""After so long in a queue of benchmarks, a machine says that it waits."""

STOP_S = 10.0
KEEP_DAYS = 7
LINES_PER_EVENT = 100
PROTOCOL = 1
"""Version of what travels between machines; another one is refused with a sentence, not with a traceback."""

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,79}")


def look(job: Mapping[str, Any]) -> None:
    """Dask's task that describes this machine: identity, fingerprint, and the variants of the plan that it can run."""
    worker = fleet_engine.engine().get_worker()
    worker.log_event(job["topic"], {"kind": "look", "machine": fleet_identity.identity().machine_id, **describe(job)})


def describe(job: Mapping[str, Any]) -> dict[str, Any]:
    """What `look` sends, without identity."""
    if job.get("protocol") != PROTOCOL:
        return {"error": f"It runs workshop {__version__}, which cannot work with the version of this page."}
    described: dict[str, Any] = {
        "name": given_name(),
        "host": fleet_identity.identity().host_id,
        "fingerprint": fingerprint(),
    }
    try:
        with profiles.open_runtime(job["profile"]) as runtime:
            variants, left_out = plan.choose_variants(runtime, job["models"], job["devices"])
    except WorkshopError as error:
        return {**described, "error": _without_home(str(error))}
    skipped = [(each.alias, each.device, _without_home(reason)) for each, reason in left_out]
    return {**described, "variants": [asdict(each) for each in variants], "left_out": skipped}


def given_name() -> str:
    """The name that this machine was given when it joined; empty when it has none."""
    return os.environ.get(NAME_VARIABLE, "")


def fingerprint() -> dict[str, Any]:
    """The machine's fingerprint, with the versions that matter among machines."""
    found = dict(machine.fingerprint())
    others = {"workshop": __version__, "distributed": fleet_engine.version() or "absent"}
    return {**found, "versions": {**machine.package_versions(), **others}}


def measure(job: Mapping[str, Any]) -> None:
    """Dask's task that measures a share; the records travel as events, so that the task itself returns nothing."""
    worker = fleet_engine.engine().get_worker()
    key = worker.get_current_task()

    def emit(event: Mapping[str, Any]) -> None:
        worker.log_event(job["topic"], {"machine": job["machine"], "share": job["share"], **event})

    def is_wanted() -> bool:
        task = worker.state.tasks.get(key)
        return worker.status.name == "running" and task is not None and task.state == "executing"

    run_share(job, emit=emit, is_wanted=is_wanted)


def run_share(job: Mapping[str, Any], *, emit: Emit, is_wanted: Callable[[], bool]) -> None:
    """Measure a share when it is this machine's turn, and send its lines as they are written.

    Where another benchmark keeps it waiting, it says so once, as an event of the kind `wait`. The last event has the
    kind `end`, with the number of lines and, where it is not done, the reason.
    """
    forget_old_shares()
    folder = share_folder(job["room"], job["share"])
    emit({"kind": "start"})
    with _turn(is_wanted, lambda: emit({"kind": "wait"})) as is_mine:
        if not is_mine:
            return
        tail = Tail(folder / RECORDS_FILE)
        with _share_process(job, folder) as child:
            in_time = _watch(child, tail, emit, is_wanted, job["limit_s"])
            late = ("stopped", f"It was not finished after {job['limit_s'] or 0:.0f} s.")
            status, reason = _outcome(child) if in_time else late
        if in_time is None:
            return
        _send(tail, emit)
        emit({"kind": "end", "lines": tail.sent, "status": status, "reason": reason})


def share_folder(room: str, share: str) -> Path:
    """Where this machine keeps the records of a share.

    Raises:
        ConfigurationError: a name that is none of ours.
    """
    for name in (room, share):
        if not _NAME.fullmatch(name):
            raise ConfigurationError(f"'{name}' is no name of a share.", "Use the same version on all machines.")
    return places.make_folder(fleet_identity.fleet_folder() / "shares" / room / share)


def forget_old_shares(*, days: float = KEEP_DAYS, now_s: float | None = None) -> None:
    """Delete the shares of rooms that nothing was written to for `days`."""
    limit = (time.time() if now_s is None else now_s) - days * 86_400
    for room in (fleet_identity.fleet_folder() / "shares").glob("*"):
        newest = max((each.stat().st_mtime for each in (room, *room.rglob("*"))), default=0.0)
        if newest < limit:
            shutil.rmtree(room, ignore_errors=True)


class Tail:
    """The finished lines of a file that another process writes; `sent` counts those that were handed out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sent = 0
        self._offset = 0

    def lines(self) -> list[str]:
        """The lines that were finished since the last call."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self._offset)
            content = file.read()
        end = files.end_of_lines(content)
        self._offset += end
        return [line.decode("utf-8") for line in files.whole_lines(content[:end])]


def _send(tail: Tail, emit: Emit) -> None:
    lines = tail.lines()
    for start in range(0, len(lines), LINES_PER_EVENT):
        some = lines[start : start + LINES_PER_EVENT]
        emit({"kind": "lines", "lines": some})
        tail.sent += len(some)


def _watch(
    child: subprocess.Popen[bytes],
    tail: Tail,
    emit: Emit,
    is_wanted: Callable[[], bool],
    limit_s: float | None,
) -> bool | None:
    """Send lines until the child ends: True. False when its time is over, None when nobody wants it any more."""
    started = time.monotonic()
    while True:
        with suppress(subprocess.TimeoutExpired):
            child.wait(timeout=POLL_S)
            return True
        _send(tail, emit)
        if not is_wanted():
            return None
        if limit_s is not None and time.monotonic() - started > limit_s:
            return False


def _outcome(child: subprocess.Popen[bytes]) -> tuple[str, str | None]:
    """How a process ended by itself, as the share's status and the reason for people."""
    said = child.stdout.read().splitlines() if child.stdout else []
    try:
        last: Mapping[str, Any] = json.loads(said[-1])
    except (ValueError, IndexError):
        return "failed", f"The measuring process ended with exit code {child.returncode}."
    return ("done", None) if last["event"] == "measured" else ("failed", _without_home(f"{last['what']} {last['fix']}"))


@contextmanager
def _share_process(job: Mapping[str, Any], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that measures the share; leaving the block ends it, and with it the model that it serves."""
    wanted = fleet_share.ShareJob(str(folder), job["profile"], job["variant"], job["prompts"], job["options"])
    with (folder / "messages.txt").open("wb") as messages:
        child = subprocess.Popen(
            [sys.executable, "-m", "workshop_lib.fleets.fleet_share"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=messages,
            env=child_environment(os.environ),
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        pipe = child.stdin
        try:
            with suppress(OSError):  # it died at once: its exit code says so
                if pipe is not None:
                    pipe.write(wanted.line())
                    pipe.flush()
            yield child
        finally:
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
            try:
                child.wait(timeout=STOP_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            if child.stdout is not None:
                child.stdout.close()


@contextmanager
def _turn(is_wanted: Callable[[], bool], on_wait: Callable[[], None]) -> Iterator[bool]:
    """Wait until no other benchmark of a fleet runs on this computer; False when nobody wants it any more."""
    from filelock import FileLock, Timeout

    lock = FileLock(fleet_identity.host_file("bench.lock"))
    started, has_said = time.monotonic(), False
    while is_wanted():
        try:
            lock.acquire(timeout=POLL_S)
        except Timeout:
            if not has_said and time.monotonic() - started > PATIENCE_S:
                has_said = True
                on_wait()
            continue
        try:
            yield True
        finally:
            lock.release()
        return
    yield False


def _without_home(text: str) -> str:
    return without_places(text, {Path(os.path.expanduser("~")): "~", places.cache_root(): "<cache>"})  # noqa: PTH111 - Path.home() raises without a home
