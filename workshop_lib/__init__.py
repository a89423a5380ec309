"""Choose a small language model with numbers that can be defended.

    import workshop_lib as ws

    runtime = ws.open_runtime()
    models, skipped = ws.find_models(runtime, "practice-small")
    run = ws.run_benchmark(runtime, models, ws.read_prompts("meeting-notes"), skipped=skipped)
    ws.tables.speed(ws.summarise(run))

The tables below say where each public name lives; its module is loaded when the name is first used. `docs/API.md`
has an example of each.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

MODULES = {
    "adapter": "models.adapter",
    "agreement": "quality.agreement",
    "annotation": "quality.annotation",
    "benchmark": "benchmark",
    "charts": "show.charts",
    "choosing": "choice.show",
    "errors": "errors",
    "exercises": "exercises",
    "fleet_default": "fleet.default",
    "grading": "quality.show",
    "judging": "quality.judge",
    "load": "load",
    "own_models": "own_models",
    "race": "race",
    "ranking": "quality.ranking",
    "room": "fleet.room",
    "scores": "quality.scores",
    "settings": "settings",
    "spreadsheet": "quality.spreadsheet",
    "tables": "show.tables",
    "timing": "timing",
}
"""Public modules, by the name that pages use: several functions on one topic."""

NAMES = {
    "CustomModelAdapter": "models.adapter",
    "FleetPlan": "fleet.plan",
    "WorkshopError": "errors",
    "ask_routed": "choice.router:ask",
    "check_facts": "quality.facts",
    "check_instrument": "self_check",
    "check_models": "checklist",
    "compare": "comparison",
    "compare_precisions": "precision",
    "decide": "choice.decide",
    "download": "benchmark",
    "estimate_fit": "fit",
    "find_models": "plan",
    "free_disk_mb": "machine",
    "gpu_references": "comparison",
    "highlights": "report",
    "import_gguf": "models.gguf",
    "machine_line": "show.text",
    "make_plan": "plan",
    "measure_fleet": "fleet.cluster",
    "measure_prompt_lengths": "lengths",
    "open_runtime": "runtimes.profiles",
    "probe": "benchmark",
    "read_prompts": "data",
    "read_run": "storage",
    "register": "models.registry",
    "run_benchmark": "benchmark",
    "score_aspects": "quality.scores",
    "summarise": "summary",
    "to_fetch": "plan",
    "try_folder": "models.registry",
    "write_report": "report",
}
"""Public functions and classes: the module of each, and its name there where that is another."""

__all__ = sorted([*MODULES, *NAMES])  # noqa: PLE0605 - the tables are the list


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used, so that `import workshop_lib` costs next to nothing."""
    if name in MODULES:
        return import_module(f"{__name__}.{MODULES[name]}")
    if name in NAMES:
        module, _, inner = NAMES[name].partition(":")
        return getattr(import_module(f"{__name__}.{module}"), inner or name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names."""
    return __all__
