"""The child's side of a child process: its pipes, its one job, and its end when its parent ends.

It reads its job, a JSON object on one line of standard input, answers with JSON lines on standard output (events, or
one `error` as the last of them), and lives until standard input closes: it dies with its parent however the parent
dies, on every operating system. It imports little: what it holds counts as the model's memory.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from workshop_lib.errors import WorkshopError

Event = Mapping[str, Any]
Emit = Callable[[Event], None]

PARENT_CHECK_S = 1.0
_ending = threading.Lock()
"""Held by the one thread that ends the process, and never given back."""


def do_the_job(work: Callable[[Event, Emit], None], *, on_exit: Callable[[], object] = lambda: None) -> None:
    """Give the job that standard input names to `work`, and end the process when it returns.

    Args:
        work: a `WorkshopError` that it raises becomes the event `error`, with the name of its class.
        on_exit: gives back what the child holds, within half a second: its parent waits one, then kills.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupted notebook cell keeps its models
    emit, parent = take_standard_output(), os.fdopen(os.dup(0), "rb")
    with Path(os.devnull).open() as nothing:  # on Windows a library that looks at the pipe would wait for our own read
        os.dup2(nothing.fileno(), 0)
    if not (line := parent.readline()):
        return  # the parent ended before it could say what to do
    _end_with(parent, on_exit)
    try:
        work(json.loads(line), emit)
    except WorkshopError as error:
        emit({"event": "error", "kind": type(error).__name__, "what": error.what, "fix": error.fix})
    except BaseException:
        _ending.acquire()
        on_exit()
        raise
    _end(on_exit)


def take_standard_output() -> Emit:
    """Keep standard output for events; all that prints, natively too, goes to standard error."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lock = threading.Lock()

    def emit(event: Event) -> None:
        with lock:  # progress comes from threads of the runtime
            events.write(f"{json.dumps(event)}\n")
            events.flush()

    return emit


def _end_with(parent_pipe: BinaryIO, on_exit: Callable[[], object]) -> None:
    """End this process when the parent closes the pipe, or is gone: a fork of the parent holds the pipe open."""

    def at_end_of_pipe() -> None:
        parent_pipe.read()
        _end(on_exit)

    def at_new_parent(first: int) -> None:
        while os.getppid() == first:
            time.sleep(PARENT_CHECK_S)
        _end(on_exit)

    threading.Thread(target=at_end_of_pipe, daemon=True).start()
    if sys.platform != "win32":
        threading.Thread(target=at_new_parent, args=[os.getppid()], daemon=True).start()


def _end(on_exit: Callable[[], object]) -> None:
    """End the process, once: the job, the pipe and the parent may all end at the same moment."""
    _ending.acquire()
    on_exit()
    os._exit(0)  # closing a runtime takes a second, and nothing of it needs saving
