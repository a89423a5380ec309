"""What one step in each criterion is worth to somebody, and who leads as that changes.

A score is the weighted mean of a model's steps, so it is linear in the weights: where another model draws level can be
computed, and needs no search. Weights are opinions, so besides those given, weights near them and all weights are drawn
(the acceptability index of SMAA; Lahdelma, Hokkanen and Salminen 1998). Knows steps. Knows no limits and no draws of
prompts.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workshop_lib.decision.criteria import CRITERIA, criterion
from workshop_lib.errors import ConfigurationError

if TYPE_CHECKING:
    import numpy as np

DRAWS = 5_000
NEAR = 2.0
"""Weights near one's own are between their half and their double."""
DECIMALS = 9
"""Scores that differ less are equal: no measurement is that fine, and sums of floats are not either."""


@dataclass(frozen=True, slots=True)
class Weights:
    """What one step in each criterion is worth; what is not named weighs nothing. Only their ratios matter.

    >>> Weights({"quality": 3, "latency": 1}).share("quality")
    0.75

    Raises:
        ConfigurationError: an unknown criterion, a weight below 0 or not finite, or a sum of 0.
    """

    given: Mapping[str, float]

    def __post_init__(self) -> None:
        known = [each.name for each in CRITERIA]
        for name, weight in self.given.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                fix = f"Did you mean {near[0]}?" if near else f"Use {', '.join(known)}."
                raise ConfigurationError(f"There is no criterion {name!r} to weigh.", fix)
            if not 0 <= weight < math.inf:
                raise ConfigurationError(f"The weight of {name} is {weight}.", "Give 0 or more.")
        if not 0 < sum(self.given.values()) < math.inf:
            raise ConfigurationError("All weights are 0.", "Give at least one criterion a weight above 0.")

    def of(self, name: str) -> float:
        """The weight of a criterion, 0 where none was given."""
        return self.given.get(name, 0.0)

    def share(self, name: str) -> float:
        """Its part of all weights, 0 to 1."""
        return self.of(name) / sum(self.given.values())

    @property
    def used(self) -> tuple[str, ...]:
        """The criteria that weigh anything, in the order of `CRITERIA`."""
        return tuple(each.name for each in CRITERIA if self.of(each.name) > 0)


def from_settings(**given: float) -> Weights:
    """Weights as a notebook's settings have them, e.g. `from_settings(quality=4, latency=2)`.

    Raises:
        ConfigurationError: as `Weights`.
    """
    return Weights(given)


def steps(values: Mapping[str, np.ndarray]) -> np.ndarray:
    """Steps by `[…, model, criterion]` of values by `[…, model]`."""
    import numpy as np

    return np.stack([criterion(name).steps(each) for name, each in values.items()], axis=-1)


def scores(table: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Weighted means of steps by `[…, criterion]`."""
    import numpy as np

    means: np.ndarray = np.round((table * (given / given.sum())).sum(axis=-1), DECIMALS)
    return means


def firsts(table: np.ndarray) -> np.ndarray:
    """In what share of the lines of scores each model has the highest; a shared first place counts in parts."""
    best = table == table.max(axis=1, keepdims=True)
    shares: np.ndarray = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
    return shares


def drawn_near(given: np.ndarray, seed: int) -> np.ndarray:
    """Weights by `[draw, criterion]`: each one given, times a factor between 1/2 and 2, drawn evenly on a log scale."""
    import numpy as np

    exponents = np.random.default_rng(seed).uniform(-1, 1, size=(DRAWS, len(given)))
    near: np.ndarray = given * NEAR**exponents
    return near


def drawn_anywhere(criteria: int, seed: int) -> np.ndarray:
    """Weights by `[draw, criterion]`, every split of the whole being as likely as any other."""
    import numpy as np

    return np.random.default_rng(seed).dirichlet(np.ones(criteria), size=DRAWS)


def first_shares(table: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """In what share of the drawn weights each model of `[model, criterion]` comes first."""
    import numpy as np

    whole = weights / weights.sum(axis=1, keepdims=True)
    return firsts(np.round(whole @ table.T, DECIMALS))


@dataclass(frozen=True, slots=True)
class Turn:
    """The nearest weight of one criterion, the others as they are, at which another model draws level with the first.

    Attributes:
        given: the weight as it is; `weight` the one at which the model at `place` draws level.
    """

    criterion: str
    given: float
    weight: float
    place: int


def turns(table: Mapping[str, np.ndarray], weights: Weights, first: int) -> tuple[Turn, ...]:
    """For each criterion, the nearest lower and the nearest higher weight at which another model draws level.

    Args:
        table: criterion → steps by `[model]`; criteria that weigh nothing may be among them.
        weights: those given.
        first: the place of the model that leads alone.
    """
    ahead = {name: values[first] - values for name, values in table.items()}
    by_all = sum(weights.of(name) * each for name, each in ahead.items())
    found = []
    for name, by_one in ahead.items():
        given = weights.of(name)
        others = [place for place in range(len(by_one)) if abs(by_one[place]) > 10.0**-DECIMALS]
        levels = sorted((given - float(by_all[place] / by_one[place]), place) for place in others)
        lower = [each for each in levels if 0 <= each[0] < given][-1:]
        higher = [each for each in levels if each[0] > given][:1]
        found += [Turn(name, given, level, place) for level, place in lower + higher]
    return tuple(found)


def lead(table: Mapping[str, np.ndarray], weights: Weights, name: str) -> list[tuple[float, float, int]]:
    """Who leads as one criterion's share of the weights goes from 0 to 1, the others keeping their proportions.

    Args:
        table: criterion → steps by `[model]`, of all criteria that weigh.
        weights: those given.
        name: the criterion whose share changes.

    Returns:
        (from share, to share, place of the model) in order; where models are equal, the first of them.
    """
    import numpy as np

    rest = [each for each in table if each != name and weights.of(each) > 0]
    start = np.zeros(len(table[name]))
    if rest:
        given = np.array([weights.of(each) for each in rest])
        start = scores(np.stack([table[each] for each in rest], axis=-1), given)
    return _envelope(start.tolist(), np.round(table[name], DECIMALS).tolist())


def _envelope(starts: Sequence[float], ends: Sequence[float]) -> list[tuple[float, float, int]]:
    """The highest of the straight lines from `starts` (share 0) to `ends` (share 1), piece by piece."""
    places = range(len(starts))
    rise = [end - start for start, end in zip(starts, ends, strict=True)]
    now, at = max(places, key=lambda each: (starts[each], rise[each], -each)), 0.0
    pieces = []
    while True:
        crossings = (
            ((starts[now] - starts[each]) / (rise[each] - rise[now]), -rise[each], each)
            for each in places
            if rise[each] > rise[now]
        )
        share, _, following = min(
            (each for each in crossings if each[0] < 1 - 10.0**-DECIMALS), default=(1.0, 0.0, now)
        )
        if share > at:
            pieces.append((at, share, now))
        if share >= 1:
            return pieces
        at, now = share, following
