"""One share of a fleet's plan, measured in a process of its own on the machine that it is about.

Started as `python -m workshop_lib.fleets.fleet_share` by `fleet_worker`, so that nothing of Dask runs beside the
clock. It reads one `ShareJob`, measures it into a folder, and says `measured` or why not. It dies with its parent, and
with it the model that it serves. A folder that holds a broken-off share is completed. Knows no Dask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workshop_lib import files
from workshop_lib.measuring import benchmark, plan
from workshop_lib.records import ModelVariant, Prompt
from workshop_lib.runtimes import child, profiles


@dataclass(frozen=True, slots=True)
class ShareJob:
    """What to measure and where to keep it; `options` are those of `plan.Plan`."""

    folder: str
    profile: str
    variant: dict[str, Any]
    prompts: list[dict[str, Any]]
    options: dict[str, Any]

    def line(self) -> bytes:
        """The job as the line that the process reads."""
        return files.json_line(asdict(self))


def main() -> None:
    """Measure the share that standard input names, and end."""
    child.do_the_job(_measure)


def _measure(job: Mapping[str, Any], emit: Callable[[Mapping[str, Any]], None]) -> None:
    measure(ShareJob(**job))
    emit({"event": "measured"})


def measure(job: ShareJob) -> None:
    """Measure one model with this machine's own runtime; what the folder holds already is not asked again.

    Raises:
        WorkshopError: the runtime cannot be opened, or the folder cannot be written.
    """
    variant = ModelVariant(**{**job.variant, "capabilities": tuple(job.variant.get("capabilities", ()))})
    share = plan.make_plan([variant], prompts_of(job.prompts), **job.options)
    with profiles.open_runtime(job.profile) as runtime:
        benchmark.run_benchmark(share, runtime, Path(job.folder), show_progress=False)


def prompts_of(plain: list[dict[str, Any]]) -> tuple[Prompt, ...]:
    """Prompts as they travel, back as values."""
    lists = ("aspects", "forbidden")
    return tuple(Prompt(**{**each, **{name: tuple(each.get(name, ())) for name in lists}}) for each in plain)


if __name__ == "__main__":
    main()
