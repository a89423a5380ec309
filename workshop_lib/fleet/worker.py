"""What runs on a machine of a fleet: say what it is and what it can measure, and measure one model after the other.

Each share is measured by a process of its own (`python -m workshop_lib.fleet.worker`), so that nothing of Dask runs
beside the clock. The records stay in the machine's cache for a week: a machine that was switched off completes its
share when it comes back. They are sent when a share has ended, over the connection that the machine itself opened, so
nobody has to reach the machine.
"""

from __future__ import annotations

import random
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from workshop_lib import __version__, benchmark, files, machine, places, plan, storage
from workshop_lib.errors import WorkshopError
from workshop_lib.fleet.plan import RECORDS_FILE, FleetPlan
from workshop_lib.records import ModelVariant, Run, Serving
from workshop_lib.runtimes import profiles
from workshop_lib.runtimes.child import do_the_job
from workshop_lib.runtimes.child_process import ChildProcess
from workshop_lib.show.text import without_home, without_places

POLL_S = 0.25
KEEP_S = 7 * 86_400

Send = Callable[[Mapping[str, Any]], None]
IsWanted = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Job:
    """What a machine is told: the plan, the fleet's run id, and the records that the fleet has of this machine."""

    plan: FleetPlan
    run_id: str
    records: str = ""


def measure(job: Job, topic: str) -> None:
    """Dask's task: measure all shares of this machine; what is to be known travels as events of the topic."""
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def is_wanted() -> bool:
        task = worker.state.tasks.get(key)
        return worker.status.name == "running" and task is not None and task.state == "executing"

    measure_all(job, worker.name, send=partial(worker.log_event, topic), is_wanted=is_wanted)


def measure_all(job: Job, label: str, *, send: Send, is_wanted: IsWanted) -> None:
    """Say what this machine is, then measure each of its models that is not done, and send the records after each."""
    _forget_old_records()
    records = records_of(job.run_id, label)
    try:
        variants = _begin(job, label, records)
        send({"machine": label, "models": list(map(asdict, variants)), "records": _text(records)})
        for variant in variants:
            if not job.plan.is_complete(storage.read_run(records), variant):
                if not _measure_apart(job.plan, variant, records.parent, is_wanted):
                    return
                send({"machine": label, "records": _text(records)})
    except WorkshopError as error:
        send({"machine": label, "ended": _without_folders(str(error))})


def _begin(job: Job, label: str, records: Path) -> list[ModelVariant]:
    """The models to measure, in an order of this machine's own; and its run, with what cannot be measured here."""
    with profiles.open_runtime(job.plan.profile) as runtime:
        variants, skipped = plan.choose_variants(runtime, job.plan.models, job.plan.devices)
    random.Random(f"{job.plan.seed} {label}").shuffle(variants)  # noqa: S311 - an order, not a secret
    if not records.exists() and job.records:
        files.write_atomically(records, job.records)
    if not records.exists():
        versions = {**machine.package_versions(), "workshop": __version__}
        about = {**machine.fingerprint(), "versions": versions, "label": label}
        now, planned = datetime.now(UTC).isoformat(timespec="seconds"), job.plan.for_models([])
        run = Run(job.run_id, now, job.plan.profile, about, planned.describe(), planned.prompts)
        with storage.RunWriter(records, run) as writer:
            writer.append(*(Serving(each, status="skipped", error=reason) for each, reason in skipped))
    return variants


def label_of(name: str) -> str:
    """What this machine is called in a fleet: its name, and the beginning of its id, because two may have one name.

    The id was made up here at the first call and says nothing about anybody.
    """
    path = fleet_folder() / "computer-id.txt"
    with files.one_writer(path, wait_s=10):
        if not path.exists():
            files.write_atomically(path, uuid.uuid4().hex[:8])
    plain = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name.lower())
    return f"{plain[:24].strip('-') or 'machine'}-{path.read_text(encoding='ascii')[:8]}"


def fleet_folder() -> Path:
    """Where a machine keeps what belongs to fleets: in its model cache."""
    return places.make_folder(places.cache_root() / "fleet")


def records_of(run_id: str, label: str) -> Path:
    """Where this machine keeps what it records for a fleet."""
    return places.make_folder(fleet_folder() / "runs" / f"{run_id}-{label}") / RECORDS_FILE


def _forget_old_records() -> None:
    for folder in (fleet_folder() / "runs").glob("*"):
        if time.time() - folder.stat().st_mtime > KEEP_S:
            shutil.rmtree(folder, ignore_errors=True)


def _measure_apart(asked: FleetPlan, variant: ModelVariant, folder: Path, is_wanted: IsWanted) -> bool:
    """Measure a share in a process of its own, which ends, and the model with it, when nobody wants it: then False."""
    what = {"folder": str(folder), "plan": asdict(asked), "variant": asdict(variant)}
    with ChildProcess(__name__, what, name="benchmark", doing=f"measuring {variant.model_id}") as child:
        while child.failure() is None:
            if not is_wanted():
                return False
            time.sleep(POLL_S)
        child.wait_for("measured", timeout_s=POLL_S)
    return True


def _measure_share(job: Mapping[str, Any], emit: Send) -> None:
    """What that process does; what the folder holds already is not asked again."""
    from pydantic import TypeAdapter

    asked = TypeAdapter(FleetPlan).validate_python(job["plan"])
    variant = TypeAdapter(ModelVariant).validate_python(job["variant"])
    with profiles.open_runtime(asked.profile) as runtime:
        benchmark.run_plan(asked.for_models([variant]), runtime, Path(job["folder"]), show_progress=False)
    emit({"event": "measured"})


def _text(records: Path) -> str:
    """All that was recorded; each model was asked in turn with itself alone, so together they are blocks."""
    return _without_folders(records.read_text("utf-8").replace('"order":"round-robin"', '"order":"blocks"', 1))


def _without_folders(text: str) -> str:
    return without_home(without_places(text, {places.cache_root(): "<cache>"}))


if __name__ == "__main__":
    do_the_job(_measure_share)
