"""Did the server answer repeated prompts from a cache? Judged by time, for servers that do not say so. Pure.

A prompt that was never asked before must be read in full; a cache of prompt prefixes spares that from the second
round on, so that the first token comes sooner while the rest of the answer takes as long as ever.
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median
from typing import NamedTuple

FIRST_OVER_LATER = 2.0
"""A first time that takes more than twice as long as later ones is no ordinary noise."""

ENOUGH_LATER_ANSWERS = 4


class Answered(NamedTuple):
    """One successful first attempt: its prompt and round, seconds to the first token and from there to the end."""

    prompt_id: str
    round: int
    first_token_s: float
    rest_s: float


def looks_cached(answers: Iterable[Answered]) -> bool:
    """True when first tokens came sooner once a prompt had been asked before.

    For each prompt the time to first token of round 1 is divided by the median of its later rounds, and likewise the
    time from there to the end. The prompt was cached where the median over prompts of the first ratio is above
    `FIRST_OVER_LATER` times that of the second (not below 1): a machine that was busy in the first round slows the
    whole answer down, a cache only quickens its beginning. Without `ENOUGH_LATER_ANSWERS` later answers nothing is
    said. The warm-up is another text (see `Plan`) and takes no part.
    """
    first: dict[str, Answered] = {}
    starts: dict[str, list[float]] = {}
    rests: dict[str, list[float]] = {}
    for answer in answers:
        if answer.round == 1:
            first[answer.prompt_id] = answer
        else:
            starts.setdefault(answer.prompt_id, []).append(answer.first_token_s)
            rests.setdefault(answer.prompt_id, []).append(answer.rest_s)
    both = [prompt_id for prompt_id in first if prompt_id in starts]
    if sum(len(starts[prompt_id]) for prompt_id in both) < ENOUGH_LATER_ANSWERS:
        return False
    sooner = median(_over(first[each].first_token_s, starts[each]) for each in both)
    slower = median(_over(first[each].rest_s, rests[each]) for each in both)
    return sooner > FIRST_OVER_LATER * max(1.0, slower)


def _over(first_s: float, later_s: list[float]) -> float:
    usual_s = median(later_s)
    return first_s / usual_s if usual_s > 0 else 1.0
