"""Which model wins how often? Strengths from pairwise scores, with intervals over prompts.

A judge sees each pair in both orders: a win counts only if both agree, orders that disagree make a tie (Zheng et al.,
"Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena", 2023, section 3.4). A person sees a pair once, in drawn order.

Bradley and Terry's model ("Rank Analysis of Incomplete Block Designs", 1952): the odds that X beats Y are
exp(strength X - strength Y). Fitted by choix's I-LSR (Maystre and Grossglauser, "Fast and Accurate Inference of
Plackett-Luce Models", 2015). Ties count half for each; `both_bad` does not say which is better.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from workshop_lib import comparison
from workshop_lib.comparison import Estimate
from workshop_lib.quality.scores import JUDGE, AnswerKey, Score

ALPHA = 0.01
"""I-LSR's regularisation: keeps the strength of a model that never lost finite, and pulls all slightly together."""
RESAMPLES = 1_000
MAX_STEPS = 10_000

Authors = Mapping[AnswerKey, Collection[str]]
"""Answer → the models that gave it."""


class Pair(NamedTuple):
    """One rater's preferences on one pair of answers.

    `one` and `other` are their hashes in alphabetical order; `one_first` and `other_first` what was said when that
    answer was shown first: `one`, `other`, `tie`, `both_bad`, or None.
    """

    rater: str
    prompt_id: str
    one: str
    other: str
    one_first: str | None = None
    other_first: str | None = None

    @property
    def is_complete(self) -> bool:
        """True when both orders say something."""
        return self.one_first is not None and self.other_first is not None

    @property
    def outcome(self) -> str | None:
        """What counts; None when nothing was said, or only one order of a judge."""
        if self.is_complete:
            return self.one_first if self.one_first == self.other_first else "tie"
        return None if self.rater.startswith(JUDGE) else self.one_first or self.other_first


