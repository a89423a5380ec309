"""What a model can be judged by: how each criterion is read from a run, and its value in *steps*.

`CRITERIA` is the table: a new criterion is one row. A step is what weights are about, the same for every criterion:

* Times, rates and sizes have a true zero, so their ratios mean something: a step is a factor of two. Half the latency,
  twice the pace or half the memory is one step better.
* Grades have no true zero (a 4 is not twice as good as a 2), so their ratios mean nothing: a step is one grade. That
  takes the distance from 1 to 2 for as much worth as that from 4 to 5, which is an assumption and stays one. The aspect
  check counts as grade 1 + 4 x share.

A model's steps depend on no other model. Values scaled between the best and the worst candidate do, which is why adding
or removing a loser can turn such a ranking round (Belton and Gear 1983; for TOPSIS Garcia-Cascales and Lamata 2012).

Knows runs and grades. Knows no uncertainty, no weights and no limits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypedDict

from workshop_lib.compare import SAME_RUN
from workshop_lib.errors import ConfigurationError
from workshop_lib.metrics import timing

if TYPE_CHECKING:
    import numpy as np

    from workshop_lib.records import Completion, Row, Run


@dataclass(frozen=True, slots=True)
class Material:
    """What criteria are read from: a run, the rows of the models that answered, their grades by `[prompt, model]`."""

    run: Run
    rows: tuple[Row, ...]
    grades: np.ndarray


class _Shown(TypedDict):
    shown_unit: str
    factor: float


@dataclass(frozen=True, slots=True)
class Criterion:
    """A row of `CRITERIA`.

    Attributes:
        name: in data and in settings; `label` for people.
        unit: what `read` gives; `shown_unit` and `factor` say how it is shown.
        better: which direction is better.
        step: what one step is, a factor of two or one point.
        read: values by `[prompt, request, model]`, or by `[model]` where there is one value per model; nan = unknown.
        quantile: the figure over requests and prompts: a quantile, or the mean where it is None.
        shaken_by: warnings of a row (`summaries.WARNINGS`) that cast doubt on it.
        repeats: the share by which measuring again in the same run shifts it; 0 where nothing is measured again.
    """

    name: str
    label: str
    unit: str
    better: Literal["lower", "higher"]
    read: Callable[[Material], np.ndarray]
    quantile: float | None = None
    step: Literal["doubling", "point"] = "doubling"
    shown_unit: str = ""
    factor: float = 1.0
    shaken_by: tuple[str, ...] = ()
    repeats: float = 0.0

    def steps(self, values: np.ndarray) -> np.ndarray:
        """Values → steps, more is better; nan where a value is unknown, or has no ratio because it is not above 0."""
        import numpy as np

        known = np.asarray(values, dtype=float)
        if self.step == "doubling":
            known = np.log2(known, out=np.full(known.shape, np.nan), where=known > 0)
        return known if self.better == "higher" else -known

    def say(self, value: float | None) -> str:
        """A value in words: `15 ms`, `not measured`."""
        if value is None:
            return "not measured"
        shown = value * self.factor
        figures = f"{shown:,.0f}" if abs(shown) >= 1000 else f"{shown:.3g}"
        return " ".join(filter(None, (figures, self.shown_unit or self.unit)))


def criterion(name: str) -> Criterion:
    """The criterion of that name.

    Raises:
        ConfigurationError: there is none; names those that exist.
    """
    known = {each.name: each for each in CRITERIA}
    if name not in known:
        raise ConfigurationError(f"There is no criterion {name!r}.", f"Use {', '.join(known)}.")
    return known[name]


def _per_request(measure: Callable[[Completion], float | None]) -> Callable[[Material], np.ndarray]:
    """Every timed request on its own."""

    def read(material: Material) -> np.ndarray:
        import numpy as np

        prompts = {prompt.id: place for place, prompt in enumerate(material.run.prompts)}
        models = {(row.model_id, row.device): place for place, row in enumerate(material.rows)}
        found: dict[tuple[int, int], list[float]] = {}
        for completion in material.run.completions:
            model = models.get((completion.model_id, completion.device))
            value = measure(completion) if completion.round and model is not None else None
            if value is not None and model is not None and completion.prompt_id in prompts:
                found.setdefault((prompts[completion.prompt_id], model), []).append(value)
        table = np.full((len(prompts), max(map(len, found.values()), default=1), len(models)), np.nan)
        for (prompt, model), values in found.items():
            table[prompt, : len(values), model] = values
        return table

    return read


def _per_prompt(measure: Callable[[Completion], float | None]) -> Callable[[Material], np.ndarray]:
    """The median of a prompt's requests, so that a prompt that was asked more often does not count for more."""
    every = _per_request(measure)
    return lambda material: quantiles(every(material), 0.5)[:, None, :]


def _per_model(read: Callable[[Row], float | None]) -> Callable[[Material], np.ndarray]:
    def column(material: Material) -> np.ndarray:
        import numpy as np

        return np.array([np.nan if (value := read(row)) is None else value for row in material.rows], dtype=float)

    return column


_MS: _Shown = {"shown_unit": "ms", "factor": 1000}

CRITERIA: tuple[Criterion, ...] = (
    Criterion("quality", "quality", "", "higher", lambda known: known.grades[:, None, :], step="point"),
    Criterion(
        "latency",
        "latency",
        "s",
        "lower",
        _per_prompt(timing.latency_s),
        0.5,
        **_MS,
        shaken_by=("unstable",),
        repeats=SAME_RUN,
    ),
    Criterion(
        "latency_p95",
        "p95 latency",
        "s",
        "lower",
        _per_request(timing.latency_s),
        0.95,
        **_MS,
        shaken_by=("unstable", "too_few_samples"),
        repeats=SAME_RUN,
    ),
    Criterion(
        "first_token",
        "first token",
        "s",
        "lower",
        _per_prompt(timing.first_token_s),
        0.5,
        **_MS,
        shaken_by=("unstable", "cached_prompt"),
        repeats=SAME_RUN,
    ),
    Criterion(
        "throughput",
        "decode speed",
        "tok/s",
        "higher",
        _per_prompt(timing.decode_tokens_per_s),
        0.5,
        shaken_by=("unstable", "bursts"),
        repeats=SAME_RUN,
    ),
    Criterion("memory", "peak memory", "MB", "lower", _per_model(lambda row: row.peak_resident_mb)),
    Criterion("footprint", "size on disk", "MB", "lower", _per_model(lambda row: row.size_mb)),
)
"""Latency, first token and decode speed are medians over prompts, p95 is over all timed requests; quality is a mean."""


def quantiles(table: np.ndarray, share: float) -> np.ndarray:
    """Quantiles over the second axis of what is known, interpolated as numpy does; nan where nothing is known."""
    import numpy as np

    ordered = np.sort(table, axis=1)  # nan comes last
    last = np.maximum(np.isfinite(table).sum(axis=1) - 1, 0)[:, None, :]
    place = share * last
    below = np.floor(place).astype(int)
    low = np.take_along_axis(ordered, below, axis=1)
    high = np.take_along_axis(ordered, np.minimum(below + 1, last), axis=1)
    between: np.ndarray = (low + (place - below) * (high - low))[:, 0, :]
    return between
