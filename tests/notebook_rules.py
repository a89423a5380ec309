"""The rules of the pages under `notebooks/`, each a function from a page to its faults: where, what, and the fix."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from workshop_lib import exercises
from workshop_lib.programs import notebooks

LONGEST_CELL = 15
SHORTEST_HELP = 15
WORDS_PER_MINUTE = 230
"""Of an adult who reads English prose silently: 238 on average (Brysbaert 2019), rounded down."""

OPENING, CLOSING = "# ", "## What we know now"
TIME_LINE = re.compile(r"^\*\*Time:\*\* ([\d.]+) minutes?\b", re.M)
HEADING = re.compile(r"^## (.+)$", re.M)
HEADING_TIME = re.compile(r"\(([\d.]+) minutes?\)$")
EMOJI = re.compile("[\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff]")
PRIVATE = re.compile(
    r"/home/|/root\b|/Users/|/tmp/|\b[A-Z]:\\\\|\b(?:sk|hf|ghp)[-_]\w{16}|api[_-]?key\\?\"?[:=] ?\\?\"\w", re.I
)
CHARTS = re.compile(r"(^|_)(charts|figure)$")
LIBRARY_MAY_BE_WRITTEN_IN = "06_bring_your_own_model"
"""This page is about writing an adapter, which is a class."""


@dataclass(frozen=True, slots=True)
class Page:
    """A notebook as the rules see it: its name without ending, and its cells."""

    path: Path
    cells: list[Any]

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def code(self) -> list[Any]:
        return [cell for cell in self.cells if cell.cell_type == "code"]

    @property
    def prose(self) -> list[Any]:
        return [cell for cell in self.cells if cell.cell_type == "markdown"]


def read(path: Path) -> Page:
    """Read a page; cells of the raw kind belong to nobody and are a fault of `cells_have_names`."""
    return Page(path, nbformat.read(path, as_version=4).cells)


def stated_minutes(page: Page) -> float:
    """Minutes to read and run, as the opening states them; 0 where it does not."""
    stated = TIME_LINE.search(page.cells[0].source)
    return float(stated.group(1)) if stated else 0.0


def bullets(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("- ")]


def tree(cell: Any) -> ast.Module:
    return ast.parse(cell.source)


# -- the rules


def cells_have_names(page: Page) -> Iterator[str]:
    """Ids are unique and stable words, never the random ones that editors make."""
    seen: set[str] = set()
    for cell in page.cells:
        if cell.id in seen or re.fullmatch(r"[0-9a-f]{8}([0-9a-f-]{28})?", cell.id):
            yield f"cell {cell.id}: give it an id that no other cell has, made of words, e.g. `{cell.cell_type}-intro`"
        if cell.cell_type not in {"code", "markdown"}:
            yield f"cell {cell.id} is of the kind {cell.cell_type}: make it code or Markdown"
        seen.add(cell.id)


def cells_are_short(page: Page) -> Iterator[str]:
    """One idea a cell."""
    for cell in page.code:
        lines = len(cell.source.splitlines())
        if lines > LONGEST_CELL:
            yield f"cell {cell.id} has {lines} lines: move what it does into workshop_lib, at most {LONGEST_CELL} stay"


def cells_call_the_library(page: Page) -> Iterator[str]:
    """No functions, no loops, no branches, no prints; but page 06, which is about writing a class."""
    for cell in page.code:
        kinds = {type(node) for node in ast.walk(tree(cell))}
        if kinds & {ast.For, ast.While, ast.If, ast.Try}:
            yield f"cell {cell.id} branches or loops: call one function of workshop_lib"
        if kinds & {ast.FunctionDef, ast.ClassDef, ast.Lambda} and page.name != LIBRARY_MAY_BE_WRITTEN_IN:
            yield f"cell {cell.id} defines a function or class: put it into workshop_lib and call it"
        if any(isinstance(node, ast.Call) and ast.unparse(node.func) == "print" for node in ast.walk(tree(cell))):
            yield f"cell {cell.id} prints: end it with the value, e.g. a table of workshop_lib"


def it_opens_with_questions(page: Page) -> Iterator[str]:
    """Title, at least two questions as bullets, and the time that the page takes."""
    first = page.cells[0]
    if first.cell_type != "markdown" or not first.source.startswith(OPENING):
        yield f"cell {first.id}: begin the page with a Markdown cell whose first line is `# title`"
        return
    asked = bullets(first.source)
    if len(asked) < 2 or not all(line.endswith("?") for line in asked):
        yield f"cell {first.id} asks {len(asked)} questions: give two or more bullets, each ending in `?`"
    if not TIME_LINE.search(first.source):
        yield f"cell {first.id}: add a line `**Time:** 5 minutes to read and run`"


def it_closes_with_answers(page: Page) -> Iterator[str]:
    """A summary with an answer to each question of the opening."""
    last = page.cells[-1]
    if last.cell_type != "markdown" or not last.source.startswith(CLOSING):
        yield f"cell {last.id}: end the page with a Markdown cell that begins `{CLOSING}`"
        return
    asked, answered = (len(bullets(cell.source)) for cell in (page.cells[0], last))
    if answered < asked:
        yield f"cell {last.id} answers {answered} of {asked} questions: give each its bullet"


def settings_are_one_checked_cell(page: Page) -> Iterator[str]:
    """Exactly one cell tagged `parameters`, the first with code: typed literals, each with its help."""
    tagged = [cell for cell in page.code if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        yield f"{len(tagged)} cells are tagged `parameters`: tag exactly one"
        return
    if tagged[0] is not page.code[0]:
        yield f"cell {tagged[0].id}: the settings are the first cell with code; move it up"
    settings = notebooks.read_parameters(page.path)
    lines = [each for each in ast.parse(tagged[0].source).body if isinstance(each, ast.AnnAssign) and each.value]
    if len(lines) != len(settings) or not all(isinstance(line.value, ast.Constant | ast.UnaryOp) for line in lines):
        yield f"cell {tagged[0].id}: write each setting as a typed literal, e.g. `rounds: int = 3  # help`"
    for name, setting in settings.items():
        if len(setting.help) < SHORTEST_HELP:
            yield f"cell {tagged[0].id}: say in a comment what {name} is for"
    after = page.code[1] if len(page.code) > 1 else tagged[0]
    used = {node.id for node in ast.walk(tree(after)) if isinstance(node, ast.Name)}
    if not used & set(settings):
        yield f"cell {after.id}: check the settings here, so that a mistake ends at once"


def times_add_up(page: Page) -> Iterator[str]:
    """Every section states its minutes, enough to read it, and the opening states their sum."""
    total = 0.0
    for title, text in sections(page):
        stated = HEADING_TIME.search(title)
        if not stated:
            yield f"section '{title}': end its heading with its time, e.g. `(0.5 minutes)`"
            continue
        minutes = float(stated.group(1))
        total += minutes
        needed = len(text.split()) / WORDS_PER_MINUTE
        if minutes < needed - 0.25:
            yield f"section '{title}': reading it takes {needed:.1f} minutes; shorten it or correct its time"
    top = stated_minutes(page)
    if top and top != total:
        yield f"cell {page.cells[0].id} states {top:g} minutes, its sections {total:g}: make them equal"


def sections(page: Page) -> Iterator[tuple[str, str]]:
    """The headings of the second level, each with the prose up to the next one."""
    parts = re.split(r"^## ", "\n".join(cell.source for cell in page.prose), flags=re.M)
    for part in parts[1:]:
        title, _, text = part.partition("\n")
        yield title.strip(), text


def figures_have_words(page: Page) -> Iterator[str]:
    """A figure is shown through `charts.shown`, which gives it alt text; stored pictures have theirs."""
    for cell in page.code:
        if re.search(r"\bplt\b|matplotlib|\.show\(|\.savefig\(", cell.source):
            yield f"cell {cell.id} draws by itself: take a function of charts and `charts.shown(figure)`"
        bare = next((each for each in _shown_last(cell) if CHARTS.search(each)), None)
        if bare:
            yield f"cell {cell.id} shows a figure of {bare} as it is: wrap it in `charts.shown(...)`"
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/png" in data or re.search(r"<img (?!alt=\"\w)", data.get("text/html", "")):
                yield f"cell {cell.id} stores a picture without alt text: show it through `charts.shown`"


def _shown_last(cell: Any) -> list[str]:
    """The module of the call that ends a cell, or the function's own name, unless the call is `shown`."""
    body = tree(cell).body
    last = body[-1].value if body and isinstance(body[-1], ast.Expr) else None
    called = last.func if isinstance(last, ast.Call) else None
    if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) and called.attr != "shown":
        return [called.value.id]
    return [called.id] if isinstance(called, ast.Name) else []


