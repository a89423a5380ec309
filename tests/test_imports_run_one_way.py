"""The package's modules form one row: each imports only from those before it."""

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

ORDER = """
errors records untrusted display providers
timing streams prefix_cache energy summaries stability comparison scoring scores
answers resampling agreement pairs reliability ranking quality criteria evidence limits weights choice reveal
assignments race
places files json_files catalog settings storage results changes references devices prompt_sets reference_scores
abilities rubric score_files
machine power client reference_server self_check
selection endpoint model_cache registered_models
onnx_weights model_files genai_config tokenizer_files model_cards model_folders offers practice_catalog
registered_folders
child_pipes child_process foundry_jobs foundry_listing foundry_server foundry_process foundry practice
adapters chat_requests stop_texts generation adapter_app adapter_server adapter_process runtimes local_routing
profiles
concurrency racing keep_warm plan benchmark runs checklist capability_router
fleet_room fleet_engine fleet_identity fleet_share fleet_worker fleet_security fleet_plan fleet_dispatch fleet_collect
fleet fleet_cluster classroom fleet_summaries fleet_choice
annotation annotation_csv annotation_view annotation_widget
judge_prompts judge judging
appearance drawing tables annotation_tables comparison_tables findings charting comparison_charts race_view
race_widget race_charts reporting
quality_tables quality_charts choice_words choice_tables choice_charts choice_record choice_widget checklist_tables
own_models
fleet_tables fleet_charts
diagnosis timing_exercises exercises checkpoints
notebook_files notebooks reference_changes terminal checks commands registration_commands fleet_commands
reference_commands __main__
""".split()  # noqa: SIM905 - the rows are easier to read than forty quoted names


def imported_modules(source: str) -> set[str]:
    """Names of the package's modules that a source imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "workshop_lib":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("workshop_lib."):
            found.add(str(node.module).split(".")[1])
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            found |= {parts[1] for parts in names if parts[0] == "workshop_lib" and parts[1:]}
    return found


def test_every_kind_of_import_is_seen() -> None:
    """Imports at the top, inside functions, and of single names all count."""
    source = (
        "import os, workshop_lib.timing\nfrom workshop_lib import records\n"
        "def f():\n    from workshop_lib.errors import WorkshopError\n"
    )
    assert imported_modules(source) == {"timing", "records", "errors"}


def test_every_module_has_its_place() -> None:
    """A module that is not in the order is a design decision not yet made."""
    assert {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"} == set(ORDER)


@pytest.mark.parametrize("name", ORDER)
def test_a_module_imports_only_from_those_before_it(name: str) -> None:
    """Imports run one way, so that each part can be read and tested without the later ones."""
    source = (PACKAGE / f"{name}.py").read_text(encoding="utf-8")
    earlier = set(ORDER[: ORDER.index(name)])
    assert imported_modules(source) - earlier - {"__version__"} == set()


def test_the_design_lists_the_same_order() -> None:
    """DESIGN.md's table is the order, row by row."""
    table = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", DESIGN.read_text(encoding="utf-8"), re.M)
    assert [name for row in table for name in re.findall(r"`(\w+)`", row)] == ORDER


@pytest.mark.parametrize("name", ["catalog", "settings", "scoring", "timing"])
def test_small_modules_stay_light(name: str) -> None:
    """Reading settings or the catalog's interface loads none of the heavy libraries."""
    heavy = "{'pydantic', 'numpy', 'pandas', 'matplotlib', 'openai', 'IPython'}"
    code = f"import sys, workshop_lib.{name}; print(sorted({heavy} & set(sys.modules)))"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert seen.stdout.strip() == "[]"
