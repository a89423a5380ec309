"""What a rater is given to judge, and in which order: by chance, but the same again for the same seed and name.

Every place is drawn from a hash of what stands there, so that new answers never move the others. Knows answers. Knows
no verdicts and no files.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from workshop_lib.records import Prompt
    from workshop_lib.verdicts.answers import Candidate

Mode = Literal["rubric", "pairwise"]
Pair = tuple["Candidate", "Candidate"]


@dataclass(frozen=True, slots=True)
class Item:
    """What is judged at once: one answer, or two of which the first is called A."""

    prompt: Prompt
    shown: tuple[Candidate, ...]

    def key(self, version: str) -> tuple[str, ...]:
        """Return what verdicts on it are known by; see `score_files.key_of`."""
        return version, self.prompt.id, *(each.answer.sha256 for each in self.shown)


def items(candidates: Iterable[Candidate], mode: Mode, *, rater: str, seed: int) -> tuple[Item, ...]:
    """Return a rater's items: those of one prompt together, prompts and items in drawn order.

    Pairs are the same for all raters; their order, and which answer is called A, are the rater's own. The sides do not
    depend on the seed, so that a pair that is asked again is known again.
    """
    by_prompt: dict[str, list[Candidate]] = {}
    for each in candidates:
        by_prompt.setdefault(each.prompt.id, []).append(each)
    found = [
        Item(shown[0].prompt, shown)
        for mine in by_prompt.values()
        for shown in (_pairs(mine, rater, seed) if mode == "pairwise" else [(each,) for each in mine])
    ]
    return tuple(sorted(found, key=_place(rater, seed)))


def neighbours(ordered: Sequence[Candidate]) -> list[Pair]:
    """Return pairs that connect all answers: a circle, in which each stands in two pairs.

    All pairs of six answers are fifteen; the circle has six, and still ranks every answer.
    """
    if len(ordered) <= 3:
        return list(combinations(ordered, 2))
    return list(pairwise([*ordered, ordered[0]]))


def _pairs(mine: Iterable[Candidate], rater: str, seed: int) -> list[Pair]:
    circle = sorted(mine, key=lambda each: _draw(seed, each.key))
    return [_sides(pair, rater) for pair in neighbours(circle)]


def _sides(pair: Pair, rater: str) -> Pair:
    """Return the pair with the answer first that this rater sees as A."""
    both = sorted(each.key for each in pair)
    one, other = sorted(pair, key=lambda each: _draw(rater, both, each.key))
    return one, other


def _place(rater: str, seed: int) -> Callable[[Item], tuple[bytes, bytes]]:
    def place(item: Item) -> tuple[bytes, bytes]:
        return _draw(seed, rater, item.prompt.id), _draw(seed, rater, sorted(item.key("")))

    return place


def _draw(*what: object) -> bytes:
    """Return a number as if drawn by chance, but the same for the same arguments on every system."""
    return sha256(repr(what).encode("utf-8", "backslashreplace")).digest()
