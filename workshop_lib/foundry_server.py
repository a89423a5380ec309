"""The child process: its pipes, and its end when its parent ends.

Started as `python -m workshop_lib.foundry_server` by `foundry_process`. It reads one `Job`, a JSON
object on one line of standard input, answers with JSON lines on standard output (`listing`,
`progress`, `downloaded`, `ready`, or `error` as the last one), and lives until standard input
closes. So it dies with its parent however the parent dies, on every operating system.
Knows no SDK.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, BinaryIO

from workshop_lib import foundry_jobs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PARENT_CHECK_S = 1.0

_TASKS: dict[str, Callable[[foundry_jobs.Job, foundry_jobs.Emit], None]] = {
    "list": foundry_jobs.list_models,
    "download": foundry_jobs.download,
    "serve": foundry_jobs.serve,
}


def main() -> None:
    """Do the job that standard input names, and end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupted notebook cell keeps its models
    os.environ["CI"] = "true"  # the runtime then sends no telemetry
    emit, parent = _take_standard_output(), _take_standard_input()
    line = parent.readline()
    if not line:
        return  # the parent ended before it could say what to do
    job = foundry_jobs.Job(**json.loads(line))
    _end_with(parent)
    try:
        _TASKS[job.task](job, emit)
    except foundry_jobs.JobError as error:
        emit({"event": "error", "kind": error.kind, "what": error.what, "fix": error.fix})
    os._exit(0)  # closing the runtime takes a second, and nothing of it needs saving


def _take_standard_output() -> Callable[[Mapping[str, Any]], None]:
    """Keep standard output for events; all that prints, natively too, goes to standard error."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lock = threading.Lock()

    def emit(event: Mapping[str, Any]) -> None:
        with lock:  # progress comes from threads of the runtime
            events.write(f"{json.dumps(event)}\n")
            events.flush()

    return emit


def _take_standard_input() -> BinaryIO:
    """Keep standard input for the parent.

    On Windows a library that looks at standard input while it is loaded would otherwise wait for
    the read that waits for the parent.
    """
    parent = os.fdopen(os.dup(0), "rb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return parent


def _end_with(parent_pipe: BinaryIO) -> None:
    """End this process when the parent closes the pipe, or is gone.

    A fork of the parent holds the pipe open, so that the parent itself is watched for as well.
    """

    def at_end_of_pipe() -> None:
        parent_pipe.read()
        os._exit(0)

    def at_new_parent(first: int) -> None:
        while os.getppid() == first:
            time.sleep(PARENT_CHECK_S)
        os._exit(0)

    threading.Thread(target=at_end_of_pipe, daemon=True).start()
    if sys.platform != "win32":
        threading.Thread(target=at_new_parent, args=[os.getppid()], daemon=True).start()


if __name__ == "__main__":
    main()
