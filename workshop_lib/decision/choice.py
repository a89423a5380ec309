"""Which model to take: limits put models out, weights order the rest, and draws say how sure that order is.

A model's score is the weighted mean of its steps (`criteria`): an additive value function over log-ratios and grades,
in other words a weighted product of ratios. It is valid where a step in one criterion is worth the same whatever the
others are (preferential independence; Keeney and Raiffa 1976, chapter 3), so nothing should be weighed twice: a latency
already holds the decode speed. A weight says what one step is worth, not how important a subject sounds: with equal
weights, one grade more is worth twice the latency. Because steps depend on no other model, adding or removing one never
turns the others round.

Two kinds of doubt are kept apart. Measurements vary: `best_share` counts how often a model comes first when the prompts
are drawn again. Weights are opinions: `near_share` and `weight_share` count how often it comes first when the weights
are drawn.

Draws of few prompts promise too much: of two models that are alike, one comes first in 95 % of them in every fourth
run with three prompts. So it takes a larger share of them to be clear, see `clear_from`, and a lead that is larger than
what repeating a measurement can make. Knows evidence. Knows no files.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workshop_lib import compare, summary
from workshop_lib.decision import limits as bounds
from workshop_lib.decision import weights
from workshop_lib.decision.criteria import CRITERIA, criterion
from workshop_lib.decision.evidence import MEASURED_ONCE, Evidence
from workshop_lib.decision.limits import Breach, Limits, Relaxation
from workshop_lib.decision.weights import Turn, Weights
from workshop_lib.errors import ConfigurationError

if TYPE_CHECKING:
    import numpy as np

    from workshop_lib.records import Row

FEWEST_CLEAR = 6
"""Of two models that are alike, one is better in all of 5 prompts in 6 % of runs, in all of 6 prompts in 3 %."""


@dataclass(frozen=True, slots=True)
class Place:
    """One model in the order.

    Attributes:
        place: which of `evidence.rows` it is; `row` is that row.
        rank: 1 = first; equal scores share a rank.
        behind: weighted steps behind the first; 0 for the first.
        best_share: in what share of the draws of prompts it comes first; None where that cannot be said.
        near_share: the same over weights between half and double of those given.
        weight_share: the same over all weights of the criteria that count.
    """

    place: int
    row: Row
    rank: int
    behind: float
    best_share: float | None
    near_share: float
    weight_share: float


@dataclass(frozen=True, slots=True)
class Out:
    """A model that is not in the order, and why: limits that it breaks, or a criterion that was not measured."""

    row: Row
    reasons: tuple[str, ...]
    breaches: tuple[Breach, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """The order, who is out, and how sure all of it is.

    Attributes:
        used: the criteria that counted.
        ranked: the models in order, the first first; empty where none is left.
        out: the others.
        turns: how the weights would have to change for another first; a turn's `place` is one of `evidence.rows`.
        relaxation: what to allow so that one is left; None where one is.
        reason: why `best_share` cannot be said; None where it can.
        prompts: how many prompts the draws rest on; the fewest of any figure that counts and varies.
        remarks: what a reader must know.
    """

    evidence: Evidence
    weights: Weights
    limits: Limits
    used: tuple[str, ...]
    ranked: tuple[Place, ...]
    out: tuple[Out, ...] = ()
    turns: tuple[Turn, ...] = ()
    relaxation: Relaxation | None = None
    reason: str | None = None
    prompts: int = 0
    remarks: tuple[str, ...] = ()

    @property
    def first(self) -> Place | None:
        """The model that comes first; None where none is left, or several share the first place."""
        leaders = [each for each in self.ranked if each.rank == 1]
        return leaders[0] if len(leaders) == 1 else None

    @property
    def is_clear(self) -> bool:
        """Whether one model comes first in enough of the draws of prompts, and by more than repeating can make."""
        share, enough = self.first.best_share if self.first else None, clear_from(self.prompts)
        return share is not None and enough is not None and share >= enough and not self.is_slight

    @property
    def is_slight(self) -> bool:
        """Whether the first leads by so little that measuring again can turn the order round."""
        whole = sum(map(self.weights.of, self.used))
        repeats = sum(self.weights.of(name) * math.log2(1 + criterion(name).repeats) for name in self.used) / whole
        return len(self.ranked) > 1 and self.ranked[1].behind < repeats


def clear_from(prompts: int) -> float | None:
    """The share of the draws of so many prompts that makes a first place clear; None where no share does.

    Where a t interval at `resampling.CONFIDENCE` would begin: what a draw leaves out of the scatter of few prompts,
    sqrt(n / (n - 1)), is put back, and their scatter itself is uncertain. The share goes to 97.5 % with the prompts:
    either of two models that are alike may be ahead by chance.

    >>> clear_from(5), clear_from(6), clear_from(12)
    (None, 0.998, 0.99)
    """
    if prompts < FEWEST_CLEAR:
        return None
    from scipy import special

    bound = special.stdtrit(prompts - 1, 0.5 + compare.CONFIDENCE / 2) * math.sqrt(prompts / (prompts - 1))
    return math.ceil(1000 * float(special.ndtr(bound))) / 1000


def decide(evidence: Evidence, given: Weights, limits: Limits | None = None, *, seed: int = 20) -> Decision:
    """Put out what breaks a limit, order the rest, and say how sure that is.

    A model that lacks a figure which others have, in a criterion that weighs, cannot be ordered and is out with that
    reason. A criterion that was measured for no model is left out and named in the remarks.

    Args:
        evidence: what `evidence.gather` found.
        given: what one step in each criterion is worth.
        limits: what a model must keep; None = nothing.
        seed: of the draws of weights.

    Raises:
        ConfigurationError: none of the criteria that weigh was measured.
    """
    limits = limits or Limits()
    used, missing = _measured(evidence, given)
    out = _outs(evidence, limits, used)
    keep = [place for place in range(len(evidence.rows)) if place not in out]
    drawn = _fewest_prompts(evidence, used, keep)
    ranked, reason = _ranked(evidence, given, used, keep, seed) if keep else ((), "No model is left.")
    near_misses = (
        f"{evidence.rows[place].model_id}: {said}."
        for place in keep
        for said in bounds.near_misses(evidence, limits, place)
    )
    left_out = (f"Not weighed, because no model has a figure: {label}." for label in missing)
    doubts = _doubts(evidence.rows, [each.name for each in CRITERIA if each.name in {*used, *bounds.limited(limits)}])
    return Decision(
        evidence,
        given,
        limits,
        used,
        ranked,
        out=tuple(out.values()),
        turns=_turns(evidence, given, used, ranked),
        relaxation=bounds.nearest(evidence, limits),
        reason=reason,
        prompts=drawn or 0,
        remarks=(*evidence.remarks, *left_out, *doubts, *near_misses),
    )


def step_table(evidence: Evidence, names: Iterable[str], keep: Sequence[int]) -> dict[str, np.ndarray]:
    """Criterion → the steps of the models at `keep`."""
    return {name: criterion(name).steps(evidence.values(name))[list(keep)] for name in names}


def _measured(evidence: Evidence, given: Weights) -> tuple[tuple[str, ...], list[str]]:
    """The criteria that weigh and were measured for a model, and the labels of the others."""
    import numpy as np

    known = {name: np.isfinite(criterion(name).steps(evidence.values(name))).any() for name in given.used}
    missing = [criterion(name).label for name, is_known in known.items() if not is_known]
    if len(missing) == len(known):
        fix = "Give a weight to something that was measured."
        raise ConfigurationError(f"Nothing that weighs was measured: {', '.join(missing)}.", fix)
    return tuple(name for name, is_known in known.items() if is_known), missing


def _outs(evidence: Evidence, limits: Limits, used: Sequence[str]) -> dict[int, Out]:
    import numpy as np

    steps = step_table(evidence, used, range(len(evidence.rows)))
    found: dict[int, Out] = {}
    for place, broken in enumerate(bounds.breaches(evidence, limits)):
        missing = [criterion(name).label for name in used if not np.isfinite(steps[name][place])]
        if broken:
            found[place] = Out(evidence.rows[place], tuple(each.sentence for each in broken), broken)
        elif missing:
            reasons = tuple(f"{label} weighs but was not measured" for label in missing)
            found[place] = Out(evidence.rows[place], reasons)
    return found


def _ranked(
    evidence: Evidence, given: Weights, used: Sequence[str], keep: Sequence[int], seed: int
) -> tuple[tuple[Place, ...], str | None]:
    """The models at `keep` in order, and why it cannot be said how often each comes first."""
    import numpy as np

    table = weights.steps({name: evidence.values(name)[list(keep)] for name in used})
    each_weight = np.array([given.of(name) for name in used])
    scores = weights.scores(table, each_weight)
    shares, reason = _best_shares(evidence, used, each_weight, keep)
    near = weights.first_shares(table, weights.drawn_near(each_weight, seed))
    anywhere = weights.first_shares(table, weights.drawn_anywhere(len(used), seed))
    places = [
        Place(
            place=place,
            row=evidence.rows[place],
            rank=1 + int((scores > scores[at]).sum()),
            behind=float(scores.max() - scores[at]),
            best_share=None if shares is None else float(shares[at]),
            near_share=float(near[at]),
            weight_share=float(anywhere[at]),
        )
        for at, place in enumerate(keep)
    ]
    return tuple(sorted(places, key=lambda each: each.rank)), reason


def _best_shares(
    evidence: Evidence, used: Sequence[str], given: np.ndarray, keep: Sequence[int]
) -> tuple[np.ndarray | None, str | None]:
    """In what share of the draws of prompts each model comes first, or why that cannot be said."""
    import numpy as np

    fewest = _fewest_prompts(evidence, used, keep)
    if fewest is None:
        return None, "Only figures weigh that were measured once per model: there is nothing to draw."
    if fewest < compare.FEWEST_PROMPTS:
        few = "1 prompt is" if fewest == 1 else f"{fewest} prompts are"
        return None, f"{few} too few to say how often a model comes first: it takes {compare.FEWEST_PROMPTS}."
    drawn = weights.scores(weights.steps({name: evidence.drawn[name][:, list(keep)] for name in used}), given)
    known = drawn[np.isfinite(drawn).all(axis=1)]
    if len(known) < compare.FEWEST_DEFINED * len(drawn):
        return None, "In most draws of prompts a model has no figure."
    return weights.firsts(known), None


def _fewest_prompts(evidence: Evidence, used: Sequence[str], keep: Sequence[int]) -> int | None:
    """The fewest prompts that a figure rests on; None where all figures were measured once per model."""
    figures = [evidence.figures[name][place] for name in used for place in keep]
    return min((each.n for each in figures if each.reason != MEASURED_ONCE), default=None)


def _doubts(rows: Sequence[Row], used: Sequence[str]) -> list[str]:
    """The warnings that cast doubt on a criterion that weighs or is limited."""
    said = []
    for which in map(criterion, used):
        for code in which.shaken_by:
            shaken = sum(code in row.warnings for row in rows)
            if shaken:
                what = summary.WARNINGS[code]
                said.append(f"{which.label.capitalize()} of {shaken} of {len(rows)} models, warning `{code}`: {what}")
    return said


def _turns(evidence: Evidence, given: Weights, used: Sequence[str], ranked: Sequence[Place]) -> tuple[Turn, ...]:
    """Where another model would draw level with the one that leads alone."""
    import numpy as np

    if len(ranked) < 2 or ranked[1].rank == 1:
        return ()
    places = [each.place for each in ranked]
    every = step_table(evidence, (each.name for each in CRITERIA), places)
    known = {name: steps for name, steps in every.items() if name in used or np.isfinite(steps).all()}
    found = weights.turns(known, given, first=0)
    return tuple(Turn(each.criterion, each.given, each.weight, places[each.place]) for each in found)
