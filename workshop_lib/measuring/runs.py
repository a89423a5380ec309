"""What notebooks do with a runtime and with run folders, one call per step.

Reads parameters as people type them, chooses and downloads models, asks them one question, and
finds the run to chart. Knows runtimes and plans; knows no tables and no charts.
"""

from __future__ import annotations

import tempfile
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workshop_lib import catalog, files, places, settings
from workshop_lib.archive import changes, references, results, storage
from workshop_lib.errors import ConfigurationError, ModelNotFoundError, RecordFileError
from workshop_lib.measuring import benchmark, concurrency, plan
from workshop_lib.records import variant_key
from workshop_lib.runtimes import profiles

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from workshop_lib.archive.changes import Changes
    from workshop_lib.archive.results import Results
    from workshop_lib.measuring.concurrency import Load
    from workshop_lib.records import ModelVariant, Prompt, Run
    from workshop_lib.runtimes.profiles import Runtime

DEVICES = ("cpu", "gpu", "npu")
LOADS_FILE = "concurrency.jsonl"
TRIED_REQUESTS, TRIED_TOKENS = 3, 40
"""Questions per user and tokens per answer where a notebook tries several users: minutes, even with a slow model."""
SMALL_RUN_PROMPTS, SMALL_RUN_ROUNDS = 3, 2
Skipped = list[tuple["ModelVariant", str]]


def names(text: str, what: str = "models") -> list[str]:
    """Return the names in a list separated by commas.

    >>> names("practice-small, practice-large")
    ['practice-small', 'practice-large']

    Raises:
        ConfigurationError: there is none.
    """
    found = [name.strip() for name in text.split(",") if name.strip()]
    if not found:
        raise ConfigurationError(f"{what} is empty.", "Give names separated by commas.")
    return found


def devices(text: str) -> list[str]:
    """Return the devices in a list separated by commas.

    Raises:
        ConfigurationError: there is none, or one that does not exist.
    """
    found = names(text.lower(), "devices")
    for device in found:
        if device not in DEVICES:
            raise ConfigurationError(
                f"There is no device '{device}'.", f"Use {', '.join(DEVICES)}, separated by commas."
            )
    return found


def users(text: str) -> tuple[int, ...]:
    """Return the numbers of simultaneous users in a list separated by commas, smallest first; none for an empty one.

    Raises:
        ConfigurationError: one is no whole number from 1 to 256.
    """
    try:
        return settings.user_counts(text) if text.strip() else ()
    except ValueError as error:
        raise ConfigurationError(
            f"users is '{text}'.",
            f"Give whole numbers from 1 to {settings.MOST_USERS}, separated by commas, or nothing.",
        ) from error


def choose(runtime: Runtime, wanted: Sequence[str], on: Sequence[str]) -> tuple[list[ModelVariant], Skipped]:
    """Return the variants to work with, and what was asked for but cannot be used, with reasons.

    Raises:
        ModelNotFoundError: nothing is left.
    """
    variants, skipped = plan.choose_variants(runtime, wanted, on)
    if not variants:
        why = skipped[0][1] if skipped else f"No model is ready for {' or '.join(on)}."
        raise ModelNotFoundError(why, "Name models that the catalog lists, or other devices.")
    return variants, skipped


def download(runtime: Runtime, variants: Iterable[ModelVariant]) -> list[ModelVariant]:
    """Bring variants into the cache, one progress bar each; return them as they are now.

    Raises:
        DiskSpaceError: too little is free.
        ModelServerError: a download failed several times.
    """
    from tqdm.auto import tqdm

    variants = list(variants)
    for variant in variants:
        with tqdm(total=100, unit="%", desc=variant.model_id) as bar:

            def show(percent: float, bar: tqdm = bar) -> None:
                bar.update(max(0.0, percent - bar.n))

            runtime.download(variant, on_progress=show)
    now = {variant.model_id: variant for variant in runtime.list_models()}
    return [now.get(variant.model_id, variant) for variant in variants]


def probe(runtime: Runtime, variants: Sequence[ModelVariant], prompt: Prompt, *, max_tokens: int = 120) -> Run:
    """Ask every variant one question once, after a warm-up; a failure becomes a record."""
    small = plan.make_plan(variants, [prompt], rounds=1, max_tokens=max_tokens)
    with tempfile.TemporaryDirectory() as folder:
        return benchmark.run_benchmark(small, runtime, Path(folder))