def it_speaks_plainly(page: Page) -> Iterator[str]:
    """No emoji, in prose, code or results."""
    for cell in page.cells:
        shown = [cell.source, *(str(output) for output in cell.get("outputs", []))]
        if any(EMOJI.search(text) for text in shown):
            yield f"cell {cell.id} holds an emoji: say it in words"


def results_are_private_and_clean(page: Page) -> Iterator[str]:
    """Stored outputs hold no paths of a machine, no names of users, no keys, no errors and no warnings."""
    for cell in page.code:
        kinds = {output.get("name", output.output_type) for output in cell.outputs}
        if kinds & {"error", "stderr"}:
            yield f"cell {cell.id} stores an error or a warning: run the page again and store what it shows"
        found = next((hit for output in cell.outputs if (hit := PRIVATE.search(str(output)))), None)
        if found:
            yield f"cell {cell.id} stores {found.group()!r}: show a name instead of a path or key"


def exercises_wait_for_an_answer(page: Page) -> Iterator[str]:
    """Prose that says **Exercise**, a cell with `answer = ...`, and its checkpoint, compared by nbval."""
    for place, cell in enumerate(page.cells):
        name = exercise_in(cell)
        if name is None:
            continue
        before, asked = page.cells[place - 1], page.cells[place - 2]
        if name not in exercises.EXERCISES:
            yield f"cell {cell.id}: {name} is no row of exercises.EXERCISES"
        if not page.name.startswith(name[:2]):
            yield f"cell {cell.id}: {name} belongs to another page; exercises are called by their page's number"
        if before.cell_type != "code" or not re.search(r"^answer = \.\.\.(  # .+)?$", before.source, re.M):
            yield f"cell {before.id}: leave `answer = ...  # what is asked, and its unit` for the learner"
        if asked.cell_type != "markdown" or "**Exercise" not in asked.source:
            yield f"cell {asked.id}: say **Exercise** and ask in the cell before `answer = ...`"
        if {"nbval-ignore-output", "nbval-skip"} & set(cell.metadata.get("tags", [])):
            yield f"cell {cell.id}: what it says of no answer is always the same; take its tag away"


def exercise_in(cell: Any) -> str | None:
    """The exercise whose checkpoint a cell is, by its name, or None."""
    found = re.search(r"exercises\.check\(\s*\"([^\"]+)\"", cell.source) if cell.cell_type == "code" else None
    return found.group(1) if found else None


RULES: tuple[Callable[[Page], Iterator[str]], ...] = (
    cells_have_names,
    cells_are_short,
    cells_call_the_library,
    it_opens_with_questions,
    it_closes_with_answers,
    settings_are_one_checked_cell,
    times_add_up,
    figures_have_words,
    it_speaks_plainly,
    results_are_private_and_clean,
    exercises_wait_for_an_answer,
)
