"""Two answers, shown in both orders: what a rater's verdicts on one pair come to, and how much the order mattered.

A judge's win counts only if both orders agree; orders that disagree make a tie (Zheng et al., "Judging LLM-as-a-Judge
with MT-Bench and Chatbot Arena", 2023, section 3.4). A person is shown a pair once, in a random order, and that
verdict counts. Knows preferences. Knows no models.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from workshop_lib.verdicts.scores import Choice, Preference

JUDGE = "judge:"
"""How the names of raters that are models begin."""

Outcome = Literal["one", "other", "tie", "both_bad"]


@dataclass(frozen=True, slots=True)
class Pair:
    """One rater's verdicts on one pair of answers.

    Attributes:
        one, other: hashes of the two answers, in alphabetical order.
        one_first, other_first: the verdict when that answer was shown first; None when there was none.
    """

    rater: str
    prompt_id: str
    one: str
    other: str
    rubric_version: str
    one_first: Outcome | None = None
    other_first: Outcome | None = None

    @property
    def is_complete(self) -> bool:
        """True when a verdict could be read in both orders."""
        return self.one_first is not None and self.other_first is not None

    @property
    def is_flipped(self) -> bool:
        """True when the two orders gave different verdicts."""
        return self.is_complete and self.one_first != self.other_first

    @property
    def outcome(self) -> Outcome | None:
        """What counts; None when there is no verdict, or only one order of a judge."""
        if self.is_complete:
            return self.one_first if not self.is_flipped else "tie"
        return None if self.rater.startswith(JUDGE) else self.one_first or self.other_first


def pairs(preferences: Iterable[Preference]) -> tuple[Pair, ...]:
    """The preferences, pair by pair; of verdicts on the same order the last one counts, None withdraws it."""
    found: dict[tuple[str, str, str, str, str], dict[bool, Outcome | None]] = {}
    for each in preferences:
        if each.a_sha256 == each.b_sha256:
            continue  # an answer beside itself says nothing
        one, other = sorted((each.a_sha256, each.b_sha256))
        key = (each.rater, each.prompt_id, one, other, each.rubric_version)
        is_one_first = each.a_sha256 == one
        found.setdefault(key, {})[is_one_first] = _outcome(each.choice, is_one_first=is_one_first)
    return tuple(Pair(*key, verdicts.get(True), verdicts.get(False)) for key, verdicts in found.items())


def _outcome(choice: Choice | None, *, is_one_first: bool) -> Outcome | None:
    if choice == "a":
        return "one" if is_one_first else "other"
    if choice == "b":
        return "other" if is_one_first else "one"
    return choice


@dataclass(frozen=True, slots=True)
class OrderBias:
    """How much a rater's verdicts depend on which answer comes first.

    Attributes:
        flip_rate: share of the pairs, read in both orders, whose verdict changed with the order; 0 is best.
        first_rate: share of their wins that went to the answer shown first; 0.5 is best.
        n: pairs read in both orders.
        unread: pairs of which at least one order gave no verdict.
        reason: why a rate is None; None when both are there.
    """

    flip_rate: float | None
    first_rate: float | None
    n: int
    unread: int
    reason: str | None = field(default=None)


def order_bias(seen: Iterable[Pair]) -> OrderBias:
    """Flip rate and first-position rate over the pairs that were read in both orders."""
    seen = tuple(seen)
    complete = [pair for pair in seen if pair.is_complete]
    unread = len(seen) - len(complete)
    if not complete:
        return OrderBias(None, None, 0, unread, "No pair has a verdict in both orders.")
    flipped = sum(pair.is_flipped for pair in complete) / len(complete)
    first = sum((pair.one_first == "one") + (pair.other_first == "other") for pair in complete)
    last = sum((pair.one_first == "other") + (pair.other_first == "one") for pair in complete)
    if not first + last:
        return OrderBias(flipped, None, len(complete), unread, "No verdict named a winner.")
    return OrderBias(flipped, first / (first + last), len(complete), unread)
