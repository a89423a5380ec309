"""The child process that holds the Foundry Local runtime.

Started as `python -m workshop_lib.serving.foundry_server` by `foundry_process`. It does one
`foundry_jobs.Job`, with the events `listing`, `progress`, `downloaded`, `ready`. Knows no SDK.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from workshop_lib.hosting import child_pipes
from workshop_lib.serving import foundry_jobs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from workshop_lib.hosting.child_pipes import Emit

_TASKS: dict[str, Callable[[foundry_jobs.Job, Emit], None]] = {
    "list": foundry_jobs.list_models,
    "download": foundry_jobs.download,
    "serve": foundry_jobs.serve,
}


def main() -> None:
    """Do the job that standard input names, and end."""
    os.environ["CI"] = "true"  # the runtime then sends no telemetry
    child_pipes.do_the_job(_do)


def _do(described: Mapping[str, Any], emit: Emit) -> None:
    job = foundry_jobs.Job(**described)
    _TASKS[job.task](job, emit)


if __name__ == "__main__":
    main()
