"""What page 06 looks at in a model of one's own, and how it leaves no trace of it."""

from __future__ import annotations

import atexit
import inspect
import shutil
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

from IPython.display import Markdown

from workshop_lib import comparison, data, places
from workshop_lib.errors import ConfigurationError, WorkshopError
from workshop_lib.files import typed_path
from workshop_lib.models import registry, smollm2
from workshop_lib.models.adapter import load_class
from workshop_lib.models.gguf import ImportReport
from workshop_lib.records import Run
from workshop_lib.show.table import Table
from workshop_lib.show.text import NOT_MEASURED, UNKNOWN

OURS = KEPT, ROUNDED, IN_PYTHON = "page-06-exact4", "page-06-int4", "page-06-adapter"  # names nobody else takes
PRACTICE_FILE = data.PRACTICE_INDEX_FILE.parent / "practice-small.gguf"
ADAPTER = f"{places.PROJECT / 'samples' / '06-bring-your-own-model' / 'genai_adapter.py'}:GenAIAdapter"


@dataclass(frozen=True, slots=True)
class Example:
    """The GGUF file that page 06 imports, its licence (None = what the file states), and where the folders go."""

    file: Path
    folder: Path
    licence: str | None
    keep: bool

    def leave(self) -> Table:
        """Unregister what the page registered and delete its folders, unless it is kept; say what is the case now."""
        mine = [model.alias for model in registry.read() if model.alias in OURS]
        if not self.keep:
            _forget(self.folder)
        return Table.of([(each, "registered" if self.keep else "unregistered") for each in mine], "model", "now")


def begin(file: str = "", *, rounds: int = 1, repeats: int = 1, keep: bool = False) -> Example:
    """Check the page's settings, remove what an interrupted run left, and give the file to work with.

    An empty `file` stands for SmolLM2 where it was fetched before, else for a practice model's. Without `keep`, what
    the page registers is forgotten at the latest when the kernel ends. Raises `ConfigurationError` for a number below 1
    or a file that does not exist.
    """
    if min(rounds, repeats) < 1:
        raise ConfigurationError(f"rounds is {rounds} and repeats is {repeats}.", "Give 1 or more.")
    if file and not typed_path(file).is_file():
        raise ConfigurationError(f"There is no file {file}.", "Correct the path, or leave it empty.")
    folder = places.cache_root() / "page-06"
    _forget(folder)
    if not keep:
        atexit.register(_forget, folder)
    if not file and (fetched := smollm2.file_in()).is_file():
        return Example(fetched, folder, smollm2.LICENCE, keep)
    return Example(typed_path(file).absolute() if file else PRACTICE_FILE, folder, None, keep)


def look_into(file: Path) -> Table:
    """What a GGUF file says about its model. Raises `DataFileError` where it cannot be imported."""
    from workshop_lib.models.gguf_file import GgufFile

    found = GgufFile(file)
    weights = f"{sum(found.counts.values()):,} weights"
    said = {
        "file": f"{file.name}, {file.stat().st_size / 1e6:.1f} MB",
        "model": str(found.value("general.name", UNKNOWN)),
        "architecture": f"{found.shape.kind}, {found.shape.layers} layers, {weights}",
        "context (tokens)": str(found.shape.context_tokens),
        "licence": str(found.value("general.license", UNKNOWN)),
    }
    return Table.of(said.items(), "what", "says")


def fates(*reports: ImportReport) -> Table:
    """What became of the tensors in each import of a file: those of one type that were treated alike are one line."""
    lines: dict[tuple[str, ...], list[str]] = {}
    for tensors in zip(*(report.tensors for report in reports), strict=True):
        lines.setdefault((tensors[0].kind, *(tensor.how for tensor in tensors)), []).append(tensors[0].name)
    rows = [(kind, len(names), names[0], *hows) for (kind, *hows), names in lines.items()]
    return Table.of(rows, "in the file", "tensors", "for example", *(report.precision for report in reports))


def source(adapter: str, method: str) -> Markdown:
    """One method of an adapter, as it stands in its file."""
    code = dedent(inspect.getsource(getattr(load_class(adapter), method)))
    return Markdown(f"```python\n{code}```")  # type: ignore[no-untyped-call]


def same_answers(run: Run, *pairs: tuple[str, str]) -> Table:
    """For how many prompts both models of a pair of aliases gave the same text, letter by letter, in every round."""
    texts: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for each in run.completions:
        if each.round and each.ok:
            texts[each.alias][each.prompt_id].add(each.text)
    lines = []
    for first, second in pairs:
        shared = texts[first].keys() & texts[second].keys()
        same = sum(texts[first][prompt] == texts[second][prompt] for prompt in shared)
        lines.append((f"{first} and {second}", f"{same} of {len(shared)} prompts" if shared else NOT_MEASURED))
    return Table.of(lines, "models", "same answer")


def price(run: Run, first: str, second: str) -> comparison.Changes:
    """What the second model costs in units of the first; where one of them was not measured, that is the remark."""
    measured = comparison.results_of(run)
    try:
        return comparison.compare_named(measured, measured, first, second)
    except WorkshopError as error:
        return comparison.Changes((), (str(error),), ())


def _forget(folder: Path) -> None:
    """Unregister the page's models and delete their folders."""
    for alias in OURS:
        with suppress(WorkshopError):
            registry.remove(alias)
    shutil.rmtree(folder, ignore_errors=True)
