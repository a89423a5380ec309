"""Which model wins how often? Strengths from pairwise verdicts, with intervals over prompts.

Bradley and Terry's model ("Rank Analysis of Incomplete Block Designs", 1952): the odds that X beats Y are
exp(strength X - strength Y). Fitted by choix's I-LSR (Maystre and Grossglauser, "Fast and Accurate Inference of
Plackett-Luce Models", 2015). Ties count half for each, `both_bad` says nothing about which is better.

`ALPHA` is I-LSR's regularisation: a rate that runs between every two models before any verdict is seen. It keeps the
strength of a model that never lost finite, and pulls all strengths slightly together. Knows pairs of answers and which
models gave them. Knows no files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workshop_lib import compare
from workshop_lib.errors import ConfigurationError
from workshop_lib.verdicts.pairs import Pair, pairs
from workshop_lib.verdicts.scores import Preference

if TYPE_CHECKING:
    import numpy as np

ALPHA = 0.01
RESAMPLES = 1_000
MAX_STEPS = 10_000

Authors = Mapping[tuple[str, str], Collection[str]]
"""(prompt, hash of an answer) → the models that gave it."""

Game = tuple[str, str, str, float]
"""Prompt, model, model, and how much of a win the first one had: 1, 0.5 or 0."""


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
        comparisons: verdicts between two models that were used.
        prompts: how many prompts they come from.
        alpha: the regularisation.
        reason: why there is no ranking, or no interval; None when both are there.
        remarks: what a reader must know of single strengths.
    """

    strengths: tuple[Strength, ...]
    comparisons: int
    prompts: int
    alpha: float
    reason: str | None = None
    remarks: tuple[str, ...] = ()


def rank(preferences: Iterable[Preference], authors: Authors, *, alpha: float = ALPHA, seed: int = 20) -> Ranking:
    """Rank the models behind the answers that were compared.

    Models that gave the same answer share its verdicts.

    Raises:
        ConfigurationError: alpha is not above 0.
    """
    if not alpha > 0:
        raise ConfigurationError(f"alpha is {alpha}.", "Give a number above 0, such as 0.01.")
    games = [game for pair in pairs(preferences) for game in _games(pair, authors)]
    models = sorted({model for game in games for model in game[1:3]})
    prompts = len({game[0] for game in games})
    reason = _undefined(models, games)
    if reason:
        return Ranking((), len(games), prompts, alpha, reason)
    by_prompt = _won(games, models)
    values = _fit(by_prompt.sum(axis=0), alpha)
    drawn = None
    if prompts < compare.FEWEST_PROMPTS:
        reason = f"{prompts} prompts are too few for an interval."
    else:
        drawn = _drawn(by_prompt, alpha, seed)
    strengths = _strengths(models, values, drawn, by_prompt.sum(axis=0))
    return Ranking(strengths, len(games), prompts, alpha, reason, _remarks(strengths))


def _games(pair: Pair, authors: Authors) -> list[Game]:
    won = {"one": 1.0, "other": 0.0, "tie": 0.5}.get(pair.outcome or "")
    if won is None:
        return []
    sides = [authors.get((pair.prompt_id, sha256), ()) for sha256 in (pair.one, pair.other)]
    return [(pair.prompt_id, one, other, won) for one in sides[0] for other in sides[1] if one != other]


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


def _won(games: Sequence[Game], models: Sequence[str]) -> np.ndarray:
    """Wins per prompt: `[prompt, winner, loser]`."""
    import numpy as np

    place = {model: index for index, model in enumerate(models)}
    prompts = {prompt: index for index, prompt in enumerate(sorted({game[0] for game in games}))}
    won = np.zeros((len(prompts), len(models), len(models)))
    for prompt, one, other, share in games:
        won[prompts[prompt], place[one], place[other]] += share
        won[prompts[prompt], place[other], place[one]] += 1 - share
    return won


def _fit(won: np.ndarray, alpha: float) -> np.ndarray:
    """Strengths with mean 0. The only use of the library."""
    import choix

    values = choix.ilsr_pairwise_dense(won, alpha=alpha, max_iter=MAX_STEPS)
    centred: np.ndarray = values - values.mean()
    return centred


def _drawn(by_prompt: np.ndarray, alpha: float, seed: int) -> np.ndarray:
    import numpy as np

    rows = compare.draws(len(by_prompt), seed, RESAMPLES)
    return np.array([_fit(by_prompt[row].sum(axis=0), alpha) for row in rows])


def _strengths(
    models: Sequence[str], values: np.ndarray, drawn: np.ndarray | None, won: np.ndarray
) -> tuple[Strength, ...]:
    import numpy as np

    best = [None] * len(models) if drawn is None else _best_shares(drawn)
    found = []
    for place, model in enumerate(models):
        low, high = (None, None) if drawn is None else compare.interval(drawn[:, place]) or (None, None)
        wins = float(won[place].sum())
        comparisons = round(wins + float(won[:, place].sum()))
        found.append(Strength(model, float(values[place]), low, high, best[place], wins, comparisons))
    order = np.argsort(-values, kind="stable")
    return tuple(found[place] for place in order)


def _best_shares(drawn: np.ndarray) -> list[float]:
    """How often each is the strongest; draws with several strongest are shared between them."""
    top = drawn >= drawn.max(axis=1, keepdims=True) - 1e-9
    shares: list[float] = (top / top.sum(axis=1, keepdims=True)).mean(axis=0).tolist()
    return shares


def _remarks(strengths: Sequence[Strength]) -> tuple[str, ...]:
    won = [each.model for each in strengths if each.wins == each.comparisons]
    lost = [each.model for each in strengths if not each.wins]
    said = []
    for names, what in ((won, "won"), (lost, "lost")):
        if names:
            said.append(f"{', '.join(names)} {what} every comparison: how far it stands apart is set by alpha.")
    few = Counter(each.comparisons for each in strengths)
    if len(few) > 1:
        said.append(f"Models were compared {min(few)} to {max(few)} times: those compared less are less certain.")
    return tuple(said)
