"""What page 06 does with models of one's own, one call per step, and how it leaves no trace of them."""

from __future__ import annotations

import ast
import atexit
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

from IPython.display import Markdown

from workshop_lib import benchmark, comparison, data, places, plan
from workshop_lib.client import ChatClient
from workshop_lib.errors import ConfigurationError, WorkshopError
from workshop_lib.models import local, registry
from workshop_lib.models.folder import read_folder
from workshop_lib.records import ModelVariant, Request, Run
from workshop_lib.runtimes.protocols import Runtime
from workshop_lib.show import tables
from workshop_lib.show.table import Table
from workshop_lib.show.text import NOT_MEASURED, UNKNOWN, without_home, without_places

IN_RUNTIME, IN_PYTHON = "page-06-in-runtime", "page-06-in-python"  # names that nobody else takes
ADAPTER_FILE = places.PROJECT / "samples" / "06-bring-your-own-model" / "genai_adapter.py"
ADAPTER = f"{ADAPTER_FILE}:GenAIAdapter"


@dataclass(frozen=True, slots=True)
class Example:
    """The folder that page 06 takes for a learner's own, its licence (None = unknown), and where copies of it are."""

    folder: Path
    copies: Path
    licence: str | None
    keep: bool

    def damaged(self) -> Path:
        """A copy of it without its weights, as a broken-off download leaves it."""
        left_out = shutil.ignore_patterns("*.onnx.data")
        return shutil.copytree(self.folder, self.copies / "damaged", ignore=left_out, dirs_exist_ok=True)

    def leave(self) -> Table:
        """Unregister what the page registered and delete its copies, unless it is kept; say what is the case now."""
        mine = [model.alias for model in registry.read() if model.alias in (IN_RUNTIME, IN_PYTHON)]
        if not self.keep:
            _forget(self.copies)
        return Table([(each, "registered" if self.keep else "unregistered") for each in mine], columns=["model", "now"])


def begin(folder: str = "", *, rounds: int = 1, repeats: int = 1, keep: bool = False) -> Example:
    """Check the page's settings, remove what an interrupted run left, and give the folder to work with.

    An empty `folder` stands for a copy of a shipped model. Without `keep`, what the page registers is forgotten at the
    latest when the kernel ends. Raises `ConfigurationError` for a number below 1 or a folder that does not exist.
    """
    if min(rounds, repeats) < 1:
        raise ConfigurationError(f"rounds is {rounds} and repeats is {repeats}.", "Give 1 or more.")
    if folder and not Path(folder).expanduser().is_dir():
        raise ConfigurationError(f"There is no folder {folder}.", "Correct the path, or leave it empty.")
    copies = places.cache_root() / "page-06"
    _forget(copies)
    if not keep:
        atexit.register(_forget, copies)
    if folder:
        return Example(Path(folder).expanduser().absolute(), copies, None, keep)
    places.make_folder(copies)
    shipped = data.PRACTICE_INDEX_FILE.parent / "practice-small-int4-generic-cpu"
    return Example(shutil.copytree(shipped, copies / "my-model"), copies, data.read_practice_index().licence, keep)


def look_into(folder: Path) -> Table:
    """What a folder's files say, and the runtime once it has loaded it; tells nobody where the folder lies."""
    said: list[tuple[str, object]] = []
    try:
        found = read_folder(folder)
        said += [("model type", found.model_type), ("model files", ", ".join(found.files))]
        said += [("device", found.device), ("provider", found.execution_provider)]
        said += [("context (tokens)", found.context_tokens), ("precision", found.precision or UNKNOWN)]
        said += [("licence", found.licence or UNKNOWN)]
        local.try_folder(folder)
        said.append(("the runtime", "It loaded the model, and the model answered."))
    except WorkshopError as error:
        said.append(("the runtime" if said else "files", str(error)))
    named = {folder: folder.name, places.cache_root(): "<cache>"}
    rows = [(what, without_home(without_places(str(value), named))) for what, value in said]
    return Table(rows, columns=["what", "says"])


def source(file: Path, method: str) -> Markdown:
    """One method of a file, as it stands there."""
    text = file.read_text(encoding="utf-8")
    (node,) = (each for each in ast.walk(ast.parse(text)) if isinstance(each, ast.FunctionDef) and each.name == method)
    code = ast.get_source_segment(text, node, padded=True) or ""
    return Markdown(f"```python\n{dedent(code)}\n```")  # type: ignore[no-untyped-call]


def look(runtime: Runtime, names: Sequence[str]) -> Table:
    """The variants of some names as the catalog table of page 01; where they cannot be found, why."""
    found, skipped = _find(runtime, names)
    return tables.models(found) if found else tables.left_out(skipped)


def ask(runtime: Runtime, name: str, text: str, *, max_tokens: int = 60) -> Table:
    """Serve a model, ask it one question, stop it: load time, memory, and what it said or why it could not."""
    found, skipped = _find(runtime, [name])
    if not found:
        return tables.left_out(skipped)
    variant = found[0]
    with runtime.serve(variant) as model, ChatClient.to(model) as client:
        done = client.ask(Request("page-06", variant, "page-06", text, round=1, max_tokens=max_tokens))
    load = NOT_MEASURED if model.load_s is None else round(1000 * model.load_s)
    memory = NOT_MEASURED if model.resident_mb is None else round(model.resident_mb, 1)
    columns = ["model", "load (ms)", "memory (MB)", "answer"]
    return Table([(variant.model_id, load, memory, tables.answer(done))], columns=columns)


def measure(runtime: Runtime, names: Sequence[str], *, rounds: int, max_tokens: int = 120) -> Run:
    """Benchmark some models on the course's prompts, in turns; one that cannot be found becomes a skipped row."""
    found, skipped = _find(runtime, names)
    asked = plan.make_plan(found, data.read_prompts(), rounds=rounds, max_tokens=max_tokens, skipped=tuple(skipped))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        return benchmark.run_plan(asked, runtime, Path(folder))


def price(run: Run, first: str, second: str) -> comparison.Changes:
    """What the second model costs in units of the first; where one of them was not measured, that is the remark."""
    measured = comparison.results_of(run)
    try:
        return comparison.compare_named(measured, measured, first, second)
    except WorkshopError as error:
        return comparison.Changes((), (str(error),), ())


def _find(runtime: Runtime, names: Sequence[str]) -> tuple[list[ModelVariant], list[tuple[ModelVariant, str]]]:
    """What can be found, and why the rest cannot, also where the runtime itself is missing."""
    found: list[ModelVariant] = []
    skipped: list[tuple[ModelVariant, str]] = []
    for name in names:
        try:
            found += runtime.find([name])
        except WorkshopError as error:
            skipped.append((ModelVariant(alias=name, model_id=name, device="unknown"), str(error)))
    return found, skipped


def _forget(copies: Path) -> None:
    """Unregister the page's models and delete its copies."""
    for alias in (IN_RUNTIME, IN_PYTHON):
        with suppress(WorkshopError):
            registry.remove(alias)
    shutil.rmtree(copies, ignore_errors=True)
