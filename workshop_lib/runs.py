"""What notebooks do with a runtime and with run folders, one call per step.

Reads parameters as people type them, chooses and downloads models, asks them one question, and
finds the run to chart. Knows runtimes and plans; knows no tables and no charts.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from workshop_lib import benchmark, catalog, plan, profiles, storage
from workshop_lib.errors import ConfigurationError, ModelNotFoundError, RecordFileError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from workshop_lib.profiles import Runtime
    from workshop_lib.records import ModelVariant, Prompt, Run

RUNS = Path(__file__).resolve().parents[1] / "runs"
DEVICES = ("cpu", "gpu", "npu")
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


def choose(runtime: Runtime, wanted: Sequence[str], on: Sequence[str]) -> tuple[list[ModelVariant], Skipped]:
    """Return the variants to work with, and what was asked for but cannot be used, with reasons.

    Raises:
        ModelNotFoundError: nothing is left.
    """
    variants, skipped = plan.choose_variants(runtime, wanted, on)
    if not variants:
        why = skipped[0][1] if skipped else f"No model is ready for {' or '.join(on)}."
        raise ModelNotFoundError(why, "Name models that the catalog lists.")
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


def new_folder(output: str = "") -> Path:
    """Return the folder of a new run: `output`, or one under `runs/` named after the time."""
    return Path(output).resolve() if output else RUNS / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"


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
    for path in sorted((folder or RUNS).glob(f"*/{benchmark.RECORDS_FILE}"), reverse=True):
        try:
            run = storage.read_run(path)
        except RecordFileError:
            continue
        if any(completion.round for completion in run.completions):
            return path
    return None


def measure_a_little(folder: Path) -> Path:
    """Measure every ready model on few prompts and rounds, so that there is something to chart."""
    with profiles.open_runtime() as runtime:
        variants, skipped = choose(runtime, ["auto"], ["cpu", "gpu"])
        prompts = catalog.read_prompts()[:SMALL_RUN_PROMPTS]
        small = plan.make_plan(variants, prompts, rounds=SMALL_RUN_ROUNDS)
        benchmark.run_benchmark(replace(small, skipped=tuple(skipped)), runtime, folder)
    return folder / benchmark.RECORDS_FILE
