"""Evidence worked by hand for the tests of choosing: figures, and draws of as many prompts as are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np

from workshop_lib import comparison
from workshop_lib.choice.decide import CRITERIA, MEASURED_ONCE, Decision, Evidence, decide
from workshop_lib.comparison import Estimate
from workshop_lib.records import Row

Values = Mapping[str, float | Sequence[float]]
TWO: dict[str, Values] = {
    "careful": {"quality": 4, "latency": 1.0, "footprint": 4.0},
    "quick": {"quality": 3, "latency": 0.25, "footprint": 2.0},
}
"""The quick one is one grade worse and four times as fast, which is two steps; and it is half as large."""
EVEN = {"quality": 1.0, "latency": 1.0}


def evidence_of(models: Mapping[str, Values], *, prompts: int = 4) -> Evidence:
    """What is known of models: per criterion a value per prompt, or one for all prompts; absent = not measured."""
    rows = tuple(
        Row(alias=name, model_id=f"{name}:1", device="cpu", status="ok", precision="int4", licence="MIT")
        for name in models
    )
    drawn = comparison.draws(prompts, seed=1, resamples=200)
    figures, draws = {}, {}
    for name in CRITERIA:
        table = np.array(
            [np.broadcast_to(values.get(name, np.nan), prompts) for values in models.values()], dtype=float
        )
        figures[name] = tuple(_estimate(column.tolist(), name) for column in table)
        draws[name] = table.T[drawn].mean(axis=1)
    return Evidence(rows, figures, draws, "people")


def decided(weights: Mapping[str, float] = EVEN, models: Mapping[str, Values] = TWO, **limits: float) -> Decision:
    """A decision on eight prompts."""
    return decide(evidence_of(models, prompts=8), weights, limits)


def _estimate(column: Sequence[float], name: str) -> Estimate:
    mean = fmean(column)
    if np.isnan(mean):
        return Estimate(None, reason="Not measured.")
    if name in {"memory", "footprint"}:
        return Estimate(mean, reason=MEASURED_ONCE)
    return Estimate(mean, min(column), max(column), n=len(column))
