"""The parent's hold on one child process: its job sent, its events read, its end explained.

Every wait has a time limit, and every way a child can end becomes one clear error. `ServedChild` is a model that such a
process serves; `child` is the other side.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

from workshop_lib import errors, machine
from workshop_lib.errors import ModelServerError
from workshop_lib.places import cache_root, search_path
from workshop_lib.runtimes.profiles import ServedModel
from workshop_lib.show.text import without_places

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from workshop_lib.records import ModelVariant
    from workshop_lib.runtimes.child import Event

STOP_S = 1.0
_END: Event = {"event": "end"}
_MEMORY = (-9, 0xC0000017, 0xC000012D)
"""Exit codes of a process that found no memory: a signal, and two codes of Windows."""
_FAULTS = 0xC0000000
"""Codes from here on are errors that Windows ended the process for."""


class ChildProcess:
    """One running child. It ends with `stop`, with its context, or when nothing refers to it any more.

    Args:
        module: the program, e.g. `workshop_lib.runtimes.foundry_child`.
        job: what it is to do, as that module says.
        name: what people call the process, e.g. `runtime`.
        doing: what it does, for error messages, e.g. `loading practice-small:1`.
        names: folders, and what error messages call them; they call the user's home `~` and the cache `<cache>`.
    """

    def __init__(
        self, module: str, job: Mapping[str, object], *, name: str, doing: str, names: Mapping[Path, str] | None = None
    ) -> None:
        self.name, self.doing = name, doing
        home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home() raises without a home
        self._places = {home: "~", cache_root(): "<cache>", **(names or {})}
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `_release`
        self._failure: str | None = None
        self._child = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=child_environment(os.environ),
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        self._release = weakref.finalize(self, _release, self._child, self._log)
        threading.Thread(target=_read_events, args=[self._child.stdout, self._events], daemon=True).start()
        if self._child.stdin is not None:
            with suppress(OSError):  # it ended at once: `wait_for` says why
                self._child.stdin.write(json.dumps(job).encode() + b"\n")
                self._child.stdin.flush()

    def wait_for(self, kind: str, *, timeout_s: float, on_progress: Callable[[float], None] | None = None) -> Event:
        """Wait for an event; the limit begins anew with every sign of progress.

        Raises:
            WorkshopError: what the child reported, or why it ended.
            ModelServerError: nothing came in time.
        """
        while True:
            try:
                event = self._events.get(timeout=timeout_s)
            except queue.Empty:
                what = f"Nothing was heard for {timeout_s:g} s while {self.doing}."
                raise ModelServerError(what, f"Try again.{self._tail()}") from None
            if event["event"] == kind:
                return event
            if event["event"] == "error":
                error = getattr(errors, event["kind"], ModelServerError)  # an adapter may bring a class of its own
                raise error(*(without_places(event[part], self._places) for part in ("what", "fix")))
            if event is _END:
                raise self._end()
            if on_progress is not None and event["event"] == "progress":
                on_progress(float(event["percent"]))

    def failure(self) -> str | None:
        """Why the child is gone; None while it lives, and after `stop`."""
        if self._release.alive and self._child.poll() is not None:
            self._failure = str(self._end())
        return self._failure

    def stop(self) -> None:
        """End the child and wait until it is gone, about a second at most; safe to call twice."""
        self.failure()  # while its last words can be read
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _end(self) -> ModelServerError:
        """What ended the child, as an error."""
        try:
            how, fix = how_it_ended(self._child.wait(timeout=STOP_S))
        except subprocess.TimeoutExpired:
            how, fix = "fell silent", "Try again, or choose another variant."
        return ModelServerError(f"The {self.name}'s process {how} while {self.doing}.", f"{fix}{self._tail()}")

    def _tail(self) -> str:
        """The last line that the child wrote to standard error, shortened, without the user's folders."""
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - 4096))
        words = self._log.read().decode("utf-8", errors="replace").strip().split("\n")[-1]
        return f" Its last words: {without_places(words.strip(), self._places)[:300]}" if words else ""


class ServedChild(ServedModel):
    """One model with a process and a web service of its own; leaving the context ends them.

    Waits until the process serves: `ready` is what it said then. Raises `WorkshopError` where it could not load the
    model, or died; it is ended then.
    """

    load_s: float

    def __init__(self, variant: ModelVariant, process: ChildProcess, *, timeout_s: float) -> None:
        try:
            self.ready = ready = process.wait_for("ready", timeout_s=timeout_s)
        except BaseException:  # also when a person interrupts the load
            process.stop()
            raise
        super().__init__(variant, ready["base_url"])
        process.doing = f"serving {variant.model_id}"
        self.load_s, self.threads = ready["load_s"], ready.get("threads")
        self.registered_providers = tuple(ready["registered"])
        self.pid: int = ready["pid"]
        self._peak_mb = self.resident_mb = machine.resident_mb(self.pid)
        self._process = process

    def peak_resident_mb(self) -> float | None:
        """Highest resident memory so far in 10^6 bytes, kept when the process has ended.

        macOS tells no such figure: there it is the highest that was seen after load and by calls of this method.
        """
        seen = (self._peak_mb, machine.peak_resident_mb(self.pid), machine.resident_mb(self.pid))
        self._peak_mb = max((value for value in seen if value is not None), default=None)
        return self._peak_mb

    def failure(self) -> str | None:
        """Why the process is gone and what to do; None while it lives, and when it was stopped."""
        return self._process.failure()

    def stop(self) -> None:
        """End the process and wait for it, two seconds at most; safe to call twice."""
        self.peak_resident_mb()
        self._process.stop()


def child_environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child: no telemetry, no proxy for loopback requests, the package where the parent has it."""
    proxies = {
        name: ",".join(filter(None, [inherited.get(name), "127.0.0.1,localhost"])) for name in ("NO_PROXY", "no_proxy")
    }
    return {**inherited, **proxies, "CI": "true", "PYTHONPATH": search_path()}


def how_it_ended(exit_code: int) -> tuple[str, str]:
    """What an exit code says happened, and what to do next; a negative one is a signal."""
    if exit_code in _MEMORY:
        how = "was killed by signal 9 (SIGKILL), probably" if exit_code < 0 else "ended"
        return (
            f"{how} because the memory ran out",
            "Stop other models, close other programs, or choose a smaller variant.",
        )
    names = {-each: f"crashed with signal {each.value} ({each.name})" for each in signal.Signals}
    crash = f"crashed ({exit_code:#x})" if exit_code >= _FAULTS else f"ended with exit code {exit_code}"
    return names.get(exit_code, crash), "Try again, or choose another variant."


def _read_events(lines: IO[bytes] | None, events: queue.SimpleQueue[Event]) -> None:
    """Run in a thread, as only a queue can be waited on with a limit; it must not keep the `ChildProcess` alive."""
    if lines is not None:
        with lines, suppress(ValueError):  # a line that was cut off when the child was killed
            for line in lines:
                events.put(json.loads(line))
    events.put(_END)


def _release(child: subprocess.Popen[bytes], log: IO[bytes]) -> None:
    """Close the pipe that keeps the child alive, and kill it when it does not react; then give back its log."""
    if child.stdin is not None:
        with suppress(OSError):  # the child is gone, and with it the pipe
            child.stdin.close()
    try:
        child.wait(timeout=STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    log.close()
