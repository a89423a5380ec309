"""For maintainers: make the results in `data/reference` anew, or the outputs of notebooks in place.

`python3 workshop.py reference [--output FOLDER]` measures the default candidates in a process apart from your settings,
models and runs, prints what changed beyond noise, and replaces the results; `git diff` shows the rest. It does so for
the team's own prompts (`practice`, with the pages) and for the course's (`course`, without). With `--page FILE` it
executes that notebook instead and stores its outputs.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

from workshop_lib import comparison, files, places
from workshop_lib.errors import NotebookError, WorkshopError
from workshop_lib.programs import commands, notebooks, terminal
from workshop_lib.show import tables

REFERENCE = places.DATA / "reference"
MADE = ("*.ipynb", "*.jsonl", "benchmark_report.*", "decision*", "figures/*")
"""What a run writes. Anything else in a folder of reference results was put there by hand."""
LEFT_OUT = ("*.lock", "annotations")
"""What a run leaves that is no result: locks, and the verdicts that a page gave to show how."""
UNREAD = ("*.ipynb", "*.md", "*.html", "*.csv", "decision.json", "figures", "concurrency.jsonl")
"""What nothing reads of results that only stand beside another run's: their records and their JSON are enough."""
RESULTS: dict[str, tuple[str, tuple[str, ...]]] = {"practice": ("meeting-notes", ()), "course": ("course", UNREAD)}
"""Folder of reference results → the prompts asked for them, and what is not kept of them."""
TEXTS = (".csv", ".html", ".ipynb", ".json", ".jsonl", ".md")


def make_reference(target: Path, *, measure: Callable[[Path], int], unwanted: Sequence[str] = ()) -> int:
    """Measure the practice models anew, print what changed, and replace the reference results.

    Args:
        target: the folder of the results.
        measure: runs the workshop into the folder `run` of the folder that it is given, and returns an exit code.
        unwanted: patterns of what is not kept, beside `LEFT_OUT`.

    Returns:
        0 if the reference was replaced, 1 if it stays: nothing could be measured, or a GPU's results would be lost.

    Raises:
        ConfigurationError: the folder cannot be written; found before anything is measured.
    """
    files.check_writable(_report(target))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        apart = Path(temporary).resolve()
        folder = apart / "run"
        if code := measure(apart):
            return code
        forget_places(folder, {folder: "runs/reference", apart: "temporary", places.PROJECT: "workshop"})
        for path in [path for pattern in (*LEFT_OUT, *unwanted) for path in folder.rglob(pattern)]:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)  # gone with its folder
        if _report(target).exists():
            if not _may_replace(target, folder):
                return 1
            for path in [path for pattern in MADE for path in target.glob(pattern)]:
                path.unlink()
        shutil.copytree(folder, target, dirs_exist_ok=True)
    print(f"Reference results: {target}")
    return 0


def make_references(folder: Path) -> Iterator[int]:
    """Make each of the `RESULTS` anew; the exit codes."""
    for name, (prompt_set, unwanted) in RESULTS.items():
        measure = partial(run_apart, prompt_set=prompt_set)
        yield make_reference(folder / name, measure=measure, unwanted=unwanted)


def run_apart(folder: Path, prompt_set: str) -> int:
    """Run the workshop's practice profile into `folder / "run"`, with models, runs and settings of its own."""
    command = [sys.executable, "-m", "workshop_lib", "run", "--profile", "practice", "--prompt-set", prompt_set]
    command += ["--output", str(folder / "run")]
    return subprocess.run(command, cwd=places.PROJECT, env=places.environment_apart(folder), check=False).returncode


def _may_replace(old: Path, new: Path) -> bool:
    print("Against the reference until now:")
    try:
        before, after = comparison.results_of(_report(old)), comparison.results_of(_report(new))
        if before.gpu_rows and not after.gpu_rows:
            print(f"It holds results of a GPU ({before.label}), and this machine has none: it stays. Use --output.")
            return False
        found = comparison.compare(before, after)
        terminal.show(tables.changes(found), "What changed")
        terminal.say((*found.remarks, *found.texts))
    except WorkshopError as error:
        print(error)
    return True


def _report(folder: Path) -> Path:
    return folder / "benchmark_report.json"


# -- notebooks fit for version control


def refresh_outputs(source: Path) -> int:
    """Execute a notebook and store its outputs in place, without progress bars: they show nothing without a kernel.

    Raises:
        NotebookError: a cell fails or the kernel dies; the notebook stays as it was.
    """
    notebook = nbformat.read(source, as_version=4)  # type: ignore[no-untyped-call]
    client = NotebookClient(
        notebook,
        timeout=notebooks.CELL_TIMEOUT_S,
        record_timing=False,
        kernel_manager_class=notebooks.kernel_manager(),
        resources={"metadata": {"path": str(source.parent)}},
    )
    try:
        client.execute()
    except (CellExecutionError, DeadKernelError) as fault:
        what = f"{fault.ename}: {fault.evalue}" if isinstance(fault, CellExecutionError) else "its kernel died"
        raise NotebookError(f"{source.name} failed: {what}.", "It stays as it was.") from None
    _clean(notebook)
    notebook.metadata["language_info"] = {"name": "python"}
    nbformat.write(notebook, source)  # type: ignore[no-untyped-call]
    return 0


def forget_places(folder: Path, names: Mapping[Path, str]) -> None:
    """Take papermill's notes and progress bars out of notebooks, and call each place by its name in all texts."""
    for path in folder.rglob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
        _clean(notebook)
        nbformat.write(notebook, path)  # type: ignore[no-untyped-call]
    for path in (path for path in folder.rglob("*") if path.suffix in TEXTS):
        text = before = path.read_bytes().decode("utf-8")
        for place, name in names.items():
            once = json.dumps(str(place), ensure_ascii=False)[1:-1]  # a backslash is two in JSON, four in its `repr`
            for spelling in (json.dumps(once, ensure_ascii=False)[1:-1], once, str(place)):
                text = text.replace(spelling, name)
        if text != before:
            files.write_atomically(path, text)


def _clean(notebook: Any) -> None:
    for holder in (notebook, *notebook.cells):
        holder.metadata.pop("papermill", None)
    notebook.metadata.pop("widgets", None)
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        cell.outputs = [each for each in cell.outputs if not _is_progress(each)]


def _is_progress(output: Any) -> bool:
    widget = "application/vnd.jupyter.widget-view+json" in output.get("data", {})
    return widget or output.get("name") == "stderr"


def parser() -> argparse.ArgumentParser:
    """What `workshop.py reference` takes."""
    made = argparse.ArgumentParser(prog="workshop.py reference", description="Make data/reference anew.")
    made.add_argument("--output", type=Path, default=REFERENCE, help="another folder than data/reference")
    made.add_argument("--page", type=Path, help="execute this notebook and store its outputs in place instead")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the arguments and do one of the two."""
    options = parser().parse_args(arguments)
    if options.page:
        return commands.ended(lambda: refresh_outputs(options.page))
    return commands.ended(lambda: max(make_references(options.output)))


if __name__ == "__main__":
    sys.exit(main())
