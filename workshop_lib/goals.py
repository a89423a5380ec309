"""Service goals: what share of the requests had their first token, and their whole answer, in time?

Goals are floors of `choice.decide`, in seconds: `check_floors(first_token=0.3, latency=1.0)`; other floors are none. A
promise to a user is broken by an error, too: a request that failed, or whose answer shows no text, keeps no goal. A
repeated request counts once, by its first attempt. Prompts that do not fit a model are counted apart, as in every other
figure, and requests that were never sent are not counted.

The interval is Wilson's for a share (Wilson 1927; advised for few tries by Brown, Cai and DasGupta 2001). Its tries are
the different prompts, not the requests: asking a prompt again gives nearly the same time and is no new try.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from statistics import NormalDist
from typing import NamedTuple

from workshop_lib import timing
from workshop_lib.comparison import CONFIDENCE, Estimate
from workshop_lib.precision import percent
from workshop_lib.records import Completion, Key, Run
from workshop_lib.show.text import NOT_MEASURED
from workshop_lib.summary import by_variant

Goals = Mapping[str, float]
MEASURES = {"first_token": ("first token", timing.first_token_s), "latency": ("whole answer", timing.latency_s)}


class Kept(NamedTuple):
    """How many requests kept the goals, None where some cannot be judged; `left_out` more do not fit the model."""

    kept: int | None
    requests: int
    left_out: int
    share: Estimate

    def __str__(self) -> str:
        return NOT_MEASURED if self.share.value is None else f"{self.kept} of {self.requests}, {percent(self.share)}"


def describe(goals: Goals) -> str:
    """The goals in words: `first token within 0.3 s, whole answer within 1 s`."""
    known = ((label, goals[name]) for name, (label, _) in MEASURES.items() if name in goals)
    return ", ".join(f"{label} within {goal_s:g} s" for label, goal_s in known) or "answered at all"


def are_kept(completion: Completion, goals: Goals) -> bool | None:
    """Whether one request kept the goals; None where it may have, but its first token was not seen."""
    if completion.is_empty or not completion.ok:
        return False
    times = [(measure(completion), goals[name]) for name, (_, measure) in MEASURES.items() if name in goals]
    in_time = [None if took_s is None else took_s <= goal_s for took_s, goal_s in times]
    return False if False in in_time else None if None in in_time else True


def count(completions: Iterable[Completion], goals: Goals) -> Kept:
    """Count the timed requests that kept the goals, with their share from 0 to 1."""
    asked = [each for each in completions if each.round > 0 and each.attempt == 1]
    fitting = [each for each in asked if each.fits]
    judged, prompts = [are_kept(each, goals) for each in fitting], len({each.prompt_id for each in fitting})
    kept = None if None in judged else judged.count(True)
    share = None if kept is None or not judged else kept / len(judged)
    ends = (None, None) if share is None else wilson(share * prompts, prompts)
    return Kept(kept, len(judged), len(asked) - len(judged), Estimate(share, *ends, n=prompts))


def by_model(run: Run, goals: Goals) -> dict[Key, Kept]:
    """The count of each model and device that was asked; one that was skipped has none."""
    return {model: count(each, goals) for model, each in by_variant(run).items()}


def wilson(kept: float, tries: int) -> tuple[float | None, float | None]:
    """The ends of the 95 % interval of a share, by Wilson's score; None without a try."""
    if not tries:
        return None, None
    z2 = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2) ** 2
    middle = (kept + z2 / 2) / (tries + z2)
    reach = math.sqrt(z2 * (kept * (tries - kept) / tries + z2 / 4)) / (tries + z2)
    return max(0.0, middle - reach), min(1.0, middle + reach)
