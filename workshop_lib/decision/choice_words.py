"""What a decision says, in sentences that claim no more than it carries. Knows no tables and no files."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from workshop_lib.decision.choice import FEWEST_CLEAR, clear_from
from workshop_lib.decision.criteria import criterion
from workshop_lib.quality.show import HEADINGS
from workshop_lib.showing import charting
from workshop_lib.untrusted import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from workshop_lib.decision.choice import Decision, Place
    from workshop_lib.decision.evidence import Evidence
    from workshop_lib.records import Row

FARTHEST = 10
"""A weight beyond ten times all weights together is no opinion any more: it is not named. For what weighs nothing now,
one beyond all weights together is not."""
SENTENCE = 400


def name(evidence: Evidence, row: Row) -> str:
    """What a row is called: `alias · precision · device`."""
    return charting.names(evidence.rows)[charting.key(row)]


def verdict(decision: Decision) -> str:
    """Which model comes first, and how sure that is."""
    ranked = decision.ranked
    if not ranked:
        return _nothing_left(decision)
    leaders = [_called(decision, each) for each in ranked if each.rank == 1]
    if len(leaders) > 1:
        return f"{_and(leaders)} share the first place: nothing that weighs tells them apart."
    if len(ranked) == 1:
        return f"{leaders[0]} is the only model left, so nothing was weighed."
    if ranked[0].best_share is None:
        return f"{leaders[0]} comes first. How sure that is cannot be said: {decision.reason}"
    return _how_sure(decision, leaders[0], ranked[0].best_share)


def doubts(decision: Decision) -> list[str]:
    """How much the first place depends on the weights."""
    first = decision.first
    if first is None or len(decision.ranked) < 2 or len(decision.used) < 2:
        return []
    called = _called(decision, first)
    said = [f"With every weight between its half and its double, {called} comes first in {percent(first.near_share)}."]
    share = percent(first.weight_share)
    others = [each for each in decision.ranked if each is not first and each.weight_share >= 0.05]
    rest = _and([f"{_called(decision, each)} in {percent(each.weight_share)}" for each in _by_weights(others)])
    return [*said, f"Over all possible weights, {called} comes first in {share}" + (f", {rest}." if rest else ".")]


def changes(decision: Decision) -> list[str]:
    """What would change the first place: weights, one at a time."""
    whole = sum(decision.weights.given.values())
    near = [each for each in decision.turns if each.weight <= (FARTHEST if each.given else 1) * whole]
    said = []
    for turn in near:
        label, rival = criterion(turn.criterion).label, name(decision.evidence, decision.evidence.rows[turn.place])
        then, now = _weight(turn.weight), _weight(turn.given)
        said.append(f"If {label} weighed {then} instead of {now}, {rival} would draw level.")
    turning = {each.criterion for each in near}
    firm = [criterion(each).label for each in decision.used if each not in turning]
    if firm and decision.first and len(decision.ranked) > 1:
        said.append(
            f"No weight of {_and(firm, 'or')} up to {FARTHEST * whole:g} brings another model to the first place."
        )
    return said


def sentences(decision: Decision) -> list[str]:
    """Everything that a decision says: the verdict first, then how sure, what would change it, what to know."""
    return [verdict(decision), *doubts(decision), *changes(decision), *remarks(decision)]


def remarks(decision: Decision) -> list[str]:
    """What a reader must know of the figures, each as one visible line."""
    return [one_line(each, SENTENCE) for each in decision.remarks]


def _how_sure(decision: Decision, leader: str, share: float) -> str:
    """The verdict where one of several leads, and draws of prompts say in what share of them."""
    enough, first = clear_from(decision.prompts), f"{leader} comes first, in {percent(share)} of the draws of prompts"
    if decision.is_clear:
        return f"{first}."
    if enough is None:
        return f"{first}, but {decision.prompts} prompts are too few to rely on that: it takes {FEWEST_CLEAR}."
    if share >= enough:
        return f"{first}, but by so little that measuring again could turn the order round."
    best = max(decision.ranked[1:], key=lambda each: each.best_share or 0.0)
    rival = f"{_called(decision, best)} in {percent(best.best_share or 0.0)}"
    return (
        f"{leader} comes first, but only in {math.floor(1000 * share) / 10:g} % of the draws of prompts ({rival}): "
        f"below {100 * enough:g} %, which {decision.prompts} prompts ask for, other prompts could turn the order round."
    )


def graded_by(evidence: Evidence) -> str:
    """Whose grades the quality is."""
    return {
        "people": "mean grade by people, 1 to 5",
        "reference": "mean reference grade, 1 to 5",
        "aspects": "expected aspects mentioned, as a grade of 1 + 4 x share",
    }.get(evidence.measure, f"mean grade: {HEADINGS[evidence.measure]}")


def _nothing_left(decision: Decision) -> str:
    if decision.relaxation is None:
        return "No model can be ordered: each that keeps the limits lacks a figure that weighs."
    relaxation = decision.relaxation
    nearest = name(decision.evidence, decision.evidence.rows[relaxation.place])
    return one_line(f"No model keeps all limits. Nearest is {nearest}: {_and(relaxation.sentences)}.", SENTENCE)


def _called(decision: Decision, place: Place) -> str:
    return name(decision.evidence, place.row)


def _by_weights(places: Iterable[Place]) -> list[Place]:
    return sorted(places, key=lambda each: -each.weight_share)


def _weight(value: float) -> str:
    return f"{value:.3g}" if value > 1e-9 else "nothing"


def percent(share: float) -> str:
    """A share of draws; never 0 % or 100 % where it is not."""
    if 0 < share < 0.005:
        return "under 1 %"
    return "over 99 %" if 0.995 <= share < 1 else f"{share:.0%}".replace("%", " %")


def _and(parts: Sequence[str], word: str = "and") -> str:
    return f"{', '.join(parts[:-1])} {word} {parts[-1]}" if len(parts) > 1 else "".join(parts)
