"""Cheat sheet, glossary and feature list: every name, place and test that they give exists."""

from __future__ import annotations

import ast
import builtins
import inspect
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

import workshop_lib as ws
from tests.markdown import PROJECT, Row, code_in, links_in, plain, read, read_text
from tests.snippets import check_snippet
from workshop_lib import records
from workshop_lib.runtimes.protocols import Runtime, ServedModel

CHEATSHEET = read(PROJECT / "docs" / "CHEATSHEET.md")
GLOSSARY = read(PROJECT / "docs" / "GLOSSARY.md")
FEATURES = read(PROJECT / "docs" / "FEATURES.md")
LIBRARY: dict[str, Any] = {"runtime": Runtime, "served": ServedModel, "ws": ws, "variant": records.ModelVariant}


# -- cheat sheet


def cells(column: str) -> list[tuple[str, int]]:
    """Every piece of code in a column of the cheat sheet, with its line."""
    return [(code, row.line) for row in CHEATSHEET.rows for code in code_in(row.cells.get(column, ""))]


@pytest.mark.parametrize(("code", "line"), cells("this library"))
def test_the_library_has_what_the_cheat_sheet_says(code: str, line: int) -> None:
    """Names resolve in the package, and calls take their arguments."""
    check_snippet(code, **LIBRARY)


