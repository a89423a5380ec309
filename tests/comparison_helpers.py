"""Made-up runs on CPU and GPU for the tests of comparisons; no such machine was ever measured."""

from __future__ import annotations

from dataclasses import replace

from tests.report_helpers import run_of_models
from workshop_lib.comparison import Results, results_of
from workshop_lib.records import Completion, ModelVariant, Run, Serving

WHY = "No GPU provider is registered: the runtime found no GPU that it can use. Install a driver."
PLAN = {"rounds": 3, "seed": 20, "max_tokens": 120, "temperature": 0.0, "stream": True}
ALIASES = ("practice-small", "practice-medium", "practice-large")


def gpu_run(factor: float = 0.5) -> Run:
    """12 builds on CPU and GPU; a GPU's times are `factor` times those of the CPU."""
    run = run_of_models(12, failed=0)
    answers = tuple(scaled(each, factor) if each.device == "gpu" else each for each in run.completions)
    machine = {**run.machine, "gpu": "Made-up GPU", "started_at": "2026-10-01T10:00:00+00:00"}
    return replace(run, plan=PLAN, completions=answers, machine=machine)


def cpu_run() -> Run:
    """The CPU builds of `gpu_run`, and a skipped line per model with the reason why there is no GPU."""
    run = gpu_run()
    cpu = tuple(serving for serving in run.servings if serving.variant.device == "cpu")
    skipped = tuple(Serving(ModelVariant(alias, alias, "gpu"), status="skipped", error=WHY) for alias in ALIASES)
    answers = tuple(each for each in run.completions if each.device == "cpu")
    return replace(run, servings=(*cpu, *skipped), completions=answers, machine={"cpu": "Test CPU"})


def mislabelled_run() -> Run:
    """Builds labelled gpu, served by a process that registered the CPU provider alone."""
    run = gpu_run()
    servings = (replace(each, registered_providers=("CPUExecutionProvider",)) for each in run.servings)
    return replace(run, servings=tuple(servings))


def reference(factor: float = 0.5) -> Results:
    """`gpu_run` as the result of another machine."""
    return results_of(gpu_run(factor), "elsewhere")


def scaled(completion: Completion, factor: float) -> Completion:
    """The completion with every time multiplied."""
    return replace(completion, chunks=tuple(replace(each, at_s=each.at_s * factor) for each in completion.chunks))
