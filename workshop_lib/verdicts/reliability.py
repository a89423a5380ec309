"""Can a rater stand in for people? Said from measured agreement, never from what the rater is.

The thresholds are Krippendorff's: rely on alpha of at least 0.8, draw tentative conclusions from 0.667 ("Content
Analysis", 2004, section 11.4). A judge must reach them with the lower end of its interval, because a few lucky
grades are no evidence. Knows scores. Knows no models.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from workshop_lib.verdicts import agreement
from workshop_lib.verdicts.agreement import Agreement, Unit
from workshop_lib.verdicts.pairs import JUDGE, OrderBias
from workshop_lib.verdicts.scores import Score

RELIABLE = 0.8
TENTATIVE = 0.667
READABLE = 0.9
"""A rater that says nothing usable about every tenth answer is left to choose which ones it grades."""

ASPECTS = "aspects"
REFERENCE = "reference:"
OWN = "+own"
"""Ending of a judge's name where it graded what it wrote itself."""

Kind = Literal["people", "reference", "aspects", "judge", "own"]
Verdict = Literal["reliable", "tentative", "unreliable", "unknown"]


def kind_of(rater: str) -> Kind:
    """Who a rater is, by the form of its name; a judge of its own answers is a kind apart."""
    if rater.startswith(JUDGE):
        return "own" if rater.endswith(OWN) else "judge"
    if rater.startswith(REFERENCE):
        return "reference"
    return "aspects" if rater == ASPECTS else "people"


@dataclass(frozen=True, slots=True)
class Reliability:
    """How far one rater can be trusted.

    Attributes:
        rater: who is examined.
        asked: answers that it was asked to grade.
        graded: answers of which a grade could be read.
        alpha: agreement with each of the others together, on the answers that it graded.
        verdict: `unknown` when too little can be compared.
    """

    rater: str
    asked: int
    graded: int
    alpha: Agreement
    verdict: Verdict


def examine(scores: Iterable[Score], rater: str, against: Sequence[str]) -> Reliability:
    """Compare one rater with others, whose median grade of an answer stands for them all."""
    scores = tuple(scores)
    table = agreement.ratings(scores)
    own = table.get(rater, {})
    asked = {agreement.unit_of(score) for score in scores if score.rater == rater}
    others: dict[Unit, list[int]] = {}
    for other in against:
        for unit, grade in table.get(other, {}).items():
            others.setdefault(unit, []).append(grade)
    middle = {unit: _middle(grades) for unit, grades in others.items()}
    alpha = agreement.krippendorff_alpha({rater: own, " and ".join(against): middle})
    return Reliability(rater, len(asked), len(own), alpha, _verdict(len(asked), len(own), alpha))


def _middle(grades: Sequence[int]) -> int:
    """The lower median, which is a grade that was given."""
    return sorted(grades)[(len(grades) - 1) // 2]


def _verdict(asked: int, graded: int, alpha: Agreement) -> Verdict:
    if asked and graded < READABLE * asked:
        return "unreliable"
    if alpha.value is None or alpha.low is None:
        return "unknown"
    if alpha.low >= RELIABLE:
        return "reliable"
    return "tentative" if alpha.low >= TENTATIVE else "unreliable"


MEANING: dict[Verdict, str] = {
    "reliable": "It can stand in for them on answers like these.",
    "tentative": "Take its grades as a hint and check the models that decide.",
    "unreliable": "Do not choose a model by its grades; a stronger judge can be named by its endpoint.",
    "unknown": "Too little is known of its grades: let people grade more of the same answers.",
}


def sentences(found: Reliability) -> tuple[str, ...]:
    """What was found, for people: how much could be read, how far it agrees, and what follows."""
    alpha = found.alpha
    said = [f"{found.rater} gave a grade that could be read to {found.graded} of {found.asked} answers."]
    if alpha.value is None:
        said.append(f"Its agreement is undefined. {alpha.reason}")
    else:
        between = f" (95 % CI {alpha.low:.2f} to {alpha.high:.2f})" if alpha.low is not None else ", no interval"
        said.append(f"Its agreement is alpha {alpha.value:.2f}{between} on {alpha.n} answers; 1 is full, 0 is chance.")
    said.append(MEANING[found.verdict])
    return tuple(said)


def order_sentences(bias: OrderBias) -> tuple[str, ...]:
    """What a rater's dependence on the order of two answers comes to, for people."""
    said = [f"{bias.n} pairs were read in both orders, {bias.unread} were not."]
    if bias.flip_rate is not None:
        said.append(f"The verdict changed with the order in {bias.flip_rate:.0%} of them; those count as ties.")
    if bias.first_rate is not None:
        said.append(f"{bias.first_rate:.0%} of the wins went to the answer shown first; 50 % is even.")
    return (*said, bias.reason) if bias.reason else tuple(said)
