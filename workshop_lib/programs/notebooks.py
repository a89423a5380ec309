"""Running notebooks without a person: papermill, kernels of this very Python, one run folder for the numbered pages."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workshop_lib import places
from workshop_lib.errors import NotebookError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from papermill.models import Parameter

FOLDER = places.NOTEBOOKS
PAGES = (
    "01_download_models.ipynb",
    "02_benchmark_models.ipynb",
    "03_chart_results.ipynb",
    "04_annotate_quality.ipynb",
    "05_choose_model.ipynb",
    "06_bring_your_own_model.ipynb",
)
RECORDS = "records.jsonl"
CELL_TIMEOUT_S = 1800
"""Longer than the slowest cell (a download, a long benchmark) takes; a kernel that hangs is stopped then."""

Value = str | int | float | bool


def read_parameters(source: Path) -> dict[str, Parameter]:
    """The parameters in the cell tagged `parameters`: name → papermill's type name, default and help, all as text.

    Raises `NotebookError` where there is no such notebook.
    """
    import nbformat
    from papermill.translators import PythonTranslator

    if not source.is_file():
        raise NotebookError(f"There is no notebook {source}.", "Correct its path.")
    cells = nbformat.read(source, as_version=4).cells  # type: ignore[no-untyped-call]
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    return {found.name: found for cell in tagged for found in PythonTranslator.inspect(cell)}


def run_notebook(source: Path, output: Path, parameters: Mapping[str, Value]) -> float:
    """Execute a notebook, with progress on standard error; the executed copy is `output`. Returns its seconds.

    Raises `NotebookError` where there is no such notebook, for a parameter that it does not have, a cell that fails or
    takes too long, and a kernel that dies.
    """
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    if unknown := ", ".join(parameters.keys() - (known := read_parameters(source)).keys()):
        raise NotebookError(f"{source.name} has no parameter {unknown}.", f"It has {', '.join(known)}.")
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        executed = papermill.execute_notebook(
            source,
            output,
            parameters=dict(parameters),
            kernel_name="python3",
            language="python",
            kernel_manager_class=kernel_manager(),
            cwd=str(source.parent),
            progress_bar={"file": sys.stderr, "desc": source.stem},
            execution_timeout=CELL_TIMEOUT_S,
        )
    except papermill.PapermillExecutionError as fault:
        said = re.sub(r"\x1b\[[0-9;]*m", "", f"{fault.ename}: {fault.evalue}").strip()  # without colours
        what = f"cell {fault.exec_count} ended with {said.splitlines()[-1].rstrip('.')}"
    except DeadKernelError:
        what = "its kernel died"
    except CellTimeoutError:
        what = f"a cell took over {CELL_TIMEOUT_S} s"
    else:
        return float(executed.metadata.papermill.duration)
    raise NotebookError(f"{source.name} failed: {what}.", f"See {output} for what ran until then.")


def run_workshop(folder: Path, parameters: Mapping[str, Value]) -> dict[str, float]:
    """Execute the numbered pages into one run folder, each with those of the parameters that it has.

    Page 02 writes its records into the folder, and the later ones read them there. Returns page, without its suffix →
    seconds. Raises `NotebookError` where a page fails; later pages do not run.
    """
    folder = folder.resolve()
    given = {**parameters, "output": str(folder), "records": str(folder / RECORDS)}
    seconds = {}
    for name in PAGES:
        known = read_parameters(FOLDER / name)
        mine = {key: value for key, value in given.items() if key in known}
        seconds[Path(name).stem] = run_notebook(FOLDER / name, folder / name, mine)
    return seconds


def kernel_manager() -> type:
    """A kernel manager for this Python, whatever kernels are installed: one named python3 may be another's."""
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    class ThisPython(AsyncKernelManager):
        @property
        def kernel_spec(self) -> Any:
            command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            command.append("--IPKernelApp.log_level=ERROR")  # no remarks among the progress
            return KernelSpec(argv=command, display_name="Python 3", language="python",
                              env={"PYTHONPATH": places.search_path()})  # fmt: skip

    return ThisPython
