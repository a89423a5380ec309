"""What page 06 does with models of one's own, one call per step, and how it leaves no trace of them.

Knows registering, runtimes and the benchmark; decides nothing about models.
"""

from __future__ import annotations

import ast
import atexit
import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

from workshop_lib import catalog, places
from workshop_lib.archive import changes
from workshop_lib.archive.results import results_of
from workshop_lib.display import Table
from workshop_lib.errors import ConfigurationError, ModelNotFoundError, WorkshopError
from workshop_lib.instrument.client import ChatClient
from workshop_lib.measuring import benchmark, plan
from workshop_lib.models import local, registry
from workshop_lib.models.folder import read_folder
from workshop_lib.records import ModelVariant, Request
from workshop_lib.showing import tables
from workshop_lib.untrusted import printable, without_places

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workshop_lib.archive.changes import Changes
    from workshop_lib.records import Run
    from workshop_lib.runtimes.protocols import Runtime

IN_RUNTIME, IN_PYTHON = "page-06-in-runtime", "page-06-in-python"
"""Names that nobody else takes, so that whatever is registered under them is this page's own."""

ADAPTER_FILE = places.PROJECT / "samples" / "06-bring-your-own-model" / "genai_adapter.py"
ADAPTER = f"{ADAPTER_FILE}:GenAIAdapter"
_ALIASES = (IN_RUNTIME, IN_PYTHON)
_EXAMPLE = "practice-small-int4-generic-cpu"


@dataclass(frozen=True, slots=True)
class Example:
    """The folder that page 06 takes for a learner's own, its licence (None = unknown), and where copies of it are."""

    folder: Path
    copies: Path
    licence: str | None
    keep: bool

    def damaged(self) -> Path:
        """A copy of it without its weights, as a broken-off download leaves it."""
        place = self.copies / "damaged"
        shutil.rmtree(place, ignore_errors=True)
        return shutil.copytree(self.folder, place, ignore=shutil.ignore_patterns("*.onnx.data"))

    def leave(self) -> Table:
        """Unregister what the page registered and delete its copies, unless it is kept; say what is the case now."""
        if self.keep:
            mine = [model.alias for model in registry.read() if model.alias in _ALIASES]
            return _states(mine, "registered")
        return _states(_forget(self.copies), "unregistered")


def begin(folder: str = "", *, rounds: int = 1, repeats: int = 1, keep: bool = False) -> Example:
    """Check the page's settings, take away what a run that broke off left, and give the folder to work with.

    Args:
        folder: an ONNX GenAI folder; empty = a copy of a shipped practice model.
        rounds: timed rounds per prompt.
        repeats: servings on each side of the keep-warm comparison.
        keep: False = what is registered is forgotten when the notebook's kernel ends, at the latest.

    Raises:
        ConfigurationError: a number below 1, or a folder that does not exist.
    """
    for name, value in (("rounds", rounds), ("repeats", repeats)):
        if value < 1:
            raise ConfigurationError(f"{name} is {value}.", "Give 1 or more.")
    if folder and not Path(folder).expanduser().is_dir():
        raise ConfigurationError(f"There is no folder {folder}.", "Correct the path, or leave it empty.")
    copies = places.cache_root() / "page-06"
    _forget(copies)
    if not keep:
        atexit.register(_forget_quietly, copies)
    if folder:
        return Example(Path(folder).expanduser().absolute(), copies, None, keep)
    shipped = catalog.PRACTICE_INDEX_FILE.parent / _EXAMPLE
    places.make_folder(copies)
    return Example(shutil.copytree(shipped, copies / "my-model"), copies, catalog.read_practice_index().licence, keep)


def look_into(folder: Path) -> Table:
    """What a folder's files say, and the runtime once it has loaded it; tells nobody where the folder lies."""
    said: list[tuple[str, object]] = []
    try:
        found = read_folder(folder)
        said += [("model type", found.model_type), ("model files", ", ".join(found.files))]
        said += [("device", found.device), ("provider", found.execution_provider)]
        said += [("context (tokens)", found.context_tokens), ("precision", found.precision or tables.UNKNOWN)]
        said += [("licence", found.licence or tables.UNKNOWN)]
        local.try_folder(folder)
        said.append(("the runtime", "It loaded the model, and the model answered."))
    except WorkshopError as error:
        said.append(("the runtime" if said else "files", str(error)))
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - never raises
    named = {folder: folder.name, places.cache_root(): "<cache>", home: "~"}
    return Table([(what, without_places(str(value), named)) for what, value in said], columns=["what", "says"])


