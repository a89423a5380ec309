"""What a model must keep to be chosen at all: hard limits, who breaks which, and what would let the nearest one in.

A limit on something that was not measured is broken: what cannot be said is no pass. A licence is a limit and never a
weight, because no speed makes up for not being allowed to ship. Knows evidence. Knows no weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from workshop_lib import compare
from workshop_lib.decision.criteria import Criterion, criterion
from workshop_lib.errors import ConfigurationError

if TYPE_CHECKING:
    from workshop_lib.decision.evidence import Evidence
    from workshop_lib.records import Row

LICENCES = "licences"
BEST_GRADE = 5.0
WORTH_SAYING = 0.005
"""A smaller share of draws rounds to 0 %."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that a model must keep; None = no bound.

    Attributes:
        max_size_mb: size on disk in 10^6 bytes.
        max_first_token_s: median time to the first token, in seconds.
        max_latency_s: the time within which 95 % of the answers are complete, in seconds.
        max_memory_mb: peak resident memory of the serving process in 10^6 bytes.
        min_quality: mean grade, 1 to 5.
        licences: licences that may be shipped; empty = any. Compared as whole names, whatever their case.

    Raises:
        ConfigurationError: a bound that is not above 0, or a grade outside 1 to 5.
    """

    max_size_mb: float | None = None
    max_first_token_s: float | None = None
    max_latency_s: float | None = None
    max_memory_mb: float | None = None
    min_quality: float | None = None
    licences: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in BOUNDS:
            bound = getattr(self, name)
            if bound is not None and not 0 < bound < math.inf:
                raise ConfigurationError(f"{name} is {bound}.", "Give a number above 0, or leave the limit out.")
        if self.min_quality is not None and not 1 <= self.min_quality <= BEST_GRADE:
            raise ConfigurationError(f"min_quality is {self.min_quality}.", "Grades go from 1 to 5.")


BOUNDS: dict[str, str] = {
    "max_size_mb": "footprint",
    "max_first_token_s": "first_token",
    "max_latency_s": "latency_p95",
    "max_memory_mb": "memory",
    "min_quality": "quality",
}
"""Each bound and its criterion; which direction is better decides whether it is a maximum or a minimum."""


def from_settings(*, licences: str = "", **bounds: float) -> Limits:
    """Limits as a notebook's settings have them: 0 = no bound, licences separated by commas, empty = any.

    >>> chosen = from_settings(max_size_mb=0, min_quality=3, licences="MIT, Apache-2.0")
    >>> chosen.max_size_mb, chosen.min_quality, chosen.licences
    (None, 3, ('MIT', 'Apache-2.0'))

    Raises:
        ConfigurationError: there is no such bound, or it is not possible.
    """
    for name in bounds:
        if name not in BOUNDS:
            raise ConfigurationError(f"There is no limit {name!r}.", f"Use {', '.join((*BOUNDS, LICENCES))}.")
    allowed = tuple(name.strip() for name in licences.split(",") if name.strip())
    return Limits(**{name: bound or None for name, bound in bounds.items()}, licences=allowed)


@dataclass(frozen=True, slots=True)
class Breach:
    """One limit that one model does not keep.

    Attributes:
        limit: the field of `Limits`.
        value: the value seen; None = not measured, or a licence that is unknown.
        bound: what is allowed.
        kept_share: in what share of the draws of prompts the limit was kept; None where it cannot be said.
        sentence: all of that in words.
    """

    limit: str
    value: float | str | None
    bound: float | tuple[str, ...]
    kept_share: float | None
    sentence: str


def breaches(evidence: Evidence, limits: Limits) -> tuple[tuple[Breach, ...], ...]:
    """The limits that each model breaks, in the order of `evidence.rows`."""
    return tuple(
        (*_measured_breaches(evidence, limits, place), *_licence_breach(row, limits))
        for place, row in enumerate(evidence.rows)
    )


def near_misses(evidence: Evidence, limits: Limits, place: int) -> tuple[str, ...]:
    """Limits that a model keeps, but not in 95 % of the draws: other prompts could put it out."""
    said = []
    for name, bound in _bounds(limits):
        share = _kept_share(evidence, name, bound, place)
        which = criterion(BOUNDS[name])
        value = evidence.figures[which.name][place].value
        if share is not None and share < compare.CONFIDENCE and value is not None and _keeps(which, value, bound):
            said.append(
                f"{which.label} {which.say(value)} keeps the limit of {which.say(bound)} in {share:.0%} of draws"
            )
    return tuple(said)


@dataclass(frozen=True, slots=True)
class Relaxation:
    """The smallest change of limits that lets one model in.

    Attributes:
        place: which of `evidence.rows`.
        limits: the limits after the change.
        sentences: each change in words.
    """

    place: int
    limits: Limits
    sentences: tuple[str, ...]


def nearest(evidence: Evidence, limits: Limits) -> Relaxation | None:
    """The change for the model that is nearest to keeping all limits; None where one keeps them, or there is none.

    Nearest is the one with the fewest broken limits, then with the smallest factor by which one of them must move; a
    limit on something unmeasured counts as infinitely far.
    """
    found = breaches(evidence, limits)
    if not found or not all(found):
        return None
    place = min(range(len(found)), key=lambda each: (len(found[each]), max(map(_distance, found[each]))))
    relaxed, said = limits, []
    for breach in found[place]:
        relaxed, sentence = _relax(relaxed, breach)
        said.append(sentence)
    return Relaxation(place, relaxed, tuple(said))


def limited(limits: Limits) -> tuple[str, ...]:
    """The criteria that have a limit."""
    return tuple(BOUNDS[name] for name, _ in _bounds(limits))


def in_words(limits: Limits) -> list[str]:
    """Each limit that is set, as words."""
    said = []
    for name, bound in _bounds(limits):
        which = criterion(BOUNDS[name])
        said.append(f"{which.label} {'at least' if which.better == 'higher' else 'at most'} {which.say(bound)}")
    return said + ([f"licence {' or '.join(limits.licences)}"] if limits.licences else [])


def _bounds(limits: Limits) -> list[tuple[str, float]]:
    return [(name, bound) for name in BOUNDS if (bound := getattr(limits, name)) is not None]


def _keeps(which: Criterion, value: float, bound: float) -> bool:
    return value >= bound if which.better == "higher" else value <= bound


def _measured_breaches(evidence: Evidence, limits: Limits, place: int) -> list[Breach]:
    found = []
    for name, bound in _bounds(limits):
        which = criterion(BOUNDS[name])
        value = evidence.figures[which.name][place].value
        if value is not None and _keeps(which, value, bound):
            continue
        limit = f"the limit is {which.say(bound)}"
        seen = f"{which.label} {which.say(value)}" if value is not None else f"{which.label} was not measured"
        share = None if value is None else _kept_share(evidence, name, bound, place)
        kept = f" (kept in {share:.0%} of draws)" if share and share >= WORTH_SAYING else ""
        found.append(Breach(name, value, bound, share, f"{seen}, {limit}{kept}"))
    return found


def _kept_share(evidence: Evidence, name: str, bound: float, place: int) -> float | None:
    """In what share of the draws a limit is kept; None for what was measured once, or on too few prompts."""
    import numpy as np

    which = criterion(BOUNDS[name])
    if evidence.figures[which.name][place].low is None:
        return None
    drawn = evidence.drawn[which.name][:, place]
    known = drawn[np.isfinite(drawn)]
    kept = known >= bound if which.better == "higher" else known <= bound
    return float(kept.mean())


def _licence_breach(row: Row, limits: Limits) -> list[Breach]:
    allowed = {name.casefold() for name in limits.licences}
    if not allowed or (row.licence or "").strip().casefold() in allowed:
        return []
    seen = f"licence {row.licence}" if row.licence else "licence is not known"
    return [Breach(LICENCES, row.licence, limits.licences, None, f"{seen}, allowed is {' or '.join(limits.licences)}")]


def _distance(breach: Breach) -> float:
    """By which factor a bound would have to move."""
    if not isinstance(breach.value, int | float) or not isinstance(breach.bound, int | float):
        return math.inf
    return max(breach.value / breach.bound, breach.bound / breach.value)


def _relax(limits: Limits, breach: Breach) -> tuple[Limits, str]:
    if breach.limit == LICENCES:
        if breach.value is None:
            return replace(limits, licences=()), "look its licence up: no list names it"
        return replace(limits, licences=(*limits.licences, str(breach.value))), f"allow the licence {breach.value}"
    which = criterion(BOUNDS[breach.limit])
    if not isinstance(breach.value, int | float):
        nothing: dict[str, Any] = {breach.limit: None}
        return replace(limits, **nothing), f"measure its {which.label}, or drop the limit {breach.limit}"
    bound = _beyond(float(breach.value), which.better)
    verb = "raise" if which.better == "lower" else "lower"
    change: dict[str, Any] = {breach.limit: bound}
    return replace(limits, **change), f"{verb} {breach.limit} from {breach.bound:g} to {bound:g}"


def _beyond(value: float, better: Literal["lower", "higher"]) -> float:
    """A bound of three figures that just lets a value in: never on its wrong side."""
    scale = 10.0 ** (2 - math.floor(math.log10(value)))
    if better == "lower":
        return max(math.ceil(value * scale) / scale, value)
    return min(math.floor(value * scale) / scale, value)
