"""What the command line does: the headless workshop, the reference results, the benchmark script.

Knows every part and joins them; computes nothing itself.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from workshop_lib import settings
from workshop_lib.catalog import DATA_FOLDER
from workshop_lib.errors import WorkshopError

if TYPE_CHECKING:
    from workshop_lib.changes import Changes
    from workshop_lib.concurrency import Load
    from workshop_lib.notebooks import Value
    from workshop_lib.profiles import Runtime
    from workshop_lib.records import Row, Run
    from workshop_lib.reporting import ReportFiles
    from workshop_lib.settings import BenchmarkSettings

REFERENCE = DATA_FOLDER / "reference" / "practice"


def run(parameters: dict[str, Value], output: Path | None = None) -> int:
    """Run the workshop's notebooks headless into one folder, write the report, print its path and table.

    Args:
        parameters: parameters of the notebooks, e.g. `profile`, `models`, `devices`, `rounds`.
        output: the run's folder; None = `runs/<started>`.

    Returns:
        0 if a model was measured, 1 if none was.

    Raises:
        DataFileError: `models.json` or `prompts.json` cannot be used; found before any notebook starts.
    """
    from workshop_lib import catalog, runs

    catalog.read_models()
    catalog.read_prompts()
    rows, files = measure_into(output or runs.new_folder(), parameters)
    _print_rows(rows)
    print(f"Report: {files.html}\n        {files.markdown}")
    return exit_code(rows)


def measure_into(folder: Path, parameters: dict[str, Value]) -> tuple[tuple[Row, ...], ReportFiles]:
    """Run the notebooks into a folder and write the report of what they measured there."""
    from workshop_lib import notebooks, reporting, storage, summaries

    notebooks.run_workshop(folder, parameters)
    measured = storage.read_run(folder / notebooks.RECORDS)
    return summaries.summarise(measured), reporting.write_report(measured, folder)


def make_reference(output: Path | None = None) -> int:
    """Measure the practice models anew, print what changed beyond noise, and replace the reference results.

    Returns:
        0 if the reference was replaced, 1 if no model could be measured (then the old one stays).
    """
    from workshop_lib import notebooks

    target = output or REFERENCE
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve() / "run"
        rows, _ = measure_into(folder, {"profile": "practice"})
        _print_rows(rows)
        if exit_code(rows) != 0:
            return 1
        notebooks.forget_places(folder)
        report = "benchmark_report.json"
        if (target / report).exists():
            print("Against the reference until now:")
            try:
                compare(target / report, folder / report)
            except WorkshopError as error:
                print(error)
        kept = {path.name for path in target.glob("*")} - {path.name for path in folder.glob("*")}
        shutil.copytree(folder, target, ignore=shutil.ignore_patterns("*.lock", "annotations"), dirs_exist_ok=True)
    if kept:
        print(f"Kept as they were: {', '.join(sorted(kept))}")
    print(f"Reference results: {target}")
    return 0


def compare(first: Path, second: Path, *, model: str = "", against: str = "", fail_if_slower: bool = False) -> int:
    """Print what changed from one result file to another, or from one model to another.

    Returns:
        0; with `fail_if_slower`, 1 when a latency is clearly worse in the second.
    """
    from workshop_lib.changes import compare_named, compare_results
    from workshop_lib.results import read_results

    a, b = read_results(first), read_results(second)
    changes = compare_named(a, b, model, against or model) if model else compare_results(a, b)
    _print_changes(changes)
    slower = any(
        each.ratio.is_clear and (each.ratio.value or 0) > 1 for each in changes.lines if each.measure == "latency"
    )
    return int(fail_if_slower and slower)


def _print_changes(changes: Changes) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table("model", "device", "measure", "second against first", title="What changed")
    for line in changes.lines:
        names = (line.a.model_id, line.b.model_id), (line.a.device, line.b.device)
        shown.add_row(*(" / ".join(dict.fromkeys(pair)) for pair in names), line.measure, line.verdict)
    Console(width=None if sys.stdout.isatty() else 140, markup=False).print(shown)
    for sentence in (*changes.remarks, *changes.texts):
        print(sentence)


def benchmark(arguments: Sequence[str]) -> int:
    """Run the full benchmark script: one JSON array on standard output, notices on standard error.

    Returns:
        0 if a model is ok, 1 if none is, 2 for a configuration that cannot be used, 130 when interrupted.
    """
    return ended(lambda: _benchmark(settings.parse(arguments, os.environ)))


def ended(work: Callable[[], int]) -> int:
    """Do the work; a foreseeable fault or Ctrl-C becomes one line on standard error and an exit code."""
    try:
        return work()
    except WorkshopError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("Stopped. What was measured is kept.", file=sys.stderr)
        return 130


def _benchmark(chosen: BenchmarkSettings) -> int:
    from workshop_lib import runs
    from workshop_lib.benchmark import run_benchmark
    from workshop_lib.plan import choose_variants, make_plan
    from workshop_lib.profiles import open_runtime
    from workshop_lib.summaries import summarise

    folder = chosen.output or runs.new_folder()
    with open_runtime(chosen.profile, endpoint=chosen.endpoint, api_key=chosen.api_key) as runtime:
        variants, skipped = choose_variants(runtime, chosen.models, chosen.devices)
        plan = make_plan(variants, chosen.read_prompts(), skipped=tuple(skipped), **chosen.plan_options())
        measured = run_benchmark(plan, runtime, folder)
        rows = summarise(measured)
        _write_rows(measured, rows, chosen)
        if chosen.users:
            _measure_users(runtime, measured, chosen, folder)
    empty = any(completion.error_kind == "empty_answer" for completion in measured.completions)
    return 1 if chosen.fail_on_empty and empty else exit_code(rows)


def _write_rows(measured: Run, rows: Sequence[Row], chosen: BenchmarkSettings) -> None:
    """Print the array, before anything else can fail, and write what files were asked for."""
    from workshop_lib.results import row_object

    array = json.dumps([row_object(row) for row in rows], indent=2, ensure_ascii=False) + "\n"
    sys.stdout.write(array)
    sys.stdout.flush()
    if chosen.json_file:
        chosen.json_file.write_text(array, encoding="utf-8")
    if chosen.output:
        from workshop_lib import reporting

        reporting.write_report(measured, chosen.output)
    _print_notices(measured, rows, chosen)


def _measure_users(runtime: Runtime, measured: Run, chosen: BenchmarkSettings, folder: Path) -> None:
    """Measure every model that answered under several users; keep all requests, show a table on standard error."""
    from workshop_lib import concurrency, runs

    (folder / runs.LOADS_FILE).unlink(missing_ok=True)
    for variant in runs.answered(measured):
        try:
            loads = runs.measure_users(
                runtime,
                variant,
                measured.prompts,
                chosen.users,
                max_tokens=chosen.max_tokens,
                timeout_s=chosen.timeout_s,
            )
        except WorkshopError as error:
            print(f"{variant.model_id} ({variant.device}), several users: failed. {error}", file=sys.stderr)
            continue
        runs.save_loads(folder, variant, loads)
        _print_loads(f"{variant.model_id} ({variant.device})", loads)
        print(concurrency.describe(loads), file=sys.stderr)


def _print_loads(title: str, loads: Sequence[Load]) -> None:
    from rich.console import Console
    from rich.table import Table

    from workshop_lib import comparison_tables

    found = comparison_tables.loads(loads)
    shown = Table(title=title)
    for heading in found.columns:
        shown.add_column(heading, justify="right")
    for line in found.itertuples(index=False):
        shown.add_row(*map(str, line))
    Console(stderr=True, width=None if sys.stderr.isatty() else 120, markup=False).print(shown)


def _print_notices(measured: Run, rows: Sequence[Row], chosen: BenchmarkSettings) -> None:
    for note in measured.notes:
        print(note, file=sys.stderr)
    for row in rows:
        if row.status != "ok":
            print(f"{row.model_id} ({row.device}): {row.status}. {row.error}", file=sys.stderr)
    if chosen.show_usage:
        for completion in measured.completions:
            tokens = f"{completion.prompt_tokens} + {completion.completion_tokens} tokens"
            print(f"{completion.request_id}: {tokens}", file=sys.stderr)


def exit_code(rows: Sequence[Row]) -> int:
    """0 if any model is ok, else 1."""
    return 0 if any(row.status == "ok" for row in rows) else 1


TERMINAL_COLUMNS = (
    "model", "precision", "device", "status", "first token (ms)", "decode (tok/s)", "p95 (ms)",
    "peak memory (MB)", "size (MB)",
)  # fmt: skip
"""What fits a terminal; the report has every column."""


def _print_rows(rows: Sequence[Row]) -> None:
    """Show the measured rows as a table, and the reason of each other row below it."""
    from rich.console import Console
    from rich.table import Table

    from workshop_lib import appearance, tables

    columns = [column for column in tables.COLUMNS if column.heading in TERMINAL_COLUMNS]
    shown = Table(title="Benchmark")
    for column in columns:
        shown.add_column(column.heading, justify="left" if column.kind == "text" else "right")
    for row in (row for row in rows if row.status == "ok"):
        cells = (column.cell(row) for column in columns)
        shown.add_row(*(cell if isinstance(cell, str) else appearance.number(cell) for cell in cells))
    Console(width=None if sys.stdout.isatty() else 120, markup=False).print(shown)
    for row in (row for row in rows if row.status != "ok"):
        print(f"{row.alias} on {row.device}: {row.status}. {row.error}")
