"""All that is known of the models of a run, gathered once: every criterion's figure, its interval and its draws.

Uncertainty is a bootstrap over prompts, one draw for every model and criterion. A prompt's figure carries the scatter
of its rounds, so that is in it; what was measured once per model (memory, size) does not move, and how much a fresh
start of the model would change is not in it. Knows runs and scores. Knows no weights and no limits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from workshop_lib.decision.criteria import CRITERIA, Criterion, Material, quantiles
from workshop_lib.errors import ConfigurationError
from workshop_lib.metrics import resampling, summaries
from workshop_lib.metrics.resampling import Estimate
from workshop_lib.quality import pareto

if TYPE_CHECKING:
    import numpy as np

    from workshop_lib.quality.scores import Kind, Score
    from workshop_lib.records import Row, Run

MOST_NUMBERS = 4_000_000
"""Numbers drawn at a time: 32 MB."""
MEASURED_ONCE = "Measured once per model, so without an interval."


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """All that is known of the models of a run, gathered once; deciding anew takes nothing else.

    Attributes:
        rows: the models that answered.
        figures: criterion → figure of each model, with its interval over prompts.
        drawn: criterion → its figures by `[draw, model]`, the same prompts in every criterion's draw.
        measure: whose grades are the quality.
        prompts: how many there were.
        remarks: what a reader must know of the figures.
    """

    rows: tuple[Row, ...]
    figures: Mapping[str, tuple[Estimate, ...]]
    drawn: Mapping[str, np.ndarray]
    measure: Kind
    prompts: int
    remarks: tuple[str, ...] = ()

    def values(self, name: str) -> np.ndarray:
        """A criterion's figures by `[model]`; nan where there is none."""
        import numpy as np

        return np.array([np.nan if each.value is None else each.value for each in self.figures[name]], dtype=float)

    def without(self, place: int) -> Evidence:
        """The same evidence, one model left out."""
        import numpy as np

        keep = [each for each in range(len(self.rows)) if each != place]
        return replace(
            self,
            rows=tuple(self.rows[each] for each in keep),
            figures={name: tuple(figures[each] for each in keep) for name, figures in self.figures.items()},
            drawn={name: np.delete(drawn, place, axis=1) for name, drawn in self.drawn.items()},
        )


def gather(run: Run, scores: Iterable[Score] = (), *, measure: Kind | None = None, seed: int = 20) -> Evidence:
    """Read every criterion of every model that answered, and draw the prompts anew.

    Args:
        run: with its prompts and answers.
        scores: grades of people, references and judges; the aspects are checked here.
        measure: whose grades are the quality; None = as `pareto.decisive_measure` chooses.
        seed: of the draws of prompts.

    Raises:
        ConfigurationError: no model answered, or nothing was scored by the measure asked for.
    """
    import numpy as np

    rows = tuple(row for row in summaries.summarise(run) if row.status == "ok")
    if not rows:
        raise ConfigurationError(f"No model answered in run {run.run_id}.", "Choose a run in which one did.")
    used, remarks = pareto.one_rubric(tuple(scores))
    tables = pareto.grade_tables(run, rows, used)
    chosen = pareto.decisive_measure(tables, measure)
    grades = tables.get(chosen, np.full((len(run.prompts), len(rows)), np.nan))
    material = Material(run, rows, 1 + 4 * grades if chosen == "aspects" else grades)
    drawn = resampling.draws(len(run.prompts), seed)
    read = {each.name: _figures(each, each.read(material), drawn) for each in CRITERIA}
    figures = {name: estimates for name, (estimates, _) in read.items()}
    passed = () if measure else pareto.passed_over(tables, chosen)
    said = (*remarks, *passed, *_uneven(figures))
    return Evidence(rows, figures, {name: each for name, (_, each) in read.items()}, chosen, len(run.prompts), said)


def _figures(which: Criterion, table: np.ndarray, drawn: np.ndarray) -> tuple[tuple[Estimate, ...], np.ndarray]:
    """Each model's figure, and the figures of every draw by `[draw, model]`."""
    import numpy as np

    if table.ndim == 1:
        known = tuple(None if np.isnan(value) else float(value) for value in table)
        once = tuple(Estimate(value, reason=MEASURED_ONCE if value is not None else "Not measured.") for value in known)
        return once, np.broadcast_to(table, (len(drawn), len(table)))
    figure = _mean if which.quantile is None else lambda part: quantiles(part, which.quantile or 0.0)
    values = figure(_pooled(table[None]))[0]
    pieces = np.array_split(drawn, max(1, -(-len(drawn) * table.size // MOST_NUMBERS)))
    draws = np.concatenate([figure(_pooled(table[piece])) for piece in pieces])
    counts = np.isfinite(table).any(axis=1).sum(axis=0)
    estimates = tuple(
        resampling.estimate(float(value) if n else None, int(n), draws[:, place])
        for place, (value, n) in enumerate(zip(values, counts, strict=True))
    )
    return estimates, draws


def _pooled(table: np.ndarray) -> np.ndarray:
    """`[draw, prompt, request, model]` → `[draw, value, model]`."""
    return table.reshape(len(table), -1, table.shape[-1])


def _mean(table: np.ndarray) -> np.ndarray:
    """Means over the second axis of what is known; nan where nothing is."""
    import numpy as np

    known = np.isfinite(table)
    counts, sums = known.sum(axis=1), np.where(known, table, 0.0).sum(axis=1)
    means: np.ndarray = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    return means


def _uneven(figures: Mapping[str, Sequence[Estimate]]) -> list[str]:
    """A sentence where the models' grades, or their times, rest on different prompts."""
    said = []
    for name, verb in (("quality", "graded"), ("latency", "timed")):
        counts = sorted({each.n for each in figures[name]})
        if len(counts) > 1:
            prompts = f"{counts[0]} to {counts[-1]} prompts"
            said.append(f"Models were {verb} on {prompts}: their figures rest on different questions.")
    return said
