"""Finds a form of the project and takes its steps. Given; nothing here needs to be changed."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from facts import HERE

import workshop_lib as ws

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

FORMS = ("starter", "finished")
CARD, SHAPE, COUNT, SIZE = "read_card", "read_shape", "count_parameters", "estimate_mb"
OBJECTIONS, BUILDER = "objections", "builder_command"
EXAMINE, REGISTER, BENCHMARK = "examine_converted", "register_converted", "benchmark_command"
STEPS = (CARD, SHAPE, COUNT, SIZE, OBJECTIONS, BUILDER, EXAMINE, REGISTER, BENCHMARK)


def load(form: str) -> ModuleType:
    """Import `candidate.py` of a form.

    Raises:
        ConfigurationError: there is none, or it cannot be imported.
    """
    file = HERE / form / "candidate.py"
    if form not in FORMS or not file.is_file():
        raise ws.errors.ConfigurationError(f"There is no form '{form}'.", f"Use {' or '.join(FORMS)}.")
    specification = importlib.util.spec_from_file_location(f"{form}_candidate", file)
    if specification is None or specification.loader is None:
        raise ws.errors.ConfigurationError(f"{file} cannot be imported.", "Bring it back with 'git checkout'.")
    module = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
    except (SyntaxError, ImportError, NameError) as error:
        raise ws.errors.ConfigurationError(f"{file} cannot be imported: {error}.", "Correct that line.") from error
    missing = [step for step in STEPS if not callable(getattr(module, step, None))]
    if missing:
        raise ws.errors.ConfigurationError(
            f"{file} has no function {', '.join(missing)}.", "Bring it back with 'git checkout'."
        )
    return module


def folder_mb(folder: Path) -> float:
    """Size of a folder's files in 10^6 bytes."""
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) / 1e6
