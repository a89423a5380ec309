"""Does the choice depend on the task? The same weights and limits, on the answers to another prompt set."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from workshop_lib import benchmark, data
from workshop_lib.choice.decide import decide
from workshop_lib.choice.show import names, verdict
from workshop_lib.records import Run, variant_key
from workshop_lib.show.table import Table


def by_task(run: Run, **choice: Any) -> Table:
    """The choice for the prompts of this run and for another set's: which model comes first, and how sure that is.

    The other set is that of the newest other run, else of the shipped reference results. Of its models, only those of
    this run take part, where there are two or more. Without another set, the table says how to measure one.

    Args:
        run: what was measured.
        choice: the arguments of `decide` after its first.
    """
    here = data.set_of(run.prompts)
    found = benchmark.run_of_another_set(here)
    runs = [(here or "your own", f"this run, {run.run_id}", run)]
    if found is not None:
        mine = {variant_key(each) for each in benchmark.answered(run)}
        shared = mine & {variant_key(each) for each in benchmark.answered(found[1])}
        runs.append((str(data.set_of(found[1].prompts)), found[0], _only(found[1], shared)))
    lines = []
    for prompt_set, place, one in runs:
        decision = decide(one, **choice)
        first = names(decision.evidence)[decision.first.place] if decision.first else "none alone"
        lines.append((prompt_set, place, len(decision.evidence.rows), first, verdict(decision)))
    if found is None:
        other = "course" if here != "course" else data.TASK
        lines.append((other, "", 0, "", f"Not measured yet: python3 workshop.py run --prompt-set {other}"))
    return Table.of(lines, "prompts", "measured in", "models", "comes first", "how sure")


def _only(run: Run, keys: set[tuple[str, str]]) -> Run:
    """A run with these models alone; as it is where they are fewer than two."""
    if len(keys) < 2:
        return run
    servings = tuple(each for each in run.servings if variant_key(each.variant) in keys)
    completions = tuple(each for each in run.completions if (each.model_id, each.device) in keys)
    return replace(run, servings=servings, completions=completions)
