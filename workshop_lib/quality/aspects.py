"""Does an answer mention what it should? A check anyone can repeat with a pencil.

An aspect is one phrase, or alternatives separated by `|`; `*` at the end of a word stands for any ending. Case and
hyphens make no difference; whole words are compared, so `27` is not found in `127`. A phrase does not count when a word
such as "not" or "without" is up to four words before it in the same clause. Where such a word belongs to an expected
phrase itself, it negates nothing else: with `never leave*` expected, "never leaves the device" mentions `device`.

The check sees words, not meaning: what is denied afterwards ("privacy is not guaranteed") or by a comparison ("rather
than private") counts as mentioned. `agreement.pair_by_pair` measures how well it agrees with people.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from workshop_lib.records import Prompt

Mentions = Literal["no_answer", "not_scored", "all", "some", "none", "forbidden"]

NEGATIONS = frozenset(
    """
    no not non none nothing nobody never neither nor without cannot hardly barely rarely seldom
    lack lacks lacking fail fails failed unable cant dont doesnt isnt arent wont
    """.split()  # noqa: SIM905 - easier to read than thirty quoted words
)
AFFIRMING = frozenset(("only", "just", "merely", "simply", "doubt"))
"""After a negation these take it back: "not only private but fast"."""

REACH = 4
"""How many words a negation reaches forward."""

_WORD = r"\d+(?:[.,]\d+)+|[^\W_]+(?:'[^\W_]+)*"
_WORD_OR_END = re.compile(rf"{_WORD}|[.,;:!?()\n\u2013\u2014]+")
_STARRED_WORD = re.compile(rf"({_WORD})(\*?)")
_CLAUSE_WORDS = frozenset(
    """
    and but so because while which when if since although though however whereas
    """.split()  # noqa: SIM905 - as above
)
_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u02bc\u2032`", "'"))


@dataclass(frozen=True, slots=True)
class AspectScore:
    """What an answer mentions.

    Attributes:
        verdict: `no_answer` (nothing to judge, which is not "wrong"), `not_scored` (the prompt expects nothing in
            particular), `forbidden` (says what it must not), else how many aspects it mentions: `all`, `some`, `none`.
        matched: the expected aspects that it mentions, as written in the prompt; `missing` are the others.
        evidence: the words found, one for each of `matched`.
        forbidden_found: the forbidden aspects that it mentions.
        share: matched / expected from 0 to 1; None for `no_answer` and `not_scored`.
    """

    verdict: Mentions
    matched: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    forbidden_found: tuple[str, ...] = ()
    share: float | None = None

    @property
    def credit(self) -> float | None:
        """The share, but 0 for an answer that says what it must not: what counts as its quality."""
        return 0.0 if self.forbidden_found else self.share

    @property
    def grade(self) -> int | None:
        """1 + 4 x credit, rounded half up."""
        return None if self.credit is None else int(1 + 4 * self.credit + 0.5)


def score_aspects(answer: str | None, prompt: Prompt) -> AspectScore:
    """Compare an answer with the prompt's expected and forbidden aspects.

    >>> prompt = Prompt("p", "Why local?", aspects=("private|privacy", "offline"))
    >>> score_aspects("It keeps data private.", prompt).missing
    ('offline',)
    """
    words = _WORD_OR_END.findall(_plain(answer or ""))
    if not any(word[0].isalnum() for word in words):
        return AspectScore("no_answer", missing=prompt.aspects)
    used = _negations_in(prompt.aspects, words)
    found = {aspect: evidence for aspect in prompt.aspects if (evidence := _find(aspect, words, used))}
    matched = tuple(aspect for aspect in prompt.aspects if aspect in found)
    missing = tuple(aspect for aspect in prompt.aspects if aspect not in found)
    forbidden = tuple(aspect for aspect in prompt.forbidden if _find(aspect, words))
    mentions: Mentions = "some" if matched and missing else "all" if matched else "none"
    return AspectScore(
        verdict="forbidden" if forbidden else mentions if prompt.aspects else "not_scored",
        matched=matched,
        missing=missing,
        evidence=tuple(found[aspect] for aspect in matched),
        forbidden_found=forbidden,
        share=len(matched) / len(prompt.aspects) if prompt.aspects else None,
    )


def _plain(text: str) -> str:
    """Fold case, width and apostrophes, which say nothing about the meaning."""
    return unicodedata.normalize("NFKC", text).casefold().translate(_APOSTROPHES)


Used = frozenset[tuple[int, int]]
"""Negations that are part of an expected phrase: their position, and where that phrase ends."""


def _find(aspect: str, words: list[str], used: Used = frozenset()) -> str | None:
    """Return the first words that are one of the aspect's alternatives and are not negated."""
    for alternative in aspect.split("|"):
        for start, end in _places(alternative, words):
            if not _is_negated(words, start, used):
                return " ".join(words[start:end])
    return None


def _negations_in(aspects: tuple[str, ...], words: list[str]) -> Used:
    """The negations that the aspects' own wordings account for, such as `not` in `not sent`."""
    alternatives = (alternative for aspect in aspects for alternative in aspect.split("|"))
    spans = [span for alternative in alternatives for span in _places(alternative, words)]
    return frozenset((place, end) for start, end in spans for place in range(start, end) if _is_negation(words[place]))


def _is_negation(word: str) -> bool:
    return word in NEGATIONS or word.endswith("n't")


def _places(alternative: str, words: list[str]) -> Iterator[tuple[int, int]]:
    """Where a phrase begins and ends: `look* up` is `look` with any ending, then `up`."""
    found = _STARRED_WORD.findall(_plain(alternative))
    pattern = [re.compile(re.escape(word) + (r"\S*" if star else "")) for word, star in found]
    for start in range(len(words) - len(pattern) + 1 if pattern else 0):
        if all(part.fullmatch(word) for part, word in zip(pattern, words[start:], strict=False)):
            yield start, start + len(pattern)


def _is_negated(words: list[str], start: int, used: Used) -> bool:
    for place in range(start - 1, max(-1, start - 1 - REACH), -1):
        word = words[place]
        if word in _CLAUSE_WORDS or not word[0].isalnum():
            return False
        if _is_negation(word) and not any(place == negation and end <= start for negation, end in used):
            return words[place + 1] not in AFFIRMING or place + 1 == start
    return False
