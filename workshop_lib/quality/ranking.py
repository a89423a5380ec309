"""Which model wins how often? Strengths from pairwise verdicts, with intervals over prompts.

A judge sees each pair in both orders: a win counts only if both agree, orders that disagree make a tie (Zheng et al.,
"Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena", 2023, section 3.4). A person sees a pair once, in drawn order.

Bradley and Terry's model ("Rank Analysis of Incomplete Block Designs", 1952): the odds that X beats Y are
exp(strength X - strength Y). Fitted by choix's I-LSR (Maystre and Grossglauser, "Fast and Accurate Inference of
Plackett-Luce Models", 2015). Ties count half for each; `both_bad` does not say which is better.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workshop_lib import comparison
from workshop_lib.quality.scores import JUDGE, AnswerKey, Preference

ALPHA = 0.01
"""I-LSR's regularisation: keeps the strength of a model that never lost finite, and pulls all slightly together."""
RESAMPLES = 1_000
MAX_STEPS = 10_000

Authors = Mapping[AnswerKey, Collection[str]]
"""Answer → the models that gave it."""

Game = tuple[str, str, str, float]
"""Prompt, model, model, and how much of a win the first one had: 1, 0.5 or 0."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One rater's verdicts on one pair of answers.

    Attributes:
        one, other: hashes of the two answers, in alphabetical order.
        one_first, other_first: the verdict when that answer was shown first: `one`, `other`, `tie`, `both_bad` or None.
    """

    rater: str
    prompt_id: str
    one: str
    other: str
    one_first: str | None = None
    other_first: str | None = None

    @property
    def is_complete(self) -> bool:
        """True when a verdict could be read in both orders."""
        return self.one_first is not None and self.other_first is not None

    @property
    def outcome(self) -> str | None:
        """What counts; None when there is no verdict, or only one order of a judge."""
        if self.is_complete:
            return self.one_first if self.one_first == self.other_first else "tie"
        return None if self.rater.startswith(JUDGE) else self.one_first or self.other_first


