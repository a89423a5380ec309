"""Notebooks without a person: settings are checked, pages run in order or on their own, offline or on an endpoint."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.fault_server import fault_server
from workshop_lib.errors import NotebookError
from workshop_lib.programs import notebooks

PAGES = sorted(notebooks.FOLDER.glob("*.ipynb"))


@pytest.fixture
def page(tmp_path: Path):
    """Write a small notebook and return its path."""

    def write(*cells: str, settings: str = "rounds: int = 3  # how often") -> Path:
        notebook = nbformat.v4.new_notebook()
        notebook.cells = [nbformat.v4.new_code_cell(source) for source in (settings, *cells)]
        notebook.cells[0].metadata["tags"] = ["parameters"]
        path = tmp_path / "page.ipynb"
        nbformat.write(notebook, path)
        return path

    return write


def code_cells(path: Path) -> list[Any]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_the_workshop_runs_the_first_pages_in_their_order():
    """What `run` executes are numbered pages from 01 on; what stands behind them needs more than this machine."""
    assert [path.name for path in PAGES][: len(notebooks.PAGES)] == list(notebooks.PAGES)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_stored_pages_were_executed_from_top_to_bottom(path: Path):
    """Outputs are those of one whole execution, and not papermill's."""
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert '"papermill"' not in path.read_text("utf-8")


def test_an_unknown_parameter_and_a_missing_notebook_are_refused(page, tmp_path: Path):
    """Nothing is executed; the parameters that there are, are named."""
    with pytest.raises(NotebookError, match=r"page\.ipynb has no parameter round\. It has rounds\."):
        notebooks.run_notebook(page(), tmp_path / "out.ipynb", {"round": 3})
    with pytest.raises(NotebookError, match="There is no notebook"):
        notebooks.run_notebook(tmp_path / "none.ipynb", tmp_path / "out.ipynb", {})
    assert not (tmp_path / "out.ipynb").exists()


@pytest.mark.slow
def test_a_page_runs_in_this_python_from_any_folder(page, tmp_path: Path, monkeypatch, capfd):
    """The kernel is this interpreter, the package can be imported, progress goes to stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JUPYTER_PATH", str(_foreign_kernel(tmp_path)))
    source = page("import sys, workshop_lib\n[sys.executable, rounds]")
    assert notebooks.run_notebook(source, tmp_path / "new" / "out.ipynb", {"rounds": 7}) > 0
    assert code_cells(tmp_path / "new" / "out.ipynb")[-1].outputs[0].data["text/plain"] == f"[{sys.executable!r}, 7]"
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "page" in captured.err


def _foreign_kernel(folder: Path) -> Path:
    """A kernel named python3 that belongs to another Python, as a user's folder may hold."""
    spec = {"argv": ["/nowhere/python"], "display_name": "Other", "language": "python"}
    target = folder / "jupyter" / "kernels" / "python3"
    target.mkdir(parents=True)
    (target / "kernel.json").write_text(json.dumps(spec))
    return folder / "jupyter"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("raise ValueError('first line\\nlast line')", "cell 2 ended with last line"),
        ("import os\nos._exit(1)", "its kernel died"),
        ("import time\ntime.sleep(60)", "a cell took over 3 s"),
    ],
)
def test_a_failing_cell_is_one_sentence(page, tmp_path: Path, monkeypatch, cell: str, said: str):
    """The error names page, cell and last line, and where the executed part lies; a hung kernel holds nothing up."""
    monkeypatch.setattr(notebooks, "CELL_TIMEOUT_S", 3)
    output = tmp_path / "out.ipynb"
    with pytest.raises(NotebookError) as caught:
        notebooks.run_notebook(page(cell), output, {})
    assert caught.value.what == f"page.ipynb failed: {said}."
    assert str(output) in caught.value.fix
    assert output.exists()


@pytest.mark.slow
def test_the_session_page_asks_an_endpoint_without_the_sdk(tmp_path: Path, monkeypatch):
    """The thirty-minute demo needs no other page and, with an address, no SDK: importing it would fail.

    A key with a line break behind it, which two of the servers' models repeat, is in no file that is left.
    """
    (tmp_path / "foundry_local_sdk.py").write_text("raise ImportError('not wanted')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    page = notebooks.FOLDER / "session03_benchmark_oss_models.ipynb"
    models = "fast,echo-in-answer,echo-in-error"
    given = {"models": models, "rounds": 1, "max_tokens": 8, "output": str(tmp_path / "session")}
    with fault_server() as url:
        monkeypatch.setenv("FOUNDRY_LOCAL_ENDPOINT", url)
        monkeypatch.setenv("API_KEY", "sk-T0p-9z8y7x\n")
        notebooks.run_notebook(page, tmp_path / page.name, given)
    report = json.loads((tmp_path / "session" / "benchmark_report.json").read_text("utf-8"))
    assert report["profile"] == "endpoint"
    statuses = {row["alias"]: row["status"] for row in report["rows"]}
    assert statuses == {"fast": "ok", "echo-in-answer": "ok", "echo-in-error": "failed"}
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"9z8y7x" in path.read_bytes()]
    assert (tmp_path / "session" / "benchmark_report.md").exists()
