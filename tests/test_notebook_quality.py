"""Every page of the workshop keeps the rules of teaching notebooks; each rule is shown to find its own fault."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests import notebook_rules
from tests.notebook_rules import Page
from workshop_lib import exercises, places
from workshop_lib.programs import notebooks

PAGES = sorted(notebooks.FOLDER.glob("*.ipynb"))
README = places.PROJECT / "README.md"
INSTRUCTOR = places.PROJECT / "docs" / "INSTRUCTOR.md"
SOLUTIONS = notebooks.FOLDER / "solutions"


def page_of(*cells: Any) -> Page:
    return Page(Path("01_made_up.ipynb"), list(cells))


def prose(text: str, name: str = "prose") -> Any:
    return nbformat.v4.new_markdown_cell(text, id=name)


def code(source: str, name: str = "code", *, tags: tuple[str, ...] = (), html: str = "") -> Any:
    cell = nbformat.v4.new_code_cell(source, id=name)
    cell.metadata["tags"] = list(tags)
    if html:
        cell.outputs = [nbformat.v4.new_output("display_data", {"text/html": html})]
    return cell


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
@pytest.mark.parametrize("rule", notebook_rules.RULES, ids=lambda rule: rule.__name__)
def test_the_page_keeps_the_rule(rule: Any, path: Path) -> None:
    """A fault names the page, the cell and the fix."""
    faults = [f"{path.name}, {fault}" for fault in rule(notebook_rules.read(path))]
    assert faults == []


def test_the_folder_is_the_table_of_contents() -> None:
    """Pages are numbered from 01 without a gap; beside them stands the whole session on one page."""
    numbered = [path.name for path in PAGES if re.match(r"\d\d_", path.name)]
    assert [int(name[:2]) for name in numbered] == list(range(1, len(numbered) + 1))
    assert [path.name for path in PAGES] == [*numbered, "session03_benchmark_oss_models.ipynb"]


@pytest.mark.parametrize("document", [README, INSTRUCTOR], ids=lambda path: path.name)
def test_a_document_lists_exactly_these_pages(document: Path) -> None:
    """Who reads the document finds every page, and no page that is not there."""
    listed = set(re.findall(r"notebooks/(\w+)\.ipynb", document.read_text("utf-8")))
    assert listed == {path.stem for path in PAGES}


def test_every_exercise_stands_on_one_page_and_has_a_solution() -> None:
    """No exercise is lost, asked twice, or without its solution beside the page's name."""
    asked = {
        name: path.stem
        for path in PAGES
        for cell in notebook_rules.read(path).cells
        if (name := notebook_rules.exercise_in(cell))
    }
    found = [
        name for path in PAGES for name in map(notebook_rules.exercise_in, notebook_rules.read(path).cells) if name
    ]
    assert sorted(found) == sorted(exercises.EXERCISES)
    assert {path.stem for path in SOLUTIONS.glob("*.py")} == set(asked.values())


def test_the_notes_for_teaching_speak_of_every_exercise() -> None:
    """Each exercise has its entry, by name, on the page of notes for whoever teaches it."""
    told = re.findall(r"^- \*\*Exercise `([\w-]+)`", INSTRUCTOR.read_text("utf-8"), re.M)
    assert told == list(exercises.EXERCISES)


OPENING = "# 1 · Title\n\n- What?\n- Why?\n\n**Time:** 1 minute to read and run."
FAULTY: dict[str, list[Any]] = {
    "cells_have_names": [prose("a", "one"), prose("b", "one")],
    "cells_are_short": [code("\n".join(["x = 1"] * 16))],
    "cells_call_the_library": [code("for x in y:\n    print(x)")],
    "it_opens_with_questions": [prose("# T\n- What?\n- This.\n**Time:** 1 minute")],
    "it_closes_with_answers": [prose(OPENING), prose("## What we know now\n- This.")],
    "settings_are_one_checked_cell": [code("x = 1")],
    "times_add_up": [prose(OPENING), prose("## Look (2 minutes)")],
    "figures_have_words": [code("charts.latency(run)", html='<img src="a">')],
    "it_speaks_plainly": [code("f()", html="\U0001f680")],
    "results_are_private_and_clean": [code("f()", html="/home/ada/x")],
    "exercises_wait_for_an_answer": [prose("Say."), code("answer = 3"), code('exercises.check("01-no", answer, x)')],
}


@pytest.mark.parametrize("rule", notebook_rules.RULES, ids=lambda rule: rule.__name__)
def test_a_rule_finds_a_fault(rule: Any) -> None:
    """A made-up page that breaks it."""
    assert list(rule(page_of(*FAULTY[rule.__name__])))