def pairs(preferences: Iterable[Preference]) -> tuple[Pair, ...]:
    """The preferences, pair by pair; of verdicts on the same order the last one counts, None withdraws it."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for given in preferences:
        one, other = sorted((given.a_sha256, given.b_sha256))
        names = ("one", "other") if given.a_sha256 == one else ("other", "one")
        key = (given.rubric_version, given.rater, given.prompt_id, one, other)
        outcome = dict(zip("ab", names, strict=True)).get(str(given.choice), given.choice)
        found.setdefault(key, {})[f"{names[0]}_first"] = outcome
    return tuple(Pair(*key[1:], **orders) for key, orders in found.items())


@dataclass(frozen=True, slots=True)
class OrderBias:
    """How much a rater's verdicts depend on which answer comes first.

    Attributes:
        flip_rate: share of the pairs, read in both orders, whose verdict changed with the order; 0 is best.
        first_rate: share of their wins that went to the answer shown first; 0.5 is best.
        n, unread: pairs read in both orders, and pairs of which at least one order gave no verdict.
        reason: why a rate is None.
    """

    flip_rate: float | None
    first_rate: float | None
    n: int
    unread: int
    reason: str | None = None


def order_bias(seen: Sequence[Pair]) -> OrderBias:
    """Flip rate and first-position rate over the pairs that were read in both orders."""
    complete = [pair for pair in seen if pair.is_complete]
    unread = len(seen) - len(complete)
    if not complete:
        return OrderBias(None, None, 0, unread, "No pair has a verdict in both orders.")
    flips = sum(pair.one_first != pair.other_first for pair in complete) / len(complete)
    first = sum((pair.one_first == "one") + (pair.other_first == "other") for pair in complete)
    last = sum((pair.one_first == "other") + (pair.other_first == "one") for pair in complete)
    if not first + last:
        return OrderBias(flips, None, len(complete), unread, "No verdict named a winner.")
    return OrderBias(flips, first / (first + last), len(complete), unread)


@dataclass(frozen=True, slots=True)
class Strength:
    """One model in a ranking.

    Attributes:
        value: logarithm of its strength; the mean over the models is 0.
        low, high: interval over prompts; None when there is none.
        best_share: how often it is the strongest when prompts are drawn again; None without an interval.
        wins: ties count half.
        comparisons: verdicts that said something about it.
    """

    model: str
    value: float
    low: float | None
    high: float | None
    best_share: float | None
    wins: float
    comparisons: int


@dataclass(frozen=True, slots=True)
class Ranking:
    """Models from strongest to weakest.

    Attributes:
        strengths: empty when the ranking is undefined.
        comparisons, prompts: verdicts between two models that were used, and how many prompts they come from.
        reason: why there is no ranking, or no interval.
    """

    strengths: tuple[Strength, ...]
    comparisons: int
    prompts: int
    reason: str | None = None


def rank(preferences: Iterable[Preference], authors: Authors, *, seed: int = 20) -> Ranking:
    """Rank the models behind the answers that were compared; models that gave the same answer share its verdicts."""
    games = [game for pair in pairs(preferences) for game in _games(pair, authors)]
    models = sorted({model for game in games for model in game[1:3]})
    prompts = len({game[0] for game in games})
    if reason := _undefined(models, games):
        return Ranking((), len(games), prompts, reason)
    by_prompt = _wins(games, models)
    won = by_prompt.sum(axis=0)
    values = _fit(won)
    lows: Sequence[float | None] = [None] * len(models)
    highs, best = lows, lows
    if prompts < comparison.FEWEST_PROMPTS:
        reason = f"{prompts} prompts are too few for an interval."
    else:
        draws = comparison.draws(prompts, seed, RESAMPLES)
        drawn = np.array([_fit(by_prompt[draw].sum(axis=0)) for draw in draws])
        lows, highs = zip(*(comparison.interval(column) or (None, None) for column in drawn.T), strict=True)
        top = drawn >= drawn.max(axis=1, keepdims=True) - 1e-9  # several strongest share a draw
        best = (top / top.sum(axis=1, keepdims=True)).mean(axis=0).tolist()
    wins = won.sum(axis=1).tolist()
    counts = (won + won.T).sum(axis=1).round().astype(int).tolist()
    found = list(map(Strength, models, values.tolist(), lows, highs, best, wins, counts))
    found.sort(key=lambda strength: -strength.value)
    return Ranking(tuple(found), len(games), prompts, reason)


def _games(pair: Pair, authors: Authors) -> list[Game]:
    share = {"one": 1.0, "other": 0.0, "tie": 0.5}.get(pair.outcome or "")
    if share is None:
        return []
    ones, others = (authors.get((pair.prompt_id, hashed), ()) for hashed in (pair.one, pair.other))
    return [(pair.prompt_id, one, other, share) for one in ones for other in others if one != other]


def _undefined(models: Sequence[str], games: Sequence[Game]) -> str | None:
    if not games:
        return "No verdict says which of two models is better."
    group = {model: {model} for model in models}
    for _, one, other, _ in games:
        joined = group[one] | group[other]
        group.update(dict.fromkeys(joined, joined))
    apart = [model for model in models if model not in group[models[0]]]
    if apart:
        linked = ", ".join(sorted(group[models[0]]))
        return f"No comparison links {', '.join(apart)} with {linked}: compare some of them with each other."
    return None


def _wins(games: Sequence[Game], models: Sequence[str]) -> np.ndarray:
    """Wins by `[prompt, winner, loser]`."""
    place = {model: index for index, model in enumerate(models)}
    prompts = {prompt: index for index, prompt in enumerate(sorted({game[0] for game in games}))}
    won = np.zeros((len(prompts), len(models), len(models)))
    for prompt, one, other, share in games:
        won[prompts[prompt], place[one], place[other]] += share
        won[prompts[prompt], place[other], place[one]] += 1 - share
    return won


def _fit(won: np.ndarray) -> np.ndarray:
    """Strengths with mean 0."""
    import choix

    values = choix.ilsr_pairwise_dense(won, alpha=ALPHA, max_iter=MAX_STEPS)
    return np.asarray(values - values.mean())
