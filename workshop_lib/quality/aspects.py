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
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from workshop_lib.records import Prompt

Mentions = Literal["no_answer", "not_scored", "all", "some", "none", "forbidden"]

REACH = 4
"""How many words a negation reaches forward."""
_WORD = r"\d+(?:[.,]\d+)+|[^\W_]+(?:'[^\W_]+)*"
_WORD_OR_END = re.compile(rf"{_WORD}|[.,;:!?()\n\u2013\u2014]+")
_STARRED_WORD = re.compile(rf"({_WORD})(\*?)")
_NEGATION = re.compile(
    r"(?<!\S)(?:no|not|non|none|nothing|nobody|never|neither|nor|without|cannot|hardly|barely|rarely|seldom|lack|lacks"
    r"|lacking|fail|fails|failed|unable|cant|dont|doesnt|isnt|arent|wont|\S*n't)"
    r"(?! (?:only|just|merely|simply|doubt) )(?!\S)"  # "not only private but fast"
)
_CLAUSE = re.compile(
    r"(?<!\S)(?:and|but|so|because|while|which|when|if|since|although|though|however|whereas|[^\w\s]\S*)(?!\S)"
)


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
    expected = prompt.aspects
    words = _WORD_OR_END.findall(_plain(answer or ""))
    if not any(word[0].isalnum() for word in words):
        return AspectScore("no_answer", missing=expected)
    text = " ".join(words)
    own = [phrase for aspect in expected for phrase in _phrases(aspect)]
    found = [_find(aspect, text, own) for aspect in expected]
    matched = tuple(aspect for aspect, evidence in zip(expected, found, strict=True) if evidence)
    missing = tuple(aspect for aspect in expected if aspect not in matched)
    forbidden = tuple(aspect for aspect in prompt.forbidden if _find(aspect, text))
    mentions: Mentions = "some" if matched and missing else "all" if matched else "none"
    return AspectScore(
        "forbidden" if forbidden else mentions if expected else "not_scored",
        matched,
        missing,
        tuple(filter(None, found)),
        forbidden,
        len(matched) / len(expected) if expected else None,
    )


def _plain(text: str) -> str:
    """Fold case, width and apostrophes, which say nothing about the meaning."""
    return re.sub("[\u2018\u2019\u02bc\u2032`]", "'", unicodedata.normalize("NFKC", text).casefold())


def _phrases(aspect: str) -> list[re.Pattern[str]]:
    """A pattern for each alternative: `look* up` is `look` with any ending, then `up`."""
    alternatives = map(_STARRED_WORD.findall, _plain(aspect).split("|"))
    written = [" ".join(re.escape(word) + star.replace("*", r"\S*") for word, star in each) for each in alternatives]
    return [re.compile(rf"(?<!\S){each}(?!\S)") for each in written if each]


def _find(aspect: str, text: str, own: Iterable[re.Pattern[str]] = ()) -> str | None:
    """The first words that are one of the alternatives and not negated; a negation within an `own` phrase is none."""
    for phrase in _phrases(aspect):
        for match in phrase.finditer(text):
            before = text[: match.start()]
            for each in own:
                before = each.sub(lambda said: _NEGATION.sub("_", said[0]), before)
            window = " ".join(_CLAUSE.split(before)[-1].split()[-REACH:])
            if not _NEGATION.search(f"{window} "):
                return match[0]
    return None
