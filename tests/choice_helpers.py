"""Evidence worked by hand for the tests of choosing: figures, and draws of as many prompts as are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np

from workshop_lib import compare
from workshop_lib.compare import Estimate
from workshop_lib.decision.criteria import CRITERIA
from workshop_lib.decision.evidence import MEASURED_ONCE, Evidence
from workshop_lib.records import Row

Values = Mapping[str, float | Sequence[float] | None]
PROMPTS = 4


def evidence_of(models: Mapping[str, Values], *, prompts: int = PROMPTS, **changes: object) -> Evidence:
    """What is known of models: per criterion a value per prompt, or one for all prompts; None = not measured."""
    rows = tuple(
        Row(alias=name, model_id=f"{name}:1", device="cpu", status="ok", precision="int4", licence="MIT")
        for name in models
    )
    drawn = compare.draws(prompts, seed=1, resamples=200)
    figures, draws = {}, {}
    for each in CRITERIA:
        columns = [_per_prompt(values.get(each.name), prompts) for values in models.values()]
        figures[each.name] = tuple(_estimate(column, each.name) for column in columns)
        table = np.array(columns, dtype=float).reshape(len(columns), prompts).T
        draws[each.name] = table[drawn].mean(axis=1)
    made = {"rows": rows, "figures": figures, "drawn": draws, "measure": "people", "prompts": prompts}
    return Evidence(**{**made, **changes})  # type: ignore[arg-type]


def _per_prompt(value: float | Sequence[float] | None, prompts: int) -> list[float]:
    if value is None:
        return [np.nan] * prompts
    return [float(value)] * prompts if isinstance(value, int | float) else [float(each) for each in value]


def _estimate(column: Sequence[float], name: str) -> Estimate:
    mean = fmean(column)
    if np.isnan(mean):
        return Estimate(None, reason="Not measured.")
    if name in {"memory", "footprint"}:
        return Estimate(mean, reason=MEASURED_ONCE)
    return Estimate(mean, min(column), max(column), n=len(column))
