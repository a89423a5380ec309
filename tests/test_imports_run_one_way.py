"""The package's modules form one row, DESIGN.md's table: each imports only from those before it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import workshop_lib

PACKAGE = Path(workshop_lib.__file__).parent
DESIGN = PACKAGE.parent / "DESIGN.md"


def designed_order(text: str) -> list[str]:
    """Dotted names of all modules, in the order of a table whose bold rows name packages."""
    order: list[str] = []
    package = ""
    for heading, module in re.findall(r"^\| (?:\*\*(\S+)\*\*|`(\w+)`) \|", text, re.M):
        if heading:
            package = "" if "workshop_lib" in heading else heading.replace("/", ".")
        else:
            order.append(module if module == "__main__" else package + module)
    return order


ORDER = designed_order(DESIGN.read_text(encoding="utf-8"))


def path_of(name: str) -> Path:
    """The file of a module named as in `ORDER`."""
    return PACKAGE.joinpath(*name.split(".")).with_suffix(".py")


def imported_modules(source: str) -> set[str]:
    """Dotted names, as in `ORDER`, of what a source imports of the package, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "workshop_lib":
            parts = str(node.module).split(".")[1:]
            found |= {".".join([*parts, alias.name]) for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("workshop_lib.") for alias in node.names if "workshop_lib." in alias.name}
    names = {name if path_of(name).exists() else name.rpartition(".")[0] for name in found}
    return names - {""}


def test_every_kind_of_import_is_seen() -> None:
    """Imports at the top, inside functions, and of single names all count."""
    source = (
        "import os, workshop_lib.timing\nfrom workshop_lib import records, __version__\n"
        "from workshop_lib.show import tables\n"
        "def f():\n    from workshop_lib.errors import WorkshopError\n"
        "    from workshop_lib.runtimes.selection import AUTO\n"
    )
    assert imported_modules(source) == {"timing", "records", "show.tables", "errors", "runtimes.selection"}


def test_a_bold_row_names_the_package_of_the_rows_below() -> None:
    """The table is read as it is written."""
    text = "| **`workshop_lib/`** | | |\n| `errors` | a | b |\n| **quality/** | | |\n| `scores` | a | b |\n"
    assert designed_order(f"{text}| `__main__` | a | b |\n") == ["errors", "quality.scores", "__main__"]


def test_every_module_has_its_place() -> None:
    """A module that is not in the table is a design decision not yet made."""
    files = [path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py")]
    assert {".".join(file.parts) for file in files if file.name != "__init__"} == set(ORDER)
    assert len(ORDER) == len(set(ORDER))


@pytest.mark.parametrize("name", ORDER)
def test_a_module_imports_only_from_those_before_it(name: str) -> None:
    """Imports run one way, so that each part can be read and tested without the later ones."""
    source = path_of(name).read_text(encoding="utf-8")
    earlier = set(ORDER[: ORDER.index(name)])
    assert imported_modules(source) - earlier == set()


@pytest.mark.parametrize("name", ["machine", "storage", "quality.aspects", "timing"])
def test_small_modules_stay_light(name: str) -> None:
    """What the serving processes and every reader of records import loads none of the heavy libraries."""
    heavy = "{'pydantic', 'numpy', 'pandas', 'matplotlib', 'openai', 'IPython'}"
    code = f"import sys, workshop_lib.{name}; print(sorted({heavy} & set(sys.modules)))"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert seen.stdout.strip() == "[]"
