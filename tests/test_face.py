"""`import workshop_lib as ws`: the public names."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import workshop_lib as ws
from tests.markdown import PROJECT, read

API = read(PROJECT / "docs" / "API.md")
EXAMPLES = "\n".join(fence.text for fence in API.fences if fence.language == "python")


def used(source: str) -> set[str]:
    """Attributes of `ws` that a source uses."""
    return {
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ws"
    }


def test_each_public_name_has_an_example_and_no_other_is_used() -> None:
    """`dir(ws)` is the public list, and docs/API.md uses exactly that."""
    assert used(EXAMPLES) == set(dir(ws)) == set(ws.__all__)


def test_the_examples_run_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are one program, run on the practice models as it stands in the document."""
    monkeypatch.setenv("WORKSHOP_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("WORKSHOP_CACHE_DIR", str(tmp_path / "cache"))
    script = tmp_path / "examples.py"
    script.write_text(EXAMPLES, encoding="utf-8")
    done = subprocess.run([sys.executable, script], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_import_loads_nothing_else() -> None:
    """A name loads its module when it is first used; an unknown one is an AttributeError, as everywhere."""
    code = "import sys, workshop_lib; print(sum(name.startswith('workshop_lib.') for name in sys.modules))"
    seen = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "0"
    with pytest.raises(AttributeError, match="has no attribute 'summarize'"):
        ws.summarize  # noqa: B018 - looking it up is the test


def test_a_public_name_is_no_module_of_another_thing() -> None:
    """A function called like a module of the package would be hidden by it as soon as that module is loaded."""
    own = {path.stem for path in (PROJECT / "workshop_lib").iterdir()}
    assert not own & set(ws.NAMES)
    assert all(ws.MODULES[name] == name for name in own & set(ws.MODULES))


def test_small_modules_stay_light() -> None:
    """Reading settings or data files, and the arithmetic of one request, load none of the heavy libraries."""
    heavy = "{'numpy', 'scipy', 'pandas', 'matplotlib', 'choix', 'openai', 'IPython', 'foundry_local_sdk', 'uvicorn'}"
    small = (
        "data",
        "settings",
        "timing",
        "runtimes.profiles",
        "quality.aspects",
        "quality.scores",
        "programs.commands",
    )
    code = (
        f"import sys, {', '.join(f'workshop_lib.{name}' for name in small)}; print(sorted({heavy} & set(sys.modules)))"
    )
    seen = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "[]"
