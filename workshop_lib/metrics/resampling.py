"""How much would a figure move with other prompts like these? A bootstrap over prompts.

A prompt is drawn with everything that is known about it, because what a person or a model makes of two answers to one
prompt is not independent (cluster bootstrap; Davison and Hinkley 1997, section 3.8). The interval holds the middle 95 %
of the figures of 2 000 draws (percentile method; Efron and Tibshirani 1993, chapter 13). Knows no models and no scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 2_000
FEWEST_PROMPTS = 3
"""With fewer prompts, drawing them again says next to nothing about other prompts."""
FEWEST_DEFINED = 0.5
"""Share of the draws in which a figure must exist before an interval is given."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval.

    Attributes:
        value: the figure; None when it is undefined.
        low, high: its interval at `CONFIDENCE`; None when there is none.
        n: how many prompts it rests on.
        reason: why the value, or else the interval, is missing; None when both are there.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    reason: str | None = None


def draws(prompts: int, seed: int, resamples: int = RESAMPLES) -> np.ndarray:
    """Positions of prompts drawn with replacement: one row per draw, `prompts` columns."""
    import numpy as np

    generator = np.random.default_rng(seed)
    drawn: np.ndarray = generator.integers(0, max(prompts, 1), size=(resamples, prompts))
    return drawn


def interval(figures: Sequence[float] | np.ndarray) -> tuple[float, float] | None:
    """The middle 95 % of the figures that are numbers; None when most draws gave none."""
    import numpy as np

    values = np.asarray(figures, dtype=float)
    known = values[np.isfinite(values)]
    if not len(values) or len(known) < FEWEST_DEFINED * len(values):
        return None
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(known, [tail, 100 - tail])
    return float(low), float(high)


def estimate(value: float | None, n: int, figures: Sequence[float] | np.ndarray, reason: str | None = None) -> Estimate:
    """Put a figure and its draws together; says why where something is missing."""
    if value is None:
        return Estimate(None, n=n, reason=reason or "Nothing was scored.")
    between = interval(figures) if n >= FEWEST_PROMPTS else None
    if between is None:
        why = f"{n} prompts are too few for an interval." if n < FEWEST_PROMPTS else "Most draws leave it undefined."
        return Estimate(value, n=n, reason=why)
    return Estimate(value, *between, n=n)
