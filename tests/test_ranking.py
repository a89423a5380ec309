"""Verdicts in both orders become outcomes, and outcomes become strengths."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from workshop_lib.quality import ranking
from workshop_lib.quality.ranking import fit, order_bias, rank
from workshop_lib.quality.scores import Answer, Score
from workshop_lib.records import ModelVariant, Prompt

AGRESTI_BASEBALL = """
Milwaukee  0 7 9 7 7 9 11
Detroit    6 0 7 5 11 9 9
Toronto    4 6 0 7 7 8 12
NewYork    6 8 6 0 6 7 10
Boston     6 2 6 7 0 7 12
Cleveland  4 4 5 6 6 0 6
Baltimore  2 4 1 3 1 7 0
"""
AGRESTI_STRENGTHS = [1.58, 1.44, 1.29, 1.25, 1.11, 0.68, 0.00]


def sha(model: str, prompt: str) -> str:
    return Answer(Prompt(prompt, "?"), f"{model} on {prompt}").sha256


def verdict(first: str, second: str, choice: str | None, prompt: str = "p", rater: str = "ada") -> Score:
    shown = (sha(first, prompt), sha(second, prompt))
    return Score(rater, prompt, shown, choice, "1", "2026-01-01T00:00:00+00:00")


def answers(models: str, prompts: Sequence[str] = ("p",)) -> list[Answer]:
    authors = {model: (ModelVariant(model, model, "cpu"),) for model in models.split()}
    return [
        Answer(Prompt(prompt, "?"), f"{model} on {prompt}", by) for model, by in authors.items() for prompt in prompts
    ]


def wins(given_: list[Score], known: list[Answer]) -> dict[str, tuple[float, int]]:
    """Model → wins and comparisons."""
    return {line["model"]: (line["wins"], line["comparisons"]) for line in rank(given_, known).to_dict("records")}


def test_strengths_are_agresti_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """Agresti, "Categorical Data Analysis", table 10.10: American League 1987, strengths against Baltimore's."""
    monkeypatch.setattr(ranking, "ALPHA", 1e-9)
    won = np.array([line.split()[1:] for line in AGRESTI_BASEBALL.strip().splitlines()], dtype=float)
    assert (fit(won) - fit(won)[-1]).round(2).tolist() == AGRESTI_STRENGTHS


def test_odds_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """X wins 3 of 4 against Y: the odds are 3, so the strengths are plus and minus half of ln 3, 0.549."""
    given_ = [verdict("x", "y", choice, f"p{place}") for place, choice in enumerate("aaab")]
    monkeypatch.setattr(ranking, "ALPHA", 1e-9)
    x, y = rank(given_, answers("x y", ["p0", "p1", "p2", "p3"])).to_dict("records")
    assert (x["strength"], y["strength"], x["wins"], y["wins"], x["comparisons"]) == ("0.55", "-0.55", 3, 1, 4)
    low, high = map(float, x["95 % CI"].split(" to "))
    assert low < 0.55 < high
    shares = [int(line["is the best"].removesuffix("% of draws")) for line in (x, y)]
    assert 99 <= sum(shares) <= 101


def test_a_tie_is_half_a_win_for_each_and_both_bad_is_nothing() -> None:
    """One win, one tie and one `both_bad` are two comparisons and one and a half wins; of two prompts, no interval."""
    given_ = [verdict("x", "y", choice, f"p{place}") for place, choice in enumerate(["a", "tie", "both_bad"])]
    known = answers("x y", ["p0", "p1", "p2"])
    assert wins(given_, known) == {"x": (1.5, 2), "y": (0.5, 2)}
    assert set(rank(given_, known)["95 % CI"]) == {"none"} and set(rank(given_, known)["is the best"]) == {"unknown"}


UNDEFINED = [
    ([], "No verdict says which of two models is better."),
    ([verdict("x", "y", "both_bad")], "No verdict says which of two models is better."),
    ([verdict("x", "y", None)], "No verdict says which of two models is better."),
    ([verdict("x", "y", "a"), verdict("v", "w", "b")],
     "No comparison links x, y with v, w: compare some of them with each other."),
]  # fmt: skip


@pytest.mark.parametrize(("given_", "reason"), UNDEFINED)
def test_an_undefined_ranking_says_why(given_: list[Score], reason: str) -> None:
    """Without verdicts, or with two groups that never met, there is no common scale."""
    assert rank(given_, answers("v w x y")).to_numpy().tolist() == [[reason]]


def test_models_with_the_same_answer_share_its_verdicts() -> None:
    """Where X and Z said the same and it beat Y, both beat Y; Z does not play against X."""
    x, y = answers("x y")
    both = replace(x, authors=(*x.authors, ModelVariant("z", "z", "cpu")))
    assert wins([verdict("x", "y", "a")], [both, y]) == {"x": (1, 1), "z": (1, 1), "y": (0, 2)}


ORDERS = [
    ("judge:m", "a", "b", 1.0),
    ("judge:m", "a", "a", 0.5),
    ("judge:m", "b", "b", 0.5),
    ("judge:m", "a", "tie", 0.5),
    ("judge:m", "tie", "tie", 0.5),
    ("judge:m", "both_bad", "both_bad", None),
    ("judge:m", "a", None, None),
    ("judge:m", None, None, None),
    ("ada", "a", None, 1.0),
    ("ada", "a", "a", 0.5),
]


@pytest.mark.parametrize(("rater", "forward", "backward", "won"), ORDERS)
def test_a_win_counts_only_if_both_orders_agree(
    rater: str, forward: str | None, backward: str | None, won: float | None
) -> None:
    """X first, then Y first; a judge needs both, a person is asked once, and orders that disagree make a tie."""
    given_ = [verdict("x", "y", forward, rater=rater), verdict("y", "x", backward, rater=rater)]
    found = rank(given_, answers("x y"))
    assert ("wins" in found) is (won is not None)
    assert won is None or wins(given_, answers("x y"))["x"][0] == won


def test_flip_and_first_position_rates_by_hand() -> None:
    """Of four pairs, one is read in one order only; one of the other three flips; 4 of 6 wins went to the first."""
    orders = [("a", "a"), ("a", "b"), ("b", "a"), ("a", None)]
    given_ = [
        each
        for place, (forward, backward) in enumerate(orders)
        for each in (verdict("x", "y", forward, f"p{place}"), verdict("y", "x", backward, f"p{place}"))
    ]
    assert [re.findall(r"\d+", each) for each in order_bias(given_, "ada")] == [["3", "1"], ["33"], ["67", "50"]]
    assert order_bias([verdict("x", "y", "a")], "ada") == order_bias(given_, "ben") == []
    ties = order_bias([verdict("x", "y", "tie"), verdict("y", "x", "tie")], "ada")
    assert [re.findall(r"\d+", each) for each in ties] == [["1", "0"], ["0"]]