def unbound(column: str) -> dict[str, int]:
    """Names that a column uses, with the line, though neither a block above nor a row above gives them."""
    blocks = [(fence.line, fence.text) for fence in CHEATSHEET.fences if "ws." in fence.text]
    bound, missing = set(dir(builtins)), dict[str, int]()
    for line, code in sorted(blocks + [(line, code) for code, line in cells(column)]):
        tree = ast.parse(code)
        for node in ast.walk(tree):
            if isinstance(node, ast.alias):
                bound.add(node.asname or node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                bound.add(node.id)
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        missing |= {name: line for name in used if name not in bound}
    return missing


def test_the_library_column_is_given_every_name_it_uses() -> None:
    """What a row names was imported or made by a block or a row above it: a reader can run the column downwards."""
    assert unbound("this library") == {}


@pytest.mark.parametrize("line", ["import workshop_lib as ws\n", "prompts = ws.read_prompts()\n"])
def test_a_name_that_no_block_gives_is_found(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check can fail: for a module that is not imported any more, and for a value that is not made."""
    assert line in CHEATSHEET.text
    monkeypatch.setitem(globals(), "CHEATSHEET", read_text(CHEATSHEET.path, CHEATSHEET.text.replace(line, "")))
    assert list(unbound("this library")) == [re.split(r" = | as ", line)[0 if "=" in line else 1].strip()]


@pytest.mark.parametrize(("code", "line"), cells("SDK"))
def test_the_sdk_has_what_the_cheat_sheet_says(code: str, line: int) -> None:
    """Names resolve in the installed SDK, and calls take their arguments."""
    sdk = pytest.importorskip("foundry_local_sdk", reason="there is no SDK for this platform")
    source = inspect.getsource(sdk.FoundryLocalManager)
    for attribute in ("catalog", "urls"):  # set on the instance, so that the class does not have them
        assert f"manager.{attribute}" not in code or f"self.{attribute}" in source
    known = {"manager": sdk.FoundryLocalManager, "catalog": sdk.Catalog, "model": sdk.IModel}
    check_snippet(
        code.replace("manager.catalog", "catalog")
        .replace("manager.get_catalog(sdk.CatalogType.LOCAL)", "catalog")
        .replace("manager.urls", "None"),
        **known,
        Configuration=sdk.Configuration,
    )


def test_every_task_has_a_way() -> None:
    """A row says at least how this workshop or Foundry Local does it, and the columns are those of its table."""
    assert len(CHEATSHEET.rows) >= 30
    for row in CHEATSHEET.rows:
        assert sum(1 for text in row.cells.values() if text) >= 2, f"line {row.line}"
    assert len(cells("this library")) >= 30
    assert len(cells("SDK")) >= 15
    assert len(cells("CLI")) >= 20


def test_a_wrong_name_in_the_cheat_sheet_is_found() -> None:
    """The check can fail: for a method, an argument and an attribute that do not exist."""
    for code in (
        "runtime.fetch()",
        "runtime.serve(variant, speed=3)",
        "served.port",
        "ws.tables.no_such_table([variant])",
    ):
        with pytest.raises(ValueError, match=r"has no|unexpected|got an"):
            check_snippet(code, **LIBRARY)


# -- glossary


def terms(row: Row) -> list[str]:
    """How a term is called: `Time to first token (TTFT)` is called both."""
    return [part.strip() for part in re.split(r"[(),]", plain(row.cells["term"])) if part.strip()]


def test_terms_are_in_alphabetical_order_and_explained_shortly() -> None:
    """Each term once, in order, in one or two sentences."""
    names = [plain(row.cells["term"]).casefold() for row in GLOSSARY.rows]
    assert names == sorted(names)
    assert len(set(names)) == len(names) >= 30
    for row in GLOSSARY.rows:
        sentences = re.findall(r"[.!?](?= |$)", re.sub(r"\b(e\.g|i\.e|vs)\.", "", plain(row.cells["meaning"])))
        assert 1 <= len(sentences) <= 2, f"line {row.line}: {len(sentences)} sentences"


@pytest.mark.parametrize("row", GLOSSARY.rows, ids=lambda row: plain(row.cells["term"]))
def test_a_term_is_used_where_the_glossary_says(row: Row) -> None:
    """Each place exists and holds the term, by one of its names, in words or as part of a name."""
    places = links_in(row.cells["used in"])
    assert places
    for place in places:
        text = simple((GLOSSARY.path.parent / place).resolve().read_text(encoding="utf-8"))
        assert any(simple(name) in text for name in terms(row)), f"line {row.line}: {place}"


def simple(text: str) -> str:
    """Without case, underscores and hyphens, on one line: `first_token` is `First token`."""
    return re.sub(r"[\s_\-]+", " ", text.casefold())


# -- features


PLACES = ("See it", "In", "Tests")
NUMBERS = [int(found[1]) for heading in FEATURES.headings if (found := re.match(r"(\d+)\. ", heading.title))]


def test_every_feature_is_there_once_in_order() -> None:
    """The specification has 21 features."""
    assert list(range(1, 22)) == NUMBERS


def feature_lines(number: int) -> dict[str, str]:
    """The labelled lines of a feature."""
    heading = next(each for each in FEATURES.headings if each.title.startswith(f"{number}. "))
    text = FEATURES.section(heading).text
    found = re.findall(r"^- \*\*(.+?):\*\* (.+?)(?=^- |\Z)", text, re.MULTILINE | re.DOTALL)
    return {label: " ".join(line.split()) for label, line in found}


@pytest.mark.parametrize("number", range(1, 22))
def test_a_feature_says_where_it_is_seen_where_it_lies_and_what_tests_it(number: int) -> None:
    """The three lines are there; files and headings of notebooks that they name exist."""
    lines = feature_lines(number)
    assert set(PLACES) <= set(lines), sorted(lines)
    assert set(lines) <= {*PLACES, "Not run"}
    assert code_in(lines["See it"]) or links_in(lines["See it"])
    assert code_in(lines["Tests"])
    for name in code_in(lines["In"]) + code_in(lines["Tests"]):
        assert (PROJECT / name).exists(), name
    for label, target in re.findall(r"\[([^\]]+)\]\(([^)]+\.ipynb)\)", lines["See it"]):
        assert label in headings_of((FEATURES.path.parent / target).resolve()), f"{target}: {label}"


def headings_of(notebook: Path) -> set[str]:
    """Headings of a notebook, without their times."""
    found = set()
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.cell_type == "markdown":
            for line in cell.source.splitlines():
                if heading := re.match(r"#+ (.+)", line):
                    found.add(re.sub(r" \([\d.]+ minutes?\)$", "", heading[1]))
    return found
