"""Executed notebooks as files: seconds, outputs that must not change, nothing of the machine that made them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest

from workshop_lib.errors import NotebookError
from workshop_lib.programs import notebook_files


def text(value: str, count: int = 1) -> Any:
    return nbformat.v4.new_output("execute_result", {"text/plain": value}, execution_count=count)


def cell(name: str, *outputs: Any, tags: tuple[str, ...] = ()) -> Any:
    made = nbformat.v4.new_code_cell("1", id=name, outputs=list(outputs))
    made.metadata["tags"] = list(tags)
    made.metadata["papermill"] = {"duration": 1.0}
    return made


def write(path: Path, *cells: Any, **metadata: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    notebook = nbformat.v4.new_notebook(cells=list(cells), metadata=metadata)
    nbformat.write(notebook, path)
    return path


def test_the_seconds_are_those_that_papermill_noted(tmp_path: Path):
    """The whole notebook's time, and none where it was not papermill who executed it."""
    assert notebook_files.duration_s(write(tmp_path / "a.ipynb", papermill={"duration": 12.25})) == 12.25
    assert notebook_files.duration_s(write(tmp_path / "b.ipynb")) is None


def test_what_is_no_notebook_is_said(tmp_path: Path):
    """A missing file, and one that holds something else."""
    with pytest.raises(NotebookError, match=r"cannot be read.*Correct its path"):
        notebook_files.read_notebook(tmp_path / "none.ipynb")
    (tmp_path / "text.ipynb").write_text("hello")
    with pytest.raises(NotebookError, match="holds no JSON"):
        notebook_files.read_notebook(tmp_path / "text.ipynb")


def test_only_outputs_that_must_not_change_are_compared(tmp_path: Path):
    """Tagged cells, bars, warnings and injected parameters are left out, and so is how often a cell was executed."""
    bar = nbformat.v4.new_output("display_data", {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}})
    warning = nbformat.v4.new_output("stream", name="stderr", text="slow")
    timed = cell("timed", text("3 ms"), tags=("nbval-ignore-output",))
    injected = cell("injected", text("x"), tags=("injected-parameters",))
    path = write(tmp_path / "a.ipynb", cell("fixed", text("True", 7), bar, warning), timed, injected, cell("none"))
    outputs = notebook_files.fixed_outputs(path)
    assert set(outputs) == {"fixed", "none"}
    assert json.loads(outputs["none"]) == []
    assert json.loads(outputs["fixed"]) == [
        {"data": {"text/plain": "True"}, "metadata": {}, "output_type": "execute_result"}
    ]


def test_places_and_notes_are_forgotten_everywhere(tmp_path: Path):
    """Paths leave sources, outputs and reports, however they are written there; pictures and other bytes stay."""
    folder = tmp_path / "some where\\run"
    path = write(folder / "a.ipynb", cell("one", text(repr(str(folder)))), papermill={}, widgets={})
    (folder / "benchmark_report.md").write_text(f"see {folder}", encoding="utf-8")
    (folder / "records.jsonl").write_text(json.dumps({"at": f"{folder}: é"}), encoding="utf-8")
    (folder / "a.png").write_bytes(str(folder).encode())
    notebook_files.forget_places(folder, {folder: "runs/reference"})
    notebook = notebook_files.read_notebook(path)
    assert "papermill" not in notebook.metadata and "widgets" not in notebook.metadata
    assert "papermill" not in notebook.cells[0].metadata
    for each in ("a.ipynb", "benchmark_report.md", "records.jsonl"):
        said = (folder / each).read_text("utf-8")
        assert "runs/reference" in said and "some where" not in said
    assert (folder / "a.png").read_bytes() == str(folder).encode()
