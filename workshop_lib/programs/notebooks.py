"""Notebooks without a person: parameters checked, papermill, one run folder for the numbered pages.

A notebook's parameters are the typed literals of its cell tagged `parameters`. Kernels are started
from this very Python, whatever kernels are installed. Knows nothing of what notebooks compute.
"""

from __future__ import annotations

import ast
import difflib
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workshop_lib import places
from workshop_lib.errors import NotebookError
from workshop_lib.programs.notebook_files import drop_progress, read_notebook

if TYPE_CHECKING:
    from collections.abc import Mapping

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
"""Above what the slowest cell (a download, a long benchmark) takes; a hung kernel ends there."""

Value = str | int | float | bool
TYPES: dict[str, type] = {"str": str, "int": int, "float": float, "bool": bool}
EXAMPLES = {"str": '"text"', "int": "3", "float": "0.5", "bool": "True"}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a notebook: its name, the name of its type, its default and its help."""

    name: str
    type_name: str
    default: Value
    help: str


def read_parameters(source: Path) -> dict[str, Parameter]:
    """Return the parameters of a notebook, in the order of its cell.

    Raises:
        NotebookError: no such notebook, or its cell holds anything but typed literals.
    """
    cells = [cell for cell in read_notebook(source).cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise NotebookError(f"{source.name} has {len(cells)} cells tagged `parameters`.", "Tag exactly one cell.")
    try:
        lines = ast.parse(cells[0].source).body
        found = [_parameter(line, cells[0].source) for line in lines]
    except (SyntaxError, ValueError) as fault:
        raise NotebookError(
            f"The parameters of {source.name} cannot be read: {fault}.",
            "Write each as a typed literal on a line of its own, e.g. `rounds: int = 3  # help`.",
        ) from fault
    return {parameter.name: parameter for parameter in found}


def check_parameters(known: Mapping[str, Parameter], given: Mapping[str, Value], where: str) -> None:
    """Accept parameters that exist and have the right type.

    Raises:
        NotebookError: a name that does not exist (names the nearest) or a value of another type.
    """
    for name, value in given.items():
        if name not in known:
            raise _unknown_name(name, known, where)
        wanted = known[name].type_name
        right = type(value) is TYPES[wanted] or (wanted == "float" and type(value) is int)
        if not right:
            raise NotebookError(
                f"{where}: {name} is {value!r} ({type(value).__name__}), not {wanted}.",
                f"Give a value such as {EXAMPLES[wanted]}.",
            )


def run_notebook(source: Path, output: Path, parameters: Mapping[str, Value]) -> Path:
    """Execute a notebook, with progress on stderr, and return where the executed copy is.

    Raises:
        NotebookError: parameters it does not have, a cell that fails, a kernel that dies.
    """
    check_parameters(read_parameters(source), parameters, source.name)
    output.parent.mkdir(parents=True, exist_ok=True)
    _execute(source, output, parameters)
    return output


def run_workshop(folder: Path, parameters: Mapping[str, Value]) -> tuple[Path, ...]:
    """Execute the numbered pages into one run folder and return the executed copies.

    Each page is given those of the parameters that it has; 02 writes its records into the folder
    and the later ones read them there.

    Raises:
        NotebookError: a parameter that no page has, or a page that fails; later pages do not run.
    """
    pages = {name: read_parameters(FOLDER / name) for name in PAGES}
    every = {key: value for known in pages.values() for key, value in known.items()}
    check_parameters(every, parameters, "The workshop")
    folder = folder.resolve()
    given = {**parameters, "output": str(folder), "records": str(folder / RECORDS)}
    done = []
    for name, known in pages.items():
        mine = {key: value for key, value in given.items() if key in known}
        done.append(run_notebook(FOLDER / name, folder / name, mine))
    return tuple(done)


def refresh_outputs(source: Path) -> None:
    """Execute a notebook and store its outputs in place, as version control should hold them.

    Progress bars are left out: without their kernel they show nothing.

    Raises:
        NotebookError: a cell fails or the kernel dies; the notebook stays as it was.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    notebook = read_notebook(source)
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT_S,
        record_timing=False,
        kernel_manager_class=_kernel_manager(),
        resources={"metadata": {"path": str(source.parent)}},
    )
    try:
        client.execute()
    except (CellExecutionError, DeadKernelError) as fault:
        raise _failed(source, source, _plain(str(fault))) from None
    drop_progress(notebook)
    notebook.metadata["language_info"] = {"name": "python"}
    nbformat.write(notebook, source)  # type: ignore[no-untyped-call]


def _parameter(line: ast.stmt, source: str) -> Parameter:
    """Read `name: type = literal  # help`."""
    if not isinstance(line, ast.AnnAssign) or not isinstance(line.target, ast.Name) or not line.value:
        raise ValueError(f"line {line.lineno} is not `name: type = value`")
    type_name = ast.unparse(line.annotation)
    if type_name not in TYPES:
        raise ValueError(f"line {line.lineno} has the type {type_name}, not one of {', '.join(TYPES)}")
    default: Value = ast.literal_eval(line.value)
    if type(default) is not TYPES[type_name]:
        raise ValueError(f"line {line.lineno} has a default that is not {type_name}")
    end = line.end_col_offset or 0
    text = source.splitlines()[line.lineno - 1].encode()[end:].decode()
    return Parameter(line.target.id, type_name, default, text.lstrip(" #").strip())


def _unknown_name(name: str, known: Mapping[str, Parameter], where: str) -> NotebookError:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]}?" if near else f"It has {', '.join(known)}."
    return NotebookError(f"{where} has no parameter {name}.", hint)


def _execute(source: Path, output: Path, parameters: Mapping[str, Value]) -> None:
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    try:
        papermill.execute_notebook(
            source,
            output,
            parameters=dict(parameters),
            kernel_name="python3",
            language="python",
            kernel_manager_class=_kernel_manager(),
            cwd=str(source.parent),
            progress_bar={"file": sys.stderr, "desc": source.stem},
            execution_timeout=CELL_TIMEOUT_S,
        )
    except papermill.PapermillExecutionError as fault:
        said = _plain(f"{fault.ename}: {fault.evalue}")
        raise _failed(source, output, f"cell {fault.exec_count} ended with {said}") from None
    except DeadKernelError:
        raise _failed(source, output, "its kernel died") from None
    except CellTimeoutError:
        raise _failed(source, output, f"a cell took over {CELL_TIMEOUT_S} s") from None


def _failed(source: Path, output: Path, what: str) -> NotebookError:
    return NotebookError(f"{source.name} failed: {what}.", f"See {output} for what ran until then.")


def _plain(text: str) -> str:
    """Return the last line of an error text, without colours."""
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text).strip().splitlines()
    return lines[-1].rstrip(".") if lines else "no message"


def _kernel_manager() -> type:
    """Return a kernel manager that starts kernels of this Python which can import this package."""
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    class ThisPython(AsyncKernelManager):
        """Kernels of `sys.executable`: an installed kernel named python3 may be another's."""

        @property
        def kernel_spec(self) -> Any:
            command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            command.append("--IPKernelApp.log_level=ERROR")  # no remarks among the progress
            return KernelSpec(argv=command, display_name="Python 3", language="python",
                              env={"PYTHONPATH": places.search_path()})  # fmt: skip

    return ThisPython
