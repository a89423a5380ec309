"""Exercises that teach copying: repeat after me, number these lines, look up a word.

They come before the facts in training, because a model that cannot copy cannot summarise notes
with names it has never seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from corpus import Sample, load_json, numbered
from names import fill_in, invented_word, known_vocabulary, random_date

if TYPE_CHECKING:
    import random

REPEAT_REQUESTS = (
    "Repeat: ",
    "Repeat after me: ",
    "Say: ",
    "Copy this text: ",
    "Repeat exactly: ",
)


def copy_exercise(rng: random.Random) -> Sample:
    """One exercise: repeat words or a phrase, number lines, or look a word up in a small table."""
    vocabulary = known_vocabulary(invented=0.8)
    make = rng.choice([vocabulary.name, vocabulary.thing, random_date, invented_word, invented_word])
    kind = rng.choice(["repeat", "repeat", "phrase", "look_up", "look_up", "list"])
    if kind == "repeat":
        return repeat(rng, ", ".join(make(rng) for _ in range(rng.randint(1, 8))))
    if kind == "phrase":
        return repeat(rng, fill_in(rng, rng.choice(load_json("meetings")["decisions"]), vocabulary))
    keys = list(dict.fromkeys(invented_word(rng) for _ in range(rng.randint(2, 6))))
    table = {key: make(rng) for key in keys}
    return number_lines(list(table.values())) if kind == "list" else look_up(rng, table)


def repeat(rng: random.Random, text: str) -> Sample:
    """A text to be said again."""
    return Sample("copy", rng.choice(REPEAT_REQUESTS) + text, text)


def number_lines(lines: list[str]) -> Sample:
    """Bullets to be numbered."""
    bullets = "\n".join(f"- {line}" for line in lines)
    return Sample("copy", f"Number these lines.\n{bullets}", numbered(lines))


def look_up(rng: random.Random, table: dict[str, str]) -> Sample:
    """A word to be found in a table of keys and values."""
    key = list(table)[rng.randrange(len(table))]
    rows = rng.choice(["\n", "; ", ". "]).join(f"{name}: {value}" for name, value in table.items())
    request = rng.choice(["Look up", "What belongs to", "Find"])
    return Sample("copy", f"{rows}\n{request} {key}", f"{key}: {table[key]}")
