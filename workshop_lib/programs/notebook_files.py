"""Notebook files: reading them, what an executed one holds, and making it fit for version control.

Knows papermill's notes, progress bars and the tag of outputs that may differ. Starts no kernel.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from workshop_lib import files
from workshop_lib.errors import NotebookError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAY_DIFFER = "nbval-ignore-output"
"""The tag of cells whose outputs depend on time or machine."""
TEXTS = (".csv", ".html", ".ipynb", ".json", ".jsonl", ".md")


def read_notebook(path: Path) -> Any:
    """Return a notebook as nbformat holds it.

    Raises:
        NotebookError: no such file, or no notebook.
    """
    import nbformat

    try:
        return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    except OSError as fault:
        raise NotebookError(f"The notebook {path} cannot be read: {fault.strerror}.", "Correct its path.") from fault
    except nbformat.reader.NotJSONError as fault:
        raise NotebookError(
            f"{path} is not a notebook: it holds no JSON.", "Give the path of an .ipynb file."
        ) from fault


def duration_s(path: Path) -> float | None:
    """Return how many seconds papermill took for an executed notebook, kernel's start included; None if it did not.

    Raises:
        NotebookError: no notebook is there.
    """
    seconds = read_notebook(path).metadata.get("papermill", {}).get("duration")
    return None if seconds is None else float(seconds)


def fixed_outputs(path: Path) -> dict[str, str]:
    """Return the outputs that should be the same in every execution, as text, by the id of their cell.

    Left out are cells whose tag says that they may differ, progress bars, and cells that papermill added.

    Raises:
        NotebookError: no notebook is there.
    """
    return {
        cell.id: json.dumps([_lasting(output) for output in cell.outputs if not is_progress(output)], sort_keys=True)
        for cell in read_notebook(path).cells
        if cell.cell_type == "code" and not {MAY_DIFFER, "injected-parameters"} & set(cell.metadata.get("tags", ()))
    }


def is_progress(output: Any) -> bool:
    """Return whether an output is a progress bar or a widget, which show nothing without their kernel."""
    widget = "application/vnd.jupyter.widget-view+json" in output.get("data", {})
    return widget or output.get("name") == "stderr"


def drop_progress(notebook: Any) -> None:
    """Take progress bars and the state of widgets out of a notebook."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [each for each in cell.outputs if not is_progress(each)]
    notebook.metadata.pop("widgets", None)


def forget_places(folder: Path, places: Mapping[Path, str]) -> None:
    """Make what a run left in a folder fit for version control.

    Papermill's notes and progress bars leave its notebooks, and in all texts each place is called by the given name.
    """
    import nbformat

    for path in folder.rglob("*.ipynb"):
        notebook = read_notebook(path)
        for holder in (notebook, *notebook.cells):
            holder.metadata.pop("papermill", None)
        drop_progress(notebook)
        nbformat.write(notebook, path)  # type: ignore[no-untyped-call]
    for path in folder.rglob("*"):
        if path.suffix in TEXTS:
            text = before = path.read_bytes().decode("utf-8")
            for place, name in places.items():
                for spelling in _spellings(str(place)):
                    text = text.replace(spelling, name)
            if text != before:
                files.write_atomically(path, text)


def _spellings(place: str) -> tuple[str, str, str]:
    """Return a path as it is, as JSON holds it, and as JSON holds its `repr`: a backslash becomes two, then four."""
    once = json.dumps(place, ensure_ascii=False)[1:-1]
    return json.dumps(once, ensure_ascii=False)[1:-1], once, place


def _lasting(output: Any) -> dict[str, Any]:
    """Return an output without its count, which is another after each execution in a notebook."""
    return {name: value for name, value in output.items() if name != "execution_count"}
