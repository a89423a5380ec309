"""Which model wins how often? Strengths from pairwise scores, with intervals over prompts.

A judge sees each pair in both orders: a win counts only if both agree, orders that disagree make a tie (Zheng et al.,
"Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena", 2023, section 3.4). A person sees a pair once, in drawn order.

Bradley and Terry's model ("Rank Analysis of Incomplete Block Designs", 1952): the odds that X beats Y are
exp(strength X - strength Y). Fitted by choix's I-LSR (Maystre and Grossglauser, "Fast and Accurate Inference of
Plackett-Luce Models", 2015). Ties count half for each; `both_bad` does not say which is better.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from workshop_lib import comparison
from workshop_lib.quality.scores import JUDGE, Answer, AnswerKey, Score, Value
from workshop_lib.show.table import Table

ALPHA = 0.01
"""I-LSR's regularisation: keeps the strength of a model that never lost finite, and pulls all slightly together."""
RESAMPLES = 1_000
MAX_STEPS = 10_000


class Pair(NamedTuple):
    """One rater's preferences on a pair of answers, known by their hashes in alphabetical order.

    `first` is what was said when `one` was shown first, `turned` when `other` was: `a` where `one` is better, `b`
    where `other` is, `tie`, `both_bad`, or None.
    """

    rater: str
    prompt_id: str
    one: str
    other: str
    first: Value
    turned: Value

    @property
    def outcome(self) -> Value:
        """What counts; None when nothing was said, or only one order of a judge."""
        if self.first and self.turned:
            return self.first if self.first == self.turned else "tie"
        return None if self.rater.startswith(JUDGE) else self.first or self.turned


def pairs(scores: Iterable[Score]) -> list[Pair]:
    """The preferences, pair by pair; of those on the same order the last one counts, None withdraws it."""
    found: dict[tuple[str, ...], list[Value]] = {}
    for score in scores:
        if not score.is_grade:
            one, other = sorted(score.answers)
            is_turned, swapped = score.answers[0] == other, {"a": "b", "b": "a"}.get(str(score.value), score.value)
            said = found.setdefault((score.rubric_version, score.rater, score.prompt_id, one, other), [None, None])
            said[is_turned] = swapped if is_turned else score.value
    return [Pair(*key[1:], *said) for key, said in found.items()]


def order_bias(scores: Iterable[Score], rater: str) -> list[str]:
    """How much a rater's preferences depend on which answer comes first; empty where no pair was read in both orders.

    The flip rate is the share of pairs whose verdict changed with the order, 0 is best; the first-position rate the
    share of wins that went to the answer shown first, 0.5 is best.
    """
    seen = [pair for pair in pairs(scores) if pair.rater == rater]
    read = [pair for pair in seen if pair.first and pair.turned]
    if not read:
        return []
    flips = sum(pair.first != pair.turned for pair in read)
    first = sum((pair.first == "a") + (pair.turned == "b") for pair in read)
    last = sum((pair.first == "b") + (pair.turned == "a") for pair in read)
    said = [
        f"{len(read)} pairs were read in both orders, {len(seen) - len(read)} were not.",
        f"The verdict changed with the order in {flips / len(read):.0%} of them; those count as ties.",
    ]
    if first + last:
        said.append(f"{first / (first + last):.0%} of the wins went to the answer shown first; 50 % is even.")
    return said


def rank(scores: Iterable[Score], answers: Iterable[Answer]) -> Table:
    """One line per model behind the answers that were compared, strongest first; else the reason why there is none.

    Models that gave the same answer share its scores. A strength is a logarithm with mean 0 over the models, its
    interval is over prompts; of fewer than three there is none. *Is the best* counts the draws of prompts in which the
    model is the strongest. In *wins* a tie is half a win; *comparisons* are those that said something about the model.
    """
    authors = {answer.key: {author.model_id for author in answer.authors} for answer in answers}
    games = [game for pair in pairs(scores) for game in _games(pair, authors)]
    models = sorted({model for _, *both, _ in games for model in both})
    prompts = sorted({prompt for prompt, *_ in games})
    by_prompt = np.zeros((len(prompts), len(models), len(models)))  # wins by [prompt, winner, loser]
    for prompt, one, other, share in games:
        place, winner, loser = prompts.index(prompt), models.index(one), models.index(other)
        by_prompt[place, winner, loser] += share
        by_prompt[place, loser, winner] += 1 - share
    won = by_prompt.sum(axis=0)
    if reason := _undefined(models, won):
        return Table.of([[reason]], "no ranking")
    values, few = fit(won), len(prompts) < comparison.FEWEST_PROMPTS
    draws = comparison.draws(len(prompts), 20, 1 if few else RESAMPLES)
    drawn = np.array([fit(by_prompt[draw].sum(axis=0)) for draw in draws])
    top = drawn >= drawn.max(axis=1, keepdims=True) - 1e-9  # several strongest share a draw
    best = (top / top.sum(axis=1, keepdims=True)).mean(axis=0)
    lines = []
    for place in np.argsort(-values, kind="stable"):
        between = None if few else comparison.interval(drawn[:, place])
        interval = f"{between[0]:.2f} to {between[1]:.2f}" if between else "none"
        is_best = "unknown" if few else f"{best[place]:.0%} of draws"
        wins, losses = float(won[place].sum()), float(won[:, place].sum())
        lines.append((models[place], f"{values[place]:.2f}", interval, is_best, wins, round(wins + losses)))
    return Table.of(lines, "model", "strength", "95 % CI", "is the best", "wins", "comparisons")


def _games(pair: Pair, authors: Mapping[AnswerKey, Collection[str]]) -> list[tuple[str, str, str, float]]:
    """Prompt, model, model, and how much of a win the first one had: 1, 0.5 or 0."""
    share = {"a": 1.0, "b": 0.0, "tie": 0.5}.get(str(pair.outcome))
    if share is None:
        return []
    ones, others = (authors.get((pair.prompt_id, hashed), ()) for hashed in (pair.one, pair.other))
    return [(pair.prompt_id, one, other, share) for one in ones for other in others if one != other]


def _undefined(models: list[str], won: np.ndarray) -> str | None:
    """Why there is no ranking: no wins, or no comparison that links some models with the others."""
    from scipy.sparse.csgraph import connected_components

    if not models:
        return "No verdict says which of two models is better."
    _, group = connected_components(won, directed=False)
    if not group.any():
        return None
    linked, apart = (", ".join(np.array(models)[(group > 0) == away]) for away in (False, True))
    return f"No comparison links {apart} with {linked}: compare some of them with each other."


def fit(won: np.ndarray) -> np.ndarray:
    """Strengths with mean 0 from a table of wins by winner and loser."""
    import choix

    values = choix.ilsr_pairwise_dense(won, alpha=ALPHA, max_iter=MAX_STEPS)
    return np.asarray(values - values.mean())