def answered(run: Run) -> list[ModelVariant]:
    """Return the variants that answered a timed request, in the order in which they were served."""
    good = {(each.model_id, each.device) for each in run.completions if each.ok and each.round > 0}
    served = {variant_key(serving.variant): serving.variant for serving in run.servings}
    return [variant for key, variant in served.items() if key in good]


def measure_users(
    runtime: Runtime,
    variant: ModelVariant,
    prompts: Sequence[Prompt],
    users: Sequence[int] = concurrency.LEVELS,
    **options: Any,
) -> tuple[Load, ...]:
    """Serve a variant and let several users ask it at the same time, each number of users in turn.

    `options` are those of `concurrency.measure_loads`.

    Raises:
        WorkshopError: it could not be served.
    """
    with runtime.serve(variant) as model:
        return concurrency.measure_loads(model, prompts, levels=users, **options)


def try_users(runtime: Runtime, run: Run, users: Sequence[int], folder: Path) -> tuple[Load, ...]:
    """Let several users ask the first model that answered in `run`, and keep every request in `folder`.

    Returns nothing where no number of users is given or no model answered.

    Raises:
        WorkshopError: the model could not be served again.
    """
    models = answered(run)
    if not users or not models:
        return ()
    options = {"requests_per_user": TRIED_REQUESTS, "max_tokens": TRIED_TOKENS}
    loads = measure_users(runtime, models[0], run.prompts, users, **options)
    save_loads(folder, models[0], loads)
    return loads


def save_loads(folder: Path, variant: ModelVariant, loads: Iterable[Load]) -> Path:
    """Append one line per number of users to `concurrency.jsonl`, with every request; return the file's path."""
    path = folder / LOADS_FILE
    files.append_lines(path, [concurrency.load_object(variant, load) for load in loads])
    return path


def new_folder(output: str = "") -> Path:
    """Return the folder of a new run: `output`, or one named after the time among the other runs."""
    return Path(output).resolve() if output else places.runs_folder() / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"


def find_records(records: str = "") -> Path:
    """Return the records to look at: the file named, else the newest run's, else a new small run's.

    Raises:
        RecordFileError: the file named does not exist.
    """
    if records:
        if not Path(records).is_file():
            raise RecordFileError(f"There are no records at {records}.", "Correct the path, or leave it empty.")
        return Path(records).resolve()
    return newest_records() or measure_a_little(new_folder())


def newest_records(folder: Path | None = None) -> Path | None:
    """Return the records of the newest run under `runs/` that answered anything, or None."""
    for path in sorted((folder or places.runs_folder()).glob(f"*/{benchmark.RECORDS_FILE}"), reverse=True):
        try:
            run = storage.read_run(path)
        except RecordFileError:
            continue
        if any(completion.round for completion in run.completions):
            return path
    return None


def changes_since_another(path: Path) -> Changes:
    """Compare the run whose records are at `path` with the newest other run that did the same work.

    Without one under `runs/` it is compared with the shipped reference results; with neither, the remark says so.

    Raises:
        RecordFileError: the records at `path` cannot be read.
        DataFileError: shipped reference results are damaged.
    """
    this = results.read_results(path)
    for other in _others(path):
        try:
            found = changes.compare_results(other, this)
        except ConfigurationError:  # it did other work, or measured other models
            continue
        said = f"This run, {this.name}, against {other.name}: a ratio is this run's in units of the other's."
        return replace(found, remarks=(said, *found.remarks))
    return changes.Changes((), ("There is no other run of the same work to compare with: run page 02 once more.",), ())


def _others(path: Path) -> Iterator[Results]:
    """Other runs under `runs/` that can be read, newest first, then the shipped references."""
    for other in sorted(places.runs_folder().glob(f"*/{benchmark.RECORDS_FILE}"), reverse=True):
        if other.resolve() != path.resolve():
            with suppress(RecordFileError):
                yield results.read_results(other)
    for reference in references.read_references():
        yield replace(reference.results, name=f"the reference of {reference.label}")


def measure_a_little(folder: Path) -> Path:
    """Measure every ready model on few prompts and rounds, so that there is something to chart."""
    with profiles.open_runtime() as runtime:
        variants, skipped = choose(runtime, ["auto"], ["cpu", "gpu"])
        prompts = catalog.read_prompts()[:SMALL_RUN_PROMPTS]
        small = plan.make_plan(variants, prompts, rounds=SMALL_RUN_ROUNDS)
        benchmark.run_benchmark(replace(small, skipped=tuple(skipped)), runtime, folder)
    return folder / benchmark.RECORDS_FILE
