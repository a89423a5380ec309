"""What runs on a machine of a fleet: say what it is and what it can measure, and measure one model after the other.

Each share is measured by a process of its own (`python -m workshop_lib.fleet.worker`), so that nothing of Dask runs
beside the clock. Its records stay in the machine's cache for a week: a machine that was switched off completes its
share when it comes back. They are sent as one event when the share has ended, over the connection that the machine
itself opened, so nobody has to reach the machine.
"""

from __future__ import annotations

import random
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from workshop_lib import __version__, benchmark, files, machine, places, plan
from workshop_lib.errors import WorkshopError
from workshop_lib.fleet.plan import RECORDS_FILE, FleetPlan, Machine, ShareStatus
from workshop_lib.records import ModelVariant, variant_key
from workshop_lib.runtimes import profiles
from workshop_lib.runtimes.child import do_the_job
from workshop_lib.runtimes.child_process import ChildProcess
from workshop_lib.show.text import without_home, without_places

DECISIVE = ("workshop", "foundry-local-sdk", "onnxruntime", "onnxruntime-genai-core")
"""Packages whose other versions are worth a remark: they are what is measured, or measure it."""

POLL_S = 0.25
KEEP_S = 7 * 86_400

Emit = Callable[[Mapping[str, Any]], None]
IsWanted = Callable[[], bool]
Ending = tuple[ShareStatus, str | None]


@dataclass(frozen=True, slots=True)
class Job:
    """What a machine is told: the plan, the fleet's run id, and model id and device of what is finished already.

    A share is stopped after `limit_s`.
    """

    plan: FleetPlan
    run_id: str
    done: frozenset[tuple[str, str]] = frozenset()
    limit_s: float | None = None


def measure(job: Job, topic: str) -> None:
    """Dask's task: measure all shares of this machine; what is to be known travels as events of the topic."""
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def is_wanted() -> bool:
        task = worker.state.tasks.get(key)
        return worker.status.name == "running" and task is not None and task.state == "executing"

    measure_all(job, worker.name, emit=partial(worker.log_event, topic), is_wanted=is_wanted)


def measure_all(job: Job, label: str, *, emit: Emit, is_wanted: IsWanted) -> None:
    """Describe this machine, then measure each of its shares that is not done; one event each, in plain values."""
    forget_old_shares()
    described, variants = describe(job, label)
    emit({"machine": asdict(described), "variants": [asdict(each) for each in variants]})
    for variant in variants:
        if variant_key(variant) not in job.done:
            folder = share_folder(job.run_id, label, variant)
            ended = _measure_in_turn(job, variant, folder, is_wanted)
            if ended is None:
                return
            share = {"machine": label, "variant": asdict(variant), "status": ended[0], "reason": ended[1]}
            records = folder / RECORDS_FILE
            lines = files.whole_lines(records.read_bytes()) if records.exists() else []
            emit({"share": share, "records": [line.decode() for line in lines]})


def describe(job: Job, label: str) -> tuple[Machine, list[ModelVariant]]:
    """This machine, and the models it is to measure: an order of its own, drawn by the plan's seed and its label."""
    versions = {**machine.package_versions(), "workshop": __version__}
    described = Machine(label, computer_id(), {**machine.fingerprint(), "versions": versions})
    try:
        with profiles.open_runtime(job.plan.profile) as runtime:
            variants, skipped = plan.choose_variants(runtime, job.plan.models, job.plan.devices)
    except WorkshopError as error:
        return replace(described, refused=_without_folders(str(error))), []
    random.Random(f"{job.plan.seed} {label}").shuffle(variants)  # noqa: S311 - an order, not a secret
    reasons = tuple((each.alias, each.device, _without_folders(reason)) for each, reason in skipped)
    return replace(described, skipped=reasons), variants


def label_of(name: str) -> str:
    """What this machine is called in a fleet: its name, and the beginning of its id, because two may have one name."""
    plain = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name.lower())
    return f"{plain[:24].strip('-') or 'machine'}-{computer_id()[:8]}"


def computer_id() -> str:
    """An id that was made up here at the first call and says nothing about anybody."""
    path = fleet_folder() / "computer-id.txt"
    with files.one_writer(path, wait_s=10):
        if not path.exists():
            files.write_atomically(path, uuid.uuid4().hex[:12])
        return path.read_text(encoding="ascii")


def fleet_folder() -> Path:
    """Where a machine keeps what belongs to fleets: in its model cache."""
    return places.make_folder(places.cache_root() / "fleet")


def share_folder(run_id: str, label: str, variant: ModelVariant) -> Path:
    """Where this machine keeps the records of a share."""
    name = sha256("\0".join(variant_key(variant)).encode()).hexdigest()[:16]
    return places.make_folder(fleet_folder() / "shares" / f"{run_id}-{label}" / name)


def forget_old_shares() -> None:
    """Delete the shares of fleets that were begun more than a week ago."""
    for folder in (fleet_folder() / "shares").glob("*"):
        if time.time() - folder.stat().st_mtime > KEEP_S:
            shutil.rmtree(folder, ignore_errors=True)


def _measure_in_turn(job: Job, variant: ModelVariant, folder: Path, is_wanted: IsWanted) -> Ending | None:
    """Measure a share as soon as no other benchmark of a fleet runs here; None when nobody wants it any more."""
    from filelock import FileLock, Timeout

    lock = FileLock(fleet_folder() / "benchmark.lock")
    while is_wanted():
        with suppress(Timeout), lock.acquire(timeout=POLL_S):
            return _measure_apart(job, variant, folder, is_wanted)
    return None


def _measure_apart(job: Job, variant: ModelVariant, folder: Path, is_wanted: IsWanted) -> Ending | None:
    """Measure a share in a process of its own, and end that, and the model with it, when nobody wants it any more."""
    started = time.monotonic()
    what = {"folder": str(folder), "plan": asdict(job.plan), "variant": asdict(variant)}
    doing = f"measuring {variant.model_id}"
    with ChildProcess(__name__, what, name="benchmark", doing=doing) as child:
        while child.failure() is None:
            if not is_wanted():
                return None
            if job.limit_s is not None and time.monotonic() - started > job.limit_s:
                return "stopped", f"It was not finished after {job.limit_s:g} s."
            time.sleep(POLL_S)
        try:
            child.wait_for("measured", timeout_s=POLL_S)
        except WorkshopError as error:
            return "failed", str(error)
        return "done", None


def _measure_share(job: Mapping[str, Any], emit: Emit) -> None:
    """What that process does; what the folder holds already is not asked again."""
    from pydantic import TypeAdapter

    asked = TypeAdapter(FleetPlan).validate_python(job["plan"])
    variant = TypeAdapter(ModelVariant).validate_python(job["variant"])
    with profiles.open_runtime(asked.profile) as runtime:
        benchmark.run_plan(asked.for_models([variant]), runtime, Path(job["folder"]), show_progress=False)
    emit({"event": "measured"})


def _without_folders(text: str) -> str:
    return without_home(without_places(text, {places.cache_root(): "<cache>"}))


if __name__ == "__main__":
    do_the_job(_measure_share)
