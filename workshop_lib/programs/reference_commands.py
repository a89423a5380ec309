"""Making the shipped reference results anew, untouched by what the user has set, registered or measured.

Runs the workshop in a process with an environment of its own, says what changed, and replaces the results.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from workshop_lib import files, places
from workshop_lib.errors import WorkshopError
from workshop_lib.programs import commands, notebook_files, reference_changes, terminal

REFERENCE = places.DATA / "reference" / "practice"
LEFT_OUT = ("*.lock", "annotations")
"""What a run leaves that is no result: locks, and the verdicts that a page gave to show how."""


def make_reference(output: Path | None = None, *, measure: Callable[[Path], int] | None = None) -> int:
    """Measure the practice models anew, print what changed, and replace the reference results.

    Args:
        output: the folder of the results; None = the shipped one.
        measure: runs the workshop into the folder `run` of the folder that it is given, and returns an exit code;
            None = in a process of its own, with nothing of the user's.

    Returns:
        0 if the reference was replaced, 1 if it stays: nothing could be measured, or a GPU's results would be lost.

    Raises:
        ConfigurationError: the folder cannot be written; found before anything is measured.
    """
    target = output or REFERENCE
    files.check_writable(_report(target))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        apart = Path(temporary).resolve()
        folder = apart / "run"
        if code := (measure or run_apart)(apart):
            return code
        names = {folder: "runs/reference", apart: "temporary", places.PROJECT: "workshop"}
        notebook_files.forget_places(folder, names)
        for path in [path for pattern in LEFT_OUT for path in folder.rglob(pattern)]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if _report(target).exists() and not _compared(target, folder):
            return 1
        _replace(target, folder)
    print(f"Reference results: {target}")
    return 0


def run_apart(folder: Path) -> int:
    """Run the workshop's practice profile into `folder / "run"`, with models, runs and settings of its own."""
    code = f"import sys, pathlib, {__name__} as it; sys.exit(it.measure_practice(pathlib.Path(sys.argv[1])))"
    environment = places.environment_apart(folder)
    command = [sys.executable, "-c", code, str(folder / "run")]
    return subprocess.run(command, cwd=places.PROJECT, env=environment, check=False).returncode


def measure_practice(folder: Path) -> int:
    """Run the workshop's practice profile into a folder, in this process's environment; return the exit code."""
    return commands.ended(lambda: commands.exit_code(commands.measure({"profile": "practice"}, folder)[0]))


def _compared(old: Path, new: Path) -> bool:
    """Print what changed; return whether the old results may be replaced."""
    from workshop_lib import comparison

    print("Against the reference until now:")
    try:
        before, after = comparison.read_report(_report(old)), comparison.read_report(_report(new))
        if reference_changes.lost_gpu(before, after):
            print(f"It holds results of a GPU ({before.label}), and this machine has none: it stays. Use --output.")
            return False
        terminal.show_changes(comparison.compare_results(before.results, after.results))
    except WorkshopError as error:
        print(error)
        return True
    appeared, went = reference_changes.changed_files(old, new)
    found = {
        "answers": reference_changes.changed_answers(before.results, after.results),
        "rows": reference_changes.changed_rows(before.rows, after.rows),
        "notebook outputs": reference_changes.changed_outputs(old, new),
        "files": [f"{name}: new." for name in appeared] + [f"{name}: not made any more, removed." for name in went],
    }
    print(reference_changes.summary({what: len(said) for what, said in found.items()}))
    for what, said in found.items():
        terminal.show_sentences(f"{what.capitalize()}:", said)
    return True


def _replace(target: Path, folder: Path) -> None:
    if _report(target).exists():
        for name in reference_changes.changed_files(target, folder)[1]:
            (target / name).unlink()
    kept = {path.name for path in target.glob("*")} - {path.name for path in folder.glob("*")}
    shutil.copytree(folder, target, dirs_exist_ok=True)
    if kept:
        print(f"Kept as they were: {', '.join(sorted(kept))}")


def _report(folder: Path) -> Path:
    return folder / "benchmark_report.json"