def pairs(scores: Iterable[Score]) -> list[Pair]:
    """The preferences, pair by pair; of those on the same order the last one counts, None withdraws it."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for score in scores:
        if not score.is_grade:
            one, other = sorted(score.answers)
            first, second = ("one", "other") if score.answers[0] == one else ("other", "one")
            orders = found.setdefault((score.rubric_version, score.rater, score.prompt_id, one, other), {})
            orders[f"{first}_first"] = {"a": first, "b": second}.get(str(score.value), score.value)
    return [Pair(*key[1:], **orders) for key, orders in found.items()]


@dataclass(frozen=True, slots=True)
class OrderBias:
    """How much a rater's preferences depend on which answer comes first.

    Attributes:
        flip_rate: share of the pairs, read in both orders, that changed with the order; 0 is best, None without pairs.
        first_rate: share of their wins that went to the answer shown first; 0.5 is best, None without wins.
        n, unread: pairs read in both orders, and pairs of which at least one order said nothing.
    """

    flip_rate: float | None
    first_rate: float | None
    n: int
    unread: int

    @property
    def sentences(self) -> tuple[str, ...]:
        """How much the order mattered; nothing where no pair was read in both orders."""
        said = [f"{self.n} pairs were read in both orders, {self.unread} were not."] if self.n else []
        if self.flip_rate is not None:
            said.append(f"The verdict changed with the order in {self.flip_rate:.0%} of them; those count as ties.")
        if self.first_rate is not None:
            said.append(f"{self.first_rate:.0%} of the wins went to the answer shown first; 50 % is even.")
        return tuple(said)


def order_bias(scores: Iterable[Score], rater: str) -> OrderBias:
    """Flip rate and first-position rate over the pairs that a rater judged in both orders."""
    seen = [pair for pair in pairs(scores) if pair.rater == rater]
    complete = [pair for pair in seen if pair.is_complete]
    flips = sum(pair.one_first != pair.other_first for pair in complete)
    first = sum((pair.one_first == "one") + (pair.other_first == "other") for pair in complete)
    last = sum((pair.one_first == "other") + (pair.other_first == "one") for pair in complete)
    return OrderBias(
        flip_rate=flips / len(complete) if complete else None,
        first_rate=first / (first + last) if first + last else None,
        n=len(complete),
        unread=len(seen) - len(complete),
    )


@dataclass(frozen=True, slots=True)
class Strength:
    """One model in a ranking.

    Attributes:
        value: logarithm of its strength, with its interval over prompts; the mean over the models is 0.
        best_share: how often it is the strongest when prompts are drawn again; None without an interval.
        wins: ties count half.
        comparisons: preferences that said something about it.
    """

    model: str
    value: Estimate
    best_share: float | None
    wins: float
    comparisons: int


@dataclass(frozen=True, slots=True)
class Ranking:
    """Models from strongest to weakest.

    Attributes:
        strengths: empty when the ranking is undefined.
        comparisons, prompts: preferences between two models that were used, and how many prompts they come from.
        reason: why there is no ranking, or no interval.
    """

    strengths: tuple[Strength, ...]
    comparisons: int
    prompts: int
    reason: str | None = None


def rank(scores: Iterable[Score], authors: Authors) -> Ranking:
    """Rank the models behind the answers that were compared; models that gave the same answer share its scores."""
    from scipy.sparse.csgraph import connected_components

    games = [game for pair in pairs(scores) for game in _games(pair, authors)]
    models = sorted({model for _, one, other, _ in games for model in (one, other)})
    prompts = sorted({prompt for prompt, *_ in games})
    by_prompt = np.zeros((len(prompts), len(models), len(models)))  # wins by [prompt, winner, loser]
    for prompt, one, other, share in games:
        place, winner, loser = prompts.index(prompt), models.index(one), models.index(other)
        by_prompt[place, winner, loser] += share
        by_prompt[place, loser, winner] += 1 - share
    won = by_prompt.sum(axis=0)
    if not games:
        return Ranking((), 0, 0, "No verdict says which of two models is better.")
    _, group = connected_components(won, directed=False)
    if group.any():
        linked, apart = (", ".join(np.array(models)[(group > 0) == away]) for away in (False, True))
        why = f"No comparison links {apart} with {linked}: compare some of them with each other."
        return Ranking((), len(games), len(prompts), why)
    values, few = _fit(won), len(prompts) < comparison.FEWEST_PROMPTS
    draws = comparison.draws(len(prompts), 20, 1 if few else RESAMPLES)
    drawn = np.array([_fit(by_prompt[draw].sum(axis=0)) for draw in draws])
    top = drawn >= drawn.max(axis=1, keepdims=True) - 1e-9  # several strongest share a draw
    best = (top / top.sum(axis=1, keepdims=True)).mean(axis=0)
    found = [
        Strength(
            model,
            comparison.estimate(float(values[place]), len(prompts), drawn[:, place]),
            best_share=None if few else float(best[place]),
            wins=float(won[place].sum()),
            comparisons=round(won[place].sum() + won[:, place].sum()),
        )
        for place, model in enumerate(models)
    ]
    found.sort(key=lambda strength: -(strength.value.value or 0))
    return Ranking(tuple(found), len(games), len(prompts), found[0].value.reason)


def _games(pair: Pair, authors: Authors) -> list[tuple[str, str, str, float]]:
    """Prompt, model, model, and how much of a win the first one had: 1, 0.5 or 0."""
    share = {"one": 1.0, "other": 0.0, "tie": 0.5}.get(pair.outcome or "")
    if share is None:
        return []
    ones, others = (authors.get((pair.prompt_id, hashed), ()) for hashed in (pair.one, pair.other))
    return [(pair.prompt_id, one, other, share) for one in ones for other in others if one != other]


def _fit(won: np.ndarray) -> np.ndarray:
    """Strengths with mean 0."""
    import choix

    values = choix.ilsr_pairwise_dense(won, alpha=ALPHA, max_iter=MAX_STEPS)
    return np.asarray(values - values.mean())
