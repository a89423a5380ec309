"""Names, dates and things for meeting notes: known ones, invented ones, and unseen ones.

Training mixes a list of known names with words made up afresh, so that a model must read a name
instead of remembering it. The evaluation uses names that training never saw.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from string import ascii_lowercase
from typing import TYPE_CHECKING

from corpus import CORPUS_FOLDER, load_json

if TYPE_CHECKING:
    import random

MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
ONSETS = [
    "b", "c", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "z",
    "br", "ch", "cl", "dr", "fr", "gr", "kr", "pl", "sh", "st", "th", "tr", "sk", "vl", "zh",
    "qu",
]  # fmt: skip
VOWELS = [
    "a", "e", "i", "o", "u", "a", "e", "i", "o", "u", "ai", "ea", "ie", "oa", "ou", "ee", "y",
]  # fmt: skip
CODAS = ["", "", "", "n", "r", "l", "s", "m", "k", "t", "x", "nd", "rt", "sh", "ld", "ng"]


@cache
def ordinary_words() -> tuple[str, ...]:
    """Words of the topic file with at least four letters, in alphabetical order."""
    text = (CORPUS_FOLDER / "topics.txt").read_text(encoding="utf-8").lower()
    return tuple(sorted(set(re.findall(r"\b[a-z]{4,}\b", text))))


def invented_word(rng: random.Random) -> str:
    """A word nobody knows, such as ``Skoravel``; copying it needs reading, not memory."""
    style = rng.random()
    if style < 0.05:
        return "".join(rng.choices(ascii_lowercase, k=rng.randint(2, 9))).capitalize()
    if style < 0.3:
        return rng.choice(ordinary_words()).capitalize()
    syllables = rng.choice([1, 1, 2, 2, 2, 3])
    word = "".join(rng.choice(ONSETS) + rng.choice(VOWELS) + rng.choice(CODAS) for _ in range(syllables))
    return word.capitalize()


def random_date(rng: random.Random) -> str:
    """A due date in one of several usual forms."""
    day, month = rng.randint(1, 28), rng.choice(MONTHS)
    return rng.choice(
        [
            f"{day} {month}", f"{day} {month}", f"{month} {day}", rng.choice(WEEKDAYS),
            f"next {rng.choice(WEEKDAYS)}", f"{day} {month} {rng.randint(2024, 2031)}",
            f"the end of {month}", f"{rng.randint(2024, 2031)}-{rng.randint(1, 12):02}-{day:02}",
            f"{rng.choice(WEEKDAYS)} noon", "the end of the week", "tomorrow", "next week",
        ]
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Where names and things of a meeting come from; ``invented`` is the share made up afresh."""

    names: list[str]
    objects: list[str]
    words: list[str]
    cities: list[str]
    invented: float

    def name(self, rng: random.Random) -> str:
        """A first name."""
        return invented_word(rng) if rng.random() < self.invented else rng.choice(self.names)

    def word(self, rng: random.Random) -> str:
        """The name of a project or product."""
        return invented_word(rng) if rng.random() < self.invented else rng.choice(self.words)

    def city(self, rng: random.Random) -> str:
        """A place."""
        return invented_word(rng) if rng.random() < self.invented else rng.choice(self.cities)

    def thing(self, rng: random.Random) -> str:
        """An object of a task; invented ones mix made-up with ordinary nouns."""
        thing = rng.choice(self.objects)
        if rng.random() >= self.invented:
            return thing
        noun = rng.choice(self.objects).split()[-1]
        return rng.choice(
            [
                f"the {invented_word(rng).lower()} {noun}",
                f"the {invented_word(rng)} {noun}",
                f"the {noun} for {invented_word(rng)}",
                f"the {rng.choice(ordinary_words())} {rng.choice(ordinary_words())}",
                f"the {rng.choice(ordinary_words())} {noun}",
                f"the {invented_word(rng).lower()} {invented_word(rng).lower()}",
            ]
        )


def known_vocabulary(invented: float) -> Vocabulary:
    """The names and things that training uses, mixed with invented ones."""
    data = load_json("meetings")
    return Vocabulary(data["names"], data["objects"], data["words"], data["cities"], invented)


def unseen_vocabulary() -> Vocabulary:
    """Real names and things that never occur in training."""
    data = load_json("meetings")
    groups = (data[f"unseen_{group}"] for group in ("names", "objects", "words", "cities"))
    return Vocabulary(*groups, invented=0.0)


def fill_in(rng: random.Random, pattern: str, vocabulary: Vocabulary) -> str:
    """Replace the placeholders of a decision or remark."""
    values = {
        "{person}": vocabulary.name, "{object}": vocabulary.thing, "{word}": vocabulary.word,
        "{city}": vocabulary.city, "{date}": random_date, "{month}": lambda r: r.choice(MONTHS),
        "{weekday}": lambda r: r.choice(WEEKDAYS), "{number}": lambda r: str(r.randint(3, 95)),
    }  # fmt: skip
    for key, draw in values.items():
        if key in pattern:
            pattern = pattern.replace(key, draw(rng))
    return pattern