@dataclass(frozen=True, slots=True)
class Code:
    """Python source that a notebook shows as such."""

    text: str

    def __repr__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        return f"```python\n{self.text}\n```"


def source(file: Path, method: str) -> Code:
    """One method of a file, as it stands there. Raises `ModelNotFoundError` where there is none."""
    text = file.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and node.name == method:
            return Code(dedent("\n".join(text.splitlines()[node.lineno - 1 : node.end_lineno])))
    raise ModelNotFoundError(f"{file.name} has no method '{method}'.", "Correct its name.")


def look(runtime: Runtime, names: Sequence[str]) -> Table:
    """The variants of some names as the catalog table of page 01; where they cannot be found, why."""
    found, left_out = _find(runtime, names)
    return tables.models(found) if found else tables.left_out(left_out)


def ask(runtime: Runtime, name: str, text: str, *, max_tokens: int = 60) -> Table:
    """Serve a model, ask it one question, stop it: load time, memory, and what it said or why it could not."""
    found, left_out = _find(runtime, [name])
    if not found:
        return tables.left_out(left_out)
    with runtime.serve(found[0]) as model, ChatClient.to(model) as client:
        completion = client.ask(Request("page-06", model.variant, "page-06", text, round=1, max_tokens=max_tokens))
        load_s, memory_mb = model.load_s, model.resident_mb
    line = (
        model.variant.model_id,
        tables.NOT_MEASURED if load_s is None else round(load_s * 1000),
        tables.NOT_MEASURED if memory_mb is None else round(memory_mb, 1),
        printable(completion.text if completion.ok else str(completion.error)),
    )
    return Table([line], columns=["model", "load (ms)", "memory (MB)", "answer"])


def first_found(runtime: Runtime, names: Sequence[str]) -> ModelVariant:
    """The first variant that any of the names leads to here. Raises `ModelNotFoundError` where none does."""
    found, left_out = _find(runtime, names)
    if not found:
        raise ModelNotFoundError("None of these models can be found here.", " ".join(why for _, why in left_out))
    return found[0]


def measure(runtime: Runtime, names: Sequence[str], *, rounds: int, max_tokens: int = 120) -> Run:
    """Benchmark some models on the course's prompts, in turns; one that cannot be found becomes a skipped row."""
    found, left_out = _find(runtime, names)
    asked = plan.make_plan(found, catalog.read_prompts(), rounds=rounds, max_tokens=max_tokens, skipped=tuple(left_out))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        return benchmark.run_benchmark(asked, runtime, Path(folder))


def same_answers(run: Run) -> bool:
    """Whether every prompt got one and the same answer from all models and in all rounds."""
    said: dict[str, set[str | None]] = {}
    for each in run.completions:
        if each.round > 0:
            said.setdefault(each.prompt_id, set()).add(each.text if each.ok else None)
    return bool(said) and all(len(texts) == 1 and None not in texts for texts in said.values())


def price(run: Run, first: str, second: str) -> Changes:
    """What the second model costs in units of the first; where one of them was not measured, that is the remark."""
    measured = results_of(run)
    try:
        return changes.compare_named(measured, measured, first, second)
    except WorkshopError as error:
        return changes.Changes((), (str(error),), ())


def _find(runtime: Runtime, names: Sequence[str]) -> tuple[list[ModelVariant], list[tuple[ModelVariant, str]]]:
    """What can be found, and why the rest cannot, also where the runtime itself is missing."""
    found: list[ModelVariant] = []
    left_out: list[tuple[ModelVariant, str]] = []
    for name in names:
        try:
            found += runtime.find([name])
        except WorkshopError as error:
            left_out.append((ModelVariant(alias=name, model_id=name, device="unknown"), str(error)))
    return found, left_out


def _forget(copies: Path) -> list[str]:
    """Take the page's models off the list and delete its copies; returns the aliases that were registered."""
    gone = [alias for alias in _ALIASES if _unregister(alias)]
    shutil.rmtree(copies, ignore_errors=True)
    return gone


def _states(aliases: Sequence[str], state: str) -> Table:
    return Table([(alias, state) for alias in aliases], columns=["model", "now"])


def _unregister(alias: str) -> bool:
    with suppress(ModelNotFoundError):
        registry.remove(alias)
        return True
    return False


def _forget_quietly(copies: Path) -> None:
    """At the end of a kernel nobody reads errors any more."""
    with suppress(WorkshopError):
        _forget(copies)
