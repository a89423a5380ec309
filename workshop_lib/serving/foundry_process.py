"""A child process that holds the Foundry Local runtime. Knows no catalog and no plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workshop_lib.hosting.child_process import ChildProcess

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class FoundryProcess(ChildProcess):
    """One running child with the runtime in it.

    Args:
        job: what it is to do; see `foundry_jobs.Job`.
        doing: what that is, for error messages, e.g. `loading practice-small:1`.
        cache: as of `ChildProcess`.
    """

    def __init__(self, job: Mapping[str, object], *, doing: str, cache: Path | None = None) -> None:
        super().__init__("workshop_lib.serving.foundry_server", job, name="runtime", doing=doing, cache=cache)
